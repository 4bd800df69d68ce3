/*
 * Packet buffers.  A block is a counted run of memory (a receive buffer with up to 64 segments in
 * it, or a sealed record laid out as packets); a pkt is one UDP payload inside a block, or a run of
 * them that lie one behind the other: a record comes as 45 packets which nobody tells apart as long
 * as none is lost.  A run is cut in two where its packets must be told apart.  From receive to the
 * final ack a packet is never copied: a relay rewrites the header in place and passes the pkt on.
 * One thread owns a pool and everything from it.
 */
#ifndef CORE_PKT_H
#define CORE_PKT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/buf.h"

struct block {
	uint32_t refs;
	uint32_t size; /* bytes of data[] */
	uint8_t data[];
};

/* One reference for the caller; NULL when out of memory. */
struct block *block_new(size_t size);
struct block *block_get(struct block *b);
void block_put(struct block *b);

/* What one send with UDP_SEGMENT takes. */
#define PKT_RUN_PACKETS 64u
#define PKT_RUN_BYTES 65000u

struct pkt {
	TAILQ_ENTRY(pkt) queue; /* egress, retransmit or in-flight list of the owner */
	struct block *block;	/* counted */
	uint8_t *data;		/* hop header, fragment header, body; inside block */
	uint32_t len;		/* of all packets of the run */
	uint32_t each;		/* of each of them; the last may be shorter */
	uint32_t count;		/* of packets, 1 to PKT_RUN_PACKETS */
	uint32_t label;
	uint8_t flags;	    /* enum packet_flags */
	uint8_t state;	    /* transport's own */
	uint16_t tries;	    /* transmissions so far */
	uint64_t seq;	    /* of the first; those that follow count up, and so does `order` */
	uint64_t order;	    /* number of its last transmission among all of the transport */
	uint64_t sent_us;   /* time of its last transmission */
	uint64_t queued_us; /* when it joined the egress queue */
	uint64_t delivered; /* transport's delivered bytes when it was sent: for the rate model */
	uint64_t delivered_us;
	uint64_t first_sent_us;
	uint64_t first_tx_us; /* time of its first transmission */
	bool app_limited;     /* what was sent before it did not fill the path */
	bool probed;	      /* sent again for want of any ack, not because others overtook it */
};
TAILQ_HEAD(pkt_queue, pkt);

/* A free list of pkts, the last freed first, since it is in the cache; `limit` bounds how many are
 * kept, not how many exist. */
struct pkt_pool {
	struct pkt *free; /* linked by queue.tqe_next */
	size_t free_count, limit;
	size_t live; /* handed out now: zero at the end, or something leaks */
};
void pkt_pool_init(struct pkt_pool *pool, size_t limit);
void pkt_pool_free(struct pkt_pool *pool);
/* A pkt over [data, data + len) of `block`, taking a reference of its own.  NULL: out of memory. */
struct pkt *pkt_new(struct pkt_pool *pool, struct block *block, uint8_t *data, size_t len);
/* A run of packets of `each` bytes, the last of which may be shorter. */
struct pkt *pkt_new_run(struct pkt_pool *pool, struct block *block, uint8_t *data, size_t len,
			size_t each);
/* Leaves the first `n` packets, fewer than all, in p and returns the others, which are in no queue;
 * NULL when out of memory: p is as it was. */
struct pkt *pkt_split(struct pkt_pool *pool, struct pkt *p, size_t n);
/* The UDP payload of packet `i` of the run. */
struct bytes pkt_payload(const struct pkt *p, size_t i);

/* How much may be taken off a queue: packets while bytes are left, so that the last may reach
 * beyond.  One packet always may. */
struct pkt_room {
	uint64_t bytes, packets;
};
/* How many packets at the front of the run that is; NULL: all. */
size_t pkt_fit(const struct pkt *p, const struct pkt_room *room);
void pkt_free(struct pkt_pool *pool, struct pkt *p);
#endif
