/* Round-trip estimate and probe timeout (RFC 9002 sections 5 and 6.2). */
#ifndef CORE_RTT_H
#define CORE_RTT_H

#include <stdint.h>

#define RTT_INITIAL_US 250000u
#define RTT_GRANULARITY_US 1000u

struct rtt {
	uint64_t smoothed_us, variance_us, latest_us, min_us; /* all 0 before the first sample */
};

/* `sample_us` with the peer's own `delay_us` still in it; what would fall below the minimum is
 * kept. */
void rtt_sample(struct rtt *r, uint64_t sample_us, uint64_t delay_us);
/* Smoothed or, before any sample, RTT_INITIAL_US. */
uint64_t rtt_smoothed(const struct rtt *r);
/* Probe timeout without backoff. */
uint64_t rtt_pto(const struct rtt *r, uint64_t max_ack_delay_us);
#endif
