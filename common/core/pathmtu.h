/*
 * Path MTU by authenticated padded probes (DPLPMTUD, RFC 8899): begins with a size that works
 * everywhere, searches upward, and falls back when full packets vanish.  ICMP is never needed.
 */
#ifndef CORE_PATHMTU_H
#define CORE_PATHMTU_H

#include <stdbool.h>
#include <stdint.h>

struct pathmtu {
	uint32_t base, limit; /* UDP payload: what always works, what we would like */
	uint32_t good;	      /* largest that was acknowledged */
	uint32_t bad;	      /* smallest that failed; limit + 1 at first */
	uint32_t probing;     /* size of the probe under way; 0: none */
	unsigned tries;
	uint64_t at_us; /* when to act: probe timeout, or the next search */
};

void pathmtu_init(struct pathmtu *m, uint32_t base, uint32_t limit, uint64_t now);
/* Size of a probe to send now, or 0. */
uint32_t pathmtu_due(struct pathmtu *m, uint64_t now);
/* The peer has answered a probe of this size. */
void pathmtu_confirm(struct pathmtu *m, uint32_t size, uint64_t now);
/* Full packets seem to vanish: back to the base, and search again. */
void pathmtu_blackhole(struct pathmtu *m, uint64_t now);
#endif
