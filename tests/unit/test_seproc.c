/* tunnel/seproc: what SoftEther keeps of passwords, its configurations. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tunnel/seproc.h"

/* FIPS 180's messages with SHA-0; the empty one is what SoftEther itself writes. */
static void hashes(void **state)
{
	static const struct {
		const char *password, *user, *hash;
	} cases[] = {
		{"", "", "+WzqGYrR3VYXrAhKPZLGEHcIwO8="},
		{"abc", "", "AWS4qRTNKl50xPf/CCxNl/Ht+IA="},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "",
		 "0lFu4az6W68z38HEceQ4RJ7xNMg="},
	};
	char hash[SE_HASH_TEXT], other[SE_HASH_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		se_password_hash(cases[i].password, cases[i].user, hash);
		assert_string_equal(hash, cases[i].hash);
	}
	se_password_hash("pw", "lease", hash);
	se_password_hash("pwLEASE", "", other);
	assert_string_equal(hash, other);
}

static void pem(void **state)
{
	char out[16];

	(void)state;
	se_pem_body("-----BEGIN X-----\nAAAA\nBB==\n-----END X-----\n", out, sizeof out);
	assert_string_equal(out, "AAAABB==");
	se_pem_body("-----BEGIN X-----\nAAAAAAAAAAAAAAAAAAAA\n", out, sizeof out);
	assert_string_equal(out, "");
	se_pem_body("", out, sizeof out);
	assert_string_equal(out, "");
}

static void configurations(void **state)
{
	static const uint8_t seed[SELFSIGNED_SEED_BYTES] = {1};
	struct selfsigned cert;
	struct se_server server = {.port = 5555, .password = "secret", .cert = &cert};
	struct se_account account = {.certificate = "AAAA",
				     .hub = "m0123456789",
				     .password = "hidden",
				     .device = "m9876543210",
				     .mac = {2, 0, 0, 0, 0xab, 1},
				     .control = "secret"};
	char out[SE_CONFIG_MAX];

	(void)state;
	assert_int_equal(selfsigned_make(&cert, seed, "x"), 0);
	assert_int_equal(se_server_config(&server, out, sizeof out), 0);
	assert_non_null(strstr(out, "uint Port 5555\n"));
	assert_non_null(strstr(out, "bool DisableNatTraversal true\n"));
	assert_null(strstr(out, "secret"));
	assert_int_equal(se_server_config(&server, out, 500), -ENAMETOOLONG);

	assert_int_equal(net_addr_parse(&account.server, "192.0.2.1:5555", 0), 0);
	assert_int_equal(se_client_config(&account, out, sizeof out), 0);
	assert_non_null(strstr(out, "string Hostname 192.0.2.1/tcp\n"));
	assert_non_null(strstr(out, "bool CheckServerCert true"));
	assert_non_null(strstr(out, "string MacAddress 02-00-00-00-AB-01\n"));
	assert_null(strstr(out, "hidden"));
	assert_null(strstr(out, "secret"));
	assert_int_equal(se_client_config(&account, out, 100), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hashes),
		cmocka_unit_test(pem),
		cmocka_unit_test(configurations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
