#include "core/rtt.h"

void rtt_sample(struct rtt *r, uint64_t sample_us, uint64_t delay_us)
{
	if (sample_us == 0)
		sample_us = 1;
	if (r->min_us == 0 || sample_us < r->min_us)
		r->min_us = sample_us;
	if (sample_us >= r->min_us + delay_us)
		sample_us -= delay_us;
	r->latest_us = sample_us;
	if (r->smoothed_us == 0) {
		r->smoothed_us = sample_us;
		r->variance_us = sample_us / 2;
		return;
	}
	uint64_t error = r->smoothed_us > sample_us ? r->smoothed_us - sample_us
						    : sample_us - r->smoothed_us;
	r->variance_us = (3 * r->variance_us + error) / 4;
	r->smoothed_us = (7 * r->smoothed_us + sample_us) / 8;
}

uint64_t rtt_smoothed(const struct rtt *r)
{
	return r->smoothed_us ? r->smoothed_us : RTT_INITIAL_US;
}

uint64_t rtt_pto(const struct rtt *r, uint64_t max_ack_delay_us)
{
	if (r->smoothed_us == 0)
		return 2 * RTT_INITIAL_US;
	uint64_t margin = 4 * r->variance_us;
	if (margin < RTT_GRANULARITY_US)
		margin = RTT_GRANULARITY_US;
	return r->smoothed_us + margin + max_ack_delay_us;
}
