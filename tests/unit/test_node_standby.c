/* A node goes over to the standby route of a connection by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/connection.h"
#include "unit/node_ends.h"

static uint16_t standby(struct host *h, uint64_t id, uint32_t path, uint32_t out_t, uint32_t out_r,
			uint32_t in_t, uint32_t in_r)
{
	struct msg m = {.type = MSG_StandbyRoute, .seq = 11};
	m.standby_route = (struct msg_standby_route){id, path, out_t, out_r, in_t, in_r};
	manager_say(h, &m);
	return acked(h, 11, NULL);
}

/* 0 - 1 - 2 by transports 1 and 2, the standby by transport 3 between 0 and 2. */
static void start(struct ends *e)
{
	ends_up(e, CLASS_STREAM);
	connect_ends(e);
	struct host *h = e->w->hosts;
	link_hosts(e->w, 3, 0, 2);
	assert_int_equal(route(&h[0], 3, 32, 0, (uint32_t)e->id), CODE_OK);
	assert_int_equal(route(&h[2], 3, 31, 0, (uint32_t)e->id), CODE_OK);
}

static void both_know(struct ends *e, uint32_t path)
{
	struct host *h = e->w->hosts;
	assert_int_equal(standby(&h[0], e->id, path, 3, 31, 3, 32), CODE_OK);
	assert_int_equal(standby(&h[2], e->id, path, 3, 32, 3, 31), CODE_OK);
}

/* A message each way. */
static void talk(struct ends *e)
{
	app_send_data(&e->a, e->id, 5000, 'a');
	world_run(e->w, 500 * MS);
	expect_data(&e->c, e->id, 5000, 'a');
	app_send_data(&e->c, e->id, 5000, 'c');
	world_run(e->w, 500 * MS);
	expect_data(&e->a, e->id, 5000, 'c');
}

static void expect_switched(struct ends *e, int host, size_t times)
{
	struct said *s;
	size_t n = 0;
	for (; (s = said_take(&e->w->hosts[host].manager, MSG_RouteSwitched)); n++) {
		assert_int_equal(s->m.route_switched.connection, e->id);
		assert_int_equal(s->m.route_switched.out_transport, 3);
		assert_int_equal(s->m.route_switched.out_route, host ? 32 : 31);
		free(s);
	}
	assert_int_equal(n, times);
}

static void end_transport(struct host *h, uint32_t id)
{
	struct msg m = {.type = MSG_TransportShutdown, .seq = 12};
	m.transport_shutdown.transport = id;
	m.transport_shutdown.code = CODE_LOST;
	manager_say(h, &m);
	assert_int_equal(acked(h, 12, NULL), CODE_OK);
}

/* The first transport of one end goes; the other end hears the packets and follows. */
static void first_hop(void **state)
{
	(void)state;
	struct ends e;
	start(&e);
	both_know(&e, 1);
	talk(&e);
	expect_switched(&e, 0, 0);
	end_transport(&e.w->hosts[0], 1);
	talk(&e);
	expect_switched(&e, 0, 1);
	expect_switched(&e, 2, 1);
	/* The manager makes it the path: nothing changes. */
	struct host *h = e.w->hosts;
	assert_int_equal(assign(&h[2], e.id, 2, &h[0], false, CLASS_STREAM, 3, 32), CODE_OK);
	assert_int_equal(assign(&h[0], e.id, 2, &h[2], true, CLASS_STREAM, 3, 31), CODE_OK);
	talk(&e);
	expect_switched(&e, 0, 0);
	ends_free(&e);
}

/* Somewhere in the middle the rule is gone: ROUTE_ERROR. */
static void route_error(void **state)
{
	(void)state;
	struct ends e;
	start(&e);
	both_know(&e, 1);
	struct msg m = {.type = MSG_RemoveRoute, .remove_route = {1, 11}};
	manager_say(&e.w->hosts[1], &m);
	talk(&e);
	expect_switched(&e, 0, 1);
	expect_switched(&e, 2, 1);
	ends_free(&e);
}

/* The relay dies, and there is nobody to ask or to tell. */
static void manager_away(void **state)
{
	(void)state;
	struct ends e;
	start(&e);
	both_know(&e, 1);
	struct host *h = e.w->hosts;
	for (int i = 0; i < HOSTS; i++)
		node_engine_manager_down(h[i].engine, e.w->now);
	for (size_t i = 0; i < SOCKETS; i++)
		h[1].sockets[i].port = 1; /* what is sent to it lands nowhere */
	app_send_data(&e.a, e.id, 5000, 'a');
	world_run(e.w, 4000 * MS);
	expect_data(&e.c, e.id, 5000, 'a');
	talk(&e);
	expect_switched(&e, 0, 0);
	/* A node that ends while the manager is away leaves its transports as they are. */
	app_close(&e.a);
	app_close(&e.c);
	world_free(e.w);
}

/* A route that stood by for an older path, that was taken back, or that cannot be. */
static void void_ones(void **state)
{
	(void)state;
	struct ends e;
	start(&e);
	struct host *h = e.w->hosts;
	assert_int_equal(standby(&h[0], e.id, 7, 3, 31, 3, 32), CODE_OK); /* of another path */
	assert_int_equal(standby(&h[0], e.id + 1, 1, 3, 31, 3, 32), CODE_NOT_FOUND);
	assert_int_equal(standby(&h[0], e.id, 1, 9, 31, 3, 32), CODE_NOT_FOUND);
	both_know(&e, 1);
	assert_int_equal(standby(&h[0], e.id, 1, 0, 0, 0, 0), CODE_OK);
	end_transport(&h[0], 1);
	world_run(e.w, 500 * MS);
	expect_switched(&e, 0, 0);
	/* A new path voids it too. */
	assert_int_equal(assign(&h[0], e.id, 2, &h[2], true, CLASS_STREAM, 3, 31), CODE_OK);
	talk(&e);
	expect_switched(&e, 2, 1); /* who was not told: it hears the other end there */
	assert_int_equal(standby(&h[0], e.id, 2, 3, 31, 3, 32), CODE_OK);
	end_transport(&h[0], 3); /* both ways at once */
	world_run(e.w, 500 * MS);
	expect_switched(&e, 0, 0);
	ends_free(&e);
}

/* It comes when the route has died already. */
static void comes_late(void **state)
{
	(void)state;
	struct ends e;
	start(&e);
	end_transport(&e.w->hosts[0], 1);
	world_run(e.w, 100 * MS);
	both_know(&e, 1);
	talk(&e);
	expect_switched(&e, 0, 1);
	ends_free(&e);
}

/* Two stand by: the first is used up, the second takes over, and the other end follows. */
static void one_after_the_other(void **state)
{
	(void)state;
	struct ends e;
	start(&e);
	struct host *h = e.w->hosts;
	link_hosts(e.w, 4, 0, 2);
	assert_int_equal(route(&h[0], 4, 42, 0, (uint32_t)e.id), CODE_OK);
	assert_int_equal(route(&h[2], 4, 41, 0, (uint32_t)e.id), CODE_OK);
	both_know(&e, 1);
	assert_int_equal(standby(&h[0], e.id, 1, 4, 41, 4, 42), CODE_OK);
	assert_int_equal(standby(&h[2], e.id, 1, 4, 42, 4, 41), CODE_OK);
	assert_int_equal(standby(&h[2], e.id, 1, 4, 42, 4, 41), CODE_OK); /* twice is once */
	end_transport(&h[0], 1);
	talk(&e);
	expect_switched(&e, 0, 1);
	expect_switched(&e, 2, 1);
	end_transport(&h[0], 3);
	talk(&e);
	for (int i = 0; i <= 2; i += 2) {
		struct said *s = said_take(&h[i].manager, MSG_RouteSwitched);
		assert_non_null(s);
		assert_int_equal(s->m.route_switched.out_transport, 4);
		free(s);
	}
	expect_switched(&e, 0, 0);
	expect_switched(&e, 2, 0);
	ends_free(&e);
}

/* The first is dead already when it is needed; and there is no room for a fourth. */
static void first_that_lives(void **state)
{
	(void)state;
	struct ends e;
	start(&e);
	struct host *h = e.w->hosts;
	link_hosts(e.w, 4, 0, 2);
	assert_int_equal(route(&h[0], 4, 42, 0, (uint32_t)e.id), CODE_OK);
	assert_int_equal(route(&h[2], 4, 41, 0, (uint32_t)e.id), CODE_OK);
	assert_int_equal(standby(&h[0], e.id, 1, 4, 41, 4, 42), CODE_OK);
	assert_int_equal(standby(&h[2], e.id, 1, 4, 42, 4, 41), CODE_OK);
	both_know(&e, 1);
	assert_int_equal(standby(&h[0], e.id, 1, 3, 77, 3, 78), CODE_OK);
	assert_int_equal(standby(&h[0], e.id, 1, 3, 79, 3, 80), CODE_BUSY);
	end_transport(&h[0], 4);
	world_run(e.w, 200 * MS);
	expect_switched(&e, 0, 0);
	end_transport(&h[0], 1);
	talk(&e);
	expect_switched(&e, 0, 1); /* over transport 3 */
	expect_switched(&e, 2, 1);
	ends_free(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_hop),	    cmocka_unit_test(route_error),
		cmocka_unit_test(manager_away),	    cmocka_unit_test(void_ones),
		cmocka_unit_test(comes_late),	    cmocka_unit_test(one_after_the_other),
		cmocka_unit_test(first_that_lives),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
