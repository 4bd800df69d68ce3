/* The methods vxlan and direct on a veth pair's two ends in one namespace, and what they refuse. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <event2/event.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "io/config.h"
#include "io/hostjournal.h"
#include "netns.h"
#include "tunnel/tunnel.h"

#define JOURNAL "host.db"

static struct hostjournal *journal;
static struct nl *nl;
static struct config cfg;
static struct tunnel_env env;
static char why[TUNNEL_WHY_MAX], folder[] = "/tmp/meshnet-link-XXXXXX";

static void quiet(enum log_level level, const char *text)
{
	(void)level;
	(void)text;
}

static int setup(void **state)
{
	char path[64];

	(void)state;
	log_set_sink(quiet);
	if (!netns_enter())
		return 0;
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof path, "%s/" JOURNAL, folder);
	if (hostjournal_open(&journal, path))
		return -1;
	nl = hostjournal_nl(journal);
	free(netns_output("ip link set lo up; ip link add lan type veth peer name far;"
			  "ip addr add 192.0.2.1/24 dev lan; ip link set lan up;"
			  "ip link set far up; ip link add wan type veth; ip link set wan up;"
			  "ip addr add fd99::1/64 dev lan nodad;"
			  "ip neigh add fd99::7 lladdr 02:00:00:00:00:07 dev lan;"
			  "ip neigh add fd99::8 lladdr 02:00:00:00:00:08 dev lan;"
			  "ip neigh add 192.0.2.7 lladdr 02:00:00:00:00:07 dev lan"));
	cfg = (struct config){
		.vxlan_port = 4789, .direct_interface = "lan", .gateway_uplink_interface = "wan"};
	env = (struct tunnel_env){.journal = journal, .state_dir = folder, .cfg = &cfg};
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	hostjournal_close(journal);
	snprintf(command, sizeof command, "rm -rf %s", folder);
	free(netns_output(command));
	return 0;
}

static void need_netns(void)
{
	if (!netns_enter())
		skip();
}

static struct net_addr addr(const char *text)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(&a, text, 0), 0);
	return a;
}

static struct net_prefix prefix(const char *text)
{
	struct net_prefix p;

	assert_int_equal(net_prefix_parse(&p, text), 0);
	return p;
}

static int count_one(const struct nl_link *l, void *ctx)
{
	(void)l;
	++*(int *)ctx;
	return 0;
}

static int links(void)
{
	int n = 0;

	assert_int_equal(nl_link_list(nl, count_one, &n), 0);
	return n;
}

static void *start(const struct tunnel_method *m, const char *interface)
{
	const struct tunnel_gateway_config config = {.interface = interface,
						     .addr4 = prefix("10.117.0.1/16"),
						     .addr6 = prefix("fd75::1/64")};
	void *gw = NULL;

	assert_int_equal(m->gateway_start(&gw, &env, &config, why), 0);
	return gw;
}

static struct tunnel_lease lease(const char *sid, const char *ip4, const char *host)
{
	return (struct tunnel_lease){.sid = sid,
				     .ip4 = addr(ip4),
				     .ip6 = addr("fd75::2"),
				     .host = addr(host),
				     .server = addr("192.0.2.1"),
				     .options = json_object_new_object()};
}

/* The answer; the caller puts it.  NULL: refused with `err`. */
static struct json_object *open_lease(const struct tunnel_method *m, void *gw,
				      struct tunnel_lease l, int err, char interface[IFNAMSIZ])
{
	struct json_object *answer = json_object_new_object();

	*why = '\0';
	assert_int_equal(m->gateway_open(gw, &l, answer, interface, why), err);
	json_object_put(l.options);
	if (!err)
		return answer;
	assert_true(*why);
	json_object_put(answer);
	return NULL;
}

static void refused(const struct tunnel_method *m, void *gw, struct tunnel_lease l, int err)
{
	char interface[IFNAMSIZ];
	int before = links();

	open_lease(m, gw, l, err, interface);
	assert_int_equal(links(), before);
}

static void test_vxlan_gateway(void **state)
{
	const struct tunnel_method *m = &tunnel_vxlan;
	char first[IFNAMSIZ], again[IFNAMSIZ], second[IFNAMSIZ];
	struct tunnel_source source = {0};
	struct tunnel_counters counters;

	(void)state;
	need_netns();
	int before = links();
	void *gw = start(m, "mgvx%d");
	struct json_object *a =
		open_lease(m, gw, lease("one", "10.117.0.2", "192.0.2.7"), 0, first);
	struct json_object *b =
		open_lease(m, gw, lease("one", "10.117.0.2", "192.0.2.7"), 0, again);
	assert_string_equal(json_object_to_json_string(a), json_object_to_json_string(b));
	assert_string_equal(first, again);
	assert_int_equal(links(), before + 1);
	m->gateway_source(gw, "one", &source);
	assert_true(source.has_mac);
	json_object_put(b);
	/* Another lease of the same host, and one that would be another host's. */
	b = open_lease(m, gw, lease("two", "10.117.0.3", "192.0.2.7"), 0, second);
	assert_string_not_equal(first, second);
	refused(m, gw, lease("one", "10.117.0.2", "192.0.2.8"), -EEXIST);
	refused(m, gw, lease("three", "10.117.0.2", "192.0.2.8"), -EEXIST); /* the VNI */
	refused(m, gw, lease("three", "10.117.0.4", "127.0.0.1"), -EINVAL);
	refused(m, gw, lease("three", "10.117.0.4", "fe80::1"), -EINVAL);
	struct tunnel_lease mesh = lease("three", "10.117.0.4", "192.0.2.8");
	mesh.host.family = mesh.server.family = 0;
	refused(m, gw, mesh, -EINVAL);
	assert_int_equal(m->gateway_counters(gw, "one", &counters), 0);
	assert_true(counters.connected);
	assert_int_equal(m->gateway_counters(gw, "nobody", &counters), -ENOENT);
	m->gateway_close(gw, "nobody");
	m->gateway_close(gw, "one");
	assert_int_equal(nl_link_index(nl, first), -ENODEV);
	assert_true(nl_link_index(nl, second) > 0);
	m->gateway_stop(gw);
	assert_int_equal(links(), before);
	assert_int_equal(hostjournal_count(journal), 0);
	json_object_put(a);
	json_object_put(b);
}

static void test_a_name_without_number(void **state)
{
	const struct tunnel_gateway_config config = {.interface = "mgvx",
						     .addr4 = prefix("10.117.0.1/16")};
	void *gw;

	(void)state;
	need_netns();
	assert_int_equal(tunnel_vxlan.gateway_start(&gw, &env, &config, why), -EINVAL);
	assert_non_null(strstr(why, "%d"));
}

/* ---- the subscriber, and answers of a gateway that means no good ---- */

static int ups;

static void on_state(enum tunnel_state s, const char *text, void *arg)
{
	(void)text;
	(void)arg;
	ups += s == TUNNEL_UP;
}

static int client_open(const struct tunnel_method *m, const char *answer, const char *interface,
		       void **client)
{
	struct json_object *o = answer ? json_tokener_parse(answer) : NULL;
	const struct tunnel_grant grant = {.sid = "one",
					   .ip4 = prefix("10.117.0.2/16"),
					   .gateway4 = addr("10.117.0.1"),
					   .server = addr("192.0.2.9"),
					   .object = o,
					   .interface = interface};

	*why = '\0';
	int rc = m->client_open(client, &env, &grant, on_state, NULL, why);
	json_object_put(o);
	assert_true(!rc || *why);
	return rc;
}

#define ENDS "\"host\":\"192.0.2.1\",\"server\":\"192.0.2.9\","
#define MACS "\"mac\":\"02:00:00:00:00:01\",\"gatewayMac\":\"02:00:00:00:00:02\""

static void test_vxlan_subscriber(void **state)
{
	const struct tunnel_method *m = &tunnel_vxlan;
	struct tunnel_counters counters;
	struct tunnel_path path = {0};
	void *client, *second;

	(void)state;
	need_netns();
	int before = links();
	ups = 0;
	assert_int_equal(client_open(m, "{" ENDS "\"mtu\":1300,\"vni\":9,\"port\":4789," MACS "}",
				     "mesh0", &client),
			 0);
	assert_int_equal(ups, 1);
	assert_string_equal(m->client_interface(client), "mesh0");
	struct nl_link l;
	assert_int_equal(nl_link_get(nl, "mesh0", &l), 0);
	assert_int_equal(l.mtu, 1300);
	m->client_path(client, &path);
	assert_int_equal(path.via4.family, 4);
	m->client_counters(client, &counters);
	assert_true(counters.connected);
	assert_int_equal(
		client_open(m, "{" ENDS "\"vni\":10,\"port\":4789," MACS "}", "mesh0", &second),
		-EEXIST);
	assert_int_equal(
		client_open(m, "{" ENDS "\"vni\":10,\"port\":4789," MACS "}", "msub%d", &second),
		0);
	m->client_close(second);
	m->client_close(client);
	assert_int_equal(links(), before);
	assert_int_equal(hostjournal_count(journal), 0);
}

static void test_bad_answers(void **state)
{
	static const struct {
		const char *answer;
		int err;
	} cases[] = {
		{NULL, -EPROTO},
		{"{}", -EPROTO},
		{"{\"host\":1,\"server\":[]}", -EPROTO},
		{"{\"host\":\"192.0.2.1\",\"server\":\"fd00::1\"}", -EPROTO},
		/* Address translation at either end. */
		{"{\"host\":\"203.0.113.5\",\"server\":\"192.0.2.9\"}", -EADDRNOTAVAIL},
		{"{\"host\":\"192.0.2.1\",\"server\":\"192.0.2.10\"}", -EADDRNOTAVAIL},
		{"{" ENDS "\"vni\":9,\"port\":4789}", -EPROTO},
		{"{" ENDS "\"vni\":16777216,\"port\":4789," MACS "}", -EPROTO},
		{"{" ENDS "\"vni\":-1,\"port\":4789," MACS "}", -EPROTO},
		{"{" ENDS "\"vni\":9,\"port\":0," MACS "}", -EPROTO},
		{"{" ENDS "\"vni\":9,\"port\":65536," MACS "}", -EPROTO},
		{"{" ENDS "\"vni\":\"9\",\"port\":4789," MACS "}", -EPROTO},
		{"{" ENDS "\"vni\":9,\"port\":4789,\"mac\":\"01:00:00:00:00:01\","
		 "\"gatewayMac\":\"02:00:00:00:00:02\"}",
		 -EPROTO},
		{"{" ENDS "\"vni\":9,\"port\":4789,\"mac\":\"02:00:00:00:00:011\","
		 "\"gatewayMac\":\"02:00:00:00:00:02\"}",
		 -EPROTO},
	};
	void *client;

	(void)state;
	need_netns();
	int before = links();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_int_equal(client_open(&tunnel_vxlan, cases[i].answer, "mesh0", &client),
				 cases[i].err);
	assert_int_equal(client_open(&tunnel_vxlan, "{" ENDS "\"vni\":9,\"port\":4789," MACS "}",
				     "a-name-that-is-too-long", &client),
			 -EINVAL);
	assert_int_equal(links(), before);
	assert_int_equal(hostjournal_count(journal), 0);
}

/* ---- direct ---- */

static void direct_lacks(const char *interface, const char *uplink, const char *said)
{
	struct config bad = {.direct_interface = interface, .gateway_uplink_interface = uplink};
	struct tunnel_env with = env;

	with.cfg = &bad;
	assert_int_equal(tunnel_direct.probe(&with, TUNNEL_GATEWAY, why), -ENODEV);
	assert_non_null(strstr(why, said));
}

static void test_direct_gateway(void **state)
{
	const struct tunnel_method *m = &tunnel_direct;
	struct tunnel_lease l = lease("one", "10.117.0.2", "192.0.2.7");
	const struct net_addr unknown = addr("192.0.2.8");
	struct tunnel_source source = {0};
	char interface[IFNAMSIZ];

	(void)state;
	need_netns();
	direct_lacks("", "wan", "[direct] Interface");
	direct_lacks("lan", "", "UplinkInterface");
	direct_lacks("wan", "wan", "uplink");
	direct_lacks("none", "wan", "none");
	int before = links();
	void *gw = start(m, "lan");
	/* What the subscriber says of its link-layer address counts for nothing. */
	json_object_object_add(l.options, "mac", json_object_new_string("02:00:00:00:00:99"));
	m->gateway_learn(gw, &unknown, l.options);
	assert_false(json_object_object_get_ex(l.options, "mac", NULL));
	m->gateway_learn(gw, &l.host, l.options);
	json_object_put(open_lease(m, gw, l, 0, interface));
	assert_string_equal(interface, "lan");
	m->gateway_source(gw, "one", &source);
	assert_true(source.has_mac && source.mac[5] == 7);
	assert_true(net_addr_same_ip(&source.ip4, &l.host));
	assert_int_equal(source.ip6.family, 0);
	refused(m, gw, lease("two", "10.117.0.3", "192.0.2.7"), -EEXIST);
	refused(m, gw, lease("one", "10.117.0.3", "192.0.2.8"), -EEXIST);
	refused(m, gw, lease("two", "10.117.0.3", "198.51.100.1"), -EINVAL); /* not on the LAN */
	refused(m, gw, lease("two", "10.117.0.3", "192.0.2.1"), -EINVAL);    /* ourselves */
	m->gateway_close(gw, "one");
	json_object_put(open_lease(m, gw, lease("two", "10.117.0.3", "192.0.2.7"), 0, interface));
	m->gateway_stop(gw);
	assert_int_equal(links(), before);
}

/* What a host of that address names besides, as `also`; what its lease is for then. */
static struct tunnel_source both(const struct tunnel_method *m, void *gw, const char *sid,
				 const char *host, const char *also)
{
	struct tunnel_lease l = lease(sid, "10.117.0.2", host);
	struct tunnel_source source = {0};
	char interface[IFNAMSIZ];

	json_object_object_add(l.options, "also", json_tokener_parse(also));
	m->gateway_learn(gw, &l.host, l.options);
	json_object_put(open_lease(m, gw, l, 0, interface));
	m->gateway_source(gw, sid, &source);
	return source;
}

/* One lease for both families, where both are the same host's. */
static void test_direct_both_families(void **state)
{
	const struct tunnel_method *m = &tunnel_direct;
	const struct net_addr mine = addr("fd99::7");
	static const char *const not_mine[] = {
		"[\"fd99::8\"]",     /* a neighbour's */
		"[\"fd99::9\"]",     /* nobody's */
		"[\"fd99::1\"]",     /* the gateway's own */
		"[\"2001:db8::7\"]", /* from elsewhere */
		"[\"192.0.2.7\"]",   /* no other family */
		"[\"x\", 7, null, {}]", "\"fd99::7\"", "[]", "null",
	};

	(void)state;
	need_netns();
	void *gw = start(m, "lan");
	for (size_t i = 0; i < sizeof not_mine / sizeof *not_mine; i++) {
		assert_int_equal(both(m, gw, "one", "192.0.2.7", not_mine[i]).ip6.family, 0);
		m->gateway_close(gw, "one");
	}
	struct tunnel_source source = both(m, gw, "one", "192.0.2.7", "[7, \"fd99::7\"]");
	assert_true(net_addr_same_ip(&source.ip6, &mine) && source.ip4.ip[3] == 7);
	assert_int_equal(source.near6.ip[15], 1);
	assert_int_equal(source.near4.ip[3], 1);
	/* It is nobody else's now, and free again when the lease is over. */
	refused(m, gw, lease("two", "10.117.0.3", "fd99::7"), -EEXIST);
	m->gateway_close(gw, "one");
	source = both(m, gw, "two", "fd99::7", "[\"192.0.2.7\"]");
	assert_true(source.ip4.family == 4 && net_addr_same_ip(&source.ip6, &mine));
	m->gateway_stop(gw);
}

/* A claim that no neighbour answers is waited for, but not again and again. */
static void test_direct_waits_little(void **state)
{
	const struct tunnel_method *m = &tunnel_direct;
	struct timespec began, ended;

	(void)state;
	need_netns();
	void *gw = start(m, "lan");
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (int i = 0; i < 100; i++) {
		both(m, gw, "one", "192.0.2.7", "[\"fd99::9\"]");
		m->gateway_close(gw, "one");
	}
	clock_gettime(CLOCK_MONOTONIC, &ended);
	assert_in_range((ended.tv_sec - began.tv_sec) * 1000 +
				(ended.tv_nsec - began.tv_nsec) / 1000000,
			0, 1500);
	m->gateway_stop(gw);
}

static void test_direct_names_its_addresses(void **state)
{
	struct json_object *options = json_object_new_object();
	struct tunnel_env with = env;

	(void)state;
	need_netns();
	with.server = addr("192.0.2.9");
	assert_int_equal(tunnel_direct.client_options(&with, options, why), 0);
	assert_string_equal(json_object_to_json_string_ext(options, JSON_C_TO_STRING_PLAIN),
			    "{\"also\":[\"fd99::1\"]}");
	with.server = addr("fd99::9");
	assert_int_equal(tunnel_direct.client_options(&with, options, why), 0);
	assert_string_equal(json_object_to_json_string_ext(options, JSON_C_TO_STRING_PLAIN),
			    "{\"also\":[\"192.0.2.1\"]}");
	json_object_object_del(options, "also");
	with.server = addr("203.0.113.9"); /* there is no way to it, so on no network of ours */
	assert_int_equal(tunnel_direct.client_options(&with, options, why), 0);
	assert_int_equal(json_object_object_length(options), 0);
	json_object_put(options);
}

static void test_direct_subscriber(void **state)
{
	struct tunnel_path path = {0};
	void *client;

	(void)state;
	need_netns();
	ups = 0;
	assert_int_equal(client_open(&tunnel_direct, "{" ENDS "\"x\":1}", "mesh0", &client), 0);
	assert_int_equal(ups, 1);
	assert_string_equal(tunnel_direct.client_interface(client), "lan");
	tunnel_direct.client_path(client, &path);
	assert_int_equal(path.source6.family, 0);
	assert_int_equal(path.via4.ip[3], 9);
	tunnel_direct.client_close(client);
	assert_int_equal(client_open(&tunnel_direct,
				     "{" ENDS
				     "\"alsoHost\":\"fd99::1\",\"alsoServer\":\"fd99::9\"}",
				     "mesh0", &client),
			 0);
	tunnel_direct.client_path(client, &path);
	assert_true(path.source4.ip[3] == 1 && path.via4.ip[3] == 9);
	assert_true(path.source6.ip[15] == 1 && path.via6.ip[15] == 9);
	tunnel_direct.client_close(client);
	/* What is not ours, or is not there, is no way. */
	assert_int_equal(client_open(&tunnel_direct,
				     "{" ENDS
				     "\"alsoHost\":\"fd99::2\",\"alsoServer\":\"fd99::9\"}",
				     "mesh0", &client),
			 0);
	tunnel_direct.client_path(client, &path);
	assert_int_equal(path.source6.family, 0);
	tunnel_direct.client_close(client);
	assert_int_equal(client_open(&tunnel_direct,
				     "{\"host\":\"192.0.2.3\",\"server\":\"192.0.2.9\"}", "mesh0",
				     &client),
			 -EADDRNOTAVAIL);
	assert_int_equal(client_open(&tunnel_direct,
				     "{\"host\":\"192.0.2.1\",\"server\":\"203.0.113.9\"}", "mesh0",
				     &client),
			 -ENETUNREACH);
	assert_int_equal(client_open(&tunnel_direct, "{}", "mesh0", &client), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vxlan_gateway),
		cmocka_unit_test(test_a_name_without_number),
		cmocka_unit_test(test_vxlan_subscriber),
		cmocka_unit_test(test_bad_answers),
		cmocka_unit_test(test_direct_gateway),
		cmocka_unit_test(test_direct_both_families),
		cmocka_unit_test(test_direct_waits_little),
		cmocka_unit_test(test_direct_names_its_addresses),
		cmocka_unit_test(test_direct_subscriber),
	};
	return cmocka_run_group_tests_name("tunnel_link", tests, setup, teardown);
}
