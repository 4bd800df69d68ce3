/*
 * A flow of k units of least cost.  For paths without common nodes each node is two places, where
 * one comes in and where one goes out, with room for one unit between them; for paths without
 * common edges the two are the same place.  A unit that is taken back costs the negative of what it
 * cost; potentials keep what Dijkstra sees from being negative.  They begin as what the graph's
 * marks say of the way that is left, so that each search looks towards the end, and what one search
 * has learnt serves the next.  All is zero at first and nothing is cleared, so that a query costs
 * what it looks at and not what there is.
 */
#include "nodemanager/disjoint.h"
#include "nodemanager/graph_int.h"

#include <errno.h>
#include <stdlib.h>

#define BEHIND_MAX 1000 /* places near the end that are looked at before a search */

struct place {
	uint64_t dist;
	int64_t potential;
	uint32_t before;		   /* place; */
	uint32_t edge;			   /* over which, or GRAPH_NONE within a node */
	uint16_t reached, settled, behind; /* in the search of this number */
	bool known;			   /* its potential */
};

struct flow {
	const struct graph *g;
	uint32_t from, to; /* nodes */
	bool split;
	struct place *places; /* 2 * node, where one comes in; + 1, where one goes out */
	uint32_t *flow_to;    /* of each edge: the node that it leads to in a path + 1, or 0 */
	bool *used;	      /* nodes in the middle of a path */
	uint16_t search;
	uint32_t *settled; /* places, in the search that runs */
	size_t settled_count, settled_capacity;
	size_t *work; /* places that may still be settled */
	struct heap heap;
	bool failed; /* out of memory */
};

/* --- one more unit ---------------------------------------------------------------------------- */

static uint32_t place_in(const struct flow *f, uint32_t node)
{
	return f->split ? 2 * node : node;
}

static uint32_t place_out(const struct flow *f, uint32_t node)
{
	return f->split ? 2 * node + 1 : node;
}

static uint32_t node_of(const struct flow *f, uint32_t place)
{
	return f->split ? place / 2 : place;
}

static bool is_in(const struct flow *f, uint32_t place)
{
	return !f->split || place % 2 == 0;
}

static bool is_out(const struct flow *f, uint32_t place)
{
	return !f->split || place % 2 == 1;
}

static struct place *place_at(const struct flow *f, uint32_t at)
{
	struct place *p = &f->places[at];
	if (!p->known)
		p->potential = -(int64_t)graph_bound(f->g, node_of(f, at), f->to);
	p->known = true;
	return p;
}

/* `cost` may be negative; with the potentials it is not. */
static void relax(struct flow *f, uint32_t at, uint32_t to, uint32_t edge, int64_t cost)
{
	const struct place *p = place_at(f, at);
	struct place *q = place_at(f, to);
	uint64_t dist = p->dist + (uint64_t)(p->potential + cost - q->potential);
	if (q->settled == f->search || (q->reached == f->search && dist >= q->dist))
		return;
	q->reached = f->search;
	q->dist = dist;
	q->before = at;
	q->edge = edge;
	f->failed |= !heap_push(&f->heap, dist, to);
}

static bool may_enter(const struct flow *f, uint32_t node)
{
	return node == f->to || (node != f->from && graph_node_relays(f->g, node));
}

/* The place that one comes to.  Of a node that no path uses the two are one, the second. */
static uint32_t place_entered(const struct flow *f, uint32_t node)
{
	return f->split && (f->used[node] || node == f->to) ? 2 * node : place_out(f, node);
}

/* Does a path lead over this edge, out of `node` or into it?  Most nodes are in no path, and then
 * the answer needs no look at the edge. */
static bool has_flow(const struct flow *f, uint32_t node, const struct half *h, bool out)
{
	return f->used[node] && f->used[h->to] &&
	       f->flow_to[h->half / 2] == (out ? h->to : node) + 1;
}

static bool is_free(const struct flow *f, uint32_t node, const struct half *h)
{
	return !f->used[node] || !f->used[h->to] || !f->flow_to[h->half / 2];
}

/* Onwards over what is free, from where one goes out. */
static void leave_node(struct flow *f, uint32_t at, uint32_t node)
{
	const struct half *end, *h = graph_halves(f->g, node, &end);
	for (const struct half *i = h; i < end; i++) {
		__builtin_prefetch(&f->g->vertices[i->to]);
		__builtin_prefetch(&f->places[place_out(f, i->to)], 1);
	}
	for (; h < end; h++)
		if (may_enter(f, h->to) && is_free(f, node, h))
			relax(f, at, place_entered(f, h->to), h->half / 2, h->cost);
}

/* Back over what leads here, from where one comes in. */
static void take_back(struct flow *f, uint32_t at, uint32_t node)
{
	const struct half *end, *h = graph_halves(f->g, node, &end);
	for (; h < end; h++)
		if (h->to != f->from && has_flow(f, node, h, false))
			relax(f, at, place_out(f, h->to), h->half / 2, -(int64_t)h->cost);
}

static void expand(struct flow *f, uint32_t at)
{
	uint32_t node = node_of(f, at);
	if (is_in(f, at) && node != f->from)
		take_back(f, at, node);
	if (is_out(f, at))
		leave_node(f, at, node);
	if (f->split && is_out(f, at) && f->used[node] && node != f->from)
		relax(f, at, at - 1, GRAPH_NONE, 0);
}

static bool settle(struct flow *f, uint32_t at)
{
	if (f->settled_count == f->settled_capacity) {
		size_t capacity = f->settled_capacity ? 2 * f->settled_capacity : 1024;
		uint32_t *settled = reallocarray(f->settled, capacity, sizeof *settled);
		if (!settled) {
			f->failed = true;
			return false;
		}
		f->settled = settled;
		f->settled_capacity = capacity;
	}
	f->settled[f->settled_count++] = at;
	f->places[at].settled = f->search;
	--*f->work;
	return true;
}

/* True when there is one more way to `to`. */
static bool search(struct flow *f)
{
	uint32_t target = place_in(f, f->to), start = place_out(f, f->from);
	f->heap.end = f->settled_count = 0;
	place_at(f, start)->dist = 0;
	f->places[start].reached = f->search;
	f->failed |= !heap_push(&f->heap, 0, start);
	while (!heap_is_empty(&f->heap) && !f->failed && *f->work) {
		uint32_t at = f->heap.at[HEAP_ROOT].node;
		heap_pop(&f->heap);
		if (f->places[at].settled == f->search)
			continue;
		if (!settle(f, at))
			return false;
		if (at == target)
			return true;
		expand(f, at);
	}
	return false;
}

/* A path leads through the node now; what was one place is two.  Without two it may be that one day
 * none does any more, and then each look at it takes a little longer. */
static void enter(struct flow *f, uint32_t node)
{
	if (f->split && !f->used[node] && node != f->to)
		place_at(f, 2 * node)->potential = place_at(f, 2 * node + 1)->potential;
	f->used[node] = true;
}

/* Who was not settled is as far as the end; all come nearer by that, which is the same. */
static void augment(struct flow *f)
{
	uint32_t at = place_in(f, f->to), start = place_out(f, f->from);
	int64_t far = (int64_t)f->places[at].dist;
	for (size_t i = 0; i < f->settled_count; i++) {
		struct place *p = &f->places[f->settled[i]];
		p->potential += (int64_t)p->dist - far;
	}
	for (; at != start; at = f->places[at].before) {
		uint32_t edge = f->places[at].edge, node = node_of(f, at);
		if (edge == GRAPH_NONE) {
			f->used[node] = false;
		} else if (f->flow_to[edge]) {
			f->flow_to[edge] = 0;
		} else {
			f->flow_to[edge] = node + 1;
			enter(f, node);
		}
	}
}

/* --- is it shut in? ----------------------------------------------------------------------------
 */

/* The places from which one gets to `to`, as far as there are few of them. */
struct behind {
	struct flow *f;
	size_t count, next;
	uint32_t place[BEHIND_MAX];
};

static void behind_add(struct behind *b, uint32_t at)
{
	struct place *p = &b->f->places[at];
	if (p->behind == b->f->search || b->count == BEHIND_MAX)
		return;
	p->behind = b->f->search;
	b->place[b->count++] = at;
}

static void behind_expand(struct behind *b, uint32_t at)
{
	struct flow *f = b->f;
	uint32_t node = node_of(f, at);
	const struct half *end, *h = graph_halves(f->g, node, &end);
	bool in = is_in(f, at) || !f->used[node];
	for (; h < end; h++) {
		if (in && may_enter(f, node) && is_free(f, node, h) &&
		    (h->to == f->from || may_enter(f, h->to)))
			behind_add(b, place_out(f, h->to));
		if (is_out(f, at) && node != f->from && has_flow(f, node, h, true))
			behind_add(b, place_entered(f, h->to));
	}
	if (f->split && is_in(f, at) && node != f->to)
		behind_add(b, at + 1);
}

/* Few places lead to the end, and none of them is the start: a search would look at all others
 * before it knew. */
static bool is_shut_in(struct flow *f)
{
	struct behind b = {.f = f};
	behind_add(&b, place_in(f, f->to));
	while (b.next < b.count && b.count < BEHIND_MAX)
		behind_expand(&b, b.place[b.next++]);
	return b.count < BEHIND_MAX && f->places[place_out(f, f->from)].behind != f->search;
}

static bool one_more(struct flow *f)
{
	f->search++;
	if (is_shut_in(f) || !search(f))
		return false;
	augment(f);
	return true;
}

/* --- the paths of the flow -------------------------------------------------------------------- */

static bool append(const struct graph *g, struct graph_path *path, const struct graph_hop *hop)
{
	if (path->count == path->capacity) {
		size_t capacity = path->capacity ? 2 * path->capacity : 16;
		struct graph_hop *hops = reallocarray(path->hops, capacity, sizeof *hops);
		if (!hops)
			return false;
		path->hops = hops;
		path->capacity = capacity;
	}
	path->hops[path->count++] = *hop;
	path->cost += graph_edge_cost(g, hop->edge);
	return true;
}

/* Takes one path out of the flow.  False: there is none left, or out of memory. */
static bool extract(struct flow *f, struct graph_path *path)
{
	path->count = 0;
	path->cost = 0;
	for (uint32_t at = f->from; at != f->to;) {
		uint32_t walk = GRAPH_NONE;
		struct graph_hop hop;
		bool found = false;
		while (!found && graph_edge_next(f->g, at, &walk, &hop))
			found = f->flow_to[hop.edge] == hop.node + 1;
		if (!found)
			return false;
		f->flow_to[hop.edge] = 0;
		if (!append(f->g, path, &hop)) {
			f->failed = true;
			return false;
		}
		at = hop.node;
	}
	return true;
}

static int by_cost(const void *a, const void *b)
{
	const struct graph_path *x = a, *y = b;
	return x->cost < y->cost ? -1 : x->cost > y->cost;
}

static bool flow_init(struct flow *f)
{
	size_t nodes = graph_node_limit(f->g), edges = graph_edge_limit(f->g);
	f->places = calloc(f->split ? 2 * nodes : nodes, sizeof *f->places);
	f->flow_to = calloc(edges ? edges : 1, sizeof *f->flow_to);
	f->used = calloc(nodes, sizeof *f->used);
	return f->places && f->flow_to && f->used;
}

static void flow_free(struct flow *f)
{
	free(f->places);
	free(f->flow_to);
	free(f->used);
	free(f->settled);
	free(f->heap.at);
}

int graph_find_disjoint(const struct graph *g, uint32_t from, uint32_t to, enum disjoint what,
			size_t k, size_t *work, struct graph_path *paths, size_t *found)
{
	struct flow f = {
		.g = g, .from = from, .to = to, .split = what == DISJOINT_NODES, .work = work};
	*found = 0;
	if (from == to || k == 0 || k > DISJOINT_MAX)
		return -EINVAL;
	if (graph_node_blocked(g, from) || graph_node_blocked(g, to))
		return -ENETUNREACH;
	if (flow_init(&f)) {
		f.used[from] = f.used[to] = true;
		for (size_t i = 0; i < k && one_more(&f);)
			i++;
		while (*found < k && !f.failed && extract(&f, &paths[*found]))
			++*found;
	} else {
		f.failed = true;
	}
	flow_free(&f);
	if (f.failed)
		return -ENOMEM;
	qsort(paths, *found, sizeof *paths, by_cost);
	return *found ? 0 : -ENETUNREACH;
}
