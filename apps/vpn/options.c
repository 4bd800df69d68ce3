#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/config_value.h"
#include "io/daemon_log.h"
#include "vpn/vpn.h"

#define DEFAULT_SERVER_ID "vpn"
#define MTU_MIN 1280u
#define MTU_MAX 9000u
#define CONFIG_OPTIONS_MAX 64u

#define USAGE_COMMON                                                                               \
	"  --node ADDR          our node: host:port, unix:/path or /path ([vpn] Node)\n"           \
	"  --interface NAME     the TUN interface, %d is replaced by a number ([vpn] Interface)\n" \
	"  -f FILE              configuration, section [vpn] (" CONFIG_DEFAULT_PATH ")\n"          \
	"  -o section.key=value wins over the file (repeatable)\n"                                 \
	"  --check              validate the configuration and exit\n"                             \
	"  --cleanup            take back what a killed run has left on this host, and exit\n"     \
	"  --json               status lines as JSON on stdout\n"                                  \
	"  -d, --debug          say more\n"                                                        \
	"  --version, --help\n"

static const char usage_server[] =
	"Usage: vpn-server [options]\n"
	"Gives addresses of a subnet to VPN clients in the mesh and carries their packets.  It "
	"has\n"
	"the subnet's first address itself.  A client has the same address whenever it comes.\n"
	"\n"
	"  --subnet PREFIX      IPv4 (10.200.0.0/24; [vpn] VPNSubnet)\n"
	"  --subnet6 PREFIX     IPv6 (fd00:200::/64; [vpn] VPNSubnet)\n"
	"  --route PREFIX       tell clients to send this through the VPN (repeatable; [vpn] "
	"Routes)\n"
	"  --dns ADDR           tell clients to use this name server (repeatable; [vpn] DNS)\n"
	"  --id NAME            our app id (" DEFAULT_SERVER_ID ")\n"
	"  --mtu N              of the interfaces at both ends ([vpn] Mtu)\n" USAGE_COMMON;

static const char usage_client[] =
	"Usage: vpn-client [--to APPID[@NODEID]] [options]\n"
	"Joins the VPN of a vpn-server in the mesh: an interface with an address of its subnet, "
	"and\n"
	"the routes and name servers that the server names.  Connects again when the server was "
	"away.\n"
	"\n"
	"  --to APPID[@NODEID]  the server; NODEID is 64 hex digits ([vpn] Server)\n"
	"  --full               send everything through the VPN ([vpn] FullTunnel)\n"
	"  --route PREFIX       send this through the VPN as well (repeatable)\n"
	"  --id NAME            our app id (one made at the first start)\n" USAGE_COMMON;

enum {
	OPT_NODE = 256,
	OPT_ID,
	OPT_TO,
	OPT_SUBNET,
	OPT_SUBNET6,
	OPT_INTERFACE,
	OPT_ROUTE,
	OPT_DNS,
	OPT_FULL,
	OPT_MTU,
	OPT_JSON,
	OPT_CHECK,
	OPT_CLEANUP,
	OPT_VERSION,
	OPT_HELP
};

#define COMMON_OPTIONS                                                                             \
	{"node", required_argument, NULL, OPT_NODE}, {"id", required_argument, NULL, OPT_ID},      \
		{"interface", required_argument, NULL, OPT_INTERFACE},                             \
		{"route", required_argument, NULL, OPT_ROUTE},                                     \
		{"json", no_argument, NULL, OPT_JSON}, {"check", no_argument, NULL, OPT_CHECK},    \
		{"cleanup", no_argument, NULL, OPT_CLEANUP}, {"debug", no_argument, NULL, 'd'},    \
		{"version", no_argument, NULL, OPT_VERSION},                                       \
		{"help", no_argument, NULL, OPT_HELP},                                             \
	{                                                                                          \
		0                                                                                  \
	}

static const struct option server_options[] = {
	{"subnet", required_argument, NULL, OPT_SUBNET},
	{"subnet6", required_argument, NULL, OPT_SUBNET6},
	{"mtu", required_argument, NULL, OPT_MTU},
	{"dns", required_argument, NULL, OPT_DNS},
	COMMON_OPTIONS,
};

static const struct option client_options[] = {
	{"to", required_argument, NULL, OPT_TO},
	{"full", no_argument, NULL, OPT_FULL},
	COMMON_OPTIONS,
};

/* What the command line says, until the configuration is there. */
struct line {
	bool server, check, cleanup, debug;
	const char *path, *to;
	const char *options[CONFIG_OPTIONS_MAX];
	size_t option_count;
};

static const char *program(bool server)
{
	return server ? "vpn-server" : "vpn-client";
}

static int complain(bool server, const char *what)
{
	fprintf(stderr, "%s: %s (%s --help)\n", program(server), what, program(server));
	return -1;
}

/* --- values --------------------------------------------------------------------------------- */

static bool take_prefix(struct net_prefix *p, const char *name, uint8_t family, const char *text)
{
	if (net_prefix_parse(p, text) == 0 && (!family || p->addr.family == family))
		return true;
	fprintf(stderr, "vpn: --%s %s: wanted an %s prefix like %s\n", name, text,
		family == 4   ? "IPv4"
		: family == 6 ? "IPv6"
			      : "address",
		family == 6 ? "fd00:200::/64" : "10.200.0.0/24");
	return false;
}

static bool take_to(struct vpn_options *o, const char *text)
{
	const char *at = strchr(text, '@');
	size_t len = at ? (size_t)(at - text) : strlen(text);

	if (len >= sizeof o->to) {
		fprintf(stderr, "vpn: --to: wanted an app id of 1 to %d characters\n",
			NAME_MAX_BYTES);
		return false;
	}
	memcpy(o->to, text, len);
	o->to[len] = '\0';
	o->has_to_node = at && mesh_id_parse(&o->to_node, at + 1) == 0;
	if (at && !o->has_to_node)
		fprintf(stderr, "vpn: --to: '%s' is not a node id of 64 hex digits\n", at + 1);
	return !at || o->has_to_node;
}

/* A server names it to its clients; a client uses it itself. */
static bool take_route(struct vpn_options *o, bool server, const char *text)
{
	struct net_prefix *list = server ? o->advice.routes : o->routes;
	unsigned *count = server ? &o->advice.route_count : &o->route_count;

	if (*count < VPN_ROUTES_MAX)
		return take_prefix(&list[(*count)++], "route", 0, text);
	fprintf(stderr, "vpn: more than %u routes\n", VPN_ROUTES_MAX);
	return false;
}

static bool take_dns(struct vpn_options *o, const char *text)
{
	if (o->advice.dns_count < VPN_DNS_MAX &&
	    net_addr_parse(&o->advice.dns[o->advice.dns_count], text, 0) == 0) {
		o->advice.dns_count++;
		return true;
	}
	fprintf(stderr, "vpn: DNS %s: wanted at most %u addresses\n", text, VPN_DNS_MAX);
	return false;
}

static bool take_mtu(struct vpn_options *o, const char *text)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	o->mtu = (uint32_t)v;
	if (*text >= '0' && *text <= '9' && !*end && v >= MTU_MIN && v <= MTU_MAX)
		return true;
	fprintf(stderr, "vpn: --mtu %s: wanted a number from %u to %u\n", text, MTU_MIN, MTU_MAX);
	return false;
}

static bool take_text(const char **out, const char *name, char *text, size_t max)
{
	*out = text;
	if (*text && strlen(text) <= max)
		return true;
	fprintf(stderr, "vpn: --%s: wanted 1 to %zu characters\n", name, max);
	return false;
}

static bool take_config(struct line *l, const char *text)
{
	if (l->option_count == CONFIG_OPTIONS_MAX)
		return complain(l->server, "too many times -o") == 0;
	l->options[l->option_count++] = text;
	return true;
}

/* lint: flat */
static int take_option(struct line *l, struct vpn_options *o, int opt, char *arg)
{
	bool ok = true;

	switch (opt) {
	case OPT_NODE:
		o->node_addr = arg;
		break;
	case OPT_ID:
		ok = take_text(&o->app_id, "id", arg, NAME_MAX_BYTES);
		break;
	case OPT_TO:
		l->to = arg;
		break;
	case OPT_SUBNET:
		ok = take_prefix(&o->subnet4, "subnet", 4, arg);
		break;
	case OPT_SUBNET6:
		ok = take_prefix(&o->subnet6, "subnet6", 6, arg);
		break;
	case OPT_INTERFACE:
		ok = take_text(&o->interface, "interface", arg, 15);
		break;
	case OPT_ROUTE:
		ok = take_route(o, l->server, arg);
		break;
	case OPT_DNS:
		ok = take_dns(o, arg);
		break;
	case OPT_FULL:
		o->full = true;
		break;
	case OPT_MTU:
		ok = take_mtu(o, arg);
		break;
	case OPT_JSON:
		o->json = true;
		break;
	case OPT_CHECK:
		l->check = true;
		break;
	case OPT_CLEANUP:
		l->cleanup = true;
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

static bool apply_subnets(struct vpn_options *o)
{
	struct net_prefix nets[2];
	int n = net_prefix_parse_list(nets, 2, o->cfg->vpn_vpn_subnet);

	if (o->subnet4.addr.family || o->subnet6.addr.family)
		return true;
	if (n < 0 || (n == 2 && nets[0].addr.family == nets[1].addr.family)) {
		fprintf(stderr, "vpn-server: vpn.VPNSubnet: wanted one network of IPv4, one of "
				"IPv6, or both\n");
		return false;
	}
	for (int i = 0; i < n; i++)
		*(nets[i].addr.family == 4 ? &o->subnet4 : &o->subnet6) = nets[i];
	if (!n)
		complain(true, "--subnet or --subnet6 (or [vpn] VPNSubnet) is missing");
	return n > 0;
}

static bool apply_server(struct vpn_options *o)
{
	const char *dns = o->cfg->vpn_dns;
	bool from_config = !o->advice.dns_count;
	char item[NET_ADDR_TEXT];
	int n = 0;

	if (!o->app_id)
		o->app_id = DEFAULT_SERVER_ID;
	if (!o->advice.route_count)
		n = net_prefix_parse_list(o->advice.routes, VPN_ROUTES_MAX, o->cfg->vpn_routes);
	if (n < 0) {
		fprintf(stderr, "vpn-server: vpn.Routes: wanted at most %u networks\n",
			VPN_ROUTES_MAX);
		return false;
	}
	o->advice.route_count += (unsigned)n;
	while (from_config && config_list_next(&dns, item, sizeof item))
		if (!take_dns(o, item))
			return false;
	return apply_subnets(o);
}

static bool apply_client(struct line *l, struct vpn_options *o)
{
	o->full = o->full || o->cfg->vpn_full_tunnel;
	if (!take_to(o, l->to ? l->to : o->cfg->vpn_server))
		return false;
	if (!*o->to)
		complain(false, "--to (or [vpn] Server) is missing");
	return *o->to;
}

static bool apply(struct line *l, struct vpn_options *o)
{
	const struct config *cfg = o->cfg;

	if (!o->node_addr)
		o->node_addr = cfg->vpn_node;
	if (!o->interface)
		o->interface = cfg->vpn_interface;
	if (!o->mtu)
		o->mtu = (uint32_t)cfg->vpn_mtu;
	daemon_log_open(cfg->daemon_log_format);
	log_set_level(l->debug ? LOG_LEVEL_DEBUG : daemon_log_level(cfg->general_log_level));
	if (l->cleanup)
		return true;
	return l->server ? apply_server(o) : apply_client(l, o);
}

static void report(void *ctx, const char *text)
{
	const struct line *l = ctx;

	fprintf(stderr, "%s: %s\n", program(l->server), text);
}

int vpn_options_parse(struct vpn_options *o, bool server, int argc, char **argv)
{
	const struct option *options = server ? server_options : client_options;
	struct line l = {.server = server};
	int opt, verdict = 0;

	memset(o, 0, sizeof *o);
	while (!verdict && (opt = getopt_long(argc, argv, "df:o:", options, NULL)) != -1)
		verdict = take_option(&l, o, opt, optarg);
	if (verdict)
		return verdict;
	if (optind < argc)
		return complain(server, "too many arguments");
	const struct config_source source = {
		.path = l.path, .options = l.options, .n_options = l.option_count};
	if (config_load(&o->cfg, &source, report, &l) || !apply(&l, o))
		return -1;
	if (l.check)
		printf("%s: the configuration is good\n", program(server));
	return l.check ? 1 : l.cleanup ? 2 : 0;
}

void vpn_options_free(struct vpn_options *o)
{
	config_free(o->cfg);
	o->cfg = NULL;
}
