/* The nodemanager's detours around a transport whose end hears nothing under traffic. */
#include "nm_mesh.h"

static void suspect(struct rec *r, uint64_t channel, uint32_t transport, bool is)
{
	struct msg m = {.type = MSG_TransportSuspect};
	m.transport_suspect.transport = transport;
	m.transport_suspect.suspect = is;
	node_say(r, channel, &m);
}

struct cost {
	uint32_t transport, cost;
};

static void cost_pick(void *arg, const struct nm_transport_info *t)
{
	struct cost *c = arg;
	if (t->id == c->transport)
		c->cost = t->cost;
}

static uint32_t cost_of(struct rec *r, uint32_t transport)
{
	struct cost c = {.transport = transport};
	nm_transports_each(r->nm, NULL, NM_ALL, cost_pick, &c);
	return c.cost;
}

static void test_detour(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	mesh_connect(r, 1, 4);
	assert_int_equal(rec_count(r, 2, MSG_AddRoute), 2);
	uint32_t before = cost_of(r, links[0]);
	rec_clear(r);
	suspect(r, 1, links[0], true);
	assert_int_equal(rec_count(r, 3, MSG_AddRoute), 2); /* before anything is taken back */
	assert_int_equal(rec_count(r, 2, MSG_RemoveRoute), 0);
	assert_int_equal(rec_status(r).transports_connected, 4);
	rec_pump(r);
	assert_int_equal(rec_need(r, 1, MSG_AssignConnection)->assign_connection.path, 2);
	assert_int_equal(rec_need(r, 4, MSG_AssignConnection)->assign_connection.path, 2);
	assert_int_equal(rec_count(r, 2, MSG_RemoveRoute), 2);
	assert_int_equal(rec_count(r, 1, MSG_ConnectionShutdown), 0);
	suspect(r, 1, links[0], false);
	suspect(r, 2, links[0], true); /* now its other end, which is no more on the path */
	suspect(r, 2, links[0], false);
	node_say(r, 1, &(struct msg){.type = MSG_TransportStats}); /* it was in doubt for that */
	assert_int_equal(cost_of(r, links[0]), before);
	rec_clear(r);
	rec_sleep(r, SECOND);
	assert_int_equal(r->count, 0); /* it does not run back and forth */
	suspect(r, 4, links[3], true); /* but may go back */
	rec_pump(r);
	assert_int_equal(rec_need(r, 1, MSG_AssignConnection)->assign_connection.path, 3);
	assert_int_equal(rec_count(r, 2, MSG_AddRoute), 2);
	rec_free(r);
}

static void test_no_detour(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	mesh_connect(r, 1, 4);
	nm_node_down(r->nm, 3, r->now); /* nobody can ask it for rules */
	rec_clear(r);
	suspect(r, 1, links[0], true);
	suspect(r, 4, links[1], true);
	suspect(r, 3, links[0], true); /* a channel that is gone */
	rec_sleep(r, SECOND);
	suspect(r, 1, links[0], false);
	suspect(r, 4, links[1], false);
	assert_int_equal(r->count, 0);
	assert_int_equal(rec_status(r).connections, 1);
	rec_free(r);
}

/* The detour does not come to be: all stays as it was. */
static void test_detour_is_refused(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	uint64_t id = mesh_connect(r, 1, 4);
	rec_clear(r);
	for (unsigned i = 0; i < 5; i++) {
		suspect(r, 1, links[0], true);
		node_ack(r, rec_find(r, 3, MSG_AddRoute, 2 * i), CODE_BUSY, 0);
		suspect(r, 1, links[0], false);
		/* Who has just refused is not asked again at once. */
		suspect(r, 1, links[0], true);
		assert_int_equal(rec_count(r, 3, MSG_AddRoute), 2 * i + 2);
		suspect(r, 1, links[0], false);
		rec_sleep(r, 31 * SECOND);
	}
	rec_sleep(r, 60 * SECOND);
	assert_int_equal(rec_count(r, 1, MSG_ConnectionShutdown), 0);
	assert_int_equal(rec_count(r, 2, MSG_RemoveRoute), 0);
	assert_int_equal(rec_status(r).connections, 1);
	assert_int_equal(r->held[2].rule_count, 2);
	/* And when the path dies after all, it moves. */
	struct msg m = {.type = MSG_TransportShutdown};
	m.transport_shutdown.transport = links[0];
	m.transport_shutdown.code = CODE_LOST;
	node_say(r, 1, &m);
	rec_pump(r);
	assert_int_equal(rec_need(r, 1, MSG_AssignConnection)->assign_connection.connection, id);
	rec_free(r);
}

/* A first hop that has died by the time the end hears of it: the next way, not the end. */
static void test_assigned_too_late(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	mesh_connect(r, 1, 4);
	rec_clear(r);
	suspect(r, 1, links[0], true);
	for (size_t i = 0; i < r->count; i++)
		if (r->sent[i].m.type == MSG_AddRoute)
			node_obey(r, &r->sent[i]);
	node_ack(r, rec_find(r, 4, MSG_AssignConnection, 0), CODE_NOT_FOUND, 0);
	suspect(r, 1, links[0], false);
	rec_pump(r);
	assert_int_equal(rec_count(r, 1, MSG_ConnectionShutdown), 0);
	assert_int_equal(rec_status(r).connections, 1);
	assert_int_equal(rec_find(r, 1, MSG_AssignConnection, 1)->m.assign_connection.path, 3);
	rec_free(r);
}

/* The other way leads through the very node that is silent: 1 - 5 - 2 - 4.  It may be dead, so the
 * longer way 1 - 3 - 6 - 4 is taken, until node 2 has said something. */
static void test_doubt(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	for (unsigned n = 1; n <= 6; n++)
		node_join(r, n, n, 1);
	uint32_t first = rec_link(r, 1, 2), second = rec_link(r, 2, 4);
	uint32_t a = rec_link(r, 1, 5), b = rec_link(r, 5, 2);
	rec_link(r, 1, 3), rec_link(r, 3, 6), rec_link(r, 6, 4);
	mesh_report(r, 2, first, 1000), mesh_report(r, 2, second, 1000), mesh_report(r, 5, a, 1000),
		mesh_report(r, 5, b, 1000);
	mesh_connect(r, 1, 4);
	uint32_t sound = cost_of(r, second);
	rec_clear(r);
	suspect(r, 1, first, true);
	assert_int_equal(rec_count(r, 6, MSG_AddRoute), 2);
	assert_int_equal(rec_count(r, 5, MSG_AddRoute) + rec_count(r, 2, MSG_AddRoute), 0);
	assert_true(cost_of(r, second) > 1000 * sound);
	rec_pump(r);
	node_say(r, 2, &(struct msg){.type = MSG_TransportStats}); /* it lives */
	assert_int_equal(cost_of(r, second), sound);
	assert_true(cost_of(r, first) > 1000 * sound); /* but this link is dead all the same */
	rec_clear(r);
	suspect(r, 2, first, true); /* the other end complains too: node 1 is no corpse */
	assert_true(cost_of(r, a) < 1000 * sound);
	assert_int_equal(r->count, 0);
	rec_free(r);
}

/* Nodes speak only of their own transports. */
static void test_foreign(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	mesh_connect(r, 1, 4);
	rec_clear(r);
	suspect(r, 3, links[0], true);
	suspect(r, 1, links[0] + 999, true);
	assert_int_equal(r->count, 0);
	assert_true(cost_of(r, links[0]) < 10000);
	rec_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_detour),
		cmocka_unit_test(test_no_detour),
		cmocka_unit_test(test_detour_is_refused),
		cmocka_unit_test(test_assigned_too_late),
		cmocka_unit_test(test_doubt),
		cmocka_unit_test(test_foreign),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
