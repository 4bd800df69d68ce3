#include "core/seal.h"

#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NONCE_BYTES 12

static void nonce_put(uint8_t out[NONCE_BYTES], uint64_t nonce)
{
	memset(out, 0, 4);
	for (unsigned i = 0; i < 8; i++)
		out[4 + i] = (uint8_t)(nonce >> 8 * i);
}

/* --- libsodium ------------------------------------------------------------------------------ */

struct sodium_seal {
	uint8_t key[SEAL_KEY_BYTES];
};

static struct seal *sodium_make(enum seal_direction direction, const uint8_t key[SEAL_KEY_BYTES])
{
	struct sodium_seal *s = malloc(sizeof *s);

	(void)direction;
	if (s)
		memcpy(s->key, key, sizeof s->key);
	return (struct seal *)s;
}

static void sodium_drop(struct seal *seal)
{
	struct sodium_seal *s = (struct sodium_seal *)seal;

	if (s)
		sodium_memzero(s, sizeof *s);
	free(s);
}

static int sodium_seal_record(struct seal *seal, uint64_t nonce, struct bytes head,
			      struct bytes tail, uint8_t *out)
{
	const struct sodium_seal *s = (struct sodium_seal *)seal;
	uint8_t iv[NONCE_BYTES];

	nonce_put(iv, nonce);
	/* It takes its plaintext in one piece. */
	if (head.len)
		memmove(out, head.data, head.len);
	if (tail.len)
		memcpy(out + head.len, tail.data, tail.len);
	return crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, out, head.len + tail.len, NULL,
							 0, NULL, iv, s->key)
		       ? -EIO
		       : 0;
}

static int sodium_open_record(struct seal *seal, uint64_t nonce, struct bytes cipher, uint8_t *out)
{
	const struct sodium_seal *s = (struct sodium_seal *)seal;
	uint8_t iv[NONCE_BYTES];

	nonce_put(iv, nonce);
	return crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, cipher.data, cipher.len,
							 NULL, 0, iv, s->key)
		       ? -EBADMSG
		       : 0;
}

const struct seal_suite seal_sodium = {
	.name = "libsodium",
	.make = sodium_make,
	.drop = sodium_drop,
	.seal = sodium_seal_record,
	.open = sodium_open_record,
};

/* --- libcrypto ------------------------------------------------------------------------------ */

#ifdef MESHNET_LIBCRYPTO
#include <openssl/evp.h>

static struct seal *crypto_make(enum seal_direction direction, const uint8_t key[SEAL_KEY_BYTES])
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

	if (ctx && EVP_CipherInit_ex(ctx, EVP_chacha20_poly1305(), NULL, key, NULL,
				     direction == SEAL_OUT) == 1)
		return (struct seal *)ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

static void crypto_drop(struct seal *seal)
{
	EVP_CIPHER_CTX_free((EVP_CIPHER_CTX *)seal);
}

static bool update(EVP_CIPHER_CTX *ctx, struct bytes in, uint8_t *out)
{
	int n;

	return in.len == 0 ||
	       (in.len <= INT32_MAX && EVP_CipherUpdate(ctx, out, &n, in.data, (int)in.len) == 1 &&
		(size_t)n == in.len);
}

static int crypto_seal_record(struct seal *seal, uint64_t nonce, struct bytes head,
			      struct bytes tail, uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = (EVP_CIPHER_CTX *)seal;
	uint8_t iv[NONCE_BYTES], *tag = out + head.len + tail.len;
	int n;

	nonce_put(iv, nonce);
	if (EVP_CipherInit_ex(ctx, NULL, NULL, NULL, iv, 1) == 1 && update(ctx, head, out) &&
	    update(ctx, tail, out + head.len) && EVP_CipherFinal_ex(ctx, tag, &n) == 1 &&
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG_BYTES, tag) == 1)
		return 0;
	return -EIO;
}

static int crypto_open_record(struct seal *seal, uint64_t nonce, struct bytes cipher, uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = (EVP_CIPHER_CTX *)seal;
	uint8_t iv[NONCE_BYTES], tag[SEAL_TAG_BYTES];
	int n;

	if (cipher.len < SEAL_TAG_BYTES)
		return -EBADMSG;
	cipher.len -= SEAL_TAG_BYTES;
	memcpy(tag, cipher.data + cipher.len, sizeof tag);
	nonce_put(iv, nonce);
	if (EVP_CipherInit_ex(ctx, NULL, NULL, NULL, iv, 0) == 1 &&
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, sizeof tag, tag) == 1 &&
	    update(ctx, cipher, out) && EVP_CipherFinal_ex(ctx, out + cipher.len, &n) == 1)
		return 0;
	return -EBADMSG;
}

const struct seal_suite seal_libcrypto = {
	.name = "libcrypto",
	.make = crypto_make,
	.drop = crypto_drop,
	.seal = crypto_seal_record,
	.open = crypto_open_record,
};
#endif

const struct seal_suite *seal_suite(void)
{
#ifdef MESHNET_LIBCRYPTO
	return &seal_libcrypto;
#else
	return &seal_sodium;
#endif
}
