/*
 * Queries.  Two searches run towards each other and share the graph between them: each node is
 * settled by one of them alone (Pijls and Post's new bidirectional A*).  Marks, where there are
 * any, tell both how far it is still at least.
 */
#include "nodemanager/graph_int.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- heaps ------------------------------------------------------------------------------------ */

/* The children of i; the root's are the next four. */
static size_t child_first(size_t i)
{
	return 4 * (i - 2);
}

static size_t parent(size_t i)
{
	return i / 4 + 2;
}

static bool heap_grow(struct heap *h)
{
	size_t capacity = h->capacity ? h->capacity * 2 : 256;
	struct entry *bigger = aligned_alloc(64, capacity * sizeof *bigger);
	if (!bigger)
		return false;
	if (h->end)
		memcpy(bigger, h->at, h->end * sizeof *bigger);
	free(h->at);
	h->at = bigger;
	h->capacity = capacity;
	return true;
}

bool heap_push(struct heap *h, uint64_t key, uint32_t node)
{
	size_t i = h->end > HEAP_ROOT ? h->end : HEAP_ROOT;
	if (i >= h->capacity && !heap_grow(h))
		return false;
	h->end = i + 1;
	for (; i > HEAP_ROOT && h->at[parent(i)].key > key; i = parent(i))
		h->at[i] = h->at[parent(i)];
	h->at[i] = (struct entry){key, node};
	return true;
}

void heap_pop(struct heap *h)
{
	struct entry e = h->at[--h->end];
	size_t i = HEAP_ROOT;
	if (h->end == HEAP_ROOT)
		return;
	for (;;) {
		size_t child = child_first(i), end = child + 4 < h->end ? child + 4 : h->end;
		if (child >= end)
			break;
		for (size_t c = child + 1; c < end; c++)
			if (h->at[c].key < h->at[child].key)
				child = c;
		if (h->at[child].key >= e.key)
			break;
		h->at[i] = h->at[child];
		i = child;
	}
	h->at[i] = e;
}

/* --- queries ---------------------------------------------------------------------------------- */

/*
 * Costs are scaled up, and each edge gets a little noise that depends on the seed: too little to
 * add up to one unit of cost within GRAPH_SPREAD_HOPS, enough to choose between equals.
 */
#define SPREAD_SHIFT 16
#define SPREAD_NOISE_BITS 9
_Static_assert(GRAPH_SPREAD_HOPS < 1 << (SPREAD_SHIFT - SPREAD_NOISE_BITS), "noise adds up");

static uint64_t weight(const struct graph *g, const struct half *h)
{
	uint64_t w = (uint64_t)h->cost << SPREAD_SHIFT;
	if (!g->seed)
		return w;
	uint64_t mix = (g->seed ^ h->half / 2) * UINT64_C(0x9e3779b97f4a7c15);
	mix = (mix ^ mix >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
	return w | mix >> (64 - SPREAD_NOISE_BITS);
}

struct query {
	uint32_t end[2];	 /* where each side begins */
	uint32_t mark[2][MARKS]; /* of those */
	unsigned held;		 /* marks */
	uint64_t key[2];	 /* no way over what a side has not settled is shorter than this */
	uint32_t meeting;	 /* the best so far */
	uint64_t cost;
};

/* From the node to the end of that side, at least. */
static uint64_t bound(const struct graph *g, const struct query *q, unsigned to, uint32_t node)
{
	return (uint64_t)mark_bound(&g->vertices[node], q->mark[to], q->held) << SPREAD_SHIFT;
}

/*
 * Takes a way of length `dist` to `node` if it is the best so far on this side.  What is left of
 * the other side begins at key[!from], and that includes the bound back to our own end: who lies
 * beyond it cannot be part of a better path and need not be looked at again.
 */
static void relax(struct graph *g, unsigned from, uint32_t node, uint64_t dist, uint32_t via,
		  struct query *q)
{
	struct vertex *v = &g->vertices[node];
	struct label *l = &v->label[from];
	const struct label *other = &v->label[!from];
	if (v->settled == g->generation || (l->seen == g->generation && dist >= l->dist))
		return;
	*l = (struct label){.dist = dist, .seen = g->generation, .via = via};
	if (other->seen == g->generation && dist + other->dist < q->cost) {
		q->meeting = node;
		q->cost = dist + other->dist;
	}
	uint64_t key = dist + bound(g, q, !from, node);
	if (key < q->cost && dist + q->key[!from] < q->cost + bound(g, q, from, node) &&
	    !heap_push(&g->side[from], key, node))
		g->out_of_memory = true;
}

static void new_generation(struct graph *g)
{
	g->side[0].end = g->side[1].end = g->work = 0;
	g->out_of_memory = false;
	if (++g->generation)
		return;
	/* After 2^32 queries an old mark would look new. */
	for (size_t i = 0; i < g->vertex_count; i++) {
		struct vertex *v = &g->vertices[i];
		v->label[0].seen = v->label[1].seen = v->settled = 0;
	}
	g->generation = 1;
}

/* Where a half-edge leads. */
static uint32_t half_to(const struct graph *g, uint32_t half)
{
	return g->pool[g->edges[half / 2].at[half % 2]].to;
}

/* The node before `node` on the way from the start of this side. */
static uint32_t before(const struct graph *g, unsigned from, uint32_t node)
{
	return half_to(g, g->vertices[node].label[from].via ^ 1);
}

static int path_build(const struct graph *g, const struct query *q, struct graph_path *path)
{
	uint32_t from = q->end[0], to = q->end[1];
	size_t head = 0, count, tail;
	for (uint32_t n = q->meeting; n != from; n = before(g, 0, n))
		head++;
	count = tail = head;
	for (uint32_t n = q->meeting; n != to; n = before(g, 1, n))
		count++;
	if (count > path->capacity) {
		struct graph_hop *bigger = reallocarray(path->hops, count, sizeof *bigger);
		if (!bigger)
			return -ENOMEM;
		path->hops = bigger;
		path->capacity = count;
	}
	path->count = count;
	path->cost = q->cost >> SPREAD_SHIFT;
	for (uint32_t n = q->meeting; n != from; n = before(g, 0, n)) {
		uint32_t edge = g->vertices[n].label[0].via / 2;
		path->hops[--head] = (struct graph_hop){edge, g->edges[edge].tag, n};
	}
	for (uint32_t n = q->meeting; n != to; n = before(g, 1, n)) {
		uint32_t edge = g->vertices[n].label[1].via / 2;
		path->hops[tail++] = (struct graph_hop){edge, g->edges[edge].tag, before(g, 1, n)};
	}
	return 0;
}

#define FETCH_AHEAD 3u /* of the heap: one of these is most likely the next */

/* The neighbours' lines are fetched before they are needed: from memory each takes as long as all
 * the rest of the work on it. */
static void expand(struct graph *g, unsigned from, uint32_t node, struct query *q)
{
	const struct heap *heap = &g->side[from];
	const struct half *end, *h = graph_halves(g, node, &end);
	uint64_t dist = g->vertices[node].label[from].dist;
	g->work++;
	for (const struct half *i = h; i < end; i++)
		__builtin_prefetch(&g->vertices[i->to], 1);
	for (; h < end; h++)
		if (h->to == q->end[!from] || graph_node_relays(g, h->to))
			relax(g, from, h->to, dist + weight(g, h), h->half, q);
	for (size_t i = HEAP_ROOT; i < heap->end && i < HEAP_ROOT + FETCH_AHEAD; i++) {
		const struct half *next = &g->pool[g->vertices[heap->at[i].node].first];
		__builtin_prefetch(next);
		__builtin_prefetch(next + 64 / sizeof *next);
	}
}

/* The side's key is that of its nearest that nobody has settled.  False: it has none that could
 * still be part of a better path. */
static bool advance(struct graph *g, unsigned from, struct query *q)
{
	struct heap *heap = &g->side[from];
	while (!heap_is_empty(heap) &&
	       g->vertices[heap->at[HEAP_ROOT].node].settled == g->generation)
		heap_pop(heap);
	if (heap_is_empty(heap) || heap->at[HEAP_ROOT].key >= q->cost)
		return false;
	q->key[from] = heap->at[HEAP_ROOT].key;
	return true;
}

/* Settles the nearest of this side. */
static void settle(struct graph *g, unsigned from, struct query *q)
{
	uint32_t node = g->side[from].at[HEAP_ROOT].node;
	struct vertex *v = &g->vertices[node];
	heap_pop(&g->side[from]);
	v->settled = g->generation;
	if (v->label[from].dist + q->key[!from] < q->cost + bound(g, q, from, node))
		expand(g, from, node, q);
}

int graph_find_spread(struct graph *g, uint32_t from, uint32_t to, uint64_t seed,
		      struct graph_path *path)
{
	assert(from < g->vertex_count && to < g->vertex_count);
	struct query q = {.end = {from, to}, .held = graph_marks_held(g), .cost = UINT64_MAX / 2};
	memcpy(q.mark[0], g->vertices[from].mark, sizeof q.mark[0]);
	memcpy(q.mark[1], g->vertices[to].mark, sizeof q.mark[1]);
	path->count = 0;
	path->cost = 0;
	if (g->vertices[from].blocked || g->vertices[to].blocked)
		return -ENETUNREACH;
	if (from == to)
		return 0;
	g->seed = seed;
	new_generation(g);
	relax(g, 0, from, 0, GRAPH_NONE, &q);
	relax(g, 1, to, 0, GRAPH_NONE, &q);
	while (!g->out_of_memory && advance(g, 0, &q) && advance(g, 1, &q))
		settle(g, heap_count(&g->side[1]) < heap_count(&g->side[0]), &q);
	if (g->out_of_memory)
		return -ENOMEM;
	return q.cost == UINT64_MAX / 2 ? -ENETUNREACH : path_build(g, &q, path);
}

int graph_find(struct graph *g, uint32_t from, uint32_t to, struct graph_path *path)
{
	return graph_find_spread(g, from, to, 0, path);
}

size_t graph_find_work(const struct graph *g)
{
	return g->work;
}
