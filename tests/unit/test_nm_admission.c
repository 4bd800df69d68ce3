/* Who may be in the mesh and as what: invites, the list of nodes, revoked keys, roles, and what a
 * hostile node may ask for. */
#include "nm_mesh.h"

/* Node `n` with this token; the code of the answer, whose text is in r->text. */
static uint16_t comes(struct rec *r, unsigned n, uint64_t channel, const char *token)
{
	char name[8];
	snprintf(name, sizeof name, "n%u", n);
	struct msg m = hello(name, 1);
	m.register_node.token = bytes_str(token);
	node_channel(r, n, channel);
	node_say(r, channel, &m);
	struct msg_register_node_ack *ack =
		&rec_need(r, channel, MSG_RegisterNodeAck)->register_node_ack;
	bytes_to_cstr(ack->text, r->text, sizeof r->text);
	if (ack->code == CODE_OK && ack->keep)
		node_report(r, n);
	assert_int_equal(rec_is_closed(r, channel), ack->code != CODE_OK);
	return ack->code;
}

static struct nm_node_info info_of(struct rec *r, unsigned n)
{
	struct nm_node_info info;
	struct mesh_id id = node_id(n);
	assert_int_equal(nm_node_get(r->nm, &id, &info), 0);
	return info;
}

static struct rec *token_mesh(void)
{
	struct rec *r = rec_new();
	r->config.admission = NM_ADMISSION_TOKEN;
	r->config.tokens = "from-the-file";
	rec_start(r);
	return r;
}

/* --- invites ---------------------------------------------------------------------------------- */

static void test_invite(void **state)
{
	struct rec *r = token_mesh();
	struct nm_invite_record record;
	char token[NM_TOKEN_TEXT], other[NM_TOKEN_TEXT];
	(void)state;
	assert_int_equal(nm_invite(r->nm, 2, 3600, ROLE_RELAY, token, &record), 0);
	assert_int_equal(nm_invite(r->nm, 1, 3600, ROLE_MEMBER, other, &record), 0);
	assert_int_equal(strlen(token), NM_TOKEN_CHARS);
	assert_string_not_equal(token, other);
	/* What is stored does not hold the token. */
	assert_memory_not_equal(r->invites[0].hash, token, sizeof r->invites[0].hash);
	assert_int_equal(comes(r, 1, 1, ""), CODE_REFUSED);
	assert_non_null(strstr(r->text, "wants a token"));
	assert_int_equal(comes(r, 1, 2, "guess"), CODE_REFUSED);
	assert_non_null(strstr(r->text, "not known"));
	assert_int_equal(comes(r, 1, 3, token), CODE_OK);
	assert_int_equal(info_of(r, 1).role, ROLE_RELAY);
	assert_int_equal(rec_need(r, 3, MSG_RegisterNodeAck)->register_node_ack.role, ROLE_RELAY);
	/* The same key again uses nothing up, with the token or without it. */
	assert_int_equal(comes(r, 1, 4, token), CODE_OK);
	assert_int_equal(comes(r, 1, 5, ""), CODE_OK);
	assert_int_equal(r->invites[0].used, 1);
	assert_int_equal(comes(r, 2, 6, token), CODE_OK);
	assert_int_equal(comes(r, 3, 7, token), CODE_REFUSED);
	assert_non_null(strstr(r->text, "used up"));
	/* The configured ones still work, and use no invite up. */
	assert_int_equal(comes(r, 3, 8, "from-the-file"), CODE_OK);
	assert_int_equal(info_of(r, 3).role, ROLE_GATEWAY);
	assert_false(info_of(r, 3).admitted);
	assert_int_equal(comes(r, 3, 9, ""), CODE_REFUSED);
	rec_free(r);
}

static void test_invite_expires(void **state)
{
	struct rec *r = token_mesh();
	struct nm_invite_record record;
	char token[NM_TOKEN_TEXT];
	(void)state;
	assert_int_equal(nm_invite(r->nm, 5, 60, ROLE_MEMBER, token, &record), 0);
	assert_int_equal(record.expires_s, r->wall_s + 60);
	r->wall_s += 59;
	assert_int_equal(comes(r, 1, 1, token), CODE_OK);
	r->wall_s += 1;
	assert_int_equal(comes(r, 2, 2, token), CODE_REFUSED);
	assert_non_null(strstr(r->text, "expired"));
	assert_int_equal(comes(r, 1, 3, token), CODE_OK); /* is in */
	/* In the end it is forgotten, and the next one has a number of its own. */
	r->wall_s += NM_INVITE_KEPT_S + 1;
	assert_int_equal(nm_invite(r->nm, 1, 60, ROLE_MEMBER, token, &record), 0);
	assert_int_equal(record.number, 2);
	assert_int_equal(r->invite_count, 1);
	rec_free(r);
}

static void test_invite_limits(void **state)
{
	struct rec *r = token_mesh();
	struct nm_invite_record record;
	char token[NM_TOKEN_TEXT];
	(void)state;
	assert_int_equal(nm_invite(r->nm, 0, 60, ROLE_MEMBER, token, &record), -EINVAL);
	assert_int_equal(nm_invite(r->nm, 1, 0, ROLE_MEMBER, token, &record), -EINVAL);
	assert_int_equal(nm_invite(r->nm, 1, 60, ROLE_DEFAULT, token, &record), -EINVAL);
	assert_int_equal(nm_invite(r->nm, 1, 60, ROLES, token, &record), -EINVAL);
	assert_int_equal(nm_invite(r->nm, NM_INVITE_USES_MAX + 1, 60, ROLE_MEMBER, token, &record),
			 -EINVAL);
	for (size_t i = 0; i < NM_INVITES_MAX; i++) {
		r->invite_count = 0; /* the recorder has less room than the engine */
		assert_int_equal(nm_invite(r->nm, 1, 60, ROLE_MEMBER, token, &record), 0);
	}
	assert_int_equal(nm_invite(r->nm, 1, 60, ROLE_MEMBER, token, &record), -ENOSPC);
	assert_int_equal(rec_status(r).invites, NM_INVITES_MAX);
	rec_free(r);
}

static void test_invite_remove(void **state)
{
	struct rec *r = token_mesh();
	struct nm_invite_record record;
	char first[NM_TOKEN_TEXT], second[NM_TOKEN_TEXT];
	(void)state;
	assert_int_equal(nm_invite(r->nm, 1, 60, ROLE_MEMBER, first, &record), 0);
	assert_int_equal(nm_invite(r->nm, 1, 60, ROLE_MEMBER, second, &record), 0);
	assert_int_equal(nm_invite_remove(r->nm, "3"), -ENOENT);
	assert_int_equal(nm_invite_remove(r->nm, "1x"), -ENOENT);
	assert_int_equal(nm_invite_remove(r->nm, "1"), 0);
	assert_int_equal(nm_invite_remove(r->nm, second), 0);
	assert_int_equal(r->invite_count, 0);
	assert_int_equal(comes(r, 1, 1, first), CODE_REFUSED);
	assert_int_equal(comes(r, 1, 2, second), CODE_REFUSED);
	rec_free(r);
}

/* Neither a use nor a node is lost with the manager; nothing is true that is not written. */
static void test_invite_is_durable(void **state)
{
	struct rec *r = token_mesh();
	struct nm_invite_record record;
	char token[NM_TOKEN_TEXT];
	(void)state;
	assert_int_equal(nm_invite(r->nm, 2, 3600, ROLE_RELAY, token, &record), 0);
	assert_int_equal(comes(r, 1, 1, token), CODE_OK);
	r->store_fails = true;
	assert_int_equal(comes(r, 2, 2, token), CODE_BUSY);
	assert_non_null(strstr(r->text, "database"));
	assert_int_equal(rec_status(r).nodes, 1);
	assert_int_equal(nm_invite(r->nm, 2, 3600, ROLE_RELAY, token, &record), -EIO);
	r->store_fails = false;
	assert_int_equal(rec_status(r).invites, 1);
	rec_restart(r);
	assert_int_equal(comes(r, 1, 3, ""), CODE_OK);
	assert_int_equal(info_of(r, 1).role, ROLE_RELAY);
	rec_free(r);
}

/* --- the list of nodes ------------------------------------------------------------------------ */

static void test_allowlist(void **state)
{
	struct rec *r = rec_new();
	struct mesh_id one = node_id(1), two = node_id(2);
	char text[MESH_ID_TEXT];
	(void)state;
	r->config.admission = NM_ADMISSION_ALLOWLIST;
	r->config.allowed = mesh_id_text(&two, text);
	rec_start(r);
	assert_int_equal(comes(r, 1, 1, ""), CODE_REFUSED);
	assert_int_equal(nm_allow(r->nm, &one), 0);
	assert_int_equal(nm_allow(r->nm, &one), -EALREADY);
	assert_int_equal(comes(r, 1, 2, ""), CODE_OK);
	rec_restart(r);
	assert_int_equal(comes(r, 1, 3, ""), CODE_OK);
	assert_int_equal(comes(r, 2, 4, ""), CODE_OK);
	rec_link(r, 1, 2);
	rec_clear(r);
	assert_int_equal(nm_disallow(r->nm, &one, r->now), 0);
	assert_int_equal(nm_disallow(r->nm, &one, r->now), -ENOENT);
	assert_true(rec_is_closed(r, 3));
	rec_need(r, 4, MSG_TransportShutdown);
	assert_int_equal(comes(r, 1, 5, ""), CODE_REFUSED);
	/* One that the file allows too stays. */
	assert_int_equal(nm_allow(r->nm, &two), 0);
	assert_int_equal(nm_disallow(r->nm, &two, r->now), 0);
	assert_false(rec_is_closed(r, 4));
	rec_free(r);
}

/* A node that the operator starts here needs no token and no line in a list. */
static void test_expected(void **state)
{
	struct rec *r = token_mesh();
	struct nm_node_record one = {.id = node_id(1), .name = "n1"},
			      two = {.id = node_id(2), .name = "n2"};
	(void)state;
	assert_int_equal(nm_expect_node(r->nm, &one), 0);
	assert_int_equal(comes(r, 1, 1, ""), CODE_OK);
	r->config.admission = NM_ADMISSION_ALLOWLIST;
	nm_set_config(r->nm, &r->config);
	assert_int_equal(comes(r, 1, 2, ""), CODE_REFUSED);
	assert_int_equal(nm_expect_node(r->nm, &two), 0);
	assert_int_equal(comes(r, 2, 3, ""), CODE_OK);
	rec_free(r);
}

/* --- revoked keys ----------------------------------------------------------------------------- */

/* 1 - (2 | 3) - 4 on channels 1 to 4, and a connection from 1 to 4. */
static struct rec *diamond(void)
{
	struct rec *r = rec_new();
	uint32_t links[4];
	mesh_square(r, links);
	struct msg m = ask_connect(4, "app", 50);
	node_say(r, 1, &m);
	rec_pump(r);
	assert_int_equal(rec_need(r, 1, MSG_ConnectWithRouteAck)->connect_with_route_ack.code,
			 CODE_OK);
	return r;
}

/* The relay that the connection takes: 2 or 3. */
static unsigned relay_of(struct rec *r)
{
	return r->held[2].rule_count ? 2 : 3;
}

static uint16_t channel_of_revoked(struct rec *r, unsigned n, uint64_t channel)
{
	struct mesh_id id = node_id(n);
	struct net_addr addr = node_addr(n);
	assert_int_equal(nm_node_up(r->nm, &id, &addr, channel, r->now), -EACCES);
	const struct msg *m = rec_need(r, channel, MSG_RegisterNodeAck);
	assert_int_equal(m->seq, 0);
	return m->register_node_ack.code;
}

static void test_revoke(void **state)
{
	struct rec *r = diamond();
	unsigned relay = relay_of(r), other = 5 - relay;
	struct mesh_id id = node_id(relay);
	(void)state;
	node_say(r, relay,
		 &(struct msg){.type = MSG_RegisterApp,
			       .seq = 9,
			       .register_app = {.app = bytes_str("a"), .type = bytes_str("echo")}});
	nm_tracker_up(r->nm, r->now);
	rec_clear(r);
	assert_int_equal(nm_revoke(r->nm, &id, r->now), 0);
	/* In this very call: the channel, both neighbours, the apps. */
	assert_true(rec_is_closed(r, relay));
	assert_int_equal(rec_count(r, 1, MSG_TransportShutdown), 1);
	assert_int_equal(rec_count(r, 4, MSG_TransportShutdown), 1);
	assert_int_equal(
		rec_need(r, TRACKER, MSG_AppRegistrationRequest)->app_registration_request.op,
		APP_OP_NODE_GONE);
	assert_true(rec_find(r, other, MSG_AddRoute, 0) != NULL);
	rec_pump(r);
	assert_int_equal(r->held[other].rule_count, 2);
	assert_int_equal(rec_count(r, 1, MSG_ConnectionShutdown), 0);
	assert_int_equal(rec_status(r).connections, 1);
	assert_int_equal(channel_of_revoked(r, relay, 20), CODE_REFUSED);
	assert_int_equal(rec_status(r).refused_revoked, 1);
	assert_int_equal(nm_revoke(r->nm, &id, r->now), -EALREADY);
	/* Nothing is made with it again. */
	rec_clear(r);
	rec_sleep(r, 120 * SECOND);
	assert_int_equal(rec_count(r, 1, MSG_TransportCreate), 0);
	assert_int_equal(nm_unrevoke(r->nm, &id), 0);
	assert_int_equal(nm_unrevoke(r->nm, &id), -ENOENT);
	node_join(r, relay, 21, 2);
	rec_pump(r);
	assert_int_equal(rec_status(r).transports_connected, 4); /* links were remembered */
	rec_free(r);
}

/* A neighbour whose channel is away at that moment learns it from what becomes of its report. */
static void test_revoke_while_a_neighbour_is_away(void **state)
{
	struct rec *r = diamond();
	unsigned relay = relay_of(r);
	struct mesh_id id = node_id(relay);
	(void)state;
	nm_node_down(r->nm, 4, r->now);
	rec_clear(r);
	assert_int_equal(nm_revoke(r->nm, &id, r->now), 0);
	assert_int_equal(rec_count(r, 4, MSG_TransportShutdown), 0);
	assert_int_equal(node_join(r, 4, 14, 1).keep, 1);
	assert_int_equal(rec_count(r, 14, MSG_TransportShutdown), 1);
	rec_pump(r);
	assert_int_equal(r->held[4].transport_count, 1);
	assert_int_equal(rec_status(r).connections, 1);
	rec_free(r);
}

/* The manager dies before anybody has heard of it: the next one knows, and waits for no report of
 * the key. */
static void test_revoke_outlives_the_manager(void **state)
{
	struct rec *r = diamond();
	unsigned relay = relay_of(r);
	struct mesh_id id = node_id(relay);
	struct held before = r->held[1];
	(void)state;
	assert_int_equal(nm_revoke(r->nm, &id, r->now), 0);
	r->held[1] = before; /* what it was told has not arrived */
	rec_restart(r);
	assert_true(nm_is_revoked(r->nm, &id));
	assert_int_equal(channel_of_revoked(r, relay, 30), CODE_REFUSED);
	assert_int_equal(node_join(r, 1, 31, 1).keep, 1);
	assert_int_equal(rec_count(r, 31, MSG_TransportShutdown), 1);
	assert_string_equal(r->revoked[0].name, relay == 2 ? "n2" : "n3");
	rec_free(r);
}

/* Channels that have not registered, keys that nobody knows, a store that fails. */
static void test_revoke_corners(void **state)
{
	struct rec *r = rec_new();
	struct mesh_id one = node_id(1), found;
	char text[MESH_ID_TEXT];
	(void)state;
	rec_start(r);
	node_channel(r, 1, 1);
	node_channel(r, 1, 2);
	node_channel(r, 2, 3);
	r->store_fails = true;
	assert_int_equal(nm_revoke(r->nm, &one, r->now), -EIO);
	assert_false(nm_is_revoked(r->nm, &one));
	r->store_fails = false;
	assert_int_equal(nm_revoke(r->nm, &one, r->now), 0);
	assert_true(rec_is_closed(r, 1) && rec_is_closed(r, 2));
	assert_false(rec_is_closed(r, 3));
	struct msg m = hello("n1", 1);
	node_say(r, 1, &m); /* the channel is gone */
	assert_int_equal(rec_status(r).nodes, 0);
	assert_int_equal(nm_revoked_find(r->nm, mesh_id_text(&one, text), &found), 0);
	assert_int_equal(nm_revoked_find(r->nm, "aa000001", &found), 0);
	assert_int_equal(nm_revoked_find(r->nm, "", &found), -ENOENT);
	assert_int_equal(nm_revoked_find(r->nm, "n1", &found), -ENOENT);
	r->store_fails = true;
	assert_int_equal(nm_unrevoke(r->nm, &one), -EIO);
	assert_true(nm_is_revoked(r->nm, &one));
	rec_free(r);
}

/* --- roles ------------------------------------------------------------------------------------ */

static void set_role(struct rec *r, unsigned n, uint8_t role)
{
	struct mesh_id id = node_id(n);
	assert_int_equal(nm_set_role(r->nm, &id, role, r->now), 0);
}

static long hops(struct rec *r, unsigned a, unsigned b)
{
	struct mesh_id from = node_id(a), to = node_id(b), nodes[8];
	uint64_t cost;
	return nm_find_route(r->nm, &from, &to, nodes, 8, &cost);
}

static void test_member_is_no_relay(void **state)
{
	struct rec *r = diamond();
	unsigned relay = relay_of(r), other = 5 - relay;
	struct mesh_id chain[3] = {node_id(1), node_id(relay), node_id(4)};
	(void)state;
	rec_clear(r);
	set_role(r, relay, ROLE_MEMBER);
	/* The new path is made before the old rules go. */
	assert_int_equal(rec_count(r, relay, MSG_RemoveRoute), 0);
	assert_int_equal(rec_count(r, other, MSG_AddRoute), 2);
	rec_pump(r);
	assert_int_equal(rec_count(r, relay, MSG_RemoveRoute), 2);
	assert_int_equal(r->held[relay].rule_count, 0);
	assert_int_equal(rec_status(r).connections, 1);
	assert_int_equal(hops(r, 1, relay), 2); /* it may be an end */
	nm_build_route(r->nm, chain, 3, rec_done, r, r->now);
	assert_int_equal(r->code, CODE_NO_ROUTE);
	assert_non_null(strstr(r->text, "does not forward"));
	/* No other way: the connection waits, and goes on when there is one. */
	set_role(r, other, ROLE_MEMBER);
	rec_pump(r);
	assert_int_equal(hops(r, 1, 4), -ENETUNREACH);
	assert_int_equal(rec_status(r).connections, 1);
	set_role(r, relay, ROLE_RELAY);
	rec_sleep(r, 1);
	rec_pump(r);
	assert_int_equal(r->held[relay].rule_count, 2);
	assert_int_equal(r->held[other].rule_count, 0);
	set_role(r, relay, ROLE_MEMBER);
	rec_sleep(r, 60 * SECOND);
	rec_pump(r);
	assert_int_equal(rec_status(r).connections, 0);
	assert_int_equal(r->held[relay].rule_count, 0);
	rec_free(r);
}

/* Many connections through one relay, each with rules both ways, while it loses its role; among
 * them some that are just being made, and a route by hand. */
static void test_member_with_many_paths(void **state)
{
	struct rec *r = diamond();
	unsigned relay = relay_of(r);
	struct mesh_id chain[3] = {node_id(1), node_id(relay), node_id(4)};
	(void)state;
	nm_build_route(r->nm, chain, 3, rec_done, r, r->now);
	rec_pump(r);
	assert_int_equal(rec_status(r).routes, 1);
	for (uint32_t i = 0; i < 20; i++) {
		struct msg m = ask_connect(4, "app", 100 + i);
		node_say(r, 1, &m);
		if (i < 15)
			rec_pump(r);
	}
	set_role(r, relay, ROLE_MEMBER);
	rec_pump(r);
	assert_int_equal(rec_status(r).routes, 0);
	assert_int_equal(rec_status(r).connections, 21);
	assert_int_equal(r->held[relay].rule_count, 0);
	assert_int_equal(r->held[5 - relay].rule_count, 42);
	rec_free(r);
}

static void test_role_outlives_the_manager(void **state)
{
	struct rec *r = diamond();
	unsigned relay = relay_of(r);
	struct held before = r->held[relay];
	(void)state;
	set_role(r, relay, ROLE_MEMBER);
	r->held[relay] = before; /* the manager dies before the path has moved */
	rec_restart(r);
	for (unsigned n = 1; n <= 4; n++)
		assert_int_equal(node_join(r, n, 40 + n, 1).keep, 1);
	rec_pump(r);
	rec_sleep(r, 60 * SECOND);
	rec_pump(r);
	assert_int_equal(info_of(r, relay).role, ROLE_MEMBER);
	assert_int_equal(rec_status(r).connections, 1);
	assert_int_equal(r->held[relay].rule_count, 0);
	assert_int_equal(r->held[5 - relay].rule_count, 2);
	rec_free(r);
}

static void test_default_role(void **state)
{
	struct rec *r = diamond();
	(void)state;
	assert_int_equal(info_of(r, 2).role, ROLE_GATEWAY);
	set_role(r, 3, ROLE_RELAY);
	r->config.default_role = ROLE_MEMBER;
	nm_set_config(r->nm, &r->config);
	nm_tick(r->nm, r->now);
	rec_pump(r);
	assert_int_equal(info_of(r, 2).role, ROLE_MEMBER);
	assert_int_equal(info_of(r, 3).role, ROLE_RELAY);
	assert_int_equal(r->held[2].rule_count, 0);
	assert_int_equal(r->held[3].rule_count, 2);
	set_role(r, 3, ROLE_DEFAULT);
	assert_int_equal(info_of(r, 3).role, ROLE_MEMBER);
	struct mesh_id unknown = node_id(9);
	assert_int_equal(nm_set_role(r->nm, &unknown, ROLE_RELAY, r->now), -ENOENT);
	assert_int_equal(nm_set_role(r->nm, &unknown, ROLES, r->now), -EINVAL);
	rec_free(r);
}

/* A first link leads to somebody who forwards. */
static void test_connect_prefers_relays(void **state)
{
	struct rec *r = rec_new();
	(void)state;
	r->config.default_role = ROLE_MEMBER;
	rec_start(r);
	for (unsigned n = 1; n <= 5; n++)
		node_join(r, n, n, 1);
	set_role(r, 3, ROLE_RELAY);
	for (unsigned n = 6; n <= 9; n++) {
		struct msg m = hello("", 1);
		m.register_node.connect = 1;
		node_channel(r, n, n);
		node_say(r, n, &m);
		rec_pump(r);
		assert_int_equal(hops(r, n, 3), 2);
	}
	rec_free(r);
}

static uint16_t offers(struct rec *r, unsigned n, const char *app, const char *type, uint32_t seq)
{
	struct msg m = {.type = MSG_RegisterApp, .seq = seq};
	m.register_app.app = bytes_str(app);
	m.register_app.type = bytes_str(type);
	node_say(r, n, &m);
	for (size_t i = 0;; i++) {
		struct sent *s = rec_find(r, n, MSG_RegisterAppAck, i);
		if (!s)
			return CODE_OK; /* waits for the tracker */
		if (s->m.seq == seq)
			return s->m.register_app_ack.code;
	}
}

static uint8_t last_op(struct rec *r)
{
	size_t count = rec_count(r, TRACKER, MSG_AppRegistrationRequest);
	return rec_find(r, TRACKER, MSG_AppRegistrationRequest, count - 1)
		->m.app_registration_request.op;
}

static void test_gateway_apps(void **state)
{
	struct rec *r = rec_new();
	(void)state;
	rec_start(r);
	node_join(r, 1, 1, 1);
	node_join(r, 2, 2, 1);
	rec_link(r, 1, 2);
	nm_tracker_up(r->nm, r->now);
	set_role(r, 1, ROLE_RELAY);
	assert_int_equal(offers(r, 1, "a", "internet_gateway", 50), CODE_REFUSED);
	assert_int_equal(offers(r, 1, "b", "socks_server", 51), CODE_REFUSED);
	assert_int_equal(offers(r, 1, "c", "vpn_server", 52), CODE_REFUSED);
	assert_int_equal(offers(r, 1, "d", "echo", 53), CODE_OK);
	assert_int_equal(rec_status(r).apps, 1);
	set_role(r, 1, ROLE_GATEWAY);
	assert_int_equal(offers(r, 1, "a", "internet_gateway", 54), CODE_OK);
	/* It loses the role: the app is not listed and not connected to, until it has it again. */
	set_role(r, 1, ROLE_MEMBER);
	assert_int_equal(last_op(r), APP_OP_REMOVE);
	struct msg m = ask_connect(1, "a", 60);
	node_say(r, 2, &m);
	assert_int_equal(rec_need(r, 2, MSG_ConnectWithRouteAck)->connect_with_route_ack.code,
			 CODE_REFUSED);
	nm_tracker_down(r->nm, r->now);
	rec_clear(r);
	nm_tracker_up(r->nm, r->now); /* a tracker that comes back does not hear of it */
	assert_int_equal(rec_count(r, TRACKER, MSG_AppRegistrationRequest), 2);
	set_role(r, 1, ROLE_GATEWAY);
	assert_int_equal(last_op(r), APP_OP_ADD);
	rec_free(r);
}

/* --- names ------------------------------------------------------------------------------------ */

static uint16_t named(struct rec *r, unsigned n, uint64_t channel, const char *name)
{
	struct msg m = hello(name, 1);
	node_channel(r, n, channel);
	node_say(r, channel, &m);
	struct msg_register_node_ack *ack =
		&rec_need(r, channel, MSG_RegisterNodeAck)->register_node_ack;
	bytes_to_cstr(ack->text, r->text, sizeof r->text);
	if (ack->keep && ack->code == CODE_OK)
		node_report(r, n);
	return ack->code;
}

static void test_names(void **state)
{
	struct rec *r = rec_new();
	struct mesh_id id, one = node_id(1);
	char text[MESH_ID_TEXT];
	const char *like[] = {"7",	  "12345",    "cafebabe",
			      "DEADBEEF", "00000000", mesh_id_text(&one, text)};
	(void)state;
	rec_start(r);
	for (size_t i = 0; i < sizeof like / sizeof *like; i++) {
		assert_int_equal(named(r, 1, 10 + i, like[i]), CODE_INVALID);
		assert_non_null(strstr(r->text, i < 5 ? "looks like a number or an id" : ""));
	}
	assert_int_equal(named(r, 1, 1, "cafe"), CODE_OK);
	assert_int_equal(named(r, 2, 2, "cafe"), CODE_REFUSED);
	assert_non_null(strstr(r->text, "belongs to another key"));
	assert_int_equal(named(r, 2, 3, "r2-d2"), CODE_OK);
	/* A rename frees the old name at once, is stored, and a taken one changes nothing. */
	assert_int_equal(named(r, 1, 4, "roof"), CODE_OK);
	assert_int_equal(nm_node_find(r->nm, "cafe", &id), -ENOENT);
	assert_int_equal(nm_node_find(r->nm, "roof", &id), 0);
	assert_true(mesh_id_equal(&id, &one));
	assert_string_equal(r->nodes[0].name, "roof");
	assert_int_equal(named(r, 1, 5, "r2-d2"), CODE_REFUSED);
	assert_int_equal(nm_node_find(r->nm, "roof", &id), 0);
	assert_int_equal(named(r, 2, 6, "cafe"), CODE_OK);
	/* A name of a node that was forgotten is free. */
	nm_node_down(r->nm, 4, r->now);
	assert_int_equal(nm_forget_node(r->nm, &one, r->now), 0);
	assert_int_equal(named(r, 3, 7, "roof"), CODE_OK);
	rec_free(r);
}

/* --- hostile nodes ---------------------------------------------------------------------------- */

static size_t count_code(struct rec *r, uint64_t channel, uint16_t type, uint16_t code)
{
	size_t n = 0;
	for (size_t i = 0; i < r->count; i++)
		n += r->sent[i].channel == channel && r->sent[i].m.type == type &&
		     (type == MSG_RegisterAppAck
			      ? r->sent[i].m.register_app_ack.code
			      : r->sent[i].m.connect_with_route_ack.code) == code;
	return n;
}

static void test_connect_flood(void **state)
{
	struct rec *r = rec_new();
	(void)state;
	r->config.connect_rate = 10;
	r->config.connect_burst = 20;
	rec_start(r);
	for (unsigned n = 1; n <= 3; n++)
		node_join(r, n, n, 1);
	rec_link(r, 1, 2);
	rec_clear(r);
	for (uint32_t i = 0; i < 200; i++) {
		struct msg m = ask_connect(3, "x", 100 + i); /* no way to 3 */
		node_say(r, 1, &m);
	}
	assert_int_equal(count_code(r, 1, MSG_ConnectWithRouteAck, CODE_NO_ROUTE), 20);
	assert_int_equal(count_code(r, 1, MSG_ConnectWithRouteAck, CODE_BUSY), 180);
	assert_int_equal(info_of(r, 1).over_limit, 180);
	/* Links that it asks for are counted with them. */
	struct msg m = {.type = MSG_ConnectDirectly, .seq = 5};
	m.connect_directly.peer = node_id(3);
	node_say(r, 1, &m);
	assert_int_equal(rec_need(r, 1, MSG_ConnectDirectlyAck)->connect_directly_ack.code,
			 CODE_BUSY);
	assert_int_equal(rec_status(r).links, 1);
	/* The others notice nothing. */
	m = ask_connect(1, "x", 7);
	node_say(r, 2, &m);
	rec_pump(r);
	assert_int_equal(rec_need(r, 2, MSG_ConnectWithRouteAck)->connect_with_route_ack.code,
			 CODE_OK);
	assert_int_equal(info_of(r, 2).over_limit, 0);
	assert_int_equal(rec_status(r).over_limit, 181);
	rec_free(r);
}

static void test_app_flood(void **state)
{
	struct rec *r = rec_new();
	(void)state;
	r->config.app_rate = 1;
	r->config.app_burst = 30;
	r->config.queries_per_node_max = 8;
	rec_start(r);
	node_join(r, 1, 1, 1);
	node_join(r, 2, 2, 1);
	nm_tracker_up(r->nm, r->now); /* it is slow: no answer comes */
	for (uint32_t i = 0; i < 100; i++)
		offers(r, 1, "one", "echo", 100 + i);
	assert_int_equal(count_code(r, 1, MSG_RegisterAppAck, CODE_OK), 92); /* known already */
	for (uint32_t i = 0; i < 100; i++)
		offers(r, 1, "one", i & 1 ? "echo" : "other", 300 + i);
	assert_int_equal(count_code(r, 1, MSG_RegisterAppAck, CODE_BUSY), 50);
	for (uint32_t i = 0; i < 100; i++) {
		struct msg m = {.type = MSG_AppListRequest, .seq = 1000 + i};
		node_say(r, 1, &m);
	}
	assert_int_equal(rec_count(r, TRACKER, MSG_AppListRequest), 0);
	assert_int_equal(offers(r, 2, "two", "echo", 9), CODE_OK);
	assert_int_equal(rec_count(r, 2, MSG_RegisterAppAck), 0); /* has been passed on */
	/* Questions that were given up count no more, apps only as time goes by. */
	rec_sleep(r, r->config.request_timeout_us);
	rec_clear(r);
	for (uint32_t i = 0; i < 100; i++)
		offers(r, 1, "one", "echo", 2000 + i);
	assert_in_range(rec_count(r, TRACKER, MSG_AppRegistrationRequest), 1, 8);
	assert_int_equal(rec_status(r).apps, 2);
	rec_free(r);
}

/* A node that calls its neighbours dead, over and over: after a few times only its own links are
 * doubted, and the paths of others do not move. */
static void test_cries_wolf(void **state)
{
	struct rec *r = diamond();
	unsigned relay = relay_of(r), moved = 0;
	uint32_t liar_link;
	(void)state;
	node_join(r, 5, 5, 1);
	liar_link = rec_link(r, 5, relay);
	for (unsigned i = 0; i < 100; i++) {
		rec_clear(r);
		node_say(r, 5,
			 &(struct msg){.type = MSG_TransportSuspect,
				       .transport_suspect = {liar_link, 1}});
		struct mesh_id from = node_id(1), to = node_id(relay), nodes[8];
		uint64_t cost;
		assert_int_equal(nm_find_route(r->nm, &from, &to, nodes, 8, &cost), 2);
		moved += cost > 100000; /* the link of others is the last choice */
		node_say(r, 5,
			 &(struct msg){.type = MSG_TransportSuspect,
				       .transport_suspect = {liar_link, 0}});
		node_say(r, relay, &(struct msg){.type = MSG_Ping, .seq = 1});
	}
	assert_in_range(moved, 1, 16);
	assert_in_range(info_of(r, 5).over_limit, 84, 99);
	rec_free(r);
}

/* A relay that is there and takes no rules: the next try goes around it. */
static void test_unwilling_relay(void **state)
{
	struct rec *r = diamond();
	unsigned relay = relay_of(r), other = 5 - relay;
	struct mesh_id one = node_id(1), dear = node_id(other);
	(void)state;
	assert_int_equal(nm_set_link_cost(r->nm, &one, &dear, 5000, r->now), 0);
	rec_clear(r);
	struct msg m = ask_connect(4, "app", 60);
	node_say(r, 1, &m);
	struct sent *s = rec_find(r, relay, MSG_AddRoute, 0);
	if (!s)
		fail_msg("the path is the one of before");
	node_ack(r, s, CODE_BUSY, 0);
	assert_int_equal(rec_count(r, other, MSG_AddRoute), 2);
	rec_pump(r);
	assert_int_equal(rec_need(r, 1, MSG_ConnectWithRouteAck)->connect_with_route_ack.code,
			 CODE_OK);
	/* What goes through it already stays, it is still the last choice, and later it is tried
	 * again. */
	assert_int_equal(r->held[relay].rule_count, 2);
	set_role(r, other, ROLE_MEMBER);
	rec_pump(r);
	assert_int_equal(r->held[relay].rule_count, 4);
	set_role(r, other, ROLE_RELAY);
	struct mesh_id from = node_id(1), to = node_id(relay), nodes[8];
	uint64_t before, after;
	assert_int_equal(nm_find_route(r->nm, &from, &to, nodes, 8, &before), 2);
	rec_sleep(r, 31 * SECOND);
	assert_int_equal(nm_find_route(r->nm, &from, &to, nodes, 8, &after), 2);
	assert_true(after < before);
	rec_free(r);
}

/* One node cannot take all the connections that another may have. */
static void test_pair_limit(void **state)
{
	struct rec *r = rec_new();
	(void)state;
	r->config.connections_per_pair_max = 5;
	rec_start(r);
	for (unsigned n = 1; n <= 3; n++)
		node_join(r, n, n, 1);
	rec_link(r, 1, 2);
	rec_link(r, 2, 3);
	rec_clear(r);
	for (uint32_t i = 0; i < 10; i++) {
		struct msg m = ask_connect(2, "x", 100 + i);
		node_say(r, 1, &m);
		rec_pump(r);
	}
	assert_int_equal(count_code(r, 1, MSG_ConnectWithRouteAck, CODE_OK), 5);
	assert_int_equal(count_code(r, 1, MSG_ConnectWithRouteAck, CODE_BUSY), 5);
	struct msg m = ask_connect(3, "x", 200);
	node_say(r, 1, &m);
	m = ask_connect(2, "x", 201);
	node_say(r, 3, &m);
	m = ask_connect(1, "x", 202);
	node_say(r, 2, &m);
	rec_pump(r);
	assert_int_equal(rec_status(r).connections, 8);
	rec_free(r);
}

/* A new channel does not fill up what has been used. */
static void test_limits_outlive_a_channel(void **state)
{
	struct rec *r = rec_new();
	(void)state;
	r->config.connect_rate = 1;
	r->config.connect_burst = 3;
	rec_start(r);
	for (uint32_t i = 0; i < 4; i++) {
		node_join(r, 1, 1 + i, 1);
		struct msg m = ask_connect(9, "x", 50);
		node_say(r, 1 + i, &m);
		assert_int_equal(
			rec_need(r, 1 + i, MSG_ConnectWithRouteAck)->connect_with_route_ack.code,
			i < 3 ? CODE_NOT_FOUND : CODE_BUSY);
	}
	rec_free(r);
}

/* It reports links and connections with everybody, that nobody else knows of. */
static void test_lying_report(void **state)
{
	struct rec *r = diamond();
	struct held *h = &r->held[5];
	(void)state;
	node_join(r, 5, 5, 1);
	struct nm_status before = rec_status(r);
	for (uint32_t i = 0; i < 8; i++) {
		h->transports[h->transport_count++] = (struct report_transport){
			.transport = 1 + i, .peer = node_id(1 + i % 4), .up = 1, .initiator = 1};
		h->conns[h->conn_count++] = (struct report_connection){
			.connection = 77 + i, .peer = node_id(1 + i % 4), .initiator = 1};
	}
	/* And what is another pair's. */
	h->transports[h->transport_count++] = r->held[1].transports[0];
	h->conns[h->conn_count++] = r->held[1].conns[0];
	rec_clear(r);
	assert_int_equal(node_join(r, 5, 15, 1).keep, 1);
	struct nm_status after = rec_status(r);
	assert_int_equal(after.transports_connected, before.transports_connected);
	assert_int_equal(after.connections, before.connections);
	assert_int_equal(rec_count(r, 15, MSG_TransportShutdown), 9);
	assert_int_equal(rec_count(r, 15, MSG_ConnectionShutdown), 9);
	for (unsigned n = 1; n <= 4; n++)
		assert_int_equal(rec_count(r, n, MSG_TransportShutdown) +
					 rec_count(r, n, MSG_ConnectionShutdown),
				 0);
	rec_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_invite),
		cmocka_unit_test(test_invite_expires),
		cmocka_unit_test(test_invite_limits),
		cmocka_unit_test(test_invite_remove),
		cmocka_unit_test(test_invite_is_durable),
		cmocka_unit_test(test_allowlist),
		cmocka_unit_test(test_expected),
		cmocka_unit_test(test_revoke),
		cmocka_unit_test(test_revoke_while_a_neighbour_is_away),
		cmocka_unit_test(test_revoke_outlives_the_manager),
		cmocka_unit_test(test_revoke_corners),
		cmocka_unit_test(test_member_is_no_relay),
		cmocka_unit_test(test_member_with_many_paths),
		cmocka_unit_test(test_role_outlives_the_manager),
		cmocka_unit_test(test_default_role),
		cmocka_unit_test(test_connect_prefers_relays),
		cmocka_unit_test(test_gateway_apps),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_connect_flood),
		cmocka_unit_test(test_app_flood),
		cmocka_unit_test(test_cries_wolf),
		cmocka_unit_test(test_lying_report),
		cmocka_unit_test(test_unwilling_relay),
		cmocka_unit_test(test_pair_limit),
		cmocka_unit_test(test_limits_outlive_a_channel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
