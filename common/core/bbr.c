#include "core/bbr.h"

#define STARTUP_GAIN_PCT 289u	/* 2 / ln 2: doubles the rate each round trip */
#define STARTUP_GROWTH_PCT 125u /* less than this in three rounds: the pipe is full */
#define STARTUP_FULL_ROUNDS 3u
#define OVERFULL_PCT 150u
#define KEPT_UP_PCT 150u
#define KEPT_UP_LEAST_BPS 4000000u /* below this a queue is a few packets */
#define BUSY_SLOT_MAX_US (4 * BBR_RATE_SLOT_US)
#define QUEUED_US 2000u	       /* more always waits: the path does not keep up */
#define QUEUED_FOR_US 2000000u /* and will not for so long */
#define WINDOW_GAIN_PCT 200u
#define CYCLE_PHASES 8u
#define MIN_RTT_WINDOW_US 10000000u
#define PROBE_RTT_US 100000u
#define JITTER_FACTOR 4u /* a jittery path holds more than rate times least round trip */
#define JITTER_MAX_US 100000u
#define STANDING_SAMPLES 32u	/* acks, at a jittery path enough to see its best */
#define AGGREGATION_US 1000u	/* acks and wake-ups come in bunches of about this */
#define LOSS_ROUND_PACKETS 800u /* the least of a few small rounds is far below what is lost */
#define LOSS_FLOOR_MAX_PPM 350000u

void bbr_init(struct bbr *b, uint64_t now)
{
	*b = (struct bbr){
		.mode = BBR_STARTUP,
		.pacing_gain_pct = STARTUP_GAIN_PCT,
		.window_gain_pct = STARTUP_GAIN_PCT,
		.min_rtt_at_us = now,
		.slot_at_us = now,
		.slot_starved = true, /* begun before there was anything to send */
	};
}

static uint64_t bdp(const struct bbr *b, uint64_t rtt_us)
{
	return b->rate_bps / 8 * rtt_us / 1000000;
}

/* A path that jitters lets some packets through as fast as ever.  When none is, what varies is the
 * queue that we keep there ourselves, and room for that would only make it longer. */
static uint64_t path_rtt(const struct bbr *b)
{
	uint64_t jitter = b->jitter_us > b->standing_us ? b->jitter_us - b->standing_us : 0;

	jitter *= JITTER_FACTOR;
	return b->min_rtt_us + (jitter < JITTER_MAX_US ? jitter : JITTER_MAX_US);
}

/* --- filters ------------------------------------------------------------------------------ */

/* The least loss of the last rounds: a full queue shows itself in some rounds only, a bad radio in
 * all, also while we send less than the path carries. */
static void close_loss_round(struct bbr *b)
{
	if (b->round_sent < LOSS_ROUND_PACKETS)
		return;
	b->loss_ppm[b->loss_rounds++ % BBR_LOSS_ROUNDS] =
		(uint32_t)(b->round_lost * 1000000 / b->round_sent);
	b->round_sent = b->round_lost = 0;
	if (b->loss_rounds < BBR_LOSS_ROUNDS)
		return;
	uint32_t least = LOSS_FLOOR_MAX_PPM;
	for (unsigned i = 0; i < BBR_LOSS_ROUNDS; i++)
		if (b->loss_ppm[i] < least)
			least = b->loss_ppm[i];
	b->loss_floor_ppm = least;
}

static void close_slot(struct bbr *b, const struct bbr_sample *s, uint64_t now)
{
	uint64_t bytes = s->delivered_bytes - b->slot_begin_bytes, took = now - b->slot_at_us;

	/* A long one tells of a link that was cut. */
	if (!b->slot_starved && took <= BUSY_SLOT_MAX_US + 2 * b->min_rtt_us)
		b->busy_rate_bps[b->busy_slots++ % BBR_RATE_ROUNDS] = bytes * 8 * 1000000 / took;
	b->slot_starved = false;
	b->slot_begin_bytes = s->delivered_bytes;
	b->slot_at_us = now;
	b->slot++;
	b->round_rate_bps[b->slot % BBR_RATE_ROUNDS] = 0;
}

/* True when a round trip has passed since the last time. */
static bool next_round(struct bbr *b, const struct bbr_sample *s, uint64_t now)
{
	b->slot_starved |= s->app_limited;
	b->round_sent += s->packets + s->lost;
	b->round_lost += s->lost;
	if (s->sent_delivered_bytes < b->round_end_bytes)
		return false;
	b->round_end_bytes = s->delivered_bytes;
	b->round++;
	if (now >= b->slot_at_us + BBR_RATE_SLOT_US)
		close_slot(b, s, now);
	close_loss_round(b);
	return true;
}

static uint64_t greatest_of(const uint64_t *v)
{
	uint64_t greatest = 0;

	for (unsigned i = 0; i < BBR_RATE_ROUNDS; i++)
		if (v[i] > greatest)
			greatest = v[i];
	return greatest;
}

/* A link that lets a burst pass after a rest (a token bucket, as most providers have one) shows
 * rates that it does not keep up; where a queue stands, what it delivered in whole slots says how
 * much it does, and half as much again finds out whether it can do more.  Elsewhere such a slot may
 * tell of a busy machine instead, and to believe it would make it true. */
static uint64_t kept_up(const struct bbr *b, uint64_t rate_bps, uint64_t now)
{
	uint64_t most = greatest_of(b->busy_rate_bps) * KEPT_UP_PCT / 100;

	if (now >= b->queued_until_us || !most)
		return rate_bps;
	if (most < KEPT_UP_LEAST_BPS)
		most = KEPT_UP_LEAST_BPS;
	return most < rate_bps ? most : rate_bps;
}

static void update_rate(struct bbr *b, const struct bbr_sample *s, uint64_t now)
{
	uint64_t *slot = &b->round_rate_bps[b->slot % BBR_RATE_ROUNDS], greatest;

	if (s->rate_bps > *slot && (!s->app_limited || s->rate_bps > b->rate_bps))
		*slot = s->rate_bps;
	greatest = greatest_of(b->round_rate_bps);
	/* With the sender idle all slots run empty: what was known stays. */
	if (greatest)
		b->rate_bps = kept_up(b, greatest, now);
}

/* As CoDel tells a standing queue from a passing one: by the least of a while.  A queue does not
 * reorder: a path that does shows its best round trip too seldom to tell by. */
static void update_standing(struct bbr *b, uint64_t rtt_us, uint64_t now)
{
	if (b->reorders) {
		b->standing_us = 0;
		b->standing_samples = 0;
		return;
	}
	if (!b->standing_samples || rtt_us < b->standing_least_us)
		b->standing_least_us = rtt_us;
	if (++b->standing_samples < STANDING_SAMPLES)
		return;
	b->standing_samples = 0;
	b->standing_us =
		b->standing_least_us > b->min_rtt_us ? b->standing_least_us - b->min_rtt_us : 0;
	if (b->standing_us > QUEUED_US && b->mode != BBR_STARTUP)
		b->queued_until_us = now + QUEUED_FOR_US;
}

static void update_min_rtt(struct bbr *b, const struct bbr_sample *s, uint64_t now)
{
	if (!s->rtt_us)
		return;
	b->jitter_us = s->jitter_us;
	b->reorders = s->reorders;
	bool expired = now > b->min_rtt_at_us + MIN_RTT_WINDOW_US;
	if (!b->min_rtt_us || s->rtt_us <= b->min_rtt_us || (expired && b->mode == BBR_PROBE_RTT)) {
		b->min_rtt_us = s->rtt_us;
		b->min_rtt_at_us = now;
	}
	update_standing(b, s->rtt_us, now);
}

/* --- modes -------------------------------------------------------------------------------- */

static void enter_probe_rate(struct bbr *b, uint64_t now)
{
	b->mode = BBR_PROBE_RATE;
	b->window_gain_pct = WINDOW_GAIN_PCT;
	b->cycle = 2; /* begins with a steady phase */
	b->pacing_gain_pct = 100;
	b->cycle_at_us = now;
}

/* More is under way than the rate explains, so some of it waits: the path is full, whether or not
 * the sender has more. */
static bool overfull(const struct bbr *b)
{
	return b->round_inflight_bytes > bdp(b, path_rtt(b)) * OVERFULL_PCT / 100;
}

static void run_startup(struct bbr *b, const struct bbr_sample *s, bool round)
{
	if (s->inflight_bytes > b->round_inflight_bytes)
		b->round_inflight_bytes = s->inflight_bytes;
	if (!round || !b->rate_bps)
		return;
	bool full = !s->app_limited || overfull(b);
	b->round_inflight_bytes = 0;
	if (!full)
		return;
	if (b->rate_bps >= b->full_rate_bps * STARTUP_GROWTH_PCT / 100) {
		b->full_rate_bps = b->rate_bps;
		b->full_rounds = 0;
		return;
	}
	if (++b->full_rounds >= STARTUP_FULL_ROUNDS) {
		b->mode = BBR_DRAIN;
		b->pacing_gain_pct = 100 * 100 / STARTUP_GAIN_PCT;
		b->window_gain_pct = STARTUP_GAIN_PCT;
	}
}

static void run_cycle(struct bbr *b, const struct bbr_sample *s, uint64_t now)
{
	static const uint32_t gains[CYCLE_PHASES] = {125, 75, 100, 100, 100, 100, 100, 100};
	uint64_t length = path_rtt(b) > AGGREGATION_US ? path_rtt(b) : AGGREGATION_US;
	bool due = now >= b->cycle_at_us + length;

	/* The slow phase may end as soon as what the fast one queued is gone. */
	if (b->pacing_gain_pct < 100 && s->inflight_bytes <= bdp(b, path_rtt(b)))
		due = true;
	if (!due)
		return;
	b->cycle = (b->cycle + 1) % CYCLE_PHASES;
	b->cycle_at_us = now;
	b->pacing_gain_pct = gains[b->cycle];
}

static void run_probe_rtt(struct bbr *b, uint64_t now)
{
	if (b->mode != BBR_PROBE_RTT && b->mode != BBR_STARTUP &&
	    now > b->min_rtt_at_us + MIN_RTT_WINDOW_US) {
		b->mode = BBR_PROBE_RTT;
		b->pacing_gain_pct = 100;
		b->window_gain_pct = 50;
		b->probe_rtt_until_us = now + PROBE_RTT_US + path_rtt(b);
	}
	if (b->mode == BBR_PROBE_RTT && now >= b->probe_rtt_until_us) {
		b->min_rtt_at_us = now;
		enter_probe_rate(b, now);
	}
}

void bbr_update(struct bbr *b, const struct bbr_sample *s, uint64_t now)
{
	bool round = next_round(b, s, now);

	update_rate(b, s, now);
	update_min_rtt(b, s, now);
	if (b->mode == BBR_STARTUP)
		run_startup(b, s, round);
	if (b->mode == BBR_DRAIN && s->inflight_bytes <= bdp(b, path_rtt(b)))
		enter_probe_rate(b, now);
	if (b->mode == BBR_PROBE_RATE)
		run_cycle(b, s, now);
	run_probe_rtt(b, now);
}

uint64_t bbr_pacing_bps(const struct bbr *b)
{
	uint64_t rate = b->rate_bps * b->pacing_gain_pct / 100;
	return rate * 1000 / ((1000000 - b->loss_floor_ppm) / 1000);
}

uint64_t bbr_window(const struct bbr *b, uint64_t least)
{
	if (!b->rate_bps || !b->min_rtt_us)
		return least;
	uint64_t w = bdp(b, path_rtt(b)) * b->window_gain_pct / 100 + bdp(b, AGGREGATION_US);
	/* What is lost on the way is in flight too. */
	w = w * 1000000 / (1000000 - b->loss_floor_ppm);
	uint64_t floor = b->mode == BBR_PROBE_RTT ? least / 8 : least;
	return w > floor ? w : floor;
}
