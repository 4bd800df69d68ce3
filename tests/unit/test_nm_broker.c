/* The nodemanager's connections, routes and apps, and random storms over all of it. */
#include "nm_mesh.h"

/* --- rules ------------------------------------------------------------------------------------ */

/* What the nodes' route tables would hold, from AddRoute and RemoveRoute. */
struct table {
	struct {
		uint64_t channel;
		struct msg_add_route rule;
	} v[512];
	size_t count;
};

static void table_fill(struct table *t, struct rec *r)
{
	t->count = 0;
	for (size_t i = 0; i < r->count; i++) {
		const struct sent *s = &r->sent[i];
		if (s->m.type == MSG_AddRoute) {
			assert_true(t->count < 512);
			t->v[t->count].channel = s->channel;
			t->v[t->count++].rule = s->m.add_route;
		}
		for (size_t k = 0; s->m.type == MSG_RemoveRoute && k < t->count; k++)
			if (t->v[k].channel == s->channel &&
			    t->v[k].rule.in_transport == s->m.remove_route.in_transport &&
			    t->v[k].rule.in_route == s->m.remove_route.in_route)
				t->v[k--] = t->v[--t->count];
	}
}

static const struct msg_add_route *table_get(const struct table *t, uint64_t channel, uint32_t in,
					     uint32_t route)
{
	const struct msg_add_route *found = NULL;
	for (size_t i = 0; i < t->count; i++)
		if (t->v[i].channel == channel && t->v[i].rule.in_transport == in &&
		    t->v[i].rule.in_route == route) {
			assert_null(found); /* a label is unique at a node */
			found = &t->v[i].rule;
		}
	return found;
}

/* Carries a packet from the first channel along `channels` (0 at the end): every rule must be there
 * and lead over `links`; it ends with the low half of the connection's number. */
static void carry(const struct table *t, const uint64_t *channels, const uint32_t *links,
		  uint32_t transport, uint32_t label, uint64_t connection, uint32_t last_label)
{
	size_t hop = 0;
	for (;; hop++) {
		assert_int_equal(transport, links[hop]);
		const struct msg_add_route *rule =
			table_get(t, channels[hop + 1], transport, label);
		assert_non_null(rule);
		if (!channels[hop + 2]) {
			assert_int_equal(rule->in_route, last_label);
			assert_int_equal(rule->out_transport, 0);
			assert_int_equal(rule->out_route, (uint32_t)connection);
			return;
		}
		transport = rule->out_transport;
		label = rule->out_route;
	}
}

/* Nodes 1 - 2 - 3 in a row, everybody obeys. */
static struct rec *row(uint32_t links[2])
{
	struct rec *r = rec_new();
	rec_start(r);
	for (unsigned n = 1; n <= 3; n++)
		node_join(r, n, n, 1);
	links[0] = rec_link(r, 1, 2);
	links[1] = rec_link(r, 2, 3);
	rec_clear(r);
	return r;
}

static void test_connect_three(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	struct mesh_id id1 = node_id(1), id3 = node_id(3);
	struct msg m = ask_connect(3, "echo", 42);
	m.connect_with_route.class = CLASS_DATAGRAM;
	node_say(r, 1, &m);
	for (uint64_t n = 1; n <= 3; n++)
		assert_int_equal(rec_count(r, n, MSG_AddRoute), 2);
	/* Nobody is told before every rule is in place. */
	size_t rules = r->count;
	assert_int_equal(rules, 6);
	for (size_t i = 0; i < rules; i++) {
		assert_null(rec_find(r, 1, MSG_AssignConnection, 0));
		node_ack(r, &r->sent[i], CODE_OK, 0);
	}
	struct msg_assign_connection a = rec_need(r, 1, MSG_AssignConnection)->assign_connection,
				     b = rec_need(r, 3, MSG_AssignConnection)->assign_connection;
	assert_null(rec_find(r, 2, MSG_AssignConnection, 0));
	assert_int_equal(a.connection, b.connection);
	assert_int_equal(a.path, 1);
	assert_int_equal(a.initiator, 1);
	assert_int_equal(b.initiator, 0);
	assert_int_equal(b.class, CLASS_DATAGRAM);
	assert_true(mesh_id_equal(&a.peer, &id3) && mesh_id_equal(&b.peer, &id1));
	assert_true(bytes_equal(b.app, bytes_str("echo")));
	assert_true(bytes_equal(b.from_app, bytes_str("asker")));
	struct table t;
	table_fill(&t, r);
	carry(&t, (uint64_t[]){1, 2, 3, 0}, links, a.out_transport, a.out_route, a.connection,
	      b.in_route);
	carry(&t, (uint64_t[]){3, 2, 1, 0}, (uint32_t[]){links[1], links[0]}, b.out_transport,
	      b.out_route, a.connection, a.in_route);
	assert_int_equal(a.in_transport, links[0]);
	assert_int_equal(b.in_transport, links[1]);
	node_ack(r, rec_find(r, 1, MSG_AssignConnection, 0), CODE_OK, 0);
	assert_null(rec_find(r, 1, MSG_ConnectWithRouteAck, 0));
	node_ack(r, rec_find(r, 3, MSG_AssignConnection, 0), CODE_OK, 0);
	struct msg *ack = rec_need(r, 1, MSG_ConnectWithRouteAck);
	assert_int_equal(ack->seq, 42);
	assert_int_equal(ack->connect_with_route_ack.code, CODE_OK);
	assert_int_equal(ack->connect_with_route_ack.connection, a.connection);
	assert_int_equal(rec_need(r, 1, MSG_ConnectionOn)->connection_on.path, 1);
	assert_int_equal(rec_count(r, 3, MSG_ConnectionOn), 0);
	rec_free(r);
}

static struct msg shutdown_of(uint64_t connection)
{
	struct msg m = {.type = MSG_ConnectionShutdown};
	m.connection_shutdown.connection = connection;
	m.connection_shutdown.code = CODE_CLOSED;
	m.connection_shutdown.text = bytes_str("had enough");
	return m;
}

static void test_connection_end(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	uint64_t id = mesh_connect(r, 1, 3);
	struct msg m = shutdown_of(id);
	node_say(r, 2, &m); /* a relay has no say */
	assert_int_equal(rec_status(r).connections, 1);
	node_say(r, 3, &m);
	struct msg *told = rec_need(r, 1, MSG_ConnectionShutdown);
	assert_int_equal(told->connection_shutdown.connection, id);
	assert_true(bytes_equal(told->connection_shutdown.text, bytes_str("had enough")));
	assert_null(rec_find(r, 3, MSG_ConnectionShutdown, 0));
	struct table t;
	table_fill(&t, r);
	assert_int_equal(t.count, 0);
	node_say(r, 1, &m); /* both closed at once: nothing more to do */
	assert_int_equal(rec_status(r).connections, 0);
	rec_free(r);
}

static void test_refused_by_acceptor(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	struct msg m = ask_connect(3, "nothing", 5);
	node_say(r, 1, &m);
	for (size_t i = 0; i < 6; i++)
		node_ack(r, &r->sent[i], CODE_OK, 0);
	node_ack(r, rec_find(r, 1, MSG_AssignConnection, 0), CODE_OK, 0);
	node_ack(r, rec_find(r, 3, MSG_AssignConnection, 0), CODE_NOT_FOUND, 0);
	assert_int_equal(rec_need(r, 1, MSG_ConnectWithRouteAck)->connect_with_route_ack.code,
			 CODE_NOT_FOUND);
	rec_need(r, 1, MSG_ConnectionShutdown);
	assert_null(rec_find(r, 3, MSG_ConnectionShutdown, 0));
	struct table t;
	table_fill(&t, r);
	assert_int_equal(t.count, 0);
	assert_int_equal(rec_status(r).connections, 0);
	rec_free(r);
}

static void expect_refusal(struct rec *r, const struct msg *m, uint16_t code)
{
	rec_clear(r);
	node_say(r, 1, m);
	rec_pump(r);
	assert_int_equal(rec_need(r, 1, MSG_ConnectWithRouteAck)->connect_with_route_ack.code,
			 code);
}

static void test_connect_refused(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	r->config.connecting_per_node_max = 2;
	rec_start(r);
	for (unsigned n = 1; n <= 3; n++)
		node_join(r, n, n, 1);
	rec_link(r, 1, 2);
	struct msg m = ask_connect(9, "echo", 5);
	expect_refusal(r, &m, CODE_NOT_FOUND);
	m = ask_connect(3, "echo", 5);
	expect_refusal(r, &m, CODE_NO_ROUTE);
	m = ask_connect(2, "", 5);
	expect_refusal(r, &m, CODE_INVALID);
	m = ask_connect(2, "echo", 5);
	m.connect_with_route.class = 7;
	expect_refusal(r, &m, CODE_INVALID);
	m = ask_connect(2, "echo", 5);
	m.connect_with_route.peer = (struct mesh_id){0};
	expect_refusal(r, &m, CODE_NOT_FOUND);
	m = ask_connect(2, "echo", 5);
	rec_clear(r);
	for (unsigned i = 0; i < 3; i++)
		node_say(r, 1, &m);
	assert_int_equal(rec_need(r, 1, MSG_ConnectWithRouteAck)->connect_with_route_ack.code,
			 CODE_BUSY);
	rec_pump(r);
	assert_int_equal(rec_status(r).connections, 2);
	rec_free(r);
}

static void test_local(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	node_join(r, 1, 1, 1);
	uint64_t id = mesh_connect(r, 1, 1);
	assert_int_equal(rec_count(r, 1, MSG_AssignConnection), 1);
	assert_int_equal(rec_need(r, 1, MSG_AssignConnection)->assign_connection.out_transport, 0);
	assert_int_equal(rec_count(r, 1, MSG_AddRoute), 0);
	struct msg m = shutdown_of(id);
	node_say(r, 1, &m);
	assert_int_equal(rec_count(r, 1, MSG_ConnectionShutdown), 0);
	assert_int_equal(rec_status(r).connections, 0);
	rec_free(r);
}

/* --- paths die -------------------------------------------------------------------------------- */

static void test_reroute(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	uint64_t id = mesh_connect(r, 1, 4);
	assert_int_equal(rec_count(r, 2, MSG_AddRoute), 2);
	assert_int_equal(rec_count(r, 3, MSG_AddRoute), 0);
	mesh_lose(r, 4, links[1]);
	/* The new rules first, then the ends, then the old rules go. */
	assert_int_equal(rec_count(r, 3, MSG_AddRoute), 2);
	assert_int_equal(rec_count(r, 2, MSG_RemoveRoute), 0);
	assert_int_equal(rec_count(r, 1, MSG_AssignConnection), 1);
	rec_pump(r);
	struct msg_assign_connection
		a = rec_find(r, 1, MSG_AssignConnection, 1)->m.assign_connection,
		b = rec_find(r, 4, MSG_AssignConnection, 1)->m.assign_connection;
	assert_int_equal(a.connection, id);
	assert_int_equal(a.path, 2);
	assert_int_equal(b.path, 2);
	assert_int_equal(a.initiator, 1);
	struct table t;
	table_fill(&t, r);
	assert_int_equal(t.count, 6); /* those of the new path, no others */
	carry(&t, (uint64_t[]){1, 3, 4, 0}, &links[2], a.out_transport, a.out_route, id,
	      b.in_route);
	carry(&t, (uint64_t[]){4, 3, 1, 0}, (uint32_t[]){links[3], links[2]}, b.out_transport,
	      b.out_route, id, a.in_route);
	assert_int_equal(rec_count(r, 1, MSG_ConnectWithRouteAck), 1);
	assert_int_equal(rec_count(r, 1, MSG_ConnectionShutdown), 0);
	assert_int_equal(r->events[NM_EVENT_TRANSPORT_DOWN], 1);
	assert_int_equal(r->events[NM_EVENT_CONNECTION_UP], 1);
	assert_int_equal(r->events[NM_EVENT_CONNECTION_MOVED], 1);
	assert_int_equal(r->events[NM_EVENT_CONNECTION_DOWN], 0);
	rec_free(r);
}

/* Nobody answers any more on the last way: after a while it is over. */
static void test_no_other_way(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	uint64_t id = mesh_connect(r, 1, 3);
	uint64_t patience = 2 * (uint64_t)r->config.connection_timeout_us;
	mesh_lose(r, 2, links[1]);
	rec_sleep(r, patience - 1);
	assert_int_equal(rec_count(r, 1, MSG_ConnectionShutdown), 0);
	rec_sleep(r, 1);
	for (uint64_t n = 1; n <= 3; n += 2) {
		struct msg *m = rec_need(r, n, MSG_ConnectionShutdown);
		assert_int_equal(m->connection_shutdown.code, CODE_NO_ROUTE);
		assert_int_equal(m->connection_shutdown.connection, id);
	}
	struct table t;
	table_fill(&t, r);
	assert_int_equal(t.count, 0);
	assert_int_equal(rec_status(r).connections, 0);
	rec_free(r);
}

/* The last way is away for a while: the connections wait, and go on when it is back. */
static void test_way_comes_back(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	uint64_t ids[100];
	for (unsigned i = 0; i < 100; i++)
		ids[i] = mesh_connect(r, 1, 3);
	for (unsigned round = 0; round < 2; round++) {
		rec_clear(r);
		mesh_lose(r, 2, links[1]);
		assert_int_equal(rec_count(r, 1, MSG_AddRoute), 0);
		struct msg m = ask_connect(3, "echo", 9); /* who asks now is told now */
		node_say(r, 1, &m);
		assert_int_equal(
			rec_need(r, 1, MSG_ConnectWithRouteAck)->connect_with_route_ack.code,
			CODE_NO_ROUTE);
		rec_sleep(r, r->config.link_retry_min_us);
		rec_pump(r);
		links[1] = rec_need(r, 3, MSG_TransportCreate)->transport_create.transport;
		rec_sleep(r, 0);
		rec_pump(r);
		assert_int_equal(rec_count(r, 1, MSG_ConnectionShutdown), 0);
		assert_int_equal(rec_count(r, 1, MSG_AssignConnection), 100);
		assert_int_equal(rec_count(r, 3, MSG_AssignConnection), 100);
		const struct msg_assign_connection *a =
			&rec_need(r, 1, MSG_AssignConnection)->assign_connection;
		assert_in_range((uint32_t)a->connection, (uint32_t)ids[0], (uint32_t)ids[99]);
		assert_int_equal(a->path, 2 + round);
	}
	/* The old patience is not held against them. */
	rec_sleep(r, 3 * (uint64_t)r->config.connection_timeout_us);
	assert_int_equal(rec_status(r).connections, 100);
	rec_free(r);
}

/* The path dies while it is being installed, and again while the ends are being told. */
static void test_death_on_the_way(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	struct msg m = ask_connect(4, "echo", 3);
	node_say(r, 1, &m);
	mesh_lose(r, 1, links[0]);
	assert_int_equal(rec_count(r, 3, MSG_AddRoute), 2);
	for (size_t i = 0; i < r->count; i++)
		if (r->sent[i].m.type == MSG_AddRoute && !r->sent[i].handled)
			node_ack(r, &r->sent[i], CODE_OK, 0);
	assert_int_equal(rec_need(r, 4, MSG_AssignConnection)->assign_connection.path, 1);
	rec_sleep(r, r->config.link_retry_min_us);
	for (size_t i = 0; i < r->count; i++) /* the first link is back */
		if (r->sent[i].m.type == MSG_TransportCreate || r->sent[i].m.type == MSG_OpenUDP)
			node_obey(r, &r->sent[i]);
	mesh_lose(r, 3, links[3]);
	rec_pump(r);
	assert_int_equal(rec_find(r, 4, MSG_AssignConnection, 1)->m.assign_connection.path, 2);
	assert_int_equal(rec_need(r, 1, MSG_ConnectWithRouteAck)->connect_with_route_ack.code,
			 CODE_OK);
	assert_int_equal(rec_count(r, 1, MSG_ConnectWithRouteAck), 1);
	struct table t;
	table_fill(&t, r);
	assert_int_equal(t.count, 6);
	rec_free(r);
}

static void test_relay_refuses(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	struct msg m = ask_connect(3, "echo", 3);
	node_say(r, 1, &m);
	for (size_t i = 0; i < 3; i++)
		node_ack(r, rec_find(r, 2, MSG_AddRoute, 2 * i), CODE_BUSY, 0);
	assert_int_equal(rec_need(r, 1, MSG_ConnectWithRouteAck)->connect_with_route_ack.code,
			 CODE_BUSY);
	struct table t;
	table_fill(&t, r);
	assert_int_equal(t.count, 0);
	assert_int_equal(rec_status(r).requests, 0);
	rec_free(r);
}

static void test_silent_relay(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	struct msg m = ask_connect(3, "echo", 3);
	node_say(r, 1, &m);
	rec_sleep(r, 4 * r->config.request_timeout_us);
	assert_int_equal(rec_need(r, 1, MSG_ConnectWithRouteAck)->connect_with_route_ack.code,
			 CODE_TIMEOUT);
	assert_int_equal(rec_status(r).connections, 0);
	rec_free(r);
}

/* --- nodes go and come ------------------------------------------------------------------------ */

/* The control channel alone is away: nothing happens to anything. */
static void test_short_absence(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	mesh_connect(r, 1, 3);
	rec_clear(r);
	nm_node_down(r->nm, 3, r->now);
	nm_node_down(r->nm, 2, r->now);
	rec_sleep(r, r->config.grace_us - 1);
	assert_int_equal(node_join(r, 3, 13, 1).keep, 1);
	assert_int_equal(node_join(r, 2, 12, 1).keep, 1);
	rec_sleep(r, 2 * r->config.grace_us);
	assert_int_equal(r->count, 2); /* the two acks of the registrations */
	assert_int_equal(rec_status(r).connections, 1);
	assert_int_equal(rec_status(r).transports_connected, 2);
	rec_free(r);
}

static void test_long_absence(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	uint64_t id = mesh_connect(r, 1, 3);
	nm_node_down(r->nm, 3, r->now);
	rec_sleep(r, r->config.grace_us);
	struct msg *m = rec_need(r, 1, MSG_ConnectionShutdown);
	assert_int_equal(m->connection_shutdown.connection, id);
	assert_int_equal(m->connection_shutdown.code, CODE_LOST);
	rec_need(r, 2, MSG_TransportShutdown);
	rec_clear(r);
	assert_int_equal(node_join(r, 3, 13, 1).keep, 0); /* too late: all of it is gone */
	rec_pump(r);
	assert_int_equal(rec_status(r).transports_connected, 2);
	rec_free(r);
}

static void test_restart(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	mesh_connect(r, 1, 3);
	rec_clear(r);
	assert_int_equal(node_join(r, 2, 12, 2).keep, 0); /* the relay, with no word before */
	rec_need(r, 1, MSG_TransportShutdown);
	rec_need(r, 3, MSG_TransportShutdown);
	rec_sleep(r, r->config.link_retry_min_us);
	rec_pump(r);
	assert_int_equal(rec_status(r).transports_connected, 2);
	rec_sleep(r, 0);
	rec_pump(r);
	/* What went over it goes over it again; and it has no rules of before that could go. */
	assert_int_equal(rec_need(r, 1, MSG_AssignConnection)->assign_connection.path, 2);
	assert_int_equal(rec_count(r, 1, MSG_ConnectionShutdown), 0);
	assert_int_equal(rec_count(r, 12, MSG_RemoveRoute), 0);
	rec_free(r);
}

/* What happened while a node was away is told when it is back. */
static void test_debts(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	uint64_t id = mesh_connect(r, 1, 4);
	nm_node_down(r->nm, 2, r->now); /* a relay; its links still work */
	struct msg m = shutdown_of(id);
	node_say(r, 1, &m);
	mesh_lose(r, 4, links[1]);
	rec_clear(r);
	assert_int_equal(node_join(r, 2, 12, 1).keep, 1);
	assert_int_equal(rec_count(r, 12, MSG_RemoveRoute), 2);
	assert_int_equal(rec_count(r, 12, MSG_TransportShutdown), 1);
	rec_free(r);
}

static void test_reroute_waits_for_end(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	uint64_t id = mesh_connect(r, 1, 4);
	nm_node_down(r->nm, 4, r->now);
	mesh_lose(r, 2, links[1]);
	assert_int_equal(rec_count(r, 3, MSG_AddRoute), 0);
	rec_sleep(r, SECOND);
	assert_int_equal(node_join(r, 4, 14, 1).keep, 1);
	rec_need(r, 14, MSG_TransportShutdown);
	rec_pump(r);
	assert_int_equal(rec_need(r, 14, MSG_AssignConnection)->assign_connection.path, 2);
	assert_int_equal(rec_need(r, 14, MSG_AssignConnection)->assign_connection.connection, id);
	uint32_t again = rec_need(r, 14, MSG_TransportCreate)->transport_create.transport;
	/* Away again, and now one link after the other dies: as long as it may come back.  */
	nm_node_down(r->nm, 14, r->now);
	mesh_lose(r, 3, links[3]);
	mesh_lose(r, 2, again);
	rec_sleep(r, r->config.grace_us - 1);
	assert_null(rec_find(r, 1, MSG_ConnectionShutdown, 0));
	rec_sleep(r, 1);
	assert_int_equal(rec_need(r, 1, MSG_ConnectionShutdown)->connection_shutdown.code,
			 CODE_LOST);
	rec_free(r);
}

/* --- routes by hand, and costs ---------------------------------------------------------------- */

static void test_build_route(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	struct mesh_id way[] = {node_id(1), node_id(3), node_id(4)},
		       gap[] = {node_id(2), node_id(3)};
	nm_build_route(r->nm, way, 3, rec_done, r, r->now);
	assert_int_equal(r->done, 4);
	rec_pump(r);
	assert_int_equal(r->done, 5);
	assert_int_equal(r->code, CODE_OK);
	assert_int_equal(rec_status(r).routes, 1);
	nm_build_route(r->nm, gap, 2, rec_done, r, r->now);
	assert_int_equal(r->code, CODE_NO_ROUTE);
	assert_string_equal(r->text, "n2 and n3 have no transport between them");
	way[2] = way[0];
	nm_build_route(r->nm, way, 3, rec_done, r, r->now);
	assert_string_equal(r->text, "node n1 is named twice");
	nm_build_route(r->nm, way, 1, rec_done, r, r->now);
	assert_int_equal(r->code, CODE_INVALID);
	mesh_lose(r, 3, links[2]);
	assert_int_equal(rec_status(r).routes, 0);
	struct table t;
	table_fill(&t, r);
	assert_int_equal(t.count, 0);
	rec_free(r);
}

static uint64_t way_cost(struct rec *r, unsigned via)
{
	struct mesh_id a = node_id(1), b = node_id(4), v = node_id(via), nodes[8];
	uint64_t cost;
	assert_int_equal(nm_find_route(r->nm, &a, &b, nodes, 8, &cost), 3);
	assert_true(mesh_id_equal(&nodes[1], &v));
	assert_int_equal(nm_find_route(r->nm, &a, &b, nodes, 2, &cost), -ENOSPC);
	return cost;
}

static void report(struct rec *r, uint64_t channel, uint32_t transport, uint32_t rtt_us,
		   uint32_t loss)
{
	struct msg m = {.type = MSG_TransportStats};
	m.transport_stats.stats_count = 1;
	m.transport_stats.stats[0] = (struct stats_item){
		.transport = transport, .up = 1, .rtt_us = rtt_us, .loss_ppm = loss};
	rec_sleep(r, SECOND);
	node_say(r, channel, &m);
}

static void test_costs(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	uint64_t cost = way_cost(r, 2);
	report(r, 2, links[0], 1100, 0); /* too little to change anything */
	assert_int_equal(way_cost(r, 2), cost);
	for (unsigned i = 0; i < 30; i++)
		report(r, 2, links[0], 1000, 300000);
	way_cost(r, 3);
	for (unsigned i = 0; i < 60; i++)
		report(r, 2, links[0], 1000, 0);
	way_cost(r, 2);
	for (unsigned i = 0; i < 4; i++) /* a liar can make it bad, not overflow */
		report(r, 2, links[0], UINT32_MAX, UINT32_MAX);
	way_cost(r, 3);
	struct msg m = {.type = MSG_TransportStats};
	m.transport_stats.stats_count = 1;
	m.transport_stats.stats[0].transport = links[3]; /* up = 0 */
	node_say(r, 4, &m);
	assert_int_equal(rec_status(r).transports_connected, 3);
	rec_free(r);
}

/* --- apps ------------------------------------------------------------------------------------- */

static struct msg app_of(const char *name, const char *type, uint32_t seq)
{
	struct msg m = {.type = MSG_RegisterApp, .seq = seq};
	m.register_app.app = bytes_str(name);
	m.register_app.type = bytes_str(type);
	m.register_app.info = bytes_str("info");
	return m;
}

static void tracker_say(struct rec *r, uint16_t type, uint32_t seq)
{
	struct msg m = {.type = type, .seq = seq};
	if (type == MSG_AppListResponse) {
		m.app_list_response.apps_count = 1;
		m.app_list_response.apps[0].app = bytes_str("echo");
	}
	nm_tracker_msg(r->nm, &m, r->now);
}

static void test_apps(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	node_join(r, 1, 1, 1);
	struct msg m = app_of("echo", "echo_server", 5);
	node_say(r, 1, &m);
	assert_int_equal(rec_need(r, 1, MSG_RegisterAppAck)->register_app_ack.code,
			 CODE_UNAVAILABLE);
	rec_clear(r);
	nm_tracker_up(r->nm, r->now);
	assert_int_equal(
		rec_find(r, TRACKER, MSG_AppRegistrationRequest, 0)->m.app_registration_request.op,
		APP_OP_HELLO);
	struct msg_app_registration_request add =
		rec_find(r, TRACKER, MSG_AppRegistrationRequest, 1)->m.app_registration_request;
	assert_int_equal(add.op, APP_OP_ADD);
	assert_true(bytes_equal(add.type, bytes_str("echo_server")));
	rec_clear(r);
	m = app_of("other", "t", 6);
	node_say(r, 1, &m);
	assert_null(rec_find(r, 1, MSG_RegisterAppAck, 0));
	tracker_say(r, MSG_AppListResponse, rec_need(r, TRACKER, MSG_AppRegistrationRequest)->seq);
	assert_null(rec_find(r, 1, MSG_RegisterAppAck, 0)); /* an answer of the wrong kind */
	tracker_say(r, MSG_AppRegistrationResponse,
		    rec_need(r, TRACKER, MSG_AppRegistrationRequest)->seq);
	assert_int_equal(rec_need(r, 1, MSG_RegisterAppAck)->seq, 6);
	m = (struct msg){.type = MSG_UnregisterApp};
	m.unregister_app.app = bytes_str("other");
	node_say(r, 1, &m);
	assert_int_equal(rec_status(r).apps, 1);
	nm_node_down(r->nm, 1, r->now);
	rec_clear(r);
	rec_sleep(r, r->config.grace_us);
	assert_int_equal(
		rec_need(r, TRACKER, MSG_AppRegistrationRequest)->app_registration_request.op,
		APP_OP_NODE_GONE);
	assert_int_equal(rec_status(r).apps, 0);
	rec_free(r);
}

static void apps_done(void *arg, uint16_t code, const char *text,
		      const struct msg_app_list_response *response)
{
	rec_done(arg, code, text, response ? response->apps_count : 0);
}

static void test_app_lists(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	node_join(r, 1, 1, 1);
	nm_tracker_up(r->nm, r->now);
	rec_clear(r);
	struct msg m = {.type = MSG_AppListRequest, .seq = 77};
	m.app_list_request.kind = APP_LIST_BY_TYPE;
	m.app_list_request.value = bytes_str("echo_server");
	m.app_list_request.after = 3;
	node_say(r, 1, &m);
	struct msg *asked = rec_need(r, TRACKER, MSG_AppListRequest);
	assert_int_equal(asked->app_list_request.after, 3);
	tracker_say(r, MSG_AppListResponse, asked->seq);
	struct msg *got = rec_need(r, 1, MSG_AppListResponse);
	assert_int_equal(got->seq, 77);
	assert_true(bytes_equal(got->app_list_response.apps[0].app, bytes_str("echo")));
	nm_list_apps(r->nm, APP_LIST_ALL, "", 0, apps_done, r, r->now);
	tracker_say(r, MSG_AppListResponse, rec_find(r, TRACKER, MSG_AppListRequest, 1)->m.seq);
	assert_int_equal(r->value, 1);
	nm_list_apps(r->nm, APP_LIST_ALL, "", 0, apps_done, r, r->now);
	rec_sleep(r, r->config.request_timeout_us);
	assert_int_equal(r->code, CODE_TIMEOUT);
	nm_list_apps(r->nm, APP_LIST_ALL, "", 0, apps_done, r, r->now);
	nm_tracker_down(r->nm, r->now);
	assert_int_equal(r->code, CODE_UNAVAILABLE);
	nm_list_apps(r->nm, APP_LIST_ALL, "", 0, apps_done, r, r->now);
	assert_int_equal(r->code, CODE_UNAVAILABLE);
	assert_int_equal(r->done, 4);
	rec_free(r);
}

/* Any node that has the app: the nearest that can be reached. */
static void test_connect_by_name(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	struct msg m = app_of("echo", "t", 0);
	node_say(r, 3, &m);
	struct msg ask = ask_connect(0, "echo", 9);
	ask.connect_with_route.peer = (struct mesh_id){0};
	node_say(r, 1, &ask);
	rec_pump(r);
	rec_need(r, 3, MSG_AssignConnection);
	node_say(r, 2, &m);
	node_say(r, 1, &ask);
	rec_pump(r);
	rec_need(r, 2, MSG_AssignConnection);
	rec_free(r);
}

/* --- storms ----------------------------------------------------------------------------------- */

#define STORM_NODES 6

struct storm {
	struct rec *r;
	uint64_t channel[STORM_NODES + 1], next_channel, instance[STORM_NODES + 1];
};

static void storm_node(struct storm *s, unsigned n)
{
	struct rec *r = s->r;
	if (s->channel[n] && rec_rand(r) % 2) {
		nm_node_down(r->nm, s->channel[n], r->now);
		s->channel[n] = 0;
		return;
	}
	s->channel[n] = ++s->next_channel;
	if (rec_rand(r) % 3 == 0)
		s->instance[n]++;
	node_join(r, n, s->channel[n], s->instance[n]);
}

static void storm_say(struct storm *s, unsigned n)
{
	struct rec *r = s->r;
	struct msg m = ask_connect(1 + rec_rand(r) % STORM_NODES, "echo", rec_rand(r) & 0xffff);
	struct sent *old = r->count ? &r->sent[rec_rand(r) % r->count] : NULL;
	if (!s->channel[n])
		return;
	switch (rec_rand(r) % 5) {
	case 0:
		break;
	case 4:
		if (!old || old->m.type != MSG_TransportCreate)
			return;
		m = (struct msg){.type = MSG_TransportSuspect};
		m.transport_suspect.transport = old->m.transport_create.transport;
		m.transport_suspect.suspect = rec_rand(r) % 3 != 0;
		break;
	case 1:
		m = app_of(rec_rand(r) % 2 ? "echo" : "other", "t", 1);
		break;
	case 2:
		if (!old || old->m.type != MSG_TransportCreate)
			return;
		m = (struct msg){.type = MSG_TransportShutdown};
		m.transport_shutdown.transport = old->m.transport_create.transport;
		break;
	case 3:
		if (!old || old->m.type != MSG_AssignConnection)
			return;
		m = shutdown_of(old->m.assign_connection.connection);
		break;
	}
	node_say(r, s->channel[n], &m);
}

static void storm_answer(struct storm *s)
{
	struct rec *r = s->r;
	for (unsigned i = 0; i < 20 && r->count; i++) {
		struct sent *m = &r->sent[rec_rand(r) % r->count];
		if (m->channel == TRACKER)
			tracker_say(r,
				    rec_rand(r) % 2 ? MSG_AppListResponse
						    : MSG_AppRegistrationResponse,
				    m->m.seq);
		else if (rec_rand(r) % 20 == 0)
			node_ack(r, m, (uint16_t)(rec_rand(r) % 12), rec_rand(r));
		else if (!m->handled)
			node_obey(r, m);
	}
}

static void ignore_done(void *arg, uint16_t code, const char *text, uint64_t value)
{
	(void)code, (void)text, (void)value;
	(*(unsigned *)arg)--;
}

static void storm_operate(struct storm *s, unsigned *pending)
{
	struct rec *r = s->r;
	struct mesh_id a = node_id(1 + rec_rand(r) % STORM_NODES),
		       b = node_id(1 + rec_rand(r) % STORM_NODES), way[3] = {a, b, node_id(1)};
	switch (rec_rand(r) % 12) {
	case 0:
		nm_disconnect_nodes(r->nm, &a, &b, r->now);
		break;
	case 1:
		++*pending;
		nm_build_route(r->nm, way, 2 + rec_rand(r) % 2, ignore_done, pending, r->now);
		break;
	case 2:
		nm_tracker_up(r->nm, r->now);
		break;
	case 3:
		nm_tracker_down(r->nm, r->now);
		break;
	case 4:
		nm_forget_node(r->nm, &a, r->now);
		break;
	default:
		++*pending;
		nm_connect_nodes(r->nm, &a, &b, ignore_done, pending, r->now);
	}
}

static void storm_restart(struct storm *s)
{
	rec_restart(s->r);
	memset(s->channel, 0, sizeof s->channel);
}

static void storm(unsigned seed)
{
	struct storm s = {.r = rec_new(), .next_channel = 100};
	unsigned pending = 0;
	s.r->seed = seed;
	rec_start(s.r);
	for (unsigned step = 0; step < 1500; step++) {
		unsigned n = 1 + rec_rand(s.r) % STORM_NODES;
		if (rec_rand(s.r) % 12 == 0)
			storm_node(&s, n);
		if (rec_rand(s.r) % 200 == 0)
			storm_restart(&s);
		if (rec_rand(s.r) % 3 == 0)
			storm_say(&s, n);
		if (rec_rand(s.r) % 6 == 0)
			storm_operate(&s, &pending);
		storm_answer(&s);
		rec_sleep(s.r, rec_rand(s.r) % 200000);
		if (s.r->count > SENT_MAX / 2)
			rec_clear(s.r);
	}
	/* Calm: everybody leaves, and after the grace nothing may be left of them. */
	rec_clear(s.r);
	nm_tracker_down(s.r->nm, s.r->now);
	for (unsigned n = 1; n <= STORM_NODES; n++)
		if (s.channel[n])
			nm_node_down(s.r->nm, s.channel[n], s.r->now);
	rec_sleep(s.r, s.r->config.grace_us + 3 * s.r->config.request_timeout_us);
	struct nm_status status = rec_status(s.r);
	assert_int_equal(status.nodes_connected, 0);
	assert_int_equal(status.transports, 0);
	assert_int_equal(status.connections, 0);
	assert_int_equal(status.routes, 0);
	assert_int_equal(status.apps, 0);
	assert_int_equal(status.requests, 0);
	assert_int_equal(pending, 0); /* every caller got its answer */
	rec_free(s.r);
}

static void test_storms(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 60; seed++)
		storm(seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connect_three),
		cmocka_unit_test(test_connection_end),
		cmocka_unit_test(test_refused_by_acceptor),
		cmocka_unit_test(test_connect_refused),
		cmocka_unit_test(test_local),
		cmocka_unit_test(test_reroute),
		cmocka_unit_test(test_no_other_way),
		cmocka_unit_test(test_way_comes_back),
		cmocka_unit_test(test_death_on_the_way),
		cmocka_unit_test(test_relay_refuses),
		cmocka_unit_test(test_silent_relay),
		cmocka_unit_test(test_short_absence),
		cmocka_unit_test(test_long_absence),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_debts),
		cmocka_unit_test(test_reroute_waits_for_end),
		cmocka_unit_test(test_build_route),
		cmocka_unit_test(test_costs),
		cmocka_unit_test(test_apps),
		cmocka_unit_test(test_app_lists),
		cmocka_unit_test(test_connect_by_name),
		cmocka_unit_test(test_storms),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
