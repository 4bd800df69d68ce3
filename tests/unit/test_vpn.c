/* The VPN apps: addresses of a subnet, what client and server say to each other, the command line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vpn/offer.h"
#include "vpn/store.h"
#include "vpn/vpn.h"

static struct net_prefix prefix(const char *text)
{
	struct net_prefix p = {0};

	if (text)
		assert_int_equal(net_prefix_parse(&p, text), 0);
	return p;
}

static int hosts_init(struct vpn_hosts *h, const char *subnet4, const char *subnet6)
{
	struct net_prefix p4 = prefix(subnet4), p6 = prefix(subnet6);

	return vpn_hosts_init(h, &p4, &p6);
}

static void expect_addr(const struct net_addr *a, const char *text)
{
	char buf[NET_ADDR_TEXT];

	assert_string_equal(net_addr_ip_text(a, buf), text);
}

/* Every host once, never the network, the server or the broadcast address. */
static void test_all_hosts(void **state)
{
	static const struct {
		const char *subnet4, *subnet6;
		unsigned clients;
	} cases[] = {
		{"10.200.0.0/24", NULL, 253},	    {"10.200.0.77/30", NULL, 1},
		{"10.200.0.0/24", "fd00::/126", 2}, {NULL, "fd00:200::/64", 65534},
		{"10.0.0.0/8", "fd00::/64", 65534}, {"10.0.0.0/29", "fd00::/64", 5},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct vpn_hosts h;
		unsigned count = 0;
		uint32_t host;
		assert_int_equal(hosts_init(&h, cases[i].subnet4, cases[i].subnet6), 0);
		while ((host = vpn_hosts_take(&h))) {
			struct net_addr a4 = vpn_hosts_addr4(&h, host),
					a6 = vpn_hosts_addr6(&h, host);
			assert_true(host >= 2 && host < h.end);
			assert_true(!a4.family || net_prefix_contains(&h.subnet4, &a4));
			assert_true(!a6.family || net_prefix_contains(&h.subnet6, &a6));
			count++;
		}
		assert_int_equal(count, cases[i].clients);
		vpn_hosts_give_back(&h, 2);
		assert_int_equal(vpn_hosts_take(&h), 2);
		assert_int_equal(vpn_hosts_take(&h), 0);
		vpn_hosts_free(&h);
	}
}

static void test_no_room(void **state)
{
	struct vpn_hosts h;

	(void)state;
	assert_int_equal(hosts_init(&h, NULL, NULL), -EINVAL);
	assert_int_equal(hosts_init(&h, "10.0.0.0/31", NULL), -EINVAL);
	assert_int_equal(hosts_init(&h, "10.0.0.1/32", NULL), -EINVAL);
	assert_int_equal(hosts_init(&h, NULL, "fd00::1/127"), -EINVAL);
	assert_int_equal(hosts_init(&h, "10.0.0.0/24", "fd00::1/128"), -EINVAL);
}

/* What was given back last comes last. */
static void test_reuse(void **state)
{
	struct vpn_hosts h;
	struct net_addr a;

	(void)state;
	assert_int_equal(hosts_init(&h, "10.1.2.0/24", "fd00::/64"), 0);
	assert_int_equal(vpn_hosts_take(&h), 2);
	vpn_hosts_give_back(&h, 2);
	assert_int_equal(vpn_hosts_take(&h), 3);
	a = vpn_hosts_addr4(&h, 1);
	expect_addr(&a, "10.1.2.1");
	a = vpn_hosts_addr6(&h, 300);
	expect_addr(&a, "fd00::12c");
	vpn_hosts_free(&h);
}

static void test_offer_round_trip(void **state)
{
	struct json_object *mesh = json_object_new_object(), *o;
	char why[VPN_TEXT_MAX];
	struct vpn_hosts h;
	struct vpn_offer got;

	(void)state;
	assert_int_equal(hosts_init(&h, "10.1.0.0/16", "fd00::/64"), 0);
	json_object_object_add(mesh, "mtu", json_object_new_int(1420));
	struct vpn_advice advice = {.routes = {prefix("192.168.7.0/24"), prefix("fd07::/64")},
				    .route_count = 2,
				    .dns_count = 1};
	assert_int_equal(net_addr_parse(&advice.dns[0], "10.1.0.1", 0), 0);
	o = vpn_offer_new(&h, 258, &advice, mesh);
	const char *text = json_object_to_json_string(o);
	assert_int_equal(vpn_offer_read(&got, (const uint8_t *)text, strlen(text), why), 0);
	expect_addr(&got.ip4.addr, "10.1.1.2");
	assert_int_equal(got.ip4.bits, 16);
	expect_addr(&got.gateway4, "10.1.0.1");
	expect_addr(&got.ip6.addr, "fd00::102");
	expect_addr(&got.gateway6, "fd00::1");
	assert_int_equal(json_object_get_int(json_object_object_get(got.mesh, "mtu")), 1420);
	assert_true(got.advice.route_count == 2 && got.advice.dns_count == 1);
	assert_true(got.advice.routes[1].addr.family == 6 && got.advice.routes[1].bits == 64);
	expect_addr(&got.advice.routes[0].addr, "192.168.7.0");
	expect_addr(&got.advice.dns[0], "10.1.0.1");
	vpn_offer_free(&got);
	json_object_put(o);
	vpn_hosts_free(&h);

	o = vpn_refusal_new("no \x1b[31mroom");
	text = json_object_to_json_string(o);
	assert_int_equal(vpn_offer_read(&got, (const uint8_t *)text, strlen(text), why), -EINVAL);
	assert_string_equal(why, "no ?[31mroom");
	json_object_put(o);

	o = vpn_request_new(json_object_new_object());
	text = json_object_to_json_string(o);
	mesh = vpn_request_read((const uint8_t *)text, strlen(text), why);
	assert_non_null(mesh);
	json_object_put(mesh);
	json_object_put(o);
}

#define GOOD "{\"mesh\":{},\"ipv4\":\"10.0.0.2/24\",\"gateway4\":\"10.0.0.1\""

/* The longest that a server may be told to say fits into one message. */
static void test_longest_offer(void **state)
{
	struct vpn_advice advice = {.route_count = VPN_ROUTES_MAX, .dns_count = VPN_DNS_MAX};
	struct vpn_hosts h;
	struct vpn_offer got;
	char why[VPN_TEXT_MAX];

	(void)state;
	assert_int_equal(hosts_init(&h, "10.1.0.0/16", "fd00::/64"), 0);
	for (unsigned i = 0; i < VPN_ROUTES_MAX; i++)
		advice.routes[i] = prefix("fd07:1111:2222:3333:4444:5555:6666:7777/128");
	for (unsigned i = 0; i < VPN_DNS_MAX; i++)
		advice.dns[i] = advice.routes[i].addr;
	struct json_object *o = vpn_offer_new(&h, 258, &advice, json_object_new_object());
	const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	assert_true(strlen(text) + 256 <= VPN_MESSAGE_MAX);
	assert_int_equal(vpn_offer_read(&got, (const uint8_t *)text, strlen(text), why), 0);
	vpn_offer_free(&got);
	json_object_put(o);
	vpn_hosts_free(&h);
}

static void test_bad_messages(void **state)
{
	static const char *const offers[] = {
		"",
		"{",
		"[]",
		"null",
		"{}",
		"{\"mesh\":{}}",
		"{\"mesh\":{},\"ipv4\":\"10.0.0.2/24\"}",
		"{\"mesh\":{},\"ipv4\":\"fd00::2/64\",\"gateway4\":\"10.0.0.1\"}",
		"{\"mesh\":{},\"ipv4\":\"10.0.0.2/24\",\"gateway4\":\"fd00::1\"}",
		"{\"mesh\":[],\"ipv4\":\"10.0.0.2/24\",\"gateway4\":\"10.0.0.1\"}",
		"{\"mesh\":{},\"ipv4\":7,\"gateway4\":\"10.0.0.1\"}",
		"{\"mesh\":{},\"ipv4\":\"10.0.0.2/24\",\"gateway4\":\"10.0.0.1\"} x",
		GOOD ",\"routes\":[7]}",
		GOOD ",\"routes\":[\"10.0.0.0/33\"]}",
		GOOD ",\"dns\":[\"x\"]}",
		GOOD ",\"dns\":[\"1.1.1.1\",\"1.1.1.1\",\"1.1.1.1\",\"1.1.1.1\"]}",
		"{\"error\":\"no\",\"mesh\":{},\"ipv4\":\"10.0.0.2/24\",\"gateway4\":\"10.0.0.1\"}",
	};
	static const char *const requests[] = {"",
					       "7",
					       "{}",
					       "{\"version\":2,\"mesh\":{}}",
					       "{\"version\":\"1\",\"mesh\":{}}",
					       "{\"version\":1,\"mesh\":7}"};
	char why[VPN_TEXT_MAX];
	struct vpn_offer o;

	(void)state;
	for (unsigned i = 0; i < sizeof offers / sizeof *offers; i++) {
		*why = '\0';
		assert_int_equal(
			vpn_offer_read(&o, (const uint8_t *)offers[i], strlen(offers[i]), why),
			-EINVAL);
		assert_true(*why);
	}
	for (unsigned i = 0; i < sizeof requests / sizeof *requests; i++)
		assert_null(
			vpn_request_read((const uint8_t *)requests[i], strlen(requests[i]), why));
	char large[VPN_MESSAGE_MAX + 2];
	memset(large, ' ', sizeof large);
	assert_null(vpn_request_read((const uint8_t *)large, sizeof large, why));
}

/* What it prints on the way is not looked at. */
static int parse(struct vpn_options *o, bool server, const char *line)
{
	static char copy[512];
	char *argv[32] = {(char *)(uintptr_t) "vpn"};
	int argc = 1, out = dup(1), err = dup(2), null = open("/dev/null", O_WRONLY);

	snprintf(copy, sizeof copy, "%s", line);
	for (char *save, *word = strtok_r(copy, " ", &save); word;
	     word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	optind = 0;
	fflush(stdout);
	dup2(null, 1);
	dup2(null, 2);
	int verdict = vpn_options_parse(o, server, argc, argv);
	fflush(stdout);
	dup2(out, 1);
	dup2(err, 2);
	close(out);
	close(err);
	close(null);
	return verdict;
}

static int parse_free(struct vpn_options *o, bool server, const char *line)
{
	int verdict = parse(o, server, line);

	vpn_options_free(o);
	return verdict;
}

#define NODE "aa000000000000000000000000000000000000000000000000000000000000bb"

static void test_command_line(void **state)
{
	static const char *const bad_server[] = {
		"",
		"--subnet 10.0.0.0/33",
		"--subnet fd00::/64",
		"--subnet6 10.0.0.0/8",
		"--subnet 10.0.0.0/24 extra",
		"--subnet 10.0.0.0/24 --mtu 100",
		"--subnet 10.0.0.0/24 --mtu 1420x",
		"--subnet 10.0.0.0/24 --to x",
		"-o vpn.vpnsubnet=10.0.0.0/24,10.1.0.0/24",
		"--subnet 10.0.0.0/24 --dns x",
		"--subnet 10.0.0.0/24 -o vpn.nonsense=1",
		"--nonsense",
		"--subnet 10.0.0.0/24 --interface a-very-long-interface-name"};
	static const char *const bad_client[] = {"", "--to x@12", "--to x --route nonsense",
						 "--to x --subnet 10.0.0.0/24", "--to x y"};
	struct vpn_options o;

	(void)state;
	for (unsigned i = 0; i < sizeof bad_server / sizeof *bad_server; i++)
		assert_int_equal(parse_free(&o, true, bad_server[i]), -1);
	for (unsigned i = 0; i < sizeof bad_client / sizeof *bad_client; i++)
		assert_int_equal(parse_free(&o, false, bad_client[i]), -1);
	assert_int_equal(parse(&o, true, "--help"), 1);
	assert_int_equal(parse(&o, false, "--version"), 1);
	assert_int_equal(parse(&o, true, "--subnet 10.0.0.0/24 --subnet6 fd00::/64 --json"), 0);
	assert_true(o.json && o.subnet4.bits == 24 && o.subnet6.bits == 64 && o.mtu == 1420);
	assert_string_equal(o.app_id, "vpn");
	vpn_options_free(&o);
	assert_int_equal(parse(&o, true,
			       "-o vpn.vpnsubnet=fd00::/64,10.0.0.0/24 --route 10.9.0.0/16 "
			       "-o vpn.dns=10.0.0.1,fd00::1"),
			 0);
	assert_true(o.subnet4.bits == 24 && o.subnet6.bits == 64);
	assert_true(o.advice.route_count == 1 && o.advice.dns_count == 2);
	vpn_options_free(&o);
	assert_int_equal(parse_free(&o, false, "--cleanup"), 2);
	assert_int_equal(parse(&o, false,
			       "--to office@" NODE " --route 10.0.0.0/8 --route fd00::/8 "
			       "--interface vpn0"),
			 0);
	assert_string_equal(o.to.app, "office");
	assert_true(o.to.has_node && o.to.node.b[0] == 0xaa && o.route_count == 2);
	assert_string_equal(o.interface, "vpn0");
	assert_null(o.app_id);
	assert_false(o.full);
	vpn_options_free(&o);
	assert_int_equal(parse_free(&o, false, "-o vpn.server=x -o vpn.fulltunnel=yes"), 0);
	assert_true(o.full);
}

/* ---- which client has which address ---- */

static bool first(uint32_t host, void *ctx)
{
	*(uint32_t *)ctx = host;
	return false;
}

static void test_store(void **state)
{
	struct mesh_id a = {{1}}, b = {{2}};
	struct vpn_store *s;
	uint32_t oldest = 0;

	(void)state;
	assert_int_equal(vpn_store_open(&s, ":memory:", NULL), 0);
	assert_int_equal(vpn_store_find(s, &a, "x"), 0);
	assert_int_equal(vpn_store_save(s, &a, "x", 2, 100), 0);
	assert_int_equal(vpn_store_save(s, &a, "y", 3, 101), 0);
	assert_int_equal(vpn_store_save(s, &b, "x", 4, 102), 0);
	assert_int_equal(vpn_store_find(s, &a, "y"), 3);
	assert_int_equal(vpn_store_find(s, &b, "x"), 4);
	assert_int_equal(vpn_store_save(s, &a, "x", 2, 103), 0);
	assert_int_equal(vpn_store_list(s, first, &oldest), 0);
	assert_int_equal(oldest, 3);
	assert_int_equal(vpn_store_forget(s, 3), 0);
	assert_int_equal(vpn_store_find(s, &a, "y"), 0);
	vpn_store_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store),
		cmocka_unit_test(test_all_hosts),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_offer_round_trip),
		cmocka_unit_test(test_bad_messages),
		cmocka_unit_test(test_longest_offer),
		cmocka_unit_test(test_command_line),
	};
	return cmocka_run_group_tests_name("vpn", tests, NULL, NULL);
}
