/* What methods read of each other's options and answers, and of their programs' files. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <json-c/json.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/id.h"
#include "io/fastd.h"
#include "io/wgpeers.h"
#include "tunnel/tunopt.h"

static struct json_object *parse(const char *text)
{
	struct json_object *o = json_tokener_parse(text);

	assert_non_null(o);
	return o;
}

static bool key_of(const char *text, uint8_t out[32])
{
	struct json_object *o = parse(text);
	bool ok = tunopt_key(o, "k", out);

	json_object_put(o);
	return ok;
}

static void keys(void **state)
{
	uint8_t key[32], want[32];
	struct json_object *o = json_object_new_object();

	(void)state;
	memset(want, 0xa5, sizeof want);
	tunopt_set_key(o, "k", want);
	assert_true(tunopt_key(o, "k", key));
	assert_memory_equal(key, want, sizeof key);
	assert_false(tunopt_key(o, "other", key));
	assert_false(tunopt_key(NULL, "k", key));
	json_object_put(o);
	assert_false(key_of("{\"k\":\"\"}", key));
	assert_false(key_of("{\"k\":5}", key));
	assert_false(key_of("{\"k\":\"pQ==\"}", key));
	/* All zero, a byte too many, no base64, a NUL in it. */
	assert_false(key_of("{\"k\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"}", key));
	assert_false(key_of("{\"k\":\"paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWl\"}", key));
	assert_false(key_of("{\"k\":\"paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpa*=\"}", key));
	assert_false(key_of("{\"k\":\"paWlpaWl\\u0000\"}", key));
}

static void numbers(void **state)
{
	struct json_object *o = parse("{\"a\":5,\"b\":-1,\"c\":\"5\",\"d\":5000000000}");
	uint32_t v = 0;

	(void)state;
	assert_true(tunopt_u32(o, "a", 5, 5, &v));
	assert_int_equal(v, 5);
	assert_false(tunopt_u32(o, "a", 6, 9, &v));
	assert_false(tunopt_u32(o, "b", 0, 9, &v));
	assert_false(tunopt_u32(o, "c", 0, 9, &v));
	assert_false(tunopt_u32(o, "d", 0, UINT32_MAX, &v));
	json_object_put(o);
}

static size_t endpoints(const char *answer, const char *server,
			struct net_addr out[TUNOPT_ADDRS_MAX])
{
	struct json_object *o = parse(answer);
	struct net_addr a = {0};

	if (*server)
		assert_int_equal(net_addr_parse(&a, server, 65533), 0);
	size_t n = tunopt_endpoints(o, &a, out);
	json_object_put(o);
	return n;
}

static void where_the_server_is(void **state)
{
	static const char many[] = "{\"port\":7,\"endpoints\":[\"192.0.2.1:7\",\"127.0.0.1:7\","
				   "\"fe80::1\",\"[fd00::1]:9\",5,\"0.0.0.0:7\",\"224.0.0.1:7\","
				   "\"192.0.2.2\",\"192.0.2.3:8\"]}";
	struct net_addr out[TUNOPT_ADDRS_MAX];
	char text[NET_ADDR_TEXT];

	(void)state;
	/* Over the mesh: what the answer names, but ourselves, groups and what has no port. */
	assert_int_equal(endpoints(many, "", out), 3);
	assert_string_equal(net_addr_text(&out[0], text), "192.0.2.1:7");
	assert_string_equal(net_addr_text(&out[1], text), "[fd00::1]:9");
	assert_string_equal(net_addr_text(&out[2], text), "192.0.2.3:8");
	/* Asked over IP: there, and nowhere else. */
	assert_int_equal(endpoints(many, "192.0.2.3", out), 2);
	assert_string_equal(net_addr_text(&out[0], text), "192.0.2.3:7");
	assert_string_equal(net_addr_text(&out[1], text), "192.0.2.3:8");
	assert_int_equal(endpoints("{\"port\":70000}", "192.0.2.3", out), 0);
	assert_int_equal(endpoints("{}", "", out), 0);
	assert_int_equal(endpoints("{\"endpoints\":{}}", "", out), 0);
}

/* As fastd 22 prints it. */
#define FASTD_HEAD                                                                                 \
	"{ \"uptime\": 1382, \"statistics\": { }, \"peers\": { \"ba1d\": { \"name\": \"peer\","
static int connected(const char *text)
{
	return fastd_status_connected(text, strlen(text));
}

static void fastd_says(void **state)
{
	(void)state;
	assert_int_equal(connected(FASTD_HEAD " \"connection\": null } } }"), 0);
	assert_int_equal(connected(FASTD_HEAD " \"connection\": { \"established\": 1057 } } } }"),
			 1);
	assert_int_equal(connected("{ \"peers\": { } }"), 0);
	assert_int_equal(connected("{ \"peers\": { \"a\": 5 } }"), 0);
	assert_int_equal(connected("{ \"peers\": [] }"), -EBADMSG);
	assert_int_equal(connected("[]"), -EBADMSG);
	assert_int_equal(connected(""), -EBADMSG);
	assert_int_equal(connected(FASTD_HEAD), -EBADMSG); /* cut */
	assert_false(fastd_key_valid("12"));
	assert_false(fastd_key_valid("zz"));
}

#define HEX(c) c c c c c c c c c c c c c c c c

static void places_are_kept(void **state)
{
	static const char text[] =
		HEX("0102") " 192.0.2.1:5\n"
			    "nonsense\n" HEX("0304") " [fd00::1]:6\n" HEX(
				    "0506") " 192.0.2.1\n" HEX("0708") " 192.0.2.1:7";
	char dir[] = "/tmp/wgpeers-XXXXXX", path[64], got[NET_ADDR_TEXT];
	struct wgpeers *p = wgpeers_new();
	uint8_t a[32], b[32], c[32];
	struct net_addr where, none = {0};
	struct stat st;

	(void)state;
	for (int i = 0; i < 32; i++) {
		a[i] = (uint8_t)(i % 2 + 1);
		b[i] = (uint8_t)(i % 2 + 3);
		c[i] = (uint8_t)(i % 2 + 7);
	}
	wgpeers_parse(p, text, strlen(text));
	where = wgpeers_get(p, a);
	assert_string_equal(net_addr_text(&where, got), "192.0.2.1:5");
	where = wgpeers_get(p, b);
	assert_string_equal(net_addr_text(&where, got), "[fd00::1]:6");
	assert_int_equal(wgpeers_get(p, c).family, 0); /* a line that is cut */
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/peers", dir);
	assert_int_equal(wgpeers_save(p, path), 0); /* nothing has changed */
	assert_int_equal(access(path, F_OK), -1);
	wgpeers_set(p, a, &none);
	assert_int_equal(wgpeers_save(p, path), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	wgpeers_free(p);
	p = wgpeers_load(path);
	assert_int_equal(wgpeers_get(p, a).family, 0);
	assert_int_equal(wgpeers_get(p, b).port, 6);
	wgpeers_set(p, b, &none);
	assert_int_equal(wgpeers_save(p, path), 0);
	assert_int_equal(access(path, F_OK), -1);
	wgpeers_free(p);
	rmdir(dir);
}

static void sids(void **state)
{
	/* BLAKE2b with a key, as others compute it: a subscriber's password outlives versions. */
	static const char expected[] = "43f5ccafe5afc5b810756184a24cdb8980ca46b3cd554e3a";
	uint8_t at[2][TUNOPT_SID_KEY], key[32], secret[24];
	char text[2 * sizeof secret + 1];
	struct map m;
	int values[2];

	(void)state;
	map_init(&m, TUNOPT_SID_KEY, 8, 1);
	tunopt_sid_key(at[0], "one");
	tunopt_sid_key(at[1], "two");
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(map_put(&m, at[i], &values[i]), 0);
	assert_ptr_equal(tunopt_by_sid(&m, "one"), &values[0]);
	assert_ptr_equal(tunopt_by_sid(&m, "two"), &values[1]);
	assert_null(tunopt_by_sid(&m, "on"));
	assert_null(tunopt_by_sid(&m, ""));
	map_free(&m);
	for (uint8_t i = 0; i < sizeof key; i++)
		key[i] = i;
	tunopt_sid_secret(key, "abc", secret, sizeof secret);
	hex_encode(secret, sizeof secret, text);
	assert_string_equal(text, expected);
	tunopt_sid_secret(key, "abd", secret, sizeof secret);
	hex_encode(secret, sizeof secret, text);
	assert_string_not_equal(text, expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys),
		cmocka_unit_test(numbers),
		cmocka_unit_test(where_the_server_is),
		cmocka_unit_test(fastd_says),
		cmocka_unit_test(places_are_kept),
		cmocka_unit_test(sids),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
