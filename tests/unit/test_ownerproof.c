/* The proof that a call about a lease is its owner's: right at the gateway it is for, and nowhere
 * else; wrong when anything in it was changed; not to be made of what can be read on the way. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "core/ownerproof.h"

static struct ownerproof_key pair(uint8_t seed)
{
	struct ownerproof_key k;

	memset(k.secret, seed, sizeof k.secret);
	crypto_scalarmult_base(k.public.b, k.secret);
	return k;
}

static const struct ownerproof_call call = {.call = "requestConnection",
					    .sid = "abc",
					    .method = "wireguard",
					    .options = "{\"a\":1}",
					    .stamp = 77};

static void test_good(void **state)
{
	struct ownerproof_key gateway = pair(1), other = pair(2), own = pair(3), key, again,
			      at_other;
	uint8_t proof[OWNERPROOF_BYTES];

	(void)state;
	ownerproof_key(own.secret, &gateway.public, &key);
	ownerproof_key(own.secret, &gateway.public, &again);
	ownerproof_key(own.secret, &other.public, &at_other);
	assert_memory_equal(&key, &again, sizeof key);
	assert_false(mesh_id_equal(&key.public, &at_other.public));
	assert_false(mesh_id_equal(&key.public, &own.public));
	assert_int_equal(ownerproof_make(&key, &gateway.public, &call, proof), 0);
	assert_true(ownerproof_good(gateway.secret, &gateway.public, &key.public, &call, proof));
	assert_false(ownerproof_good(other.secret, &other.public, &key.public, &call, proof));
	assert_false(
		ownerproof_good(gateway.secret, &gateway.public, &at_other.public, &call, proof));
}

static void test_changed(void **state)
{
	struct ownerproof_key gateway = pair(1), own = pair(3), key;
	uint8_t proof[OWNERPROOF_BYTES];
	struct ownerproof_call c[5] = {call, call, call, call, call};

	(void)state;
	ownerproof_key(own.secret, &gateway.public, &key);
	assert_int_equal(ownerproof_make(&key, &gateway.public, &call, proof), 0);
	c[0].call = "releaseConnection";
	c[1].sid = "ab";
	c[2].method = "fastd";
	c[3].options = "{\"a\":2}";
	c[4].stamp++;
	for (size_t i = 0; i < 5; i++)
		assert_false(ownerproof_good(gateway.secret, &gateway.public, &key.public, &c[i],
					     proof));
	/* the same letters, divided in another way */
	c[0] = call;
	c[0].sid = "abcw";
	c[0].method = "ireguard";
	assert_false(ownerproof_good(gateway.secret, &gateway.public, &key.public, &c[0], proof));
	for (size_t i = 0; i < sizeof proof; i++) {
		proof[i] ^= 0x40;
		assert_false(ownerproof_good(gateway.secret, &gateway.public, &key.public, &call,
					     proof));
		proof[i] ^= 0x40;
	}
	assert_true(ownerproof_good(gateway.secret, &gateway.public, &key.public, &call, proof));
}

/* A stranger has both public keys and a proof that he read. */
static void test_stranger(void **state)
{
	struct ownerproof_key gateway = pair(1), own = pair(3), stranger = pair(9), key;
	struct mesh_id none = {0};
	uint8_t proof[OWNERPROOF_BYTES] = {0};

	(void)state;
	ownerproof_key(own.secret, &gateway.public, &key);
	stranger.public = key.public; /* says that he is the subscriber */
	assert_int_equal(ownerproof_make(&stranger, &gateway.public, &call, proof), 0);
	assert_false(ownerproof_good(gateway.secret, &gateway.public, &key.public, &call, proof));
	/* a key with which everybody has the same secret */
	assert_int_equal(ownerproof_make(&key, &none, &call, proof), -EBADMSG);
	none.b[0] = 1;
	assert_int_equal(ownerproof_make(&key, &none, &call, proof), -EBADMSG);
	assert_false(ownerproof_good(gateway.secret, &gateway.public, &none, &call, proof));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_changed),
		cmocka_unit_test(test_stranger),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
