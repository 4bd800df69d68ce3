/*
 * The method "socks": the subscriber's TCP and UDP through a SOCKS5 server.  The server is
 * gatewayd's own (socksserver.h), or one that the operator runs ([socks] Server, for example
 * dante).
 *
 *   options  {}
 *   answer   {"server": "IP:PORT" (another server than the gateway itself), "port": n,
 *             "user": "..", "password": "..", "own": true|false, "flows": n, "mtu": n}
 *
 * With the gateway's own the user is the sid and the password the lease's, so nobody else gets in,
 * and what is counted is the lease's.  With another server it has the users that its operator gave
 * it; nothing is counted here, and who gets in does not depend on a lease.
 *
 * Addresses of the lease stay on the subscriber's interface: the connections are the server's own,
 * so there is none that a subscriber could take from another.  ICMP does not pass.
 */
#include "tunnel/tunnel.h"

#include <errno.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/config.h"
#include "io/daemon.h"
#include "io/hostjournal.h"
#include "io/keyfile.h"
#include "io/tcppair.h"
#include "io/timer.h"
#include "io/tun.h"
#include "tunnel/socksserver.h"
#include "tunnel/sockstun.h"
#include "tunnel/tunopt.h"

#define SOCKS_MTU_DEFAULT 16000u
#define SOCKS_MTU_MIN 1280u
#define SOCKS_MTU_MAX 65000u
#define SOCKS_PORT_DEFAULT 1080u
#define SOCKS_FLOWS_DEFAULT 1024u
#define SOCKS_FLOWS_MAX 4096u
#define SOCKS_IDLE_S_DEFAULT 7440u /* RFC 5382: 2 hours 4 minutes */
#define CHECK_US 3000000u
#define RETRY_FIRST_MS 100
#define RETRY_MAX_MS 1000
#define GIVE_UP_TRIES 8
/* Where nobody goes through a gateway, whatever its DeniedNetworks say. */
#define NEVER                                                                                      \
	"0.0.0.0/8,127.0.0.0/8,169.254.0.0/16,224.0.0.0/4,240.0.0.0/4,::/128,::1/128,fe80::/10,"   \
	"ff00::/8"

static const char *foreign_server(const struct tunnel_env *env)
{
	return env->cfg ? env->cfg->socks_server : "";
}

static int socks_probe(const struct tunnel_env *env, enum tunnel_end end, char *why)
{
	int rc = end == TUNNEL_SUBSCRIBER ? tun_probe() : 0;

	if (rc)
		return tunnel_why(why, rc, "no TUN interface can be made: %s", strerror(-rc));
	if (!env->journal)
		return tunnel_why(why, -EPERM, "the host's network may not be looked at");
	return 0;
}

/* ==== gateway ==== */

struct gateway {
	struct tunnel_env env;
	uint32_t mtu, flows;
	struct socksserver *own; /* NULL: another server */
	uint8_t password_key[32];
};

static int gateway_keys(struct gateway *gw)
{
	static const char purpose[] = "meshnet socks password";
	struct keypair pair;
	int rc = keyfile_load(gw->env.state_dir, "socks", &pair);

	if (rc)
		return rc;
	crypto_generichash(gw->password_key, sizeof gw->password_key, (const uint8_t *)purpose,
			   sizeof purpose, pair.secret, sizeof pair.secret);
	keyfile_wipe(&pair);
	return 0;
}

/* The same for a sid each time, also after a restart, and nobody else's. */
static void password_of(const struct gateway *gw, const char *sid,
			char out[SOCKSSERVER_PASSWORD_TEXT])
{
	uint8_t hash[(SOCKSSERVER_PASSWORD_TEXT - 1) / 2];

	tunopt_sid_secret(gw->password_key, sid, hash, sizeof hash);
	hex_encode(hash, sizeof hash, out);
}

static void deny_pool(struct policy *p, const struct net_prefix *own)
{
	if (own->addr.family && p->denied_count < POLICY_NETS_MAX)
		p->denied[p->denied_count++] = net_prefix_network(own);
}

/* What the firewall keeps from being forwarded, and this host itself. */
static int own_policy(const struct tunnel_env *env, const struct tunnel_gateway_config *config,
		      struct policy *p)
{
	int rc = policy_deny(p, NEVER);

	deny_pool(p, &config->addr4);
	deny_pool(p, &config->addr6);
	if (!rc && env->cfg)
		rc = policy_deny(p, env->cfg->gateway_denied_networks);
	if (!rc && env->cfg)
		rc = policy_allow(p, env->cfg->gateway_allowed_networks);
	return rc;
}

static int own_start(struct gateway *gw, const struct tunnel_gateway_config *config, char *why)
{
	const struct config *cfg = gw->env.cfg;
	struct socksserver_config c = {
		.port = (uint16_t)(cfg ? cfg->socks_port : SOCKS_PORT_DEFAULT),
		.flows_max = gw->flows,
		.idle_us = (cfg ? cfg->socks_idle_timeout : SOCKS_IDLE_S_DEFAULT) * 1000000u,
		.uplink = cfg ? cfg->gateway_uplink_interface : "",
		.nl = hostjournal_nl(gw->env.journal),
	};
	int rc = own_policy(&gw->env, config, &c.denied);

	if (rc)
		return tunnel_why(why, rc, "too many [gateway] DeniedNetworks");
	rc = gateway_keys(gw);
	if (rc)
		return tunnel_why(why, rc, "the key of the passwords: %s", strerror(-rc));
	rc = socksserver_new(&gw->own, gw->env.base, &c);
	if (rc)
		tunnel_say(why, "port %u: %s", c.port, strerror(-rc));
	else
		daemon_want_files(2u * SOCKSSERVER_FLOWS_TOTAL);
	return rc;
}

static void gateway_stop(void *arg)
{
	struct gateway *gw = arg;

	if (!gw)
		return;
	socksserver_free(gw->own);
	sodium_memzero(gw, sizeof *gw);
	free(gw);
}

static int gateway_start(void **out, const struct tunnel_env *env,
			 const struct tunnel_gateway_config *config, char *why)
{
	struct gateway *gw = calloc(1, sizeof *gw);
	int rc = 0;

	if (!gw)
		return tunnel_no_memory(why);
	gw->env = *env;
	gw->mtu = config->mtu ? config->mtu : SOCKS_MTU_DEFAULT;
	gw->flows = env->cfg ? (uint32_t)env->cfg->socks_max_flows : SOCKS_FLOWS_DEFAULT;
	if (!*foreign_server(env))
		rc = own_start(gw, config, why);
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
	const struct config *cfg = gw->env.cfg;

	json_object_object_add(entry, "own", json_object_new_boolean(gw->own != NULL));
	if (gw->own)
		tunopt_set_u32(entry, "port", cfg ? (uint32_t)cfg->socks_port : SOCKS_PORT_DEFAULT);
	else
		tunopt_set_string(entry, "server", foreign_server(&gw->env));
	tunopt_set_u32(entry, "mtu", gw->mtu);
	tunopt_set_u32(entry, "flows", gw->flows);
}

static int gateway_open(void *arg, const struct tunnel_lease *t, struct json_object *answer,
			char interface[IFNAMSIZ], char *why)
{
	struct gateway *gw = arg;
	char password[SOCKSSERVER_PASSWORD_TEXT];

	gateway_info(gw, answer);
	*interface = '\0'; /* nothing of it comes out of an interface here */
	if (!gw->own) {
		if (*gw->env.cfg->socks_user) {
			tunopt_set_string(answer, "user", gw->env.cfg->socks_user);
			tunopt_set_string(answer, "password", gw->env.cfg->socks_password);
		}
		return 0;
	}
	password_of(gw, t->sid, password);
	int rc = socksserver_add(gw->own, t->sid, password);
	if (rc)
		return tunnel_why(why, rc, "no room for another lease");
	tunopt_set_string(answer, "user", t->sid);
	tunopt_set_string(answer, "password", password);
	return 0;
}

static void gateway_close(void *arg, const char *sid)
{
	struct gateway *gw = arg;

	if (gw->own)
		socksserver_remove(gw->own, sid);
}

static int gateway_counters(void *arg, const char *sid, struct tunnel_counters *out)
{
	struct gateway *gw = arg;

	*out = (struct tunnel_counters){0};
	return gw->own ? socksserver_counters(gw->own, sid, out) : -ENOENT;
}

/* ==== subscriber ==== */

struct client {
	struct tunnel_env env;
	struct socksdial_server server;
	struct sockstun_config config;
	char interface[IFNAMSIZ];
	tunnel_client_state *state;
	void *arg;
	struct socksdial *dial; /* of the first look at the server */
	struct event *retry;
	unsigned tries;
	struct sockstun *tun;
};

static void client_dial(struct client *c);

static void client_fail(struct client *c, const char *text)
{
	sockstun_free(c->tun);
	c->tun = NULL;
	c->state(TUNNEL_FAILED, text, c->arg); /* the owner may free us */
}

static void client_lost(void *arg)
{
	client_fail(arg, "the tunnel interface is gone");
}

static void client_failed(struct client *c, const char *what, int err)
{
	char text[TUNNEL_WHY_MAX], server[NET_ADDR_TEXT];

	cstr_print(text, sizeof text, "%s %s: %s", what, net_addr_text(&c->server.addr, server),
		   err == -EACCES   ? "the login is refused"
		   : err == -EPROTO ? "it does not speak SOCKS5"
				    : strerror(-err));
	client_fail(c, text);
}

static void client_later(struct client *c)
{
	int ms = c->tries ? RETRY_FIRST_MS << (c->tries < 4 ? c->tries : 4) : 0;
	struct timeval tv;

	ms = ms > RETRY_MAX_MS ? RETRY_MAX_MS : ms;
	tv = (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
	evtimer_add(c->retry, &tv);
}

static void client_dialled(const struct socksdial_result *r, void *arg)
{
	struct client *c = arg;
	int rc = r->err;

	c->dial = NULL;
	if (r->fd >= 0)
		tcppair_reset_socket(r->fd);
	if (rc == -EACCES || rc == -EPROTO || (rc && ++c->tries >= GIVE_UP_TRIES)) {
		client_failed(c, "SOCKS server", rc);
		return;
	}
	if (rc) {
		client_later(c);
		return;
	}
	rc = sockstun_new(&c->tun, &c->config);
	if (rc) {
		client_failed(c, "interface for", rc);
		return;
	}
	c->state(TUNNEL_UP, "", c->arg);
}

static void client_retry_due(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	client_dial(arg);
}

static void client_dial(struct client *c)
{
	int rc = socksdial_start(&c->dial, c->env.base, &c->server, SOCKSDIAL_CHECK, NULL, CHECK_US,
				 client_dialled, c);

	if (rc && ++c->tries >= GIVE_UP_TRIES)
		client_failed(c, "SOCKS server", rc);
	else if (rc)
		client_later(c);
}

static void client_close(void *arg)
{
	struct client *c = arg;

	if (!c)
		return;
	socksdial_cancel(c->dial);
	event_drop(c->retry);
	sockstun_free(c->tun);
	sodium_memzero(c, sizeof *c);
	free(c);
}

/* A gateway may name any server but one that only we can reach. */
static bool may_be_server(const struct net_addr *a)
{
	return a->port && !net_addr_is_loopback(a) &&
	       (a->family == 4 ? a->ip[0] != 0 && a->ip[0] < 224
			       : a->family == 6 && a->ip[0] != 0xff && a->ip[0] != 0);
}

static bool answer_server(struct client *c, const struct tunnel_grant *grant)
{
	const char *text;
	uint32_t port;

	if (tunopt_string(grant->object, "server", NET_ADDR_TEXT, &text))
		return net_addr_parse(&c->server.addr, text, SOCKS_PORT_DEFAULT) == 0 &&
		       may_be_server(&c->server.addr);
	c->server.addr = grant->server;
	if (!tunopt_u32(grant->object, "port", 1, UINT16_MAX, &port))
		return false;
	c->server.addr.port = (uint16_t)port;
	return true;
}

static bool answer_login(struct client *c, struct json_object *o)
{
	const char *user, *password;
	struct json_object *own;

	/* Only the gateway itself hears the login before it has said that it speaks SOCKS5: whoever
	 * else it names might be anything. */
	c->server.eager = json_object_object_get_ex(o, "own", &own) &&
			  json_object_get_boolean(own) &&
			  !json_object_object_get_ex(o, "server", NULL);
	if (!tunopt_string(o, "user", SOCKS_NAME_MAX, &user))
		return true;
	if (!tunopt_string(o, "password", SOCKS_NAME_MAX, &password))
		return false;
	cstr_copy(c->server.user, sizeof c->server.user, user);
	cstr_copy(c->server.password, sizeof c->server.password, password);
	return true;
}

static int client_fill(struct client *c, const struct tunnel_grant *grant, char *why)
{
	uint32_t mtu = SOCKS_MTU_DEFAULT, flows = SOCKS_FLOWS_DEFAULT;

	if (!grant->object || !answer_server(c, grant) || !answer_login(c, grant->object))
		return tunnel_why(why, -EPROTO, "the gateway's answer names no SOCKS server");
	if (!c->server.addr.family)
		return tunnel_why(
			why, -EDESTADDRREQ,
			"socks needs a gateway that was reached over IP, not over the mesh");
	tunopt_u32(grant->object, "mtu", SOCKS_MTU_MIN, SOCKS_MTU_MAX, &mtu);
	tunopt_u32(grant->object, "flows", 8, SOCKS_FLOWS_MAX, &flows);
	cstr_copy(c->interface, sizeof c->interface, grant->interface);
	c->config = (struct sockstun_config){
		.base = c->env.base,
		.nl = hostjournal_nl(c->env.journal),
		.interface = c->interface,
		.mtu = mtu,
		/* One is kept ready, one looks whether the server is there. */
		.flows_max = flows - 4,
		.idle_us = (c->env.cfg ? c->env.cfg->socks_idle_timeout : SOCKS_IDLE_S_DEFAULT) *
			   1000000u,
		.ip4 = grant->ip4,
		.ip6 = grant->ip6,
		.gateway4 = grant->gateway4,
		.gateway6 = grant->gateway6,
		.server = &c->server,
		.lost = client_lost,
		.arg = c,
	};
	return 0;
}

static int client_open(void **out, const struct tunnel_env *env, const struct tunnel_grant *grant,
		       tunnel_client_state *state, void *arg, char *why)
{
	int rc = socks_probe(env, TUNNEL_SUBSCRIBER, why);
	struct client *c = rc ? NULL : calloc(1, sizeof *c);

	if (!c)
		return rc ? rc : tunnel_no_memory(why);
	c->env = *env;
	c->state = state;
	c->arg = arg;
	c->retry = timer_new(env->base, client_retry_due, c);
	rc = c->retry ? client_fill(c, grant, why) : tunnel_no_memory(why);
	if (rc) {
		client_close(c);
		return rc;
	}
	daemon_want_files(2u * c->config.flows_max);
	client_later(c); /* states come after this call */
	*out = c;
	return 0;
}

static const char *client_interface(void *arg)
{
	const struct client *c = arg;

	return c->tun ? sockstun_interface(c->tun) : "";
}

static struct net_addr client_server(void *arg)
{
	const struct client *c = arg;

	return c->server.addr;
}

/* A family without a gateway's address has nobody to pretend to be. */
static void client_path(void *arg, struct tunnel_path *out)
{
	const struct client *c = arg;

	*out = (struct tunnel_path){0};
	if (c->config.gateway4.family)
		out->source4 = c->config.ip4.addr;
	if (c->config.gateway6.family)
		out->source6 = c->config.ip6.addr;
}

static void client_counters(void *arg, struct tunnel_counters *out)
{
	const struct client *c = arg;

	*out = (struct tunnel_counters){0};
	if (c->tun)
		sockstun_counters(c->tun, out);
}

TUNNEL_METHOD(socks, (.name = "socks", .probe = socks_probe),
	      (.gateway_start = gateway_start, .gateway_info = gateway_info,
	       .gateway_open = gateway_open, .gateway_close = gateway_close,
	       .gateway_counters = gateway_counters, .gateway_stop = gateway_stop),
	      (.client_open = client_open, .client_interface = client_interface,
	       .client_path = client_path, .client_server = client_server,
	       .client_counters = client_counters, .client_close = client_close));
