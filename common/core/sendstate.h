/*
 * Packets sent on a transport and not yet acknowledged.  A sequence is kept over retransmissions
 * (the receiver delivers each once), so losses are told by the order of transmission: RFC 9002's
 * packet and time thresholds on `order`, as RACK (RFC 8985) does for TCP.
 *
 * What was sent as one run stays one as long as all of it has the same fate; where an ack or a loss
 * ends within it, it is cut there, so that the answers are those of single packets.
 */
#ifndef CORE_SENDSTATE_H
#define CORE_SENDSTATE_H

#include <stdbool.h>

#include "core/pkt.h"
#include "core/rtt.h"
#include "wire/packet.h"

#define SEND_PACKET_THRESHOLD 3u

struct sendstate {
	struct pkt **ring; /* unacknowledged packets by sequence modulo capacity */
	size_t capacity;
	uint64_t base, next;	 /* lowest unacknowledged and next new sequence */
	struct pkt_queue flight; /* by last transmission, oldest first */
	struct pkt_queue lost;	 /* to be sent again, oldest first */
	uint64_t next_order;
	uint64_t newest_order; /* highest order known to have arrived */
	uint64_t inflight_bytes, inflight_packets, lost_packets;
	uint64_t delivered_bytes, delivered_us, first_sent_us; /* for rate samples */
	uint64_t starved_bytes; /* `delivered_bytes` until which rates may be too low; 0: are not */
	/* How late packets may come on this path: the longest round trip of one that was overtaken
	 * lately.  Once reordering has misled us only time tells a loss (RFC 8985 section 6.2). */
	uint64_t slowest_us, slowest_at_us, reordered_at_us;
	bool reordering;
	struct pkt_pool *pool;
};

/* What one ack told. */
struct sendstate_acked {
	uint64_t packets, bytes;
	uint64_t spurious;	 /* retransmissions that were not needed */
	uint64_t rtt_us;	 /* 0: no sample */
	uint64_t rate_bps;	 /* delivery rate sample; 0: none */
	uint64_t sent_delivered; /* delivered_bytes when the newest of them was sent */
	bool app_limited;	 /* that rate may be too low */
};

void sendstate_init(struct sendstate *s, struct pkt_pool *pool);
void sendstate_free(struct sendstate *s);
/* Gives back the ring while nothing is unacknowledged. */
void sendstate_trim(struct sendstate *s);
/* How many new sequences the receiver's window has room for. */
uint64_t sendstate_window(const struct sendstate *s);
/* Gives new packets, a run that fits the window, their sequences.  0 or -ENOMEM. */
int sendstate_enter(struct sendstate *s, struct pkt *p);
/* p (from sendstate_enter or the lost list) is being transmitted now. */
void sendstate_transmitted(struct sendstate *s, struct pkt *p, uint64_t now);
/* There is nothing more to send although there might: until what is under way has arrived, rates
 * tell of the sender, not of the path. */
void sendstate_starved(struct sendstate *s);
/* The next packets to send again, a run of at most `room` (NULL: any size), taken off the lost
 * list; NULL. */
struct pkt *sendstate_take_lost(struct sendstate *s, const struct pkt_room *room);
/* 0, or -EBADMSG when the ack names what was never sent. */
int sendstate_ack(struct sendstate *s, const struct ack *a, const struct rtt *rtt, uint64_t now,
		  struct sendstate_acked *out);
/* Moves what is now known lost to the lost list; returns the bytes.  *next_us: when the time
 * threshold of the oldest remaining packet passes, or UINT64_MAX. */
uint64_t sendstate_detect(struct sendstate *s, const struct rtt *rtt, uint64_t now,
			  uint64_t *next_us);
/* A probe timeout: the oldest `n` packets in flight go to the lost list. */
void sendstate_probe(struct sendstate *s, unsigned n);
#endif
