/*
 * The method "cjdns": cjdns's IpTunnel between two nodes of a cjdns network, ordered by its admin
 * interface (io/cjdns.h).  cjdns carries and encrypts, and gives the leased address to the
 * subscriber's interface; it lets a peer send only from what it was allowed.
 *
 *   options  {"key": "....k", the subscriber's cjdns key}
 *   answer   {"key": "....k", the gateway's}
 *
 * Both interfaces are cjdns's own and stay so (`borrows`): the gateway's is [cjdns] Interface,
 * where our address of the pools is added; the subscriber's is the one on which the leased address
 * appears.
 *
 * cjdns keeps its connections when we are gone: the gateway takes over at its start those that
 * belong to leases, and takes back every other one with an address of its pools; the subscriber
 * keeps on disk whom it connected to.
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
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "base/map.h"
#include "io/cjdns.h"
#include "io/config.h"
#include "io/hostjournal.h"
#include "io/keyfile.h"
#include "io/timer.h"
#include "tunnel/linktun.h"
#include "tunnel/tunopt.h"

#define KEY_TEXT 64
#define ADMIN_PORT 11234
#define NOW_US 500000u /* of a call that is waited for */
#define CONNECTIONS_MAX 4096u
#define TICK_S 2
#define WALK_TICKS 15
#define POLL_FIRST_MS 50
#define POLL_UP_MS 2000
#define POLLS_MAX 200u /* until the address is there */

static int admin_open(struct cjdns **out, const struct tunnel_env *env, struct event_base *base)
{
	struct net_addr at;
	int rc = env->cfg ? net_addr_parse(&at, env->cfg->cjdns_admin_addr, ADMIN_PORT) : -EINVAL;

	return rc ? rc : cjdns_open(out, base, &at, env->cfg->cjdns_admin_password);
}

/* ---- calls that are waited for: cjdns is on this host ---- */

struct now {
	struct event_base *base;
	int rc;
	char why[CJDNS_WHY_MAX], key[KEY_TEXT];
};

static void on_now(int err, const char *why, const struct benc *answer, void *arg)
{
	struct now *n = arg;

	n->rc = err;
	cstr_copy(n->why, sizeof n->why, err ? why : "");
	if (answer)
		bytes_to_cstr(cjdns_key(benc_get_text(answer, "myAddr")), n->key, sizeof n->key);
	event_base_loopbreak(n->base);
}

static void call_now(struct now *n, const struct tunnel_env *env, const char *function,
		     struct bytes args)
{
	struct cjdns *c = NULL;

	*n = (struct now){.base = event_base_new(), .rc = -ENOMEM};
	if (n->base)
		n->rc = admin_open(&c, env, n->base);
	if (!n->rc)
		n->rc = cjdns_call(c, function, args, NOW_US, on_now, n);
	if (!n->rc)
		event_base_dispatch(n->base);
	cjdns_close(c);
	if (n->base)
		event_base_free(n->base);
}

static size_t number_args(uint8_t *buf, size_t size, int64_t connection)
{
	struct wbuf w = wbuf_init(buf, size);

	benc_put_mark(&w, 'd');
	benc_put_text(&w, "connection");
	benc_put_int(&w, connection);
	benc_put_mark(&w, 'e');
	return wbuf_len(&w);
}

static void remove_now(const struct tunnel_env *env, int64_t connection)
{
	uint8_t args[64];
	struct now n;

	call_now(&n, env, "IpTunnel_removeConnection",
		 bytes_of(args, number_args(args, sizeof args, connection)));
	if (n.rc)
		log_warn("cjdns: connection %lld stays: %s", (long long)connection, n.why);
}

static int own_key(const struct tunnel_env *env, char key[KEY_TEXT], char *why)
{
	struct now n;

	call_now(&n, env, "Core_nodeInfo", (struct bytes){0});
	if (!n.rc && !*n.key)
		n.rc = -EPROTO;
	if (n.rc)
		tunnel_say(why, "cjdns's admin interface: %.100s",
			   *n.why ? n.why : strerror(-n.rc));
	else
		memcpy(key, n.key, KEY_TEXT);
	return n.rc;
}

static int cjdns_probe(const struct tunnel_env *env, enum tunnel_end end, char *why)
{
	char key[KEY_TEXT];

	if (!env->journal || !env->cfg)
		return tunnel_why(why, -EPERM, "the host's network may not be changed");
	if (end == TUNNEL_GATEWAY && !*env->cfg->cjdns_interface)
		return tunnel_why(why, -ENODEV,
				  "[cjdns] Interface does not say which one cjdns has");
	if (end == TUNNEL_GATEWAY && !*env->cfg->gateway_uplink_interface)
		return tunnel_why(why, -ENODEV,
				  "[gateway] UplinkInterface must say what needs a lease");
	return own_key(env, key, why);
}

/* ==== gateway ==== */

struct lease {
	LIST_ENTRY(lease) link;
	uint8_t sid_key[TUNOPT_SID_KEY], peer_key[TUNOPT_SID_KEY];
	char peer[KEY_TEXT];
	struct net_addr ip4, ip6;
	int64_t number; /* of cjdns's connection; -1: none yet */
	bool seen, asked;
};

struct gateway {
	struct tunnel_env env;
	char key[KEY_TEXT], interface[IFNAMSIZ];
	struct net_prefix addr4, addr6;
	uint32_t link; /* where our addresses are */
	struct cjdns *admin;
	struct event *tick;
	LIST_HEAD(, lease) leases;
	struct map by_sid, by_peer;
	unsigned ticks;
	/* A walk over all that cjdns has. */
	bool walking, known;
	int64_t found[CONNECTIONS_MAX];
	size_t found_count, found_at;
};

static struct lease *lease_find(const struct map *m, const char *text)
{
	return tunopt_by_sid(m, text);
}

static void on_removed(int err, const char *why, const struct benc *answer, void *arg)
{
	(void)answer, (void)arg;
	if (err == -EREMOTEIO) /* it is gone already, with a cjdns that was started again */
		log_debug("cjdns: %s", why);
	else if (err)
		log_warn("cjdns: a connection stays for now: %s", why);
}

static void remove_connection(struct gateway *gw, int64_t number)
{
	uint8_t args[64];

	if (cjdns_call(gw->admin, "IpTunnel_removeConnection",
		       bytes_of(args, number_args(args, sizeof args, number)), 0, on_removed, gw))
		log_warn("cjdns: connection %lld stays for now", (long long)number);
}

/* ---- allowing ---- */

static void walk(struct gateway *gw);

/* The walk tells the number, also of one that was closed before this answer. */
static void on_allowed(int err, const char *why, const struct benc *answer, void *arg)
{
	struct gateway *gw = arg;

	(void)answer;
	if (err)
		log_warn("cjdns: a lease is not allowed (yet): %s", why);
	walk(gw);
}

static void put_address(struct wbuf *w, const char *name, const struct net_addr *a)
{
	char key[16], ip[NET_ADDR_TEXT];
	int bits = a->family == 4 ? 32 : 128;

	if (!a->family)
		return;
	cstr_print(key, sizeof key, "%sAddress", name);
	benc_put_text(w, key);
	benc_put_text(w, net_addr_ip_text(a, ip));
	cstr_print(key, sizeof key, "%sAlloc", name);
	benc_put_text(w, key);
	benc_put_int(w, bits);
	cstr_print(key, sizeof key, "%sPrefix", name);
	benc_put_text(w, key);
	benc_put_int(w, bits);
}

static void allow(struct gateway *gw, struct lease *l)
{
	uint8_t buf[CJDNS_ARGS_MAX];
	struct wbuf w = wbuf_init(buf, sizeof buf);

	benc_put_mark(&w, 'd'); /* keys in their order */
	put_address(&w, "ip4", &l->ip4);
	put_address(&w, "ip6", &l->ip6);
	benc_put_text(&w, "publicKeyOfAuthorizedNode");
	benc_put_text(&w, l->peer);
	benc_put_mark(&w, 'e');
	l->asked = cjdns_call(gw->admin, "IpTunnel_allowConnection", bytes_of(buf, wbuf_len(&w)), 0,
			      on_allowed, gw) == 0;
}

/* ---- the walk: what is there, what should be ---- */

static void show_next(struct gateway *gw);

static void walk_done(struct gateway *gw)
{
	struct lease *l;

	gw->walking = false;
	gw->known = true;
	LIST_FOREACH(l, &gw->leases, link) {
		if (!l->seen)
			l->number = -1;
		if (l->number < 0 && !l->asked)
			allow(gw, l);
		else
			l->asked = false; /* asked for after the list was made: next time */
	}
}

static bool same_address(struct bytes text, const struct net_addr *a)
{
	char ip[NET_ADDR_TEXT], said[NET_ADDR_TEXT];
	struct net_addr b;

	bytes_to_cstr(text, said, sizeof said);
	if (!a->family || net_addr_parse(&b, said, 0))
		return !a->family && !text.len;
	return strcmp(net_addr_ip_text(a, ip), said) == 0 || net_addr_same_ip(a, &b);
}

static bool in_pool(struct bytes text, const struct net_prefix *pool)
{
	char said[NET_ADDR_TEXT];
	struct net_addr a;

	bytes_to_cstr(text, said, sizeof said);
	return pool->addr.family && net_addr_parse(&a, said, 0) == 0 &&
	       net_prefix_contains(pool, &a);
}

/* Ours by its address; and a lease's, or a leftover. */
static void take_shown(struct gateway *gw, int64_t number, const struct benc *answer)
{
	struct bytes ip4 = benc_get_text(answer, "ip4Address"),
		     ip6 = benc_get_text(answer, "ip6Address");
	char peer[KEY_TEXT];
	struct lease *l;

	if (benc_get_int(answer, "outgoing", 1) ||
	    (!in_pool(ip4, &gw->addr4) && !in_pool(ip6, &gw->addr6)))
		return;
	bytes_to_cstr(benc_get_text(answer, "key"), peer, sizeof peer);
	l = lease_find(&gw->by_peer, peer);
	if (l && !l->seen && same_address(ip4, &l->ip4) && same_address(ip6, &l->ip6)) {
		l->seen = true;
		l->number = number;
		return;
	}
	remove_connection(gw, number);
}

static void on_shown(int err, const char *why, const struct benc *answer, void *arg)
{
	struct gateway *gw = arg;
	int64_t number = gw->found[gw->found_at++];

	(void)why;
	if (!err)
		take_shown(gw, number, answer);
	show_next(gw);
}

static void show_next(struct gateway *gw)
{
	uint8_t args[64];

	if (gw->found_at == gw->found_count)
		walk_done(gw);
	else if (cjdns_call(gw->admin, "IpTunnel_showConnection",
			    bytes_of(args, number_args(args, sizeof args, gw->found[gw->found_at])),
			    0, on_shown, gw))
		gw->walking = false;
}

static void on_list(int err, const char *why, const struct benc *answer, void *arg)
{
	struct gateway *gw = arg;
	struct benc list, item;
	struct lease *l;

	if (err) {
		log_debug("cjdns: %s", why);
		gw->walking = false;
		return;
	}
	list = benc_get(answer, "connections");
	gw->found_count = gw->found_at = 0;
	for (struct rbuf it = benc_items(&list);
	     gw->found_count < CONNECTIONS_MAX && benc_next(&it, &item);)
		if (item.type == BENC_INT)
			gw->found[gw->found_count++] = item.num;
	LIST_FOREACH(l, &gw->leases, link)
		l->seen = false;
	show_next(gw);
}

static void walk(struct gateway *gw)
{
	if (!gw->walking)
		gw->walking = cjdns_call(gw->admin, "IpTunnel_listConnections", (struct bytes){0},
					 0, on_list, gw) == 0;
}

/* ---- our own addresses on cjdns's interface ---- */

static int address_put(struct gateway *gw, const struct net_prefix *p, uint32_t link)
{
	struct nl_addr a = {.link = gw->link, .prefix = *p};
	int rc;

	if (!p->addr.family)
		return 0;
	if (gw->link)
		host_addr_remove(gw->env.journal, &a);
	a.link = link;
	rc = link ? host_addr_add(gw->env.journal, &a) : 0;
	return rc == -EEXIST ? 0 : rc;
}

/* cjdns may have been started again: another interface of the same name. */
static int addresses_follow(struct gateway *gw)
{
	int link = nl_link_index(hostjournal_nl(gw->env.journal), gw->interface);
	uint32_t now = link > 0 ? (uint32_t)link : 0;
	int rc;

	if (now == gw->link)
		return 0;
	rc = address_put(gw, &gw->addr4, now);
	if (!rc)
		rc = address_put(gw, &gw->addr6, now);
	if (rc)
		log_warn("cjdns: our address on %s: %s", gw->interface, strerror(-rc));
	gw->link = now;
	gw->ticks = 0;
	return rc;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct gateway *gw = arg;

	(void)fd, (void)what;
	addresses_follow(gw);
	if (gw->ticks++ % WALK_TICKS == 0 || !gw->known)
		walk(gw);
}

/* ---- start and stop ---- */

static void lease_free(struct gateway *gw, struct lease *l)
{
	map_del(&gw->by_sid, l->sid_key);
	if (map_get(&gw->by_peer, l->peer_key) == l)
		map_del(&gw->by_peer, l->peer_key);
	LIST_REMOVE(l, link);
	free(l);
}

static void gateway_stop(void *arg)
{
	struct gateway *gw = arg;
	struct lease *l;

	if (!gw)
		return;
	while ((l = LIST_FIRST(&gw->leases))) {
		if (l->number >= 0)
			remove_now(&gw->env, l->number);
		lease_free(gw, l);
	}
	if (gw->link) {
		address_put(gw, &gw->addr4, 0);
		address_put(gw, &gw->addr6, 0);
	}
	cjdns_close(gw->admin);
	event_drop(gw->tick);
	map_free(&gw->by_sid);
	map_free(&gw->by_peer);
	free(gw);
}

static int gateway_begin(struct gateway *gw, char *why)
{
	const struct timeval tick = {.tv_sec = TICK_S};
	int rc = own_key(&gw->env, gw->key, why);

	if (!rc)
		rc = admin_open(&gw->admin, &gw->env, gw->env.base);
	if (rc)
		return rc;
	rc = addresses_follow(gw);
	if (!rc && !gw->link)
		rc = -ENODEV;
	if (rc)
		return tunnel_why(why, rc, "interface %s: %s", gw->interface, strerror(-rc));
	gw->tick = event_new(gw->env.base, -1, EV_PERSIST, on_tick, gw);
	if (!gw->tick || event_add(gw->tick, &tick))
		return tunnel_no_memory(why);
	walk(gw);
	return 0;
}

static int gateway_start(void **out, const struct tunnel_env *env,
			 const struct tunnel_gateway_config *config, char *why)
{
	struct gateway *gw = calloc(1, sizeof *gw);
	uint64_t seed;
	int rc;

	if (!gw)
		return tunnel_no_memory(why);
	gw->env = *env;
	gw->addr4 = config->addr4;
	gw->addr6 = config->addr6;
	cstr_copy(gw->interface, sizeof gw->interface, config->interface);
	LIST_INIT(&gw->leases);
	randombytes_buf(&seed, sizeof seed);
	map_init(&gw->by_sid, TUNOPT_SID_KEY, TUNNEL_LEASES_MAX, seed);
	map_init(&gw->by_peer, TUNOPT_SID_KEY, TUNNEL_LEASES_MAX, seed);
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
	const struct gateway *gw = arg;

	tunopt_set_string(entry, "key", gw->key);
}

/* ---- leases ---- */

/* From a cjdns address only for the key that it comes from. */
static int peer_of(const struct gateway *gw, const struct tunnel_lease *t, char peer[KEY_TEXT],
		   char *why)
{
	struct net_addr at = {0};
	const char *text;

	if (!tunopt_string(t->options, "key", KEY_TEXT - 1, &text) ||
	    cjdns_address(&at, bytes_str(text)) || cjdns_key(bytes_str(text)).len != strlen(text))
		return tunnel_why(why, -EINVAL, "options.key is not a cjdns key");
	if (strcmp(text, gw->key) == 0)
		return tunnel_why(why, -EINVAL, "options.key is the gateway's own");
	if (t->host.family == 6 && t->host.ip[0] == 0xfc && !net_addr_same_ip(&t->host, &at))
		return tunnel_why(why, -EINVAL, "options.key is another cjdns node's");
	cstr_copy(peer, KEY_TEXT, text);
	return 0;
}

static int lease_new(struct gateway *gw, const struct tunnel_lease *t, const char *peer, char *why)
{
	struct lease *l = lease_find(&gw->by_peer, peer) ? NULL : calloc(1, sizeof *l);
	int rc;

	if (!l)
		return tunnel_why(why, -EEXIST, "this cjdns node has a lease already");
	*l = (struct lease){.ip4 = t->ip4, .ip6 = t->ip6, .number = -1};
	memcpy(l->peer, peer, KEY_TEXT);
	tunopt_sid_key(l->sid_key, t->sid);
	tunopt_sid_key(l->peer_key, peer);
	LIST_INSERT_HEAD(&gw->leases, l, link);
	rc = map_put(&gw->by_sid, l->sid_key, l);
	if (!rc)
		rc = map_put(&gw->by_peer, l->peer_key, l);
	if (rc) {
		tunnel_say(why, "no room for another lease");
		lease_free(gw, l);
		return rc;
	}
	if (gw->known) /* else the walk finds what there is first */
		allow(gw, l);
	return 0;
}

static int gateway_open(void *arg, const struct tunnel_lease *t, struct json_object *answer,
			char interface[IFNAMSIZ], char *why)
{
	struct gateway *gw = arg;
	char peer[KEY_TEXT];
	int rc = peer_of(gw, t, peer, why);

	if (!rc && !lease_find(&gw->by_sid, t->sid))
		rc = lease_new(gw, t, peer, why);
	if (rc)
		return rc;
	gateway_info(gw, answer);
	cstr_copy(interface, IFNAMSIZ, gw->interface);
	return 0;
}

/* One whose number is not known yet is found by the next walk. */
static void gateway_close(void *arg, const char *sid)
{
	struct gateway *gw = arg;
	struct lease *l = lease_find(&gw->by_sid, sid);

	if (!l)
		return;
	if (l->number >= 0)
		remove_connection(gw, l->number);
	gw->ticks = 0;
	lease_free(gw, l);
}

/* The daemon's firewall counts. */
static int gateway_counters(void *gw, const char *sid, struct tunnel_counters *out)
{
	(void)gw, (void)sid;
	*out = (struct tunnel_counters){0};
	return -ENOENT;
}

/* ==== subscriber ==== */

struct client {
	struct tunnel_env env;
	char peer[KEY_TEXT], interface[IFNAMSIZ];
	struct net_addr ip4, ip6;
	tunnel_client_state *state;
	void *arg;
	struct cjdns *admin;
	struct event *poll;
	int64_t number, found[CONNECTIONS_MAX];
	size_t found_count, found_at;
	char old[KEY_TEXT]; /* whom an earlier run was connected to */
	unsigned polls;
	bool up;
};

static void peer_path(const struct tunnel_env *env, char out[PATH_MAX])
{
	cstr_print(out, PATH_MAX, "%s/cjdns.peer", env->state_dir);
}

static void peer_read(const struct tunnel_env *env, char out[KEY_TEXT])
{
	char path[PATH_MAX];
	FILE *f;

	peer_path(env, path);
	f = fopen(path, "re");
	if (!f || !fgets(out, KEY_TEXT, f))
		*out = '\0';
	out[strcspn(out, "\n")] = '\0';
	if (f)
		fclose(f);
}

static void client_fail(struct client *c, const char *what, const char *why)
{
	char text[TUNNEL_WHY_MAX];

	cstr_print(text, sizeof text, "%s: %.100s", what, why);
	event_del(c->poll);
	c->state(TUNNEL_FAILED, text, c->arg); /* the owner may free us */
}

static void poll_in(struct client *c, int ms)
{
	const struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	evtimer_add(c->poll, &tv);
}

/* ---- up: the leased address is on an interface ---- */

static bool has_address(struct client *c, const struct benc *answer)
{
	const struct net_addr *own = c->ip4.family ? &c->ip4 : &c->ip6;
	struct nl *nl = hostjournal_nl(c->env.journal);
	int link;

	if (!same_address(benc_get_text(answer, c->ip4.family ? "ip4Address" : "ip6Address"), own))
		return false;
	link = linktun_link_of(nl, own);
	if (link > 0)
		return if_indextoname((unsigned)link, c->interface) != NULL;
	return false;
}

static void on_polled(int err, const char *why, const struct benc *answer, void *arg)
{
	struct client *c = arg;

	if (err) {
		client_fail(c, c->up ? "cjdns has lost the tunnel" : "cjdns", why);
		return;
	}
	bool there = has_address(c, answer);
	if (c->up && !there) {
		client_fail(c, "cjdns", "the leased address is gone");
		return;
	}
	if (!c->up && !there && ++c->polls > POLLS_MAX) {
		client_fail(c, "cjdns", "the gateway does not give us the leased address");
		return;
	}
	poll_in(c, there ? POLL_UP_MS : POLL_FIRST_MS);
	if (there && !c->up) {
		c->up = true;
		c->state(TUNNEL_UP, "", c->arg);
	}
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;
	uint8_t args[64];
	int rc = cjdns_call(c->admin, "IpTunnel_showConnection",
			    bytes_of(args, number_args(args, sizeof args, c->number)), 0, on_polled,
			    c);

	(void)fd, (void)what;
	if (rc)
		client_fail(c, "cjdns", strerror(-rc));
}

/* ---- connecting: first what an earlier run has left goes ---- */

static void on_connected(int err, const char *why, const struct benc *answer, void *arg)
{
	struct client *c = arg;

	if (!err)
		c->number = benc_get_int(answer, "connection", -1);
	if (err || c->number < 0)
		client_fail(c, "cjdns", err ? why : "it gives no number");
	else
		poll_in(c, 0);
}

static void connect_peer(struct client *c)
{
	uint8_t buf[256];
	struct wbuf w = wbuf_init(buf, sizeof buf);
	int rc = keyfile_put(c->env.state_dir, "cjdns", "peer", c->peer, strlen(c->peer));

	benc_put_mark(&w, 'd');
	benc_put_text(&w, "publicKeyOfNodeToConnectTo");
	benc_put_text(&w, c->peer);
	benc_put_mark(&w, 'e');
	if (!rc)
		rc = cjdns_call(c->admin, "IpTunnel_connectTo", bytes_of(buf, wbuf_len(&w)), 0,
				on_connected, c);
	if (rc)
		client_fail(c, "cjdns", strerror(-rc));
}

static void client_show_next(struct client *c);

static void client_removed(int err, const char *why, const struct benc *answer, void *arg)
{
	(void)err, (void)why, (void)answer;
	client_show_next(arg);
}

static void client_shown(int err, const char *why, const struct benc *answer, void *arg)
{
	struct client *c = arg;
	int64_t number = c->found[c->found_at++];
	struct bytes key = err ? (struct bytes){0} : benc_get_text(answer, "key");
	uint8_t args[64];

	(void)why;
	if (key.len && benc_get_int(answer, "outgoing", 0) &&
	    (bytes_equal(key, bytes_str(c->peer)) || bytes_equal(key, bytes_str(c->old))) &&
	    cjdns_call(c->admin, "IpTunnel_removeConnection",
		       bytes_of(args, number_args(args, sizeof args, number)), 0, client_removed,
		       c) == 0)
		return;
	client_show_next(c);
}

static void client_show_next(struct client *c)
{
	uint8_t args[64];
	int rc;

	if (c->found_at == c->found_count) {
		connect_peer(c);
		return;
	}
	rc = cjdns_call(c->admin, "IpTunnel_showConnection",
			bytes_of(args, number_args(args, sizeof args, c->found[c->found_at])), 0,
			client_shown, c);
	if (rc)
		client_fail(c, "cjdns", strerror(-rc));
}

static void client_listed(int err, const char *why, const struct benc *answer, void *arg)
{
	struct client *c = arg;
	struct benc list, item;

	if (err) {
		client_fail(c, "cjdns", why);
		return;
	}
	list = benc_get(answer, "connections");
	for (struct rbuf it = benc_items(&list);
	     c->found_count < CONNECTIONS_MAX && benc_next(&it, &item);)
		if (item.type == BENC_INT)
			c->found[c->found_count++] = item.num;
	client_show_next(c);
}

/* ---- open and close ---- */

static int client_options(const struct tunnel_env *env, struct json_object *options, char *why)
{
	char key[KEY_TEXT];
	int rc = own_key(env, key, why);

	if (!rc)
		tunopt_set_string(options, "key", key);
	return rc;
}

static void client_close(void *arg)
{
	struct client *c = arg;
	char path[PATH_MAX];

	if (!c)
		return;
	cjdns_close(c->admin);
	event_drop(c->poll);
	if (c->number >= 0) {
		remove_now(&c->env, c->number);
		peer_path(&c->env, path);
		unlink(path);
	}
	free(c);
}

static int client_fill(struct client *c, const struct tunnel_grant *grant, char *why)
{
	struct net_addr at;
	const char *key;

	if (!tunopt_string(grant->object, "key", KEY_TEXT - 1, &key) ||
	    cjdns_address(&at, bytes_str(key)) || cjdns_key(bytes_str(key)).len != strlen(key))
		return tunnel_why(why, -EPROTO, "the gateway's answer names no cjdns key");
	cstr_copy(c->peer, sizeof c->peer, key);
	c->ip4 = grant->ip4.addr;
	c->ip6 = grant->ip6.addr;
	peer_read(&c->env, c->old);
	int rc = admin_open(&c->admin, &c->env, c->env.base);
	if (!rc)
		rc = cjdns_call(c->admin, "IpTunnel_listConnections", (struct bytes){0}, 0,
				client_listed, c);
	if (rc)
		tunnel_say(why, "cjdns's admin interface: %s", strerror(-rc));
	return rc;
}

static int client_open(void **out, const struct tunnel_env *env, const struct tunnel_grant *grant,
		       tunnel_client_state *state, void *arg, char *why)
{
	struct client *c = env->journal ? calloc(1, sizeof *c) : NULL;
	int rc = tunnel_no_memory(why);

	if (!c)
		return rc;
	c->env = *env;
	c->state = state;
	c->arg = arg;
	c->number = -1;
	c->poll = timer_new(env->base, on_poll, c);
	if (c->poll)
		rc = client_fill(c, grant, why);
	if (rc) {
		client_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

static const char *client_interface(void *arg)
{
	const struct client *c = arg;

	return c->up ? c->interface : "";
}

static void client_path(void *arg, struct tunnel_path *out)
{
	const struct client *c = arg;

	*out = (struct tunnel_path){.source4 = c->ip4, .source6 = c->ip6};
}

/* The interface carries other traffic too: nothing to tell but that it is there. */
static void client_counters(void *arg, struct tunnel_counters *out)
{
	const struct client *c = arg;

	*out = (struct tunnel_counters){.connected = c->up};
}

TUNNEL_METHOD(cjdns, (.name = "cjdns", .borrows = true, .probe = cjdns_probe),
	      (.gateway_start = gateway_start, .gateway_info = gateway_info,
	       .gateway_open = gateway_open, .gateway_close = gateway_close,
	       .gateway_counters = gateway_counters, .gateway_stop = gateway_stop),
	      (.client_options = client_options, .client_open = client_open,
	       .client_interface = client_interface, .client_path = client_path,
	       .client_counters = client_counters, .client_close = client_close));
