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
#define RUN_PREFETCH 4u

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
static void cover_data(struct siphash28 *in, const uint8_t *packet)
{
	in->word[0] = le64_get(packet);
	in->word[1] = le64_get(packet + 8);
	in->word[2] = le64_get(packet + HOP_HEADER_BYTES);
	in->tail = __builtin_bswap32(be32_get(packet + HOP_HEADER_BYTES + 8));
}

/* The bytes of the hash in their order, read as a header reads its mac. */
static uint64_t mac_of_hash(uint64_t hash)
{
	return __builtin_bswap64(hash);
}

static uint64_t mac_data(const struct hopkey *key, const uint8_t *packet)
{
	struct siphash28 in;
	cover_data(&in, packet);
	return mac_of_hash(siphash28(key->k, &in));
}

static void mac_data_pair(const struct hopkey *key, const uint8_t *first, const uint8_t *second,
			  uint64_t mac[2])
{
	struct siphash28 in[2];
	cover_data(&in[0], first);
	cover_data(&in[1], second);
	siphash28_pair(key->k, in, mac);
	mac[0] = mac_of_hash(mac[0]);
	mac[1] = mac_of_hash(mac[1]);
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
	struct hop_header header = *h;
	uint64_t mac[2];
	size_t i = 0;

	assert(h->type == PACKET_DATA && each >= DATA_HEADERS);
	header.mac = 0;
	for (; i + 2 <= count; i += 2) {
		uint8_t *first = packets + i * each, *second = first + each;
		__builtin_prefetch(first + RUN_PREFETCH * each, 1);
		__builtin_prefetch(second + RUN_PREFETCH * each, 1);
		hop_header_write(first, &header);
		header.seq++;
		hop_header_write(second, &header);
		header.seq++;
		mac_data_pair(key, first, second, mac);
		be64_put(first + 16, mac[0]);
		be64_put(second + 16, mac[1]);
	}
	if (i < count)
		hopkey_seal(key, packets + i * each, each, &header);
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
	uint64_t mac[2];
	size_t i = 0;

	assert(h->type == PACKET_DATA && each >= DATA_HEADERS);
	for (; i + 2 <= count; i += 2) {
		const uint8_t *first = packets + i * each, *second = first + each;
		__builtin_prefetch(first + RUN_PREFETCH * each, 1);
		__builtin_prefetch(second + RUN_PREFETCH * each, 1);
		if (!continues(packets, first, h->seq + i))
			return i;
		mac_data_pair(key, first, second, mac);
		if (!has_mac(first, mac[0]))
			return i;
		if (!continues(packets, second, h->seq + i + 1) || !has_mac(second, mac[1]))
			return i + 1;
	}
	if (i < count) {
		const uint8_t *last = packets + i * each;
		if (!continues(packets, last, h->seq + i) || !has_mac(last, mac_data(key, last)))
			return i;
	}
	return count;
}
