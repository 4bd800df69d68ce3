/*
 * A few node engines on a perfect network and a virtual clock; the test itself plays the manager
 * and the apps.  Everything that an engine says is recorded.
 */
#ifndef TESTS_NODE_WORLD_H
#define TESTS_NODE_WORLD_H

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/engine.h"

#define HOSTS 3
#define SOCKETS 8

struct said {
	TAILQ_ENTRY(said) queue;
	struct msg m;
	uint8_t bytes[];
};
TAILQ_HEAD(said_queue, said);

struct test_socket {
	bool open;
	uint32_t transport;
	uint16_t port;
};

struct world;
struct host {
	struct world *world;
	struct node_engine *engine;
	struct mesh_id id;
	uint8_t secret[32], address;
	struct said_queue manager;
	struct test_socket sockets[SOCKETS];
	unsigned closed, quit, trimmed, packets;
	int next_open_error;
};

struct test_app {
	struct host *host;
	struct node_app *app;
	struct said_queue heard;
	size_t pending;
};

struct flying {
	TAILQ_ENTRY(flying) queue;
	struct net_addr to, from;
	size_t len;
	uint8_t data[];
};
TAILQ_HEAD(flying_queue, flying);

struct world {
	struct host hosts[HOSTS];
	struct flying_queue air;
	uint64_t now;
};

static inline void said_put(struct said_queue *q, const struct msg *m)
{
	size_t len = msg_encoded_size(m);
	struct said *s = malloc(sizeof *s + len);
	struct wbuf w = wbuf_init(s->bytes, len);

	msg_encode(m, &w);
	assert(!w.bad);
	int err = msg_decode(&s->m, bytes_of(s->bytes, len));
	assert(!err);
	(void)err;
	TAILQ_INSERT_TAIL(q, s, queue);
}

/* The next message of this type (earlier ones of other types stay); the caller frees it. */
static inline struct said *said_take(struct said_queue *q, uint16_t type)
{
	struct said *s;

	TAILQ_FOREACH(s, q, queue) {
		if (s->m.type == type) {
			TAILQ_REMOVE(q, s, queue);
			return s;
		}
	}
	return NULL;
}

static inline void said_clear(struct said_queue *q)
{
	struct said *s;

	while ((s = TAILQ_FIRST(q))) {
		TAILQ_REMOVE(q, s, queue);
		free(s);
	}
}

/* Drops all of one type; how many there were. */
static inline size_t said_drop(struct said_queue *q, uint16_t type)
{
	struct said *s;
	size_t n = 0;

	for (; (s = said_take(q, type)); n++)
		free(s);
	return n;
}

static int w_manager_send(void *ctx, const struct msg *m)
{
	struct host *h = ctx;
	said_put(&h->manager, m);
	return 0;
}

static void w_manager_close(void *ctx, const char *why)
{
	struct host *h = ctx;
	(void)why;
	h->closed++;
}

static void w_quit(void *ctx, const char *why)
{
	struct host *h = ctx;
	(void)why;
	h->quit++;
}

static int w_app_send(void *ctx, void *channel, const struct msg *m)
{
	struct test_app *a = channel;
	(void)ctx;
	said_put(&a->heard, m);
	return 0;
}

static size_t w_app_pending(void *ctx, void *channel)
{
	struct test_app *a = channel;
	(void)ctx;
	return a->pending;
}

static int w_udp_open(void *ctx, uint32_t transport, uint16_t port, void **socket)
{
	struct host *h = ctx;

	if (h->next_open_error) {
		int err = h->next_open_error;
		h->next_open_error = 0;
		return err;
	}
	for (uint16_t i = 0; i < SOCKETS; i++) {
		struct test_socket *s = &h->sockets[i];
		if (s->open)
			continue;
		*s = (struct test_socket){true, transport, port ? port : (uint16_t)(40000 + i)};
		*socket = s;
		return s->port;
	}
	return -EMFILE;
}

static void w_udp_close(void *ctx, void *socket)
{
	(void)ctx;
	((struct test_socket *)socket)->open = false;
}

static void world_fly(struct host *h, const struct test_socket *s, const struct net_addr *to,
		      struct bytes payload)
{
	struct flying *f = malloc(sizeof *f + payload.len);

	f->to = *to;
	f->from = (struct net_addr){4, {10, 0, 0, h->address}, s->port};
	f->len = payload.len;
	memcpy(f->data, payload.data, f->len);
	TAILQ_INSERT_TAIL(&h->world->air, f, queue);
}

static void w_udp_send(void *ctx, void *socket, const struct net_addr *to, struct pkt *const *v,
		       size_t n)
{
	struct host *h = ctx;
	struct test_socket *s = socket;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < v[i]->count; k++, h->packets++)
			world_fly(h, s, to, pkt_payload(v[i], k));
}

static void w_random(void *ctx, void *out, size_t len)
{
	(void)ctx;
	randombytes_buf(out, len);
}

static void w_trim(void *ctx)
{
	((struct host *)ctx)->trimmed++;
}

/* An interface that an app has handed over: what was written to it. */
struct test_tun {
	struct node_tun *tun;
	bool vnet, reading, open;
	unsigned written;
	bool written_vnet;
	uint8_t last[70000];
	size_t last_len;
	int write_result;
};
static struct test_tun world_tun; /* the next one */
static int world_tun_error;

static int w_tun_open(void *ctx, void *channel, bool vnet, struct node_tun *t, void **handle)
{
	(void)ctx;
	(void)channel;
	if (world_tun_error)
		return world_tun_error;
	assert(!world_tun.open);
	world_tun.tun = t;
	world_tun.vnet = vnet;
	world_tun.open = true;
	world_tun.reading = false;
	*handle = &world_tun;
	return 0;
}

static void w_tun_close(void *ctx, void *handle)
{
	(void)ctx;
	((struct test_tun *)handle)->open = false;
}

static void w_tun_read(void *ctx, void *handle, bool on)
{
	(void)ctx;
	((struct test_tun *)handle)->reading = on;
}

static int w_tun_write(void *ctx, void *handle, bool vnet, const uint8_t *record, size_t len)
{
	struct test_tun *t = handle;

	(void)ctx;
	assert(t->open && len <= sizeof t->last);
	memcpy(t->last, record, len);
	t->last_len = len;
	t->written_vnet = vnet;
	t->written++;
	return t->write_result;
}

static const struct node_engine_ops world_ops = {
	.manager_send = w_manager_send,
	.manager_close = w_manager_close,
	.quit = w_quit,
	.app_send = w_app_send,
	.app_pending = w_app_pending,
	.udp_open = w_udp_open,
	.udp_close = w_udp_close,
	.udp_send = w_udp_send,
	.random = w_random,
	.trim = w_trim,
	.tun_open = w_tun_open,
	.tun_close = w_tun_close,
	.tun_read = w_tun_read,
	.tun_write = w_tun_write,
};

static inline struct world *world_new(void (*adjust)(struct node_engine_config *))
{
	struct world *w = calloc(1, sizeof *w);

	TAILQ_INIT(&w->air);
	w->now = 1000000;
	for (uint8_t i = 0; i < HOSTS; i++) {
		struct host *h = &w->hosts[i];
		struct node_engine_config c;
		h->world = w;
		h->address = (uint8_t)(i + 1);
		TAILQ_INIT(&h->manager);
		randombytes_buf(h->secret, sizeof h->secret);
		crypto_scalarmult_base(h->id.b, h->secret);
		node_engine_config_init(&c);
		c.id = h->id;
		memcpy(c.secret, h->secret, sizeof c.secret);
		snprintf(c.name, sizeof c.name, "host%u", i);
		if (adjust)
			adjust(&c);
		h->engine = node_engine_new(&c, &world_ops, h, w->now);
		assert(h->engine);
	}
	return w;
}

static inline void world_free(struct world *w)
{
	struct flying *f;

	for (int i = 0; i < HOSTS; i++) {
		node_engine_free(w->hosts[i].engine);
		for (int k = 0; k < SOCKETS; k++)
			assert(!w->hosts[i].sockets[k].open);
		said_clear(&w->hosts[i].manager);
	}
	while ((f = TAILQ_FIRST(&w->air))) {
		TAILQ_REMOVE(&w->air, f, queue);
		free(f);
	}
	free(w);
}

static inline void land(struct world *w, struct flying *f)
{
	unsigned i = f->to.ip[3] - 1u;
	struct block *b = block_new(f->len);
	struct udp_slice slice = {b->data, f->len};

	memcpy(b->data, f->data, f->len);
	for (unsigned k = 0; i < HOSTS && k < SOCKETS; k++) {
		struct test_socket *s = &w->hosts[i].sockets[k];
		if (s->open && s->port == f->to.port) {
			node_engine_udp_input(w->hosts[i].engine, s->transport, b, &slice, 1,
					      &f->from, w->now);
			node_engine_flush(w->hosts[i].engine, w->now);
			break;
		}
	}
	block_put(b);
}

static inline void land_all(struct world *w)
{
	struct flying_queue batch = TAILQ_HEAD_INITIALIZER(batch);
	struct flying *f;

	TAILQ_CONCAT(&batch, &w->air, queue);
	while ((f = TAILQ_FIRST(&batch))) {
		TAILQ_REMOVE(&batch, f, queue);
		land(w, f);
		free(f);
	}
}

/* Packets take 500 us; runs for `us`. */
static inline void world_run(struct world *w, uint64_t us)
{
	uint64_t until = w->now + us;

	for (int i = 0; i < HOSTS; i++)
		node_engine_flush(w->hosts[i].engine, w->now);
	while (w->now < until) {
		w->now += 500;
		land_all(w);
		for (int i = 0; i < HOSTS; i++)
			if (node_engine_next_timeout(w->hosts[i].engine) <= w->now)
				node_engine_tick(w->hosts[i].engine, w->now);
	}
}

static inline void app_open(struct test_app *a, struct host *h)
{
	*a = (struct test_app){.host = h};
	TAILQ_INIT(&a->heard);
	a->app = node_engine_app_up(h->engine, a, h->world->now);
}

static inline int app_say(struct test_app *a, const struct msg *m)
{
	return node_engine_app_message(a->host->engine, a->app, m, a->host->world->now);
}

static inline void app_close(struct test_app *a)
{
	if (a->app)
		node_engine_app_down(a->host->engine, a->app, a->host->world->now);
	a->app = NULL;
	node_engine_flush(a->host->engine, a->host->world->now);
	said_clear(&a->heard);
}

static inline void manager_say(struct host *h, const struct msg *m)
{
	node_engine_manager_message(h->engine, m, h->world->now);
	node_engine_flush(h->engine, h->world->now);
}
#endif
