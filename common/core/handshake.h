/*
 * The handshake of a transport: Noise_KKpsk0 over UDP (PROTOCOL.md section 3.3).  Pure: packets in,
 * packets and keys out.  Bogus packets are refused by a keyed SipHash before any X25519.
 */
#ifndef CORE_HANDSHAKE_H
#define CORE_HANDSHAKE_H

#include "base/id.h"
#include "core/hopkey.h"
#include "core/noise.h"

#define HANDSHAKE_PACKET_MAX 128

struct hop_keys {
	bool valid;
	uint8_t epoch;
	uint64_t life; /* the peer's (see struct handshake) */
	struct hopkey tx, rx;
};

struct handshake {
	struct noise_keypair local;
	struct mesh_id remote;
	uint8_t psk[MESH_SECRET_BYTES];
	struct hopkey outer; /* from the psk: whoever lacks it costs us one SipHash */
	uint32_t transport;
	/* Told to the peer: a random number for as long as we remember what has been sent and
	 * received.  Another one says that the peer has begun anew and counts from zero. */
	uint64_t life;
	/* initiator: the attempt under way; responder: the last one answered */
	struct noise noise;
	bool active;
	uint64_t attempt;
	uint8_t epoch;
	uint64_t init_mac;		      /* responder: to know the very same packet again */
	uint8_t packet[HANDSHAKE_PACKET_MAX]; /* initiator: INIT; responder: RESPONSE; to repeat */
	size_t packet_len;
};

void handshake_init(struct handshake *h, uint32_t transport, const uint8_t local_secret[32],
		    const struct mesh_id *remote, const uint8_t psk[MESH_SECRET_BYTES]);
void handshake_wipe(struct handshake *h);
/* Builds a fresh INIT in h->packet.  0 or -errno of noise_write. */
int handshake_initiate(struct handshake *h, uint8_t epoch, const uint8_t ephemeral[32]);
/*
 * Responder: a packet of type INIT.  0 and `keys` for a new attempt, with the RESPONSE in
 * h->packet; -EALREADY when it repeats the last one (send h->packet again); -EBADMSG when forged,
 * replayed or malformed.  `ephemeral` is used only when 0 is returned.
 */
int handshake_respond(struct handshake *h, struct bytes packet, const uint8_t ephemeral[32],
		      struct hop_keys *keys);
/* Initiator: a packet of type RESPONSE.  0 and `keys`, or -EBADMSG. */
int handshake_finish(struct handshake *h, struct bytes packet, struct hop_keys *keys);
/*
 * A packet of type HANDSHAKE_WANTED: a responder that has begun anew asks the initiator for a
 * handshake.  It is only a hint, and may be a replay: the handshake itself shows who is there.
 */
void handshake_want(const struct handshake *h, uint8_t packet[HOP_HEADER_BYTES]);
bool handshake_is_wanted(const struct handshake *h, struct bytes packet);
#endif
