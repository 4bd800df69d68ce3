#include "node/engine_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- to the app ------------------------------------------------------------------------------ */

/* A message that has begun goes on without credit, as if it had come whole. */
static bool app_takes(const struct node_conn *c)
{
	const struct node_engine *e = c->engine;

	return c->up && (c->app_credit > 0 || c->in_part) &&
	       e->ops.app_pending(e->ctx, c->app->channel) <= e->config.app_pending_max_bytes;
}

static void part_to_app(struct node_conn *c, struct bytes data, size_t left)
{
	struct msg m = {.type = MSG_AppPart};

	m.app_part.connection = c->id;
	m.app_part.left = (uint32_t)left;
	m.app_part.data = data;
	c->in_part = left > 0;
	app_send(c->app, &m);
}

bool conn_to_app(struct node_conn *c, struct bytes data, size_t left, uint64_t now)
{
	struct msg m = {.type = MSG_AppMessage};

	if (c->tun) {
		tun_from_peer(c, data, now);
		return true;
	}
	if (!c->app) /* It has closed: nobody wants this any more. */
		return true;
	if (!app_takes(c)) {
		c->stalled = true;
		return false;
	}
	c->app_credit -= (int64_t)data.len;
	if (left || c->in_part) {
		part_to_app(c, data, left);
		return true;
	}
	m.app_message.connection = c->id;
	m.app_message.data = data;
	app_send(c->app, &m);
	return true;
}

static void resume(struct node_conn *c, uint64_t now)
{
	if (!c->stalled || c->dead || (c->app && !app_takes(c)))
		return;
	c->stalled = false;
	if (c->connection)
		connection_resume(c->connection, now);
	else
		local_resume(c, now);
	if (c->far_code && !c->stalled)
		conn_kill(c, c->far_code, NULL, now);
	conn_touch(c);
}

void conn_app_credit(struct node_conn *c, uint32_t bytes, uint64_t now)
{
	c->app_credit += bytes;
	if (c->app_credit > APP_CREDIT_BYTES)
		c->app_credit = APP_CREDIT_BYTES;
	resume(c, now);
}

void conn_app_ready(struct node_conn *c, uint64_t now)
{
	resume(c, now);
}

/* --- from the app ---------------------------------------------------------------------------- */

void conn_credit_back(struct node_conn *c, size_t bytes)
{
	size_t owed = c->outstanding - c->credit_due;

	c->credit_due += bytes < owed ? bytes : owed;
	conn_touch(c);
}

void conn_flush_credit(struct node_conn *c)
{
	struct msg m = {.type = MSG_AppCredit};

	/* In pieces that are worth a message: the app has the rest to go on with. */
	if (!c->credit_due || (c->credit_due < CREDIT_STEP_BYTES && !c->leaving))
		return;
	m.app_credit.connection = c->id;
	m.app_credit.bytes = (uint32_t)c->credit_due;
	c->outstanding -= c->credit_due;
	c->credit_due = 0;
	if (c->app)
		app_send(c->app, &m);
}

static void send_stream(struct node_conn *c, struct bytes data, size_t left, uint64_t now)
{
	int err = connection_send_part(c->connection, data, left, now);

	if (err)
		conn_kill(c, CODE_BUSY, "the node cannot hold more", now);
}

/* What a batch has queued goes out first when it stands in the way. */
bool conn_send_datagram(struct node_conn *c, struct bytes data, bool sparse, uint64_t now)
{
	int (*send)(struct connection *, struct bytes, uint64_t) =
		sparse ? connection_send_sparse : connection_send;
	int err;

	if (!c->connection)
		return local_send_datagram(c, data, now);
	err = send(c->connection, data, now);
	if (err == -EAGAIN && c->link && !c->link->dead) {
		transport_flush(c->link->transport, now);
		err = send(c->connection, data, now);
	}
	return err == 0;
}

/* A datagram that finds no room is lost; its credit comes back all the same. */
static void send_datagram(struct node_conn *c, struct bytes data, uint64_t now)
{
	(void)conn_send_datagram(c, data, false, now);
	conn_credit_back(c, data.len);
}

/* May a message of `len` bytes begin?  NULL, or what is wrong with it. */
static const char *objection(const struct node_conn *c, size_t len)
{
	size_t max =
		c->cls == CLASS_DATAGRAM ? DATAGRAM_MAX_BYTES : c->engine->config.message_max_bytes;

	if (len > max)
		return "message too large";
	if (!c->up)
		return "not up yet";
	if (c->part_left)
		return "a message within another";
	return c->outstanding >= APP_CREDIT_BYTES ? "sent more than its credit" : NULL;
}

void conn_from_app(struct node_conn *c, struct bytes data, uint64_t now)
{
	const char *wrong = c->dead ? NULL : objection(c, data.len);

	if (c->dead)
		return;
	if (wrong) {
		conn_kill(c, CODE_PROTOCOL, wrong, now);
		return;
	}
	c->outstanding += data.len;
	if (c->cls == CLASS_DATAGRAM)
		send_datagram(c, data, now);
	else if (!c->connection)
		local_send(c, data, now);
	else
		send_stream(c, data, 0, now);
	conn_touch(c);
}

/* The whole message is owed from its first part on. */
static const char *take_part(struct node_conn *c, size_t len, size_t left)
{
	const char *wrong = NULL;

	if (left > MAX_MESSAGE_BYTES)
		return "message too large";
	if (!c->part_left && (wrong = objection(c, len + left)))
		return wrong;
	if (c->cls != CLASS_STREAM || !len || (c->part_left && len + left != c->part_left))
		return "a part that does not fit";
	if (!c->part_left)
		c->outstanding += len + left;
	c->part_left = left;
	return NULL;
}

void conn_part_from_app(struct node_conn *c, struct bytes data, size_t left, uint64_t now)
{
	const char *wrong;

	if (c->dead)
		return;
	if ((wrong = take_part(c, data.len, left)))
		conn_kill(c, CODE_PROTOCOL, wrong, now);
	else if (!c->connection)
		local_send_part(c, data, left, now);
	else
		send_stream(c, data, left, now);
	conn_touch(c);
}

/* --- the app leaves -------------------------------------------------------------------------- */

static void detach(struct node_conn *c)
{
	tun_tell(c);
	tun_leave(c);
	TAILQ_REMOVE(&c->app->conns, c, of_app);
	c->app->conn_count--;
	c->app = NULL;
}

/* From now on messages for the app are thrown away, so that the far end's do not stand in the way
 * of its acknowledgements. */
void conn_app_close(struct node_conn *c, uint16_t code, struct bytes text, uint64_t now)
{
	bool wait = c->up && !c->dead && c->cls == CLASS_STREAM && conn_bytes_left(c) > 0;

	c->app_told = true;
	detach(c);
	c->leaving = true;
	c->code = code ? code : CODE_CLOSED;
	bytes_to_cstr(text, c->text, sizeof c->text);
	if (!wait || conn_linger(c, now)) {
		conn_kill(c, c->code, NULL, now);
		return;
	}
	resume(c, now);
	conn_touch(c);
}

void conn_app_gone(struct node_conn *c, uint64_t now)
{
	c->app_told = true;
	detach(c);
	conn_kill(c, CODE_CLOSED, "the app is gone", now);
}
