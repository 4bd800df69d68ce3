/* What strangers say of gateways, read by the subscriber's scan and by gatewayd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "gatewayd/api_peers.h"
#include "io/jsonrpc.h"
#include "subscriberd/api_scan.h"

static struct json_object *json(const char *text)
{
	return rpc_parse(text, strlen(text), NULL);
}

static void test_reads_a_gateway(void **state)
{
	struct json_object *o =
		json("{\"success\":true,\"gateway\":true,\"name\":\"g\\u001b[2J\",\"id\":\"ab\","
		     "\"gateways\":[\"10.0.0.1:7\",{\"name\":\"x\",\"address\":\"[fd00::1]:8\"},"
		     "{\"name\":\"y\",\"node\":\"zz\"},7,null,\"nonsense\",[]]}");
	struct net_addr told[WALK_TOLD_MAX];
	struct walk_gateway g;
	struct gw_peer peer;
	size_t n;
	(void)state;
	assert_true(api_scan_read_info(o, &g, told, &n));
	assert_string_equal(g.name, "g?[2J");
	assert_string_equal(g.id, "ab");
	assert_int_equal(n, 2);
	assert_int_equal(told[0].port, 7);
	assert_int_equal(told[1].family, 6);
	assert_true(gw_api_peers_read(o, &peer, told, &n));
	assert_string_equal(peer.name, "g?[2J");
	assert_int_equal(n, 2);
	json_object_put(o);
}

static void test_refuses_others(void **state)
{
	static const char *const texts[] = {"null",
					    "[]",
					    "7",
					    "{}",
					    "{\"gateway\":false}",
					    "{\"gateway\":\"true\"}",
					    "{\"gateway\":1}",
					    "{\"gateway\":null}"};
	struct net_addr told[WALK_TOLD_MAX];
	struct walk_gateway g;
	struct gw_peer peer;
	size_t n;
	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct json_object *o = json(texts[i]);
		assert_false(api_scan_read_info(o, &g, told, &n));
		assert_int_equal(n, 0);
		assert_false(gw_api_peers_read(o, &peer, told, &n));
		json_object_put(o);
	}
}

static void test_takes_no_more_than_it_has_room_for(void **state)
{
	char text[8192] = "{\"gateway\":true,\"gateways\":{\"a\":1}}";
	struct net_addr told[WALK_TOLD_MAX];
	struct walk_gateway g;
	struct gw_peer peer;
	size_t n, len;
	(void)state;
	struct json_object *o = json(text);
	assert_true(api_scan_read_info(o, &g, told, &n));
	assert_int_equal(n, 0);
	json_object_put(o);
	len = (size_t)snprintf(text, sizeof text, "{\"gateway\":true,\"gateways\":[");
	for (int i = 0; i < 200; i++)
		len += (size_t)snprintf(text + len, sizeof text - len, "%s\"10.0.0.%d:1\"",
					i ? "," : "", i);
	snprintf(text + len, sizeof text - len, "]}");
	o = json(text);
	assert_true(api_scan_read_info(o, &g, told, &n));
	assert_int_equal(n, WALK_TOLD_MAX);
	assert_true(gw_api_peers_read(o, &peer, told, &n));
	assert_int_equal(n, GW_PEERS_TOLD_MAX);
	json_object_put(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_a_gateway),
		cmocka_unit_test(test_refuses_others),
		cmocka_unit_test(test_takes_no_more_than_it_has_room_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
