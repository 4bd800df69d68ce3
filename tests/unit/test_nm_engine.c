/* The nodemanager's engine: registration, links, what is refused, hostile nodes. */
#include "nm_recorder.h"

/* --- registration ----------------------------------------------------------------------------- */

static void test_register(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	struct msg_register_node_ack ack = node_join(r, 1, 1, 77);
	struct mesh_id id = node_id(1);
	assert_int_equal(ack.code, CODE_OK);
	assert_int_equal(ack.keep, 0);
	assert_true(mesh_id_equal(&ack.id, &id));
	assert_int_equal(ack.max_packet_size, r->config.max_packet_size);
	assert_int_equal(ack.retransmit_limit, r->config.retransmit_limit);
	assert_int_equal(r->nodes_saved, 1);
	assert_int_equal(rec_status(r).nodes_connected, 1);
	rec_free(r);
}

static void refused(struct rec *r, unsigned n, uint64_t channel, const struct msg *m, uint16_t code)
{
	node_channel(r, n, channel);
	node_say(r, channel, m);
	assert_int_equal(rec_need(r, channel, MSG_RegisterNodeAck)->register_node_ack.code, code);
	assert_true(rec_is_closed(r, channel));
}

static void test_register_refused(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	r->config.nodes_max = 2;
	rec_start(r);
	node_join(r, 1, 1, 1);
	struct msg m = hello("n1", 5);
	refused(r, 2, 2, &m, CODE_REFUSED);
	assert_int_equal(r->events[NM_EVENT_ADMISSION_REFUSED], 1);
	assert_string_equal(r->event_text[NM_EVENT_ADMISSION_REFUSED],
			    "the name n1 belongs to another key");
	assert_int_equal(r->events[NM_EVENT_NODE_UP], 1);
	m = hello("n2", 5);
	m.register_node.version = PROTOCOL_VERSION + 1;
	refused(r, 2, 3, &m, CODE_INVALID);
	m = hello("with blank", 5);
	refused(r, 2, 4, &m, CODE_INVALID);
	m = hello("", 5); /* no name is fine */
	node_channel(r, 2, 5);
	node_say(r, 5, &m);
	assert_int_equal(rec_need(r, 5, MSG_RegisterNodeAck)->register_node_ack.code, CODE_OK);
	m = hello("n3", 5);
	refused(r, 3, 6, &m, CODE_BUSY);
	assert_int_equal(rec_status(r).nodes, 2);
	assert_int_equal(rec_status(r).refused, 4);
	rec_free(r);
}

static void test_first_message(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	node_channel(r, 1, 1);
	node_say(r, 1, &(struct msg){.type = MSG_CommonAck, .seq = 1});
	assert_true(rec_is_closed(r, 1));
	node_channel(r, 1, 2);
	rec_sleep(r, r->config.hello_timeout_us + 1);
	assert_true(rec_is_closed(r, 2));
	nm_node_down(r->nm, 2, r->now);
	struct msg m = hello("late", 1);
	node_say(r, 2, &m); /* nobody knows this channel any more */
	assert_int_equal(rec_status(r).nodes, 0);
	rec_free(r);
}

static void test_admission(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	char text[MESH_ID_TEXT], list[200];
	struct mesh_id id = node_id(2);
	r->config.admission = NM_ADMISSION_TOKEN;
	r->config.tokens = "one, two";
	rec_start(r);
	struct msg m = hello("n1", 1);
	refused(r, 1, 1, &m, CODE_REFUSED);
	m.register_node.token = bytes_str("tw");
	refused(r, 1, 2, &m, CODE_REFUSED);
	m.register_node.token = bytes_str("two");
	node_channel(r, 1, 3);
	node_say(r, 3, &m);
	assert_int_equal(rec_need(r, 3, MSG_RegisterNodeAck)->register_node_ack.code, CODE_OK);
	r->config.admission = NM_ADMISSION_ALLOWLIST;
	snprintf(list, sizeof list, "junk,%s", mesh_id_text(&id, text));
	r->config.allowed = list;
	nm_set_config(r->nm, &r->config);
	m = hello("n3", 1);
	refused(r, 3, 4, &m, CODE_REFUSED);
	assert_int_equal(node_join(r, 2, 5, 1).code, CODE_OK);
	rec_free(r);
}

/* The newer channel of a key wins; the same instance keeps what it had, another does not. */
static void test_newer_channel(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	node_join(r, 1, 1, 77);
	node_join(r, 2, 2, 1);
	rec_link(r, 1, 2);
	assert_int_equal(node_join(r, 1, 11, 77).keep, 1);
	assert_true(rec_is_closed(r, 1));
	assert_int_equal(rec_count(r, 2, MSG_TransportShutdown), 0);
	assert_int_equal(rec_status(r).transports_connected, 1);
	nm_node_down(r->nm, 1, r->now); /* the old one: must not touch the new */
	assert_int_equal(rec_status(r).nodes_connected, 2);
	assert_int_equal(node_join(r, 1, 12, 78).keep, 0);
	assert_int_equal(rec_count(r, 2, MSG_TransportShutdown), 1);
	rec_free(r);
}

static void test_load(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	struct nm_node_record a = {.id = node_id(1), .name = "n1"},
			      b = {.id = node_id(2), .name = "n2"};
	struct nm_node_record clash = {.id = node_id(3), .name = "n2"};
	assert_int_equal(nm_load_node(r->nm, &a), 0);
	assert_int_equal(nm_load_node(r->nm, &b), 0);
	assert_int_equal(nm_load_node(r->nm, &clash), -EINVAL);
	assert_int_equal(nm_load_link(r->nm, &a.id, &b.id, 0), 0);
	assert_int_equal(nm_load_link(r->nm, &a.id, &clash.id, 0), -EINVAL);
	assert_int_equal(node_join(r, 1, 1, 5).keep, 0);
	assert_int_equal(rec_count(r, 1, MSG_TransportCreate), 0);
	node_join(r, 2, 2, 5);
	rec_pump(r);
	assert_int_equal(rec_status(r).transports_connected, 1);
	assert_int_equal(r->nodes_saved + r->links_saved, 0); /* the store knew all of it */
	rec_free(r);
}

static void test_connect_flag(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	node_join(r, 1, 1, 1);
	struct msg m = hello("n2", 1);
	m.register_node.connect = 1;
	node_channel(r, 2, 2);
	node_say(r, 2, &m);
	rec_pump(r);
	assert_int_equal(r->links_saved, 1);
	assert_int_equal(rec_status(r).transports_connected, 1);
	nm_node_down(r->nm, 2, r->now);
	node_channel(r, 2, 3); /* it has a link: no second one */
	m.register_node.instance = 9;
	node_say(r, 3, &m);
	assert_int_equal(r->links_saved, 1);
	rec_free(r);
}

/* --- links ------------------------------------------------------------------------------------ */

static void test_link_step_by_step(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	struct mesh_id a = node_id(1), b = node_id(2);
	rec_start(r);
	node_join(r, 1, 1, 1);
	node_join(r, 2, 2, 1);
	nm_connect_nodes(r->nm, &a, &b, rec_done, r, r->now);
	struct msg_transport_create *ca = &rec_need(r, 1, MSG_TransportCreate)->transport_create,
				    *cb = &rec_need(r, 2, MSG_TransportCreate)->transport_create;
	assert_int_not_equal(ca->transport, 0);
	assert_int_equal(ca->transport, cb->transport);
	assert_memory_equal(ca->secret, cb->secret, MESH_SECRET_BYTES);
	assert_true(mesh_id_equal(&ca->peer, &b) && mesh_id_equal(&cb->peer, &a));
	assert_int_equal(ca->initiator, 1);
	assert_int_equal(cb->initiator, 0);
	assert_int_equal(ca->port, r->config.start_port); /* two hosts: the same port on both */
	assert_int_equal(cb->port, r->config.start_port);
	node_ack(r, rec_find(r, 1, MSG_TransportCreate, 0), CODE_OK, ca->port);
	assert_null(rec_find(r, 1, MSG_OpenUDP, 0)); /* the other end is not ready */
	node_ack(r, rec_find(r, 2, MSG_TransportCreate, 0), CODE_OK, 5555);
	struct msg_open_udp *oa = &rec_need(r, 1, MSG_OpenUDP)->open_udp;
	assert_int_equal(oa->addrs_count, 1);
	assert_int_equal(oa->addrs[0].addr.port, 5555); /* what it has really bound */
	assert_int_equal(oa->addrs[0].addr.ip[2], 2);
	uint32_t id = oa->transport;
	node_ack(r, rec_find(r, 1, MSG_OpenUDP, 0), CODE_OK, 0);
	node_ack(r, rec_find(r, 2, MSG_OpenUDP, 0), CODE_OK, 0);
	node_connected(r, 1, id);
	assert_int_equal(r->done, 0);
	node_connected(r, 2, id);
	assert_int_equal(r->done, 1);
	assert_int_equal(r->code, CODE_OK);
	assert_int_equal(r->value, id);
	/* Asked again: the same, at once. */
	nm_connect_nodes(r->nm, &b, &a, rec_done, r, r->now);
	assert_int_equal(r->done, 2);
	assert_int_equal(r->value, id);
	assert_int_equal(r->links_saved, 1);
	rec_free(r);
}

static void test_connect_refused(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	struct mesh_id a = node_id(1), b = node_id(2);
	rec_start(r);
	node_join(r, 1, 1, 1);
	nm_connect_nodes(r->nm, &a, &b, rec_done, r, r->now);
	assert_int_equal(r->code, CODE_NOT_FOUND);
	nm_connect_nodes(r->nm, &a, &a, rec_done, r, r->now);
	assert_int_equal(r->code, CODE_INVALID);
	node_join(r, 2, 2, 1);
	nm_node_down(r->nm, 2, r->now);
	nm_connect_nodes(r->nm, &a, &b, rec_done, r, r->now);
	assert_int_equal(r->code, CODE_NOT_FOUND);
	assert_string_equal(r->text, "node n2 is not connected");
	assert_int_equal(r->done, 3);
	rec_free(r);
}

static void test_port_clash(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	struct mesh_id a = node_id(1), b = node_id(2);
	rec_start(r);
	node_join(r, 1, 1, 1);
	node_join(r, 2, 2, 1);
	nm_connect_nodes(r->nm, &a, &b, rec_done, r, r->now);
	uint16_t first = r->config.start_port;
	for (size_t i = 0; i < 3; i++) {
		struct sent *s = rec_find(r, 1, MSG_TransportCreate, i);
		assert_int_equal(s->m.transport_create.port, first + i);
		node_ack(r, s, CODE_PORT_IN_USE, 0);
	}
	rec_pump(r);
	assert_int_equal(r->code, CODE_OK);
	assert_int_equal(rec_need(r, 2, MSG_OpenUDP)->open_udp.addrs[0].addr.port, first + 3);
	rec_free(r);
}

static void test_port_clash_for_ever(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	struct mesh_id a = node_id(1), b = node_id(2);
	rec_start(r);
	node_join(r, 1, 1, 1);
	node_join(r, 2, 2, 1);
	nm_connect_nodes(r->nm, &a, &b, rec_done, r, r->now);
	for (size_t i = 0; r->done == 0 && i < 100; i++)
		node_ack(r, rec_find(r, 1, MSG_TransportCreate, i), CODE_PORT_IN_USE, 0);
	assert_int_equal(rec_count(r, 1, MSG_TransportCreate), 21);
	assert_int_equal(r->code, CODE_PORT_IN_USE);
	assert_int_equal(rec_count(r, 2, MSG_TransportShutdown), 1);
	assert_int_equal(rec_status(r).transports, 0);
	rec_free(r);
}

/* Nodes on one host never get one port twice, and a released port is used again. */
static void test_ports_of_a_host(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	struct net_addr addr = node_addr(1);
	for (unsigned n = 1; n <= 3; n++) {
		struct mesh_id id = node_id(n);
		struct msg m = hello("", n);
		nm_node_up(r->nm, &id, &addr, n, r->now);
		node_say(r, n, &m);
	}
	uint16_t first = r->config.start_port;
	rec_link(r, 1, 2);
	assert_int_equal(rec_need(r, 1, MSG_TransportCreate)->transport_create.port, first);
	assert_int_equal(rec_need(r, 2, MSG_TransportCreate)->transport_create.port, first + 1);
	rec_link(r, 2, 3);
	assert_int_equal(rec_need(r, 3, MSG_TransportCreate)->transport_create.port, first + 3);
	struct mesh_id a = node_id(1), b = node_id(2);
	assert_int_equal(nm_disconnect_nodes(r->nm, &a, &b, r->now), 0);
	assert_int_equal(nm_disconnect_nodes(r->nm, &a, &b, r->now), -ENOENT);
	assert_int_equal(r->links_removed, 1);
	rec_clear(r);
	rec_link(r, 1, 3);
	assert_int_equal(rec_need(r, 1, MSG_TransportCreate)->transport_create.port, first);
	assert_int_equal(rec_need(r, 3, MSG_TransportCreate)->transport_create.port, first + 1);
	rec_free(r);
}

static void test_candidates(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	const struct net_addr shared = {.family = 4, .ip = {192, 168, 7, 2}},
			      other = {.family = 4, .ip = {172, 16, 0, 9}},
			      loop = {.family = 4, .ip = {127, 0, 0, 1}}, none = {0};
	struct msg m = hello("n1", 1);
	m.register_node.addrs_count = 1;
	m.register_node.addrs[0].addr = (struct net_addr){.family = 4, .ip = {192, 168, 7, 1}};
	node_channel(r, 1, 1);
	node_say(r, 1, &m);
	m = hello("n2", 1);
	m.register_node.addrs_count = 4;
	m.register_node.addrs[0].addr = loop;
	m.register_node.addrs[1].addr = other;
	m.register_node.addrs[2].addr = shared;
	m.register_node.addrs[3].addr = none;
	node_channel(r, 2, 2);
	node_say(r, 2, &m);
	rec_link(r, 1, 2);
	struct msg_open_udp *o = &rec_need(r, 1, MSG_OpenUDP)->open_udp;
	struct net_addr control = node_addr(2);
	assert_int_equal(o->addrs_count, 3);
	assert_true(net_addr_same_ip(&o->addrs[0].addr, &shared));
	assert_true(net_addr_same_ip(&o->addrs[1].addr, &control));
	assert_true(net_addr_same_ip(&o->addrs[2].addr, &other));
	rec_free(r);
}

/* --- failure ---------------------------------------------------------------------------------- */

static void test_no_answer(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	struct mesh_id a = node_id(1), b = node_id(2);
	rec_start(r);
	node_join(r, 1, 1, 1);
	node_join(r, 2, 2, 1);
	nm_connect_nodes(r->nm, &a, &b, rec_done, r, r->now);
	node_ack(r, rec_find(r, 1, MSG_TransportCreate, 0), CODE_OK, 20000);
	struct sent *late = rec_find(r, 2, MSG_TransportCreate, 0);
	rec_sleep(r, r->config.request_timeout_us - 1);
	assert_int_equal(r->done, 0);
	rec_sleep(r, 1);
	assert_int_equal(r->code, CODE_TIMEOUT);
	assert_string_equal(r->text, "node n2 did not answer TransportCreate");
	assert_int_equal(rec_count(r, 1, MSG_TransportShutdown), 1);
	assert_int_equal(rec_count(r, 2, MSG_TransportShutdown), 1);
	node_ack(r, late, CODE_OK, 1); /* too late: nothing happens */
	/* It is wanted all the same, and tried again. */
	rec_sleep(r, r->config.link_retry_min_us);
	assert_int_equal(rec_count(r, 1, MSG_TransportCreate), 2);
	rec_pump(r);
	assert_int_equal(rec_status(r).transports_connected, 1);
	assert_int_equal(r->done, 1);
	rec_free(r);
}

static void test_no_packets(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	struct mesh_id a = node_id(1), b = node_id(2);
	rec_start(r);
	node_join(r, 1, 1, 1);
	node_join(r, 2, 2, 1);
	nm_connect_nodes(r->nm, &a, &b, rec_done, r, r->now);
	node_ack(r, rec_find(r, 1, MSG_TransportCreate, 0), CODE_OK, 1);
	node_ack(r, rec_find(r, 2, MSG_TransportCreate, 0), CODE_OK, 1);
	node_ack(r, rec_find(r, 1, MSG_OpenUDP, 0), CODE_OK, 0);
	node_ack(r, rec_find(r, 2, MSG_OpenUDP, 0), CODE_OK, 0);
	rec_sleep(r, r->config.transport_timeout_us);
	assert_int_equal(r->code, CODE_TIMEOUT);
	assert_string_equal(r->text, "no packets pass between n1 and n2");
	rec_free(r);
}

/* A dead transport is told to the other end and made again; pauses grow while it fails. */
static void test_link_comes_back(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	node_join(r, 1, 1, 1);
	node_join(r, 2, 2, 1);
	struct msg m = {.type = MSG_TransportShutdown};
	m.transport_shutdown.transport = rec_link(r, 1, 2);
	m.transport_shutdown.code = CODE_LOST;
	rec_clear(r);
	node_say(r, 1, &m);
	assert_int_equal(rec_count(r, 1, MSG_TransportShutdown), 0);
	assert_int_equal(rec_need(r, 2, MSG_TransportShutdown)->transport_shutdown.code, CODE_LOST);
	assert_int_equal(rec_status(r).transports, 0);
	rec_sleep(r, r->config.link_retry_min_us);
	assert_int_equal(rec_count(r, 1, MSG_TransportCreate), 1);
	rec_sleep(r, 3600ull * SECOND); /* nobody answers for an hour */
	size_t tries = rec_count(r, 1, MSG_TransportCreate);
	assert_in_range(tries, 3600 / 36, 3600 / 15);
	rec_free(r);
}

static void test_node_ends(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	struct mesh_id b = node_id(2);
	rec_start(r);
	node_join(r, 1, 1, 1);
	node_join(r, 2, 2, 1);
	rec_link(r, 1, 2);
	rec_clear(r);
	assert_int_equal(nm_forget_node(r->nm, &b, r->now), -EBUSY);
	assert_int_equal(nm_shutdown_node(r->nm, &b, r->now), 0);
	rec_need(r, 2, MSG_Shutdown);
	assert_true(rec_is_closed(r, 2));
	rec_need(r, 1, MSG_TransportShutdown);
	assert_int_equal(rec_status(r).links, 0);
	assert_int_equal(nm_forget_node(r->nm, &b, r->now), 0);
	assert_int_equal(nm_forget_node(r->nm, &b, r->now), -ENOENT);
	assert_int_equal(rec_status(r).nodes, 1);
	node_join(r, 3, 3, 1);
	rec_link(r, 1, 3);
	rec_clear(r);
	node_say(r, 3, &(struct msg){.type = MSG_Shutdown});
	rec_need(r, 1, MSG_TransportShutdown);
	assert_int_equal(rec_status(r).nodes_connected, 1);
	rec_free(r);
}

/* --- hostile nodes ---------------------------------------------------------------------------- */

static void test_strays(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	node_join(r, 1, 1, 1);
	node_join(r, 2, 2, 1);
	node_join(r, 3, 3, 1);
	uint32_t id = rec_link(r, 1, 2);
	rec_clear(r);
	/* Node 3 speaks of what is not its own. */
	struct msg m = {.type = MSG_TransportShutdown};
	m.transport_shutdown.transport = id;
	node_say(r, 3, &m);
	node_connected(r, 3, id);
	struct msg stats = {.type = MSG_TransportStats};
	stats.transport_stats.stats_count = 1;
	stats.transport_stats.stats[0].transport = id; /* up = 0 */
	node_say(r, 3, &stats);
	m = (struct msg){.type = MSG_ConnectionShutdown};
	m.connection_shutdown.connection = 12345;
	node_say(r, 3, &m);
	node_say(r, 3, &(struct msg){.type = MSG_CommonAck, .seq = 99});
	struct msg again = hello("n3", 1);
	node_say(r, 3, &again);
	node_say(r, 3, &(struct msg){.type = MSG_AddRoute});
	assert_int_equal(rec_status(r).transports_connected, 1);
	assert_int_equal(r->count, 0);
	assert_in_range(rec_status(r).dropped, 4, 10);
	rec_free(r);
}

/* An ack counts only from whom was asked. */
static void test_foreign_ack(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	struct mesh_id a = node_id(1), b = node_id(2);
	rec_start(r);
	for (unsigned n = 1; n <= 3; n++)
		node_join(r, n, n, 1);
	nm_connect_nodes(r->nm, &a, &b, rec_done, r, r->now);
	for (unsigned n = 1; n <= 2; n++) {
		struct msg m = {.type = MSG_CommonAck,
				.seq = rec_need(r, n, MSG_TransportCreate)->seq};
		m.common_ack.value = 666;
		node_say(r, 3, &m);
	}
	assert_null(rec_find(r, 1, MSG_OpenUDP, 0));
	rec_pump(r);
	assert_int_equal(r->code, CODE_OK);
	rec_free(r);
}

static void test_flood(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	r->config.message_rate = 10;
	r->config.message_burst = 20;
	rec_start(r);
	node_join(r, 1, 1, 1);
	rec_clear(r);
	for (unsigned i = 0; i < 100; i++)
		node_say(r, 1, &(struct msg){.type = MSG_Ping, .seq = i + 1});
	assert_int_equal(r->count, 20);
	rec_sleep(r, SECOND);
	for (unsigned i = 0; i < 100; i++)
		node_say(r, 1, &(struct msg){.type = MSG_Ping, .seq = i + 1});
	assert_int_equal(r->count, 30);
	rec_free(r);
}

static void test_node_find(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	struct mesh_id id, want = node_id(2);
	char text[MESH_ID_TEXT];
	rec_start(r);
	node_join(r, 1, 1, 1);
	node_join(r, 2, 2, 1);
	const char *names[] = {"2", "n2", mesh_id_text(&want, text), "aa000002"};
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(nm_node_find(r->nm, names[i], &id), 0);
		assert_true(mesh_id_equal(&id, &want));
	}
	const char *bad[] = {"", "0", "3", "n3", "aa0000022", "-1", "99999999999999999999"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(nm_node_find(r->nm, bad[i], &id), -ENOENT);
	rec_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_register),
		cmocka_unit_test(test_register_refused),
		cmocka_unit_test(test_first_message),
		cmocka_unit_test(test_admission),
		cmocka_unit_test(test_newer_channel),
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_connect_flag),
		cmocka_unit_test(test_link_step_by_step),
		cmocka_unit_test(test_connect_refused),
		cmocka_unit_test(test_port_clash),
		cmocka_unit_test(test_port_clash_for_ever),
		cmocka_unit_test(test_ports_of_a_host),
		cmocka_unit_test(test_candidates),
		cmocka_unit_test(test_no_answer),
		cmocka_unit_test(test_no_packets),
		cmocka_unit_test(test_link_comes_back),
		cmocka_unit_test(test_node_ends),
		cmocka_unit_test(test_strays),
		cmocka_unit_test(test_foreign_ack),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_node_find),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
