/*
 * The encrypted control channel (PROTOCOL.md section 1.2) as a state machine over frame bodies:
 * Noise_XX_25519_ChaChaPoly_BLAKE2b, three handshake bodies with empty payloads, then every body is
 * one AEAD ciphertext with its direction's key, the direction's frame count as nonce, empty AD.
 * io/chan.c puts it on a socket.
 *
 *   channel_init; then while not channel_is_up: send what channel_output gives (if anything), feed
 *   what arrives to channel_input.  Afterwards channel_seal and channel_open, in stream order.
 * Any error is final: the owner closes.
 */
#ifndef CORE_CHANNEL_H
#define CORE_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "core/noise.h"

#define CHANNEL_PROLOGUE "meshnet control 1"
#define CHANNEL_TAG_BYTES NOISE_TAG_BYTES

struct channel_params {
	bool initiator;
	const struct noise_keypair *local;
	const uint8_t *ephemeral;	/* 32 fresh random bytes */
	const struct mesh_id *expected; /* the only peer to accept; NULL: any (the owner pins) */
	size_t max_body;		/* largest plaintext of a frame, after the handshake */
};

enum channel_state { CHANNEL_HANDSHAKE, CHANNEL_UP, CHANNEL_FAILED };

struct channel {
	enum channel_state state;
	struct noise noise;
	struct noise_keys keys;
	uint64_t sent, received; /* frames since the handshake: the next nonces */
	struct mesh_id expected, peer;
	bool has_expected, peer_known;
	size_t max_body;
};

/* Copies everything.  0 or -EINVAL. */
int channel_init(struct channel *ch, const struct channel_params *p);
/* Wipes the keys. */
void channel_wipe(struct channel *ch);
bool channel_is_up(const struct channel *ch);
/* The peer's static key: known to the initiator after the second body, before it has shown its own
 * (pin there), to the responder when the channel is up.  NULL before. */
const struct mesh_id *channel_peer(const struct channel *ch);
/* The largest frame body that may arrive now: small until the peer is authenticated. */
size_t channel_body_limit(const struct channel *ch);

/* The handshake body to send now, into `out` (FRAME_HANDSHAKE_MAX_BYTES of room).  Its length; 0
 * when it is the peer's turn or the channel is up; -EBADMSG. */
long channel_output(struct channel *ch, uint8_t *out);
/* A handshake body.  0; -EBADMSG; -EACCES when the peer is not the expected one. */
int channel_input(struct channel *ch, struct bytes body);

/* Encrypts one frame body: writes plain.len + CHANNEL_TAG_BYTES to `out`, which may be the
 * plaintext.  0; -EMSGSIZE over max_body; -ENOTCONN before the channel is up. */
int channel_seal(struct channel *ch, struct bytes plain, uint8_t *out);
/* Decrypts one frame body to `out` (may be the body): body.len - CHANNEL_TAG_BYTES bytes.
 * 0; -EBADMSG (then the channel has failed); -ENOTCONN before the channel is up. */
int channel_open(struct channel *ch, struct bytes body, uint8_t *out);
#endif
