/* The gateway's table: anti-spoofing, forwarding, masquerading, leases and their counters. */
#include "io/nft.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cstr.h"
#include "io/nft_script.h"

/* ---- the fixed part ---- */

const char *const nft_directions[2] = {"up", "down"};

/* Of a tunnel set's text: a name is quoted and followed by a comma. */
#define TUNNEL_SET_MAX (NFT_TUNNELS_MAX * (IFNAMSIZ + 4) + 8)

/* A gateway's table while its script is written. */
struct gateway_script {
	const struct nft_gateway *gw;
	char tunnels[TUNNEL_SET_MAX];  /* { "mgw0", "mgwf*" } */
	char borrowed[TUNNEL_SET_MAX]; /* "" when there are none */
};

/* A name, or its beginning and a '*'. */
static bool pattern_ok(const char *pattern)
{
	char name[IFNAMSIZ];
	size_t len = strlen(pattern);

	if (len == 0 || len >= IFNAMSIZ)
		return false;
	memcpy(name, pattern, len + 1);
	if (name[len - 1] == '*')
		name[len - 1] = '\0';
	return nft_interface_ok(name);
}

static bool gateway_valid(const struct nft_gateway *gw)
{
	if (gw->tunnel_count > NFT_TUNNELS_MAX || gw->borrowed_count > NFT_TUNNELS_MAX)
		return false;
	for (size_t i = 0; i < gw->tunnel_count; i++)
		if (!pattern_ok(gw->tunnels[i]))
			return false;
	for (size_t i = 0; i < gw->borrowed_count; i++)
		if (!nft_interface_ok(gw->borrowed[i]))
			return false;
	return nft_name_ok(gw->table, NFT_TABLE_NAME_MAX) &&
	       gw->tunnel_count + gw->borrowed_count > 0 &&
	       (!*gw->uplink ? gw->borrowed_count == 0 : nft_interface_ok(gw->uplink));
}

/* A set cannot be empty, and no interface is called ".". */
static void interface_set(char out[TUNNEL_SET_MAX], const char *const *names, size_t count)
{
	static const char *const none[] = {"."};
	size_t at = 0;

	if (!count) {
		names = none;
		count = 1;
	}
	for (size_t i = 0; i < count; i++)
		at += (size_t)snprintf(out + at, TUNNEL_SET_MAX - at, "%s\"%s\"", i ? ", " : "{ ",
				       names[i]);
	cstr_print(out + at, TUNNEL_SET_MAX - at, " }");
}

static void put_objects(struct nft_script *s, const struct nft_gateway *gw)
{
	static const char *const counters[] = {"spoofed", "denied", "unleased"};

	for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
		nft_script_add(s, "add counter inet %s %s", gw->table, counters[i]);
	nft_script_prefix_sets(s, gw->table, "denied", gw->denied, gw->denied_count);
	nft_script_prefix_sets(s, gw->table, "allowed", gw->allowed, gw->allowed_count);
	for (int family = 4; family <= 6; family += 2) {
		for (int d = 0; d < 2; d++)
			nft_script_add(s,
				       "add map inet %s %s%d "
				       "{ type ifname . ipv%d_addr : verdict; counter; }",
				       gw->table, nft_directions[d], family, family);
		/* Leases that are held to a link-layer address, and to which. */
		nft_script_add(s, "add set inet %s bound%d { type ifname . ipv%d_addr; }",
			       gw->table, family, family);
		nft_script_add(s,
			       "add set inet %s macs%d { type ifname . ipv%d_addr . ether_addr; }",
			       gw->table, family, family);
	}
}

static void put_macs(struct nft_script *s, const char *table, const char *chain)
{
	for (int family = 4; family <= 6; family += 2) {
		const char *ip = family == 4 ? "ip" : "ip6";

		nft_script_add(
			s,
			"add rule inet %s %s iifname . %s saddr @bound%d "
			"iifname . %s saddr . ether saddr != @macs%d counter name spoofed drop",
			table, chain, ip, family, ip, family);
	}
}

/* Before connection tracking sees them: who sends from a tunnel.  A lease's element says accept. */
static void put_source(struct nft_script *s, const struct gateway_script *g)
{
	const struct nft_gateway *gw = g->gw;
	nft_script_add(s, "add chain inet %s source { type filter hook prerouting priority raw; }",
		       gw->table);
	nft_script_add(s, "add rule inet %s source iifname != %s accept", gw->table, g->tunnels);
	put_macs(s, gw->table, "source");
	nft_script_add(s, "add rule inet %s source iifname . ip saddr vmap @up4", gw->table);
	nft_script_add(s, "add rule inet %s source iifname . ip6 saddr vmap @up6", gw->table);
	/* Reports of the subscriber's kernel are no spoofing. */
	nft_script_add(s, "add rule inet %s source ip daddr 224.0.0.0/4 drop", gw->table);
	nft_script_add(s, "add rule inet %s source ip6 daddr ff00::/8 drop", gw->table);
	nft_script_add(s, "add rule inet %s source counter name spoofed drop", gw->table);
}

static void put_target(struct nft_script *s, const struct gateway_script *g)
{
	const struct nft_gateway *gw = g->gw;
	nft_script_add(s,
		       "add chain inet %s target { type filter hook postrouting priority filter; }",
		       gw->table);
	nft_script_add(s, "add rule inet %s target oifname != %s accept", gw->table, g->tunnels);
	nft_script_add(s, "add rule inet %s target oifname . ip daddr vmap @down4", gw->table);
	nft_script_add(s, "add rule inet %s target oifname . ip6 daddr vmap @down6", gw->table);
	/* The kernel's own reports are no news. */
	nft_script_add(s, "add rule inet %s target ip daddr 224.0.0.0/4 drop", gw->table);
	nft_script_add(s, "add rule inet %s target ip6 daddr ff00::/8 drop", gw->table);
	nft_script_add(s, "add rule inet %s target counter name unleased drop", gw->table);
}

/* A lease's chain ends in accept; whatever else the interface's owner forwards is not looked at. */
static void put_borrowed(struct nft_script *s, const struct gateway_script *g)
{
	const struct nft_gateway *gw = g->gw;
	const char *t = gw->table, *b = g->borrowed, *up = gw->uplink;

	if (!gw->borrowed_count)
		return;
	nft_script_add(s, "add chain inet %s share", t);
	for (int family = 4; family <= 6; family += 2)
		nft_script_add(s,
			       "add rule inet %s share %s daddr @denied%d %s daddr != @allowed%d "
			       "counter name denied drop",
			       t, family == 4 ? "ip" : "ip6", family, family == 4 ? "ip" : "ip6",
			       family);
	put_macs(s, t, "share");
	nft_script_add(s, "add rule inet %s share iifname . ip saddr vmap @up4", t);
	nft_script_add(s, "add rule inet %s share iifname . ip6 saddr vmap @up6", t);
	nft_script_add(s, "add rule inet %s share counter name spoofed drop", t);
	nft_script_add(s, "add rule inet %s forward iifname %s oifname \"%s\" goto share", t, b,
		       up);
	for (int family = 4; family <= 6; family += 2)
		nft_script_add(s,
			       "add rule inet %s forward iifname \"%s\" oifname %s "
			       "oifname . %s daddr vmap @down%d",
			       t, up, b, family == 4 ? "ip" : "ip6", family);
}

static void put_forward(struct nft_script *s, const struct gateway_script *g)
{
	const struct nft_gateway *gw = g->gw;
	const char *t = gw->table, *p = g->tunnels;

	nft_script_add(s, "add chain inet %s leave", t);
	nft_script_add(s, "add rule inet %s leave oifname %s counter name denied drop", t, p);
	nft_script_add(s, "add rule inet %s leave ip daddr @allowed4 accept", t);
	nft_script_add(s, "add rule inet %s leave ip6 daddr @allowed6 accept", t);
	nft_script_add(s, "add rule inet %s leave ip daddr @denied4 counter name denied drop", t);
	nft_script_add(s, "add rule inet %s leave ip6 daddr @denied6 counter name denied drop", t);
	if (*gw->uplink)
		nft_script_add(s,
			       "add rule inet %s leave oifname != \"%s\" counter name denied drop",
			       t, gw->uplink);
	nft_script_add(s, "add rule inet %s leave accept", t);
	nft_script_add(s, "add chain inet %s forward { type filter hook forward priority filter; }",
		       t);
	for (int out = 0; out < 2; out++)
		nft_script_add(s,
			       "add rule inet %s forward %s %s tcp flags syn / syn,rst "
			       "tcp option maxseg size set rt mtu",
			       t, out ? "oifname" : "iifname", p);
	put_borrowed(s, g);
	nft_script_add(s, "add rule inet %s forward iifname %s goto leave", t, p);
	nft_script_add(s, "add rule inet %s forward oifname != %s accept", t, p);
	nft_script_add(s, "add rule inet %s forward ct state established,related accept", t);
	nft_script_add(s, "add rule inet %s forward counter name denied drop", t);
}

static void put_input(struct nft_script *s, const struct gateway_script *g)
{
	const struct nft_gateway *gw = g->gw;
	const char *t = gw->table;

	nft_script_add(s, "add chain inet %s input { type filter hook input priority filter; }", t);
	nft_script_add(s, "add rule inet %s input iifname != %s accept", t, g->tunnels);
	nft_script_add(s, "add rule inet %s input ct state established,related accept", t);
	nft_script_add(s, "add rule inet %s input icmp type echo-request accept", t);
	nft_script_add(s, "add rule inet %s input icmpv6 type echo-request accept", t);
	for (size_t i = 0; i < gw->open_port_count; i++)
		nft_script_add(
			s, "add rule inet %s input meta l4proto { tcp, udp } th dport %u accept", t,
			gw->open_ports[i]);
	nft_script_add(s, "add rule inet %s input counter name denied drop", t);
}

static void put_nat(struct nft_script *s, const struct gateway_script *g)
{
	const struct nft_gateway *gw = g->gw;
	struct net_prefix pools[] = {gw->pool4, gw->pool6};
	char text[NET_PREFIX_TEXT];

	if (gw->routed6)
		pools[1].addr.family = 0;
	bool borrowed = gw->borrowed_count && gw->masquerade_borrowed;
	if (!pools[0].addr.family && !pools[1].addr.family && !borrowed)
		return;
	nft_script_add(s, "add chain inet %s nat { type nat hook postrouting priority srcnat; }",
		       gw->table);
	for (int i = 0; i < 2; i++) {
		struct net_prefix p = net_prefix_network(&pools[i]);
		if (p.addr.family)
			nft_script_add(
				s, "add rule inet %s nat %s saddr %s oifname != %s masquerade",
				gw->table, i ? "ip6" : "ip", net_prefix_text(&p, text), g->tunnels);
	}
	if (borrowed)
		nft_script_add(s, "add rule inet %s nat iifname %s oifname \"%s\" masquerade",
			       gw->table, g->borrowed, gw->uplink);
}

static bool lease_valid(const struct nft_lease *l)
{
	return nft_interface_ok(l->interface) && (!l->ip4.family || l->ip4.family == 4) &&
	       (!l->ip6.family || l->ip6.family == 6);
}

static bool leases_valid(const struct nft_lease *leases, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!lease_valid(&leases[i]))
			return false;
	return true;
}

/* An address that is held to a link-layer address. */
static void put_mac(struct nft_script *s, const char *verb, const char *table,
		    const struct nft_lease *l, const struct net_addr *a)
{
	char ip[NET_ADDR_TEXT];

	net_addr_ip_text(a, ip);
	nft_script_add(s, "%s element inet %s bound%u { \"%s\" . %s }", verb, table, a->family,
		       l->interface, ip);
	nft_script_add(s,
		       "%s element inet %s macs%u { \"%s\" . %s . %02x:%02x:%02x:%02x:%02x:%02x }",
		       verb, table, a->family, l->interface, ip, l->mac[0], l->mac[1], l->mac[2],
		       l->mac[3], l->mac[4], l->mac[5]);
}

static void put_lease(struct nft_script *s, const char *verb, const char *table,
		      const struct nft_lease *l)
{
	const struct net_addr *addrs[] = {&l->ip4, &l->ip6};
	char text[NET_ADDR_TEXT];

	for (int i = 0; i < 2; i++)
		if (l->has_mac && addrs[i]->family)
			put_mac(s, verb, table, l, addrs[i]);
	for (int i = 0; i < 4; i++) {
		const struct net_addr *a = addrs[i / 2];
		if (a->family)
			nft_script_add(s, "%s element inet %s %s%u { \"%s\" . %s : accept }", verb,
				       table, nft_directions[i % 2], a->family, l->interface,
				       net_addr_ip_text(a, text));
	}
}

static void put_rules(struct nft_script *s, const struct nft_gateway *gw)
{
	struct gateway_script g = {.gw = gw};

	interface_set(g.tunnels, gw->tunnels, gw->tunnel_count);
	interface_set(g.borrowed, gw->borrowed, gw->borrowed_count);
	put_source(s, &g);
	put_forward(s, &g);
	put_input(s, &g);
	put_target(s, &g);
	put_nat(s, &g);
}

int nft_gateway_create(struct nft *nft, const struct nft_gateway *gw, bool replace)
{
	struct nft_script s;

	if (!gateway_valid(gw) || !leases_valid(gw->leases, gw->lease_count))
		return -EINVAL;
	nft_script_init(&s);
	nft_script_table(&s, gw->table, replace);
	put_objects(&s, gw);
	put_rules(&s, gw);
	for (size_t n = 0; n < gw->lease_count; n++)
		put_lease(&s, "create", gw->table, &gw->leases[n]);
	return nft_script_run(nft, &s, EEXIST);
}

int nft_gateway_refresh(struct nft *nft, const struct nft_gateway *gw)
{
	struct nft_script s;

	if (!gateway_valid(gw))
		return -EINVAL;
	nft_script_init(&s);
	nft_script_add(&s, "flush table inet %s",
		       gw->table); /* of rules: sets keep their elements */
	put_rules(&s, gw);
	return nft_script_run(nft, &s, ENOENT);
}

/* ---- leases ---- */

static int leases_run(struct nft *nft, const char *verb, const char *table,
		      const struct nft_lease *leases, size_t count, int quiet)
{
	struct nft_script s;

	if (!nft_name_ok(table, NFT_TABLE_NAME_MAX) || !leases_valid(leases, count))
		return -EINVAL;
	if (!count)
		return 0;
	nft_script_init(&s);
	for (size_t i = 0; i < count; i++)
		put_lease(&s, verb, table, &leases[i]);
	return nft_script_run(nft, &s, quiet);
}

int nft_leases_add(struct nft *nft, const char *table, const struct nft_lease *leases, size_t count)
{
	return leases_run(nft, "create", table, leases, count, EEXIST);
}

int nft_leases_del(struct nft *nft, const char *table, const struct nft_lease *leases, size_t count)
{
	return leases_run(nft, "delete", table, leases, count, ENOENT);
}

/* ---- counters ---- */

static uint64_t get_u64(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_uint64(v) : 0;
}

static void one_counter(struct nft_gateway_counters *out, struct json_object *entry)
{
	struct json_object *o, *v;
	const char *name;

	if (!json_object_object_get_ex(entry, "counter", &o) ||
	    !json_object_object_get_ex(o, "name", &v))
		return;
	struct nft_counter c = {get_u64(o, "packets"), get_u64(o, "bytes")};
	name = json_object_get_string(v);
	if (strcmp(name, "spoofed") == 0)
		out->spoofed = c;
	else if (strcmp(name, "denied") == 0)
		out->denied = c;
	else if (strcmp(name, "unleased") == 0)
		out->unleased = c;
}

int nft_gateway_counters(struct nft *nft, const char *table, struct nft_gateway_counters *out)
{
	struct json_object *root, *list;
	char command[128];

	if (!nft_name_ok(table, NFT_TABLE_NAME_MAX))
		return -EINVAL;
	*out = (struct nft_gateway_counters){0};
	cstr_print(command, sizeof command, "list counters table inet %s", table);
	int rc = nft_query(nft, command, ENOENT, &root, &list);
	if (rc)
		return rc;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		one_counter(out, json_object_array_get_idx(list, i));
	json_object_put(root);
	return 0;
}
