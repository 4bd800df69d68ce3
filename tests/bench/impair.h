/*
 * What one direction of an emulated link does to frames: loses, delays, reorders, duplicates, and
 * queues them before a bottleneck.  Pure: the time comes in, frames come out when they are due.
 * The order of things is loss, duplicate, bottleneck, then delay; as with netem, jitter may let
 * frames overtake each other unless `keep_order` is set, and a reordered frame skips the delay.
 */
#ifndef BENCH_IMPAIR_H
#define BENCH_IMPAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_BYTES_MAX 2048 /* with the vnet header before it */
#define IMPAIR_FRAMES_MAX 131072u

struct frame {
	uint64_t due_ns;
	uint64_t order; /* frames due at the same time leave as they came */
	size_t len;	/* bytes used */
	struct frame *next_free;
	uint8_t bytes[FRAME_BYTES_MAX];
};

/* Frames are recycled through one pool; it grows to what was in flight at most. */
struct frame_pool {
	struct frame *free;
};
struct frame *frame_get(struct frame_pool *pool); /* NULL when out of memory */
void frame_put(struct frame_pool *pool, struct frame *f);
void frame_pool_free(struct frame_pool *pool);

struct impair_config {
	uint64_t delay_ns, jitter_ns;
	double loss, reorder, duplicate; /* probabilities, 0 to 1 */
	uint64_t rate_bps;		 /* 0: no limit */
	uint64_t queue_bytes;		 /* before the bottleneck; drop tail */
	uint64_t seed;
	bool keep_order;
	size_t header_bytes; /* of each frame that are not on the wire */
};

struct impair_stats {
	uint64_t received, received_bytes;
	uint64_t delivered, delivered_bytes;
	uint64_t lost, queue_dropped, overflow_dropped, cut_dropped;
	uint64_t duplicated, reordered;
	uint64_t queue_max_bytes;
};

struct impair {
	struct impair_config config;
	struct impair_stats stats;
	struct frame_pool *pool;
	struct frame **heap; /* by due_ns, order */
	size_t count;
	uint64_t order, random, busy_until_ns, last_due_ns;
	bool cut; /* nothing gets through */
};

/* 0 or -ENOMEM. */
int impair_init(struct impair *p, const struct impair_config *config, struct frame_pool *pool);
void impair_free(struct impair *p);
/* Consumes the frame. */
void impair_input(struct impair *p, struct frame *f, uint64_t now_ns);
/* The next frame that is due, now the caller's; NULL when there is none. */
struct frame *impair_output(struct impair *p, uint64_t now_ns);
/* When impair_output will have something; UINT64_MAX: never. */
uint64_t impair_next_ns(const struct impair *p);
#endif
