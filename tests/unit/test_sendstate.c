/* Sent packets against a plain array, and acks from a peer who lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "core/recvstate.h"
#include "core/sendstate.h"

#define SEQS 4000u
#define BYTES 100u

static uint64_t rng = 0x9e3779b97f4a7c15u;

static uint32_t any(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 16) % below);
}

struct bench {
	struct pkt_pool pool;
	struct sendstate s;
	struct recvstate peer;
	struct rtt rtt;
	bool acked[SEQS], flying[SEQS]; /* flying: sent and neither acked nor declared lost */
	uint64_t now;
};

static void bench_init(struct bench *b)
{
	memset(b, 0, sizeof *b);
	b->now = 1000000;
	pkt_pool_init(&b->pool, 100);
	sendstate_init(&b->s, &b->pool);
	recvstate_init(&b->peer);
}

static void bench_free(struct bench *b)
{
	sendstate_free(&b->s);
	recvstate_free(&b->peer);
	assert_int_equal(b->pool.live, 0);
	pkt_pool_free(&b->pool);
}

static struct pkt *enter(struct bench *b)
{
	struct block *k = block_new(BYTES);
	struct pkt *p = pkt_new(&b->pool, k, k->data, BYTES);

	block_put(k);
	assert_non_null(p);
	assert_int_equal(sendstate_enter(&b->s, p), 0);
	return p;
}

/* Sends one packet (lost ones first), and with luck the peer gets it. */
static void send_one(struct bench *b, unsigned loss_percent)
{
	struct pkt *p = sendstate_take_lost(&b->s, NULL);

	if (!p && (!sendstate_window(&b->s) || b->s.next >= SEQS))
		return;
	if (!p)
		p = enter(b);
	struct hop_header h = {.type = PACKET_DATA, .seq = p->seq, .tries = (uint8_t)p->tries};
	sendstate_transmitted(&b->s, p, b->now);
	assert_false(b->acked[p->seq]);
	b->flying[p->seq] = true;
	if (any(100) >= loss_percent)
		recvstate_add(&b->peer, &h, b->now + 500);
}

static void check_counts(const struct bench *b)
{
	uint64_t flying = 0, base = 0;

	for (uint64_t seq = 0; seq < b->s.next; seq++)
		flying += b->flying[seq];
	while (base < b->s.next && b->acked[base])
		base++;
	assert_int_equal(b->s.inflight_packets, flying);
	assert_int_equal(b->s.inflight_bytes, flying * BYTES);
	assert_int_equal(b->s.base, base);
}

/* What the ack says, by the array. */
static uint64_t naive_ack(struct bench *b, const struct ack *a)
{
	uint64_t newly = 0;

	for (uint64_t seq = 0; seq < b->s.next; seq++) {
		bool said = seq < a->cumulative;
		for (unsigned i = 0; i < a->range_count; i++)
			said |= seq >= a->ranges[i].start && seq < a->ranges[i].end;
		if (said && !b->acked[seq]) {
			newly++;
			b->acked[seq] = true;
			b->flying[seq] = false;
		}
	}
	return newly;
}

static void take_ack(struct bench *b)
{
	struct sendstate_acked out;
	struct ack a;

	recvstate_ack(&b->peer, &a, b->now);
	uint64_t want = naive_ack(b, &a);
	assert_int_equal(sendstate_ack(&b->s, &a, &b->rtt, b->now, &out), 0);
	assert_int_equal(out.packets, want);
	assert_int_equal(out.bytes, want * BYTES);
	if (out.rtt_us)
		rtt_sample(&b->rtt, out.rtt_us, a.delay_us);
	check_counts(b);
}

/* Lost is only what was sent before something that has arrived. */
static void detect(struct bench *b)
{
	uint64_t next, before = b->s.lost_packets;
	struct pkt *p;

	uint64_t bytes = sendstate_detect(&b->s, &b->rtt, b->now, &next);
	assert_int_equal(bytes, (b->s.lost_packets - before) * BYTES);
	TAILQ_FOREACH(p, &b->s.lost, queue) {
		assert_true(!b->flying[p->seq] || p->order < b->s.newest_order);
		b->flying[p->seq] = false;
	}
	if (next != UINT64_MAX)
		assert_true(next > b->now);
	check_counts(b);
}

static void run(unsigned loss_percent)
{
	static struct bench b;
	unsigned rounds = 0;

	bench_init(&b);
	while (b.s.base < SEQS) {
		assert_in_range(rounds++, 0, 20000);
		for (unsigned n = any(30); n; n--)
			send_one(&b, loss_percent);
		b.now += 1000 + any(3000);
		if (b.peer.largest)
			take_ack(&b);
		b.now += any(1000);
		detect(&b);
		if (any(10) == 0 && b.s.inflight_packets) {
			uint64_t lost = b.s.lost_packets;
			struct pkt *oldest = TAILQ_FIRST(&b.s.flight);
			b.flying[oldest->seq] = false;
			sendstate_probe(&b.s, 1);
			assert_int_equal(b.s.lost_packets, lost + 1);
			check_counts(&b);
		}
	}
	assert_int_equal(b.s.inflight_packets + b.s.lost_packets, 0);
	assert_int_equal(b.peer.cumulative, SEQS);
	bench_free(&b);
}

static void test_oracle(void **state)
{
	(void)state;
	run(0);
	run(5);
	run(30);
	run(70);
}

static void send_n(struct bench *b, unsigned n)
{
	while (n--) {
		struct pkt *p = enter(b);
		sendstate_transmitted(&b->s, p, b->now);
		b->now += 10;
	}
}

static struct ack ack_of(uint64_t cumulative, uint64_t largest, uint64_t latest)
{
	return (struct ack){.cumulative = cumulative, .largest = largest, .latest = latest};
}

static void test_window(void **state)
{
	static struct bench b;
	struct sendstate_acked out;

	(void)state;
	bench_init(&b);
	send_n(&b, RECV_WINDOW_PACKETS);
	assert_int_equal(sendstate_window(&b.s), 0);
	struct ack a = ack_of(1, RECV_WINDOW_PACKETS - 1, 0);
	assert_int_equal(sendstate_ack(&b.s, &a, &b.rtt, b.now, &out), 0);
	assert_int_not_equal(sendstate_window(&b.s), 0);
	assert_int_equal(b.s.inflight_packets, RECV_WINDOW_PACKETS - 1);
	bench_free(&b);
}

static void test_packet_threshold(void **state)
{
	static struct bench b;
	struct sendstate_acked out;
	uint64_t next;

	(void)state;
	bench_init(&b);
	rtt_sample(&b.rtt, 50000, 0);
	send_n(&b, 8);
	b.now += 20000;
	struct ack a = ack_of(0, 4, 4);
	a.range_count = 1;
	a.ranges[0].start = 4;
	a.ranges[0].end = 5;
	assert_int_equal(sendstate_ack(&b.s, &a, &b.rtt, b.now, &out), 0);
	/* 0 and 1 are 4 and 3 transmissions older than 4; 2 and 3 wait for their time. */
	assert_int_equal(sendstate_detect(&b.s, &b.rtt, b.now, &next), 2 * BYTES);
	assert_int_equal(next, 1000000 + 20 + 50000 * 9 / 8);
	assert_int_equal(sendstate_detect(&b.s, &b.rtt, next, &next), BYTES);
	assert_int_equal(sendstate_detect(&b.s, &b.rtt, next, &next), BYTES);
	assert_int_equal(next, UINT64_MAX);
	/* What was sent later than 4 is not touched however long it takes. */
	assert_int_equal(sendstate_detect(&b.s, &b.rtt, b.now + 1000000000, &next), 0);
	assert_int_equal(b.s.inflight_packets, 3);
	bench_free(&b);
}

static void test_spurious_widens(void **state)
{
	static struct bench b;
	struct sendstate_acked out;
	uint64_t next;

	(void)state;
	bench_init(&b);
	rtt_sample(&b.rtt, 50000, 0);
	send_n(&b, 5);
	struct ack a = ack_of(0, 4, 4);
	a.range_count = 1;
	a.ranges[0].start = 4;
	a.ranges[0].end = 5;
	b.now += 50000;
	assert_int_equal(sendstate_ack(&b.s, &a, &b.rtt, b.now, &out), 0);
	assert_int_equal(sendstate_detect(&b.s, &b.rtt, b.now, &next), 2 * BYTES);
	/* The first comes after all, while it waits to be sent again; the second just after it
	 * was. */
	struct pkt *p = sendstate_take_lost(&b.s, NULL);
	assert_int_equal(p->seq, 0);
	sendstate_transmitted(&b.s, p, b.now);
	b.now += 100;
	a = ack_of(2, 4, 1);
	assert_int_equal(sendstate_ack(&b.s, &a, &b.rtt, b.now, &out), 0);
	assert_int_equal(out.packets, 2);
	assert_int_equal(out.spurious, 2);
	assert_int_equal(out.rtt_us, 50140); /* of its first transmission: the ack says so */
	assert_true(b.s.reordering);
	bench_free(&b);
}

/* The round trip is of the transmission that the ack names, or there is none. */
static void test_rtt_of_retransmission(void **state)
{
	static struct bench b;
	struct sendstate_acked out;

	(void)state;
	bench_init(&b);
	send_n(&b, 1);
	sendstate_probe(&b.s, 1);
	b.now += 70000;
	sendstate_transmitted(&b.s, sendstate_take_lost(&b.s, NULL), b.now);
	b.now += 30000;
	struct ack a = ack_of(1, 0, 0);
	a.latest_tries = 1;
	assert_int_equal(sendstate_ack(&b.s, &a, &b.rtt, b.now, &out), 0);
	assert_int_equal(out.rtt_us, 30000);
	send_n(&b, 1);
	sendstate_probe(&b.s, 1);
	sendstate_transmitted(&b.s, sendstate_take_lost(&b.s, NULL), b.now);
	a = ack_of(2, 1, 1);
	assert_int_equal(sendstate_ack(&b.s, &a, &b.rtt, b.now + 50, &out), 0);
	assert_int_equal(out.packets, 1);
	assert_int_equal(out.rtt_us, 60);
	/* The second of three: that one's time is not known any more. */
	send_n(&b, 1);
	for (unsigned i = 0; i < 2; i++) {
		sendstate_probe(&b.s, 1);
		sendstate_transmitted(&b.s, sendstate_take_lost(&b.s, NULL), b.now);
	}
	a = ack_of(3, 2, 2);
	a.latest_tries = 1;
	assert_int_equal(sendstate_ack(&b.s, &a, &b.rtt, b.now + 50, &out), 0);
	assert_int_equal(out.packets, 1);
	assert_int_equal(out.rtt_us, 0);
	bench_free(&b);
}

/* A retransmission is on its way when the original comes after all, too late to be told from it:
 * what was sent in between must not look overtaken, or the whole flight goes again. */
static void test_doubtful_ack_condemns_nobody(void **state)
{
	static struct bench b;
	struct sendstate_acked out;
	uint64_t next;

	(void)state;
	bench_init(&b);
	rtt_sample(&b.rtt, 1000, 0);
	send_n(&b, 100);
	b.now += 1000;
	struct ack a = ack_of(0, 4, 4);
	a.range_count = 1;
	a.ranges[0].start = 1;
	a.ranges[0].end = 5;
	assert_int_equal(sendstate_ack(&b.s, &a, &b.rtt, b.now, &out), 0);
	assert_int_equal(sendstate_detect(&b.s, &b.rtt, b.now, &next), BYTES);
	sendstate_transmitted(&b.s, sendstate_take_lost(&b.s, NULL), b.now);
	b.now += 1100;
	a = ack_of(6, 5, 5); /* 0, once or again, and 5 */
	assert_int_equal(sendstate_ack(&b.s, &a, &b.rtt, b.now, &out), 0);
	assert_int_equal(out.packets, 2);
	assert_int_equal(sendstate_detect(&b.s, &b.rtt, b.now, &next), 0);
	assert_int_equal(b.s.inflight_packets, 94);
	/* When the ack names it as the one that came last there is no doubt. */
	sendstate_probe(&b.s, 1);
	struct pkt *p = sendstate_take_lost(&b.s, NULL);
	sendstate_transmitted(&b.s, p, b.now);
	b.now += 1100;
	a = ack_of(7, 6, 6);
	a.latest_tries = 1;
	assert_int_equal(sendstate_ack(&b.s, &a, &b.rtt, b.now, &out), 0);
	assert_int_equal(sendstate_detect(&b.s, &b.rtt, b.now, &next), 93 * BYTES);
	bench_free(&b);
}

/* Whatever an ack that passed ack_read says: refused, or the counts stay whole. */
static void test_hostile_acks(void **state)
{
	static struct bench b;
	struct sendstate_acked out;
	struct ack a;
	unsigned taken = 0, refused = 0;

	(void)state;
	bench_init(&b);
	assert_int_equal(sendstate_ack(&b.s, &(struct ack){.largest = 0}, &b.rtt, b.now, &out),
			 -EBADMSG);
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t buf[ACK_MAX_BYTES];
		struct wbuf w = wbuf_init(buf, sizeof buf);
		if (b.s.next < SEQS && any(2))
			send_n(&b, 1 + any(3));
		a = (struct ack){.latest_tries = (uint8_t)any(3), .range_count = (uint8_t)any(4)};
		uint64_t at = any(40) ? any(SEQS) : any(2) ? UINT64_MAX - any(100) : b.s.next;
		a.cumulative = at;
		for (unsigned n = 0; n < a.range_count; n++) {
			a.ranges[n].start = at += 1 + any(20);
			a.ranges[n].end = at += 1 + any(20);
		}
		a.largest = at + any(any(2) ? 3 : SEQS) - 1;
		a.latest = a.largest - any(3);
		ack_write(&w, &a);
		if (ack_read(&a, bytes_of(buf, wbuf_len(&w))) != 0)
			continue;
		uint64_t live = b.pool.live;
		b.now += any(100);
		if (sendstate_ack(&b.s, &a, &b.rtt, b.now, &out) != 0) {
			assert_int_equal(b.pool.live, live);
			refused++;
			continue;
		}
		taken++;
		assert_int_equal(b.pool.live, live - out.packets);
		assert_int_equal(b.s.inflight_packets, b.pool.live);
		uint64_t held = 0;
		for (uint64_t seq = b.s.base; seq < b.s.next; seq++)
			held += b.s.ring[seq & (b.s.capacity - 1)] != NULL;
		assert_int_equal(held, b.pool.live);
		assert_true(b.s.base >= a.cumulative);
	}
	assert_true(taken > 100 && refused > 1000);
	bench_free(&b);
}

static void test_trim(void **state)
{
	static struct bench b;
	struct sendstate_acked out;

	(void)state;
	bench_init(&b);
	sendstate_trim(&b.s); /* there is nothing yet */
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 200; i++)
			send_one(&b, 0);
		sendstate_trim(&b.s);
		assert_true(b.s.capacity >= 200);
		struct ack a = {.cumulative = b.s.next, .largest = b.s.next - 1};
		assert_int_equal(sendstate_ack(&b.s, &a, &b.rtt, b.now, &out), 0);
		assert_int_equal(out.packets, 200);
		sendstate_trim(&b.s);
		assert_int_equal(b.s.capacity, 0);
		assert_null(b.s.ring);
	}
	bench_free(&b);
}

/* Packet `seq` arrives alone; whether its rate may be too low. */
static bool limited_rate(struct bench *b, uint64_t seq)
{
	struct sendstate_acked out;
	struct ack a = {.cumulative = b->s.base, .largest = b->s.next - 1, .latest = seq};

	b->now += 1000;
	a.range_count = seq != b->s.base;
	a.cumulative += seq == b->s.base;
	a.ranges[0].start = seq;
	a.ranges[0].end = seq + 1;
	assert_int_equal(sendstate_ack(&b->s, &a, &b->rtt, b->now, &out), 0);
	assert_int_equal(out.packets, 1);
	return out.app_limited;
}

/* What is sent after the sender ran out counts as its own rate, until all that was under way then
 * has arrived. */
static void test_starved(void **state)
{
	static struct bench b;

	(void)state;
	bench_init(&b);
	for (unsigned i = 0; i < 4; i++)
		send_one(&b, 100);
	sendstate_starved(&b.s);
	for (unsigned i = 0; i < 2; i++)
		send_one(&b, 100);
	for (uint64_t seq = 0; seq < 6; seq++)
		assert_int_equal(limited_rate(&b, seq), seq >= 4);
	send_one(&b, 100); /* and now the path is as full as it can be */
	assert_false(limited_rate(&b, 6));
	sendstate_starved(&b.s); /* with nothing under way: the next flight, and no more */
	send_one(&b, 100);
	send_one(&b, 100);
	assert_true(limited_rate(&b, 7));
	send_one(&b, 100);
	assert_true(limited_rate(&b, 8));
	assert_false(limited_rate(&b, 9));
	bench_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_starved),
		cmocka_unit_test(test_oracle),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_packet_threshold),
		cmocka_unit_test(test_spurious_widens),
		cmocka_unit_test(test_rtt_of_retransmission),
		cmocka_unit_test(test_doubtful_ack_condemns_nobody),
		cmocka_unit_test(test_hostile_acks),
		cmocka_unit_test(test_trim),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
