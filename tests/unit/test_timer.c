/* Timers of the event loop, and texts in buffers of a fixed size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/cstr.h"
#include "io/timer.h"

static void test_span(void **state)
{
	static const struct {
		uint64_t us;
		time_t s;
		suseconds_t rest;
	} cases[] = {{0, 0, 0}, {999999, 0, 999999}, {1000000, 1, 0}, {86400000007, 86400, 7}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct timeval tv = timer_span(cases[i].us);
		assert_int_equal(tv.tv_sec, cases[i].s);
		assert_int_equal(tv.tv_usec, cases[i].rest);
	}
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	assert_int_equal(what, EV_TIMEOUT);
	strcat(arg, "x");
}

/* The later setting holds, and it fires once. */
static void test_fires_once(void **state)
{
	struct event_base *base = event_base_new();
	char fired[8] = "";
	struct event *t = timer_new(base, on_due, fired);

	(void)state;
	assert_non_null(t);
	assert_int_equal(timer_in(t, 3600000000), 0);
	assert_int_equal(timer_in(t, 1000), 0);
	assert_int_equal(event_base_dispatch(base), 1); /* nothing is left to wait for */
	assert_string_equal(fired, "x");
	event_drop(t);
	event_drop(NULL);
	event_base_free(base);
}

static void test_copy(void **state)
{
	char out[5];

	(void)state;
	cstr_copy(out, sizeof out, "abc");
	assert_string_equal(out, "abc");
	cstr_copy(out, sizeof out, "abcd");
	assert_string_equal(out, "abcd");
	cstr_copy(out, sizeof out, "abcde");
	assert_string_equal(out, "abcd");
	cstr_copy(out, 1, "z");
	assert_string_equal(out, "");
	assert_memory_equal(out + 1, "bcd", 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_span),
		cmocka_unit_test(test_fires_once),
		cmocka_unit_test(test_copy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
