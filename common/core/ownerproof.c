#include "core/ownerproof.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "base/buf.h"

_Static_assert(MESH_SECRET_BYTES == crypto_scalarmult_SCALARBYTES, "X25519");
_Static_assert(OWNERPROOF_BYTES == crypto_generichash_BYTES, "BLAKE2b-256");

static void add(crypto_generichash_state *s, const char *text)
{
	/* With its NUL, so that no two lists of texts are the same bytes. */
	crypto_generichash_update(s, (const uint8_t *)text, strlen(text) + 1);
}

void ownerproof_key(const uint8_t own_secret[MESH_SECRET_BYTES], const struct mesh_id *gateway,
		    struct ownerproof_key *out)
{
	crypto_generichash_state s;

	crypto_generichash_init(&s, own_secret, MESH_SECRET_BYTES, sizeof out->secret);
	add(&s, "meshnet lease key");
	crypto_generichash_update(&s, gateway->b, sizeof gateway->b);
	crypto_generichash_final(&s, out->secret, sizeof out->secret);
	sodium_memzero(&s, sizeof s);
	(void)crypto_scalarmult_base(out->public.b, out->secret);
}

static void hash(const uint8_t shared[crypto_scalarmult_BYTES], const struct mesh_id *subscriber,
		 const struct mesh_id *gateway, const struct ownerproof_call *c,
		 uint8_t proof[OWNERPROOF_BYTES])
{
	crypto_generichash_state s;
	uint8_t stamp[8];

	be64_put(stamp, c->stamp);
	crypto_generichash_init(&s, shared, crypto_scalarmult_BYTES, OWNERPROOF_BYTES);
	add(&s, "meshnet lease owner");
	crypto_generichash_update(&s, subscriber->b, sizeof subscriber->b);
	crypto_generichash_update(&s, gateway->b, sizeof gateway->b);
	crypto_generichash_update(&s, stamp, sizeof stamp);
	add(&s, c->call);
	add(&s, c->sid);
	add(&s, c->method);
	add(&s, c->options);
	crypto_generichash_final(&s, proof, OWNERPROOF_BYTES);
	sodium_memzero(&s, sizeof s);
}

int ownerproof_make(const struct ownerproof_key *subscriber, const struct mesh_id *gateway,
		    const struct ownerproof_call *c, uint8_t proof[OWNERPROOF_BYTES])
{
	uint8_t shared[crypto_scalarmult_BYTES];
	int rc = crypto_scalarmult(shared, subscriber->secret, gateway->b) ? -EBADMSG : 0;

	if (!rc)
		hash(shared, &subscriber->public, gateway, c, proof);
	sodium_memzero(shared, sizeof shared);
	return rc;
}

bool ownerproof_good(const uint8_t secret[MESH_SECRET_BYTES], const struct mesh_id *gateway,
		     const struct mesh_id *subscriber, const struct ownerproof_call *c,
		     const uint8_t proof[OWNERPROOF_BYTES])
{
	uint8_t shared[crypto_scalarmult_BYTES], right[OWNERPROOF_BYTES];
	bool good = crypto_scalarmult(shared, secret, subscriber->b) == 0;

	if (good) {
		hash(shared, subscriber, gateway, c, right);
		good = sodium_memcmp(right, proof, sizeof right) == 0;
	}
	sodium_memzero(shared, sizeof shared);
	sodium_memzero(right, sizeof right);
	return good;
}
