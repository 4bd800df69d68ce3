/*
 * The receiving side of a stream: records arrive in any order, messages leave in order.  What waits
 * is bounded by STREAM_WINDOW_BYTES and STREAM_SEGMENTS_MAX.
 */
#ifndef CORE_STREAM_RECV_H
#define CORE_STREAM_RECV_H

#include <stdbool.h>

#include "core/pkt.h"
#include "core/stream_send.h"

#define STREAM_WINDOW_BYTES (4u << 20)
#define STREAM_SEGMENTS_MAX 4096u

struct stream_segment;
TAILQ_HEAD(stream_segments, stream_segment);

struct stream_recv {
	uint64_t next; /* every byte below has been passed to the message being assembled */
	struct stream_segments segments; /* beyond next, by offset, not overlapping */
	size_t segment_count, segment_bytes;
	uint8_t header[STREAM_MESSAGE_HEADER];
	size_t header_have;
	uint8_t *message; /* being assembled, or complete and refused by the owner */
	size_t message_len, message_have;
	size_t part_left;    /* bytes of a message that is passed on in parts */
	bool held;	     /* a complete message or a part was refused: wait for resume */
	bool parts;	     /* the owner takes long messages in parts */
	uint64_t limit_told; /* the limit in our last ack */
	uint64_t newest_record, newest_us;
	unsigned pending; /* records since the last ack */
	bool urgent;
	uint32_t marked; /* packets of this stream that came with a congestion mark */
};

/* Messages longer than this do not wait until they are whole, where the owner takes parts. */
#define STREAM_WHOLE_BYTES 65536u

/* Offered each complete message, or where it takes parts, the next part of a long one, of which
 * `left` bytes follow; false: keep it. */
typedef bool stream_deliver(void *ctx, struct bytes part, size_t left, uint64_t now);

void stream_recv_init(struct stream_recv *s);
void stream_recv_free(struct stream_recv *s);
/* Stream bytes of one authentic record.  `data` lies in `block` (which gets a reference when the
 * bytes must wait).  0; -EBADMSG when it breaks our limit or a message is over MAX_MESSAGE_BYTES;
 * -ENOMEM when a message cannot be assembled.  After an error the stream is broken: close it. */
int stream_recv_add(struct stream_recv *s, uint64_t record, uint64_t offset, struct bytes data,
		    struct block *block, stream_deliver *deliver, void *ctx, uint64_t now);
/* The owner can take messages again.  Same errors. */
int stream_recv_resume(struct stream_recv *s, stream_deliver *deliver, void *ctx, uint64_t now);
void stream_recv_ack(struct stream_recv *s, struct stream_ack *a, uint64_t now);
/* True when the limit has grown enough to be told without data. */
bool stream_recv_window_grew(const struct stream_recv *s);
size_t stream_recv_buffered(const struct stream_recv *s);
#endif
