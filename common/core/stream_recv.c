#include "core/stream_recv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

/* Small segments are copied, so that a hostile peer cannot pin a large block with each. */
#define SEGMENT_COPY_BYTES 4096u
#define SEGMENT_JOIN_BYTES 8192u

struct stream_segment {
	TAILQ_ENTRY(stream_segment) queue;
	uint64_t offset;
	struct bytes data;
	struct block *block;
	bool own; /* the block is this segment's alone and may be written */
};

void stream_recv_init(struct stream_recv *s)
{
	*s = (struct stream_recv){0};
	TAILQ_INIT(&s->segments);
}

static void segment_free(struct stream_recv *s, struct stream_segment *g)
{
	TAILQ_REMOVE(&s->segments, g, queue);
	s->segment_count--;
	s->segment_bytes -= g->data.len;
	block_put(g->block);
	free(g);
}

void stream_recv_free(struct stream_recv *s)
{
	struct stream_segment *g;
	while ((g = TAILQ_FIRST(&s->segments)))
		segment_free(s, g);
	free(s->message);
	stream_recv_init(s);
}

static uint64_t limit_now(const struct stream_recv *s)
{
	return s->next + STREAM_WINDOW_BYTES;
}

/* --- messages from bytes in order --------------------------------------------------------- */

static size_t take(uint8_t *to, size_t *have, size_t want, const struct bytes *data, size_t at)
{
	size_t n = want - *have;
	if (n > data->len - at)
		n = data->len - at;
	if (n)
		memcpy(to + *have, data->data + at, n);
	*have += n;
	return n;
}

static int begin_message(struct stream_recv *s)
{
	s->message_len = be32_get(s->header);
	s->message_have = 0;
	if (s->message_len > MAX_MESSAGE_BYTES)
		return -EBADMSG;
	if (s->parts && s->message_len > STREAM_WHOLE_BYTES) {
		s->part_left = s->message_len;
		return 0;
	}
	s->message = malloc(s->message_len ? s->message_len : 1);
	return s->message ? 0 : -ENOMEM;
}

static void offer(struct stream_recv *s, stream_deliver *deliver, void *ctx, uint64_t now)
{
	if (!deliver(ctx, bytes_of(s->message, s->message_len), 0, now)) {
		s->held = true;
		return;
	}
	free(s->message);
	s->message = NULL;
	s->header_have = 0;
	s->held = false;
}

/* A message that lies whole in these bytes is offered from where it is. */
static size_t offer_in_place(struct stream_recv *s, struct bytes data, size_t at,
			     stream_deliver *deliver, void *ctx, uint64_t now)
{
	if (s->header_have || data.len - at < STREAM_MESSAGE_HEADER)
		return 0;
	size_t len = be32_get(data.data + at);
	if (len > data.len - at - STREAM_MESSAGE_HEADER ||
	    !deliver(ctx, bytes_of(data.data + at + STREAM_MESSAGE_HEADER, len), 0, now))
		return 0;
	return STREAM_MESSAGE_HEADER + len;
}

/* What is there of a message that is passed on in parts; the bytes that were taken. */
static size_t offer_part(struct stream_recv *s, struct bytes data, stream_deliver *deliver,
			 void *ctx, uint64_t now)
{
	size_t n = data.len < s->part_left ? data.len : s->part_left;

	if (n > PART_MAX_BYTES)
		n = PART_MAX_BYTES;
	if (!deliver(ctx, bytes_of(data.data, n), s->part_left - n, now)) {
		s->held = true;
		return 0;
	}
	s->part_left -= n;
	if (!s->part_left)
		s->header_have = 0;
	return n;
}

/* Feeds bytes in order; stops at a refused message.  Returns how many were used, or -errno. */
static long feed(struct stream_recv *s, struct bytes data, stream_deliver *deliver, void *ctx,
		 uint64_t now)
{
	size_t at = 0;

	while (at < data.len && !s->held) {
		if (s->part_left) {
			at += offer_part(s, bytes_of(data.data + at, data.len - at), deliver, ctx,
					 now);
			continue;
		}
		size_t whole = offer_in_place(s, data, at, deliver, ctx, now);
		if (whole) {
			at += whole;
			continue;
		}
		at += take(s->header, &s->header_have, sizeof s->header, &data, at);
		if (s->header_have < sizeof s->header)
			break;
		if (!s->message) {
			int err = begin_message(s);
			if (err)
				return err;
			if (s->part_left)
				continue;
		}
		at += take(s->message, &s->message_have, s->message_len, &data, at);
		if (s->message_have == s->message_len)
			offer(s, deliver, ctx, now);
	}
	return (long)at;
}

/* --- segments ----------------------------------------------------------------------------- */

/* Cuts from [*offset, data) what is already held, or already passed.  The peer cuts differently
 * only when it sends again, so overlaps are rare; a part beyond a held segment is left to come
 * again. */
static bool trim(const struct stream_recv *s, uint64_t *offset, struct bytes *data,
		 struct stream_segment **before)
{
	struct stream_segment *g;

	if (*offset < s->next) {
		uint64_t skip = s->next - *offset;
		if (skip >= data->len)
			return false;
		data->data += skip;
		data->len -= (size_t)skip;
		*offset = s->next;
	}
	*before = NULL;
	TAILQ_FOREACH_REVERSE(g, &s->segments, stream_segments, queue) {
		if (g->offset + g->data.len <= *offset)
			break;
		*before = g;
	}
	if (*before && (*before)->offset <= *offset) {
		uint64_t skip = (*before)->offset + (*before)->data.len - *offset;
		if (skip >= data->len)
			return false;
		data->data += skip;
		data->len -= (size_t)skip;
		*offset += skip;
		*before = TAILQ_NEXT(*before, queue);
	}
	if (*before && *offset + data->len > (*before)->offset)
		data->len = (size_t)((*before)->offset - *offset);
	return data->len > 0;
}

static bool own_block(struct stream_segment *g, size_t size)
{
	struct block *b = block_new(size);

	if (!b)
		return false;
	memcpy(b->data, g->data.data, g->data.len);
	if (g->own)
		block_put(g->block);
	g->data.data = b->data;
	g->block = b;
	g->own = true;
	return true;
}

static uint8_t *segment_end(const struct stream_segment *g)
{
	return g->block->data + (g->data.data - g->block->data) + g->data.len;
}

/* Small pieces that follow each other share a segment: while the owner takes nothing there may be
 * far more of them than STREAM_SEGMENTS_MAX. */
static bool join(struct stream_recv *s, struct stream_segment *g, uint64_t offset,
		 struct bytes data)
{
	size_t len;

	if (!g || !g->own || g->offset + g->data.len != offset)
		return false;
	len = g->data.len + data.len;
	if (len > SEGMENT_JOIN_BYTES)
		return false;
	if (data.len > (size_t)(g->block->data + g->block->size - segment_end(g)) &&
	    !own_block(g, 2 * len))
		return false;
	memcpy(segment_end(g), data.data, data.len);
	g->data.len = len;
	s->segment_bytes += data.len;
	return true;
}

static int insert(struct stream_recv *s, uint64_t offset, struct bytes data, struct block *block,
		  struct stream_segment *before)
{
	struct stream_segment *g, *last = before ? TAILQ_PREV(before, stream_segments, queue)
						 : TAILQ_LAST(&s->segments, stream_segments);

	if (data.len <= SEGMENT_COPY_BYTES && join(s, last, offset, data))
		return 0;
	g = s->segment_count < STREAM_SEGMENTS_MAX ? malloc(sizeof *g) : NULL;
	if (!g)
		return -ENOMEM;
	*g = (struct stream_segment){.offset = offset, .data = data, .block = block};
	if (data.len > SEGMENT_COPY_BYTES) {
		block_get(block);
	} else if (!own_block(g, data.len)) {
		free(g);
		return -ENOMEM;
	}
	if (before)
		TAILQ_INSERT_BEFORE(before, g, queue);
	else
		TAILQ_INSERT_TAIL(&s->segments, g, queue);
	s->segment_count++;
	s->segment_bytes += data.len;
	return 0;
}

static int drain(struct stream_recv *s, stream_deliver *deliver, void *ctx, uint64_t now)
{
	struct stream_segment *g;

	while (!s->held && (g = TAILQ_FIRST(&s->segments)) && g->offset == s->next) {
		long used = feed(s, g->data, deliver, ctx, now);
		if (used < 0)
			return (int)used;
		s->next += (uint64_t)used;
		g->offset += (uint64_t)used;
		g->data.data += used;
		g->data.len -= (size_t)used;
		s->segment_bytes -= (size_t)used;
		if (g->data.len == 0)
			segment_free(s, g);
	}
	return 0;
}

int stream_recv_add(struct stream_recv *s, uint64_t record, uint64_t offset, struct bytes data,
		    struct block *block, stream_deliver *deliver, void *ctx, uint64_t now)
{
	struct stream_segment *before;

	if (offset > UINT64_MAX / 2 || offset + data.len > limit_now(s))
		return -EBADMSG;
	s->pending++;
	if (record >= s->newest_record) {
		s->newest_record = record;
		s->newest_us = now;
	}
	if (offset != s->next)
		s->urgent = true;
	if (offset == s->next && !s->held && s->segment_count == 0) {
		long used = feed(s, data, deliver, ctx, now);
		if (used < 0)
			return (int)used;
		s->next += (uint64_t)used;
		if ((size_t)used == data.len)
			return 0;
	}
	if (!trim(s, &offset, &data, &before))
		return 0;
	if (insert(s, offset, data, block, before) != 0)
		return 0; /* no room: not acknowledged, it will come again */
	return drain(s, deliver, ctx, now);
}

int stream_recv_resume(struct stream_recv *s, stream_deliver *deliver, void *ctx, uint64_t now)
{
	if (s->held && s->message)
		offer(s, deliver, ctx, now);
	else
		s->held = false;
	return drain(s, deliver, ctx, now);
}

void stream_recv_ack(struct stream_recv *s, struct stream_ack *a, uint64_t now)
{
	struct stream_segment *g;
	unsigned n = 0;

	a->cumulative = s->next;
	a->limit = s->limit_told = limit_now(s);
	a->record = s->newest_record;
	a->marked = s->marked;
	a->delay_us = (uint32_t)(now - s->newest_us);
	TAILQ_FOREACH(g, &s->segments, queue) {
		struct range *last = n ? &a->ranges[n - 1] : NULL;
		if (last && last->end == g->offset)
			last->end += g->data.len;
		else if (n < STREAM_ACK_RANGES_MAX)
			a->ranges[n++] = (struct range){g->offset, g->offset + g->data.len};
		else
			break;
	}
	a->range_count = (uint8_t)n;
	s->pending = 0;
	s->urgent = false;
}

bool stream_recv_window_grew(const struct stream_recv *s)
{
	return limit_now(s) >= s->limit_told + STREAM_WINDOW_BYTES / 4;
}

size_t stream_recv_buffered(const struct stream_recv *s)
{
	return s->segment_bytes + (s->message ? s->message_len : 0);
}
