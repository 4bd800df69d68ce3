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
	bool tracker_deaf;
	/* The last completion. */
	unsigned done;
	uint16_t code;
	uint64_t value;
	char text[TEXT_MAX_BYTES + 1];
};

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
	assert_non_null(n);
	((struct rec *)ctx)->nodes_saved++;
}

static inline void rec_node_remove(void *ctx, const struct mesh_id *id)
{
	assert_non_null(id);
	((struct rec *)ctx)->nodes_removed++;
}

static inline void rec_link_save(void *ctx, const struct mesh_id *a, const struct mesh_id *b)
{
	assert_false(mesh_id_equal(a, b));
	((struct rec *)ctx)->links_saved++;
}

static inline void rec_link_remove(void *ctx, const struct mesh_id *a, const struct mesh_id *b)
{
	assert_false(mesh_id_equal(a, b));
	((struct rec *)ctx)->links_removed++;
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
	assert_int_equal(nm_node_up(r->nm, &id, &addr, channel, r->now), 0);
}

/* Node `n` on a channel of the same number, name "n<n>"; returns its RegisterNodeAck. */
static inline struct msg_register_node_ack node_join(struct rec *r, unsigned n, uint64_t channel,
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
	struct msg m = {.type = MSG_TransportConnected};
	m.transport_connected.transport = transport;
	node_say(r, channel, &m);
}

/* One message of the manager, as a good node answers it. */
static inline void node_obey(struct rec *r, struct sent *s)
{
	uint64_t channel = s->channel;
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

static inline struct nm_status rec_status(struct rec *r)
{
	struct nm_status s;
	nm_status_get(r->nm, &s);
	return s;
}
#endif
