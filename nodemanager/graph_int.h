/* The graph's memory, shared by its parts (graph.c edits, graph_find.c queries, graph_mark.c keeps
 * the marks) and by nobody else. */
#ifndef NODEMANAGER_GRAPH_INT_H
#define NODEMANAGER_GRAPH_INT_H

#include <stdalign.h>

#include "nodemanager/graph.h"

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

#define MARKS 4

/* All that a query wants to know of a vertex is in one line of the cache. */
struct vertex {
	alignas(64) struct label label[2];
	uint32_t first;	      /* block in the pool; of a free slot: the next free one */
	uint32_t count;	      /* half-edges */
	uint32_t settled;     /* in the query of this generation, by either side */
	uint32_t mark[MARKS]; /* graph_mark.c */
	uint8_t class;	      /* the block has room for BLOCK_MIN << class of them; NO_BLOCK */
	bool used, blocked, no_transit;
};
_Static_assert(sizeof(struct vertex) == 64, "one cache line");

#define BLOCK_MIN 4u
#define BLOCK_CLASSES 24u
#define NO_BLOCK UINT8_MAX

/* Not taken out when a better one comes for its node: then it is stale, and passed over at the top.
 */
struct entry {
	uint64_t key;
	uint32_t node;
};

/* Four children a node, which are one line of the cache: the root is at HEAP_ROOT. */
struct heap {
	struct entry *at;
	size_t end, capacity; /* `end` 0: empty, nothing allocated yet */
};
#define HEAP_ROOT 3u

struct graph {
	struct vertex *vertices;
	size_t vertex_count, vertex_capacity;
	struct half *pool;
	size_t pool_used, pool_capacity;
	uint32_t free_block[BLOCK_CLASSES]; /* `to` of its first half-edge is the next */
	struct edge *edges;
	size_t edge_slots, edge_capacity, edge_count;
	uint32_t free_vertex, free_edge;
	/* The query that runs. */
	struct heap side[2]; /* it searches from both ends at once */
	uint32_t generation;
	size_t work;
	uint64_t seed; /* 0: ties are broken by chance */
	bool out_of_memory;
	/* graph_mark.c */
	struct {
		struct heap heap; /* vertices whose neighbours may lie too far from them */
		bool made;	  /* it holds as soon as the heap is empty */
	} marks[MARKS];
	size_t marks_made; /* so often has one been made: the next is this modulo MARKS */
	size_t wear;	   /* edits since then */
};

static inline bool heap_is_empty(const struct heap *h)
{
	return h->end <= HEAP_ROOT;
}

static inline size_t heap_count(const struct heap *h)
{
	return heap_is_empty(h) ? 0 : h->end - HEAP_ROOT;
}

bool heap_push(struct heap *h, uint64_t key, uint32_t node); /* false: out of memory */
void heap_pop(struct heap *h);				     /* not an empty one */

/* The edge between these two is new or has become cheaper. */
void graph_mark_edge(struct graph *g, uint32_t a, uint32_t b, uint32_t cost);
/* A new vertex has no edges, so that any mark is right. */
void graph_mark_vertex(struct vertex *v);
void graph_marks_free(struct graph *g);

/* Which marks hold now, as bits. */
unsigned graph_marks_held(const struct graph *g);

#define MARK_FAR (UINT32_MAX / 2)

/* No path between the two costs less.  `held`: graph_marks_held. */
static inline uint32_t mark_bound(const struct vertex *v, const uint32_t mark[MARKS], unsigned held)
{
	uint32_t bound = 0;
	for (unsigned i = 0; i < MARKS; i++) {
		uint32_t a = v->mark[i], b = mark[i], between = a < b ? b - a : a - b;
		if (held & 1u << i && between > bound)
			bound = between;
	}
	return bound;
}
/* The half-edges of a node, up to *end; none where it has none (then there may be no pool at all).
 */
static inline const struct half *graph_halves(const struct graph *g, uint32_t node,
					      const struct half **end)
{
	static const struct half none;
	const struct vertex *v = &g->vertices[node];
	const struct half *h = v->count ? &g->pool[v->first] : &none;
	*end = h + v->count;
	return h;
}

#endif
