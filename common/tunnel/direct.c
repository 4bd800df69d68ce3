/*
 * The method "direct": no tunnel.  Subscriber and gateway share a network (layer 2), and the
 * gateway is the subscriber's default gateway there.  The subscriber keeps its own address; what
 * the pools lease stays unused.
 *
 *   options  {"also": [addresses]}, by the subscriber: its own of the other family there
 *            {"mac": the subscriber's link-layer address}, by the gateway, as its kernel knows it,
 *            which leaves of "also" one that its kernel knows at the same link-layer address
 *   answer   {"host": the subscriber's own address, "server": the gateway's on that network, and
 *            "alsoHost", "alsoServer": the same of the other family, if it is leased too}
 *
 * The network is the operator's: the gateway's firewall looks only at what leaves it by the uplink,
 * and lets that pass from the addresses of leases.  A lease is for the address that called, and for
 * the one of the other family that is proven to be at the same link-layer address.
 */
#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/map.h"
#include "io/clock.h"
#include "io/config.h"
#include "io/hostjournal.h"
#include "io/sockaddr.h"
#include "tunnel/linktun.h"

#define SID_KEY_BYTES 32
#define HOST_KEY_BYTES 17
#define ALSO_MAX 4 /* addresses that a subscriber may name */
#define DISCARD_PORT 9
/* A neighbour is waited for so long, looked for so often; and of a second no more than that share,
 * whoever asks. */
#define NEIGHBOUR_WAIT_US 20000u
#define NEIGHBOUR_LOOK_US 1000u
#define NEIGHBOUR_SHARE 10u
#define NEIGHBOUR_SAVED_US 100000u

static int direct_probe(const struct tunnel_env *env, enum tunnel_end end, char *why)
{
	const char *interface, *uplink;

	if (!env->journal)
		return tunnel_why(why, -EPERM, "the host's network may not be changed");
	if (end == TUNNEL_SUBSCRIBER)
		return 0;
	interface = env->cfg ? env->cfg->direct_interface : "";
	uplink = env->cfg ? env->cfg->gateway_uplink_interface : "";
	if (!*interface)
		return tunnel_why(why, -ENODEV,
				  "[direct] Interface does not say which network is shared");
	if (!*uplink)
		return tunnel_why(why, -ENODEV,
				  "[gateway] UplinkInterface must say what needs a lease");
	if (strcmp(interface, uplink) == 0)
		return tunnel_why(why, -ENODEV, "the uplink itself cannot be the shared network");
	if (nl_link_index(hostjournal_nl(env->journal), interface) < 0)
		return tunnel_why(why, -ENODEV, "there is no interface %.20s", interface);
	return 0;
}

/* The two ends, of one family. */
struct pair {
	struct net_addr host, server;
};

/* ==== gateway ==== */

struct lease {
	LIST_ENTRY(lease) link;
	uint8_t key[SID_KEY_BYTES];
	struct pair own, also; /* the other family; family 0: it has none */
	uint8_t mac[6];
	bool has_mac;
};

struct gateway {
	struct nl *nl;
	char interface[IFNAMSIZ];
	LIST_HEAD(, lease) leases;
	struct map by_sid, by_host;
	uint64_t wait_left_us, waited_at_us; /* for neighbours; as of */
};

static void host_key(const struct net_addr *a, uint8_t key[HOST_KEY_BYTES])
{
	memset(key, 0, HOST_KEY_BYTES);
	key[0] = a->family;
	memcpy(key + 1, a->ip, a->family == 4 ? 4 : 16);
}

static struct lease *find_host(const struct gateway *gw, const struct net_addr *a)
{
	uint8_t key[HOST_KEY_BYTES];

	host_key(a, key);
	return map_get(&gw->by_host, key);
}

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
	if (!gw)
		return tunnel_no_memory(why);
	gw->nl = hostjournal_nl(env->journal);
	cstr_copy(gw->interface, sizeof gw->interface, config->interface);
	LIST_INIT(&gw->leases);
	randombytes_buf(&seed, sizeof seed);
	map_init(&gw->by_sid, SID_KEY_BYTES, TUNNEL_LEASES_MAX, seed);
	map_init(&gw->by_host, HOST_KEY_BYTES, 2 * TUNNEL_LEASES_MAX, seed);
	*out = gw;
	return 0;
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

static struct net_addr server_near(struct gateway *gw, uint32_t link, const struct net_addr *host,
				   const struct net_addr *called)
{
	struct near near = {.link = link, .called = called, .host = host};

	if (host->family && shares(gw->nl, link, host))
		linktun_find_address(gw->nl, host->family, is_near, &near);
	near.found.port = 0;
	return near.found;
}

/* Waiting holds up everybody: who asks for it again and again gets no more of it. */
static bool may_wait(struct gateway *gw)
{
	uint64_t now = daemon_now_us();

	gw->wait_left_us += (now - gw->waited_at_us) / NEIGHBOUR_SHARE;
	if (gw->wait_left_us > NEIGHBOUR_SAVED_US)
		gw->wait_left_us = NEIGHBOUR_SAVED_US;
	gw->waited_at_us = now;
	if (gw->wait_left_us < NEIGHBOUR_WAIT_US)
		return false;
	gw->wait_left_us -= NEIGHBOUR_WAIT_US;
	return true;
}

/* Has the kernel look for it: an empty datagram. */
static void nudge(const struct net_addr *a)
{
	struct sockaddr_storage ss;
	struct net_addr to = *a;
	to.port = DISCARD_PORT;
	socklen_t len = sockaddr_from_net(&ss, &to);
	int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	(void)sendto(fd, "", 0, 0, (struct sockaddr *)&ss, len);
	close(fd);
}

/* Is the host with that link-layer address the one that answers for `a`? */
static bool is_at(struct gateway *gw, uint32_t link, const struct net_addr *a, const uint8_t mac[6])
{
	static const struct timespec look = {.tv_nsec = NEIGHBOUR_LOOK_US * 1000};
	uint8_t seen[6];
	int rc = nl_neigh_get(gw->nl, link, a, seen);

	if (rc) {
		nudge(a);
		for (uint64_t us = 0, may = may_wait(gw) ? NEIGHBOUR_WAIT_US : 0; rc && us < may;
		     us += NEIGHBOUR_LOOK_US) {
			nanosleep(&look, NULL);
			rc = nl_neigh_get(gw->nl, link, a, seen);
		}
	}
	return rc == 0 && memcmp(seen, mac, sizeof seen) == 0;
}

/* The first of those that the caller names, of the other family and on this network. */
static bool also_named(struct gateway *gw, uint32_t link, const struct net_addr *host,
		       struct json_object *list, struct net_addr *out)
{
	static const struct net_addr none = {0};
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n && i < ALSO_MAX; i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		if (json_object_is_type(v, json_type_string) &&
		    net_addr_parse(out, json_object_get_string(v), 0) == 0 &&
		    out->family != host->family && server_near(gw, link, out, &none).family)
			return true;
	}
	return false;
}

static void gateway_learn(void *arg, const struct net_addr *host, struct json_object *options)
{
	struct gateway *gw = arg;
	int link = nl_link_index(gw->nl, gw->interface);
	struct json_object *named = NULL;
	struct net_addr also;
	uint8_t mac[6];

	json_object_object_get_ex(options, "also", &named);
	json_object_get(named);
	json_object_object_del(options, "also");
	json_object_object_del(options, "mac");
	if (link > 0 && host->family && nl_neigh_get(gw->nl, (uint32_t)link, host, mac) == 0) {
		linktun_put_mac(options, "mac", mac);
		if (also_named(gw, (uint32_t)link, host, named, &also) &&
		    is_at(gw, (uint32_t)link, &also, mac))
			linktun_put_address(options, "also", &also);
	}
	json_object_put(named);
}

/* What is another's by now, or no longer there, is left out. */
static void also_fill(struct gateway *gw, uint32_t link, const struct tunnel_lease *t,
		      struct lease *l)
{
	static const struct net_addr none = {0};
	struct pair p;

	if (!l->has_mac || !linktun_get_address(t->options, "also", &p.host) ||
	    p.host.family == l->own.host.family || find_host(gw, &p.host))
		return;
	p.server = server_near(gw, link, &p.host, &none);
	p.host.port = 0;
	if (p.server.family)
		l->also = p;
}

static int lease_fill(struct gateway *gw, const struct tunnel_lease *t, struct lease *l, char *why)
{
	int link = nl_link_index(gw->nl, gw->interface);

	if (link < 0)
		return tunnel_why(why, link, "interface %s is gone", gw->interface);
	l->own.server = server_near(gw, (uint32_t)link, &t->host, &t->server);
	if (!l->own.server.family)
		return tunnel_why(why, -EINVAL, "it needs a call from the network of %s",
				  gw->interface);
	if (find_host(gw, &t->host)) {
		return tunnel_why(why, -EEXIST, "this host has a lease already");
	}
	l->own.host = t->host;
	l->own.host.port = 0;
	l->has_mac = linktun_get_mac(t->options, "mac", l->mac);
	also_fill(gw, (uint32_t)link, t, l);
	return 0;
}

static int host_put(struct gateway *gw, const struct net_addr *host, struct lease *l)
{
	uint8_t key[HOST_KEY_BYTES];

	host_key(host, key);
	return map_put(&gw->by_host, key, l);
}

static void host_del(struct gateway *gw, const struct net_addr *host, const struct lease *l)
{
	uint8_t key[HOST_KEY_BYTES];

	host_key(host, key);
	if (map_get(&gw->by_host, key) == l)
		map_del(&gw->by_host, key);
}

static void lease_free(struct gateway *gw, struct lease *l)
{
	map_del(&gw->by_sid, l->key);
	host_del(gw, &l->own.host, l);
	if (l->also.host.family)
		host_del(gw, &l->also.host, l);
	LIST_REMOVE(l, link);
	free(l);
}

static int lease_new(struct gateway *gw, const struct tunnel_lease *t, struct lease **out,
		     char *why)
{
	struct lease *l = calloc(1, sizeof *l);
	int rc = l ? lease_fill(gw, t, l, why) : -ENOMEM;

	if (!l)
		tunnel_say_memory(why);
	if (rc) {
		free(l);
		return rc;
	}
	linktun_secret(t->sid, "key", l->key, sizeof l->key);
	LIST_INSERT_HEAD(&gw->leases, l, link);
	rc = map_put(&gw->by_sid, l->key, l);
	if (!rc)
		rc = host_put(gw, &l->own.host, l);
	if (!rc && l->also.host.family)
		rc = host_put(gw, &l->also.host, l);
	if (rc) {
		tunnel_say(why, "no room for the lease");
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
	if (!rc && !net_addr_same_ip(&l->own.host, &t->host))
		rc = tunnel_why(why, -EEXIST, "this sid is another host's");
	if (rc)
		return rc;
	linktun_put_address(answer, "host", &l->own.host);
	linktun_put_address(answer, "server", &l->own.server);
	if (l->also.host.family) {
		linktun_put_address(answer, "alsoHost", &l->also.host);
		linktun_put_address(answer, "alsoServer", &l->also.server);
	}
	cstr_copy(interface, IFNAMSIZ, gw->interface);
	return 0;
}

/* Ours and the other's, each to the place of its family. */
static void pair_tell(const struct pair *p, struct net_addr *host4, struct net_addr *server4,
		      struct net_addr *host6, struct net_addr *server6)
{
	if (p->host.family == 4) {
		*host4 = p->host;
		*server4 = p->server;
	} else if (p->host.family == 6) {
		*host6 = p->host;
		*server6 = p->server;
	}
}

static void source_add(struct tunnel_source *out, const struct pair *p)
{
	pair_tell(p, &out->ip4, &out->near4, &out->ip6, &out->near6);
}

static void gateway_source(void *arg, const char *sid, struct tunnel_source *out)
{
	const struct lease *l = find(arg, sid);

	if (!l)
		return;
	*out = (struct tunnel_source){.has_mac = l->has_mac};
	memcpy(out->mac, l->mac, sizeof out->mac);
	source_add(out, &l->own);
	source_add(out, &l->also);
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
	struct pair own, also; /* the other family; family 0: it is not leased */
};

struct naming {
	uint32_t link;
	struct json_object *list;
};

/* Not those that no other network can be reached from. */
static int name_address(const struct nl_addr *a, void *ctx)
{
	struct naming *n = ctx;
	const uint8_t *ip = a->prefix.addr.ip;
	bool near = a->prefix.addr.family == 6 ? ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80
					       : ip[0] == 169 && ip[1] == 254;
	char text[NET_ADDR_TEXT];

	if (a->link == n->link && !near && !a->peer.family)
		json_object_array_add(
			n->list, json_object_new_string(net_addr_ip_text(&a->prefix.addr, text)));
	return json_object_array_length(n->list) == ALSO_MAX;
}

/* One call tells the gateway one of our addresses; that we have others there we have to say. */
static int client_options(const struct tunnel_env *env, struct json_object *options, char *why)
{
	struct nl *nl = env->journal ? hostjournal_nl(env->journal) : NULL;
	struct naming n = {0};
	struct nl_route way = {0};

	(void)why;
	if (!nl || !env->server.family || nl_route_get(nl, &env->server, 0, &way) != 0 ||
	    way.via.family || !way.dev)
		return 0;
	n.link = way.dev;
	n.list = json_object_new_array();
	if (!n.list)
		return 0;
	linktun_find_address(nl, env->server.family == 4 ? 6 : 4, name_address, &n);
	if (json_object_array_length(n.list))
		json_object_object_add(options, "also", n.list);
	else
		json_object_put(n.list);
	return 0;
}

static bool pair_get(struct json_object *o, const char *host, const char *server, struct pair *p)
{
	if (!linktun_get_address(o, host, &p->host) ||
	    !linktun_get_address(o, server, &p->server) || p->host.family != p->server.family)
		return false;
	p->host.port = p->server.port = 0;
	return true;
}

/* Without it the lease is for one family, as that of a gateway which knows of no other. */
static void also_get(struct client *c, struct nl *nl, int link, struct json_object *o)
{
	struct pair p;

	if (pair_get(o, "alsoHost", "alsoServer", &p) && p.host.family != c->own.host.family &&
	    linktun_link_of(nl, &p.host) == link && shares(nl, (uint32_t)link, &p.server))
		c->also = p;
}

static int client_fill(struct client *c, struct nl *nl, const struct tunnel_grant *grant, char *why)
{
	char text[NET_ADDR_TEXT];
	int link;

	if (!pair_get(grant->object, "host", "server", &c->own))
		return tunnel_why(why, -EPROTO, "the gateway's answer names no host and server");
	link = linktun_link_of(nl, &c->own.host);
	if (link < 0 || !if_indextoname((uint32_t)link, c->interface))
		return tunnel_why(why, -EADDRNOTAVAIL,
				  "the gateway sees us as %s, which is not our address",
				  net_addr_ip_text(&c->own.host, text));
	if (!shares(nl, (uint32_t)link, &c->own.server)) {
		return tunnel_why(why, -ENETUNREACH, "the gateway %s is not on the network of %s",
				  net_addr_ip_text(&c->own.server, text), c->interface);
	}
	also_get(c, nl, link, grant->object);
	return 0;
}

static int client_open(void **out, const struct tunnel_env *env, const struct tunnel_grant *grant,
		       tunnel_client_state *state, void *arg, char *why)
{
	int rc = direct_probe(env, TUNNEL_SUBSCRIBER, why);
	struct client *c = rc ? NULL : calloc(1, sizeof *c);

	if (!c)
		return rc ? rc : tunnel_no_memory(why);
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

static void path_add(struct tunnel_path *out, const struct pair *p)
{
	pair_tell(p, &out->source4, &out->via4, &out->source6, &out->via6);
}

static void client_path(void *arg, struct tunnel_path *out)
{
	const struct client *c = arg;

	*out = (struct tunnel_path){0};
	path_add(out, &c->own);
	path_add(out, &c->also);
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
	      (.client_options = client_options, .client_open = client_open,
	       .client_interface = client_interface, .client_path = client_path,
	       .client_counters = client_counters, .client_close = client_close));
