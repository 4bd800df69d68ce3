#include "node/engine_impl.h"

#include <stdlib.h>
#include <string.h>

/* Both ends are made at once; the manager may assign the second all the same. */
static uint16_t make_pair(struct node_engine *e, const struct msg_assign_connection *a,
			  struct node_app *from, struct node_app *to, uint64_t now)
{
	struct node_conn *c = conn_new(e, a, from, true, now);
	struct node_conn *twin = c ? conn_new(e, a, to, false, now) : NULL;

	if (!twin || conn_map(c)) {
		if (twin)
			conn_discard(twin);
		if (c)
			conn_discard(c);
		return CODE_BUSY;
	}
	c->twin = twin;
	twin->twin = c;
	return CODE_OK;
}

uint16_t local_assign(struct node_engine *e, const struct msg_assign_connection *a, uint64_t now)
{
	struct node_app *from = app_find(e, a->from_app), *to = app_find(e, a->app);

	if (!from || !to || !mesh_id_equal(&a->peer, &e->config.id))
		return CODE_NOT_FOUND;
	if (from == to || a->class > CLASS_DATAGRAM) /* One channel cannot tell its ends apart. */
		return CODE_INVALID;
	uint16_t code = conn_allowed(e, from, now);
	if (!code)
		code = conn_allowed(e, to, now);
	return code ? code : make_pair(e, a, from, to, now);
}

void local_start(struct node_conn *c)
{
	conn_tell_up(c);
	if (c->twin)
		conn_tell_up(c->twin);
}

static bool enqueue(struct node_conn *to, struct bytes data)
{
	struct local_message *m = malloc(sizeof *m + data.len);

	if (!m)
		return false;
	m->len = data.len;
	if (data.len)
		memcpy(m->data, data.data, data.len);
	TAILQ_INSERT_TAIL(&to->local, m, queue);
	to->local_count++;
	return true;
}

/* What waits is bounded by the sender's credit, which comes back as our app takes messages, and for
 * empty messages, which cost no credit, by their number. */
void local_send(struct node_conn *from, struct bytes data, uint64_t now)
{
	struct node_conn *to = from->twin;

	if (!to || to->dead)
		return;
	if (TAILQ_EMPTY(&to->local) && conn_to_app(to, data, 0, now))
		conn_credit_back(from, data.len);
	else if (to->local_count >= LOCAL_MESSAGES_MAX || !enqueue(to, data))
		conn_kill(from, CODE_BUSY, "the node cannot hold more", now);
}

/* Nothing is gained by passing parts on: both apps have the same node. */
void local_send_part(struct node_conn *from, struct bytes data, size_t left, uint64_t now)
{
	size_t len = data.len + left;

	if (!from->joining.data) {
		from->joining.data = malloc(len ? len : 1);
		from->joining.have = 0;
		from->joining.len = len;
	}
	if (!from->joining.data || len != from->joining.len - from->joining.have) {
		conn_kill(from, CODE_BUSY, "the node cannot hold more", now);
		return;
	}
	if (data.len)
		memcpy(from->joining.data + from->joining.have, data.data, data.len);
	from->joining.have += data.len;
	if (left)
		return;
	local_send(from, bytes_of(from->joining.data, from->joining.len), now);
	free(from->joining.data);
	from->joining.data = NULL;
}

bool local_send_datagram(struct node_conn *from, struct bytes data, uint64_t now)
{
	return from->twin && !from->twin->dead && conn_to_app(from->twin, data, 0, now);
}

static void drop_first(struct node_conn *c)
{
	struct local_message *m = TAILQ_FIRST(&c->local);

	TAILQ_REMOVE(&c->local, m, queue);
	c->local_count--;
	free(m);
}

void local_resume(struct node_conn *c, uint64_t now)
{
	struct local_message *m;

	while ((m = TAILQ_FIRST(&c->local)) && conn_to_app(c, bytes_of(m->data, m->len), 0, now)) {
		if (c->twin)
			conn_credit_back(c->twin, m->len);
		drop_first(c);
	}
}

void local_drop_queue(struct node_conn *c)
{
	while (!TAILQ_EMPTY(&c->local))
		drop_first(c);
}
