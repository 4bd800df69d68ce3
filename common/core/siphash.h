/*
 * SipHash-2-4 of 28 bytes, which is what the mac of a DATA packet covers (PROTOCOL.md section 3.2).
 * One hash is a chain of operations that wait for each other; two at a time take hardly longer than
 * one, and eight at a time the time of three where the CPU rotates vectors (AVX-512).  Same bytes
 * as crypto_shorthash.
 */
#ifndef CORE_SIPHASH_H
#define CORE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#define SIPHASH_KEY_BYTES 16
#define SIPHASH28_BYTES 28u

#define SIPHASH28_MANY 8u

/* Messages, side by side: little-endian words of each, of which the last holds 4 bytes. */
struct siphash28 {
	uint64_t word[3][SIPHASH28_MANY];
	uint32_t tail[SIPHASH28_MANY];
};

/* The hash of each of the first `count` (1 to SIPHASH28_MANY) messages, as the number whose
 * little-endian bytes are the hash.  The others, and what `out` has for them, may be changed. */
void siphash28(const uint8_t key[SIPHASH_KEY_BYTES], struct siphash28 *in, size_t count,
	       uint64_t out[SIPHASH28_MANY]);
/* Without what only some CPUs have. */
void siphash28_anywhere(const uint8_t key[SIPHASH_KEY_BYTES], const struct siphash28 *in,
			size_t count, uint64_t out[SIPHASH28_MANY]);
#endif
