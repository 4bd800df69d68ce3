/* io/wguapi: what wireguard-go says, cut anywhere; and what we say to it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "io/wguapi.h"

#define K1 "89dc9ee155b53ece2095aa0e7152e2e9603c6fc447308c172255b2b0e40abeff"
#define K2 "0000000000000000000000000000000000000000000000000000000000000001"

/* As wireguard-go 0.0.20220316 prints it. */
static const char real[] = "private_key="
			   "300c5c0e4eed075a75a870e83f3cceca312f2d015d84fec5911b6f32eee7bf77\n"
			   "listen_port=5123\n"
			   "public_key=" K1 "\n"
			   "preshared_key="
			   "0000000000000000000000000000000000000000000000000000000000000000\n"
			   "protocol_version=1\n"
			   "endpoint=10.9.0.2:41000\n"
			   "last_handshake_time_sec=1700000000\n"
			   "last_handshake_time_nsec=5\n"
			   "tx_bytes=12345678901234\n"
			   "rx_bytes=42\n"
			   "persistent_keepalive_interval=0\n"
			   "allowed_ip=10.1.1.1/32\n"
			   "allowed_ip=fd00::1/128\n"
			   "public_key=" K2 "\n"
			   "endpoint=[fd00::2]:1\n"
			   "tx_bytes=1\n"
			   "rx_bytes=2\n"
			   "errno=0\n\n";

struct seen {
	struct wgdev_stat peers[4];
	int count, answer;
};

static int see(const struct wgdev_stat *s, void *ctx)
{
	struct seen *seen = ctx;

	assert_true(seen->count < 4);
	seen->peers[seen->count++] = *s;
	return seen->answer;
}

static void check_real(const struct seen *s)
{
	char text[NET_ADDR_TEXT], hex[65];

	assert_int_equal(s->count, 2);
	hex_encode(s->peers[0].key, 32, hex);
	assert_string_equal(hex, K1);
	assert_string_equal(net_addr_text(&s->peers[0].endpoint, text), "10.9.0.2:41000");
	assert_int_equal(s->peers[0].handshake_s, 1700000000);
	assert_true(s->peers[0].tx_bytes == 12345678901234);
	assert_int_equal(s->peers[0].rx_bytes, 42);
	assert_string_equal(net_addr_text(&s->peers[1].endpoint, text), "[fd00::2]:1");
	assert_int_equal(s->peers[1].handshake_s, 0);
	assert_int_equal(s->peers[1].rx_bytes, 2);
}

static void real_answer_cut_anywhere(void **state)
{
	(void)state;
	for (size_t cut = 0; cut <= strlen(real); cut++) {
		struct seen s = {.count = 0};
		struct wguapi p;

		wguapi_init(&p, see, &s);
		wguapi_feed(&p, real, cut);
		assert_int_equal(p.done, cut == strlen(real));
		wguapi_feed(&p, real + cut, strlen(real) - cut);
		assert_true(p.done);
		assert_int_equal(p.result, 0);
		check_real(&s);
	}
}

static int result_of(const char *text)
{
	struct wguapi p;

	wguapi_init(&p, NULL, NULL);
	wguapi_feed(&p, text, strlen(text));
	return p.result;
}

static void errors(void **state)
{
	char line[WGUAPI_LINE_MAX + 8];

	(void)state;
	assert_int_equal(result_of("errno=-22\n\n"), -22);
	assert_int_equal(result_of("errno=98\n\n"), -98);
	assert_int_equal(result_of("errno=x\n\n"), -EBADMSG);
	assert_int_equal(result_of("errno=0\n\nmore"), -EBADMSG);
	assert_int_equal(result_of("errno=0\n\n\n"), -EBADMSG);
	assert_int_equal(result_of("nothing\n\n"), -EBADMSG);
	assert_int_equal(result_of("public_key=12\n\n"), -EBADMSG);
	assert_int_equal(result_of("public_key=" K1 "\nrx_bytes=-1\n\n"), -EBADMSG);
	assert_int_equal(result_of("public_key=" K1 "\nrx_bytes=99999999999999999999\n\n"),
			 -EBADMSG);
	memset(line, 'a', sizeof line);
	line[sizeof line - 1] = '\0';
	assert_int_equal(result_of(line), -EBADMSG);
	/* An endpoint with a zone is no address of ours, and no error. */
	assert_int_equal(result_of("public_key=" K1 "\nendpoint=[fe80::1%eth0]:5\nerrno=0\n\n"), 0);
}

static void the_visitor_ends_the_list(void **state)
{
	struct seen s = {.answer = -7};
	struct wguapi p;

	(void)state;
	wguapi_init(&p, see, &s);
	wguapi_feed(&p, real, strlen(real));
	assert_int_equal(p.result, -7);
	assert_int_equal(s.count, 1);
}

static void requests(void **state)
{
	char out[WGUAPI_REQUEST_MAX] = "";
	uint8_t secret[32] = {1}, psk[32] = {2};
	struct wgdev_peer p = {.key = {3}, .psk = psk, .keepalive_s = 25};

	(void)state;
	size_t len = wguapi_device(out, secret, 51820);
	assert_int_equal(len, strlen(out));
	assert_string_equal(out, "set=1\nprivate_key=0100000000000000000000000000000000000000000000"
				 "000000000000000000\nlisten_port=51820\n\n");
	net_addr_parse(&p.endpoint, "[fd00::1]:5", 0);
	net_prefix_parse(&p.allowed[0], "10.117.0.5/32");
	net_prefix_parse(&p.allowed[1], "::/0");
	len = wguapi_peer(out, &p);
	assert_int_equal(len, strlen(out));
	assert_string_equal(
		out, "set=1\npublic_key=0300000000000000000000000000000000000000000000000000000000"
		     "000000\npreshared_key=020000000000000000000000000000000000000000000000000000"
		     "0000000000\nendpoint=[fd00::1]:5\nreplace_allowed_ips=true\n"
		     "allowed_ip=10.117.0.5/32\nallowed_ip=::/0\npersistent_keepalive_interval=25\n"
		     "\n");
	len = wguapi_endpoint(out, psk, &p.endpoint);
	assert_int_equal(len, strlen(out));
	assert_string_equal(out, "set=1\npublic_key=02000000000000000000000000000000000000000000000"
				 "00000000000000000\nupdate_only=true\nendpoint=[fd00::1]:5\n\n");
	len = wguapi_remove(out, psk);
	assert_int_equal(len, strlen(out));
	assert_string_equal(out, "set=1\npublic_key=02000000000000000000000000000000000000000000000"
				 "00000000000000000\nremove=true\n\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_answer_cut_anywhere),
		cmocka_unit_test(errors),
		cmocka_unit_test(the_visitor_ends_the_list),
		cmocka_unit_test(requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
