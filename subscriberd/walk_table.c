#include "subscriberd/walk_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct ends {
	const void *a, *b;
	uint64_t network;
};

/* Addresses as they are; names as they are when they fit, else a hash and their end. */
static void host_key(const struct net_host *h, uint8_t key[WALK_KEY_BYTES])
{
	size_t len = strlen(h->name);

	memset(key, 0, WALK_KEY_BYTES);
	key[0] = h->addr.family;
	if (h->addr.family) {
		memcpy(key + 1, h->addr.ip, 16);
	} else if (len < WALK_KEY_BYTES) {
		memcpy(key + 1, h->name, len);
	} else {
		uint64_t hash = UINT64_C(14695981039346656037);
		for (size_t i = 0; i < len; i++)
			hash = (hash ^ (uint8_t)h->name[i]) * UINT64_C(1099511628211);
		memcpy(key + 1, &hash, sizeof hash);
		memcpy(key + 9, h->name + len - (WALK_KEY_BYTES - 9), WALK_KEY_BYTES - 9);
	}
}

static int grow(void *array, size_t count, size_t *capacity, size_t size)
{
	void **at = array;
	size_t more = *capacity ? 2 * *capacity : 64;
	void *moved;

	if (count < *capacity)
		return 0;
	moved = realloc(*at, more * size);
	if (!moved)
		return -ENOMEM;
	*at = moved;
	*capacity = more;
	return 0;
}

static struct walk_host *host_new(struct walk_table *t, const struct net_host *h)
{
	uint8_t key[WALK_KEY_BYTES];
	struct walk_host *host;
	void *hosts = t->hosts;

	if (t->host_count > t->hosts_max ||
	    grow(&hosts, t->host_count, &t->host_capacity, sizeof *t->hosts))
		return NULL;
	t->hosts = hosts;
	host = calloc(1, sizeof *host);
	if (!host)
		return NULL;
	host->host = *h;
	host->host.addr.port = 0;
	host_key(h, key);
	if (map_put(&t->by_key, key, host)) {
		free(host);
		return NULL;
	}
	t->hosts[t->host_count++] = host;
	return host;
}

int walk_table_init(struct walk_table *t, size_t hosts_max, uint64_t seed)
{
	static const struct net_host own;

	*t = (struct walk_table){.hosts_max = hosts_max};
	map_init(&t->by_key, WALK_KEY_BYTES, hosts_max + 1, seed);
	map_init(&t->by_ends, sizeof(struct ends), hosts_max * WALK_LINKS_PER_HOST, seed);
	return host_new(t, &own) ? 0 : -ENOMEM;
}

static void host_free(struct walk_host *h)
{
	free(h->gateway);
	free(h);
}

void walk_table_free(struct walk_table *t)
{
	for (size_t i = 0; i < t->host_count; i++)
		host_free(t->hosts[i]);
	for (size_t i = 0; i < t->link_count; i++)
		free(t->links[i]);
	free(t->hosts);
	free(t->links);
	map_free(&t->by_key);
	map_free(&t->by_ends);
}

struct walk_host *walk_table_host(const struct walk_table *t, const struct net_host *h)
{
	uint8_t key[WALK_KEY_BYTES];

	for (size_t i = 0; h->addr.family && i < t->own_count; i++)
		if (net_addr_same_ip(&t->own[i], &h->addr))
			return t->hosts[0];
	host_key(h, key);
	return map_get(&t->by_key, key);
}

struct walk_host *walk_table_add_host(struct walk_table *t, const struct net_host *h, bool *fresh)
{
	struct walk_host *known = walk_table_host(t, h);

	*fresh = !known;
	return known ? known : host_new(t, h);
}

struct walk_link *walk_table_add_link(struct walk_table *t, struct walk_host *a,
				      struct walk_host *b, uint8_t network, bool *fresh)
{
	struct ends ends = {a, b, network};
	struct walk_link *l = map_get(&t->by_ends, &ends);
	void *links = t->links;

	*fresh = !l;
	if (l || grow(&links, t->link_count, &t->link_capacity, sizeof *t->links))
		return l;
	t->links = links;
	l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	*l = (struct walk_link){.a = a, .b = b, .network = network};
	if (map_put(&t->by_ends, &ends, l)) {
		free(l);
		return NULL;
	}
	t->links[t->link_count++] = l;
	return l;
}

void walk_table_compact(struct walk_table *t, void (*forget)(void *ctx, const struct walk_host *h),
			void *ctx)
{
	size_t n = 0;

	for (size_t i = 0; i < t->link_count; i++) {
		struct walk_link *l = t->links[i];
		struct ends ends = {l->a, l->b, l->network};
		if (l->gone || l->a->gone || l->b->gone) {
			map_del(&t->by_ends, &ends);
			free(l);
		} else {
			t->links[n++] = l;
		}
	}
	t->link_count = n;
	for (size_t i = 1; i < t->host_count; i++)
		if (t->hosts[i]->from && t->hosts[i]->from->gone)
			t->hosts[i]->from = t->hosts[0];
	n = 1;
	for (size_t i = 1; i < t->host_count; i++) {
		struct walk_host *h = t->hosts[i];
		uint8_t key[WALK_KEY_BYTES];
		if (!h->gone) {
			t->hosts[n++] = h;
			continue;
		}
		forget(ctx, h);
		host_key(&h->host, key);
		map_del(&t->by_key, key);
		host_free(h);
	}
	t->host_count = n;
}
