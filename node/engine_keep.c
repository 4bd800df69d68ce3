/* What survives this process (keep.h): taken from the engine, and put back into a new one. */
#include "node/engine_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void engine_kept_changed(struct node_engine *e)
{
	e->kept_version++;
}

uint64_t node_engine_kept_version(const struct node_engine *e)
{
	return e->kept_version;
}

/* --- out ------------------------------------------------------------------------------------- */

static int transport_cmp(const void *a, const void *b)
{
	uint32_t x = ((const struct keep_transport *)a)->id;
	uint32_t y = ((const struct keep_transport *)b)->id;

	return x < y ? -1 : x > y;
}

static int rule_cmp(const void *a, const void *b)
{
	const struct keep_rule *x = a, *y = b;

	if (x->in_transport != y->in_transport)
		return x->in_transport < y->in_transport ? -1 : 1;
	return x->in_route < y->in_route ? -1 : x->in_route > y->in_route;
}

static void take_transports(struct node_engine *e, struct keep_state *out)
{
	struct node_link *l;

	TAILQ_FOREACH(l, &e->all_links, all) {
		if (l->dead || !out->transports || out->transport_count == e->links.count)
			continue;
		link_remember_remote(l);
		out->transports[out->transport_count++] = l->kept;
	}
	if (out->transports && out->transport_count)
		qsort(out->transports, out->transport_count, sizeof *out->transports,
		      transport_cmp);
}

/* A rule of a transport that is being buried goes with it. */
static bool is_alive(const struct node_engine *e, uint32_t transport)
{
	const struct node_link *l = transport ? link_find(e, transport) : NULL;

	return !transport || (l && !l->dead);
}

static void take_rules(const struct node_engine *e, struct keep_state *out)
{
	const struct route_rule *r;
	size_t it = 0;

	while ((r = route_table_next(&e->routes, &it)))
		if (out->rules && is_alive(e, r->in_transport) && is_alive(e, r->out_transport))
			out->rules[out->rule_count++] = (struct keep_rule){
				r->in_transport, r->in_route, r->out_transport, r->out_route};
	if (out->rules && out->rule_count)
		qsort(out->rules, out->rule_count, sizeof *out->rules, rule_cmp);
}

int node_engine_keep(struct node_engine *e, struct keep_state *out)
{
	size_t links = e->links.count, rules = route_table_count(&e->routes);

	*out = (struct keep_state){
		.instance = e->instance, .starts = e->starts, .settings = e->settings};
	if (!e->settings.max_packet_size)
		return -ENODATA;
	out->transports = links ? calloc(links, sizeof *out->transports) : NULL;
	out->rules = rules ? calloc(rules, sizeof *out->rules) : NULL;
	if ((links && !out->transports) || (rules && !out->rules)) {
		keep_free(out);
		return -ENOMEM;
	}
	take_transports(e, out);
	take_rules(e, out);
	return 0;
}

/* --- in -------------------------------------------------------------------------------------- */

static void restore_rule(struct node_engine *e, const struct keep_rule *r)
{
	struct route_rule rule = {.in_transport = r->in_transport,
				  .in_route = r->in_route,
				  .out_transport = r->out_transport,
				  .out_route = r->out_route};

	if (is_alive(e, rule.in_transport) && is_alive(e, rule.out_transport) &&
	    route_table_add(&e->routes, &rule))
		e->past.refused++;
}

void node_engine_restore(struct node_engine *e, const struct keep_state *k, uint64_t now)
{
	e->instance = k->instance;
	e->starts = k->starts + 1;
	engine_take_settings(e, &k->settings);
	for (uint32_t i = 0; i < k->transport_count; i++)
		link_restore(e, &k->transports[i], now);
	for (uint32_t i = 0; i < k->rule_count; i++)
		restore_rule(e, &k->rules[i]);
	route_changed(e);
	engine_kept_changed(e);
	log_info("goes on with what was kept: %zu of %u transports, %zu of %u rules",
		 e->links.count, k->transport_count, route_table_count(&e->routes), k->rule_count);
}
