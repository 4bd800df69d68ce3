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
	TAILQ_INIT(&pool->free);
	pool->free_count = pool->live = 0;
	pool->limit = limit;
}

void pkt_pool_free(struct pkt_pool *pool)
{
	struct pkt *p;
	while ((p = TAILQ_FIRST(&pool->free))) {
		TAILQ_REMOVE(&pool->free, p, queue);
		free(p);
	}
	pool->free_count = 0;
}

struct pkt *pkt_new(struct pkt_pool *pool, struct block *block, uint8_t *data, size_t len)
{
	struct pkt *p = TAILQ_FIRST(&pool->free);

	assert(data >= block->data && data + len <= block->data + block->size);
	if (p) {
		TAILQ_REMOVE(&pool->free, p, queue);
		pool->free_count--;
	} else if (!(p = malloc(sizeof *p))) {
		return NULL;
	}
	memset(p, 0, sizeof *p);
	p->block = block_get(block);
	p->data = data;
	p->len = (uint32_t)len;
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
	TAILQ_INSERT_HEAD(&pool->free, p, queue);
	pool->free_count++;
}
