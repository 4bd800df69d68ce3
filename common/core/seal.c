#include "core/seal.h"

#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "base/log.h"

#define NONCE_BYTES 12

/* As Noise encodes it for either cipher: 64 bits behind four zero bytes. */
static void nonce_put(uint8_t out[NONCE_BYTES], enum seal_cipher cipher, uint64_t nonce)
{
	memset(out, 0, 4);
	if (cipher == SEAL_AES256_GCM) {
		be64_put(out + 4, nonce);
		return;
	}
	for (unsigned i = 0; i < 8; i++)
		out[4 + i] = (uint8_t)(nonce >> 8 * i);
}

/* --- libsodium ------------------------------------------------------------------------------ */

struct sodium_seal {
	enum seal_cipher cipher;
	union {
		uint8_t key[SEAL_KEY_BYTES];
		crypto_aead_aes256gcm_state aes; /* the scheduled key; aligned as it wants */
	};
};

static bool sodium_can(enum seal_cipher cipher)
{
	return cipher == SEAL_CHACHA20_POLY1305 ||
	       (cipher == SEAL_AES256_GCM && crypto_aead_aes256gcm_is_available());
}

static struct seal *sodium_make(enum seal_direction direction, enum seal_cipher cipher,
				const uint8_t key[SEAL_KEY_BYTES])
{
	size_t size = (sizeof(struct sodium_seal) + 15) / 16 * 16;
	struct sodium_seal *s = sodium_can(cipher) ? aligned_alloc(16, size) : NULL;

	(void)direction;
	if (!s)
		return NULL;
	s->cipher = cipher;
	if (cipher == SEAL_AES256_GCM)
		crypto_aead_aes256gcm_beforenm(&s->aes, key);
	else
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
	size_t len = head.len + tail.len;
	uint8_t iv[NONCE_BYTES];
	int err;

	nonce_put(iv, s->cipher, nonce);
	/* It takes its plaintext in one piece. */
	if (head.len)
		memmove(out, head.data, head.len);
	if (tail.len)
		memcpy(out + head.len, tail.data, tail.len);
	if (s->cipher == SEAL_AES256_GCM)
		err = crypto_aead_aes256gcm_encrypt_afternm(out, NULL, out, len, NULL, 0, NULL, iv,
							    &s->aes);
	else
		err = crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, out, len, NULL, 0, NULL,
								iv, s->key);
	return err ? -EIO : 0;
}

static int sodium_open_record(struct seal *seal, uint64_t nonce, struct bytes cipher, uint8_t *out)
{
	const struct sodium_seal *s = (struct sodium_seal *)seal;
	uint8_t iv[NONCE_BYTES];
	int err;

	nonce_put(iv, s->cipher, nonce);
	if (s->cipher == SEAL_AES256_GCM)
		err = crypto_aead_aes256gcm_decrypt_afternm(out, NULL, NULL, cipher.data,
							    cipher.len, NULL, 0, iv, &s->aes);
	else
		err = crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, cipher.data,
								cipher.len, NULL, 0, iv, s->key);
	return err ? -EBADMSG : 0;
}

const struct seal_suite seal_sodium = {
	.name = "libsodium",
	.can = sodium_can,
	.make = sodium_make,
	.drop = sodium_drop,
	.seal = sodium_seal_record,
	.open = sodium_open_record,
};

/* --- libcrypto ------------------------------------------------------------------------------ */

#ifdef MESHNET_LIBCRYPTO
#include <dlfcn.h>
#include <openssl/evp.h>

#define TEXT_OF(x) #x
#define TEXT_OF_VALUE(x) TEXT_OF(x)
#define LIBCRYPTO_FILE "libcrypto.so." TEXT_OF_VALUE(OPENSSL_SHLIB_VERSION)

/* What we need of it.  It is not linked: its relocations alone cost every process 1.4 MB, and a
 * node that only forwards never seals a record. */
static struct {
	__typeof__(EVP_CIPHER_CTX_new) *ctx_new;
	__typeof__(EVP_CIPHER_CTX_free) *ctx_free;
	__typeof__(EVP_CIPHER_CTX_ctrl) *ctx_ctrl;
	__typeof__(EVP_CipherInit_ex) *init;
	__typeof__(EVP_CipherUpdate) *update;
	__typeof__(EVP_CipherFinal_ex) *final;
	__typeof__(EVP_chacha20_poly1305) *chacha20_poly1305;
	__typeof__(EVP_aes_256_gcm) *aes_256_gcm;
} evp;

/* Below this libsodium does it: the way to the cipher through libcrypto's layers is long, and out
 * of the cache for a packet that comes alone, about 20 us on a slow core. */
#define SMALL_BYTES 512u

struct crypto_seal {
	enum seal_cipher cipher;
	EVP_CIPHER_CTX *ctx;
	struct seal *small; /* libsodium's; NULL where it cannot do this cipher */
};

static void crypto_drop(struct seal *seal)
{
	struct crypto_seal *s = (struct crypto_seal *)seal;

	if (!s)
		return;
	evp.ctx_free(s->ctx); /* which wipes the key */
	sodium_drop(s->small);
	free(s);
}

static struct seal *crypto_make(enum seal_direction direction, enum seal_cipher cipher,
				const uint8_t key[SEAL_KEY_BYTES])
{
	struct crypto_seal *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->cipher = cipher;
	s->small = sodium_make(direction, cipher, key);
	s->ctx = evp.ctx_new();
	if (s->ctx &&
	    evp.init(s->ctx,
		     cipher == SEAL_AES256_GCM ? evp.aes_256_gcm() : evp.chacha20_poly1305(), NULL,
		     key, NULL, direction == SEAL_OUT) == 1)
		return (struct seal *)s;
	crypto_drop((struct seal *)s);
	return NULL;
}

/* One that was configured to do without a cipher says so only when it is wanted. */
static bool crypto_can(enum seal_cipher cipher)
{
	static const uint8_t key[SEAL_KEY_BYTES];
	struct seal *s = crypto_make(SEAL_OUT, cipher, key);

	crypto_drop(s);
	return s;
}

static bool update(EVP_CIPHER_CTX *ctx, struct bytes in, uint8_t *out)
{
	int n;

	return in.len == 0 ||
	       (in.len <= INT32_MAX && evp.update(ctx, out, &n, in.data, (int)in.len) == 1 &&
		(size_t)n == in.len);
}

static int crypto_seal_record(struct seal *seal, uint64_t nonce, struct bytes head,
			      struct bytes tail, uint8_t *out)
{
	const struct crypto_seal *s = (struct crypto_seal *)seal;
	uint8_t iv[NONCE_BYTES], *tag = out + head.len + tail.len;
	EVP_CIPHER_CTX *ctx = s->ctx;
	int n;

	if (s->small && head.len + tail.len <= SMALL_BYTES)
		return sodium_seal_record(s->small, nonce, head, tail, out);
	nonce_put(iv, s->cipher, nonce);
	if (evp.init(ctx, NULL, NULL, NULL, iv, 1) == 1 && update(ctx, head, out) &&
	    update(ctx, tail, out + head.len) && evp.final(ctx, tag, &n) == 1 &&
	    evp.ctx_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG_BYTES, tag) == 1)
		return 0;
	return -EIO;
}

static int crypto_open_record(struct seal *seal, uint64_t nonce, struct bytes cipher, uint8_t *out)
{
	const struct crypto_seal *s = (struct crypto_seal *)seal;
	uint8_t iv[NONCE_BYTES], tag[SEAL_TAG_BYTES];
	EVP_CIPHER_CTX *ctx = s->ctx;
	int n;

	if (s->small && cipher.len <= SMALL_BYTES + SEAL_TAG_BYTES)
		return sodium_open_record(s->small, nonce, cipher, out);
	if (cipher.len < SEAL_TAG_BYTES)
		return -EBADMSG;
	cipher.len -= SEAL_TAG_BYTES;
	memcpy(tag, cipher.data + cipher.len, sizeof tag);
	nonce_put(iv, s->cipher, nonce);
	if (evp.init(ctx, NULL, NULL, NULL, iv, 0) == 1 &&
	    evp.ctx_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, sizeof tag, tag) == 1 &&
	    update(ctx, cipher, out) && evp.final(ctx, out + cipher.len, &n) == 1)
		return 0;
	return -EBADMSG;
}

static const struct seal_suite libcrypto = {
	.name = "libcrypto",
	.can = crypto_can,
	.make = crypto_make,
	.drop = crypto_drop,
	.seal = crypto_seal_record,
	.open = crypto_open_record,
};

/* 0, or -ENOENT with `evp` as it was. */
static int evp_find(void *library)
{
	static const struct {
		const char *name;
		void *slot;
	} wanted[] = {
		{"EVP_CIPHER_CTX_new", &evp.ctx_new},
		{"EVP_CIPHER_CTX_free", &evp.ctx_free},
		{"EVP_CIPHER_CTX_ctrl", &evp.ctx_ctrl},
		{"EVP_CipherInit_ex", &evp.init},
		{"EVP_CipherUpdate", &evp.update},
		{"EVP_CipherFinal_ex", &evp.final},
		{"EVP_chacha20_poly1305", &evp.chacha20_poly1305},
		{"EVP_aes_256_gcm", &evp.aes_256_gcm},
	};
	void *found[sizeof wanted / sizeof *wanted];

	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
		if (!(found[i] = dlsym(library, wanted[i].name)))
			return -ENOENT;
	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
		memcpy(wanted[i].slot, &found[i], sizeof found[i]);
	return 0;
}

const struct seal_suite *seal_libcrypto(const char *file)
{
	static bool loaded;
	const char *name = file ? file : LIBCRYPTO_FILE;

	if (loaded)
		return &libcrypto;
	void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	loaded = library && evp_find(library) == 0 && crypto_can(SEAL_CHACHA20_POLY1305);
	if (loaded)
		return &libcrypto;
	if (library)
		log_info("%s lacks ChaCha20-Poly1305; libsodium's is used", name);
	else
		log_info("%s; libsodium's ChaCha20-Poly1305 is used", dlerror());
	if (library)
		dlclose(library);
	return NULL;
}
#else
const struct seal_suite *seal_libcrypto(const char *file)
{
	(void)file;
	return NULL;
}
#endif

const struct seal_suite *seal_suite(void)
{
	static const struct seal_suite *chosen;

	if (!chosen && !(chosen = seal_libcrypto(NULL)))
		chosen = &seal_sodium;
	return chosen;
}

/* Without the instructions AES is slow, and not safe from who can watch the cache. */
static bool aes_in_hardware(void)
{
#if defined(__aarch64__)
	unsigned long has = getauxval(AT_HWCAP);
	return (has & HWCAP_AES) && (has & HWCAP_PMULL);
#else
	return crypto_aead_aes256gcm_is_available();
#endif
}

unsigned seal_ciphers(void)
{
	static unsigned ciphers;

	if (!ciphers) {
		ciphers = SEAL_CHACHA20_POLY1305;
		if (aes_in_hardware() && seal_suite()->can(SEAL_AES256_GCM))
			ciphers |= SEAL_AES256_GCM;
	}
	return ciphers;
}

const char *seal_cipher_name(enum seal_cipher cipher)
{
	return cipher == SEAL_AES256_GCM ? "AES-256-GCM" : "ChaCha20-Poly1305";
}
