/* The gateway's table: anti-spoofing, forwarding, masquerading, leases and their counters. */
#include "io/nft.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "io/nft_script.h"

/* ---- the fixed part ---- */

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
	snprintf(out + at, TUNNEL_SET_MAX - at, " }");
}

static void put_objects(struct nft_script *s, const struct nft_gateway *gw)
{
	static const char *const counters[] = {"spoofed", "denied", "unleased"};

	for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
		nft_script_add(s, "add counter inet %s %s", gw->table, counters[i]);
	nft_script_prefix_sets(s, gw->table, "denied", gw->denied, gw->denied_count);
	nft_script_prefix_sets(s, gw->table, "allowed", gw->allowed, gw->allowed_count);
	for (int family = 4; family <= 6; family += 2) {
		nft_script_add(s, "add map inet %s up%d { type ifname . ipv%d_addr : verdict; }",
			       gw->table, family, family);
		nft_script_add(s, "add map inet %s down%d { type ifname . ipv%d_addr : verdict; }",
			       gw->table, family, family);
	}
}

/* Before connection tracking sees them: who sends from a tunnel.  A lease's chain ends in accept.
 */
static void put_source(struct nft_script *s, const struct gateway_script *g)
{
	const struct nft_gateway *gw = g->gw;
	nft_script_add(s, "add chain inet %s source { type filter hook prerouting priority raw; }",
		       gw->table);
	nft_script_add(s, "add rule inet %s source iifname != %s accept", gw->table, g->tunnels);
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

int nft_gateway_create(struct nft *nft, const struct nft_gateway *gw, bool replace)
{
	struct gateway_script g = {.gw = gw};
	struct nft_script s;

	if (!gateway_valid(gw))
		return -EINVAL;
	interface_set(g.tunnels, gw->tunnels, gw->tunnel_count);
	interface_set(g.borrowed, gw->borrowed, gw->borrowed_count);
	nft_script_init(&s);
	nft_script_table(&s, gw->table, replace);
	put_objects(&s, gw);
	put_source(&s, &g);
	put_forward(&s, &g);
	put_input(&s, &g);
	put_target(&s, &g);
	put_nat(&s, &g);
	return nft_script_run(nft, &s, EEXIST);
}

/* ---- leases ---- */

static bool lease_valid(const char *table, const struct nft_lease *l)
{
	size_t len = strlen(l->tag);

	for (size_t i = 0; i < len; i++)
		if (!islower((unsigned char)l->tag[i]) && !isdigit((unsigned char)l->tag[i]))
			return false;
	return len > 0 && len <= NFT_LEASE_TAG_MAX && nft_interface_ok(l->interface) &&
	       nft_name_ok(table, NFT_TABLE_NAME_MAX) && (!l->ip4.family || l->ip4.family == 4) &&
	       (!l->ip6.family || l->ip6.family == 6);
}

static void put_elements(struct nft_script *s, const char *verb, const char *table,
			 const struct nft_lease *l, const char *direction)
{
	const struct net_addr *addrs[] = {&l->ip4, &l->ip6};
	char text[NET_ADDR_TEXT];

	for (int i = 0; i < 2; i++)
		if (addrs[i]->family)
			nft_script_add(s,
				       "%s element inet %s %s%u { \"%s\" . %s : goto lease_%s_%s }",
				       verb, table, direction, addrs[i]->family, l->interface,
				       net_addr_ip_text(addrs[i], text), l->tag, direction);
}

static const char *const directions[] = {"up", "down"};

int nft_lease_add(struct nft *nft, const char *table, const struct nft_lease *l)
{
	struct nft_script s;

	if (!lease_valid(table, l))
		return -EINVAL;
	nft_script_init(&s);
	for (int i = 0; i < 2; i++) {
		const char *d = directions[i];
		nft_script_add(&s, "create counter inet %s lease_%s_%s", table, l->tag, d);
		nft_script_add(&s, "create chain inet %s lease_%s_%s", table, l->tag, d);
		if (i == 0 && l->has_mac)
			nft_script_add(&s,
				       "add rule inet %s lease_%s_%s ether saddr != "
				       "%02x:%02x:%02x:%02x:%02x:%02x counter name spoofed drop",
				       table, l->tag, d, l->mac[0], l->mac[1], l->mac[2], l->mac[3],
				       l->mac[4], l->mac[5]);
		nft_script_add(&s, "add rule inet %s lease_%s_%s counter name lease_%s_%s accept",
			       table, l->tag, d, l->tag, d);
		put_elements(&s, "create", table, l, d);
	}
	return nft_script_run(nft, &s, EEXIST);
}

int nft_lease_del(struct nft *nft, const char *table, const struct nft_lease *l)
{
	struct nft_script s;

	if (!lease_valid(table, l))
		return -EINVAL;
	nft_script_init(&s);
	for (int i = 0; i < 2; i++) {
		const char *d = directions[i];
		put_elements(&s, "delete", table, l, d);
		/* Its own rule keeps the counter busy. */
		nft_script_add(&s, "flush chain inet %s lease_%s_%s", table, l->tag, d);
		nft_script_add(&s, "delete chain inet %s lease_%s_%s", table, l->tag, d);
		nft_script_add(&s, "delete counter inet %s lease_%s_%s", table, l->tag, d);
	}
	return nft_script_run(nft, &s, ENOENT);
}

/* ---- counters ---- */

static uint64_t get_u64(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_uint64(v) : 0;
}

static void fixed_counter(struct nft_gateway_counters *out, const char *name, struct nft_counter c)
{
	if (strcmp(name, "spoofed") == 0)
		out->spoofed = c;
	else if (strcmp(name, "denied") == 0)
		out->denied = c;
	else if (strcmp(name, "unleased") == 0)
		out->unleased = c;
}

/* "lease_TAG_up" or "lease_TAG_down"; false for another name. */
static bool lease_name(const char *name, char tag[NFT_LEASE_TAG_MAX + 1], bool *up)
{
	const char *start = name + 6, *end;

	if (strncmp(name, "lease_", 6) != 0 || !(end = strchr(start, '_')) ||
	    end - start > NFT_LEASE_TAG_MAX)
		return false;
	memcpy(tag, start, (size_t)(end - start));
	tag[end - start] = '\0';
	*up = strcmp(end, "_up") == 0;
	return *up || strcmp(end, "_down") == 0;
}

struct counter_read {
	struct nft_gateway_counters *out;
	struct nft_lease_counters lease; /* one half seen */
	bool half;
	nft_lease_visit *visit;
	void *ctx;
};

static void lease_counter(struct counter_read *r, const char *tag, bool up, struct nft_counter c)
{
	if (r->half && strcmp(r->lease.tag, tag) != 0)
		r->half = false;
	if (!r->half) {
		r->lease = (struct nft_lease_counters){0};
		snprintf(r->lease.tag, sizeof r->lease.tag, "%s", tag);
	}
	*(up ? &r->lease.up : &r->lease.down) = c;
	if (r->half && r->visit)
		r->visit(&r->lease, r->ctx);
	r->half = !r->half;
}

static void one_counter(struct counter_read *r, struct json_object *entry)
{
	struct json_object *o, *name;
	char tag[NFT_LEASE_TAG_MAX + 1];
	bool up;

	if (!json_object_object_get_ex(entry, "counter", &o) ||
	    !json_object_object_get_ex(o, "name", &name))
		return;
	struct nft_counter c = {get_u64(o, "packets"), get_u64(o, "bytes")};
	if (lease_name(json_object_get_string(name), tag, &up))
		lease_counter(r, tag, up, c);
	else
		fixed_counter(r->out, json_object_get_string(name), c);
}

int nft_gateway_counters(struct nft *nft, const char *table, struct nft_gateway_counters *out,
			 nft_lease_visit *visit, void *ctx)
{
	struct counter_read r = {.out = out, .visit = visit, .ctx = ctx};
	struct json_object *root, *list;
	char command[128];

	if (!nft_name_ok(table, NFT_TABLE_NAME_MAX))
		return -EINVAL;
	*out = (struct nft_gateway_counters){0};
	snprintf(command, sizeof command, "list counters table inet %s", table);
	int rc = nft_query(nft, command, ENOENT, &root, &list);
	if (rc)
		return rc;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		one_counter(&r, json_object_array_get_idx(list, i));
	json_object_put(root);
	return 0;
}
