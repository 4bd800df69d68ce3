/* Ranges against a naive oracle: one bit a number. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/ranges.h"

#define UNIVERSE 160

static uint32_t rng_state;
static uint32_t rng(uint32_t below)
{
	rng_state = rng_state * 1664525u + 1013904223u;
	return (rng_state >> 8) % below;
}

static size_t count_runs(const bool *bits)
{
	size_t runs = 0;
	for (size_t i = 0; i < UNIVERSE; i++)
		runs += bits[i] && (i == 0 || !bits[i - 1]);
	return runs;
}

static void check(const struct ranges *r, const bool *bits)
{
	size_t at = 0;
	assert_true(r->count <= r->max);
	assert_int_equal(r->count, count_runs(bits));
	for (size_t i = 0; i < r->count; i++) {
		while (at < UNIVERSE && !bits[at])
			at++;
		assert_int_equal(r->v[i].start, at);
		while (at < UNIVERSE && bits[at])
			at++;
		assert_int_equal(r->v[i].end, at);
	}
}

static void check_queries(const struct ranges *r, const bool *bits)
{
	uint32_t a = rng(UNIVERSE), b = a + rng(UNIVERSE - a);
	bool all = true;
	for (uint32_t i = a; i < b; i++)
		all &= bits[i];
	assert_int_equal(ranges_covers(r, a, b), all);
	assert_int_equal(ranges_contains(r, a), bits[a]);
}

static void one_run(uint32_t seed, size_t max)
{
	struct ranges r;
	bool bits[UNIVERSE] = {0}, next[UNIVERSE];
	rng_state = seed;
	ranges_init(&r, max);
	for (int step = 0; step < 3000; step++) {
		uint32_t a = rng(UNIVERSE), len = rng(rng(4) ? 8 : 60);
		uint32_t b = a + len < UNIVERSE ? a + len : UNIVERSE;
		bool add = rng(step / 500 % 2 ? 3 : 5) != 0;
		memcpy(next, bits, sizeof bits);
		for (uint32_t i = a; i < b; i++)
			next[i] = add;
		int err = add ? ranges_add(&r, a, b) : ranges_remove(&r, a, b);
		if (err == 0) {
			memcpy(bits, next, sizeof bits);
		} else { /* only when it would not fit, and then nothing changes */
			assert_int_equal(err, -ENOSPC);
			assert_true(count_runs(next) > max);
		}
		check(&r, bits);
		check_queries(&r, bits);
	}
	ranges_free(&r);
	assert_int_equal(r.count, 0);
}

static void test_oracle(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 20; seed++)
		one_run(seed, seed % 2 ? 1000 : 6);
}

static void test_edges(void **state)
{
	(void)state;
	struct ranges r;
	ranges_init(&r, 2);
	assert_int_equal(ranges_add(&r, 5, 5), 0);
	assert_int_equal(ranges_add(&r, 6, 5), 0);
	assert_int_equal(r.count, 0);
	assert_true(ranges_covers(&r, 9, 9));
	assert_int_equal(ranges_add(&r, UINT64_MAX - 1, UINT64_MAX), 0);
	assert_true(ranges_contains(&r, UINT64_MAX - 1));
	assert_false(ranges_contains(&r, UINT64_MAX));
	assert_int_equal(ranges_add(&r, 0, 1), 0);
	assert_int_equal(ranges_add(&r, 10, 11), -ENOSPC);
	assert_int_equal(ranges_add(&r, 1, 2), 0); /* joins one: needs no room */
	assert_int_equal(ranges_remove(&r, 0, UINT64_MAX), 0);
	assert_int_equal(r.count, 0);
	ranges_free(&r);
	ranges_init(&r, 0);
	assert_int_equal(ranges_add(&r, 1, 2), -ENOSPC);
	ranges_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oracle),
		cmocka_unit_test(test_edges),
	};
	return cmocka_run_group_tests_name("ranges", tests, NULL, NULL);
}
