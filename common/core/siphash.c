#include "core/siphash.h"

struct state {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static inline uint64_t le64(const uint8_t *p)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

static inline void round_of(struct state *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 = rotate(s->v0, 32);
	s->v2 += s->v1;
	s->v0 += s->v3;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v2 = rotate(s->v2, 32);
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

static inline uint64_t word_of(const struct siphash28 *in, unsigned i)
{
	return i < 3 ? in->word[i] : (uint64_t)SIPHASH28_BYTES << 56 | in->tail;
}

static inline uint64_t end(const struct state *s)
{
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

void siphash28_pair(const uint8_t key[SIPHASH_KEY_BYTES], const struct siphash28 in[2],
		    uint64_t out[2])
{
	struct state a = begin(key), b = a;

	for (unsigned i = 0; i < 4; i++) {
		uint64_t x = word_of(&in[0], i), y = word_of(&in[1], i);
		a.v3 ^= x;
		b.v3 ^= y;
		round_of(&a);
		round_of(&b);
		round_of(&a);
		round_of(&b);
		a.v0 ^= x;
		b.v0 ^= y;
	}
	a.v2 ^= 0xff;
	b.v2 ^= 0xff;
	for (unsigned i = 0; i < 4; i++) {
		round_of(&a);
		round_of(&b);
	}
	out[0] = end(&a);
	out[1] = end(&b);
}

uint64_t siphash28(const uint8_t key[SIPHASH_KEY_BYTES], const struct siphash28 *in)
{
	struct state s = begin(key);

	for (unsigned i = 0; i < 4; i++) {
		uint64_t x = word_of(in, i);
		s.v3 ^= x;
		round_of(&s);
		round_of(&s);
		s.v0 ^= x;
	}
	s.v2 ^= 0xff;
	for (unsigned i = 0; i < 4; i++)
		round_of(&s);
	return end(&s);
}
