#include "nodemanager/cost.h"

#include <stddef.h>

#define HOP 100u /* of any hop, however fast: fewer hops win between equals */
#define RTT_US_PER_COST 10u
#define LOSS_PPM_PER_COST 100u
#define RTT_MAX_US 60000000u
#define LOSS_MAX_PPM 1000000u
#define RATE_BITS 100000u /* whose time on the link is counted */
#define UNITS_PER_SECOND 100000u
#define RATE_COST_MAX 100000u /* of a link of 100 kbit/s, and of all that are slower */
#define QUEUE_COST_MAX 2000u
#define MOVE_GAIN 200u	    /* 2 ms: traffic of our own makes as much of a difference */
#define LOADED_BYTES 16384u /* with so much waiting, what leaves is all that can leave */

/* A step of 1 / 2^shift towards the sample. */
static uint32_t smooth(uint32_t old, uint32_t sample, unsigned shift)
{
	int64_t step = ((int64_t)sample - (int64_t)old) / (1 << shift);
	return (uint32_t)((int64_t)old + step);
}

static uint32_t at_most(uint64_t value, uint32_t max)
{
	return value < max ? (uint32_t)value : max;
}

/* More than was thought possible has passed: that is known at once.  Less counts only under load.
 */
static void take_rate(struct cost_meter *m, const struct cost_sample *s)
{
	bool loaded = s->queue_bytes >= LOADED_BYTES && s->rate_bps;
	if (m->capacity_bps && s->rate_bps > m->capacity_bps)
		m->capacity_bps = s->rate_bps;
	else if (loaded && m->capacity_bps)
		m->capacity_bps -= (m->capacity_bps - s->rate_bps) / 4;
	else if (loaded)
		m->capacity_bps = s->rate_bps;
}

uint32_t cost_meter_queue(const struct cost_meter *m)
{
	uint32_t least = UINT32_MAX;
	for (size_t i = 0; i < COST_QUEUE_REPORTS; i++)
		if (m->queues[i] < least)
			least = m->queues[i];
	return least;
}

uint32_t cost_meter_raw(const struct cost_meter *m)
{
	if (!m->measured)
		return COST_UNMEASURED;
	uint64_t cost = HOP + m->rtt_us / RTT_US_PER_COST + m->loss_ppm / LOSS_PPM_PER_COST;
	if (m->capacity_bps) {
		uint64_t queue = (uint64_t)cost_meter_queue(m) * 8 * UNITS_PER_SECOND;
		cost += at_most((uint64_t)RATE_BITS * UNITS_PER_SECOND / m->capacity_bps,
				RATE_COST_MAX);
		cost += at_most(queue / m->capacity_bps, QUEUE_COST_MAX);
	}
	return at_most(cost, COST_MAX);
}

static uint64_t patience(uint32_t raw, uint32_t settled)
{
	if (raw <= settled)
		return COST_BETTER_US;
	return raw / 2 >= settled ? COST_MUCH_WORSE_US : COST_WORSE_US;
}

static void settle(struct cost_meter *m, uint64_t now)
{
	uint32_t raw = cost_meter_raw(m), old = m->settled;
	bool worse = raw > old;
	if ((worse ? raw - old : old - raw) <= old / 4) {
		m->differs_since = 0;
		return;
	}
	if (!m->differs_since || m->worse != worse) {
		m->differs_since = now;
		m->worse = worse;
	}
	if (now - m->differs_since < patience(raw, old))
		return;
	m->settled = raw;
	m->differs_since = 0;
}

void cost_meter_sample(struct cost_meter *m, const struct cost_sample *s, uint64_t now)
{
	if (!s->rtt_us)
		return;
	uint32_t rtt = at_most(s->rtt_us, RTT_MAX_US), loss = at_most(s->loss_ppm, LOSS_MAX_PPM);
	/* The two ends report in turn, each its own smoothed view. */
	m->rtt_us = m->measured ? smooth(m->rtt_us, rtt, 2) : rtt;
	m->loss_ppm = m->measured ? smooth(m->loss_ppm, loss, 2) : loss;
	m->queues[m->queue_at++ % COST_QUEUE_REPORTS] = s->queue_bytes;
	take_rate(m, s);
	bool first = !m->measured;
	m->measured = true;
	if (first)
		m->settled = cost_meter_raw(m);
	else
		settle(m, now);
}

uint32_t cost_meter_get(const struct cost_meter *m)
{
	return m->measured ? m->settled : COST_UNMEASURED;
}

bool cost_is_worth_a_move(uint64_t better, uint64_t now)
{
	return better < now && now - better > now / 4 && now - better >= MOVE_GAIN;
}
