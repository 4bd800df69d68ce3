#include "node/engine_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void app_send(struct node_app *a, const struct msg *m)
{
	/* A channel that cannot take it goes down, and everything of the app with it. */
	a->engine->ops.app_send(a->engine->ctx, a->channel, m);
}

void app_ack(struct node_app *a, uint32_t seq, uint16_t code, uint64_t value, const char *text)
{
	struct msg m = {.type = MSG_CommonAck, .seq = seq};

	if (!seq)
		return;
	m.common_ack.code = code;
	m.common_ack.value = value;
	m.common_ack.text = bytes_str(text ? text : "");
	app_send(a, &m);
}

struct node_app *app_find(const struct node_engine *e, struct bytes name)
{
	struct node_app *a;

	TAILQ_FOREACH(a, &e->all_apps, all)
		if (a->registered && bytes_equal(bytes_str(a->name), name))
			return a;
	return NULL;
}

struct node_app *node_engine_app_up(struct node_engine *e, void *channel, uint64_t now)
{
	struct node_app *a;

	if (e->app_count >= e->config.max_apps) {
		engine_refused(e, "apps", now);
		return NULL;
	}
	if (!(a = calloc(1, sizeof *a)))
		return NULL;
	a->engine = e;
	a->channel = channel;
	TAILQ_INIT(&a->conns);
	TAILQ_INIT(&a->tuns);
	TAILQ_INSERT_TAIL(&e->all_apps, a, all);
	e->app_count++;
	return a;
}

static void unregister(struct node_app *a)
{
	struct msg m = {.type = MSG_UnregisterApp};

	m.unregister_app.app = bytes_str(a->name);
	engine_manager_send(a->engine, &m);
}

void node_engine_app_down(struct node_engine *e, struct node_app *a, uint64_t now)
{
	struct node_conn *c;

	request_drop_app(e, a);
	while ((c = TAILQ_FIRST(&a->conns)))
		conn_app_gone(c, now);
	tun_drop_all(a);
	if (a->registered)
		unregister(a);
	TAILQ_REMOVE(&e->all_apps, a, all);
	e->app_count--;
	free(a);
}

void app_free_all(struct node_engine *e)
{
	struct node_app *a;

	while ((a = TAILQ_FIRST(&e->all_apps))) {
		TAILQ_REMOVE(&e->all_apps, a, all);
		tun_drop_all(a);
		free(a);
	}
}

bool node_engine_app_registered(const struct node_app *a)
{
	return a->registered;
}

void node_engine_app_drained(struct node_engine *e, struct node_app *a, uint64_t now)
{
	struct node_conn *c, *next;

	(void)e;
	for (c = TAILQ_FIRST(&a->conns); c; c = next) {
		next = TAILQ_NEXT(c, of_app);
		conn_app_ready(c, now);
	}
}

/* --- registration ---------------------------------------------------------------------------- */

static void announce(struct node_app *a, uint64_t now)
{
	struct node_engine *e = a->engine;
	struct msg m = {.type = MSG_RegisterApp};

	if (!e->registered)
		return;
	struct node_request *r = request_new(e, a, REQUEST_REGISTER_APP, 0, 0, now);
	m.seq = r ? r->seq : 0;
	m.register_app.app = bytes_str(a->name);
	m.register_app.type = bytes_str(a->type);
	m.register_app.info = bytes_str(a->info);
	engine_manager_send(e, &m);
}

void app_announce_all(struct node_engine *e, uint64_t now)
{
	struct node_app *a;

	TAILQ_FOREACH(a, &e->all_apps, all)
		if (a->registered)
			announce(a, now);
}

static void register_ack(struct node_app *a, uint32_t seq, uint16_t code, const char *text)
{
	struct msg m = {.type = MSG_RegisterAppAck, .seq = seq};

	m.register_app_ack.code = code;
	m.register_app_ack.text = bytes_str(text);
	m.register_app_ack.node = a->engine->config.id;
	m.register_app_ack.max_message = (uint32_t)a->engine->config.message_max_bytes;
	app_send(a, &m);
}

static bool text_equal(const char *s, struct bytes b)
{
	return bytes_equal(bytes_str(s), b);
}

static bool has_nul(struct bytes b)
{
	return b.len && memchr(b.data, 0, b.len);
}

/* 0, or -EPROTO.  Again with the same id and type: the info has changed. */
static int app_register(struct node_app *a, const struct msg *m, uint64_t now)
{
	const struct msg_register_app *r = &m->register_app;
	struct node_app *other = app_find(a->engine, r->app);

	if (!r->app.len || !r->type.len || has_nul(r->app) || has_nul(r->type) ||
	    has_nul(r->info) ||
	    (a->registered && !(text_equal(a->name, r->app) && text_equal(a->type, r->type)))) {
		register_ack(a, m->seq, CODE_INVALID, "bad app id, type or info");
		return -EPROTO;
	}
	if (other && other != a) {
		register_ack(a, m->seq, CODE_REFUSED, "this app id is in use on this node");
		return 0;
	}
	memcpy(a->name, r->app.data, r->app.len);
	memcpy(a->type, r->type.data, r->type.len);
	memset(a->info, 0, sizeof a->info);
	if (r->info.len)
		memcpy(a->info, r->info.data, r->info.len);
	a->registered = true;
	announce(a, now);
	register_ack(a, m->seq, a->engine->registered ? CODE_OK : CODE_UNAVAILABLE,
		     a->engine->registered ? "" : "the node's manager is away");
	return 0;
}

/* --- questions to the manager ---------------------------------------------------------------- */

static void list_refuse(struct node_app *a, uint32_t seq, uint16_t code, const char *text)
{
	struct msg m = {.type = MSG_AppListResponse, .seq = seq};

	m.app_list_response.code = code;
	m.app_list_response.text = bytes_str(text);
	app_send(a, &m);
}

static void list_request(struct node_app *a, const struct msg *m, uint64_t now)
{
	struct node_engine *e = a->engine;
	struct msg out = *m;
	struct node_request *r;

	if (!e->registered)
		list_refuse(a, m->seq, CODE_UNAVAILABLE, "the node's manager is away");
	else if (!(r = request_new(e, a, REQUEST_APP_LIST, m->seq, 0, now)))
		list_refuse(a, m->seq, CODE_BUSY, "too many requests");
	else {
		out.seq = r->seq;
		engine_manager_send(e, &out);
	}
}

static void connect_request(struct node_app *a, const struct msg *m, uint64_t now)
{
	const struct msg_connect_to_app *c = &m->connect_to_app;
	uint16_t code = conn_allowed(a->engine, a, now);

	if (!c->app.len || c->app.len > NAME_MAX_BYTES || has_nul(c->app) ||
	    c->class > CLASS_DATAGRAM)
		app_ack(a, m->seq, CODE_INVALID, 0, "no app id, or no such class");
	else if (code || (code = request_connect(a, m, now)) != CODE_OK)
		app_ack(a, m->seq, code, 0, "too many connections or requests");
}

/* --- messages -------------------------------------------------------------------------------- */

/* A connection that is unknown has ended while the message was on its way. */
static void to_connection(struct node_app *a, const struct msg *m, uint64_t now)
{
	uint64_t id = m->type == MSG_SendFromApp ? m->send_from_app.connection
		      : m->type == MSG_SendPart	 ? m->send_part.connection
		      : m->type == MSG_AppCredit ? m->app_credit.connection
						 : m->connection_shutdown.connection;
	struct node_conn *c = conn_of_app(a->engine, a, id);

	if (!c || c->app != a)
		return;
	if (m->type == MSG_SendFromApp)
		conn_from_app(c, m->send_from_app.data, now);
	else if (m->type == MSG_SendPart)
		conn_part_from_app(c, m->send_part.data, m->send_part.left, now);
	else if (m->type == MSG_AppCredit)
		conn_app_credit(c, m->app_credit.bytes, now);
	else
		conn_app_close(c, m->connection_shutdown.code, m->connection_shutdown.text, now);
}

static void take_parts(struct node_app *a)
{
	struct node_conn *c;

	a->takes_parts = true;
	TAILQ_FOREACH(c, &a->conns, of_app)
		if (c->connection)
			connection_take_parts(c->connection);
}

int node_engine_app_message(struct node_engine *e, struct node_app *a, const struct msg *m,
			    uint64_t now)
{
	(void)e;
	if (!a->registered && m->type != MSG_RegisterApp)
		return m->type == MSG_Ping || m->type == MSG_CommonAck ? 0 : -EPROTO;
	switch (m->type) {
	case MSG_RegisterApp:
		return app_register(a, m, now);
	case MSG_AppListRequest:
		list_request(a, m, now);
		return 0;
	case MSG_ConnectToApp:
		connect_request(a, m, now);
		return 0;
	case MSG_TakeParts:
		if (m->take_parts.parts)
			take_parts(a);
		return 0;
	case MSG_SendFromApp:
	case MSG_SendPart:
	case MSG_AppCredit:
	case MSG_ConnectionShutdown:
		to_connection(a, m, now);
		return 0;
	case MSG_AttachTun:
	case MSG_DetachTun:
	case MSG_TunRoute:
		tun_message(a, m, now);
		return 0;
	case MSG_Ping:
		app_ack(a, m->seq, CODE_OK, m->ping.nonce, NULL);
		return 0;
	case MSG_CommonAck:
		return 0;
	default:
		return -EPROTO;
	}
}
