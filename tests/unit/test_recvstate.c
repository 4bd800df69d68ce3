/* What has arrived, against an array of flags. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "core/recvstate.h"

#define SEQS 6000u

static uint64_t rng = 88172645463325252u;

static uint32_t any(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 16) % below);
}

struct naive {
	bool got[SEQS + 1];
	uint64_t latest, latest_us;
	uint8_t tries;
};

static uint64_t naive_cumulative(const struct naive *o)
{
	uint64_t n = 0;
	while (o->got[n])
		n++;
	return n;
}

static uint64_t naive_largest(const struct naive *o)
{
	uint64_t n = SEQS;
	while (n && !o->got[n - 1])
		n--;
	return n - 1;
}

/* All the ranges above the cumulative ack; how many. */
static size_t naive_ranges(const struct naive *o, struct range *v)
{
	size_t n = 0;
	for (uint64_t s = naive_cumulative(o); s < SEQS; s++) {
		if (!o->got[s])
			continue;
		if (n && v[n - 1].end == s)
			v[n - 1].end++;
		else
			v[n++] = (struct range){s, s + 1};
	}
	return n;
}

/* All of them when they fit; else some in order, the nearest and the newest third among them. */
static void check_ranges(const struct ack *a, const struct range *want, size_t n)
{
	const size_t third = ACK_RANGES_MAX / 3;
	size_t at = 0;

	if (n <= ACK_RANGES_MAX)
		assert_int_equal(a->range_count, n);
	else
		assert_in_range(a->range_count, 2 * third, ACK_RANGES_MAX);
	for (size_t i = 0; i < a->range_count; i++, at++) {
		if (n > ACK_RANGES_MAX && i == a->range_count - third)
			at = n - third;
		while (at < n && want[at].start != a->ranges[i].start) {
			assert_in_range(i, third, a->range_count - third - 1);
			at++;
		}
		assert_in_range(at, 0, n - 1);
		assert_int_equal(a->ranges[i].end, want[at].end);
	}
}

static void check_ack(struct recvstate *s, const struct naive *o, uint64_t now)
{
	static struct range want[SEQS];
	size_t n = naive_ranges(o, want);
	uint8_t buf[ACK_MAX_BYTES];
	struct wbuf w = wbuf_init(buf, sizeof buf);
	struct ack told, a;

	recvstate_ack(s, &told, now);
	ack_write(&w, &told);
	assert_false(w.bad);
	assert_int_equal(ack_read(&a, bytes_of(buf, wbuf_len(&w))), 0);
	assert_int_equal(a.cumulative, naive_cumulative(o));
	assert_int_equal(a.largest, naive_largest(o));
	assert_int_equal(a.latest, o->latest);
	assert_int_equal(a.latest_tries, o->tries);
	assert_int_equal(a.delay_us, now - o->latest_us);
	check_ranges(&a, want, n);
	assert_int_equal(s->pending, 0);
	assert_false(s->urgent);
}

static void add(struct recvstate *s, struct naive *o, uint64_t seq, uint64_t now)
{
	struct hop_header h = {.type = PACKET_DATA, .seq = seq, .tries = (uint8_t)any(5)};
	h.flags = any(4) == 0 ? PACKET_FLAG_MARKED : 0;
	uint32_t pending = s->pending;
	bool gap =
		!o->got[seq] && seq > naive_cumulative(o) && !o->got[seq - 1] && !o->got[seq + 1];
	enum recv_result result = recvstate_add(s, &h, now);

	assert_int_equal(result, o->got[seq] ? RECV_DUPLICATE : RECV_NEW);
	assert_int_equal(s->pending, pending + 1);
	if (gap || o->got[seq])
		assert_true(s->urgent);
	if (o->got[seq])
		return;
	o->got[seq] = true;
	o->latest = seq;
	o->latest_us = now;
	o->tries = h.tries;
}

/* A window of `spread` sequences that moves on: the wider, the more ranges. */
static void run(uint32_t spread, uint32_t steps)
{
	static struct naive o;
	struct recvstate s;
	uint64_t now = 5000;

	memset(&o, 0, sizeof o);
	recvstate_init(&s);
	for (uint32_t i = 0; i < steps; i++) {
		uint64_t base = any(3) ? s.cumulative : (uint64_t)SEQS * i / steps;
		uint64_t seq = base + any(spread);
		if (seq >= SEQS)
			seq = any(SEQS);
		now += any(1000);
		add(&s, &o, any(8) ? seq : s.cumulative < SEQS ? s.cumulative : 0, now);
		if (any(20) == 0)
			check_ack(&s, &o, now + any(1000));
	}
	for (uint64_t seq = 0; seq < SEQS; seq++)
		add(&s, &o, seq, now);
	check_ack(&s, &o, now);
	assert_int_equal(s.cumulative, SEQS);
	recvstate_free(&s);
}

static void test_oracle(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		run(2, 1000);
		run(40, 3000);
		run(900, 3000);
	}
}

static enum recv_result add_seq(struct recvstate *s, uint64_t seq)
{
	struct hop_header h = {.type = PACKET_DATA, .seq = seq};
	return recvstate_add(s, &h, 1);
}

static void test_window(void **state)
{
	struct recvstate s;

	(void)state;
	recvstate_init(&s);
	assert_int_equal(add_seq(&s, RECV_WINDOW_PACKETS), RECV_OUT_OF_WINDOW);
	assert_int_equal(add_seq(&s, UINT64_MAX), RECV_OUT_OF_WINDOW);
	assert_int_equal(s.pending, 0);
	assert_int_equal(add_seq(&s, RECV_WINDOW_PACKETS - 1), RECV_NEW);
	assert_int_equal(add_seq(&s, 0), RECV_NEW);
	assert_int_equal(add_seq(&s, RECV_WINDOW_PACKETS), RECV_NEW);
	assert_int_equal(add_seq(&s, RECV_WINDOW_PACKETS + 1), RECV_OUT_OF_WINDOW);
	assert_int_equal(add_seq(&s, 0), RECV_DUPLICATE);
	recvstate_free(&s);
}

/* Every second sequence: a peer must not make us hold more ranges than the limit, and what is not
 * held is not acknowledged. */
static void test_ranges_are_bounded(void **state)
{
	struct recvstate s;
	struct ack a;

	(void)state;
	recvstate_init(&s);
	for (uint64_t i = 0; i < RECV_RANGES_MAX; i++)
		assert_int_equal(add_seq(&s, 1 + 2 * i), RECV_NEW);
	uint64_t beyond = 1 + 2 * (uint64_t)RECV_RANGES_MAX;
	assert_int_equal(add_seq(&s, beyond), RECV_OUT_OF_WINDOW);
	recvstate_ack(&s, &a, 1);
	assert_int_equal(a.largest, beyond - 2);
	assert_in_range(a.range_count, ACK_RANGES_MAX / 2, ACK_RANGES_MAX);
	assert_int_equal(add_seq(&s, 0), RECV_NEW);
	assert_int_equal(s.cumulative, 2);
	assert_int_equal(add_seq(&s, beyond), RECV_NEW);
	recvstate_free(&s);
}

/* With more ranges than an ack names, each is named in some ack before long. */
static void test_every_range_has_its_turn(void **state)
{
	static bool named[RECV_RANGES_MAX];
	struct recvstate s;
	struct ack a;

	(void)state;
	recvstate_init(&s);
	for (uint64_t i = 0; i < RECV_RANGES_MAX; i++)
		add_seq(&s, 1 + 2 * i);
	for (unsigned i = 0; i < 2 * RECV_RANGES_MAX / (ACK_RANGES_MAX / 3); i++) {
		recvstate_ack(&s, &a, 1);
		for (unsigned n = 0; n < a.range_count; n++)
			named[a.ranges[n].start / 2] = true;
	}
	for (size_t i = 0; i < RECV_RANGES_MAX; i++)
		assert_true(named[i]);
	recvstate_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oracle),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_ranges_are_bounded),
		cmocka_unit_test(test_every_range_has_its_turn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
