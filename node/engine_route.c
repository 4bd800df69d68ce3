#include "node/engine_impl.h"
#include "wire/packet.h"

#include <errno.h>

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
	engine_manager_ack(e, m->seq, CODE_OK, 0, NULL);
}

void route_drop_all(struct node_engine *e)
{
	uint64_t seed;

	e->ops.random(e->ctx, &seed, sizeof seed);
	route_table_free(&e->routes);
	route_table_init(&e->routes, e->config.max_routes, seed);
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

/*
 * A signal names the label that we put on: it concerns whoever sent us what we forwarded there. The
 * walk over all rules is paid for by the limit on signals.  At the origin nothing is asked of the
 * manager: it learns of a lost transport from both of its ends sooner than we could say.
 */
static void signal_arrived(struct node_link *l, uint32_t label, uint64_t now)
{
	struct node_engine *e = l->engine;

	e->past.route_errors++;
	if (!signal_allowed(e, now))
		return;
	struct route_rule *r = rule_that_sends(e, l->id, label);
	struct node_link *back = r && r->in_transport ? link_find(e, r->in_transport) : NULL;
	if (back && !back->dead &&
	    !transport_send_signal(back->transport, PACKET_ROUTE_ERROR, r->in_route, now))
		link_touch(back);
}

/* --- forwarding ------------------------------------------------------------------------------ */

static void deliver_here(struct node_link *l, struct pkt *p, uint32_t low, uint64_t now)
{
	struct node_engine *e = l->engine;
	struct node_conn *c = conn_by_low(e, low);

	if (!c || c->dead || !c->connection) {
		pkt_free(&e->pool, p);
		return;
	}
	e->past.delivered_packets++;
	connection_input(c->connection, p, now);
	conn_touch(c);
}

static void forward(struct node_engine *e, struct route_rule *rule, struct node_link *out,
		    struct pkt *p, uint64_t now)
{
	rule->packets++;
	rule->bytes += p->len;
	e->past.forwarded_packets++;
	p->label = rule->out_route;
	transport_send(out->transport, p, now);
	link_touch(out);
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
	struct route_rule *rule = route_table_lookup(&e->routes, l->id, label);
	struct node_link *out =
		rule && rule->out_transport ? link_find(e, rule->out_transport) : NULL;
	if (!rule || (rule->out_transport && (!out || out->dead))) {
		unknown_label(l, label, now);
		pkt_free(&e->pool, p);
	} else if (out) {
		forward(e, rule, out, p, now);
	} else {
		deliver_here(l, p, rule->out_route, now);
	}
}
