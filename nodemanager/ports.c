/* UDP ports of transports, unique per host address: from StartPort upward, the first free one. */
#include "nodemanager/state.h"

#include <stdlib.h>
#include <string.h>

#define WORD_BITS 64u
#define HOST_KEY_BYTES 17

/* Lives while any port of it is taken.  `bits` covers ports from `start` as far as was needed. */
struct nm_host {
	uint8_t key[HOST_KEY_BYTES];
	uint16_t start, from; /* first port; where the search begins */
	size_t refs, words;
	uint64_t *bits;
};

static void key_of(uint8_t key[HOST_KEY_BYTES], const struct net_addr *addr)
{
	key[0] = addr->family;
	memcpy(key + 1, addr->ip, 16);
}

static struct nm_host *host_get(struct nm *nm, const struct net_addr *addr)
{
	uint8_t key[HOST_KEY_BYTES];
	key_of(key, addr);
	struct nm_host *h = map_get(&nm->hosts, key);
	if (h)
		return h;
	h = calloc(1, sizeof *h);
	if (!h)
		return NULL;
	memcpy(h->key, key, sizeof key);
	h->start = h->from = nm->config.start_port;
	if (map_put(&nm->hosts, key, h)) {
		free(h);
		return NULL;
	}
	return h;
}

static void host_put(struct nm *nm, struct nm_host *h)
{
	if (h->refs)
		return;
	map_del(&nm->hosts, h->key);
	free(h->bits);
	free(h);
}

static bool taken(const struct nm_host *h, size_t i)
{
	return i / WORD_BITS < h->words && (h->bits[i / WORD_BITS] >> i % WORD_BITS & 1);
}

static bool take(struct nm_host *h, size_t i)
{
	size_t words = i / WORD_BITS + 1;
	if (words > h->words) {
		uint64_t *bits = realloc(h->bits, words * sizeof *bits);
		if (!bits)
			return false;
		memset(bits + h->words, 0, (words - h->words) * sizeof *bits);
		h->bits = bits;
		h->words = words;
	}
	h->bits[i / WORD_BITS] |= (uint64_t)1 << i % WORD_BITS;
	h->refs++;
	return true;
}

uint16_t nm_port_take(struct nm *nm, const struct net_addr *addr, struct nm_host **host)
{
	struct nm_host *h = host_get(nm, addr);
	if (!h)
		return 0;
	size_t count = 65536u - h->start, first = (size_t)h->from - h->start;
	for (size_t n = 0; n < count; n++) {
		size_t i = (first + n) % count;
		if (taken(h, i))
			continue;
		if (!take(h, i))
			break;
		*host = h;
		return (uint16_t)(h->start + i);
	}
	host_put(nm, h);
	return 0;
}

struct nm_host *nm_port_keep(struct nm *nm, const struct net_addr *addr, uint16_t port)
{
	if (!nm->config.start_port || port < nm->config.start_port)
		return NULL;
	struct nm_host *h = host_get(nm, addr);
	if (!h)
		return NULL;
	size_t i = (size_t)port - h->start;
	if (port >= h->start && !taken(h, i) && take(h, i))
		return h;
	host_put(nm, h);
	return NULL;
}

void nm_port_release(struct nm *nm, struct nm_host *h, uint16_t port)
{
	size_t i = (size_t)port - h->start;
	if (port < h->start || !taken(h, i))
		return;
	h->bits[i / WORD_BITS] &= ~((uint64_t)1 << i % WORD_BITS);
	h->refs--;
	host_put(nm, h);
}

void nm_port_foreign_mark(struct nm_host *h, uint16_t port)
{
	h->from = port == UINT16_MAX ? h->start : (uint16_t)(port + 1);
}

void nm_ports_free(struct nm *nm)
{
	size_t it = 0;
	for (struct nm_host *h; (h = map_next(&nm->hosts, &it));) {
		free(h->bits);
		free(h);
	}
}
