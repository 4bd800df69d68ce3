/* Connections of an app, as its node knows them. */
#include "libmeshapp/meshapp_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/clock.h"

/* Credit goes back in pieces of this size: a message each would double the traffic of small ones,
 * and the sender always has the other three quarters to go on with. */
#define CREDIT_STEP_BYTES (APP_CREDIT_BYTES / 4)
/* A node refuses an app that asks for more than 64 things at once: the others wait here. */
#define ASKING_MAX 48u
/* The node sends a long message on while the rest of it is still to come: a record for each part.
 */
#define PART_BYTES 60000u
_Static_assert(PART_BYTES <= PART_MAX_BYTES, "a part fits its message");

/* --- lifetime ----------------------------------------------------------------------------- */

static void conn_hold(struct meshconn *c)
{
	c->holds++;
}

static void conn_put(struct meshconn *c)
{
	if (--c->holds > 0 || !c->dead)
		return;
	free(c->message);
	free(c);
}

static struct meshconn *conn_new(struct meshapp *app, uint8_t class)
{
	struct meshconn *c;

	if (app->conn_count >= MESHAPP_CONNS_MAX) {
		errno = ENOSPC;
		return NULL;
	}
	c = calloc(1, sizeof *c);
	if (!c) {
		errno = ENOMEM;
		return NULL;
	}
	c->app = app;
	c->class = class;
	c->credit = APP_CREDIT_BYTES;
	app->conn_count++;
	TAILQ_INSERT_TAIL(&app->connecting, c, link);
	return c;
}

/* Its request has been answered, one way or the other. */
static void asked(struct meshconn *c)
{
	if (c->asking)
		c->app->asking--;
	c->asking = c->deferred = false;
}

static void unblock(struct meshconn *c)
{
	if (c->blocked)
		TAILQ_REMOVE(&c->app->blocked, c, blocked_link);
	c->blocked = false;
}

/* Out of every table; freed with the last reference. */
static void conn_remove(struct meshconn *c)
{
	struct meshapp *app = c->app;

	if (c->dead)
		return;
	if (c->up)
		TAILQ_REMOVE(&app->open, c, link);
	else
		TAILQ_REMOVE(&app->connecting, c, link);
	if (c->id && map_get(&app->by_id, &c->id) == c)
		map_del(&app->by_id, &c->id);
	unblock(c);
	asked(c);
	app->conn_count--;
	c->dead = true;
}

static void conn_end(struct meshconn *c, uint16_t code, const char *reason)
{
	conn_hold(c);
	conn_remove(c);
	if (c->cb.on_closed)
		c->cb.on_closed(c, code, reason);
	conn_put(c);
}

static void send_shutdown(struct meshapp *app, uint64_t id, uint16_t code, const char *reason)
{
	struct msg m = {.type = MSG_ConnectionShutdown};

	if (!app->ch || !id)
		return;
	m.connection_shutdown.connection = id;
	m.connection_shutdown.code = code;
	m.connection_shutdown.text = bytes_str(reason ? reason : "");
	if (m.connection_shutdown.text.len > TEXT_MAX_BYTES)
		m.connection_shutdown.text.len = TEXT_MAX_BYTES;
	(void)chan_send(app->ch, &m);
}

/* 0, or an errno after the node has been told that we do not want it. */
static int set_id(struct meshconn *c, uint64_t id)
{
	if (c->id == id)
		return 0;
	int err = c->id || !id || map_get(&c->app->by_id, &id) ? -EEXIST
							       : map_put(&c->app->by_id, &id, c);
	if (err)
		send_shutdown(c->app, id, CODE_BUSY, "the app cannot take it");
	else
		c->id = id;
	return err;
}

/* --- connect ------------------------------------------------------------------------------ */

static int send_connect(struct meshapp *app, struct meshconn *c)
{
	struct msg m = {.type = MSG_ConnectToApp};

	app->next_handle = app->next_handle == UINT32_MAX ? 1 : app->next_handle + 1;
	c->handle = app->next_handle;
	m.seq = c->seq = chan_next_seq(app->ch);
	m.connect_to_app.handle = c->handle;
	m.connect_to_app.node = c->peer;
	m.connect_to_app.app = bytes_str(c->peer_app);
	m.connect_to_app.class = c->class;
	c->deadline_us = daemon_now_us() + MESHAPP_CONNECT_TIMEOUT_US;
	c->deferred = false;
	c->asking = true;
	app->asking++;
	return chan_send(app->ch, &m);
}

/* Those who wait stand behind those who have asked, in order. */
static void ask_next(struct meshapp *app)
{
	struct meshconn *c;

	while (!app->dead && app->ch && app->asking < ASKING_MAX) {
		TAILQ_FOREACH(c, &app->connecting, link)
			if (c->deferred)
				break;
		if (!c)
			return;
		if (send_connect(app, c))
			conn_end(c, CODE_LOST, "our node does not take the request");
	}
}

struct meshconn *meshapp_connect(struct meshapp *app, const struct mesh_id *node,
				 const char *app_id, uint8_t class,
				 const struct meshconn_callbacks *cb, void *arg)
{
	size_t len = app_id ? strlen(app_id) : 0;

	if (!len || len > NAME_MAX_BYTES || class > CLASS_DATAGRAM) {
		errno = EINVAL;
		return NULL;
	}
	if (!app->up) {
		errno = ENOTCONN;
		return NULL;
	}
	struct meshconn *c = conn_new(app, class);
	if (!c)
		return NULL;
	memcpy(c->peer_app, app_id, len);
	if (node)
		c->peer = *node;
	meshconn_set_callbacks(c, cb, arg);
	c->deadline_us = UINT64_MAX;
	c->deferred = app->asking >= ASKING_MAX;
	conn_hold(c);
	int err = c->deferred ? 0 : send_connect(app, c);
	if (err)
		conn_remove(c);
	conn_put(c);
	if (err) {
		errno = err == -ENOMEM ? ENOMEM : ENOTCONN;
		return NULL;
	}
	meshapp_arm_timer(app);
	return c;
}

static void connect_ack(struct meshapp *app, const struct msg *m)
{
	const struct msg_common_ack *ack = &m->common_ack;
	char text[TEXT_MAX_BYTES + 1];
	struct meshconn *c;

	TAILQ_FOREACH(c, &app->connecting, link)
		if (c->seq == m->seq)
			break;
	bytes_to_cstr(ack->text, text, sizeof text);
	if (!c) {
		/* Closed by the app while the request was on its way. */
		if (ack->code == CODE_OK && ack->value && !map_get(&app->by_id, &ack->value))
			send_shutdown(app, ack->value, CODE_CLOSED, "no longer wanted");
		return;
	}
	if (ack->code)
		conn_end(c, ack->code, text[0] ? text : msg_code_name(ack->code));
	else if (ack->value && set_id(c, ack->value))
		conn_end(c, CODE_BUSY, "no room for the connection");
}

static void now_up(struct meshconn *c, const struct msg_connection_on *on)
{
	struct meshapp *app = c->app;

	asked(c);
	TAILQ_REMOVE(&app->connecting, c, link);
	TAILQ_INSERT_TAIL(&app->open, c, link);
	c->up = true;
	c->peer = on->peer;
	if (on->app.len)
		bytes_to_cstr(on->app, c->peer_app, sizeof c->peer_app);
}

static void asked_for_up(struct meshapp *app, const struct msg_connection_on *on)
{
	struct meshconn *c;

	TAILQ_FOREACH(c, &app->connecting, link)
		if (c->handle == on->handle)
			break;
	if (!c) {
		if (!map_get(&app->by_id, &on->connection))
			send_shutdown(app, on->connection, CODE_CLOSED, "no longer wanted");
		return;
	}
	if (set_id(c, on->connection)) {
		conn_end(c, CODE_BUSY, "no room for the connection");
		return;
	}
	now_up(c, on);
	if (c->cb.on_up)
		c->cb.on_up(c);
}

static void incoming_up(struct meshapp *app, const struct msg_connection_on *on)
{
	struct meshconn *c;

	if (map_get(&app->by_id, &on->connection))
		return;
	c = app->cb.on_incoming ? conn_new(app, on->class) : NULL;
	if (!c) {
		send_shutdown(app, on->connection, CODE_REFUSED, "the app takes no connections");
		return;
	}
	conn_hold(c);
	if (set_id(c, on->connection)) {
		conn_remove(c);
	} else {
		now_up(c, on);
		if (!app->cb.on_incoming(app, c) && !c->dead) {
			conn_remove(c);
			send_shutdown(app, on->connection, CODE_REFUSED, "refused by the app");
		}
	}
	conn_put(c);
}

/* --- data --------------------------------------------------------------------------------- */

static bool must_wait(struct meshconn *c)
{
	struct meshapp *app = c->app;
	bool full = chan_output_pending(app->ch) > MESHAPP_OUTPUT_HIGH_BYTES;

	if (c->credit > 0 && !full)
		return false;
	c->want_write = true;
	if (full && !c->blocked) {
		c->blocked = true;
		TAILQ_INSERT_TAIL(&app->blocked, c, blocked_link);
	}
	return true;
}

/* What has begun must be brought to its end: the channel ends where a part cannot be sent. */
static int send_parts(struct meshconn *c, const uint8_t *data, size_t len)
{
	struct msg m = {.type = MSG_SendPart};
	struct chan *ch = c->app->ch;

	m.send_part.connection = c->id;
	for (size_t at = 0, n; at < len; at += n) {
		n = len - at < PART_BYTES ? len - at : PART_BYTES;
		m.send_part.left = (uint32_t)(len - at - n);
		m.send_part.data = bytes_of(data + at, n);
		int err = chan_send(ch, &m);
		if (err && !at)
			return err == -ENOBUFS ? -ENOTCONN : err;
		if (err) {
			chan_fail(ch, CODE_BUSY, "out of memory within a message");
			return -ENOTCONN;
		}
	}
	c->credit -= (int64_t)len;
	return 0;
}

int meshconn_send(struct meshconn *c, const void *data, size_t len)
{
	struct meshapp *app = c->app;
	size_t max = c->class == CLASS_DATAGRAM ? MESHAPP_DATAGRAM_MAX_BYTES : app->max_message;
	struct msg m = {.type = MSG_SendFromApp};

	if (c->dead || !c->up || !app->ch)
		return -ENOTCONN;
	if (len > max)
		return -EMSGSIZE;
	if (must_wait(c))
		return -EAGAIN;
	if (c->class == CLASS_STREAM && len > 2 * PART_BYTES)
		return send_parts(c, data, len);
	m.send_from_app.connection = c->id;
	m.send_from_app.data = bytes_of(data, len);
	int err = chan_send(app->ch, &m);
	if (!err)
		c->credit -= (int64_t)len;
	return err == -ENOBUFS ? -ENOTCONN : err;
}

bool meshconn_is_writable(struct meshconn *c)
{
	return c->up && !c->dead && c->app->ch && !must_wait(c);
}

static void maybe_writable(struct meshconn *c)
{
	if (!c->want_write || c->credit <= 0)
		return;
	c->want_write = false;
	if (c->cb.on_writable)
		c->cb.on_writable(c);
}

static void credit_arrived(struct meshconn *c, uint32_t bytes)
{
	c->credit += bytes;
	if (c->credit > APP_CREDIT_BYTES)
		c->credit = APP_CREDIT_BYTES;
	maybe_writable(c);
}

void meshconn_consume(struct meshconn *c, size_t bytes)
{
	struct msg m = {.type = MSG_AppCredit};

	if (bytes > c->unconsumed)
		bytes = c->unconsumed;
	c->unconsumed -= bytes;
	c->credit_due += bytes;
	if (c->credit_due < CREDIT_STEP_BYTES || c->dead || !c->app->ch)
		return;
	m.app_credit.connection = c->id;
	m.app_credit.bytes = c->credit_due < UINT32_MAX ? (uint32_t)c->credit_due : UINT32_MAX;
	if (chan_send(c->app->ch, &m) == 0)
		c->credit_due -= m.app_credit.bytes;
}

static void data_arrived(struct meshconn *c, struct bytes data)
{
	conn_hold(c);
	c->unconsumed += data.len;
	if (c->cb.consume)
		c->cb.consume(c, data.data, data.len);
	if (!c->dead && !c->manual_credit)
		meshconn_consume(c, data.len);
	conn_put(c);
}

/* The node has promised the length: 0, or false when it breaks its word. */
static bool join_part(struct meshconn *c, const struct msg_app_part *p)
{
	size_t want = c->message_len - c->message_have;

	if (p->data.len + (uint64_t)p->left != want)
		return false;
	memcpy(c->message + c->message_have, p->data.data, p->data.len);
	c->message_have += p->data.len;
	return true;
}

static void part_arrived(struct meshconn *c, const struct msg_app_part *p)
{
	uint8_t *message;

	if (!c->message && p->data.len && p->left <= MAX_MESSAGE_BYTES) {
		c->message_len = p->data.len + p->left;
		c->message_have = 0;
		c->message = c->message_len <= MAX_MESSAGE_BYTES ? malloc(c->message_len) : NULL;
	}
	if (!c->message || !p->data.len || !join_part(c, p)) {
		conn_hold(c);
		send_shutdown(c->app, c->id, CODE_BUSY, "the app cannot take a message");
		conn_end(c, CODE_BUSY, "a message could not be put together");
		conn_put(c);
		return;
	}
	if (p->left)
		return;
	message = c->message;
	c->message = NULL;
	data_arrived(c, bytes_of(message, c->message_len));
	free(message);
}

void meshconn_drained(struct meshapp *app)
{
	struct meshconn *c;
	unsigned count = 0;

	TAILQ_FOREACH(c, &app->blocked, blocked_link)
		count++;
	/* Who is blocked again goes to the tail, so each is asked once; who closes leaves the list.
	 */
	while (count-- && (c = TAILQ_FIRST(&app->blocked))) {
		unblock(c);
		maybe_writable(c);
	}
}

/* --- dispatch ----------------------------------------------------------------------------- */

static uint64_t connection_of(const struct msg *m)
{
	switch (m->type) {
	case MSG_AppMessage:
		return m->app_message.connection;
	case MSG_AppPart:
		return m->app_part.connection;
	case MSG_AppCredit:
		return m->app_credit.connection;
	case MSG_TunStats:
		return m->tun_stats.connection;
	case MSG_ConnectionShutdown:
		return m->connection_shutdown.connection;
	default:
		return 0;
	}
}

static void to_connection(struct meshapp *app, const struct msg *m)
{
	uint64_t id = connection_of(m);
	struct meshconn *c = map_get(&app->by_id, &id);
	char text[TEXT_MAX_BYTES + 1];

	/* Unknown: closed by us while this was on its way. */
	if (!c)
		return;
	if (m->type == MSG_ConnectionShutdown) {
		uint16_t code = m->connection_shutdown.code;
		bytes_to_cstr(m->connection_shutdown.text, text, sizeof text);
		conn_end(c, code ? code : CODE_CLOSED, text[0] ? text : msg_code_name(code));
	} else if (m->type == MSG_AppMessage && c->up) {
		data_arrived(c, m->app_message.data);
	} else if (m->type == MSG_AppPart && c->up) {
		part_arrived(c, &m->app_part);
	} else if (m->type == MSG_TunStats) {
		meshtun_stats(c, &m->tun_stats);
	} else if (m->type == MSG_AppCredit) {
		credit_arrived(c, m->app_credit.bytes);
	}
}

void meshconn_input(struct meshapp *app, const struct msg *m)
{
	if (m->type == MSG_CommonAck && meshtun_ack(app, m))
		return;
	if (m->type == MSG_CommonAck)
		connect_ack(app, m);
	else if (m->type == MSG_ConnectionOn && m->connection_on.handle)
		asked_for_up(app, &m->connection_on);
	else if (m->type == MSG_ConnectionOn)
		incoming_up(app, &m->connection_on);
	else
		to_connection(app, m);
	ask_next(app);
}

void meshconn_expire(struct meshapp *app, uint64_t now)
{
	struct meshconn *c;

	/* In the order they were asked for, so the first is the first to expire. */
	while (!app->dead && (c = TAILQ_FIRST(&app->connecting)) && now >= c->deadline_us) {
		send_shutdown(app, c->id, CODE_TIMEOUT, "took too long to come up");
		conn_end(c, CODE_TIMEOUT, "took too long to come up");
	}
	ask_next(app);
}

void meshconn_fail_all(struct meshapp *app, uint16_t code, const char *reason)
{
	struct meshconn *c;

	while (!app->dead && ((c = TAILQ_FIRST(&app->connecting)) || (c = TAILQ_FIRST(&app->open))))
		conn_end(c, code, reason);
}

void meshconn_drop_all(struct meshapp *app)
{
	struct meshconn *c;

	while ((c = TAILQ_FIRST(&app->connecting)) || (c = TAILQ_FIRST(&app->open))) {
		conn_hold(c);
		conn_remove(c);
		conn_put(c);
	}
}

/* --- what an app may ask ------------------------------------------------------------------ */

void meshconn_close(struct meshconn *c, uint16_t code, const char *reason)
{
	if (c->dead)
		return;
	conn_hold(c);
	send_shutdown(c->app, c->id, code, reason);
	conn_remove(c);
	conn_put(c);
}

void meshconn_set_callbacks(struct meshconn *c, const struct meshconn_callbacks *cb, void *arg)
{
	c->cb = *cb;
	c->arg = arg;
}

size_t meshconn_credit(const struct meshconn *c)
{
	return c->credit > 0 ? (size_t)c->credit : 0;
}

void meshconn_set_manual_credit(struct meshconn *c, bool manual)
{
	c->manual_credit = manual;
}

const struct mesh_id *meshconn_peer_node(const struct meshconn *c)
{
	return &c->peer;
}

const char *meshconn_peer_app(const struct meshconn *c)
{
	return c->peer_app;
}

uint8_t meshconn_class(const struct meshconn *c)
{
	return c->class;
}

bool meshconn_is_up(const struct meshconn *c)
{
	return c->up && !c->dead;
}

struct meshapp *meshconn_app(const struct meshconn *c)
{
	return c->app;
}

void *meshconn_arg(const struct meshconn *c)
{
	return c->arg;
}

void meshconn_set_arg(struct meshconn *c, void *arg)
{
	c->arg = arg;
}
