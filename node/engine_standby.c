/*
 * The standby routes of a connection: installed by the manager beforehand, taken by ourselves when
 * the route in use fails, so that nobody has to be asked when it counts.  Each serves once, the
 * first that lives at a time; the manager, when it is there, makes it the connection's path and
 * installs another.
 */
#include <string.h>

#include "node/engine_impl.h"

static bool usable(const struct node_link *l)
{
	return l && !l->dead && transport_get_state(l->transport) == TRANSPORT_CONNECTED;
}

static bool is_bad(const struct node_link *l)
{
	return !usable(l) || transport_is_suspect(l->transport);
}

/* Later, when nothing is in the middle of anything. */
static void route_is_bad(struct node_conn *c)
{
	if (!c->connection || !c->standby_count)
		return;
	c->route_is_bad = true;
	conn_touch(c);
}

void standby_forget(struct node_conn *c)
{
	c->standby_count = c->standby_heard = 0;
	c->route_is_bad = false;
}

/* A route that is told twice keeps its place. */
static struct standby_route *place_for(struct node_conn *c, const struct msg_standby_route *s)
{
	for (uint8_t i = 0; i < c->standby_count; i++) {
		struct standby_route *r = &c->standby[i];
		if (r->out_transport == s->out_transport && r->out_route == s->out_route)
			return r;
	}
	return c->standby_count < STANDBY_ROUTES_MAX ? &c->standby[c->standby_count++] : NULL;
}

static uint16_t take(struct node_engine *e, const struct msg_standby_route *s)
{
	struct node_conn *c = conn_find(e, s->connection);

	if (!c || c->dead || !c->connection)
		return CODE_NOT_FOUND;
	if (s->path != c->path) /* one that it has left meanwhile */
		return CODE_OK;
	if (!s->out_transport) {
		standby_forget(c);
		return CODE_OK;
	}
	if (!usable(link_find(e, s->out_transport)))
		return CODE_NOT_FOUND;
	struct standby_route *r = place_for(c, s);
	if (!r)
		return CODE_BUSY;
	*r = (struct standby_route){s->out_transport, s->out_route, s->in_transport, s->in_route};
	if (is_bad(c->link)) /* it comes too late to be there when it was needed */
		route_is_bad(c);
	return CODE_OK;
}

void standby_message(struct node_engine *e, const struct msg *m)
{
	uint16_t code = take(e, &m->standby_route);

	engine_manager_ack(e, m->seq, code, 0, code ? msg_code_name(code) : NULL);
}

void standby_link_is_bad(struct node_link *l)
{
	struct node_conn *c;

	TAILQ_FOREACH(c, &l->conns, of_link) {
		route_is_bad(c);
	}
}

void standby_route_error(struct node_link *l, uint32_t label)
{
	struct node_conn *c;

	TAILQ_FOREACH(c, &l->conns, of_link) {
		if (c->out_route == label)
			route_is_bad(c);
	}
}

void standby_heard(struct node_conn *c, const struct node_link *l, uint32_t label)
{
	for (uint8_t i = 0; i < c->standby_count; i++) {
		if (c->standby[i].in_transport != l->id || c->standby[i].in_route != label)
			continue;
		c->standby_heard = i + 1;
		route_is_bad(c);
	}
}

/* The place of the one to take: that which the other end uses, or the first that lives. */
static uint8_t choose(const struct node_conn *c)
{
	uint8_t heard = c->standby_heard;

	if (heard && !is_bad(link_find(c->engine, c->standby[heard - 1].out_transport)))
		return heard - 1;
	for (uint8_t i = 0; i < c->standby_count; i++) {
		if (!is_bad(link_find(c->engine, c->standby[i].out_transport)))
			return i;
	}
	return c->standby_count;
}

void standby_flush(struct node_conn *c, uint64_t now)
{
	struct node_engine *e = c->engine;
	struct msg m = {.type = MSG_RouteSwitched};
	uint8_t at = choose(c);

	c->route_is_bad = false;
	c->standby_heard = 0;
	if (at == c->standby_count || c->dead)
		return;
	struct standby_route r = c->standby[at];
	c->standby_count--;
	memmove(&c->standby[at], &c->standby[at + 1],
		(size_t)(c->standby_count - at) * sizeof c->standby[0]);
	struct node_link *l = link_find(e, r.out_transport);
	conn_set_route(c, l, r.out_route, now);
	log_info("connection %llu goes on over its standby route, %u more are ready",
		 (unsigned long long)c->id, c->standby_count);
	m.route_switched.connection = c->id;
	m.route_switched.path = c->path;
	m.route_switched.out_transport = l->id;
	m.route_switched.out_route = c->out_route;
	engine_manager_send(e, &m);
}
