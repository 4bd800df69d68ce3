/*
 * Hash table from a fixed-size key to a pointer: linear probing, seeded hash (keys come from
 * peers), at most `max` entries.  Keys are compared as bytes, so structs used as keys must have no
 * padding.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

#define MAP_KEY_MAX 40

struct map {
	uint8_t *slots; /* each: used flag, value, key */
	size_t capacity, count, max, key_len;
	uint64_t seed;
};

/* No allocation until the first put.  `key_len` at most MAP_KEY_MAX. */
void map_init(struct map *m, size_t key_len, size_t max, uint64_t seed);
void map_free(struct map *m); /* the values stay their owner's */
void *map_get(const struct map *m, const void *key);
/* Sets or replaces.  0, -ENOSPC at the limit, -ENOMEM. */
int map_put(struct map *m, const void *key, void *value);
/* Removes and returns the value; NULL when it was not there. */
void *map_del(struct map *m, const void *key);
/* Walks all entries: start with *it = 0; NULL at the end.  No put or del while walking, except a
 * del of everything by map_free. */
void *map_next(const struct map *m, size_t *it);
#endif
