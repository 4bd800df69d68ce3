/*
 * The standby route of a connection: installed by the manager beforehand, taken by ourselves when
 * the route in use fails, so that nobody has to be asked when it counts.  It serves once; the
 * manager, when it is there, makes it the connection's path and installs another.
 */
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
	if (!c->connection || !c->standby.out_transport)
		return;
	c->route_is_bad = true;
	conn_touch(c);
}

static uint16_t take(struct node_engine *e, const struct msg_standby_route *s)
{
	struct node_conn *c = conn_find(e, s->connection);

	if (!c || c->dead || !c->connection)
		return CODE_NOT_FOUND;
	if (s->path != c->path) /* one that it has left meanwhile */
		return CODE_OK;
	c->standby.out_transport = 0;
	if (!s->out_transport)
		return CODE_OK;
	if (!usable(link_find(e, s->out_transport)))
		return CODE_NOT_FOUND;
	c->standby.out_transport = s->out_transport;
	c->standby.out_route = s->out_route;
	c->standby.in_transport = s->in_transport;
	c->standby.in_route = s->in_route;
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
	if (c->standby.in_transport == l->id && c->standby.in_route == label)
		route_is_bad(c);
}

void standby_flush(struct node_conn *c, uint64_t now)
{
	struct node_engine *e = c->engine;
	struct node_link *l = link_find(e, c->standby.out_transport);
	struct msg m = {.type = MSG_RouteSwitched};

	c->route_is_bad = false;
	if (!c->standby.out_transport || c->dead || is_bad(l))
		return;
	c->standby.out_transport = 0;
	conn_set_route(c, l, c->standby.out_route, now);
	log_info("connection %llu goes on over its standby route", (unsigned long long)c->id);
	m.route_switched.connection = c->id;
	m.route_switched.path = c->path;
	m.route_switched.out_transport = l->id;
	m.route_switched.out_route = c->out_route;
	engine_manager_send(e, &m);
}
