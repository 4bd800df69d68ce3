/*
 * The sending side of a stream: messages are appended, records are cut from them, acks free them.
 * Offsets count bytes of the framed stream (each message has a 4-byte length before it).
 */
#ifndef CORE_STREAM_SEND_H
#define CORE_STREAM_SEND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/ranges.h"
#include "core/congestion.h"
#include "core/rtt.h"

#define STREAM_MESSAGE_HEADER 4u
#define STREAM_ACK_RANGES_MAX 16u
#define STREAM_SENT_MAX 4096u /* records in flight */

struct stream_chunk;
struct stream_sent;
TAILQ_HEAD(stream_chunks, stream_chunk);
TAILQ_HEAD(stream_sents, stream_sent);

struct stream_send {
	struct stream_chunks chunks; /* framed messages, or parts, not acknowledged, in order */
	struct stream_chunk *unsent; /* the one with the byte at `next`; NULL: all is sent */
	size_t part_left;	     /* bytes that the last message still lacks */
	uint64_t una, next, end;     /* lowest unacknowledged, next never sent, end of the data */
	uint64_t peer_limit;	     /* the receiver takes offsets below this */
	struct ranges acked;	     /* above una */
	struct ranges lost;	     /* to be sent again */
	struct stream_sents sent;    /* records in flight by number */
	size_t sent_count;
	uint64_t inflight_bytes;
	uint64_t retransmits;
	struct rtt rtt;
	struct congestion congestion;
	unsigned pto_count;
	uint32_t marked;      /* as the last ack told */
	uint64_t progress_us; /* when something was last acknowledged, or sending began */
	uint64_t sent_end;    /* end of what was ever sent */
};

/* What an ack record says (PROTOCOL.md section 4.4). */
struct stream_ack {
	uint64_t cumulative, limit, record;
	uint32_t delay_us;
	uint32_t marked; /* packets that arrived with PACKET_FLAG_MARKED, in all */
	uint8_t range_count;
	struct range ranges[STREAM_ACK_RANGES_MAX];
};
void stream_ack_write(struct wbuf *w, const struct stream_ack *a);
int stream_ack_read(struct rbuf *r, struct stream_ack *a);

void stream_send_init(struct stream_send *s, uint32_t packet_bytes);
void stream_send_free(struct stream_send *s);
/* Copies a message, or the next part of one, of which `left` bytes are to follow.  0; -ENOMEM;
 * -EINVAL when that is not what the parts before said, or a first part is empty. */
int stream_send_append(struct stream_send *s, struct bytes part, size_t left);
size_t stream_send_buffered(const struct stream_send *s);
/* True when data waits, nothing is in flight, and only the receiver's limit holds it back. */
bool stream_send_blocked(const struct stream_send *s);
/* The next bytes to put into a record (at most `max`), copied to `out`: returns how many, 0 when
 * nothing may be sent now.  Call stream_send_sent when the record goes out. */
size_t stream_send_next(struct stream_send *s, uint8_t *out, size_t max, uint64_t *offset);
/* 0 or -ENOMEM (then the range counts as lost at once). */
int stream_send_sent(struct stream_send *s, uint64_t record, uint64_t offset, size_t len,
		     uint64_t now);
/* 0 and *freed message bytes that are now wholly acknowledged, or -EBADMSG. */
int stream_send_ack(struct stream_send *s, const struct stream_ack *a, uint64_t now, size_t *freed);
/* Declares lost what is overdue; returns when to look again, or UINT64_MAX. */
uint64_t stream_send_tick(struct stream_send *s, uint64_t now);
/* The route changed: everything in flight is sent again. */
void stream_send_reroute(struct stream_send *s, uint64_t now);
#endif
