/* Two apps on a chain of three engines of node_world.h, with the test as their manager. */
#ifndef UNIT_NODE_ENDS_H
#define UNIT_NODE_ENDS_H

#include "unit/node_world.h"

#define MS 1000u
#define S 1000000u

/* --- the manager's part ---------------------------------------------------------------------- */

static inline void host_register(struct host *h, uint8_t keep)
{
	node_engine_manager_up(h->engine, h->world->now);
	struct said *r = said_take(&h->manager, MSG_RegisterNode);
	assert_non_null(r);
	struct msg m = {.type = MSG_RegisterNodeAck, .seq = r->m.seq};
	m.register_node_ack.id = h->id;
	m.register_node_ack.keep = keep;
	m.register_node_ack.max_buffer = 4u << 20;
	m.register_node_ack.max_packet_size = 1452;
	m.register_node_ack.connection_timeout_us = 10 * S;
	m.register_node_ack.retransmit_limit = 12;
	free(r);
	manager_say(h, &m);
}

/* The code of the next CommonAck, which must answer `seq`. */
static inline uint16_t acked(struct host *h, uint32_t seq, uint64_t *value)
{
	struct said *a = said_take(&h->manager, MSG_CommonAck);
	assert_non_null(a);
	assert_int_equal(a->m.seq, seq);
	uint16_t code = a->m.common_ack.code;
	if (value)
		*value = a->m.common_ack.value;
	free(a);
	return code;
}

static inline uint16_t create(struct host *h, uint32_t id, const struct host *peer, bool initiator,
			      uint64_t *port)
{
	struct msg m = {.type = MSG_TransportCreate, .seq = 7};
	m.transport_create.transport = id;
	m.transport_create.peer = peer->id;
	memset(m.transport_create.secret, 5, sizeof m.transport_create.secret);
	m.transport_create.initiator = initiator;
	manager_say(h, &m);
	return acked(h, 7, port);
}

static inline uint16_t open_udp(struct host *h, uint32_t id, const struct host *peer, uint64_t port)
{
	struct msg m = {.type = MSG_OpenUDP, .seq = 8};
	m.open_udp.transport = id;
	m.open_udp.addrs_count = 1;
	m.open_udp.addrs[0].addr = (struct net_addr){4, {10, 0, 0, peer->address}, (uint16_t)port};
	manager_say(h, &m);
	return acked(h, 8, NULL);
}

static inline void link_hosts(struct world *w, uint32_t id, int a, int b)
{
	uint64_t port_a, port_b;
	struct host *ha = &w->hosts[a], *hb = &w->hosts[b];

	assert_int_equal(create(ha, id, hb, true, &port_a), CODE_OK);
	assert_int_equal(create(hb, id, ha, false, &port_b), CODE_OK);
	assert_int_equal(open_udp(hb, id, ha, port_a), CODE_OK);
	assert_int_equal(open_udp(ha, id, hb, port_b), CODE_OK);
	world_run(w, 100 * MS);
	assert_int_equal(said_drop(&ha->manager, MSG_TransportConnected), 1);
	assert_int_equal(said_drop(&hb->manager, MSG_TransportConnected), 1);
}

static inline uint16_t route(struct host *h, uint32_t it, uint32_t ir, uint32_t ot, uint32_t or)
{
	struct msg m = {.type = MSG_AddRoute, .seq = 9, .add_route = {it, ir, ot, or }};
	manager_say(h, &m);
	return acked(h, 9, NULL);
}

struct ends {
	struct world *w;
	struct test_app a, c; /* on host 0 and 2 */
	uint64_t id;
};

static inline uint16_t assign(struct host *h, uint64_t id, uint32_t path, const struct host *peer,
			      bool initiator, uint8_t class, uint32_t out_t, uint32_t out_r)
{
	struct msg m = {.type = MSG_AssignConnection, .seq = 10};
	m.assign_connection.connection = id;
	m.assign_connection.path = path;
	m.assign_connection.peer = peer->id;
	m.assign_connection.initiator = initiator;
	m.assign_connection.class = class;
	m.assign_connection.app = bytes_str("server");
	m.assign_connection.from_app = bytes_str("client");
	m.assign_connection.out_transport = out_t;
	m.assign_connection.out_route = out_r;
	manager_say(h, &m);
	return acked(h, 10, NULL);
}

static inline void app_register(struct test_app *a, const char *name)
{
	struct msg m = {.type = MSG_RegisterApp, .seq = 1};
	m.register_app.app = bytes_str(name);
	m.register_app.type = bytes_str("test");
	assert_int_equal(app_say(a, &m), 0);
	struct said *r = said_take(&a->heard, MSG_RegisterAppAck);
	assert_non_null(r);
	assert_int_equal(r->m.register_app_ack.code, CODE_OK);
	free(r);
}

static inline void ask_connection(struct test_app *a, const struct host *to, uint8_t class)
{
	struct msg m = {.type = MSG_ConnectToApp, .seq = 2};
	m.connect_to_app.handle = 77;
	m.connect_to_app.node = to->id;
	m.connect_to_app.app = bytes_str("server");
	m.connect_to_app.class = class;
	assert_int_equal(app_say(a, &m), 0);
}

/* Answers the question that the node of `a` has passed on. */
static inline void answer_connection(struct test_app *a, uint64_t id)
{
	struct said *q = said_take(&a->host->manager, MSG_ConnectWithRoute);
	assert_non_null(q);
	assert_true(bytes_equal(q->m.connect_with_route.from_app, bytes_str("client")));
	struct msg m = {.type = MSG_ConnectWithRouteAck, .seq = q->m.seq};
	m.connect_with_route_ack.connection = id;
	free(q);
	manager_say(a->host, &m);
	struct said *r = said_take(&a->heard, MSG_CommonAck);
	assert_non_null(r);
	assert_int_equal(r->m.seq, 2);
	assert_int_equal(r->m.common_ack.value, id);
	free(r);
	m = (struct msg){.type = MSG_ConnectionOn};
	m.connection_on.connection = id;
	manager_say(a->host, &m);
}

static inline void expect_up(struct test_app *a, uint64_t id, uint32_t handle, const char *peer_app)
{
	struct said *up = said_take(&a->heard, MSG_ConnectionOn);
	assert_non_null(up);
	assert_int_equal(up->m.connection_on.connection, id);
	assert_int_equal(up->m.connection_on.handle, handle);
	assert_true(bytes_equal(up->m.connection_on.app, bytes_str(peer_app)));
	free(up);
}

/* Hosts 0 - 1 - 2 by transports 1 and 2, apps at the ends, one connection. */
static inline void ends_up(struct ends *e, uint8_t class)
{
	e->w = world_new(NULL);
	e->id = 0x100000005u;
	struct host *h = e->w->hosts;

	for (int i = 0; i < HOSTS; i++)
		host_register(&h[i], 0);
	link_hosts(e->w, 1, 0, 1);
	link_hosts(e->w, 2, 1, 2);
	app_open(&e->a, &h[0]);
	app_open(&e->c, &h[2]);
	app_register(&e->a, "client");
	app_register(&e->c, "server");
	ask_connection(&e->a, &h[2], class);
	assert_int_equal(route(&h[1], 1, 11, 2, 12), CODE_OK);
	assert_int_equal(route(&h[2], 2, 12, 0, (uint32_t)e->id), CODE_OK);
	assert_int_equal(route(&h[1], 2, 21, 1, 22), CODE_OK);
	assert_int_equal(route(&h[0], 1, 22, 0, (uint32_t)e->id), CODE_OK);
	assert_int_equal(assign(&h[2], e->id, 1, &h[0], false, class, 2, 21), CODE_OK);
	assert_int_equal(assign(&h[0], e->id, 1, &h[2], true, class, 1, 11), CODE_OK);
}

static inline void ends_free(struct ends *e)
{
	app_close(&e->a);
	app_close(&e->c);
	for (int i = 0; i < HOSTS; i++)
		node_engine_shutdown(e->w->hosts[i].engine, e->w->now);
	for (int i = 0; i < HOSTS; i++) {
		struct node_status s;
		node_engine_get_status(e->w->hosts[i].engine, &s);
		assert_int_equal(s.live_packets, 0);
		assert_int_equal(s.connections + s.transports, 0);
	}
	world_free(e->w);
}

static inline void connect_ends(struct ends *e)
{
	answer_connection(&e->a, e->id);
	world_run(e->w, 100 * MS);
	expect_up(&e->a, e->id, 77, "server");
	expect_up(&e->c, e->id, 0, "client");
}

static inline void app_send_data(struct test_app *a, uint64_t id, size_t len, uint8_t fill)
{
	uint8_t *data = malloc(len + 1);
	struct msg m = {.type = MSG_SendFromApp};

	memset(data, fill, len + 1);
	m.send_from_app.connection = id;
	m.send_from_app.data = bytes_of(data, len);
	assert_int_equal(app_say(a, &m), 0);
	free(data);
}

static inline void app_give_credit(struct test_app *a, uint64_t id, uint32_t bytes)
{
	struct msg m = {.type = MSG_AppCredit, .app_credit = {id, bytes}};
	assert_int_equal(app_say(a, &m), 0);
}

/* The next message that the app has got: its length, all bytes `fill`. */
static inline void expect_data(struct test_app *a, uint64_t id, size_t len, uint8_t fill)
{
	struct said *s = said_take(&a->heard, MSG_AppMessage);
	assert_non_null(s);
	assert_int_equal(s->m.app_message.connection, id);
	assert_int_equal(s->m.app_message.data.len, len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(s->m.app_message.data.data[i], fill);
	free(s);
}

static inline size_t credit_heard(struct test_app *a)
{
	struct said *s;
	size_t bytes = 0;

	while ((s = said_take(&a->heard, MSG_AppCredit))) {
		bytes += s->m.app_credit.bytes;
		free(s);
	}
	return bytes;
}

static inline void expect_end(struct test_app *a, uint64_t id, uint16_t code)
{
	struct said *s = said_take(&a->heard, MSG_ConnectionShutdown);
	assert_non_null(s);
	assert_int_equal(s->m.connection_shutdown.connection, id);
	assert_int_equal(s->m.connection_shutdown.code, code);
	free(s);
}
#endif
