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
static void pkt_init(struct pkt *p, struct block *block, uint8_t *data, uint32_t len)
{
	p->block = block;
	p->data = data;
	p->len = len;
	p->label = 0;
	p->flags = p->state = 0;
	p->tries = 0;
	p->seq = p->order = 0;
	p->app_limited = p->probed = false;
}

struct pkt *pkt_new(struct pkt_pool *pool, struct block *block, uint8_t *data, size_t len)
{
	struct pkt *p = pool->free;

	assert(data >= block->data && data + len <= block->data + block->size);
	if (p) {
		pool->free = TAILQ_NEXT(p, queue);
		__builtin_prefetch(pool->free, 1);
		pool->free_count--;
	} else if (!(p = malloc(sizeof *p))) {
		return NULL;
	}
	pkt_init(p, block_get(block), data, (uint32_t)len);
	pool->live++;
	return p;
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
