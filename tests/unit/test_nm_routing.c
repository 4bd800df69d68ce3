/* The nodemanager moves connections to better paths, and heeds what operators say. */
#include "nm_mesh.h"

static uint64_t connect_up(struct rec *r, unsigned from, unsigned to)
{
	struct msg m = ask_connect(to, "echo", 7);
	rec_clear(r);
	node_say(r, from, &m);
	rec_pump(r);
	return rec_need(r, from, MSG_ConnectionOn)->connection_on.connection;
}

/* Time passes, and everybody does what he is told. */
static void pass(struct rec *r, unsigned seconds)
{
	while (seconds--) {
		rec_sleep(r, SECOND);
		rec_pump(r);
	}
}

/* Every second for so long. */
static void reports(struct rec *r, uint64_t channel, uint32_t transport, uint32_t rtt_us,
		    unsigned seconds)
{
	for (unsigned i = 0; i < seconds; i++) {
		pass(r, 1);
		mesh_report(r, channel, transport, rtt_us);
	}
}

/* 1 - 2 - 4 and 1 - 3 - 4; the way over 2 is the better one. */
static struct rec *diamond(uint32_t links[4])
{
	struct rec *r = rec_new();
	mesh_square(r, links);
	for (unsigned i = 0; i < 4; i++)
		mesh_report(r, i < 2 ? 2 : 3, links[i], i < 2 ? 1000 : 4000);
	rec_clear(r);
	return r;
}

/* How many rules node `n` holds. */
static size_t rules(struct rec *r, unsigned n)
{
	return r->held[n].rule_count;
}

static void check_over(struct rec *r, unsigned via, unsigned not_via)
{
	assert_int_equal(rules(r, via), 2);
	assert_int_equal(rules(r, not_via), 0);
	assert_int_equal(rec_status(r).connections, 1);
}

static void test_much_worse(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = diamond(links);
	connect_up(r, 1, 4);
	check_over(r, 2, 3);
	rec_clear(r);
	reports(r, 2, links[0], 100000, 3);
	rec_sleep(r, 100000);
	assert_int_equal(rec_count(r, 3, MSG_AddRoute), 2); /* make before break */
	assert_int_equal(rec_count(r, 2, MSG_RemoveRoute), 0);
	rec_pump(r);
	assert_int_equal(rec_need(r, 1, MSG_AssignConnection)->assign_connection.path, 2);
	assert_int_equal(rec_need(r, 4, MSG_AssignConnection)->assign_connection.path, 2);
	check_over(r, 3, 2);
	/* It is good again: not at once, but after a while. */
	rec_clear(r);
	reports(r, 2, links[0], 1000, 20);
	assert_int_equal(rec_count(r, 2, MSG_AddRoute), 0);
	reports(r, 2, links[0], 1000, 40);
	rec_pump(r);
	check_over(r, 2, 3);
	assert_int_equal(rec_need(r, 1, MSG_AssignConnection)->assign_connection.path, 3);
	rec_free(r);
}

/* A link that wavers for an hour moves a connection a few times, and ever less often. */
static void test_no_flapping(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = diamond(links);
	connect_up(r, 1, 4);
	rec_clear(r);
	for (unsigned i = 0; i < 3600; i++) {
		reports(r, 2, links[0], i % 4 < 2 ? 1000 : 12000, 1);
		rec_pump(r);
	}
	assert_true(rec_count(r, 1, MSG_AssignConnection) <= 2);
	rec_clear(r);
	for (unsigned i = 0; i < 60; i++) { /* a minute bad, a minute good */
		reports(r, 2, links[0], i % 2 ? 100000 : 1000, 60);
		rec_pump(r);
	}
	size_t moves = rec_count(r, 1, MSG_AssignConnection);
	assert_in_range(moves, 1, 24);
	rec_free(r);
}

static void test_a_little_better(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = diamond(links);
	connect_up(r, 1, 4);
	rec_clear(r);
	reports(r, 3, links[2], 100, 30);
	reports(r, 3, links[3], 100, 60);
	rec_pump(r);
	check_over(r, 2, 3); /* 2.2 ms instead of 4 is not worth it */
	assert_int_equal(r->count, 0);
	rec_free(r);
}

static int set_cost(struct rec *r, unsigned a, unsigned b, uint32_t cost)
{
	struct mesh_id ia = node_id(a), ib = node_id(b);
	return nm_set_link_cost(r->nm, &ia, &ib, cost, r->now);
}

static int set_transit(struct rec *r, unsigned n, bool transit)
{
	struct mesh_id id = node_id(n);
	return nm_set_transit(r->nm, &id, transit, r->now);
}

static uint64_t route_cost(struct rec *r, unsigned a, unsigned b, unsigned *via)
{
	struct mesh_id ia = node_id(a), ib = node_id(b), nodes[8];
	uint64_t cost;
	long count = nm_find_route(r->nm, &ia, &ib, nodes, 8, &cost);
	assert_true(count > 0);
	*via = count > 2 ? nodes[1].b[3] : 0;
	return cost;
}

static void test_set_cost(void **state)
{
	(void)state;
	uint32_t links[4];
	unsigned via;
	struct rec *r = diamond(links);
	assert_int_equal(set_cost(r, 1, 4, 5), -ENOENT);
	assert_int_equal(set_cost(r, 1, 9, 5), -ENOENT);
	assert_int_equal(set_cost(r, 1, 2, NM_LINK_COST_MAX + 1), -EINVAL);
	connect_up(r, 1, 4);
	assert_int_equal(set_cost(r, 2, 1, 50000), 0);
	rec_sleep(r, SECOND / 10);
	rec_pump(r);
	check_over(r, 3, 2);
	reports(r, 2, links[0], 1, 20); /* whatever is measured */
	route_cost(r, 1, 4, &via);
	assert_int_equal(via, 3);
	assert_int_equal(set_cost(r, 1, 2, 7), 0);
	assert_int_equal(route_cost(r, 1, 4, &via), 207);
	assert_int_equal(via, 2);
	pass(r, 60);
	check_over(r, 2, 3);
	/* The next manager knows it. */
	rec_restart(r);
	for (unsigned n = 1; n <= 4; n++)
		node_join(r, n, 10 + n, 1);
	rec_pump(r);
	rec_sleep(r, 20 * SECOND);
	mesh_report(r, 12, links[1], 1000);
	assert_int_equal(route_cost(r, 1, 2, &via), 7);
	assert_int_equal(set_cost(r, 1, 2, 0), 0);
	assert_true(route_cost(r, 1, 2, &via) > 7);
	rec_free(r);
}

static void test_transit(void **state)
{
	(void)state;
	uint32_t links[4];
	unsigned via;
	struct rec *r = diamond(links);
	struct nm_node_info info;
	struct mesh_id two = node_id(2);
	connect_up(r, 1, 4);
	assert_int_equal(set_transit(r, 9, false), -ENOENT);
	rec_clear(r);
	assert_int_equal(set_transit(r, 2, false), 0);
	assert_int_equal(nm_node_get(r->nm, &two, &info), 0);
	assert_false(info.transit);
	rec_sleep(r, SECOND / 10);
	assert_int_equal(rec_count(r, 2, MSG_RemoveRoute), 0);
	rec_pump(r);
	check_over(r, 3, 2);
	route_cost(r, 1, 4, &via);
	assert_int_equal(via, 3);
	route_cost(r, 1, 2, &via); /* it is still an end */
	assert_int_equal(via, 0);
	connect_up(r, 2, 4);
	assert_int_equal(rec_status(r).connections, 2);
	/* The next manager knows it too. */
	rec_restart(r);
	for (unsigned n = 1; n <= 4; n++)
		node_join(r, n, 10 + n, 1);
	rec_sleep(r, 20 * SECOND);
	assert_int_equal(rec_status(r).connections, 2);
	assert_int_equal(nm_node_get(r->nm, &two, &info), 0);
	assert_false(info.transit);
	route_cost(r, 1, 4, &via);
	assert_int_equal(via, 3);
	assert_int_equal(set_transit(r, 2, true), 0);
	assert_int_equal(nm_node_get(r->nm, &two, &info), 0);
	assert_true(info.transit);
	rec_free(r);
}

/* There is no other way: it goes on for as long as a connection waits for one, and then ends. */
static void test_no_other_way(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = diamond(links);
	connect_up(r, 1, 4);
	assert_int_equal(set_transit(r, 3, false), 0);
	assert_int_equal(set_transit(r, 2, false), 0);
	rec_clear(r);
	rec_sleep(r, SECOND);
	assert_int_equal(r->count, 0);
	assert_int_equal(set_transit(r, 2, true), 0); /* the word is taken back in time */
	pass(r, 60);
	check_over(r, 2, 3);
	assert_int_equal(set_transit(r, 2, false), 0);
	rec_clear(r);
	rec_sleep(r, 60 * SECOND);
	assert_int_equal(rec_need(r, 1, MSG_ConnectionShutdown)->connection_shutdown.code,
			 CODE_NO_ROUTE);
	assert_int_equal(rec_status(r).connections, 0);
	assert_int_equal(rules(r, 2), 0);
	rec_free(r);
}

/* The ban comes while the path through the node is being made. */
static void test_ban_while_routing(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = diamond(links);
	struct msg m = ask_connect(4, "echo", 7);
	node_say(r, 1, &m);
	assert_int_equal(rec_count(r, 2, MSG_AddRoute), 2);
	assert_int_equal(set_transit(r, 2, false), 0);
	rec_pump(r);
	rec_sleep(r, SECOND);
	rec_pump(r);
	check_over(r, 3, 2);
	rec_free(r);
}

/* Connections between the same two nodes spread over equal ways. */
static void test_spread(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	for (unsigned n = 1; n <= 4; n++)
		node_join(r, n, n, 1);
	rec_link(r, 1, 2), rec_link(r, 2, 4), rec_link(r, 1, 3), rec_link(r, 3, 4);
	for (unsigned i = 0; i < 100; i++)
		connect_up(r, 1, 4);
	assert_int_equal(rec_status(r).connections, 100);
	assert_in_range(rules(r, 2), 2 * 30, 2 * 70);
	assert_int_equal(rules(r, 2) + rules(r, 3), 200);
	rec_clear(r);
	rec_sleep(r, 100 * SECOND);
	assert_int_equal(r->count, 0); /* and nobody moves to an equal one */
	rec_free(r);
}

struct found {
	size_t count, hops[8];
	uint64_t cost[8];
};

static void found(void *arg, const struct mesh_id *nodes, size_t count, uint64_t cost)
{
	struct found *f = arg;
	struct mesh_id first = node_id(1), last = node_id(4);
	assert_true(mesh_id_equal(&nodes[0], &first) && mesh_id_equal(&nodes[count - 1], &last));
	f->hops[f->count] = count - 1;
	f->cost[f->count++] = cost;
}

static void test_find_routes(void **state)
{
	(void)state;
	uint32_t links[4];
	bool complete, by_links;
	struct found f = {0};
	struct rec *r = diamond(links);
	struct mesh_id one = node_id(1), four = node_id(4), nine = node_id(9);
	assert_int_equal(nm_find_routes(r->nm, &one, &four, 3, found, &f, &by_links, &complete), 2);
	assert_false(by_links);
	assert_true(f.count == 2 && f.hops[0] == 2 && f.hops[1] == 2);
	assert_true(f.cost[0] == 400 && f.cost[1] == 1000);
	assert_int_equal(nm_find_routes(r->nm, &one, &nine, 3, found, &f, &by_links, &complete),
			 -ENOENT);
	assert_int_equal(nm_find_routes(r->nm, &one, &one, 3, found, &f, &by_links, &complete),
			 -EINVAL);
	/* 1 = 5 = 4 by way of one node: only links are apart.  1 - 6 - 5, 5 - 7 - 4. */
	for (unsigned n = 5; n <= 7; n++)
		node_join(r, n, n, 1);
	rec_link(r, 1, 5), rec_link(r, 1, 6), rec_link(r, 6, 5);
	rec_link(r, 5, 4), rec_link(r, 5, 7), rec_link(r, 7, 4);
	f.count = 0;
	assert_int_equal(nm_find_routes(r->nm, &one, &four, 4, found, &f, &by_links, &complete), 4);
	assert_true(by_links && f.count == 4);
	rec_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_much_worse),	  cmocka_unit_test(test_no_flapping),
		cmocka_unit_test(test_a_little_better),	  cmocka_unit_test(test_set_cost),
		cmocka_unit_test(test_transit),		  cmocka_unit_test(test_no_other_way),
		cmocka_unit_test(test_ban_while_routing), cmocka_unit_test(test_spread),
		cmocka_unit_test(test_find_routes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
