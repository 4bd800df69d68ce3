/* Macs of runs against those of single packets, and the hash against libsodium's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sodium.h>
#include <string.h>

#include "core/hopkey.h"
#include "core/siphash.h"

#define HEADERS (HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES)
#define RUN 19u
#define EACH 80u

static uint64_t le64(const uint8_t *p)
{
	return __builtin_bswap64(be64_get(p));
}

static void test_hash(void **state)
{
	uint8_t key[SIPHASH_KEY_BYTES], message[SIPHASH28_MANY][SIPHASH28_BYTES], want[8];
	struct siphash28 in;

	(void)state;
	for (unsigned round = 0; round < 1000; round++) {
		size_t count = 1 + round % SIPHASH28_MANY;
		uint64_t got[SIPHASH28_MANY], anywhere[SIPHASH28_MANY];
		randombytes_buf(key, sizeof key);
		randombytes_buf(message, sizeof message);
		for (unsigned i = 0; i < SIPHASH28_MANY; i++) {
			for (unsigned k = 0; k < 3; k++)
				in.word[k][i] = le64(message[i] + 8 * k);
			in.tail[i] = __builtin_bswap32(be32_get(message[i] + 24));
		}
		siphash28(key, &in, count, got);
		siphash28_anywhere(key, &in, count, anywhere);
		for (unsigned i = 0; i < count; i++) {
			crypto_shorthash(want, message[i], SIPHASH28_BYTES, key);
			assert_true(got[i] == le64(want));
			assert_true(anywhere[i] == le64(want));
		}
	}
}

struct bench {
	struct hopkey key;
	struct hop_header h;
	uint8_t run[RUN * EACH], singles[RUN * EACH];
};

/* A run of `count`, sealed as one, and the same packets sealed one by one. */
static void seal_both(struct bench *b, size_t count)
{
	randombytes_buf(&b->key, sizeof b->key);
	b->h = (struct hop_header){.type = PACKET_DATA,
				   .flags = PACKET_FLAG_SPARSE,
				   .epoch = 3,
				   .tries = 1,
				   .label = 77,
				   .seq = UINT32_MAX - 3};
	randombytes_buf(b->run, sizeof b->run);
	for (size_t i = 0; i < RUN; i++)
		memcpy(b->run + i * EACH + HOP_HEADER_BYTES, b->run + HOP_HEADER_BYTES, 8);
	memcpy(b->singles, b->run, sizeof b->run);
	for (size_t i = 0; i < count; i++) {
		struct hop_header h = b->h;
		h.seq += i;
		hopkey_seal(&b->key, b->singles + i * EACH, i + 1 < count ? EACH : HEADERS + 1, &h);
	}
	hopkey_seal_run(&b->key, b->run, EACH, count, &b->h);
}

static size_t verify(const struct bench *b, size_t count)
{
	struct hop_header h;

	assert_int_equal(hop_header_read(&h, bytes_of(b->run, EACH)), 0);
	return hopkey_verify_run(&b->key, b->run, EACH, count, &h);
}

static void test_same_bytes(void **state)
{
	struct bench b;

	(void)state;
	for (size_t count = 1; count <= RUN; count++) {
		seal_both(&b, count);
		assert_memory_equal(b.run, b.singles, sizeof b.run);
		assert_int_equal(verify(&b, count), count);
	}
}

/* A changed bit anywhere in a header ends the run right there. */
static void test_forged(void **state)
{
	struct bench b;

	(void)state;
	for (size_t count = 1; count <= RUN; count++) {
		seal_both(&b, count);
		for (size_t i = 0; i < count; i++) {
			for (size_t bit = 0; bit < 8 * HEADERS; bit++) {
				/* Another type is for the caller to see. */
				if (i == 0 && bit < 8)
					continue;
				b.run[i * EACH + bit / 8] ^= (uint8_t)(1u << bit % 8);
				assert_int_equal(verify(&b, count), i);
				b.run[i * EACH + bit / 8] ^= (uint8_t)(1u << bit % 8);
			}
		}
		assert_int_equal(verify(&b, count), count);
	}
}

/* Each of them authentic, but not what follows the one before. */
static void test_apart(void **state)
{
	struct bench b;

	(void)state;
	for (size_t at = 1; at < RUN; at++) {
		for (unsigned what = 0; what < 6; what++) {
			seal_both(&b, RUN);
			struct hop_header h = b.h;
			h.seq += at + (what == 0);
			h.label += what == 1;
			h.flags ^= what == 2 ? PACKET_FLAG_MARKED : 0;
			h.tries = (uint8_t)(h.tries + (what == 3));
			h.epoch = (uint8_t)(h.epoch + (what == 4));
			b.run[at * EACH + HOP_HEADER_BYTES + 7] ^= what == 5; /* the record */
			hopkey_seal(&b.key, b.run + at * EACH, EACH, &h);
			assert_int_equal(verify(&b, RUN), at);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hash),
		cmocka_unit_test(test_same_bytes),
		cmocka_unit_test(test_forged),
		cmocka_unit_test(test_apart),
	};
	return sodium_init() < 0 || cmocka_run_group_tests(tests, NULL, NULL);
}
