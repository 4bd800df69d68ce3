/*
 * Congestion control by a model of the path: the greatest delivery rate and the least round trip
 * seen lately (after BBR, draft-ietf-ccwg-bbr).  Losses alone do not slow it down; what a radio
 * loses at any speed is measured as a floor and paid for with rate.  Pure arithmetic.
 */
#ifndef CORE_BBR_H
#define CORE_BBR_H

#include <stdbool.h>
#include <stdint.h>

#define BBR_LOSS_ROUNDS 4  /* and the loss floor after this many */
#define BBR_RATE_ROUNDS 10 /* the rate filter forgets after this many round trips, */
#define BBR_RATE_SLOT_US                                                                           \
	5000u /* each of which counts as so long at least: on a path of microseconds               \
		 what a busy machine does to a process must not look like the path */

enum bbr_mode { BBR_STARTUP, BBR_DRAIN, BBR_PROBE_RATE, BBR_PROBE_RTT };

struct bbr {
	enum bbr_mode mode;
	uint64_t rate_bps; /* greatest of the rounds below */
	uint64_t round_rate_bps[BBR_RATE_ROUNDS];
	uint64_t slot, slot_at_us; /* of the filter: the current one, and its begin */
	/* What came of whole slots in which the sender always had more to send; it counts until
	 * `queued_until_us`. */
	uint64_t busy_rate_bps[BBR_RATE_ROUNDS], busy_slots, slot_begin_bytes;
	uint64_t queued_until_us;
	bool slot_starved;		    /* the sender had nothing more, at times */
	uint64_t round, round_end_bytes;    /* a round ends when this much has been delivered */
	uint64_t round_inflight_bytes;	    /* greatest of this round */
	uint64_t round_sent, round_lost;    /* packets, for the loss floor */
	uint32_t loss_ppm[BBR_LOSS_ROUNDS]; /* of the last measured rounds */
	unsigned loss_rounds;
	uint32_t loss_floor_ppm;
	uint64_t min_rtt_us, min_rtt_at_us, probe_rtt_until_us, jitter_us;
	/* By how much the least of the last round trips exceeded min_rtt_us: what always waits. */
	uint64_t standing_us, standing_least_us;
	unsigned standing_samples;
	bool reorders; /* the path does: what varies is the path, not a queue of ours */
	uint64_t full_rate_bps;
	unsigned full_rounds;
	unsigned cycle;
	uint64_t cycle_at_us;
	uint32_t pacing_gain_pct, window_gain_pct;
};

struct bbr_sample {
	uint64_t rate_bps;	       /* delivery rate; 0: none */
	bool app_limited;	       /* the sender had nothing more to send: may be too low */
	uint64_t rtt_us;	       /* 0: none */
	uint64_t jitter_us;	       /* mean deviation of the round trip */
	bool reorders;		       /* packets overtook others lately */
	uint64_t delivered_bytes;      /* in all, now */
	uint64_t sent_delivered_bytes; /* in all, when the newest acknowledged packet was sent */
	uint64_t inflight_bytes;
	uint64_t packets, lost; /* newly acknowledged and newly lost */
};

void bbr_init(struct bbr *b, uint64_t now);
void bbr_update(struct bbr *b, const struct bbr_sample *s, uint64_t now);
/* 0 while nothing is known: do not pace. */
uint64_t bbr_pacing_bps(const struct bbr *b);
/* Bytes that may be in flight; `least` is the answer while nothing is known. */
uint64_t bbr_window(const struct bbr *b, uint64_t least);
#endif
