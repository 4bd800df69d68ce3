#include "gatewayd/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_INDEX 2u /* after the network and the gateway */

/* The index counts in the low 64 bits (32 in IPv4); the bits above are the prefix's. */
static uint64_t low_get(const struct net_addr *a)
{
	return a->family == 4 ? be32_get(a->ip) : be64_get(a->ip + 8);
}

static void low_set(struct net_addr *a, uint64_t low)
{
	if (a->family == 4) {
		be32_put(a->ip, (uint32_t)low);
		return;
	}
	for (unsigned i = 0; i < 8; i++)
		a->ip[15 - i] = (uint8_t)(low >> (8 * i));
}

/* First index that is never handed out. */
static uint32_t index_limit(const struct net_prefix *net)
{
	unsigned host_bits = (net->addr.family == 4 ? 32u : 128u) - net->bits;
	uint64_t count = host_bits >= 32 ? POOL_MAX_ADDRESSES : (uint64_t)1 << host_bits;

	if (count > POOL_MAX_ADDRESSES)
		return POOL_MAX_ADDRESSES;
	return (uint32_t)(net->addr.family == 4 ? count - 1 : count);
}

static int network_parse(const char *text, struct net_prefix *net)
{
	struct net_prefix network;

	if (!strchr(text, '/') || net_prefix_parse(net, text))
		return -EINVAL;
	if (net->addr.family == 4 ? net->bits < POOL_V4_BITS_MIN || net->bits > POOL_V4_BITS_MAX
				  : net->bits < POOL_V6_BITS_MIN || net->bits > POOL_V6_BITS_MAX)
		return -ERANGE;
	network = net_prefix_network(net);
	return net_addr_same_ip(&network.addr, &net->addr) ? 0 : -EINVAL;
}

int pool_init(struct pool *p, const char *prefix)
{
	struct net_prefix net;
	int rc;

	*p = (struct pool){.next = FIRST_INDEX};
	if (!*prefix)
		return 0;
	rc = network_parse(prefix, &net);
	if (rc)
		return rc;
	p->net = net;
	p->limit = index_limit(&net);
	p->bitmap = calloc((p->limit + 63) / 64, sizeof(*p->bitmap));
	if (!p->bitmap) {
		*p = (struct pool){0};
		return -ENOMEM;
	}
	return 0;
}

void pool_free(struct pool *p)
{
	free(p->bitmap);
	*p = (struct pool){0};
}

bool pool_in_use(const struct pool *p)
{
	return p->net.addr.family != 0;
}

static struct net_addr address_at(const struct pool *p, uint32_t index)
{
	struct net_addr a = p->net.addr;

	low_set(&a, low_get(&a) + index);
	return a;
}

struct net_addr pool_gateway(const struct pool *p)
{
	return pool_in_use(p) ? address_at(p, 1) : p->net.addr;
}

static bool is_taken(const struct pool *p, uint32_t index)
{
	return p->bitmap[index / 64] >> (index % 64) & 1;
}

static void take_index(struct pool *p, uint32_t index)
{
	p->bitmap[index / 64] |= (uint64_t)1 << (index % 64);
	p->used++;
}

/* First free index in [from, to), or `to`. */
static uint32_t find_free(const struct pool *p, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to;) {
		uint64_t busy = p->bitmap[i / 64] >> (i % 64);
		unsigned run = 64 - i % 64; /* bits of this word from i on */

		if (!(busy & 1))
			return i;
		if (~busy) {
			unsigned skip = (unsigned)__builtin_ctzll(~busy);

			i += skip < run ? skip : run;
		} else {
			i += run;
		}
	}
	return to;
}

int pool_take(struct pool *p, struct net_addr *out)
{
	uint32_t i;

	if (!pool_left(p))
		return -ENOSPC;
	i = find_free(p, p->next, p->limit);
	if (i >= p->limit)
		i = find_free(p, FIRST_INDEX, p->next);
	take_index(p, i);
	p->next = i + 1 < p->limit ? i + 1 : FIRST_INDEX;
	*out = address_at(p, i);
	return 0;
}

/* The index of an address we may hand out, or 0 for any other. */
static uint32_t index_of(const struct pool *p, const struct net_addr *a)
{
	uint64_t offset;

	if (!pool_in_use(p) || !net_prefix_contains(&p->net, a))
		return 0;
	/* Above the low 64 bits the host part of an address of ours is zero. */
	if (a->family == 6 && memcmp(a->ip, p->net.addr.ip, 8) != 0)
		return 0;
	offset = low_get(a) - low_get(&p->net.addr);
	return offset >= FIRST_INDEX && offset < p->limit ? (uint32_t)offset : 0;
}

int pool_take_exact(struct pool *p, const struct net_addr *a)
{
	uint32_t i = index_of(p, a);

	if (!i)
		return -ERANGE;
	if (is_taken(p, i))
		return -EEXIST;
	take_index(p, i);
	return 0;
}

uint32_t pool_index(const struct pool *p, const struct net_addr *a)
{
	return index_of(p, a);
}

int pool_take_index(struct pool *p, uint32_t index, struct net_addr *out)
{
	if (index < FIRST_INDEX || index >= p->limit)
		return -ERANGE;
	if (is_taken(p, index))
		return -EEXIST;
	take_index(p, index);
	*out = address_at(p, index);
	return 0;
}

void pool_limit(struct pool *p, uint32_t limit)
{
	if (limit < p->limit)
		p->limit = limit;
	if (p->next >= p->limit)
		p->next = FIRST_INDEX;
}

int pool_give(struct pool *p, const struct net_addr *a)
{
	uint32_t i = index_of(p, a);

	if (!i || !is_taken(p, i))
		return -ENOENT;
	p->bitmap[i / 64] &= ~((uint64_t)1 << (i % 64));
	p->used--;
	return 0;
}

uint32_t pool_size(const struct pool *p)
{
	return p->limit > FIRST_INDEX ? p->limit - FIRST_INDEX : 0;
}

uint32_t pool_left(const struct pool *p)
{
	return pool_size(p) - p->used;
}
