#include "node/engine_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A connection that the manager began to set up and then forgot must not stay for ever. */
#define SETUP_US 40000000u

struct node_conn *conn_find(const struct node_engine *e, uint64_t id)
{
	return map_get(&e->conns, &id);
}

struct node_conn *conn_of_app(const struct node_engine *e, const struct node_app *a, uint64_t id)
{
	struct node_conn *c = conn_find(e, id);

	if (!c || c->app == a)
		return c;
	return c->twin && c->twin->app == a ? c->twin : NULL;
}

struct node_conn *conn_by_low(const struct node_engine *e, uint32_t low)
{
	return map_get(&e->conns_by_low, &low);
}

void conn_touch(struct node_conn *c)
{
	if (c->dirty || c->dead)
		return;
	c->dirty = true;
	TAILQ_INSERT_TAIL(&c->engine->dirty_conns, c, work);
}

/* --- life ------------------------------------------------------------------------------------ */

static void join_app(struct node_conn *c, struct node_app *a)
{
	c->app = a;
	a->conn_count++;
	TAILQ_INSERT_TAIL(&a->conns, c, of_app);
}

static void leave_app(struct node_conn *c)
{
	tun_leave(c);
	if (!c->app)
		return;
	TAILQ_REMOVE(&c->app->conns, c, of_app);
	c->app->conn_count--;
	c->app = NULL;
}

static void leave_link(struct node_conn *c)
{
	if (c->link)
		TAILQ_REMOVE(&c->link->conns, c, of_link);
	c->link = NULL;
}

static void bury(struct node_conn *c, uint16_t code)
{
	if (c->dead)
		return;
	if (c->dirty)
		TAILQ_REMOVE(&c->engine->dirty_conns, c, work);
	c->dirty = false;
	c->dead = true;
	c->code = code;
	TAILQ_INSERT_TAIL(&c->engine->dead_conns, c, work);
}

/* Finer than credit, which comes back with whole messages and counts nothing for empty ones. */
size_t conn_bytes_left(const struct node_conn *c)
{
	struct connection_stats s;

	if (!c->connection)
		return c->outstanding + (c->twin ? c->twin->local_count : 0);
	connection_get_stats(c->connection, &s);
	return s.send_buffered;
}

int conn_linger(struct node_conn *c, uint64_t now)
{
	c->lingering = conn_bytes_left(c);
	return timerq_set(&c->engine->timers, &c->deadline, now + LINGER_US);
}

static void fire_deadline(struct timer *t, uint64_t now)
{
	struct node_conn *c = t->owner;

	if (!c->leaving)
		conn_kill(c, CODE_TIMEOUT, "took too long to set up", now);
	else if (conn_bytes_left(c) >= c->lingering || conn_linger(c, now))
		conn_kill(c, c->code, NULL, now);
}

uint16_t conn_allowed(struct node_engine *e, const struct node_app *app, uint64_t now)
{
	if (e->conns.count >= e->config.max_connections) {
		engine_refused(e, "connections", now);
		return CODE_BUSY;
	}
	if (app->conn_count >= e->config.max_connections_per_app) {
		engine_refused(e, "connections of one app", now);
		return CODE_BUSY;
	}
	return CODE_OK;
}

struct node_conn *conn_new(struct node_engine *e, const struct msg_assign_connection *a,
			   struct node_app *app, bool initiator, uint64_t now)
{
	struct node_conn *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->engine = e;
	c->id = a->connection;
	c->path = a->path;
	c->peer = a->peer;
	c->cls = a->class;
	c->initiator = initiator;
	c->bound = !initiator;
	c->app_credit = APP_CREDIT_BYTES;
	bytes_to_cstr(initiator ? a->app : a->from_app, c->peer_app, sizeof c->peer_app);
	TAILQ_INIT(&c->local);
	timer_init(&c->deadline, fire_deadline, c);
	if (timerq_set(&e->timers, &c->deadline, now + SETUP_US)) {
		free(c);
		return NULL;
	}
	join_app(c, app);
	return c;
}

void conn_discard(struct node_conn *c)
{
	timerq_cancel(&c->engine->timers, &c->deadline);
	leave_link(c);
	leave_app(c);
	local_drop_queue(c);
	free(c->joining.data);
	if (c->connection)
		connection_free(c->connection);
	free(c);
}

int conn_map(struct node_conn *c)
{
	struct node_engine *e = c->engine;
	uint32_t low = (uint32_t)c->id;

	if (conn_by_low(e, low))
		return -EEXIST;
	route_changed(e);
	int err = map_put(&e->conns, &c->id, c);
	if (!err && (err = map_put(&e->conns_by_low, &low, c)))
		map_del(&e->conns, &c->id);
	return err;
}

static void unmap(struct node_conn *c)
{
	struct node_engine *e = c->engine;
	uint32_t low = (uint32_t)c->id;

	if (conn_find(e, c->id) != c)
		return;
	map_del(&e->conns, &c->id);
	map_del(&e->conns_by_low, &low);
	route_changed(e);
}

static void kill_one(struct node_conn *c, uint16_t code, const char *text, uint64_t now)
{
	if (c->dead)
		return;
	if (text)
		bytes_to_cstr(bytes_str(text), c->text, sizeof c->text);
	if (c->connection)
		connection_close(c->connection, code, now);
	bury(c, code);
}

void conn_kill(struct node_conn *c, uint16_t code, const char *text, uint64_t now)
{
	kill_one(c, code, text, now);
	if (c->twin)
		kill_one(c->twin, code, text, now);
}

static void tell_end(struct node_conn *c)
{
	struct msg m = {.type = MSG_ConnectionShutdown};

	/* An app that does not know the number yet gets its answer from the manager's ack. */
	if (c->app && c->bound && !c->app_told && (c->up || c->initiator)) {
		m.connection_shutdown.connection = c->id;
		m.connection_shutdown.code = c->code;
		m.connection_shutdown.text =
			bytes_str(c->text[0] ? c->text : msg_code_name(c->code));
		app_send(c->app, &m);
	}
	if (!c->told) {
		engine_ended(c->engine, MSG_ConnectionShutdown, c->id, c->code);
		if (c->twin)
			c->twin->told = true;
	}
}

void conn_reap(struct node_engine *e)
{
	struct node_conn *c;

	while ((c = TAILQ_FIRST(&e->dead_conns))) {
		TAILQ_REMOVE(&e->dead_conns, c, work);
		if (log_enabled(LOG_LEVEL_DEBUG))
			log_debug("connection %llu with %s ends: %s", (unsigned long long)c->id,
				  c->peer_app, msg_code_name(c->code));
		unmap(c);
		tun_tell(c);
		tell_end(c);
		if (c->twin)
			c->twin->twin = NULL;
		conn_discard(c);
	}
}

void conn_close_all(struct node_engine *e, uint16_t code, uint64_t now)
{
	struct node_conn *c;
	size_t it = 0;

	while ((c = map_next(&e->conns, &it))) {
		c->told = true;
		if (c->twin)
			c->twin->told = true;
		conn_kill(c, code, NULL, now);
	}
}

void conn_close_unbound(struct node_engine *e, uint64_t now)
{
	struct node_conn *c;
	size_t it = 0;

	while ((c = map_next(&e->conns, &it)))
		if (c->initiator && !c->bound && !c->dead)
			conn_kill(c, CODE_UNAVAILABLE, NULL, now);
}

void conn_free_all(struct node_engine *e)
{
	struct node_conn *c;
	size_t it = 0;

	while ((c = map_next(&e->conns, &it))) {
		if (c->twin)
			conn_discard(c->twin);
		conn_discard(c);
	}
}

void conn_link_lost(struct node_link *l)
{
	struct node_conn *c;

	standby_link_is_bad(l);
	while ((c = TAILQ_FIRST(&l->conns)))
		leave_link(c);
}

/* --- connection_ops -------------------------------------------------------------------------- */

static void op_output(void *ctx, struct connection *connection, struct pkt *const *v, size_t n,
		      uint64_t now)
{
	struct node_conn *c = ctx;
	bool usable = c->link && !c->link->dead;

	(void)connection;
	for (size_t i = 0; i < n; i++)
		if (usable)
			transport_send(c->link->transport, v[i], now);
		else
			pkt_free(&c->engine->pool, v[i]);
	if (usable)
		link_touch(c->link);
}

static size_t op_room(void *ctx, struct connection *connection, uint8_t flags)
{
	struct node_conn *c = ctx;

	(void)connection;
	return c->link && !c->link->dead ? transport_room(c->link->transport, flags) : 0;
}

static bool op_message(void *ctx, struct connection *connection, struct bytes data, size_t left,
		       uint64_t now)
{
	(void)connection;
	return conn_to_app(ctx, data, left, now);
}

static void op_state(void *ctx, struct connection *connection, enum connection_state old,
		     uint16_t code, uint64_t now)
{
	struct node_conn *c = ctx;
	enum connection_state s = connection_get_state(connection);

	(void)now;
	if (s == CONNECTION_CONNECTED && old == CONNECTION_CONNECTING)
		conn_tell_up(c);
	else if (s == CONNECTION_DISCONNECTED)
		bury(c, code);
}

static void op_sent(void *ctx, struct connection *connection, size_t bytes, uint64_t now)
{
	struct node_conn *c = ctx;

	(void)connection;
	(void)now;
	conn_credit_back(c, bytes);
}

static void op_random(void *ctx, void *out, size_t len)
{
	struct node_conn *c = ctx;

	c->engine->ops.random(c->engine->ctx, out, len);
}

/* The path MTU is still being found, or has changed. */
static size_t op_packet_bytes(void *ctx, struct connection *connection)
{
	struct node_conn *c = ctx;
	(void)connection;
	return c->link ? transport_packet_bytes(c->link->transport)
		       : PACKET_MIN_MTU_BYTES - IP_UDP_OVERHEAD_BYTES;
}

static bool op_in_order(void *ctx, struct connection *connection, struct bytes data)
{
	struct node_conn *c = ctx;
	(void)connection;
	return c->tun && tunroute_in_order(&c->route, data.data, data.len);
}

static const struct connection_ops conn_ops = {
	.output = op_output,
	.room = op_room,
	.message = op_message,
	.state = op_state,
	.sent = op_sent,
	.random = op_random,
	.in_order = op_in_order,
	.packet_bytes = op_packet_bytes,
};

/* --- messages of the manager ----------------------------------------------------------------- */

static struct connection *make_connection(struct node_conn *c, uint64_t now)
{
	struct node_engine *e = c->engine;
	struct connection_config cc = {
		.id = c->id,
		.initiator = c->initiator,
		.cls = c->cls,
		.local = e->config.id,
		.remote = c->peer,
		.ciphers = e->config.ciphers,
		.timeout_us = e->connection_timeout_us,
		.send_buffer_bytes = e->config.connection_buffer_bytes,
		.pool = &e->pool,
		.timers = &e->timers,
	};

	/* An app within its credit must never find the buffer full, even with tiny messages. */
	if (cc.send_buffer_bytes < 8 * APP_CREDIT_BYTES)
		cc.send_buffer_bytes = 8 * APP_CREDIT_BYTES;
	memcpy(cc.local_secret, e->config.secret, sizeof cc.local_secret);
	struct connection *connection = connection_new(&cc, &conn_ops, c, now);
	explicit_bzero(&cc, sizeof cc);
	if (connection && c->app->takes_parts)
		connection_take_parts(connection);
	return connection;
}

void conn_set_route(struct node_conn *c, struct node_link *l, uint32_t out_route, uint64_t now)
{
	leave_link(c);
	c->link = l;
	TAILQ_INSERT_TAIL(&l->conns, c, of_link);
	c->out_route = out_route;
	connection_set_route(c->connection, out_route, transport_packet_bytes(l->transport), now);
	conn_touch(c);
}

static void take_path(struct node_conn *c, const struct msg_assign_connection *a,
		      struct node_link *l, uint64_t now)
{
	c->path = a->path;
	standby_forget(c);
	/* Where it has gone over to the standby route by itself, all that was in flight has been
	 * said again already. */
	if (c->link != l || c->out_route != a->out_route)
		conn_set_route(c, l, a->out_route, now);
}

static uint16_t assign_new(struct node_engine *e, const struct msg_assign_connection *a,
			   struct node_link *l, uint64_t now)
{
	struct node_app *app = app_find(e, a->initiator ? a->from_app : a->app);

	if (!app || a->class > CLASS_DATAGRAM)
		return app ? CODE_INVALID : CODE_NOT_FOUND;
	uint16_t code = conn_allowed(e, app, now);
	if (code)
		return code;
	struct node_conn *c = conn_new(e, a, app, a->initiator != 0, now);
	if (!c)
		return CODE_BUSY;
	c->connection = make_connection(c, now);
	if (!c->connection || conn_map(c)) {
		conn_discard(c);
		return CODE_BUSY;
	}
	take_path(c, a, l, now);
	return CODE_OK;
}

static uint16_t assign(struct node_engine *e, const struct msg_assign_connection *a, uint64_t now)
{
	struct node_conn *c = conn_find(e, a->connection);

	if (c && c->dead)
		return CODE_CLOSED;
	if (!a->out_transport)
		return c ? CODE_OK : local_assign(e, a, now);
	if (c && (!c->connection || a->path <= c->path))
		return c->connection ? CODE_OK : CODE_INVALID;
	struct node_link *l = link_find(e, a->out_transport);
	if (!l || l->dead || transport_get_state(l->transport) != TRANSPORT_CONNECTED)
		return CODE_NOT_FOUND;
	if (!c)
		return assign_new(e, a, l, now);
	take_path(c, a, l, now);
	return CODE_OK;
}

static void connection_on(struct node_engine *e, const struct msg *m, uint64_t now)
{
	struct node_conn *c = conn_find(e, m->connection_on.connection);

	engine_manager_ack(e, m->seq, c ? CODE_OK : CODE_NOT_FOUND, 0, NULL);
	if (!c || c->dead || c->started)
		return;
	c->started = true;
	if (!c->connection) {
		local_start(c);
	} else if (c->initiator) {
		connection_start(c->connection, now);
		conn_touch(c);
	}
}

static void connection_end(struct node_engine *e, const struct msg *m, uint64_t now)
{
	const struct msg_connection_shutdown *s = &m->connection_shutdown;
	struct node_conn *c = conn_find(e, s->connection);
	char text[64];

	engine_manager_ack(e, m->seq, CODE_OK, 0, NULL);
	if (!c)
		return;
	c->told = true;
	if (c->twin)
		c->twin->told = true;
	bytes_to_cstr(s->text, text, sizeof text);
	/* What has come was acknowledged: the app has it before the end.  A far end that closed
	 * while it was without the manager is lost for that. */
	if ((s->code == CODE_CLOSED || s->code == CODE_LOST) && c->connection && c->stalled &&
	    c->app) {
		c->far_code = s->code;
		memcpy(c->text, text, sizeof c->text);
	} else {
		conn_kill(c, s->code, text, now);
	}
}

void conn_message(struct node_engine *e, const struct msg *m, uint64_t now)
{
	uint16_t code;

	if (m->type == MSG_AssignConnection) {
		code = assign(e, &m->assign_connection, now);
		engine_manager_ack(e, m->seq, code, 0, code ? msg_code_name(code) : NULL);
	} else if (m->type == MSG_ConnectionOn) {
		connection_on(e, m, now);
	} else {
		connection_end(e, m, now);
	}
}

/* --- set up and flush ------------------------------------------------------------------------ */

void conn_tell_up(struct node_conn *c)
{
	struct msg m = {.type = MSG_ConnectionOn};

	timerq_cancel(&c->engine->timers, &c->deadline);
	if (c->up || !c->app || !c->bound)
		return;
	c->up = true;
	m.connection_on.connection = c->id;
	m.connection_on.path = c->path;
	m.connection_on.handle = c->initiator ? c->handle : 0;
	m.connection_on.peer = c->peer;
	m.connection_on.class = c->cls;
	m.connection_on.app = bytes_str(c->peer_app);
	app_send(c->app, &m);
}

void conn_bind(struct node_engine *e, const struct node_request *r, uint64_t id)
{
	struct node_conn *c = conn_find(e, id);

	if (!c || c->dead || c->app != r->app || !c->initiator || c->bound) {
		app_ack(r->app, r->app_seq, CODE_LOST, 0, "the connection ended while it was made");
		return;
	}
	c->bound = true;
	c->handle = r->handle;
	app_ack(r->app, r->app_seq, CODE_OK, id, NULL);
	if (c->connection && connection_get_state(c->connection) == CONNECTION_CONNECTED)
		conn_tell_up(c);
}

void conn_flush(struct node_conn *c, uint64_t now)
{
	if (c->route_is_bad)
		standby_flush(c, now);
	if (c->connection)
		connection_flush(c->connection, now);
	conn_flush_credit(c);
	if (c->leaving && !c->dead && conn_bytes_left(c) == 0)
		conn_kill(c, c->code, NULL, now);
}
