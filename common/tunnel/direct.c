/*
 * The method "direct": no tunnel.  Subscriber and gateway share a network (layer 2), and the
 * gateway is the subscriber's default gateway there.  The subscriber keeps its own address; what
 * the pools lease stays unused.
 *
 *   options  {"mac": the subscriber's link-layer address}, by the gateway, as its kernel knows it
 *   answer   {"host": the subscriber's own address, "server": the gateway's on that network}
 *
 * The network is the operator's: the gateway's firewall looks only at what leaves it by the uplink,
 * and lets that pass from the addresses of leases.  A lease is for the family of the call.
 */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/map.h"
#include "io/config.h"
#include "io/hostjournal.h"
#include "tunnel/linktun.h"

#define SID_KEY_BYTES 32

static int direct_probe(const struct tunnel_env *env, enum tunnel_end end, char *why)
{
	const char *interface, *uplink;

	if (!env->journal) {
		snprintf(why, TUNNEL_WHY_MAX, "the host's network may not be changed");
		return -EPERM;
	}
	if (end == TUNNEL_SUBSCRIBER)
		return 0;
	interface = env->cfg ? env->cfg->direct_interface : "";
	uplink = env->cfg ? env->cfg->gateway_uplink_interface : "";
	if (!*interface)
		snprintf(why, TUNNEL_WHY_MAX,
			 "[direct] Interface does not say which network is shared");
	else if (!*uplink)
		snprintf(why, TUNNEL_WHY_MAX,
			 "[gateway] UplinkInterface must say what needs a lease");
	else if (strcmp(interface, uplink) == 0)
		snprintf(why, TUNNEL_WHY_MAX, "the uplink itself cannot be the shared network");
	else if (nl_link_index(hostjournal_nl(env->journal), interface) < 0)
		snprintf(why, TUNNEL_WHY_MAX, "there is no interface %.20s", interface);
	else
		return 0;
	return -ENODEV;
}

/* ==== gateway ==== */

struct lease {
	LIST_ENTRY(lease) link;
	uint8_t key[SID_KEY_BYTES];
	struct net_addr host, server;
	uint8_t mac[6];
	bool has_mac;
};

struct gateway {
	struct nl *nl;
	char interface[IFNAMSIZ];
	LIST_HEAD(, lease) leases;
	struct map by_sid, by_host;
};

static struct lease *find(const struct gateway *gw, const char *sid)
{
	uint8_t key[SID_KEY_BYTES];

	linktun_secret(sid, "key", key, sizeof key);
	return map_get(&gw->by_sid, key);
}

static int gateway_start(void **out, const struct tunnel_env *env,
			 const struct tunnel_gateway_config *config, char *why)
{
	struct gateway *gw;
	uint64_t seed;
	int rc = direct_probe(env, TUNNEL_GATEWAY, why);

	if (rc)
		return rc;
	gw = calloc(1, sizeof *gw);
	if (!gw) {
		snprintf(why, TUNNEL_WHY_MAX, "out of memory");
		return -ENOMEM;
	}
	gw->nl = hostjournal_nl(env->journal);
	snprintf(gw->interface, sizeof gw->interface, "%s", config->interface);
	LIST_INIT(&gw->leases);
	randombytes_buf(&seed, sizeof seed);
	map_init(&gw->by_sid, SID_KEY_BYTES, TUNNEL_LEASES_MAX, seed);
	map_init(&gw->by_host, sizeof((struct net_addr *)0)->ip, TUNNEL_LEASES_MAX, seed);
	*out = gw;
	return 0;
}

static void gateway_learn(void *arg, const struct net_addr *host, struct json_object *options)
{
	struct gateway *gw = arg;
	int link = nl_link_index(gw->nl, gw->interface);
	uint8_t mac[6];

	json_object_object_del(options, "mac");
	if (link > 0 && host->family && nl_neigh_get(gw->nl, (uint32_t)link, host, mac) == 0)
		linktun_put_mac(options, "mac", mac);
}

/* Is the address on our network, without a router between? */
static bool shares(struct nl *nl, uint32_t link, const struct net_addr *a)
{
	struct nl_route way = {0};

	return nl_route_get(nl, a, 0, &way) == 0 && way.dev == link && !way.via.family &&
	       (way.type == 0 || way.type == NL_ROUTE_UNICAST);
}

/* Our address on the network, seen from the host: the called one if it is there. */
struct near {
	uint32_t link;
	const struct net_addr *called, *host;
	struct net_addr found;
};

static int is_near(const struct nl_addr *a, void *ctx)
{
	struct near *n = ctx;

	if (a->link != n->link || !net_prefix_contains(&a->prefix, n->host))
		return 0;
	n->found = a->prefix.addr;
	return net_addr_same_ip(&a->prefix.addr, n->called);
}

static int lease_fill(struct gateway *gw, const struct tunnel_lease *t, struct lease *l, char *why)
{
	int link = nl_link_index(gw->nl, gw->interface);
	struct near near = {.called = &t->server, .host = &t->host};

	if (link < 0) {
		snprintf(why, TUNNEL_WHY_MAX, "interface %s is gone", gw->interface);
		return link;
	}
	near.link = (uint32_t)link;
	if (t->host.family && shares(gw->nl, near.link, &t->host))
		linktun_find_address(gw->nl, t->host.family, is_near, &near);
	if (!near.found.family) {
		snprintf(why, TUNNEL_WHY_MAX, "it needs a call from the network of %s",
			 gw->interface);
		return -EINVAL;
	}
	if (map_get(&gw->by_host, t->host.ip)) {
		snprintf(why, TUNNEL_WHY_MAX, "this host has a lease already");
		return -EEXIST;
	}
	l->host = t->host;
	l->server = near.found;
	l->host.port = l->server.port = 0;
	l->has_mac = linktun_get_mac(t->options, "mac", l->mac);
	return 0;
}

static void lease_free(struct gateway *gw, struct lease *l)
{
	map_del(&gw->by_sid, l->key);
	if (map_get(&gw->by_host, l->host.ip) == l)
		map_del(&gw->by_host, l->host.ip);
	LIST_REMOVE(l, link);
	free(l);
}

static int lease_new(struct gateway *gw, const struct tunnel_lease *t, struct lease **out,
		     char *why)
{
	struct lease *l = calloc(1, sizeof *l);
	int rc = l ? lease_fill(gw, t, l, why) : -ENOMEM;

	if (!l)
		snprintf(why, TUNNEL_WHY_MAX, "out of memory");
	if (rc) {
		free(l);
		return rc;
	}
	linktun_secret(t->sid, "key", l->key, sizeof l->key);
	LIST_INSERT_HEAD(&gw->leases, l, link);
	rc = map_put(&gw->by_sid, l->key, l);
	if (!rc)
		rc = map_put(&gw->by_host, l->host.ip, l);
	if (rc) {
		snprintf(why, TUNNEL_WHY_MAX, "no room for the lease");
		lease_free(gw, l);
		return rc;
	}
	*out = l;
	return 0;
}

static int gateway_open(void *arg, const struct tunnel_lease *t, struct json_object *answer,
			char interface[IFNAMSIZ], char *why)
{
	struct gateway *gw = arg;
	struct lease *l = find(gw, t->sid);
	int rc = 0;

	if (!l)
		rc = lease_new(gw, t, &l, why);
	if (!rc && !net_addr_same_ip(&l->host, &t->host)) {
		snprintf(why, TUNNEL_WHY_MAX, "this sid is another host's");
		rc = -EEXIST;
	}
	if (rc)
		return rc;
	linktun_put_address(answer, "host", &l->host);
	linktun_put_address(answer, "server", &l->server);
	snprintf(interface, IFNAMSIZ, "%s", gw->interface);
	return 0;
}

static void gateway_source(void *arg, const char *sid, struct tunnel_source *out)
{
	const struct lease *l = find(arg, sid);

	if (!l)
		return;
	*out = (struct tunnel_source){.has_mac = l->has_mac};
	memcpy(out->mac, l->mac, sizeof out->mac);
	if (l->host.family == 4) {
		out->ip4 = l->host;
		out->near4 = l->server;
	} else {
		out->ip6 = l->host;
		out->near6 = l->server;
	}
}

static void gateway_close(void *arg, const char *sid)
{
	struct lease *l = find(arg, sid);

	if (l)
		lease_free(arg, l);
}

/* The daemon's firewall counts. */
static int gateway_counters(void *gw, const char *sid, struct tunnel_counters *out)
{
	(void)gw;
	(void)sid;
	*out = (struct tunnel_counters){0};
	return -ENOENT;
}

static void gateway_stop(void *arg)
{
	struct gateway *gw = arg;

	if (!gw)
		return;
	while (!LIST_EMPTY(&gw->leases))
		lease_free(gw, LIST_FIRST(&gw->leases));
	map_free(&gw->by_sid);
	map_free(&gw->by_host);
	free(gw);
}

/* ==== subscriber ==== */

struct client {
	char interface[IFNAMSIZ];
	struct net_addr host, server;
};

static int client_fill(struct client *c, struct nl *nl, const struct tunnel_grant *grant, char *why)
{
	char text[NET_ADDR_TEXT];
	int link;

	if (!linktun_get_address(grant->object, "host", &c->host) ||
	    !linktun_get_address(grant->object, "server", &c->server) ||
	    c->host.family != c->server.family) {
		snprintf(why, TUNNEL_WHY_MAX, "the gateway's answer names no host and server");
		return -EPROTO;
	}
	c->host.port = c->server.port = 0;
	link = linktun_link_of(nl, &c->host);
	if (link < 0 || !if_indextoname((uint32_t)link, c->interface)) {
		snprintf(why, TUNNEL_WHY_MAX, "the gateway sees us as %s, which is not our address",
			 net_addr_ip_text(&c->host, text));
		return -EADDRNOTAVAIL;
	}
	if (!shares(nl, (uint32_t)link, &c->server)) {
		snprintf(why, TUNNEL_WHY_MAX, "the gateway %s is not on the network of %s",
			 net_addr_ip_text(&c->server, text), c->interface);
		return -ENETUNREACH;
	}
	return 0;
}

static int client_open(void **out, const struct tunnel_env *env, const struct tunnel_grant *grant,
		       tunnel_client_state *state, void *arg, char *why)
{
	int rc = direct_probe(env, TUNNEL_SUBSCRIBER, why);
	struct client *c = rc ? NULL : calloc(1, sizeof *c);

	if (!c) {
		if (!rc)
			snprintf(why, TUNNEL_WHY_MAX, "out of memory");
		return rc ? rc : -ENOMEM;
	}
	rc = client_fill(c, hostjournal_nl(env->journal), grant, why);
	if (rc) {
		free(c);
		return rc;
	}
	*out = c;
	state(TUNNEL_UP, "", arg);
	return 0;
}

static const char *client_interface(void *arg)
{
	const struct client *c = arg;

	return c->interface;
}

static void client_path(void *arg, struct tunnel_path *out)
{
	const struct client *c = arg;

	*out = (struct tunnel_path){0};
	if (c->host.family == 4) {
		out->source4 = c->host;
		out->via4 = c->server;
	} else {
		out->source6 = c->host;
		out->via6 = c->server;
	}
}

/* The interface carries other traffic too: nothing to tell but that it is there. */
static void client_counters(void *arg, struct tunnel_counters *out)
{
	const struct client *c = arg;

	*out = (struct tunnel_counters){.connected = if_nametoindex(c->interface) != 0};
}

static void client_close(void *arg)
{
	free(arg);
}

TUNNEL_METHOD(direct, (.name = "direct", .borrows = true, .probe = direct_probe),
	      (.gateway_start = gateway_start, .gateway_open = gateway_open,
	       .gateway_learn = gateway_learn, .gateway_source = gateway_source,
	       .gateway_close = gateway_close, .gateway_counters = gateway_counters,
	       .gateway_stop = gateway_stop),
	      (.client_open = client_open, .client_interface = client_interface,
	       .client_path = client_path, .client_counters = client_counters,
	       .client_close = client_close));
