/* A seeded lossy link on a virtual clock, for unit tests of transport and connection. */
#ifndef TESTS_LINKSIM_H
#define TESTS_LINKSIM_H

#include <stdlib.h>
#include <string.h>

#include "base/timerq.h"
#include "core/pkt.h"

struct flight {
	uint64_t at_us, serial;
	int to;
	uint16_t from_port, to_port; /* as they were when it was sent */
	size_t len;
	struct flight *next;
	uint8_t data[];
};

#define LINKSIM_IP_UDP_BYTES 28u

struct linksim {
	uint64_t now, rng, serial;
	unsigned loss_ppm, dup_ppm;
	uint64_t delay_us, jitter_us;
	uint64_t rate_bps, queue_bytes; /* of each direction; 0: no limit */
	uint64_t burst_bytes;		/* passes at once after a rest, as with tc-tbf(8) */
	uint64_t free_at_us[2], queue_drops, queue_peak_us;
	uint64_t queue_sum_us, queue_count;
	uint64_t packets, bytes, lost;
	uint64_t reorder_us; /* a reordered packet comes up to this much later */
	unsigned reorder_ppm;
	size_t mtu_bytes; /* larger IPv4 packets vanish without a word; 0: none does */
	bool cut;
	uint16_t from_port, to_port; /* of what is sent now, for who cares */
	struct flight *first;
};

static inline uint64_t linksim_random(struct linksim *l)
{
	l->rng ^= l->rng << 13;
	l->rng ^= l->rng >> 7;
	l->rng ^= l->rng << 17;
	return l->rng * 0x2545f4914f6cdd1du >> 11;
}

static inline void linksim_insert(struct linksim *l, int to, const void *data, size_t len,
				  uint64_t at_us)
{
	struct flight *f = malloc(sizeof *f + len), **at = &l->first;
	f->at_us = at_us + l->delay_us + (l->jitter_us ? linksim_random(l) % l->jitter_us : 0);
	if (l->reorder_ppm && linksim_random(l) % 1000000 < l->reorder_ppm)
		f->at_us += linksim_random(l) % l->reorder_us;
	f->serial = l->serial++;
	f->to = to;
	f->from_port = l->from_port;
	f->to_port = l->to_port;
	f->len = len;
	memcpy(f->data, data, len);
	while (*at && (*at)->at_us <= f->at_us)
		at = &(*at)->next;
	f->next = *at;
	*at = f;
}

static inline void linksim_enqueue(struct linksim *l, int to, const void *data, size_t len)
{
	uint64_t at = l->now;
	if (l->rate_bps) {
		uint64_t *free_at = &l->free_at_us[to];
		uint64_t rest_us = l->burst_bytes * 8000000 / l->rate_bps;
		if (*free_at + rest_us < l->now)
			*free_at = l->now - rest_us;
		uint64_t wait = *free_at > l->now ? *free_at - l->now : 0;
		if (l->queue_bytes && wait * l->rate_bps / 8000000 > l->queue_bytes) {
			l->queue_drops++;
			return;
		}
		if (wait > l->queue_peak_us)
			l->queue_peak_us = wait;
		l->queue_sum_us += wait;
		l->queue_count++;
		*free_at += (uint64_t)(len + LINKSIM_IP_UDP_BYTES) * 8000000 / l->rate_bps;
		at = *free_at > l->now ? *free_at : l->now;
	}
	linksim_insert(l, to, data, len, at);
}

static inline void linksim_send(struct linksim *l, int to, const void *data, size_t len)
{
	l->packets++;
	l->bytes += len;
	if (l->cut || (l->mtu_bytes && len + LINKSIM_IP_UDP_BYTES > l->mtu_bytes) ||
	    linksim_random(l) % 1000000 < l->loss_ppm) {
		l->lost++;
		return;
	}
	linksim_enqueue(l, to, data, len);
	if (linksim_random(l) % 1000000 < l->dup_ppm)
		linksim_enqueue(l, to, data, len);
}

static inline void linksim_drain(struct linksim *l)
{
	while (l->first) {
		struct flight *f = l->first;
		l->first = f->next;
		free(f);
	}
}
#endif
