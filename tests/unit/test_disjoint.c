/* Paths that share nothing, against all there are: every set of simple paths of a small graph. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "nodemanager/disjoint.h"

#define NODES 7
#define EDGES 12
#define WAYS_MAX 4096

static uint64_t seed_state = 1;
static uint32_t rnd(uint32_t below)
{
	seed_state = seed_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed_state >> 33) % below;
}

static size_t *unlimited(void)
{
	static size_t work;
	work = SIZE_MAX;
	return &work;
}

struct model {
	bool transit[NODES];
	size_t count;
	struct {
		uint32_t a, b, cost;
	} edges[EDGES];
};

/* A simple path as sets of what it uses. */
struct way {
	uint32_t nodes, edges; /* bits; `nodes` without the ends */
	uint64_t cost;
};

struct ways {
	const struct model *m;
	uint32_t to;
	size_t count;
	struct way way[WAYS_MAX];
};

static void collect(struct ways *w, uint32_t at, uint32_t seen, struct way so_far)
{
	for (size_t i = 0; i < w->m->count; i++) {
		uint32_t a = w->m->edges[i].a, b = w->m->edges[i].b;
		if (a != at && b != at)
			continue;
		uint32_t next = a == at ? b : a;
		struct way way = so_far;
		way.edges |= 1u << i;
		way.cost += w->m->edges[i].cost;
		if (next == w->to) {
			assert_true(w->count < WAYS_MAX);
			w->way[w->count++] = way;
		} else if (!(seen & 1u << next) && w->m->transit[next]) {
			way.nodes |= 1u << next;
			collect(w, next, seen | 1u << next, way);
		}
	}
}

struct best {
	size_t count;
	uint64_t cost;
};

/* The most paths, at most k, and among those the least cost. */
static void choose(const struct ways *w, enum disjoint what, size_t k, size_t first,
		   struct way used, size_t count, struct best *best)
{
	if (count > best->count || (count == best->count && used.cost < best->cost))
		*best = (struct best){count, used.cost};
	if (count == k)
		return;
	for (size_t i = first; i < w->count; i++) {
		const struct way *way = &w->way[i];
		bool shares = what == DISJOINT_NODES
				      ? (way->nodes & used.nodes) || (way->edges & used.edges)
				      : (way->edges & used.edges) != 0;
		if (shares)
			continue;
		struct way more = {used.nodes | way->nodes, used.edges | way->edges,
				   used.cost + way->cost};
		choose(w, what, k, i + 1, more, count + 1, best);
	}
}

/* Real paths that share nothing; their cost in all. */
static uint64_t check_paths(const struct model *m, enum disjoint what, uint32_t from, uint32_t to,
			    const struct graph_path *paths, size_t count)
{
	uint32_t nodes = 0, edges = 0;
	uint64_t sum = 0;
	for (size_t p = 0; p < count; p++) {
		uint32_t at = from;
		uint64_t cost = 0;
		for (size_t i = 0; i < paths[p].count; i++) {
			const struct graph_hop *h = &paths[p].hops[i];
			uint32_t a = m->edges[h->tag].a, b = m->edges[h->tag].b;
			assert_true((a == at && b == h->node) || (b == at && a == h->node));
			assert_false(edges & 1u << h->tag);
			edges |= 1u << h->tag;
			cost += m->edges[h->tag].cost;
			at = h->node;
			if (at == to)
				continue;
			assert_true(m->transit[at]);
			assert_false(what == DISJOINT_NODES && nodes & 1u << at);
			nodes |= 1u << at;
		}
		assert_int_equal(at, to);
		assert_int_equal(cost, paths[p].cost);
		assert_true(p == 0 || paths[p - 1].cost <= cost);
		sum += cost;
	}
	return sum;
}

static struct graph *random_graph(struct model *m)
{
	struct graph *g = graph_new();
	for (uint32_t i = 0; i < NODES; i++) {
		assert_int_equal(graph_node_add(g), i);
		m->transit[i] = rnd(8) != 0;
		graph_node_set_transit(g, i, m->transit[i]);
	}
	for (m->count = 0; m->count < 6 + rnd(EDGES - 5); m->count++) {
		uint32_t a = rnd(NODES), b = (a + 1 + rnd(NODES - 1)) % NODES;
		uint32_t cost = 1 + rnd(9);
		m->edges[m->count].a = a;
		m->edges[m->count].b = b;
		m->edges[m->count].cost = cost;
		graph_edge_add(g, a, b, cost, (uint32_t)m->count);
	}
	return g;
}

static void test_against_all(void **state)
{
	(void)state;
	struct graph_path paths[DISJOINT_MAX] = {0};
	static struct ways ways;
	size_t several = 0;
	for (unsigned round = 0; round < 3000; round++) {
		struct model m;
		struct graph *g = random_graph(&m);
		enum disjoint what = rnd(2) ? DISJOINT_NODES : DISJOINT_EDGES;
		uint32_t from = rnd(NODES), to = (from + 1 + rnd(NODES - 1)) % NODES;
		size_t k = 1 + rnd(3), found;
		struct best best = {0};
		ways.m = &m;
		ways.to = to;
		ways.count = 0;
		collect(&ways, from, 1u << from, (struct way){0});
		choose(&ways, what, k, 0, (struct way){0}, 0, &best);
		if (rnd(2)) /* with marks or without */
			while (graph_tend(g, 10))
				;
		int err = graph_find_disjoint(g, from, to, what, k, unlimited(), paths, &found);
		assert_int_equal(err, best.count ? 0 : -ENETUNREACH);
		assert_int_equal(found, best.count);
		assert_int_equal(check_paths(&m, what, from, to, paths, found), best.cost);
		several += found > 1;
		graph_free(g);
	}
	assert_true(several > 500);
	for (size_t i = 0; i < DISJOINT_MAX; i++)
		graph_path_free(&paths[i]);
}

/* The shortest path must not be one of the two: a - b - c - d is in the way of both. */
static void test_trap(void **state)
{
	(void)state;
	struct graph *g = graph_new();
	struct graph_path paths[3] = {0};
	uint32_t n[6];
	size_t found;
	for (size_t i = 0; i < 6; i++)
		n[i] = graph_node_add(g);
	graph_edge_add(g, n[0], n[1], 1, 0);
	graph_edge_add(g, n[1], n[2], 1, 0);
	graph_edge_add(g, n[2], n[3], 1, 0);
	graph_edge_add(g, n[0], n[2], 4, 0);
	graph_edge_add(g, n[1], n[3], 4, 0);
	assert_int_equal(
		graph_find_disjoint(g, n[0], n[3], DISJOINT_NODES, 1, unlimited(), paths, &found),
		0);
	assert_int_equal(found, 1);
	assert_int_equal(paths[0].cost, 3);
	assert_int_equal(
		graph_find_disjoint(g, n[0], n[3], DISJOINT_NODES, 3, unlimited(), paths, &found),
		0);
	assert_int_equal(found, 2);
	assert_int_equal(paths[0].cost + paths[1].cost, 10);
	assert_int_equal(
		graph_find_disjoint(g, n[0], n[0], DISJOINT_NODES, 1, unlimited(), paths, &found),
		-EINVAL);
	assert_int_equal(
		graph_find_disjoint(g, n[0], n[3], DISJOINT_NODES, 0, unlimited(), paths, &found),
		-EINVAL);
	assert_int_equal(
		graph_find_disjoint(g, n[0], n[5], DISJOINT_EDGES, 2, unlimited(), paths, &found),
		-ENETUNREACH);
	graph_node_block(g, n[3], true);
	assert_int_equal(
		graph_find_disjoint(g, n[0], n[3], DISJOINT_EDGES, 2, unlimited(), paths, &found),
		-ENETUNREACH);
	for (size_t i = 0; i < 3; i++)
		graph_path_free(&paths[i]);
	graph_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_all),
		cmocka_unit_test(test_trap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
