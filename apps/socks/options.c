#include <errno.h>
#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config_value.h"
#include "socks/socks.h"

#define DEFAULT_SERVER_ID "socks"
#define SOCKS_PORT 1080
#define DNS_PORT 53

#define USAGE_COMMON                                                                               \
	APPLINE_USAGE("proxy")                                                                     \
	"  --json               status lines as JSON on stdout\n"                                  \
	"  -d, --debug          say more\n"                                                        \
	"  --version, --help\n"

static const char usage_server[] =
	"Usage: socks-server [options]\n"
	"Makes connections for the socks-clients of the mesh.  By default they reach no loopback,\n"
	"link-local or private address, and no network that this host has an interface in.\n"
	"\n"
	"  --node ADDR          our node: host:port, unix:/path or /path ([proxy] Node)\n"
	"  --id NAME            our app id (" DEFAULT_SERVER_ID ")\n"
	"  --allow PREFIX       an exception from what is denied (repeatable)\n"
	"  --deny PREFIX        may not be reached either (repeatable)\n" USAGE_COMMON;

static const char usage_client[] =
	"Usage: socks-client [options]\n"
	"Serves SOCKS5 on this host and carries it through the mesh to a socks-server: any that "
	"the\n"
	"mesh has, and another when that one goes.\n"
	"\n"
	"  --listen ADDR        IP or IP:PORT (repeatable; [proxy] Listen)\n"
	"  --to APPID[@NODEID]  only this server; NODEID is 64 hex digits ([proxy] Server)\n"
	"  --node ADDR          our node: host:port, unix:/path or /path ([proxy] Node)\n"
	"  --id NAME            our app id (a random one)\n"
	"User and password are [proxy] User and Password of the configuration, where other users "
	"of\n"
	"this host cannot see them.\n" USAGE_COMMON;

enum { OPT_NODE = 256, OPT_ID, OPT_TO, OPT_LISTEN, OPT_ALLOW, OPT_DENY, OPT_JSON };

static const struct option server_options[] = {
	{"node", required_argument, NULL, OPT_NODE},
	{"id", required_argument, NULL, OPT_ID},
	{"allow", required_argument, NULL, OPT_ALLOW},
	{"deny", required_argument, NULL, OPT_DENY},
	{"json", no_argument, NULL, OPT_JSON},
	APPLINE_LONG,
	{0},
};

static const struct option client_options[] = {
	{"node", required_argument, NULL, OPT_NODE},
	{"id", required_argument, NULL, OPT_ID},
	{"to", required_argument, NULL, OPT_TO},
	{"listen", required_argument, NULL, OPT_LISTEN},
	{"json", no_argument, NULL, OPT_JSON},
	APPLINE_LONG,
	{0},
};

/* What the command line says, until the configuration is there. */
struct line {
	struct appline common;
	struct socks_options *options;
	bool server;
	const char *node, *to;
};

static const char *program(bool server)
{
	return server ? "socks-server" : "socks-client";
}

/* --- the command line ----------------------------------------------------------------------- */

static bool take_addr(const struct line *l, struct net_addr *out, unsigned *count, const char *what,
		      const char *text, uint16_t port)
{
	if (*count < SOCKS_LISTEN_MAX && net_addr_parse(&out[*count], text, port) == 0) {
		(*count)++;
		return true;
	}
	if (*count == SOCKS_LISTEN_MAX)
		fprintf(stderr, "%s: %s: more than %u\n", program(l->server), what,
			SOCKS_LISTEN_MAX);
	else
		fprintf(stderr, "%s: %s %s: wanted an address like 127.0.0.1:%u or [::1]:%u\n",
			program(l->server), what, text, port, port);
	return false;
}

static bool take_nets(const struct line *l, int (*add)(struct policy *, const char *),
		      struct policy *p, const char *what, const char *text)
{
	int rc = add(p, text);

	if (rc)
		fprintf(stderr, "%s: %s %s: %s\n", program(l->server), what, text,
			rc == -ENOSPC ? "too many networks" : "wanted networks like 10.0.0.0/8");
	return rc == 0;
}

/* lint: flat */
static int take_option(void *ctx, int opt, char *arg)
{
	struct line *l = ctx;
	struct socks_options *o = l->options;
	bool ok = true;

	switch (opt) {
	case OPT_NODE:
		l->node = arg;
		break;
	case OPT_ID:
		ok = appline_text(&l->common, &o->app_id, "--id", arg, NAME_MAX_BYTES);
		break;
	case OPT_TO:
		l->to = arg;
		break;
	case OPT_LISTEN:
		ok = take_addr(l, o->listen, &o->listen_count, "--listen", arg, SOCKS_PORT);
		break;
	case OPT_ALLOW:
		ok = take_nets(l, policy_allow, &o->policy, "--allow", arg);
		break;
	case OPT_DENY:
		ok = take_nets(l, policy_deny, &o->policy, "--deny", arg);
		break;
	case OPT_JSON:
		o->json = true;
		break;
	default:
		return appline_take(&l->common, opt, arg);
	}
	return ok ? 0 : -1;
}

/* --- the configuration ---------------------------------------------------------------------- */

static bool set_addrs(const struct line *l, struct net_addr *out, unsigned *count, const char *what,
		      const char *list, uint16_t port)
{
	char item[NET_ADDR_TEXT];

	while (config_list_next(&list, item, sizeof item))
		if (!take_addr(l, out, count, what, item, port))
			return false;
	return true;
}

static bool set_login(const struct line *l, struct socks_options *o)
{
	const char *user = o->cfg->proxy_user, *password = o->cfg->proxy_password;

	if (!*user && !*password)
		return true;
	if (!*user || !*password || strlen(user) > SOCKS_NAME_MAX ||
	    strlen(password) > SOCKS_NAME_MAX) {
		fprintf(stderr,
			"%s: proxy.User and proxy.Password: wanted both, of 1 to %u "
			"characters\n",
			program(l->server), SOCKS_NAME_MAX);
		return false;
	}
	o->wants_login = true;
	memcpy(o->login.user, user, strlen(user));
	memcpy(o->login.password, password, strlen(password));
	return true;
}

static bool apply_client(const struct line *l, struct socks_options *o)
{
	const char *to = l->to ? l->to : o->cfg->proxy_server;

	return (o->listen_count || set_addrs(l, o->listen, &o->listen_count, "proxy.Listen",
					     o->cfg->proxy_listen, SOCKS_PORT)) &&
	       appline_peer(&l->common, &o->to, l->to ? "--to" : "proxy.Server", to) &&
	       set_login(l, o);
}

static bool apply_server(const struct line *l, struct socks_options *o)
{
	if (!o->app_id)
		o->app_id = DEFAULT_SERVER_ID;
	return take_nets(l, policy_deny, &o->policy, "proxy.DeniedNetworks",
			 o->cfg->proxy_denied_networks) &&
	       take_nets(l, policy_allow, &o->policy, "proxy.AllowedNetworks",
			 o->cfg->proxy_allowed_networks) &&
	       set_addrs(l, o->resolvers, &o->resolver_count, "proxy.Resolvers",
			 o->cfg->proxy_resolvers, DNS_PORT);
}

static bool apply(const struct line *l, struct socks_options *o)
{
	const struct config *cfg = o->cfg;

	o->node_addr = l->node ? l->node : cfg->proxy_node;
	o->idle_us = cfg->proxy_proxy_timeout * 1000000u;
	o->connect_us = cfg->proxy_connect_timeout * 1000000u;
	o->streams_max = (uint32_t)cfg->proxy_max_streams;
	o->window_max = (uint32_t)cfg->proxy_stream_window;
	o->clients_max = (uint32_t)cfg->proxy_max_clients;
	o->deny_local = cfg->proxy_deny_local;
	return l->server ? apply_server(l, o) : apply_client(l, o);
}

int socks_options_parse(struct socks_options *o, bool server, int argc, char **argv)
{
	struct line l = {.server = server,
			 .options = o,
			 .common = {.program = program(server),
				    .usage = server ? usage_server : usage_client}};
	int verdict;

	memset(o, 0, sizeof *o);
	o->server = server;
	o->argc = argc;
	o->argv = argv;
	verdict = appline_read(&l.common, server ? server_options : client_options, take_option, &l,
			       argc, argv);
	if (verdict)
		return verdict;
	if (appline_load(&l.common, &o->cfg) || !apply(&l, o))
		return -1;
	appline_log(&l.common, o->cfg);
	return appline_ends(&l.common) ? 1 : 0;
}

int socks_options_reload(struct socks_options *o)
{
	struct socks_options *fresh = calloc(1, sizeof *fresh);
	int rc = fresh ? socks_options_parse(fresh, o->server, o->argc, o->argv) : -1;

	if (rc == 0) {
		o->idle_us = fresh->idle_us;
		o->connect_us = fresh->connect_us;
		o->policy = fresh->policy;
		o->deny_local = fresh->deny_local;
		o->clients_max = fresh->clients_max;
		o->wants_login = fresh->wants_login;
		o->login = fresh->login;
	}
	if (fresh) {
		sodium_memzero(&fresh->login, sizeof fresh->login);
		socks_options_free(fresh);
	}
	free(fresh);
	return rc;
}

void socks_options_free(struct socks_options *o)
{
	config_free(o->cfg);
	o->cfg = NULL;
}
