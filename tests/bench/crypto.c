/*
 * Sealing and opening one record with ChaCha20-Poly1305 by libcrypto and by libsodium, at the size
 * of a packet and at that of a super-packet; and the keyed hash that a relay checks.
 */
#include <openssl/evp.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "core/hopkey.h"

#define RECORD_MAX 65536
#define TAG_BYTES 16
#define RUN_SECONDS 0.3

struct sealer {
	uint8_t key[32], nonce[12];
	EVP_CIPHER_CTX *seal, *open; /* with the key; a nonce a record */
	uint8_t plain[RECORD_MAX], sealed[RECORD_MAX + TAG_BYTES];
};

typedef int sealer_fn(struct sealer *s, size_t len);

static int sodium_seal(struct sealer *s, size_t len)
{
	unsigned long long out_len;
	return crypto_aead_chacha20poly1305_ietf_encrypt(s->sealed, &out_len, s->plain, len, NULL,
							 0, NULL, s->nonce, s->key);
}

static int sodium_open(struct sealer *s, size_t len)
{
	unsigned long long out_len;
	return crypto_aead_chacha20poly1305_ietf_decrypt(
		s->plain, &out_len, NULL, s->sealed, len + TAG_BYTES, NULL, 0, s->nonce, s->key);
}

static int evp_seal(struct sealer *s, size_t len)
{
	EVP_CIPHER_CTX *c = s->seal;
	int n;
	bool ok = EVP_EncryptInit_ex(c, NULL, NULL, NULL, s->nonce) == 1 &&
		  EVP_EncryptUpdate(c, s->sealed, &n, s->plain, (int)len) == 1 &&
		  EVP_EncryptFinal_ex(c, s->sealed + len, &n) == 1 &&
		  EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, s->sealed + len) == 1;
	return ok ? 0 : -1;
}

static int evp_open(struct sealer *s, size_t len)
{
	EVP_CIPHER_CTX *c = s->open;
	int n;
	bool ok = EVP_DecryptInit_ex(c, NULL, NULL, NULL, s->nonce) == 1 &&
		  EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, s->sealed + len) == 1 &&
		  EVP_DecryptUpdate(c, s->plain, &n, s->sealed, (int)len) == 1 &&
		  EVP_DecryptFinal_ex(c, s->plain + len, &n) == 1;
	return ok ? 0 : -1;
}

static int measure(struct sealer *s, sealer_fn *fn, size_t len, const char *name)
{
	uint64_t calls = 0;
	double begin = cpu_seconds(), now = begin;

	while (now - begin < RUN_SECONDS) {
		for (int i = 0; i < 64; i++)
			if (fn(s, len))
				return -1;
		calls += 64;
		now = cpu_seconds();
	}
	print_result(name, (double)calls * (double)len / 1e9 / (now - begin), "GB/s");
	return 0;
}

static int measure_size(struct sealer *s, size_t len, const char *label)
{
	static const struct {
		const char *name;
		sealer_fn *seal, *open;
	} libraries[] = {{"libsodium", sodium_seal, sodium_open},
			 {"libcrypto", evp_seal, evp_open}};
	char name[64];

	/* The order matters: what one opens, the other has sealed: the same bytes. */
	for (size_t i = 0; i < 2; i++) {
		snprintf(name, sizeof name, "seal %s, %s", label, libraries[i].name);
		if (measure(s, libraries[i].seal, len, name))
			return -1;
		snprintf(name, sizeof name, "open %s, %s", label, libraries[1 - i].name);
		if (measure(s, libraries[1 - i].open, len, name))
			return -1;
	}
	return 0;
}

static void measure_hopkey(const struct sealer *s)
{
	struct hop_header h = {.type = PACKET_DATA, .label = 7, .seq = 1};
	struct hopkey key;
	uint8_t packet[1452] = {0};
	uint64_t calls = 0, good = 0;

	hopkey_derive(&key, s->key, "bench");
	hopkey_seal(&key, packet, sizeof packet, &h);
	double begin = cpu_seconds(), now = begin;
	while (now - begin < RUN_SECONDS) {
		for (int i = 0; i < 1024; i++)
			good += hopkey_verify(&key, packet, sizeof packet, &h);
		calls += 1024;
		now = cpu_seconds();
	}
	if (good == calls)
		print_result("check the header of a packet", (now - begin) * 1e9 / (double)calls,
			     "ns");
}

int main(void)
{
	struct sealer *s = calloc(1, sizeof *s);

	if (!s || sodium_init() < 0)
		return 1;
	randombytes_buf(s->key, sizeof s->key);
	s->seal = EVP_CIPHER_CTX_new();
	s->open = EVP_CIPHER_CTX_new();
	const EVP_CIPHER *cipher = EVP_chacha20_poly1305();
	bool ok = s->seal && s->open &&
		  EVP_CipherInit_ex(s->seal, cipher, NULL, s->key, s->nonce, 1) == 1 &&
		  EVP_CipherInit_ex(s->open, cipher, NULL, s->key, s->nonce, 0) == 1 &&
		  measure_size(s, 1400, "1400 B") == 0 &&
		  measure_size(s, RECORD_MAX - 64, "64 KB") == 0;
	if (ok)
		measure_hopkey(s);
	EVP_CIPHER_CTX_free(s->seal);
	EVP_CIPHER_CTX_free(s->open);
	free(s);
	return ok ? 0 : 1;
}
