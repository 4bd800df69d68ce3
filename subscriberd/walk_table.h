/* Inside walk*.c: the table of hosts and links. */
#ifndef SUBSCRIBERD_WALK_TABLE_H
#define SUBSCRIBERD_WALK_TABLE_H

#include "base/map.h"
#include "subscriberd/walk.h"

#define WALK_KEY_BYTES 40

struct walk_table {
	struct walk_host **hosts; /* the first is our own */
	struct walk_link **links;
	size_t host_count, host_capacity, link_count, link_capacity, hosts_max;
	struct map by_key, by_ends;
	struct net_addr own[WALK_OWN_MAX];
	size_t own_count;
};

/* 0 or -ENOMEM; our own host is in it then. */
int walk_table_init(struct walk_table *t, size_t hosts_max, uint64_t seed);
void walk_table_free(struct walk_table *t);
/* Our own host for one of its addresses; NULL when it is not known. */
struct walk_host *walk_table_host(const struct walk_table *t, const struct net_host *h);
/* The one that is there, or a new one (then *fresh).  NULL at the limit or without memory. */
struct walk_host *walk_table_add_host(struct walk_table *t, const struct net_host *h, bool *fresh);
struct walk_link *walk_table_add_link(struct walk_table *t, struct walk_host *a,
				      struct walk_host *b, uint8_t network, bool *fresh);
/* Drops what is gone, with all links of it; `forget` for each host before. */
void walk_table_compact(struct walk_table *t, void (*forget)(void *ctx, const struct walk_host *h),
			void *ctx);
#endif
