/* Who answers at a place holds the key, or is found out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sodium.h>
#include <string.h>

#include "core/keyproof.h"

#define PLACE "http:10.0.0.1:65533"

struct party {
	struct mesh_id id;
	uint8_t secret[MESH_SECRET_BYTES];
};

static struct party party(uint8_t n)
{
	struct party p;

	memset(p.secret, n, sizeof p.secret);
	crypto_scalarmult_base(p.id.b, p.secret);
	return p;
}

static struct keyproof_ask asked(uint8_t n)
{
	uint8_t random[KEYPROOF_BYTES];
	struct keyproof_ask a;

	memset(random, n, sizeof random);
	keyproof_ask(&a, random);
	return a;
}

static void test_holder(void **state)
{
	struct party gw = party(1), other = party(2);
	struct keyproof_ask a = asked(9), b = asked(8);
	uint8_t proof[KEYPROOF_BYTES];

	(void)state;
	assert_true(keyproof_answer(proof, &gw.id, gw.secret, a.challenge, PLACE));
	assert_true(keyproof_check(&a, &gw.id, PLACE, proof));
	assert_false(keyproof_check(&b, &gw.id, PLACE, proof)); /* of another question */
	assert_false(keyproof_check(&a, &other.id, PLACE, proof));
	/* It was asked by somebody in between, at whose place we are. */
	assert_false(keyproof_check(&a, &gw.id, "http:10.0.0.9:65533", proof));
	for (size_t bit = 0; bit < KEYPROOF_BYTES * 8; bit++) {
		proof[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(keyproof_check(&a, &gw.id, PLACE, proof));
		proof[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* Who does not hold the key cannot answer, whatever of it is public. */
static void test_claims(void **state)
{
	struct party gw = party(1), liar = party(2);
	struct keyproof_ask a = asked(9);
	uint8_t proof[KEYPROOF_BYTES];

	(void)state;
	assert_true(keyproof_answer(proof, &gw.id, liar.secret, a.challenge, PLACE));
	assert_false(keyproof_check(&a, &gw.id, PLACE, proof));
	memset(proof, 0, sizeof proof);
	assert_false(keyproof_check(&a, &gw.id, PLACE, proof));
}

/* Points of low order share a secret that everybody knows. */
static void test_no_key(void **state)
{
	struct party gw = party(1);
	struct keyproof_ask a = asked(9);
	static const struct mesh_id zero, one = {.b = {1}};
	uint8_t proof[KEYPROOF_BYTES];

	(void)state;
	assert_false(keyproof_answer(proof, &gw.id, gw.secret, zero.b, PLACE));
	assert_false(keyproof_answer(proof, &gw.id, gw.secret, one.b, PLACE));
	/* A gateway whose key is one could otherwise be anybody's. */
	for (int i = 0; i < 2; i++) {
		const struct mesh_id *id = i ? &one : &zero;
		(void)keyproof_answer(proof, id, gw.secret, a.challenge, PLACE);
		assert_false(keyproof_check(&a, id, PLACE, proof));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_holder),
		cmocka_unit_test(test_claims),
		cmocka_unit_test(test_no_key),
	};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
