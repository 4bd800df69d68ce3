/*
 * The method "wireguard": one interface for all subscribers at the gateway, a peer for each whose
 * allowed addresses are those of its lease, so that it cannot use another.  By the kernel, or by
 * wireguard-go where the kernel has none (io/wgdev.h).
 *
 *   options  {"publicKey": key}                                    of the subscriber
 *   answer   {"publicKey": key, "port": n, "endpoints": ["IP:PORT"], "mtu": n,
 *             "clientKey": key, "presharedKey": key}               keys in base64, as wg(8) has
 * them
 *
 * "clientKey" is the subscriber's key as the gateway knows it: one that has another by now gives
 * the lease back.  Both ends keep their keys in the state directory, so tunnels come back by
 * themselves after a restart of either.
 */
#include "tunnel/tunnel.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/cstr.h"
#include "base/log.h"
#include "base/map.h"
#include "io/clock.h"
#include "io/config.h"
#include "io/hostjournal.h"
#include "io/keyfile.h"
#include "io/netlink_watch.h"
#include "io/timer.h"
#include "io/wgdev.h"
#include "io/wgpeers.h"
#include "tunnel/tunopt.h"

#define WG_MTU_DEFAULT 1420u
#define WG_MTU_MIN 1280u
#define WG_MTU_MAX 9000u
#define WG_PORT_DEFAULT 51820u
#define WG_KEEPALIVE_S 25u
/* gateway */
#define WG_START_WAIT_US WGDEV_START_US
#define WG_AGAIN_US 500000u    /* a device that cannot be made is tried again after this long */
#define WG_NOTE_US 2000000u    /* where subscribers are is noted this often */
#define WG_SNAPSHOT_US 200000u /* counters are as old as this at most */
#define WG_SESSION_S 180u      /* a session without a new handshake is over */
/* subscriber */
#define WG_POLL_US 20000u /* until the handshake */
#define WG_WATCH_US 200000u
#define WG_QUIET_US 300000u /* then perhaps our address has changed */
#define WG_TRY_US 1000000u  /* one endpoint, or one more handshake */
#define WG_OPEN_US 7000000u
#define WG_SILENT_US 1000000u

_Static_assert(TUNNEL_WHY_MAX >= WGDEV_WHY_MAX, "a device's reason fits");

/* ==== both ends ==== */

static enum wgdev_kind wanted_kind(const struct tunnel_env *env)
{
	const char *backend = env->cfg ? env->cfg->wireguard_backend : "auto";

	return strcmp(backend, "kernel") == 0	   ? WGDEV_KERNEL
	       : strcmp(backend, "userspace") == 0 ? WGDEV_GO
						   : WGDEV_ANY;
}

/* The kind, or -errno. */
static int find_kind(const struct tunnel_env *env, struct nl *nl, char *why)
{
	return wgdev_probe(nl, wanted_kind(env), why);
}

static int wg_probe(const struct tunnel_env *env, enum tunnel_end end, char *why)
{
	struct nl *nl, *own;
	int rc = tunopt_nl(env, &nl, &own);

	(void)end;
	if (rc)
		return tunnel_why(why, rc, "netlink: %s", strerror(-rc));
	rc = find_kind(env, nl, why);
	nl_close(own);
	return rc < 0 ? rc : 0;
}

static uint32_t mtu_within(uint32_t mtu)
{
	if (!mtu)
		return WG_MTU_DEFAULT;
	return mtu < WG_MTU_MIN ? WG_MTU_MIN : mtu > WG_MTU_MAX ? WG_MTU_MAX : mtu;
}

static struct net_prefix host_prefix(const struct net_addr *a)
{
	struct net_prefix p = {.addr = *a, .bits = a->family == 4 ? 32 : 128};

	p.addr.port = 0;
	return p;
}

/* ==== gateway ==== */

struct wg_lease {
	LIST_ENTRY(wg_lease) link;
	char sid[SID_MAX + 1];
	uint8_t sid_key[TUNOPT_SID_KEY], key[WG_KEY_BYTES];
	struct net_addr ip4, ip6;
	uint64_t up, down;	   /* bytes through devices that are gone */
	uint64_t dev_up, dev_down; /* and through the present one */
	uint64_t handshake_s;
};

struct wg_gateway {
	struct tunnel_env env;
	struct nl *nl, *own_nl;
	enum wgdev_kind kind;
	char interface[IFNAMSIZ];
	uint32_t mtu;
	uint16_t port;
	bool psk;
	struct net_prefix addr4, addr6;
	struct keypair keys;
	struct wgdev *dev; /* NULL: lost, `again` runs */
	bool was_ready;	   /* the last one worked */
	struct event *again, *note;
	struct wgpeers *places; /* where subscribers were last heard from */
	uint64_t snapshot_us;
	LIST_HEAD(, wg_lease) leases;
	struct map by_sid, by_key;
};

/* Always the same for a lease, also after a restart. */
static void make_psk(const struct wg_gateway *gw, const struct wg_lease *l,
		     uint8_t out[WG_KEY_BYTES])
{
	static const char label[] = "meshnet wireguard psk";
	crypto_generichash_state st;

	crypto_generichash_init(&st, gw->keys.secret, sizeof gw->keys.secret, WG_KEY_BYTES);
	crypto_generichash_update(&st, (const uint8_t *)label, sizeof label);
	crypto_generichash_update(&st, l->sid_key, sizeof l->sid_key);
	crypto_generichash_update(&st, l->key, sizeof l->key);
	crypto_generichash_final(&st, out, WG_KEY_BYTES);
	sodium_memzero(&st, sizeof st);
}

/* ---- what stands in the device ---- */

static int lease_apply(struct wg_gateway *gw, const struct wg_lease *l)
{
	struct wgdev_peer p = {.allowed = {host_prefix(&l->ip4), host_prefix(&l->ip6)},
			       .endpoint = wgpeers_get(gw->places, l->key)};
	uint8_t psk[WG_KEY_BYTES];
	int rc;

	memcpy(p.key, l->key, sizeof p.key);
	/* One that we know from before does not know that we forgot its session: begin a new one.
	 */
	if (p.endpoint.family)
		p.keepalive_s = WG_KEEPALIVE_S;
	if (gw->psk) {
		make_psk(gw, l, psk);
		p.psk = psk;
	}
	rc = wgdev_set_peer(gw->dev, &p);
	sodium_memzero(psk, sizeof psk);
	if (!rc)
		rc = tunopt_lease_routes(gw->nl, wgdev_index(gw->dev), &l->ip4, &l->ip6, true);
	return rc;
}

static bool device_ready(const struct wg_gateway *gw)
{
	return gw->dev && wgdev_ready(gw->dev);
}

/* ---- the device's life ---- */

static void device_drop(struct wg_gateway *gw)
{
	struct wg_lease *l;

	LIST_FOREACH(l, &gw->leases, link) {
		l->up += l->dev_up;
		l->down += l->dev_down;
		l->dev_up = l->dev_down = 0;
	}
	wgdev_close(gw->dev);
	gw->dev = NULL;
}

static void on_device(enum wgdev_event event, const char *text, void *arg)
{
	struct wg_gateway *gw = arg;
	struct wg_lease *l;
	int rc;

	if (event == WGDEV_LOST) {
		log_error("wireguard: interface %s is lost (%s); it is made again", gw->interface,
			  text);
		device_drop(gw);
		timer_in(gw->again, gw->was_ready ? 0 : WG_AGAIN_US);
		gw->was_ready = false;
		return;
	}
	gw->was_ready = true;
	log_info("wireguard: interface %s is up, port %u (%s)", wgdev_interface(gw->dev), gw->port,
		 wgdev_kind_text(gw->kind));
	LIST_FOREACH(l, &gw->leases, link) {
		rc = lease_apply(gw, l);
		if (rc)
			log_error("wireguard: lease %.8s... cannot be opened again: %s", l->sid,
				  strerror(-rc));
	}
}

static int device_open(struct wg_gateway *gw, char *why)
{
	const struct nl_addr addrs[] = {{.prefix = gw->addr4}, {.prefix = gw->addr6}};
	const struct wgdev_config dc = {
		.interface = gw->interface,
		.kind = gw->kind,
		.mtu = gw->mtu,
		.secret = gw->keys.secret,
		.port = gw->port,
		.addrs = addrs,
		.addr_count = 2,
		.event = on_device,
		.arg = gw,
	};

	return wgdev_open(&gw->dev, gw->env.base, gw->env.journal, gw->nl, &dc, why);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	struct wg_gateway *gw = arg;
	char why[WGDEV_WHY_MAX] = "";

	(void)fd, (void)what;
	if (device_open(gw, why)) {
		log_error("wireguard: %s", why);
		timer_in(gw->again, WG_AGAIN_US);
	}
}

/* ---- counters ---- */

static int take_stat(const struct wgdev_stat *s, void *ctx)
{
	struct wg_gateway *gw = ctx;
	struct wg_lease *l = map_get(&gw->by_key, s->key);

	if (l) {
		l->dev_up = s->rx_bytes;
		l->dev_down = s->tx_bytes;
		l->handshake_s = s->handshake_s;
		if (s->endpoint.family)
			wgpeers_set(gw->places, s->key, &s->endpoint);
	}
	return 0;
}

/* Whoever lists all leases asks the device once. */
static void snapshot(struct wg_gateway *gw)
{
	uint64_t now = daemon_now_us();

	if (!device_ready(gw) || (gw->snapshot_us && now - gw->snapshot_us < WG_SNAPSHOT_US))
		return;
	int rc = wgdev_list(gw->dev, take_stat, gw);
	if (rc)
		log_warn("wireguard: counters: %s", strerror(-rc));
	gw->snapshot_us = daemon_now_us();
}

static void places_save(struct wg_gateway *gw)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/wireguard-peers", gw->env.state_dir);
	int rc = n < 0 || n >= (int)sizeof path ? -ENAMETOOLONG : wgpeers_save(gw->places, path);

	if (rc)
		log_warn("wireguard: %s: %s", path, strerror(-rc));
}

static int places_load(struct wg_gateway *gw)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/wireguard-peers", gw->env.state_dir);

	if (n < 0 || n >= (int)sizeof path)
		return -ENAMETOOLONG;
	gw->places = wgpeers_load(path);
	return gw->places ? 0 : -ENOMEM;
}

static void on_note(evutil_socket_t fd, short what, void *arg)
{
	struct wg_gateway *gw = arg;

	(void)fd, (void)what;
	if (!LIST_EMPTY(&gw->leases))
		snapshot(gw);
	places_save(gw);
	timer_in(gw->note, WG_NOTE_US);
}

static struct wg_lease *lease_by_sid(const struct wg_gateway *gw, const char *sid)
{
	return tunopt_by_sid(&gw->by_sid, sid);
}

static int gateway_counters(void *arg, const char *sid, struct tunnel_counters *out)
{
	struct wg_gateway *gw = arg;
	const struct wg_lease *l = lease_by_sid(gw, sid);

	if (!l)
		return -ENOENT;
	snapshot(gw);
	*out = (struct tunnel_counters){
		.up_bytes = l->up + l->dev_up,
		.down_bytes = l->down + l->dev_down,
		.connected = device_ready(gw) && l->handshake_s &&
			     daemon_wall_s() < l->handshake_s + WG_SESSION_S,
	};
	return 0;
}

/* ---- leases ---- */

static void lease_free(struct wg_gateway *gw, struct wg_lease *l)
{
	if (map_get(&gw->by_sid, l->sid_key) == l)
		map_del(&gw->by_sid, l->sid_key);
	if (map_get(&gw->by_key, l->key) == l)
		map_del(&gw->by_key, l->key);
	LIST_REMOVE(l, link);
	free(l);
}

static int lease_index(struct wg_gateway *gw, struct wg_lease *l)
{
	int rc = map_put(&gw->by_sid, l->sid_key, l);

	return rc ? rc : map_put(&gw->by_key, l->key, l);
}

static int lease_new(struct wg_gateway *gw, const struct tunnel_lease *t, const uint8_t *key,
		     struct wg_lease **out, char *why)
{
	struct wg_lease *l;
	int rc;

	if (map_get(&gw->by_key, key))
		return tunnel_why(why, -EEXIST, "this key has another lease already");
	l = calloc(1, sizeof *l);
	if (!l)
		return tunnel_no_memory(why);
	cstr_copy(l->sid, sizeof l->sid, t->sid);
	tunopt_sid_key(l->sid_key, t->sid);
	memcpy(l->key, key, sizeof l->key);
	l->ip4 = t->ip4;
	l->ip6 = t->ip6;
	LIST_INSERT_HEAD(&gw->leases, l, link);
	rc = lease_index(gw, l);
	if (!rc && device_ready(gw))
		rc = lease_apply(gw, l);
	if (rc) {
		tunnel_say(why, "no room for the lease: %s", strerror(-rc));
		if (device_ready(gw))
			wgdev_remove_peer(gw->dev, l->key);
		lease_free(gw, l);
		return rc;
	}
	*out = l;
	return 0;
}

static void answer_fill(const struct wg_gateway *gw, const struct wg_lease *l,
			struct json_object *answer)
{
	uint8_t psk[WG_KEY_BYTES];

	tunopt_set_key(answer, "publicKey", gw->keys.id.b);
	tunopt_set_u32(answer, "port", gw->port);
	tunopt_set_endpoints(answer, gw->env.cfg ? gw->env.cfg->wireguard_endpoints : "", gw->port,
			     gw->nl);
	tunopt_set_u32(answer, "mtu", gw->mtu);
	tunopt_set_key(answer, "clientKey", l->key);
	if (gw->psk) {
		make_psk(gw, l, psk);
		tunopt_set_key(answer, "presharedKey", psk);
		sodium_memzero(psk, sizeof psk);
	}
}

static int gateway_open(void *arg, const struct tunnel_lease *t, struct json_object *answer,
			char interface[IFNAMSIZ], char *why)
{
	struct wg_gateway *gw = arg;
	struct wg_lease *l = lease_by_sid(gw, t->sid);
	uint8_t key[WG_KEY_BYTES];
	int rc = 0;

	if (!tunopt_key(t->options, "publicKey", key) ||
	    memcmp(key, gw->keys.id.b, sizeof key) == 0)
		return tunnel_why(
			why, -EINVAL,
			"options must hold the subscriber's publicKey (32 bytes in base64)");
	if (l && (memcmp(l->key, key, sizeof key) != 0 || !net_addr_same_ip(&l->ip4, &t->ip4) ||
		  !net_addr_same_ip(&l->ip6, &t->ip6)))
		return tunnel_why(why, -EEXIST, "this sid is another subscriber's");
	if (!l)
		rc = lease_new(gw, t, key, &l, why);
	if (rc)
		return rc;
	answer_fill(gw, l, answer);
	cstr_copy(interface, IFNAMSIZ, device_ready(gw) ? wgdev_interface(gw->dev) : gw->interface);
	return 0;
}

static void gateway_close(void *arg, const char *sid)
{
	struct wg_gateway *gw = arg;
	struct wg_lease *l = lease_by_sid(gw, sid);
	int rc;

	if (!l)
		return;
	if (device_ready(gw)) {
		rc = wgdev_remove_peer(gw->dev, l->key);
		if (rc)
			log_error("wireguard: peer of lease %.8s... stays: %s", l->sid,
				  strerror(-rc));
		tunopt_lease_routes(gw->nl, wgdev_index(gw->dev), &l->ip4, &l->ip6, false);
	}
	wgpeers_set(gw->places, l->key, &(struct net_addr){0});
	lease_free(gw, l);
}

/* ---- start and stop ---- */

static void gateway_stop(void *arg)
{
	struct wg_gateway *gw = arg;

	if (!gw)
		return;
	if (gw->places)
		snapshot(gw);
	while (!LIST_EMPTY(&gw->leases))
		lease_free(gw, LIST_FIRST(&gw->leases));
	map_free(&gw->by_sid);
	map_free(&gw->by_key);
	wgdev_close(gw->dev);
	if (gw->places)
		places_save(gw); /* leases live on, and so do these */
	wgpeers_free(gw->places);
	event_drop(gw->again);
	event_drop(gw->note);
	nl_close(gw->own_nl);
	keyfile_wipe(&gw->keys);
	free(gw);
}

static void gateway_settings(struct wg_gateway *gw, const struct tunnel_gateway_config *config)
{
	const struct config *cfg = gw->env.cfg;

	cstr_copy(gw->interface, sizeof gw->interface, config->interface);
	gw->mtu = mtu_within(config->mtu);
	gw->port = cfg ? (uint16_t)cfg->wireguard_port : WG_PORT_DEFAULT;
	gw->psk = cfg ? cfg->wireguard_preshared_keys : true;
	gw->addr4 = host_prefix(&config->addr4.addr);
	gw->addr6 = host_prefix(&config->addr6.addr);
}

static int gateway_begin(struct wg_gateway *gw, char *why)
{
	int rc = tunopt_nl(&gw->env, &gw->nl, &gw->own_nl);

	if (!rc)
		rc = keyfile_load(gw->env.state_dir, "wireguard-gateway", &gw->keys);
	if (!rc) {
		gw->again = timer_new(gw->env.base, on_again, gw);
		gw->note = timer_new(gw->env.base, on_note, gw);
		rc = gw->again && gw->note ? places_load(gw) : -ENOMEM;
	}
	if (!rc)
		rc = timer_in(gw->note, WG_NOTE_US);
	if (rc)
		return tunnel_why(why, rc, "keys in %s: %s", gw->env.state_dir, strerror(-rc));
	rc = find_kind(&gw->env, gw->nl, why);
	if (rc < 0)
		return rc;
	gw->kind = (enum wgdev_kind)rc;
	rc = device_open(gw, why);
	/* Milliseconds; when it takes longer it goes on in the loop. */
	if (!rc)
		rc = wgdev_wait(gw->dev, WG_START_WAIT_US, why);
	return rc == -ETIMEDOUT ? 0 : rc;
}

static int gateway_start(void **out, const struct tunnel_env *env,
			 const struct tunnel_gateway_config *config, char *why)
{
	struct wg_gateway *gw = calloc(1, sizeof *gw);
	uint64_t seed;
	int rc;

	if (!gw)
		return tunnel_no_memory(why);
	gw->env = *env;
	gateway_settings(gw, config);
	LIST_INIT(&gw->leases);
	randombytes_buf(&seed, sizeof seed);
	map_init(&gw->by_sid, TUNOPT_SID_KEY, TUNNEL_LEASES_MAX, seed);
	map_init(&gw->by_key, WG_KEY_BYTES, TUNNEL_LEASES_MAX, seed);
	rc = gateway_begin(gw, why);
	if (rc) {
		gateway_stop(gw);
		return rc;
	}
	*out = gw;
	return 0;
}

static void gateway_info(void *arg, struct json_object *entry)
{
	const struct wg_gateway *gw = arg;

	tunopt_set_key(entry, "publicKey", gw->keys.id.b);
	tunopt_set_u32(entry, "port", gw->port);
	tunopt_set_u32(entry, "mtu", gw->mtu);
	tunopt_set_string(entry, "backend", wgdev_kind_text(gw->kind));
}

/* ==== subscriber ==== */

struct wg_client {
	struct tunnel_env env;
	struct nl *nl, *own_nl;
	struct wgdev *dev;
	struct nl_watch *watch;
	struct event *timer;
	struct keypair keys;
	uint8_t server[WG_KEY_BYTES], psk[WG_KEY_BYTES];
	bool has_psk, has4, has6;
	struct net_addr endpoints[TUNOPT_ADDRS_MAX];
	size_t endpoint_count, endpoint;
	uint32_t mtu;
	char interface[IFNAMSIZ];
	tunnel_client_state *state;
	void *arg;
	bool up, silent; /* a first handshake was made; the gateway is not heard */
	uint64_t begun_us, tried_us;
	uint64_t heard_us;	       /* something came from the gateway */
	unsigned sent;		       /* since then, polls that saw something go out */
	uint64_t rx, tx;	       /* of the peer as it is */
	uint64_t rx_before, tx_before; /* of those before it */
};

/* Makes the peer, or makes it anew: with a keepalive that begins a handshake at once, whatever the
 * old one waited for. */
static int client_dial(struct wg_client *c)
{
	struct wgdev_peer p = {.endpoint = c->endpoints[c->endpoint],
			       .keepalive_s = WG_KEEPALIVE_S,
			       .psk = c->has_psk ? c->psk : NULL};
	int rc;

	memcpy(p.key, c->server, sizeof p.key);
	p.allowed[0].addr.family = c->has4 ? 4 : 0;
	p.allowed[1].addr.family = c->has6 ? 6 : 0;
	c->rx_before += c->rx;
	c->tx_before += c->tx;
	c->rx = c->tx = 0;
	c->sent = 0;
	c->tried_us = daemon_now_us();
	rc = wgdev_remove_peer(c->dev, c->server);
	return rc ? rc : wgdev_set_peer(c->dev, &p);
}

/* The owner may free the client in this call: nothing may follow it. */
static void client_fail(struct wg_client *c, const char *text)
{
	evtimer_del(c->timer);
	c->state(TUNNEL_FAILED, text, c->arg);
}

static int take_peer(const struct wgdev_stat *s, void *ctx)
{
	*(struct wgdev_stat *)ctx = *s;
	return 0;
}

/* Every endpoint gets its time. */
static int client_try_next(struct wg_client *c, uint64_t now)
{
	if (now - c->tried_us < WG_TRY_US)
		return 0;
	c->endpoint = (c->endpoint + 1) % c->endpoint_count;
	return client_dial(c);
}

/*
 * A gateway that has restarted does not know our session, and says nothing; WireGuard itself would
 * begin a new one after 15 s.  Something goes out and nothing comes back: begin it now.
 */
static int client_watch(struct wg_client *c, const struct wgdev_stat *s, uint64_t now)
{
	if (s->rx_bytes != c->rx) {
		c->heard_us = now;
		c->sent = 0;
	} else if (s->tx_bytes != c->tx) {
		c->sent++;
	}
	c->rx = s->rx_bytes;
	c->tx = s->tx_bytes;
	if (now - c->heard_us < WG_QUIET_US)
		return 0;
	if (now - c->heard_us < WG_SILENT_US || c->sent < 2 || now - c->tried_us < WG_TRY_US)
		return wgdev_set_endpoint(c->dev, c->server, &c->endpoints[c->endpoint]);
	return client_dial(c);
}

static void tell_silence(struct wg_client *c, uint64_t now)
{
	bool silent = c->tried_us > c->heard_us && now - c->heard_us >= WG_SILENT_US;

	if (silent == c->silent)
		return;
	c->silent = silent;
	c->state(silent ? TUNNEL_CONNECTING : TUNNEL_UP, silent ? "the gateway is not heard" : "",
		 c->arg);
}

static void client_step(struct wg_client *c, const struct wgdev_stat *s, uint64_t now)
{
	if (s->handshake_s && !c->up) {
		c->up = true;
		c->heard_us = now;
		c->rx = s->rx_bytes;
		c->tx = s->tx_bytes;
		timer_in(c->timer, WG_WATCH_US);
		c->state(TUNNEL_UP, "", c->arg);
	} else if (c->up) {
		timer_in(c->timer, WG_WATCH_US);
		tell_silence(c, now);
	} else {
		timer_in(c->timer, WG_POLL_US);
	}
}

static void client_timer(evutil_socket_t fd, short what, void *arg)
{
	struct wg_client *c = arg;
	struct wgdev_stat s = {.handshake_s = 0};
	uint64_t now = daemon_now_us();
	char text[TUNNEL_WHY_MAX];

	(void)fd, (void)what;
	if (!c->up && now - c->begun_us >= WG_OPEN_US) {
		client_fail(c, "the gateway does not answer the handshake");
		return;
	}
	int rc = wgdev_list(c->dev, take_peer, &s);
	if (!rc && c->up)
		rc = client_watch(c, &s, now);
	else if (!rc && !s.handshake_s)
		rc = client_try_next(c, now);
	if (rc) {
		cstr_print(text, sizeof text, "WireGuard: %s", strerror(-rc));
		client_fail(c, text);
		return;
	}
	client_step(c, &s, now);
}

/* Ours may be the one that the packets are sent from; see wgdev_set_endpoint. */
static void client_addresses(void *arg)
{
	struct wg_client *c = arg;

	if (c->dev && wgdev_ready(c->dev) &&
	    wgdev_set_endpoint(c->dev, c->server, &c->endpoints[c->endpoint]))
		log_debug("wireguard: the endpoint could not be set again");
}

static void client_device(enum wgdev_event event, const char *text, void *arg)
{
	struct wg_client *c = arg;
	char why[TUNNEL_WHY_MAX];

	if (event == WGDEV_LOST) {
		cstr_print(why, sizeof why, "the tunnel interface is gone (%s)", text);
		client_fail(c, why);
		return;
	}
	/* What is wrong with the peer shows at the next look. */
	if (client_dial(c))
		log_warn("wireguard: the gateway cannot be set as a peer");
	timer_in(c->timer, WG_POLL_US);
}

static int client_options(const struct tunnel_env *env, struct json_object *options, char *why)
{
	struct keypair keys;
	int rc = wg_probe(env, TUNNEL_SUBSCRIBER, why);

	if (rc)
		return rc;
	rc = keyfile_load(env->state_dir, "wireguard-subscriber", &keys);
	if (rc)
		return tunnel_why(why, rc, "key in %s: %s", env->state_dir, strerror(-rc));
	tunopt_set_key(options, "publicKey", keys.id.b);
	keyfile_wipe(&keys);
	return 0;
}

static void client_close(void *arg)
{
	struct wg_client *c = arg;

	if (!c)
		return;
	nl_watch_free(c->watch);
	wgdev_close(c->dev);
	event_drop(c->timer);
	nl_close(c->own_nl);
	sodium_memzero(c, sizeof *c);
	free(c);
}

static int client_fill(struct wg_client *c, const struct tunnel_grant *grant, char *why)
{
	uint8_t mine[WG_KEY_BYTES];

	if (!tunopt_key(grant->object, "publicKey", c->server) ||
	    !tunopt_key(grant->object, "clientKey", mine))
		return tunnel_why(why, -EPROTO, "the gateway's answer lacks keys");
	if (memcmp(mine, c->keys.id.b, sizeof mine) != 0)
		return tunnel_why(why, -ESTALE, "the gateway has an old key of ours");
	c->endpoint_count = tunopt_endpoints(grant->object, &grant->server, c->endpoints);
	if (!c->endpoint_count)
		return tunnel_why(why, -EPROTO, "the gateway's answer names no address");
	c->has_psk = tunopt_key(grant->object, "presharedKey", c->psk);
	if (!tunopt_u32(grant->object, "mtu", WG_MTU_MIN, WG_MTU_MAX, &c->mtu))
		c->mtu = WG_MTU_DEFAULT;
	c->has4 = grant->ip4.addr.family == 4;
	c->has6 = grant->ip6.addr.family == 6;
	if (!*grant->interface || strlen(grant->interface) >= sizeof c->interface)
		return tunnel_why(why, -EINVAL, "'%s' is no interface name", grant->interface);
	cstr_copy(c->interface, sizeof c->interface, grant->interface);
	return 0;
}

static int client_device_open(struct wg_client *c, const struct tunnel_grant *grant, char *why)
{
	const struct nl_addr addrs[] = {tunopt_client_addr(&grant->ip4, &grant->gateway4),
					tunopt_client_addr(&grant->ip6, &grant->gateway6)};
	struct wgdev_config dc = {
		.interface = c->interface,
		.mtu = c->mtu,
		.secret = c->keys.secret,
		.addrs = addrs,
		.addr_count = 2,
		.event = client_device,
		.arg = c,
	};
	int rc = find_kind(&c->env, c->nl, why);

	if (rc < 0)
		return rc;
	dc.kind = (enum wgdev_kind)rc;
	return wgdev_open(&c->dev, c->env.base, c->env.journal, c->nl, &dc, why);
}

static int client_open(void **out, const struct tunnel_env *env, const struct tunnel_grant *grant,
		       tunnel_client_state *state, void *arg, char *why)
{
	struct wg_client *c = calloc(1, sizeof *c);
	int rc = c ? 0 : -ENOMEM;

	if (!rc) {
		c->env = *env;
		c->state = state;
		c->arg = arg;
		c->begun_us = daemon_now_us();
		c->timer = timer_new(env->base, client_timer, c);
		rc = c->timer ? tunopt_nl(env, &c->nl, &c->own_nl) : -ENOMEM;
	}
	if (!rc)
		rc = nl_watch_routes(&c->watch, env->base, client_addresses, c);
	if (!rc)
		rc = keyfile_load(env->state_dir, "wireguard-subscriber", &c->keys);
	if (rc)
		tunnel_say(why, "%s", strerror(-rc));
	else
		rc = client_fill(c, grant, why);
	if (!rc)
		rc = client_device_open(c, grant, why);
	if (rc) {
		client_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

static const char *client_interface(void *arg)
{
	const struct wg_client *c = arg;

	return wgdev_interface(c->dev);
}

static struct net_addr client_server(void *arg)
{
	const struct wg_client *c = arg;

	return c->endpoints[c->endpoint];
}

static void client_counters(void *arg, struct tunnel_counters *out)
{
	const struct wg_client *c = arg;

	*out = (struct tunnel_counters){.up_bytes = c->tx_before + c->tx,
					.down_bytes = c->rx_before + c->rx,
					.connected = c->up && !c->silent};
}

TUNNEL_METHOD(wireguard, (.name = "wireguard", .probe = wg_probe),
	      (.gateway_start = gateway_start, .gateway_info = gateway_info,
	       .gateway_open = gateway_open, .gateway_close = gateway_close,
	       .gateway_counters = gateway_counters, .gateway_stop = gateway_stop),
	      (.client_options = client_options, .client_open = client_open,
	       .client_interface = client_interface, .client_server = client_server,
	       .client_counters = client_counters, .client_close = client_close));
