/*
 * Paths that share nothing: k of them with the least cost in all (successive shortest paths with
 * potentials, as Suurballe and Bhandari do for two).  The first is not always the shortest path:
 * what counts is the sum.
 */
#ifndef NODEMANAGER_DISJOINT_H
#define NODEMANAGER_DISJOINT_H

#include "nodemanager/graph.h"

#define DISJOINT_MAX 8 /* paths of one query */

enum disjoint {
	DISJOINT_NODES, /* no node in common but the ends */
	DISJOINT_EDGES, /* no edge in common */
};

/*
 * Fills up to `k` paths (1 to DISJOINT_MAX; each zeroed before its first use), cheapest first, and
 * says in *found how many there are.  *work: how many nodes may be looked at, counted down; when
 * nothing is left there may be more paths than were found (those found are the cheapest that many).
 * For people who ask, not for every connection.  0, -EINVAL (from == to, k), -ENETUNREACH (none),
 * -ENOMEM.
 */
int graph_find_disjoint(const struct graph *g, uint32_t from, uint32_t to, enum disjoint what,
			size_t k, size_t *work, struct graph_path *paths, size_t *found);
#endif
