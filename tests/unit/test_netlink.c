/* io/netlink against the kernel, in a network namespace of its own. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "io/netlink.h"
#include "netns.h"

static struct nl *nl;

static int setup(void **state)
{
	(void)state;
	if (!netns_enter())
		return 0;
	return nl_open(&nl);
}

static int teardown(void **state)
{
	(void)state;
	nl_close(nl);
	nl = NULL;
	return 0;
}

static void need_netns(void)
{
	if (!netns_enter())
		skip();
}

static struct net_prefix prefix(const char *text)
{
	struct net_prefix p;

	assert_int_equal(net_prefix_parse(&p, text), 0);
	return p;
}

static uint32_t veth(const char *name)
{
	int rc = nl_link_add(nl, name, "veth");

	assert_int_equal(rc, 0);
	rc = nl_link_index(nl, name);
	assert_true(rc > 0);
	assert_int_equal(nl_link_set_up(nl, (uint32_t)rc, true), 0);
	return (uint32_t)rc;
}

static int count_link(const struct nl_link *l, void *ctx)
{
	(void)l;
	++*(int *)ctx;
	return 0;
}

static void test_links(void **state)
{
	struct nl_link l;
	int links = 0;

	(void)state;
	need_netns();
	assert_int_equal(nl_link_get(nl, "lo", &l), 0);
	assert_true(l.loopback);
	assert_false(l.up);
	assert_int_equal(nl_link_set_up(nl, l.index, true), 0);
	assert_int_equal(nl_link_get(nl, "lo", &l), 0);
	assert_true(l.up);
	assert_int_equal(nl_link_index(nl, "nosuch"), -ENODEV);
	assert_int_equal(nl_link_index(nl, ""), -ENODEV);
	assert_int_equal(nl_link_index(nl, "a-name-that-is-much-too-long"), -ENODEV);

	uint32_t v = veth("tv0");
	assert_int_equal(nl_link_add(nl, "tv0", "veth"), -EEXIST);
	assert_int_equal(nl_link_add(nl, "tv9", "no-such-kind"), -EOPNOTSUPP);
	assert_int_equal(nl_link_set_mtu(nl, v, 1300), 0);
	assert_int_equal(nl_link_get(nl, "tv0", &l), 0);
	assert_int_equal(l.mtu, 1300);
	assert_int_equal(l.group, NL_GROUP_MESHNET);
	assert_string_equal(l.kind, "veth");
	assert_int_equal(nl_link_list(nl, count_link, &links), 0);
	assert_int_equal(links, 3); /* lo and both ends */
	assert_int_equal(nl_link_del(nl, v), 0);
	assert_int_equal(nl_link_del(nl, v), -ENODEV);
}

struct addr_search {
	struct nl_addr want;
	int found;
};

static int search_addr(const struct nl_addr *a, void *ctx)
{
	struct addr_search *s = ctx;

	s->found += a->link == s->want.link && a->prefix.bits == s->want.prefix.bits &&
		    net_addr_same_ip(&a->prefix.addr, &s->want.prefix.addr) &&
		    a->peer.family == s->want.peer.family &&
		    (!a->peer.family || net_addr_same_ip(&a->peer, &s->want.peer)) &&
		    a->proto == NL_PROTO_MESHNET;
	return 0;
}

static void test_addresses(void **state)
{
	static const char *const texts[] = {"10.9.8.7/24", "fd00:9::7/64"};

	(void)state;
	need_netns();
	uint32_t v = veth("tv1");
	for (size_t i = 0; i < 2; i++) {
		struct addr_search s = {.want = {.link = v, .prefix = prefix(texts[i])}};
		assert_int_equal(nl_addr_add(nl, &s.want), 0);
		assert_int_equal(nl_addr_add(nl, &s.want), -EEXIST);
		assert_int_equal(nl_addr_list(nl, 0, search_addr, &s), 0);
		assert_int_equal(s.found, 1);
		assert_int_equal(nl_addr_list(nl, i ? 4 : 6, search_addr, &s), 0);
		assert_int_equal(s.found, 1);
		assert_int_equal(nl_addr_del(nl, &s.want), 0);
		assert_int_equal(nl_addr_del(nl, &s.want), -EADDRNOTAVAIL);
	}
	struct addr_search s = {.want = {.link = v,
					 .prefix = prefix("10.9.8.7/32"),
					 .peer = prefix("10.9.0.1").addr}};
	assert_int_equal(nl_addr_add(nl, &s.want), 0);
	assert_int_equal(nl_addr_list(nl, 4, search_addr, &s), 0);
	assert_int_equal(s.found, 1);
	assert_int_equal(nl_addr_del(nl, &s.want), 0);
	struct nl_addr bad = {.link = v};
	assert_int_equal(nl_addr_add(nl, &bad), -EINVAL);
	assert_int_equal(nl_link_del(nl, v), 0);
}

struct route_search {
	struct nl_route want;
	int found, all;
};

static int search_route(const struct nl_route *r, void *ctx)
{
	struct route_search *s = ctx;

	s->all++;
	s->found += r->family == s->want.family && r->table == s->want.table &&
		    r->metric == s->want.metric && r->dst.bits == s->want.dst.bits &&
		    net_addr_same_ip(&r->dst.addr, &s->want.dst.addr) &&
		    net_addr_same_ip(&r->via, &s->want.via) && r->type == s->want.type &&
		    (r->dev == s->want.dev || r->type != NL_ROUTE_UNICAST) &&
		    r->proto == NL_PROTO_MESHNET;
	return 0;
}

static void route_round(struct nl_route want)
{
	struct route_search s = {.want = want};

	assert_int_equal(nl_route_add(nl, &want), 0);
	assert_int_equal(nl_route_add(nl, &want), -EEXIST);
	assert_int_equal(nl_route_list(nl, 0, search_route, &s), 0);
	assert_int_equal(s.found, 1);
	assert_int_equal(nl_route_del(nl, &want), 0);
	assert_int_equal(nl_route_del(nl, &want), -ESRCH);
	s.found = 0;
	assert_int_equal(nl_route_list(nl, 0, search_route, &s), 0);
	assert_int_equal(s.found, 0);
}

static void test_routes(void **state)
{
	(void)state;
	need_netns();
	uint32_t v = veth("tv2"), peer = (uint32_t)nl_link_index(nl, "veth0");
	assert_int_equal(nl_link_set_up(nl, peer, true), 0);
	struct nl_addr a4 = {.link = v, .prefix = prefix("10.1.0.1/24")};
	struct nl_addr a6 = {.link = v, .prefix = prefix("fd01::1/64")};
	assert_int_equal(nl_addr_add(nl, &a4), 0);
	assert_int_equal(nl_addr_add(nl, &a6), 0);
	struct net_addr via4 = prefix("10.1.0.2").addr, via6 = prefix("fd01::2").addr;
	for (unsigned metric = 7; metric < 9; metric++) {
		route_round((struct nl_route){.family = 4,
					      .type = NL_ROUTE_UNICAST,
					      .dev = v,
					      .via = via4,
					      .table = 11700,
					      .metric = metric});
		route_round((struct nl_route){.family = 6,
					      .type = NL_ROUTE_UNICAST,
					      .dev = v,
					      .via = via6,
					      .table = 11700,
					      .metric = metric});
		route_round((struct nl_route){.family = 4,
					      .type = NL_ROUTE_UNICAST,
					      .dev = v,
					      .dst = prefix("192.0.2.0/24"),
					      .table = 254,
					      .metric = metric});
		route_round((struct nl_route){.family = 4,
					      .type = NL_ROUTE_UNREACHABLE,
					      .table = 11700,
					      .metric = 4000 + metric});
		route_round((struct nl_route){.family = 6,
					      .type = NL_ROUTE_UNREACHABLE,
					      .table = 11700,
					      .metric = 4000 + metric});
	}
	assert_int_equal(nl_route_add(nl, &(struct nl_route){.family = 5}), -EINVAL);
	assert_int_equal(nl_route_add(nl, &(struct nl_route){.family = 4, .via = via6, .dev = v}),
			 -EINVAL);
	assert_int_equal(nl_link_del(nl, v), 0);
}

static void test_foreign_route_stays(void **state)
{
	struct nl_route r = {.family = 4, .dst = prefix("192.0.2.0/24"), .table = 11700};

	(void)state;
	need_netns();
	r.dev = veth("tv3");
	free(netns_output("ip route add 192.0.2.0/24 dev tv3 table 11700"));
	char *before = netns_output("ip route show table 11700");
	assert_int_equal(nl_route_add(nl, &r), -EEXIST);
	assert_int_equal(nl_route_del(nl, &r), -ESRCH);
	char *after = netns_output("ip route show table 11700");
	assert_true(strlen(before) > 0);
	assert_string_equal(before, after);
	free(before);
	free(after);
	assert_int_equal(nl_link_del(nl, r.dev), 0);
}

static void test_route_get(void **state)
{
	struct net_addr dst = prefix("198.51.100.9").addr;
	struct nl_route r = {.family = 4, .table = 11700}, got;
	struct nl_rule rule = {
		.family = 4, .priority = 11700, .table = 11700, .fwmark = 5, .fwmask = 0xff};

	(void)state;
	need_netns();
	r.dev = veth("tv4");
	assert_int_equal(nl_route_get(nl, &dst, 0, &got), -ENETUNREACH);
	struct nl_addr a = {.link = r.dev, .prefix = prefix("10.2.0.1/24")};
	assert_int_equal(nl_addr_add(nl, &a), 0);
	assert_int_equal(nl_route_add(nl, &r), 0);
	assert_int_equal(nl_rule_add(nl, &rule), 0);
	assert_int_equal(nl_route_get(nl, &dst, 0, &got), -ENETUNREACH);
	assert_int_equal(nl_route_get(nl, &dst, 5, &got), 0);
	assert_int_equal(got.dev, r.dev);
	assert_true(net_addr_same_ip(&got.source, &a.prefix.addr));
	assert_int_equal(nl_rule_del(nl, &rule), 0);
	assert_int_equal(nl_link_del(nl, r.dev), 0);
}

/* Several next hops are visited one by one. */
static void test_multipath(void **state)
{
	struct route_search s = {
		.want = {.family = 4, .table = 254, .dst = prefix("192.0.2.0/24")}};

	(void)state;
	need_netns();
	uint32_t v = veth("tv5");
	assert_int_equal(nl_route_list(nl, 4, search_route, &s), 0);
	int before = s.all;
	free(netns_output("ip addr add 10.3.0.1/24 dev tv5; ip link set veth0 up;"
			  "ip route add 192.0.2.0/24 nexthop via 10.3.0.2 dev tv5"
			  " nexthop via 10.3.0.3 dev tv5"));
	s.all = 0;
	assert_int_equal(nl_route_list(nl, 4, search_route, &s), 0);
	/* Two hops, the subnet, its local and broadcast addresses. */
	assert_int_equal(s.all - before, 5);
	assert_int_equal(nl_link_del(nl, v), 0);
}

struct rule_search {
	struct nl_rule want;
	int found;
};

static int search_rule(const struct nl_rule *r, void *ctx)
{
	struct rule_search *s = ctx;

	s->found += r->family == s->want.family && r->priority == s->want.priority &&
		    r->table == s->want.table && r->fwmark == s->want.fwmark &&
		    r->fwmask == s->want.fwmask && r->invert == s->want.invert &&
		    r->suppress == s->want.suppress &&
		    r->suppress_prefixlength == s->want.suppress_prefixlength &&
		    r->from.bits == s->want.from.bits &&
		    net_addr_same_ip(&r->from.addr, &s->want.from.addr) &&
		    strcmp(r->iif, s->want.iif) == 0 && r->proto == NL_PROTO_MESHNET;
	return 0;
}

static void test_rules(void **state)
{
	const struct nl_rule rules[] = {
		{.family = 4, .priority = 100, .table = 11700},
		{.family = 6, .priority = 100, .table = 11700},
		{.family = 4, .priority = 101, .table = 254, .suppress = true},
		{.family = 6,
		 .priority = 101,
		 .table = 254,
		 .suppress = true,
		 .suppress_prefixlength = 8},
		{.family = 4,
		 .priority = 102,
		 .table = 11701,
		 .fwmark = 0x11,
		 .fwmask = 0xff,
		 .invert = true},
		{.family = 4, .priority = 103, .table = 11701, .from = prefix("10.4.0.0/16")},
		{.family = 6, .priority = 103, .table = 11701, .from = prefix("fd04::/16")},
		{.family = 4, .priority = 104, .table = 11702, .iif = "nosuch0"},
	};

	(void)state;
	need_netns();
	char *before = netns_output("ip rule; ip -6 rule");
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
		struct rule_search s = {.want = rules[i]};
		assert_int_equal(nl_rule_add(nl, &rules[i]), 0);
		assert_int_equal(nl_rule_add(nl, &rules[i]), -EEXIST);
		assert_int_equal(nl_rule_list(nl, rules[i].family, search_rule, &s), 0);
		assert_int_equal(s.found, 1);
	}
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
		assert_int_equal(nl_rule_del(nl, &rules[i]), 0);
		assert_int_equal(nl_rule_del(nl, &rules[i]), -ENOENT);
	}
	char *after = netns_output("ip rule; ip -6 rule");
	assert_string_equal(before, after);
	free(before);
	free(after);
}

/* The same rule by somebody else, before and after ours: only ours goes. */
static void test_foreign_rule_stays(void **state)
{
	struct nl_rule r = {.family = 4, .priority = 120, .table = 11700};

	(void)state;
	need_netns();
	free(netns_output("ip rule add priority 120 lookup 11700"));
	char *before = netns_output("ip -d rule");
	int rc = nl_rule_add(nl, &r);
	assert_true(rc == 0 || rc == -EEXIST);
	assert_int_equal(nl_rule_del(nl, &r), rc ? -ENOENT : 0);
	assert_int_equal(nl_rule_del(nl, &r), -ENOENT);
	char *after = netns_output("ip -d rule");
	assert_string_equal(before, after);
	free(before);
	free(after);
	free(netns_output("ip rule del priority 120"));
}

static int stop_at_two(const struct nl_route *r, void *ctx)
{
	(void)r;
	return ++*(int *)ctx == 2 ? -ECANCELED : 0;
}

/* A visitor that stops leaves the socket clean for the next request. */
static void test_stop(void **state)
{
	int n = 0;

	(void)state;
	need_netns();
	struct nl_link lo;
	assert_int_equal(nl_link_get(nl, "lo", &lo), 0);
	assert_int_equal(nl_link_set_up(nl, lo.index, true), 0);
	assert_int_equal(nl_route_list(nl, 0, stop_at_two, &n), -ECANCELED);
	assert_int_equal(n, 2);
	assert_int_equal(nl_link_get(nl, "lo", &lo), 0);
	assert_string_equal(lo.name, "lo");
}

static struct net_addr addr(const char *text)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(&a, text, 0), 0);
	return a;
}

static void test_tunnels(void **state)
{
	struct nl_tunnel t = {.kind = NL_TUNNEL_VXLAN,
			      .local = addr("192.0.2.1"),
			      .remote = addr("192.0.2.2"),
			      .key = 77,
			      .port = 4789,
			      .mac = {2, 1, 2, 3, 4, 5}};
	struct nl_link_stats stats;
	struct nl_link l;
	int before = 0, after = 0;

	(void)state;
	need_netns();
	nl_link_list(nl, count_link, &before);
	assert_int_equal(nl_link_probe(nl, "vxlan"), 0);
	assert_int_equal(nl_link_probe(nl, "no-such-kind"), -EOPNOTSUPP);
	nl_link_list(nl, count_link, &after);
	assert_int_equal(before, after);
	assert_int_equal(nl_tunnel_overhead(&t), 50);
	assert_int_equal(nl_tunnel_add(nl, "tvx0", &t), 0);
	assert_int_equal(nl_tunnel_add(nl, "tvx0", &t), -EEXIST);
	assert_int_equal(nl_tunnel_add(nl, "tvx1", &t), -EEXIST);
	assert_int_equal(nl_link_get(nl, "tvx0", &l), 0);
	assert_string_equal(l.kind, "vxlan");
	assert_int_equal(l.group, NL_GROUP_MESHNET);
	assert_int_equal(nl_link_get_stats(nl, l.index, &stats), 0);
	assert_int_equal(stats.rx_packets, 0);
	assert_int_equal(nl_link_get_stats(nl, 9999, &stats), -ENODEV);
	char *shown = netns_output("ip -d link show tvx0");
	assert_non_null(strstr(shown, "vxlan id 77 remote 192.0.2.2 local 192.0.2.1"));
	assert_non_null(strstr(shown, "dstport 4789"));
	assert_non_null(strstr(shown, "02:01:02:03:04:05"));
	free(shown);
	assert_int_equal(nl_link_del(nl, l.index), 0);

	t.remote = addr("2001:db8::2");
	assert_int_equal(nl_tunnel_add(nl, "tvx0", &t), -EINVAL);
	t.local = addr("2001:db8::1");
	assert_int_equal(nl_tunnel_overhead(&t), 70);
	assert_int_equal(nl_tunnel_add(nl, "tvx0", &t), 0);
	assert_int_equal(nl_link_del(nl, (uint32_t)nl_link_index(nl, "tvx0")), 0);
	t.key = NL_VNI_MAX + 1;
	assert_int_equal(nl_tunnel_add(nl, "tvx0", &t), -EINVAL);
	t.kind = NL_TUNNEL_GRE;
	assert_int_equal(nl_tunnel_add(nl, "tgre0", &t), -EINVAL);
	t.kind = NL_TUNNEL_IP6GRE;
	assert_int_equal(nl_tunnel_overhead(&t), 48);
}

/* Those that leave go together; no others. */
static void test_leaving(void **state)
{
	int before = 0, after = 0;

	(void)state;
	need_netns();
	assert_int_equal(nl_leaving_del(nl), 0);
	uint32_t stays = veth("tl0"), leaves[] = {veth("tl2"), veth("tl4")};
	nl_link_list(nl, count_link, &before);
	assert_int_equal(nl_link_leave(nl, leaves[0]), 0);
	assert_int_equal(nl_link_leave(nl, leaves[1]), 0);
	assert_int_equal(nl_leaving_del(nl), 0);
	nl_link_list(nl, count_link, &after);
	assert_int_equal(after, before - 4);
	assert_int_equal(nl_link_index(nl, "tl2"), -ENODEV);
	assert_int_equal(nl_link_index(nl, "tl0"), (int)stays);
	assert_int_equal(nl_link_leave(nl, leaves[0]), -ENODEV);
	assert_int_equal(nl_link_del(nl, stays), 0);
}

static void test_neighbours(void **state)
{
	const struct net_addr v4 = addr("192.0.2.7"), v6 = addr("2001:db8::7"),
			      remote = addr("192.0.2.2");
	const uint8_t mac[6] = {2, 0, 0, 0, 0, 7};
	struct nl_tunnel t = {.kind = NL_TUNNEL_VXLAN,
			      .local = addr("192.0.2.1"),
			      .remote = remote,
			      .key = 78,
			      .port = 4789,
			      .mac = {2, 1, 2, 3, 4, 5}};
	uint8_t got[6];

	(void)state;
	need_netns();
	assert_int_equal(nl_tunnel_add(nl, "tvx0", &t), 0);
	uint32_t link = (uint32_t)nl_link_index(nl, "tvx0");
	assert_int_equal(nl_link_set_quiet(nl, link), 0);
	assert_int_equal(nl_link_set_up(nl, link, true), 0);
	char *shown = netns_output("ip -6 addr show dev tvx0");
	assert_null(strstr(shown, "fe80"));
	free(shown);
	assert_int_equal(nl_neigh_get(nl, link, &v4, got), -ENOENT);
	assert_int_equal(nl_neigh_add(nl, link, &v4, mac), 0);
	assert_int_equal(nl_neigh_add(nl, link, &v6, mac), 0);
	assert_int_equal(nl_neigh_get(nl, link, &v4, got), 0);
	assert_memory_equal(got, mac, 6);
	memset(got, 0, sizeof got);
	assert_int_equal(nl_neigh_get(nl, link, &v6, got), 0);
	assert_memory_equal(got, mac, 6);
	assert_int_equal(nl_fdb_add(nl, link, mac, &remote), 0);
	shown = netns_output("bridge fdb show dev tvx0");
	assert_non_null(strstr(shown, "02:00:00:00:00:07 dst 192.0.2.2 self permanent"));
	free(shown);
	assert_int_equal(nl_link_del(nl, link), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_links),	   cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_routes),	   cmocka_unit_test(test_foreign_route_stays),
		cmocka_unit_test(test_route_get),  cmocka_unit_test(test_multipath),
		cmocka_unit_test(test_rules),	   cmocka_unit_test(test_foreign_rule_stays),
		cmocka_unit_test(test_stop),	   cmocka_unit_test(test_tunnels),
		cmocka_unit_test(test_neighbours), cmocka_unit_test(test_leaving),
	};
	return cmocka_run_group_tests_name("netlink", tests, setup, teardown);
}
