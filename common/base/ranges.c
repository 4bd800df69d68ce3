#include "base/ranges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void ranges_init(struct ranges *r, size_t max)
{
	*r = (struct ranges){.max = max};
}

void ranges_free(struct ranges *r)
{
	free(r->v);
	ranges_init(r, r->max);
}

/* Index of the first range whose end is at or after `value` (adjacent ranges count as touching). */
static size_t first_touching(const struct ranges *r, uint64_t value)
{
	size_t lo = 0, hi = r->count;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (r->v[mid].end < value)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int reserve(struct ranges *r)
{
	if (r->count >= r->max)
		return -ENOSPC;
	if (r->count < r->capacity)
		return 0;
	size_t capacity = r->capacity ? r->capacity * 2 : 4;
	struct range *v = realloc(r->v, capacity * sizeof *v);
	if (!v)
		return -ENOMEM;
	r->v = v;
	r->capacity = capacity;
	return 0;
}

static int insert_at(struct ranges *r, size_t i, struct range x)
{
	int err = reserve(r);
	if (err)
		return err;
	memmove(&r->v[i + 1], &r->v[i], (r->count - i) * sizeof *r->v);
	r->v[i] = x;
	r->count++;
	return 0;
}

static void drop(struct ranges *r, size_t from, size_t to)
{
	memmove(&r->v[from], &r->v[to], (r->count - to) * sizeof *r->v);
	r->count -= to - from;
}

int ranges_add(struct ranges *r, uint64_t start, uint64_t end)
{
	if (start >= end)
		return 0;
	size_t i = first_touching(r, start);
	if (i == r->count || r->v[i].start > end)
		return insert_at(r, i, (struct range){start, end});
	if (r->v[i].start > start)
		r->v[i].start = start;
	size_t j = i;
	while (j + 1 < r->count && r->v[j + 1].start <= end)
		j++;
	if (r->v[j].end > end)
		end = r->v[j].end;
	r->v[i].end = end;
	if (j > i)
		drop(r, i + 1, j + 1);
	return 0;
}

int ranges_remove(struct ranges *r, uint64_t start, uint64_t end)
{
	if (start >= end)
		return 0;
	size_t i = first_touching(r, start + 1);
	if (i < r->count && r->v[i].start < start && r->v[i].end > end) {
		struct range tail = {end, r->v[i].end};
		int err = insert_at(r, i + 1, tail);
		if (!err)
			r->v[i].end = start;
		return err;
	}
	if (i < r->count && r->v[i].start < start)
		r->v[i++].end = start;
	size_t j = i;
	while (j < r->count && r->v[j].end <= end)
		j++;
	if (j < r->count && r->v[j].start < end)
		r->v[j].start = end;
	if (j > i)
		drop(r, i, j);
	return 0;
}

bool ranges_covers(const struct ranges *r, uint64_t start, uint64_t end)
{
	if (start >= end)
		return true;
	size_t i = first_touching(r, start + 1);
	return i < r->count && r->v[i].start <= start && r->v[i].end >= end;
}

bool ranges_contains(const struct ranges *r, uint64_t value)
{
	/* The last number of all is in no half-open range. */
	return value != UINT64_MAX && ranges_covers(r, value, value + 1);
}
