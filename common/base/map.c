#include "base/map.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MAP_FIRST_CAPACITY 16

static size_t slot_bytes(const struct map *m)
{
	return sizeof(void *) + m->key_len;
}

static uint8_t *slot_at(const struct map *m, size_t i)
{
	return m->slots + i * slot_bytes(m);
}

static void *slot_value(const uint8_t *slot)
{
	void *v;
	memcpy(&v, slot, sizeof v);
	return v;
}

static uint64_t mix(uint64_t h)
{
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	return h ^ h >> 32;
}

static size_t home(const struct map *m, const void *key)
{
	const uint8_t *p = key;
	uint64_t h = m->seed;
	for (size_t i = 0; i < m->key_len; i += 8) {
		uint64_t w = 0;
		size_t n = m->key_len - i < 8 ? m->key_len - i : 8;
		memcpy(&w, p + i, n);
		h = mix(h ^ w);
	}
	return (size_t)h & (m->capacity - 1);
}

void map_init(struct map *m, size_t key_len, size_t max, uint64_t seed)
{
	assert(key_len > 0 && key_len <= MAP_KEY_MAX);
	*m = (struct map){.key_len = key_len, .max = max, .seed = mix(seed + 0x9e3779b97f4a7c15u)};
}

void map_free(struct map *m)
{
	free(m->slots);
	m->slots = NULL;
	m->capacity = m->count = 0;
}

/* The slot of the key, or the empty slot where it belongs. */
static uint8_t *find(const struct map *m, const void *key, size_t *index)
{
	size_t i = home(m, key);
	for (;; i = (i + 1) & (m->capacity - 1)) {
		uint8_t *s = slot_at(m, i);
		if (!slot_value(s) || memcmp(s + sizeof(void *), key, m->key_len) == 0) {
			*index = i;
			return s;
		}
	}
}

void *map_get(const struct map *m, const void *key)
{
	size_t i;
	return m->capacity ? slot_value(find(m, key, &i)) : NULL;
}

static int grow(struct map *m)
{
	struct map bigger = *m;
	bigger.capacity = m->capacity ? m->capacity * 2 : MAP_FIRST_CAPACITY;
	bigger.slots = calloc(bigger.capacity, slot_bytes(m));
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < m->capacity; i++) {
		uint8_t *s = slot_at(m, i);
		size_t at;
		if (slot_value(s))
			memcpy(find(&bigger, s + sizeof(void *), &at), s, slot_bytes(m));
	}
	free(m->slots);
	*m = bigger;
	return 0;
}

int map_put(struct map *m, const void *key, void *value)
{
	size_t i;
	assert(value);
	if (map_get(m, key)) {
		memcpy(find(m, key, &i), &value, sizeof value);
		return 0;
	}
	if (m->count >= m->max)
		return -ENOSPC;
	if ((m->count + 1) * 4 > m->capacity * 3) {
		int err = grow(m);
		if (err)
			return err;
	}
	uint8_t *s = find(m, key, &i);
	memcpy(s, &value, sizeof value);
	memcpy(s + sizeof value, key, m->key_len);
	m->count++;
	return 0;
}

/* Closes the gap that a removal leaves: later entries of the run move back (Knuth 6.4, R). */
static void close_gap(struct map *m, size_t gap)
{
	size_t mask = m->capacity - 1;
	for (size_t i = (gap + 1) & mask;; i = (i + 1) & mask) {
		uint8_t *s = slot_at(m, i);
		if (!slot_value(s))
			break;
		size_t want = home(m, s + sizeof(void *));
		if (((i - want) & mask) >= ((i - gap) & mask)) {
			memcpy(slot_at(m, gap), s, slot_bytes(m));
			gap = i;
		}
	}
	memset(slot_at(m, gap), 0, slot_bytes(m));
}

void *map_del(struct map *m, const void *key)
{
	size_t i;
	if (!m->capacity)
		return NULL;
	void *v = slot_value(find(m, key, &i));
	if (v) {
		close_gap(m, i);
		m->count--;
	}
	return v;
}

void *map_next(const struct map *m, size_t *it)
{
	while (*it < m->capacity) {
		void *v = slot_value(slot_at(m, (*it)++));
		if (v)
			return v;
	}
	return NULL;
}
