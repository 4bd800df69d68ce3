#include "core/siphash.h"

#include <endian.h>
#include <stdbool.h>
#include <string.h>

#define WIDE_LEAST 3u /* eight at a time take less than these one by one */

struct state {
	uint64_t v0, v1, v2, v3;
};

/* Of numbers, or of vectors of them. */
#define ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))
#define ROUND(s)                                                                                   \
	do {                                                                                       \
		(s)->v0 += (s)->v1;                                                                \
		(s)->v2 += (s)->v3;                                                                \
		(s)->v1 = ROTATE((s)->v1, 13) ^ (s)->v0;                                           \
		(s)->v3 = ROTATE((s)->v3, 16) ^ (s)->v2;                                           \
		(s)->v0 = ROTATE((s)->v0, 32);                                                     \
		(s)->v2 += (s)->v1;                                                                \
		(s)->v0 += (s)->v3;                                                                \
		(s)->v1 = ROTATE((s)->v1, 17) ^ (s)->v2;                                           \
		(s)->v3 = ROTATE((s)->v3, 21) ^ (s)->v0;                                           \
		(s)->v2 = ROTATE((s)->v2, 32);                                                     \
	} while (0)

static inline uint64_t le64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return le64toh(v);
}

static inline struct state begin(const uint8_t key[SIPHASH_KEY_BYTES])
{
	uint64_t k0 = le64(key), k1 = le64(key + 8);

	return (struct state){
		k0 ^ UINT64_C(0x736f6d6570736575),
		k1 ^ UINT64_C(0x646f72616e646f6d),
		k0 ^ UINT64_C(0x6c7967656e657261),
		k1 ^ UINT64_C(0x7465646279746573),
	};
}

static inline uint64_t word_of(const struct siphash28 *in, size_t k, unsigned i)
{
	return i < 3 ? in->word[i][k] : (uint64_t)SIPHASH28_BYTES << 56 | in->tail[k];
}

static inline uint64_t end(const struct state *s)
{
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

static void two(const uint8_t key[SIPHASH_KEY_BYTES], const struct siphash28 *in, size_t k,
		uint64_t out[2])
{
	struct state a = begin(key), b = a;

	for (unsigned i = 0; i < 4; i++) {
		uint64_t x = word_of(in, k, i), y = word_of(in, k + 1, i);
		a.v3 ^= x;
		b.v3 ^= y;
		ROUND(&a);
		ROUND(&b);
		ROUND(&a);
		ROUND(&b);
		a.v0 ^= x;
		b.v0 ^= y;
	}
	a.v2 ^= 0xff;
	b.v2 ^= 0xff;
	for (unsigned i = 0; i < 4; i++) {
		ROUND(&a);
		ROUND(&b);
	}
	out[0] = end(&a);
	out[1] = end(&b);
}

static uint64_t one(const uint8_t key[SIPHASH_KEY_BYTES], const struct siphash28 *in, size_t k)
{
	struct state s = begin(key);

	for (unsigned i = 0; i < 4; i++) {
		uint64_t x = word_of(in, k, i);
		s.v3 ^= x;
		ROUND(&s);
		ROUND(&s);
		s.v0 ^= x;
	}
	s.v2 ^= 0xff;
	for (unsigned i = 0; i < 4; i++)
		ROUND(&s);
	return end(&s);
}

void siphash28_anywhere(const uint8_t key[SIPHASH_KEY_BYTES], const struct siphash28 *in,
			size_t count, uint64_t out[SIPHASH28_MANY])
{
	size_t k = 0;

	for (; k + 2 <= count; k += 2)
		two(key, in, k, out + k);
	if (k < count)
		out[k] = one(key, in, k);
}

/* --- eight at a time ------------------------------------------------------------------------ */

#if defined(__x86_64__) && defined(__GNUC__)
#define WIDE __attribute__((target("avx512f,avx512vl")))
#define LANES 4u /* twice: the chains of two vectors fill each other's waits */

typedef uint64_t lanes __attribute__((vector_size(8 * LANES)));

struct wide {
	lanes v0, v1, v2, v3;
};

static inline WIDE lanes wide_word(const struct siphash28 *in, size_t k, unsigned i)
{
	lanes x;

	if (i < 3) {
		memcpy(&x, &in->word[i][k], sizeof x);
		return x;
	}
	for (unsigned n = 0; n < LANES; n++)
		x[n] = in->tail[k + n];
	return x | (uint64_t)SIPHASH28_BYTES << 56;
}

static inline WIDE void wide_absorb(struct wide *a, struct wide *b, const struct siphash28 *in,
				    unsigned i)
{
	lanes x = wide_word(in, 0, i), y = wide_word(in, LANES, i);

	a->v3 ^= x;
	b->v3 ^= y;
	for (unsigned n = 0; n < 2; n++) {
		ROUND(a);
		ROUND(b);
	}
	a->v0 ^= x;
	b->v0 ^= y;
}

static WIDE void eight(const uint8_t key[SIPHASH_KEY_BYTES], const struct siphash28 *in,
		       uint64_t out[SIPHASH28_MANY])
{
	struct state s = begin(key);
	lanes zero = {0};
	struct wide a = {zero + s.v0, zero + s.v1, zero + s.v2, zero + s.v3}, b = a;

	for (unsigned i = 0; i < 4; i++)
		wide_absorb(&a, &b, in, i);
	a.v2 ^= 0xff;
	b.v2 ^= 0xff;
	for (unsigned n = 0; n < 4; n++) {
		ROUND(&a);
		ROUND(&b);
	}
	lanes x = a.v0 ^ a.v1 ^ a.v2 ^ a.v3, y = b.v0 ^ b.v1 ^ b.v2 ^ b.v3;
	memcpy(out, &x, sizeof x);
	memcpy(out + LANES, &y, sizeof y);
}

static bool is_wide(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
}
#else
static void eight(const uint8_t key[SIPHASH_KEY_BYTES], const struct siphash28 *in,
		  uint64_t out[SIPHASH28_MANY])
{
	siphash28_anywhere(key, in, SIPHASH28_MANY, out);
}

static bool is_wide(void)
{
	return false;
}
#endif

/* All that it reads has been written. */
static void fill(struct siphash28 *in, size_t count)
{
	for (size_t k = count; k < SIPHASH28_MANY; k++) {
		in->word[0][k] = in->word[1][k] = in->word[2][k] = 0;
		in->tail[k] = 0;
	}
}

void siphash28(const uint8_t key[SIPHASH_KEY_BYTES], struct siphash28 *in, size_t count,
	       uint64_t out[SIPHASH28_MANY])
{
	if (count < WIDE_LEAST || !is_wide()) {
		siphash28_anywhere(key, in, count, out);
		return;
	}
	fill(in, count);
	eight(key, in, out);
}
