/* Bulk sealing: RFC 8439's own example, Noise's cipher as oracle, and both suites against each
 * other, record by record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "base/log.h"
#include "core/noise.h"
#include "core/seal.h"

#define LARGE 65519u

static const struct seal_suite *suites[2] = {&seal_sodium};
static unsigned suite_count = 1;

static uint8_t key[SEAL_KEY_BYTES], plain[LARGE], cipher[LARGE + SEAL_TAG_BYTES],
	other[LARGE + SEAL_TAG_BYTES];

static const size_t sizes[] = {0, 1, 15, 16, 17, 63, 64, 65, 1000, 1436, 16384, 63027, LARGE};

static void quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

/* A library that is not there, and one that lacks the functions, change nothing. */
static int setup_libcrypto(void)
{
	log_set_sink(quiet);
	bool wrong = seal_libcrypto("libnone.so.0") || seal_libcrypto("libc.so.6");
	log_set_sink(NULL);
	suites[1] = seal_libcrypto(NULL);
	suite_count += suites[1] != NULL;
#ifdef MESHNET_LIBCRYPTO
	return wrong || !suites[1] ? -1 : 0;
#else
	return wrong || suites[1] ? -1 : 0;
#endif
}

static int setup(void **state)
{
	(void)state;
	if (sodium_init() < 0)
		return -1;
	for (size_t i = 0; i < sizeof key; i++)
		key[i] = (uint8_t)(i * 7 + 1);
	for (size_t i = 0; i < sizeof plain; i++)
		plain[i] = (uint8_t)(i * i >> 3);
	return setup_libcrypto();
}

/* Which cipher a test is about; each runs once for each. */
static enum seal_cipher now_cipher;

static struct seal *make(unsigned suite, enum seal_direction direction)
{
	return suites[suite]->make(direction, now_cipher, key);
}

/* Another way to the same bytes. */
static void oracle(uint64_t nonce, struct bytes p, uint8_t *out)
{
	uint8_t iv[12] = {0};

	if (now_cipher == SEAL_CHACHA20_POLY1305) {
		noise_seal(key, nonce, bytes_of(NULL, 0), p, out);
		return;
	}
	for (unsigned i = 0; i < 8; i++)
		iv[11 - i] = (uint8_t)(nonce >> 8 * i);
	crypto_aead_aes256gcm_encrypt(out, NULL, p.data, p.len, NULL, 0, NULL, iv, key);
}

static int take_chacha(void **state)
{
	(void)state;
	now_cipher = SEAL_CHACHA20_POLY1305;
	return 0;
}

/* libsodium, the oracle, has AES only where it knows the CPU's instructions. */
static bool oracle_has_aes(void)
{
	return crypto_aead_aes256gcm_is_available();
}

static bool cpu_has_aes(void)
{
#if defined(__aarch64__)
	unsigned long has = getauxval(AT_HWCAP);

	return (has & HWCAP_AES) && (has & HWCAP_PMULL);
#else
	return oracle_has_aes();
#endif
}

static int take_aes(void **state)
{
	(void)state;
	now_cipher = SEAL_AES256_GCM;
	return 0;
}

/* Test cases 13 and 14 of the GCM specification (McGrew and Viega, 2005). */
static void test_gcm_vectors(void **state)
{
	static const uint8_t zero[SEAL_KEY_BYTES],
		empty[] = {0x53, 0x0f, 0x8a, 0xfb, 0xc7, 0x45, 0x36, 0xb9,
			   0xa9, 0x63, 0xb4, 0xf1, 0xc4, 0xcb, 0x73, 0x8b},
		block[] = {0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e, 0xc5,
			   0xd3, 0xba, 0xf3, 0x9d, 0x18, 0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99,
			   0x6b, 0xf0, 0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19};
	uint8_t out[32];

	(void)state;
	for (unsigned u = 0; u < suite_count; u++) {
		struct seal *s;

		if (!suites[u]->can(SEAL_AES256_GCM))
			continue;
		s = suites[u]->make(SEAL_OUT, SEAL_AES256_GCM, zero);
		assert_non_null(s);
		assert_int_equal(suites[u]->seal(s, 0, bytes_of(NULL, 0), bytes_of(NULL, 0), out),
				 0);
		assert_memory_equal(out, empty, 16);
		assert_int_equal(suites[u]->seal(s, 0, bytes_of(zero, 16), bytes_of(NULL, 0), out),
				 0);
		assert_memory_equal(out, block, 32);
		suites[u]->drop(s);
	}
}

static void test_what_is_offered(void **state)
{
	(void)state;
	assert_true(seal_ciphers() & SEAL_CHACHA20_POLY1305);
	assert_int_equal((seal_ciphers() & SEAL_AES256_GCM) != 0,
			 cpu_has_aes() && seal_suite()->can(SEAL_AES256_GCM));
	for (unsigned u = 0; u < suite_count; u++) {
		assert_true(suites[u]->can(SEAL_CHACHA20_POLY1305));
		assert_int_equal(suites[u]->can(SEAL_AES256_GCM), oracle_has_aes() || u > 0);
	}
}

static void test_same_as_oracle(void **state)
{
	const uint64_t nonces[] = {0, 1, UINT64_C(0x0102030405060708), UINT64_MAX};

	(void)state;
	for (unsigned u = 0; u < suite_count; u++) {
		struct seal *out = make(u, SEAL_OUT), *in = make(u, SEAL_IN);
		assert_true(out && in);
		for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
			for (unsigned n = 0; n < 4; n++) {
				struct bytes p = bytes_of(plain, sizes[i]);
				oracle(nonces[n], p, other);
				assert_int_equal(suites[u]->seal(out, nonces[n], p,
								 bytes_of(NULL, 0), cipher),
						 0);
				assert_memory_equal(cipher, other, sizes[i] + SEAL_TAG_BYTES);
				/* Opened in place. */
				struct bytes c = bytes_of(cipher, sizes[i] + SEAL_TAG_BYTES);
				assert_int_equal(suites[u]->open(in, nonces[n], c, cipher), 0);
				assert_memory_equal(cipher, plain, sizes[i]);
			}
		suites[u]->drop(out);
		suites[u]->drop(in);
	}
}

/* In two parts, with the first in its place already, and all in place. */
static void test_parts(void **state)
{
	(void)state;
	for (unsigned u = 0; u < suite_count; u++) {
		struct seal *out = make(u, SEAL_OUT);
		assert_non_null(out);
		oracle(5, bytes_of(plain, 5000), other);
		for (size_t cut = 0; cut < 200; cut++) {
			assert_int_equal(suites[u]->seal(out, 5, bytes_of(plain, cut),
							 bytes_of(plain + cut, 5000 - cut), cipher),
					 0);
			assert_memory_equal(cipher, other, 5000 + SEAL_TAG_BYTES);
			memcpy(cipher, plain, cut);
			assert_int_equal(suites[u]->seal(out, 5, bytes_of(cipher, cut),
							 bytes_of(plain + cut, 5000 - cut), cipher),
					 0);
			assert_memory_equal(cipher, other, 5000 + SEAL_TAG_BYTES);
		}
		memcpy(cipher, plain, 5000);
		assert_int_equal(
			suites[u]->seal(out, 5, bytes_of(cipher, 5000), bytes_of(NULL, 0), cipher),
			0);
		assert_memory_equal(cipher, other, 5000 + SEAL_TAG_BYTES);
		suites[u]->drop(out);
	}
}

/* One bit anywhere, another number, a piece missing; and afterwards it still works. */
static void test_forgeries(void **state)
{
	uint8_t out[300];

	(void)state;
	oracle(9, bytes_of(plain, 200), cipher);
	for (unsigned u = 0; u < suite_count; u++) {
		struct seal *in = make(u, SEAL_IN);
		assert_non_null(in);
		for (unsigned bit = 0; bit < 8 * 216; bit++) {
			cipher[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(suites[u]->open(in, 9, bytes_of(cipher, 216), out),
					 -EBADMSG);
			cipher[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		assert_int_equal(suites[u]->open(in, 10, bytes_of(cipher, 216), out), -EBADMSG);
		for (size_t len = 0; len < 216; len++)
			assert_int_equal(suites[u]->open(in, 9, bytes_of(cipher, len), out),
					 -EBADMSG);
		assert_int_equal(suites[u]->open(in, 9, bytes_of(cipher, 216), out), 0);
		assert_memory_equal(out, plain, 200);
		suites[u]->drop(in);
		suites[u]->drop(NULL);
	}
}

/* The suites take turns at the two ends. */
static void test_suites_understand_each_other(void **state)
{
	(void)state;
	for (unsigned a = 0; a < suite_count; a++)
		for (unsigned b = 0; b < suite_count; b++) {
			struct seal *out = make(a, SEAL_OUT), *in = make(b, SEAL_IN);
			for (uint64_t n = 0; n < 200; n++) {
				size_t len = (size_t)(n * 7919 % 4000);
				assert_int_equal(suites[a]->seal(out, n, bytes_of(plain, len),
								 bytes_of(NULL, 0), cipher),
						 0);
				assert_int_equal(
					suites[b]->open(in, n,
							bytes_of(cipher, len + SEAL_TAG_BYTES),
							other),
					0);
				assert_memory_equal(other, plain, len);
			}
			suites[a]->drop(out);
			suites[b]->drop(in);
		}
	assert_ptr_equal(seal_suite(), suites[suite_count - 1]);
}

#define EACH(setup_)                                                                               \
	cmocka_unit_test_setup(test_same_as_oracle, setup_),                                       \
		cmocka_unit_test_setup(test_parts, setup_),                                        \
		cmocka_unit_test_setup(test_forgeries, setup_),                                    \
		cmocka_unit_test_setup(test_suites_understand_each_other, setup_)

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_is_offered),
					   EACH(take_chacha)};
	const struct CMUnitTest vectors[] = {cmocka_unit_test(test_gcm_vectors)};
	const struct CMUnitTest aes[] = {EACH(take_aes)};
	int failed = cmocka_run_group_tests_name("seal", tests, setup, NULL);

	failed += cmocka_run_group_tests_name("seal, vectors of AES", vectors, NULL, NULL);
	if (oracle_has_aes())
		failed += cmocka_run_group_tests_name("seal, AES", aes, NULL, NULL);
	return failed;
}
