#include "core/sendstate.h"

#include <errno.h>
#include <stdlib.h>

#include "core/recvstate.h"

#define SLOWEST_WINDOW_US 5000000u /* the slowest packet is forgotten after this */
#define REORDERING_MEMORY_US 60000000u

enum pkt_state { PKT_NEW, PKT_FLIGHT, PKT_LOST, PKT_TAKEN };

void sendstate_init(struct sendstate *s, struct pkt_pool *pool)
{
	*s = (struct sendstate){
		.pool = pool,
		.next_order = 1,
	};
	TAILQ_INIT(&s->flight);
	TAILQ_INIT(&s->lost);
}

static struct pkt **slot(const struct sendstate *s, uint64_t seq)
{
	return &s->ring[seq & (s->capacity - 1)];
}

void sendstate_free(struct sendstate *s)
{
	for (uint64_t seq = s->base; seq < s->next; seq++) {
		struct pkt *p = *slot(s, seq);
		if (p && seq == p->seq + p->count - 1)
			pkt_free(s->pool, p);
	}
	free(s->ring);
	sendstate_init(s, s->pool);
}

void sendstate_trim(struct sendstate *s)
{
	if (s->base != s->next)
		return;
	free(s->ring);
	s->ring = NULL;
	s->capacity = 0;
}

uint64_t sendstate_window(const struct sendstate *s)
{
	return RECV_WINDOW_PACKETS - (s->next - s->base);
}

static int grow(struct sendstate *s, uint64_t want)
{
	size_t capacity = s->capacity ? s->capacity : 64;
	while (capacity < want)
		capacity *= 2;
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

static void fill_slots(const struct sendstate *s, const struct pkt *p, struct pkt *value)
{
	for (uint64_t i = 0; i < p->count; i++)
		*slot(s, p->seq + i) = value;
}

int sendstate_enter(struct sendstate *s, struct pkt *p)
{
	uint64_t want = s->next - s->base + p->count;

	if (want > s->capacity) {
		int err = grow(s, want);
		if (err)
			return err;
	}
	p->seq = s->next;
	s->next += p->count;
	p->state = PKT_NEW;
	p->tries = 0;
	p->probed = false;
	fill_slots(s, p, p);
	return 0;
}

/* The packets of p beyond the first `n` as a run of their own, in the same state; NULL when out of
 * memory. */
static struct pkt *split(struct sendstate *s, struct pkt *p, size_t n)
{
	struct pkt *rest = pkt_split(s->pool, p, n);

	if (!rest)
		return NULL;
	fill_slots(s, rest, rest);
	if (p->state == PKT_FLIGHT)
		TAILQ_INSERT_AFTER(&s->flight, p, rest, queue);
	else if (p->state == PKT_LOST)
		TAILQ_INSERT_AFTER(&s->lost, p, rest, queue);
	return rest;
}

/* draft-ietf-ccwg-bbr section 4.1.2.4. */
void sendstate_starved(struct sendstate *s)
{
	s->starved_bytes = s->delivered_bytes + s->inflight_bytes;
	if (!s->starved_bytes)
		s->starved_bytes = 1;
}

void sendstate_transmitted(struct sendstate *s, struct pkt *p, uint64_t now)
{
	if (s->inflight_packets == 0)
		s->delivered_us = s->first_sent_us = now; /* a new flight: the rate clock starts */
	p->state = PKT_FLIGHT;
	p->order = s->next_order;
	s->next_order += p->count;
	p->sent_us = now;
	p->delivered = s->delivered_bytes;
	p->delivered_us = s->delivered_us;
	p->first_sent_us = s->first_sent_us;
	if (s->delivered_bytes > s->starved_bytes)
		s->starved_bytes = 0;
	p->app_limited = s->starved_bytes != 0;
	if (p->tries == 0)
		p->first_tx_us = now;
	if (p->tries < UINT16_MAX)
		p->tries++;
	TAILQ_INSERT_TAIL(&s->flight, p, queue);
	s->inflight_bytes += p->len;
	s->inflight_packets += p->count;
}

struct pkt *sendstate_take_lost(struct sendstate *s, const struct pkt_room *room)
{
	struct pkt *p = TAILQ_FIRST(&s->lost);
	if (p) {
		size_t n = pkt_fit(p, room);
		if (n < p->count)
			split(s, p, n);
		TAILQ_REMOVE(&s->lost, p, queue);
		s->lost_packets -= p->count;
		p->state = PKT_TAKEN;
	}
	return p;
}

static void leave_flight(struct sendstate *s, struct pkt *p)
{
	TAILQ_REMOVE(&s->flight, p, queue);
	s->inflight_bytes -= p->len;
	s->inflight_packets -= p->count;
}

static void mark_lost(struct sendstate *s, struct pkt *p, bool probed)
{
	p->probed = probed;
	leave_flight(s, p);
	p->state = PKT_LOST;
	TAILQ_INSERT_TAIL(&s->lost, p, queue);
	s->lost_packets += p->count;
}

static void unlink_packet(struct sendstate *s, struct pkt *p)
{
	if (p->state == PKT_FLIGHT) {
		leave_flight(s, p);
	} else if (p->state == PKT_LOST) {
		TAILQ_REMOVE(&s->lost, p, queue);
		s->lost_packets -= p->count;
	}
}

static bool contains(const struct pkt *p, uint64_t seq)
{
	return seq - p->seq < p->count;
}

/* What the newest acknowledged packet knew when it was sent; the packet itself is gone by then. */
struct newest {
	bool any, app_limited;
	uint64_t sent_us, first_sent_us, delivered, delivered_us;
	uint64_t before; /* newest_order until now */
};

/* draft-ietf-ccwg-bbr section 4.1.2: over the longer of the time to send and the time to be
 * acknowledged; one that is shorter than any round trip says nothing. */
static void rate_sample(struct sendstate *s, const struct newest *n, const struct rtt *rtt,
			uint64_t now, struct sendstate_acked *out)
{
	if (!n->any)
		return;
	uint64_t elapsed = now - n->delivered_us, sending = n->sent_us - n->first_sent_us;
	if (sending > elapsed)
		elapsed = sending;
	s->first_sent_us = n->sent_us;
	out->sent_delivered = n->delivered;
	out->app_limited = n->app_limited;
	if (elapsed && elapsed >= rtt->min_us)
		out->rate_bps = (s->delivered_bytes - n->delivered) * 8 * 1000000 / elapsed;
}

/* Which transmission of a packet an ack is for, when there were several. */
enum acked { ACKED_LAST, ACKED_EARLIER, ACKED_UNKNOWN };

/* One that comes sooner than any round trip belongs to an earlier transmission; of the latest
 * arrival the ack says it. */
static enum acked which_acked(const struct pkt *p, const struct ack *a, const struct rtt *rtt,
			      uint64_t now)
{
	if (p->state == PKT_LOST || p->state == PKT_TAKEN)
		return ACKED_EARLIER;
	if (p->tries == 1)
		return ACKED_LAST;
	if (contains(p, a->latest))
		return (uint8_t)(p->tries - 1) == a->latest_tries ? ACKED_LAST : ACKED_EARLIER;
	return now - p->sent_us < rtt->min_us ? ACKED_EARLIER : ACKED_UNKNOWN;
}

/* The windowed maximum of the round trips of packets that others overtook.  An ack that comes late
 * because others were lost says nothing about that: it tells of all at once. */
static void note_overtaken(struct sendstate *s, const struct pkt *p, enum acked which, uint64_t now)
{
	uint64_t took = now - p->first_tx_us;

	if (took >= s->slowest_us || now > s->slowest_at_us + SLOWEST_WINDOW_US) {
		s->slowest_us = took;
		s->slowest_at_us = now;
	}
	if (which == ACKED_EARLIER) {
		s->reordering = true;
		s->reordered_at_us = now;
	}
}

/* All packets of the run alike. */
static void ack_packets(struct sendstate *s, struct pkt *p, const struct ack *a,
			const struct rtt *rtt, uint64_t now, struct newest *newest,
			struct sendstate_acked *out)
{
	enum acked which = which_acked(p, a, rtt, now);
	bool overtaken =
		which == ACKED_EARLIER ? !p->probed : p->tries == 1 && p->order < newest->before;

	out->packets += p->count;
	out->bytes += p->len;
	s->delivered_bytes += p->len;
	s->delivered_us = now;
	if (overtaken)
		note_overtaken(s, p, which, now);
	/* Only what certainly arrived shows what was sent before it and did not: a mistake here
	 * would make the whole flight look lost. */
	if (which == ACKED_EARLIER) {
		out->spurious += p->count;
	} else if (which == ACKED_LAST && p->order > s->newest_order) {
		s->newest_order = p->order + p->count - 1;
		*newest = (struct newest){
			true,	      p->app_limited,  p->sent_us,    p->first_sent_us,
			p->delivered, p->delivered_us, newest->before};
	}
	/* Also when it was sent again too soon: else a round trip that has grown would never be
	 * seen. */
	if (contains(p, a->latest) && a->latest_tries == 0)
		out->rtt_us = now - p->first_tx_us;
	else if (which == ACKED_LAST && contains(p, a->latest))
		out->rtt_us = now - p->sent_us;
	unlink_packet(s, p);
	fill_slots(s, p, NULL);
	pkt_free(s->pool, p);
}

/* The packets of p from `seq` on and before `end`, as far as they can be told by one answer: of
 * those that were sent again the ack names one.  NULL when out of memory: the next ack says it
 * again. */
static struct pkt *apart(struct sendstate *s, struct pkt *p, uint64_t seq, uint64_t end)
{
	if (p->state == PKT_FLIGHT && p->tries > 1)
		end = seq + 1;
	if (p->seq < seq && !(p = split(s, p, (size_t)(seq - p->seq))))
		return NULL;
	if (p->seq + p->count > end && !split(s, p, (size_t)(end - p->seq)))
		return NULL;
	return p;
}

static void ack_range(struct sendstate *s, uint64_t start, uint64_t end, const struct ack *a,
		      const struct rtt *rtt, uint64_t now, struct newest *newest,
		      struct sendstate_acked *out)
{
	uint64_t seq = start > s->base ? start : s->base, next;

	for (; seq < end; seq = next) {
		struct pkt *p = *slot(s, seq);
		next = p ? p->seq + p->count : seq + 1;
		if (p && (p = apart(s, p, seq, end))) {
			next = p->seq + p->count;
			ack_packets(s, p, a, rtt, now, newest, out);
		}
	}
}

int sendstate_ack(struct sendstate *s, const struct ack *a, const struct rtt *rtt, uint64_t now,
		  struct sendstate_acked *out)
{
	struct newest newest = {.before = s->newest_order};

	*out = (struct sendstate_acked){0};
	if (a->cumulative > s->next || (a->largest != UINT64_MAX && a->largest >= s->next))
		return -EBADMSG;
	ack_range(s, s->base, a->cumulative, a, rtt, now, &newest, out);
	for (unsigned i = 0; i < a->range_count; i++)
		ack_range(s, a->ranges[i].start, a->ranges[i].end, a, rtt, now, &newest, out);
	while (s->base < s->next && !*slot(s, s->base))
		s->base++;
	rate_sample(s, &newest, rtt, now, out);
	return 0;
}

/* How many packets at the front of p are lost: by time all, else those that enough others have
 * overtaken. */
static size_t count_lost(const struct sendstate *s, const struct pkt *p, uint64_t wait,
			 uint64_t now)
{
	uint64_t ahead = s->newest_order - p->order;

	if (p->sent_us + wait <= now)
		return p->count;
	if (s->reordering || ahead < SEND_PACKET_THRESHOLD)
		return 0;
	ahead -= SEND_PACKET_THRESHOLD - 1;
	return ahead < p->count ? (size_t)ahead : p->count;
}

uint64_t sendstate_detect(struct sendstate *s, const struct rtt *rtt, uint64_t now,
			  uint64_t *next_us)
{
	uint64_t wait = rtt->latest_us > rtt->smoothed_us ? rtt->latest_us : rtt_smoothed(rtt);
	uint64_t bytes = 0;
	struct pkt *p;

	if (s->reordering && now > s->reordered_at_us + REORDERING_MEMORY_US)
		s->reordering = false;
	if (s->reordering && s->slowest_us > wait)
		wait = s->slowest_us;
	wait += wait / 8;
	if (wait < RTT_GRANULARITY_US)
		wait = RTT_GRANULARITY_US;
	*next_us = UINT64_MAX;
	while ((p = TAILQ_FIRST(&s->flight)) && p->order < s->newest_order) {
		size_t n = count_lost(s, p, wait, now);
		if (n == 0 || (n < p->count && !split(s, p, n))) {
			*next_us = p->sent_us + wait;
			break;
		}
		bytes += p->len;
		mark_lost(s, p, false);
	}
	return bytes;
}

void sendstate_probe(struct sendstate *s, unsigned n)
{
	struct pkt *p;

	while (n && (p = TAILQ_FIRST(&s->flight))) {
		if (p->count > n)
			split(s, p, n);
		n -= p->count < n ? p->count : n;
		mark_lost(s, p, true);
	}
}
