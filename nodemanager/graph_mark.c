/*
 * Marks: a few nodes far from each other, and of every node how far it is from each of them.  Two
 * nodes whose distances to the same mark differ by d are at least d apart, which is what lets a
 * query look in the right direction (Goldberg and Harrelson's landmarks).
 *
 * What a query needs is not that the distances are right, only that those of two neighbours never
 * differ by more than their edge costs.  So an edge that goes or becomes dearer changes nothing,
 * and one that comes or becomes cheaper is checked by itself: where it breaks the rule the farther
 * end comes nearer, and waits in the heap of the mark until its neighbours have been looked at too.
 * Making a mark is the same: all are far, and one comes near.  While its heap is not empty a mark
 * is not used.  Edits make marks loose, never wrong; each is made anew now and then.
 */
#include "nodemanager/graph_int.h"

#include <stdlib.h>

#define AT_ONCE 16u	 /* so much of a repair is done with the edit */
#define WEAR_MIN 20000u	 /* edits, */
#define WEAR_PART 4u	 /* or this part of the edges, whatever is more: one is made anew */
#define HEAP_LIMIT 8u	 /* times the vertices: one with more is given up */
#define HEAP_LEAST 1024u /* whatever the vertices */

static bool is_held(const struct graph *g, unsigned i)
{
	return g->marks[i].made && heap_is_empty(&g->marks[i].heap);
}

unsigned graph_marks_held(const struct graph *g)
{
	unsigned held = 0;
	for (unsigned i = 0; i < MARKS; i++)
		held |= (unsigned)is_held(g, i) << i;
	return held;
}

static uint32_t beyond(uint32_t mark, uint32_t cost)
{
	return cost >= MARK_FAR - mark ? MARK_FAR : mark + cost;
}

static void give_up(struct graph *g, unsigned i)
{
	g->marks[i].made = false;
	g->marks[i].heap.end = 0;
}

static void come_nearer(struct graph *g, unsigned i, uint32_t node, uint32_t mark)
{
	struct heap *heap = &g->marks[i].heap;
	g->vertices[node].mark[i] = mark;
	if (heap_count(heap) > HEAP_LIMIT * g->vertex_count + HEAP_LEAST ||
	    !heap_push(heap, mark, node))
		give_up(g, i);
}

static void tend_next(struct graph *g, unsigned i)
{
	struct entry e = g->marks[i].heap.at[HEAP_ROOT];
	const struct vertex *v = &g->vertices[e.node];
	heap_pop(&g->marks[i].heap);
	if (!v->used || v->mark[i] != e.key)
		return;
	const struct half *end, *h = graph_halves(g, e.node, &end);
	for (const struct half *p = h; p < end; p++)
		__builtin_prefetch(&g->vertices[p->to], 1);
	for (; h < end && g->marks[i].made; h++) {
		uint32_t mark = beyond(v->mark[i], h->cost);
		if (mark < g->vertices[h->to].mark[i])
			come_nearer(g, i, h->to, mark);
	}
}

static size_t tend(struct graph *g, unsigned i, size_t steps)
{
	for (; steps && !heap_is_empty(&g->marks[i].heap); steps--)
		tend_next(g, i);
	return steps;
}

void graph_mark_edge(struct graph *g, uint32_t a, uint32_t b, uint32_t cost)
{
	for (unsigned i = 0; i < MARKS; i++) {
		if (!g->marks[i].made)
			continue;
		bool held = is_held(g, i);
		uint32_t at_a = g->vertices[a].mark[i], at_b = g->vertices[b].mark[i];
		if (beyond(at_b, cost) < at_a)
			come_nearer(g, i, a, beyond(at_b, cost));
		else if (beyond(at_a, cost) < at_b)
			come_nearer(g, i, b, beyond(at_a, cost));
		if (held) /* otherwise it is not up to this edge alone */
			tend(g, i, AT_ONCE);
	}
}

void graph_mark_vertex(struct vertex *v)
{
	for (unsigned i = 0; i < MARKS; i++)
		v->mark[i] = MARK_FAR;
}

/* --- making one ------------------------------------------------------------------------------- */

/* How far it is from the nearest mark but `i`; 0: no place for one. */
static uint32_t seclusion(const struct graph *g, const struct vertex *v, unsigned i)
{
	uint32_t nearest = MARK_FAR;
	if (!v->used || !v->count)
		return 0;
	for (unsigned j = 0; j < MARKS; j++)
		if (j != i && g->marks[j].made && v->mark[j] < nearest)
			nearest = v->mark[j];
	return nearest;
}

/* Out of reach of all others is as good as next to them: it is in a mesh of its own. */
static void make(struct graph *g, unsigned i)
{
	uint32_t best = GRAPH_NONE, best_seclusion = 0;
	give_up(g, i);
	for (uint32_t n = 0; n < g->vertex_count; n++) {
		struct vertex *v = &g->vertices[n];
		uint32_t s = seclusion(g, v, i);
		v->mark[i] = MARK_FAR;
		s = s == MARK_FAR ? 1 : s;
		if (s <= best_seclusion)
			continue;
		best = n;
		best_seclusion = s;
	}
	if (best == GRAPH_NONE)
		return;
	g->marks[i].made = true;
	come_nearer(g, i, best, 0);
}

/* The first is made once more: there was nothing to be far from. */
static bool is_due(const struct graph *g)
{
	size_t most = g->edge_count / WEAR_PART;
	return g->edge_count &&
	       (g->marks_made <= MARKS || g->wear > (most < WEAR_MIN ? WEAR_MIN : most));
}

bool graph_tend(struct graph *g, size_t steps)
{
	for (unsigned i = 0; i < MARKS; i++)
		steps = tend(g, i, steps);
	if (!steps)
		return true;
	if (!is_due(g))
		return false;
	make(g, (unsigned)(g->marks_made++ % MARKS));
	g->wear = 0;
	return true;
}

uint32_t graph_bound(const struct graph *g, uint32_t a, uint32_t b)
{
	return mark_bound(&g->vertices[a], g->vertices[b].mark, graph_marks_held(g));
}

void graph_marks_free(struct graph *g)
{
	for (unsigned i = 0; i < MARKS; i++)
		free(g->marks[i].heap.at);
}
