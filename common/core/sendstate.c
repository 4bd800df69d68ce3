#include "core/sendstate.h"

#include <errno.h>
#include <stdlib.h>

#include "core/recvstate.h"

#define REORDER_THRESHOLD_MAX 256u

enum pkt_state { PKT_NEW, PKT_FLIGHT, PKT_LOST, PKT_TAKEN };

void sendstate_init(struct sendstate *s, struct pkt_pool *pool)
{
	*s = (struct sendstate){
		.pool = pool, .next_order = 1, .reorder_threshold = SEND_PACKET_THRESHOLD};
	TAILQ_INIT(&s->flight);
	TAILQ_INIT(&s->lost);
}

static struct pkt **slot(const struct sendstate *s, uint64_t seq)
{
	return &s->ring[seq & (s->capacity - 1)];
}

void sendstate_free(struct sendstate *s)
{
	for (uint64_t seq = s->base; seq < s->next; seq++)
		if (*slot(s, seq))
			pkt_free(s->pool, *slot(s, seq));
	free(s->ring);
	sendstate_init(s, s->pool);
}

bool sendstate_window_open(const struct sendstate *s)
{
	return s->next - s->base < RECV_WINDOW_PACKETS;
}

static int grow(struct sendstate *s)
{
	size_t capacity = s->capacity ? s->capacity * 2 : 64;
	struct pkt **ring = calloc(capacity, sizeof *ring);
	if (!ring)
		return -ENOMEM;
	for (uint64_t seq = s->base; seq < s->next; seq++)
		ring[seq & (capacity - 1)] = *slot(s, seq);
	free(s->ring);
	s->ring = ring;
	s->capacity = capacity;
	return 0;
}

int sendstate_enter(struct sendstate *s, struct pkt *p)
{
	if (s->next - s->base >= s->capacity) {
		int err = grow(s);
		if (err)
			return err;
	}
	p->seq = s->next++;
	p->state = PKT_NEW;
	p->tries = 0;
	*slot(s, p->seq) = p;
	return 0;
}

void sendstate_transmitted(struct sendstate *s, struct pkt *p, uint64_t now)
{
	if (s->inflight_packets == 0)
		s->delivered_us = now; /* a new flight: the rate clock starts here */
	p->state = PKT_FLIGHT;
	p->order = s->next_order++;
	p->sent_us = now;
	p->delivered = s->delivered_bytes;
	p->delivered_us = s->delivered_us;
	if (p->tries < UINT16_MAX)
		p->tries++;
	TAILQ_INSERT_TAIL(&s->flight, p, queue);
	s->inflight_bytes += p->len;
	s->inflight_packets++;
}

struct pkt *sendstate_take_lost(struct sendstate *s)
{
	struct pkt *p = TAILQ_FIRST(&s->lost);
	if (p) {
		TAILQ_REMOVE(&s->lost, p, queue);
		s->lost_packets--;
		p->state = PKT_TAKEN;
	}
	return p;
}

static void leave_flight(struct sendstate *s, struct pkt *p)
{
	TAILQ_REMOVE(&s->flight, p, queue);
	s->inflight_bytes -= p->len;
	s->inflight_packets--;
}

static void mark_lost(struct sendstate *s, struct pkt *p)
{
	leave_flight(s, p);
	p->state = PKT_LOST;
	TAILQ_INSERT_TAIL(&s->lost, p, queue);
	s->lost_packets++;
}

static void unlink_packet(struct sendstate *s, struct pkt *p)
{
	if (p->state == PKT_FLIGHT) {
		leave_flight(s, p);
	} else if (p->state == PKT_LOST) {
		TAILQ_REMOVE(&s->lost, p, queue);
		s->lost_packets--;
	}
}

static uint64_t rate_sample(const struct sendstate *s, const struct pkt *p, uint64_t now)
{
	uint64_t elapsed = now - p->delivered_us;
	if (elapsed == 0)
		return 0;
	return (s->delivered_bytes - p->delivered) * 8 * 1000000 / elapsed;
}

/* An acknowledgement that comes sooner than any round trip belongs to an earlier transmission. */
static bool was_spurious(const struct pkt *p, const struct rtt *rtt, uint64_t now)
{
	if (p->state == PKT_LOST || p->state == PKT_TAKEN)
		return true;
	return p->tries > 1 && now - p->sent_us < rtt->min_us;
}

static void ack_packet(struct sendstate *s, struct pkt *p, const struct ack *a,
		       const struct rtt *rtt, uint64_t now, struct sendstate_acked *out)
{
	bool latest = p->seq == a->latest && (uint8_t)(p->tries - 1) == a->latest_tries;

	out->packets++;
	out->bytes += p->len;
	s->delivered_bytes += p->len;
	s->delivered_us = now;
	if (was_spurious(p, rtt, now)) {
		out->spurious++;
	} else if (p->order > s->newest_order) {
		s->newest_order = p->order;
		out->rate_bps = rate_sample(s, p, now);
	}
	if (latest && p->state == PKT_FLIGHT)
		out->rtt_us = now - p->sent_us;
	unlink_packet(s, p);
	*slot(s, p->seq) = NULL;
	pkt_free(s->pool, p);
}

static void ack_range(struct sendstate *s, uint64_t start, uint64_t end, const struct ack *a,
		      const struct rtt *rtt, uint64_t now, struct sendstate_acked *out)
{
	for (uint64_t seq = start > s->base ? start : s->base; seq < end; seq++) {
		struct pkt *p = *slot(s, seq);
		if (p)
			ack_packet(s, p, a, rtt, now, out);
	}
}

int sendstate_ack(struct sendstate *s, const struct ack *a, const struct rtt *rtt, uint64_t now,
		  struct sendstate_acked *out)
{
	*out = (struct sendstate_acked){0};
	if (a->cumulative > s->next || (a->largest != UINT64_MAX && a->largest >= s->next))
		return -EBADMSG;
	ack_range(s, s->base, a->cumulative, a, rtt, now, out);
	for (unsigned i = 0; i < a->range_count; i++)
		ack_range(s, a->ranges[i].start, a->ranges[i].end, a, rtt, now, out);
	while (s->base < s->next && !*slot(s, s->base))
		s->base++;
	if (out->spurious && s->reorder_threshold < REORDER_THRESHOLD_MAX)
		s->reorder_threshold += s->reorder_threshold / 2 + 1;
	return 0;
}

uint64_t sendstate_detect(struct sendstate *s, const struct rtt *rtt, uint64_t now,
			  uint64_t *next_us)
{
	uint64_t wait = rtt->latest_us > rtt->smoothed_us ? rtt->latest_us : rtt_smoothed(rtt);
	uint64_t bytes = 0;
	struct pkt *p;

	wait += wait / 8;
	if (wait < RTT_GRANULARITY_US)
		wait = RTT_GRANULARITY_US;
	*next_us = UINT64_MAX;
	while ((p = TAILQ_FIRST(&s->flight)) && p->order < s->newest_order) {
		if (s->newest_order - p->order < s->reorder_threshold && p->sent_us + wait > now) {
			*next_us = p->sent_us + wait;
			break;
		}
		bytes += p->len;
		mark_lost(s, p);
	}
	return bytes;
}

void sendstate_probe(struct sendstate *s, unsigned n)
{
	struct pkt *p;
	while (n-- && (p = TAILQ_FIRST(&s->flight)))
		mark_lost(s, p);
}
