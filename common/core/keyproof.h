/*
 * Proof that whoever answers at a place holds the secret of an X25519 key.  The asker sends a
 * fresh public key (the challenge); the answer is a keyed hash over the key, the challenge and the
 * place, under the secret that both then share.  The place is what each sees of the connection
 * itself, not what it is told: so a third one cannot have the true holder answer for it, because
 * that one names another place.
 */
#ifndef CORE_KEYPROOF_H
#define CORE_KEYPROOF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/id.h"

#define KEYPROOF_BYTES 32
#define KEYPROOF_PLACE_MAX 160

struct keyproof_ask {
	uint8_t secret[KEYPROOF_BYTES];
	uint8_t challenge[KEYPROOF_BYTES]; /* to be sent */
};

/* Places: a listener's address, an app of a node.  Both return `out`. */
const char *keyproof_http(const struct net_addr *addr, char out[KEYPROOF_PLACE_MAX]);
const char *keyproof_mesh(const struct mesh_id *node, const char *app,
			  char out[KEYPROOF_PLACE_MAX]);

/* `random` is for this question only. */
void keyproof_ask(struct keyproof_ask *a, const uint8_t random[KEYPROOF_BYTES]);
/* Fills `proof`; false for a challenge that is no key. */
bool keyproof_answer(uint8_t proof[KEYPROOF_BYTES], const struct mesh_id *own,
		     const uint8_t secret[MESH_SECRET_BYTES],
		     const uint8_t challenge[KEYPROOF_BYTES], const char *place);
/* Did the holder of `id` answer, at `place`? */
bool keyproof_check(const struct keyproof_ask *a, const struct mesh_id *id, const char *place,
		    const uint8_t proof[KEYPROOF_BYTES]);
#endif
