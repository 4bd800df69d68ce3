/* Any bytes as a node's state: what decodes encodes to the same bytes again, and has no rule
 * without its transports; what is no seal of ours does not open. */
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "node/keep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static int has(const struct keep_state *k, uint32_t transport)
{
	for (uint32_t i = 0; i < k->transport_count; i++)
		if (k->transports[i].id == transport)
			return 1;
	return transport == 0;
}

static void try_plain(struct bytes in)
{
	struct keep_state k;

	if (keep_decode(&k, in) != 0) {
		require(!k.transports && !k.rules);
		return;
	}
	uint8_t *out = malloc(in.len);
	struct wbuf w = wbuf_init(out, in.len);
	require(out && keep_encoded_size(&k) == in.len);
	keep_encode(&k, &w);
	require(!w.bad && wbuf_len(&w) == in.len && memcmp(out, in.data, in.len) == 0);
	for (uint32_t i = 0; i < k.rule_count && k.transport_count < 64; i++)
		require(has(&k, k.rules[i].in_transport) && has(&k, k.rules[i].out_transport));
	free(out);
	keep_free(&k);
}

static void try_sealed(struct bytes in)
{
	static const uint8_t secret[32] = {1}, nonce[KEEP_NONCE_BYTES] = {2};
	uint8_t *out = malloc(in.len + 1), *sealed = malloc(in.len + KEEP_SEAL_BYTES);
	size_t len = 0;

	require(out && sealed);
	require(keep_open(out, &len, in, secret) != 0);
	require(keep_seal(sealed, in, secret, nonce) == 0);
	/* One bit of it, chosen by the input. */
	size_t total = in.len + KEEP_SEAL_BYTES, at = in.len ? in.data[0] * 37u % total : 0;
	sealed[at] ^= 1;
	uint8_t *back = malloc(total);
	require(back && keep_open(back, &len, bytes_of(sealed, total), secret) != 0);
	sealed[at] ^= 1;
	require(keep_open(back, &len, bytes_of(sealed, total), secret) == 0 && len == in.len);
	require(in.len == 0 || memcmp(back, in.data, len) == 0);
	free(out);
	free(sealed);
	free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = {data, size};

	if (sodium_init() < 0)
		abort();
	try_plain(in);
	if (size < 4096)
		try_sealed(in);
	return 0;
}
