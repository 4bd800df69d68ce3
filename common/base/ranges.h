/*
 * A set of 64-bit numbers as sorted, disjoint, non-adjacent ranges [start, end).  Holds at most
 * `max` ranges: an add that would need more fails and changes nothing, so a peer cannot make it
 * grow.
 */
#ifndef BASE_RANGES_H
#define BASE_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range {
	uint64_t start, end;
};

struct ranges {
	struct range *v;
	size_t count, capacity, max;
};

void ranges_init(struct ranges *r, size_t max);
void ranges_free(struct ranges *r);
/* 0, -ENOSPC at the limit, -ENOMEM.  An empty range is a no-op. */
int ranges_add(struct ranges *r, uint64_t start, uint64_t end);
/* Takes numbers out; may split one range, so it can fail like ranges_add. */
int ranges_remove(struct ranges *r, uint64_t start, uint64_t end);
bool ranges_contains(const struct ranges *r, uint64_t value);
/* True when the whole of [start, end) is in the set. */
bool ranges_covers(const struct ranges *r, uint64_t start, uint64_t end);
#endif
