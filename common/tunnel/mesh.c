/*
 * The method "mesh": IP packets as records of a datagram connection between the subscriber's app
 * and the gateway's.  One record is one packet; the overlay encrypts and fragments.
 *
 *   options  {"node": id, "app": id}          of the subscriber's app
 *   answer   {"node": id, "app": id, "mtu": n} of the gateway's app
 *
 * The gateway has one TUN for all leases and finds the lease by destination address; what a
 * subscriber sends must come from its leased address.
 */
#include "tunnel/tunnel.h"

#include <errno.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/ippacket.h"
#include "base/log.h"
#include "base/map.h"
#include "io/clock.h"
#include "io/hostjournal.h"
#include "io/tun.h"
#include "libmeshapp/meshapp.h"

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

/* The interface dies with us, so nothing of this goes to the journal.  Up comes first: the kernel
 * loses the route to an IPv6 peer when the address is given to an interface that is down. */
static int tun_configure(struct nl *nl, const struct tun *t, uint32_t mtu,
			 const struct nl_addr *addrs, size_t count)
{
	int rc = nl_link_set_mtu(nl, tun_index(t), mtu);

	if (!rc)
		rc = nl_link_set_up(nl, tun_index(t), true);
	for (size_t i = 0; i < count && !rc; i++) {
		struct nl_addr a = addrs[i];
		a.link = tun_index(t);
		if (a.prefix.addr.family)
			rc = nl_addr_add(nl, &a);
		/* A host without IPv6 still has IPv4. */
		if (rc && a.prefix.addr.family == 6) {
			log_warn("%s: no IPv6 address: %s", tun_name(t), strerror(-rc));
			rc = 0;
		}
	}
	return rc;
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
	struct tunnel_counters counters;
	struct log_limit spoof_log;
};

struct mesh_gateway {
	struct tunnel_env env;
	struct tun *tun;
	uint32_t mtu;
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

static void gateway_from_tun(const uint8_t *packet, size_t len, void *arg)
{
	struct mesh_gateway *gw = arg;
	struct net_addr src, dst;
	struct mesh_lease *l;

	if (ippacket_ends(packet, len, &src, &dst))
		return;
	l = lease_by_addr(gw, &dst);
	if (!l) /* nobody has this address, or multicast of the kernel's own */
		return;
	if (!l->conn || meshconn_send(l->conn, packet, len)) {
		l->counters.dropped++;
		return;
	}
	l->counters.down_packets++;
	l->counters.down_bytes += len;
}

static void lease_spoofed(struct mesh_lease *l, const struct net_addr *src)
{
	char text[NET_ADDR_TEXT], node[MESH_ID_SHORT];

	l->counters.spoofed++;
	if (log_limit_due(&l->spoof_log, daemon_now_us()))
		log_warn("mesh: %s/%s sends from %s, which is not its address (%llu packets "
			 "dropped)",
			 mesh_id_short(&l->peer.node, node), l->peer.app,
			 net_addr_ip_text(src, text), (unsigned long long)l->counters.spoofed);
}

static void gateway_from_conn(struct meshconn *conn, const uint8_t *packet, size_t len)
{
	struct mesh_lease *l = meshconn_arg(conn);
	struct net_addr src, dst;

	if (ippacket_ends(packet, len, &src, &dst)) {
		l->counters.dropped++;
	} else if (!net_addr_same_ip(&src, src.family == 4 ? &l->ip4 : &l->ip6)) {
		lease_spoofed(l, &src);
	} else if (tun_write(l->gw->tun, packet, len)) {
		l->counters.dropped++;
	} else {
		l->counters.up_packets++;
		l->counters.up_bytes += len;
	}
}

static void gateway_conn_closed(struct meshconn *conn, uint16_t code, const char *reason)
{
	struct mesh_lease *l = meshconn_arg(conn);

	log_debug("mesh: connection of %s closed: %u %s", l->peer.app, code, reason);
	l->conn = NULL;
}

static bool gateway_accept(void *arg, struct meshconn *conn)
{
	static const struct meshconn_callbacks cb = {.consume = gateway_from_conn,
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
		meshconn_close(l->conn, CODE_CLOSED, "replaced by a newer connection");
	l->conn = conn;
	meshconn_set_callbacks(conn, &cb, l);
	return true;
}

/* ---- leases ---- */

static void lease_free(struct mesh_lease *l)
{
	struct mesh_gateway *gw = l->gw;

	if (l->conn)
		meshconn_close(l->conn, CODE_CLOSED, "the lease has ended");
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
	return rc;
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
	sid_key(want.sid_key, t->sid);
	key_of(want.peer_key, &want.peer.node, sizeof want.peer.node, want.peer.app);
	have = map_get(&gw->by_sid, want.sid_key);
	if (have && (memcmp(have->peer_key, want.peer_key, MESH_HASH_BYTES) != 0 ||
		     !net_addr_same_ip(&have->ip4, &want.ip4) ||
		     !net_addr_same_ip(&have->ip6, &want.ip6))) {
		snprintf(why, TUNNEL_WHY_MAX, "this sid is another app's");
		return -EEXIST;
	}
	if (!have)
		rc = lease_new(gw, t, &want, why);
	if (rc)
		return rc;
	end_put(answer, gw->env.app);
	json_object_object_add(answer, "mtu", json_object_new_int64(gw->mtu));
	snprintf(interface, IFNAMSIZ, "%s", tun_name(gw->tun));
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
	*out = l->counters;
	out->connected = l->conn != NULL;
	return 0;
}

/* ---- start and stop ---- */

static void gateway_tun_lost(int err, void *arg)
{
	struct mesh_gateway *gw = arg;

	log_error("mesh: interface %s is gone (%s); restart the gateway", tun_name(gw->tun),
		  strerror(-err));
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
	tun_free(gw->tun);
	free(gw);
}

static int gateway_tun(struct mesh_gateway *gw, const struct tunnel_gateway_config *config)
{
	const struct nl_addr addrs[] = {{.prefix = config->addr4}, {.prefix = config->addr6}};
	int rc = tun_open(&gw->tun, gw->env.base, config->interface);

	if (!rc)
		rc = tun_configure(hostjournal_nl(gw->env.journal), gw->tun, gw->mtu, addrs, 2);
	if (rc)
		return rc;
	tun_set_callbacks(gw->tun, gateway_from_tun, gateway_tun_lost, gw);
	return tun_set_reading(gw->tun, true);
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
	struct tun *tun; /* from the first time up to the end */
	struct event *retry;
	uint64_t retry_us, lost_at_us; /* lost_at_us 0: not lost */
	struct tunnel_counters counters;
	struct log_limit foreign_log;
};

static void client_connect(struct mesh_client *c);

/* The owner may free the client in this call: nothing may follow it. */
static void client_fail(struct mesh_client *c, const char *text)
{
	struct meshconn *conn = c->conn;

	c->conn = NULL;
	evtimer_del(c->retry);
	if (conn)
		meshconn_close(conn, CODE_CLOSED, text);
	c->state(TUNNEL_FAILED, text, c->arg);
}

/* ---- packets ---- */

static void client_from_tun(const uint8_t *packet, size_t len, void *arg)
{
	struct mesh_client *c = arg;
	struct net_addr src, dst;

	/* The kernel may choose another source (a bound socket, a forwarded packet): the gateway
	 * would take it for spoofing. */
	if (ippacket_ends(packet, len, &src, &dst) ||
	    !net_addr_same_ip(&src, src.family == 4 ? &c->ip4.addr : &c->ip6.addr)) {
		c->counters.dropped++;
		if (log_limit_due(&c->foreign_log, daemon_now_us()))
			log_debug("mesh: packets from foreign addresses are not sent (%llu)",
				  (unsigned long long)c->foreign_log.count);
		return;
	}
	int rc = c->conn ? meshconn_send(c->conn, packet, len) : -ENOTCONN;
	if (rc) {
		c->counters.dropped++;
		/* The interface's queue waits in the kernel until there is room (or a connection).
		 */
		if (rc == -EAGAIN || rc == -ENOTCONN)
			tun_set_reading(c->tun, false);
		return;
	}
	c->counters.up_packets++;
	c->counters.up_bytes += len;
}

static void client_from_conn(struct meshconn *conn, const uint8_t *packet, size_t len)
{
	struct mesh_client *c = meshconn_arg(conn);
	struct net_addr src, dst;

	if (!c->tun || ippacket_ends(packet, len, &src, &dst) ||
	    !net_addr_same_ip(&dst, dst.family == 4 ? &c->ip4.addr : &c->ip6.addr) ||
	    tun_write(c->tun, packet, len)) {
		c->counters.dropped++;
		return;
	}
	c->counters.down_packets++;
	c->counters.down_bytes += len;
}

static void client_writable(struct meshconn *conn)
{
	struct mesh_client *c = meshconn_arg(conn);

	if (c->tun)
		tun_set_reading(c->tun, true);
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

static int client_tun(struct mesh_client *c)
{
	const struct nl_addr addrs[] = {client_addr(&c->ip4, &c->gateway4),
					client_addr(&c->ip6, &c->gateway6)};
	int rc = tun_open(&c->tun, c->env.base, c->interface);

	if (rc)
		return rc;
	tun_set_callbacks(c->tun, client_from_tun, client_tun_lost, c);
	return tun_configure(hostjournal_nl(c->env.journal), c->tun, c->mtu, addrs, 2);
}

static void client_up(struct meshconn *conn)
{
	struct mesh_client *c = meshconn_arg(conn);
	char text[TUNNEL_WHY_MAX];
	int rc = c->tun ? 0 : client_tun(c);

	if (!rc)
		rc = tun_set_reading(c->tun, true);
	if (rc) {
		snprintf(text, sizeof text, "interface %s: %s", c->interface, strerror(-rc));
		client_fail(c, text);
		return;
	}
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
	if (!c->tun || code == CODE_REFUSED || now - c->lost_at_us >= MESH_GIVE_UP_US) {
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

	c->conn = NULL;
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
	return rc;
}

static void client_close(void *arg)
{
	struct mesh_client *c = arg;

	if (!c)
		return;
	if (c->conn)
		meshconn_close(c->conn, CODE_CLOSED, "the subscriber has left");
	if (c->retry)
		event_free(c->retry);
	tun_free(c->tun);
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

	return c->tun ? tun_name(c->tun) : "";
}

static void client_counters(void *arg, struct tunnel_counters *out)
{
	const struct mesh_client *c = arg;

	*out = c->counters;
	out->connected = c->conn && meshconn_is_up(c->conn);
}

const struct tunnel_method tunnel_mesh = {
	.name = "mesh",
	.probe = mesh_probe,
	.gateway_start = gateway_start,
	.gateway_info = gateway_info,
	.gateway_open = gateway_open,
	.gateway_close = gateway_close,
	.gateway_counters = gateway_counters,
	.gateway_accept = gateway_accept,
	.gateway_stop = gateway_stop,
	.client_options = client_options,
	.client_open = client_open,
	.client_interface = client_interface,
	.client_counters = client_counters,
	.client_close = client_close,
};
