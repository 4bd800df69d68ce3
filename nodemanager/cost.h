/*
 * What a link costs: pure arithmetic over what its two ends measure.
 *
 * The unit is 10 us of time.  A link costs 1 ms for being a hop at all, its round trip, 1 ms for
 * each percent of loss, the time that 100 kbit need on it where its rate is known (10 Mbit/s: 10
 * ms), and the time that a standing queue needs to drain, up to 20 ms.
 *
 * The rate is known only where packets have waited for it: what passes over an idle link says how
 * much was sent, not how much could be.  The standing queue is the least of the last reports, so a
 * burst is none.
 *
 * Who looks for paths sees a cost that keeps still: what is measured must differ by a quarter, for
 * some seconds, before the cost follows; sooner for the worse than for the better, and sooner still
 * when it is much worse.
 */
#ifndef NODEMANAGER_COST_H
#define NODEMANAGER_COST_H

#include <stdbool.h>
#include <stdint.h>

#define COST_UNMEASURED 1000u /* of a link of which nothing is known */
#define COST_MAX (1u << 24)   /* what measurements can make of it */
#define COST_MUCH_WORSE_US 1500000u
#define COST_WORSE_US 4000000u
#define COST_BETTER_US 10000000u
#define COST_QUEUE_REPORTS 4 /* a queue that stands through so many reports of both ends */

/* One report of one end. */
struct cost_sample {
	uint32_t rtt_us; /* 0: not known yet; then the sample says nothing */
	uint32_t loss_ppm, queue_bytes;
	uint64_t rate_bps; /* goodput, as sent */
};

/* Zero it before the first use. */
struct cost_meter {
	bool measured;
	uint32_t rtt_us, loss_ppm; /* smoothed */
	uint64_t capacity_bps;	   /* 0: not known */
	uint32_t queues[COST_QUEUE_REPORTS], queue_at;
	uint32_t settled;	/* what cost_meter_get says */
	uint64_t differs_since; /* since when it differs, to the same side; 0: it does not */
	bool worse;		/* that side */
};

void cost_meter_sample(struct cost_meter *m, const struct cost_sample *s, uint64_t now);
/* The cost to find paths with: COST_UNMEASURED before the first sample. */
uint32_t cost_meter_get(const struct cost_meter *m);
/* What the last measurements alone would say. */
uint32_t cost_meter_raw(const struct cost_meter *m);
uint32_t cost_meter_queue(const struct cost_meter *m); /* bytes that stand */

/* Is a path of `better` worth leaving one of `now` for?  It must be cheaper by a quarter and by 2
 * ms. */
bool cost_is_worth_a_move(uint64_t better, uint64_t now);
#endif
