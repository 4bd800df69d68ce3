/*
 * What this node holds, told to a manager that has been away or has been started anew.  The manager
 * keeps what fits together with the reports of others and tells us what must go; that way nothing
 * has to be remembered for the other side while a channel is down, on neither side.
 */
#include "node/engine_impl.h"

struct report {
	struct node_engine *engine;
	struct msg m; /* the page that is being filled */
};

static void page_send(struct report *r, bool last)
{
	struct msg_node_report *p = &r->m.node_report;

	p->last = last;
	engine_manager_send(r->engine, &r->m);
	p->transports_count = p->rules_count = p->connections_count = p->apps_count = 0;
}

static void put_transport(struct report *r, const struct node_link *l)
{
	struct msg_node_report *p = &r->m.node_report;
	struct transport_stats s;

	if (p->transports_count == REPORT_ITEMS_MAX)
		page_send(r, false);
	transport_get_stats(l->transport, &s);
	p->transports[p->transports_count++] = (struct report_transport){
		.transport = l->id,
		.peer = *transport_get_peer(l->transport),
		.initiator = l->initiator,
		.up = transport_get_state(l->transport) == TRANSPORT_CONNECTED,
		.suspect = transport_is_suspect(l->transport),
		.port = l->port,
		.rtt_us = s.srtt_us,
	};
}

static void put_rule(struct report *r, const struct route_rule *rule)
{
	struct msg_node_report *p = &r->m.node_report;

	if (p->rules_count == REPORT_RULES_MAX)
		page_send(r, false);
	p->rules[p->rules_count++] = (struct report_rule){rule->in_transport, rule->in_route,
							  rule->out_transport, rule->out_route};
}

static void put_connection(struct report *r, const struct node_conn *c)
{
	struct msg_node_report *p = &r->m.node_report;
	struct bytes ours = bytes_str(c->app ? c->app->name : ""), theirs = bytes_str(c->peer_app);

	if (p->connections_count == REPORT_ITEMS_MAX)
		page_send(r, false);
	p->connections[p->connections_count++] = (struct report_connection){
		.connection = c->id,
		.path = c->path,
		.peer = c->peer,
		.initiator = c->initiator,
		.class = c->cls,
		.started = c->started || !c->initiator,
		.app = c->initiator ? theirs : ours,
		.from_app = c->initiator ? ours : theirs,
		.out_transport = c->link ? c->link->id : 0,
		.out_route = c->link ? c->out_route : 0,
	};
}

static void put_app(struct report *r, const struct node_app *a)
{
	struct msg_node_report *p = &r->m.node_report;

	if (p->apps_count == REPORT_ITEMS_MAX)
		page_send(r, false);
	p->apps[p->apps_count++].app = bytes_str(a->name);
}

void report_send_all(struct node_engine *e)
{
	struct report r = {.engine = e, .m.type = MSG_NodeReport};
	const struct node_link *l;
	const struct route_rule *rule;
	const struct node_conn *c;
	const struct node_app *a;
	size_t it = 0;

	TAILQ_FOREACH(l, &e->all_links, all)
		if (!l->dead)
			put_transport(&r, l);
	while ((rule = route_table_next(&e->routes, &it)))
		put_rule(&r, rule);
	for (it = 0; (c = map_next(&e->conns, &it));)
		if (!c->dead)
			put_connection(&r, c);
	TAILQ_FOREACH(a, &e->all_apps, all)
		if (a->registered)
			put_app(&r, a);
	page_send(&r, true);
}
