/*
 * The method "mesh": IP packets as records of a datagram connection between the subscriber's app
 * and the gateway's.  One record is one packet; the overlay encrypts and fragments.
 *
 *   options  {"node": id, "app": id, "vnet": true}           of the subscriber's app
 *   answer   {"node": id, "app": id, "mtu": n, "vnet": true} of the gateway's app
 *
 * "vnet" in both means that records begin with a virtio header and may be super-packets
 * (tunpump.h); without it in the options or in the answer they are plain packets.
 *
 * The gateway has one TUN for all leases and finds the lease by destination address; what a
 * subscriber sends must come from its leased address.
 */
#include "tunnel/tunnel.h"

#include <errno.h>
#include <event2/event.h>
#include <net/if.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/log.h"
#include "base/map.h"
#include "io/clock.h"
#include "io/hostjournal.h"
#include "io/tun.h"
#include "libmeshapp/meshapp.h"
#include "tunnel/tunopt.h"
#include "tunnel/tunpump.h"

#define MESH_MTU_DEFAULT 1420u
#define MESH_MTU_MIN 1280u /* IPv6 */
#define MESH_MTU_MAX MESHAPP_DATAGRAM_MAX_BYTES
#define MESH_HASH_BYTES 32
#define MESH_RETRY_FIRST_US 200000u
#define MESH_RETRY_MAX_US 1000000u
#define MESH_GIVE_UP_US 10000000u /* a connection that was up is tried again for this long */

static int mesh_probe(const struct tunnel_env *env, enum tunnel_end end, char *why)
{
	int rc = env->app ? tun_probe() : -ENOTCONN;

	if (!env->app)
		snprintf(why, TUNNEL_WHY_MAX, "no node is configured ([%s] Node)",
			 end == TUNNEL_GATEWAY ? "gateway" : "subscriber");
	else if (rc)
		snprintf(why, TUNNEL_WHY_MAX, "no TUN interface can be made: %s", strerror(-rc));
	return rc;
}

static bool get_string(struct json_object *o, const char *key, size_t max, const char **out)
{
	struct json_object *v;

	if (!o || !json_object_object_get_ex(o, key, &v) ||
	    !json_object_is_type(v, json_type_string))
		return false;
	*out = json_object_get_string(v);
	size_t len = (size_t)json_object_get_string_len(v);
	return len > 0 && len <= max && strlen(*out) == len;
}

/* An app of the mesh, as both ends name it in JSON. */
struct mesh_end {
	struct mesh_id node;
	char app[NAME_MAX_BYTES + 1];
};

static bool end_get(struct json_object *o, struct mesh_end *e)
{
	const char *node, *app;

	memset(e, 0, sizeof *e);
	if (!get_string(o, "node", MESH_ID_TEXT - 1, &node) || mesh_id_parse(&e->node, node) ||
	    !get_string(o, "app", NAME_MAX_BYTES, &app))
		return false;
	memcpy(e->app, app, strlen(app) + 1);
	return true;
}

static void set_string(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

/* The node is left out while it is away. */
static void end_put(struct json_object *o, struct meshapp *app)
{
	char text[MESH_ID_TEXT];

	if (meshapp_node(app))
		set_string(o, "node", mesh_id_text(meshapp_node(app), text));
	set_string(o, "app", meshapp_app_id(app));
}

static uint32_t mtu_within(int64_t mtu)
{
	if (mtu < MESH_MTU_MIN)
		return mtu > 0 ? MESH_MTU_MIN : MESH_MTU_DEFAULT;
	return mtu > MESH_MTU_MAX ? MESH_MTU_MAX : (uint32_t)mtu;
}

static bool get_bool(struct json_object *o, const char *key)
{
	struct json_object *v;

	return o && json_object_object_get_ex(o, key, &v) &&
	       json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

static void set_vnet(struct json_object *o)
{
	json_object_object_add(o, "vnet", json_object_new_boolean(true));
}

static int pump_open(struct tunpump **out, const struct tunnel_env *env,
		     const struct tunpump_config *config)
{
	struct nl *nl = env->journal ? hostjournal_nl(env->journal) : NULL;
	int rc;

	if (nl)
		return tunpump_open(out, env->base, nl, config);
	rc = nl_open(&nl);
	if (!rc)
		rc = tunpump_open(out, env->base, nl, config);
	nl_close(nl);
	return rc;
}

static struct tunroute_filter filter_of(const struct net_addr *ip4, const struct net_addr *ip6)
{
	return (struct tunroute_filter){.v4 = ip4->family != 0, .v6 = ip6->family != 0};
}

/* ==== gateway ==== */

struct mesh_gateway;

struct mesh_lease {
	LIST_ENTRY(mesh_lease) link;
	struct mesh_gateway *gw;
	uint8_t sid_key[MESH_HASH_BYTES], peer_key[MESH_HASH_BYTES];
	struct mesh_end peer;
	struct net_addr ip4, ip6;
	struct meshconn *conn;
	struct tunpump_route *route;
	bool vnet; /* its records have headers */
};

struct mesh_gateway {
	struct tunnel_env env;
	struct tunpump *pump;
	uint32_t mtu, index; /* of the interface */
	LIST_HEAD(, mesh_lease) leases;
	struct map by_sid, by_peer, by_ip4, by_ip6;
};

/* Names are longer than a map's keys may be. */
static void key_of(uint8_t key[MESH_HASH_BYTES], const void *a, size_t a_len, const char *b)
{
	crypto_generichash_state st;

	crypto_generichash_init(&st, NULL, 0, MESH_HASH_BYTES);
	crypto_generichash_update(&st, a, a_len);
	crypto_generichash_update(&st, (const uint8_t *)b, strlen(b));
	crypto_generichash_final(&st, key, MESH_HASH_BYTES);
}

static void sid_key(uint8_t key[MESH_HASH_BYTES], const char *sid)
{
	key_of(key, "", 0, sid);
}

static struct mesh_lease *lease_by_addr(const struct mesh_gateway *gw, const struct net_addr *a)
{
	return map_get(a->family == 4 ? &gw->by_ip4 : &gw->by_ip6, a->ip);
}

/* ---- packets ---- */

static void gateway_from_conn(struct meshconn *conn, const uint8_t *record, size_t len)
{
	struct mesh_lease *l = meshconn_arg(conn);

	tunpump_consume(l->route, record, len);
}

static void gateway_writable(struct meshconn *conn)
{
	struct mesh_lease *l = meshconn_arg(conn);

	tunpump_writable(l->route);
}

/* Who closes it says so to the peer afterwards. */
static struct meshconn *lease_disconnect(struct mesh_lease *l)
{
	struct meshconn *conn = l->conn;

	l->conn = NULL;
	tunpump_connect(l->route, NULL);
	return conn;
}

static void gateway_conn_closed(struct meshconn *conn, uint16_t code, const char *reason)
{
	struct mesh_lease *l = meshconn_arg(conn);

	log_debug("mesh: connection of %s closed: %u %s", l->peer.app, code, reason);
	lease_disconnect(l);
}

static bool gateway_accept(void *arg, struct meshconn *conn)
{
	static const struct meshconn_callbacks cb = {.consume = gateway_from_conn,
						     .on_writable = gateway_writable,
						     .on_closed = gateway_conn_closed};
	struct mesh_gateway *gw = arg;
	uint8_t key[MESH_HASH_BYTES];
	struct mesh_lease *l;

	if (meshconn_class(conn) != CLASS_DATAGRAM)
		return false;
	key_of(key, meshconn_peer_node(conn), sizeof(struct mesh_id), meshconn_peer_app(conn));
	l = map_get(&gw->by_peer, key);
	if (!l)
		return false;
	/* The peer is authenticated: its old connection is one that it has lost. */
	if (l->conn)
		meshconn_close(lease_disconnect(l), CODE_CLOSED, "replaced by a newer connection");
	l->conn = conn;
	meshconn_set_callbacks(conn, &cb, l);
	tunpump_connect(l->route, conn);
	return true;
}

/* ---- leases ---- */

static int lease_routes(const struct mesh_lease *l, bool add)
{
	struct hostjournal *j = l->gw->env.journal;

	return j ? tunopt_lease_routes(hostjournal_nl(j), l->gw->index, &l->ip4, &l->ip6, add) : 0;
}

static void lease_free(struct mesh_lease *l)
{
	struct mesh_gateway *gw = l->gw;

	lease_routes(l, false);
	if (l->conn)
		meshconn_close(lease_disconnect(l), CODE_CLOSED, "the lease has ended");
	tunpump_remove(l->route);
	if (map_get(&gw->by_sid, l->sid_key) == l)
		map_del(&gw->by_sid, l->sid_key);
	if (map_get(&gw->by_peer, l->peer_key) == l)
		map_del(&gw->by_peer, l->peer_key);
	if (map_get(&gw->by_ip4, l->ip4.ip) == l)
		map_del(&gw->by_ip4, l->ip4.ip);
	if (map_get(&gw->by_ip6, l->ip6.ip) == l)
		map_del(&gw->by_ip6, l->ip6.ip);
	LIST_REMOVE(l, link);
	free(l);
}

static int lease_index(struct mesh_lease *l)
{
	struct mesh_gateway *gw = l->gw;
	int rc = map_put(&gw->by_sid, l->sid_key, l);

	if (!rc)
		rc = map_put(&gw->by_peer, l->peer_key, l);
	if (!rc && l->ip4.family)
		rc = map_put(&gw->by_ip4, l->ip4.ip, l);
	if (!rc && l->ip6.family)
		rc = map_put(&gw->by_ip6, l->ip6.ip, l);
	if (!rc) {
		struct tunroute_filter f = filter_of(&l->ip4, &l->ip6);
		f.remote4 = l->ip4;
		f.remote6 = l->ip6;
		rc = tunpump_add(gw->pump, &f, l->vnet, &l->route);
	}
	return rc ? rc : lease_routes(l, true);
}

static bool lease_conflicts(const struct mesh_gateway *gw, const struct mesh_lease *l, char *why)
{
	if (map_get(&gw->by_peer, l->peer_key))
		snprintf(why, TUNNEL_WHY_MAX, "this app has another lease already");
	else if ((l->ip4.family && lease_by_addr(gw, &l->ip4)) ||
		 (l->ip6.family && lease_by_addr(gw, &l->ip6)))
		snprintf(why, TUNNEL_WHY_MAX, "its address belongs to another lease");
	else
		return false;
	return true;
}

static int lease_new(struct mesh_gateway *gw, const struct tunnel_lease *t,
		     const struct mesh_lease *template, char *why)
{
	struct mesh_lease *l;
	int rc;

	if (lease_conflicts(gw, template, why))
		return -EEXIST;
	l = malloc(sizeof *l);
	if (l) {
		*l = *template;
		LIST_INSERT_HEAD(&gw->leases, l, link);
		rc = lease_index(l);
		if (!rc)
			return 0;
		lease_free(l);
	} else {
		rc = -ENOMEM;
	}
	snprintf(why, TUNNEL_WHY_MAX, "no room for the lease");
	log_error("mesh: lease %.8s: %s", t->sid, strerror(-rc));
	return rc;
}

static int gateway_open(void *arg, const struct tunnel_lease *t, struct json_object *answer,
			char interface[IFNAMSIZ], char *why)
{
	struct mesh_gateway *gw = arg;
	struct mesh_lease want = {.gw = gw, .ip4 = t->ip4, .ip6 = t->ip6}, *have;
	int rc = 0;

	if (!end_get(t->options, &want.peer)) {
		snprintf(why, TUNNEL_WHY_MAX,
			 "options must name the subscriber: node (64 hex digits) and app");
		return -EINVAL;
	}
	want.vnet = get_bool(t->options, "vnet") && tunpump_can_vnet();
	sid_key(want.sid_key, t->sid);
	key_of(want.peer_key, &want.peer.node, sizeof want.peer.node, want.peer.app);
	have = map_get(&gw->by_sid, want.sid_key);
	if (have && (memcmp(have->peer_key, want.peer_key, MESH_HASH_BYTES) != 0 ||
		     !net_addr_same_ip(&have->ip4, &want.ip4) ||
		     !net_addr_same_ip(&have->ip6, &want.ip6))) {
		snprintf(why, TUNNEL_WHY_MAX, "this sid is another app's");
		return -EEXIST;
	}
	if (have)
		tunpump_set_vnet(have->route, want.vnet);
	else
		rc = lease_new(gw, t, &want, why);
	if (rc)
		return rc;
	end_put(answer, gw->env.app);
	json_object_object_add(answer, "mtu", json_object_new_int64(gw->mtu));
	if (want.vnet)
		set_vnet(answer);
	snprintf(interface, IFNAMSIZ, "%s", tunpump_interface(gw->pump));
	return 0;
}

static struct mesh_lease *lease_by_sid(const struct mesh_gateway *gw, const char *sid)
{
	uint8_t key[MESH_HASH_BYTES];

	sid_key(key, sid);
	return map_get(&gw->by_sid, key);
}

static void gateway_close(void *arg, const char *sid)
{
	struct mesh_lease *l = lease_by_sid(arg, sid);

	if (l)
		lease_free(l);
}

static int gateway_counters(void *arg, const char *sid, struct tunnel_counters *out)
{
	const struct mesh_lease *l = lease_by_sid(arg, sid);

	if (!l)
		return -ENOENT;
	/* A gateway's "up" is what comes from its peer. */
	struct tunroute_counters n = tunpump_counters(l->route);
	*out = (struct tunnel_counters){.up_packets = n.in_packets,
					.up_bytes = n.in_bytes,
					.down_packets = n.out_packets,
					.down_bytes = n.out_bytes,
					.spoofed = n.foreign,
					.dropped = n.dropped,
					.connected = l->conn != NULL};
	return 0;
}

/* ---- start and stop ---- */

static void gateway_tun_lost(int err, void *arg)
{
	struct mesh_gateway *gw = arg;

	log_error("mesh: interface %s is gone (%s); restart the gateway",
		  tunpump_interface(gw->pump), strerror(-err));
}

static void gateway_stop(void *arg)
{
	struct mesh_gateway *gw = arg;

	if (!gw)
		return;
	while (!LIST_EMPTY(&gw->leases))
		lease_free(LIST_FIRST(&gw->leases));
	map_free(&gw->by_sid);
	map_free(&gw->by_peer);
	map_free(&gw->by_ip4);
	map_free(&gw->by_ip6);
	tunpump_close(gw->pump);
	free(gw);
}

static int gateway_tun(struct mesh_gateway *gw, const struct tunnel_gateway_config *config)
{
	const struct nl_addr addrs[] = {{.prefix = config->addr4}, {.prefix = config->addr6}};
	const struct tunpump_config pc = {
		.interface = config->interface,
		.mtu = gw->mtu,
		.addrs = addrs,
		.addr_count = 2,
		.app = gw->env.app,
		.lost = gateway_tun_lost,
		.arg = gw,
	};
	int rc = pump_open(&gw->pump, &gw->env, &pc);

	if (!rc)
		gw->index = if_nametoindex(tunpump_interface(gw->pump));
	return rc;
}

static int gateway_start(void **out, const struct tunnel_env *env,
			 const struct tunnel_gateway_config *config, char *why)
{
	int rc = mesh_probe(env, TUNNEL_GATEWAY, why);
	struct mesh_gateway *gw;
	uint64_t seed;

	if (rc)
		return rc;
	gw = calloc(1, sizeof *gw);
	if (!gw) {
		snprintf(why, TUNNEL_WHY_MAX, "out of memory");
		return -ENOMEM;
	}
	gw->env = *env;
	gw->mtu = mtu_within(config->mtu);
	LIST_INIT(&gw->leases);
	randombytes_buf(&seed, sizeof seed);
	map_init(&gw->by_sid, MESH_HASH_BYTES, TUNNEL_LEASES_MAX, seed);
	map_init(&gw->by_peer, MESH_HASH_BYTES, TUNNEL_LEASES_MAX, seed);
	map_init(&gw->by_ip4, 4, TUNNEL_LEASES_MAX, seed);
	map_init(&gw->by_ip6, 16, TUNNEL_LEASES_MAX, seed);
	rc = gateway_tun(gw, config);
	if (rc) {
		snprintf(why, TUNNEL_WHY_MAX, "interface %s: %s", config->interface, strerror(-rc));
		gateway_stop(gw);
		return rc;
	}
	*out = gw;
	return 0;
}

static void gateway_info(void *arg, struct json_object *entry)
{
	struct mesh_gateway *gw = arg;

	end_put(entry, gw->env.app);
	json_object_object_add(entry, "mtu", json_object_new_int64(gw->mtu));
}

/* ==== subscriber ==== */

struct mesh_client {
	struct tunnel_env env;
	struct mesh_end peer;
	struct net_prefix ip4, ip6;
	struct net_addr gateway4, gateway6;
	char interface[IFNAMSIZ];
	uint32_t mtu;
	tunnel_client_state *state;
	void *arg;
	struct meshconn *conn;
	struct tunpump *pump; /* from the first time up to the end */
	struct tunpump_route *route;
	bool vnet; /* records have headers */
	struct event *retry;
	uint64_t retry_us, lost_at_us; /* lost_at_us 0: not lost */
};

static void client_connect(struct mesh_client *c);

static struct meshconn *client_disconnect(struct mesh_client *c)
{
	struct meshconn *conn = c->conn;

	c->conn = NULL;
	if (c->route)
		tunpump_connect(c->route, NULL);
	return conn;
}

/* The owner may free the client in this call: nothing may follow it. */
static void client_fail(struct mesh_client *c, const char *text)
{
	struct meshconn *conn = client_disconnect(c);

	evtimer_del(c->retry);
	if (conn)
		meshconn_close(conn, CODE_CLOSED, text);
	c->state(TUNNEL_FAILED, text, c->arg);
}

/* ---- packets ---- */

static void client_from_conn(struct meshconn *conn, const uint8_t *record, size_t len)
{
	struct mesh_client *c = meshconn_arg(conn);

	if (c->route)
		tunpump_consume(c->route, record, len);
}

static void client_writable(struct meshconn *conn)
{
	struct mesh_client *c = meshconn_arg(conn);

	if (c->route)
		tunpump_writable(c->route);
}

/* ---- connection ---- */

static void client_tun_lost(int err, void *arg)
{
	(void)err;
	client_fail(arg, "the tunnel interface is gone");
}

/* Point to point, so that no route to the pool comes with it: two gateways may have the same one.
 */
static struct nl_addr client_addr(const struct net_prefix *own, const struct net_addr *gateway)
{
	struct nl_addr a = {.prefix = *own, .peer = *gateway};

	a.prefix.bits = own->addr.family == 4 ? 32 : 128;
	if (a.peer.family != own->addr.family)
		a.peer.family = 0;
	return a;
}

/* What is not from our address (of a bound socket, or forwarded) the gateway would take for
 * spoofing; and it cannot send into our other networks. */
static int client_tun(struct mesh_client *c)
{
	const struct nl_addr addrs[] = {client_addr(&c->ip4, &c->gateway4),
					client_addr(&c->ip6, &c->gateway6)};
	const struct tunpump_config pc = {
		.interface = c->interface,
		.mtu = c->mtu,
		.addrs = addrs,
		.addr_count = 2,
		.app = c->env.app,
		.hold = true,
		.lost = client_tun_lost,
		.arg = c,
	};
	struct tunroute_filter f = filter_of(&c->ip4.addr, &c->ip6.addr);
	int rc = pump_open(&c->pump, &c->env, &pc);

	f.local4 = c->ip4.addr;
	f.local6 = c->ip6.addr;
	return rc ? rc : tunpump_add(c->pump, &f, c->vnet, &c->route);
}

static void client_up(struct meshconn *conn)
{
	struct mesh_client *c = meshconn_arg(conn);
	char text[TUNNEL_WHY_MAX];
	int rc = c->pump ? 0 : client_tun(c);

	if (rc) {
		snprintf(text, sizeof text, "interface %s: %s", c->interface, strerror(-rc));
		client_fail(c, text);
		return;
	}
	tunpump_connect(c->route, conn);
	c->lost_at_us = 0;
	c->retry_us = MESH_RETRY_FIRST_US;
	c->state(TUNNEL_UP, "", c->arg);
}

static void client_retry(struct mesh_client *c)
{
	struct timeval tv = {.tv_sec = (time_t)(c->retry_us / 1000000u),
			     .tv_usec = (suseconds_t)(c->retry_us % 1000000u)};

	c->retry_us = c->retry_us * 2 > MESH_RETRY_MAX_US ? MESH_RETRY_MAX_US : c->retry_us * 2;
	evtimer_add(c->retry, &tv);
}

/* A first attempt that fails, or a refusal, is final; what was up is tried again for a while (a
 * gateway that restarts is not found for a moment), and the interface stays, so that what runs
 * through it survives. */
static void client_lost(struct mesh_client *c, uint16_t code, const char *reason)
{
	char text[TUNNEL_WHY_MAX];
	uint64_t now = daemon_now_us();
	bool first = c->lost_at_us == 0;

	if (first)
		c->lost_at_us = now;
	if (!c->pump || code == CODE_REFUSED || now - c->lost_at_us >= MESH_GIVE_UP_US) {
		snprintf(text, sizeof text, "connection to the gateway: %s",
			 *reason ? reason : "refused");
		client_fail(c, text);
		return;
	}
	client_retry(c);
	if (first)
		c->state(TUNNEL_CONNECTING, reason, c->arg);
}

static void client_closed(struct meshconn *conn, uint16_t code, const char *reason)
{
	struct mesh_client *c = meshconn_arg(conn);

	client_disconnect(c);
	client_lost(c, code, reason);
}

static int client_dial(struct mesh_client *c)
{
	static const struct meshconn_callbacks cb = {.on_up = client_up,
						     .consume = client_from_conn,
						     .on_writable = client_writable,
						     .on_closed = client_closed};

	c->conn = meshapp_connect(c->env.app, &c->peer.node, c->peer.app, CLASS_DATAGRAM, &cb, c);
	return c->conn ? 0 : -errno;
}

static void client_connect(struct mesh_client *c)
{
	int rc = client_dial(c);

	if (rc)
		client_lost(c, CODE_LOST, rc == -ENOTCONN ? "our node is away" : strerror(-rc));
}

static void client_retry_due(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	client_connect(arg);
}

/* ---- open and close ---- */

static int client_options(const struct tunnel_env *env, struct json_object *options, char *why)
{
	int rc = mesh_probe(env, TUNNEL_SUBSCRIBER, why);

	if (!rc && !meshapp_node(env->app)) {
		snprintf(why, TUNNEL_WHY_MAX, "our node is away");
		rc = -ENOTCONN;
	}
	if (!rc)
		end_put(options, env->app);
	if (!rc && tunpump_can_vnet())
		set_vnet(options);
	return rc;
}

static void client_close(void *arg)
{
	struct mesh_client *c = arg;

	if (!c)
		return;
	if (c->conn)
		meshconn_close(client_disconnect(c), CODE_CLOSED, "the subscriber has left");
	if (c->retry)
		event_free(c->retry);
	tunpump_close(c->pump);
	free(c);
}

static int client_fill(struct mesh_client *c, const struct tunnel_grant *grant, char *why)
{
	struct json_object *mtu = NULL;

	if (!end_get(grant->object, &c->peer)) {
		snprintf(why, TUNNEL_WHY_MAX, "the gateway's answer names no node and app");
		return -EPROTO;
	}
	if (strlen(grant->interface) >= sizeof c->interface) {
		snprintf(why, TUNNEL_WHY_MAX, "interface name too long");
		return -EINVAL;
	}
	json_object_object_get_ex(grant->object, "mtu", &mtu);
	c->mtu = mtu_within(json_object_get_int64(mtu));
	c->vnet = get_bool(grant->object, "vnet") && tunpump_can_vnet();
	c->ip4 = grant->ip4;
	c->ip6 = grant->ip6;
	c->gateway4 = grant->gateway4;
	c->gateway6 = grant->gateway6;
	memcpy(c->interface, grant->interface, strlen(grant->interface) + 1);
	return 0;
}

static int client_open(void **out, const struct tunnel_env *env, const struct tunnel_grant *grant,
		       tunnel_client_state *state, void *arg, char *why)
{
	int rc = mesh_probe(env, TUNNEL_SUBSCRIBER, why);
	struct mesh_client *c = rc ? NULL : calloc(1, sizeof *c);

	if (!c) {
		if (!rc)
			snprintf(why, TUNNEL_WHY_MAX, "out of memory");
		return rc ? rc : -ENOMEM;
	}
	c->env = *env;
	c->state = state;
	c->arg = arg;
	c->retry_us = MESH_RETRY_FIRST_US;
	c->retry = evtimer_new(env->base, client_retry_due, c);
	rc = c->retry ? client_fill(c, grant, why) : -ENOMEM;
	if (!rc) {
		rc = client_dial(c);
		if (rc)
			snprintf(why, TUNNEL_WHY_MAX, "our node: %s", strerror(-rc));
	}
	if (rc) {
		client_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

static const char *client_interface(void *arg)
{
	const struct mesh_client *c = arg;

	return c->pump ? tunpump_interface(c->pump) : "";
}

static void client_counters(void *arg, struct tunnel_counters *out)
{
	const struct mesh_client *c = arg;

	struct tunroute_counters n = {0};

	if (c->route)
		n = tunpump_counters(c->route);
	*out = (struct tunnel_counters){.up_packets = n.out_packets,
					.up_bytes = n.out_bytes,
					.down_packets = n.in_packets,
					.down_bytes = n.in_bytes,
					.dropped = n.dropped + n.foreign,
					.connected = c->conn && meshconn_is_up(c->conn)};
}

TUNNEL_METHOD(mesh, (.name = "mesh", .probe = mesh_probe),
	      (.gateway_start = gateway_start, .gateway_info = gateway_info,
	       .gateway_open = gateway_open, .gateway_close = gateway_close,
	       .gateway_counters = gateway_counters, .gateway_accept = gateway_accept,
	       .gateway_stop = gateway_stop),
	      (.client_options = client_options, .client_open = client_open,
	       .client_interface = client_interface, .client_counters = client_counters,
	       .client_close = client_close));
