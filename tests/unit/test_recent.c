/* The last datagrams of a tunnel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "core/recent.h"

static void keep(struct recent *r, uint8_t name, size_t len, uint64_t now)
{
	uint8_t data[RECENT_BYTES + 1];

	memset(data, name, sizeof data);
	recent_keep(r, bytes_of(data, len), now);
}

static void expect(struct recent *r, uint8_t name, size_t len, uint64_t now)
{
	struct bytes out;

	assert_true(recent_take(r, &out, now));
	assert_int_equal(out.len, len);
	assert_int_equal(out.data[0], name);
	assert_int_equal(out.data[len - 1], name);
}

static void test_newest_in_order(void **state)
{
	struct recent r;
	struct bytes out;

	(void)state;
	recent_init(&r);
	assert_false(recent_take(&r, &out, 5));
	keep(&r, 1, 100, 5);
	keep(&r, 2, RECENT_BYTES, 5);
	keep(&r, 3, RECENT_BYTES + 1, 5);
	keep(&r, 4, 0, 5);
	expect(&r, 1, 100, 5);
	expect(&r, 2, RECENT_BYTES, 5);
	assert_false(recent_take(&r, &out, 5)); /* each once */
	for (unsigned i = 0; i < 3 * RECENT_DATAGRAMS; i++)
		keep(&r, (uint8_t)i, 1 + i, 5);
	for (unsigned i = 2 * RECENT_DATAGRAMS; i < 3 * RECENT_DATAGRAMS; i++)
		expect(&r, (uint8_t)i, 1 + i, 5);
	assert_false(recent_take(&r, &out, 5));
	recent_free(&r);
}

static void test_old(void **state)
{
	struct recent r;
	struct bytes out;

	(void)state;
	recent_init(&r);
	keep(&r, 1, 10, 1000);
	keep(&r, 2, 10, 2000);
	expect(&r, 2, 10, 2000 + RECENT_AGE_US);
	assert_false(recent_take(&r, &out, 0));
	recent_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_newest_in_order),
		cmocka_unit_test(test_old),
	};
	return cmocka_run_group_tests_name("recent", tests, NULL, NULL);
}
