/*
 * Congestion control of a transport.  Two models behind one table: CUBIC (RFC 9438) and a model of
 * rate and round trip in the manner of BBR.  Pure arithmetic; times in microseconds.
 */
#ifndef CORE_CONGESTION_H
#define CORE_CONGESTION_H

#include <stdbool.h>
#include <stdint.h>

struct cubic {
	uint64_t epoch_us;	 /* start of the current growth period; 0: none */
	double w_max, origin, k; /* in packets and seconds, as the RFC has them */
	uint64_t ssthresh_bytes;
	uint64_t recovery_us; /* losses of packets sent before this do not count again */
};

struct congestion {
	uint64_t cwnd_bytes;
	uint32_t packet_bytes;
	struct cubic cubic;
};

void congestion_init(struct congestion *c, uint32_t packet_bytes);
/* `bytes` newly acknowledged.  `limited`: the window was what held us back. */
void congestion_acked(struct congestion *c, uint64_t bytes, uint64_t rtt_us, bool limited,
		      uint64_t now);
/* Lost bytes or a congestion mark; `sent_us`: when the newest of them was sent. */
void congestion_lost(struct congestion *c, uint64_t sent_us, uint64_t now);
/* Nothing has been heard for several probe timeouts. */
void congestion_collapse(struct congestion *c);
#endif
