/*
 * A connection whose far end is the fuzzer: it has run the handshake and holds the keys.  The input
 * is a program: fragments as they are, sealed records with any inside, cut and shuffled, stream
 * bytes and acks that nearly make sense, time, messages to send, changes of route.
 */
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/connection.h"
#include "core/noise.h"
#include "core/record.h"
#include "core/replay.h"
#include "core/stream_recv.h"
#include "wire/msg.h"

#define ID 77u
#define PROLOGUE_TEXT "meshnet connection 1"
#define HEADERS (HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES)
#define INNER_STREAM 2
#define INNER_ACK 3
#define OPS_MAX 400u
#define SEND_BUFFER_BYTES 300000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
	struct rbuf in;
	struct timerq timers;
	struct pkt_pool pool;
	struct connection *c;
	uint64_t now, rng;
	uint8_t cls;
	bool initiator, disconnected, refuse; /* of the connection under test */
	bool parts;
	size_t part_left, out_left;
	size_t room, packet_bytes;
	/* The fuzzer's end. */
	struct noise noise;
	struct noise_keys keys;
	bool keyed;
	struct reassembly reassembly;
	uint64_t number, stream_top, seen_next, sent_top;
	uint64_t taken; /* bytes of messages that were accepted */
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

/* --- what the connection sends -------------------------------------------------------------- */

static void take_hello(struct world *w, struct bytes message)
{
	uint8_t payload;
	size_t len;

	if (w->keyed || noise_done(&w->noise) || noise_writes_next(&w->noise))
		return;
	require(noise_read(&w->noise, message, &payload, sizeof payload, &len) == 0 && len == 1);
	require(payload == SEAL_CHACHA20_POLY1305); /* all that its owner allows */
	if (noise_done(&w->noise)) {
		noise_split(&w->noise, &w->keys);
		w->keyed = true;
	}
}

static void check_inner(struct world *w, struct bytes plain)
{
	struct rbuf r = rbuf_init(plain.data, plain.len);
	struct stream_ack a;

	require(plain.len >= 1);
	uint8_t type = rbuf_u8(&r);
	if (type == INNER_STREAM) {
		uint64_t end = rbuf_u64(&r) + rbuf_left(&r);
		require(!r.bad && rbuf_left(&r) > 0 && w->cls == CLASS_STREAM);
		if (end > w->sent_top)
			w->sent_top = end;
	} else if (type == INNER_ACK) {
		require(stream_ack_read(&r, &a) == 0);
		require(a.limit == a.cumulative + STREAM_WINDOW_BYTES);
	} else {
		require(type >= 2 && type <= 5);
	}
}

/* Each number is used once; every record opens. */
static void take_record(struct world *w, const struct fragment_header *f, uint8_t *cipher)
{
	if (f->kind == RECORD_HANDSHAKE) {
		require(f->record == (w->initiator ? 0 : 1));
		take_hello(w, bytes_of(cipher, f->total));
		return;
	}
	require(w->keyed && f->record == w->seen_next);
	w->seen_next++;
	require(noise_open(w->keys.receive, record_nonce(f), bytes_of(NULL, 0),
			   bytes_of(cipher, f->total), cipher) == 0);
	if (f->kind == RECORD_DATAGRAM)
		require(w->cls == CLASS_DATAGRAM);
	else
		check_inner(w, bytes_of(cipher, (size_t)f->total - AEAD_TAG_BYTES));
}

static void take_fragment(struct world *w, struct bytes p, bool last, uint64_t now)
{
	struct fragment_header f;
	struct block *whole;
	size_t len = p.len - HEADERS;

	require(p.len > HEADERS && p.len <= w->packet_bytes);
	require(fragment_header_read(&f, p.data + HOP_HEADER_BYTES, len) == 0);
	int done = reassembly_add(&w->reassembly, &f, p.data + HEADERS, len, now, &whole);
	require(done >= 0 && done == last);
	if (done) {
		take_record(w, &f, whole->data);
		block_put(whole);
	}
}

static void op_output(void *ctx, struct connection *c, struct pkt *const *v, size_t n, uint64_t now)
{
	struct world *w = ctx;
	(void)c;
	require(n > 0 && n <= RECORD_PACKETS_MAX);
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < v[i]->count; k++)
			take_fragment(w, pkt_payload(v[i], k), i == n - 1 && k == v[i]->count - 1,
				      now);
		pkt_free(&w->pool, v[i]);
	}
}

static size_t op_room(void *ctx, struct connection *c, uint8_t flags)
{
	(void)flags;
	(void)c;
	return ((struct world *)ctx)->room;
}

static size_t op_packet_bytes(void *ctx, struct connection *c)
{
	(void)c;
	return ((struct world *)ctx)->packet_bytes;
}

static bool op_message(void *ctx, struct connection *c, struct bytes data, size_t left,
		       uint64_t now)
{
	struct world *w = ctx;
	(void)c;
	(void)now;
	require(!w->disconnected && data.len <= MAX_MESSAGE_BYTES);
	/* Parts make up the message that the first of them promised. */
	require(data.len + left == (w->part_left ? w->part_left : data.len + left));
	require(!left || (w->parts && data.len && data.len + left <= MAX_MESSAGE_BYTES));
	if (w->refuse)
		return false;
	w->part_left = left;
	for (size_t i = 0; i < data.len; i += 997)
		w->taken += data.data[i]; /* reads it: the bytes must be valid */
	w->taken += data.len;
	return true;
}

static void op_state(void *ctx, struct connection *c, enum connection_state old, uint16_t code,
		     uint64_t now)
{
	struct world *w = ctx;
	(void)code;
	(void)now;
	require(connection_get_state(c) > old);
	w->disconnected = connection_get_state(c) == CONNECTION_DISCONNECTED;
}

static void op_sent(void *ctx, struct connection *c, size_t bytes, uint64_t now)
{
	(void)ctx;
	(void)c;
	(void)now;
	require(bytes > 0);
}

static void op_random(void *ctx, void *out, size_t len)
{
	fill_random(ctx, out, len);
}

static bool op_in_order(void *ctx, struct connection *c, struct bytes data)
{
	(void)ctx;
	(void)c;
	return data.len % 4 != 0;
}

static const struct connection_ops ops = {
	.output = op_output,
	.room = op_room,
	.message = op_message,
	.state = op_state,
	.sent = op_sent,
	.random = op_random,
	.packet_bytes = op_packet_bytes,
	.in_order = op_in_order,
};

/* --- the fuzzer's end ----------------------------------------------------------------------- */

static void put_in(struct world *w, const struct fragment_header *f, const uint8_t *body,
		   size_t len)
{
	struct block *b = block_new(HEADERS + len);
	struct pkt *p;

	require(b != NULL);
	memset(b->data, 0, HEADERS);
	fragment_header_write(b->data + HOP_HEADER_BYTES, f);
	if (len)
		memcpy(b->data + HEADERS, body, len);
	p = pkt_new(&w->pool, b, b->data, HEADERS + len);
	block_put(b);
	require(p != NULL);
	p->flags = f->record % 5 == 0 ? PACKET_FLAG_SPARSE : 0;
	connection_input(w->c, p, w->now);
}

/* `order`: how the pieces travel: as they are, backwards, twice, without the first. */
static void send_cipher(struct world *w, const struct fragment_header *id, struct bytes cipher,
			size_t piece, uint8_t order)
{
	size_t n = (cipher.len + piece - 1) / piece;

	for (size_t i = order == 3 ? 1 : 0; i < (order == 2 ? 2 * n : n); i++) {
		size_t at = piece * (order == 1 ? n - 1 - i : i % n);
		size_t len = cipher.len - at < piece ? cipher.len - at : piece;
		struct fragment_header f = *id;
		f.offset = (uint16_t)at;
		f.total = (uint16_t)cipher.len;
		put_in(w, &f, cipher.data + at, len);
	}
}

/* `plain` has room for the tag. */
static void send_kind(struct world *w, uint8_t kind, uint8_t *plain, size_t len)
{
	uint8_t how = rbuf_u8(&w->in);
	uint64_t number = w->number;

	if (how == 255)
		number = rbuf_u64(&w->in) % RECORD_NUMBERS;
	else if (how >= 240)
		number -= how - 239u;
	else
		w->number += 1 + (how >= 230 ? how * (uint64_t)10 : 0);
	if (!w->keyed)
		return;
	struct fragment_header f = {
		.kind = kind, .time = rbuf_u16(&w->in), .record = number % RECORD_NUMBERS};
	noise_seal(w->keys.send, record_nonce(&f), bytes_of(NULL, 0), bytes_of(plain, len), plain);
	send_cipher(w, &f, bytes_of(plain, len + AEAD_TAG_BYTES),
		    how & 16 ? 20 + (len + AEAD_TAG_BYTES) / 60 : 1300, how % 4);
}

static void send_record(struct world *w, uint8_t *plain, size_t len)
{
	send_kind(w, RECORD_DATA, plain, len);
}

/* Both kinds, which a stream and a datagram connection take differently; also the empty record. */
static void record_of_input(struct world *w)
{
	uint8_t plain[256 + AEAD_TAG_BYTES];
	size_t len = rbuf_u8(&w->in);
	uint8_t type = rbuf_u8(&w->in);

	plain[0] = type % 7;
	rbuf_copy(&w->in, plain + 1, len);
	send_kind(w, type & 128 ? RECORD_DATAGRAM : RECORD_DATA, plain, len ? 1 + len : 0);
}

/* Stream bytes that go on where the last ended, or near there; their length field is the input's.
 */
static void stream_of_input(struct world *w)
{
	static uint8_t plain[9 + 60000 + AEAD_TAG_BYTES];
	uint8_t how = rbuf_u8(&w->in);
	size_t len = 1 + (rbuf_u16(&w->in) >> how % 17) % 60000u;
	uint64_t at = w->stream_top;

	if (how >= 192)
		at += rbuf_u16(&w->in);
	else if (how >= 128)
		at -= at < how ? at : how;
	else
		w->stream_top += len;
	plain[0] = INNER_STREAM;
	be64_put(plain + 1, at);
	memset(plain + 9, 0, len);
	rbuf_copy(&w->in, plain + 9, len < 8 ? len : rbuf_u8(&w->in) % 8u);
	send_record(w, plain, 9 + len);
}

static void ack_of_input(struct world *w)
{
	uint8_t plain[512];
	struct wbuf out = wbuf_init(plain, sizeof plain - AEAD_TAG_BYTES);
	struct stream_ack a = {.range_count = rbuf_u8(&w->in) % 5};
	uint64_t back = rbuf_u16(&w->in), at;

	a.cumulative = at = w->sent_top - (back < w->sent_top ? back : w->sent_top);
	a.limit = w->sent_top + rbuf_u32(&w->in);
	a.record = w->seen_next - rbuf_u8(&w->in) % 20;
	a.delay_us = rbuf_u32(&w->in) >> rbuf_u8(&w->in) % 32;
	for (unsigned i = 0; i < a.range_count; i++) {
		a.ranges[i].start = at += rbuf_u16(&w->in);
		a.ranges[i].end = at += rbuf_u16(&w->in);
	}
	wbuf_u8(&out, INNER_ACK);
	stream_ack_write(&out, &a);
	send_record(w, plain, wbuf_len(&out));
}

static void fragment_of_input(struct world *w)
{
	uint8_t body[256];
	size_t len = rbuf_u8(&w->in);
	struct fragment_header f = {rbuf_u8(&w->in) % 4, 0, rbuf_u8(&w->in), rbuf_u16(&w->in),
				    rbuf_u16(&w->in)};

	rbuf_copy(&w->in, body, len);
	put_in(w, &f, body, len);
}

static void shake_hands(struct world *w)
{
	uint8_t message[96], payload = rbuf_u8(&w->in);
	struct wbuf out = wbuf_init(message, sizeof message);

	/* An initiator takes our answer only when it is the one that it offered. */
	if (w->initiator && payload & 1)
		payload = SEAL_CHACHA20_POLY1305;
	if (!noise_writes_next(&w->noise) ||
	    noise_write(&w->noise, bytes_of(&payload, 1), &out) != 0)
		return;
	if (noise_done(&w->noise)) {
		noise_split(&w->noise, &w->keys);
		w->keyed = true;
	}
	struct fragment_header f = {.kind = RECORD_HANDSHAKE, .record = w->initiator ? 1 : 0};
	send_cipher(w, &f, bytes_of(message, wbuf_len(&out)), 1300, rbuf_u8(&w->in) % 3);
}

/* --- the program ---------------------------------------------------------------------------- */

static void send_message(struct world *w)
{
	static const uint8_t zero[DATAGRAM_MAX_BYTES + 10];
	size_t len = (rbuf_u16(&w->in) * (size_t)2) % sizeof zero;
	unsigned n = rbuf_u8(&w->in) % 16;

	while (n--)
		(void)connection_send(w->c, bytes_of(zero, len), w->now);
	/* Parts, some of which do not fit. */
	size_t left = len % 3 ? (len % 7) * len : w->out_left - (len < w->out_left ? len : 0);
	if (len % 2 && connection_send_part(w->c, bytes_of(zero, len), left, w->now) == 0) {
		require(!w->out_left || w->out_left == len + left);
		w->out_left = left;
	}
}

static void run_time(struct world *w, uint64_t until)
{
	for (unsigned i = 0; i < 200 && timerq_next(&w->timers) <= until; i++) {
		if (timerq_next(&w->timers) > w->now)
			w->now = timerq_next(&w->timers);
		timerq_run(&w->timers, w->now);
	}
	if (until > w->now)
		w->now = until;
}

static void change_route(struct world *w)
{
	w->packet_bytes = 1076 + rbuf_u8(&w->in) * (size_t)30;
	connection_set_route(w->c, rbuf_u8(&w->in), w->packet_bytes, w->now);
}

static void change_mood(struct world *w)
{
	uint8_t v = rbuf_u8(&w->in);

	w->refuse = v & 1;
	w->room = v & 2 ? 0 : v & 4 ? 70000 : 1u << 20;
	if (!w->refuse)
		connection_resume(w->c, w->now);
	if (v == 255)
		connection_close(w->c, CODE_CLOSED, w->now);
}

static void step(struct world *w)
{
	static void (*const steps[])(struct world *) = {
		fragment_of_input, record_of_input, record_of_input, stream_of_input,
		stream_of_input,   ack_of_input,    ack_of_input,    send_message,
		change_route,	   change_mood,	    shake_hands,
	};
	uint8_t v = rbuf_u8(&w->in);
	size_t which = v % (sizeof steps / sizeof *steps + 2);

	if (which < sizeof steps / sizeof *steps)
		steps[which](w);
	else
		run_time(w, w->now + rbuf_u16(&w->in) * (which & 1 ? (uint64_t)1 : 100));
	if (v & 128)
		connection_flush(w->c, w->now);
}

static void check_stats(const struct world *w)
{
	struct connection_stats s;

	connection_get_stats(w->c, &s);
	require(s.send_buffered <= SEND_BUFFER_BYTES + DATAGRAM_MAX_BYTES + 14);
	require(s.receive_buffered <= STREAM_WINDOW_BYTES + MAX_MESSAGE_BYTES);
	require(w->pool.live <= 1); /* every packet goes out or is dropped at once */
}

static void noise_start(struct world *w, const struct noise_keypair *local, const uint8_t *remote)
{
	uint8_t prologue[sizeof PROLOGUE_TEXT - 1 + 9], ephemeral[32];
	struct wbuf out = wbuf_init(prologue, sizeof prologue);

	wbuf_copy(&out, PROLOGUE_TEXT, sizeof PROLOGUE_TEXT - 1);
	wbuf_u64(&out, ID);
	wbuf_u8(&out, w->cls);
	fill_random(w, ephemeral, sizeof ephemeral);
	require(noise_init(&w->noise, &(struct noise_params){
					      .pattern = NOISE_KK,
					      .initiator = !w->initiator,
					      .prologue = bytes_of(prologue, sizeof prologue),
					      .local = local,
					      .remote = remote,
					      .ephemeral = ephemeral,
				      }) == 0);
}

static void world_open(struct world *w)
{
	struct noise_keypair pair[2];
	uint8_t secret[32], choice = rbuf_u8(&w->in);
	struct connection_config c = {.id = ID,
				      .timeout_us = 3000000,
				      .send_buffer_bytes = SEND_BUFFER_BYTES,
				      .pool = &w->pool,
				      .timers = &w->timers};

	timerq_init(&w->timers);
	pkt_pool_init(&w->pool, 100);
	reassembly_init(&w->reassembly);
	w->now = 1000000;
	w->room = 1u << 20;
	w->packet_bytes = 1400;
	w->initiator = c.initiator = choice & 1;
	w->cls = c.cls = choice & 2 ? CLASS_DATAGRAM : CLASS_STREAM;
	for (int i = 0; i < 2; i++) {
		memset(secret, 1 + i, sizeof secret);
		noise_keypair_from_secret(&pair[i], secret);
	}
	memcpy(c.local_secret, pair[0].secret, 32);
	memcpy(c.local.b, pair[0].public, 32);
	memcpy(c.remote.b, pair[1].public, 32);
	noise_start(w, &pair[1], pair[0].public);
	w->c = connection_new(&c, &ops, w, w->now);
	require(w->c != NULL);
	w->parts = choice & 8;
	if (w->parts)
		connection_take_parts(w->c);
	connection_set_route(w->c, 5, w->packet_bytes, w->now);
	connection_start(w->c, w->now);
	if (!(choice & 4))
		shake_hands(w);
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
	connection_free(w.c);
	reassembly_free(&w.reassembly);
	require(w.pool.live == 0 && timerq_next(&w.timers) == TIMER_NEVER);
	pkt_pool_free(&w.pool);
	timerq_free(&w.timers);
	return 0;
}
