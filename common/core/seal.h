/*
 * The AEAD of bulk data, one direction of one connection: ChaCha20-Poly1305 (RFC 8439), which is
 * fast on every CPU, or AES-256-GCM (NIST SP 800-38D), several times as fast where the CPU has
 * instructions for it.  The key is scheduled once; each record has its number as nonce (four zero
 * bytes, then 64 bits, little-endian for the first and big-endian for the second, as in Noise) and
 * no associated data.
 *
 * Built with CRYPTO=libcrypto (the default) it is OpenSSL's, several times as fast on large
 * records, loaded when the first connection wants it; where it cannot be loaded, and with
 * CRYPTO=sodium, it is libsodium's.  The bytes are the same.
 */
#ifndef CORE_SEAL_H
#define CORE_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define SEAL_KEY_BYTES 32
#define SEAL_TAG_BYTES 16

struct seal;

enum seal_direction { SEAL_OUT, SEAL_IN };

/* As on the wire (PROTOCOL.md section 4.1): bits of what is offered. */
enum seal_cipher { SEAL_CHACHA20_POLY1305 = 1, SEAL_AES256_GCM = 2 };

struct seal_suite {
	const char *name;
	bool (*can)(enum seal_cipher cipher);
	/* NULL: out of memory, or a cipher that it cannot do. */
	struct seal *(*make)(enum seal_direction direction, enum seal_cipher cipher,
			     const uint8_t key[SEAL_KEY_BYTES]);
	/* Wipes the key.  NULL is fine. */
	void (*drop)(struct seal *s);
	/* The record that begins with `head` and goes on with `tail`: writes both lengths and
	 * SEAL_TAG_BYTES to `out`, where `head` (then with an empty tail), but nothing else of
	 * them, may lie already.  0 or -EIO (nothing is to be sent). */
	int (*seal)(struct seal *s, uint64_t nonce, struct bytes head, struct bytes tail,
		    uint8_t *out);
	/* Writes cipher.len - SEAL_TAG_BYTES to `out`, which may be where the cipher lies.  0;
	 * -EBADMSG: not authentic, and what `out` holds must not be looked at. */
	int (*open)(struct seal *s, uint64_t nonce, struct bytes cipher, uint8_t *out);
};

extern const struct seal_suite seal_sodium;
/* Loads the library at the first call that finds it: `file`, or NULL for the one whose headers we
 * were built with.  NULL: it is not to be had, or not built in. */
const struct seal_suite *seal_libcrypto(const char *file);
/* What this process uses, the same at every call. */
const struct seal_suite *seal_suite(void);
/* What this process can do fast, as bits: always the first, the second where the CPU helps. */
unsigned seal_ciphers(void);
const char *seal_cipher_name(enum seal_cipher cipher);
#endif
