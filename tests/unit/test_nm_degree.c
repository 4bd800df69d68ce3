/* Degree = N: the mesh keeps itself together. */
#include "nm_recorder.h"

#define NODES 12

static void pass(struct rec *r, unsigned seconds)
{
	while (seconds--) {
		rec_clear(r);
		rec_sleep(r, SECOND);
		rec_pump(r);
	}
}

static struct rec *start(size_t degree)
{
	struct rec *r = rec_new();
	r->config.degree = degree;
	rec_start(r);
	for (unsigned n = 1; n <= NODES; n++)
		node_join(r, n, n, 1);
	return r;
}

static size_t degree_of(struct rec *r, unsigned n)
{
	struct mesh_id id = node_id(n);
	struct nm_node_info info;
	assert_int_equal(nm_node_get(r->nm, &id, &info), 0);
	return info.transports;
}

/* Everybody of `alive` reaches everybody else, and has from `least` to `most` links. */
static void check_whole(struct rec *r, unsigned first, size_t least, size_t most)
{
	for (unsigned a = first; a <= NODES; a++) {
		assert_in_range(degree_of(r, a), least, most);
		for (unsigned b = first; b < a; b++) {
			struct mesh_id ia = node_id(a), ib = node_id(b), nodes[NODES + 1];
			uint64_t cost;
			assert_true(nm_find_route(r->nm, &ia, &ib, nodes, NODES + 1, &cost) > 0);
		}
	}
}

static size_t links_to(const struct rec *r, unsigned n)
{
	struct mesh_id id = node_id(n);
	size_t count = 0;
	for (size_t i = 0; i < r->link_count; i++)
		count += mesh_id_equal(&r->links[i].a, &id) || mesh_id_equal(&r->links[i].b, &id);
	return count;
}

static void test_off(void **state)
{
	(void)state;
	struct rec *r = start(0);
	assert_true(nm_next_timeout(r->nm) > r->now);
	pass(r, 100);
	assert_int_equal(r->link_count, 0);
	rec_free(r);
}

static void test_grows_and_heals(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct rec *r = rec_new();
		r->seed = seed;
		r->config.degree = 3;
		rec_start(r);
		for (unsigned n = 1; n <= NODES; n++)
			node_join(r, n, n, 1);
		pass(r, 20);
		check_whole(r, 1, 3, 7);
		size_t links = r->link_count;
		pass(r, 300);
		check_whole(r, 1, 3, 6);
		assert_true(r->link_count <= links + 1); /* it has come to rest */
		for (unsigned n = 1; n <= 3; n++)	 /* these die without a word */
			nm_node_down(r->nm, n, r->now);
		pass(r, 10);
		assert_true(links_to(r, 1) >= 3); /* they may come back */
		pass(r, 60);
		check_whole(r, 4, 3, 7);
		for (unsigned n = 1; n <= 3; n++)
			assert_int_equal(links_to(r, n), 0);
		node_join(r, 2, 20, 2);
		pass(r, 30);
		assert_true(degree_of(r, 2) >= 3);
		rec_free(r);
	}
}

/* What an operator asked for is never touched; what he asks for later is his from then on. */
static void test_operator(void **state)
{
	(void)state;
	struct rec *r = start(2);
	for (unsigned n = 2; n <= NODES; n++)
		rec_link(r, 1, n);
	pass(r, 300);
	assert_int_equal(degree_of(r, 1), NODES - 1);
	assert_true(links_to(r, 1) == NODES - 1 && r->link_count >= NODES);
	nm_node_down(r->nm, 1, r->now);
	pass(r, 120);
	assert_int_equal(links_to(r, 1), NODES - 1);
	check_whole(r, 2, 2, 5);
	/* Links that upkeep made, asked for now. */
	for (size_t i = 0; i < r->link_count; i++)
		if (r->links[i].options.upkeep) {
			nm_connect_nodes(r->nm, &r->links[i].a, &r->links[i].b, rec_done, r,
					 r->now);
			assert_int_equal(r->code, CODE_OK);
			assert_int_equal(r->links[i].options.upkeep, NM_UPKEEP_NONE);
		}
	size_t links = r->link_count;
	nm_node_down(r->nm, 2, r->now);
	pass(r, 120);
	assert_true(r->link_count >= links);
	rec_free(r);
}

/* Fewer are wanted: some go, slowly, with the connections moved off them before; all stays whole.
 */
static void test_surplus(void **state)
{
	(void)state;
	struct rec *r = start(6);
	pass(r, 60);
	check_whole(r, 1, 6, 12);
	size_t links = r->link_count;
	for (unsigned n = 2; n <= NODES; n++) {
		struct msg m = ask_connect(n, "echo", 7);
		node_say(r, 1, &m);
	}
	rec_pump(r);
	assert_int_equal(rec_status(r).connections, NODES - 1);
	r->config.degree = 2;
	nm_set_config(r->nm, &r->config);
	pass(r, 50);
	assert_int_equal(r->link_count, links); /* it may have been a mistake */
	for (unsigned i = 0; i < 200; i++) {
		size_t before = r->link_count;
		pass(r, 1);
		assert_true(before - r->link_count <= NODES);
		for (unsigned n = 1; n <= NODES; n++)
			assert_int_equal(rec_count(r, n, MSG_ConnectionShutdown), 0);
	}
	check_whole(r, 1, 2, 4);
	assert_true(r->link_count < links);
	assert_int_equal(rec_status(r).connections, NODES - 1);
	rec_free(r);
}

/* Whoever cannot be linked is not tried for ever, and never many at once. */
static void test_no_storm(void **state)
{
	(void)state;
	struct rec *r = start(3);
	size_t most = 0;
	for (unsigned s = 0; s < 300; s++) {
		rec_clear(r);
		rec_sleep(r, SECOND);
		size_t created = 0;
		for (size_t i = 0; i < r->count; i++) {
			if (r->sent[i].m.type != MSG_TransportCreate)
				continue;
			created++;
			node_ack(r, &r->sent[i], CODE_BUSY, 0);
		}
		most = created > most ? created : most;
		assert_true(created <= 2 * 64);
	}
	assert_true(most > 0);
	for (unsigned n = 1; n <= NODES; n++)
		assert_in_range(links_to(r, n), 1, 7);
	rec_free(r);
}

/* Two islands, each with all the links it needs, find each other. */
static void test_islands(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	for (unsigned n = 1; n <= NODES; n++)
		node_join(r, n, n, 1);
	for (unsigned n = 0; n < NODES; n++)
		for (unsigned step = 1; step <= 2; step++)
			rec_link(r, n % 6 + 1 + n / 6 * 6, (n + step) % 6 + 1 + n / 6 * 6);
	r->config.degree = 3;
	nm_set_config(r->nm, &r->config);
	pass(r, 20);
	check_whole(r, 1, 3, 7);
	rec_free(r);
}

/* The next manager goes on where this one was. */
static void test_restart(void **state)
{
	(void)state;
	struct rec *r = start(3);
	pass(r, 60);
	size_t links = r->link_count;
	rec_restart(r);
	for (unsigned n = 2; n <= NODES; n++)
		node_join(r, n, 20 + n, 1);
	rec_pump(r);
	assert_int_equal(r->link_count, links);
	pass(r, 120);
	assert_int_equal(links_to(r, 1), 0); /* it did not come back */
	check_whole(r, 2, 3, 7);
	rec_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_off),	 cmocka_unit_test(test_grows_and_heals),
		cmocka_unit_test(test_operator), cmocka_unit_test(test_surplus),
		cmocka_unit_test(test_no_storm), cmocka_unit_test(test_islands),
		cmocka_unit_test(test_restart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
