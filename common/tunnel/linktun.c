#include "tunnel/linktun.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/cstr.h"
#include "base/log.h"
#include "base/map.h"
#include "io/hostjournal.h"
#include "tunnel/tunopt.h"

#define SID_KEY_BYTES 32
#define MTU_MIN 576u
#define MTU_MIN_IP6 1280u
#define MTU_MAX 65000u
#define OUTER_MTU_DEFAULT 1500u
#define NUMBER_MAX 99999u /* in interface names */
#define NAME_TRIES 100
#define LIST_TRIES 3 /* lists that something interrupts */

/* ---- what both ends need ---- */

void linktun_secret(const char *sid, const char *what, void *out, size_t len)
{
	uint8_t hash[32];

	crypto_generichash(hash, sizeof hash, (const uint8_t *)what, strlen(what),
			   (const uint8_t *)sid, strlen(sid) > 64 ? 64 : strlen(sid));
	memcpy(out, hash, len < sizeof hash ? len : sizeof hash);
}

bool linktun_number(struct json_object *o, const char *key, int64_t min, int64_t max, int64_t *out)
{
	struct json_object *v;

	if (!o || !json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_int))
		return false;
	*out = json_object_get_int64(v);
	return *out >= min && *out <= max;
}

void linktun_put_address(struct json_object *o, const char *key, const struct net_addr *a)
{
	char text[NET_ADDR_TEXT];

	json_object_object_add(o, key, json_object_new_string(net_addr_ip_text(a, text)));
}

bool linktun_get_address(struct json_object *o, const char *key, struct net_addr *out)
{
	struct json_object *v;

	return o && json_object_object_get_ex(o, key, &v) &&
	       json_object_is_type(v, json_type_string) &&
	       net_addr_parse(out, json_object_get_string(v), 0) == 0;
}

void linktun_put_mac(struct json_object *o, const char *key, const uint8_t mac[6])
{
	char text[18];

	cstr_print(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		   mac[3], mac[4], mac[5]);
	json_object_object_add(o, key, json_object_new_string(text));
}

bool linktun_get_mac(struct json_object *o, const char *key, uint8_t mac[6])
{
	struct json_object *v;
	char end;

	return o && json_object_object_get_ex(o, key, &v) &&
	       json_object_is_type(v, json_type_string) &&
	       sscanf(json_object_get_string(v), "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0],
		      &mac[1], &mac[2], &mac[3], &mac[4], &mac[5], &end) == 6 &&
	       !(mac[0] & 1);
}

int linktun_find_address(struct nl *nl, uint8_t family, nl_addr_visit *match, void *ctx)
{
	int rc = -EINTR;

	for (int i = 0; i < LIST_TRIES && rc == -EINTR; i++)
		rc = nl_addr_list(nl, family, match, ctx);
	return rc == 1 ? 0 : rc ? rc : -ENOENT;
}

struct wanted {
	const struct net_addr *addr;
	uint32_t link;
};

static int is_wanted(const struct nl_addr *a, void *ctx)
{
	struct wanted *w = ctx;

	w->link = a->link;
	return net_addr_same_ip(&a->prefix.addr, w->addr);
}

int linktun_link_of(struct nl *nl, const struct net_addr *a)
{
	struct wanted w = {.addr = a};
	int rc = linktun_find_address(nl, a->family, is_wanted, &w);

	return rc ? rc : (int)w.link;
}

static bool is_link_local(const struct net_addr *a)
{
	return a->family == 6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

static bool fits(const struct linktun_choice *c, uint8_t outer, bool ip6)
{
	return c->outer == outer && (c->ip6 || !ip6);
}

/* 0; -EOPNOTSUPP and why. */
static int choose(const struct linktun_kind *k, struct nl *nl, uint8_t outer, bool ip6,
		  enum nl_tunnel_kind *kind, char *why)
{
	const char *wanted = "";
	int rc;

	for (size_t i = 0; i < k->choice_count; i++) {
		if (!fits(&k->choices[i], outer, ip6))
			continue;
		wanted = nl_tunnel_kind_name(k->choices[i].kind);
		rc = nl_link_probe(nl, wanted);
		if (rc != -EOPNOTSUPP) {
			*kind = k->choices[i].kind;
			return 0;
		}
	}
	return tunnel_why(why, -EOPNOTSUPP, "the kernel has no links of kind %s", wanted);
}

int linktun_probe(const struct linktun_kind *k, const struct tunnel_env *env, char *why)
{
	char missing[TUNNEL_WHY_MAX / 2] = "";
	size_t at = 0;

	if (!env->journal)
		return tunnel_why(why, -EPERM, "the host's network may not be changed");
	for (size_t i = 0; i < k->choice_count; i++) {
		const char *name = nl_tunnel_kind_name(k->choices[i].kind);
		int rc = nl_link_probe(hostjournal_nl(env->journal), name);
		if (!rc)
			return 0;
		if (rc == -EPERM)
			return tunnel_why(why, rc,
					  "no interface can be made: CAP_NET_ADMIN is missing");
		if (!strstr(missing, name) && at < sizeof missing)
			at += (size_t)snprintf(missing + at, sizeof missing - at, "%s%s",
					       at ? ", " : "", name);
	}
	return tunnel_why(why, -EOPNOTSUPP, "the kernel has no links of kind %s", missing);
}

/* What the way to the other end leaves for packets inside; `configured` 0: nothing said. */
static uint32_t mtu_of(struct nl *nl, const struct nl_tunnel *t, uint32_t configured, bool ip6)
{
	struct nl_route way = {0};
	struct nl_link out = {.mtu = OUTER_MTU_DEFAULT};
	char name[IFNAMSIZ];
	uint32_t mtu = configured, least = ip6 ? MTU_MIN_IP6 : MTU_MIN;

	if (!mtu) {
		if (nl_route_get(nl, &t->remote, 0, &way) == 0 && way.dev &&
		    if_indextoname(way.dev, name))
			nl_link_get(nl, name, &out);
		mtu = out.mtu > nl_tunnel_overhead(t) ? out.mtu - nl_tunnel_overhead(t) : 0;
	}
	return mtu < least ? least : mtu > MTU_MAX ? MTU_MAX : mtu;
}

/* One end's link, made and taken away. */
struct end {
	struct linktun_params p;
	char interface[IFNAMSIZ]; /* "" before it is there */
	uint32_t index, mtu;
	struct net_addr own4, own6, peer4, peer6; /* family 0: none */
	bool ethernet;
};

static int put_one_address(struct nl *nl, const struct end *e, const struct net_addr *own,
			   const struct net_addr *peer)
{
	struct nl_addr a = {.link = e->index, .prefix = {.addr = *own}, .peer = *peer};
	int rc;

	if (!own->family)
		return 0;
	a.prefix.bits = own->family == 4 ? 32 : 128;
	rc = nl_addr_add(nl, &a);
	return !rc && e->ethernet && peer->family ? nl_neigh_add(nl, e->index, peer, e->p.peer_mac)
						  : rc;
}

/* All of it goes with the link, so only the link is journalled. */
static int furnish(struct nl *nl, struct end *e)
{
	int rc = nl_link_index(nl, e->interface);

	if (rc < 0)
		return rc;
	e->index = (uint32_t)rc;
	rc = nl_link_set_quiet(nl, e->index);
	if (!rc)
		rc = nl_link_set_mtu(nl, e->index, e->mtu);
	if (!rc)
		rc = nl_link_set_up(nl, e->index, true);
	if (!rc && e->ethernet)
		rc = nl_fdb_add(nl, e->index, e->p.peer_mac, &e->p.tunnel.remote);
	if (!rc)
		rc = put_one_address(nl, e, &e->own4, &e->peer4);
	return rc ? rc : put_one_address(nl, e, &e->own6, &e->peer6);
}

static void end_close(struct end *e, struct hostjournal *j)
{
	int rc = *e->interface ? host_link_remove(j, e->interface) : 0;

	if (rc && rc != -ENOENT)
		log_error("interface %s stays: %s", e->interface, strerror(-rc));
	e->interface[0] = '\0';
}

static int end_open(struct end *e, struct hostjournal *j, const char *name, char *why)
{
	struct nl *nl = hostjournal_nl(j);
	char local[NET_ADDR_TEXT], remote[NET_ADDR_TEXT];
	int rc = nl_link_index(nl, name) >= 0 ? -EEXIST : 0;

	if (rc)
		return tunnel_why(why, rc, "there is an interface %s already", name);
	rc = host_tunnel_add(j, name, &e->p.tunnel);
	if (rc == -EEXIST)
		tunnel_say(why, "there is another %s tunnel between %s and %s already",
			   nl_tunnel_kind_name(e->p.tunnel.kind),
			   net_addr_ip_text(&e->p.tunnel.local, local),
			   net_addr_ip_text(&e->p.tunnel.remote, remote));
	else if (rc)
		tunnel_say(why, "interface %s: %s", name, strerror(-rc));
	if (rc)
		return rc;
	cstr_copy(e->interface, sizeof e->interface, name);
	rc = furnish(nl, e);
	if (rc) {
		tunnel_say(why, "interface %s: %s", name, strerror(-rc));
		end_close(e, j);
	}
	return rc;
}

/* A name of the template that nobody has; `next` is where to look first. */
static bool free_name(struct nl *nl, const char *template, uint32_t *next, char out[IFNAMSIZ])
{
	for (int i = 0; i < NAME_TRIES; i++) {
		uint32_t number = *next;
		*next = number >= NUMBER_MAX ? 0 : number + 1;
		if (nl_link_numbered(out, template, number) && nl_link_index(nl, out) == -ENODEV)
			return true;
	}
	return false;
}

/* ==== gateway ==== */

struct lease {
	LIST_ENTRY(lease) link;
	uint8_t key[SID_KEY_BYTES];
	struct end end;
};

struct gateway {
	const struct linktun_kind *kind;
	struct tunnel_env env;
	char template[IFNAMSIZ];
	uint32_t mtu, next;
	struct net_addr own4, own6;
	LIST_HEAD(, lease) leases;
	struct map by_sid;
};

static struct lease *find(const struct gateway *gw, const char *sid)
{
	uint8_t key[SID_KEY_BYTES];

	linktun_secret(sid, "key", key, sizeof key);
	return map_get(&gw->by_sid, key);
}

int linktun_gateway_start(const struct linktun_kind *kind, void **out, const struct tunnel_env *env,
			  const struct tunnel_gateway_config *config, char *why)
{
	struct gateway *gw;
	char name[IFNAMSIZ];
	uint64_t seed;
	int rc = linktun_probe(kind, env, why);

	if (rc)
		return rc;
	if (!nl_link_numbered(name, config->interface, NUMBER_MAX))
		return tunnel_why(why, -EINVAL,
				  "[%s] Interface must have a %%d: there is one for each lease",
				  kind->name);
	gw = calloc(1, sizeof *gw);
	if (!gw)
		return tunnel_no_memory(why);
	gw->kind = kind;
	gw->env = *env;
	cstr_copy(gw->template, sizeof gw->template, config->interface);
	gw->mtu = config->mtu;
	gw->own4 = config->addr4.addr;
	gw->own6 = config->addr6.addr;
	LIST_INIT(&gw->leases);
	randombytes_buf(&seed, sizeof seed);
	map_init(&gw->by_sid, SID_KEY_BYTES, TUNNEL_LEASES_MAX, seed);
	*out = gw;
	return 0;
}

/* Which outer families work here. */
void linktun_gateway_info(void *arg, struct json_object *entry)
{
	const struct gateway *gw = arg;
	struct json_object *list = json_object_new_array();
	bool ip6 = gw->own6.family != 0;
	char why[TUNNEL_WHY_MAX];
	enum nl_tunnel_kind kind;

	if (choose(gw->kind, hostjournal_nl(gw->env.journal), 4, ip6, &kind, why) == 0)
		json_object_array_add(list, json_object_new_string("ipv4"));
	if (choose(gw->kind, hostjournal_nl(gw->env.journal), 6, ip6, &kind, why) == 0)
		json_object_array_add(list, json_object_new_string("ipv6"));
	json_object_object_add(entry, "outer", list);
}

static int check_ends(const struct tunnel_lease *t, char *why)
{
	const char *fault = NULL;

	if (!t->host.family || t->host.family != t->server.family)
		fault = "it needs a call over IP: the tunnel lies between the addresses of the "
			"call";
	else if (net_addr_is_loopback(&t->host) || net_addr_same_ip(&t->host, &t->server))
		fault = "the subscriber is this host itself";
	else if (is_link_local(&t->host))
		fault = "it cannot lie between link-local addresses";
	return fault ? tunnel_why(why, -EINVAL, "%s", fault) : 0;
}

static void tell(const struct gateway *gw, const struct tunnel_lease *t, const struct end *e,
		 struct json_object *answer)
{
	struct linktun_params p;

	linktun_put_address(answer, "host", &e->p.tunnel.remote);
	linktun_put_address(answer, "server", &e->p.tunnel.local);
	json_object_object_add(answer, "mtu", json_object_new_int64(e->mtu));
	if (gw->kind->gateway_fill)
		gw->kind->gateway_fill(&gw->env, t, &p, answer);
}

static void lease_free(struct gateway *gw, struct lease *l)
{
	end_close(&l->end, gw->env.journal);
	map_del(&gw->by_sid, l->key);
	LIST_REMOVE(l, link);
	free(l);
}

static int lease_link(struct gateway *gw, const struct tunnel_lease *t, struct lease *l, char *why)
{
	struct nl *nl = hostjournal_nl(gw->env.journal);
	struct json_object *unused = json_object_new_object();
	struct end *e = &l->end;
	char name[IFNAMSIZ];
	int rc = choose(gw->kind, nl, t->host.family, t->ip6.family != 0, &e->p.tunnel.kind, why);

	if (!rc && gw->kind->gateway_fill)
		gw->kind->gateway_fill(&gw->env, t, &e->p, unused);
	json_object_put(unused);
	if (rc)
		return rc;
	e->p.tunnel.local = t->server;
	e->p.tunnel.remote = t->host;
	e->ethernet = gw->kind->ethernet;
	e->mtu = mtu_of(nl, &e->p.tunnel, gw->mtu, t->ip6.family != 0);
	e->peer4 = t->ip4;
	e->peer6 = t->ip6;
	if (t->ip4.family)
		e->own4 = gw->own4;
	if (t->ip6.family)
		e->own6 = gw->own6;
	if (!free_name(nl, gw->template, &gw->next, name))
		return tunnel_why(why, -ENOSPC, "no name like %s is free", gw->template);
	return end_open(e, gw->env.journal, name, why);
}

static int lease_new(struct gateway *gw, const struct tunnel_lease *t, struct lease **out,
		     char *why)
{
	struct lease *l = calloc(1, sizeof *l);
	int rc;

	if (!l)
		return tunnel_no_memory(why);
	linktun_secret(t->sid, "key", l->key, sizeof l->key);
	LIST_INSERT_HEAD(&gw->leases, l, link);
	rc = map_put(&gw->by_sid, l->key, l);
	if (rc)
		tunnel_say(why, "no room for the lease");
	else
		rc = lease_link(gw, t, l, why);
	if (rc)
		lease_free(gw, l);
	else
		*out = l;
	return rc;
}

int linktun_gateway_open(void *arg, const struct tunnel_lease *t, struct json_object *answer,
			 char interface[IFNAMSIZ], char *why)
{
	struct gateway *gw = arg;
	struct lease *l = find(gw, t->sid);
	int rc = check_ends(t, why);

	if (!rc && l &&
	    (!net_addr_same_ip(&l->end.p.tunnel.remote, &t->host) ||
	     !net_addr_same_ip(&l->end.peer4, &t->ip4) ||
	     !net_addr_same_ip(&l->end.peer6, &t->ip6))) {
		rc = tunnel_why(why, -EEXIST, "this sid is another host's");
	}
	if (!rc && !l)
		rc = lease_new(gw, t, &l, why);
	if (rc)
		return rc;
	tell(gw, t, &l->end, answer);
	cstr_copy(interface, IFNAMSIZ, l->end.interface);
	return 0;
}

void linktun_gateway_source(void *arg, const char *sid, struct tunnel_source *out)
{
	const struct gateway *gw = arg;
	const struct lease *l = find(gw, sid);

	if (!l || !gw->kind->ethernet)
		return;
	out->has_mac = true;
	memcpy(out->mac, l->end.p.peer_mac, sizeof out->mac);
}

void linktun_gateway_close(void *arg, const char *sid)
{
	struct lease *l = find(arg, sid);

	if (l)
		lease_free(arg, l);
}

static void count(struct nl *nl, const struct end *e, enum tunnel_end end,
		  struct tunnel_counters *out)
{
	struct nl_link_stats s = {0};
	int rc = *e->interface ? nl_link_get_stats(nl, e->index, &s) : -ENODEV;

	tunopt_count(out, &s, end, rc == 0);
}

int linktun_gateway_counters(void *arg, const char *sid, struct tunnel_counters *out)
{
	const struct gateway *gw = arg;
	const struct lease *l = find(gw, sid);

	if (!l)
		return -ENOENT;
	count(hostjournal_nl(gw->env.journal), &l->end, TUNNEL_GATEWAY, out);
	return 0;
}

void linktun_gateway_stop(void *arg)
{
	struct gateway *gw = arg;
	struct lease *l;

	if (!gw)
		return;
	LIST_FOREACH(l, &gw->leases, link)
		nl_link_leave(hostjournal_nl(gw->env.journal), l->end.index);
	if (!LIST_EMPTY(&gw->leases))
		nl_leaving_del(hostjournal_nl(gw->env.journal));
	while (!LIST_EMPTY(&gw->leases))
		lease_free(gw, LIST_FIRST(&gw->leases));
	map_free(&gw->by_sid);
	free(gw);
}

/* ==== subscriber ==== */

struct client {
	struct tunnel_env env;
	struct end end;
};

static int client_ends(struct client *c, const struct tunnel_grant *grant, char *why)
{
	struct nl_tunnel *t = &c->end.p.tunnel;
	char text[NET_ADDR_TEXT];

	if (!linktun_get_address(grant->object, "host", &t->local) ||
	    !linktun_get_address(grant->object, "server", &t->remote) ||
	    t->local.family != t->remote.family) {
		return tunnel_why(why, -EPROTO, "the gateway's answer names no host and server");
	}
	if (linktun_link_of(hostjournal_nl(c->env.journal), &t->local) < 0)
		return tunnel_why(
			why, -EADDRNOTAVAIL,
			"the gateway sees us as %s, which is not our address: there is address "
			"translation between us, which this method does not pass",
			net_addr_ip_text(&t->local, text));
	if (grant->server.family && !net_addr_same_ip(&grant->server, &t->remote))
		return tunnel_why(
			why, -EADDRNOTAVAIL,
			"the gateway is %s behind address translation, which this method does not "
			"pass",
			net_addr_ip_text(&t->remote, text));
	return 0;
}

static int client_fill(struct client *c, const struct linktun_kind *kind,
		       const struct tunnel_grant *grant, char *why)
{
	struct nl *nl = hostjournal_nl(c->env.journal);
	struct end *e = &c->end;
	bool ip6 = grant->ip6.addr.family != 0;
	int64_t told;
	int rc = client_ends(c, grant, why);

	if (!rc)
		rc = choose(kind, nl, e->p.tunnel.local.family, ip6, &e->p.tunnel.kind, why);
	if (!rc && kind->client_fill)
		rc = kind->client_fill(grant, &e->p, why);
	if (rc)
		return rc;
	e->ethernet = kind->ethernet;
	e->mtu = mtu_of(nl, &e->p.tunnel, 0, ip6);
	if (linktun_number(grant->object, "mtu", ip6 ? MTU_MIN_IP6 : MTU_MIN, MTU_MAX, &told) &&
	    told < e->mtu)
		e->mtu = (uint32_t)told;
	e->own4 = grant->ip4.addr;
	e->own6 = grant->ip6.addr;
	if (e->own4.family)
		e->peer4 = grant->gateway4;
	if (e->own6.family)
		e->peer6 = grant->gateway6;
	return 0;
}

static int client_link(struct client *c, const char *interface, char *why)
{
	char name[IFNAMSIZ];
	uint32_t next = 0;

	if (!strchr(interface, '%')) {
		if (strlen(interface) < sizeof name)
			return end_open(&c->end, c->env.journal, interface, why);
	} else if (free_name(hostjournal_nl(c->env.journal), interface, &next, name)) {
		return end_open(&c->end, c->env.journal, name, why);
	}
	return tunnel_why(why, -EINVAL, "no interface can be called %s", interface);
}

int linktun_client_open(const struct linktun_kind *kind, void **out, const struct tunnel_env *env,
			const struct tunnel_grant *grant, tunnel_client_state *state, void *arg,
			char *why)
{
	int rc = linktun_probe(kind, env, why);
	struct client *c = rc ? NULL : calloc(1, sizeof *c);

	if (!c)
		return rc ? rc : tunnel_no_memory(why);
	c->env = *env;
	rc = client_fill(c, kind, grant, why);
	if (!rc)
		rc = client_link(c, grant->interface, why);
	if (rc) {
		free(c);
		return rc;
	}
	*out = c;
	state(TUNNEL_UP, "", arg);
	return 0;
}

const char *linktun_client_interface(void *arg)
{
	const struct client *c = arg;

	return c->end.interface;
}

/* A link with link-layer addresses knows the gateway's, and nobody else's. */
void linktun_client_path(void *arg, struct tunnel_path *out)
{
	const struct client *c = arg;

	if (!c->end.ethernet)
		return;
	out->via4 = c->end.peer4;
	out->via6 = c->end.peer6;
}

void linktun_client_counters(void *arg, struct tunnel_counters *out)
{
	const struct client *c = arg;

	count(hostjournal_nl(c->env.journal), &c->end, TUNNEL_SUBSCRIBER, out);
}

void linktun_client_close(void *arg)
{
	struct client *c = arg;

	if (!c)
		return;
	end_close(&c->end, c->env.journal);
	free(c);
}
