/* When records go out: by hand, and at random against what must hold of any of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "core/playout.h"
#include "core/record.h"

#define NUMBERS 60000u
#define MS 1000u

struct bench {
	struct playout o;
	uint64_t now, rng;
	uint64_t sent_us[NUMBERS], came_us[NUMBERS], out_us[NUMBERS];
	unsigned times_out[NUMBERS], out_count, backwards;
	unsigned drift; /* of the sender's clock, in its ticks */
	uint64_t last;
};

static uint32_t any(struct bench *b, uint32_t below)
{
	b->rng ^= b->rng << 13;
	b->rng ^= b->rng >> 7;
	b->rng ^= b->rng << 17;
	return (uint32_t)((b->rng >> 16) % below);
}

static void begin(struct bench *b)
{
	memset(b, 0, sizeof *b);
	b->rng = 0x9e3779b97f4a7c15u;
	b->now = 100000000;
	playout_init(&b->o);
}

static void on_out(void *ctx, struct bytes data, uint64_t now)
{
	struct bench *b = ctx;
	uint64_t number = be64_get(data.data);

	assert_in_range(number, 0, NUMBERS - 1);
	for (size_t i = 8; i < data.len; i++)
		assert_int_equal(data.data[i], (uint8_t)(number + i));
	b->times_out[number]++;
	b->out_us[number] = now;
	b->out_count++;
	b->backwards += b->out_count > 1 && number < b->last;
	b->last = number;
}

/* The sender's clock is another than ours. */
static struct playout_record record(struct bench *b, uint64_t number, struct block *k, size_t len)
{
	for (size_t i = 8; i < len; i++)
		k->data[i] = (uint8_t)(number + i);
	be64_put(k->data, number);
	return (struct playout_record){
		.number = number,
		.time = (uint16_t)(record_time(b->sent_us[number]) + 0xfff0u + b->drift),
		.data = bytes_of(k->data, len),
		.block = k,
	};
}

static void add_record(struct bench *b, const struct playout_record *r)
{
	b->came_us[r->number] = b->now;
	playout_add(&b->o, r, on_out, b, b->now);
}

/* Sent `ago_us` ago. */
static void come(struct bench *b, uint64_t number, uint64_t ago_us, size_t len)
{
	struct block *k = block_new(len);

	b->sent_us[number] = b->now - ago_us;
	struct playout_record r = record(b, number, k, len);
	add_record(b, &r);
	block_put(k);
}

static void until(struct bench *b, uint64_t at)
{
	while (playout_next(&b->o) <= at) {
		uint64_t next = playout_next(&b->o);
		if (next > b->now)
			b->now = next;
		playout_expire(&b->o, on_out, b, b->now);
	}
	b->now = at;
}

static void after(struct bench *b, uint64_t us)
{
	until(b, b->now + us);
}

static bool is_out(const struct bench *b, uint64_t number)
{
	return b->times_out[number] == 1;
}

/* Comes before what was sent earlier, as hops let sparse records. */
static void overtake(struct bench *b, uint64_t number)
{
	struct block *k = block_new(100);

	b->sent_us[number] = b->now;
	struct playout_record r = record(b, number, k, 100);
	r.overtakes = true;
	add_record(b, &r);
	block_put(k);
}

/* --- by hand ---------------------------------------------------------------------------------- */

static void test_nothing_missing(void **state)
{
	static struct bench b;

	(void)state;
	begin(&b);
	for (unsigned i = 0; i < 1000; i++) {
		come(&b, i, 1000 + any(&b, 20000), 100); /* uneven, but in order */
		assert_true(is_out(&b, i));
		assert_int_equal(playout_next(&b.o), UINT64_MAX);
		after(&b, 1000);
	}
	assert_null(b.o.slots); /* costs nothing */
	assert_int_equal(playout_delay_us(&b.o), 0);
	playout_free(&b.o);
}

/* The first that is missing gets a little time.  When it does not come, the next get none. */
static void test_lost(void **state)
{
	static struct bench b;

	(void)state;
	begin(&b);
	come(&b, 0, 0, 100);
	come(&b, 2, 0, 100);
	come(&b, 3, 0, 5000);
	assert_int_equal(b.out_count, 1);
	after(&b, PLAYOUT_WAIT_FIRST_US - 1000);
	assert_int_equal(b.out_count, 1);
	after(&b, 1000);
	assert_int_equal(b.out_count, 3);
	assert_int_equal(b.backwards, 0);
	come(&b, 5, 0, 100);
	assert_true(is_out(&b, 5));
	assert_int_equal(b.o.given_up, 2);
	playout_free(&b.o);
}

static void test_late(void **state)
{
	static struct bench b;

	(void)state;
	begin(&b);
	come(&b, 1, 0, 100);
	after(&b, 8 * MS);
	come(&b, 0, 0, 100);
	assert_int_equal(b.out_count, 2);
	assert_int_equal(b.backwards, 0);
	assert_int_equal(playout_patience_us(&b.o), 10 * MS);
	/* Beyond the patience it goes out when it comes, and the next is waited for longer. */
	come(&b, 3, 0, 100);
	after(&b, 20 * MS);
	assert_true(is_out(&b, 3));
	come(&b, 2, 0, 100);
	assert_true(is_out(&b, 2));
	assert_int_equal(playout_patience_us(&b.o), 25 * MS);
	come(&b, 5, 0, 100);
	after(&b, 24 * MS);
	assert_false(is_out(&b, 5));
	come(&b, 4, 0, 100);
	assert_true(is_out(&b, 4) && is_out(&b, 5));
	/* Remembered through a pause, but not for ever; and never longer than the limit. */
	after(&b, 2 * PLAYOUT_PERIOD_US);
	come(&b, 6, 0, 100);
	assert_int_equal(playout_patience_us(&b.o), 30 * MS);
	after(&b, 2 * (uint64_t)PLAYOUT_PERIOD_MAX_US);
	come(&b, 8, 0, 100);
	assert_true(is_out(&b, 8));
	after(&b, 3000 * MS);
	come(&b, 7, 0, 100);
	assert_int_equal(playout_patience_us(&b.o), PLAYOUT_WAIT_MAX_US);
	playout_free(&b.o);
}

static void test_eager_and_empty(void **state)
{
	static struct bench b;
	struct playout_record nothing = {.number = 3, .empty = true};
	struct block *k = block_new(100);

	(void)state;
	begin(&b);
	come(&b, 0, 0, 100);
	come(&b, 2, 0, 100);
	struct playout_record r = record(&b, 4, k, 100);
	r.eager = true;
	add_record(&b, &r);
	block_put(k);
	assert_true(is_out(&b, 4));
	assert_false(is_out(&b, 2));
	playout_add(&b.o, &nothing, on_out, &b, b.now);
	come(&b, 5, 0, 100);
	come(&b, 1, 0, 100); /* and so all are there */
	assert_int_equal(b.out_count, 5);
	assert_int_equal(b.o.next, 6);
	come(&b, 7, 0, 100);
	playout_flush(&b.o, on_out, &b, b.now);
	assert_true(is_out(&b, 7));
	playout_free(&b.o);
}

/* Bytes, records, numbers out of all proportion: it stays within its limits, and lets out the
 * oldest. */
static void test_limits(void **state)
{
	static struct bench b;

	(void)state;
	begin(&b);
	for (unsigned i = 1; i < 400; i++) {
		come(&b, i, 0, 60000);
		assert_in_range(b.o.held_bytes, 0, PLAYOUT_BYTES);
	}
	assert_true(is_out(&b, 398));
	playout_flush(&b.o, on_out, &b, b.now);
	for (unsigned i = 401; i < 401 + 3 * PLAYOUT_RECORDS; i++) {
		come(&b, i, 0, 10);
		assert_in_range(b.o.top - b.o.next, 0, PLAYOUT_RECORDS);
	}
	come(&b, 20000, 0, 100);
	come(&b, 50000, 0, 100);
	come(&b, 20001, 0, 100);
	assert_true(is_out(&b, 20001) && is_out(&b, 50000));
	assert_int_equal(b.o.held_bytes, 0);
	come(&b, 50002, 0, 100); /* dropped with the rest */
	playout_free(&b.o);
}

/* --- at random -------------------------------------------------------------------------------- */

struct coming {
	uint64_t at_us;
	uint32_t number;
};

static int by_time(const void *x, const void *y)
{
	const struct coming *a = x, *b = y;
	return a->at_us < b->at_us ? -1 : a->at_us > b->at_us;
}

/* `count` records from `first` on, one every `gap_us`, each late by its own luck. */
static void traffic(struct bench *b, uint32_t first, uint32_t count, uint32_t gap_us,
		    uint32_t jitter_us, unsigned lost_percent)
{
	struct coming *v = calloc(count, sizeof *v);
	uint64_t start = b->now;
	size_t n = 0;

	for (uint32_t i = 0; i < count; i++) {
		b->sent_us[first + i] = start + (uint64_t)i * gap_us;
		if (any(b, 100) >= lost_percent)
			v[n++] = (struct coming){b->sent_us[first + i] + 5000 +
							 (jitter_us ? any(b, jitter_us) : 0),
						 first + i};
	}
	qsort(v, n, sizeof *v, by_time);
	for (size_t i = 0; i < n; i++) {
		size_t len = 8 + any(b, any(b, 2) ? 100 : 20000);
		struct block *k = block_new(len);
		until(b, v[i].at_us);
		struct playout_record r = record(b, v[i].number, k, len);
		add_record(b, &r);
		block_put(k);
	}
	free(v);
}

/* Each once, none held too long. */
static void check(struct bench *b, uint32_t first, uint32_t count)
{
	for (uint32_t i = first; i < first + count; i++) {
		assert_int_equal(b->times_out[i], b->came_us[i] != 0);
		if (b->came_us[i])
			assert_in_range(b->out_us[i] - b->came_us[i], 0, 2 * PLAYOUT_WAIT_MAX_US);
	}
}

static void evened_out(const struct bench *b, uint32_t from, uint32_t to)
{
	uint64_t least = UINT64_MAX, most = 0;

	for (uint32_t i = from; i < to; i++) {
		uint64_t delay = b->out_us[i] - b->sent_us[i];
		least = delay < least ? delay : least;
		most = delay > most ? delay : most;
	}
	assert_in_range(least, 28 * MS, 36 * MS);
	assert_in_range(most, least, 38 * MS);
}

static void test_jitter(void **state)
{
	static struct bench b;

	(void)state;
	begin(&b);
	traffic(&b, 0, 5000, 1000, 30 * MS, 0);
	after(&b, 1000 * MS);
	check(&b, 0, 5000);
	/* Now it is known how the path is: all in order, all with nearly the same delay. */
	b.backwards = 0;
	traffic(&b, 5000, 5000, 1000, 30 * MS, 0);
	after(&b, 1000 * MS);
	check(&b, 5000, 5000);
	assert_int_equal(b.backwards, 0);
	evened_out(&b, 5000, 10000);
	/* Also after a pause in which the clocks have drifted apart. */
	after(&b, UINT64_C(3600000) * MS);
	b.drift = (unsigned)(20 * MS / RECORD_TIME_US);
	traffic(&b, 10000, 200, 1000, 30 * MS, 0);
	after(&b, 1000 * MS);
	evened_out(&b, 10050, 10200);
	/* Some of it never comes: those after it wait, but not for ever. */
	b.backwards = 0;
	traffic(&b, 10300, 5000, 1000, 30 * MS, 5);
	after(&b, 1000 * MS);
	check(&b, 10300, 5000);
	assert_int_equal(b.backwards, 0);
	/* Another path, in order: after a minute it is believed. */
	traffic(&b, 15300, 7000, 10 * MS, 0, 0);
	assert_int_equal(playout_delay_us(&b.o), 0);
	playout_free(&b.o);
}

static void test_random(void **state)
{
	static struct bench b;

	(void)state;
	for (unsigned seed = 1; seed <= 8; seed++) {
		begin(&b);
		b.rng *= seed;
		for (uint32_t at = 0; at + 3000 <= NUMBERS; at += 3000) {
			traffic(&b, at, 3000, 1 + any(&b, 2000), 1 + any(&b, 400 * MS),
				any(&b, 2) ? any(&b, 40) : 0);
			assert_in_range(b.o.held_bytes, 0, PLAYOUT_BYTES);
		}
		after(&b, 10000 * MS);
		check(&b, 0, NUMBERS / 3000 * 3000);
		assert_int_equal(b.o.held_bytes, 0);
		playout_free(&b.o);
	}
}

/* What was passed by is not late for that, and nothing waits for it; until the path is seen to
 * reorder by itself: then order counts. */
static void test_overtaking(void **state)
{
	static struct bench b;

	(void)state;
	begin(&b);
	for (uint64_t i = 0; i < 3; i++)
		come(&b, i, MS, 100);
	overtake(&b, 5);
	overtake(&b, 7);
	assert_true(is_out(&b, 5) && is_out(&b, 7));
	for (uint64_t i = 3; i < 10; i++) {
		if (i == 5 || i == 7)
			continue;
		after(&b, MS);
		come(&b, i, 20 * MS, 100);
		assert_true(is_out(&b, i));
	}
	assert_int_equal(b.o.late, 0);
	assert_int_equal(b.o.given_up, 0);
	/* One that is really missing is waited for all the same. */
	come(&b, 11, MS, 100);
	assert_false(is_out(&b, 11));
	come(&b, 10, MS, 100);
	assert_true(is_out(&b, 10) && is_out(&b, 11));
	assert_int_equal(b.o.late, 1);
	for (uint64_t i = 12; i < 18; i += 2) {
		come(&b, i + 1, MS, 100);
		after(&b, MS);
		come(&b, i, MS, 100);
	}
	overtake(&b, 19);
	assert_false(is_out(&b, 19));
	come(&b, 18, MS, 100);
	after(&b, 300 * MS);
	assert_true(is_out(&b, 18) && is_out(&b, 19));
	/* Far ahead it counts like any other. */
	overtake(&b, 20 + 2 * PLAYOUT_RECORDS);
	after(&b, 500 * MS);
	assert_true(is_out(&b, 20 + 2 * PLAYOUT_RECORDS));
	playout_free(&b.o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_missing),
		cmocka_unit_test(test_lost),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_eager_and_empty),
		cmocka_unit_test(test_overtaking),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_jitter),
		cmocka_unit_test(test_random),
	};
	return cmocka_run_group_tests_name("playout", tests, NULL, NULL);
}
