/* Two ends of a connection over a seeded lossy path on a virtual clock (no transports below: every
 * loss reaches the connection, which is far worse than the hops let through). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <sodium.h>

#include <errno.h>

#include "base/log.h"
#include "core/connection.h"
#include "linksim.h"
#include "wire/msg.h"
#include "wire/packet.h"

struct pair;
struct side {
	struct pair *pair;
	int index;
	struct connection *c;
	uint16_t code;
	bool refuse;
	uint8_t forge_from, forge_to; /* kinds of records, as a relay might change them */
	unsigned received, bad, refused, backwards;
	uint32_t last; /* datagram that has its number in front */
	uint64_t received_bytes, sent_bytes;
	uint64_t packets, packet_bytes; /* put out, and the flags of the last */
	uint8_t flags;
	size_t expect[4096];
	unsigned expected;
	size_t part_have;
	unsigned parts;
	bool sends_parts;
};

struct pair {
	struct linksim link;
	struct timerq timers;
	struct pkt_pool pool;
	struct side side[2];
	size_t room;
	unsigned mark_percent; /* of the packets in either direction */
};

static void op_output(void *ctx, struct connection *c, struct pkt *const *v, size_t n, uint64_t now)
{
	struct side *s = ctx;
	(void)c;
	(void)now;
	for (size_t i = 0; i < n; i++) {
		s->packets += v[i]->count;
		s->packet_bytes += v[i]->len;
		s->flags = v[i]->flags;
		for (size_t k = 0; k < v[i]->count; k++) {
			uint8_t *packet = v[i]->data + k * v[i]->each;
			if (packet[HOP_HEADER_BYTES] == s->forge_from)
				packet[HOP_HEADER_BYTES] = s->forge_to;
			linksim_send(&s->pair->link, !s->index, packet, pkt_payload(v[i], k).len);
		}
		pkt_free(&s->pair->pool, v[i]);
	}
}

static size_t op_room(void *ctx, struct connection *c, uint8_t flags)
{
	(void)flags;
	(void)c;
	return ((struct side *)ctx)->pair->room;
}

static uint8_t pattern(unsigned message, size_t at)
{
	return (uint8_t)(message * 31 + at * 7 + (at >> 8));
}

static bool op_message(void *ctx, struct connection *c, struct bytes data, size_t left,
		       uint64_t now)
{
	struct side *s = ctx;
	(void)now;
	if (s->refuse) {
		s->refused++;
		return false;
	}
	unsigned number = s->received;
	s->received += left == 0;
	s->received_bytes += data.len;
	if (connection_get_class(c) == CLASS_DATAGRAM) {
		uint32_t last = data.len >= 4 ? be32_get(data.data) : 0;
		s->backwards += last < s->last;
		s->last = last;
		return true;
	}
	if (s->part_have + data.len + left != s->expect[number])
		s->bad++;
	for (size_t i = 0; i < data.len; i++)
		if (data.data[i] != pattern(number, s->part_have + i)) {
			s->bad++;
			break;
		}
	s->parts += left > 0;
	s->part_have = left ? s->part_have + data.len : 0;
	return true;
}

static void op_state(void *ctx, struct connection *c, enum connection_state old, uint16_t code,
		     uint64_t now)
{
	(void)c;
	(void)old;
	(void)now;
	((struct side *)ctx)->code = code;
}

static void op_sent(void *ctx, struct connection *c, size_t bytes, uint64_t now)
{
	(void)c;
	(void)now;
	((struct side *)ctx)->sent_bytes += bytes;
}

static void op_random(void *ctx, void *out, size_t len)
{
	struct side *s = ctx;
	for (size_t i = 0; i < len; i++)
		((uint8_t *)out)[i] = (uint8_t)linksim_random(&s->pair->link);
}

/* Odd datagrams only. */
static bool op_in_order(void *ctx, struct connection *c, struct bytes data)
{
	(void)ctx;
	(void)c;
	return data.len > 4 && data.len % 2;
}

static const struct connection_ops ops = {op_output, op_room,	op_message, op_state,
					  op_sent,   op_random, NULL,	    op_in_order};

/* What each side may use, as bits. */
static unsigned ciphers[2] = {UINT_MAX, UINT_MAX};

static void pair_open(struct pair *p, uint8_t cls, uint64_t seed)
{
	uint8_t secret[2][32];
	struct mesh_id id[2];

	memset(p, 0, sizeof *p);
	p->link.rng = seed * 0x9e3779b97f4a7c15u + 1;
	p->link.now = 1000000;
	p->link.delay_us = 5000;
	p->room = 1u << 20;
	timerq_init(&p->timers);
	pkt_pool_init(&p->pool, 1000);
	for (int i = 0; i < 2; i++) {
		randombytes_buf(secret[i], 32);
		crypto_scalarmult_base(id[i].b, secret[i]);
		p->side[i] = (struct side){.pair = p, .index = i};
	}
	for (int i = 0; i < 2; i++) {
		struct connection_config c = {.id = 77,
					      .ciphers = ciphers[i],
					      .initiator = i == 0,
					      .cls = cls,
					      .local = id[i],
					      .remote = id[!i],
					      .timeout_us = 30000000,
					      .send_buffer_bytes = 64u << 20,
					      .pool = &p->pool,
					      .timers = &p->timers};
		memcpy(c.local_secret, secret[i], 32);
		p->side[i].c = connection_new(&c, &ops, &p->side[i], p->link.now);
		assert_non_null(p->side[i].c);
		connection_set_route(p->side[i].c, 5, 1400, p->link.now);
	}
}

static void pair_close(struct pair *p)
{
	connection_free(p->side[0].c);
	connection_free(p->side[1].c);
	linksim_drain(&p->link);
	assert_int_equal(p->pool.live, 0);
	pkt_pool_free(&p->pool);
	timerq_free(&p->timers);
}

static void run_until(struct pair *p, uint64_t until)
{
	for (;;) {
		uint64_t next = timerq_next(&p->timers);
		if (p->link.first && p->link.first->at_us < next)
			next = p->link.first->at_us;
		if (next > until)
			break;
		if (next > p->link.now)
			p->link.now = next;
		while (p->link.first && p->link.first->at_us <= p->link.now) {
			struct flight *f = p->link.first;
			struct block *b = block_new(f->len);
			memcpy(b->data, f->data, f->len);
			p->link.first = f->next;
			struct pkt *k = pkt_new(&p->pool, b, b->data, f->len);
			block_put(b);
			if (linksim_random(&p->link) % 100 < p->mark_percent)
				k->flags |= PACKET_FLAG_MARKED; /* as the hop says it */
			connection_input(p->side[f->to].c, k, p->link.now);
			connection_flush(p->side[f->to].c, p->link.now);
			free(f);
		}
		timerq_run(&p->timers, p->link.now);
	}
	p->link.now = until;
}

static void connect_pair(struct pair *p)
{
	connection_start(p->side[0].c, p->link.now);
	run_until(p, p->link.now + 5000000);
	assert_int_equal(connection_get_state(p->side[0].c), CONNECTION_CONNECTED);
	assert_int_equal(connection_get_state(p->side[1].c), CONNECTION_CONNECTED);
}

static void send_message(struct pair *p, int from, size_t len)
{
	struct side *to = &p->side[!from];
	uint8_t *m = malloc(len ? len : 1);
	for (size_t i = 0; i < len; i++)
		m[i] = pattern(to->expected, i);
	to->expect[to->expected++] = len;
	size_t first = p->side[from].sends_parts ? len / 3 : 0;
	if (first) {
		assert_int_equal(connection_send_part(p->side[from].c, bytes_of(m, first),
						      len - first, p->link.now),
				 0);
		assert_int_equal(connection_send(p->side[from].c, bytes_of(m, 1), p->link.now),
				 -EINVAL);
		assert_int_equal(connection_send_part(p->side[from].c,
						      bytes_of(m + first, len - first), 0,
						      p->link.now),
				 0);
	} else {
		assert_int_equal(connection_send(p->side[from].c, bytes_of(m, len), p->link.now),
				 0);
	}
	free(m);
}

static void transfer(unsigned loss_ppm, uint64_t jitter_us, unsigned dup_ppm, uint64_t seed)
{
	static struct pair p;
	pair_open(&p, CLASS_STREAM, seed);
	p.link.loss_ppm = loss_ppm;
	p.link.jitter_us = jitter_us;
	p.link.dup_ppm = dup_ppm;
	connect_pair(&p);
	connection_take_parts(p.side[1].c);
	p.side[1].sends_parts = true;
	uint64_t start = p.link.now;
	send_message(&p, 0, 0);
	for (unsigned i = 0; i < 60; i++) {
		send_message(&p, 0, (size_t)(linksim_random(&p.link) % 300));
		send_message(&p, 1, (size_t)(linksim_random(&p.link) % 150000));
	}
	send_message(&p, 0, 3000000);
	send_message(&p, 0, 1);
	connection_flush(p.side[0].c, p.link.now);
	connection_flush(p.side[1].c, p.link.now);
	while ((p.side[0].received < p.side[0].expected ||
		p.side[1].received < p.side[1].expected) &&
	       p.link.now < start + 200000000) {
		run_until(&p, p.link.now + 50000);
		assert_int_equal(connection_get_state(p.side[0].c), CONNECTION_CONNECTED);
	}
	assert_int_equal(p.side[0].received, p.side[0].expected);
	assert_int_equal(p.side[1].received, p.side[1].expected);
	run_until(&p, p.link.now + 3000000);
	assert_int_equal(p.side[0].sent_bytes, p.side[1].received_bytes);
	assert_int_equal(p.side[1].sent_bytes, p.side[0].received_bytes);
	assert_int_equal(p.side[0].bad + p.side[1].bad, 0);
	assert_true(p.side[1].parts > 10 && p.side[0].parts == 0);
	printf("loss %u ppm: %.2f s\n", loss_ppm, (double)(p.link.now - start) / 1e6);
	pair_close(&p);
}

static void test_stream(void **state)
{
	(void)state;
	transfer(0, 0, 0, 1);
	transfer(1000, 20000, 10000, 2);
	transfer(10000, 0, 0, 3);
}

static void test_biggest_message(void **state)
{
	static struct pair p;
	(void)state;
	pair_open(&p, CLASS_STREAM, 4);
	connect_pair(&p);
	send_message(&p, 0, MAX_MESSAGE_BYTES);
	assert_int_equal(
		connection_send(p.side[0].c, bytes_of(&p, MAX_MESSAGE_BYTES + 1), p.link.now),
		-EMSGSIZE);
	connection_flush(p.side[0].c, p.link.now);
	run_until(&p, p.link.now + 20000000);
	assert_int_equal(p.side[1].received, 1);
	assert_int_equal(p.side[1].bad, 0);
	pair_close(&p);
}

/* A receiver that refuses messages stops the sender; nothing is lost and nothing grows past the
 * window; when it takes them again all arrive. */
static void test_slow_receiver(void **state)
{
	static struct pair p;
	struct connection_stats stats;
	(void)state;
	pair_open(&p, CLASS_STREAM, 5);
	connect_pair(&p);
	p.side[1].refuse = true;
	for (unsigned i = 0; i < 200; i++)
		send_message(&p, 0, 100000);
	connection_flush(p.side[0].c, p.link.now);
	run_until(&p, p.link.now + 60000000);
	connection_get_stats(p.side[1].c, &stats);
	assert_in_range(stats.receive_buffered, 1, 5u << 20);
	assert_int_equal(p.side[1].received, 0);
	assert_int_equal(connection_get_state(p.side[0].c), CONNECTION_CONNECTED);
	p.side[1].refuse = false;
	connection_resume(p.side[1].c, p.link.now);
	run_until(&p, p.link.now + 30000000);
	assert_int_equal(p.side[1].received, 200);
	assert_int_equal(p.side[1].bad, 0);
	pair_close(&p);
}

static void test_route_change(void **state)
{
	static struct pair p;
	(void)state;
	pair_open(&p, CLASS_STREAM, 6);
	connect_pair(&p);
	for (unsigned i = 0; i < 50; i++)
		send_message(&p, 0, 80000);
	connection_flush(p.side[0].c, p.link.now);
	p.link.cut = true;
	run_until(&p, p.link.now + 400000);
	p.link.cut = false;
	connection_set_route(p.side[0].c, 6, 1100, p.link.now);
	connection_set_route(p.side[1].c, 9, 1100, p.link.now);
	run_until(&p, p.link.now + 1000000);
	assert_int_equal(p.side[1].received, 50);
	assert_int_equal(p.side[1].bad, 0);
	pair_close(&p);
}

static void test_datagrams(void **state)
{
	static struct pair p;
	uint8_t big[DATAGRAM_MAX_BYTES] = {0};
	(void)state;
	pair_open(&p, CLASS_DATAGRAM, 7);
	connect_pair(&p);
	p.link.dup_ppm = 500000;
	for (unsigned i = 0; i < 500; i++)
		assert_int_equal(
			connection_send(p.side[0].c, bytes_of(big, 1 + i * 100), p.link.now), 0);
	assert_int_equal(connection_send(p.side[0].c, bytes_of(big, sizeof big), p.link.now), 0);
	run_until(&p, p.link.now + 1000000);
	assert_int_equal(p.side[1].received, 501); /* duplicates are not delivered */
	p.room = 100;
	assert_int_equal(connection_send(p.side[0].c, bytes_of(big, 1000), p.link.now), -EAGAIN);
	pair_close(&p);
}

static enum seal_cipher cipher_of(const struct side *s)
{
	struct connection_stats stats;

	connection_get_stats(s->c, &stats);
	return stats.cipher;
}

/* AES only where both want it and can; whoever chooses, both ends understand each other. */
static void test_ciphers(void **state)
{
	const enum seal_cipher best =
		seal_ciphers() & SEAL_AES256_GCM ? SEAL_AES256_GCM : SEAL_CHACHA20_POLY1305;
	static struct pair p;

	(void)state;
	for (unsigned both = 0; both < 4; both++) {
		ciphers[0] = both & 1 ? UINT_MAX : 0;
		ciphers[1] = both & 2 ? UINT_MAX : SEAL_CHACHA20_POLY1305;
		pair_open(&p, CLASS_DATAGRAM, both);
		assert_int_equal(cipher_of(&p.side[0]), 0);
		connect_pair(&p);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(cipher_of(&p.side[i]),
					 both == 3 ? best : SEAL_CHACHA20_POLY1305);
			assert_int_equal(
				connection_send(p.side[i].c, bytes_str("hello"), p.link.now), 0);
		}
		run_until(&p, p.link.now + 100000);
		assert_int_equal(p.side[0].received + p.side[1].received, 2);
		pair_close(&p);
	}
	ciphers[0] = ciphers[1] = UINT_MAX;
}

static void numbered(struct pair *p, uint32_t from, uint32_t count, size_t len)
{
	uint8_t data[2000] = {0};

	for (uint32_t i = from; i < from + count; i++) {
		be32_put(data, i);
		assert_int_equal(connection_send(p->side[0].c, bytes_of(data, len), p->link.now),
				 0);
		run_until(p, p->link.now + 1000);
	}
}

/* Datagrams that want it come in order although the path changes it, the others as they come. */
static void test_datagrams_in_order(void **state)
{
	static struct pair p;
	struct side *to = &p.side[1];

	(void)state;
	pair_open(&p, CLASS_DATAGRAM, 21);
	connect_pair(&p);
	p.link.jitter_us = 20000;
	numbered(&p, 0, 1000, 1999);
	to->backwards = 0;
	numbered(&p, 1000, 2000, 1999);
	run_until(&p, p.link.now + 100000);
	assert_int_equal(to->received, 3000);
	assert_int_equal(to->backwards, 0);
	numbered(&p, 3000, 1000, 1998);
	run_until(&p, p.link.now + 100000);
	assert_int_equal(to->received, 4000);
	assert_true(to->backwards > 100);
	/* What waits goes out before the end. */
	numbered(&p, 4000, 3, 1999);
	connection_close(p.side[0].c, CODE_CLOSED, p.link.now);
	p.link.jitter_us = 0;
	run_until(&p, p.link.now + 100000);
	assert_int_equal(connection_get_state(to->c), CONNECTION_DISCONNECTED);
	pair_close(&p);
}

/* What was said into a broken path, or could not even be said, is said again on the next. */
static void test_last_datagrams_on_a_new_route(void **state)
{
	static struct pair p;

	(void)state;
	pair_open(&p, CLASS_DATAGRAM, 22);
	connect_pair(&p);
	numbered(&p, 0, 100, 999);
	run_until(&p, p.link.now + 21000000);
	assert_int_equal(p.side[1].received, 100);
	p.link.cut = true;
	numbered(&p, 100, 3, 999);  /* TCP's, */
	numbered(&p, 103, 3, 1000); /* and others */
	p.room = 0;
	uint8_t data[7] = {0, 0, 0, 110};
	assert_int_equal(connection_send(p.side[0].c, bytes_of(data, 7), p.link.now), -EAGAIN);
	run_until(&p, p.link.now + 5000000);
	p.room = 1u << 20;
	p.link.cut = false;
	connection_set_route(p.side[0].c, 6, 1400, p.link.now);
	run_until(&p, p.link.now + 100000);
	assert_int_equal(p.side[1].received, 104);
	assert_int_equal(p.side[1].last, 110);
	connection_set_route(p.side[0].c, 7, 1400, p.link.now);
	run_until(&p, p.link.now + 100000);
	assert_int_equal(p.side[1].received, 104); /* once */
	pair_close(&p);
}

static void test_no_answer_times_out(void **state)
{
	static struct pair p;
	(void)state;
	pair_open(&p, CLASS_STREAM, 8);
	p.link.cut = true;
	connection_start(p.side[0].c, p.link.now);
	run_until(&p, p.link.now + 31000000);
	assert_int_equal(connection_get_state(p.side[0].c), CONNECTION_DISCONNECTED);
	assert_int_equal(p.side[0].code, CODE_TIMEOUT);
	pair_close(&p);
}

static void test_hostile_packets(void **state)
{
	static struct pair p;
	uint8_t junk[1400];
	struct connection_stats stats;
	(void)state;
	pair_open(&p, CLASS_STREAM, 9);
	connect_pair(&p);
	for (unsigned i = 0; i < 3000; i++) {
		size_t len = 37 + (size_t)(linksim_random(&p.link) % 1000);
		op_random(&p.side[0], junk, len);
		junk[24] = (uint8_t)(i & 1);
		be32_put(junk + 32, i % 3 ? (uint32_t)(len - 36) : 60000);
		linksim_enqueue(&p.link, 1, junk, len);
	}
	send_message(&p, 0, 100000);
	connection_flush(p.side[0].c, p.link.now);
	run_until(&p, p.link.now + 3000000);
	connection_get_stats(p.side[1].c, &stats);
	assert_in_range(stats.bad_records, 1900, 3100);
	assert_int_equal(p.side[1].received, 1);
	assert_int_equal(p.side[1].bad, 0);
	pair_close(&p);
}

static void test_close(void **state)
{
	static struct pair p;
	(void)state;
	pair_open(&p, CLASS_STREAM, 10);
	connect_pair(&p);
	connection_close(p.side[0].c, CODE_CLOSED, p.link.now);
	run_until(&p, p.link.now + 100000);
	assert_int_equal(connection_get_state(p.side[1].c), CONNECTION_DISCONNECTED);
	assert_int_equal(p.side[1].code, CODE_CLOSED);
	assert_int_equal(connection_send(p.side[0].c, bytes_of("x", 1), p.link.now), -ENOTCONN);
	pair_close(&p);
}

static struct connection_stats stats_of(const struct pair *p, int i)
{
	struct connection_stats stats;

	connection_get_stats(p->side[i].c, &stats);
	return stats;
}

/* What a record costs: a packet of an interface, as long as fits into one of ours. */
static void test_overhead_of_a_datagram(void **state)
{
	static struct pair p;
	static const uint8_t zero[1500];
	size_t len = 1400 - HOP_HEADER_BYTES - FRAGMENT_HEADER_BYTES - AEAD_TAG_BYTES;

	(void)state;
	pair_open(&p, CLASS_DATAGRAM, 14);
	connect_pair(&p);
	struct side *s = &p.side[0];
	uint64_t packets = s->packets, bytes = s->packet_bytes;
	assert_int_equal(connection_send(s->c, bytes_of(zero, len), p.link.now), 0);
	assert_int_equal(s->packets - packets, 1);
	uint64_t overhead = s->packet_bytes - bytes - len + LINKSIM_IP_UDP_BYTES;
	printf("overhead of a datagram in one packet: %u bytes with IPv4 and UDP\n",
	       (unsigned)overhead);
	assert_int_equal(overhead, 80);
	assert_int_equal(connection_send(s->c, bytes_of(zero, len + 1), p.link.now), 0);
	assert_int_equal(connection_send(s->c, bytes_of(NULL, 0), p.link.now), 0);
	run_until(&p, p.link.now + 100000);
	assert_int_equal(p.side[1].received, 3);
	assert_int_equal(p.side[1].received_bytes, 2 * len + 1);
	pair_close(&p);
}

/* A relay that calls a record another kind has broken it, and nobody else is blamed. */
static void test_kind_is_authentic(void **state)
{
	static struct pair p;

	(void)state;
	pair_open(&p, CLASS_DATAGRAM, 15);
	connect_pair(&p);
	uint64_t bad = stats_of(&p, 1).bad_records;
	p.side[0].forge_from = RECORD_DATAGRAM;
	p.side[0].forge_to = RECORD_DATA;
	assert_int_equal(connection_send(p.side[0].c, bytes_of("\4..", 3), p.link.now), 0);
	run_until(&p, p.link.now + 100000);
	assert_int_equal(p.side[1].received, 0);
	assert_int_equal(stats_of(&p, 1).bad_records, bad + 1);
	p.side[0].forge_to = RECORD_DATAGRAM;
	assert_int_equal(connection_send(p.side[0].c, bytes_of("x", 1), p.link.now), 0);
	run_until(&p, p.link.now + 100000);
	assert_int_equal(p.side[1].received, 1);
	pair_close(&p);
}

static void test_sparse_is_marked(void **state)
{
	static struct pair p;

	(void)state;
	pair_open(&p, CLASS_DATAGRAM, 16);
	connect_pair(&p);
	assert_int_equal(connection_send_sparse(p.side[0].c, bytes_of("x", 1), p.link.now), 0);
	assert_int_equal(p.side[0].flags, PACKET_FLAG_DROPPABLE | PACKET_FLAG_SPARSE);
	assert_int_equal(connection_send(p.side[0].c, bytes_of("x", 1), p.link.now), 0);
	assert_int_equal(p.side[0].flags, PACKET_FLAG_DROPPABLE);
	pair_close(&p);
}

/* Keeps side 0 busy for a while; how many bytes arrived. */
static uint64_t bulk(struct pair *p, uint64_t us)
{
	uint64_t until = p->link.now + us, had = p->side[1].received_bytes;

	while (p->link.now < until) {
		while (stats_of(p, 0).send_buffered < 4u << 20)
			send_message(p, 0, 100000);
		connection_flush(p->side[0].c, p->link.now);
		run_until(p, p->link.now + 1000);
	}
	return p->side[1].received_bytes - had;
}

/* A mark is for the stream what a loss is, but nothing has to be sent again: the window shrinks
 * once in a round trip while marks come, and grows again when they stop. */
static void test_marks_slow_a_stream(void **state)
{
	static struct pair p;

	(void)state;
	pair_open(&p, CLASS_STREAM, 11);
	p.link.rate_bps = 400000000;
	connect_pair(&p);
	uint64_t free_bytes = bulk(&p, 1000000), window = stats_of(&p, 0).cwnd_bytes;
	assert_true(window > 512u << 10);
	p.mark_percent = 100;
	bulk(&p, 20000);
	assert_in_range(stats_of(&p, 0).cwnd_bytes, window * 6 / 10, window * 8 / 10);
	bulk(&p, 1500000); /* round trips are long at first, by what is queued */
	uint64_t marked_bytes = bulk(&p, 1000000);
	assert_in_range(marked_bytes, 100000, free_bytes / 10); /* slow, but it moves */
	assert_in_range(stats_of(&p, 0).cwnd_bytes, 4000, 100000);
	assert_int_equal(stats_of(&p, 0).record_retransmits, 0);
	p.mark_percent = 0;
	bulk(&p, 5000000);
	assert_true(bulk(&p, 1000000) > marked_bytes * 2);
	run_until(&p, p.link.now + 5000000);
	assert_int_equal(p.side[1].received, p.side[1].expected);
	assert_int_equal(p.side[1].bad, 0);
	pair_close(&p);
}

/* Marks of one direction do not slow the other. */
static void test_marks_are_of_a_direction(void **state)
{
	static struct pair p;

	(void)state;
	pair_open(&p, CLASS_STREAM, 12);
	connect_pair(&p);
	uint64_t window = stats_of(&p, 1).cwnd_bytes;
	bulk(&p, 200000);
	p.mark_percent = 100;
	bulk(&p, 300000);
	assert_int_equal(stats_of(&p, 1).cwnd_bytes, window);
	assert_true(stats_of(&p, 0).cwnd_bytes < window);
	run_until(&p, p.link.now + 20000000);
	assert_int_equal(p.side[1].received, p.side[1].expected);
	pair_close(&p);
}

/* A way that is cut for ten seconds costs nothing but those. */
static void test_long_cut(void **state)
{
	static struct pair p;

	(void)state;
	pair_open(&p, CLASS_STREAM, 13);
	connect_pair(&p);
	bulk(&p, 300000);
	p.link.cut = true;
	run_until(&p, p.link.now + 29000000);
	p.link.cut = false;
	run_until(&p, p.link.now + 5000000);
	assert_int_equal(connection_get_state(p.side[0].c), CONNECTION_CONNECTED);
	assert_int_equal(p.side[1].received, p.side[1].expected);
	assert_int_equal(p.side[1].bad, 0);
	/* And one that never comes back ends it. */
	send_message(&p, 0, 1000);
	connection_flush(p.side[0].c, p.link.now);
	p.link.cut = true;
	run_until(&p, p.link.now + 100000000);
	assert_int_equal(connection_get_state(p.side[0].c), CONNECTION_DISCONNECTED);
	assert_int_equal(p.side[0].code, CODE_TIMEOUT);
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_biggest_message),
		cmocka_unit_test(test_slow_receiver),
		cmocka_unit_test(test_route_change),
		cmocka_unit_test(test_datagrams),
		cmocka_unit_test(test_datagrams_in_order),
		cmocka_unit_test(test_ciphers),
		cmocka_unit_test(test_last_datagrams_on_a_new_route),
		cmocka_unit_test(test_no_answer_times_out),
		cmocka_unit_test(test_hostile_packets),
		cmocka_unit_test(test_close),
		cmocka_unit_test(test_marks_slow_a_stream),
		cmocka_unit_test(test_overhead_of_a_datagram),
		cmocka_unit_test(test_kind_is_authentic),
		cmocka_unit_test(test_sparse_is_marked),
		cmocka_unit_test(test_marks_are_of_a_direction),
		cmocka_unit_test(test_long_cut),
	};
	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
