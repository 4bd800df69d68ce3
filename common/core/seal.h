/*
 * ChaCha20-Poly1305 (RFC 8439) for bulk data, one direction of one connection: the key is scheduled
 * once, each record has its number as nonce (four zero bytes, then 64 bits little-endian, as in
 * Noise).  Built with CRYPTO=libcrypto it is OpenSSL's, several times as fast on large records;
 * with CRYPTO=sodium libsodium's.  The bytes are the same, and both are always there to compare.
 */
#ifndef CORE_SEAL_H
#define CORE_SEAL_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define SEAL_KEY_BYTES 32
#define SEAL_TAG_BYTES 16

struct seal; /* one direction: either sealing or opening */
struct seal_ops {
	const char *name; /* "libcrypto", "libsodium" */
	/* NULL when out of memory. */
	struct seal *(*make)(const uint8_t key[SEAL_KEY_BYTES]);
	/* Wipes the key. */
	void (*drop)(struct seal *s);
	int (*seal)(struct seal *s, uint64_t nonce, struct bytes head, struct bytes tail,
		    uint8_t *out);
	int (*open)(struct seal *s, uint64_t nonce, struct bytes cipher, uint8_t *out);
};
extern const struct seal_ops seal_sodium;
#ifdef MESHNET_LIBCRYPTO
extern const struct seal_ops seal_libcrypto;
#endif
/* What this build uses. */
const struct seal_ops *seal_default(void);
#endif
