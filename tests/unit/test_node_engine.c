/* The node's engine: three of them on a perfect network, the test as manager and apps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/connection.h"
#include "unit/node_ends.h"

/* --- registration ---------------------------------------------------------------------------- */

static void registers(void **state)
{
	struct world *w = world_new(NULL);
	struct host *h = &w->hosts[0];
	struct net_addr addr = {4, {192, 0, 2, 1}, 0};

	(void)state;
	node_engine_set_addrs(h->engine, &addr, 1);
	node_engine_manager_up(h->engine, w->now);
	struct said *r = said_take(&h->manager, MSG_RegisterNode);
	assert_non_null(r);
	assert_true(bytes_equal(r->m.register_node.name, bytes_str("host0")));
	assert_int_equal(r->m.register_node.addrs_count, 1);
	assert_true(net_addr_equal(&r->m.register_node.addrs[0].addr, &addr));
	struct msg m = {.type = MSG_RegisterNodeAck, .seq = r->m.seq};
	uint64_t instance = r->m.register_node.instance;
	free(r);
	m.register_node_ack.code = CODE_REFUSED;
	manager_say(h, &m);
	assert_int_equal(h->closed, 1);
	assert_false(node_engine_registered(h->engine));

	/* Refused before it was asked (a revoked key): sequence 0 can do that, and no more. */
	node_engine_manager_up(h->engine, w->now);
	free(said_take(&h->manager, MSG_RegisterNode));
	m.seq = 0;
	m.register_node_ack.code = CODE_OK;
	m.register_node_ack.id = h->id;
	manager_say(h, &m);
	assert_false(node_engine_registered(h->engine));
	assert_int_equal(h->closed, 1);
	m.register_node_ack.code = CODE_REFUSED;
	manager_say(h, &m);
	assert_int_equal(h->closed, 2);

	node_engine_manager_up(h->engine, w->now);
	r = said_take(&h->manager, MSG_RegisterNode);
	assert_int_equal(r->m.register_node.instance, instance);
	m.seq = r->m.seq;
	free(r);
	m.register_node_ack.code = CODE_OK;
	m.register_node_ack.id = w->hosts[1].id; /* not ours */
	manager_say(h, &m);
	assert_int_equal(h->closed, 3);
	assert_false(node_engine_registered(h->engine));

	/* Nothing is accepted before the ack. */
	node_engine_manager_up(h->engine, w->now);
	struct msg t = {.type = MSG_TransportCreate, .seq = 3};
	t.transport_create.transport = 1;
	manager_say(h, &t);
	assert_null(said_take(&h->manager, MSG_CommonAck));
	struct msg end = {.type = MSG_Shutdown};
	said_clear(&h->manager);
	host_register(h, 0);
	assert_true(node_engine_registered(h->engine));
	manager_say(h, &end);
	assert_int_equal(h->quit, 1);
	world_free(w);
}

static void few(struct node_engine_config *c)
{
	c->max_transports = 2;
	c->max_apps = 2;
	c->max_routes = 2;
}

static void limits(void **state)
{
	struct world *w = world_new(few);
	struct host *h = &w->hosts[0];
	struct test_app a, b, c;
	uint64_t port, again;

	(void)state;
	host_register(h, 0);
	assert_int_equal(create(h, 0, &w->hosts[1], true, NULL), CODE_INVALID);
	assert_int_equal(create(h, 1, h, true, NULL), CODE_INVALID);
	h->next_open_error = -EADDRINUSE;
	assert_int_equal(create(h, 1, &w->hosts[1], true, NULL), CODE_PORT_IN_USE);
	assert_int_equal(create(h, 1, &w->hosts[1], true, &port), CODE_OK);
	assert_int_equal(create(h, 1, &w->hosts[1], true, &again), CODE_OK); /* asked twice */
	assert_int_equal(port, again);
	assert_int_equal(create(h, 1, &w->hosts[2], true, NULL), CODE_INVALID);
	assert_int_equal(create(h, 2, &w->hosts[2], true, NULL), CODE_OK);
	assert_int_equal(create(h, 3, &w->hosts[2], true, NULL), CODE_BUSY);
	assert_int_equal(open_udp(h, 9, &w->hosts[1], 1), CODE_NOT_FOUND);

	assert_int_equal(route(h, 1, 1, 9, 1), CODE_NOT_FOUND);
	assert_int_equal(route(h, 1, 1, 2, 1), CODE_OK);
	assert_int_equal(route(h, 1, 2, 2, 2), CODE_OK);
	assert_int_equal(route(h, 1, 3, 2, 3), CODE_BUSY);
	struct msg m = {.type = MSG_RemoveRoute, .seq = 4, .remove_route = {1, 1}};
	manager_say(h, &m);
	assert_int_equal(acked(h, 4, NULL), CODE_OK);
	assert_int_equal(route(h, 1, 3, 2, 3), CODE_OK);

	app_open(&a, h);
	app_open(&b, h);
	app_open(&c, h);
	assert_non_null(a.app);
	assert_non_null(b.app);
	assert_null(c.app);
	app_register(&a, "one");
	m = (struct msg){.type = MSG_RegisterApp, .seq = 1};
	m.register_app.app = bytes_str("one");
	m.register_app.type = bytes_str("test");
	app_say(&b, &m);
	struct said *r = said_take(&b.heard, MSG_RegisterAppAck);
	assert_int_equal(r->m.register_app_ack.code, CODE_REFUSED);
	free(r);
	app_close(&a);
	app_say(&b, &m); /* the name is free again */
	r = said_take(&b.heard, MSG_RegisterAppAck);
	assert_int_equal(r->m.register_app_ack.code, CODE_OK);
	free(r);
	app_close(&b);
	world_free(w);
}

/* --- transports ------------------------------------------------------------------------------ */

static void transport_lives_and_dies(void **state)
{
	struct world *w = world_new(NULL);
	struct host *a = &w->hosts[0], *b = &w->hosts[1];

	(void)state;
	host_register(a, 0);
	host_register(b, 0);
	link_hosts(w, 5, 0, 1);
	world_run(w, 3 * S);
	struct said *s = said_take(&a->manager, MSG_TransportStats);
	assert_non_null(s);
	assert_int_equal(s->m.transport_stats.stats_count, 1);
	assert_int_equal(s->m.transport_stats.stats[0].transport, 5);
	assert_true(s->m.transport_stats.stats[0].up);
	free(s);
	struct msg m = {.type = MSG_TransportShutdown, .seq = 3};
	m.transport_shutdown.transport = 5;
	m.transport_shutdown.code = CODE_CLOSED;
	manager_say(a, &m);
	assert_int_equal(acked(a, 3, NULL), CODE_OK);
	assert_null(said_take(&a->manager, MSG_TransportShutdown)); /* it said so itself */
	world_run(w, 10 * MS);
	s = said_take(&b->manager, MSG_TransportShutdown);
	assert_non_null(s);
	assert_int_equal(s->m.transport_shutdown.transport, 5);
	free(s);
	struct node_status st;
	node_engine_get_status(b->engine, &st);
	assert_int_equal(st.transports, 0);
	assert_true(st.tx_bytes > 0);
	world_free(w);
}

static void unknown_label_is_answered(void **state)
{
	struct ends e;
	struct msg m = {.type = MSG_RemoveRoute, .seq = 4, .remove_route = {2, 12}};
	struct node_status s;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	manager_say(&e.w->hosts[2], &m);
	assert_int_equal(acked(&e.w->hosts[2], 4, NULL), CODE_OK);
	answer_connection(&e.a, e.id);
	world_run(e.w, 100 * MS);
	node_engine_get_status(e.w->hosts[2].engine, &s);
	assert_true(s.unknown_labels > 0);
	node_engine_get_status(e.w->hosts[0].engine, &s); /* passed back over the relay */
	assert_true(s.route_errors > 0);
	ends_free(&e);
}

/* --- connections ----------------------------------------------------------------------------- */

static void messages_both_ways(void **state)
{
	struct ends e;
	const size_t big = 5u << 20;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	app_send_data(&e.a, e.id, 10, 1);
	app_send_data(&e.a, e.id, 0, 2);
	app_send_data(&e.a, e.id, big, 3); /* more than the credit, once */
	app_send_data(&e.c, e.id, 70000, 4);
	world_run(e.w, 3 * S);
	expect_data(&e.c, e.id, 10, 1);
	expect_data(&e.c, e.id, 0, 2);
	expect_data(&e.c, e.id, big, 3);
	expect_data(&e.a, e.id, 70000, 4);
	/* All of it, but for a rest that is not worth a message yet. */
	size_t back = credit_heard(&e.a);
	assert_true(back <= big + 10 && big + 10 - back < APP_CREDIT_BYTES / 4);
	assert_int_equal(credit_heard(&e.c), 0);
	struct node_status s;
	node_engine_get_status(e.w->hosts[1].engine, &s);
	assert_true(s.forwarded_packets > big / 1452);
	ends_free(&e);
}

/* After traffic a quiet node gives memory back, once, and goes on with the next message. */
static void quiet_node_trims(void **state)
{
	struct ends e;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	struct host *relay = &e.w->hosts[1];
	for (unsigned round = 0; round < 3; round++) {
		relay->trimmed = 0;
		app_send_data(&e.a, e.id, 500000, (uint8_t)round);
		world_run(e.w, 3 * S);
		expect_data(&e.c, e.id, 500000, (uint8_t)round);
		app_give_credit(&e.c, e.id, 500000);
		assert_int_equal(relay->trimmed, 0);
		world_run(e.w, 30 * S);
		assert_int_equal(relay->trimmed, 1);
	}
	ends_free(&e);
}

static void datagrams(void **state)
{
	struct ends e;

	(void)state;
	ends_up(&e, CLASS_DATAGRAM);
	connect_ends(&e);
	app_send_data(&e.a, e.id, DATAGRAM_MAX_BYTES, 1);
	app_send_data(&e.a, e.id, 1, 2);
	world_run(e.w, 1 * S);
	expect_data(&e.c, e.id, DATAGRAM_MAX_BYTES, 1);
	expect_data(&e.c, e.id, 1, 2);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(credit_heard(&e.a), 0);
		app_send_data(&e.a, e.id, DATAGRAM_MAX_BYTES, 1);
		node_engine_flush(e.w->hosts[0].engine, e.w->now);
	}
	assert_int_equal(credit_heard(&e.a),
			 5 * DATAGRAM_MAX_BYTES + 1); /* at once, in large pieces */
	world_run(e.w, 1 * S);
	app_send_data(&e.a, e.id, DATAGRAM_MAX_BYTES + 1, 1);
	node_engine_flush(e.w->hosts[0].engine, e.w->now);
	expect_end(&e.a, e.id, CODE_PROTOCOL);
	ends_free(&e);
}

static void overrun_is_cut_off(void **state)
{
	struct ends e;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	app_send_data(&e.a, e.id, APP_CREDIT_BYTES - 1, 1);
	app_send_data(&e.a, e.id, 1000, 2); /* below zero by one message: allowed */
	assert_null(said_take(&e.a.heard, MSG_ConnectionShutdown));
	app_send_data(&e.a, e.id, 1, 3);
	node_engine_flush(e.w->hosts[0].engine, e.w->now);
	expect_end(&e.a, e.id, CODE_PROTOCOL);
	struct said *s = said_take(&e.w->hosts[0].manager, MSG_ConnectionShutdown);
	assert_non_null(s);
	free(s);
	world_run(e.w, 100 * MS);
	expect_end(&e.c, e.id, CODE_CLOSED);
	ends_free(&e);
}

static void slow_receiver_slows_the_sender(void **state)
{
	struct ends e;
	const size_t len = 256u << 10;
	size_t sent = 0, got = 0, owed = 0;
	struct node_status s;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	for (int i = 0; i < 40; i++) {
		for (; owed < APP_CREDIT_BYTES; owed += len, sent++)
			app_send_data(&e.a, e.id, len, (uint8_t)sent);
		world_run(e.w, 200 * MS);
		owed -= credit_heard(&e.a);
	}
	node_engine_get_status(e.w->hosts[2].engine, &s);
	assert_int_equal(said_drop(&e.c.heard, MSG_AppMessage), APP_CREDIT_BYTES / len);
	got = APP_CREDIT_BYTES / len;
	assert_true(s.queued_bytes < 10u << 20);
	assert_true(sent * len < 16u << 20);
	/* The app takes it all: everything arrives, in order. */
	app_give_credit(&e.c, e.id, APP_CREDIT_BYTES);
	for (int i = 0; i < 200 && got < sent; i++) {
		world_run(e.w, 50 * MS);
		struct said *m;
		while ((m = said_take(&e.c.heard, MSG_AppMessage))) {
			assert_int_equal(m->m.app_message.data.data[0], (uint8_t)got);
			got++;
			app_give_credit(&e.c, e.id, (uint32_t)m->m.app_message.data.len);
			free(m);
		}
	}
	assert_int_equal(got, sent);
	ends_free(&e);
}

static void app_send_part(struct test_app *a, uint64_t id, size_t len, size_t left)
{
	static uint8_t data[PART_MAX_BYTES];
	struct msg m = {.type = MSG_SendPart};

	memset(data, 7, sizeof data);
	m.send_part.connection = id;
	m.send_part.left = (uint32_t)left;
	m.send_part.data = bytes_of(data, len);
	assert_int_equal(app_say(a, &m), 0);
}

static void app_takes_parts(struct test_app *a)
{
	struct msg m = {.type = MSG_TakeParts, .take_parts = {.parts = 1}};
	assert_int_equal(app_say(a, &m), 0);
}

static size_t parts_heard(struct test_app *a, size_t *left)
{
	struct said *m;
	size_t bytes = 0;

	while ((m = said_take(&a->heard, MSG_AppPart))) {
		assert_int_equal(m->m.app_part.data.data[0], 7);
		bytes += m->m.app_part.data.len;
		*left = m->m.app_part.left;
		free(m);
	}
	return bytes;
}

/* The beginning of a message is with the far app before its end has left the near one; without its
 * credit for what is more than that; not while its socket is full. */
static void parts_pass_as_they_come(void **state)
{
	struct ends e;
	const size_t len = 5u << 20;
	size_t got = 0, left = len, sent = 0;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	app_takes_parts(&e.c);
	for (; sent < len / 2; sent += 50000)
		app_send_part(&e.a, e.id, 50000, len - sent - 50000);
	world_run(e.w, 1000 * MS);
	got += parts_heard(&e.c, &left);
	assert_in_range(got, len / 2 - 70000, len / 2 + 50000);
	assert_int_equal(left, len - got);
	e.c.pending = 100u << 20;
	for (; sent < len; sent += len - sent < 50000 ? len - sent : 50000)
		app_send_part(&e.a, e.id, len - sent < 50000 ? len - sent : 50000,
			      len - sent < 50000 ? 0 : len - sent - 50000);
	world_run(e.w, 1000 * MS);
	assert_int_equal(parts_heard(&e.c, &left), 0);
	e.c.pending = 0;
	for (int i = 0; i < 20 && got < len; i++) {
		node_engine_app_drained(e.w->hosts[2].engine, e.c.app, e.w->now);
		world_run(e.w, 200 * MS);
		got += parts_heard(&e.c, &left);
	}
	assert_int_equal(got, len);
	assert_int_equal(left, 0);
	/* It has had far more than its credit: what follows waits. */
	app_send_data(&e.a, e.id, 1000, 1);
	world_run(e.w, 500 * MS);
	assert_null(said_take(&e.c.heard, MSG_AppMessage));
	app_give_credit(&e.c, e.id, (uint32_t)len);
	expect_data(&e.c, e.id, 1000, 1);
	ends_free(&e);
}

static void parts_are_joined_for_others(void **state)
{
	struct ends e;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	app_send_part(&e.a, e.id, 60000, 70000);
	app_send_part(&e.a, e.id, 60000, 10000);
	world_run(e.w, 500 * MS);
	assert_null(said_take(&e.c.heard, MSG_AppMessage));
	app_send_part(&e.a, e.id, 10000, 0);
	world_run(e.w, 500 * MS);
	expect_data(&e.c, e.id, 130000, 7);
	world_run(e.w, 500 * MS);
	/* The connection ends with half a message on its way: nobody hears of that. */
	app_takes_parts(&e.c);
	app_send_part(&e.a, e.id, 60000, 70000);
	world_run(e.w, 500 * MS);
	node_engine_app_down(e.w->hosts[0].engine, e.a.app, e.w->now);
	e.a.app = NULL;
	world_run(e.w, 500 * MS);
	expect_end(&e.c, e.id, CODE_CLOSED);
	ends_free(&e);
}

static void bad_parts_end_the_connection(void **state)
{
	static const size_t bad[][4] = {
		{100, 100, 50, 51},    {100, 100, 101, 0},
		{0, 100, 0, 100},      {PART_MAX_BYTES, MAX_MESSAGE_BYTES, 1, 0},
		{2, UINT32_MAX, 1, 1},
	};

	(void)state;
	for (unsigned i = 0; i <= sizeof bad / sizeof *bad; i++) {
		struct ends e;
		ends_up(&e, CLASS_STREAM);
		connect_ends(&e);
		if (i < sizeof bad / sizeof *bad) {
			app_send_part(&e.a, e.id, bad[i][0], bad[i][1]);
			app_send_part(&e.a, e.id, bad[i][2], bad[i][3]);
		} else { /* another message within one */
			app_send_part(&e.a, e.id, 100, 100);
			app_send_data(&e.a, e.id, 100, 1);
		}
		world_run(e.w, 100 * MS);
		expect_end(&e.a, e.id, CODE_PROTOCOL);
		ends_free(&e);
	}
}

static void full_app_socket_holds_messages(void **state)
{
	struct ends e;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	e.c.pending = 100u << 20;
	app_send_data(&e.a, e.id, 1000, 1);
	world_run(e.w, 500 * MS);
	assert_null(said_take(&e.c.heard, MSG_AppMessage));
	e.c.pending = 0;
	node_engine_app_drained(e.w->hosts[2].engine, e.c.app, e.w->now);
	expect_data(&e.c, e.id, 1000, 1);
	ends_free(&e);
}

static void close_delivers_what_was_sent(void **state)
{
	struct ends e;
	struct msg m = {.type = MSG_ConnectionShutdown};

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	app_send_data(&e.a, e.id, 900000, 1);
	m.connection_shutdown.connection = e.id;
	m.connection_shutdown.text = bytes_str("done");
	app_say(&e.a, &m);
	app_close(&e.a); /* even when the app itself is gone */
	struct said *u = said_take(&e.w->hosts[0].manager, MSG_UnregisterApp);
	assert_non_null(u);
	free(u);
	world_run(e.w, 2 * S);
	expect_data(&e.c, e.id, 900000, 1);
	expect_end(&e.c, e.id, CODE_CLOSED);
	assert_non_null(u = said_take(&e.w->hosts[0].manager, MSG_ConnectionShutdown));
	free(u);
	ends_free(&e);
}

/* The far end has closed while it was without the manager, who calls the connection lost when it is
 * back: what was acknowledged arrives all the same (seed 290 of make sim). */
static void loss_delivers_what_has_come(void **state)
{
	struct ends e;
	struct msg m = {.type = MSG_ConnectionShutdown, .seq = 77};

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	app_send_data(&e.a, e.id, APP_CREDIT_BYTES - 1, 1);
	world_run(e.w, 2 * S);
	expect_data(&e.c, e.id, APP_CREDIT_BYTES - 1, 1);
	app_send_data(&e.a, e.id, 5000, 2);
	app_send_data(&e.a, e.id, 6000, 3); /* above the credit */
	world_run(e.w, 2 * S);
	expect_data(&e.c, e.id, 5000, 2);
	assert_null(said_take(&e.c.heard, MSG_AppMessage));
	m.connection_shutdown.connection = e.id;
	m.connection_shutdown.code = CODE_LOST;
	m.connection_shutdown.text = bytes_str("node a has ended it");
	manager_say(&e.w->hosts[2], &m);
	world_run(e.w, 100 * MS);
	assert_null(said_take(&e.c.heard, MSG_ConnectionShutdown));
	app_give_credit(&e.c, e.id, APP_CREDIT_BYTES);
	world_run(e.w, 100 * MS);
	expect_data(&e.c, e.id, 6000, 3);
	expect_end(&e.c, e.id, CODE_LOST);
	ends_free(&e);
}

static void app_gone_ends_its_connections(void **state)
{
	struct ends e;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	connect_ends(&e);
	app_close(&e.c);
	world_run(e.w, 100 * MS);
	expect_end(&e.a, e.id, CODE_CLOSED);
	ends_free(&e);
}

static void unknown_app_is_refused(void **state)
{
	struct ends e;
	struct host *h;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	h = e.w->hosts;
	app_close(&e.c);
	assert_int_equal(assign(&h[2], 99, 1, &h[0], false, CLASS_STREAM, 2, 21), CODE_NOT_FOUND);
	assert_int_equal(assign(&h[0], 99, 1, &h[2], true, CLASS_STREAM, 7, 21), CODE_NOT_FOUND);
	assert_int_equal(assign(&h[0], 99, 1, &h[2], true, 9, 1, 11), CODE_INVALID);
	/* The same low half would be the same end of a route. */
	assert_int_equal(assign(&h[0], e.id + (1ull << 32), 1, &h[2], true, CLASS_STREAM, 1, 11),
			 CODE_BUSY);
	ends_free(&e);
}

static void lost_link_then_new_path(void **state)
{
	struct ends e;
	struct host *h;
	struct msg m = {.type = MSG_TransportShutdown};

	(void)state;
	ends_up(&e, CLASS_STREAM);
	h = e.w->hosts;
	connect_ends(&e);
	app_send_data(&e.a, e.id, 900000, 1);
	world_run(e.w, 2 * MS);
	m.transport_shutdown.transport = 1;
	manager_say(&h[0], &m);
	manager_say(&h[1], &m);
	app_send_data(&e.a, e.id, 1000, 2);
	world_run(e.w, 300 * MS);
	link_hosts(e.w, 3, 0, 1);
	assert_int_equal(route(&h[1], 3, 31, 2, 12), CODE_OK);
	assert_int_equal(route(&h[1], 2, 21, 3, 32), CODE_OK);
	assert_int_equal(route(&h[0], 3, 32, 0, (uint32_t)e.id), CODE_OK);
	assert_int_equal(assign(&h[0], e.id, 2, &h[2], true, CLASS_STREAM, 3, 31), CODE_OK);
	assert_int_equal(assign(&h[2], e.id, 2, &h[0], false, CLASS_STREAM, 2, 21), CODE_OK);
	world_run(e.w, 2 * S);
	expect_data(&e.c, e.id, 900000, 1);
	expect_data(&e.c, e.id, 1000, 2);
	assert_null(said_take(&e.c.heard, MSG_AppMessage));
	ends_free(&e);
}

/* --- the manager comes and goes -------------------------------------------------------------- */

static void manager_away_and_back(void **state)
{
	struct ends e;
	struct host *h;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	h = e.w->hosts;
	connect_ends(&e);
	node_engine_manager_down(h[0].engine, e.w->now);
	said_clear(&h[0].manager);
	struct said *s;
	app_send_data(&e.a, e.id, 5000, 1); /* traffic goes on */
	world_run(e.w, 500 * MS);
	expect_data(&e.c, e.id, 5000, 1);
	struct msg m = {.type = MSG_ConnectionShutdown};
	m.connection_shutdown.connection = e.id;
	app_say(&e.a, &m);
	world_run(e.w, 500 * MS);
	assert_null(TAILQ_FIRST(&h[0].manager));
	host_register(&h[0], 1); /* kept: it sees what is missing */
	assert_non_null(s = said_take(&h[0].manager, MSG_NodeReport));
	assert_int_equal(s->m.node_report.last, 1);
	assert_int_equal(s->m.node_report.transports_count, 1);
	assert_int_equal(s->m.node_report.rules_count, 1);
	assert_int_equal(s->m.node_report.connections_count, 0);
	assert_int_equal(s->m.node_report.apps_count, 1);
	free(s);
	assert_int_equal(said_drop(&h[0].manager, MSG_RegisterApp), 1);
	assert_null(TAILQ_FIRST(&h[0].manager));
	ends_free(&e);
}

static void manager_that_knows_nothing(void **state)
{
	struct ends e;
	struct host *h;
	struct node_status s;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	h = e.w->hosts;
	connect_ends(&e);
	node_engine_manager_down(h[0].engine, e.w->now);
	host_register(&h[0], 0);
	expect_end(&e.a, e.id, CODE_LOST);
	node_engine_get_status(h[0].engine, &s);
	assert_int_equal(s.transports + s.connections + s.routes, 0);
	assert_int_equal(said_drop(&h[0].manager, MSG_RegisterApp), 2);
	world_run(e.w, 100 * MS);
	node_engine_get_status(h[1].engine, &s);
	assert_int_equal(s.transports, 1); /* its end of transport 1 was closed in-band */
	ends_free(&e);
}

/* --- connections asked for while there is no manager ------------------------------------------ */

static struct node_status status_of(const struct host *h)
{
	struct node_status s;

	node_engine_get_status(h->engine, &s);
	return s;
}

static uint16_t code_heard(struct test_app *a)
{
	struct said *s = said_take(&a->heard, MSG_CommonAck);
	uint16_t code;

	assert_non_null(s);
	code = s->m.common_ack.code;
	free(s);
	return code;
}

static void register_early(struct test_app *a)
{
	struct msg m = {.type = MSG_RegisterApp, .seq = 1};

	m.register_app.app = bytes_str("client");
	m.register_app.type = bytes_str("test");
	assert_int_equal(app_say(a, &m), 0);
	assert_int_equal(said_drop(&a->heard, MSG_RegisterAppAck), 1);
}

static void connect_waits_for_the_manager(void **state)
{
	struct world *w = world_new(NULL);
	struct host *h = &w->hosts[0];
	struct test_app a;

	(void)state;
	app_open(&a, h);
	register_early(&a);
	ask_connection(&a, h, CLASS_STREAM);
	world_run(w, 4 * S);
	assert_null(TAILQ_FIRST(&a.heard));
	assert_null(TAILQ_FIRST(&h->manager));
	assert_int_equal(status_of(h).requests, 1);
	assert_int_equal(status_of(h).held, 1);
	host_register(h, 0);
	/* The app is announced first; then its question has the same patience as any other. */
	assert_int_equal(TAILQ_FIRST(&h->manager)->m.type, MSG_RegisterApp);
	struct said *q = said_take(&h->manager, MSG_ConnectWithRoute);
	assert_non_null(q);
	assert_true(mesh_id_equal(&q->m.connect_with_route.peer, &h->id));
	assert_true(bytes_equal(q->m.connect_with_route.app, bytes_str("server")));
	assert_true(bytes_equal(q->m.connect_with_route.from_app, bytes_str("client")));
	assert_int_equal(q->m.connect_with_route.class, CLASS_STREAM);
	assert_null(said_take(&h->manager, MSG_ConnectWithRoute));
	world_run(w, 19 * S);
	assert_null(TAILQ_FIRST(&a.heard));
	struct msg m = {.type = MSG_ConnectWithRouteAck, .seq = q->m.seq};
	m.connect_with_route_ack.code = CODE_NOT_FOUND;
	free(q);
	manager_say(h, &m);
	assert_int_equal(code_heard(&a), CODE_NOT_FOUND);
	world_run(w, 2 * S); /* nobody has answered the announcement either */
	assert_int_equal(status_of(h).requests, 0);
	app_close(&a);
	world_free(w);
}

static void connect_waits_no_longer(void **state)
{
	struct world *w = world_new(NULL);
	struct host *h = &w->hosts[0];
	struct test_app a;

	(void)state;
	app_open(&a, h);
	register_early(&a);
	ask_connection(&a, h, CLASS_STREAM);
	world_run(w, 3 * S);
	ask_connection(&a, h, CLASS_STREAM);
	world_run(w, 1900 * MS);
	assert_null(TAILQ_FIRST(&a.heard));
	world_run(w, 200 * MS);
	assert_int_equal(code_heard(&a), CODE_UNAVAILABLE);
	assert_null(TAILQ_FIRST(&a.heard));
	host_register(h, 0);
	assert_int_equal(said_drop(&h->manager, MSG_ConnectWithRoute), 1); /* the younger one */
	ask_connection(&a, h, CLASS_STREAM);
	assert_int_equal(status_of(h).requests, 3); /* the two, and the app's announcement */
	node_engine_manager_down(h->engine, w->now);
	/* Nobody waits twice: one had waited before, the other is asked again. */
	assert_int_equal(code_heard(&a), CODE_UNAVAILABLE);
	assert_null(TAILQ_FIRST(&a.heard));
	host_register(h, 1);
	assert_int_equal(said_drop(&h->manager, MSG_ConnectWithRoute), 2);
	node_engine_manager_down(h->engine, w->now);
	assert_int_equal(code_heard(&a), CODE_UNAVAILABLE);
	assert_int_equal(status_of(h).requests, 0);
	assert_int_equal(status_of(h).held, 3);
	app_close(&a);
	world_free(w);
}

/* The manager was away: the far node may need a moment longer to come back than ours. */
static void not_there_yet_is_asked_again(void **state)
{
	struct world *w = world_new(NULL);
	struct host *h = &w->hosts[0];
	struct msg m = {.type = MSG_ConnectWithRouteAck};
	struct test_app a;
	unsigned asked = 0;

	(void)state;
	app_open(&a, h);
	register_early(&a);
	ask_connection(&a, h, CLASS_STREAM);
	world_run(w, 1 * S);
	host_register(h, 0);
	m.connect_with_route_ack.code = CODE_NOT_FOUND;
	for (unsigned tick = 0; tick < 100 && !TAILQ_FIRST(&a.heard); tick++) {
		struct said *q = said_take(&h->manager, MSG_ConnectWithRoute);
		if (q) {
			asked++;
			m.seq = q->m.seq;
			free(q);
			manager_say(h, &m);
		}
		world_run(w, 100 * MS);
	}
	assert_in_range(asked, 15, 21); /* within 5 s, 4 times a second */
	assert_int_equal(code_heard(&a), CODE_NOT_FOUND);
	/* Whoever asks now is not held, and hears the answer at once. */
	ask_connection(&a, h, CLASS_STREAM);
	struct said *q = said_take(&h->manager, MSG_ConnectWithRoute);
	m.seq = q->m.seq;
	free(q);
	manager_say(h, &m);
	assert_int_equal(code_heard(&a), CODE_NOT_FOUND);
	/* The manager goes while a question waits to be asked again. */
	node_engine_manager_down(h->engine, w->now);
	ask_connection(&a, h, CLASS_STREAM);
	host_register(h, 0);
	m.seq = (q = said_take(&h->manager, MSG_ConnectWithRoute))->m.seq;
	free(q);
	manager_say(h, &m);
	node_engine_manager_down(h->engine, w->now);
	world_run(w, 300 * MS);
	assert_int_equal(code_heard(&a), CODE_UNAVAILABLE);
	assert_int_equal(status_of(h).requests, 0);
	app_close(&a);
	world_free(w);
}

static void waiting_is_bounded(void **state)
{
	struct world *w = world_new(NULL);
	struct host *h = &w->hosts[0];
	enum { APPS = 17, EACH = 64, ALL = 1024 };
	struct test_app a[APPS];
	struct msg m = {.type = MSG_RegisterApp, .seq = 1};
	char name[16];

	(void)state;
	for (unsigned i = 0; i < APPS; i++) {
		app_open(&a[i], h);
		snprintf(name, sizeof name, "app%u", i);
		m.register_app.app = bytes_str(name);
		m.register_app.type = bytes_str("test");
		assert_int_equal(app_say(&a[i], &m), 0);
		for (unsigned k = 0; k < EACH; k++)
			ask_connection(&a[i], h, CLASS_STREAM);
	}
	assert_int_equal(status_of(h).requests, ALL);
	assert_int_equal(status_of(h).refused, APPS * EACH - ALL);
	assert_int_equal(code_heard(&a[APPS - 1]), CODE_BUSY);
	ask_connection(&a[0], h, CLASS_STREAM); /* more than one app may ask */
	assert_int_equal(code_heard(&a[0]), CODE_BUSY);
	app_close(&a[0]); /* its own are gone with it, and leave room */
	assert_int_equal(status_of(h).requests, ALL - EACH);
	said_clear(&a[APPS - 1].heard);
	ask_connection(&a[APPS - 1], h, CLASS_STREAM);
	assert_null(TAILQ_FIRST(&a[APPS - 1].heard));
	for (unsigned i = 1; i < APPS; i++)
		app_close(&a[i]);
	assert_int_equal(status_of(h).requests, 0);
	world_free(w);
}

/* --- apps ------------------------------------------------------------------------------------ */

static void app_protocol(void **state)
{
	struct world *w = world_new(NULL);
	struct host *h = &w->hosts[0];
	struct test_app a;
	struct msg m = {.type = MSG_AppListRequest, .seq = 5};

	(void)state;
	host_register(h, 0);
	app_open(&a, h);
	assert_int_equal(app_say(&a, &m), -EPROTO); /* not registered */
	app_close(&a);
	app_open(&a, h);
	app_register(&a, "x");
	m = (struct msg){.type = MSG_RegisterApp, .seq = 5};
	m.register_app.app = bytes_str("y"); /* another id on the same channel */
	m.register_app.type = bytes_str("test");
	assert_int_equal(app_say(&a, &m), -EPROTO);
	m.register_app.app = bytes_str("x"); /* new info is fine, and told */
	m.register_app.info = bytes_str("more");
	said_clear(&h->manager);
	assert_int_equal(app_say(&a, &m), 0);
	struct said *s = said_take(&h->manager, MSG_RegisterApp);
	assert_true(bytes_equal(s->m.register_app.info, bytes_str("more")));
	free(s);
	m = (struct msg){.type = MSG_OpenUDP, .seq = 5};
	assert_int_equal(app_say(&a, &m), -EPROTO);
	m = (struct msg){.type = MSG_SendFromApp}; /* a connection that ended just now */
	m.send_from_app.connection = 12345;
	assert_int_equal(app_say(&a, &m), 0);
	app_close(&a);
	world_free(w);
}

static void lists_are_relayed(void **state)
{
	struct world *w = world_new(NULL);
	struct host *h = &w->hosts[0];
	struct test_app a, b;
	struct msg m = {.type = MSG_AppListRequest, .seq = 5};
	struct said *q[2], *r;

	(void)state;
	host_register(h, 0);
	app_open(&a, h);
	app_open(&b, h);
	app_register(&a, "a");
	app_register(&b, "b");
	app_say(&a, &m);
	app_say(&b, &m); /* the same number from another app */
	assert_non_null(q[0] = said_take(&h->manager, MSG_AppListRequest));
	assert_non_null(q[1] = said_take(&h->manager, MSG_AppListRequest));
	assert_int_not_equal(q[0]->m.seq, q[1]->m.seq);
	for (int i = 1; i >= 0; i--) { /* answers in the other order */
		struct msg out = {.type = MSG_AppListResponse, .seq = q[i]->m.seq};
		out.app_list_response.next = (uint32_t)(100 + i);
		manager_say(h, &out);
		manager_say(h, &out); /* twice: the second answers nothing */
		free(q[i]);
	}
	assert_non_null(r = said_take(&a.heard, MSG_AppListResponse));
	assert_int_equal(r->m.app_list_response.next, 100);
	assert_int_equal(r->m.seq, 5);
	free(r);
	assert_non_null(r = said_take(&b.heard, MSG_AppListResponse));
	assert_int_equal(r->m.app_list_response.next, 101);
	free(r);
	assert_null(said_take(&a.heard, MSG_AppListResponse));
	/* No answer at all: a timeout, not a leak. */
	app_say(&a, &m);
	world_run(w, 25 * S);
	assert_non_null(r = said_take(&a.heard, MSG_AppListResponse));
	assert_int_equal(r->m.app_list_response.code, CODE_TIMEOUT);
	free(r);
	app_say(&a, &m);
	app_close(&a); /* with a question open */
	app_close(&b);
	struct node_status s;
	node_engine_get_status(h->engine, &s);
	assert_int_equal(s.requests, 0);
	world_free(w);
}

static void two_apps_of_one_node(void **state)
{
	struct world *w = world_new(NULL);
	struct host *h = &w->hosts[0];
	struct test_app a, b;
	const uint64_t id = 9;
	struct msg m = {.type = MSG_ConnectionShutdown};

	(void)state;
	host_register(h, 0);
	app_open(&a, h);
	app_open(&b, h);
	app_register(&a, "client");
	app_register(&b, "server");
	ask_connection(&a, h, CLASS_STREAM);
	assert_int_equal(assign(h, id, 1, h, true, CLASS_STREAM, 0, 0), CODE_OK);
	assert_int_equal(assign(h, id, 1, h, false, CLASS_STREAM, 0, 0), CODE_OK); /* again */
	answer_connection(&a, id);
	expect_up(&a, id, 77, "server");
	expect_up(&b, id, 0, "client");
	app_send_data(&b, id, 5, 1);
	expect_data(&a, id, 5, 1);
	/* The server does not read: what is above its credit waits, as does ours. */
	for (uint8_t i = 0; i < 7; i++) {
		app_send_data(&a, id, 300000, i);
		node_engine_flush(h->engine, w->now);
	}
	assert_int_equal(credit_heard(&a), 4 * 300000);
	for (uint8_t i = 0; i < 4; i++)
		expect_data(&b, id, 300000, i);
	assert_null(said_take(&b.heard, MSG_AppMessage));
	m.connection_shutdown.connection = id; /* closing does not lose them */
	app_say(&a, &m);
	node_engine_flush(h->engine, w->now);
	assert_null(said_take(&b.heard, MSG_ConnectionShutdown));
	app_give_credit(&b, id, 1200000);
	for (uint8_t i = 4; i < 7; i++)
		expect_data(&b, id, 300000, i);
	node_engine_flush(h->engine, w->now);
	expect_end(&b, id, CODE_CLOSED);
	assert_int_equal(said_drop(&h->manager, MSG_ConnectionShutdown), 1);
	assert_int_equal(assign(h, 10, 1, h, true, CLASS_STREAM, 0, 0), CODE_OK);
	app_close(&b);
	app_close(&a);
	struct node_status s;
	node_engine_get_status(h->engine, &s);
	assert_int_equal(s.connections, 0);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers),
		cmocka_unit_test(limits),
		cmocka_unit_test(transport_lives_and_dies),
		cmocka_unit_test(unknown_label_is_answered),
		cmocka_unit_test(messages_both_ways),
		cmocka_unit_test(quiet_node_trims),
		cmocka_unit_test(datagrams),
		cmocka_unit_test(overrun_is_cut_off),
		cmocka_unit_test(slow_receiver_slows_the_sender),
		cmocka_unit_test(full_app_socket_holds_messages),
		cmocka_unit_test(parts_pass_as_they_come),
		cmocka_unit_test(parts_are_joined_for_others),
		cmocka_unit_test(bad_parts_end_the_connection),
		cmocka_unit_test(close_delivers_what_was_sent),
		cmocka_unit_test(loss_delivers_what_has_come),
		cmocka_unit_test(app_gone_ends_its_connections),
		cmocka_unit_test(unknown_app_is_refused),
		cmocka_unit_test(lost_link_then_new_path),
		cmocka_unit_test(manager_away_and_back),
		cmocka_unit_test(manager_that_knows_nothing),
		cmocka_unit_test(connect_waits_for_the_manager),
		cmocka_unit_test(connect_waits_no_longer),
		cmocka_unit_test(not_there_yet_is_asked_again),
		cmocka_unit_test(waiting_is_bounded),
		cmocka_unit_test(app_protocol),
		cmocka_unit_test(lists_are_relayed),
		cmocka_unit_test(two_apps_of_one_node),
	};
	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
