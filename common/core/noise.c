#include "core/noise.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#define BLAKE2B_BLOCK_BYTES 128
#define MESSAGES_MAX 3
#define TOKENS_MAX 6

enum token { T_END, T_E, T_S, T_EE, T_ES, T_SE, T_SS, T_PSK };

struct noise_pattern_info {
	const char *protocol;
	/* Static keys known beforehand: the initiator's to the responder, and the other way. */
	bool knows_initiator, knows_responder, has_psk;
	unsigned messages;
	uint8_t tokens[MESSAGES_MAX][TOKENS_MAX];
};

#define PROTOCOL(pattern) "Noise_" pattern "_25519_ChaChaPoly_BLAKE2b"
static const struct noise_pattern_info patterns[NOISE_PATTERN_COUNT] = {
	[NOISE_XX] = {PROTOCOL("XX"),
		      false,
		      false,
		      false,
		      3,
		      {{T_E}, {T_E, T_EE, T_S, T_ES}, {T_S, T_SE}}},
	[NOISE_KK] = {PROTOCOL("KK"), true, true, false, 2, {{T_E, T_ES, T_SS}, {T_E, T_EE, T_SE}}},
	[NOISE_IK] = {PROTOCOL("IK"),
		      false,
		      true,
		      false,
		      2,
		      {{T_E, T_ES, T_S, T_SS}, {T_E, T_EE, T_SE}}},
	[NOISE_XXPSK3] = {PROTOCOL("XXpsk3"),
			  false,
			  false,
			  true,
			  3,
			  {{T_E}, {T_E, T_EE, T_S, T_ES}, {T_S, T_SE, T_PSK}}},
	[NOISE_KKPSK0] = {PROTOCOL("KKpsk0"),
			  true,
			  true,
			  true,
			  2,
			  {{T_PSK, T_E, T_ES, T_SS}, {T_E, T_EE, T_SE}}},
	[NOISE_KKPSK2] = {PROTOCOL("KKpsk2"),
			  true,
			  true,
			  true,
			  2,
			  {{T_E, T_ES, T_SS}, {T_E, T_EE, T_SE, T_PSK}}},
	[NOISE_IKPSK2] = {PROTOCOL("IKpsk2"),
			  false,
			  true,
			  true,
			  2,
			  {{T_E, T_ES, T_S, T_SS}, {T_E, T_EE, T_SE, T_PSK}}},
};

/* --- hash, HMAC, HKDF --------------------------------------------------------------------- */

typedef crypto_generichash_blake2b_state hash_state;

static void hash_two(uint8_t out[NOISE_HASH_BYTES], const void *a, size_t a_len, const void *b,
		     size_t b_len)
{
	hash_state st;
	crypto_generichash_blake2b_init(&st, NULL, 0, NOISE_HASH_BYTES);
	crypto_generichash_blake2b_update(&st, a, a_len);
	crypto_generichash_blake2b_update(&st, b, b_len);
	crypto_generichash_blake2b_final(&st, out, NOISE_HASH_BYTES);
	sodium_memzero(&st, sizeof st);
}

/* HMAC with a 64-byte key over two parts (RFC 2104; BLAKE2b's own keyed mode is not HMAC). */
static void hmac(uint8_t out[NOISE_HASH_BYTES], const uint8_t key[NOISE_HASH_BYTES], const void *a,
		 size_t a_len, const void *b, size_t b_len)
{
	uint8_t pad[BLAKE2B_BLOCK_BYTES], inner[NOISE_HASH_BYTES];
	hash_state st;

	memset(pad, 0x36, sizeof pad);
	for (size_t i = 0; i < NOISE_HASH_BYTES; i++)
		pad[i] ^= key[i];
	crypto_generichash_blake2b_init(&st, NULL, 0, NOISE_HASH_BYTES);
	crypto_generichash_blake2b_update(&st, pad, sizeof pad);
	crypto_generichash_blake2b_update(&st, a, a_len);
	crypto_generichash_blake2b_update(&st, b, b_len);
	crypto_generichash_blake2b_final(&st, inner, sizeof inner);
	for (size_t i = 0; i < sizeof pad; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	hash_two(out, pad, sizeof pad, inner, sizeof inner);
	sodium_memzero(pad, sizeof pad);
	sodium_memzero(inner, sizeof inner);
	sodium_memzero(&st, sizeof st);
}

/* Section 4.3: out[i] = HMAC(temp, out[i-1] || i), `count` of them. */
static void hkdf(uint8_t out[][NOISE_HASH_BYTES], size_t count, const uint8_t ck[NOISE_HASH_BYTES],
		 const void *ikm, size_t ikm_len)
{
	uint8_t temp[NOISE_HASH_BYTES];
	hmac(temp, ck, ikm, ikm_len, "", 0);
	for (size_t i = 0; i < count; i++) {
		uint8_t n = (uint8_t)(i + 1);
		hmac(out[i], temp, i ? out[i - 1] : temp, i ? NOISE_HASH_BYTES : 0, &n, 1);
	}
	sodium_memzero(temp, sizeof temp);
}

/* --- cipher ------------------------------------------------------------------------------- */

static void encode_nonce(uint8_t out[12], uint64_t nonce)
{
	memset(out, 0, 4);
	for (unsigned i = 0; i < 8; i++)
		out[4 + i] = (uint8_t)(nonce >> (8 * i));
}

void noise_seal(const uint8_t key[NOISE_KEY_BYTES], uint64_t nonce, struct bytes ad,
		struct bytes plain, uint8_t *out)
{
	uint8_t npub[12];
	encode_nonce(npub, nonce);
	crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, plain.data, plain.len, ad.data, ad.len,
						  NULL, npub, key);
}

int noise_open(const uint8_t key[NOISE_KEY_BYTES], uint64_t nonce, struct bytes ad,
	       struct bytes cipher, uint8_t *out)
{
	uint8_t npub[12];
	encode_nonce(npub, nonce);
	if (crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, cipher.data, cipher.len,
						      ad.data, ad.len, npub, key))
		return -EBADMSG;
	return 0;
}

/* --- symmetric state ---------------------------------------------------------------------- */

static void mix_hash(struct noise *n, const void *data, size_t len)
{
	hash_two(n->h, n->h, sizeof n->h, data, len);
}

static void set_key(struct noise *n, const uint8_t k[NOISE_HASH_BYTES])
{
	memcpy(n->k, k, sizeof n->k);
	n->nonce = 0;
	n->has_key = true;
}

static void mix_key(struct noise *n, const uint8_t ikm[NOISE_KEY_BYTES])
{
	uint8_t out[2][NOISE_HASH_BYTES];
	hkdf(out, 2, n->ck, ikm, NOISE_KEY_BYTES);
	memcpy(n->ck, out[0], sizeof n->ck);
	set_key(n, out[1]);
	sodium_memzero(out, sizeof out);
}

static void mix_psk(struct noise *n)
{
	uint8_t out[3][NOISE_HASH_BYTES];
	hkdf(out, 3, n->ck, n->psk, sizeof n->psk);
	memcpy(n->ck, out[0], sizeof n->ck);
	mix_hash(n, out[1], sizeof out[1]);
	set_key(n, out[2]);
	sodium_memzero(out, sizeof out);
}

static size_t tag_bytes(const struct noise *n)
{
	return n->has_key ? NOISE_TAG_BYTES : 0;
}

static int encrypt_and_hash(struct noise *n, struct bytes plain, struct wbuf *w)
{
	uint8_t *out = wbuf_space(w, plain.len + tag_bytes(n));
	if (!out)
		return -ENOBUFS;
	if (n->has_key)
		noise_seal(n->k, n->nonce++, bytes_of(n->h, sizeof n->h), plain, out);
	else if (plain.len)
		memcpy(out, plain.data, plain.len);
	mix_hash(n, out, plain.len + tag_bytes(n));
	return 0;
}

static int decrypt_and_hash(struct noise *n, struct bytes cipher, uint8_t *out)
{
	if (n->has_key && noise_open(n->k, n->nonce++, bytes_of(n->h, sizeof n->h), cipher, out))
		return -EBADMSG;
	if (!n->has_key && cipher.len)
		memcpy(out, cipher.data, cipher.len);
	mix_hash(n, cipher.data, cipher.len);
	return 0;
}

/* --- tokens ------------------------------------------------------------------------------- */

static int mix_dh(struct noise *n, const uint8_t *secret, const uint8_t *public)
{
	uint8_t shared[NOISE_KEY_BYTES];
	/* libsodium answers -1 for an all-zero result: a low-order point contributes nothing. */
	int err = crypto_scalarmult_curve25519(shared, secret, public) ? -EBADMSG : 0;
	if (!err)
		mix_key(n, shared);
	sodium_memzero(shared, sizeof shared);
	return err;
}

/* The tokens that both ends treat alike.  "es" is the initiator's e with the responder's s. */
static int mix_token(struct noise *n, enum token t)
{
	switch (t) {
	case T_EE:
		return mix_dh(n, n->e.secret, n->re);
	case T_SS:
		return mix_dh(n, n->s.secret, n->rs);
	case T_ES:
		return n->initiator ? mix_dh(n, n->e.secret, n->rs) : mix_dh(n, n->s.secret, n->re);
	case T_SE:
		return n->initiator ? mix_dh(n, n->s.secret, n->re) : mix_dh(n, n->e.secret, n->rs);
	case T_PSK:
		mix_psk(n);
		return 0;
	default:
		return -EPROTO;
	}
}

/* Section 9.2: with a psk the ephemeral also goes into the key, so that it is never the same. */
static void mix_ephemeral(struct noise *n, const uint8_t public[NOISE_KEY_BYTES])
{
	mix_hash(n, public, NOISE_KEY_BYTES);
	if (n->pattern->has_psk)
		mix_key(n, public);
}

static int write_token(struct noise *n, enum token t, struct wbuf *w)
{
	if (t == T_E) {
		wbuf_copy(w, n->e.public, sizeof n->e.public);
		mix_ephemeral(n, n->e.public);
		return w->bad ? -ENOBUFS : 0;
	}
	if (t == T_S)
		return encrypt_and_hash(n, bytes_of(n->s.public, sizeof n->s.public), w);
	return mix_token(n, t);
}

static int read_token(struct noise *n, enum token t, struct rbuf *r)
{
	if (t == T_E) {
		rbuf_copy(r, n->re, sizeof n->re);
		mix_ephemeral(n, n->re);
		return r->bad ? -EBADMSG : 0;
	}
	if (t == T_S) {
		struct bytes c = rbuf_view(r, sizeof n->rs + tag_bytes(n));
		if (r->bad)
			return -EBADMSG;
		n->has_rs = true;
		return decrypt_and_hash(n, c, n->rs);
	}
	return mix_token(n, t);
}

/* --- handshake ---------------------------------------------------------------------------- */

void noise_keypair_from_secret(struct noise_keypair *kp, const uint8_t secret[NOISE_KEY_BYTES])
{
	memmove(kp->secret, secret, sizeof kp->secret);
	/* Cannot fail: the base point has no low order. */
	(void)crypto_scalarmult_curve25519_base(kp->public, kp->secret);
}

static void mix_known_keys(struct noise *n)
{
	const uint8_t *initiator = n->initiator ? n->s.public : n->rs;
	const uint8_t *responder = n->initiator ? n->rs : n->s.public;
	if (n->pattern->knows_initiator)
		mix_hash(n, initiator, NOISE_KEY_BYTES);
	if (n->pattern->knows_responder)
		mix_hash(n, responder, NOISE_KEY_BYTES);
}

int noise_init(struct noise *n, const struct noise_params *p)
{
	const struct noise_pattern_info *pattern = &patterns[p->pattern];
	bool needs_remote = p->initiator ? pattern->knows_responder : pattern->knows_initiator;

	if (!p->local || !p->ephemeral || (needs_remote && !p->remote) ||
	    (pattern->has_psk && !p->psk))
		return -EINVAL;
	memset(n, 0, sizeof *n);
	n->pattern = pattern;
	n->initiator = p->initiator;
	n->s = *p->local;
	noise_keypair_from_secret(&n->e, p->ephemeral);
	if (needs_remote) {
		memcpy(n->rs, p->remote, sizeof n->rs);
		n->has_rs = true;
	}
	if (pattern->has_psk)
		memcpy(n->psk, p->psk, sizeof n->psk);
	/* Every protocol name here is shorter than HASHLEN, so h is the name padded with zeroes. */
	assert(strlen(pattern->protocol) <= sizeof n->h);
	memcpy(n->h, pattern->protocol, strlen(pattern->protocol));
	memcpy(n->ck, n->h, sizeof n->ck);
	mix_hash(n, p->prologue.data, p->prologue.len);
	mix_known_keys(n);
	return 0;
}

bool noise_done(const struct noise *n)
{
	return n->step >= n->pattern->messages;
}

bool noise_writes_next(const struct noise *n)
{
	return !noise_done(n) && (n->step % 2 == 0) == n->initiator;
}

static int write_message(struct noise *n, struct bytes payload, struct wbuf *w)
{
	const uint8_t *tokens = n->pattern->tokens[n->step];
	for (size_t i = 0; i < TOKENS_MAX && tokens[i] != T_END; i++) {
		int err = write_token(n, tokens[i], w);
		if (err)
			return err;
	}
	n->step++;
	return encrypt_and_hash(n, payload, w);
}

static int read_message(struct noise *n, struct rbuf *r, uint8_t *payload, size_t size, size_t *len)
{
	const uint8_t *tokens = n->pattern->tokens[n->step];
	for (size_t i = 0; i < TOKENS_MAX && tokens[i] != T_END; i++) {
		int err = read_token(n, tokens[i], r);
		if (err)
			return err;
	}
	if (rbuf_left(r) < tag_bytes(n))
		return -EBADMSG;
	*len = rbuf_left(r) - tag_bytes(n);
	if (*len > size)
		return -ENOBUFS;
	n->step++;
	return decrypt_and_hash(n, rbuf_view(r, rbuf_left(r)), payload);
}

int noise_write(struct noise *n, struct bytes payload, struct wbuf *out)
{
	if (!noise_writes_next(n))
		return -EPROTO;
	struct noise next = *n;
	struct wbuf w = *out;
	int err = write_message(&next, payload, &w);
	if (!err) {
		*n = next;
		*out = w;
	}
	noise_wipe(&next);
	return err;
}

int noise_read(struct noise *n, struct bytes message, uint8_t *payload, size_t size, size_t *len)
{
	if (noise_done(n) || noise_writes_next(n))
		return -EPROTO;
	struct noise next = *n;
	struct rbuf r = rbuf_init(message.data, message.len);
	int err = read_message(&next, &r, payload, size, len);
	if (!err)
		*n = next;
	noise_wipe(&next);
	return err;
}

const uint8_t *noise_remote(const struct noise *n)
{
	return n->has_rs ? n->rs : NULL;
}

void noise_split(const struct noise *n, struct noise_keys *keys)
{
	uint8_t out[2][NOISE_HASH_BYTES];
	assert(noise_done(n));
	hkdf(out, 2, n->ck, "", 0);
	memcpy(keys->send, out[n->initiator ? 0 : 1], sizeof keys->send);
	memcpy(keys->receive, out[n->initiator ? 1 : 0], sizeof keys->receive);
	memcpy(keys->hash, n->h, sizeof keys->hash);
	sodium_memzero(out, sizeof out);
}

void noise_wipe(struct noise *n)
{
	sodium_memzero(n, sizeof *n);
}
