/* io/nft with packets: tunnel and uplink are TUNs of this process, the kernel forwards between. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <event2/event.h>

#include "base/ippacket.h"
#include "base/log.h"
#include "io/netlink.h"
#include "io/netlink_watch.h"
#include "io/nft.h"
#include "io/sysctl.h"
#include "io/tun.h"
#include "netns.h"
#include "packets.h"

#define TABLE "meshnet_gw"

static struct event_base *base;
static struct nl *nl;
static struct nft *nft;
static struct tun *tunnel, *uplink;
static struct net_addr sub4, sub6, inet4, inet6, up4, up6, gw4, gw6, stranger4;

/* What came out of each TUN last. */
struct seen {
	uint8_t packet[2048];
	size_t len, count;
	struct net_addr src, dst;
};
static struct seen at_tunnel, at_uplink;

static void quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

static void on_packet(uint8_t *packet, size_t len, void *arg)
{
	struct seen *s = arg;
	struct net_addr src, dst;

	assert_true(len <= sizeof s->packet);
	assert_int_equal(ippacket_ends(packet, len, &src, &dst), 0);
	if (dst.family == 6 && dst.ip[0] == 0xff) /* the kernel's own multicast reports */
		return;
	memcpy(s->packet, packet, len);
	s->len = len;
	s->src = src;
	s->dst = dst;
	s->count++;
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

static void make_tun(struct tun **t, const char *name, const char *a4, const char *a6,
		     struct seen *seen)
{
	struct nl_addr addrs[] = {{.prefix = prefix(a4)}, {.prefix = prefix(a6)}};

	assert_int_equal(tun_open(t, base, name, TUN_PLAIN), 0);
	for (int i = 0; i < 2; i++) {
		addrs[i].link = tun_index(*t);
		assert_int_equal(nl_addr_add(nl, &addrs[i]), 0);
	}
	assert_int_equal(nl_link_set_up(nl, tun_index(*t), true), 0);
	tun_set_callbacks(*t, on_packet, NULL, seen);
	assert_int_equal(tun_set_reading(*t, true), 0);
}

static int setup(void **state)
{
	(void)state;
	log_set_sink(quiet);
	if (!netns_enter())
		return 0;
	base = event_base_new();
	if (!base || nl_open(&nl) || nft_open(&nft))
		return -1;
	if (sysctl_write("net.ipv4.ip_forward", "1") ||
	    sysctl_write("net.ipv6.conf.all.forwarding", "1") ||
	    sysctl_write("net.ipv4.icmp_ratelimit", "0"))
		return -1;
	make_tun(&tunnel, "mgw%d", "10.117.0.1/16", "fd75::1/64", &at_tunnel);
	make_tun(&uplink, "up%d", "203.0.113.1/24", "2001:db8::1/64", &at_uplink);
	gw4 = addr("10.117.0.1");
	gw6 = addr("fd75::1");
	sub4 = addr("10.117.0.2");
	sub6 = addr("fd75::2");
	stranger4 = addr("10.117.0.3");
	up4 = addr("203.0.113.1");
	up6 = addr("2001:db8::1");
	inet4 = addr("203.0.113.99");
	inet6 = addr("2001:db8::99");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tun_free(tunnel);
	tun_free(uplink);
	nft_close(nft);
	nl_close(nl);
	if (base)
		event_base_free(base);
	return 0;
}

static void need_netns(void)
{
	if (!netns_enter())
		skip();
}

static const struct net_prefix *denied(void)
{
	static struct net_prefix nets[3];

	nets[0] = prefix("203.0.113.128/25");
	nets[1] = prefix("10.0.0.0/8");
	nets[2] = prefix("2001:db8:dead::/48");
	return nets;
}

static const char *const tunnels[] = {"mgw*"};

static int table_make_with(bool replace, const struct nft_lease *leases, size_t count)
{
	static const uint16_t port = 65533;
	static struct net_prefix allowed;
	struct nft_gateway gw = {
		.table = TABLE,
		.tunnels = tunnels,
		.tunnel_count = 1,
		.uplink = tun_name(uplink),
		.pool4 = prefix("10.117.0.1/16"),
		.pool6 = prefix("fd75::/64"),
		.denied = denied(),
		.denied_count = 3,
		.allowed = &allowed,
		.allowed_count = 1,
		.open_ports = &port,
		.open_port_count = 1,
		.leases = leases,
		.lease_count = count,
	};

	allowed = prefix("203.0.113.200");
	return nft_gateway_create(nft, &gw, replace);
}

static int table_make(bool replace)
{
	return table_make_with(replace, NULL, 0);
}

static struct nft_lease lease(void)
{
	return (struct nft_lease){.interface = tun_name(tunnel), .ip4 = sub4, .ip6 = sub6};
}

static void begin(void)
{
	struct nft_lease l = lease();

	need_netns();
	nft_table_del(nft, TABLE); /* of a test that failed */
	assert_int_equal(table_make(false), 0);
	assert_int_equal(nft_leases_add(nft, TABLE, &l, 1), 0);
}

static void end(void)
{
	assert_int_equal(nft_table_del(nft, TABLE), 0);
	assert_int_equal(nft_table_del(nft, TABLE), -ENOENT);
}

/* Packets through the kernel need no waiting: the write has forwarded before it returns, or a
 * softirq does it at once. */
static void pump(void)
{
	at_tunnel.count = at_uplink.count = 0;
	for (int i = 0; i < 5; i++) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
}

static void send_udp(struct tun *t, const struct net_addr *src, const struct net_addr *dst,
		     uint16_t sport, uint16_t dport)
{
	uint8_t p[256];
	size_t len = packet_udp(p, src, dst, sport, dport);

	pump();
	assert_int_equal(tun_write(t, p, len), 0);
	pump();
}

static void assert_ends(const struct seen *s, const struct net_addr *src,
			const struct net_addr *dst)
{
	char want[2][NET_ADDR_TEXT], got[2][NET_ADDR_TEXT];

	assert_int_equal(s->count, 1);
	assert_string_equal(net_addr_ip_text(&s->src, got[0]), net_addr_ip_text(src, want[0]));
	assert_string_equal(net_addr_ip_text(&s->dst, got[1]), net_addr_ip_text(dst, want[1]));
}

struct read_lease {
	struct nft_lease_counters c; /* all leases together */
	int count;		     /* of leases */
};

static void on_count(const char *interface, const struct net_addr *a, bool up, struct nft_counter c,
		     void *ctx)
{
	struct read_lease *r = ctx;
	struct nft_counter *sum = up ? &r->c.up : &r->c.down;

	assert_memory_equal(interface, "mgw", 3);
	sum->packets += c.packets;
	sum->bytes += c.bytes;
	r->count += up && a->family == 4;
}

static struct nft_gateway_counters counters(struct read_lease *r)
{
	struct nft_gateway_counters c;

	*r = (struct read_lease){0};
	assert_int_equal(nft_gateway_counters(nft, TABLE, &c), 0);
	assert_int_equal(nft_leases_count(nft, TABLE, on_count, r), 0);
	return c;
}

/* Out with the uplink's address, and the answer comes back; both counted for the lease. */
static void round_trip(const struct net_addr *sub, const struct net_addr *inet,
		       const struct net_addr *up)
{
	send_udp(tunnel, sub, inet, 4000, 53);
	assert_ends(&at_uplink, up, inet);
	assert_int_equal(at_tunnel.count, 0);
	uint16_t port = get16(packet_body(at_uplink.packet));
	send_udp(uplink, inet, up, 53, port);
	assert_ends(&at_tunnel, inet, sub);
	assert_int_equal(get16(packet_body(at_tunnel.packet) + 2), 4000);
}

static void test_masquerade(void **state)
{
	struct read_lease r;

	(void)state;
	begin();
	round_trip(&sub4, &inet4, &up4);
	round_trip(&sub6, &inet6, &up6);
	struct nft_gateway_counters c = counters(&r);
	assert_int_equal(r.count, 1);
	struct nft_lease l = lease();
	struct nft_lease_counters own;
	assert_int_equal(nft_lease_counters(nft, TABLE, &l, &own), 0);
	assert_memory_equal(&own, &r.c, sizeof own);
	l.ip4 = stranger4;
	assert_int_equal(nft_lease_counters(nft, TABLE, &l, &own), -ENOENT);
	assert_int_equal(r.c.up.packets, 2);
	assert_int_equal(r.c.up.bytes, 60 + 80); /* headers of 20 and 40, UDP of 40 */
	assert_int_equal(r.c.down.packets, 2);
	assert_int_equal(r.c.down.bytes, r.c.up.bytes);
	assert_int_equal(c.spoofed.packets + c.denied.packets + c.unleased.packets, 0);
	end();
}

static void test_spoofed(void **state)
{
	const struct net_addr foreign6 = addr("fd75::3"),
			      *sources[] = {&stranger4, &inet4, &foreign6};
	struct read_lease r;

	(void)state;
	begin();
	for (int i = 0; i < 3; i++) {
		send_udp(tunnel, sources[i], i == 2 ? &inet6 : &inet4, 4000, 53);
		assert_int_equal(at_uplink.count + at_tunnel.count, 0);
		assert_int_equal(counters(&r).spoofed.packets, i + 1);
	}
	/* Also to the host itself. */
	send_udp(tunnel, &stranger4, &gw4, 4000, 65533);
	assert_int_equal(counters(&r).spoofed.packets, 4);
	assert_int_equal(r.c.up.packets, 0);
	end();
}

static void test_denied_networks(void **state)
{
	const struct net_addr local = addr("203.0.113.129"), excepted = addr("203.0.113.200"),
			      local6 = addr("2001:db8:dead::1");
	struct read_lease r;

	(void)state;
	begin();
	send_udp(tunnel, &sub4, &local, 4000, 53);
	assert_int_equal(at_uplink.count, 0);
	assert_int_equal(counters(&r).denied.packets, 1);
	send_udp(tunnel, &sub4, &excepted, 4000, 53);
	assert_ends(&at_uplink, &up4, &excepted);
	assert_int_equal(counters(&r).denied.packets, 1);
	free(netns_output("ip -6 route add default dev up0"));
	send_udp(tunnel, &sub6, &local6, 4000, 53);
	assert_int_equal(at_uplink.count, 0);
	assert_int_equal(counters(&r).denied.packets, 2);
	end();
}

/* Nobody gets into a tunnel from outside, and subscribers do not reach each other. */
static void test_isolation(void **state)
{
	struct nft_lease other = {.interface = tun_name(tunnel), .ip4 = stranger4};
	struct read_lease r;

	(void)state;
	begin();
	assert_int_equal(nft_leases_add(nft, TABLE, &other, 1), 0);
	send_udp(uplink, &inet4, &sub4, 53, 4000);
	assert_int_equal(at_tunnel.count, 0);
	assert_int_equal(counters(&r).denied.packets, 1);
	assert_int_equal(r.count, 2);
	send_udp(tunnel, &sub4, &stranger4, 53, 4000);
	assert_int_equal(at_tunnel.count, 0);
	assert_int_equal(counters(&r).denied.packets, 2);
	end();
}

/* On the gateway itself: ping and the open port, nothing else. */
static void test_host_ports(void **state)
{
	struct read_lease r;
	uint8_t p[256];

	(void)state;
	begin();
	size_t len = packet_echo(p, &sub4, &gw4, 7);
	assert_int_equal(tun_write(tunnel, p, len), 0);
	pump();
	assert_ends(&at_tunnel, &gw4, &sub4);
	len = packet_echo(p, &sub6, &gw6, 7);
	assert_int_equal(tun_write(tunnel, p, len), 0);
	pump();
	assert_ends(&at_tunnel, &gw6, &sub6);
	send_udp(tunnel, &sub4, &gw4, 4000, 22);
	assert_int_equal(at_tunnel.count, 0);
	assert_int_equal(counters(&r).denied.packets, 1);
	/* The other addresses of the host are the host too. */
	send_udp(tunnel, &sub4, &up4, 4000, 22);
	assert_int_equal(counters(&r).denied.packets, 2);
	/* Open, but nobody listens: the kernel says so. */
	send_udp(tunnel, &sub4, &gw4, 4000, 65533);
	assert_ends(&at_tunnel, &gw4, &sub4);
	assert_int_equal(at_tunnel.packet[9], PACKET_ICMP);
	assert_int_equal(counters(&r).denied.packets, 2);
	end();
}

static void test_leases(void **state)
{
	struct nft_lease l = lease(), same_addr = l, bad = l;
	struct read_lease r;

	(void)state;
	begin();
	assert_int_equal(nft_leases_add(nft, TABLE, &l, 1), -EEXIST);
	same_addr.ip4 = stranger4;
	assert_int_equal(nft_leases_add(nft, TABLE, &same_addr, 1), -EEXIST);
	bad.interface = "a\" }; flush";
	assert_int_equal(nft_leases_add(nft, TABLE, &bad, 1), -EINVAL);
	assert_int_equal(nft_leases_add(nft, TABLE, NULL, 0), 0);
	/* What failed has changed nothing. */
	counters(&r);
	assert_int_equal(r.count, 1);
	round_trip(&sub4, &inet4, &up4);
	assert_int_equal(nft_leases_del(nft, TABLE, &l, 1), 0);
	assert_int_equal(nft_leases_del(nft, TABLE, &l, 1), -ENOENT);
	send_udp(tunnel, &sub4, &inet4, 4000, 53);
	assert_int_equal(at_uplink.count, 0);
	assert_int_equal(counters(&r).spoofed.packets, 1);
	assert_int_equal(r.count, 0);
	/* And again, from zero. */
	assert_int_equal(nft_leases_add(nft, TABLE, &l, 1), 0);
	round_trip(&sub4, &inet4, &up4);
	counters(&r);
	assert_int_equal(r.c.up.packets, 1);
	end();
}

/* A table that takes the place of another has the leases in it from the beginning. */
static void test_replaced_with_leases(void **state)
{
	struct nft_lease l[2] = {lease(), {.interface = "a\" }; flush"}};
	uint64_t mark, other;
	struct read_lease r;

	(void)state;
	begin();
	assert_int_equal(nft_table_mark(nft, TABLE, &mark), 0);
	assert_int_equal(table_make_with(true, l, 2), -EINVAL);
	round_trip(&sub4, &inet4, &up4);
	assert_int_equal(table_make_with(true, l, 1), 0);
	round_trip(&sub4, &inet4, &up4);
	counters(&r);
	assert_int_equal(r.count, 1);
	assert_int_equal(r.c.up.packets, 1);
	assert_int_equal(nft_table_mark(nft, TABLE, &other), 0);
	assert_int_equal(mark, other);
	end();
}

static void refresh_with(const char *uplink_name, int expected)
{
	const struct nft_gateway gw = {
		.table = TABLE,
		.tunnels = tunnels,
		.tunnel_count = 1,
		.uplink = uplink_name,
		.pool4 = prefix("10.117.0.1/16"),
		.pool6 = prefix("fd75::/64"),
	};

	assert_int_equal(nft_gateway_refresh(nft, &gw), expected);
}

/* Leases with their counters, and what is denied, stay when the rules are others. */
static void test_refreshed(void **state)
{
	uint64_t mark, other;
	struct read_lease r;
	struct net_addr no = addr("10.1.2.3");

	(void)state;
	begin();
	assert_int_equal(nft_table_mark(nft, TABLE, &mark), 0);
	round_trip(&sub4, &inet4, &up4);
	refresh_with("nowhere", 0);
	assert_int_equal(nft_table_intact(nft, TABLE, mark), 0);
	send_udp(tunnel, &sub4, &inet4, 4000, 53);
	assert_int_equal(at_uplink.count, 0);
	refresh_with(tun_name(uplink), 0);
	round_trip(&sub4, &inet4, &up4);
	send_udp(tunnel, &sub4, &no, 4000, 53);
	assert_int_equal(at_uplink.count, 0);
	counters(&r);
	assert_int_equal(r.count, 1);
	assert_int_equal(r.c.up.packets, 4);
	assert_int_equal(nft_table_mark(nft, TABLE, &other), 0);
	assert_true(other != mark); /* no open port */
	end();
	refresh_with(tun_name(uplink), -ENOENT);
}

#define MANY 600
static void test_many_leases(void **state)
{
	static struct nft_lease l[MANY];
	char ip[32];
	struct read_lease r;

	(void)state;
	need_netns();
	assert_int_equal(table_make(false), 0);
	for (int i = 0; i < MANY; i++) {
		snprintf(ip, sizeof ip, "10.117.%d.%d", 9 + i / 200, i % 200 + 1);
		l[i] = (struct nft_lease){.interface = "mgw0", .ip4 = addr(ip)};
	}
	assert_int_equal(nft_leases_add(nft, TABLE, l, MANY), 0);
	/* One that is in use, and none of them is added. */
	assert_int_equal(nft_leases_del(nft, TABLE, l, MANY / 3), 0);
	assert_int_equal(nft_leases_add(nft, TABLE, l, MANY / 3 + 1), -EEXIST);
	send_udp(tunnel, &l[10].ip4, &inet4, 4000, 53);
	assert_int_equal(at_uplink.count, 0);
	send_udp(tunnel, &l[MANY - 10].ip4, &inet4, 4000, 53);
	assert_ends(&at_uplink, &up4, &inet4);
	counters(&r);
	assert_int_equal(r.count, MANY - MANY / 3);
	end();
}

static void test_intact(void **state)
{
	static const char *const damage[] = {
		"nft delete table inet " TABLE,
		"nft flush table inet " TABLE,
		"nft flush chain inet " TABLE " source",
		"nft add rule inet " TABLE " forward accept",
		"nft flush set inet " TABLE " denied4",
	};
	/* A lease that is held to a link-layer address stands in sets too. */
	struct nft_lease l = lease(), other = {.interface = "mgw0",
					       .ip4 = stranger4,
					       .mac = {2, 0, 0, 0, 0, 1},
					       .has_mac = true};
	uint64_t mark;

	(void)state;
	need_netns();
	assert_int_equal(nft_table_exists(nft, TABLE), 0);
	for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
		assert_int_equal(table_make(true), 0);
		assert_int_equal(nft_table_mark(nft, TABLE, &mark), 0);
		assert_int_equal(nft_leases_add(nft, TABLE, &l, 1), 0);
		send_udp(tunnel, &sub4, &inet4, 4000, 53);
		assert_int_equal(nft_table_intact(nft, TABLE, mark), 1);
		assert_int_equal(nft_leases_add(nft, TABLE, &other, 1), 0);
		assert_int_equal(nft_leases_del(nft, TABLE, &l, 1), 0);
		assert_int_equal(nft_table_intact(nft, TABLE, mark), 1);
		free(netns_output(damage[i]));
		assert_int_equal(nft_table_intact(nft, TABLE, mark), 0);
	}
	assert_int_equal(nft_table_exists(nft, TABLE), 1);
	assert_int_equal(table_make(false), -EEXIST);
	end();
	struct nft_gateway bad = {
		.table = "x y", .tunnels = tunnels, .tunnel_count = 1, .uplink = ""};
	assert_int_equal(nft_gateway_create(nft, &bad, false), -EINVAL);
	bad.table = "ok";
	bad.uplink = "e\"th";
	assert_int_equal(nft_gateway_create(nft, &bad, false), -EINVAL);
	bad.uplink = "";
	bad.tunnel_count = 0;
	assert_int_equal(nft_gateway_create(nft, &bad, false), -EINVAL);
}

/* A LAN of the host's owner: only what leaves it by the uplink needs a lease. */
static void test_borrowed(void **state)
{
	const char *lan[] = {tun_name(tunnel)};
	const struct net_addr side_host = addr("192.0.2.99"), local = addr("203.0.113.129");
	struct nft_gateway gw = {.table = TABLE,
				 .borrowed = lan,
				 .borrowed_count = 1,
				 .masquerade_borrowed = true,
				 .uplink = "",
				 .denied = denied(),
				 .denied_count = 3};
	struct nft_lease l = lease();
	struct seen at_side = {0};
	struct read_lease r;
	struct tun *side;

	(void)state;
	need_netns();
	assert_int_equal(nft_gateway_create(nft, &gw, false), -EINVAL); /* which uplink? */
	gw.uplink = tun_name(uplink);
	assert_int_equal(nft_gateway_create(nft, &gw, false), 0);
	assert_int_equal(nft_leases_add(nft, TABLE, &l, 1), 0);
	make_tun(&side, "side%d", "192.0.2.1/24", "2001:db8:5::1/64", &at_side);
	pump();
	round_trip(&sub4, &inet4, &up4);
	round_trip(&sub6, &inet6, &up6);
	counters(&r);
	assert_int_equal(r.c.up.packets, 2);
	assert_int_equal(r.c.down.packets, 2);
	send_udp(tunnel, &stranger4, &inet4, 4000, 53);
	assert_int_equal(at_uplink.count, 0);
	assert_int_equal(counters(&r).spoofed.packets, 1);
	send_udp(tunnel, &sub4, &local, 4000, 53);
	assert_int_equal(at_uplink.count, 0);
	assert_int_equal(counters(&r).denied.packets, 1);
	/* With and without a lease, to and from the owner's other network, and from outside. */
	send_udp(tunnel, &stranger4, &side_host, 4000, 53);
	assert_ends(&at_side, &stranger4, &side_host);
	at_side.count = 0;
	send_udp(tunnel, &sub4, &side_host, 4000, 53);
	assert_ends(&at_side, &sub4, &side_host);
	send_udp(side, &side_host, &stranger4, 53, 4000);
	assert_ends(&at_tunnel, &side_host, &stranger4);
	send_udp(uplink, &inet4, &stranger4, 53, 4000);
	assert_ends(&at_tunnel, &inet4, &stranger4);
	struct nft_gateway_counters c = counters(&r);
	assert_int_equal(c.spoofed.packets + c.denied.packets + c.unleased.packets, 2);
	assert_int_equal(r.c.up.packets, 2);
	tun_free(side);
	end();
}

static void on_touched(void *arg)
{
	(*(unsigned *)arg)++;
}

/* Changes of others, and of no table but ours; what we do is no news, even when others did
 * something just before or after. */
static void test_watch(void **state)
{
	static const char flush[] = "nft flush map inet " TABLE " up4";
	struct nft_lease l = lease(), other = {.interface = "mgw0", .ip4 = stranger4};
	struct nl_watch *w;
	unsigned count = 0;

	(void)state;
	need_netns();
	assert_int_equal(nl_watch_table(&w, base, TABLE, on_touched, &count), 0);
	begin();
	nl_watch_made(w);
	free(netns_output("nft add table inet other; nft delete table inet other"));
	assert_int_equal(nft_leases_add(nft, TABLE, &other, 1), 0);
	pump();
	assert_int_equal(count, 0);
	free(netns_output(flush));
	pump();
	assert_int_equal(count, 1);
	free(netns_output(flush));
	assert_int_equal(table_make_with(true, &l, 1), 0);
	nl_watch_made(w);
	pump();
	assert_int_equal(count, 1);
	assert_int_equal(table_make_with(true, &l, 1), 0);
	free(netns_output(flush));
	nl_watch_made(w);
	assert_int_equal(count, 1); /* not from inside */
	pump();
	assert_int_equal(count, 2);
	pump();
	assert_int_equal(count, 2);
	nl_watch_free(w);
	end();
}

static void test_foreign_table_stays(void **state)
{
	(void)state;
	need_netns();
	free(netns_output(
		"nft 'table inet other { set s { type ipv4_addr; elements = { 1.1.1.1 }; };"
		" chain c { type filter hook forward priority 5; ip saddr @s counter; }; }';"
		"nft add table ip " TABLE));
	char *before = netns_output("nft -a list ruleset");
	assert_non_null(strstr(before, "1.1.1.1"));
	begin();
	struct nft_lease l = lease();
	assert_int_equal(nft_leases_del(nft, TABLE, &l, 1), 0);
	assert_int_equal(table_make(true), 0);
	end();
	char *after = netns_output("nft -a list ruleset");
	assert_string_equal(before, after);
	free(before);
	free(after);
	free(netns_output("nft delete table inet other; nft delete table ip " TABLE));
}

/* ---- kill switch ---- */

static bool passes(struct seen *seen, const char *to)
{
	char command[128];

	pump();
	snprintf(command, sizeof command,
		 "python3 -c \"import socket; s = socket.socket(socket.AF_INET%s, "
		 "socket.SOCK_DGRAM);"
		 "s.sendto(b'x', ('%s', 9))\" 2>/dev/null",
		 strchr(to, ':') ? "6" : "", to);
	free(netns_output(command));
	pump();
	return seen->count == 1;
}

static void test_killswitch(void **state)
{
	struct net_prefix lan[] = {prefix("203.0.113.64/26"), prefix("2001:db8::6:0/112")};
	const char *ways[] = {"mesh0", "mgw*"};
	struct nft_killswitch ks = {.table = "meshnet_sub",
				    .tunnels = ways,
				    .tunnel_count = 2,
				    .allowed = lan,
				    .allowed_count = 2};

	(void)state;
	need_netns();
	assert_true(passes(&at_uplink, "203.0.113.2"));
	assert_int_equal(nft_killswitch_create(nft, &ks, false), 0);
	assert_int_equal(nft_killswitch_create(nft, &ks, false), -EEXIST);
	assert_int_equal(nft_killswitch_create(nft, &ks, true), 0);
	assert_false(passes(&at_uplink, "203.0.113.2"));
	assert_false(passes(&at_uplink, "2001:db8::2"));
	assert_true(passes(&at_uplink, "203.0.113.65"));
	assert_true(passes(&at_uplink, "2001:db8::6:5"));
	assert_true(passes(&at_tunnel, "10.117.0.9"));
	/* Emptied by somebody, it stays closed. */
	free(netns_output("nft flush table inet meshnet_sub"));
	assert_false(passes(&at_uplink, "203.0.113.2"));
	/* Networks inside of others, as a gateway's address in the LAN is. */
	struct net_prefix nested[] = {prefix("2001:db8::6:1/128"), prefix("203.0.113.65/32"),
				      prefix("203.0.113.64/26"),   prefix("2001:db8::6:0/112"),
				      prefix("203.0.113.64/26"),   prefix("2001:db8::6:1/128")};
	ks.allowed = nested;
	ks.allowed_count = sizeof nested / sizeof *nested;
	assert_int_equal(nft_killswitch_create(nft, &ks, true), 0);
	assert_true(passes(&at_uplink, "203.0.113.70"));
	assert_true(passes(&at_uplink, "2001:db8::6:5"));
	assert_false(passes(&at_uplink, "203.0.113.2"));
	/* A way for one family only, as an interface of the host's own may be. */
	const uint8_t families[] = {4, 6};
	ways[1] = "up0";
	ks.families = families;
	assert_int_equal(nft_killswitch_create(nft, &ks, true), 0);
	assert_false(passes(&at_uplink, "203.0.113.2"));
	assert_true(passes(&at_uplink, "2001:db8::2"));
	ks.families = NULL;
	/* Without a tunnel nothing goes through one either. */
	ks.tunnel_count = 0;
	assert_int_equal(nft_killswitch_create(nft, &ks, true), 0);
	assert_false(passes(&at_tunnel, "10.117.0.9"));
	assert_int_equal(nft_table_del(nft, "meshnet_sub"), 0);
	assert_true(passes(&at_uplink, "203.0.113.2"));
	ks.tunnel_count = 2;
	ways[1] = "m*n";
	assert_int_equal(nft_killswitch_create(nft, &ks, false), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_masquerade),
		cmocka_unit_test(test_spoofed),
		cmocka_unit_test(test_denied_networks),
		cmocka_unit_test(test_isolation),
		cmocka_unit_test(test_host_ports),
		cmocka_unit_test(test_leases),
		cmocka_unit_test(test_replaced_with_leases),
		cmocka_unit_test(test_refreshed),
		cmocka_unit_test(test_many_leases),
		cmocka_unit_test(test_intact),
		cmocka_unit_test(test_borrowed),
		cmocka_unit_test(test_watch),
		cmocka_unit_test(test_foreign_table_stays),
		cmocka_unit_test(test_killswitch),
	};
	return cmocka_run_group_tests_name("nft", tests, setup, teardown);
}
