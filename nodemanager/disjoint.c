/*
 * A flow of k units of least cost.  For paths without common nodes each node is two places, where
 * one comes in and where one goes out, with room for one unit between them; for paths without
 * common edges the two are the same place.  A unit that is taken back costs the negative of what it
 * cost; potentials keep what Dijkstra sees from being negative.
 */
#include "nodemanager/disjoint.h"

#include <errno.h>
#include <stdlib.h>

struct place {
	uint64_t dist, potential;
	uint32_t before; /* place; */
	uint32_t edge;	 /* over which, or GRAPH_NONE within a node */
	bool reached, settled;
};

struct queued {
	uint64_t dist;
	uint32_t place;
};

struct flow {
	const struct graph *g;
	uint32_t from, to; /* nodes */
	bool split;
	struct place *places; /* 2 * node, where one comes in; + 1, where one goes out */
	size_t place_count;
	uint32_t *flow_to; /* of each edge: the node that it leads to in a path, or GRAPH_NONE */
	bool *used;	   /* nodes in the middle of a path */
	struct queued *heap;
	size_t heap_count, heap_capacity;
	bool failed; /* out of memory */
};

/* --- a heap with stale entries ---------------------------------------------------------------- */

static void heap_push(struct flow *f, uint64_t dist, uint32_t place)
{
	if (f->heap_count == f->heap_capacity) {
		size_t capacity = f->heap_capacity ? 2 * f->heap_capacity : 256;
		struct queued *heap = reallocarray(f->heap, capacity, sizeof *heap);
		if (!heap) {
			f->failed = true;
			return;
		}
		f->heap = heap;
		f->heap_capacity = capacity;
	}
	size_t i = f->heap_count++;
	for (; i && f->heap[(i - 1) / 2].dist > dist; i = (i - 1) / 2)
		f->heap[i] = f->heap[(i - 1) / 2];
	f->heap[i] = (struct queued){dist, place};
}

static struct queued heap_pop(struct flow *f)
{
	struct queued top = f->heap[0], last = f->heap[--f->heap_count];
	size_t i = 0;
	for (;;) {
		size_t child = 2 * i + 1;
		if (child + 1 < f->heap_count && f->heap[child + 1].dist < f->heap[child].dist)
			child++;
		if (child >= f->heap_count || f->heap[child].dist >= last.dist)
			break;
		f->heap[i] = f->heap[child];
		i = child;
	}
	if (f->heap_count)
		f->heap[i] = last;
	return top;
}

/* --- one more unit ---------------------------------------------------------------------------- */

static uint32_t place_in(const struct flow *f, uint32_t node)
{
	return f->split ? 2 * node : node;
}

static uint32_t place_out(const struct flow *f, uint32_t node)
{
	return f->split ? 2 * node + 1 : node;
}

/* `cost` may be negative; with the potentials it is not. */
static void relax(struct flow *f, uint32_t at, uint32_t to, uint32_t edge, int64_t cost)
{
	struct place *p = &f->places[at], *q = &f->places[to];
	uint64_t dist = p->dist + p->potential + (uint64_t)cost - q->potential;
	if (q->settled || (q->reached && dist >= q->dist))
		return;
	q->reached = true;
	q->dist = dist;
	q->before = at;
	q->edge = edge;
	heap_push(f, dist, to);
}

static bool may_enter(const struct flow *f, uint32_t node)
{
	return node == f->to || (node != f->from && graph_node_relays(f->g, node));
}

/* Onwards over what is free, from where one goes out. */
static void leave_node(struct flow *f, uint32_t at, uint32_t node)
{
	uint32_t walk = GRAPH_NONE;
	struct graph_hop hop;
	while (graph_edge_next(f->g, node, &walk, &hop))
		if (f->flow_to[hop.edge] == GRAPH_NONE && may_enter(f, hop.node))
			relax(f, at, place_in(f, hop.node), hop.edge,
			      graph_edge_cost(f->g, hop.edge));
}

/* Back over what leads here, from where one comes in. */
static void take_back(struct flow *f, uint32_t at, uint32_t node)
{
	uint32_t walk = GRAPH_NONE;
	struct graph_hop hop;
	while (graph_edge_next(f->g, node, &walk, &hop))
		if (f->flow_to[hop.edge] == node && hop.node != f->from)
			relax(f, at, place_out(f, hop.node), hop.edge,
			      -(int64_t)graph_edge_cost(f->g, hop.edge));
}

static void expand(struct flow *f, uint32_t at)
{
	uint32_t node = f->split ? at / 2 : at;
	bool in = !f->split || at % 2 == 0, out = !f->split || at % 2 == 1;
	if (in && node != f->from)
		take_back(f, at, node);
	if (out)
		leave_node(f, at, node);
	if (!f->split || node == f->from)
		return;
	if (in && !f->used[node])
		relax(f, at, at + 1, GRAPH_NONE, 0);
	if (at % 2 == 1 && f->used[node])
		relax(f, at, at - 1, GRAPH_NONE, 0);
}

/* True when there is one more way to `to`. */
static bool search(struct flow *f)
{
	uint32_t target = place_in(f, f->to), start = place_out(f, f->from);
	for (size_t i = 0; i < f->place_count; i++)
		f->places[i].reached = f->places[i].settled = false;
	f->heap_count = 0;
	f->places[start].dist = 0;
	f->places[start].reached = true;
	heap_push(f, 0, start);
	while (f->heap_count && !f->failed && !f->places[target].settled) {
		struct queued q = heap_pop(f);
		struct place *p = &f->places[q.place];
		if (p->settled)
			continue;
		p->settled = true;
		if (q.place != target)
			expand(f, q.place);
	}
	return f->places[target].settled;
}

static void augment(struct flow *f)
{
	uint32_t at = place_in(f, f->to), start = place_out(f, f->from);
	uint64_t far = f->places[at].dist;
	for (size_t i = 0; i < f->place_count; i++) {
		const struct place *p = &f->places[i];
		f->places[i].potential += p->settled && p->dist < far ? p->dist : far;
	}
	for (; at != start; at = f->places[at].before) {
		uint32_t before = f->places[at].before, edge = f->places[at].edge;
		uint32_t node = f->split ? at / 2 : at;
		if (edge == GRAPH_NONE)
			f->used[node] = at > before;
		else if (f->flow_to[edge] == GRAPH_NONE)
			f->flow_to[edge] = node;
		else
			f->flow_to[edge] = GRAPH_NONE;
	}
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
			found = f->flow_to[hop.edge] == hop.node;
		if (!found)
			return false;
		f->flow_to[hop.edge] = GRAPH_NONE;
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
	f->place_count = f->split ? 2 * nodes : nodes;
	f->places = calloc(f->place_count, sizeof *f->places);
	f->flow_to = malloc((edges ? edges : 1) * sizeof *f->flow_to);
	f->used = calloc(nodes, sizeof *f->used);
	if (!f->places || !f->flow_to || !f->used)
		return false;
	for (size_t i = 0; i < edges; i++)
		f->flow_to[i] = GRAPH_NONE;
	return true;
}

static void flow_free(struct flow *f)
{
	free(f->places);
	free(f->flow_to);
	free(f->used);
	free(f->heap);
}

int graph_find_disjoint(const struct graph *g, uint32_t from, uint32_t to, enum disjoint what,
			size_t k, struct graph_path *paths, size_t *found)
{
	struct flow f = {.g = g, .from = from, .to = to, .split = what == DISJOINT_NODES};
	*found = 0;
	if (from == to || k == 0 || k > DISJOINT_MAX)
		return -EINVAL;
	if (graph_node_blocked(g, from) || graph_node_blocked(g, to))
		return -ENETUNREACH;
	if (flow_init(&f)) {
		for (size_t i = 0; i < k && search(&f); i++)
			augment(&f);
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
