/* The hash table against a naive array. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/map.h"

#define KEYS 300

static uint32_t rng_state;
static uint32_t rng(uint32_t below)
{
	rng_state = rng_state * 1664525u + 1013904223u;
	return (rng_state >> 8) % below;
}

static char values[4]; /* only their addresses matter */

static void make_key(uint8_t *key, size_t len, uint32_t n)
{
	memset(key, 0, len);
	key[0] = (uint8_t)n; /* keys that differ in their first or last byte only */
	key[len - 1] ^= (uint8_t)(n >> 8);
}

static void check_walk(const struct map *m, void *const *oracle, uint32_t keys)
{
	size_t it = 0, seen = 0, expected = 0, per_value[4] = {0};
	void *v;
	for (uint32_t i = 0; i < keys; i++)
		if (oracle[i]) {
			expected++;
			per_value[(char *)oracle[i] - values]++;
		}
	while ((v = map_next(m, &it))) {
		seen++;
		per_value[(char *)v - values]--;
	}
	assert_int_equal(seen, expected);
	assert_int_equal(m->count, expected);
	for (int i = 0; i < 4; i++)
		assert_int_equal(per_value[i], 0);
}

static void one_run(size_t key_len, uint64_t seed, size_t max)
{
	struct map m;
	void *oracle[KEYS] = {NULL};
	size_t count = 0;
	uint32_t keys = key_len == 1 ? 256 : KEYS;
	uint8_t key[MAP_KEY_MAX];

	rng_state = (uint32_t)seed;
	map_init(&m, key_len, max, seed);
	assert_null(map_del(&m, "123456789012345678901234567890123456789"));
	for (int step = 0; step < 8000; step++) {
		uint32_t n = rng(keys), what = rng(step / 1000 % 2 ? 4 : 3);
		void *value = &values[rng(4)];
		make_key(key, key_len, n);
		if (what == 0) {
			int err = map_put(&m, key, value);
			if (!oracle[n] && count == max) {
				assert_int_equal(err, -ENOSPC);
				continue;
			}
			assert_int_equal(err, 0);
			count += !oracle[n];
			oracle[n] = value;
		} else if (what == 1) {
			assert_ptr_equal(map_get(&m, key), oracle[n]);
		} else {
			assert_ptr_equal(map_del(&m, key), oracle[n]);
			count -= oracle[n] != NULL;
			oracle[n] = NULL;
		}
		if (step % 100 == 0)
			check_walk(&m, oracle, keys);
	}
	for (uint32_t n = 0; n < keys; n++) {
		make_key(key, key_len, n);
		assert_ptr_equal(map_get(&m, key), oracle[n]);
	}
	map_free(&m);
}

static void test_oracle(void **state)
{
	(void)state;
	static const size_t lengths[] = {1, 4, 7, 8, 9, 32, MAP_KEY_MAX};
	for (uint64_t i = 0; i < 21; i++)
		one_run(lengths[i % 7], i * 7919 + 1, i % 3 == 0 ? 20 : 1000);
}

static void test_full_of_collisions(void **state)
{
	(void)state;
	/* Fill, empty in another order, fill again: no entry is lost behind a gap. */
	struct map m;
	map_init(&m, 4, 5000, 42);
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 5000; i++)
			assert_int_equal(map_put(&m, &i, &values[i % 4]), 0);
		uint32_t one_more = 5000;
		assert_int_equal(map_put(&m, &one_more, &values[0]), -ENOSPC);
		uint32_t there = 17;
		assert_int_equal(map_put(&m, &there, &values[1]), 0); /* replacing needs no room */
		for (uint32_t i = 0; i < 5000; i++) {
			uint32_t k = i * 3001 % 5000;
			assert_non_null(map_del(&m, &k));
			assert_null(map_get(&m, &k));
		}
		assert_int_equal(m.count, 0);
	}
	map_free(&m);
	uint32_t k = 1;
	assert_null(map_get(&m, &k));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oracle),
		cmocka_unit_test(test_full_of_collisions),
	};
	return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
