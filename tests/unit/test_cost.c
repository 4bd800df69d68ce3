/* What a link costs, and when the cost follows what is measured. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "nodemanager/cost.h"

#define SECOND 1000000u

static uint64_t now;

static void report(struct cost_meter *m, const struct cost_sample *s, unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		now += SECOND;
		cost_meter_sample(m, s, now);
	}
}

static uint32_t cost_after(const struct cost_sample *s, unsigned times)
{
	struct cost_meter m = {0};
	report(&m, s, times);
	return cost_meter_get(&m);
}

static void test_terms(void **state)
{
	(void)state;
	struct cost_meter m = {0};
	assert_int_equal(cost_meter_get(&m), COST_UNMEASURED);
	report(&m, &(struct cost_sample){.loss_ppm = 500000}, 9); /* no round trip: no sample */
	assert_int_equal(cost_meter_get(&m), COST_UNMEASURED);
	assert_int_equal(cost_after(&(struct cost_sample){.rtt_us = 1}, 1), 100);
	assert_int_equal(cost_after(&(struct cost_sample){.rtt_us = 5000}, 1), 600);
	assert_int_equal(cost_after(&(struct cost_sample){.rtt_us = 5000, .loss_ppm = 20000}, 1),
			 800);
	/* Whatever nodes say, the cost stays below that of what is suspect. */
	struct cost_sample absurd = {UINT32_MAX, UINT32_MAX, UINT32_MAX, 1};
	assert_true(cost_after(&absurd, 50) <= COST_MAX);
	absurd.rate_bps = UINT64_MAX;
	assert_true(cost_after(&absurd, 50) <= COST_MAX);
}

/* What little passes over an idle link says nothing about what could. */
static void test_rate(void **state)
{
	(void)state;
	struct cost_sample idle = {.rtt_us = 1000, .rate_bps = 8000};
	struct cost_sample slow = {.rtt_us = 1000, .rate_bps = 1000000, .queue_bytes = 20000};
	struct cost_sample fast = {.rtt_us = 1000, .rate_bps = 100000000, .queue_bytes = 20000};
	assert_int_equal(cost_after(&idle, 20), 200);
	uint32_t cs = cost_after(&slow, 1), cf = cost_after(&fast, 1);
	assert_true(cs >= 10200 && cf >= 300 && cf < 310);
	struct cost_meter m = {0};
	report(&m, &slow, 1);
	assert_int_equal(m.capacity_bps, 1000000);
	report(&m, &idle, 20); /* known, and nothing contradicts it */
	assert_int_equal(m.capacity_bps, 1000000);
	assert_int_equal(cost_meter_queue(&m), 0);
	idle.rate_bps = 5000000; /* more has passed than was thought possible */
	report(&m, &idle, 1);
	assert_int_equal(m.capacity_bps, 5000000);
	report(&m, &slow, 60); /* and now it is slow again */
	assert_in_range(m.capacity_bps, 1000000, 1000010);
}

static void test_standing_queue(void **state)
{
	(void)state;
	struct cost_meter m = {0};
	struct cost_sample loaded = {.rtt_us = 1000, .rate_bps = 10000000, .queue_bytes = 25000};
	struct cost_sample empty = {.rtt_us = 1000, .rate_bps = 10000000};
	report(&m, &loaded, COST_QUEUE_REPORTS - 1);
	uint32_t before = cost_meter_raw(&m);
	report(&m, &empty, 1); /* bursts */
	report(&m, &loaded, COST_QUEUE_REPORTS - 1);
	assert_int_equal(cost_meter_raw(&m), before);
	report(&m, &loaded,
	       1); /* stands: 25,000 bytes at 10 Mbit/s take 20 ms, as much as counts */
	assert_int_equal(cost_meter_raw(&m), before + 2000);
	loaded.queue_bytes = 1000000;
	report(&m, &loaded, COST_QUEUE_REPORTS);
	assert_int_equal(cost_meter_raw(&m), before + 2000);
}

/* It neither follows small steps nor short ones. */
static void test_keeps_still(void **state)
{
	(void)state;
	struct cost_meter m = {0};
	struct cost_sample s = {.rtt_us = 10000};
	report(&m, &s, 5);
	assert_int_equal(cost_meter_get(&m), 1100);
	for (unsigned i = 0; i < 200; i++) { /* a fifth up and down, for ever */
		s.rtt_us = i % 20 < 10 ? 8000 : 12000;
		report(&m, &s, 1);
		assert_int_equal(cost_meter_get(&m), 1100);
	}
	for (unsigned i = 0; i < 200; i++) { /* much, but shorter than it takes to believe it */
		s.rtt_us = i % 10 < 2 ? 18000 : 10000;
		report(&m, &s, 1);
		assert_int_equal(cost_meter_get(&m), 1100);
	}
}

static unsigned until(struct cost_meter *m, const struct cost_sample *s, uint32_t low,
		      uint32_t high)
{
	unsigned seconds = 0;
	while ((cost_meter_get(m) < low || cost_meter_get(m) > high) && seconds < 100) {
		report(m, s, 1);
		seconds++;
	}
	return seconds;
}

/* Sooner for the worse than for the better, and soonest for the much worse. */
static void test_follows(void **state)
{
	(void)state;
	struct cost_meter m = {0};
	report(&m, &(struct cost_sample){.rtt_us = 10000}, 5);
	unsigned much = until(&m, &(struct cost_sample){.rtt_us = 200000}, 2200, UINT32_MAX);
	assert_in_range(much, 1, 4);
	struct cost_meter n = {0};
	report(&n, &(struct cost_sample){.rtt_us = 10000}, 5);
	unsigned worse = until(&n, &(struct cost_sample){.rtt_us = 17000}, 1300, UINT32_MAX);
	assert_in_range(worse, 4, 8);
	unsigned better = until(&n, &(struct cost_sample){.rtt_us = 5000}, 0, 1000);
	assert_in_range(better, 10, 16);
	assert_true(much < worse && worse < better);
}

static void test_worth_a_move(void **state)
{
	(void)state;
	assert_true(cost_is_worth_a_move(700, 1000));
	assert_false(cost_is_worth_a_move(760, 1000));
	assert_false(cost_is_worth_a_move(1000, 1000));
	assert_false(cost_is_worth_a_move(2000, 1000));
	assert_false(cost_is_worth_a_move(150, 300)); /* what little it is */
	assert_false(cost_is_worth_a_move(UINT64_MAX, 1000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_terms),	       cmocka_unit_test(test_rate),
		cmocka_unit_test(test_standing_queue), cmocka_unit_test(test_keeps_still),
		cmocka_unit_test(test_follows),	       cmocka_unit_test(test_worth_a_move),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
