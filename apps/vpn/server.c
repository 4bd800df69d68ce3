#include <errno.h>
#include <limits.h>
#include <event2/event.h>
#include <net/if.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/log.h"
#include "io/appsignals.h"
#include "io/clock.h"
#include "io/timer.h"
#include "libmeshapp/meshapp.h"
#include "tunnel/tunnel.h"
#include "vpn/host.h"
#include "vpn/offer.h"
#include "vpn/store.h"
#include "vpn/vpn.h"

#define WATCH_S 3

/* A client's stream; with `host` its addresses and its lease at the tunnel. */
struct session {
	LIST_ENTRY(session) link;
	struct server *server;
	struct meshconn *conn;
	uint32_t host;
	char sid[VPN_SID_BYTES];
};

struct server {
	const struct vpn_options *opt;
	struct event_base *base;
	struct meshapp *app;
	void *tunnel;
	char interface[IFNAMSIZ];
	struct vpn_hosts hosts; /* used: of a client, whether it is there or not */
	struct vpn_store *store;
	struct vpn_host *host;
	struct event *watch; /* of forwarding */
	LIST_HEAD(, session) sessions;
};

/* --- sessions ------------------------------------------------------------------------------- */

static void tell_client(struct session *s, const char *state)
{
	struct json_object *o = json_object_new_object();
	struct net_addr a4 = vpn_hosts_addr4(&s->server->hosts, s->host);
	struct net_addr a6 = vpn_hosts_addr6(&s->server->hosts, s->host);
	char text[NET_ADDR_TEXT], id[MESH_ID_TEXT];

	json_object_object_add(o, "client", json_object_new_string(state));
	json_object_object_add(
		o, "node", json_object_new_string(mesh_id_text(meshconn_peer_node(s->conn), id)));
	json_object_object_add(o, "app", json_object_new_string(meshconn_peer_app(s->conn)));
	if (a4.family)
		json_object_object_add(o, "ipv4",
				       json_object_new_string(net_addr_ip_text(&a4, text)));
	if (a6.family)
		json_object_object_add(o, "ipv6",
				       json_object_new_string(net_addr_ip_text(&a6, text)));
	appline_say(s->server->opt->json, o);
}

/* The stream itself is gone, or goes with us. */
static void session_free(struct session *s)
{
	struct server *v = s->server;

	if (s->host) {
		tell_client(s, "gone");
		tunnel_mesh_gateway.gateway_close(v->tunnel, s->sid);
	}
	LIST_REMOVE(s, link);
	free(s);
}

static void session_end(struct session *s, const char *reason)
{
	struct meshconn *conn = s->conn;

	session_free(s);
	meshconn_close(conn, CODE_CLOSED, reason);
}

static void answer(struct session *s, struct json_object *o)
{
	const char *text = json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);

	if (meshconn_send(s->conn, text, strlen(text)))
		log_warn("vpn: cannot answer %s", meshconn_peer_app(s->conn));
	json_object_put(o);
}

/* Our word for who it is, not the client's own. */
static void name_peer(struct session *s, struct json_object *mesh)
{
	char id[MESH_ID_TEXT];

	json_object_object_add(
		mesh, "node",
		json_object_new_string(mesh_id_text(meshconn_peer_node(s->conn), id)));
	json_object_object_add(mesh, "app", json_object_new_string(meshconn_peer_app(s->conn)));
}

static bool same_peer(const struct session *a, const struct session *b)
{
	return mesh_id_equal(meshconn_peer_node(a->conn), meshconn_peer_node(b->conn)) &&
	       strcmp(meshconn_peer_app(a->conn), meshconn_peer_app(b->conn)) == 0;
}

/* The peer is authenticated: an older stream is one that it has lost. */
static void end_older(struct session *s)
{
	struct session *other, *next;

	for (other = LIST_FIRST(&s->server->sessions); other; other = next) {
		next = LIST_NEXT(other, link);
		if (other != s && same_peer(other, s))
			session_end(other, "replaced by a newer connection");
	}
}

/* --- addresses ------------------------------------------------------------------------------ */

struct eviction {
	struct server *server;
	uint32_t host;
};

static bool is_unused(uint32_t host, void *ctx)
{
	struct eviction *e = ctx;
	const struct session *s;

	LIST_FOREACH(s, &e->server->sessions, link)
		if (s->host == host)
			return true;
	e->host = host;
	return false;
}

/* The address of the client that has been away for longest. */
static uint32_t evict(struct server *v)
{
	struct eviction e = {.server = v};

	if (vpn_store_list(v->store, is_unused, &e) || !e.host ||
	    vpn_store_forget(v->store, e.host))
		return 0;
	return e.host;
}

/* The one that it had, a free one, or one that was somebody's; 0: none.  It is written down. */
static uint32_t address_for(struct session *s)
{
	struct server *v = s->server;
	const struct mesh_id *node = meshconn_peer_node(s->conn);
	const char *app = meshconn_peer_app(s->conn);
	uint32_t host = vpn_store_find(v->store, node, app);

	if (!host)
		host = vpn_hosts_take(&v->hosts);
	if (!host)
		host = evict(v);
	return host && vpn_store_save(v->store, node, app, host, daemon_wall_s()) ? 0 : host;
}

struct claim {
	struct server *server;
	bool stale[VPN_HOSTS_MAX];
};

static bool claim(uint32_t host, void *ctx)
{
	struct claim *c = ctx;

	if (!vpn_hosts_claim(&c->server->hosts, host) && host < VPN_HOSTS_MAX)
		c->stale[host] = true;
	return true;
}

/* Those of an earlier run.  What the subnets have no room for any more is forgotten. */
static int load_addresses(struct server *v)
{
	struct claim *c = calloc(1, sizeof *c);
	int rc = c ? 0 : -ENOMEM;

	if (c) {
		c->server = v;
		rc = vpn_store_list(v->store, claim, c);
	}
	for (uint32_t host = 0; !rc && host < VPN_HOSTS_MAX; host++)
		if (c->stale[host])
			rc = vpn_store_forget(v->store, host);
	free(c);
	return rc;
}

/* --- requests ------------------------------------------------------------------------------- */

/* 0, or -errno and why not. */
static int open_lease(struct session *s, struct json_object *options, struct json_object *mesh,
		      char *why)
{
	struct server *v = s->server;
	struct tunnel_lease lease = {.sid = s->sid, .options = options};
	uint8_t random[(VPN_SID_BYTES - 1) / 2];
	uint32_t host = address_for(s);
	int rc;

	if (!host) {
		snprintf(why, TUNNEL_WHY_MAX, "no free address");
		return -ENOSPC;
	}
	randombytes_buf(random, sizeof random);
	sodium_bin2hex(s->sid, sizeof s->sid, random, sizeof random);
	lease.ip4 = vpn_hosts_addr4(&v->hosts, host);
	lease.ip6 = vpn_hosts_addr6(&v->hosts, host);
	name_peer(s, options);
	rc = tunnel_mesh_gateway.gateway_open(v->tunnel, &lease, mesh, v->interface, why);
	if (!rc)
		s->host = host;
	return rc;
}

static void on_request(struct meshconn *conn, const uint8_t *data, size_t len)
{
	struct session *s = meshconn_arg(conn);
	struct json_object *options, *mesh;
	char why[VPN_TEXT_MAX] = "";

	if (s->host) {
		answer(s, vpn_refusal_new("one request a stream"));
		return;
	}
	options = vpn_request_read(data, len, why);
	mesh = json_object_new_object();
	if (options)
		end_older(s);
	if (!options || open_lease(s, options, mesh, why)) {
		log_info("vpn: %s is refused: %s", meshconn_peer_app(conn), why);
		answer(s, vpn_refusal_new(why));
		json_object_put(mesh);
	} else {
		answer(s, vpn_offer_new(&s->server->hosts, s->host, &s->server->opt->advice, mesh));
		tell_client(s, "new");
	}
	json_object_put(options);
}

static void on_stream_closed(struct meshconn *conn, uint16_t code, const char *reason)
{
	(void)code;
	(void)reason;
	session_free(meshconn_arg(conn));
}

static bool session_new(struct server *v, struct meshconn *conn)
{
	static const struct meshconn_callbacks cb = {.consume = on_request,
						     .on_closed = on_stream_closed};
	struct session *s = calloc(1, sizeof *s);

	if (!s)
		return false;
	s->server = v;
	s->conn = conn;
	LIST_INSERT_HEAD(&v->sessions, s, link);
	meshconn_set_callbacks(conn, &cb, s);
	return true;
}

static bool on_incoming(struct meshapp *app, struct meshconn *conn)
{
	struct server *v = meshapp_arg(app);

	return meshconn_class(conn) == CLASS_STREAM
		       ? session_new(v, conn)
		       : tunnel_mesh_gateway.gateway_accept(v->tunnel, conn);
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_state(struct meshapp *app, bool up, const char *text)
{
	log_info("vpn: node of %s is %s%s%s", meshapp_app_id(app), up ? "there" : "away",
		 text[0] ? ": " : "", text);
}

static struct net_prefix own_prefix(const struct net_prefix *subnet, struct net_addr own)
{
	return (struct net_prefix){own, subnet->bits};
}

static int start_tunnel(struct server *v)
{
	const struct tunnel_env env = {.base = v->base, .app = v->app};
	struct tunnel_gateway_config config = {
		.interface = v->opt->interface,
		.mtu = v->opt->mtu,
		.addr4 = own_prefix(&v->hosts.subnet4, vpn_hosts_addr4(&v->hosts, 1)),
		.addr6 = own_prefix(&v->hosts.subnet6, vpn_hosts_addr6(&v->hosts, 1)),
	};
	char why[TUNNEL_WHY_MAX];
	int rc = tunnel_mesh_gateway.gateway_start(&v->tunnel, &env, &config, why);

	if (rc)
		log_error("vpn-server: %s", why);
	return rc;
}

static int open_state(struct server *v)
{
	char path[PATH_MAX];
	int rc = vpn_host_open(&v->host, v->base, true, v->opt);

	if (rc)
		return rc;
	snprintf(path, sizeof path, "%s/vpn-server.db", v->opt->cfg->general_state_dir);
	rc = vpn_store_open(&v->store, path, v->opt->cfg);
	return rc ? rc : load_addresses(v);
}

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
	struct server *v = arg;

	(void)fd;
	(void)what;
	vpn_host_keep_serving(v->host, &v->hosts);
}

static int watch_forwarding(struct server *v)
{
	const struct timeval every = {.tv_sec = WATCH_S};

	v->watch = event_new(v->base, -1, EV_PERSIST, on_watch, v);
	return v->watch && event_add(v->watch, &every) == 0 ? 0 : -ENOMEM;
}

static int start(struct server *v)
{
	const struct meshapp_options mo = {
		.node_addr = v->opt->node_addr,
		.app_id = v->opt->app_id,
		.app_type = VPN_SERVER_TYPE,
		.cb = {.on_state = on_state, .on_incoming = on_incoming},
		.arg = v,
	};
	int rc = vpn_hosts_init(&v->hosts, &v->opt->subnet4, &v->opt->subnet6);

	if (rc) {
		log_error("vpn-server: the subnets have no room for a server and a client");
		return rc;
	}
	rc = open_state(v);
	if (rc)
		return rc;
	v->app = meshapp_open(v->base, &mo);
	if (!v->app) {
		log_error("vpn-server: node %s, app %s: %s", mo.node_addr, mo.app_id,
			  strerror(errno));
		return -errno;
	}
	rc = start_tunnel(v);
	if (!rc)
		rc = vpn_host_serve(v->host, &v->hosts);
	return rc ? rc : watch_forwarding(v);
}

static void tell_up(struct server *v)
{
	struct json_object *o = json_object_new_object();
	struct net_prefix p4 = own_prefix(&v->hosts.subnet4, vpn_hosts_addr4(&v->hosts, 1));
	struct net_prefix p6 = own_prefix(&v->hosts.subnet6, vpn_hosts_addr6(&v->hosts, 1));
	char text[NET_PREFIX_TEXT];

	json_object_object_add(o, "state", json_object_new_string("up"));
	json_object_object_add(o, "app", json_object_new_string(v->opt->app_id));
	if (p4.addr.family)
		json_object_object_add(o, "ipv4",
				       json_object_new_string(net_prefix_text(&p4, text)));
	if (p6.addr.family)
		json_object_object_add(o, "ipv6",
				       json_object_new_string(net_prefix_text(&p6, text)));
	appline_say(v->opt->json, o);
}

static void stop(struct server *v)
{
	while (!LIST_EMPTY(&v->sessions))
		session_end(LIST_FIRST(&v->sessions), "the server ends");
	if (v->tunnel)
		tunnel_mesh_gateway.gateway_stop(v->tunnel);
	meshapp_close(v->app);
	event_drop(v->watch);
	vpn_host_close(v->host);
	vpn_store_close(v->store);
	vpn_hosts_free(&v->hosts);
}

int vpn_server_run(struct event_base *base, const struct vpn_options *opt)
{
	struct server v = {.opt = opt, .base = base};
	struct appsignals signals;
	int rc = appsignals_init(&signals, base, opt->json, vpn_on_hup, (void *)opt);

	if (!rc)
		rc = start(&v);
	if (!rc) {
		tell_up(&v);
		appsignals_ready(&signals);
		event_base_dispatch(base);
	}
	stop(&v);
	appsignals_free(&signals);
	return rc ? 1 : 0;
}
