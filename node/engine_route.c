#include "node/engine_impl.h"
#include "wire/packet.h"

#include <errno.h>

void route_changed(struct node_engine *e)
{
	e->paths_changed++;
}

/* --- rules ----------------------------------------------------------------------------------- */

static void add_route(struct node_engine *e, const struct msg *m)
{
	const struct msg_add_route *a = &m->add_route;
	struct route_rule rule = {
		.in_transport = a->in_transport,
		.in_route = a->in_route,
		.out_transport = a->out_transport,
		.out_route = a->out_route,
	};

	if ((a->in_transport && !link_find(e, a->in_transport)) ||
	    (a->out_transport && !link_find(e, a->out_transport))) {
		engine_manager_ack(e, m->seq, CODE_NOT_FOUND, 0, "no such transport");
		return;
	}
	int err = route_table_add(&e->routes, &rule);
	route_changed(e);
	engine_kept_changed(e);
	if (err)
		e->past.refused++;
	engine_manager_ack(e, m->seq, err ? CODE_BUSY : CODE_OK, 0, err ? "too many rules" : NULL);
}

void route_message(struct node_engine *e, const struct msg *m)
{
	if (m->type == MSG_AddRoute) {
		add_route(e, m);
		return;
	}
	/* Gone already (with its transport, say) is what was asked for. */
	route_table_remove(&e->routes, m->remove_route.in_transport, m->remove_route.in_route);
	route_changed(e);
	engine_kept_changed(e);
	engine_manager_ack(e, m->seq, CODE_OK, 0, NULL);
}

void route_drop_all(struct node_engine *e)
{
	uint64_t seed;

	e->ops.random(e->ctx, &seed, sizeof seed);
	route_table_free(&e->routes);
	route_table_init(&e->routes, e->config.max_routes, seed);
	route_changed(e);
	engine_kept_changed(e);
}

/* --- signals --------------------------------------------------------------------------------- */

/* Signals answer packets that anybody on a route may send: their number is bounded. */
static bool signal_allowed(struct node_engine *e, uint64_t now)
{
	uint64_t second = now / 1000000;

	if (second != e->signal_second) {
		e->signal_second = second;
		e->signals = 0;
	}
	return e->signals++ < SIGNALS_PER_SECOND_MAX;
}

static void unknown_label(struct node_link *l, uint32_t label, uint64_t now)
{
	struct node_engine *e = l->engine;

	e->past.unknown_labels++;
	if (log_limit_due(&e->log_label, now))
		log_warn("transport %u: no rule for label %u (%llu such packets so far)", l->id,
			 label, (unsigned long long)e->past.unknown_labels);
	if (signal_allowed(e, now) &&
	    !transport_send_signal(l->transport, PACKET_ROUTE_ERROR, label, now))
		link_touch(l);
}

static struct route_rule *rule_that_sends(struct node_engine *e, uint32_t transport, uint32_t label)
{
	size_t it = 0;
	struct route_rule *r;

	while ((r = route_table_next(&e->routes, &it)))
		if (r->out_transport == transport && r->out_route == label)
			return r;
	return NULL;
}

static void signal_back(struct node_engine *e, const struct route_rule *r, uint64_t now)
{
	struct node_link *back = r->in_transport ? link_find(e, r->in_transport) : NULL;

	if (back && !back->dead &&
	    !transport_send_signal(back->transport, PACKET_ROUTE_ERROR, r->in_route, now))
		link_touch(back);
}

/*
 * A signal names the label that we put on: it concerns whoever sent us what we forwarded there. The
 * walk over all rules is paid for by the limit on signals.  At the origin a connection goes over to
 * its standby route; nothing is asked of the manager, which learns of a lost transport from both of
 * its ends sooner than we could say.
 */
static void signal_arrived(struct node_link *l, uint32_t label, uint64_t now)
{
	struct node_engine *e = l->engine;

	e->past.route_errors++;
	if (!signal_allowed(e, now))
		return;
	standby_route_error(l, label);
	struct route_rule *r = rule_that_sends(e, l->id, label);
	if (r)
		signal_back(e, r, now);
}

void route_link_is_bad(struct node_link *l, uint64_t now)
{
	struct node_engine *e = l->engine;
	size_t it = 0;
	struct route_rule *r;

	while ((r = route_table_next(&e->routes, &it)))
		if (r->out_transport == l->id && r->in_transport && signal_allowed(e, now))
			signal_back(e, r, now);
}

/* --- forwarding ------------------------------------------------------------------------------ */

static void deliver_here(struct node_engine *e, struct node_conn *c, struct pkt *p, uint64_t now)
{
	if (!c || c->dead || !c->connection) {
		pkt_free(&e->pool, p);
		return;
	}
	e->past.delivered_packets += p->count;
	connection_input(c->connection, p, now);
	conn_touch(c);
}

static void forward(struct node_engine *e, struct route_rule *rule, struct node_link *out,
		    struct pkt *p, uint64_t now)
{
	rule->packets += p->count;
	rule->bytes += p->len;
	e->past.forwarded_packets += p->count;
	p->label = rule->out_route;
	transport_send(out->transport, p, now);
	link_touch(out);
}

/* NULL when there is no rule, or none that works. */
static const struct next_hop *next_hop(struct node_link *l, uint32_t label)
{
	struct node_engine *e = l->engine;
	struct next_hop *n = &l->last;

	if (n->as_of != e->paths_changed || n->label != label) {
		*n = (struct next_hop){.as_of = e->paths_changed, .label = label};
		n->rule = route_table_lookup(&e->routes, l->id, label);
		if (n->rule && n->rule->out_transport)
			n->out = link_find(e, n->rule->out_transport);
		else if (n->rule)
			n->conn = conn_by_low(e, n->rule->out_route);
	}
	return n->rule && (!n->rule->out_transport || (n->out && !n->out->dead)) ? n : NULL;
}

void route_deliver(struct node_link *l, struct pkt *p, uint64_t now)
{
	struct node_engine *e = l->engine;
	uint32_t label = p->label;

	if (p->data[0] != PACKET_DATA) {
		signal_arrived(l, label, now);
		pkt_free(&e->pool, p);
		return;
	}
	const struct next_hop *n = next_hop(l, label);
	if (!n) {
		unknown_label(l, label, now);
		pkt_free(&e->pool, p);
	} else if (n->out && n->out->lost) {
		/* The other way, for who has one; it is sent again where there is none. */
		if (signal_allowed(e, now))
			signal_back(e, n->rule, now);
		pkt_free(&e->pool, p);
	} else if (n->out) {
		forward(e, n->rule, n->out, p, now);
	} else {
		struct node_conn *c = n->conn;
		if (c && c->standby_count)
			standby_heard(c, l, label);
		deliver_here(e, c, p, now);
	}
}
