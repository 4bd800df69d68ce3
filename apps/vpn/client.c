#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <net/if.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "io/appsignals.h"
#include "io/timer.h"
#include "libmeshapp/meshapp.h"
#include "tunnel/tunnel.h"
#include "vpn/host.h"
#include "vpn/offer.h"
#include "vpn/vpn.h"

#define RETRY_S 1

struct client {
	const struct vpn_options *opt;
	struct event_base *base;
	struct meshapp *app;
	struct meshconn *stream; /* our addresses are ours while it is open */
	struct vpn_offer offer;
	void *tunnel;
	struct vpn_host *host;
	bool up;
	struct event *retry, *give_up;
	char app_id[NAME_MAX_BYTES + 1];
};

static struct tunnel_env environment(struct client *c)
{
	return (struct tunnel_env){.base = c->base, .app = c->app};
}

/* --- down ------------------------------------------------------------------------------------- */

static void tell_down(struct client *c, const char *reason)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "state", json_object_new_string("down"));
	json_object_object_add(o, "reason", json_object_new_string(reason));
	appline_say(c->opt->json, o);
}

static void try_again(struct client *c, const char *reason)
{
	const struct timeval wait = {.tv_sec = RETRY_S};

	if (c->tunnel)
		tunnel_mesh_client.client_close(c->tunnel);
	c->tunnel = NULL;
	vpn_offer_free(&c->offer);
	vpn_host_offline(c->host);
	if (c->up)
		tell_down(c, reason);
	else
		log_info("vpn: not connected: %s", reason);
	c->up = false;
	evtimer_add(c->retry, &wait);
}

/* The tunnel is closed within one of its own callbacks, which allow it only on TUNNEL_FAILED. */
static void fail(struct client *c, const char *reason)
{
	struct meshconn *stream = c->stream;
	char text[TUNNEL_WHY_MAX];

	snprintf(text, sizeof text, "%s", reason);
	c->stream = NULL;
	if (stream)
		meshconn_close(stream, CODE_CLOSED, text);
	try_again(c, text);
}

/* --- up --------------------------------------------------------------------------------------- */

static void add_prefix(struct json_object *o, const char *key, const struct net_prefix *p)
{
	char text[NET_PREFIX_TEXT];

	if (p->addr.family)
		json_object_object_add(o, key, json_object_new_string(net_prefix_text(p, text)));
}

static void tell_up(struct client *c, const char *interface)
{
	struct json_object *o = json_object_new_object();
	char text[NET_ADDR_TEXT];

	json_object_object_add(o, "state", json_object_new_string("up"));
	json_object_object_add(o, "interface", json_object_new_string(interface));
	add_prefix(o, "ipv4", &c->offer.ip4);
	if (c->offer.gateway4.family)
		json_object_object_add(
			o, "gateway4",
			json_object_new_string(net_addr_ip_text(&c->offer.gateway4, text)));
	add_prefix(o, "ipv6", &c->offer.ip6);
	if (c->offer.gateway6.family)
		json_object_object_add(
			o, "gateway6",
			json_object_new_string(net_addr_ip_text(&c->offer.gateway6, text)));
	json_object_object_add(o, "full", json_object_new_boolean(c->opt->full));
	appline_say(c->opt->json, o);
}

/* Not from within a state of the tunnel, which must not be closed there. */
static void fail_later(struct client *c, const char *reason)
{
	const struct timeval now = {0};

	log_error("vpn: %s", reason);
	evtimer_add(c->give_up, &now);
}

static void on_give_up(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	fail(arg, "this host does not take the routes");
}

static void on_tunnel(enum tunnel_state state, const char *text, void *arg)
{
	struct client *c = arg;

	if (state == TUNNEL_FAILED) {
		fail(c, text);
	} else if (state == TUNNEL_UP && !c->up) {
		const char *interface = tunnel_mesh_client.client_interface(c->tunnel);
		if (vpn_host_online(c->host, interface, &c->offer)) {
			fail_later(c, "this host does not take the routes");
			return;
		}
		c->up = true;
		tell_up(c, interface);
	}
}

static void on_answer(struct meshconn *conn, const uint8_t *data, size_t len)
{
	struct client *c = meshconn_arg(conn);
	const struct tunnel_env env = environment(c);
	struct tunnel_grant grant = {.sid = "", .interface = c->opt->interface};
	char why[TUNNEL_WHY_MAX];
	int rc;

	if (c->tunnel)
		return;
	rc = vpn_offer_read(&c->offer, data, len, why);
	if (!rc) {
		grant.ip4 = c->offer.ip4;
		grant.ip6 = c->offer.ip6;
		grant.gateway4 = c->offer.gateway4;
		grant.gateway6 = c->offer.gateway6;
		grant.object = c->offer.mesh;
		rc = tunnel_mesh_client.client_open(&c->tunnel, &env, &grant, on_tunnel, c, why);
	}
	if (rc)
		fail(c, why);
}

/* --- the stream to the server ----------------------------------------------------------------- */

static void on_up(struct meshconn *conn)
{
	struct client *c = meshconn_arg(conn);
	const struct tunnel_env env = environment(c);
	struct json_object *mesh = json_object_new_object(), *request;
	char why[TUNNEL_WHY_MAX];
	int rc = tunnel_mesh_client.client_options(&env, mesh, why);

	if (rc) {
		json_object_put(mesh);
		fail(c, why);
		return;
	}
	request = vpn_request_new(mesh);
	const char *text = json_object_to_json_string_ext(
		request, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	rc = meshconn_send(conn, text, strlen(text));
	json_object_put(request);
	if (rc)
		fail(c, strerror(-rc));
}

static void on_closed(struct meshconn *conn, uint16_t code, const char *reason)
{
	struct client *c = meshconn_arg(conn);

	c->stream = NULL;
	try_again(c, reason[0] ? reason : msg_code_name(code));
}

static void dial(struct client *c)
{
	static const struct meshconn_callbacks cb = {
		.on_up = on_up, .consume = on_answer, .on_closed = on_closed};

	if (c->stream || !meshapp_is_up(c->app))
		return;
	c->stream = meshapp_connect(c->app, c->opt->to.has_node ? &c->opt->to.node : NULL,
				    c->opt->to.app, CLASS_STREAM, &cb, c);
	if (!c->stream)
		try_again(c, strerror(errno));
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	dial(arg);
}

static void on_state(struct meshapp *app, bool up, const char *text)
{
	struct client *c = meshapp_arg(app);

	log_info("vpn: our node is %s%s%s", up ? "there" : "away", text[0] ? ": " : "", text);
	if (up)
		dial(c);
}

/* --- life ------------------------------------------------------------------------------------- */

/* The same at every start, so that the server gives us the same address. */
static int own_id(struct client *c)
{
	const char *dir = c->opt->cfg->general_state_dir;
	char path[PATH_MAX];
	FILE *f;

	if (c->opt->app_id) {
		snprintf(c->app_id, sizeof c->app_id, "%s", c->opt->app_id);
		return 0;
	}
	snprintf(path, sizeof path, "%s/vpn-client.id", dir);
	f = fopen(path, "re");
	if (f && fscanf(f, "%63[a-z0-9-]", c->app_id) != 1)
		c->app_id[0] = '\0';
	if (f)
		fclose(f);
	if (c->app_id[0])
		return 0;
	snprintf(c->app_id, sizeof c->app_id, "vpn-client-%08x", randombytes_random());
	f = fopen(path, "we");
	int rc = f && fprintf(f, "%s\n", c->app_id) > 0 ? 0 : -errno;
	if (f && fclose(f))
		rc = -errno;
	if (rc)
		log_error("vpn-client: %s: %s", path, strerror(-rc));
	return rc;
}

static int start(struct client *c)
{
	struct meshapp_options mo = {
		.node_addr = c->opt->node_addr,
		.app_id = c->app_id,
		.app_type = VPN_CLIENT_TYPE,
		.cb = {.on_state = on_state},
		.arg = c,
	};
	int rc = vpn_host_open(&c->host, c->base, false, c->opt);

	if (!rc)
		rc = own_id(c);
	if (rc)
		return rc;
	c->retry = timer_new(c->base, on_retry, c);
	c->give_up = timer_new(c->base, on_give_up, c);
	if (!c->retry || !c->give_up)
		return -ENOMEM;
	c->app = meshapp_open(c->base, &mo);
	if (c->app)
		return 0;
	log_error("vpn-client: node %s, app %s: %s", mo.node_addr, mo.app_id, strerror(errno));
	return -errno;
}

static void stop(struct client *c)
{
	if (c->tunnel)
		tunnel_mesh_client.client_close(c->tunnel);
	if (c->stream)
		meshconn_close(c->stream, CODE_CLOSED, "the client ends");
	vpn_offer_free(&c->offer);
	meshapp_close(c->app);
	vpn_host_close(c->host);
	event_drop(c->retry);
	event_drop(c->give_up);
}

int vpn_client_run(struct event_base *base, const struct vpn_options *opt)
{
	struct client c = {.opt = opt, .base = base};
	struct appsignals signals;
	int rc = appsignals_init(&signals, base, opt->json, vpn_on_hup, (void *)opt);

	if (!rc)
		rc = start(&c);
	if (!rc) {
		appsignals_ready(&signals);
		event_base_dispatch(base);
	}
	stop(&c);
	appsignals_free(&signals);
	return rc ? 1 : 0;
}
