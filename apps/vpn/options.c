#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vpn/vpn.h"

#define DEFAULT_NODE "127.0.0.1:17000"
#define DEFAULT_INTERFACE "mvpn%d"
#define DEFAULT_SERVER_ID "vpn"
#define MTU_MIN 1280u
#define MTU_MAX 9000u

#define USAGE_COMMON                                                                               \
	"  --node ADDR          our node: host:port, unix:/path or /path (" DEFAULT_NODE ")\n"     \
	"  --interface NAME     the TUN interface, %d is replaced by a number (" DEFAULT_INTERFACE \
	")\n"                                                                                      \
	"  --json               status lines as JSON on stdout\n"                                  \
	"  -d, --debug          say more\n"                                                        \
	"  --version, --help\n"

static const char usage_server[] =
	"Usage: vpn-server --subnet PREFIX [--subnet6 PREFIX] [options]\n"
	"Gives addresses of a subnet to VPN clients in the mesh and carries their packets.  It "
	"has\n"
	"the subnet's first address itself; forwarding beyond this host is the host's own "
	"business.\n"
	"\n"
	"  --subnet PREFIX      IPv4 (10.200.0.0/24)\n"
	"  --subnet6 PREFIX     IPv6 (fd00:200::/64)\n"
	"  --id NAME            our app id (" DEFAULT_SERVER_ID ")\n"
	"  --mtu N              of the interfaces at both ends (1420)\n" USAGE_COMMON;

static const char usage_client[] =
	"Usage: vpn-client --to APPID[@NODEID] [options]\n"
	"Joins the VPN of a vpn-server in the mesh: an interface with an address of its subnet and "
	"a\n"
	"route to it.  Connects again when the server was away.\n"
	"\n"
	"  --to APPID[@NODEID]  the server; NODEID is 64 hex digits\n"
	"  --route PREFIX       send this through the VPN as well (repeatable)\n"
	"  --id NAME            our app id (a random one)\n" USAGE_COMMON;

enum {
	OPT_NODE = 256,
	OPT_ID,
	OPT_TO,
	OPT_SUBNET,
	OPT_SUBNET6,
	OPT_INTERFACE,
	OPT_ROUTE,
	OPT_MTU,
	OPT_JSON,
	OPT_VERSION,
	OPT_HELP
};

static const struct option server_options[] = {
	{"node", required_argument, NULL, OPT_NODE},
	{"id", required_argument, NULL, OPT_ID},
	{"subnet", required_argument, NULL, OPT_SUBNET},
	{"subnet6", required_argument, NULL, OPT_SUBNET6},
	{"interface", required_argument, NULL, OPT_INTERFACE},
	{"mtu", required_argument, NULL, OPT_MTU},
	{"json", no_argument, NULL, OPT_JSON},
	{"debug", no_argument, NULL, 'd'},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{0},
};

static const struct option client_options[] = {
	{"node", required_argument, NULL, OPT_NODE},
	{"id", required_argument, NULL, OPT_ID},
	{"to", required_argument, NULL, OPT_TO},
	{"interface", required_argument, NULL, OPT_INTERFACE},
	{"route", required_argument, NULL, OPT_ROUTE},
	{"json", no_argument, NULL, OPT_JSON},
	{"debug", no_argument, NULL, 'd'},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{0},
};

static const char *program(bool server)
{
	return server ? "vpn-server" : "vpn-client";
}

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

static bool take_to(struct vpn_options *o, char *text)
{
	char *at = strchr(text, '@');

	o->to = text;
	if (!at)
		return true;
	*at = '\0';
	o->has_to_node = mesh_id_parse(&o->to_node, at + 1) == 0;
	if (!o->has_to_node)
		fprintf(stderr, "vpn: --to: '%s' is not a node id of 64 hex digits\n", at + 1);
	return o->has_to_node;
}

static bool take_route(struct vpn_options *o, const char *text)
{
	if (o->route_count < VPN_ROUTES_MAX)
		return take_prefix(&o->routes[o->route_count++], "route", 0, text);
	fprintf(stderr, "vpn: more than %u routes\n", VPN_ROUTES_MAX);
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

/* lint: flat */
static int take_option(struct vpn_options *o, bool server, int opt, char *arg)
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
		ok = take_to(o, arg);
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
		ok = take_route(o, arg);
		break;
	case OPT_MTU:
		ok = take_mtu(o, arg);
		break;
	case OPT_JSON:
		o->json = true;
		break;
	case 'd':
		log_set_level(LOG_LEVEL_DEBUG);
		break;
	case OPT_VERSION:
		printf("%s (meshnet) %s\n", program(server), MESHNET_VERSION);
		return 1;
	case OPT_HELP:
		fputs(server ? usage_server : usage_client, stdout);
		return 1;
	default:
		ok = false;
	}
	return ok ? 0 : -1;
}

static int complain(bool server, const char *what)
{
	fprintf(stderr, "%s: %s (%s --help)\n", program(server), what, program(server));
	return -1;
}

int vpn_options_parse(struct vpn_options *o, bool server, int argc, char **argv)
{
	const struct option *options = server ? server_options : client_options;
	int opt, verdict = 0;

	*o = (struct vpn_options){
		.node_addr = DEFAULT_NODE,
		.app_id = server ? DEFAULT_SERVER_ID : NULL,
		.interface = DEFAULT_INTERFACE,
		.mtu = VPN_MTU_DEFAULT,
	};
	while (!verdict && (opt = getopt_long(argc, argv, "d", options, NULL)) != -1)
		verdict = take_option(o, server, opt, optarg);
	if (verdict)
		return verdict;
	if (optind < argc)
		return complain(server, "too many arguments");
	if (server && !o->subnet4.addr.family && !o->subnet6.addr.family)
		return complain(server, "--subnet or --subnet6 is missing");
	if (!server && !o->to)
		return complain(server, "--to is missing");
	return 0;
}
