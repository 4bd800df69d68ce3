#include "nodemanager/graph.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * Edge e is two half-edges, 2e (leaves a) and 2e + 1 (leaves b), each in the list of the node that
 * it leaves.  All links are indexes, so growing moves everything with one realloc.
 */
struct half {
	uint32_t to, next, prev;
};

struct edge {
	uint32_t cost, tag; /* cost 0: a free slot, `tag` is the next free one */
};

struct vertex {
	uint32_t first; /* half-edge; of a free slot: the next free one */
	bool used, blocked, no_transit;
};

/* What a query knows of a vertex; meaningless unless `seen` is this query's generation. */
struct label {
	uint64_t dist;
	uint32_t seen, via; /* half-edge that leads here */
	uint32_t heap_at;   /* position + 1; 0 once settled */
};

/* A query searches from both ends at once; each has its own labels and heap. */
struct side {
	struct label *labels;
	uint32_t *heap;
	size_t heap_count;
};

struct graph {
	struct vertex *vertices;
	struct side side[2];
	size_t vertex_count, vertex_capacity;
	struct edge *edges;
	struct half *halves;
	size_t edge_slots, edge_capacity, edge_count;
	uint32_t free_vertex, free_edge;
	uint32_t generation;
};

struct graph *graph_new(void)
{
	struct graph *g = calloc(1, sizeof *g);
	if (g)
		g->free_vertex = g->free_edge = GRAPH_NONE;
	return g;
}

void graph_free(struct graph *g)
{
	if (!g)
		return;
	free(g->vertices);
	for (unsigned i = 0; i < 2; i++) {
		free(g->side[i].labels);
		free(g->side[i].heap);
	}
	free(g->edges);
	free(g->halves);
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

static bool grow_vertices(struct graph *g)
{
	size_t old = g->vertex_capacity, capacity = old ? old * 2 : 64;
	if (capacity >= GRAPH_NONE || !grow(&g->vertices, capacity, sizeof *g->vertices))
		return false;
	for (unsigned i = 0; i < 2; i++) {
		struct side *s = &g->side[i];
		if (!grow(&s->labels, capacity, sizeof *s->labels) ||
		    !grow(&s->heap, capacity, sizeof *s->heap))
			return false;
		memset(s->labels + old, 0, (capacity - old) * sizeof *s->labels);
	}
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
	g->vertices[node] = (struct vertex){.first = GRAPH_NONE, .used = true};
	return node;
}

void graph_node_remove(struct graph *g, uint32_t node)
{
	assert(node < g->vertex_count && g->vertices[node].used);
	while (g->vertices[node].first != GRAPH_NONE)
		graph_edge_remove(g, g->vertices[node].first / 2);
	g->vertices[node] = (struct vertex){.first = g->free_vertex};
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

static void half_insert(struct graph *g, uint32_t half, uint32_t from, uint32_t to)
{
	uint32_t first = g->vertices[from].first;
	g->halves[half] = (struct half){.to = to, .next = first, .prev = GRAPH_NONE};
	if (first != GRAPH_NONE)
		g->halves[first].prev = half;
	g->vertices[from].first = half;
}

static void half_remove(struct graph *g, uint32_t half, uint32_t from)
{
	struct half *h = &g->halves[half];
	if (h->prev != GRAPH_NONE)
		g->halves[h->prev].next = h->next;
	else
		g->vertices[from].first = h->next;
	if (h->next != GRAPH_NONE)
		g->halves[h->next].prev = h->prev;
}

static bool grow_edges(struct graph *g)
{
	size_t capacity = g->edge_capacity ? g->edge_capacity * 2 : 64;
	if (capacity >= GRAPH_NONE / 2 || !grow(&g->edges, capacity, sizeof *g->edges) ||
	    !grow(&g->halves, capacity, 2 * sizeof *g->halves))
		return false;
	g->edge_capacity = capacity;
	return true;
}

uint32_t graph_edge_add(struct graph *g, uint32_t a, uint32_t b, uint32_t cost, uint32_t tag)
{
	assert(a < g->vertex_count && b < g->vertex_count && a != b && cost > 0);
	assert(g->vertices[a].used && g->vertices[b].used);
	uint32_t edge = g->free_edge;
	if (edge != GRAPH_NONE) {
		g->free_edge = g->edges[edge].tag;
	} else {
		if (g->edge_slots == g->edge_capacity && !grow_edges(g))
			return GRAPH_NONE;
		edge = (uint32_t)g->edge_slots++;
	}
	g->edges[edge] = (struct edge){.cost = cost, .tag = tag};
	half_insert(g, 2 * edge, a, b);
	half_insert(g, 2 * edge + 1, b, a);
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
	half_remove(g, 2 * edge, g->halves[2 * edge + 1].to);
	half_remove(g, 2 * edge + 1, g->halves[2 * edge].to);
	g->edges[edge] = (struct edge){.tag = g->free_edge};
	g->free_edge = edge;
	g->edge_count--;
}

void graph_edge_set_cost(struct graph *g, uint32_t edge, uint32_t cost)
{
	assert(edge_used(g, edge) && cost > 0);
	g->edges[edge].cost = cost;
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
	uint32_t best = GRAPH_NONE;
	for (uint32_t h = g->vertices[a].first; h != GRAPH_NONE; h = g->halves[h].next)
		if (g->halves[h].to == b &&
		    (best == GRAPH_NONE || g->edges[h / 2].cost < g->edges[best].cost))
			best = h / 2;
	return best;
}

/* --- the heap of one side of a query ---------------------------------------------------------- */

static void heap_place(struct side *s, size_t i, uint32_t node)
{
	s->heap[i] = node;
	s->labels[node].heap_at = (uint32_t)i + 1;
}

static void heap_up(struct side *s, size_t i)
{
	uint32_t node = s->heap[i];
	uint64_t dist = s->labels[node].dist;
	while (i > 0 && s->labels[s->heap[(i - 1) / 2]].dist > dist) {
		heap_place(s, i, s->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_place(s, i, node);
}

static uint32_t heap_pop(struct side *s)
{
	uint32_t top = s->heap[0];
	s->labels[top].heap_at = 0;
	uint32_t node = s->heap[--s->heap_count];
	if (s->heap_count == 0)
		return top;
	uint64_t dist = s->labels[node].dist;
	size_t i = 0;
	for (;;) {
		size_t child = 2 * i + 1;
		if (child + 1 < s->heap_count &&
		    s->labels[s->heap[child + 1]].dist < s->labels[s->heap[child]].dist)
			child++;
		if (child >= s->heap_count || s->labels[s->heap[child]].dist >= dist)
			break;
		heap_place(s, i, s->heap[child]);
		i = child;
	}
	heap_place(s, i, node);
	return top;
}

static uint64_t heap_top(const struct side *s)
{
	return s->labels[s->heap[0]].dist;
}

/* --- queries: from both ends until they cannot meet any better -------------------------------- */

/* The best meeting so far. */
struct meeting {
	uint32_t node;
	uint64_t cost;
};

/* Takes a way of length `dist` to `node` if it is the best so far on this side. */
static void relax(struct graph *g, unsigned from, uint32_t node, uint64_t dist, uint32_t via,
		  struct meeting *best)
{
	struct side *s = &g->side[from];
	struct label *l = &s->labels[node];
	const struct label *other = &g->side[!from].labels[node];
	if (l->seen != g->generation) {
		*l = (struct label){.dist = dist, .seen = g->generation};
		heap_place(s, s->heap_count++, node);
	} else if (!l->heap_at || dist >= l->dist) {
		return;
	}
	l->dist = dist;
	l->via = via;
	heap_up(s, l->heap_at - 1);
	if (other->seen == g->generation && dist + other->dist < best->cost)
		*best = (struct meeting){node, dist + other->dist};
}

static void new_generation(struct graph *g)
{
	g->side[0].heap_count = g->side[1].heap_count = 0;
	if (++g->generation)
		return;
	/* After 2^32 queries an old mark would look new. */
	for (size_t i = 0; i < g->vertex_capacity; i++)
		g->side[0].labels[i].seen = g->side[1].labels[i].seen = 0;
	g->generation = 1;
}

/* The node before `node` on the way from the start of this side. */
static uint32_t before(const struct graph *g, unsigned from, uint32_t node)
{
	return g->halves[g->side[from].labels[node].via ^ 1].to;
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
	path->cost = best->cost;
	for (uint32_t n = best->node; n != from; n = before(g, 0, n)) {
		uint32_t edge = g->side[0].labels[n].via / 2;
		path->hops[--head] = (struct graph_hop){edge, g->edges[edge].tag, n};
	}
	for (uint32_t n = best->node; n != to; n = before(g, 1, n)) {
		uint32_t edge = g->side[1].labels[n].via / 2;
		path->hops[tail++] = (struct graph_hop){edge, g->edges[edge].tag, before(g, 1, n)};
	}
	return 0;
}

static bool may_step(const struct graph *g, uint32_t node, uint32_t from, uint32_t to)
{
	const struct vertex *v = &g->vertices[node];
	return !v->blocked && (!v->no_transit || node == from || node == to);
}

int graph_find(struct graph *g, uint32_t from, uint32_t to, struct graph_path *path)
{
	struct meeting best = {.cost = UINT64_MAX};
	assert(from < g->vertex_count && to < g->vertex_count);
	path->count = 0;
	path->cost = 0;
	if (g->vertices[from].blocked || g->vertices[to].blocked)
		return -ENETUNREACH;
	if (from == to)
		return 0;
	new_generation(g);
	relax(g, 0, from, 0, GRAPH_NONE, &best);
	relax(g, 1, to, 0, GRAPH_NONE, &best);
	while (g->side[0].heap_count && g->side[1].heap_count) {
		uint64_t top[2] = {heap_top(&g->side[0]), heap_top(&g->side[1])};
		if (top[0] + top[1] >= best.cost)
			break;
		unsigned from_end = top[1] < top[0];
		uint32_t node = heap_pop(&g->side[from_end]);
		uint64_t dist = top[from_end];
		for (uint32_t h = g->vertices[node].first; h != GRAPH_NONE; h = g->halves[h].next)
			if (may_step(g, g->halves[h].to, from, to))
				relax(g, from_end, g->halves[h].to, dist + g->edges[h / 2].cost, h,
				      &best);
	}
	return best.cost == UINT64_MAX ? -ENETUNREACH : path_build(g, from, to, &best, path);
}

void graph_path_free(struct graph_path *path)
{
	free(path->hops);
	*path = (struct graph_path){0};
}
