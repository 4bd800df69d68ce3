/*
 * A transport whose peer is the fuzzer: it holds the keys, so its bytes get past authentication.
 * The input is a program: packets as they are, packets sealed with the right keys, acks of what was
 * really sent, time, data to send, new handshakes.
 */
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/handshake.h"
#include "core/record.h"
#include "core/transport.h"
#include "wire/msg.h"
#include "wire/packet.h"

#define ID 7u
#define PACKET_BYTES 1400u
#define EGRESS_BYTES 100000u
#define SEQS 65536u
#define OPS_MAX 400u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
	struct rbuf in;
	struct timerq timers;
	struct pkt_pool pool;
	struct transport *t;
	struct net_addr addr;
	uint64_t now, rng;
	bool initiator, disconnected; /* of the transport under test */
	/* The fuzzer's end. */
	struct handshake hs;
	struct hop_keys keys;
	uint8_t init[HANDSHAKE_PACKET_MAX]; /* the last INIT that the transport sent */
	size_t init_len;
	uint8_t probe[11]; /* the body of the last PROBE that it sent */
	uint64_t data_seq, control_seq;
	uint64_t sent_top; /* highest data sequence that the transport has sent, + 1 */
	uint64_t record;
	bool got[SEQS / 8];
	uint8_t from; /* 0: the address that was opened; else the peer has moved */
};

static void require(int ok)
{
	if (!ok)
		abort();
}

static void fill_random(struct world *w, void *out, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		w->rng = w->rng * 6364136223846793005u + 1442695040888963407u;
		((uint8_t *)out)[i] = (uint8_t)(w->rng >> 33);
	}
}

/* --- the transport's surroundings ----------------------------------------------------------- */

/* What it sends is well formed and authentic. */
static void check_sent(struct world *w, struct bytes p)
{
	struct hop_header h;
	struct ack a;
	struct bytes body = {p.data + HOP_HEADER_BYTES, p.len - HOP_HEADER_BYTES};

	require(p.len <= PACKET_BYTES && hop_header_read(&h, p) == 0);
	if (h.type == PACKET_HANDSHAKE_INIT) {
		memcpy(w->init, p.data, p.len);
		w->init_len = p.len;
	}
	if (h.type <= PACKET_HANDSHAKE_RESPONSE)
		return;
	if (w->keys.valid && h.epoch == w->keys.epoch)
		require(hopkey_verify(&w->keys.rx, p.data, p.len, &h));
	if (h.type == PACKET_PROBE) {
		require(body.len >= sizeof w->probe);
		memcpy(w->probe, body.data, sizeof w->probe);
	}
	if (h.type == PACKET_ACK)
		require(ack_read(&a, body) == 0);
	if (h.type == PACKET_DATA || h.type == PACKET_ROUTE_ERROR) {
		require(h.seq <= w->sent_top);
		if (h.seq == w->sent_top)
			w->sent_top++;
	}
}

static void op_send(void *ctx, struct transport *t, const struct net_addr *to, struct pkt *const *v,
		    size_t n)
{
	struct world *w = ctx;
	(void)t;
	(void)to;
	require(!w->disconnected && n > 0);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < v[i]->count; k++)
			check_sent(w, pkt_payload(v[i], k));
	/* A RESPONSE answers what was put in just now: finish with it at once. */
	struct hop_keys keys;
	if (!w->initiator && v[0]->data[0] == PACKET_HANDSHAKE_RESPONSE &&
	    handshake_finish(&w->hs, bytes_of(v[0]->data, v[0]->len), &keys) == 0)
		w->keys = keys;
}

static void op_deliver(void *ctx, struct transport *t, struct pkt *p, uint64_t now)
{
	struct world *w = ctx;
	uint64_t seq = be64_get(p->data + 8);
	(void)t;
	(void)now;
	require(!w->disconnected);
	for (size_t i = 0; i < p->count; i++, seq++) {
		require(be64_get(p->data + i * p->each + 8) == seq);
		if (seq < sizeof w->got) {
			require(!w->got[seq]);
			w->got[seq] = true;
		}
	}
	pkt_free(&w->pool, p);
}

static void op_state(void *ctx, struct transport *t, enum transport_state old, uint16_t code,
		     uint64_t now)
{
	struct world *w = ctx;
	(void)code;
	(void)now;
	require(transport_get_state(t) > old);
	w->disconnected = transport_get_state(t) == TRANSPORT_DISCONNECTED;
}

static void op_writable(void *ctx, struct transport *t, uint64_t now)
{
	(void)ctx;
	(void)now;
	require(transport_room(t, 0) > 0);
}

static void op_random(void *ctx, void *out, size_t len)
{
	fill_random(ctx, out, len);
}

static const struct transport_ops ops = {
	.send = op_send,
	.deliver = op_deliver,
	.state = op_state,
	.writable = op_writable,
	.random = op_random,
};

/* --- the fuzzer's end ----------------------------------------------------------------------- */

static void put_run_in(struct world *w, const void *data, size_t len, size_t each)
{
	struct block *b = block_new(len ? len : 1);
	struct pkt *p;

	require(b != NULL);
	if (len)
		memcpy(b->data, data, len);
	p = pkt_new_run(&w->pool, b, b->data, len, each);
	block_put(b);
	require(p != NULL);
	struct net_addr from = w->addr;
	from.port = (uint16_t)(from.port + w->from);
	transport_input(w->t, p, &from, w->now);
}

static void put_in(struct world *w, const void *data, size_t len)
{
	put_run_in(w, data, len, len);
}

static void run_time(struct world *w, uint64_t until)
{
	for (unsigned i = 0; i < 300 && timerq_next(&w->timers) <= until; i++) {
		if (timerq_next(&w->timers) > w->now)
			w->now = timerq_next(&w->timers);
		timerq_run(&w->timers, w->now);
	}
	if (until > w->now)
		w->now = until;
}

static void shake_hands(struct world *w)
{
	uint8_t ephemeral[32];
	struct hop_keys keys;

	fill_random(w, ephemeral, sizeof ephemeral);
	if (w->initiator) {
		if (!w->init_len || handshake_respond(&w->hs, bytes_of(w->init, w->init_len),
						      ephemeral, &keys) != 0)
			return;
		w->keys = keys;
		put_in(w, w->hs.packet, w->hs.packet_len);
		return;
	}
	uint8_t epoch = (uint8_t)(w->keys.valid ? w->keys.epoch + 1 : 0);
	require(handshake_initiate(&w->hs, epoch, ephemeral) == 0);
	put_in(w, w->hs.packet, w->hs.packet_len);
}

static void send_sealed(struct world *w, struct hop_header *h, uint8_t *packet, size_t len)
{
	bool handshake = h->type == PACKET_HANDSHAKE_INIT || h->type == PACKET_HANDSHAKE_RESPONSE;

	if (handshake)
		h->label = ID;
	else
		h->epoch = (uint8_t)(h->epoch + w->keys.epoch);
	hopkey_seal(handshake ? &w->hs.outer : &w->keys.tx, packet, len, h);
	put_in(w, packet, len);
}

/* Sequences mostly go on, and sometimes are anything. */
static uint64_t any_seq(struct world *w, bool sequenced)
{
	uint8_t how = rbuf_u8(&w->in);
	uint64_t *next = sequenced ? &w->data_seq : &w->control_seq;

	if (how == 255)
		return rbuf_u64(&w->in);
	if (how >= 240)
		return *next - (how - 239u);
	*next += how >= 200 ? how - 199u : 0;
	return (*next)++;
}

static void packet_of_input(struct world *w)
{
	uint8_t packet[HOP_HEADER_BYTES + 255];
	struct hop_header h = {.type = rbuf_u8(&w->in) % 12};
	size_t len = rbuf_u8(&w->in);

	h.flags = rbuf_u8(&w->in);
	w->from = rbuf_u8(&w->in) % 16;
	h.epoch = w->from == 9; /* keys that are not there yet */
	w->from = w->from < 13 ? 0 : w->from & 3;
	h.tries = h.flags >> 4;
	h.label = rbuf_u8(&w->in);
	h.seq = any_seq(w, h.type == PACKET_DATA || h.type >= PACKET_ROUTE_ERROR);
	rbuf_copy(&w->in, packet + HOP_HEADER_BYTES, len);
	send_sealed(w, &h, packet, HOP_HEADER_BYTES + len);
	w->from = 0;
}

/* As one GRO datagram brings them: mostly authentic fragments of a record in order, and here and
 * there one that is not. */
static void run_of_input(struct world *w)
{
	enum { EACH = HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES + 4 };
	uint8_t run[40 * EACH];
	size_t count = 2 + rbuf_u8(&w->in) % 39, last = 1 + rbuf_u8(&w->in) % EACH;

	memset(run, 0, sizeof run);
	for (size_t i = 0; i < count; i++) {
		uint8_t how = rbuf_u8(&w->in);
		struct hop_header h = {.type = PACKET_DATA, .epoch = w->keys.epoch, .label = 1};
		bool odd = how >= 230;
		h.seq = any_seq(w, true);
		if (odd && how & 1)
			h.type = rbuf_u8(&w->in) % 12;
		if (odd && how & 2)
			h.label = rbuf_u8(&w->in);
		if (odd && how & 4)
			run[i * EACH + HOP_HEADER_BYTES + 7] = rbuf_u8(&w->in);
		size_t len = i + 1 < count ? EACH : last;
		if (len >= HOP_HEADER_BYTES)
			hopkey_seal(&w->keys.tx, run + i * EACH, len, &h);
		if (odd && how & 8)
			run[i * EACH + rbuf_u8(&w->in) % len] ^= 1;
	}
	put_run_in(w, run, (count - 1) * EACH + last, EACH);
}

static void raw_of_input(struct world *w)
{
	uint8_t packet[256];
	size_t len = rbuf_u8(&w->in);

	rbuf_copy(&w->in, packet, len);
	put_in(w, packet, len);
}

/* An ack that means something: distances from what the transport has sent. */
static void ack_of_input(struct world *w)
{
	uint8_t packet[HOP_HEADER_BYTES + ACK_MAX_BYTES];
	struct wbuf out = wbuf_init(packet + HOP_HEADER_BYTES, ACK_MAX_BYTES);
	struct hop_header h = {.type = PACKET_ACK, .seq = w->control_seq++};
	struct ack a = {.range_count = rbuf_u8(&w->in) % 5};
	uint64_t back = rbuf_u8(&w->in), at;

	a.cumulative = at = w->sent_top - (back < w->sent_top ? back : w->sent_top);
	for (unsigned i = 0; i < a.range_count; i++) {
		a.ranges[i].start = at += 1 + rbuf_u8(&w->in) % 8;
		a.ranges[i].end = at += 1 + rbuf_u8(&w->in) % 8;
	}
	a.largest = at + rbuf_u8(&w->in) % 4 - 1;
	a.latest = a.largest - rbuf_u8(&w->in) % 4;
	a.latest_tries = rbuf_u8(&w->in) % 3;
	a.delay_us = rbuf_u32(&w->in) >> rbuf_u8(&w->in) % 32;
	ack_write(&out, &a);
	send_sealed(w, &h, packet, HOP_HEADER_BYTES + wbuf_len(&out));
}

/* The answer to its last probe, perhaps from elsewhere, perhaps about another size. */
static void probe_reply_of_input(struct world *w)
{
	uint8_t packet[HOP_HEADER_BYTES + sizeof w->probe], how = rbuf_u8(&w->in);
	struct hop_header h = {.type = PACKET_PROBE_REPLY, .seq = w->control_seq++};

	memcpy(packet + HOP_HEADER_BYTES, w->probe, sizeof w->probe);
	if (how & 1) {
		uint16_t size = rbuf_u16(&w->in) % (PACKET_BYTES + 2);
		packet[HOP_HEADER_BYTES + 1] = (uint8_t)(size >> 8);
		packet[HOP_HEADER_BYTES + 2] = (uint8_t)size;
		packet[HOP_HEADER_BYTES] = how >> 1 & 3;
	}
	w->from = how >> 6;
	send_sealed(w, &h, packet, sizeof packet);
	w->from = 0;
}

/* Whole records of one to four packets on some routes. */
static void send_data(struct world *w)
{
	static const uint8_t zero[4 * PACKET_BYTES];
	unsigned n = rbuf_u8(&w->in) % 40, how = rbuf_u8(&w->in);
	size_t len = 1 + rbuf_u16(&w->in) % (sizeof zero - 1);

	while (n--) {
		struct pkt *v[RECORD_PACKETS_MAX];
		size_t count = record_cut(
			&w->pool,
			&(struct fragment_header){.kind = RECORD_DATA, .record = w->record++},
			bytes_of(zero, len), PACKET_BYTES, how & 3, (how >> 2) & 3, v);
		require(count > 0);
		for (size_t i = 0; i < count; i++) {
			require(transport_room(w->t, PACKET_FLAG_SPARSE) >=
				transport_room(w->t, 0));
			bool room = transport_room(w->t, 0) >= v[i]->len;
			int err = transport_send(w->t, v[i], w->now);
			require(err == 0 || !room);
		}
	}
}

static void open_again(struct world *w)
{
	struct net_addr v[20];
	size_t n = rbuf_u8(&w->in) % 20;

	for (size_t i = 0; i < n; i++)
		v[i] = w->addr;
	transport_open(w->t, v, n, w->now);
}

static void step(struct world *w)
{
	switch (rbuf_u8(&w->in) % 14) {
	case 0:
		raw_of_input(w);
		break;
	case 1:
	case 2:
	case 3:
		packet_of_input(w);
		break;
	case 4:
	case 5:
		ack_of_input(w);
		break;
	case 6:
		run_time(w, w->now + rbuf_u16(&w->in));
		break;
	case 7:
		run_time(w, w->now + rbuf_u16(&w->in) * (uint64_t)1000);
		break;
	case 8:
		send_data(w);
		break;
	case 9:
		shake_hands(w);
		break;
	case 11:
		probe_reply_of_input(w);
		break;
	case 10:
		transport_send_signal(w->t, PACKET_ROUTE_ERROR, 3, w->now);
		break;
	case 12:
		run_of_input(w);
		break;
	default:
		if (rbuf_u8(&w->in) == 0)
			transport_close(w->t, CODE_CLOSED, w->now);
		else
			open_again(w);
	}
	if (rbuf_left(&w->in) % 2)
		transport_flush(w->t, w->now);
}

static void check_stats(const struct world *w)
{
	struct transport_stats s;

	transport_get_stats(w->t, &s);
	require(s.queue_bytes <= EGRESS_BYTES);
	require(s.inflight_bytes <= w->pool.live * PKT_RUN_BYTES);
	require(s.loss_ppm <= 1000000);
	require(s.cwnd_bytes >= PACKET_BYTES);
}

static void world_open(struct world *w)
{
	uint8_t secret[2][32];
	struct mesh_id id[2];
	struct transport_config c = {.id = ID,
				     .retransmit_limit = 5,
				     .packet_bytes = PACKET_BYTES,
				     .egress_bytes = EGRESS_BYTES,
				     .pool = &w->pool,
				     .timers = &w->timers};
	uint8_t choice = rbuf_u8(&w->in);

	timerq_init(&w->timers);
	pkt_pool_init(&w->pool, 1000);
	w->now = 1000000;
	w->addr = (struct net_addr){.family = 4, .ip = {10, 0, 0, 1}, .port = 100};
	w->initiator = choice & 1;
	for (int i = 0; i < 2; i++) {
		memset(secret[i], 1 + i, 32);
		crypto_scalarmult_base(id[i].b, secret[i]);
	}
	c.initiator = w->initiator;
	c.congestion = choice & 2 ? CONGESTION_BBR : CONGESTION_CUBIC;
	c.local = id[0];
	c.remote = id[1];
	memcpy(c.local_secret, secret[0], 32);
	handshake_init(&w->hs, ID, secret[1], &id[0], c.psk);
	w->t = transport_new(&c, &ops, w, w->now);
	require(w->t != NULL);
	transport_open(w->t, &w->addr, 1, w->now);
	run_time(w, w->now + 1);
	if (choice & 4)
		return; /* without a handshake, for once */
	shake_hands(w);
	require(w->keys.valid);
	/* The responder believes the initiator's keys with the first packet under them. */
	uint8_t probe[HOP_HEADER_BYTES];
	struct hop_header h = {.type = PACKET_PROBE, .seq = w->control_seq++};
	send_sealed(w, &h, probe, sizeof probe);
	require(transport_get_state(w->t) == TRANSPORT_CONNECTED);
}

static void ignore_log(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;

	if (sodium_init() < 0)
		return 0;
	log_set_sink(ignore_log);
	memset(&w, 0, sizeof w);
	w.in = rbuf_init(data, size);
	world_open(&w);
	for (unsigned i = 0; i < OPS_MAX && rbuf_left(&w.in); i++) {
		step(&w);
		check_stats(&w);
	}
	transport_free(w.t);
	handshake_wipe(&w.hs);
	require(w.pool.live == 0 && timerq_next(&w.timers) == TIMER_NEVER);
	pkt_pool_free(&w.pool);
	timerq_free(&w.timers);
	return 0;
}
