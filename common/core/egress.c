#include "core/egress.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "wire/packet.h"

#define QUANTUM_BYTES 12000	  /* a handful of packets: fair, and still sent in batches */
#define SMALL_BACKLOG_BYTES 3000u /* CoDel leaves a queue of about one packet alone */

void egress_init(struct egress *e, struct pkt_pool *pool, uint64_t limit_bytes, uint64_t target_us,
		 uint64_t interval_us)
{
	*e = (struct egress){.pool = pool,
			     .limit_bytes = limit_bytes,
			     .target_us = target_us,
			     .interval_us = interval_us};
	TAILQ_INIT(&e->fresh);
	TAILQ_INIT(&e->old);
}

/* Puts what p has beyond `n` packets back to where p was taken from, if there is memory. */
static void put_back(struct egress *e, struct egress_flow *f, struct pkt *p, size_t n)
{
	struct pkt *rest = n < p->count ? pkt_split(e->pool, p, n) : NULL;
	if (!rest)
		return;
	TAILQ_INSERT_HEAD(&f->packets, rest, queue);
	f->bytes += rest->len;
	e->bytes += rest->len;
}

static struct pkt *take(struct egress *e, struct egress_flow *f, const struct pkt_room *room)
{
	struct pkt *p = TAILQ_FIRST(&f->packets);
	if (!p)
		return NULL;
	TAILQ_REMOVE(&f->packets, p, queue);
	f->bytes -= p->len;
	e->bytes -= p->len;
	put_back(e, f, p, pkt_fit(p, room));
	return p;
}

void egress_free(struct egress *e)
{
	struct pkt *p;

	for (unsigned i = 0; e->flows && i < EGRESS_FLOWS; i++)
		while ((p = take(e, &e->flows[i], NULL)))
			pkt_free(e->pool, p);
	free(e->flows);
	egress_init(e, e->pool, e->limit_bytes, e->target_us, e->interval_us);
}

void egress_trim(struct egress *e)
{
	if (e->bytes)
		return;
	free(e->flows);
	e->flows = NULL;
	TAILQ_INIT(&e->fresh);
	TAILQ_INIT(&e->old);
}

static int make_flows(struct egress *e)
{
	e->flows = calloc(EGRESS_FLOWS, sizeof *e->flows);
	if (!e->flows)
		return -ENOMEM;
	for (unsigned i = 0; i < EGRESS_FLOWS; i++)
		TAILQ_INIT(&e->flows[i].packets);
	return 0;
}

/* Labels are the manager's own numbers: the low bits spread them well enough. */
static struct egress_flow *flow_of(struct egress *e, const struct pkt *p)
{
	uint32_t hash = p->label ^ p->label >> 8;

	if (p->flags & PACKET_FLAG_SPARSE)
		return &e->flows[EGRESS_BULK_FLOWS + hash % EGRESS_SPARSE_FLOWS];
	return &e->flows[hash % EGRESS_BULK_FLOWS];
}

int egress_push(struct egress *e, struct pkt *p, uint64_t now)
{
	int err = e->bytes + p->len > e->limit_bytes ? -ENOBUFS : 0;

	if (!err && !e->flows)
		err = make_flows(e);
	if (err) {
		e->dropped += p->count;
		pkt_free(e->pool, p);
		return err;
	}
	struct egress_flow *f = flow_of(e, p);
	p->queued_us = now;
	TAILQ_INSERT_TAIL(&f->packets, p, queue);
	f->bytes += p->len;
	e->bytes += p->len;
	if (f->list == EGRESS_IDLE) {
		f->list = EGRESS_NEW;
		f->deficit = QUANTUM_BYTES;
		TAILQ_INSERT_TAIL(&e->fresh, f, turn);
	}
	return 0;
}

bool egress_empty(const struct egress *e)
{
	return e->bytes == 0;
}

/* --- CoDel, per flow ---------------------------------------------------------------------- */

static uint64_t control_law(const struct egress *e, const struct egress_flow *f, uint64_t from)
{
	return from + (uint64_t)((double)e->interval_us / sqrt((double)f->drop_count));
}

/* True while the queue has been above the target for a whole interval. */
static bool too_long(const struct egress *e, struct egress_flow *f, const struct pkt *p,
		     uint64_t now)
{
	if (now - p->queued_us < e->target_us || f->bytes <= SMALL_BACKLOG_BYTES) {
		f->above_since_us = 0;
		return false;
	}
	if (!f->above_since_us)
		f->above_since_us = now;
	return now - f->above_since_us >= e->interval_us;
}

/* RFC 8289 section 5: is this packet the one to act on? */
static bool codel_acts(const struct egress *e, struct egress_flow *f, const struct pkt *p,
		       uint64_t now)
{
	bool above = too_long(e, f, p, now);

	if (f->dropping) {
		if (!above) {
			f->dropping = false;
			return false;
		}
		if (now < f->drop_next_us)
			return false;
		f->drop_count++;
		f->drop_next_us = control_law(e, f, f->drop_next_us);
		return true;
	}
	if (!above)
		return false;
	f->dropping = true;
	/* Soon after the last time: go on about where it was. */
	bool recent = now - f->drop_next_us < 16 * e->interval_us;
	f->drop_count = recent && f->drop_count > 2 ? f->drop_count - 2 : 1;
	f->drop_next_us = control_law(e, f, now);
	return true;
}

static bool is_record(const struct pkt *p)
{
	return p->data[0] == PACKET_DATA && p->each >= HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES;
}

static uint64_t record_of(const struct pkt *p)
{
	return be64_get(p->data + HOP_HEADER_BYTES);
}

static bool droppable(const struct pkt *p)
{
	return (p->flags & PACKET_FLAG_DROPPABLE) && is_record(p);
}

static void drop(struct egress *e, struct pkt *p)
{
	e->dropped += p->count;
	pkt_free(e->pool, p);
}

/* False: p was dropped. */
static bool admit(struct egress *e, struct egress_flow *f, struct pkt *p, uint64_t now)
{
	if (f->drop_rest && droppable(p) && p->label == f->dropped_label &&
	    record_of(p) == f->dropped_record) {
		drop(e, p);
		return false;
	}
	if (!codel_acts(e, f, p, now))
		return true;
	if (!droppable(p)) {
		uint32_t taken = p->len;
		put_back(e, f, p, 1);
		f->deficit += (int64_t)(taken - p->len);
		p->flags |= PACKET_FLAG_MARKED;
		e->marked++;
		return true;
	}
	f->drop_rest = true;
	f->dropped_label = p->label;
	f->dropped_record = record_of(p);
	drop(e, p);
	return false;
}

/* --- deficit round robin ------------------------------------------------------------------ */

static void move(struct egress *e, struct egress_flow *f, struct egress_flows *from,
		 enum egress_list list)
{
	TAILQ_REMOVE(from, f, turn);
	f->list = list;
	if (list == EGRESS_OLD)
		TAILQ_INSERT_TAIL(&e->old, f, turn);
}

static bool is_alone(const struct egress *e, const struct egress_flow *f)
{
	return !TAILQ_NEXT(f, turn) && (TAILQ_EMPTY(&e->fresh) || TAILQ_EMPTY(&e->old));
}

/* A run beyond the flow's share is cut where others wait for theirs. */
static struct pkt *take_share(struct egress *e, struct egress_flow *f, const struct pkt_room *room)
{
	struct pkt_room share = room ? *room : (struct pkt_room){UINT64_MAX, UINT64_MAX};
	bool alone = is_alone(e, f);

	if (!alone && (uint64_t)f->deficit < share.bytes)
		share.bytes = (uint64_t)f->deficit;
	struct pkt *p = take(e, f, &share);
	if (p)
		f->deficit -= (int64_t)p->len;
	/* Nobody has lost what was taken meanwhile. */
	if (alone && f->deficit < -QUANTUM_BYTES)
		f->deficit %= QUANTUM_BYTES;
	return p;
}

struct pkt *egress_pop(struct egress *e, const struct pkt_room *room, uint64_t now)
{
	for (;;) {
		bool fresh = !TAILQ_EMPTY(&e->fresh);
		struct egress_flows *list = fresh ? &e->fresh : &e->old;
		struct egress_flow *f = TAILQ_FIRST(list);
		if (!f)
			return NULL;
		if (f->deficit <= 0) {
			f->deficit += QUANTUM_BYTES;
			move(e, f, list, EGRESS_OLD);
			continue;
		}
		struct pkt *p = take_share(e, f, room);
		if (!p) {
			/* A new queue that ran empty waits its turn once among the old ones, so
			 * that it cannot jump the line again and again (RFC 8290 section 4.2). */
			f->dropping = false;
			f->above_since_us = 0;
			move(e, f, list, fresh ? EGRESS_OLD : EGRESS_IDLE);
			continue;
		}
		if (admit(e, f, p, now))
			return p;
	}
}
