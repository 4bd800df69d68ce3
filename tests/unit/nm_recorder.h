/* A recorder behind nm_ops: every message that the engine sends is kept, decoded from its own
 * bytes. */
#ifndef TESTS_NM_RECORDER_H
#define TESTS_NM_RECORDER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/timerq.h"
#include "nm_held.h"
#include "nodemanager/engine.h"

#define TRACKER 0 /* as a channel */
#define SENT_MAX 4096
#define SECOND 1000000u

struct sent {
	uint64_t channel;
	uint8_t *bytes;
	struct msg m;
	bool handled;
};

struct rec {
	struct nm *nm;
	struct nm_config config;
	uint64_t now, seed;
	struct sent sent[SENT_MAX];
	size_t count;
	uint64_t closed[64];
	size_t closed_count;
	size_t nodes_saved, nodes_removed, links_saved, links_removed;
	/* What a store would have; a restart loads it. */
	struct nm_node_record nodes[64];
	struct {
		struct mesh_id a, b;
		uint32_t transport;
		struct nm_link_options options;
	} links[64];
	struct nm_route_record routes[8];
	size_t node_count, link_count, route_count;
	uint32_t counters[NM_COUNTERS];
	struct held held[HELD_NODES]; /* by number of the node */
	bool tracker_deaf;
	/* The last completion. */
	unsigned done;
	uint16_t code;
	uint64_t value;
	char text[TEXT_MAX_BYTES + 1];
	/* Events, and what the last of each kind said. */
	unsigned events[NM_EVENTS];
	char event_text[NM_EVENTS][TEXT_MAX_BYTES + 1];
};

static inline struct held *rec_held(struct rec *r, uint64_t channel)
{
	for (size_t i = 0; channel && i < HELD_NODES; i++)
		if (r->held[i].channel == channel)
			return &r->held[i];
	return NULL;
}

static inline int rec_keep(struct rec *r, uint64_t channel, const struct msg *m)
{
	size_t size = msg_encoded_size(m);
	assert_true(r->count < SENT_MAX);
	struct sent *s = &r->sent[r->count++];
	s->channel = channel;
	s->handled = false;
	s->bytes = malloc(size);
	assert_non_null(s->bytes);
	struct wbuf w = wbuf_init(s->bytes, size);
	msg_encode(m, &w);
	assert_false(w.bad);
	assert_int_equal(msg_decode(&s->m, bytes_of(s->bytes, size)), 0);
	assert_true(msg_allowed(m->type, FROM_MANAGER, MSG_STATE_READY));
	if (rec_held(r, channel))
		held_end(rec_held(r, channel), m);
	return 0;
}

static inline int rec_send(void *ctx, uint64_t channel, const struct msg *m)
{
	return rec_keep(ctx, channel, m);
}

static inline int rec_tracker_send(void *ctx, const struct msg *m)
{
	struct rec *r = ctx;
	return r->tracker_deaf ? -ENOTCONN : rec_keep(r, TRACKER, m);
}

static inline void rec_close(void *ctx, uint64_t channel, const char *reason)
{
	struct rec *r = ctx;
	assert_non_null(reason);
	if (r->closed_count < 64)
		r->closed[r->closed_count++] = channel;
}

static inline uint32_t rec_rand(struct rec *r)
{
	r->seed = r->seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(r->seed >> 33);
}

static inline void rec_random(void *ctx, void *out, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)out)[i] = (uint8_t)rec_rand(ctx);
}

static inline void rec_node_save(void *ctx, const struct nm_node_record *n)
{
	struct rec *r = ctx;
	assert_non_null(n);
	r->nodes_saved++;
	for (size_t i = 0; i < r->node_count; i++)
		if (mesh_id_equal(&r->nodes[i].id, &n->id)) {
			r->nodes[i] = *n;
			return;
		}
	if (r->node_count < 64)
		r->nodes[r->node_count++] = *n;
}

static inline void rec_node_remove(void *ctx, const struct mesh_id *id)
{
	struct rec *r = ctx;
	r->nodes_removed++;
	for (size_t i = 0; i < r->node_count; i++)
		if (mesh_id_equal(&r->nodes[i].id, id))
			r->nodes[i--] = r->nodes[--r->node_count];
}

static inline size_t rec_link_at(const struct rec *r, const struct mesh_id *a,
				 const struct mesh_id *b)
{
	size_t i = 0;
	while (i < r->link_count &&
	       !((mesh_id_equal(&r->links[i].a, a) && mesh_id_equal(&r->links[i].b, b)) ||
		 (mesh_id_equal(&r->links[i].a, b) && mesh_id_equal(&r->links[i].b, a))))
		i++;
	return i;
}

static inline void rec_link_save(void *ctx, const struct mesh_id *a, const struct mesh_id *b)
{
	struct rec *r = ctx;
	assert_false(mesh_id_equal(a, b));
	r->links_saved++;
	assert_int_equal(rec_link_at(r, a, b), r->link_count); /* never twice */
	assert_true(r->link_count < 64);
	r->links[r->link_count].options = (struct nm_link_options){0};
	r->links[r->link_count].a = *a;
	r->links[r->link_count++].b = *b;
}

static inline void rec_link_remove(void *ctx, const struct mesh_id *a, const struct mesh_id *b)
{
	struct rec *r = ctx;
	size_t i = rec_link_at(r, a, b);
	assert_true(i < r->link_count);
	r->links_removed++;
	r->links[i] = r->links[--r->link_count];
}

static inline void rec_link_transport(void *ctx, const struct mesh_id *a, const struct mesh_id *b,
				      uint32_t transport)
{
	struct rec *r = ctx;
	size_t i = rec_link_at(r, a, b);
	if (i < r->link_count)
		r->links[i].transport = transport;
}

static inline void rec_link_options(void *ctx, const struct mesh_id *a, const struct mesh_id *b,
				    const struct nm_link_options *options)
{
	struct rec *r = ctx;
	size_t i = rec_link_at(r, a, b);
	assert_true(i < r->link_count);
	r->links[i].options = *options;
}

static inline void rec_route_save(void *ctx, const struct nm_route_record *route)
{
	struct rec *r = ctx;
	if (r->route_count < 8)
		r->routes[r->route_count++] = *route;
}

static inline void rec_route_remove(void *ctx, uint64_t number)
{
	struct rec *r = ctx;
	for (size_t i = 0; i < r->route_count; i++)
		if (r->routes[i].number == number)
			r->routes[i--] = r->routes[--r->route_count];
}

static inline void rec_counter_save(void *ctx, enum nm_counter which, uint32_t value)
{
	((struct rec *)ctx)->counters[which] = value;
}

static inline void rec_event(void *ctx, const struct nm_event *event)
{
	struct rec *r = ctx;
	r->events[event->kind]++;
	snprintf(r->event_text[event->kind], sizeof r->event_text[0], "%s",
		 event->text ? event->text : "");
	assert_true(event->a != NULL);
}

static inline void rec_done(void *arg, uint16_t code, const char *text, uint64_t value)
{
	struct rec *r = arg;
	r->done++;
	r->code = code;
	r->value = value;
	snprintf(r->text, sizeof r->text, "%s", text);
}

static const struct nm_ops rec_ops = {
	.node_send = rec_send,
	.node_close = rec_close,
	.tracker_send = rec_tracker_send,
	.random = rec_random,
	.node_save = rec_node_save,
	.node_remove = rec_node_remove,
	.link_save = rec_link_save,
	.link_remove = rec_link_remove,
	.link_transport = rec_link_transport,
	.link_options = rec_link_options,
	.route_save = rec_route_save,
	.route_remove = rec_route_remove,
	.counter_save = rec_counter_save,
	.event = rec_event,
};

static inline void rec_quiet(enum log_level level, const char *line)
{
	(void)level, (void)line;
}

static inline struct rec *rec_new(void)
{
	struct rec *r = calloc(1, sizeof *r);
	assert_non_null(r);
	assert_true(sodium_init() >= 0);
	log_set_sink(rec_quiet);
	nm_config_default(&r->config);
	r->now = 1000 * SECOND;
	r->seed = 1;
	return r;
}

static inline void rec_start(struct rec *r)
{
	r->nm = nm_new(&r->config, &rec_ops, r);
	assert_non_null(r->nm);
}

static inline void rec_clear(struct rec *r)
{
	for (size_t i = 0; i < r->count; i++)
		free(r->sent[i].bytes);
	r->count = r->closed_count = 0;
}

static inline void rec_free(struct rec *r)
{
	nm_free(r->nm);
	rec_clear(r);
	free(r);
}

/* The nth (from 0) message of a type on a channel, or NULL. */
static inline struct sent *rec_find(struct rec *r, uint64_t channel, uint16_t type, size_t nth)
{
	for (size_t i = 0; i < r->count; i++)
		if (r->sent[i].channel == channel && r->sent[i].m.type == type && nth-- == 0)
			return &r->sent[i];
	return NULL;
}

static inline size_t rec_count(struct rec *r, uint64_t channel, uint16_t type)
{
	size_t n = 0;
	while (rec_find(r, channel, type, n))
		n++;
	return n;
}

static inline struct msg *rec_need(struct rec *r, uint64_t channel, uint16_t type)
{
	struct sent *s = rec_find(r, channel, type, 0);
	if (!s)
		fail_msg("no %s on channel %u", msg_type_name(type), (unsigned)channel);
	return &s->m;
}

static inline bool rec_is_closed(const struct rec *r, uint64_t channel)
{
	for (size_t i = 0; i < r->closed_count; i++)
		if (r->closed[i] == channel)
			return true;
	return false;
}

/* --- what nodes do ---------------------------------------------------------------------------- */

static inline struct mesh_id node_id(unsigned n)
{
	struct mesh_id id = {.b = {[0] = 0xaa, [3] = (uint8_t)n, [31] = (uint8_t)(n + 1)}};
	return id;
}

static inline struct net_addr node_addr(unsigned n)
{
	return (struct net_addr){.family = 4, .ip = {10, 0, (uint8_t)n, 1}, .port = 4000};
}

static inline void node_say(struct rec *r, uint64_t channel, const struct msg *m)
{
	struct held *h = rec_held(r, channel);
	if (h && (m->type == MSG_RegisterApp || m->type == MSG_UnregisterApp))
		held_app(h, m->register_app.app, m->type == MSG_RegisterApp);
	else if (h)
		held_end(h, m);
	nm_node_msg(r->nm, channel, m, r->now);
}

static inline struct msg hello(const char *name, uint64_t instance)
{
	struct msg m = {.type = MSG_RegisterNode, .seq = 1};
	m.register_node.version = PROTOCOL_VERSION;
	m.register_node.instance = instance;
	m.register_node.name = bytes_str(name);
	return m;
}

static inline void node_channel(struct rec *r, unsigned n, uint64_t channel)
{
	struct mesh_id id = node_id(n);
	struct net_addr addr = node_addr(n);
	r->held[n].channel = channel;
	assert_int_equal(nm_node_up(r->nm, &id, &addr, channel, r->now), 0);
}

/* All that node `n` holds, in pages of one item of each kind. */
static inline void node_report(struct rec *r, unsigned n)
{
	struct held *h = &r->held[n];
	bool last = false;
	for (size_t i = 0; !last; i++) {
		struct msg m = {.type = MSG_NodeReport};
		struct msg_node_report *p = &m.node_report;
		last = i + 1 >= h->transport_count && i + 1 >= h->rule_count &&
		       i + 1 >= h->conn_count && i + 1 >= h->app_count;
		p->last = last;
		if (i < h->transport_count)
			p->transports[p->transports_count++] = h->transports[i];
		if (i < h->rule_count)
			p->rules[p->rules_count++] = h->rules[i];
		if (i < h->conn_count)
			p->connections[p->connections_count++] = h->conns[i];
		if (i < h->app_count)
			p->apps[p->apps_count++].app = bytes_str(h->apps[i]);
		nm_node_msg(r->nm, h->channel, &m, r->now);
	}
}

/* Node `n` on a channel, name "n<n>"; returns its RegisterNodeAck.  No report follows. */
static inline struct msg_register_node_ack node_hello(struct rec *r, unsigned n, uint64_t channel,
						      uint64_t instance)
{
	char name[8];
	snprintf(name, sizeof name, "n%u", n);
	struct msg m = hello(name, instance);
	node_channel(r, n, channel);
	node_say(r, channel, &m);
	struct msg_register_node_ack ack =
		rec_need(r, channel, MSG_RegisterNodeAck)->register_node_ack;
	ack.text = (struct bytes){NULL, 0};
	if (!ack.keep)
		r->held[n] = (struct held){.channel = channel};
	return ack;
}

/* The same, with the report if it is wanted. */
static inline struct msg_register_node_ack node_join(struct rec *r, unsigned n, uint64_t channel,
						     uint64_t instance)
{
	struct msg_register_node_ack ack = node_hello(r, n, channel, instance);
	if (ack.keep)
		node_report(r, n);
	return ack;
}

static inline void node_ack(struct rec *r, struct sent *s, uint16_t code, uint64_t value)
{
	struct msg m = {.type = MSG_CommonAck, .seq = s->m.seq};
	m.common_ack.code = code;
	m.common_ack.value = value;
	s->handled = true;
	node_say(r, s->channel, &m);
}

static inline void node_connected(struct rec *r, uint64_t channel, uint32_t transport)
{
	struct held *h = rec_held(r, channel);
	struct report_transport *t = h ? held_transport(h, transport) : NULL;
	if (t)
		t->up = 1;
	struct msg m = {.type = MSG_TransportConnected};
	m.transport_connected.transport = transport;
	node_say(r, channel, &m);
}

/* It has been told to undo it before it has done it. */
static inline bool rec_revoked(struct rec *r, const struct sent *s)
{
	for (const struct sent *x = s + 1; x < r->sent + r->count; x++)
		if (x->channel == s->channel &&
		    ((s->m.type == MSG_TransportCreate && x->m.type == MSG_TransportShutdown &&
		      x->m.transport_shutdown.transport == s->m.transport_create.transport) ||
		     (s->m.type == MSG_AssignConnection && x->m.type == MSG_ConnectionShutdown &&
		      x->m.connection_shutdown.connection == s->m.assign_connection.connection) ||
		     (s->m.type == MSG_AddRoute && x->m.type == MSG_RemoveRoute &&
		      x->m.remove_route.in_transport == s->m.add_route.in_transport &&
		      x->m.remove_route.in_route == s->m.add_route.in_route)))
			return true;
	return false;
}

/* One message of the manager, as a good node answers it. */
static inline void node_obey(struct rec *r, struct sent *s)
{
	uint64_t channel = s->channel;
	if (rec_held(r, channel) && !rec_revoked(r, s))
		held_obey(rec_held(r, channel), &s->m);
	switch (s->m.type) {
	case MSG_TransportCreate:
		node_ack(r, s, CODE_OK, s->m.transport_create.port);
		break;
	case MSG_OpenUDP: {
		uint32_t transport = s->m.open_udp.transport;
		node_ack(r, s, CODE_OK, 0);
		node_connected(r, channel, transport);
		break;
	}
	case MSG_AddRoute:
	case MSG_AssignConnection:
		node_ack(r, s, CODE_OK, 0);
		break;
	default:
		s->handled = true;
	}
}

/* All nodes do what they are told until nothing is left to do. */
static inline void rec_pump(struct rec *r)
{
	for (size_t i = 0; i < r->count; i++)
		if (!r->sent[i].handled && r->sent[i].channel != TRACKER)
			node_obey(r, &r->sent[i]);
}

/* Advances the clock, with every timer at its time. */
static inline void rec_sleep(struct rec *r, uint64_t us)
{
	uint64_t until = r->now + us;
	for (;;) {
		uint64_t at = nm_next_timeout(r->nm);
		if (at > until)
			break;
		if (at > r->now)
			r->now = at;
		nm_tick(r->nm, r->now);
	}
	r->now = until;
}

static inline uint32_t rec_link(struct rec *r, unsigned a, unsigned b)
{
	struct mesh_id ia = node_id(a), ib = node_id(b);
	unsigned done = r->done;
	nm_connect_nodes(r->nm, &ia, &ib, rec_done, r, r->now);
	rec_pump(r);
	assert_int_equal(r->done, done + 1);
	assert_int_equal(r->code, CODE_OK);
	return (uint32_t)r->value;
}

static inline struct msg ask_connect(unsigned peer, const char *app, uint32_t seq)
{
	struct msg m = {.type = MSG_ConnectWithRoute, .seq = seq};
	m.connect_with_route.peer = node_id(peer);
	m.connect_with_route.app = bytes_str(app);
	m.connect_with_route.from_app = bytes_str("asker");
	return m;
}

/* The manager is killed and started again with what is in its store. */
static inline void rec_restart(struct rec *r)
{
	nm_free(r->nm);
	rec_clear(r);
	for (size_t i = 0; i < HELD_NODES; i++)
		r->held[i].channel = 0;
	rec_start(r);
	for (size_t i = 0; i < r->node_count; i++)
		assert_int_equal(nm_load_node(r->nm, &r->nodes[i]), 0);
	for (size_t i = 0; i < r->link_count; i++)
		assert_int_equal(
			nm_load_link(r->nm, &r->links[i].a, &r->links[i].b, r->links[i].transport) |
				nm_load_link_options(r->nm, &r->links[i].a, &r->links[i].b,
						     &r->links[i].options),
			0);
	for (size_t i = 0; i < r->route_count; i++)
		assert_int_equal(nm_load_route(r->nm, &r->routes[i]), 0);
	for (unsigned i = 0; i < NM_COUNTERS; i++)
		nm_load_counter(r->nm, i, r->counters[i]);
	nm_recover(r->nm, r->now);
}

static inline struct nm_status rec_status(struct rec *r)
{
	struct nm_status s;
	nm_status_get(r->nm, &s);
	return s;
}
#endif
