/* The timer queue against a naive scan, and timers that set and cancel others while firing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/timerq.h"

#define TIMERS 64

static uint32_t rng_state;
static uint32_t rng(uint32_t below)
{
	rng_state = rng_state * 1664525u + 1013904223u;
	return (rng_state >> 8) % below;
}

struct bench {
	struct timerq q;
	struct timer t[TIMERS];
	uint64_t want[TIMERS]; /* the oracle */
	uint64_t last_at;
	unsigned fired;
};

static void fire(struct timer *t, uint64_t now)
{
	struct bench *b = t->owner;
	size_t i = (size_t)(t - b->t);
	assert_true(b->want[i] <= now);
	assert_true(b->want[i] >= b->last_at); /* in order of time */
	assert_int_equal(t->index, 0);
	b->last_at = b->want[i];
	b->want[i] = TIMER_NEVER;
	b->fired++;
}

static uint64_t earliest(const struct bench *b, uint64_t upto, unsigned *due)
{
	uint64_t first = TIMER_NEVER;
	*due = 0;
	for (size_t i = 0; i < TIMERS; i++) {
		first = b->want[i] < first ? b->want[i] : first;
		*due += b->want[i] <= upto;
	}
	return first;
}

static void test_oracle(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 10; seed++) {
		struct bench b = {0};
		uint64_t now = 0;
		unsigned due;
		rng_state = seed;
		timerq_init(&b.q);
		assert_int_equal(timerq_next(&b.q), TIMER_NEVER);
		for (size_t i = 0; i < TIMERS; i++) {
			timer_init(&b.t[i], fire, &b);
			b.want[i] = TIMER_NEVER;
		}
		for (int step = 0; step < 5000; step++) {
			size_t i = rng(TIMERS);
			uint32_t what = rng(10);
			if (what < 6) {
				b.want[i] = now + rng(50);
				assert_int_equal(timerq_set(&b.q, &b.t[i], b.want[i]), 0);
			} else if (what < 8) {
				b.want[i] = TIMER_NEVER;
				if (what == 6)
					timerq_cancel(&b.q, &b.t[i]);
				else
					timerq_set(&b.q, &b.t[i], TIMER_NEVER);
			} else {
				now += rng(20);
				earliest(&b, now, &due);
				b.fired = 0;
				b.last_at = 0;
				timerq_run(&b.q, now);
				assert_int_equal(b.fired, due);
			}
			assert_int_equal(timerq_next(&b.q), earliest(&b, now, &due));
		}
		timerq_free(&b.q);
		for (size_t i = 0; i < TIMERS; i++)
			timerq_cancel(&b.q, &b.t[i]); /* harmless after the queue is gone */
	}
}

struct pair {
	struct timerq q;
	struct timer a, b;
	unsigned a_fired, b_fired;
};

static void fire_a(struct timer *t, uint64_t now)
{
	struct pair *p = t->owner;
	p->a_fired++;
	timerq_cancel(&p->q, &p->b);
	timerq_set(&p->q, &p->a, now); /* due again at once: must not hold us in this call */
}

static void fire_b(struct timer *t, uint64_t now)
{
	struct pair *p = t->owner;
	(void)now;
	p->b_fired++;
}

static void test_within_callbacks(void **state)
{
	(void)state;
	struct pair p = {0};
	timerq_init(&p.q);
	timer_init(&p.a, fire_a, &p);
	timer_init(&p.b, fire_b, &p);
	assert_int_equal(timerq_set(&p.q, &p.a, 1), 0);
	assert_int_equal(timerq_set(&p.q, &p.b, 2), 0);
	timerq_run(&p.q, 10);
	assert_true(p.a_fired >= 1 && p.a_fired <= 2);
	assert_int_equal(p.b_fired, 0); /* cancelled by a timer that fired before it */
	assert_int_equal(timerq_next(&p.q), 10);
	timerq_free(&p.q);
}

static void test_coalesce(void **state)
{
	(void)state;
	assert_int_equal(timer_coalesce(1001, 250), 1250);
	assert_int_equal(timer_coalesce(1250, 250), 1250);
	assert_int_equal(timer_coalesce(1, 250), 250);
	assert_int_equal(timer_coalesce(0, 250), 0);
	assert_int_equal(timer_coalesce(1001, 0), 1001);
	assert_int_equal(timer_coalesce(TIMER_NEVER, 250), TIMER_NEVER);
	assert_int_equal(timer_coalesce(TIMER_NEVER - 3, 250), TIMER_NEVER - 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oracle),
		cmocka_unit_test(test_within_callbacks),
		cmocka_unit_test(test_coalesce),
	};
	return cmocka_run_group_tests_name("timerq", tests, NULL, NULL);
}
