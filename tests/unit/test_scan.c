/*
 * Network modules against what the real daemons said (tests/fuzz/corpus/scan/, whose first byte
 * names the module for the fuzzer).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nethost.h"
#include "scan/scan.h"
#include "scan/text.h"

#define MAX 512

struct found {
	struct net_host hosts[MAX];
	struct net_link links[MAX];
	size_t host_count, link_count;
	int stop_after; /* the sink's own error after so many; 0: never */
};

static int on_host(const struct net_host *h, void *ctx)
{
	struct found *f = ctx;

	assert_false(net_host_is_own(h));
	for (size_t i = 0; i < f->host_count; i++)
		if (net_host_equal(&f->hosts[i], h))
			return 0;
	assert_in_range(f->host_count, 0, MAX - 1);
	f->hosts[f->host_count++] = *h;
	return f->stop_after && --f->stop_after == 0 ? -ECANCELED : 0;
}

static int on_link(const struct net_link *l, void *ctx)
{
	struct found *f = ctx;

	assert_false(net_host_equal(&l->a, &l->b));
	for (size_t i = 0; i < f->link_count; i++)
		if (net_host_equal(&f->links[i].a, &l->a) && net_host_equal(&f->links[i].b, &l->b))
			return 0;
	assert_in_range(f->link_count, 0, MAX - 1);
	f->links[f->link_count++] = *l;
	return 0;
}

static uint8_t *fixture(const char *name, size_t *len)
{
	char path[200];
	uint8_t *data = malloc(1u << 20);

	snprintf(path, sizeof path, "tests/fuzz/corpus/scan/%s", name);
	FILE *f = fopen(path, "rb");
	assert_non_null(data);
	assert_non_null(f);
	*len = fread(data, 1, 1u << 20, f);
	fclose(f);
	assert_in_range(*len, 1, (1u << 20) - 1);
	/* Exactly as long, for the address sanitizer. */
	uint8_t *out = malloc(*len - 1);
	assert_non_null(out);
	memcpy(out, data + 1, *len - 1);
	free(data);
	(*len)--;
	return out;
}

static int parse(const struct scan_module *m, const char *name, struct found *f)
{
	struct scan_sink sink = {on_host, on_link, f};
	size_t len;
	uint8_t *data = fixture(name, &len);
	int rc;

	f->host_count = f->link_count = 0;
	rc = m->parse(data, len, &sink);
	free(data);
	return rc;
}

static struct net_host host(const char *text)
{
	struct net_host h = {0};

	if (net_addr_parse(&h.addr, text, 0) != 0)
		snprintf(h.name, sizeof h.name, "%s", text);
	return h;
}

static const struct net_host *find(const struct found *f, const char *text)
{
	struct net_host h = host(text);

	for (size_t i = 0; i < f->host_count; i++)
		if (net_host_equal(&f->hosts[i], &h))
			return &f->hosts[i];
	return NULL;
}

static void assert_hosts(const struct found *f, const char *const *texts)
{
	size_t n = 0;

	for (; texts[n]; n++)
		if (!find(f, texts[n]))
			fail_msg("no host %s", texts[n]);
	assert_int_equal(f->host_count, n);
}
#define HOSTS(...)                                                                                 \
	(const char *const[])                                                                      \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}

/* Its cost, or -1 when there is no such link; "" is our own host. */
static int64_t link_cost(const struct found *f, const char *a, const char *b)
{
	struct net_host x = host(a), y = host(b);

	for (size_t i = 0; i < f->link_count; i++)
		if (net_host_equal(&f->links[i].a, &x) && net_host_equal(&f->links[i].b, &y))
			return f->links[i].cost;
	return -1;
}

static void test_kernel(void **state)
{
	struct found f = {0};
	(void)state;
	assert_int_equal(parse(&scan_kernel, "kernel-mixed", &f), 0);
	/* Of a small network the first address; nothing of a large one. */
	assert_hosts(&f, HOSTS("192.168.1.1", "10.77.1.1", "10.77.2.1", "10.200.0.2", "10.200.0.3",
			       "fd00:200::2", "10.9.0.7", "10.77.1.9"));
	assert_string_equal(find(&f, "10.200.0.2")->how, "babel");
	assert_string_equal(find(&f, "10.200.0.3")->how, "bird");
	assert_string_equal(find(&f, "10.77.2.1")->how, "ospf");
	assert_string_equal(find(&f, "192.168.1.1")->how, "dhcp");
	assert_string_equal(find(&f, "10.77.1.9")->how, "neighbour");
	assert_int_equal(link_cost(&f, "", "10.77.1.1"), 0);
	assert_int_equal(link_cost(&f, "", "10.9.0.7"), 0);
	assert_int_equal(link_cost(&f, "", "10.200.0.2"), -1);
}

static void test_l2(void **state)
{
	struct found f = {0};
	(void)state;
	assert_int_equal(parse(&scan_l2, "l2-two", &f), 0);
	/* Not our own, not the network's, not the broadcast address; no more than the limit. */
	assert_hosts(&f, HOSTS("10.77.1.1", "10.77.1.3", "10.77.1.4", "10.77.1.5", "10.77.1.6",
			       "192.168.7.2", "192.168.7.3", "192.168.7.4"));
}

static void test_babel(void **state)
{
	struct found f = {0};
	(void)state;
	assert_int_equal(parse(&scan_babel, "babel-end", &f), 0);
	assert_hosts(&f, HOSTS("10.200.0.2", "10.200.0.3", "10.200.0.4", "fd00:200::2",
			       "fd00:200::3", "fd00:200::4"));
	assert_string_equal(find(&f, "10.200.0.3")->name, "c4:99:3a:03:a1:f7:fd:ae");
	assert_int_equal(link_cost(&f, "", "10.200.0.2"), 96);
	assert_int_equal(link_cost(&f, "", "10.200.0.3"), -1);
	assert_int_equal(parse(&scan_babel, "babel-middle", &f), 0);
	assert_int_equal(f.host_count, 6);
	assert_int_equal(link_cost(&f, "", "10.200.0.1"), 96);
	assert_int_equal(link_cost(&f, "", "10.200.0.3"), 96);
	assert_int_equal(link_cost(&f, "", "10.200.0.4"), -1);
}

static void test_bird(void **state)
{
	struct found f = {0};
	(void)state;
	assert_int_equal(parse(&scan_bird, "bird-raw", &f), 0);
	assert_hosts(&f, HOSTS("10.200.0.1", "10.200.0.2", "10.200.0.3", "10.200.0.4"));
	assert_int_equal(link_cost(&f, "10.200.0.1", "10.200.0.2"), 10);
	assert_int_equal(link_cost(&f, "10.200.0.2", "10.200.0.3"), 10);
	assert_int_equal(link_cost(&f, "10.200.0.4", "10.200.0.3"), 10);
	assert_int_equal(link_cost(&f, "10.200.0.1", "10.200.0.3"), -1);
	assert_int_equal(f.link_count, 6);
	/* The same and the routes, as birdc prints them. */
	assert_int_equal(parse(&scan_bird, "bird-birdc", &f), 0);
	assert_non_null(find(&f, "10.200.0.4"));
	assert_non_null(find(&f, "10.77.1.1")); /* a next hop */
	assert_non_null(find(&f, "10.77.3.1")); /* first of 10.77.3.0/24 */
	assert_int_equal(link_cost(&f, "", "10.77.1.1"), 0);
	assert_int_equal(link_cost(&f, "10.200.0.4", "10.200.0.3"), 10);
}

static void test_bird_networks(void **state)
{
	static const char text[] = "0001 BIRD 2.0.12 ready.\n1016-\n area 0.0.0.0\n \n"
				   " \trouter 10.200.0.8\n \t\tunreachable\n"
				   " \t\trouter 10.200.0.9 metric 10\n \n"
				   " \trouter 10.200.0.1\n \t\tdistance 0\n"
				   " \t\tnetwork 10.77.1.0/24 metric 10\n"
				   " \t\tstubnet 10.9.9.9/32 metric 0\n \n"
				   " \tnetwork 10.77.1.0/24\n \t\tdr 10.200.0.2\n"
				   " \t\tdistance 10\n \t\trouter 10.200.0.2\n"
				   " \t\trouter 10.200.0.1\n \t\trouter 10.200.0.3\n0000 \n";
	struct found f = {0};
	struct scan_sink sink = {on_host, on_link, &f};
	(void)state;
	assert_int_equal(scan_bird.parse((const uint8_t *)text, sizeof text - 1, &sink), 0);
	assert_int_equal(link_cost(&f, "10.200.0.2", "10.200.0.1"), 0);
	assert_int_equal(link_cost(&f, "10.200.0.2", "10.200.0.3"), 0);
	assert_int_equal(link_cost(&f, "10.200.0.1", "10.9.9.9"), 0);
	assert_int_equal(f.link_count, 3);
	assert_null(find(&f, "10.200.0.8")); /* what it cannot reach */
}

static void test_frr(void **state)
{
	struct found f = {0};
	(void)state;
	assert_int_equal(parse(&scan_frr, "frr-router", &f), 0);
	assert_hosts(&f, HOSTS("10.200.0.1", "10.200.0.2", "10.200.0.3", "10.200.0.4"));
	assert_int_equal(link_cost(&f, "10.200.0.1", "10.200.0.2"), 10);
	assert_int_equal(link_cost(&f, "10.200.0.3", "10.200.0.4"), 10);
	assert_int_equal(f.link_count, 6);
}

/* 10.0.0.3 is named by itself only: it was there once.  10.0.0.4 is on a network with us. */
static void test_frr_old_and_transit(void **state)
{
	static const char text[] =
		"{\"routerId\":\"10.0.0.1\",\"routerLinkStates\":{\"areas\":{\"0.0.0.0\":["
		"{\"advertisingRouter\":\"10.0.0.1\",\"routerLinks\":{\"l0\":{\"linkType\":"
		"\"another Router (point-to-point)\",\"neighborRouterId\":\"10.0.0.2\","
		"\"tos0Metric\":5},\"l1\":{\"linkType\":\"a Transit Network\","
		"\"designatedRouterAddress\":\"10.9.0.4\",\"tos0Metric\":7}}},"
		"{\"advertisingRouter\":\"10.0.0.2\",\"routerLinks\":{\"l0\":{\"linkType\":"
		"\"another Router (point-to-point)\",\"neighborRouterId\":\"10.0.0.1\","
		"\"tos0Metric\":6},\"l1\":{\"linkType\":\"Stub Network\",\"networkAddress\":"
		"\"10.7.7.7\",\"networkMask\":\"255.255.255.255\"}}},"
		"{\"advertisingRouter\":\"10.0.0.3\",\"routerLinks\":{\"l0\":{\"linkType\":"
		"\"another Router (point-to-point)\",\"neighborRouterId\":\"10.0.0.2\","
		"\"tos0Metric\":5}}},"
		"{\"advertisingRouter\":\"10.0.0.4\",\"routerLinks\":{\"l0\":{\"linkType\":"
		"\"a Transit Network\",\"designatedRouterAddress\":\"10.9.0.4\","
		"\"tos0Metric\":7}}}]}}}";
	struct found f = {0};
	struct scan_sink sink = {on_host, on_link, &f};
	(void)state;
	assert_int_equal(scan_frr.parse((const uint8_t *)text, sizeof text - 1, &sink), 0);
	assert_hosts(&f, HOSTS("10.0.0.1", "10.0.0.2", "10.0.0.4", "10.7.7.7"));
	assert_int_equal(link_cost(&f, "10.0.0.2", "10.0.0.1"), 6);
	assert_int_equal(link_cost(&f, "10.0.0.1", "10.0.0.4"), 7);
	assert_int_equal(link_cost(&f, "10.0.0.2", "10.7.7.7"), 0);
	assert_int_equal(link_cost(&f, "10.0.0.2", "10.0.0.3"), -1);
}

static void test_olsr(void **state)
{
	struct found f = {0};
	(void)state;
	assert_int_equal(parse(&scan_olsr, "olsr-all", &f), 0);
	assert_hosts(&f,
		     HOSTS("10.150.0.1", "10.150.0.2", "10.150.0.3", "10.150.0.4", "10.150.0.9"));
	assert_int_equal(link_cost(&f, "10.150.0.1", "10.150.0.2"), 1163);
	assert_int_equal(link_cost(&f, "10.150.0.2", "10.150.0.3"), 2048);
	assert_int_equal(link_cost(&f, "10.150.0.3", "10.150.0.4"), 1024);
	assert_int_equal(link_cost(&f, "", "10.150.0.2"), 1163);
}

static void test_batman(void **state)
{
	struct found f = {0};
	(void)state;
	assert_int_equal(parse(&scan_batman, "batman-bat0", &f), 0);
	assert_hosts(&f, HOSTS("da:e0:8a:ab:e1:b6", "92:ed:78:26:f3:b0", "10.5.0.2", "10.5.0.3"));
	assert_int_equal(link_cost(&f, "", "92:ed:78:26:f3:b0"), 256 - 133);
	assert_int_equal(link_cost(&f, "", "da:e0:8a:ab:e1:b6"), -1);
	/* By the ARP cache, and by a neighbour of the kernel. */
	assert_int_equal(link_cost(&f, "e6:d7:df:39:d6:ad", "10.5.0.3"), 0);
	assert_int_equal(link_cost(&f, "6a:75:9e:0d:cb:29", "10.5.0.2"), 0);
}

static void test_yggdrasil(void **state)
{
	struct found f = {0};
	(void)state;
	assert_int_equal(parse(&scan_yggdrasil, "yggdrasil-own", &f), 0);
	/* As the daemon itself computes them of the keys. */
	assert_hosts(&f, HOSTS("200:da7b:a806:406e:1d86:aeea:a603:c834",
			       "200:ee78:48f5:e242:1784:1cab:da99:b4d3"));
	assert_int_equal(link_cost(&f, "", "200:da7b:a806:406e:1d86:aeea:a603:c834"), 0);
	assert_int_equal(parse(&scan_yggdrasil, "yggdrasil-remote", &f), 0);
	assert_hosts(&f, HOSTS("200:3fee:8aca:c167:23d2:3196:1161:a3c9",
			       "201:145e:bf9e:734a:8606:a7a4:c1cd:2fdd"));
	assert_string_equal(find(&f, "201:145e:bf9e:734a:8606:a7a4:c1cd:2fdd")->name,
			    "7ae85018632d5e7e5616cf8cb408a538899d733c8b08bfa14ee96f2f78fac606");
	assert_int_equal(link_cost(&f, "200:da7b:a806:406e:1d86:aeea:a603:c834",
				   "201:145e:bf9e:734a:8606:a7a4:c1cd:2fdd"),
			 0);
	assert_int_equal(parse(&scan_yggdrasil, "yggdrasil-timeout", &f), 0);
	assert_int_equal(f.host_count, 0);
}

static void test_cjdns(void **state)
{
	static const char own[] = "fc38:7d37:927c:e7fd:284e:ed82:ec49:6847",
			  near[] = "fc47:630d:4e55:71f7:b873:27bd:ac5a:ca0a",
			  far[] = "fc1f:fd0d:2912:bbdd:a396:6032:75b4:aed7";
	struct found f = {0};
	(void)state;
	assert_int_equal(parse(&scan_cjdns, "cjdns-own", &f), 0);
	assert_hosts(&f, HOSTS(near, far));
	assert_int_equal(link_cost(&f, "", near), 0);
	assert_string_equal(find(&f, far)->name,
			    "rdv6m7tngpf0n1b44lh4cfxh4xj9465hxg0xspfup5nw7lgtqy70.k");
	assert_int_equal(parse(&scan_cjdns, "cjdns-peers", &f), 0);
	assert_int_equal(link_cost(&f, near, own), 0);
	assert_int_equal(link_cost(&f, near, far), 0);
	assert_int_equal(link_cost(&f, far, near), 0);
	assert_int_equal(parse(&scan_cjdns, "cjdns-links", &f), 0);
	assert_int_equal(link_cost(&f, near, far), 1024);
	assert_int_equal(link_cost(&f, own, near), 1024);
}

static void test_mesh(void **state)
{
	struct found f = {0};
	char id[65] = "";
	(void)state;
	memset(id, 'c', 64);
	assert_int_equal(parse(&scan_mesh, "mesh-three", &f), 0);
	assert_hosts(&f, HOSTS("10.77.1.1", "10.77.2.2", id));
	assert_int_equal(link_cost(&f, "10.77.1.1", "10.77.2.2"), 110);
	assert_int_equal(f.link_count, 1);
}

/* Every module, every fixture cut anywhere: an error or less, never more; and foreign answers. */
static void test_cut_and_foreign(void **state)
{
	static const char *const names[] = {
		"kernel-mixed", "l2-two",      "babel-end",   "bird-birdc",    "bird-raw",
		"frr-router",	"olsr-all",    "batman-bat0", "yggdrasil-own", "yggdrasil-remote",
		"cjdns-own",	"cjdns-peers", "cjdns-links", "mesh-three"};
	const struct scan_module *const *modules = scan_modules();
	(void)state;
	for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
		size_t len, step;
		uint8_t *data = fixture(names[n], &len);
		step = len / 60 + 1;
		for (size_t cut = 0; cut <= len; cut += step) {
			for (size_t m = 0; modules[m]; m++) {
				struct found *f = calloc(1, sizeof *f);
				uint8_t *part = malloc(cut ? cut : 1);
				assert_true(f && part);
				memcpy(part, data, cut);
				modules[m]->parse(part, cut,
						  &(struct scan_sink){on_host, on_link, f});
				free(part);
				free(f);
			}
		}
		free(data);
	}
}

static void test_the_sink_ends_it(void **state)
{
	struct found f = {.stop_after = 2};
	(void)state;
	assert_int_equal(parse(&scan_babel, "babel-end", &f), -ECANCELED);
	assert_int_equal(f.host_count, 2);
	f = (struct found){.stop_after = 1};
	assert_int_equal(parse(&scan_olsr, "olsr-all", &f), -ECANCELED);
	f = (struct found){.stop_after = 1};
	assert_int_equal(parse(&scan_frr, "frr-router", &f), -ECANCELED);
}

static void test_answers_of_somebody_else(void **state)
{
	static const char junk[] = "HTTP/1.1 404 Not Found\r\n\r\n{}";
	const struct scan_module *const *modules = scan_modules();
	(void)state;
	for (size_t m = 0; modules[m]; m++) {
		struct found f = {0};
		struct scan_sink sink = {on_host, on_link, &f};
		assert_ptr_equal(scan_module_find(modules[m]->name), modules[m]);
		assert_int_not_equal(
			modules[m]->parse((const uint8_t *)junk, sizeof junk - 1, &sink), 0);
		assert_int_equal(f.host_count, 0);
	}
	assert_null(scan_module_find("null"));
}

static void test_spans(void **state)
{
	static const struct {
		const char *text;
		size_t span;
	} cases[] = {{"", 0},
		     {"{", 0},
		     {"{}", 2},
		     {" [1,{\"a\":\"]\"}] {", 14},
		     {"{\"a\":\"\\\"}\"}x", 11},
		     {"null", 0},
		     {"]", 0}};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_int_equal(
			text_json_span((const uint8_t *)cases[i].text, strlen(cases[i].text)),
			cases[i].span);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_l2),
		cmocka_unit_test(test_babel),
		cmocka_unit_test(test_bird),
		cmocka_unit_test(test_bird_networks),
		cmocka_unit_test(test_frr),
		cmocka_unit_test(test_frr_old_and_transit),
		cmocka_unit_test(test_olsr),
		cmocka_unit_test(test_batman),
		cmocka_unit_test(test_yggdrasil),
		cmocka_unit_test(test_cjdns),
		cmocka_unit_test(test_mesh),
		cmocka_unit_test(test_cut_and_foreign),
		cmocka_unit_test(test_the_sink_ends_it),
		cmocka_unit_test(test_answers_of_somebody_else),
		cmocka_unit_test(test_spans),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
