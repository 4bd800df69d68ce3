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
	if (ranges_contains(&s->above, seq))
		return RECV_DUPLICATE;
	if (ranges_add(&s->above, seq, seq + 1) != 0)
		return RECV_OUT_OF_WINDOW; /* not acknowledged: it will come again */
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
	if (h->flags & PACKET_FLAG_MARKED)
		s->marked++;
	return result;
}

void recvstate_ack(struct recvstate *s, struct ack *a, uint64_t now)
{
	size_t n = s->above.count, skip = 0;

	a->cumulative = s->cumulative;
	a->largest =
		s->largest - 1; /* wraps when nothing has come: largest + 1 == cumulative == 0 */
	a->latest = s->latest;
	a->latest_tries = s->latest_tries;
	a->delay_us = (uint32_t)(now - s->latest_us);
	a->marked = s->marked;
	if (n > ACK_RANGES_MAX) {
		skip = n - ACK_RANGES_MAX;
		n = ACK_RANGES_MAX;
	}
	a->range_count = (uint8_t)n;
	for (size_t i = 0; i < n; i++) {
		size_t from = skip && i >= ACK_RANGES_MAX / 2 ? i + skip : i;
		a->ranges[i].start = s->above.v[from].start;
		a->ranges[i].end = s->above.v[from].end;
	}
	s->pending = 0;
	s->urgent = false;
}
