/* The certificate as OpenSSL reads it, since that is who will. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/selfsigned.h"

static char dir[64];

static void file(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fputs(text, f) >= 0, 1);
	assert_int_equal(fclose(f), 0);
}

/* Output of `openssl ARGS`, run in `dir`. */
static const char *openssl(const char *args)
{
	static char out[4096];
	char line[512];
	size_t len;
	FILE *p;

	snprintf(line, sizeof line, "cd %s && openssl %s 2>&1", dir, args);
	p = popen(line, "r");
	assert_non_null(p);
	len = fread(out, 1, sizeof out - 1, p);
	out[len] = '\0';
	if (pclose(p) != 0)
		fail_msg("openssl %s: %s", args, out);
	return out;
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/meshnet-cert-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	static const char *const names[] = {"c", "k"};
	char path[128];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		unlink(path);
	}
	return rmdir(dir);
}

static void test_openssl_accepts_it(void **state)
{
	char name[SELFSIGNED_NAME_MAX + 1], public_key[512];
	uint8_t seed[SELFSIGNED_SEED_BYTES] = {0};
	struct selfsigned s;

	(void)state;
	memset(name, 'n', sizeof name);
	/* Lengths of one and of two bytes, and serial numbers that would be negative. */
	for (size_t len = 1; len < sizeof name; len += 7) {
		seed[0] = (uint8_t)len;
		name[len] = '\0';
		assert_int_equal(selfsigned_make(&s, seed, name), 0);
		file("c", s.certificate);
		file("k", s.key);
		assert_non_null(strstr(openssl("verify -check_ss_sig -CAfile c c"), "OK"));
		assert_non_null(strstr(openssl("x509 -noout -subject -in c"), name));
		assert_non_null(
			strstr(openssl("x509 -noout -fingerprint -sha256 -in c"), s.fingerprint));
		assert_non_null(strstr(openssl("x509 -noout -dates -in c"), "9999"));
		snprintf(public_key, sizeof public_key, "%s", openssl("x509 -noout -pubkey -in c"));
		assert_string_equal(public_key, openssl("pkey -pubout -in k"));
		name[len] = 'n';
	}
}

static void test_same_seed_same_bytes(void **state)
{
	uint8_t seed[SELFSIGNED_SEED_BYTES] = {7};
	struct selfsigned a, b;

	(void)state;
	assert_int_equal(selfsigned_make(&a, seed, "gateway"), 0);
	assert_int_equal(selfsigned_make(&b, seed, "gateway"), 0);
	assert_memory_equal(&a, &b, sizeof a);
	seed[31] = 1;
	assert_int_equal(selfsigned_make(&b, seed, "gateway"), 0);
	assert_string_not_equal(a.fingerprint, b.fingerprint);
}

static void test_names(void **state)
{
	static const char *const bad[] = {"", "a\nb", "gr\xc3\xbc", "\x7f"};
	uint8_t seed[SELFSIGNED_SEED_BYTES] = {0};
	char big[SELFSIGNED_NAME_MAX + 2];
	struct selfsigned s;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(selfsigned_make(&s, seed, bad[i]), -EINVAL);
	memset(big, 'x', sizeof big);
	big[sizeof big - 1] = '\0';
	assert_int_equal(selfsigned_make(&s, seed, big), -EINVAL);
	big[sizeof big - 2] = '\0';
	assert_int_equal(selfsigned_make(&s, seed, big), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_openssl_accepts_it, setup, teardown),
		cmocka_unit_test(test_same_seed_same_bytes),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
