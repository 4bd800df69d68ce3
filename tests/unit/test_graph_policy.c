/* What the graph does beyond shortest paths: nodes without transit, and ties that spread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "nodemanager/graph.h"

static uint64_t seed_state = 1;
static uint32_t rnd(uint32_t below)
{
	seed_state = seed_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed_state >> 33) % below;
}

static void test_transit(void **state)
{
	(void)state;
	struct graph *g = graph_new();
	struct graph_path p = {0};
	uint32_t n[4];
	for (size_t i = 0; i < 4; i++)
		n[i] = graph_node_add(g);
	graph_edge_add(g, n[0], n[1], 1, 0);
	graph_edge_add(g, n[1], n[3], 1, 0);
	graph_edge_add(g, n[0], n[2], 5, 0);
	graph_edge_add(g, n[2], n[3], 5, 0);
	graph_node_set_transit(g, n[1], false);
	assert_false(graph_node_relays(g, n[1]));
	assert_int_equal(graph_find(g, n[0], n[3], &p), 0);
	assert_int_equal(p.cost, 10);
	assert_int_equal(graph_find(g, n[0], n[1], &p), 0); /* its own paths */
	assert_int_equal(p.cost, 1);
	assert_int_equal(graph_find(g, n[1], n[2], &p), 0);
	assert_int_equal(p.cost, 6);
	graph_node_set_transit(g, n[2], false);
	assert_int_equal(graph_find(g, n[0], n[3], &p), -ENETUNREACH);
	assert_int_equal(graph_find(g, n[1], n[2], &p), 0); /* over node 0 or 3, which have it */
	graph_node_set_transit(g, n[1], true);
	assert_int_equal(graph_find(g, n[0], n[3], &p), 0);
	assert_int_equal(p.cost, 2);
	/* A new node in the place of an old one has transit. */
	graph_node_set_transit(g, n[1], false);
	graph_node_remove(g, n[1]);
	assert_int_equal(graph_node_add(g), n[1]);
	assert_true(graph_node_relays(g, n[1]));
	graph_path_free(&p);
	graph_free(g);
}

#define NODES 30

/* Transit and seeds against Bellman-Ford that never leaves a node without transit. */
struct model {
	bool transit[NODES];
	size_t count;
	struct {
		uint32_t a, b, cost;
	} edges[3 * NODES];
};

static uint64_t naive(const struct model *m, uint32_t from, uint32_t to)
{
	uint64_t dist[NODES];
	for (size_t i = 0; i < NODES; i++)
		dist[i] = UINT64_MAX;
	dist[from] = 0;
	for (size_t round = 0; round < NODES; round++)
		for (size_t i = 0; i < 2 * m->count; i++) {
			uint32_t a = i % 2 ? m->edges[i / 2].a : m->edges[i / 2].b;
			uint32_t b = i % 2 ? m->edges[i / 2].b : m->edges[i / 2].a;
			if (dist[a] == UINT64_MAX || (a != from && !m->transit[a]))
				continue;
			if (dist[a] + m->edges[i / 2].cost < dist[b])
				dist[b] = dist[a] + m->edges[i / 2].cost;
		}
	return dist[to];
}

static void check_pair(struct graph *g, const struct model *m, struct graph_path *p)
{
	uint32_t from = rnd(NODES), to = rnd(NODES);
	uint64_t want = naive(m, from, to), seed = rnd(2) ? 0 : rnd(1000);
	int err = graph_find_spread(g, from, to, seed, p);
	assert_int_equal(err, want == UINT64_MAX ? -ENETUNREACH : 0);
	if (err)
		return;
	assert_int_equal(p->cost, want);
	for (size_t i = 0; i + 1 < p->count; i++)
		assert_true(m->transit[p->hops[i].node]);
}

static void test_against_naive(void **state)
{
	(void)state;
	struct graph_path p = {0};
	for (unsigned round = 0; round < 50; round++) {
		struct model m = {0};
		struct graph *g = graph_new();
		for (uint32_t i = 0; i < NODES; i++) {
			assert_int_equal(graph_node_add(g), i);
			m.transit[i] = rnd(4) != 0;
			graph_node_set_transit(g, i, m.transit[i]);
		}
		for (; m.count < 2 * NODES; m.count++) {
			uint32_t a = rnd(NODES), b = (a + 1 + rnd(NODES - 1)) % NODES;
			m.edges[m.count].a = a;
			m.edges[m.count].b = b;
			m.edges[m.count].cost = 1 + rnd(4);
			graph_edge_add(g, a, b, m.edges[m.count].cost, 0);
		}
		for (unsigned i = 0; i < 100; i++)
			check_pair(g, &m, &p);
		graph_free(g);
	}
	graph_path_free(&p);
}

/* 100 connections over a diamond of 2 to 4 equal sides use all of them, and each keeps to its own.
 */
static void test_spread(void **state)
{
	(void)state;
	for (uint32_t sides = 2; sides <= 4; sides++) {
		struct graph *g = graph_new();
		struct graph_path p = {0};
		unsigned used[4] = {0};
		uint32_t a = graph_node_add(g), b = graph_node_add(g);
		for (uint32_t i = 0; i < sides; i++) {
			uint32_t middle = graph_node_add(g);
			graph_edge_add(g, a, middle, 110, i);
			graph_edge_add(g, middle, b, 110, i);
		}
		for (uint32_t i = 0; i < 100; i++) {
			uint64_t seed = (uint64_t)rnd(UINT32_MAX) << 32 | i;
			assert_int_equal(graph_find_spread(g, a, b, seed, &p), 0);
			assert_int_equal(p.cost, 220);
			uint32_t side = p.hops[0].tag;
			used[side]++;
			assert_int_equal(graph_find_spread(g, a, b, seed, &p), 0);
			assert_int_equal(p.hops[0].tag, side);
		}
		for (uint32_t i = 0; i < sides; i++)
			assert_in_range(used[i], 60 / sides, 140 / sides);
		/* A cost that differs by the least is no tie. */
		graph_edge_set_cost(g, 0, 109);
		for (uint32_t i = 0; i < 100; i++) {
			assert_int_equal(graph_find_spread(g, a, b, i + 1, &p), 0);
			assert_int_equal(p.hops[0].tag, 0);
		}
		graph_path_free(&p);
		graph_free(g);
	}
}

/* The noise never outweighs a unit of cost, as far as it is promised. */
static void test_long_paths(void **state)
{
	(void)state;
	struct graph *g = graph_new();
	struct graph_path p = {0};
	uint32_t first = graph_node_add(g), at = first;
	for (uint32_t i = 0; i < GRAPH_SPREAD_HOPS; i++) {
		uint32_t next = graph_node_add(g);
		graph_edge_add(g, at, next, 7, 0);
		at = next;
	}
	graph_edge_add(g, first, at, 7 * GRAPH_SPREAD_HOPS + 1, 1); /* shorter, dearer by one */
	for (uint64_t seed = 1; seed < 200; seed++) {
		assert_int_equal(graph_find_spread(g, first, at, seed, &p), 0);
		assert_int_equal(p.count, GRAPH_SPREAD_HOPS);
		assert_int_equal(p.cost, 7 * GRAPH_SPREAD_HOPS);
	}
	graph_path_free(&p);
	graph_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transit),
		cmocka_unit_test(test_against_naive),
		cmocka_unit_test(test_spread),
		cmocka_unit_test(test_long_paths),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
