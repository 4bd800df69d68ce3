/*
 * Route rules of one node: (incoming transport, incoming route) -> (outgoing transport, outgoing
 * route).  Zero outgoing transport: the route ends here and out_route is the low half of the
 * connection's id.  At most `max` rules: the manager is trusted to route, not with our memory.
 */
#ifndef CORE_ROUTE_TABLE_H
#define CORE_ROUTE_TABLE_H

#include <stdint.h>

#include "base/map.h"

struct route_rule {
	uint32_t in_transport, in_route, out_transport, out_route;
	uint64_t packets, bytes;
};

struct route_table {
	struct map rules;
};

void route_table_init(struct route_table *t, size_t max, uint64_t seed);
void route_table_free(struct route_table *t);
/* Adds or replaces.  0, -ENOSPC, -ENOMEM. */
int route_table_add(struct route_table *t, const struct route_rule *rule);
/* 0 or -ENOENT. */
int route_table_remove(struct route_table *t, uint32_t in_transport, uint32_t in_route);
/* NULL when unknown.  Valid until the table changes. */
struct route_rule *route_table_lookup(const struct route_table *t, uint32_t in_transport,
				      uint32_t in_route);
/* Removes every rule that enters or leaves by this transport; returns how many. */
size_t route_table_drop_transport(struct route_table *t, uint32_t transport);
/* Walk: *it = 0 first. */
struct route_rule *route_table_next(const struct route_table *t, size_t *it);
size_t route_table_count(const struct route_table *t);
#endif
