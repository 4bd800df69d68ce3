/*
 * Congestion control behind one face: CUBIC (RFC 9438), the reference, and the rate model of bbr.h.
 * Pure arithmetic; times in microseconds.
 */
#ifndef CORE_CONGESTION_H
#define CORE_CONGESTION_H

#include "core/bbr.h"

enum congestion_algorithm { CONGESTION_CUBIC, CONGESTION_BBR };

struct cubic {
	uint64_t epoch_us;	 /* start of the current growth period; 0: none */
	double w_max, origin, k; /* in packets and seconds, as the RFC has them */
	uint64_t ssthresh_bytes;
	uint64_t recovery_us; /* losses of packets sent before this do not count again */
};

struct congestion {
	enum congestion_algorithm algorithm;
	uint64_t cwnd_bytes; /* may be in flight */
	uint64_t pacing_bps; /* 0: do not pace */
	uint32_t packet_bytes;
	struct cubic cubic;
	struct bbr bbr;
};

void congestion_init(struct congestion *c, enum congestion_algorithm algorithm,
		     uint32_t packet_bytes, uint64_t now);
/* CUBIC: `bytes` newly acknowledged.  `limited`: the window was what held us back. */
void congestion_acked(struct congestion *c, uint64_t bytes, uint64_t rtt_us, bool limited,
		      uint64_t now);
/* The rate model: after every ack. */
void congestion_sample(struct congestion *c, const struct bbr_sample *s, uint64_t now);
/* Lost bytes or a congestion mark; `sent_us`: when the newest of them was sent. */
void congestion_lost(struct congestion *c, uint64_t sent_us, uint64_t now);
/* Nothing has been heard for several probe timeouts. */
void congestion_collapse(struct congestion *c);
#endif
