/* When a silent end of a mux counts as dead: the rules one by one, and two muxes over a slow link.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "socks/mux.h"

#define SECOND 1000000u
#define PATIENCE (3u * SECOND)

static const struct mux_frame data_frame = {.type = MUX_DATA, .stream = 1};

/* Ticks until something happens: a PING is due (1), the end (2), or `limit` has passed (0). */
static int run(struct alive *a, uint64_t *now, uint64_t limit, uint32_t streams)
{
	for (uint64_t end = *now + limit; *now < end;) {
		*now += ALIVE_TICK_US;
		if (!alive_tick(a, *now, streams))
			return 2;
		if (a->ping_due)
			return 1;
	}
	return 0;
}

static void begin(struct alive *a, uint64_t *now)
{
	alive_init(a, PATIENCE);
	*now = 100 * SECOND;
	assert_true(alive_tick(a, *now, 0));
}

static void test_idle_is_asked_now_and_then(void **state)
{
	struct alive a;
	uint64_t now, began;

	(void)state;
	begin(&a, &now);
	began = now;
	assert_int_equal(run(&a, &now, 60 * SECOND, 0), 1);
	assert_int_equal(now - began, ALIVE_IDLE_US);
	alive_said(&a, MUX_PING);
	alive_heard(&a, &(struct mux_frame){.type = MUX_PONG, .token = a.token});
	began = now;
	assert_int_equal(run(&a, &now, 60 * SECOND, 0), 1);
	assert_true(now - began >= ALIVE_IDLE_US && now - began <= ALIVE_IDLE_US + ALIVE_TICK_US);
	assert_true(a.pings == 1 && a.pongs == 1);
}

static void test_busy_is_asked_soon_and_given_up(void **state)
{
	struct alive a;
	uint64_t now, began;

	(void)state;
	begin(&a, &now);
	alive_heard(&a, &data_frame);
	alive_tick(&a, now += ALIVE_TICK_US, 1);
	began = now;
	assert_int_equal(run(&a, &now, 60 * SECOND, 1), 1);
	assert_int_equal(now - began, ALIVE_BUSY_US);
	alive_said(&a, MUX_PING);
	/* What we say ourselves proves nothing. */
	alive_said(&a, MUX_DATA);
	assert_int_equal(run(&a, &now, 60 * SECOND, 1), 2);
	assert_int_equal(now - began, ALIVE_BUSY_US + PATIENCE);
}

/* Streams are open and silent: that is no reason to talk all the time. */
static void test_quiet_streams_are_idle(void **state)
{
	struct alive a;
	uint64_t now;
	unsigned pings = 0;

	(void)state;
	begin(&a, &now);
	for (unsigned i = 0; i < 240; i++) { /* a minute */
		assert_true(alive_tick(&a, now += ALIVE_TICK_US, 5));
		if (!a.ping_due)
			continue;
		pings++;
		alive_said(&a, MUX_PING);
		alive_heard(&a, &(struct mux_frame){.type = MUX_PONG, .token = a.token});
	}
	assert_in_range(pings, 10, 12);
}

static void test_without_patience_it_lives_for_ever(void **state)
{
	struct alive a;
	uint64_t now = SECOND;

	(void)state;
	alive_init(&a, 0);
	for (unsigned i = 0; i < 1000; i++)
		assert_true(alive_tick(&a, now += ALIVE_TICK_US, 1));
	assert_true(a.ping_due);
}

/* We were stopped, or the machine was: what has come meanwhile is read after the tick. */
static void test_own_sleep_is_no_silence(void **state)
{
	struct alive a;
	uint64_t now;

	(void)state;
	begin(&a, &now);
	assert_int_equal(run(&a, &now, 60 * SECOND, 0), 1);
	assert_true(alive_tick(&a, now += 3600ull * SECOND, 1));
	assert_int_equal(a.ping_us, 0);
}

/* Who hears data and has nothing to say says that it is there; a PONG brings no PONG. */
static void test_a_word_for_data(void **state)
{
	struct alive a;
	uint64_t now;
	unsigned words = 0;

	(void)state;
	begin(&a, &now);
	for (unsigned i = 0; i < 40; i++) { /* 10 s */
		alive_heard(&a, &data_frame);
		assert_true(alive_tick(&a, now += ALIVE_TICK_US, 1));
		if (a.pong_due) {
			words++;
			alive_said(&a, MUX_PONG);
		}
	}
	assert_in_range(words, 7, 10);
	for (unsigned i = 0; i < 40; i++) {
		alive_heard(&a, &(struct mux_frame){.type = MUX_PONG});
		assert_true(alive_tick(&a, now += ALIVE_TICK_US, 1));
		assert_true(i < 4 || !a.pong_due);
		if (a.pong_due)
			alive_said(&a, MUX_PONG);
	}
}

/* Answers that took 2 s each: 8 s are the patience then, and less again when they come sooner. */
static void test_slow_answers_make_patient(void **state)
{
	struct alive a;
	uint64_t now;

	(void)state;
	begin(&a, &now);
	assert_int_equal(run(&a, &now, 60 * SECOND, 0), 1);
	alive_said(&a, MUX_PING);
	for (unsigned i = 0; i < 8; i++)
		assert_true(alive_tick(&a, now += ALIVE_TICK_US, 1));
	/* Another's token is no answer, but a word. */
	alive_heard(&a, &(struct mux_frame){.type = MUX_PONG, .token = a.token + 1});
	alive_tick(&a, now, 1);
	assert_int_equal(alive_patience_us(&a), PATIENCE);
	alive_heard(&a, &(struct mux_frame){.type = MUX_PONG, .token = a.token});
	alive_tick(&a, now, 1);
	assert_int_equal(alive_patience_us(&a), 8 * SECOND);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(run(&a, &now, 60 * SECOND, 0), 1);
		alive_said(&a, MUX_PING);
		alive_heard(&a, &(struct mux_frame){.type = MUX_PONG, .token = a.token});
		alive_tick(&a, now += ALIVE_TICK_US, 0);
	}
	assert_int_equal(alive_patience_us(&a), PATIENCE);
}

/* --- two muxes ------------------------------------------------------------------------------- */

static unsigned ready;

static void on_ready(void *ctx)
{
	(void)ctx;
	ready++;
}

static const struct mux_ops ops = {.ready = on_ready, .up = on_ready};

/* What `from` has to say, heard by `to` unless that is NULL. */
static void carry(struct mux *from, struct mux *to)
{
	static uint8_t out[MUX_MESSAGE_BYTES];
	size_t len = mux_output(from, out);

	if (len && to)
		assert_int_equal(mux_input(to, out, len), 0);
}

static void test_two_ends(void **state)
{
	struct mux_config config = {
		.client = true, .streams_max = 4, .window_max = 65536, .patience_us = PATIENCE};
	struct mux *client = mux_new(&config, &ops, NULL);
	uint64_t now = SECOND, dead_us;

	(void)state;
	config.client = false;
	struct mux *server = mux_new(&config, &ops, NULL);
	assert_true(client && server);
	/* Before HELLO nothing is asked: its own time limit counts. */
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(mux_tick(client, now += ALIVE_TICK_US), 0);
	for (unsigned i = 0; i < 400; i++) {
		carry(client, server);
		carry(server, client);
		carry(client, server);
		now += ALIVE_TICK_US;
		assert_int_equal(mux_tick(client, now), 0);
		assert_int_equal(mux_tick(server, now), 0);
	}
	assert_in_range(mux_counters(client)->pings, 10, 25);
	assert_true(mux_counters(client)->pongs >= mux_counters(client)->pings - 1);
	/* The wire is cut. */
	for (dead_us = now; mux_tick(client, now += ALIVE_TICK_US) == 0;) {
		carry(client, NULL);
		assert_true(now < dead_us + 60ull * SECOND);
	}
	assert_in_range(now - dead_us, PATIENCE, ALIVE_IDLE_US + PATIENCE + SECOND);
	assert_true(strstr(mux_fault(client), "nothing heard for") != NULL);
	mux_free(client);
	mux_free(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idle_is_asked_now_and_then),
		cmocka_unit_test(test_busy_is_asked_soon_and_given_up),
		cmocka_unit_test(test_quiet_streams_are_idle),
		cmocka_unit_test(test_without_patience_it_lives_for_ever),
		cmocka_unit_test(test_own_sleep_is_no_silence),
		cmocka_unit_test(test_a_word_for_data),
		cmocka_unit_test(test_slow_answers_make_patient),
		cmocka_unit_test(test_two_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
