/* The rate model against paths of known rate and round trip, packet by packet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "core/bbr.h"

#define PACKET 1200u
#define FLIGHT 65536u /* packets, at most */
#define MBIT 1000000u
#define LEAST (32u * PACKET)

/* A bottleneck with an endless queue, and acks that are never lost. */
struct path {
	struct bbr b;
	uint64_t now, rate_bps, delay_us, free_at_us;
	unsigned loss_percent;
	bool app_limited; /* one packet a millisecond is all there is to send */
	uint64_t rng;
	/* As sendstate.c counts. */
	uint64_t delivered, delivered_us, first_sent_us, inflight;
	uint64_t pace_at_us, pace_fraction; /* of 1024 */
	unsigned lost_since;
	struct sent {
		uint64_t back_us, sent_us, delivered, delivered_us, first_sent_us;
		bool lost, app_limited;
	} flight[FLIGHT];
	uint64_t head, tail; /* oldest, next */
	uint64_t rtt_sum_us, rtt_count, longest_rtt_us, bytes;
};

static void path_init(struct path *p, uint64_t rate_bps, uint64_t rtt_us)
{
	memset(p, 0, sizeof *p);
	p->now = 1000000;
	p->rng = 1;
	p->rate_bps = rate_bps;
	p->delay_us = rtt_us;
	bbr_init(&p->b, p->now);
}

static void transmit(struct path *p)
{
	struct sent *s = &p->flight[p->tail++ % FLIGHT];
	uint64_t start = p->free_at_us > p->now ? p->free_at_us : p->now;

	assert_true(p->tail - p->head < FLIGHT);
	if (p->inflight == 0)
		p->delivered_us = p->first_sent_us = p->now;
	p->rng = p->rng * 6364136223846793005u + 1442695040888963407u;
	p->free_at_us = start + (uint64_t)PACKET * 8 * MBIT / p->rate_bps;
	*s = (struct sent){p->free_at_us + p->delay_us,
			   p->now,
			   p->delivered,
			   p->delivered_us,
			   p->first_sent_us,
			   (p->rng >> 33) % 100 < p->loss_percent,
			   p->app_limited};
	p->inflight += PACKET;
	uint64_t pacing = bbr_pacing_bps(&p->b);
	if (pacing) {
		p->pace_fraction += (uint64_t)PACKET * 8 * MBIT * 1024 / pacing;
		p->pace_at_us =
			(p->pace_at_us > p->now ? p->pace_at_us : p->now) + p->pace_fraction / 1024;
		p->pace_fraction %= 1024;
	}
	if (p->app_limited)
		p->pace_at_us = p->now + 1000;
}

static void acked(struct path *p, const struct sent *s)
{
	uint64_t elapsed = p->now - s->delivered_us, sending = s->sent_us - s->first_sent_us;
	uint64_t rtt_us = p->now - s->sent_us;

	p->delivered += PACKET;
	p->delivered_us = p->now;
	p->first_sent_us = s->sent_us;
	p->bytes += PACKET;
	p->rtt_sum_us += rtt_us;
	p->rtt_count++;
	if (rtt_us > p->longest_rtt_us)
		p->longest_rtt_us = rtt_us;
	bbr_update(&p->b,
		   &(struct bbr_sample){
			   .rate_bps = (p->delivered - s->delivered) * 8 * MBIT /
				       (elapsed > sending ? elapsed : sending),
			   .app_limited = s->app_limited,
			   .rtt_us = rtt_us,
			   .delivered_bytes = p->delivered,
			   .sent_delivered_bytes = s->delivered,
			   .inflight_bytes = p->inflight,
			   .packets = 1,
			   .lost = p->lost_since,
		   },
		   p->now);
	p->lost_since = 0;
}

static void run(struct path *p, uint64_t us)
{
	uint64_t until = p->now + us;

	p->bytes = p->rtt_sum_us = p->rtt_count = p->longest_rtt_us = 0;
	for (;;) {
		bool open = p->inflight < bbr_window(&p->b, LEAST);
		uint64_t send_at = !open		    ? UINT64_MAX
				   : p->pace_at_us > p->now ? p->pace_at_us
							    : p->now;
		uint64_t back_at =
			p->head < p->tail ? p->flight[p->head % FLIGHT].back_us : UINT64_MAX;
		uint64_t next = send_at < back_at ? send_at : back_at;
		if (next > until)
			break;
		p->now = next;
		if (next == send_at) {
			transmit(p);
			continue;
		}
		struct sent s = p->flight[p->head++ % FLIGHT];
		p->inflight -= PACKET;
		if (s.lost)
			p->lost_since++;
		else
			acked(p, &s);
	}
	p->now = until;
}

static uint64_t goodput(const struct path *p, uint64_t us)
{
	return p->bytes * 8 * MBIT / us;
}

static void test_startup(void **state)
{
	static struct path p;

	(void)state;
	path_init(&p, 100 * MBIT, 20000);
	assert_int_equal(bbr_pacing_bps(&p.b), 0);
	assert_int_equal(bbr_window(&p.b, LEAST), LEAST);
	run(&p, 300000);
	assert_int_not_equal(p.b.mode, BBR_STARTUP);
	assert_in_range(p.b.rate_bps, 90 * MBIT, 110 * MBIT);
	assert_in_range(p.b.min_rtt_us, 20000, 20200);
}

/* Every kind of path: nearly all of its rate is used and the queue stays short. */
static void test_steady(void **state)
{
	static const struct {
		uint64_t rate_bps, rtt_us;
	} paths[] = {{1 * MBIT, 100000},
		     {10 * MBIT, 5000},
		     {100 * MBIT, 50000},
		     {100 * MBIT, 1000},
		     {800 * MBIT, 10000}};
	static struct path p;

	(void)state;
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		path_init(&p, paths[i].rate_bps, paths[i].rtt_us);
		run(&p, 3000000);
		run(&p, 5000000);
		assert_in_range(goodput(&p, 5000000), paths[i].rate_bps * 93 / 100,
				paths[i].rate_bps * 101 / 100);
		/* Never a window more than the path holds, apart from the least window. */
		uint64_t least_us = (uint64_t)LEAST * 8 * MBIT / paths[i].rate_bps;
		assert_in_range(p.rtt_sum_us / p.rtt_count, paths[i].rtt_us,
				paths[i].rtt_us * 3 / 2 + least_us + 1500);
	}
}

static void test_loss_does_not_slow_it(void **state)
{
	static struct path p;

	(void)state;
	for (unsigned percent = 1; percent <= 30; percent += 29) {
		path_init(&p, 50 * MBIT, 20000);
		p.loss_percent = percent;
		run(&p, 3000000);
		run(&p, 5000000);
		uint64_t best = 50 * MBIT / 100 * (100 - percent);
		assert_in_range(goodput(&p, 5000000), best * 88 / 100, best * 101 / 100);
		assert_in_range(p.b.loss_floor_ppm, percent * 3000, percent * 10500);
	}
	p.loss_percent = 0;
	run(&p, 2000000);
	assert_int_equal(p.b.loss_floor_ppm, 0); /* forgotten when it is over */
}

/* What a link keeps up is measured in slots; the first begins when the model does, and one in which
 * the link was cut does not count. */
static void test_slots_that_say_nothing(void **state)
{
	const uint64_t begin = 1000000000000;
	struct bbr b;

	(void)state;
	for (int cut = 0; cut < 2; cut++) {
		struct bbr_sample s = {.rate_bps = 100 * MBIT, .rtt_us = 1000, .packets = 1};
		uint64_t now = begin;
		bbr_init(&b, now);
		b.mode = BBR_PROBE_RATE;
		for (unsigned i = 0; i < 20; i++) {
			now += cut && i == 10 ? 8000000 : 6000;
			s.app_limited = i != (cut ? 10 : 0);
			s.sent_delivered_bytes = s.delivered_bytes;
			s.delivered_bytes += 60000;
			bbr_update(&b, &s, now);
		}
		s.rtt_us = 9000; /* a queue stands from now on */
		s.rate_bps = 101 * MBIT;
		for (unsigned i = 0; i < 100; i++) {
			now += 1000;
			s.app_limited = true;
			s.sent_delivered_bytes = s.delivered_bytes;
			s.delivered_bytes += 12000;
			bbr_update(&b, &s, now);
		}
		assert_in_range(b.rate_bps, 90 * MBIT, 110 * MBIT);
	}
}

/* The path becomes slower or faster: followed within its memory. */
static void test_rate_changes(void **state)
{
	static struct path p;

	(void)state;
	path_init(&p, 100 * MBIT, 10000);
	run(&p, 2000000);
	p.rate_bps = 20 * MBIT;
	run(&p, 2000000);
	run(&p, 2000000);
	assert_in_range(p.b.rate_bps, 18 * MBIT, 24 * MBIT);
	assert_in_range(goodput(&p, 2000000), 18 * MBIT, 21 * MBIT);
	assert_in_range(p.longest_rtt_us, 10000, 40000); /* what it had queued is gone */
	p.rate_bps = 80 * MBIT;
	run(&p, 3000000); /* a quarter more in every eighth round */
	run(&p, 2000000);
	assert_in_range(goodput(&p, 2000000), 70 * MBIT, 81 * MBIT);
}

/* The way becomes longer: the least round trip of before is forgotten after a while. */
static void test_longer_way(void **state)
{
	static struct path p;

	(void)state;
	path_init(&p, 20 * MBIT, 10000);
	run(&p, 2000000);
	assert_in_range(p.b.min_rtt_us, 10000, 10600);
	p.delay_us = 60000;
	run(&p, 15000000);
	assert_in_range(p.b.min_rtt_us, 60000, 65000);
	run(&p, 3000000);
	assert_in_range(goodput(&p, 3000000), 18 * MBIT, 21 * MBIT);
}

/* Who has little to send does not learn from it that the path is slow. */
static void test_app_limited(void **state)
{
	static struct path p;

	(void)state;
	path_init(&p, 100 * MBIT, 10000);
	run(&p, 2000000);
	uint64_t rate = p.b.rate_bps;
	p.app_limited = true;
	run(&p, 5000000);
	assert_in_range(goodput(&p, 5000000), 9 * MBIT, 10 * MBIT);
	assert_in_range(p.b.rate_bps, rate * 9 / 10, rate * 11 / 10);
	p.app_limited = false;
	run(&p, 300000);
	assert_in_range(goodput(&p, 300000), 80 * MBIT, 101 * MBIT);
}

/* Ten round trips of 10 ms at 100 Mbit/s, as a sender sees them that has gaps. */
static enum bbr_mode mode_with_gaps(uint64_t inflight_bytes)
{
	struct bbr b;
	struct bbr_sample s = {.rate_bps = 100 * MBIT,
			       .app_limited = true,
			       .rtt_us = 10000,
			       .inflight_bytes = inflight_bytes,
			       .packets = 100};

	bbr_init(&b, 0);
	for (unsigned i = 1; i <= 10; i++) {
		s.sent_delivered_bytes = s.delivered_bytes;
		s.delivered_bytes += 125000;
		bbr_update(&b, &s, i * 10000);
	}
	return b.mode;
}

/* One that has gaps, but sends more between them than the path takes, has found its rate: going on
 * to send three times as fast would only fill queues. */
static void test_gaps_and_a_full_path(void **state)
{
	(void)state;
	assert_int_equal(mode_with_gaps(125000), BBR_STARTUP);
	assert_int_not_equal(mode_with_gaps(250000), BBR_STARTUP);
}

static void test_jitter_widens_the_window(void **state)
{
	static struct path p;

	(void)state;
	path_init(&p, 100 * MBIT, 10000);
	run(&p, 2000000);
	uint64_t narrow = bbr_window(&p.b, LEAST);
	p.b.jitter_us = 5000;
	assert_in_range(bbr_window(&p.b, LEAST), narrow * 2, narrow * 4);
	uint64_t wide = bbr_window(&p.b, LEAST);
	p.b.jitter_us = 1000000000; /* but not without end */
	assert_in_range(bbr_window(&p.b, LEAST), wide, narrow * 12);
}

/* Whatever it is told, it answers something that can be used. */
/* What varies while nothing comes back as fast as it could is our own queue: no room for that.  One
 * fast round trip in a while is what a path with jitter has. */
static void test_own_queue_is_no_jitter(void **state)
{
	static struct path p;

	(void)state;
	path_init(&p, 100 * MBIT, 1000);
	run(&p, 3000000);
	uint64_t steady = bbr_window(&p.b, PACKET);
	for (unsigned i = 0; i < 640; i++) {
		bool fast = i < 320 && i % 16 == 0;
		struct bbr_sample s = {.rtt_us = fast ? p.b.min_rtt_us : 3000, .jitter_us = 1000};
		bbr_update(&p.b, &s, p.now);
		if (i == 319)
			assert_true(bbr_window(&p.b, PACKET) >= steady + 90000);
	}
	assert_in_range(bbr_window(&p.b, PACKET), steady, steady + 3000);
}

static void test_bounds(void **state)
{
	struct bbr b;
	uint64_t rng = 7, now = 1;

	(void)state;
	bbr_init(&b, now);
	for (unsigned i = 0; i < 300000; i++) {
		struct bbr_sample s;
		uint64_t v[8];
		for (unsigned n = 0; n < 8; n++) {
			rng = rng * 6364136223846793005u + 1442695040888963407u;
			v[n] = rng >> 24 >> rng % 40;
		}
		s = (struct bbr_sample){.rate_bps = v[0],
					.app_limited = v[1] & 1,
					.rtt_us = v[1] % 60000000,
					.jitter_us = v[2],
					.delivered_bytes = v[3],
					.sent_delivered_bytes = v[4],
					.inflight_bytes = v[5],
					.packets = v[6] % 1000,
					.lost = v[7] % 1000};
		now += v[2] % 100000;
		bbr_update(&b, &s, now);
		assert_in_range(b.loss_floor_ppm, 0, 350000);
		assert_true(bbr_window(&b, LEAST) >= LEAST / 8);
		assert_true(b.rate_bps == 0 || bbr_pacing_bps(&b) > 0 || b.rate_bps < 10);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_startup),
		cmocka_unit_test(test_steady),
		cmocka_unit_test(test_loss_does_not_slow_it),
		cmocka_unit_test(test_rate_changes),
		cmocka_unit_test(test_slots_that_say_nothing),
		cmocka_unit_test(test_longer_way),
		cmocka_unit_test(test_app_limited),
		cmocka_unit_test(test_gaps_and_a_full_path),
		cmocka_unit_test(test_jitter_widens_the_window),
		cmocka_unit_test(test_own_queue_is_no_jitter),
		cmocka_unit_test(test_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
