#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/config_value.h"
#include "vpn/vpn.h"

#define DEFAULT_SERVER_ID "vpn"
#define MTU_MIN 1280u
#define MTU_MAX 9000u

#define USAGE_COMMON                                                                               \
	"  --node ADDR          our node: host:port, unix:/path or /path ([vpn] Node)\n"           \
	"  --interface NAME     the TUN interface, %d is replaced by a number ([vpn] "             \
	"Interface)\n" APPLINE_USAGE(                                                              \
		"vpn") "  --cleanup            take back what a killed run has left on this "      \
		       "host, and exit\n"                                                          \
		       "  --json               status lines as JSON on stdout\n"                   \
		       "  -d, --debug          say more\n"                                         \
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
	OPT_CLEANUP
};

/* clang-format off */
#define COMMON_OPTIONS                                                                             \
	{"node", required_argument, NULL, OPT_NODE}, {"id", required_argument, NULL, OPT_ID},      \
	{"interface", required_argument, NULL, OPT_INTERFACE},                                     \
	{"route", required_argument, NULL, OPT_ROUTE}, {"json", no_argument, NULL, OPT_JSON},      \
	{"cleanup", no_argument, NULL, OPT_CLEANUP}, APPLINE_LONG, {0}
/* clang-format on */

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
	struct appline common;
	struct vpn_options *options;
	bool server, cleanup;
	const char *to;
};

static const char *program(bool server)
{
	return server ? "vpn-server" : "vpn-client";
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

/* lint: flat */
static int take_option(void *ctx, int opt, char *arg)
{
	struct line *l = ctx;
	struct vpn_options *o = l->options;
	bool ok = true;

	switch (opt) {
	case OPT_NODE:
		o->node_addr = arg;
		break;
	case OPT_ID:
		ok = appline_text(&l->common, &o->app_id, "--id", arg, NAME_MAX_BYTES);
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
		ok = appline_text(&l->common, &o->interface, "--interface", arg, 15);
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
	case OPT_CLEANUP:
		l->cleanup = true;
		break;
	default:
		return appline_take(&l->common, opt, arg);
	}
	return ok ? 0 : -1;
}

/* --- the configuration ---------------------------------------------------------------------- */

static bool apply_subnets(const struct line *l, struct vpn_options *o)
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
		appline_complain(&l->common,
				 "--subnet or --subnet6 (or [vpn] VPNSubnet) is missing");
	return n > 0;
}

static bool apply_server(const struct line *l, struct vpn_options *o)
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
	return apply_subnets(l, o);
}

static bool apply_client(struct line *l, struct vpn_options *o)
{
	o->full = o->full || o->cfg->vpn_full_tunnel;
	if (!appline_peer(&l->common, &o->to, l->to ? "--to" : "vpn.Server",
			  l->to ? l->to : o->cfg->vpn_server))
		return false;
	if (!*o->to.app)
		appline_complain(&l->common, "--to (or [vpn] Server) is missing");
	return *o->to.app;
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
	appline_log(&l->common, cfg);
	if (l->cleanup)
		return true;
	return l->server ? apply_server(l, o) : apply_client(l, o);
}

int vpn_options_parse(struct vpn_options *o, bool server, int argc, char **argv)
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
	return appline_ends(&l.common) ? 1 : l.cleanup ? 2 : 0;
}

/* --- SIGHUP --------------------------------------------------------------------------------- */

static bool differs(const struct config_key *k, const struct config *a, const struct config *b)
{
	const char *at = (const char *)a + k->offset, *bt = (const char *)b + k->offset;

	if (k->kind == CONFIG_U64)
		return memcmp(at, bt, sizeof(uint64_t)) != 0;
	if (k->kind == CONFIG_BOOL)
		return memcmp(at, bt, sizeof(bool)) != 0;
	return strcmp(*(const char *const *)at, *(const char *const *)bt) != 0;
}

/* Addresses, routes and interfaces stay as they were made, or the end could not take them back. */
int vpn_options_reload(const struct vpn_options *o)
{
	struct vpn_options *fresh = calloc(1, sizeof *fresh);
	int rc = fresh ? vpn_options_parse(fresh, o->server, o->argc, o->argv) : -1;
	const struct config_key *keys = config_keys();

	for (size_t i = 0; rc == 0 && i < config_key_count(); i++)
		if (strcmp(keys[i].section, "vpn") == 0 && differs(&keys[i], o->cfg, fresh->cfg))
			log_warn("vpn.%s has changed: it holds from the next start", keys[i].key);
	if (fresh)
		vpn_options_free(fresh);
	free(fresh);
	return rc;
}

int vpn_on_hup(void *options)
{
	return vpn_options_reload(options);
}

void vpn_options_free(struct vpn_options *o)
{
	config_free(o->cfg);
	o->cfg = NULL;
}
