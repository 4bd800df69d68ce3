/* A nodemanager that is killed and started again: it takes over what both ends report, ends what
 * only one of them has, and hands out nothing twice.  And hostile reports. */
#include "nm_mesh.h"

/* Nodes 1 - 2 - 3 in a row, everybody obeys. */
static struct rec *row(uint32_t links[2])
{
	struct rec *r = rec_new();
	rec_start(r);
	for (unsigned n = 1; n <= 3; n++)
		node_join(r, n, n, 1);
	links[0] = rec_link(r, 1, 2);
	links[1] = rec_link(r, 2, 3);
	return r;
}

static struct msg ended(uint64_t connection)
{
	struct msg m = {.type = MSG_ConnectionShutdown};
	m.connection_shutdown.connection = connection;
	return m;
}

static void sum_rule(void *arg, const struct nm_rule_info *rule)
{
	uint64_t *sum = arg;
	*sum = (*sum + rule->in_transport * 31ull + rule->in_route) ^
	       (rule->out_transport * 1009ull + rule->out_route) * (rule->connection | 1);
}

/* Of all rules that the manager knows, in any order. */
static uint64_t rules_sum(struct rec *r, unsigned nodes)
{
	uint64_t sum = 0;
	for (unsigned n = 1; n <= nodes; n++) {
		struct mesh_id id = node_id(n);
		uint64_t one = n;
		nm_rules_each(r->nm, &id, NM_ALL, sum_rule, &one);
		sum += one;
	}
	return sum;
}

static void count_rule(void *arg, const struct nm_rule_info *rule)
{
	(void)rule;
	++*(size_t *)arg;
}

static size_t rules_known(struct rec *r, unsigned n)
{
	struct mesh_id id = node_id(n);
	size_t count = 0;
	nm_rules_each(r->nm, &id, NM_ALL, count_rule, &count);
	return count;
}

/* What changes anything at a node. */
static size_t orders(struct rec *r)
{
	size_t n = 0;
	for (size_t i = 0; i < r->count; i++)
		n += r->sent[i].channel != TRACKER && r->sent[i].m.type != MSG_RegisterNodeAck &&
		     r->sent[i].m.type != MSG_CommonAck;
	return n;
}

/* The label leads from the node's connection to its other end through what the nodes hold. */
static void carried(struct rec *r, unsigned from, unsigned to, uint64_t connection)
{
	const struct report_connection *c = held_conn(&r->held[from], connection);
	assert_non_null(c);
	uint32_t transport = c->out_transport, label = c->out_route;
	unsigned at = from;
	for (unsigned hop = 0; hop < HELD_NODES; hop++) {
		unsigned next = 0;
		for (unsigned n = 1; n < HELD_NODES; n++)
			if (n != at && held_transport(&r->held[n], transport))
				next = n;
		assert_int_not_equal(next, 0);
		const struct report_rule *rule = NULL;
		for (size_t i = 0; i < r->held[next].rule_count; i++)
			if (r->held[next].rules[i].in_transport == transport &&
			    r->held[next].rules[i].in_route == label)
				rule = &r->held[next].rules[i];
		assert_non_null(rule);
		if (!rule->out_transport) {
			assert_int_equal(next, to);
			assert_int_equal(rule->out_route, (uint32_t)connection);
			return;
		}
		transport = rule->out_transport;
		label = rule->out_route;
		at = next;
	}
	fail();
}

/* --- all is well --------------------------------------------------------------------------------
 */

static void taken_over(const unsigned order[3])
{
	uint32_t links[2];
	struct rec *r = row(links);
	uint64_t id = mesh_connect(r, 1, 3), rules = rules_sum(r, 3);
	size_t held = 0;
	rec_restart(r);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(node_join(r, order[i], 10 + order[i], 1).keep, 1);
		rec_sleep(r, SECOND);
	}
	assert_int_equal(orders(r), 0); /* nobody has to do anything */
	struct nm_status s = rec_status(r);
	assert_int_equal(s.transports_connected, 2);
	assert_int_equal(s.connections, 1);
	assert_int_equal(s.dropped, 0);
	assert_true(s.recovering);
	assert_int_equal(rules_sum(r, 3), rules);
	rec_sleep(r, 60 * SECOND);
	assert_false(rec_status(r).recovering);
	assert_int_equal(orders(r), 0);
	struct msg m = ended(id); /* and it is managed as before */
	node_say(r, 13, &m);
	assert_int_equal(rec_need(r, 11, MSG_ConnectionShutdown)->connection_shutdown.connection,
			 id);
	for (unsigned n = 1; n <= 3; n++)
		held += r->held[n].rule_count;
	assert_int_equal(held, 0);
	rec_free(r);
}

static void test_taken_over(void **state)
{
	(void)state;
	for (unsigned a = 1; a <= 3; a++)
		for (unsigned b = 1; b <= 3; b++)
			if (a != b)
				taken_over((const unsigned[]){a, b, 6 - a - b});
}

/* Twice, and a channel that blinks in between. */
static void test_again(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	uint64_t id = mesh_connect(r, 3, 1);
	for (uint64_t channel = 10; channel <= 20; channel += 10) {
		rec_restart(r);
		node_join(r, 1, channel + 1, 1);
		node_join(r, 2, channel + 2, 1);
		nm_node_down(r->nm, channel + 1, r->now);
		node_join(r, 3, channel + 3, 1);
		node_join(r, 1, channel + 4, 1);
		rec_sleep(r, 2 * SECOND);
		node_join(r, 2, channel + 5, 1); /* the newer channel wins */
		assert_int_equal(orders(r), 0);
		assert_int_equal(rec_status(r).connections, 1);
		assert_int_equal(rec_status(r).transports_connected, 2);
	}
	carried(r, 1, 3, id);
	carried(r, 3, 1, id);
	rec_free(r);
}

static void test_local(void **state)
{
	(void)state;
	struct rec *r = rec_new();
	rec_start(r);
	node_join(r, 1, 1, 1);
	uint64_t id = mesh_connect(r, 1, 1);
	rec_restart(r);
	node_join(r, 1, 11, 1);
	assert_int_equal(rec_status(r).connections, 1);
	assert_int_equal(orders(r), 0);
	struct msg m = ended(id);
	node_say(r, 11, &m);
	assert_int_equal(rec_status(r).connections, 0);
	rec_free(r);
}

/* The old manager died before it could say that all is ready. */
static void test_begins_late(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	uint64_t id = mesh_connect(r, 1, 3);
	held_conn(&r->held[1], id)->started = 0;
	rec_restart(r);
	for (unsigned n = 1; n <= 3; n++)
		node_join(r, n, 10 + n, 1);
	assert_int_equal(rec_need(r, 11, MSG_ConnectionOn)->connection_on.connection, id);
	assert_int_equal(orders(r), 1);
	nm_node_down(r->nm, 11, r->now); /* and that was lost as well */
	node_join(r, 1, 21, 1);
	assert_int_equal(rec_need(r, 21, MSG_ConnectionOn)->connection_on.connection, id);
	rec_free(r);
}

static void test_built_route(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	struct mesh_id way[3] = {node_id(1), node_id(2), node_id(3)};
	nm_build_route(r->nm, way, 3, rec_done, r, r->now);
	rec_pump(r);
	assert_int_equal(r->code, CODE_OK);
	assert_int_equal(r->route_count, 1);
	uint64_t rules = rules_sum(r, 3);
	rec_restart(r);
	for (unsigned n = 3; n >= 1; n--)
		node_join(r, n, 10 + n, 1);
	assert_int_equal(rules_sum(r, 3), rules);
	rec_sleep(r, 60 * SECOND);
	assert_int_equal(orders(r), 0);
	assert_int_equal(rec_status(r).routes, 1);
	rec_restart(r);
	node_join(r, 1, 21, 1);
	r->held[2] = (struct held){0}; /* the node between has been started anew */
	node_join(r, 2, 22, 2);
	node_join(r, 3, 23, 1);
	assert_int_equal(rec_status(r).routes, 0);
	assert_int_equal(r->route_count, 0);
	rec_sleep(r, 60 * SECOND);
	assert_int_equal(r->held[1].rule_count + r->held[3].rule_count, 0);
	rec_free(r);
}

/* --- something is missing -----------------------------------------------------------------------
 */

/* Node 3 does not come back. */
static void test_one_is_missing(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	uint64_t id = mesh_connect(r, 1, 3);
	rec_restart(r);
	node_join(r, 1, 11, 1);
	node_join(r, 2, 12, 1);
	rec_sleep(r, r->config.recover_us - 1);
	assert_int_equal(orders(r), 0);
	rec_sleep(r, 1);
	assert_int_equal(rec_need(r, 12, MSG_TransportShutdown)->transport_shutdown.transport,
			 links[1]);
	struct msg *m = rec_need(r, 11, MSG_ConnectionShutdown);
	assert_int_equal(m->connection_shutdown.connection, id);
	assert_int_equal(m->connection_shutdown.code, CODE_LOST);
	rec_sleep(r, 60 * SECOND);
	assert_int_equal(r->held[1].rule_count + r->held[2].rule_count, 0);
	assert_int_equal(r->held[1].transport_count, 1);
	/* It comes in the end: too late. */
	assert_int_equal(node_join(r, 3, 13, 1).keep, 0);
	rec_pump(r);
	assert_int_equal(rec_status(r).transports_connected, 2);
	rec_free(r);
}

/* Node 3 was started anew while the manager was away. */
static void test_one_is_new(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	uint64_t id = mesh_connect(r, 1, 3);
	rec_restart(r);
	node_join(r, 1, 11, 1);
	node_join(r, 2, 12, 1);
	r->held[3] = (struct held){0};
	assert_int_equal(node_join(r, 3, 13, 2).keep, 1); /* nobody can know */
	assert_int_equal(rec_need(r, 12, MSG_TransportShutdown)->transport_shutdown.transport,
			 links[1]);
	assert_int_equal(rec_need(r, 11, MSG_ConnectionShutdown)->connection_shutdown.connection,
			 id);
	uint32_t again = rec_need(r, 13, MSG_TransportCreate)->transport_create.transport;
	assert_int_not_equal(again, links[0]);
	assert_int_not_equal(again, links[1]);
	assert_int_equal(rec_count(r, 13, MSG_TransportCreate), 1); /* one link, one transport */
	rec_pump(r);
	assert_int_equal(rec_status(r).transports_connected, 2);
	rec_sleep(r, 60 * SECOND);
	assert_int_equal(r->held[1].rule_count + r->held[2].rule_count, 0);
	rec_free(r);
}

/* The relay died together with the manager; its neighbours notice. */
static void test_relay_is_gone(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	uint64_t id = mesh_connect(r, 1, 4);
	rec_restart(r);
	node_join(r, 1, 11, 1);
	node_join(r, 3, 13, 1);
	node_join(r, 4, 14, 1);
	rec_sleep(r, SECOND);
	assert_int_equal(orders(r), 0);
	mesh_lose(r, 11, links[0]);
	rec_pump(r);
	assert_int_equal(rec_count(r, 13, MSG_AddRoute), 2);
	assert_int_equal(rec_need(r, 11, MSG_AssignConnection)->assign_connection.path, 2);
	assert_int_equal(rec_need(r, 14, MSG_AssignConnection)->assign_connection.path, 2);
	carried(r, 1, 4, id);
	carried(r, 4, 1, id);
	rec_sleep(r, 60 * SECOND);
	carried(r, 1, 4, id); /* the old rules are gone, the new are not */
	assert_int_equal(r->held[1].rule_count, 2);
	assert_int_equal(r->held[4].rule_count, 2);
	rec_free(r);
}

/* The same, and sooner: the relay is silent under traffic. */
static void test_relay_is_silent(void **state)
{
	(void)state;
	for (unsigned late = 0; late < 2; late++) {
		uint32_t links[4];
		struct rec *r = mesh_diamond(links);
		uint64_t id = mesh_connect(r, 1, 4);
		held_transport(&r->held[1], links[0])->suspect = !late;
		rec_restart(r);
		node_join(r, 1, 11, 1);
		node_join(r, 3, 13, 1);
		node_join(r, 4, 14, 1);
		struct msg m = {.type = MSG_TransportSuspect};
		m.transport_suspect.transport = links[0];
		m.transport_suspect.suspect = 1;
		if (late)
			node_say(r, 11, &m);
		rec_pump(r);
		assert_int_equal(rec_need(r, 11, MSG_AssignConnection)->assign_connection.path, 2);
		carried(r, 1, 4, id);
		carried(r, 4, 1, id);
		rec_free(r);
	}
}

/* The transport is there at both ends, but one of them hears nothing. */
static void test_link_is_silent(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	uint64_t id = mesh_connect(r, 1, 4);
	held_transport(&r->held[1], links[0])->suspect = 1;
	rec_restart(r);
	for (unsigned n = 1; n <= 4; n++)
		node_join(r, n, 10 + n, 1);
	rec_sleep(r, SECOND);
	rec_pump(r);
	assert_int_equal(rec_count(r, 13, MSG_AddRoute), 2);
	carried(r, 1, 4, id);
	held_transport(&r->held[1], links[2])->suspect = 1; /* now that one; the first is well */
	held_transport(&r->held[1], links[0])->suspect = 0;
	node_join(r, 2, 22, 1);
	node_join(r, 1, 21, 1);
	rec_pump(r);
	assert_int_equal(rec_count(r, 22, MSG_AddRoute), 2);
	carried(r, 1, 4, id);
	rec_free(r);
}

/* There is no other way until somebody else is back. */
static void test_other_way_comes_late(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	uint64_t id = mesh_connect(r, 1, 4);
	rec_restart(r);
	node_join(r, 1, 11, 1);
	node_join(r, 4, 14, 1);
	mesh_lose(r, 11, links[0]);
	mesh_lose(r, 14, links[1]);
	struct msg m = ask_connect(4, "echo", 5); /* one that is asked for just now */
	node_say(r, 11, &m);
	rec_sleep(r, 5 * SECOND);
	assert_int_equal(orders(r), 0);
	node_join(r, 3, 13, 1);
	rec_sleep(r, SECOND);
	rec_pump(r);
	carried(r, 1, 4, id);
	carried(r, 4, 1, id);
	assert_int_equal(rec_need(r, 11, MSG_ConnectWithRouteAck)->connect_with_route_ack.code,
			 CODE_OK);
	assert_int_equal(rec_status(r).connections, 2);
	rec_free(r);
}

/* The ends are not of one mind about the path: one was told of a new one, the other not. */
static void test_half_moved(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	uint64_t id = mesh_connect(r, 1, 4);
	mesh_lose(r, 2, links[1]);
	for (size_t i = 0; i < r->count; i++)
		if (!r->sent[i].handled && r->sent[i].m.type == MSG_AddRoute)
			node_obey(r, &r->sent[i]);
	struct sent *assign = rec_find(r, 4, MSG_AssignConnection, 1);
	assert_int_equal(assign->m.assign_connection.path, 2);
	node_obey(r, assign); /* the accepting end only */
	rec_restart(r);
	for (unsigned n = 1; n <= 4; n++)
		node_join(r, n, 10 + n, 1);
	rec_pump(r);
	assert_int_equal(rec_need(r, 11, MSG_AssignConnection)->assign_connection.path, 3);
	assert_int_equal(rec_need(r, 14, MSG_AssignConnection)->assign_connection.path, 3);
	carried(r, 1, 4, id);
	carried(r, 4, 1, id);
	rec_sleep(r, 60 * SECOND);
	carried(r, 1, 4, id);
	carried(r, 4, 1, id);
	assert_int_equal(r->held[3].rule_count + r->held[2].rule_count, 2);
	rec_free(r);
}

/* It was being made: one end has it, or none, and the rules are there. */
static void test_left_over(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	uint64_t kept = mesh_connect(r, 1, 3);
	struct msg m = ask_connect(3, "echo", 9);
	for (unsigned told = 0; told < 2; told++) {
		node_say(r, 1, &m);
		for (size_t i = 0; i < r->count; i++)
			if (!r->sent[i].handled && r->sent[i].m.type == MSG_AddRoute)
				node_obey(r, &r->sent[i]);
		if (told)
			node_obey(r, rec_find(r, 3, MSG_AssignConnection, 2));
	}
	assert_int_equal(r->held[2].rule_count, 6);
	assert_int_equal(r->held[3].conn_count, 2);
	rec_restart(r);
	for (unsigned n = 1; n <= 3; n++)
		node_join(r, n, 10 + n, 1);
	assert_int_equal(r->held[3].conn_count, 1);
	rec_sleep(r, 60 * SECOND);
	assert_int_equal(r->held[2].rule_count, 2);
	assert_int_equal(rules_known(r, 2), 2);
	carried(r, 1, 3, kept);
	carried(r, 3, 1, kept);
	rec_free(r);
}

/* A link that was given up while one of its nodes was away does not come back to life. */
static void test_unwanted_link(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	struct mesh_id a = node_id(2), b = node_id(3);
	nm_node_down(r->nm, 2, r->now);
	nm_node_down(r->nm, 3, r->now);
	r->held[2].channel = r->held[3].channel = 0;
	assert_int_equal(nm_disconnect_nodes(r->nm, &a, &b, r->now), 0);
	rec_restart(r);
	for (unsigned n = 1; n <= 3; n++)
		node_join(r, n, 10 + n, 1);
	rec_need(r, 12, MSG_TransportShutdown);
	rec_need(r, 13, MSG_TransportShutdown);
	assert_int_equal(rec_status(r).transports_connected, 1);
	assert_int_equal(rec_status(r).links, 1);
	rec_free(r);
}

/* --- numbers ------------------------------------------------------------------------------------
 */

static void no_collision(struct rec *r, const uint32_t links[2], uint64_t id)
{
	struct held old[4];
	memcpy(old, r->held, sizeof old);
	uint64_t fresh = mesh_connect(r, 11, 3);
	assert_int_not_equal((uint32_t)fresh, (uint32_t)id);
	for (unsigned n = 1; n <= 3; n++) {
		assert_int_equal(r->held[n].rule_count, old[n].rule_count + 2);
		for (size_t i = 0; i < r->held[n].rule_count; i++)
			for (size_t k = 0; k < i; k++)
				assert_false(r->held[n].rules[i].in_transport ==
						     r->held[n].rules[k].in_transport &&
					     r->held[n].rules[i].in_transport &&
					     r->held[n].rules[i].in_route ==
						     r->held[n].rules[k].in_route);
	}
	carried(r, 1, 3, id);
	carried(r, 1, 3, fresh);
	uint32_t third = rec_link(r, 1, 3);
	assert_int_not_equal(third, links[0]);
	assert_int_not_equal(third, links[1]);
}

static void numbers(bool with_counters)
{
	uint32_t links[2];
	struct rec *r = row(links);
	uint64_t id = mesh_connect(r, 1, 3);
	if (!with_counters)
		memset(r->counters, 0, sizeof r->counters);
	r->seed = 1; /* the same chance again: the worst that can happen */
	rec_restart(r);
	if (!with_counters) /* as far as the first manager had come, but for these */
		for (unsigned i = 0; i < NM_COUNTERS; i++)
			nm_load_counter(r->nm, i,
					(uint32_t)(i == NM_COUNTER_TRANSPORT ? links[0] - 1
						   : i == NM_COUNTER_LABEL
							   ? r->held[2].rules[0].in_route - 1
							   : (uint32_t)id));
	for (unsigned n = 1; n <= 3; n++)
		node_join(r, n, 10 + n, 1);
	no_collision(r, links, id);
	rec_free(r);
}

static void test_numbers(void **state)
{
	(void)state;
	numbers(true);
	numbers(false);
}

/* --- hostile nodes ------------------------------------------------------------------------------
 */

/* Node 4 claims what belongs to others, before and after they have come back. */
static void claims(bool first)
{
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	uint64_t id = mesh_connect(r, 1, 4);
	node_join(r, 5, 5, 1);
	struct held lies = {.transport_count = 3, .conn_count = 3};
	for (unsigned i = 0; i < 3; i++) {
		lies.transports[i] = r->held[1].transports[0];
		lies.conns[i] = *held_conn(&r->held[1], id);
	}
	lies.transports[1].peer = lies.conns[1].peer = node_id(3);
	lies.transports[1].initiator = lies.conns[1].initiator = 0;
	lies.transports[2].peer = lies.conns[2].peer = node_id(5);
	/* Within itself it may have what it likes, but the whole number it cannot know. */
	lies.conns[2].connection ^= (uint64_t)1 << 40;
	rec_restart(r);
	r->held[5] = lies;
	if (first)
		node_join(r, 5, 15, 1);
	for (unsigned n = 1; n <= 4; n++)
		node_join(r, n, 10 + n, 1);
	if (!first)
		node_join(r, 5, 15, 1);
	rec_sleep(r, 60 * SECOND);
	assert_int_equal(rec_status(r).transports_connected, 4);
	assert_int_equal(rec_status(r).connections, 2);
	for (unsigned n = 1; n <= 4; n++)
		for (size_t i = 0; i < r->count; i++)
			if (r->sent[i].channel == 10 + n)
				assert_int_equal(r->sent[i].m.type, MSG_RegisterNodeAck);
	assert_int_equal(r->held[5].transport_count, 0);
	assert_int_equal(r->held[5].conn_count, 1);
	carried(r, 1, 4, id);
	rec_free(r);
}

static void test_claims_of_others(void **state)
{
	(void)state;
	claims(true);
	claims(false);
}

/* Two nodes agree with each other on what is not theirs: the store and the chance that is in a
 * number know better. */
static void test_conspiracy(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	uint64_t id = mesh_connect(r, 1, 4);
	node_join(r, 5, 5, 1);
	node_join(r, 6, 6, 1);
	uint32_t theirs = rec_link(r, 5, 6);
	held_transport(&r->held[5], theirs)->transport = links[0];
	held_transport(&r->held[6], theirs)->transport = links[0];
	uint64_t next = id + 1; /* as good as a guess can be without the other half */
	for (unsigned n = 5; n <= 6; n++) {
		r->held[n].conns[0] = *held_conn(&r->held[n == 5 ? 1 : 4], id);
		r->held[n].conns[0].peer = node_id(11 - n);
		r->held[n].conns[0].connection = next;
		r->held[n].conn_count = 1;
	}
	rec_restart(r);
	node_join(r, 5, 15, 1);
	node_join(r, 6, 16, 1);
	for (unsigned n = 1; n <= 4; n++)
		node_join(r, n, 10 + n, 1);
	rec_sleep(r, 60 * SECOND);
	for (unsigned n = 1; n <= 4; n++)
		for (size_t i = 0; i < r->count; i++)
			if (r->sent[i].channel == 10 + n)
				assert_int_equal(r->sent[i].m.type, MSG_RegisterNodeAck);
	carried(r, 1, 4, id);
	rec_free(r);
}

/* A relay that reports rules in a circle, or those that lead into the path of others. */
static void test_false_rules(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	uint64_t one = mesh_connect(r, 1, 3), other = mesh_connect(r, 1, 3);
	struct held *relay = &r->held[2];
	struct report_rule *a = NULL, *b = NULL;
	for (size_t i = 0; i < relay->rule_count; i++) {
		struct report_rule *rule = &relay->rules[i];
		if (rule->in_transport == links[0] &&
		    rule->in_route == held_conn(&r->held[1], one)->out_route)
			a = rule;
		if (rule->in_transport == links[0] &&
		    rule->in_route == held_conn(&r->held[1], other)->out_route)
			b = rule;
	}
	assert_true(a && b);
	a->out_route = b->out_route; /* one leads into the other */
	rec_restart(r);
	for (unsigned n = 1; n <= 3; n++)
		node_join(r, n, 10 + n, 1);
	assert_int_equal(rec_count(r, 11, MSG_ConnectionShutdown), 0);
	rec_pump(r);
	assert_int_equal(rec_count(r, 11, MSG_AssignConnection), 1);
	assert_int_equal(rec_need(r, 11, MSG_AssignConnection)->assign_connection.connection, one);
	carried(r, 1, 3, one);
	carried(r, 1, 3, other);
	rec_restart(r);
	for (size_t i = 0; i < relay->rule_count; i++) { /* a circle between 1 and 2 */
		relay->rules[i].out_transport = links[0];
		relay->rules[i].out_route = relay->rules[i].in_route;
	}
	for (unsigned n = 1; n <= 3; n++)
		node_join(r, n, 20 + n, 1);
	rec_pump(r);
	carried(r, 1, 3, one);
	carried(r, 3, 1, other);
	rec_free(r);
}

static struct msg page(bool last)
{
	struct msg m = {.type = MSG_NodeReport};
	m.node_report.last = last;
	return m;
}

static void test_report_breaks_rules(void **state)
{
	(void)state;
	uint32_t links[2];
	struct rec *r = row(links);
	struct msg m = page(true);
	size_t dropped = (size_t)rec_status(r).dropped;
	node_say(r, 1, &m); /* nobody asked */
	assert_int_equal(rec_status(r).dropped, dropped + 1);
	assert_int_equal(rec_status(r).transports_connected, 2);
	/* Too long. */
	nm_node_down(r->nm, 2, r->now);
	assert_int_equal(node_hello(r, 2, 12, 1).keep, 1);
	m = page(false);
	m.node_report.transports_count = REPORT_ITEMS_MAX;
	size_t pages = 2 * r->config.transports_per_node_max / REPORT_ITEMS_MAX + 1;
	for (size_t i = 0; i < pages && !rec_is_closed(r, 12); i++)
		node_say(r, 12, &m);
	assert_true(rec_is_closed(r, 12));
	assert_int_equal(rec_status(r).transports, 0); /* as if it had been started anew */
	assert_int_equal(node_join(r, 2, 22, 1).keep, 0);
	rec_pump(r);
	assert_int_equal(rec_status(r).transports_connected, 2);
	/* Never complete. */
	nm_node_down(r->nm, 2, r->now);
	nm_node_down(r->nm, 22, r->now);
	assert_int_equal(node_hello(r, 2, 32, 1).keep, 1);
	m = page(false);
	node_say(r, 32, &m);
	node_say(r, 32, &(struct msg){.type = MSG_TransportStats});
	assert_int_equal(rec_status(r).nodes_connected, 2);
	rec_sleep(r, r->config.hello_timeout_us);
	assert_true(rec_is_closed(r, 32));
	rec_sleep(r, r->config.grace_us);
	assert_int_equal(rec_status(r).transports, 0);
	/* Cut off in the middle, and again from the beginning. */
	node_join(r, 2, 42, 1);
	rec_pump(r);
	mesh_connect(r, 1, 3);
	nm_node_down(r->nm, 42, r->now);
	node_hello(r, 2, 52, 1);
	m = page(false);
	node_say(r, 52, &m);
	nm_node_down(r->nm, 52, r->now);
	node_join(r, 2, 62, 1);
	assert_int_equal(rec_status(r).transports_connected, 2);
	assert_int_equal(rec_status(r).connections, 1);
	rec_free(r);
}

/* --- a channel that was lost with messages in it ------------------------------------------------
 */

static void test_lost_words(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	uint64_t id = mesh_connect(r, 1, 4);
	struct msg m = {.type = MSG_RegisterApp, .seq = 3};
	nm_tracker_up(r->nm, r->now);
	m.register_app.app = bytes_str("here");
	m.register_app.type = bytes_str("t");
	node_say(r, 4, &m);
	m.register_app.app = bytes_str("gone");
	node_say(r, 4, &m);
	/* What node 4 says and hears now reaches nobody. */
	held_conn_end(&r->held[4], id);
	held_transport_end(&r->held[4], links[3]);
	held_app(&r->held[4], bytes_str("gone"), false);
	r->held[4].rules[r->held[4].rule_count++] = (struct report_rule){links[1], 7, 0, 8};
	r->held[4].conns[r->held[4].conn_count++] =
		(struct report_connection){.connection = 99, .peer = node_id(2), .started = 1};
	rec_clear(r);
	node_join(r, 4, 14, 1);
	assert_int_equal(rec_need(r, 1, MSG_ConnectionShutdown)->connection_shutdown.connection,
			 id);
	assert_int_equal(rec_need(r, 3, MSG_TransportShutdown)->transport_shutdown.transport,
			 links[3]);
	assert_int_equal(r->held[4].conn_count, 0);
	assert_int_equal(r->held[4].rule_count, 0);
	bool removed = false;
	for (size_t i = 0; i < r->count; i++)
		removed |=
			r->sent[i].m.type == MSG_AppRegistrationRequest &&
			r->sent[i].m.app_registration_request.op == APP_OP_REMOVE &&
			bytes_equal(r->sent[i].m.app_registration_request.app, bytes_str("gone"));
	assert_true(removed);
	assert_int_equal(rec_status(r).apps, 1);
	rec_sleep(r, SECOND);
	rec_pump(r);
	assert_int_equal(rec_status(r).transports_connected, 4);
	rec_free(r);
}

static void test_lost_rules(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	uint64_t id = mesh_connect(r, 1, 4);
	r->held[2].rule_count = 0;
	rec_clear(r);
	node_join(r, 2, 12, 1);
	rec_pump(r);
	assert_false(rec_is_closed(r, 12));
	assert_int_equal(rec_count(r, 1, MSG_AssignConnection), 0);
	assert_int_equal(r->held[2].rule_count, 2);
	carried(r, 1, 4, id);
	rec_free(r);
}

/* One that leads elsewhere now, and one that the manager has taken back meanwhile. */
static void test_old_rules(void **state)
{
	(void)state;
	uint32_t links[4];
	struct rec *r = mesh_diamond(links);
	uint64_t id = mesh_connect(r, 1, 4);
	struct held *h = &r->held[2];
	assert_int_equal(h->rule_count, 2);
	h->rules[0].out_route += 1000;
	h->rules[2] = (struct report_rule){links[0], 99999, links[1], 99999};
	h->rule_count = 3;
	node_join(r, 2, 12, 1);
	rec_pump(r);
	assert_false(rec_is_closed(r, 12));
	assert_int_equal(h->rule_count, 2);
	carried(r, 1, 4, id);
	rec_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken_over),
		cmocka_unit_test(test_again),
		cmocka_unit_test(test_local),
		cmocka_unit_test(test_begins_late),
		cmocka_unit_test(test_built_route),
		cmocka_unit_test(test_one_is_missing),
		cmocka_unit_test(test_one_is_new),
		cmocka_unit_test(test_relay_is_gone),
		cmocka_unit_test(test_relay_is_silent),
		cmocka_unit_test(test_link_is_silent),
		cmocka_unit_test(test_other_way_comes_late),
		cmocka_unit_test(test_half_moved),
		cmocka_unit_test(test_left_over),
		cmocka_unit_test(test_unwanted_link),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_claims_of_others),
		cmocka_unit_test(test_conspiracy),
		cmocka_unit_test(test_false_rules),
		cmocka_unit_test(test_report_breaks_rules),
		cmocka_unit_test(test_lost_words),
		cmocka_unit_test(test_lost_rules),
		cmocka_unit_test(test_old_rules),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
