/* A timer of microseconds beside a coarse event loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <event2/event.h>

#include "io/clock.h"
#include "io/ticker.h"

static struct event_base *base;
static struct ticker *ticker;
static unsigned fired, again;
static uint64_t last_us;

static void on_due(void *arg)
{
	assert_ptr_equal(arg, &fired);
	fired++;
	last_us = daemon_now_us();
	if (again && again--)
		ticker_set(ticker, 300);
}

static void spin(unsigned ms)
{
	struct timeval tv = {.tv_usec = (suseconds_t)ms * 1000};

	event_base_loopexit(base, &tv);
	event_base_dispatch(base);
}

static int up(void **state)
{
	(void)state;
	fired = again = 0;
	base = event_base_new();
	return ticker_new(&ticker, base, on_due, &fired);
}

static int down(void **state)
{
	(void)state;
	ticker_free(ticker);
	event_base_free(base);
	return 0;
}

static void test_once(void **state)
{
	uint64_t began = daemon_now_us();

	(void)state;
	spin(5);
	assert_int_equal(fired, 0); /* not set yet */
	ticker_set(ticker, 2500);
	began = daemon_now_us();
	spin(40);
	assert_int_equal(fired, 1);
	assert_true(last_us - began >= 2500);
	ticker_set(ticker, 0);
	spin(10);
	assert_int_equal(fired, 2);
}

static void test_moved_and_taken_back(void **state)
{
	uint64_t began = daemon_now_us();

	(void)state;
	ticker_set(ticker, 1000);
	ticker_set(ticker, 30000);
	spin(100);
	assert_int_equal(fired, 1);
	assert_true(last_us - began >= 30000);
	ticker_set(ticker, 1000);
	ticker_set(ticker, TICKER_NEVER);
	spin(20);
	assert_int_equal(fired, 1);
	ticker_set(ticker, UINT64_MAX - 1); /* farther than the kernel counts */
	spin(10);
	assert_int_equal(fired, 1);
}

static void test_set_from_its_callback(void **state)
{
	(void)state;
	again = 5;
	ticker_set(ticker, 300);
	spin(60);
	assert_int_equal(fired, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_once, up, down),
		cmocka_unit_test_setup_teardown(test_moved_and_taken_back, up, down),
		cmocka_unit_test_setup_teardown(test_set_from_its_callback, up, down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
