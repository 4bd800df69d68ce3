/* Both sides of a stream, without records or packets between them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "core/stream_recv.h"

#define RECORD_BYTES 60000u
#define IN_FLIGHT_MAX 512u

static uint64_t rng = 0x9fb21c651e98df25u;

static uint32_t any(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 16) % below);
}

static uint8_t pattern(uint64_t message, size_t at)
{
	return (uint8_t)(message * 31 + at * 7 + (at >> 8));
}

struct sent_record {
	uint64_t number, offset;
	struct block *block;
};

struct bench {
	struct stream_send out;
	struct stream_recv in;
	uint64_t now, number;
	uint64_t appended, received; /* messages */
	size_t bytes, freed;
	size_t *lengths; /* of the messages appended */
	bool refuse;
	unsigned refused;
	size_t part_have; /* of the message that comes in parts */
	unsigned parts;
	struct sent_record flight[IN_FLIGHT_MAX];
	size_t flying;
};

static void bench_init(struct bench *b)
{
	memset(b, 0, sizeof *b);
	b->now = 1000000;
	b->lengths = calloc(20000, sizeof *b->lengths);
	stream_send_init(&b->out, 1200);
	b->out.peer_limit = STREAM_WINDOW_BYTES;
	stream_recv_init(&b->in);
	b->in.limit_told = STREAM_WINDOW_BYTES;
}

static void bench_free(struct bench *b)
{
	stream_send_free(&b->out);
	stream_recv_free(&b->in);
	while (b->flying)
		block_put(b->flight[--b->flying].block);
	free(b->lengths);
}

static void append(struct bench *b, size_t len)
{
	uint8_t *m = malloc(len ? len : 1);

	for (size_t i = 0; i < len; i++)
		m[i] = pattern(b->appended, i);
	b->lengths[b->appended++] = len;
	b->bytes += len;
	/* Whole, or in parts. */
	for (size_t at = 0, n; at < len || !len; at += n) {
		n = len && any(2) ? 1 + any((uint32_t)(len - at)) : len - at;
		assert_int_equal(stream_send_append(&b->out, bytes_of(m + at, n), len - at - n), 0);
		if (!len)
			break;
	}
	free(m);
}

static bool take(void *ctx, struct bytes m, size_t left, uint64_t now)
{
	struct bench *b = ctx;

	(void)now;
	if (b->refuse) {
		b->refused++;
		return false;
	}
	assert_true(b->received < b->appended);
	assert_int_equal(b->part_have + m.len + left, b->lengths[b->received]);
	for (size_t i = 0; i < m.len; i++)
		if (m.data[i] != pattern(b->received, b->part_have + i))
			fail_msg("message %u differs at %zu", (unsigned)b->received,
				 b->part_have + i);
	if (left) {
		assert_true(b->in.parts && b->lengths[b->received] > STREAM_WHOLE_BYTES);
		b->part_have += m.len;
		b->parts++;
		return true;
	}
	b->part_have = 0;
	b->received++;
	return true;
}

/* True when there was something to send and room for it. */
static bool send_record(struct bench *b, size_t max)
{
	static uint8_t buf[RECORD_BYTES];
	uint64_t offset;

	if (b->flying == IN_FLIGHT_MAX)
		return false;
	size_t len = stream_send_next(&b->out, buf, max, &offset);
	if (!len)
		return false;
	assert_true(offset + len <= b->out.peer_limit);
	struct block *k = block_new(len);
	memcpy(k->data, buf, len);
	assert_int_equal(stream_send_sent(&b->out, b->number, offset, len, b->now), 0);
	b->flight[b->flying++] = (struct sent_record){b->number++, offset, k};
	return true;
}

static void arrive(struct bench *b, size_t i, bool keep)
{
	struct sent_record r = b->flight[i];

	assert_int_equal(stream_recv_add(&b->in, r.number, r.offset,
					 bytes_of(r.block->data, r.block->size), r.block, take, b,
					 b->now),
			 0);
	if (keep)
		return;
	block_put(r.block);
	b->flight[i] = b->flight[--b->flying];
}

static void lose(struct bench *b, size_t i)
{
	block_put(b->flight[i].block);
	b->flight[i] = b->flight[--b->flying];
}

/* Over the wire form and back. */
static void acknowledge(struct bench *b)
{
	uint8_t buf[512];
	struct wbuf w = wbuf_init(buf, sizeof buf);
	struct stream_ack a, got;
	size_t freed;

	stream_recv_ack(&b->in, &a, b->now);
	stream_ack_write(&w, &a);
	assert_false(w.bad);
	struct rbuf r = rbuf_init(buf, wbuf_len(&w));
	assert_int_equal(stream_ack_read(&r, &got), 0);
	assert_int_equal(got.cumulative, a.cumulative);
	assert_int_equal(got.limit, a.cumulative + STREAM_WINDOW_BYTES);
	assert_int_equal(got.range_count, a.range_count);
	assert_memory_equal(got.ranges, a.ranges, a.range_count * sizeof a.ranges[0]);
	assert_int_equal(stream_send_ack(&b->out, &got, b->now, &freed), 0);
	assert_true(b->out.una >= a.cumulative);
	b->freed += freed;
}

static void run(unsigned loss_percent, unsigned messages, size_t largest, size_t record_max,
		bool parts)
{
	static struct bench b;
	unsigned rounds = 0;

	bench_init(&b);
	b.in.parts = parts;
	while (b.received < messages || b.out.una < b.out.end) {
		assert_in_range(rounds++, 0, 100000);
		b.now += any(5000);
		while (b.appended < messages && any(3))
			append(&b, any(10) ? any((uint32_t)largest) : 0);
		for (unsigned n = any(20); n && send_record(&b, 1 + any((uint32_t)record_max)); n--)
			;
		for (unsigned n = any(20); n && b.flying; n--) {
			size_t i = any((uint32_t)b.flying);
			if (any(100) < loss_percent)
				lose(&b, i);
			else
				arrive(&b, i, any(10) == 0);
		}
		if (any(50) == 0)
			b.refuse = !b.refuse;
		if (!b.refuse)
			assert_int_equal(stream_recv_resume(&b.in, take, &b, b.now), 0);
		if (any(4) == 0)
			acknowledge(&b);
		if (any(500) == 0)
			stream_send_reroute(&b.out, b.now);
		stream_send_tick(&b.out, b.now);
	}
	assert_int_equal(b.freed, b.bytes);
	assert_int_equal(b.out.inflight_bytes, 0);
	assert_int_equal(stream_send_buffered(&b.out), 0);
	assert_int_equal(stream_recv_buffered(&b.in), 0);
	if (loss_percent)
		assert_true(b.out.retransmits > 0);
	assert_int_equal(b.parts > 0, parts && largest > STREAM_WHOLE_BYTES);
	bench_free(&b);
}

static void test_random(void **state)
{
	(void)state;
	for (int parts = 0; parts < 2; parts++) {
		run(0, 300, 200, RECORD_BYTES, parts);
		run(20, 1000, 200, 100, parts);
		run(20, 300, 20000, RECORD_BYTES, parts);
		run(5, 100, 300000, RECORD_BYTES, parts);
		run(40, 200, 5000, 3000, parts);
	}
}

static void deliver_all(struct bench *b)
{
	while (send_record(b, RECORD_BYTES))
		arrive(b, 0, false);
}

/* The window closes when the app refuses, asks for nothing more, and opens again. */
static void test_window(void **state)
{
	static struct bench b;

	(void)state;
	bench_init(&b);
	b.refuse = true;
	for (unsigned i = 0; i < 100; i++)
		append(&b, 100000);
	for (unsigned i = 0; i < 100; i++) {
		deliver_all(&b);
		b.now += 10000;
		acknowledge(&b);
	}
	uint64_t limit = b.in.next + STREAM_WINDOW_BYTES;
	assert_int_equal(b.out.next, limit);
	assert_int_equal(b.out.una, limit); /* all that was sent has arrived: nothing is overdue */
	assert_true(stream_send_blocked(&b.out));
	assert_in_range(stream_recv_buffered(&b.in), 1, STREAM_WINDOW_BYTES + 100000);
	assert_false(stream_recv_window_grew(&b.in));
	b.refuse = false;
	assert_int_equal(stream_recv_resume(&b.in, take, &b, b.now), 0);
	assert_true(stream_recv_window_grew(&b.in));
	for (unsigned i = 0; i < 100; i++) {
		acknowledge(&b);
		b.now += 10000;
		deliver_all(&b);
	}
	assert_int_equal(b.received, 100);
	acknowledge(&b);
	assert_int_equal(b.freed, b.bytes);
	bench_free(&b);
}

/* An app that takes nothing for a while must not cost the stream what arrives in small records: all
 * of it is held and acknowledged, however many there are. */
static void test_small_records_while_held(void **state)
{
	static struct bench b;

	(void)state;
	bench_init(&b);
	b.refuse = true;
	for (unsigned i = 0; i < 4 * STREAM_SEGMENTS_MAX; i++) {
		append(&b, 20);
		b.now += 100;
		assert_true(send_record(&b, 100));
		arrive(&b, 0, false);
		if (i % 50 == 0)
			acknowledge(&b);
	}
	acknowledge(&b);
	assert_int_equal(b.out.una, b.out.end);
	assert_in_range(b.in.segment_count, 1, 1000);
	b.refuse = false;
	assert_int_equal(stream_recv_resume(&b.in, take, &b, b.now), 0);
	assert_int_equal(b.received, b.appended);
	bench_free(&b);
}

/* A long message reaches an app that takes parts while its end has not been sent, costs no memory,
 * and stops where the app refuses. */
static void test_parts(void **state)
{
	static struct bench b;
	static uint8_t half[500000];

	(void)state;
	bench_init(&b);
	b.in.parts = true;
	b.lengths[b.appended++] = 2 * sizeof half;
	for (size_t i = 0; i < sizeof half; i++)
		half[i] = pattern(0, i);
	assert_int_equal(stream_send_append(&b.out, bytes_of(half, 0), 5), -EINVAL);
	assert_int_equal(stream_send_append(&b.out, bytes_of(half, sizeof half), sizeof half), 0);
	b.out.congestion.cwnd_bytes = 4 * sizeof half;
	deliver_all(&b);
	assert_int_equal(b.part_have, sizeof half);
	assert_int_equal(stream_recv_buffered(&b.in), 0);
	assert_int_equal(stream_send_append(&b.out, bytes_of(half, 9), sizeof half - 8), -EINVAL);
	assert_int_equal(stream_send_append(&b.out, bytes_of(half, 10), 0), -EINVAL);
	b.refuse = true;
	for (size_t i = 0; i < sizeof half; i++)
		half[i] = pattern(0, sizeof half + i);
	assert_int_equal(stream_send_append(&b.out, bytes_of(half, sizeof half), 0), 0);
	deliver_all(&b);
	assert_int_equal(b.part_have, sizeof half);
	assert_int_equal(stream_recv_buffered(&b.in), sizeof half);
	b.refuse = false;
	assert_int_equal(stream_recv_resume(&b.in, take, &b, b.now), 0);
	assert_int_equal(b.received, 1);
	acknowledge(&b);
	assert_int_equal(b.freed, 2 * sizeof half);
	bench_free(&b);
}

static int feed(struct stream_recv *s, uint64_t offset, const void *data, size_t len)
{
	struct bench none = {.refuse = true};
	struct block *b = block_new(len);

	memcpy(b->data, data, len);
	int err = stream_recv_add(s, 1, offset, bytes_of(b->data, len), b, take, &none, 1);
	block_put(b);
	return err;
}

static void test_hostile_sender(void **state)
{
	static const uint8_t huge[4] = {1, 0, 0, 1}, zero[2000];
	struct stream_recv s;

	(void)state;
	stream_recv_init(&s);
	assert_int_equal(feed(&s, STREAM_WINDOW_BYTES, zero, 1), -EBADMSG);
	assert_int_equal(feed(&s, UINT64_MAX, zero, 2), -EBADMSG);
	assert_int_equal(feed(&s, UINT64_MAX - 1, zero, 2), -EBADMSG);
	assert_int_equal(feed(&s, STREAM_WINDOW_BYTES - 1, zero, 1), 0);
	assert_int_equal(feed(&s, 0, huge, 4), -EBADMSG); /* a message over MAX_MESSAGE_BYTES */
	stream_recv_free(&s);
	/* Every second byte: the segments are bounded. */
	stream_recv_init(&s);
	for (uint64_t i = 0; i < 3 * STREAM_SEGMENTS_MAX; i++)
		assert_int_equal(feed(&s, 1 + 2 * i, zero, 1), 0);
	assert_int_equal(s.segment_count, STREAM_SEGMENTS_MAX);
	stream_recv_free(&s);
}

static int lie(struct bench *b, struct stream_ack a)
{
	size_t freed;
	return stream_send_ack(&b->out, &a, b->now, &freed);
}

static void test_hostile_acks(void **state)
{
	static struct bench b;
	size_t freed = 0, total = 0;

	(void)state;
	bench_init(&b);
	append(&b, 500000);
	while (b.flying < 5)
		send_record(&b, 1000);
	assert_int_equal(lie(&b, (struct stream_ack){.cumulative = 5001}), -EBADMSG);
	assert_int_equal(lie(&b, (struct stream_ack){.range_count = 1, .ranges = {{1, 5001}}}),
			 -EBADMSG);
	assert_int_equal(lie(&b, (struct stream_ack){.limit = 10}), 0);
	assert_int_equal(b.out.peer_limit, STREAM_WINDOW_BYTES); /* it never falls */
	/* Ranges that lie around the cumulative are taken as what they say. */
	assert_int_equal(
		lie(&b, (struct stream_ack){.cumulative = 1500,
					    .range_count = 3,
					    .ranges = {{100, 200}, {1400, 2500}, {3000, 3100}}}),
		0);
	assert_int_equal(b.out.una, 2500);
	for (unsigned i = 0; i < 20000; i++) {
		struct stream_ack a = {.cumulative = any(10) ? any(3000) : any(600000),
				       .limit = rng,
				       .record = any(200),
				       .delay_us = any(1000000),
				       .range_count = (uint8_t)any(STREAM_ACK_RANGES_MAX + 1)};
		for (unsigned n = 0; n < a.range_count; n++) {
			a.ranges[n].start = any(any(20) ? 600000 : 3000);
			a.ranges[n].end = a.ranges[n].start + 1 + any(3);
		}
		b.now += any(2000);
		if (stream_send_ack(&b.out, &a, b.now, &freed) == 0)
			total += freed;
		stream_send_tick(&b.out, b.now);
		while (b.flying)
			lose(&b, 0);
		send_record(&b, 1000);
		assert_true(b.out.una <= b.out.next && b.out.next <= b.out.end);
		assert_true(b.out.inflight_bytes <= 1000 * b.out.sent_count);
	}
	assert_true(total == 0 || total == 500000);
	bench_free(&b);
}

static void test_ack_malformed(void **state)
{
	uint8_t buf[512];
	struct stream_ack a = {.range_count = 2, .ranges = {{5, 9}, {12, 13}}}, got;
	struct wbuf w = wbuf_init(buf, sizeof buf);

	(void)state;
	stream_ack_write(&w, &a);
	for (size_t len = 0; len <= wbuf_len(&w) + 1; len++) {
		struct rbuf r = rbuf_init(buf, len);
		assert_int_equal(stream_ack_read(&r, &got), len == wbuf_len(&w) ? 0 : -EBADMSG);
	}
	buf[28] = STREAM_ACK_RANGES_MAX + 1;
	struct rbuf r = rbuf_init(buf, sizeof buf);
	assert_int_equal(stream_ack_read(&r, &got), -EBADMSG);
	w = wbuf_init(buf, sizeof buf);
	a.ranges[1].end = a.ranges[1].start;
	stream_ack_write(&w, &a);
	r = rbuf_init(buf, wbuf_len(&w));
	assert_int_equal(stream_ack_read(&r, &got), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_small_records_while_held),
		cmocka_unit_test(test_hostile_sender),
		cmocka_unit_test(test_hostile_acks),
		cmocka_unit_test(test_ack_malformed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
