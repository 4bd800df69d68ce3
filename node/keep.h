/*
 * What a node keeps on disk, so that it forwards again after its own restart while the manager is
 * away: the settings of the last RegisterNodeAck, its transports with their pair secrets, its route
 * rules.  State to bytes and back, and the seal around them; where they are stored is store.h's.
 *
 * The bytes are sealed (XChaCha20-Poly1305) under a key that comes from the node's own secret: a
 * damaged file, and one of another node, do not open, and nobody else reads the pair secrets.
 */
#ifndef NODE_KEEP_H
#define NODE_KEEP_H

#include "base/addr.h"
#include "base/buf.h"
#include "base/id.h"
#include "base/limits.h"

/* Larger than all of MaxTransports and MaxRoutes at their default. */
#define KEEP_MAX_BYTES (8u << 20)
#define KEEP_NONCE_BYTES 24u
#define KEEP_MAGIC_BYTES 8u
#define KEEP_SEAL_BYTES (KEEP_MAGIC_BYTES + KEEP_NONCE_BYTES + AEAD_TAG_BYTES)

/* What RegisterNodeAck says about the whole mesh, as it came. */
struct keep_settings {
	uint32_t max_buffer, max_packet_size, time_unit_us, send_interval_us;
	uint32_t connection_timeout_us, retransmit_limit;
};

struct keep_transport {
	uint32_t id;
	struct mesh_id peer;
	uint8_t secret[MESH_SECRET_BYTES]; /* of the pair */
	bool initiator;
	uint16_t port;		/* ours */
	struct net_addr remote; /* where the peer was last; family 0: never there */
	struct net_addr addrs[ADDRS_MAX];
	uint8_t addr_count;
};

struct keep_rule {
	uint32_t in_transport, in_route, out_transport, out_route;
};

struct keep_state {
	struct mesh_id manager; /* whose word all of this is */
	uint64_t instance;	/* of RegisterNode */
	uint32_t starts;	/* processes that have gone on from this state */
	struct keep_settings settings;
	struct keep_transport *transports;
	struct keep_rule *rules;
	uint32_t transport_count, rule_count;
};

/* Wipes the secrets and frees the arrays. */
void keep_free(struct keep_state *k);

size_t keep_encoded_size(const struct keep_state *k);
/* w->bad when it does not fit. */
void keep_encode(const struct keep_state *k, struct wbuf *w);
/* 0 and *out (keep_free it); -EBADMSG; -ENOMEM.  Numbers of transports are unique and not 0, a rule
 * has no transport that is not there. */
int keep_decode(struct keep_state *out, struct bytes plain);

/* `out` has room for plain.len + KEEP_SEAL_BYTES; `nonce` is random.  -EINVAL over
 * KEEP_MAX_BYTES. */
int keep_seal(uint8_t *out, struct bytes plain, const uint8_t secret[32],
	      const uint8_t nonce[KEEP_NONCE_BYTES]);
/* `out` has room for sealed.len; *len of them are used.  -EBADMSG: not ours, or damaged. */
int keep_open(uint8_t *out, size_t *len, struct bytes sealed, const uint8_t secret[32]);
#endif
