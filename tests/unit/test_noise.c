/* Noise against the published vectors, both ends, and against hostile messages. */
#include <errno.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/id.h"
#include "core/noise.h"

#define VECTORS "tests/vectors/noise.json"
#define TEXT_MAX 4096

static const char *const pattern_names[NOISE_PATTERN_COUNT] = {
	[NOISE_XX] = "XX",	   [NOISE_KK] = "KK",	      [NOISE_IK] = "IK",
	[NOISE_XXPSK3] = "XXpsk3", [NOISE_KKPSK0] = "KKpsk0", [NOISE_KKPSK2] = "KKpsk2",
	[NOISE_IKPSK2] = "IKpsk2",
};

/* --- vectors ------------------------------------------------------------------------------ */

static size_t unhex(json_object *v, const char *key, uint8_t *out, size_t size)
{
	json_object *field;
	if (!json_object_object_get_ex(v, key, &field))
		return 0;
	if (json_object_is_type(field, json_type_array)) {
		if (json_object_array_length(field) == 0)
			return 0;
		field = json_object_array_get_idx(field, 0);
	}
	const char *text = json_object_get_string(field);
	size_t len = strlen(text) / 2;
	assert_true(len <= size);
	assert_int_equal(hex_decode(text, out, len), 0);
	return len;
}

static enum noise_pattern pattern_of(const char *protocol)
{
	char name[64];
	for (int i = 0; i < NOISE_PATTERN_COUNT; i++) {
		snprintf(name, sizeof name, "Noise_%s_25519_ChaChaPoly_BLAKE2b", pattern_names[i]);
		if (strcmp(name, protocol) == 0)
			return (enum noise_pattern)i;
	}
	fail_msg("no pattern for %s", protocol);
	return NOISE_PATTERN_COUNT;
}

static void init_side(struct noise *n, json_object *v, const char *side, const char *protocol)
{
	uint8_t prologue[256], secret[32], remote[32], psk[32], ephemeral[32];
	struct noise_keypair local;
	char key[64];
#define FIELD(name) (snprintf(key, sizeof key, "%s_" name, side), key)
	size_t prologue_len = unhex(v, FIELD("prologue"), prologue, sizeof prologue);
	assert_int_equal(unhex(v, FIELD("static"), secret, 32), 32);
	assert_int_equal(unhex(v, FIELD("ephemeral"), ephemeral, 32), 32);
	bool has_remote = unhex(v, FIELD("remote_static"), remote, 32) == 32;
	bool has_psk = unhex(v, FIELD("psks"), psk, 32) == 32;
#undef FIELD
	noise_keypair_from_secret(&local, secret);
	struct noise_params p = {
		.pattern = pattern_of(protocol),
		.initiator = strcmp(side, "init") == 0,
		.prologue = bytes_of(prologue, prologue_len),
		.local = &local,
		.remote = has_remote ? remote : NULL,
		.psk = has_psk ? psk : NULL,
		.ephemeral = ephemeral,
	};
	assert_int_equal(noise_init(n, &p), 0);
}

static void check_handshake_message(struct noise *from, struct noise *to, struct bytes payload,
				    struct bytes expected)
{
	uint8_t wire[TEXT_MAX], got[TEXT_MAX];
	size_t len;
	struct wbuf w = wbuf_init(wire, sizeof wire);

	assert_true(noise_writes_next(from));
	assert_false(noise_writes_next(to));
	assert_int_equal(noise_write(from, payload, &w), 0);
	assert_int_equal(wbuf_len(&w), expected.len);
	assert_memory_equal(wire, expected.data, expected.len);
	assert_int_equal(noise_read(to, expected, got, sizeof got, &len), 0);
	assert_int_equal(len, payload.len);
	assert_memory_equal(got, payload.data, len);
}

static void check_transport_message(struct noise_keys *from, struct noise_keys *to, uint64_t nonce,
				    struct bytes payload, struct bytes expected)
{
	uint8_t wire[TEXT_MAX], got[TEXT_MAX];
	struct bytes no_ad = {NULL, 0};

	noise_seal(from->send, nonce, no_ad, payload, wire);
	assert_int_equal(expected.len, payload.len + NOISE_TAG_BYTES);
	assert_memory_equal(wire, expected.data, expected.len);
	assert_int_equal(noise_open(to->receive, nonce, no_ad, expected, got), 0);
	assert_memory_equal(got, payload.data, payload.len);
}

static void check_hash(json_object *v, const struct noise_keys *a, const struct noise_keys *b)
{
	uint8_t hash[NOISE_HASH_BYTES];
	assert_memory_equal(a->hash, b->hash, sizeof hash);
	if (unhex(v, "handshake_hash", hash, sizeof hash))
		assert_memory_equal(a->hash, hash, sizeof hash);
}

static void check_vector(json_object *v)
{
	json_object *name, *messages;
	struct noise side[2]; /* initiator, responder */
	struct noise_keys keys[2];
	uint64_t nonce[2] = {0, 0};
	uint8_t payload[TEXT_MAX], cipher[TEXT_MAX];
	bool split = false;

	assert_true(json_object_object_get_ex(v, "protocol_name", &name));
	assert_true(json_object_object_get_ex(v, "messages", &messages));
	init_side(&side[0], v, "init", json_object_get_string(name));
	init_side(&side[1], v, "resp", json_object_get_string(name));
	for (size_t i = 0; i < json_object_array_length(messages); i++) {
		json_object *m = json_object_array_get_idx(messages, i);
		struct bytes p = bytes_of(payload, unhex(m, "payload", payload, sizeof payload));
		struct bytes c = bytes_of(cipher, unhex(m, "ciphertext", cipher, sizeof cipher));
		size_t from = i % 2, to = 1 - from;
		if (!noise_done(&side[0])) {
			check_handshake_message(&side[from], &side[to], p, c);
			continue;
		}
		if (!split) {
			noise_split(&side[0], &keys[0]);
			noise_split(&side[1], &keys[1]);
			check_hash(v, &keys[0], &keys[1]);
			split = true;
		}
		check_transport_message(&keys[from], &keys[to], nonce[from]++, p, c);
	}
	assert_true(split);
}

static void test_vectors(void **state)
{
	(void)state;
	json_object *root = json_object_from_file(VECTORS), *list;
	assert_non_null(root);
	assert_true(json_object_object_get_ex(root, "vectors", &list));
	assert_int_equal(json_object_array_length(list), 10);
	for (size_t i = 0; i < json_object_array_length(list); i++)
		check_vector(json_object_array_get_idx(list, i));
	json_object_put(root);
}

/* --- hostile messages --------------------------------------------------------------------- */

struct pair {
	struct noise_keypair key[2];
	struct noise side[2];
};

static void fill(uint8_t *out, uint8_t value)
{
	memset(out, value, 32);
}

static void pair_init(struct pair *p, enum noise_pattern pattern)
{
	uint8_t secret[32], psk[32], e[32];
	fill(psk, 9);
	for (uint8_t i = 0; i < 2; i++) {
		fill(secret, (uint8_t)(i + 1));
		noise_keypair_from_secret(&p->key[i], secret);
	}
	for (uint8_t i = 0; i < 2; i++) {
		fill(e, (uint8_t)(i + 3));
		struct noise_params np = {
			.pattern = pattern,
			.initiator = i == 0,
			.local = &p->key[i],
			.remote = p->key[1 - i].public,
			.psk = psk,
			.ephemeral = e,
		};
		assert_int_equal(noise_init(&p->side[i], &np), 0);
	}
}

static void test_missing_keys(void **state)
{
	(void)state;
	uint8_t e[32] = {1};
	struct noise n;
	struct noise_keypair kp;
	noise_keypair_from_secret(&kp, e);
	struct noise_params p = {.pattern = NOISE_KK, .local = &kp, .ephemeral = e};
	assert_int_equal(noise_init(&n, &p), -EINVAL);
	p.remote = kp.public;
	assert_int_equal(noise_init(&n, &p), 0);
	p.pattern = NOISE_KKPSK0;
	assert_int_equal(noise_init(&n, &p), -EINVAL);
	p.psk = e;
	assert_int_equal(noise_init(&n, &p), 0);
	p.ephemeral = NULL;
	assert_int_equal(noise_init(&n, &p), -EINVAL);
}

/* Every bit flip, truncation and extension of a message is refused and changes nothing, so the true
 * message still gets through afterwards. */
static void damage_message(struct noise *from, struct noise *to)
{
	uint8_t wire[256], bad[257], payload[256];
	size_t len;
	struct wbuf w = wbuf_init(wire, sizeof wire);
	assert_int_equal(noise_write(from, bytes_str("hello"), &w), 0);
	struct noise before = *to;
	bool clear = !noise_done(from) && to->step == 0 && wbuf_len(&w) == 32 + 5;
	for (size_t bit = 0; !clear && bit < wbuf_len(&w) * 8; bit++) {
		memcpy(bad, wire, sizeof wire);
		bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
		if (bit == 255) /* X25519 ignores this bit, but the hash does not */
			continue;
		assert_int_equal(
			noise_read(to, bytes_of(bad, wbuf_len(&w)), payload, sizeof payload, &len),
			-EBADMSG);
		assert_memory_equal(to, &before, sizeof before);
	}
	for (size_t cut = 0; cut < (clear ? 32 : wbuf_len(&w)); cut++)
		assert_int_equal(noise_read(to, bytes_of(wire, cut), payload, sizeof payload, &len),
				 -EBADMSG);
	assert_int_equal(noise_read(to, bytes_of(wire, wbuf_len(&w)), payload, 4, &len), -ENOBUFS);
	assert_memory_equal(to, &before, sizeof before);
	assert_int_equal(noise_read(to, bytes_of(wire, wbuf_len(&w)), payload, 5, &len), 0);
	assert_memory_equal(payload, "hello", 5);
}

static void test_damage(void **state)
{
	(void)state;
	for (int pattern = 0; pattern < NOISE_PATTERN_COUNT; pattern++) {
		struct pair p;
		pair_init(&p, (enum noise_pattern)pattern);
		for (size_t from = 0; !noise_done(&p.side[0]); from = 1 - from)
			damage_message(&p.side[from], &p.side[1 - from]);
		assert_true(noise_done(&p.side[1]));
		assert_memory_equal(noise_remote(&p.side[0]), p.key[1].public, 32);
		assert_memory_equal(noise_remote(&p.side[1]), p.key[0].public, 32);
	}
}

static void test_turns(void **state)
{
	(void)state;
	struct pair p;
	uint8_t wire[256], payload[16];
	size_t len;
	struct wbuf w = wbuf_init(wire, sizeof wire);
	pair_init(&p, NOISE_XX);
	assert_null(noise_remote(&p.side[0]));
	assert_int_equal(noise_write(&p.side[1], bytes_str(""), &w), -EPROTO);
	assert_int_equal(noise_read(&p.side[0], bytes_of(wire, 32), payload, 16, &len), -EPROTO);
	w.end = w.start + 31;
	assert_int_equal(noise_write(&p.side[0], bytes_str(""), &w), -ENOBUFS);
	assert_int_equal(wbuf_len(&w), 0);
	w.end = w.start + 32;
	assert_int_equal(noise_write(&p.side[0], bytes_str(""), &w), 0);
	assert_int_equal(noise_write(&p.side[0], bytes_str(""), &w), -EPROTO);
}

static void test_low_order_points(void **state)
{
	(void)state;
	static const char *const low[] = {
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	};
	for (size_t i = 0; i < sizeof low / sizeof *low; i++) {
		struct pair p;
		uint8_t wire[256], point[32], payload[64];
		size_t len;
		struct wbuf w = wbuf_init(wire, sizeof wire);
		assert_int_equal(hex_decode(low[i], point, 32), 0);
		pair_init(&p, NOISE_XX);
		/* As the initiator's ephemeral: the responder must not answer. */
		assert_int_equal(noise_read(&p.side[1], bytes_of(point, 32), payload, 64, &len), 0);
		assert_int_equal(noise_write(&p.side[1], bytes_str(""), &w), -EBADMSG);
		/* As a configured static key: the initiator must not begin. */
		uint8_t e[32] = {7};
		struct noise_params np = {.pattern = NOISE_KK, .initiator = true, .ephemeral = e};
		np.local = &p.key[0];
		np.remote = point;
		assert_int_equal(noise_init(&p.side[0], &np), 0);
		assert_int_equal(noise_write(&p.side[0], bytes_str(""), &w), -EBADMSG);
	}
}

static void test_wrong_psk_and_prologue(void **state)
{
	(void)state;
	for (int wrong = 0; wrong < 2; wrong++) {
		struct pair p;
		uint8_t wire[256], payload[64], e[32] = {5}, psk[32];
		size_t len;
		struct wbuf w = wbuf_init(wire, sizeof wire);
		pair_init(&p, NOISE_KKPSK0);
		fill(psk, wrong ? 8 : 9);
		struct noise_params np = {.pattern = NOISE_KKPSK0, .local = &p.key[1]};
		np.remote = p.key[0].public;
		np.psk = psk;
		np.ephemeral = e;
		np.prologue = bytes_str(wrong ? "" : "other");
		assert_int_equal(noise_init(&p.side[1], &np), 0);
		assert_int_equal(noise_write(&p.side[0], bytes_str("x"), &w), 0);
		assert_int_equal(
			noise_read(&p.side[1], bytes_of(wire, wbuf_len(&w)), payload, 64, &len),
			-EBADMSG);
	}
}

static void test_aead(void **state)
{
	(void)state;
	uint8_t key[32] = {1}, buf[64] = "in place", out[64];
	struct bytes ad = bytes_str("header");
	noise_seal(key, UINT64_MAX - 1, ad, bytes_of(buf, 8), buf);
	assert_int_equal(noise_open(key, UINT64_MAX, ad, bytes_of(buf, 24), out), -EBADMSG);
	assert_int_equal(
		noise_open(key, UINT64_MAX - 1, bytes_str("Header"), bytes_of(buf, 24), out),
		-EBADMSG);
	for (size_t len = 0; len < 24; len++)
		assert_int_equal(noise_open(key, UINT64_MAX - 1, ad, bytes_of(buf, len), out),
				 -EBADMSG);
	assert_int_equal(noise_open(key, UINT64_MAX - 1, ad, bytes_of(buf, 24), buf), 0);
	assert_memory_equal(buf, "in place", 8);
}

static void test_wipe(void **state)
{
	(void)state;
	struct pair p;
	pair_init(&p, NOISE_KK);
	noise_wipe(&p.side[0]);
	assert_true(sodium_is_zero((const uint8_t *)&p.side[0], sizeof p.side[0]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_missing_keys),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_low_order_points),
		cmocka_unit_test(test_wrong_psk_and_prologue),
		cmocka_unit_test(test_aead),
		cmocka_unit_test(test_wipe),
	};
	return cmocka_run_group_tests_name("noise", tests, NULL, NULL);
}
