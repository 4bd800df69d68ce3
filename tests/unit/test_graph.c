/* The route graph against a naive Bellman-Ford on random graphs under random edits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nodemanager/graph.h"

#define NODES 40
#define EDGES 160
#define INFINITE UINT64_MAX

struct model {
	bool used[NODES], blocked[NODES], no_transit[NODES];
	struct {
		bool used;
		uint32_t a, b, cost, id;
	} edge[EDGES];
};

static uint64_t seed_state;
static uint32_t rnd(uint32_t below)
{
	seed_state = seed_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed_state >> 33) % below;
}

static uint64_t naive(const struct model *m, uint32_t from, uint32_t to)
{
	uint64_t dist[NODES];
	for (size_t i = 0; i < NODES; i++)
		dist[i] = INFINITE;
	if (m->blocked[from] || m->blocked[to])
		return INFINITE;
	dist[from] = 0;
	for (size_t round = 0; round < NODES; round++)
		for (size_t i = 0; i < EDGES; i++) {
			if (!m->edge[i].used)
				continue;
			uint32_t a = m->edge[i].a, b = m->edge[i].b, c = m->edge[i].cost;
			if (m->blocked[a] || m->blocked[b])
				continue;
			bool a_ok = a == from || !m->no_transit[a];
			bool b_ok = b == from || !m->no_transit[b];
			if (a_ok && dist[a] != INFINITE && dist[a] + c < dist[b])
				dist[b] = dist[a] + c;
			if (b_ok && dist[b] != INFINITE && dist[b] + c < dist[a])
				dist[a] = dist[b] + c;
		}
	return dist[to];
}

/* The hops must be real edges in a chain whose costs add up. */
static void check_path(const struct graph *g, const struct model *m, const struct graph_path *p,
		       uint32_t from, uint32_t to)
{
	uint64_t sum = 0;
	uint32_t at = from;
	for (size_t i = 0; i < p->count; i++) {
		const struct graph_hop *h = &p->hops[i];
		uint32_t slot = h->tag;
		assert_true(slot < EDGES && m->edge[slot].used && m->edge[slot].id == h->edge);
		assert_true((m->edge[slot].a == at && m->edge[slot].b == h->node) ||
			    (m->edge[slot].b == at && m->edge[slot].a == h->node));
		assert_int_equal(graph_edge_cost(g, h->edge), m->edge[slot].cost);
		sum += m->edge[slot].cost;
		at = h->node;
	}
	assert_int_equal(at, to);
	assert_int_equal(sum, p->cost);
}

static void check_find(struct graph *g, const struct model *m, struct graph_path *p)
{
	uint32_t from = rnd(NODES), to = rnd(NODES);
	if (!m->used[from] || !m->used[to])
		return;
	uint64_t want = naive(m, from, to);
	int err = graph_find(g, from, to, p);
	if (want == INFINITE) {
		assert_int_equal(err, -ENETUNREACH);
		return;
	}
	assert_int_equal(err, 0);
	assert_int_equal(p->cost, want);
	check_path(g, m, p, from, to);
}

static void edit_edge(struct graph *g, struct model *m)
{
	uint32_t slot = rnd(EDGES);
	if (m->edge[slot].used && rnd(3) == 0) {
		graph_edge_remove(g, m->edge[slot].id);
		m->edge[slot].used = false;
	} else if (m->edge[slot].used) {
		m->edge[slot].cost = 1 + rnd(1000);
		graph_edge_set_cost(g, m->edge[slot].id, m->edge[slot].cost);
	} else {
		uint32_t a = rnd(NODES), b = rnd(NODES);
		if (a == b || !m->used[a] || !m->used[b])
			return;
		m->edge[slot].used = true;
		m->edge[slot].a = a;
		m->edge[slot].b = b;
		m->edge[slot].cost = 1 + rnd(rnd(2) ? 3 : 1000);
		m->edge[slot].id = graph_edge_add(g, a, b, m->edge[slot].cost, slot);
		assert_int_not_equal(m->edge[slot].id, GRAPH_NONE);
	}
}

static void edit_node(struct graph *g, struct model *m)
{
	uint32_t n = rnd(NODES);
	if (!m->used[n])
		return;
	if (rnd(2)) {
		m->no_transit[n] = !m->no_transit[n];
		graph_node_set_transit(g, n, !m->no_transit[n]);
		return;
	}
	if (rnd(2)) {
		m->blocked[n] = !m->blocked[n];
		graph_node_block(g, n, m->blocked[n]);
		return;
	}
	graph_node_remove(g, n);
	for (size_t i = 0; i < EDGES; i++)
		if (m->edge[i].a == n || m->edge[i].b == n)
			m->edge[i].used = false;
	/* The freed index is the next one given out. */
	assert_int_equal(graph_node_add(g), n);
	m->blocked[n] = m->no_transit[n] = false;
}

static void test_against_naive(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 20; seed++) {
		struct model m = {0};
		struct graph_path p = {0};
		struct graph *g = graph_new();
		seed_state = seed;
		for (uint32_t i = 0; i < NODES; i++) {
			assert_int_equal(graph_node_add(g), i);
			m.used[i] = true;
		}
		for (unsigned step = 0; step < 3000; step++) {
			edit_edge(g, &m);
			if (rnd(40) == 0)
				edit_node(g, &m);
			if (seed % 2 && rnd(8) == 0) /* without marks, half made, and whole */
				graph_tend(g, rnd(40));
			if (rnd(4) == 0)
				check_find(g, &m, &p);
		}
		graph_path_free(&p);
		graph_free(g);
	}
}

static void test_parallel_edges(void **state)
{
	(void)state;
	struct graph *g = graph_new();
	struct graph_path p = {0};
	uint32_t a = graph_node_add(g), b = graph_node_add(g);
	uint32_t slow = graph_edge_add(g, a, b, 50, 1), fast = graph_edge_add(g, a, b, 10, 2);
	assert_int_equal(graph_find(g, a, b, &p), 0);
	assert_int_equal(p.count, 1);
	assert_int_equal(p.hops[0].tag, 2);
	assert_int_equal(graph_edge_between(g, b, a), fast);
	graph_edge_set_cost(g, fast, 60);
	assert_int_equal(graph_find(g, b, a, &p), 0);
	assert_int_equal(p.hops[0].edge, slow);
	graph_edge_remove(g, slow);
	assert_int_equal(graph_edge_between(g, a, b), fast);
	graph_edge_remove(g, fast);
	assert_int_equal(graph_edge_between(g, a, b), GRAPH_NONE);
	assert_int_equal(graph_edge_count(g), 0);
	assert_int_equal(graph_find(g, a, b, &p), -ENETUNREACH);
	assert_int_equal(graph_find(g, a, a, &p), 0);
	assert_int_equal(p.count, 0);
	graph_path_free(&p);
	graph_free(g);
}

/* Links of one node come and go by the thousand: its block grows, and holes in it are filled. */
static void test_hub(void **state)
{
	(void)state;
	enum { SPOKES = 3000 };
	struct graph *g = graph_new();
	struct graph_path p = {0};
	static uint32_t node[SPOKES], edge[SPOKES];
	uint32_t hub = graph_node_add(g);
	for (uint32_t i = 0; i < SPOKES; i++) {
		node[i] = graph_node_add(g);
		edge[i] = graph_edge_add(g, hub, node[i], i + 1, i);
	}
	for (uint32_t i = 0; i < SPOKES; i += 3)
		graph_edge_remove(g, edge[i]);
	for (uint32_t i = 1; i < SPOKES; i += 3)
		graph_edge_set_cost(g, edge[i], 2 * i);
	assert_int_equal(graph_edge_count(g), SPOKES - SPOKES / 3);
	for (uint32_t i = 0; i < SPOKES; i++) {
		assert_int_equal(graph_edge_between(g, hub, node[i]), i % 3 ? edge[i] : GRAPH_NONE);
		int err = graph_find(g, node[SPOKES - 1], node[i], &p);
		assert_int_equal(err, i % 3 ? 0 : -ENETUNREACH);
		if (!err && i != SPOKES - 1)
			assert_int_equal(p.cost, SPOKES + (i % 3 == 1 ? 2 * i : i + 1));
	}
	graph_node_remove(g, hub);
	assert_int_equal(graph_edge_count(g), 0);
	assert_int_equal(graph_find(g, node[1], node[2], &p), -ENETUNREACH);
	assert_int_equal(graph_find_work(g), 1); /* then one side is at its end */
	graph_path_free(&p);
	graph_free(g);
}

/* A blocked relay is gone round, a blocked end is no end. */
static void test_blocked(void **state)
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
	assert_int_equal(graph_find(g, n[0], n[3], &p), 0);
	assert_int_equal(p.cost, 2);
	graph_node_block(g, n[1], true);
	assert_int_equal(graph_find(g, n[0], n[3], &p), 0);
	assert_int_equal(p.cost, 10);
	assert_int_equal(graph_find(g, n[0], n[1], &p), -ENETUNREACH);
	graph_path_free(&p);
	graph_free(g);
}

#define SIDE 100u

/* A plane of streets with costs between 100 and 199. */
static struct graph *streets(void)
{
	struct graph *g = graph_new();
	for (uint32_t i = 0; i < SIDE * SIDE; i++)
		assert_int_equal(graph_node_add(g), i);
	for (uint32_t i = 0; i < SIDE * SIDE; i++) {
		if (i % SIDE)
			graph_edge_add(g, i, i - 1, 100 + rnd(100), 0);
		if (i >= SIDE)
			graph_edge_add(g, i, i - SIDE, 100 + rnd(100), 0);
	}
	return g;
}

#define ASKED 200u

struct asked {
	uint32_t from, to;
	uint64_t cost;
};

/* The cost of all; how much of the graph was looked at. */
static size_t ask_all(struct graph *g, struct asked *asked, bool first)
{
	struct graph_path p = {0};
	size_t work = 0;
	for (size_t i = 0; i < ASKED; i++) {
		struct asked *a = &asked[i];
		if (first) {
			a->from = rnd(SIDE * SIDE);
			a->to = rnd(SIDE * SIDE);
		}
		assert_int_equal(graph_find_spread(g, a->from, a->to, 7, &p), 0);
		work += graph_find_work(g);
		if (first)
			a->cost = p.cost;
		assert_int_equal(a->cost, p.cost);
		assert_true(graph_bound(g, a->from, a->to) <= p.cost);
	}
	graph_path_free(&p);
	return work;
}

/* Marks change what is looked at and nothing else, also after ten thousand edits; they are made in
 * pieces, and there is an end to it. */
static void test_marks(void **state)
{
	(void)state;
	static struct asked asked[ASKED];
	struct graph *g = streets();
	size_t plain = ask_all(g, asked, true), pieces = 0;
	while (graph_tend(g, 100)) {
		if (pieces++ % 100 == 0)
			ask_all(g, asked, false);
		assert_true(pieces < 10000);
	}
	assert_false(graph_tend(g, 100));
	size_t marked = ask_all(g, asked, false);
	assert_true(marked * 3 < plain);
	for (uint32_t i = 0; i < 10000; i++) {
		graph_edge_set_cost(g, rnd(graph_edge_limit(g)), 100 + rnd(100));
		if (i % 10 == 0)
			graph_tend(g, 10);
	}
	while (graph_tend(g, 100))
		;
	marked = ask_all(g, asked, true);
	struct graph *fresh = graph_new(); /* the same edges, and no marks */
	for (uint32_t n = 0; n < SIDE * SIDE; n++)
		graph_node_add(fresh);
	for (uint32_t n = 0; n < SIDE * SIDE; n++) {
		uint32_t walk = GRAPH_NONE;
		struct graph_hop hop;
		while (graph_edge_next(g, n, &walk, &hop))
			if (hop.node < n)
				graph_edge_add(fresh, n, hop.node, graph_edge_cost(g, hop.edge), 0);
	}
	for (size_t i = 0; i < ASKED; i++) {
		struct graph_path p = {0};
		assert_int_equal(graph_find(fresh, asked[i].from, asked[i].to, &p), 0);
		assert_int_equal(p.cost, asked[i].cost);
		graph_path_free(&p);
	}
	assert_true(marked * 2 < plain);
	graph_free(fresh);
	graph_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_naive), cmocka_unit_test(test_parallel_edges),
		cmocka_unit_test(test_hub),	      cmocka_unit_test(test_marks),
		cmocka_unit_test(test_blocked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
