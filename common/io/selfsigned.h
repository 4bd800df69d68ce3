/*
 * A self-signed X.509 certificate of an Ed25519 key (RFC 8410), for TLS peers that know each other
 * by fingerprint and need no authority.  The same seed gives the same bytes each time, so that
 * nothing but the seed need be kept.  It is valid for ever (RFC 5280, section 4.1.2.5): what
 * ends trust is that the fingerprint is told no more.
 */
#ifndef IO_SELFSIGNED_H
#define IO_SELFSIGNED_H

#include <stdint.h>

#define SELFSIGNED_SEED_BYTES 32
#define SELFSIGNED_PEM_MAX 1024
#define SELFSIGNED_FINGERPRINT_TEXT 96 /* 32 bytes as AA:BB:..., with the end of the string */
#define SELFSIGNED_NAME_MAX 64	       /* RFC 5280's bound of a common name */

struct selfsigned {
	char certificate[SELFSIGNED_PEM_MAX];	       /* PEM */
	char key[SELFSIGNED_PEM_MAX];		       /* PEM, PKCS #8; secret: wipe the struct */
	char fingerprint[SELFSIGNED_FINGERPRINT_TEXT]; /* SHA-256 of the certificate */
};

/* `name` is the common name: 1 .. SELFSIGNED_NAME_MAX printable ASCII characters, else -EINVAL. */
int selfsigned_make(struct selfsigned *out, const uint8_t seed[SELFSIGNED_SEED_BYTES],
		    const char *name);
#endif
