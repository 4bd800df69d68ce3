/*
 * What waits to be sent on a transport: fair between routes and short in time (FQ-CoDel, RFC 8290).
 * Within a route only its source sees flows.  It tells us which packets belong to one that sends
 * little (PACKET_FLAG_SPARSE), and those of a route have a queue of their own beside the others',
 * with the same share: as long as they need less than that, they do not wait.  Who marks everything
 * gains no more than that second share, which a second route would have given it as well.
 *
 * A queue whose packets have waited too long for too long is told so by the CoDel law (RFC 8289):
 * stream packets are marked, datagram packets are dropped, always a whole record of them, for half
 * a record is worth nothing at the other end.
 */
#ifndef CORE_EGRESS_H
#define CORE_EGRESS_H

#include <stdbool.h>

#include "core/pkt.h"

/* Queues; routes are hashed to them, those of sparse packets behind the others. */
#define EGRESS_BULK_FLOWS 64u
#define EGRESS_SPARSE_FLOWS 32u
#define EGRESS_FLOWS (EGRESS_BULK_FLOWS + EGRESS_SPARSE_FLOWS)

enum egress_list { EGRESS_IDLE, EGRESS_NEW, EGRESS_OLD };

struct egress_flow {
	TAILQ_ENTRY(egress_flow) turn;
	struct pkt_queue packets;
	uint64_t bytes;
	int64_t deficit;
	enum egress_list list;
	/* CoDel */
	uint64_t above_since_us, drop_next_us;
	uint32_t drop_count;
	bool dropping;
	/* The record that is being dropped or was let through whole. */
	uint64_t dropped_record;
	uint32_t dropped_label;
	bool drop_rest;
};
TAILQ_HEAD(egress_flows, egress_flow);

struct egress {
	struct egress_flow *flows; /* allocated with the first packet */
	struct egress_flows fresh, old;
	uint64_t bytes, limit_bytes;
	uint64_t target_us, interval_us;
	uint64_t dropped, marked;
	struct pkt_pool *pool;
};

void egress_init(struct egress *e, struct pkt_pool *pool, uint64_t limit_bytes, uint64_t target_us,
		 uint64_t interval_us);
void egress_free(struct egress *e);
/* Gives back the queues while they are empty. */
void egress_trim(struct egress *e);
/* Consumes p.  0; -ENOBUFS at the limit, -ENOMEM (dropped and counted in both cases). */
int egress_push(struct egress *e, struct pkt *p, uint64_t now);
/* The next packets to send, a run of at most `room` (NULL: any size), taken out; NULL when there is
 * none (left). */
struct pkt *egress_pop(struct egress *e, const struct pkt_room *room, uint64_t now);
bool egress_empty(const struct egress *e);
#endif
