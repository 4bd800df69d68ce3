/* The replay window against a set of flags. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "core/replay.h"

#define NUMBERS 400000u

static uint64_t rng = 0x2545f4914f6cdd1du;

static uint64_t any(uint64_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (rng >> 8) % below;
}

/* Steps that stay, jump a little, jump by words, and jump past the whole window. */
static uint64_t step(uint64_t top)
{
	switch (any(8)) {
	case 0:
		return top + any(4);
	case 1:
		return top + any(40);
	case 2:
		return any(2000) ? top + 1 : top + any(3 * REPLAY_WINDOW);
	case 3:
		return any(top + 1);
	default:
		return top > 2 * REPLAY_WINDOW ? top - any(REPLAY_WINDOW + 100) : any(top + 1);
	}
}

static void against_flags(uint64_t offset)
{
	static bool seen[NUMBERS];
	struct replay r = {0};
	uint64_t next = 0; /* relative to the offset */
	unsigned accepted = 0, refused = 0;

	memset(seen, 0, sizeof seen);
	while (next + 4 * REPLAY_WINDOW < NUMBERS) {
		uint64_t n = step(next);
		bool want = !seen[n] && n + REPLAY_WINDOW >= next;
		assert_int_equal(replay_accept(&r, offset + n), want);
		if (want) {
			seen[n] = true;
			if (n >= next)
				next = n + 1;
			accepted++;
		} else {
			refused++;
		}
	}
	assert_true(accepted > 5000 && refused > 5000);
}

static void test_oracle(void **state)
{
	(void)state;
	against_flags(0);
	against_flags(1);
	against_flags(63);
	against_flags((UINT64_C(1) << 56) - NUMBERS / 2);
	against_flags(UINT64_MAX - NUMBERS - 1);
}

static void test_edges(void **state)
{
	struct replay r = {0};

	(void)state;
	assert_false(replay_accept(&r, UINT64_MAX)); /* `next` could not say it */
	assert_true(replay_accept(&r, 0));
	assert_false(replay_accept(&r, 0));
	assert_true(replay_accept(&r, REPLAY_WINDOW));
	assert_true(replay_accept(&r, 1));
	assert_true(replay_accept(&r, REPLAY_WINDOW + 1));
	assert_false(replay_accept(&r, 1)); /* below the window now */
	assert_true(replay_accept(&r, 2));
	assert_true(replay_accept(&r, UINT64_MAX - 1));
	assert_false(replay_accept(&r, UINT64_MAX - 1));
	assert_false(replay_accept(&r, 3));
	assert_true(replay_accept(&r, UINT64_MAX - 2));
	assert_false(replay_accept(&r, UINT64_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oracle),
		cmocka_unit_test(test_edges),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
