/* The queue of a transport: fair between routes, short in time, bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "core/egress.h"
#include "core/record.h"
#include "wire/packet.h"

#define LIMIT (4u << 20)
#define TARGET_US 5000u
#define INTERVAL_US 100000u
#define PACKET 1236u

struct bench {
	struct pkt_pool pool;
	struct egress e;
	uint64_t now, pushed;
};

static void bench_init(struct bench *b, uint64_t limit)
{
	memset(b, 0, sizeof *b);
	b->now = 1000000;
	pkt_pool_init(&b->pool, 100);
	egress_init(&b->e, &b->pool, limit, TARGET_US, INTERVAL_US);
}

static void bench_free(struct bench *b)
{
	egress_free(&b->e);
	assert_int_equal(b->pool.live, 0);
	pkt_pool_free(&b->pool);
}

/* One packet of a record that has `total` bytes; its number in the queue is in its body. */
static int push(struct bench *b, uint32_t label, uint8_t flags, uint64_t record, size_t len)
{
	struct block *k = block_new(len);
	struct pkt *p = pkt_new(&b->pool, k, k->data, len);
	struct fragment_header f = {.kind = RECORD_DATA, .record = record, .total = 60000};

	block_put(k);
	assert_non_null(p);
	memset(p->data, 0, len);
	p->data[0] = PACKET_DATA;
	fragment_header_write(p->data + HOP_HEADER_BYTES, &f);
	be64_put(p->data + HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES, b->pushed++);
	p->label = label;
	p->flags = flags;
	return egress_push(&b->e, p, b->now);
}

static uint64_t order_of(const struct pkt *p)
{
	return be64_get(p->data + HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES);
}

static uint64_t record_number(const struct pkt *p)
{
	struct fragment_header f;

	assert_int_equal(fragment_header_read(&f, p->data + HOP_HEADER_BYTES, 1), 0);
	return f.record;
}

/* --- order and fairness ------------------------------------------------------------------------
 */

static void test_first_in_first_out(void **state)
{
	static struct bench b;
	struct pkt *p;

	(void)state;
	bench_init(&b, LIMIT);
	assert_true(egress_empty(&b.e));
	assert_null(egress_pop(&b.e, NULL, b.now));
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(push(&b, 7, 0, i, PACKET), 0);
	assert_false(egress_empty(&b.e));
	for (unsigned i = 0; i < 200; i++) {
		p = egress_pop(&b.e, NULL, b.now);
		assert_int_equal(order_of(p), i);
		pkt_free(&b.pool, p);
	}
	assert_true(egress_empty(&b.e));
	assert_null(egress_pop(&b.e, NULL, b.now));
	bench_free(&b);
}

/* Of the first `n` packets that leave, the bytes of each label. */
static void drain(struct bench *b, unsigned n, uint64_t *bytes, unsigned labels)
{
	memset(bytes, 0, labels * sizeof *bytes);
	while (n--) {
		struct pkt *p = egress_pop(&b->e, NULL, b->now);
		assert_non_null(p);
		assert_in_range(p->label, 1, labels);
		bytes[p->label - 1] += p->len;
		pkt_free(&b->pool, p);
	}
}

/* A route with a hundred times as much in the queue, or with larger packets, gets no larger share.
 */
static void test_fair_between_routes(void **state)
{
	static struct bench b;
	uint64_t bytes[3];

	(void)state;
	bench_init(&b, LIMIT);
	for (unsigned i = 0; i < 2000; i++)
		push(&b, 1, 0, i, PACKET);
	for (unsigned i = 0; i < 500; i++)
		push(&b, 2, 0, i, PACKET);
	for (unsigned i = 0; i < 3000; i++)
		push(&b, 3, 0, i, PACKET / 6);
	drain(&b, 1500, bytes, 3);
	uint64_t all = bytes[0] + bytes[1] + bytes[2];
	for (unsigned i = 0; i < 3; i++)
		assert_in_range(bytes[i], all * 30 / 100, all * 37 / 100);
	bench_free(&b);
}

/* Who sends little now and then never waits behind who fills the queue: at most one turn. */
static void test_sparse_route_goes_first(void **state)
{
	static struct bench b;
	struct pkt *p;

	(void)state;
	bench_init(&b, LIMIT);
	for (unsigned i = 0; i < 2000; i++)
		push(&b, 1, 0, i, PACKET);
	for (unsigned i = 0; i < 50; i++) {
		unsigned waited = 0;
		push(&b, 2, 0, i, 100);
		do {
			p = egress_pop(&b.e, NULL, b.now);
			uint32_t label = p->label;
			pkt_free(&b.pool, p);
			if (label == 2)
				break;
		} while (++waited < 100);
		assert_in_range(waited, 0, 12);
		for (unsigned n = 0; n < 20; n++) {
			p = egress_pop(&b.e, NULL, b.now);
			assert_int_equal(p->label, 1);
			pkt_free(&b.pool, p);
		}
	}
	bench_free(&b);
}

/* What the source calls sparse does not wait behind the rest of its own route either. */
static void test_sparse_packets_of_a_route(void **state)
{
	static struct bench b;

	(void)state;
	bench_init(&b, LIMIT);
	for (unsigned i = 0; i < 2000; i++)
		push(&b, 1, PACKET_FLAG_DROPPABLE, i, PACKET);
	for (unsigned i = 0; i < 50; i++) {
		unsigned waited = 0;
		push(&b, 1, PACKET_FLAG_DROPPABLE | PACKET_FLAG_SPARSE, i, 100);
		for (;; waited++) {
			struct pkt *p = egress_pop(&b.e, NULL, b.now);
			bool sparse = p->flags & PACKET_FLAG_SPARSE;
			pkt_free(&b.pool, p);
			if (sparse)
				break;
		}
		assert_in_range(waited, 0, 12);
		for (unsigned n = 0; n < 20; n++)
			pkt_free(&b.pool, egress_pop(&b.e, NULL, b.now));
	}
	bench_free(&b);
}

/* Who marks everything has the share of one route more, not a byte beyond, and does not get ahead
 * of the others' sparse packets. */
static void test_marking_everything_gains_one_share(void **state)
{
	static struct bench b;
	uint64_t bytes[3];

	(void)state;
	bench_init(&b, LIMIT);
	for (unsigned i = 0; i < 1500; i++) {
		push(&b, 1, 0, i, PACKET);
		push(&b, 1, PACKET_FLAG_SPARSE, i, PACKET / 10);
		push(&b, 2, PACKET_FLAG_SPARSE, i, PACKET);
		if (i % 2)
			push(&b, 2, 0, i, PACKET);
	}
	drain(&b, 1200, bytes, 2); /* until the small ones run out: four queues, a quarter each */
	uint64_t all = bytes[0] + bytes[1];
	assert_in_range(bytes[1], all * 46 / 100, all * 54 / 100);
	bench_free(&b);
	bench_init(&b, LIMIT);
	for (unsigned i = 0; i < 1000; i++) {
		push(&b, 1, 0, i, PACKET);
		push(&b, 2, PACKET_FLAG_SPARSE, i, PACKET);
		push(&b, 3, 0, i, PACKET);
	}
	drain(&b, 1500, bytes, 3); /* nothing but marked packets: no more than the others */
	assert_in_range(bytes[1], PACKET * 470, PACKET * 530);
	bench_free(&b);
}

/* --- limit -------------------------------------------------------------------------------------
 */

static void test_limit(void **state)
{
	static struct bench b;
	unsigned taken = 0;

	(void)state;
	bench_init(&b, 100 * PACKET);
	while (push(&b, 1 + taken % 5, 0, taken, PACKET) == 0)
		taken++;
	assert_int_equal(taken, 100);
	assert_int_equal(push(&b, 9, 0, 1, PACKET), -ENOBUFS);
	assert_int_equal(b.e.dropped, 2);
	assert_int_equal(b.e.bytes, 100 * PACKET);
	assert_int_equal(b.pool.live, 100);
	pkt_free(&b.pool, egress_pop(&b.e, NULL, b.now));
	assert_int_equal(push(&b, 9, 0, 1, PACKET), 0);
	bench_free(&b); /* frees what is left */
}

/* --- CoDel -------------------------------------------------------------------------------------
 */

struct ran {
	unsigned out, marked, dropped;
	uint64_t longest_wait_us;
};

/* `seconds` of packets that come at `in_us` and go at `out_us` between each, in records of 10. */
static struct ran run(struct bench *b, uint8_t flags, uint64_t in_us, uint64_t out_us,
		      uint64_t seconds)
{
	struct ran r = {0};
	uint64_t begin = b->now, in = b->now, out = b->now, dropped = b->e.dropped;

	while (b->now < begin + seconds * 1000000) {
		b->now = in < out ? in : out;
		if (b->now == in) {
			push(b, 1, flags, b->pushed / 10, PACKET);
			in += in_us;
			continue;
		}
		out += out_us;
		struct pkt *p = egress_pop(&b->e, NULL, b->now);
		if (!p)
			continue;
		if (b->now - p->queued_us > r.longest_wait_us)
			r.longest_wait_us = b->now - p->queued_us;
		r.out++;
		r.marked += (p->flags & PACKET_FLAG_MARKED) != 0;
		pkt_free(&b->pool, p);
	}
	r.dropped = (unsigned)(b->e.dropped - dropped);
	return r;
}

/* A queue that is short, or long for a moment only, is left alone. */
static void test_short_queues_are_left_alone(void **state)
{
	static struct bench b;

	(void)state;
	bench_init(&b, LIMIT);
	struct ran r = run(&b, 0, 120, 100, 3);
	assert_int_equal(r.marked + r.dropped, 0);
	for (unsigned i = 0; i < 300; i++) /* 30 ms long */
		push(&b, 1, 0, b.pushed / 10, PACKET);
	r = run(&b, 0, 200, 100, 1);
	assert_int_equal(r.marked + r.dropped, 0);
	assert_true(r.longest_wait_us > 20000);
	bench_free(&b);
}

/* Nobody slows down: streams are marked more and more often, by the law 1/sqrt(n), never dropped.
 */
static void test_streams_are_marked(void **state)
{
	static struct bench b;

	(void)state;
	bench_init(&b, LIMIT);
	struct ran first = run(&b, 0, 90, 100, 1), second = run(&b, 0, 100, 100, 1);
	assert_int_equal(first.dropped + second.dropped, 0);
	/* About one more each interval / sqrt(n): n = (t / (2 * interval))^2. */
	assert_in_range(first.marked, 10, 35);
	assert_true(second.marked > first.marked + 10);
	assert_int_equal(b.e.marked, first.marked + second.marked);
	/* All is well again: it stops. */
	run(&b, 0, 200, 50, 1);
	assert_int_equal(run(&b, 0, 120, 100, 2).marked, 0);
	bench_free(&b);
}

/* A mark that a packet brought stays on it. */
static void test_marks_are_kept(void **state)
{
	static struct bench b;

	(void)state;
	bench_init(&b, LIMIT);
	push(&b, 1, PACKET_FLAG_MARKED, 1, PACKET);
	struct pkt *p = egress_pop(&b.e, NULL, b.now);
	assert_int_equal(p->flags, PACKET_FLAG_MARKED);
	pkt_free(&b.pool, p);
	bench_free(&b);
}

/* What of a record leaves is its beginning. */
static bool take_prefix(struct bench *b, uint8_t *seen)
{
	struct pkt *p = egress_pop(&b->e, NULL, b->now);

	if (!p)
		return false;
	assert_int_equal(order_of(p) % 10, seen[record_number(p)]++);
	assert_int_equal(p->flags & PACKET_FLAG_MARKED, 0);
	pkt_free(&b->pool, p);
	return true;
}

/* Datagrams are dropped: from the chosen packet to the end of its record, and no other. */
static void test_whole_records_are_dropped(void **state)
{
	static struct bench b;
	static uint8_t seen[2001];
	unsigned whole = 0, broken = 0, out = 0;

	(void)state;
	bench_init(&b, LIMIT);
	memset(seen, 0, sizeof seen);
	for (unsigned tick = 0; tick < 20000; tick++) {
		b.now += 90;
		push(&b, 1, PACKET_FLAG_DROPPABLE, b.pushed / 10, PACKET);
		if (tick % 10 != 9) /* one tenth too much comes in */
			out += take_prefix(&b, seen);
	}
	while (take_prefix(&b, seen))
		out++;
	for (unsigned i = 0; i < 2000; i++) {
		whole += seen[i] == 10;
		broken += seen[i] > 0 && seen[i] < 10;
	}
	assert_int_equal(b.e.dropped + out, b.pushed);
	assert_int_equal(b.e.marked, 0);
	assert_true(b.e.dropped >= 200);
	/* Without regard for records nearly each drop would have broken another one. */
	assert_true(broken <= b.e.dropped / 4);
	assert_true(whole > 1700);
	bench_free(&b);
}

/* A full queue of one route does not get another route's packets marked. */
static void test_marks_hit_who_queues(void **state)
{
	static struct bench b;
	unsigned marked[2] = {0};

	(void)state;
	bench_init(&b, LIMIT);
	for (unsigned tick = 0; tick < 20000; tick++) {
		b.now += 100;
		push(&b, 1, 0, tick, PACKET);
		if (tick % 20 == 0)
			push(&b, 2, 0, tick, 200);
		struct pkt *p = egress_pop(&b.e, NULL, b.now);
		marked[p->label - 1] += (p->flags & PACKET_FLAG_MARKED) != 0;
		pkt_free(&b.pool, p);
	}
	assert_true(marked[0] > 10);
	assert_int_equal(marked[1], 0);
	bench_free(&b);
}

static void test_trim(void **state)
{
	static struct bench b;

	(void)state;
	bench_init(&b, LIMIT);
	egress_trim(&b.e); /* there is nothing yet */
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 20; i++)
			assert_int_equal(push(&b, i, 0, i, PACKET), 0);
		egress_trim(&b.e);
		assert_non_null(b.e.flows);
		for (unsigned i = 0; i < 20; i++)
			pkt_free(&b.pool, egress_pop(&b.e, NULL, b.now));
		egress_trim(&b.e); /* before the empty queues have left their list */
		assert_null(b.e.flows);
		assert_null(egress_pop(&b.e, NULL, b.now));
	}
	bench_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_in_first_out),
		cmocka_unit_test(test_fair_between_routes),
		cmocka_unit_test(test_sparse_route_goes_first),
		cmocka_unit_test(test_sparse_packets_of_a_route),
		cmocka_unit_test(test_marking_everything_gains_one_share),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_short_queues_are_left_alone),
		cmocka_unit_test(test_streams_are_marked),
		cmocka_unit_test(test_marks_are_kept),
		cmocka_unit_test(test_whole_records_are_dropped),
		cmocka_unit_test(test_marks_hit_who_queues),
		cmocka_unit_test(test_trim),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
