#include "core/keyproof.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define PURPOSE "meshnet keyproof 1"

const char *keyproof_http(const struct net_addr *addr, char out[KEYPROOF_PLACE_MAX])
{
	char text[NET_ADDR_TEXT];

	snprintf(out, KEYPROOF_PLACE_MAX, "http:%s", net_addr_text(addr, text));
	return out;
}

const char *keyproof_mesh(const struct mesh_id *node, const char *app, char out[KEYPROOF_PLACE_MAX])
{
	char id[MESH_ID_TEXT];

	snprintf(out, KEYPROOF_PLACE_MAX, "mesh:%s/%s", mesh_id_text(node, id), app);
	return out;
}

void keyproof_ask(struct keyproof_ask *a, const uint8_t random[KEYPROOF_BYTES])
{
	memcpy(a->secret, random, sizeof a->secret);
	crypto_scalarmult_base(a->challenge, a->secret);
}

/* False: the two share no secret. */
static bool make(uint8_t proof[KEYPROOF_BYTES], const uint8_t secret[KEYPROOF_BYTES],
		 const uint8_t other[KEYPROOF_BYTES], const struct mesh_id *id,
		 const uint8_t challenge[KEYPROOF_BYTES], const char *place)
{
	uint8_t shared[KEYPROOF_BYTES];
	crypto_generichash_state h;
	bool ok = crypto_scalarmult(shared, secret, other) == 0;

	crypto_generichash_init(&h, shared, sizeof shared, KEYPROOF_BYTES);
	crypto_generichash_update(&h, (const uint8_t *)PURPOSE, sizeof PURPOSE);
	crypto_generichash_update(&h, id->b, sizeof id->b);
	crypto_generichash_update(&h, challenge, KEYPROOF_BYTES);
	crypto_generichash_update(&h, (const uint8_t *)place, strlen(place));
	crypto_generichash_final(&h, proof, KEYPROOF_BYTES);
	sodium_memzero(shared, sizeof shared);
	sodium_memzero(&h, sizeof h);
	return ok;
}

bool keyproof_answer(uint8_t proof[KEYPROOF_BYTES], const struct mesh_id *own,
		     const uint8_t secret[MESH_SECRET_BYTES],
		     const uint8_t challenge[KEYPROOF_BYTES], const char *place)
{
	return make(proof, secret, challenge, own, challenge, place);
}

bool keyproof_check(const struct keyproof_ask *a, const struct mesh_id *id, const char *place,
		    const uint8_t proof[KEYPROOF_BYTES])
{
	uint8_t want[KEYPROOF_BYTES];

	return make(want, a->secret, id->b, id, a->challenge, place) &&
	       sodium_memcmp(want, proof, sizeof want) == 0;
}
