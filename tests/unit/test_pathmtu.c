/* The search for the path's MTU, over paths of every size, and with a peer who lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/pathmtu.h"

#define BASE 1076u
#define LIMIT 1452u

/* Runs until the search rests; returns how many probes that took.  `path` is what gets through. */
static unsigned search(struct pathmtu *m, uint32_t path, uint64_t *now, unsigned lose_every)
{
	unsigned probes = 0;

	while (m->at_us < *now + 60000000) {
		if (m->at_us > *now)
			*now = m->at_us;
		uint32_t size = pathmtu_due(m, *now);
		if (!size)
			continue;
		assert_in_range(size, m->good + 1, LIMIT);
		assert_in_range(probes++, 0, 100);
		if (size <= path && !(lose_every && probes % lose_every == 0))
			pathmtu_confirm(m, size, *now + 50000);
	}
	return probes;
}

static void test_every_path(void **state)
{
	(void)state;
	for (unsigned lose = 0; lose < 5; lose += 2)
		for (uint32_t path = BASE; path <= LIMIT + 10; path++) {
			struct pathmtu m;
			uint64_t now = 1000000;
			pathmtu_init(&m, BASE, LIMIT, now);
			search(&m, path, &now, lose);
			assert_in_range(m.good,
					path > LIMIT	   ? LIMIT
					: path < BASE + 16 ? BASE
							   : path - 16,
					path > LIMIT ? LIMIT : path);
		}
}

static void test_common_case_is_one_probe(void **state)
{
	struct pathmtu m;
	uint64_t now = 1;

	(void)state;
	pathmtu_init(&m, BASE, LIMIT, now);
	assert_int_equal(search(&m, LIMIT, &now, 0), 1);
	assert_int_equal(m.good, LIMIT);
}

/* What shrinks is found again from below; what grows is found after the pause. */
static void test_path_changes(void **state)
{
	struct pathmtu m;
	uint64_t now = 1;

	(void)state;
	pathmtu_init(&m, BASE, LIMIT, now);
	search(&m, LIMIT, &now, 0);
	pathmtu_blackhole(&m, now);
	assert_int_equal(m.good, BASE);
	search(&m, 1300, &now, 0);
	assert_in_range(m.good, 1284, 1300);
	now = m.at_us;
	search(&m, LIMIT, &now, 0);
	assert_int_equal(m.good, LIMIT);
	pathmtu_init(&m, 2000, LIMIT, now);
	assert_int_equal(m.good, LIMIT);
	assert_int_equal(search(&m, LIMIT, &now, 0), 0);
}

/* Answers to what was not asked, at any time: no probe and no packet leaves the bounds. */
static void test_hostile_answers(void **state)
{
	uint64_t rng = 1, now = 1;
	struct pathmtu m;

	(void)state;
	pathmtu_init(&m, BASE, LIMIT, now);
	for (unsigned i = 0; i < 200000; i++) {
		rng = rng * 6364136223846793005u + 1442695040888963407u;
		uint32_t v = (uint32_t)(rng >> 33);
		uint32_t size = pathmtu_due(&m, now);
		assert_true(size == 0 || (size > m.good && size <= LIMIT));
		assert_in_range(m.good, BASE, LIMIT);
		if (v % 8 == 0)
			pathmtu_confirm(&m, v % 16 ? BASE + (v >> 4) % 500 : v % 65536, now);
		if (v % 1009 == 0)
			pathmtu_blackhole(&m, now);
		now += v % 300000;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_path),
		cmocka_unit_test(test_common_case_is_one_probe),
		cmocka_unit_test(test_path_changes),
		cmocka_unit_test(test_hostile_answers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
