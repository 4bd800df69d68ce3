/* The encrypted control channel as a state machine: no socket, no clock. */
#include <errno.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/limits.h"
#include "core/channel.h"

#define MAX_BODY 1000

struct side {
	struct noise_keypair key;
	struct mesh_id id;
	struct channel ch;
};

static void side_init(struct side *s, uint8_t seed, bool initiator, const struct mesh_id *expected)
{
	uint8_t secret[32], ephemeral[32];
	memset(secret, seed, sizeof secret);
	memset(ephemeral, seed + 1, sizeof ephemeral);
	noise_keypair_from_secret(&s->key, secret);
	memcpy(s->id.b, s->key.public, 32);
	struct channel_params p = {
		.initiator = initiator,
		.local = &s->key,
		.ephemeral = ephemeral,
		.expected = expected,
		.max_body = MAX_BODY,
	};
	assert_int_equal(channel_init(&s->ch, &p), 0);
}

static void pair_init(struct side s[2])
{
	side_init(&s[0], 10, true, NULL);
	side_init(&s[1], 20, false, NULL);
}

/* Passes handshake bodies until nobody has one; the first error. */
static int shake(struct side s[2])
{
	uint8_t body[FRAME_HANDSHAKE_MAX_BYTES];
	for (int turn = 0; turn < 6; turn++) {
		struct side *from = &s[turn % 2], *to = &s[1 - turn % 2];
		long len = channel_output(&from->ch, body);
		if (len < 0)
			return (int)len;
		if (len == 0)
			continue;
		int err = channel_input(&to->ch, bytes_of(body, (size_t)len));
		if (err)
			return err;
	}
	return 0;
}

static void test_handshake(void **state)
{
	(void)state;
	struct side s[2];
	pair_init(s);
	assert_false(channel_is_up(&s[0].ch));
	assert_null(channel_peer(&s[0].ch));
	assert_int_equal(channel_body_limit(&s[0].ch), FRAME_HANDSHAKE_MAX_BYTES);
	assert_int_equal(shake(s), 0);
	for (int i = 0; i < 2; i++) {
		assert_true(channel_is_up(&s[i].ch));
		assert_true(mesh_id_equal(channel_peer(&s[i].ch), &s[1 - i].id));
		assert_int_equal(channel_body_limit(&s[i].ch), MAX_BODY + CHANNEL_TAG_BYTES);
	}
	assert_memory_equal(s[0].ch.keys.hash, s[1].ch.keys.hash, NOISE_HASH_BYTES);
	assert_memory_equal(s[0].ch.keys.send, s[1].ch.keys.receive, 32);
	assert_memory_equal(s[0].ch.keys.receive, s[1].ch.keys.send, 32);
	assert_memory_not_equal(s[0].ch.keys.send, s[0].ch.keys.receive, 32);
}

static void test_initiator_knows_peer_before_it_shows_itself(void **state)
{
	(void)state;
	struct side s[2];
	uint8_t body[FRAME_HANDSHAKE_MAX_BYTES];
	pair_init(s);
	size_t len = (size_t)channel_output(&s[0].ch, body);
	assert_int_equal(channel_input(&s[1].ch, bytes_of(body, len)), 0);
	len = (size_t)channel_output(&s[1].ch, body);
	assert_int_equal(channel_input(&s[0].ch, bytes_of(body, len)), 0);
	assert_true(mesh_id_equal(channel_peer(&s[0].ch), &s[1].id));
	assert_null(channel_peer(&s[1].ch));
	assert_false(channel_is_up(&s[0].ch));
}

static void test_expected(void **state)
{
	(void)state;
	for (int who = 0; who < 2; who++) /* either end may insist */
		for (int wrong = 0; wrong < 2; wrong++) {
			struct side s[2];
			pair_init(s);
			struct mesh_id id = s[1 - who].id;
			id.b[31] ^= (uint8_t)wrong;
			side_init(&s[who], who ? 20 : 10, who == 0, &id);
			assert_int_equal(shake(s), wrong ? -EACCES : 0);
			assert_int_equal(channel_is_up(&s[who].ch), !wrong);
			if (wrong)
				assert_null(channel_peer(&s[who].ch));
		}
}

static void test_damaged_handshake(void **state)
{
	(void)state;
	for (int message = 0; message < 3; message++) {
		uint8_t body[FRAME_HANDSHAKE_MAX_BYTES + 1];
		static const long lengths[] = {32, 96, 64};
		for (size_t at = 0; at < (size_t)lengths[message]; at++) {
			struct side s[2];
			pair_init(s);
			for (int i = 0; i < message; i++) {
				long n = channel_output(&s[i % 2].ch, body);
				assert_int_equal(
					channel_input(&s[1 - i % 2].ch, bytes_of(body, (size_t)n)),
					0);
			}
			struct side *from = &s[message % 2], *to = &s[1 - message % 2];
			assert_int_equal(channel_output(&from->ch, body), lengths[message]);
			body[at] ^= 1;
			int err = channel_input(&to->ch, bytes_of(body, (size_t)lengths[message]));
			/* The first message is clear: damage to it shows in the second. */
			assert_int_equal(err ? err : shake((struct side[]){s[1], s[0]}), -EBADMSG);
			assert_false(channel_is_up(&to->ch));
		}
	}
}

static void test_handshake_shapes(void **state)
{
	(void)state;
	uint8_t body[FRAME_HANDSHAKE_MAX_BYTES + 1] = {9};
	static const size_t lengths[] = {0, 1, 31, 33, 64, sizeof body};
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		struct side s[2];
		pair_init(s);
		assert_int_equal(channel_input(&s[1].ch, bytes_of(body, lengths[i])), -EBADMSG);
		assert_int_equal(s[1].ch.state, CHANNEL_FAILED);
		assert_int_equal(channel_output(&s[1].ch, body), 0);
	}
	struct side s[2];
	pair_init(s); /* not the initiator's turn to hear anything */
	assert_int_equal(channel_input(&s[0].ch, bytes_of(body, 32)), -EBADMSG);
}

static void test_other_prologue(void **state)
{
	(void)state;
	/* Somebody speaking Noise_XX for another purpose gets nowhere. */
	struct side s[2];
	struct noise n;
	uint8_t e[32] = {3}, body[256];
	pair_init(s);
	struct noise_params p = {.pattern = NOISE_XX, .initiator = true, .local = &s[0].key};
	p.prologue = bytes_str("meshnet control 2");
	p.ephemeral = e;
	struct wbuf w = wbuf_init(body, sizeof body);
	size_t len;
	assert_int_equal(noise_init(&n, &p), 0);
	assert_int_equal(noise_write(&n, bytes_of(NULL, 0), &w), 0);
	assert_int_equal(channel_input(&s[1].ch, bytes_of(body, wbuf_len(&w))), 0);
	long out = channel_output(&s[1].ch, body);
	assert_true(out > 0);
	assert_int_equal(noise_read(&n, bytes_of(body, (size_t)out), e, 32, &len), -EBADMSG);
}

static void test_frames(void **state)
{
	(void)state;
	struct side s[2];
	uint8_t plain[MAX_BODY + 1], cipher[MAX_BODY + CHANNEL_TAG_BYTES], got[MAX_BODY];
	pair_init(s);
	assert_int_equal(channel_seal(&s[0].ch, bytes_of(plain, 1), cipher), -ENOTCONN);
	assert_int_equal(channel_open(&s[0].ch, bytes_of(cipher, 17), got), -ENOTCONN);
	assert_int_equal(shake(s), 0);
	for (size_t len = 0; len <= MAX_BODY; len++) {
		size_t from = len % 2;
		memset(plain, (int)len, sizeof plain);
		assert_int_equal(channel_seal(&s[from].ch, bytes_of(plain, len), cipher), 0);
		assert_int_equal(channel_open(&s[1 - from].ch,
					      bytes_of(cipher, len + CHANNEL_TAG_BYTES), got),
				 0);
		assert_memory_equal(got, plain, len);
	}
	assert_int_equal(channel_seal(&s[0].ch, bytes_of(plain, MAX_BODY + 1), cipher), -EMSGSIZE);
	assert_true(channel_is_up(&s[0].ch)); /* our own mistake does not end it */
}

/* What: 0 as it is, 1 damaged, 2 cut, 3 replayed, 4 reflected, 5 out of order, 6 too short. */
static void test_bad_frames(void **state)
{
	(void)state;
	for (int what = 0; what <= 6; what++) {
		struct side s[2];
		uint8_t a[64], b[64], got[64];
		pair_init(s);
		assert_int_equal(shake(s), 0);
		assert_int_equal(channel_seal(&s[0].ch, bytes_of("first", 5), a), 0);
		assert_int_equal(channel_seal(&s[0].ch, bytes_of("other", 5), b), 0);
		struct bytes body = bytes_of(a, 21);
		struct channel *to = &s[1].ch;
		if (what == 1)
			a[7] ^= 0x80;
		if (what == 2)
			body.len = 20;
		if (what == 3)
			assert_int_equal(channel_open(to, body, got), 0);
		if (what == 4)
			to = &s[0].ch;
		if (what == 5)
			body = bytes_of(b, 21);
		if (what == 6)
			body.len = CHANNEL_TAG_BYTES - 1;
		assert_int_equal(channel_open(to, body, got), what ? -EBADMSG : 0);
		assert_int_equal(channel_is_up(to), !what);
		if (what) /* an error is final, and the keys are gone */
			assert_true(sodium_is_zero(to->keys.send, 32));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handshake),
		cmocka_unit_test(test_initiator_knows_peer_before_it_shows_itself),
		cmocka_unit_test(test_expected),
		cmocka_unit_test(test_damaged_handshake),
		cmocka_unit_test(test_handshake_shapes),
		cmocka_unit_test(test_other_prologue),
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_bad_frames),
	};
	return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
