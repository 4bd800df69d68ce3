#include "core/pkt.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct block *block_new(size_t size)
{
	assert(size <= UINT32_MAX);
	struct block *b = malloc(sizeof *b + size);
	if (b)
		*b = (struct block){.refs = 1, .size = (uint32_t)size};
	return b;
}

struct block *block_get(struct block *b)
{
	b->refs++;
	return b;
}

void block_put(struct block *b)
{
	if (b && --b->refs == 0)
		free(b);
}

void pkt_pool_init(struct pkt_pool *pool, size_t limit)
{
	pool->free = NULL;
	pool->free_count = pool->live = 0;
	pool->limit = limit;
}

void pkt_pool_free(struct pkt_pool *pool)
{
	struct pkt *p;
	while ((p = pool->free)) {
		pool->free = TAILQ_NEXT(p, queue);
		free(p);
	}
	pool->free_count = 0;
}

/* Field by field: for a structure of this size compilers call on `rep stos`, which takes longer
 * than all that a relay does with a packet otherwise.  What is set when the packet is sent is left
 * out. */
static void pkt_init(struct pkt *p, struct block *block, uint8_t *data, uint32_t len, uint32_t each)
{
	p->block = block;
	p->data = data;
	p->len = len;
	p->each = each;
	p->count = len > each ? (len + each - 1) / each : 1;
	p->label = 0;
	p->flags = p->state = 0;
	p->tries = 0;
	p->seq = p->order = 0;
	p->app_limited = p->probed = false;
}

static struct pkt *pkt_get(struct pkt_pool *pool)
{
	struct pkt *p = pool->free;

	if (p) {
		pool->free = TAILQ_NEXT(p, queue);
		__builtin_prefetch(pool->free, 1);
		pool->free_count--;
	} else if (!(p = malloc(sizeof *p))) {
		return NULL;
	}
	pool->live++;
	return p;
}

struct pkt *pkt_new(struct pkt_pool *pool, struct block *block, uint8_t *data, size_t len)
{
	return pkt_new_run(pool, block, data, len, len);
}

struct pkt *pkt_new_run(struct pkt_pool *pool, struct block *block, uint8_t *data, size_t len,
			size_t each)
{
	assert(data >= block->data && data + len <= block->data + block->size);
	assert(len <= each * PKT_RUN_PACKETS);
	struct pkt *p = pkt_get(pool);
	if (p)
		pkt_init(p, block_get(block), data, (uint32_t)len, (uint32_t)each);
	return p;
}

struct pkt *pkt_split(struct pkt_pool *pool, struct pkt *p, size_t n)
{
	struct pkt *rest = pkt_get(pool);
	uint32_t front = (uint32_t)n * p->each;

	assert(n > 0 && n < p->count);
	if (!rest)
		return NULL;
	*rest = *p;
	block_get(p->block);
	rest->data += front;
	rest->len -= front;
	rest->count -= (uint32_t)n;
	rest->seq += n;
	rest->order += n;
	if (rest->count == 1)
		rest->each = rest->len;
	p->len = front;
	p->count = (uint32_t)n;
	return rest;
}

struct bytes pkt_payload(const struct pkt *p, size_t i)
{
	size_t at = i * p->each;

	return bytes_of(p->data + at, i + 1 < p->count ? p->each : p->len - at);
}

size_t pkt_fit(const struct pkt *p, const struct pkt_room *room)
{
	size_t n = p->count;

	if (!room || n == 1)
		return n;
	if (room->packets < n)
		n = (size_t)room->packets;
	if (room->bytes < n * (uint64_t)p->each)
		n = (size_t)((room->bytes + p->each - 1) / p->each);
	return n ? n : 1;
}

void pkt_free(struct pkt_pool *pool, struct pkt *p)
{
	block_put(p->block);
	pool->live--;
	if (pool->free_count >= pool->limit) {
		free(p);
		return;
	}
	TAILQ_NEXT(p, queue) = pool->free;
	pool->free = p;
	pool->free_count++;
}
