#include "nodemanager/graph.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

/*
 * Edge e is two half-edges, 2e (leaves a) and 2e + 1 (leaves b).  Each node has the half-edges that
 * leave it in one block of the pool, in no order, so that a query reads them in one go; a block
 * that is full moves to one of twice the size.  All links are indexes, so arrays may move.
 */
struct half {
	uint32_t half, to, cost;
};

struct edge {
	uint32_t cost, tag; /* cost 0: a free slot, `tag` is the next free one */
	uint32_t at[2];	    /* where its half-edges are in the pool */
};

/* What a query knows of a vertex; meaningless unless `seen` is this query's generation. */
struct label {
	uint64_t dist;
	uint32_t seen, via; /* half-edge that leads here */
};

/* All that a query wants to know of a vertex is in one line of the cache. */
struct vertex {
	alignas(64) struct label label[2];
	uint32_t first; /* block in the pool; of a free slot: the next free one */
	uint32_t count; /* half-edges */
	uint8_t class;	/* the block has room for BLOCK_MIN << class of them; NO_BLOCK */
	bool used, blocked, no_transit;
};
_Static_assert(sizeof(struct vertex) == 64, "one cache line");

#define BLOCK_MIN 4u
#define BLOCK_CLASSES 24u
#define NO_BLOCK UINT8_MAX

/* Not taken out when a shorter way is found: then it is stale, and passed over at the top. */
struct entry {
	uint64_t dist;
	uint32_t node;
};

/* A query searches from both ends at once; each has its own labels and heap. */
struct side {
	struct entry *heap;
	size_t count, capacity;
};

struct graph {
	struct vertex *vertices;
	size_t vertex_count, vertex_capacity;
	struct half *pool;
	size_t pool_used, pool_capacity;
	uint32_t free_block[BLOCK_CLASSES]; /* `to` of its first half-edge is the next */
	struct edge *edges;
	size_t edge_slots, edge_capacity, edge_count;
	uint32_t free_vertex, free_edge;
	struct side side[2];
	uint32_t generation;
	size_t work;
	uint64_t seed;	    /* of the query that runs; 0: ties are broken by chance */
	bool out_of_memory; /* the query that runs */
};

struct graph *graph_new(void)
{
	struct graph *g = calloc(1, sizeof *g);
	if (!g)
		return NULL;
	g->free_vertex = g->free_edge = GRAPH_NONE;
	for (unsigned i = 0; i < BLOCK_CLASSES; i++)
		g->free_block[i] = GRAPH_NONE;
	return g;
}

void graph_free(struct graph *g)
{
	if (!g)
		return;
	free(g->vertices);
	free(g->pool);
	free(g->edges);
	free(g->side[0].heap);
	free(g->side[1].heap);
	free(g);
}

/* Grows one array; on failure the old one stays valid. */
static bool grow(void *array, size_t capacity, size_t item)
{
	void *old, *bigger;
	memcpy(&old, array, sizeof old);
	bigger = realloc(old, capacity * item);
	if (!bigger)
		return false;
	memcpy(array, &bigger, sizeof bigger);
	/* cppcheck-suppress memleak ; `array` has it now */
	return true;
}

/* --- nodes ------------------------------------------------------------------------------------ */

static bool grow_vertices(struct graph *g)
{
	size_t capacity = g->vertex_capacity ? g->vertex_capacity * 2 : 64;
	if (capacity >= GRAPH_NONE)
		return false;
	struct vertex *bigger =
		aligned_alloc(alignof(struct vertex), capacity * sizeof *g->vertices);
	if (!bigger)
		return false;
	if (g->vertex_count)
		memcpy(bigger, g->vertices, g->vertex_count * sizeof *bigger);
	free(g->vertices);
	g->vertices = bigger;
	g->vertex_capacity = capacity;
	return true;
}

uint32_t graph_node_add(struct graph *g)
{
	uint32_t node = g->free_vertex;
	if (node != GRAPH_NONE) {
		g->free_vertex = g->vertices[node].first;
	} else {
		if (g->vertex_count == g->vertex_capacity && !grow_vertices(g))
			return GRAPH_NONE;
		node = (uint32_t)g->vertex_count++;
	}
	g->vertices[node] = (struct vertex){.first = GRAPH_NONE, .class = NO_BLOCK, .used = true};
	return node;
}

static void block_free(struct graph *g, struct vertex *v)
{
	if (v->class == NO_BLOCK)
		return;
	g->pool[v->first].to = g->free_block[v->class];
	g->free_block[v->class] = v->first;
	v->class = NO_BLOCK;
}

void graph_node_remove(struct graph *g, uint32_t node)
{
	struct vertex *v = &g->vertices[node];
	assert(node < g->vertex_count && v->used);
	while (v->count)
		graph_edge_remove(g, g->pool[v->first + v->count - 1].half / 2);
	block_free(g, v);
	*v = (struct vertex){.first = g->free_vertex, .class = NO_BLOCK};
	g->free_vertex = node;
}

void graph_node_block(struct graph *g, uint32_t node, bool blocked)
{
	assert(node < g->vertex_count && g->vertices[node].used);
	g->vertices[node].blocked = blocked;
}

void graph_node_set_transit(struct graph *g, uint32_t node, bool transit)
{
	assert(node < g->vertex_count && g->vertices[node].used);
	g->vertices[node].no_transit = !transit;
}

bool graph_node_relays(const struct graph *g, uint32_t node)
{
	return !g->vertices[node].blocked && !g->vertices[node].no_transit;
}

bool graph_node_blocked(const struct graph *g, uint32_t node)
{
	return g->vertices[node].blocked;
}

uint32_t graph_node_limit(const struct graph *g)
{
	return (uint32_t)g->vertex_count;
}

/* --- edges ------------------------------------------------------------------------------------ */

static uint32_t block_new(struct graph *g, unsigned class)
{
	size_t size = (size_t)BLOCK_MIN << class;
	uint32_t at = g->free_block[class];
	if (at != GRAPH_NONE) {
		g->free_block[class] = g->pool[at].to;
		return at;
	}
	if (g->pool_used + size > g->pool_capacity) {
		size_t capacity = g->pool_capacity ? g->pool_capacity * 2 : 256;
		while (capacity < g->pool_used + size)
			capacity *= 2;
		if (capacity >= GRAPH_NONE || !grow(&g->pool, capacity, sizeof *g->pool))
			return GRAPH_NONE;
		g->pool_capacity = capacity;
	}
	at = (uint32_t)g->pool_used;
	g->pool_used += size;
	return at;
}

static void half_put(struct graph *g, uint32_t at, struct half h)
{
	g->pool[at] = h;
	g->edges[h.half / 2].at[h.half % 2] = at;
}

/* Room for one more half-edge of the node. */
static bool half_reserve(struct graph *g, uint32_t node)
{
	struct vertex *v = &g->vertices[node];
	unsigned class = v->class == NO_BLOCK ? 0 : v->class + 1u;
	if (v->class != NO_BLOCK && v->count < BLOCK_MIN << v->class)
		return true;
	if (class == BLOCK_CLASSES)
		return false;
	uint32_t to = block_new(g, class), from = v->first;
	if (to == GRAPH_NONE)
		return false;
	for (uint32_t i = 0; i < v->count; i++)
		half_put(g, to + i, g->pool[from + i]);
	block_free(g, v);
	v->first = to;
	v->class = (uint8_t) class;
	return true;
}

static void half_insert(struct graph *g, uint32_t half, uint32_t from, uint32_t to, uint32_t cost)
{
	struct vertex *v = &g->vertices[from];
	half_put(g, v->first + v->count++, (struct half){half, to, cost});
}

/* The last of the block takes its place. */
static void half_remove(struct graph *g, uint32_t half, uint32_t from)
{
	struct vertex *v = &g->vertices[from];
	uint32_t at = g->edges[half / 2].at[half % 2], last = v->first + --v->count;
	if (at != last)
		half_put(g, at, g->pool[last]);
}

static bool grow_edges(struct graph *g)
{
	size_t capacity = g->edge_capacity ? g->edge_capacity * 2 : 64;
	if (capacity >= GRAPH_NONE / 2 || !grow(&g->edges, capacity, sizeof *g->edges))
		return false;
	g->edge_capacity = capacity;
	return true;
}

/* Where a half-edge leads. */
static uint32_t half_to(const struct graph *g, uint32_t half)
{
	return g->pool[g->edges[half / 2].at[half % 2]].to;
}

uint32_t graph_edge_add(struct graph *g, uint32_t a, uint32_t b, uint32_t cost, uint32_t tag)
{
	assert(a < g->vertex_count && b < g->vertex_count && a != b && cost > 0);
	assert(g->vertices[a].used && g->vertices[b].used);
	uint32_t edge = g->free_edge;
	if (edge == GRAPH_NONE && g->edge_slots == g->edge_capacity && !grow_edges(g))
		return GRAPH_NONE;
	if (!half_reserve(g, a) || !half_reserve(g, b))
		return GRAPH_NONE;
	if (edge != GRAPH_NONE)
		g->free_edge = g->edges[edge].tag;
	else
		edge = (uint32_t)g->edge_slots++;
	g->edges[edge] = (struct edge){.cost = cost, .tag = tag};
	half_insert(g, 2 * edge, a, b, cost);
	half_insert(g, 2 * edge + 1, b, a, cost);
	g->edge_count++;
	return edge;
}

static bool edge_used(const struct graph *g, uint32_t edge)
{
	return edge < g->edge_slots && g->edges[edge].cost;
}

void graph_edge_remove(struct graph *g, uint32_t edge)
{
	assert(edge_used(g, edge));
	uint32_t a = half_to(g, 2 * edge + 1), b = half_to(g, 2 * edge);
	half_remove(g, 2 * edge, a);
	half_remove(g, 2 * edge + 1, b);
	g->edges[edge] = (struct edge){.tag = g->free_edge};
	g->free_edge = edge;
	g->edge_count--;
}

void graph_edge_set_cost(struct graph *g, uint32_t edge, uint32_t cost)
{
	assert(edge_used(g, edge) && cost > 0);
	struct edge *e = &g->edges[edge];
	e->cost = g->pool[e->at[0]].cost = g->pool[e->at[1]].cost = cost;
}

uint32_t graph_edge_cost(const struct graph *g, uint32_t edge)
{
	assert(edge_used(g, edge));
	return g->edges[edge].cost;
}

uint32_t graph_edge_tag(const struct graph *g, uint32_t edge)
{
	assert(edge_used(g, edge));
	return g->edges[edge].tag;
}

size_t graph_edge_count(const struct graph *g)
{
	return g->edge_count;
}

uint32_t graph_edge_between(const struct graph *g, uint32_t a, uint32_t b)
{
	const struct vertex *v = &g->vertices[a];
	uint32_t best = GRAPH_NONE, best_cost = UINT32_MAX;
	for (uint32_t i = v->first; i < v->first + v->count; i++) {
		const struct half *h = &g->pool[i];
		if (h->to == b && (best == GRAPH_NONE || h->cost < best_cost)) {
			best = h->half / 2;
			best_cost = h->cost;
		}
	}
	return best;
}

uint32_t graph_edge_limit(const struct graph *g)
{
	return (uint32_t)g->edge_slots;
}

bool graph_edge_next(const struct graph *g, uint32_t node, uint32_t *walk, struct graph_hop *hop)
{
	const struct vertex *v = &g->vertices[node];
	uint32_t at = *walk == GRAPH_NONE ? v->first : g->edges[*walk / 2].at[*walk % 2] + 1;
	if (at >= v->first + v->count)
		return false;
	const struct half *h = &g->pool[at];
	*walk = h->half;
	*hop = (struct graph_hop){h->half / 2, g->edges[h->half / 2].tag, h->to};
	return true;
}

/* --- the heap of one side of a query: four children a node, which is two lines of the cache -----
 */

static bool heap_push(struct side *s, struct entry e)
{
	if (s->count == s->capacity) {
		size_t capacity = s->capacity ? s->capacity * 2 : 256;
		if (!grow(&s->heap, capacity, sizeof *s->heap))
			return false;
		s->capacity = capacity;
	}
	size_t i = s->count++;
	for (; i > 0 && s->heap[(i - 1) / 4].dist > e.dist; i = (i - 1) / 4)
		s->heap[i] = s->heap[(i - 1) / 4];
	s->heap[i] = e;
	return true;
}

static void heap_pop(struct side *s)
{
	struct entry e = s->heap[--s->count];
	size_t i = 0;
	for (;;) {
		size_t child = 4 * i + 1, end = child + 4 < s->count ? child + 4 : s->count;
		if (child >= end)
			break;
		for (size_t c = child + 1; c < end; c++)
			if (s->heap[c].dist < s->heap[child].dist)
				child = c;
		if (s->heap[child].dist >= e.dist)
			break;
		s->heap[i] = s->heap[child];
		i = child;
	}
	s->heap[i] = e;
}

/* --- queries: from both ends until they cannot meet any better -------------------------------- */

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

/* The best meeting so far. */
struct meeting {
	uint32_t node;
	uint64_t cost;
};

/* The nearest that is not settled on this side, or UINT64_MAX: none is left. */
static uint64_t nearest(struct graph *g, unsigned from)
{
	struct side *s = &g->side[from];
	while (s->count && g->vertices[s->heap[0].node].label[from].dist != s->heap[0].dist)
		heap_pop(s);
	return s->count ? s->heap[0].dist : UINT64_MAX;
}

/*
 * Takes a way of length `dist` to `node` if it is the best so far on this side.  `ahead`: what is
 * not settled on the other side is at least so far from its end, so who is beyond that cannot be
 * part of a better path and need not be looked at again.
 */
static void relax(struct graph *g, unsigned from, uint32_t node, uint64_t dist, uint32_t via,
		  uint64_t ahead, struct meeting *best)
{
	struct label *l = &g->vertices[node].label[from];
	const struct label *other = &g->vertices[node].label[!from];
	if (l->seen == g->generation && dist >= l->dist)
		return;
	*l = (struct label){.dist = dist, .seen = g->generation, .via = via};
	if (other->seen == g->generation && dist + other->dist < best->cost)
		*best = (struct meeting){node, dist + other->dist};
	if (dist + ahead < best->cost && !heap_push(&g->side[from], (struct entry){dist, node}))
		g->out_of_memory = true;
}

static void new_generation(struct graph *g)
{
	g->side[0].count = g->side[1].count = g->work = 0;
	g->out_of_memory = false;
	if (++g->generation)
		return;
	/* After 2^32 queries an old mark would look new. */
	for (size_t i = 0; i < g->vertex_count; i++)
		g->vertices[i].label[0].seen = g->vertices[i].label[1].seen = 0;
	g->generation = 1;
}

/* The node before `node` on the way from the start of this side. */
static uint32_t before(const struct graph *g, unsigned from, uint32_t node)
{
	return half_to(g, g->vertices[node].label[from].via ^ 1);
}

static int path_build(const struct graph *g, uint32_t from, uint32_t to, const struct meeting *best,
		      struct graph_path *path)
{
	size_t head = 0, count, tail;
	for (uint32_t n = best->node; n != from; n = before(g, 0, n))
		head++;
	count = tail = head;
	for (uint32_t n = best->node; n != to; n = before(g, 1, n))
		count++;
	if (count > path->capacity) {
		if (!grow(&path->hops, count, sizeof *path->hops))
			return -ENOMEM;
		path->capacity = count;
	}
	path->count = count;
	path->cost = best->cost >> SPREAD_SHIFT;
	for (uint32_t n = best->node; n != from; n = before(g, 0, n)) {
		uint32_t edge = g->vertices[n].label[0].via / 2;
		path->hops[--head] = (struct graph_hop){edge, g->edges[edge].tag, n};
	}
	for (uint32_t n = best->node; n != to; n = before(g, 1, n)) {
		uint32_t edge = g->vertices[n].label[1].via / 2;
		path->hops[tail++] = (struct graph_hop){edge, g->edges[edge].tag, before(g, 1, n)};
	}
	return 0;
}

#define FETCH_AHEAD 3u /* of the heap: one of these is most likely the next */

/* Settles the nearest of this side.  The neighbours' lines are fetched before they are needed: from
 * memory each takes as long as all the rest of the work on it. */
static void expand(struct graph *g, unsigned from, uint32_t target, uint64_t ahead,
		   struct meeting *best)
{
	struct side *s = &g->side[from];
	uint64_t dist = s->heap[0].dist;
	const struct vertex *v = &g->vertices[s->heap[0].node];
	const struct half *h = &g->pool[v->first], *end = h + v->count;
	g->work++;
	for (const struct half *i = h; i < end; i++)
		__builtin_prefetch(&g->vertices[i->to], 1);
	heap_pop(s);
	for (; h < end; h++)
		if (h->to == target || graph_node_relays(g, h->to))
			relax(g, from, h->to, dist + weight(g, h), h->half, ahead, best);
	for (size_t i = 0; i < s->count && i < FETCH_AHEAD; i++) {
		const struct half *next = &g->pool[g->vertices[s->heap[i].node].first];
		__builtin_prefetch(next);
		__builtin_prefetch(next + 64 / sizeof *next);
	}
}

int graph_find_spread(struct graph *g, uint32_t from, uint32_t to, uint64_t seed,
		      struct graph_path *path)
{
	struct meeting best = {.cost = UINT64_MAX};
	const uint32_t target[2] = {to, from};
	assert(from < g->vertex_count && to < g->vertex_count);
	path->count = 0;
	path->cost = 0;
	if (g->vertices[from].blocked || g->vertices[to].blocked)
		return -ENETUNREACH;
	if (from == to)
		return 0;
	g->seed = seed;
	new_generation(g);
	relax(g, 0, from, 0, GRAPH_NONE, 0, &best);
	relax(g, 1, to, 0, GRAPH_NONE, 0, &best);
	while (!g->out_of_memory) {
		uint64_t top[2] = {nearest(g, 0), nearest(g, 1)};
		if (top[0] == UINT64_MAX || top[1] == UINT64_MAX || top[0] + top[1] >= best.cost)
			break;
		unsigned from_end = top[1] < top[0];
		expand(g, from_end, target[from_end], top[!from_end], &best);
	}
	if (g->out_of_memory)
		return -ENOMEM;
	return best.cost == UINT64_MAX ? -ENETUNREACH : path_build(g, from, to, &best, path);
}

int graph_find(struct graph *g, uint32_t from, uint32_t to, struct graph_path *path)
{
	return graph_find_spread(g, from, to, 0, path);
}

size_t graph_find_work(const struct graph *g)
{
	return g->work;
}

void graph_path_free(struct graph_path *path)
{
	free(path->hops);
	*path = (struct graph_path){0};
}
