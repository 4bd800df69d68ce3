#include "core/hopkey.h"

#include <sodium.h>
#include <string.h>

_Static_assert(HOPKEY_BYTES == crypto_shorthash_KEYBYTES, "SipHash-2-4 key");

/* What the mac covers of a DATA packet: its header without the mac, and the fragment header. */
#define DATA_COVER_BYTES (16 + FRAGMENT_HEADER_BYTES)

void hopkey_derive(struct hopkey *key, const uint8_t secret[32], const char *purpose)
{
	uint8_t context[8] = {0};
	size_t n = strlen(purpose);
	memcpy(context, purpose, n < sizeof context ? n : sizeof context);
	crypto_generichash(key->k, sizeof key->k, context, sizeof context, secret, 32);
}

static uint64_t mac_data(const struct hopkey *key, const uint8_t *packet)
{
	uint8_t cover[DATA_COVER_BYTES], out[8];
	memcpy(cover, packet, 16);
	memcpy(cover + 16, packet + HOP_HEADER_BYTES, FRAGMENT_HEADER_BYTES);
	crypto_shorthash(out, cover, sizeof cover, key->k);
	return be64_get(out);
}

/* The bytes after the mac are hashed first; a second pass binds them to the header. */
static uint64_t mac_whole(const struct hopkey *key, const uint8_t *packet, size_t len)
{
	uint8_t cover[24], out[8];
	memcpy(cover, packet, 16);
	crypto_shorthash(cover + 16, packet + HOP_HEADER_BYTES, len - HOP_HEADER_BYTES, key->k);
	crypto_shorthash(out, cover, sizeof cover, key->k);
	return be64_get(out);
}

static uint64_t mac_of(const struct hopkey *key, const uint8_t *packet, size_t len, uint8_t type)
{
	if (type == PACKET_DATA && len >= HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES)
		return mac_data(key, packet);
	return mac_whole(key, packet, len);
}

void hopkey_seal(const struct hopkey *key, uint8_t *packet, size_t len, struct hop_header *h)
{
	h->mac = 0;
	hop_header_write(packet, h);
	h->mac = mac_of(key, packet, len, h->type);
	be64_put(packet + 16, h->mac);
}

bool hopkey_verify(const struct hopkey *key, const uint8_t *packet, size_t len,
		   const struct hop_header *h)
{
	uint64_t want = mac_of(key, packet, len, h->type) ^ h->mac;
	/* A single compare of the whole word: no early exit to measure. */
	return want == 0;
}
