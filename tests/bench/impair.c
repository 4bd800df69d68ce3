#include "impair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS 1000000000u
#define BYTES_ON_WIRE 24u /* what Ethernet adds: preamble, checksum, gap */

/* --- frames ------------------------------------------------------------------------------- */

struct frame *frame_get(struct frame_pool *pool)
{
	struct frame *f = pool->free;
	if (!f)
		return malloc(sizeof *f);
	pool->free = f->next_free;
	return f;
}

void frame_put(struct frame_pool *pool, struct frame *f)
{
	f->next_free = pool->free;
	pool->free = f;
}

void frame_pool_free(struct frame_pool *pool)
{
	while (pool->free) {
		struct frame *f = pool->free;
		pool->free = f->next_free;
		free(f);
	}
}

/* --- the heap of frames under way --------------------------------------------------------- */

static bool before(const struct frame *a, const struct frame *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void heap_push(struct impair *p, struct frame *f)
{
	size_t i = p->count++;
	for (size_t up; i > 0 && before(f, p->heap[up = (i - 1) / 2]); i = up)
		p->heap[i] = p->heap[up];
	p->heap[i] = f;
}

static struct frame *heap_pop(struct impair *p)
{
	struct frame *top = p->heap[0], *last = p->heap[--p->count];
	size_t i = 0, child;
	while ((child = 2 * i + 1) < p->count) {
		if (child + 1 < p->count && before(p->heap[child + 1], p->heap[child]))
			child++;
		if (!before(p->heap[child], last))
			break;
		p->heap[i] = p->heap[child];
		i = child;
	}
	p->heap[i] = last;
	return top;
}

/* --- fate --------------------------------------------------------------------------------- */

/* splitmix64 */
static uint64_t next_random(struct impair *p)
{
	uint64_t x = p->random += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* Draws only when there is a chance, so that the other draws of a seed stay what they are. */
static bool chance(struct impair *p, double probability)
{
	if (probability <= 0)
		return false;
	return (double)(next_random(p) >> 11) * 0x1p-53 < probability;
}

int impair_init(struct impair *p, const struct impair_config *config, struct frame_pool *pool)
{
	memset(p, 0, sizeof *p);
	p->config = *config;
	p->pool = pool;
	p->random = config->seed;
	p->heap = calloc(IMPAIR_FRAMES_MAX, sizeof *p->heap);
	return p->heap ? 0 : -ENOMEM;
}

void impair_free(struct impair *p)
{
	for (size_t i = 0; i < p->count; i++)
		free(p->heap[i]);
	free(p->heap);
}

/* The bottleneck is a clock that says when it will be free; what it has not sent yet is the queue.
 * False: the queue is full. */
static bool pass_bottleneck(struct impair *p, size_t bytes, uint64_t *when_ns)
{
	uint64_t rate = p->config.rate_bps;
	if (!rate)
		return true;
	uint64_t start = p->busy_until_ns > *when_ns ? p->busy_until_ns : *when_ns;
	uint64_t queued = (uint64_t)((double)(start - *when_ns) * (double)rate / 8e9);
	if (queued + bytes > p->config.queue_bytes) {
		p->stats.queue_dropped++;
		return false;
	}
	if (queued + bytes > p->stats.queue_max_bytes)
		p->stats.queue_max_bytes = queued + bytes;
	p->busy_until_ns = start + (bytes + BYTES_ON_WIRE) * 8 * SECOND_NS / rate;
	*when_ns = p->busy_until_ns;
	return true;
}

static uint64_t draw_delay(struct impair *p)
{
	const struct impair_config *c = &p->config;
	if (chance(p, c->reorder)) {
		p->stats.reordered++;
		return 0;
	}
	if (!c->jitter_ns)
		return c->delay_ns;
	uint64_t delay = c->delay_ns + next_random(p) % (2 * c->jitter_ns + 1);
	return delay > c->jitter_ns ? delay - c->jitter_ns : 0;
}

static void schedule(struct impair *p, struct frame *f, uint64_t now_ns)
{
	uint64_t when_ns = now_ns;
	if (!pass_bottleneck(p, f->len - p->config.header_bytes, &when_ns)) {
		frame_put(p->pool, f);
		return;
	}
	if (p->count == IMPAIR_FRAMES_MAX) {
		p->stats.overflow_dropped++;
		frame_put(p->pool, f);
		return;
	}
	f->due_ns = when_ns + draw_delay(p);
	if (p->config.keep_order && f->due_ns < p->last_due_ns)
		f->due_ns = p->last_due_ns;
	p->last_due_ns = f->due_ns;
	f->order = p->order++;
	heap_push(p, f);
}

void impair_input(struct impair *p, struct frame *f, uint64_t now_ns)
{
	p->stats.received++;
	p->stats.received_bytes += f->len - p->config.header_bytes;
	if (p->cut || chance(p, p->config.loss)) {
		*(p->cut ? &p->stats.cut_dropped : &p->stats.lost) += 1;
		frame_put(p->pool, f);
		return;
	}
	if (chance(p, p->config.duplicate)) {
		struct frame *copy = frame_get(p->pool);
		if (copy) {
			copy->len = f->len;
			memcpy(copy->bytes, f->bytes, f->len);
			p->stats.duplicated++;
			schedule(p, copy, now_ns);
		}
	}
	schedule(p, f, now_ns);
}

struct frame *impair_output(struct impair *p, uint64_t now_ns)
{
	if (!p->count || p->heap[0]->due_ns > now_ns)
		return NULL;
	struct frame *f = heap_pop(p);
	p->stats.delivered++;
	p->stats.delivered_bytes += f->len - p->config.header_bytes;
	return f;
}

uint64_t impair_next_ns(const struct impair *p)
{
	return p->count ? p->heap[0]->due_ns : UINT64_MAX;
}
