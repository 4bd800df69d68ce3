/* Several ways to one gateway, and hosts that claim to be one. */
#include "sub_world.h"

#include <math.h>

#define ID_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static struct sub_contact http(uint8_t last)
{
	return (struct sub_contact){
		.via = SUB_VIA_HTTP,
		.addr = {.family = 4, .port = 65533, .ip = {10, 0, 0, last}},
	};
}

static const struct sub_gateway *way(struct world *w, const struct sub_contact *c)
{
	char key[SUB_KEY_MAX];
	const struct sub_gateway *g = sub_engine_find(w->e, sub_contact_key(c, key));
	assert_non_null(g);
	return g;
}

/* Who answers what; `silent`: it does not. */
struct says {
	struct sub_contact c;
	const char *id;
	bool proven, silent;
	double rtt_ms;
};

static void answer(struct world *w, const struct says *says, size_t count)
{
	size_t n = w->infos;
	w->infos = 0;
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < count; k++) {
			struct sub_info info = {.methods = {"mesh", "gre"},
						.method_count = 2,
						.free_slots = 5,
						.online = true,
						.asked = true,
						.proven = says[k].proven};
			if (!sub_contact_equal(&w->info_to[i], &says[k].c))
				continue;
			snprintf(info.id, sizeof info.id, "%s", says[k].id);
			snprintf(info.name, sizeof info.name, "gw-%c", says[k].id[0]);
			sub_engine_on_info(w->e, w->info_serial[i], &info, says[k].rtt_ms,
					   says[k].silent ? "No route to host" : NULL, 1, w->now);
		}
	}
}

static void find_all(struct world *w, const struct says *says, size_t count)
{
	for (size_t k = 0; k < count; k++)
		assert_int_equal(sub_engine_found(w->e, &says[k].c, NULL, 1, w->now), 0);
	answer(w, says, count);
}

static struct sub_policy policy_with(const char *pinned, const char *banned)
{
	struct sub_policy p = policy;
	p.terms.pinned.count = pinned != NULL;
	p.terms.banned.count = banned != NULL;
	if (pinned)
		strcpy(p.terms.pinned.text[0], pinned);
	if (banned)
		strcpy(p.terms.banned.text[0], banned);
	return p;
}

static struct sub_rank rank(struct world *w, const struct sub_contact *c)
{
	struct sub_rank r;
	sub_engine_rank(w->e, way(w, c), w->now, &r);
	return r;
}

/* Listed by the tracker and found by its address: one, also for what was said of either. */
static void test_one_gateway(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	const struct says all[] = {{contact("a"), ID_A, true, false, 10},
				   {http(1), ID_A, true, false, 12},
				   {contact("b"), ID_B, true, false, 50}};
	find_all(&w, all, 3);
	assert_int_equal(sub_engine_gateways(w.e), 2);
	assert_int_equal(sub_engine_ways(w.e, ID_A, w.now), 2);
	assert_true(sub_gateway_same(way(&w, &all[0].c), way(&w, &all[1].c)));
	assert_false(sub_gateway_same(way(&w, &all[0].c), way(&w, &all[2].c)));
	/* By its address it is pinned or banned in the mesh too, and by its key everywhere. */
	static const char *const names[] = {"10.0.0.1", ID_A};
	for (size_t i = 0; i < 2; i++) {
		struct sub_policy p = policy_with(names[i], NULL);
		sub_engine_set_policy(w.e, &p, w.now);
		assert_true(rank(&w, &all[0].c).pinned && rank(&w, &all[1].c).pinned);
		assert_false(rank(&w, &all[2].c).pinned);
		p = policy_with(NULL, names[i]);
		sub_engine_set_policy(w.e, &p, w.now);
		for (size_t k = 0; k < 2; k++)
			assert_non_null(strstr(rank(&w, &all[k].c).why, "is banned"));
		assert_null(strstr(rank(&w, &all[2].c).why, "is banned"));
	}
	sub_engine_free(w.e);
}

/* It is no standby for itself. */
static void test_no_help_for_itself(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	const struct says all[] = {{contact("a"), ID_A, true, false, 10},
				   {http(1), ID_A, true, false, 12},
				   {contact("b"), ID_B, true, false, 200}};
	find_all(&w, all, 3);
	assert_string_equal(w.requested, "a");
	grant(&w);
	sub_engine_on_tunnel(w.e, w.tunnel_serial, true, "", w.now);
	sub_engine_scan(w.e, w.now);
	run(&w, 1);
	answer(&w, all, 3);
	assert_int_equal(w.requests, 2);
	assert_string_equal(w.requested, "b");
	run(&w, 500000);
	/* What a tunnel there is like is the same by both ways. */
	sub_engine_on_probe(w.e, w.probe_of[w.online_slot][0], true, 33, w.now);
	assert_true(way(&w, &all[1].c)->tunnel.rtt_ms == 33);
	assert_true(way(&w, &all[2].c)->tunnel.rtt_ms == 0);
	sub_engine_free(w.e);
}

/* Who claims a key without proof gains nothing, and takes nothing from who holds it. */
static void test_claim(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	const struct says all[] = {{http(66), ID_A, false, false, 1},
				   {contact("a"), ID_A, true, false, 10},
				   {http(1), ID_A, true, false, 12}};
	find_all(&w, all, 3);
	assert_int_equal(sub_engine_gateways(w.e), 2);
	assert_int_equal(sub_engine_ways(w.e, ID_A, w.now), 2);
	struct sub_policy p = policy_with(ID_A, NULL);
	sub_engine_set_policy(w.e, &p, w.now);
	assert_false(rank(&w, &all[0].c).pinned);
	assert_true(rank(&w, &all[1].c).pinned);
	p = policy_with("10.0.0.1", "10.0.0.66");
	sub_engine_set_policy(w.e, &p, w.now);
	assert_true(rank(&w, &all[1].c).pinned && isfinite(rank(&w, &all[1].c).score));
	assert_true(isinf(rank(&w, &all[0].c).score));
	/* An order by the key does not lead there either, though it is the nearest. */
	p = policy_with(NULL, NULL);
	sub_engine_set_policy(w.e, &p, w.now);
	w.requested[0] = '?';
	sub_engine_disconnect(w.e, w.now);
	assert_true(sub_engine_connect(w.e, ID_A, NULL, w.now) > 0);
	assert_string_equal(w.requested, "a");
	sub_engine_free(w.e);
}

/* Another host has its address now: it is asked anew after each silence, and found out. */
static void test_taken_over(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	struct says all[] = {{contact("a"), ID_A, true, false, 10},
			     {http(1), ID_A, true, false, 12}};
	find_all(&w, all, 2);
	assert_false(sub_gateway_unproven(way(&w, &all[1].c), w.now));
	assert_true(sub_gateway_unproven(way(&w, &all[1].c), w.now + 300000000));
	all[1].silent = true;
	run(&w, 10000000);
	answer(&w, all, 2);
	assert_true(sub_gateway_unproven(way(&w, &all[1].c), w.now));
	assert_int_equal(sub_engine_gateways(w.e), 1); /* silence is no reason */
	run(&w, 40000000);
	assert_non_null(strstr(rank(&w, &all[1].c).why, "is silent: No route to host"));
	all[1] = (struct says){http(1), ID_A, false, false, 1};
	run(&w, 10000000);
	answer(&w, all, 2);
	assert_int_equal(sub_engine_gateways(w.e), 2);
	/* And one that says at once to be somebody else. */
	all[1].proven = true;
	run(&w, 10000000);
	answer(&w, all, 2);
	assert_int_equal(sub_engine_gateways(w.e), 1);
	all[1] = (struct says){http(1), ID_B, true, false, 1};
	run(&w, 10000000);
	answer(&w, all, 2);
	assert_int_equal(sub_engine_gateways(w.e), 2);
	sub_engine_free(w.e);
}

static void lose_probes(struct world *w, const struct says *says, size_t count)
{
	for (unsigned i = 0; i < 3; i++) {
		run(w, i ? 1 : 500000);
		run(w, 250000);
		sub_engine_on_probe(w->e, w->probe_serial, false, 0, w->now);
		answer(w, says, count);
	}
}

/* Its tunnel dies, and over the mesh it is silent: the other way to it comes before the others. */
static void test_other_way_first(void **state)
{
	struct world w;
	(void)state;
	world_open(&w);
	struct sub_policy p = policy_with(NULL, NULL);
	p.standby = false;
	p.terms.method_count = 2;
	strcpy(p.terms.methods[1], "gre");
	sub_engine_set_policy(w.e, &p, w.now);
	struct says all[] = {{contact("a"), ID_A, true, false, 10},
			     {http(1), ID_A, true, false, 300},
			     {contact("b"), ID_B, true, false, 20}};
	find_all(&w, all, 3);
	assert_string_equal(w.requested, "a");
	grant(&w);
	sub_engine_on_tunnel(w.e, w.tunnel_serial, true, "", w.now);
	assert_int_equal(state_of(&w), SUB_ONLINE);
	all[0].silent = true;
	lose_probes(&w, all, 3);
	assert_int_equal(state_of(&w), SUB_REQUESTING);
	assert_string_equal(w.requested, ""); /* by HTTP */
	assert_string_equal(w.method, "gre"); /* its method mesh has just failed */
	/* That way is no better: now the other gateway. */
	sub_engine_on_lease(w.e, w.request_serial, NULL, "no answer", false, w.now);
	assert_string_equal(w.requested, "b");
	sub_engine_free(w.e);
}

/* The way that was named comes first, and then the others of that gateway, but of no other. */
static void test_orders(void **state)
{
	(void)state;
	for (unsigned by_key = 0; by_key < 3; by_key++) {
		struct world w;
		char key[SUB_KEY_MAX];
		world_open(&w);
		struct says all[] = {{contact("a"), ID_A, true, false, 10},
				     {http(1), ID_A, true, false, 12},
				     {contact("b"), ID_B, true, false, 20}};
		find_all(&w, all, 3);
		sub_engine_disconnect(w.e, w.now);
		sub_contact_key(&all[by_key == 2].c, key);
		w.requests = 0;
		assert_true(sub_engine_connect(w.e, by_key ? key : "gw-a", NULL, w.now) > 0);
		assert_int_equal(w.requests, 1);
		assert_string_equal(w.requested, by_key == 2 ? "" : "a");
		sub_engine_on_lease(w.e, w.request_serial, NULL, "no answer", false, w.now);
		assert_int_equal(w.requests, 2);
		assert_string_equal(w.requested, by_key == 2 ? "a" : "");
		sub_engine_on_lease(w.e, w.request_serial, NULL, "no answer", false, w.now);
		assert_int_equal(w.requests, 2); /* and then it is waited for */
		sub_engine_free(w.e);
	}
}

/* What the gateway refuses for now by one way it would refuse by another: the named one is asked
 * again. */
static void test_a_refusal_is_the_gateways(void **state)
{
	struct world w;
	char key[SUB_KEY_MAX];
	(void)state;
	world_open(&w);
	struct says all[] = {{contact("a"), ID_A, true, false, 10},
			     {http(1), ID_A, true, false, 12}};
	find_all(&w, all, 2);
	sub_engine_disconnect(w.e, w.now);
	w.requests = 0;
	assert_true(sub_engine_connect(w.e, sub_contact_key(&all[1].c, key), NULL, w.now) > 0);
	assert_int_equal(w.requests, 1);
	sub_engine_on_lease(w.e, w.request_serial, NULL, "refused: not now", true, w.now);
	run(&w, 200000);
	assert_int_equal(w.requests, 1);
	run(&w, 100000);
	assert_int_equal(w.requests, 2);
	assert_string_equal(w.requested, ""); /* by HTTP */
	sub_engine_free(w.e);
}

static bool first_is_own(void *ctx, const struct sub_gateway *g)
{
	(void)ctx;
	return g->contact.app[0] == 'a';
}

/* It would lead in a circle: used by order only, and then not probed. */
static void test_own_host(void **state)
{
	struct world w;
	struct sub_ops own = ops;
	(void)state;
	memset(&w, 0, sizeof w);
	own.is_own = first_is_own;
	w.now = 1000000;
	w.online_slot = -1;
	w.e = sub_engine_new(&policy, &own, &w, w.now);
	const struct says all[] = {{contact("a"), ID_A, true, false, 1},
				   {contact("b"), ID_B, true, false, 90}};
	find_all(&w, all, 2);
	assert_string_equal(w.requested, "b");
	assert_non_null(strstr(rank(&w, &all[0].c).why, "on our own host"));
	sub_engine_disconnect(w.e, w.now);
	assert_true(sub_engine_connect(w.e, "gw-a", NULL, w.now) > 0);
	assert_string_equal(w.requested, "a");
	grant(&w);
	sub_engine_on_tunnel(w.e, w.tunnel_serial, true, "", w.now);
	assert_int_equal(state_of(&w), SUB_ONLINE);
	sub_engine_on_trouble(w.e, w.tunnel_serial, w.now);
	for (unsigned i = 0; i < 20; i++) {
		run(&w, 1000000);
		answer(&w, all, 2);
	}
	assert_int_equal(state_of(&w), SUB_ONLINE);
	assert_int_equal(w.probes, 0);
	sub_engine_free(w.e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_gateway),
		cmocka_unit_test(test_no_help_for_itself),
		cmocka_unit_test(test_claim),
		cmocka_unit_test(test_taken_over),
		cmocka_unit_test(test_other_way_first),
		cmocka_unit_test(test_orders),
		cmocka_unit_test(test_a_refusal_is_the_gateways),
		cmocka_unit_test(test_own_host),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
