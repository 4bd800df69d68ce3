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

static void test_same_as_noise(void **state)
{
	const uint64_t nonces[] = {0, 1, UINT64_C(0x0102030405060708), UINT64_MAX};

	(void)state;
	for (unsigned u = 0; u < suite_count; u++) {
		struct seal *out = suites[u]->make(SEAL_OUT, key),
			    *in = suites[u]->make(SEAL_IN, key);
		assert_true(out && in);
		for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
			for (unsigned n = 0; n < 4; n++) {
				struct bytes p = bytes_of(plain, sizes[i]);
				noise_seal(key, nonces[n], bytes_of(NULL, 0), p, other);
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
		struct seal *out = suites[u]->make(SEAL_OUT, key);
		assert_non_null(out);
		noise_seal(key, 5, bytes_of(NULL, 0), bytes_of(plain, 5000), other);
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
	noise_seal(key, 9, bytes_of(NULL, 0), bytes_of(plain, 200), cipher);
	for (unsigned u = 0; u < suite_count; u++) {
		struct seal *in = suites[u]->make(SEAL_IN, key);
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
			struct seal *out = suites[a]->make(SEAL_OUT, key),
				    *in = suites[b]->make(SEAL_IN, key);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_as_noise),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_forgeries),
		cmocka_unit_test(test_suites_understand_each_other),
	};
	return cmocka_run_group_tests_name("seal", tests, setup, NULL);
}
