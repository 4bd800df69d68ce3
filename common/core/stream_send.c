#include "core/stream_send.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SENT_RANGES_MAX 8192u
#define STREAM_REORDER_US 20000u /* hops repair losses: give them time before we do it again */
#define STREAM_PTO_MIN_US 50000u
#define STREAM_PTO_MAX_US 2000000u
/* Doubles with each round trip.  More would lie in the queue of a slow link for seconds, and with
 * it the acks of the other direction. */
#define STREAM_INITIAL_WINDOW (128u << 10)
#define STREAM_RECORD_LEAST 8192u

struct stream_chunk {
	TAILQ_ENTRY(stream_chunk) queue;
	uint64_t start, end;
	size_t header; /* so many of its bytes are not the message's */
	uint8_t data[];
};

struct stream_sent {
	TAILQ_ENTRY(stream_sent) queue;
	uint64_t record, offset, sent_us;
	size_t len;
};

void stream_ack_write(struct wbuf *w, const struct stream_ack *a)
{
	wbuf_u64(w, a->cumulative);
	wbuf_u64(w, a->limit);
	wbuf_u64(w, a->record);
	wbuf_u32(w, a->delay_us);
	wbuf_u32(w, a->marked);
	wbuf_u8(w, a->range_count);
	for (unsigned i = 0; i < a->range_count; i++) {
		wbuf_u64(w, a->ranges[i].start);
		wbuf_u64(w, a->ranges[i].end);
	}
}

int stream_ack_read(struct rbuf *r, struct stream_ack *a)
{
	a->cumulative = rbuf_u64(r);
	a->limit = rbuf_u64(r);
	a->record = rbuf_u64(r);
	a->delay_us = rbuf_u32(r);
	a->marked = rbuf_u32(r);
	a->range_count = rbuf_u8(r);
	if (a->range_count > STREAM_ACK_RANGES_MAX)
		return -EBADMSG;
	for (unsigned i = 0; i < a->range_count; i++) {
		a->ranges[i].start = rbuf_u64(r);
		a->ranges[i].end = rbuf_u64(r);
		if (a->ranges[i].start >= a->ranges[i].end)
			return -EBADMSG;
	}
	return rbuf_done(r) ? 0 : -EBADMSG;
}

void stream_send_init(struct stream_send *s, uint32_t packet_bytes)
{
	*s = (struct stream_send){0};
	TAILQ_INIT(&s->chunks);
	TAILQ_INIT(&s->sent);
	ranges_init(&s->acked, SENT_RANGES_MAX);
	ranges_init(&s->lost, SENT_RANGES_MAX);
	congestion_init(&s->congestion, CONGESTION_CUBIC, packet_bytes, 0);
	s->congestion.cwnd_bytes = STREAM_INITIAL_WINDOW;
}

static void drop_sent(struct stream_send *s, struct stream_sent *x)
{
	TAILQ_REMOVE(&s->sent, x, queue);
	s->sent_count--;
	s->inflight_bytes -= x->len;
	free(x);
}

void stream_send_free(struct stream_send *s)
{
	struct stream_chunk *c;
	struct stream_sent *x;

	while ((c = TAILQ_FIRST(&s->chunks))) {
		TAILQ_REMOVE(&s->chunks, c, queue);
		free(c);
	}
	while ((x = TAILQ_FIRST(&s->sent)))
		drop_sent(s, x);
	ranges_free(&s->acked);
	ranges_free(&s->lost);
}

int stream_send_append(struct stream_send *s, struct bytes part, size_t left)
{
	size_t header = s->part_left ? 0 : STREAM_MESSAGE_HEADER;
	struct stream_chunk *c;

	if (s->part_left ? part.len + left != s->part_left : left && !part.len)
		return -EINVAL;
	if (!part.len && !header)
		return 0;
	if (!(c = malloc(sizeof *c + header + part.len)))
		return -ENOMEM;
	if (header)
		be32_put(c->data, (uint32_t)(part.len + left));
	if (part.len)
		memcpy(c->data + header, part.data, part.len);
	c->header = header;
	c->start = s->end;
	c->end = s->end += header + part.len;
	s->part_left = left;
	TAILQ_INSERT_TAIL(&s->chunks, c, queue);
	if (!s->unsent)
		s->unsent = c;
	return 0;
}

size_t stream_send_buffered(const struct stream_send *s)
{
	return (size_t)(s->end - s->una);
}

bool stream_send_blocked(const struct stream_send *s)
{
	return s->sent_count == 0 && s->lost.count == 0 && s->next < s->end &&
	       s->next >= s->peer_limit;
}

/* The chunk with the byte at `offset`: a repair, and those are near the front. */
static struct stream_chunk *chunk_at(const struct stream_send *s, uint64_t offset)
{
	struct stream_chunk *c = TAILQ_FIRST(&s->chunks);

	while (c->end <= offset)
		c = TAILQ_NEXT(c, queue);
	return c;
}

/* Copies [offset, offset + len) out of the chunks, of which `c` has the first byte; returns the one
 * with the byte after the last, or NULL. */
static struct stream_chunk *copy_out(struct stream_chunk *c, uint64_t offset, uint8_t *out,
				     size_t len)
{
	while (len) {
		size_t n = (size_t)(c->end - offset);
		if (n > len)
			n = len;
		memcpy(out, c->data + (offset - c->start), n);
		out += n;
		offset += n;
		len -= n;
		if (offset == c->end)
			c = TAILQ_NEXT(c, queue);
	}
	return c;
}

static size_t take_lost(struct stream_send *s, uint8_t *out, size_t max, uint64_t *offset)
{
	struct range r = s->lost.v[0];
	size_t len = (size_t)(r.end - r.start);

	if (len > max)
		len = max;
	ranges_remove(&s->lost, r.start, r.start + len);
	*offset = r.start;
	(void)copy_out(chunk_at(s, r.start), r.start, out, len);
	s->retransmits++;
	return len;
}

/* A small window is sent in several records: a record is of use only when all of it is there. */
static size_t record_limit(const struct stream_send *s, size_t max)
{
	uint64_t part = s->congestion.cwnd_bytes / 4;

	if (part < STREAM_RECORD_LEAST)
		part = STREAM_RECORD_LEAST;
	return part < max ? (size_t)part : max;
}

size_t stream_send_next(struct stream_send *s, uint8_t *out, size_t max, uint64_t *offset)
{
	if (s->inflight_bytes >= s->congestion.cwnd_bytes || s->sent_count >= STREAM_SENT_MAX)
		return 0;
	max = record_limit(s, max);
	if (s->lost.count)
		return take_lost(s, out, max, offset);
	uint64_t end = s->end < s->peer_limit ? s->end : s->peer_limit;
	if (s->next >= end)
		return 0;
	size_t len = (size_t)(end - s->next);
	if (len > max)
		len = max;
	*offset = s->next;
	s->unsent = copy_out(s->unsent, s->next, out, len);
	s->next += len;
	return len;
}

int stream_send_sent(struct stream_send *s, uint64_t record, uint64_t offset, size_t len,
		     uint64_t now)
{
	struct stream_sent *x = malloc(sizeof *x);

	/* Patience begins with what is sent for the first time, and not anew when it is repeated.
	 */
	if (offset == s->una && offset == s->sent_end)
		s->progress_us = now;
	if (offset + len > s->sent_end)
		s->sent_end = offset + len;
	if (!x) {
		ranges_add(&s->lost, offset, offset + len);
		return -ENOMEM;
	}
	*x = (struct stream_sent){.record = record, .offset = offset, .len = len, .sent_us = now};
	TAILQ_INSERT_TAIL(&s->sent, x, queue);
	s->sent_count++;
	s->inflight_bytes += len;
	return 0;
}

/* Frees chunks below una; returns the message bytes in them. */
static size_t release_chunks(struct stream_send *s)
{
	struct stream_chunk *c;
	size_t freed = 0;

	while ((c = TAILQ_FIRST(&s->chunks)) && c->end <= s->una) {
		TAILQ_REMOVE(&s->chunks, c, queue);
		freed += (size_t)(c->end - c->start) - c->header;
		free(c);
	}
	return freed;
}

static void advance(struct stream_send *s, uint64_t cumulative)
{
	if (cumulative > s->una)
		s->una = cumulative;
	ranges_remove(&s->acked, 0, s->una);
	if (s->acked.count && s->acked.v[0].start == s->una) {
		s->una = s->acked.v[0].end;
		ranges_remove(&s->acked, 0, s->una);
	}
	ranges_remove(&s->lost, 0, s->una);
}

/* Takes acknowledged records off the flight; returns their bytes. */
static uint64_t settle_sent(struct stream_send *s, const struct stream_ack *a, uint64_t now)
{
	struct stream_sent *x, *following;
	uint64_t bytes = 0;

	for (x = TAILQ_FIRST(&s->sent); x; x = following) {
		following = TAILQ_NEXT(x, queue);
		if (x->record == a->record)
			rtt_sample(&s->rtt, now - x->sent_us, a->delay_us);
		if (x->offset + x->len <= s->una ||
		    ranges_covers(&s->acked, x->offset, x->offset + x->len)) {
			bytes += x->len;
			drop_sent(s, x);
		} else if (x->record > a->record) {
			break;
		}
	}
	return bytes;
}

int stream_send_ack(struct stream_send *s, const struct stream_ack *a, uint64_t now, size_t *freed)
{
	bool limited = s->inflight_bytes * 2 >= s->congestion.cwnd_bytes;
	uint64_t una = s->una;

	*freed = 0;
	if (a->cumulative > s->next)
		return -EBADMSG;
	for (unsigned i = 0; i < a->range_count; i++) {
		if (a->ranges[i].end > s->next)
			return -EBADMSG;
		ranges_add(&s->acked, a->ranges[i].start, a->ranges[i].end);
		ranges_remove(&s->lost, a->ranges[i].start, a->ranges[i].end);
	}
	advance(s, a->cumulative);
	if (a->limit > s->peer_limit)
		s->peer_limit = a->limit;
	uint64_t bytes = settle_sent(s, a, now);
	if (a->marked != s->marked) {
		/* A queue on the way is too long: as after a loss, once in a round trip. */
		s->marked = a->marked;
		congestion_lost(&s->congestion, now - rtt_smoothed(&s->rtt), now);
	}
	if (bytes) {
		s->pto_count = 0;
		s->progress_us = now;
		congestion_acked(&s->congestion, bytes, rtt_smoothed(&s->rtt), limited, now);
	}
	/* Also when all of it had been given up already, on a path that has become that slow. */
	if (s->una > una)
		s->progress_us = now;
	*freed = release_chunks(s);
	return 0;
}

static void declare_lost(struct stream_send *s, struct stream_sent *x)
{
	uint64_t offset = x->offset, end = x->offset + x->len;

	drop_sent(s, x);
	if (end > s->una)
		ranges_add(&s->lost, offset > s->una ? offset : s->una, end);
	/* What has arrived of it meanwhile need not go again. */
	for (size_t i = 0; i < s->acked.count; i++)
		if (s->acked.v[i].start < end && s->acked.v[i].end > offset)
			ranges_remove(&s->lost, s->acked.v[i].start, s->acked.v[i].end);
}

uint64_t stream_send_tick(struct stream_send *s, uint64_t now)
{
	struct stream_sent *x = TAILQ_FIRST(&s->sent);

	if (!x)
		return UINT64_MAX;
	unsigned shift = s->pto_count < 5 ? s->pto_count : 5;
	uint64_t wait = 2 * rtt_smoothed(&s->rtt) + 4 * s->rtt.variance_us + STREAM_REORDER_US;
	if (wait < STREAM_PTO_MIN_US)
		wait = STREAM_PTO_MIN_US;
	wait <<= shift;
	if (wait > STREAM_PTO_MAX_US)
		wait = STREAM_PTO_MAX_US;
	uint64_t due = x->sent_us + wait;
	if (due > now)
		return due;
	/* Hops repair losses and mark long queues: a first timeout says that a repair takes long,
	 * and only several in a row that there is less room than we think. */
	if (s->pto_count++)
		congestion_lost(&s->congestion, x->sent_us, now);
	/* The oldest record again, and with it whatever was sent within the same millisecond. */
	uint64_t until = x->sent_us + 1000;
	while ((x = TAILQ_FIRST(&s->sent)) && x->sent_us <= until)
		declare_lost(s, x);
	return now + wait;
}

void stream_send_reroute(struct stream_send *s, uint64_t now)
{
	struct stream_sent *x;

	while ((x = TAILQ_FIRST(&s->sent)))
		declare_lost(s, x);
	s->pto_count = 0;
	s->progress_us = now;
}
