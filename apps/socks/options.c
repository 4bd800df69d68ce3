#include <errno.h>
#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/config_value.h"
#include "io/daemon_log.h"
#include "socks/socks.h"

#define DEFAULT_SERVER_ID "socks"
#define SOCKS_PORT 1080
#define DNS_PORT 53
#define OPTIONS_MAX 64u

#define USAGE_COMMON                                                                               \
	"  -f FILE              configuration, section [proxy] (" CONFIG_DEFAULT_PATH ")\n"        \
	"  -o section.key=value wins over the file (repeatable)\n"                                 \
	"  --check              validate the configuration and exit\n"                             \
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

enum {
	OPT_NODE = 256,
	OPT_ID,
	OPT_TO,
	OPT_LISTEN,
	OPT_ALLOW,
	OPT_DENY,
	OPT_JSON,
	OPT_CHECK,
	OPT_VERSION,
	OPT_HELP
};

static const struct option server_options[] = {
	{"node", required_argument, NULL, OPT_NODE},
	{"id", required_argument, NULL, OPT_ID},
	{"allow", required_argument, NULL, OPT_ALLOW},
	{"deny", required_argument, NULL, OPT_DENY},
	{"json", no_argument, NULL, OPT_JSON},
	{"check", no_argument, NULL, OPT_CHECK},
	{"debug", no_argument, NULL, 'd'},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{0},
};

static const struct option client_options[] = {
	{"node", required_argument, NULL, OPT_NODE},
	{"id", required_argument, NULL, OPT_ID},
	{"to", required_argument, NULL, OPT_TO},
	{"listen", required_argument, NULL, OPT_LISTEN},
	{"json", no_argument, NULL, OPT_JSON},
	{"check", no_argument, NULL, OPT_CHECK},
	{"debug", no_argument, NULL, 'd'},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{0},
};

/* What the command line says, until the configuration is there. */
struct line {
	bool server, check, debug;
	const char *path, *node, *to;
	const char *options[OPTIONS_MAX];
	size_t option_count;
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

static bool take_id(const struct line *l, struct socks_options *o, const char *text)
{
	o->app_id = text;
	if (*text && strlen(text) <= NAME_MAX_BYTES)
		return true;
	fprintf(stderr, "%s: --id: wanted 1 to %d characters\n", program(l->server),
		NAME_MAX_BYTES);
	return false;
}

static bool take_config(struct line *l, const char *text)
{
	if (l->option_count == OPTIONS_MAX) {
		fprintf(stderr, "%s: more than %u times -o\n", program(l->server), OPTIONS_MAX);
		return false;
	}
	l->options[l->option_count++] = text;
	return true;
}

/* lint: flat */
static int take_option(struct line *l, struct socks_options *o, int opt, char *arg)
{
	bool ok = true;

	switch (opt) {
	case OPT_NODE:
		l->node = arg;
		break;
	case OPT_ID:
		ok = take_id(l, o, arg);
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
	case OPT_CHECK:
		l->check = true;
		break;
	case 'f':
		l->path = arg;
		break;
	case 'o':
		ok = take_config(l, arg);
		break;
	case 'd':
		l->debug = true;
		break;
	case OPT_VERSION:
		printf("%s (meshnet) %s\n", program(l->server), MESHNET_VERSION);
		return 1;
	case OPT_HELP:
		fputs(l->server ? usage_server : usage_client, stdout);
		return 1;
	default:
		ok = false;
	}
	return ok ? 0 : -1;
}

/* --- the configuration ---------------------------------------------------------------------- */

static bool set_to(const struct line *l, struct socks_options *o, const char *what,
		   const char *text)
{
	const char *at = strchr(text, '@');
	size_t len = at ? (size_t)(at - text) : strlen(text);

	if (*text && (len == 0 || len > NAME_MAX_BYTES)) {
		fprintf(stderr, "%s: %s: wanted an app id of 1 to %d characters\n",
			program(l->server), what, NAME_MAX_BYTES);
		return false;
	}
	memcpy(o->to, text, len);
	o->to[len] = '\0';
	o->has_to_node = at && mesh_id_parse(&o->to_node, at + 1) == 0;
	if (at && !o->has_to_node)
		fprintf(stderr, "%s: %s: '%s' is not a node id of 64 hex digits\n",
			program(l->server), what, at + 1);
	return !at || o->has_to_node;
}

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
	       set_to(l, o, l->to ? "--to" : "proxy.Server", to) && set_login(l, o);
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

static void report(void *ctx, const char *text)
{
	const struct line *l = ctx;

	fprintf(stderr, "%s: %s\n", program(l->server), text);
}

int socks_options_parse(struct socks_options *o, bool server, int argc, char **argv)
{
	struct line l = {.server = server};
	int opt, verdict = 0;

	memset(o, 0, sizeof *o);
	o->server = server;
	o->argc = argc;
	o->argv = argv;
	/* From the start, also when this is a reload. */
	optind = 0;
	while (!verdict &&
	       (opt = getopt_long(argc, argv, "df:o:", server ? server_options : client_options,
				  NULL)) != -1)
		verdict = take_option(&l, o, opt, optarg);
	if (verdict)
		return verdict;
	if (optind < argc) {
		fprintf(stderr, "%s: too many arguments (%s --help)\n", program(server),
			program(server));
		return -1;
	}
	const struct config_source source = {
		.path = l.path, .options = l.options, .n_options = l.option_count};
	if (config_load(&o->cfg, &source, report, &l) || !apply(&l, o))
		return -1;
	daemon_log_open(o->cfg->daemon_log_format);
	log_set_level(l.debug ? LOG_LEVEL_DEBUG : daemon_log_level(o->cfg->general_log_level));
	if (l.check)
		printf("%s: the configuration is good\n", program(server));
	return l.check ? 1 : 0;
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
