/* CUBIC against RFC 9438's formulas, and the round-trip estimate against RFC 9002's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "core/congestion.h"
#include "core/rtt.h"

#define PACKET 1400u
#define RTT_US 50000u
#define WINDOW_MAX (16u << 20)

static double packets(const struct congestion *c)
{
	return (double)c->cwnd_bytes / PACKET;
}

/* One round trip in which a whole window is acknowledged. */
static void round_trip(struct congestion *c, uint64_t *now)
{
	uint64_t n = c->cwnd_bytes / PACKET;
	for (uint64_t i = 0; i < n; i++)
		congestion_acked(c, PACKET, RTT_US, true, *now + RTT_US * i / n);
	*now += RTT_US;
}

static void test_slow_start_doubles(void **state)
{
	struct congestion c;
	uint64_t now = 1000000;

	(void)state;
	congestion_init(&c, CONGESTION_CUBIC, PACKET, 0);
	uint64_t start = c.cwnd_bytes;
	assert_in_range(start, 10 * PACKET, 64 * PACKET);
	for (unsigned i = 1; i <= 4; i++) {
		round_trip(&c, &now);
		assert_int_equal(c.cwnd_bytes, start << i);
	}
	for (unsigned i = 0; i < 12; i++)
		round_trip(&c, &now);
	assert_int_equal(c.cwnd_bytes, WINDOW_MAX);
}

static void test_no_growth_unless_limited(void **state)
{
	struct congestion c;

	(void)state;
	congestion_init(&c, CONGESTION_CUBIC, PACKET, 0);
	uint64_t start = c.cwnd_bytes;
	for (unsigned i = 0; i < 1000; i++)
		congestion_acked(&c, PACKET, RTT_US, false, 1000000 + i);
	assert_int_equal(c.cwnd_bytes, start);
}

static void test_one_reduction_per_round_trip(void **state)
{
	struct congestion c;

	(void)state;
	congestion_init(&c, CONGESTION_CUBIC, PACKET, 0);
	c.cwnd_bytes = 1000 * PACKET;
	congestion_lost(&c, 900000, 1000000);
	assert_in_range(c.cwnd_bytes, 700 * PACKET - 1, 700 * PACKET);
	congestion_lost(&c, 950000, 1000100); /* sent before the reduction */
	assert_in_range(c.cwnd_bytes, 700 * PACKET - 1, 700 * PACKET);
	congestion_lost(&c, 1000200, 1050000);
	assert_in_range(c.cwnd_bytes, 490 * PACKET - 1, 490 * PACKET);
	for (uint64_t i = 0; i < 100; i++)
		congestion_lost(&c, 2000000 + i, 2000000 + i);
	assert_in_range(c.cwnd_bytes, 2 * PACKET, 4 * PACKET);
}

/* Section 4.2: after a loss at W_max the window is back at it after K seconds, flat there, and
 * grows beyond; K = cbrt(W_max * (1 - beta) / C). */
static void test_cubic_curve(void **state)
{
	struct congestion c;
	uint64_t now = 10000000;
	const double w_max = 1000, k = cbrt(w_max * 0.3 / 0.4);

	(void)state;
	congestion_init(&c, CONGESTION_CUBIC, PACKET, 0);
	c.cwnd_bytes = 1000 * PACKET;
	congestion_lost(&c, now, now);
	uint64_t start = now;
	double last = packets(&c);
	while (now < start + (uint64_t)((k + 5) * 1e6)) {
		round_trip(&c, &now);
		double t = (double)(now - start) / 1e6;
		double want = w_max + 0.4 * (t - k) * (t - k) * (t - k);
		assert_true(packets(&c) >= last);
		if (fabs(packets(&c) - want) > 0.03 * w_max)
			fail_msg("at %.2f s: %.0f packets, by the formula %.0f", t, packets(&c),
				 want);
		last = packets(&c);
	}
	assert_true(last > w_max * 1.02);
}

/* Section 4.3: a small window grows at least like Reno's equal in aggressiveness. */
static void test_reno_friendly(void **state)
{
	struct congestion c;
	uint64_t now = 10000000;

	(void)state;
	congestion_init(&c, CONGESTION_CUBIC, PACKET, 0);
	c.cwnd_bytes = 20 * PACKET;
	congestion_lost(&c, now, now);
	double w = packets(&c);
	for (unsigned i = 0; i < 10; i++)
		round_trip(&c, &now);
	assert_true(packets(&c) >= w + 10 * 0.9 * 3 * 0.3 / 1.7);
}

/* Fast convergence: a loss below the last W_max gives bandwidth up to others. */
static void test_fast_convergence(void **state)
{
	struct congestion c;

	(void)state;
	congestion_init(&c, CONGESTION_CUBIC, PACKET, 0);
	c.cwnd_bytes = 1000 * PACKET;
	congestion_lost(&c, 1000000, 1000000);
	congestion_lost(&c, 2000000, 2000000);
	assert_true(fabs(c.cubic.w_max - 700 * 0.85) < 1);
}

static void test_collapse_and_recovery(void **state)
{
	struct congestion c;
	uint64_t now = 5000000;

	(void)state;
	congestion_init(&c, CONGESTION_CUBIC, PACKET, 0);
	c.cwnd_bytes = 500 * PACKET;
	congestion_lost(&c, now, now);
	congestion_collapse(&c);
	assert_in_range(c.cwnd_bytes, PACKET, 4 * PACKET);
	for (unsigned i = 0; i < 8; i++)
		round_trip(&c, &now);
	assert_in_range(c.cwnd_bytes, 300 * PACKET, 400 * PACKET); /* slow start to ssthresh */
}

/* Strange times and sizes: the window stays within its bounds. */
static void test_bounds(void **state)
{
	struct congestion c;
	uint64_t now = 1, rng = 12345;

	(void)state;
	congestion_init(&c, CONGESTION_CUBIC, PACKET, 0);
	for (unsigned i = 0; i < 200000; i++) {
		rng = rng * 6364136223846793005u + 1442695040888963407u;
		uint64_t r = rng >> 40;
		now += (rng & 7) ? r % 10000 : r * 100000;
		if (r % 50 == 0)
			congestion_lost(&c, now - now / 3 % 100000, now);
		else if (r % 501 == 0)
			congestion_collapse(&c);
		else
			congestion_acked(&c, r % 100000, r % 7 ? r : 0, r % 3, now);
		assert_in_range(c.cwnd_bytes, PACKET, WINDOW_MAX);
	}
}

/* --- round trip --------------------------------------------------------------------------- */

static void test_rtt(void **state)
{
	struct rtt r = {0};

	(void)state;
	assert_int_equal(rtt_smoothed(&r), RTT_INITIAL_US);
	assert_int_equal(rtt_pto(&r, 1000), 2 * RTT_INITIAL_US);
	rtt_sample(&r, 80000, 0);
	assert_int_equal(r.smoothed_us, 80000);
	assert_int_equal(r.variance_us, 40000);
	assert_int_equal(rtt_pto(&r, 2000), 80000 + 160000 + 2000);
	rtt_sample(&r, 100000, 10000); /* the peer's delay is taken off */
	assert_int_equal(r.latest_us, 90000);
	assert_int_equal(r.variance_us, (3 * 40000 + 10000) / 4);
	assert_int_equal(r.smoothed_us, (7 * 80000 + 90000) / 8);
	rtt_sample(&r, 85000, 50000); /* it lies: that would be below the minimum */
	assert_int_equal(r.latest_us, 85000);
	assert_int_equal(r.min_us, 80000);
	rtt_sample(&r, 85000, UINT32_MAX);
	assert_int_equal(r.latest_us, 85000);
	for (unsigned i = 0; i < 200; i++)
		rtt_sample(&r, 30000, 0);
	assert_in_range(r.smoothed_us, 30000, 30100);
	assert_int_equal(r.min_us, 30000);
	assert_in_range(rtt_pto(&r, 0), 31000, 31200); /* never less than the granularity above */
	rtt_sample(&r, 0, 0);
	assert_int_equal(r.min_us, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slow_start_doubles),
		cmocka_unit_test(test_no_growth_unless_limited),
		cmocka_unit_test(test_one_reduction_per_round_trip),
		cmocka_unit_test(test_cubic_curve),
		cmocka_unit_test(test_reno_friendly),
		cmocka_unit_test(test_fast_convergence),
		cmocka_unit_test(test_collapse_and_recovery),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_rtt),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
