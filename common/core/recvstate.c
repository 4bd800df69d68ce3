#include "core/recvstate.h"

void recvstate_init(struct recvstate *s)
{
	*s = (struct recvstate){0};
	ranges_init(&s->above, RECV_RANGES_MAX);
}

void recvstate_free(struct recvstate *s)
{
	ranges_free(&s->above);
}

static enum recv_result add_in_order(struct recvstate *s)
{
	s->cumulative++;
	if (s->above.count && s->above.v[0].start == s->cumulative) {
		s->cumulative = s->above.v[0].end;
		ranges_remove(&s->above, 0, s->cumulative);
	}
	return RECV_NEW;
}

static enum recv_result add_above(struct recvstate *s, uint64_t seq)
{
	size_t count = s->above.count;

	if (ranges_contains(&s->above, seq))
		return RECV_DUPLICATE;
	if (ranges_add(&s->above, seq, seq + 1) != 0)
		return RECV_OUT_OF_WINDOW; /* not acknowledged: it will come again */
	if (s->above.count > count)
		s->urgent = true;
	return RECV_NEW;
}

enum recv_result recvstate_add(struct recvstate *s, const struct hop_header *h, uint64_t now)
{
	enum recv_result result = RECV_DUPLICATE;

	if (h->seq >= s->cumulative + RECV_WINDOW_PACKETS)
		return RECV_OUT_OF_WINDOW;
	if (h->seq == s->cumulative)
		result = add_in_order(s);
	else if (h->seq > s->cumulative)
		result = add_above(s, h->seq);
	if (result == RECV_OUT_OF_WINDOW)
		return result;
	s->pending++;
	if (result == RECV_DUPLICATE) {
		s->urgent = true;
		return result;
	}
	if (h->seq >= s->largest)
		s->largest = h->seq + 1;
	s->latest = h->seq;
	s->latest_tries = h->tries;
	s->latest_us = now;
	return result;
}

enum recv_result recvstate_add_run(struct recvstate *s, const struct hop_header *h, size_t count,
				   uint64_t now)
{
	uint64_t end = h->seq + count;
	size_t gaps = s->above.count;

	if (count == 1)
		return recvstate_add(s, h, now);
	if (h->seq < s->cumulative || h->seq < s->largest || h->seq > UINT64_MAX - count ||
	    end > s->cumulative + RECV_WINDOW_PACKETS)
		return RECV_APART;
	if (h->seq == s->cumulative)
		s->cumulative = end;
	else if (ranges_add(&s->above, h->seq, end) != 0)
		return RECV_APART;
	if (s->above.count > gaps)
		s->urgent = true;
	s->pending += (uint32_t)count;
	s->largest = end;
	s->latest = end - 1;
	s->latest_tries = h->tries;
	s->latest_us = now;
	return RECV_NEW;
}

/*
 * Which ranges to name when there are too many: the nearest let the sender free memory, the newest
 * show it what was lost lately, and the rest takes turns, so that nothing stays unknown for long.
 */
static size_t pick_ranges(struct recvstate *s, struct ack *a)
{
	const size_t ends = ACK_RANGES_MAX * 3 / 8, turns = ACK_RANGES_MAX - 2 * ends;
	const size_t count = s->above.count;
	bool all = count <= ACK_RANGES_MAX;
	size_t n = 0, middle = all ? 0 : count - 2 * ends;

	/* The last turn may begin a little early, so that it is a full one. */
	if (s->turn >= middle)
		s->turn = 0;
	size_t from = ends + (s->turn + turns > middle && !all ? middle - turns : s->turn);
	for (size_t i = 0; i < count; i++) {
		if (!all && i >= ends && i < count - ends && (i < from || i >= from + turns))
			continue;
		a->ranges[n].start = s->above.v[i].start;
		a->ranges[n++].end = s->above.v[i].end;
	}
	if (!all)
		s->turn += turns;
	return n;
}

void recvstate_ack(struct recvstate *s, struct ack *a, uint64_t now)
{
	a->cumulative = s->cumulative;
	a->largest =
		s->largest - 1; /* wraps when nothing has come: largest + 1 == cumulative == 0 */
	a->latest = s->latest;
	a->latest_tries = s->latest_tries;
	a->delay_us = (uint32_t)(now - s->latest_us);
	a->range_count = (uint8_t)pick_ranges(s, a);
	s->pending = 0;
	s->urgent = false;
}
