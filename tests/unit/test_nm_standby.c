/* The nodemanager's standby paths. */
#include "nm_mesh.h"

static uint32_t links[4];

static void pass(struct rec *r, unsigned seconds)
{
	while (seconds--) {
		rec_sleep(r, SECOND);
		rec_pump(r);
	}
}

/* 1 - 2 - 4 and 1 - 3 - 4, and a connection from 1 to 4 over the relay in *used. */
static struct rec *start_with(unsigned standbys, unsigned *used, uint64_t *id)
{
	struct rec *r = rec_new();
	r->config.standby_paths = standbys;
	mesh_square(r, links);
	rec_clear(r);
	struct msg m = ask_connect(4, "echo", 7);
	node_say(r, 1, &m);
	rec_pump(r);
	*id = rec_need(r, 1, MSG_ConnectionOn)->connection_on.connection;
	*used = r->held[2].rule_count ? 2 : 3;
	assert_int_equal(r->held[2].rule_count + r->held[3].rule_count, 2);
	return r;
}

static struct rec *start(unsigned *used, uint64_t *id)
{
	return start_with(1, used, id);
}

static void other_way(struct rec *r, unsigned used)
{
	pass(r, 2);
	assert_int_equal(r->held[used].rule_count, 2);
	assert_int_equal(r->held[5 - used].rule_count, 2);
}

static struct msg_standby_route standby_of(struct rec *r, uint64_t channel)
{
	return rec_need(r, channel, MSG_StandbyRoute)->standby_route;
}

/* The other way is there as well; *a is what node 1 has been told of it. */
static struct rec *start_both_ways(unsigned *used, uint64_t *id, struct msg_standby_route *a)
{
	struct rec *r = start(used, id);

	other_way(r, *used);
	*a = standby_of(r, 1);
	return r;
}

/* Node 1 is on its standby, and would report it. */
static void goes_over(struct rec *r, uint64_t id, const struct msg_standby_route *a)
{
	struct report_connection *c = held_conn(&r->held[1], id);

	c->out_transport = a->out_transport;
	c->out_route = a->out_route;
}

static bool has_rule(const struct rec *r, unsigned n, uint32_t it, uint32_t ir, uint32_t ot,
		     uint32_t or)
{
	for (size_t i = 0; i < r->held[n].rule_count; i++) {
		const struct report_rule *x = &r->held[n].rules[i];
		if (x->in_transport == it && x->in_route == ir && x->out_transport == ot &&
			    x->out_route == or)
			return true;
	}
	return false;
}

static void count_standby(void *arg, const struct nm_rule_info *rule)
{
	*(size_t *)arg += rule->standby;
}

static size_t standby_rules(struct rec *r, unsigned n)
{
	struct mesh_id id = node_id(n);
	size_t count = 0;
	nm_rules_each(r->nm, &id, NM_ALL, count_standby, &count);
	return count;
}

static void test_is_made(void **state)
{
	(void)state;
	unsigned used;
	uint64_t id;
	struct rec *r = start(&used, &id);
	assert_int_equal(rec_count(r, 1, MSG_StandbyRoute), 0);
	other_way(r, used);
	struct msg_standby_route a = standby_of(r, 1), b = standby_of(r, 4);
	assert_true(a.connection == id && a.path == 1 && b.connection == id && b.path == 1);
	assert_int_equal(a.out_transport, links[used == 2 ? 2 : 0]);
	assert_int_equal(b.out_transport, links[used == 2 ? 3 : 1]);
	/* What one puts on, the relay knows and the other expects. */
	assert_true(
		has_rule(r, 5 - used, a.out_transport, a.out_route, b.in_transport, b.in_route));
	assert_true(
		has_rule(r, 5 - used, b.out_transport, b.out_route, a.in_transport, a.in_route));
	assert_int_equal(standby_rules(r, used), 0);
	assert_int_equal(standby_rules(r, 5 - used), 2);
	assert_int_equal(standby_rules(r, 1), 2);
	rec_clear(r);
	pass(r, 300);
	assert_int_equal(r->count, 0);
	struct msg m = {.type = MSG_ConnectionShutdown};
	m.connection_shutdown.connection = id;
	node_say(r, 1, &m);
	for (unsigned n = 1; n <= 4; n++)
		assert_int_equal(r->held[n].rule_count, 0);
	pass(r, 60);
	rec_free(r);
}

/* The path dies: no rule has to be made, the ends are told at once. */
static void test_is_taken(void **state)
{
	(void)state;
	unsigned used;
	uint64_t id;
	struct msg_standby_route a;
	struct rec *r = start_both_ways(&used, &id, &a);
	rec_clear(r);
	mesh_lose(r, used, links[used == 2 ? 1 : 3]);
	for (unsigned n = 1; n <= 4; n++)
		assert_int_equal(rec_count(r, n, MSG_AddRoute), 0);
	const struct msg_assign_connection *m =
		&rec_need(r, 1, MSG_AssignConnection)->assign_connection;
	assert_true(m->path == 2 && m->out_transport == a.out_transport &&
		    m->out_route == a.out_route);
	rec_pump(r);
	assert_int_equal(r->held[used].rule_count, 0);
	assert_int_equal(standby_rules(r, 5 - used), 0);
	pass(r, 100); /* the link is made again, and with it a new standby */
	assert_int_equal(standby_rules(r, used), 2);
	assert_int_equal(r->held[5 - used].rule_count, 2);
	rec_free(r);
}

static struct msg switched_to(uint64_t id, const struct msg_standby_route *s)
{
	struct msg m = {.type = MSG_RouteSwitched};

	m.route_switched = (struct msg_route_switched){id, 1, s->out_transport, s->out_route};
	return m;
}

/* An end has gone over by itself. */
static void test_switched(void **state)
{
	(void)state;
	unsigned used;
	uint64_t id;
	struct msg_standby_route a;
	struct rec *r = start_both_ways(&used, &id, &a);
	struct msg m = switched_to(id, &a);
	rec_clear(r);
	node_say(r, 2, &m); /* not its own */
	node_say(r, 4, &(struct msg){.type = MSG_RouteSwitched});
	assert_int_equal(r->count, 0);
	node_say(r, 1, &m);
	assert_int_equal(rec_count(r, 4, MSG_AddRoute), 0);
	assert_int_equal(rec_need(r, 4, MSG_AssignConnection)->assign_connection.path, 2);
	node_say(r, 1, &m); /* twice is once */
	rec_pump(r);
	node_say(r, 1, &m);
	assert_int_equal(rec_count(r, 4, MSG_AssignConnection), 1);
	assert_int_equal(r->held[used].rule_count, 0);
	/* One that lies is given a path anew, once a second. */
	m.route_switched.out_route++;
	rec_sleep(r, 2 * SECOND);
	rec_pump(r);
	rec_clear(r);
	for (unsigned i = 0; i < 100; i++) {
		node_say(r, 1, &m);
		rec_pump(r);
	}
	assert_in_range(rec_count(r, 4, MSG_AssignConnection), 0, 1);
	assert_int_equal(rec_status(r).connections, 1);
	rec_free(r);
}

/* It went over while its channel was down: the report says so. */
static void test_switched_unheard(void **state)
{
	(void)state;
	unsigned used;
	uint64_t id;
	struct msg_standby_route a;
	struct rec *r = start_both_ways(&used, &id, &a);
	nm_node_down(r->nm, 1, r->now);
	goes_over(r, id, &a);
	rec_clear(r);
	node_join(r, 1, 11, 1);
	pass(r, 1);
	const struct msg_assign_connection *m =
		&rec_need(r, 11, MSG_AssignConnection)->assign_connection;
	assert_true(m->path == 2 && m->out_route == a.out_route);
	pass(r, 5);
	assert_int_equal(standby_rules(r, used), 2);
	/* A channel that came back without that: the standby is made anew, the path stays. */
	nm_node_down(r->nm, 4, r->now);
	rec_clear(r);
	node_join(r, 4, 14, 1);
	pass(r, 5);
	assert_int_equal(rec_count(r, 14, MSG_AssignConnection), 0);
	assert_int_equal(rec_find(r, 14, MSG_StandbyRoute, 0)->m.standby_route.out_transport, 0);
	assert_int_not_equal(rec_find(r, 14, MSG_StandbyRoute, 1)->m.standby_route.out_transport,
			     0);
	assert_int_equal(standby_rules(r, used), 2);
	rec_free(r);
}

/* One end goes over while the other has no manager: who comes back on the old path is told, and the
 * route that the first one is on is not taken away under it (seed 994 of make sim). */
static void test_switched_other_away(void **state)
{
	(void)state;
	unsigned used;
	uint64_t id;
	struct msg_standby_route a;
	struct rec *r = start_both_ways(&used, &id, &a);
	struct msg m = switched_to(id, &a);
	goes_over(r, id, &a);
	nm_node_down(r->nm, 4, r->now);
	rec_clear(r);
	node_say(r, 1, &m);
	pass(r, 1);
	assert_int_equal(rec_count(r, 1, MSG_AssignConnection), 0);
	node_join(r, 4, 14, 1);
	pass(r, 5);
	const struct msg_assign_connection *told =
		&rec_need(r, 14, MSG_AssignConnection)->assign_connection;
	assert_int_equal(told->path, 2);
	told = &rec_need(r, 1, MSG_AssignConnection)->assign_connection;
	assert_true(told->path == 2 && told->out_route == a.out_route);
	rec_free(r);
}

/* No relay has a manager when an end goes over to a standby that we have given up: a path is looked
 * for again when a relay comes back, although its links were never down (seed 779 of make sim). */
static void test_switched_without_relays(void **state)
{
	(void)state;
	unsigned used;
	uint64_t id;
	struct rec *r = start_with(0, &used, &id);
	struct msg_standby_route gone = {.out_transport = 4711, .out_route = 1};
	struct msg m = switched_to(id, &gone);
	nm_node_down(r->nm, 2, r->now);
	nm_node_down(r->nm, 3, r->now);
	rec_clear(r);
	node_say(r, 1, &m);
	pass(r, 1);
	assert_int_equal(rec_count(r, 1, MSG_AssignConnection), 0);
	node_join(r, 5 - used, 12, 1);
	pass(r, 5);
	assert_int_equal(rec_count(r, 1, MSG_AssignConnection), 1);
	assert_int_equal(rec_count(r, 4, MSG_AssignConnection), 1);
	pass(r, 60);
	assert_int_equal(rec_count(r, 1, MSG_ConnectionShutdown), 0);
	rec_free(r);
}

/* The next manager: the path goes on, whichever it is; the other one is forgotten and made anew. */
static void test_restart(void **state)
{
	(void)state;
	for (unsigned switched = 0; switched < 3; switched++) { /* so many ends */
		unsigned used, now_used;
		uint64_t id;
		struct rec *r = start(&used, &id);
		other_way(r, used);
		for (unsigned i = 0; i < switched; i++) {
			struct msg_standby_route s = standby_of(r, i ? 4 : 1);
			held_conn(&r->held[i ? 4 : 1], id)->out_transport = s.out_transport;
			held_conn(&r->held[i ? 4 : 1], id)->out_route = s.out_route;
		}
		rec_restart(r);
		for (unsigned n = 1; n <= 4; n++)
			node_join(r, n, 10 + n, 1);
		assert_int_equal(rec_need(r, 11, MSG_StandbyRoute)->standby_route.out_transport, 0);
		assert_int_equal(rec_need(r, 14, MSG_StandbyRoute)->standby_route.out_transport, 0);
		rec_pump(r);
		assert_int_equal(rec_count(r, 11, MSG_AssignConnection), switched == 1);
		pass(r, 60);
		assert_int_equal(rec_status(r).connections, 1);
		now_used = standby_rules(r, 2) ? 3 : 2;
		assert_true(switched == 1 || now_used == (switched ? 5 - used : used));
		assert_int_equal(standby_rules(r, 5 - now_used), 2);
		for (unsigned n = 2; n <= 3; n++)
			assert_int_equal(r->held[n].rule_count, 2);
		rec_free(r);
	}
}

/* A relay that may be in the middle no more is none of a standby either. */
static void test_transit(void **state)
{
	(void)state;
	unsigned used;
	uint64_t id;
	struct rec *r = start(&used, &id);
	other_way(r, used);
	struct mesh_id relay = node_id(5 - used);
	rec_clear(r);
	assert_int_equal(nm_set_transit(r->nm, &relay, false, r->now), 0);
	pass(r, 2);
	assert_int_equal(standby_of(r, 1).out_transport, 0);
	assert_int_equal(r->held[5 - used].rule_count, 0);
	assert_int_equal(r->held[used].rule_count, 2);
	/* The word is taken back, and a standby is found soon. */
	assert_int_equal(nm_set_transit(r->nm, &relay, true, r->now), 0);
	pass(r, 5);
	assert_int_equal(standby_rules(r, 5 - used), 2);
	rec_free(r);
}

/* Between neighbours the second way is any but their link. */
static void test_neighbours(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	r->config.standby_paths = 1;
	rec_start(r);
	for (unsigned n = 1; n <= 3; n++)
		node_join(r, n, n, 1);
	uint32_t direct = rec_link(r, 1, 2);
	struct msg m = ask_connect(2, "echo", 7);
	node_say(r, 1, &m);
	rec_pump(r);
	pass(r, 60);
	assert_int_equal(rec_count(r, 1, MSG_StandbyRoute), 0); /* there is none */
	rec_link(r, 1, 3), rec_link(r, 3, 2);
	pass(r, 60);
	assert_int_equal(standby_rules(r, 3), 2);
	mesh_lose(r, 1, direct);
	rec_pump(r);
	assert_int_equal(standby_rules(r, 3), 0);
	assert_int_equal(rec_status(r).connections, 1);
	rec_free(r);
}

/* A second way comes into being: who lacked a standby has one soon, not at its next look. */
static void test_new_link(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	r->config.standby_paths = 1;
	rec_start(r);
	for (unsigned n = 1; n <= 4; n++)
		node_join(r, n, n, 1);
	rec_link(r, 1, 2), rec_link(r, 2, 4);
	struct msg m = ask_connect(4, "echo", 7);
	node_say(r, 1, &m);
	rec_pump(r);
	pass(r, 4);
	assert_int_equal(rec_count(r, 1, MSG_StandbyRoute), 0); /* there is none */
	rec_link(r, 1, 3);
	pass(r, 1); /* no way yet, and it is looked at all the same */
	assert_int_equal(standby_rules(r, 3), 0);
	uint32_t last = rec_link(r, 3, 4);
	pass(r, 5);
	assert_int_equal(standby_rules(r, 3), 2);
	/* It goes, and comes again. */
	mesh_lose(r, 3, last);
	pass(r, 20);
	assert_int_equal(standby_rules(r, 3), 2);
	/* One that ends while it lacks one is looked for no more. */
	struct mesh_id relay = node_id(3);
	assert_int_equal(nm_set_transit(r->nm, &relay, false, r->now), 0);
	pass(r, 4);
	assert_int_equal(standby_rules(r, 3), 0);
	m = (struct msg){.type = MSG_ConnectionShutdown};
	m.connection_shutdown.connection =
		rec_need(r, 1, MSG_ConnectionOn)->connection_on.connection;
	node_say(r, 1, &m);
	assert_int_equal(nm_set_transit(r->nm, &relay, true, r->now), 0);
	pass(r, 60);
	assert_int_equal(standby_rules(r, 3), 0);
	rec_free(r);
}

/* There is only one way to begin, 1 - 2: then what the second shares is as little as may be. */
static void test_shared(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	r->config.standby_paths = 1;
	rec_start(r);
	for (unsigned n = 1; n <= 5; n++)
		node_join(r, n, n, 1);
	uint32_t shared = rec_link(r, 1, 2);
	uint32_t side[2] = {rec_link(r, 2, 3), rec_link(r, 2, 4)};
	rec_link(r, 3, 5), rec_link(r, 4, 5);
	struct msg m = ask_connect(5, "echo", 7);
	node_say(r, 1, &m);
	rec_pump(r);
	unsigned used = r->held[3].rule_count ? 3 : 4;
	pass(r, 2);
	assert_int_equal(standby_rules(r, 7 - used), 2);
	assert_int_equal(standby_rules(r, 2), 2);
	struct msg_standby_route a = standby_of(r, 1);
	assert_int_equal(a.out_transport, shared);
	rec_clear(r);
	mesh_lose(r, 2, side[used - 3]);
	assert_int_equal(rec_count(r, 2, MSG_AddRoute), 0);
	assert_int_equal(rec_need(r, 1, MSG_AssignConnection)->assign_connection.out_route,
			 a.out_route);
	pass(r, 60);
	assert_int_equal(standby_rules(r, used), 2);
	/* What both share dies: no way is left, until it is back. */
	mesh_lose(r, 1, shared);
	rec_pump(r);
	assert_int_equal(standby_rules(r, 7 - used) + standby_rules(r, used), 0);
	pass(r, 60);
	assert_int_equal(rec_status(r).connections, 1);
	assert_int_equal(standby_rules(r, 3) + standby_rules(r, 4), 2);
	rec_free(r);
}

/* A standby whose rules are refused costs the connection nothing. */
static void test_refused(void **state)
{
	(void)state;
	unsigned used;
	uint64_t id;
	struct rec *r = start(&used, &id);
	rec_clear(r);
	rec_sleep(r, 2 * SECOND);
	node_ack(r, rec_find(r, 5 - used, MSG_AddRoute, 0), CODE_BUSY, 0);
	assert_int_equal(rec_count(r, 1, MSG_StandbyRoute), 0);
	assert_int_equal(rec_count(r, 1, MSG_ConnectionShutdown), 0);
	assert_int_equal(standby_rules(r, 1), 0);
	rec_pump(r);
	pass(r, 60);
	assert_int_equal(standby_rules(r, 5 - used), 2);
	rec_free(r);
}

/* 1 - (2 | 3 | 4) - 5, and a connection from 1 to 5 over the relay in *used. */
static struct rec *start_wide(size_t paths, unsigned *used, uint32_t first[5])
{
	struct rec *r = rec_new();
	r->config.standby_paths = paths;
	rec_start(r);
	for (unsigned n = 1; n <= 5; n++)
		node_join(r, n, n, 1);
	for (unsigned n = 2; n <= 4; n++) {
		first[n] = rec_link(r, 1, n);
		rec_link(r, n, 5);
	}
	struct msg m = ask_connect(5, "echo", 7);
	node_say(r, 1, &m);
	rec_pump(r);
	for (*used = 2; !r->held[*used].rule_count;)
		++*used;
	pass(r, 6);
	return r;
}

static size_t standby_rules_all(struct rec *r)
{
	return standby_rules(r, 2) + standby_rules(r, 3) + standby_rules(r, 4);
}

/* The relay over which a route of node 1 begins. */
static unsigned relay_of(const uint32_t first[5], uint32_t transport)
{
	unsigned n = 2;
	while (n < 4 && first[n] != transport)
		n++;
	return n;
}

/* Two stand by; the path dies, and then the one that took its place. */
static void test_several(void **state)
{
	(void)state;
	unsigned used;
	uint32_t first[5];
	struct rec *r = start_wide(3, &used, first);
	assert_int_equal(rec_count(r, 1, MSG_StandbyRoute), 2);
	struct msg_standby_route a = rec_find(r, 1, MSG_StandbyRoute, 0)->m.standby_route;
	struct msg_standby_route b = rec_find(r, 1, MSG_StandbyRoute, 1)->m.standby_route;
	unsigned second = relay_of(first, a.out_transport),
		 third = relay_of(first, b.out_transport);
	assert_true(second != used && third != used && second != third);
	assert_int_equal(standby_rules(r, second), 2);
	assert_int_equal(standby_rules(r, third), 2);
	rec_clear(r);
	mesh_lose(r, 1, first[used]);
	rec_pump(r);
	assert_int_equal(rec_need(r, 1, MSG_AssignConnection)->assign_connection.out_transport,
			 first[second]);
	/* The other one stands by for this one now, as it is. */
	assert_int_equal(standby_rules(r, second), 0);
	assert_int_equal(standby_rules(r, third), 2);
	const struct msg_standby_route *s = &rec_need(r, 5, MSG_StandbyRoute)->standby_route;
	assert_int_equal(s->path, 2);
	assert_int_equal(rec_need(r, 1, MSG_StandbyRoute)->standby_route.out_route, b.out_route);
	rec_clear(r);
	mesh_lose(r, 1, first[second]);
	assert_int_equal(rec_count(r, third, MSG_AddRoute), 0);
	assert_int_equal(rec_need(r, 1, MSG_AssignConnection)->assign_connection.out_route,
			 b.out_route);
	rec_pump(r);
	assert_int_equal(standby_rules(r, third), 0);
	pass(r, 100);
	assert_int_equal(standby_rules_all(r), 4);
	assert_int_equal(rec_status(r).connections, 1);
	rec_free(r);
}

/* An end takes the second one: that becomes the path, and the first goes on standing by. */
static void test_second_taken(void **state)
{
	(void)state;
	unsigned used;
	uint32_t first[5];
	struct rec *r = start_wide(2, &used, first);
	struct msg_standby_route a = rec_find(r, 1, MSG_StandbyRoute, 0)->m.standby_route;
	struct msg_standby_route b = rec_find(r, 1, MSG_StandbyRoute, 1)->m.standby_route;
	struct msg m = switched_to(b.connection, &b);
	rec_clear(r);
	node_say(r, 1, &m);
	assert_int_equal(rec_need(r, 1, MSG_AssignConnection)->assign_connection.out_route,
			 b.out_route);
	rec_pump(r);
	assert_int_equal(standby_rules(r, relay_of(first, a.out_transport)), 2);
	assert_int_equal(standby_rules(r, relay_of(first, b.out_transport)), 0);
	pass(r, 6);
	assert_int_equal(standby_rules(r, used), 2); /* what was the path is as good as others */
	rec_free(r);
}

/* StandbyPaths changes while connections run. */
static void test_number(void **state)
{
	(void)state;
	unsigned used;
	uint32_t first[5];
	struct rec *r = start_wide(0, &used, first);
	struct nm_config config = r->config;
	static const size_t numbers[] = {3, 1, 2, 0, 1, 0};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		size_t kept = standby_rules_all(r) / 2;
		rec_clear(r);
		config.standby_paths = numbers[i];
		nm_set_config(r->nm, &config);
		if (numbers[i] < kept) { /* all are taken back, and who stays is told again */
			assert_int_equal(standby_of(r, 1).out_transport, 0);
			assert_int_equal(standby_of(r, 5).out_transport, 0);
			assert_int_equal(rec_count(r, 5, MSG_StandbyRoute), 1 + numbers[i]);
		}
		pass(r, 6);
		assert_int_equal(standby_rules_all(r), 2 * (numbers[i] > 2 ? 2 : numbers[i]));
		assert_int_equal(rec_count(r, 1, MSG_AssignConnection), 0);
	}
	for (unsigned n = 2; n <= 4; n++)
		assert_int_equal(r->held[n].rule_count, n == used ? 2 : 0);
	rec_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_is_made),
		cmocka_unit_test(test_is_taken),
		cmocka_unit_test(test_switched),
		cmocka_unit_test(test_switched_unheard),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_transit),
		cmocka_unit_test(test_neighbours),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_several),
		cmocka_unit_test(test_second_taken),
		cmocka_unit_test(test_number),
		cmocka_unit_test(test_new_link),
		cmocka_unit_test(test_switched_other_away),
		cmocka_unit_test(test_switched_without_relays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
