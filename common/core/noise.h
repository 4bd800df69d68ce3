/*
 * The Noise Protocol Framework (revision 34) with 25519, ChaChaPoly and BLAKE2b, by libsodium.
 *
 * Sans-I/O: bytes in, bytes out, and the ephemeral key comes in as an argument.  Patterns are a
 * table, so all of those below cost nothing.  A message that does not authenticate changes nothing:
 * the state is as before the call, and the true message may still arrive (UDP).
 *
 *   struct noise n;
 *   noise_init(&n, &(struct noise_params){.pattern = NOISE_KKPSK0, .initiator = true, ...});
 *   noise_write(&n, payload, &out);  ...  noise_read(&n, packet, payload, sizeof payload, &len);
 *   if (noise_done(&n)) noise_split(&n, &keys), noise_wipe(&n);
 */
#ifndef CORE_NOISE_H
#define CORE_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define NOISE_KEY_BYTES 32
#define NOISE_HASH_BYTES 64
#define NOISE_TAG_BYTES 16
/* Most that a handshake message adds to its payload: e, encrypted s, tag of the payload. */
#define NOISE_OVERHEAD_MAX (NOISE_KEY_BYTES + NOISE_KEY_BYTES + 2 * NOISE_TAG_BYTES)

enum noise_pattern {
	NOISE_XX,
	NOISE_KK,
	NOISE_IK,
	NOISE_XXPSK3,
	NOISE_KKPSK0,
	NOISE_KKPSK2,
	NOISE_IKPSK2,
	NOISE_PATTERN_COUNT,
};

struct noise_keypair {
	uint8_t secret[NOISE_KEY_BYTES];
	uint8_t public[NOISE_KEY_BYTES];
};

struct noise_params {
	enum noise_pattern pattern;
	bool initiator;
	struct bytes prologue;		   /* both ends give the same */
	const struct noise_keypair *local; /* our static key */
	const uint8_t *remote;	  /* the peer's static public key where the pattern knows it */
	const uint8_t *psk;	  /* 32 bytes for the psk patterns, else NULL */
	const uint8_t *ephemeral; /* 32 fresh random bytes, used for this handshake only */
};

/* Private to noise.c; here so that owners can embed it. */
struct noise {
	const struct noise_pattern_info *pattern;
	struct noise_keypair s, e;
	uint8_t rs[NOISE_KEY_BYTES], re[NOISE_KEY_BYTES], psk[NOISE_KEY_BYTES];
	uint8_t ck[NOISE_HASH_BYTES], h[NOISE_HASH_BYTES], k[NOISE_KEY_BYTES];
	uint64_t nonce;
	unsigned step; /* messages written and read so far */
	bool initiator, has_key, has_rs;
};

/* What a finished handshake yields, as seen from this side.  Wipe after use. */
struct noise_keys {
	uint8_t send[NOISE_KEY_BYTES], receive[NOISE_KEY_BYTES];
	uint8_t hash[NOISE_HASH_BYTES]; /* the same at both ends, unique to this handshake */
};

void noise_keypair_from_secret(struct noise_keypair *kp, const uint8_t secret[NOISE_KEY_BYTES]);

/* Copies everything.  0, or -EINVAL when a key or psk that the pattern needs is missing. */
int noise_init(struct noise *n, const struct noise_params *p);
/* True when the next message is ours to write. */
bool noise_writes_next(const struct noise *n);
/* True when every message of the pattern has been written and read. */
bool noise_done(const struct noise *n);
/* Appends the next message to `out`.  0; -ENOBUFS when it does not fit; -EPROTO when it is not our
 * turn; -EBADMSG when a key of the peer gives an all-zero DH result.  On error nothing changes. */
int noise_write(struct noise *n, struct bytes payload, struct wbuf *out);
/* Reads the peer's next message; its payload goes to `payload` (`size` bytes of room), which must
 * not overlap `message`.  0; -EBADMSG for a message that is short, does not authenticate or holds a
 * low-order point; -ENOBUFS; -EPROTO when it is not the peer's turn.  On error nothing changes. */
int noise_read(struct noise *n, struct bytes message, uint8_t *payload, size_t size, size_t *len);
/* The peer's static public key; NULL while it is not known. */
const uint8_t *noise_remote(const struct noise *n);
/* Only when noise_done. */
void noise_split(const struct noise *n, struct noise_keys *keys);
void noise_wipe(struct noise *n);

/* Transport encryption with an explicit 64-bit nonce, as Noise encodes it (4 zero bytes, then the
 * nonce little-endian).  A nonce is never used twice with one key.  `out` holds plain.len + 16
 * bytes and may be the plaintext itself. */
void noise_seal(const uint8_t key[NOISE_KEY_BYTES], uint64_t nonce, struct bytes ad,
		struct bytes plain, uint8_t *out);
/* `out` holds cipher.len - 16 bytes and may be the ciphertext itself.  0, or -EBADMSG. */
int noise_open(const uint8_t key[NOISE_KEY_BYTES], uint64_t nonce, struct bytes ad,
	       struct bytes cipher, uint8_t *out);
#endif
