/*
 * The last small datagrams that TCP sent through a tunnel.  While a path is broken TCP repeats one
 * segment, at pauses that double: when the path is back it may be many seconds until the next. What
 * it sent last meanwhile, sent again on the new path, wakes it up at once.
 */
#ifndef CORE_RECENT_H
#define CORE_RECENT_H

#include <stdbool.h>

#include "base/buf.h"

#define RECENT_DATAGRAMS 32u /* each may be another flow's */
#define RECENT_BYTES 2048u   /* a segment; what is larger was sent when all was well */
#define RECENT_AGE_US 20000000u

struct recent_datagram;

struct recent {
	struct recent_datagram *ring[RECENT_DATAGRAMS];
	unsigned next;
};

void recent_init(struct recent *r);
void recent_free(struct recent *r);
/* Copies it, if it is small enough and there is memory, in place of the oldest. */
void recent_keep(struct recent *r, struct bytes data, uint64_t now);
/* Takes out the oldest that is not too old, until there is none: false.  The bytes are valid until
 * the next call for this r. */
bool recent_take(struct recent *r, struct bytes *out, uint64_t now);
#endif
