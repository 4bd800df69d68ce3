/*
 * When the records of a datagram connection go out at the receiving end, and in which order.
 *
 * Hops repair what is lost, so a record that is missing while later ones are here is nearly always
 * late.  TCP inside a tunnel takes it for lost, and takes round trips that rise and fall for a full
 * queue, and slows down in either case.  So later records wait for a missing one, about as long as
 * records were late recently; and on a path that reorders often each record waits until about as
 * long after it was sealed as the slowest of them need, so that the delay is the same for all.
 *
 * Nothing waits where nothing comes late.  What waits is bounded in time, bytes and number; a
 * record that comes after its time goes out at once.
 */
#ifndef CORE_PLAYOUT_H
#define CORE_PLAYOUT_H

#include <stdbool.h>

#include "core/pkt.h"

#define PLAYOUT_RECORDS 2048u	    /* from the first missing to the newest */
#define PLAYOUT_BYTES (8u << 20)    /* held in all */
#define PLAYOUT_WAIT_MAX_US 250000u /* for a missing record, or to even out delays */
#define PLAYOUT_WAIT_FIRST_US                                                                      \
	50000u /* for a missing one until the first has shown how it is on this path */
/* What was seen counts for one to two periods.  One ends when it is old and has seen enough, so
 * that a path is not forgotten in a pause: a TCP that begins while the delay is still being found
 * out takes the growing round trip for a full queue, and begins with a fraction of the rate. */
#define PLAYOUT_PERIOD_US 5000000u
#define PLAYOUT_PERIOD_RECORDS 256u
#define PLAYOUT_PERIOD_MAX_US UINT64_C(43200000000)
/* A path that reordered often is taken for such for a day: where nothing comes late any more that
 * costs nothing. */
#define PLAYOUT_REORDERS_US UINT64_C(86400000000)
#define PLAYOUT_CLOCK_US 30000000u  /* in twice that, clocks hardly drift apart */
#define PLAYOUT_OVERHEAD_BYTES 512u /* that a held record counts for beyond its own */

#define PLAYOUT_DELAYS 128u
#define PLAYOUT_DELAY_STEP_US 2000u

_Static_assert(PLAYOUT_DELAYS *PLAYOUT_DELAY_STEP_US > PLAYOUT_WAIT_MAX_US, "all delays fit");

struct playout_slot;

/* What was seen in a period. */
struct playout_seen {
	uint16_t delays[PLAYOUT_DELAYS]; /* by how much they came later than the fastest */
	uint32_t records, late;
	uint64_t late_us; /* greatest lateness */
};

/* Least difference of both ends' clocks, with the delay in it. */
struct playout_clock {
	uint16_t base;
	bool known;
};

struct playout {
	struct playout_slot *slots; /* by number; there since the first that was missing */
	uint64_t next, top;	    /* number to go out next; one above the highest that came */
	size_t held_bytes;
	struct playout_seen now, before; /* this period and the last */
	struct playout_clock clock, clock_before;
	uint64_t period_at_us, clock_at_us;
	uint64_t reorders_until_us;
	uint64_t delay_us, delay_at_us; /* what evens out nearly all delays; when to look again */
	bool known;			/* whether a missing record comes later here */
	uint64_t late, given_up;	/* records, in all */
};

/* A record; `data` lies in `block` and is not written to afterwards. */
struct playout_record {
	uint64_t number;
	uint16_t time;	/* the sender's clock when it was sealed: record_time */
	bool empty;	/* nothing goes out; only its number counts */
	bool eager;	/* goes out at once, whatever is missing */
	bool overtakes; /* hops let it pass others: what it has passed is not missing yet */
	struct bytes data;
	struct block *block;
};

/* A record goes out; the bytes are valid during the call. */
typedef void playout_deliver(void *ctx, struct bytes data, uint64_t now);

void playout_init(struct playout *o);
/* Drops what is held. */
void playout_free(struct playout *o);
/* A new record. */
void playout_add(struct playout *o, const struct playout_record *r, playout_deliver *deliver,
		 void *ctx, uint64_t now);
/* Lets out what has waited long enough. */
void playout_expire(struct playout *o, playout_deliver *deliver, void *ctx, uint64_t now);
/* Lets out everything. */
void playout_flush(struct playout *o, playout_deliver *deliver, void *ctx, uint64_t now);
/* When to call playout_expire, or UINT64_MAX. */
uint64_t playout_next(const struct playout *o);
/* How long a missing record is waited for now; how long after it was sealed, beyond the least delay
 * of the path, a record goes out (0: as soon as it can). */
uint64_t playout_patience_us(const struct playout *o);
uint64_t playout_delay_us(const struct playout *o);
#endif
