#include "core/hopkey.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "core/siphash.h"

_Static_assert(HOPKEY_BYTES == crypto_shorthash_KEYBYTES, "SipHash-2-4 key");
_Static_assert(HOPKEY_BYTES == SIPHASH_KEY_BYTES, "SipHash-2-4 key");
_Static_assert(16 + FRAGMENT_HEADER_BYTES == SIPHASH28_BYTES, "what the mac of DATA covers");

#define DATA_HEADERS (HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES)
/* The kernel has just written all packets of a run, more than the nearest cache holds. */
#define RUN_PREFETCH SIPHASH28_MANY

void hopkey_derive(struct hopkey *key, const uint8_t secret[32], const char *purpose)
{
	uint8_t context[8] = {0};
	size_t n = strlen(purpose);
	memcpy(context, purpose, n < sizeof context ? n : sizeof context);
	crypto_generichash(key->k, sizeof key->k, context, sizeof context, secret, 32);
}

static uint64_t le64_get(const uint8_t *p)
{
	return __builtin_bswap64(be64_get(p));
}

/* What the mac covers of a DATA packet: its header without the mac, and the fragment header. */
static inline void cover_data(struct siphash28 *in, size_t k, const uint8_t *packet)
{
	in->word[0][k] = le64_get(packet);
	in->word[1][k] = le64_get(packet + 8);
	in->word[2][k] = le64_get(packet + HOP_HEADER_BYTES);
	in->tail[k] = __builtin_bswap32(be32_get(packet + HOP_HEADER_BYTES + 8));
}

/* The bytes of the hash in their order, read as a header reads its mac. */
static uint64_t mac_of_hash(uint64_t hash)
{
	return __builtin_bswap64(hash);
}

static uint64_t mac_data(const struct hopkey *key, const uint8_t *packet)
{
	struct siphash28 in;
	uint64_t hash[SIPHASH28_MANY];
	cover_data(&in, 0, packet);
	siphash28(key->k, &in, 1, hash);
	return mac_of_hash(hash[0]);
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
	if (type == PACKET_DATA && len >= DATA_HEADERS)
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

/* --- runs --------------------------------------------------------------------------------- */

void hopkey_seal_run(const struct hopkey *key, uint8_t *packets, size_t each, size_t count,
		     const struct hop_header *h)
{
	uint8_t header[HOP_HEADER_BYTES];
	struct siphash28 in;
	uint64_t hash[SIPHASH28_MANY], seq = h->seq;
	size_t n;

	assert(h->type == PACKET_DATA && each >= DATA_HEADERS);
	hop_header_write(header, h);
	for (uint8_t *p = packets; count; p += n * each, count -= n) {
		n = count < SIPHASH28_MANY ? count : SIPHASH28_MANY;
		for (size_t k = 0; k < n; k++) {
			uint8_t *packet = p + k * each;
			__builtin_prefetch(packet + RUN_PREFETCH * each, 1);
			memcpy(packet, header, 8);
			be64_put(packet + 8, seq++);
			cover_data(&in, k, packet);
		}
		siphash28(key->k, &in, n, hash);
		for (size_t k = 0; k < n; k++)
			be64_put(p + k * each + 16, mac_of_hash(hash[k]));
	}
}

/* Packet `i` of the run says what the first said, with the sequence that follows. */
static bool continues(const uint8_t *first, const uint8_t *packet, uint64_t seq)
{
	return be64_get(packet) == be64_get(first) && be64_get(packet + 8) == seq &&
	       be64_get(packet + HOP_HEADER_BYTES) == be64_get(first + HOP_HEADER_BYTES);
}

static bool has_mac(const uint8_t *packet, uint64_t mac)
{
	return (be64_get(packet + 16) ^ mac) == 0;
}

size_t hopkey_verify_run(const struct hopkey *key, const uint8_t *packets, size_t each,
			 size_t count, const struct hop_header *h)
{
	struct siphash28 in;
	uint64_t hash[SIPHASH28_MANY];
	size_t done = 0, n, k;

	assert(h->type == PACKET_DATA && each >= DATA_HEADERS);
	do {
		const uint8_t *p = packets + done * each;
		size_t most = count - done < SIPHASH28_MANY ? count - done : SIPHASH28_MANY;
		for (n = 0; n < most && continues(packets, p + n * each, h->seq + done + n); n++) {
			__builtin_prefetch(p + (n + RUN_PREFETCH) * each, 1);
			cover_data(&in, n, p + n * each);
		}
		if (n)
			siphash28(key->k, &in, n, hash);
		for (k = 0; k < n && has_mac(p + k * each, mac_of_hash(hash[k])); k++)
			;
		done += k;
	} while (k == SIPHASH28_MANY && done < count);
	return done;
}
