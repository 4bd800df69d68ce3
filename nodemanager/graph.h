/*
 * The route graph: nodes and weighted links, changed one edge at a time, and shortest paths over
 * it. Everything lives in flat arrays with free lists; a query reuses scratch that belongs to the
 * graph (generation marks, so nothing is cleared), and searches from both ends until they meet.
 * Several edges between the same two nodes are fine; the cheapest wins.  Undirected: one cost for
 * both ways.
 */
#ifndef NODEMANAGER_GRAPH_H
#define NODEMANAGER_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GRAPH_NONE UINT32_MAX

/* One step of a path: over `edge` to `node`.  `tag` is what the edge was added with. */
struct graph_hop {
	uint32_t edge, tag, node;
};

/* Reusable result; zero it before the first use, free with graph_path_free. */
struct graph_path {
	struct graph_hop *hops;
	size_t count, capacity;
	uint64_t cost;
};

struct graph;

struct graph *graph_new(void); /* NULL: out of memory */
void graph_free(struct graph *g);
/* Index of a new node (indexes of removed nodes are used again), or GRAPH_NONE: out of memory. */
uint32_t graph_node_add(struct graph *g);
/* Removes the node's edges too. */
void graph_node_remove(struct graph *g, uint32_t node);
/* A blocked node is no relay and no end of a path, but keeps its edges.  New nodes are not blocked.
 */
void graph_node_block(struct graph *g, uint32_t node, bool blocked);
/* A node without transit may begin or end a path but is never in the middle.  New nodes have it. */
void graph_node_set_transit(struct graph *g, uint32_t node, bool transit);
/* May the node be in the middle of a path? */
bool graph_node_relays(const struct graph *g, uint32_t node);
bool graph_node_blocked(const struct graph *g, uint32_t node);
/* All node indexes, and all edge indexes, are below this. */
uint32_t graph_node_limit(const struct graph *g);
uint32_t graph_edge_limit(const struct graph *g);
/* Index of the new edge, or GRAPH_NONE: out of memory.  `cost` is at least 1; `a` != `b`. */
uint32_t graph_edge_add(struct graph *g, uint32_t a, uint32_t b, uint32_t cost, uint32_t tag);
void graph_edge_remove(struct graph *g, uint32_t edge);
void graph_edge_set_cost(struct graph *g, uint32_t edge, uint32_t cost);
uint32_t graph_edge_cost(const struct graph *g, uint32_t edge);
size_t graph_edge_count(const struct graph *g);
/*
 * Cheapest path between two nodes.  0 with the hops in order (none when from == to), -ENETUNREACH,
 * -ENOMEM.
 */
int graph_find(struct graph *g, uint32_t from, uint32_t to, struct graph_path *path);
/* Nodes whose edges the last graph_find has followed: how much of the graph it looked at. */
size_t graph_find_work(const struct graph *g);
/*
 * The same with ties broken by `seed`: among paths of equal cost each seed has its own favourite,
 * so that many connections spread over them and each one stays with what it had.  Paths of up to
 * GRAPH_SPREAD_HOPS are never dearer than those of graph_find.
 */
#define GRAPH_SPREAD_HOPS 127
int graph_find_spread(struct graph *g, uint32_t from, uint32_t to, uint64_t seed,
		      struct graph_path *path);
/*
 * Large graphs: a few marks in it show queries the way (graph_mark.c), so that they look at a small
 * part of it; answers are the same with and without.  Making them and keeping them is background
 * work, to be done in little pieces: so many steps of about a microsecond each, and now and then
 * one that looks at each node once.  True: there is more to do.
 */
bool graph_tend(struct graph *g, size_t steps);
/* No path between the two costs less; 0 without marks. */
uint32_t graph_bound(const struct graph *g, uint32_t a, uint32_t b);
/*
 * Walks the edges of a node: *walk is GRAPH_NONE at first.  False at the end; else `hop` is the
 * edge and where it leads.  The graph must not change meanwhile.
 */
bool graph_edge_next(const struct graph *g, uint32_t node, uint32_t *walk, struct graph_hop *hop);
/* The cheapest edge between two neighbours (blocked or not), or GRAPH_NONE. */
uint32_t graph_edge_between(const struct graph *g, uint32_t a, uint32_t b);
uint32_t graph_edge_tag(const struct graph *g, uint32_t edge);
void graph_path_free(struct graph_path *path);
#endif
