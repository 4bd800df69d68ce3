/*
 * Proof that a call about a lease comes from its owner, over a channel that anybody can read.
 *
 * A subscriber has a key for each gateway, made from its own and the gateway's, so that gateways
 * cannot tell by it that they have the same subscriber.  What X25519 makes of the two ends' keys is
 * known to these two only; a hash keyed with it covers what the call says.  So neither a session id
 * nor a public key that somebody has read is worth anything to him.  `stamp` grows with every call:
 * the gateway refuses one that is not newer than the last, or whoever recorded a call could repeat
 * it from elsewhere.
 */
#ifndef CORE_OWNERPROOF_H
#define CORE_OWNERPROOF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"

#define OWNERPROOF_BYTES 32
#define OWNERPROOF_STAMP_MAX ((uint64_t)INT64_MAX)

/* What is proven; no string is NULL, "" is none. */
struct ownerproof_call {
	const char *call; /* the RPC's name */
	const char *sid, *method, *options;
	uint64_t stamp;
};

struct ownerproof_key {
	struct mesh_id public;
	uint8_t secret[MESH_SECRET_BYTES];
};

/* The subscriber's key for a gateway. */
void ownerproof_key(const uint8_t own_secret[MESH_SECRET_BYTES], const struct mesh_id *gateway,
		    struct ownerproof_key *out);
/* 0, or -EBADMSG: the gateway's key is none. */
int ownerproof_make(const struct ownerproof_key *subscriber, const struct mesh_id *gateway,
		    const struct ownerproof_call *c, uint8_t proof[OWNERPROOF_BYTES]);
/* The gateway's end.  In constant time. */
bool ownerproof_good(const uint8_t secret[MESH_SECRET_BYTES], const struct mesh_id *gateway,
		     const struct mesh_id *subscriber, const struct ownerproof_call *c,
		     const uint8_t proof[OWNERPROOF_BYTES]);
#endif
