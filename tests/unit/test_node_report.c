/* What a node reports when its manager is back, and how it warns of a silent peer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unit/node_ends.h"

static struct said *back(struct host *h)
{
	node_engine_manager_down(h->engine, h->world->now);
	node_engine_flush(h->engine, h->world->now);
	said_clear(&h->manager);
	host_register(h, 1);
	struct said *s = said_take(&h->manager, MSG_NodeReport);
	assert_non_null(s);
	return s;
}

static void everything_is_told(void **state)
{
	struct ends e;
	struct said *s;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	struct host *h = e.w->hosts;
	connect_ends(&e);
	s = back(&h[0]);
	const struct msg_node_report *p = &s->m.node_report;
	assert_int_equal(p->last, 1);
	assert_int_equal(p->transports_count, 1);
	assert_int_equal(p->transports[0].transport, 1);
	assert_true(mesh_id_equal(&p->transports[0].peer, &h[1].id));
	assert_int_equal(p->transports[0].initiator, 1);
	assert_int_equal(p->transports[0].up, 1);
	assert_int_equal(p->transports[0].suspect, 0);
	assert_in_range(p->transports[0].port, 40000, 40000 + SOCKETS);
	assert_in_range(p->transports[0].rtt_us, 900, 5000);
	assert_int_equal(p->rules_count, 1);
	assert_int_equal(p->rules[0].in_transport, 1);
	assert_int_equal(p->rules[0].in_route, 22);
	assert_int_equal(p->rules[0].out_transport, 0);
	assert_int_equal(p->rules[0].out_route, (uint32_t)e.id);
	assert_int_equal(p->connections_count, 1);
	const struct report_connection *c = &p->connections[0];
	assert_int_equal(c->connection, e.id);
	assert_int_equal(c->path, 1);
	assert_true(mesh_id_equal(&c->peer, &h[2].id));
	assert_int_equal(c->initiator, 1);
	assert_int_equal(c->class, CLASS_STREAM);
	assert_int_equal(c->started, 1);
	assert_true(bytes_equal(c->app, bytes_str("server")));
	assert_true(bytes_equal(c->from_app, bytes_str("client")));
	assert_int_equal(c->out_transport, 1);
	assert_int_equal(c->out_route, 11);
	assert_int_equal(p->apps_count, 1);
	assert_true(bytes_equal(p->apps[0].app, bytes_str("client")));
	free(s);
	/* The report comes before all else that the node says. */
	assert_int_equal(TAILQ_FIRST(&h[0].manager)->m.type, MSG_RegisterApp);

	s = back(&h[2]);
	c = &s->m.node_report.connections[0];
	assert_int_equal(c->initiator, 0);
	assert_int_equal(c->started, 1);
	assert_true(bytes_equal(c->app, bytes_str("server")));
	assert_true(bytes_equal(c->from_app, bytes_str("client")));
	free(s);
	app_send_data(&e.a, e.id, 5000, 1); /* and nothing has happened to it */
	world_run(e.w, 100 * MS);
	expect_data(&e.c, e.id, 5000, 1);
	ends_free(&e);
}

/* The manager goes while a connection is being made. */
static void what_is_not_ready(void **state)
{
	struct ends e;

	(void)state;
	ends_up(&e, CLASS_STREAM); /* assigned at both ends; the asking app knows nothing of it */
	struct host *h = e.w->hosts;
	struct said *s = back(&h[0]);
	assert_int_equal(s->m.node_report.connections_count, 0);
	free(s);
	/* The app hears nothing: its node asks again. */
	assert_null(said_take(&e.a.heard, MSG_CommonAck));
	assert_int_equal(said_drop(&h[0].manager, MSG_ConnectWithRoute), 1);
	s = back(&h[2]); /* it cannot know */
	assert_int_equal(s->m.node_report.connections_count, 1);
	free(s);
	struct msg m = {.type = MSG_ConnectionShutdown};
	m.connection_shutdown.connection = e.id;
	m.connection_shutdown.code = CODE_LOST;
	manager_say(&h[2], &m);
	ends_free(&e);
}

static void not_told_to_begin(void **state)
{
	struct ends e;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	struct host *h = e.w->hosts;
	struct said *q = said_take(&h[0].manager, MSG_ConnectWithRoute);
	struct msg m = {.type = MSG_ConnectWithRouteAck, .seq = q->m.seq};
	m.connect_with_route_ack.connection = e.id;
	free(q);
	manager_say(&h[0], &m); /* but no ConnectionOn */
	struct said *s = back(&h[0]);
	assert_int_equal(s->m.node_report.connections_count, 1);
	assert_int_equal(s->m.node_report.connections[0].started, 0);
	free(s);
	m = (struct msg){.type = MSG_ConnectionOn};
	m.connection_on.connection = e.id;
	manager_say(&h[0], &m);
	world_run(e.w, 100 * MS);
	expect_up(&e.a, e.id, 77, "server");
	ends_free(&e);
}

static void many(struct node_engine_config *c)
{
	c->max_connections = c->max_connections_per_app = 10000;
}

/* Connections within the node, so many that they need pages; each is told once. */
static void pages(void **state)
{
	enum { CONNS = 5 * REPORT_ITEMS_MAX + 3, RULES = 2 * REPORT_RULES_MAX + 1 };
	struct world *w = world_new(many);
	struct host *h = &w->hosts[0];
	struct test_app a, b;
	bool seen[CONNS + 1] = {false};
	size_t conns = 0, rules = 0, last = 0;
	struct said *s;

	(void)state;
	host_register(h, 0);
	host_register(&w->hosts[1], 0);
	link_hosts(w, 1, 0, 1);
	app_open(&a, h);
	app_open(&b, h);
	app_register(&a, "client");
	app_register(&b, "server");
	for (uint64_t i = 1; i <= CONNS; i++) {
		ask_connection(&a, h, CLASS_STREAM);
		assert_int_equal(assign(h, i, 1, h, true, CLASS_STREAM, 0, 0), CODE_OK);
		answer_connection(&a, i);
	}
	for (uint32_t i = 1; i <= RULES; i++)
		assert_int_equal(route(h, 1, i, 0, i), CODE_OK);
	for (s = back(h); s; s = said_take(&h->manager, MSG_NodeReport)) {
		const struct msg_node_report *p = &s->m.node_report;
		assert_false(last);
		last = p->last;
		rules += p->rules_count;
		for (uint16_t i = 0; i < p->connections_count; i++, conns++) {
			assert_in_range(p->connections[i].connection, 1, CONNS);
			assert_false(seen[p->connections[i].connection]);
			seen[p->connections[i].connection] = true;
			assert_true(mesh_id_equal(&p->connections[i].peer, &h->id));
			assert_int_equal(p->connections[i].initiator, 1);
			assert_int_equal(p->connections[i].out_transport, 0);
		}
		free(s);
	}
	assert_int_equal(last, 1);
	assert_int_equal(conns, CONNS);
	assert_int_equal(rules, RULES);
	app_close(&a);
	app_close(&b);
	world_free(w);
}

static void nothing_is_told_unasked(void **state)
{
	struct ends e;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	node_engine_manager_down(e.w->hosts[0].engine, e.w->now);
	said_clear(&e.w->hosts[0].manager);
	host_register(&e.w->hosts[0], 0);
	assert_int_equal(said_drop(&e.w->hosts[0].manager, MSG_NodeReport), 0);
	ends_free(&e);
}

/* A peer that is gone under traffic is told long before the transport is given up. */
static void silence_is_told(void **state)
{
	struct ends e;

	(void)state;
	ends_up(&e, CLASS_STREAM);
	struct host *h = e.w->hosts;
	connect_ends(&e);
	h[0].sockets[0].open = h[1].sockets[0].open = false; /* nothing passes any more */
	app_send_data(&e.a, e.id, 5000, 1);
	world_run(e.w, 500 * MS);
	assert_null(said_take(&h[0].manager, MSG_TransportSuspect));
	world_run(e.w, 300 * MS);
	struct said *s = said_take(&h[0].manager, MSG_TransportSuspect);
	assert_non_null(s);
	assert_int_equal(s->m.transport_suspect.transport, 1);
	assert_int_equal(s->m.transport_suspect.suspect, 1);
	free(s);
	s = back(&h[0]);
	assert_int_equal(s->m.node_report.transports[0].suspect, 1);
	assert_int_equal(s->m.node_report.transports[0].up, 1);
	free(s);
	h[0].sockets[0].open = h[1].sockets[0].open = true;
	world_run(e.w, 500 * MS);
	assert_non_null(s = said_take(&h[0].manager, MSG_TransportSuspect));
	assert_int_equal(s->m.transport_suspect.suspect, 0);
	free(s);
	expect_data(&e.c, e.id, 5000, 1);
	ends_free(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_is_told),	   cmocka_unit_test(what_is_not_ready),
		cmocka_unit_test(not_told_to_begin),	   cmocka_unit_test(pages),
		cmocka_unit_test(nothing_is_told_unasked), cmocka_unit_test(silence_is_told),
	};
	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
