/*
 * Two transports over a seeded lossy link on a virtual clock.  What they carry is numbered packets
 * (pair_send_number), of which each may arrive once, or whatever a test's own `deliver` takes.
 */
#ifndef TESTS_TRANSPORT_PAIR_H
#define TESTS_TRANSPORT_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sodium.h>

#include "core/transport.h"
#include "linksim.h"
#include "wire/packet.h"

#define PAYLOAD 1200
#define PACKETS_MAX 20000

struct side;
struct pair {
	struct linksim link;
	struct timerq timers;
	uint64_t turn_us; /* both processes run this rarely; 0: whenever there is something to do */
	struct pkt_pool pool;
	struct side {
		struct pair *pair;
		int index;
		struct transport *t;
		struct transport_config config; /* to make it again */
		struct net_addr addr;
		uint16_t code;
		unsigned delivered, duplicates, writable, suspected;
		uint64_t suspected_us;
		void (*deliver)(struct side *s, struct pkt *p); /* NULL: numbers */
		uint8_t seen[PACKETS_MAX];
	} side[2];
	uint64_t rng;
};

static inline void pair_op_send(void *ctx, struct transport *t, const struct net_addr *to,
				struct pkt *const *v, size_t n)
{
	struct side *s = ctx;
	(void)t;
	s->pair->link.from_port = s->addr.port;
	s->pair->link.to_port = to->port;
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < v[i]->count; k++) {
			struct bytes payload = pkt_payload(v[i], k);
			linksim_send(&s->pair->link, !s->index, payload.data, payload.len);
		}
	}
}

static inline void pair_op_deliver(void *ctx, struct transport *t, struct pkt *p, uint64_t now)
{
	struct side *s = ctx;
	if (s->deliver) {
		s->deliver(s, p);
		pkt_free(&s->pair->pool, p);
		return;
	}
	uint32_t number = be32_get(p->data + HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES);
	(void)t;
	(void)now;
	assert_in_range(number, 0, PACKETS_MAX - 1);
	assert_int_equal(p->label, number ^ 0x5a5a);
	s->duplicates += s->seen[number];
	s->seen[number] = 1;
	s->delivered++;
	pkt_free(&s->pair->pool, p);
}

static inline void pair_op_state(void *ctx, struct transport *t, enum transport_state old,
				 uint16_t code, uint64_t now)
{
	(void)t;
	(void)old;
	(void)now;
	((struct side *)ctx)->code = code;
}

static inline void pair_op_writable(void *ctx, struct transport *t, uint64_t now)
{
	(void)t;
	(void)now;
	((struct side *)ctx)->writable++;
}

static inline void pair_op_random(void *ctx, void *out, size_t len)
{
	struct side *s = ctx;
	for (size_t i = 0; i < len; i++)
		((uint8_t *)out)[i] = (uint8_t)linksim_random(&s->pair->link);
}

static inline void pair_op_suspect(void *ctx, struct transport *t, bool suspect, uint64_t now)
{
	struct side *s = ctx;
	assert_int_equal(transport_is_suspect(t), suspect);
	s->suspected += suspect;
	s->suspected_us = now;
}

static const struct transport_ops pair_ops = {pair_op_send,	pair_op_deliver, pair_op_state,
					      pair_op_writable, pair_op_random,	 pair_op_suspect};
static enum congestion_algorithm pair_algorithm = CONGESTION_BBR;
static uint64_t pair_rekey_us; /* 0: the default */

static inline void pair_make(struct pair *p, uint64_t seed)
{
	uint8_t secret[2][32], psk[32];
	struct mesh_id id[2];

	memset(p, 0, sizeof *p);
	p->link.rng = seed * 0x9e3779b97f4a7c15u + 1;
	p->link.now = 1000000;
	p->link.delay_us = 2000;
	timerq_init(&p->timers);
	pkt_pool_init(&p->pool, 1000);
	randombytes_buf(psk, sizeof psk);
	for (int i = 0; i < 2; i++) {
		randombytes_buf(secret[i], 32);
		crypto_scalarmult_base(id[i].b, secret[i]);
		p->side[i] = (struct side){
			.pair = p,
			.index = i,
			.addr = {.family = 4, .ip = {127, 0, 0, 1}, .port = (uint16_t)(100 + i)}};
	}
	for (int i = 0; i < 2; i++) {
		struct transport_config c = {
			.id = 7,
			.initiator = i == 0,
			.local = id[i],
			.remote = id[!i],
			.retransmit_limit = 30,
			.packet_bytes = 1400,
			.egress_bytes = 40u << 20,
			.codel_target_us = 1000000000, /* so that nothing is marked or dropped */
			.rekey_us = pair_rekey_us,
			.congestion = pair_algorithm,
			.pool = &p->pool,
			.timers = &p->timers,
		};
		memcpy(c.local_secret, secret[i], 32);
		memcpy(c.psk, psk, 32);
		p->side[i].config = c;
		p->side[i].t = transport_new(&c, &pair_ops, &p->side[i], p->link.now);
		assert_non_null(p->side[i].t);
	}
}

static inline void pair_open_side(struct pair *p, int i)
{
	struct net_addr addrs[2] = {{.family = 4, .port = 9}, p->side[!i].addr};
	transport_open(p->side[i].t, addrs, 2, p->link.now);
}

static inline void pair_open(struct pair *p, uint64_t seed)
{
	pair_make(p, seed);
	pair_open_side(p, 0);
	pair_open_side(p, 1);
}

static inline void pair_close(struct pair *p)
{
	transport_free(p->side[0].t);
	transport_free(p->side[1].t);
	linksim_drain(&p->link);
	assert_int_equal(p->pool.live, 0);
	pkt_pool_free(&p->pool);
	timerq_free(&p->timers);
}

static inline void pair_deliver_due(struct pair *p)
{
	while (p->link.first && p->link.first->at_us <= p->link.now) {
		struct flight *f = p->link.first;
		struct side *s = &p->side[f->to];
		struct net_addr from = s->addr;
		p->link.first = f->next;
		if (f->to_port != s->addr.port) {
			free(f); /* nobody lives there (any more) */
			continue;
		}
		from.port = f->from_port;
		struct block *b = block_new(f->len);
		memcpy(b->data, f->data, f->len);
		struct pkt *k = pkt_new(&p->pool, b, b->data, f->len);
		block_put(b);
		transport_input(s->t, k, &from, p->link.now);
		transport_flush(s->t, p->link.now);
		free(f);
	}
}

static inline void pair_run(struct pair *p, uint64_t until)
{
	for (;;) {
		uint64_t next = timerq_next(&p->timers);
		if (p->link.first && p->link.first->at_us < next)
			next = p->link.first->at_us;
		if (next > until)
			break;
		if (p->turn_us)
			next += p->turn_us - 1 - (next + p->turn_us - 1) % p->turn_us;
		if (next > p->link.now)
			p->link.now = next;
		pair_deliver_due(p);
		timerq_run(&p->timers, p->link.now);
	}
	p->link.now = until;
}

static inline void pair_send_number(struct pair *p, int from, uint32_t number)
{
	size_t len = HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES + PAYLOAD;
	struct block *b = block_new(len);
	memset(b->data, 0, len);
	b->data[0] = PACKET_DATA;
	be32_put(b->data + HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES, number);
	struct pkt *k = pkt_new(&p->pool, b, b->data, len);
	block_put(b);
	k->label = number ^ 0x5a5a;
	assert_int_equal(transport_send(p->side[from].t, k, p->link.now), 0);
}

static inline void pair_connect(struct pair *p)
{
	pair_run(p, p->link.now + 2000000);
	assert_int_equal(transport_get_state(p->side[0].t), TRANSPORT_CONNECTED);
	assert_int_equal(transport_get_state(p->side[1].t), TRANSPORT_CONNECTED);
	assert_int_equal(transport_get_remote(p->side[0].t)->port, 101);
}
#endif
