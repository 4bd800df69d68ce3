#include "nodemanager/graph_int.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
	free(g->side[0].at);
	free(g->side[1].at);
	graph_marks_free(g);
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
	graph_mark_vertex(&g->vertices[node]);
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
	g->wear++;
	graph_mark_edge(g, a, b, cost);
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
	g->wear++;
}

void graph_edge_set_cost(struct graph *g, uint32_t edge, uint32_t cost)
{
	assert(edge_used(g, edge) && cost > 0);
	struct edge *e = &g->edges[edge];
	struct half *a = &g->pool[e->at[0]], *b = &g->pool[e->at[1]];
	bool cheaper = cost < e->cost;
	e->cost = a->cost = b->cost = cost;
	g->wear++;
	if (cheaper)
		graph_mark_edge(g, b->to, a->to, cost);
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

void graph_path_free(struct graph_path *path)
{
	free(path->hops);
	*path = (struct graph_path){0};
}
