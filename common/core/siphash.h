/*
 * SipHash-2-4 of 28 bytes, which is what the mac of a DATA packet covers (PROTOCOL.md section 3.2).
 * One hash is a chain of operations that wait for each other; two at a time take hardly longer than
 * one.  Same bytes as crypto_shorthash.
 */
#ifndef CORE_SIPHASH_H
#define CORE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#define SIPHASH_KEY_BYTES 16
#define SIPHASH28_BYTES 28u

/* The message as little-endian words; the last holds 4 bytes. */
struct siphash28 {
	uint64_t word[3];
	uint32_t tail;
};

/* The hash of each of two messages, as the number whose little-endian bytes are the hash. */
void siphash28_pair(const uint8_t key[SIPHASH_KEY_BYTES], const struct siphash28 in[2],
		    uint64_t out[2]);
uint64_t siphash28(const uint8_t key[SIPHASH_KEY_BYTES], const struct siphash28 *in);
#endif
