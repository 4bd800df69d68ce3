/* Several ways to one gateway: found by the tracker and by address, or at two addresses.  Each has
 * its own RPC, its own lease and its own place in the ranking; tunnels are the gateway's. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "subscriberd/engine_int.h"

const struct sub_gateway *sub_way_next(const struct sub_engine *e, const struct sub_gateway *g,
				       size_t *it)
{
	while (*it < e->count) {
		const struct sub_gateway *w = e->gateways[(*it)++];
		if (sub_gateway_same(w, g))
			return w;
	}
	return NULL;
}

bool sub_ways_have(const struct sub_engine *e, const struct sub_names *names,
		   const struct sub_gateway *g)
{
	const struct sub_gateway *w;
	size_t it = 0;

	while (names->count && (w = sub_way_next(e, g, &it)))
		if (sub_names_have(names, w))
			return true;
	return false;
}

void sub_ways_rank(const struct sub_engine *e, const struct sub_gateway *g,
		   struct sub_rank_question q, uint64_t now, struct sub_rank *out)
{
	q.pinned = sub_ways_have(e, &e->policy.terms.pinned, g);
	q.banned = sub_ways_have(e, &e->policy.terms.banned, g);
	q.ordered = e->pinned[0] && sub_order_allows(e, g, e->pinned_method);
	sub_rank(g, &e->policy.terms, &q, now, out);
}

bool sub_ways_failed(const struct sub_engine *e, const struct sub_gateway *g, const char *method)
{
	size_t it = 0;
	const struct sub_gateway *w;

	while ((w = sub_way_next(e, g, &it))) {
		for (size_t i = 0; i < SUB_METHODS_MAX; i++)
			if (w->faults[i].failures && strcmp(w->faults[i].name, method) == 0)
				return true;
	}
	return false;
}

bool sub_ways_answer(const struct sub_engine *e, const struct sub_gateway *g, uint64_t since)
{
	size_t it = 0;
	const struct sub_gateway *w;

	while ((w = sub_way_next(e, g, &it)))
		if (w->answered_us && w->answered_us >= since)
			return true;
	return false;
}

void sub_ways_ask(struct sub_engine *e, const struct sub_gateway *g)
{
	for (size_t i = 0; i < e->count; i++)
		if (sub_gateway_same(e->gateways[i], g))
			sub_ask(e, e->gateways[i]);
}

static void copy(struct sub_gateway *to, const struct sub_gateway *from)
{
	to->tunnel = from->tunnel;
	to->goodput_bps = from->goodput_bps;
	to->uplink_fault = from->uplink_fault;
	memcpy(to->faults, from->faults, sizeof to->faults);
}

void sub_ways_share(struct sub_engine *e, const struct sub_gateway *g)
{
	for (size_t i = 0; i < e->count; i++)
		if (e->gateways[i] != g && sub_gateway_same(e->gateways[i], g))
			copy(e->gateways[i], g);
}

/* A way more: it takes on what is known through the others. */
static void join(struct sub_engine *e, struct sub_gateway *g)
{
	char key[SUB_KEY_MAX], other[SUB_KEY_MAX];
	const struct sub_gateway *best = NULL, *w;
	size_t it = 0;

	while ((w = sub_way_next(e, g, &it)))
		if (w != g && (!best || w->tunnel.samples > best->tunnel.samples))
			best = w;
	if (!best)
		return;
	log_info("%s and %s are one gateway", sub_contact_key(&g->contact, key),
		 sub_contact_key(&best->contact, other));
	if (best->tunnel.samples >= g->tunnel.samples)
		copy(g, best);
	else
		sub_ways_share(e, g);
}

void sub_ways_identify(struct sub_engine *e, struct sub_gateway *g, const struct sub_info *info,
		       uint64_t now)
{
	char key[SUB_KEY_MAX];
	bool changed = strcmp(g->id, info->id) != 0;

	if (info->proven) {
		g->proven_us = now;
		memcpy(g->id, info->id, sizeof g->id);
		if (changed)
			join(e, g);
	} else if (g->id[0] && (info->asked || changed)) {
		log_warn("%s no longer proves that it is the gateway %.8s",
			 sub_contact_key(&g->contact, key), g->id);
		g->id[0] = '\0';
		g->proven_us = 0;
	}
}

unsigned sub_engine_ways(const struct sub_engine *e, const char *id, uint64_t now)
{
	unsigned n = 0;

	for (size_t i = 0; i < e->count; i++) {
		const struct sub_gateway *g = e->gateways[i];
		n += g->id[0] && strcmp(g->id, id) == 0 && g->heard_us &&
		     g->heard_us + SUB_SILENT_US > now;
	}
	return n;
}

size_t sub_engine_gateways(const struct sub_engine *e)
{
	size_t n = 0;

	for (size_t i = 0; i < e->count; i++) {
		size_t it = 0;
		n += sub_way_next(e, e->gateways[i], &it) == e->gateways[i]; /* the first of it */
	}
	return n;
}
