#include "io/selfsigned.h"

#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/cstr.h"

#define DER_MAX 512

/* X.690 tags */
enum {
	INTEGER = 0x02,
	BIT_STRING = 0x03,
	OCTET_STRING = 0x04,
	OBJECT_ID = 0x06,
	UTF8_STRING = 0x0c,
	UTC_TIME = 0x17,
	GENERALIZED_TIME = 0x18,
	SEQUENCE = 0x30,
	SET = 0x31,
	EXPLICIT_0 = 0xa0,
};

/* DER is written from its end: a length is known once what it counts stands there. */
struct der {
	uint8_t bytes[DER_MAX];
	size_t at; /* first byte written; everything fits, names are bounded */
};

static void put(struct der *d, const void *data, size_t len)
{
	d->at -= len;
	memcpy(d->bytes + d->at, data, len);
}

static void put_u8(struct der *d, uint8_t v)
{
	put(d, &v, 1);
}

/* The header of what was written since `end`, the value of d->at then. */
static void wrap(struct der *d, uint8_t tag, size_t end)
{
	size_t len = end - d->at;

	put_u8(d, (uint8_t)len);
	if (len > 0xff) {
		put_u8(d, (uint8_t)(len >> 8));
		put_u8(d, 0x82);
	} else if (len > 0x7f) {
		put_u8(d, 0x81);
	}
	put_u8(d, tag);
}

static void put_value(struct der *d, uint8_t tag, const void *data, size_t len)
{
	size_t end = d->at;

	put(d, data, len);
	wrap(d, tag, end);
}

/* id-Ed25519, 1.3.101.112; no parameters (RFC 8410, section 3). */
static void put_algorithm(struct der *d)
{
	static const uint8_t oid[] = {0x2b, 0x65, 0x70};
	size_t end = d->at;

	put_value(d, OBJECT_ID, oid, sizeof oid);
	wrap(d, SEQUENCE, end);
}

static void put_bits(struct der *d, const uint8_t *data, size_t len)
{
	size_t end = d->at;

	put(d, data, len);
	put_u8(d, 0); /* no unused bits */
	wrap(d, BIT_STRING, end);
}

static void put_public_key(struct der *d, const uint8_t key[crypto_sign_PUBLICKEYBYTES])
{
	size_t end = d->at;

	put_bits(d, key, crypto_sign_PUBLICKEYBYTES);
	put_algorithm(d);
	wrap(d, SEQUENCE, end);
}

static void put_name(struct der *d, const char *name)
{
	static const uint8_t common_name[] = {0x55, 0x04, 0x03};
	size_t end = d->at;

	put_value(d, UTF8_STRING, name, strlen(name));
	put_value(d, OBJECT_ID, common_name, sizeof common_name);
	wrap(d, SEQUENCE, end);
	wrap(d, SET, end);
	wrap(d, SEQUENCE, end);
}

/* From the beginning of time, since routers may not know it. */
static void put_validity(struct der *d)
{
	static const char from[] = "700101000000Z", to[] = "99991231235959Z";
	size_t end = d->at;

	put_value(d, GENERALIZED_TIME, to, sizeof to - 1);
	put_value(d, UTC_TIME, from, sizeof from - 1);
	wrap(d, SEQUENCE, end);
}

/* TBSCertificate, version 3 */
static void put_body(struct der *d, const uint8_t *public_key, const char *name)
{
	static const uint8_t version[] = {2};
	uint8_t serial[16];
	size_t end = d->at, inner;

	crypto_generichash(serial, sizeof serial, public_key, crypto_sign_PUBLICKEYBYTES, NULL, 0);
	serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x40); /* positive, in the shortest form */
	put_public_key(d, public_key);
	put_name(d, name);
	put_validity(d);
	put_name(d, name);
	put_algorithm(d);
	put_value(d, INTEGER, serial, sizeof serial);
	inner = d->at;
	put_value(d, INTEGER, version, sizeof version);
	wrap(d, EXPLICIT_0, inner);
	wrap(d, SEQUENCE, end);
}

static void pem(char out[SELFSIGNED_PEM_MAX], const char *what, const uint8_t *der, size_t len)
{
	char base64[SELFSIGNED_PEM_MAX - 128];
	size_t at;

	sodium_bin2base64(base64, sizeof base64, der, len, sodium_base64_VARIANT_ORIGINAL);
	at = (size_t)snprintf(out, SELFSIGNED_PEM_MAX, "-----BEGIN %s-----\n", what);
	for (const char *line = base64; *line; line += strnlen(line, 64))
		at += (size_t)snprintf(out + at, SELFSIGNED_PEM_MAX - at, "%.64s\n", line);
	cstr_print(out + at, SELFSIGNED_PEM_MAX - at, "-----END %s-----\n", what);
	sodium_memzero(base64, sizeof base64);
}

/* RFC 8410, section 7: the seed is the private key. */
static void key_pem(char out[SELFSIGNED_PEM_MAX], const uint8_t seed[SELFSIGNED_SEED_BYTES])
{
	static const uint8_t version[] = {0};
	struct der d = {.at = DER_MAX};
	size_t end = d.at;

	put_value(&d, OCTET_STRING, seed, SELFSIGNED_SEED_BYTES);
	wrap(&d, OCTET_STRING, end);
	put_algorithm(&d);
	put_value(&d, INTEGER, version, sizeof version);
	wrap(&d, SEQUENCE, end);
	pem(out, "PRIVATE KEY", d.bytes + d.at, end - d.at);
	sodium_memzero(&d, sizeof d);
}

static void fingerprint_text(char *out, const uint8_t *der, size_t len)
{
	uint8_t hash[crypto_hash_sha256_BYTES];

	crypto_hash_sha256(hash, der, len);
	for (size_t i = 0; i < sizeof hash; i++)
		cstr_print(out + 3 * i, 4, "%02X%s", hash[i], i + 1 < sizeof hash ? ":" : "");
}

static bool name_ok(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < len; i++)
		if (name[i] < 0x20 || name[i] > 0x7e)
			return false;
	return len > 0 && len <= SELFSIGNED_NAME_MAX;
}

int selfsigned_make(struct selfsigned *out, const uint8_t seed[SELFSIGNED_SEED_BYTES],
		    const char *name)
{
	uint8_t public_key[crypto_sign_PUBLICKEYBYTES], secret[crypto_sign_SECRETKEYBYTES];
	uint8_t signature[crypto_sign_BYTES];
	struct der body = {.at = DER_MAX}, d = {.at = DER_MAX};

	memset(out, 0, sizeof *out);
	if (!name_ok(name))
		return -EINVAL;
	crypto_sign_seed_keypair(public_key, secret, seed);
	put_body(&body, public_key, name);
	crypto_sign_detached(signature, NULL, body.bytes + body.at, DER_MAX - body.at, secret);
	sodium_memzero(secret, sizeof secret);
	put_bits(&d, signature, sizeof signature);
	put_algorithm(&d);
	put(&d, body.bytes + body.at, DER_MAX - body.at);
	wrap(&d, SEQUENCE, DER_MAX);
	pem(out->certificate, "CERTIFICATE", d.bytes + d.at, DER_MAX - d.at);
	fingerprint_text(out->fingerprint, d.bytes + d.at, DER_MAX - d.at);
	key_pem(out->key, seed);
	return 0;
}
