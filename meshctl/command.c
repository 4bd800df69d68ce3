#include "meshctl/command.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/jsonrpc.h"
#include "meshctl/admin.h"
#include "meshctl/complete.h"
#include "meshctl/events.h"
#include "meshctl/gateway.h"
#include "meshctl/progress.h"
#include "meshctl/raw.h"
#include "meshctl/scan.h"

#define NAME_LEN_MAX 32
#define ADD_NODES_MAX 1000
#define HELP_LEFT_MAX 50 /* more of a usage is told by `help COMMAND` only */

/* ---- parameters ---- */

bool ctl_number(const char *text, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	return isdigit((unsigned char)*text) && !*end && errno == 0;
}

static struct json_object *params_none(const struct ctl_args *a, char *error)
{
	(void)a;
	(void)error;
	return json_object_new_object();
}

static struct json_object *params_add_node(const struct ctl_args *a, char *error)
{
	struct json_object *o = json_object_new_object();
	bool connect = false;

	(void)error;
	for (size_t i = 1; i < a->count; i++) {
		if (strcmp(a->words[i], "connect") == 0)
			connect = true;
		else
			rpc_set_str(o, "name", a->words[i]);
	}
	rpc_set_bool(o, "connect", connect);
	return o;
}

static struct json_object *params_add_nodes(const struct ctl_args *a, char *error)
{
	struct json_object *o;
	uint64_t n = 0;

	if (!ctl_number(a->words[1], &n) || n == 0 || n > ADD_NODES_MAX) {
		snprintf(error, CTL_ERROR_MAX, "'%.60s' is no number of nodes (1 to %d)",
			 a->words[1], ADD_NODES_MAX);
		return NULL;
	}
	if (a->count == 3 && strcmp(a->words[2], "connect") != 0) {
		snprintf(error, CTL_ERROR_MAX, "'%.60s': only 'connect' may follow the number",
			 a->words[2]);
		return NULL;
	}
	o = json_object_new_object();
	rpc_set_u64(o, "count", n);
	if (a->count == 3)
		rpc_set_bool(o, "connect", true);
	return o;
}

static struct json_object *params_pair(const struct ctl_args *a, char *error)
{
	struct json_object *o = json_object_new_object();

	(void)error;
	rpc_set_str(o, "a", a->words[1]);
	rpc_set_str(o, "b", a->words[2]);
	return o;
}

static struct json_object *params_node(const struct ctl_args *a, char *error)
{
	struct json_object *o = json_object_new_object();

	(void)error;
	rpc_set_str(o, "node", a->words[1]);
	return o;
}

static struct json_object *params_nodes(const struct ctl_args *a, char *error)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	(void)error;
	for (size_t i = 1; i < a->count; i++)
		json_object_array_add(list, rpc_text(a->words[i]));
	rpc_set(o, "nodes", list);
	return o;
}

static struct json_object *params_apps(const struct ctl_args *a, char *error)
{
	struct json_object *o;
	bool by_name = a->count == 3 && strcmp(a->words[1], "name") == 0;

	if (a->count == 3 && !by_name && strcmp(a->words[1], "type") != 0) {
		snprintf(error, CTL_ERROR_MAX, "'%.60s': expected 'type' or 'name' before a value",
			 a->words[1]);
		return NULL;
	}
	o = json_object_new_object();
	rpc_set_str(o, "kind", a->count == 1 ? "all" : by_name ? "by_name" : "by_type");
	rpc_set_str(o, "value", a->count == 1 ? "" : a->words[a->count - 1]);
	return o;
}

static struct json_object *params_gateway(const struct ctl_args *a, char *error)
{
	const char *port = ctl_args_option(a, "--port"), *method = ctl_args_option(a, "--method");
	struct json_object *o;
	uint64_t number = 0;

	if (port && (!ctl_number(port, &number) || number == 0 || number > UINT16_MAX)) {
		snprintf(error, CTL_ERROR_MAX, "--port '%.60s': expected a port (1 to 65535)",
			 port);
		return NULL;
	}
	o = json_object_new_object();
	if (a->count > 1)
		rpc_set_str(o, "gateway", a->words[1]);
	if (number)
		rpc_set_u64(o, "port", number);
	if (method)
		rpc_set_str(o, "method", method);
	return o;
}

/* ---- views ---- */

static const struct view view_nodes = {
	"nodes", "no nodes",
	(const struct view_column[]){{"#", "number", VIEW_NUMBER},
				     {"ID", "short|id", VIEW_ID},
				     {"NAME", "name", VIEW_TEXT},
				     {"ADDRESS", "addr", VIEW_TEXT},
				     {"STATE", "state|connected", VIEW_CONNECTED},
				     {"ROLE", "role", VIEW_TEXT},
				     {"TRANSIT", "transit", VIEW_YES_NO},
				     {"TRANSPORTS", "transports", VIEW_NUMBER},
				     {"APPS", "apps", VIEW_NUMBER},
				     {0}}};

static const struct view view_transports = {
	"transports", "no transports",
	(const struct view_column[]){{"ID", "id", VIEW_NUMBER},
				     {"A", "a_name|a", VIEW_ID},
				     {"B", "b_name|b", VIEW_ID},
				     {"STATUS", "status", VIEW_TEXT},
				     {"RTT", "rtt_us", VIEW_US},
				     {"LOSS", "loss_ppm", VIEW_PPM},
				     {"RATE", "rate_bps", VIEW_BPS},
				     {"COST", "cost", VIEW_NUMBER},
				     {"SET", "set_cost", VIEW_NONZERO},
				     {"A->B", "tx_bytes", VIEW_BYTES},
				     {"B->A", "rx_bytes", VIEW_BYTES},
				     {"RETRANSMITS", "retransmits", VIEW_NUMBER},
				     {0}}};

static const struct view view_rules = {
	"routes", "no routes",
	(const struct view_column[]){{"IN TRANSPORT", "in_transport", VIEW_NONZERO},
				     {"IN ROUTE", "in_route", VIEW_NUMBER},
				     {"OUT TRANSPORT", "out_transport", VIEW_NONZERO},
				     {"OUT ROUTE", "out_route", VIEW_NUMBER},
				     {"CONNECTION", "connection", VIEW_NONZERO},
				     {"STANDBY", "standby", VIEW_YES_NO},
				     {0}}};

static const struct view view_apps = {
	"apps", "no apps",
	(const struct view_column[]){{"NODE", "node_name|node", VIEW_ID},
				     {"APP", "app|id|name", VIEW_TEXT},
				     {"TYPE", "type", VIEW_TEXT},
				     {"INFO", "info", VIEW_TEXT},
				     {0}}};

static const struct view view_gateways = {
	"gateways", "no gateways known (try: scan)",
	(const struct view_column[]){{"#", "rank", VIEW_NUMBER},
				     {"NAME", "name|key", VIEW_TEXT},
				     {"VIA", "via", VIEW_TEXT},
				     {"FOUND BY", "foundBy", VIEW_TEXT},
				     {"METHOD", "method|methods", VIEW_TEXT},
				     {"STATE", "state", VIEW_TEXT},
				     {"SCORE", "score", VIEW_NUMBER},
				     {"PRICE", "price", VIEW_TEXT},
				     {"RTT", "rttMs", VIEW_MS},
				     {"LOSS", "lossPercent", VIEW_PERCENT},
				     {"ONLINE", "online", VIEW_YES_NO},
				     {"WHY", "why", VIEW_TEXT},
				     {0}}};

/* ---- the table ---- */

#define SECONDS(n) ((n)*UINT64_C(1000000))

static const struct ctl_option gateway_options[] = {
	{"--port", "-p", "PORT", "the gateway's RPC port"},
	{"--method", "-m", "METHOD", "how to reach it (mesh, ...)"},
	{0},
};

static const struct ctl_option events_options[] = {
	{"--count", "-n", "N", "end after N events"},
	{"--since", NULL, "ID", "also what came after this one, as far as it is kept"},
	{0},
};

static const struct ctl_command commands[] = {
	{.name = "status",
	 .usage = "",
	 .help = "what each daemon that answers says of itself",
	 .daemon = CTL_MANAGER,
	 .timeout_us = SECONDS(5),
	 .show = view_object,
	 .run = ctl_run_status,
	 .watch = true},
	{.name = "list-nodes",
	 .usage = "",
	 .help = "the nodes of the mesh",
	 .daemon = CTL_MANAGER,
	 .method = "listNodes",
	 .paged = true,
	 .params = params_none,
	 .view = &view_nodes},
	{.name = "add-node",
	 .usage = "[NAME] [connect]",
	 .help = "start a node here; 'connect' links it to another",
	 .daemon = CTL_MANAGER,
	 .method = "addNode",
	 .max = 2,
	 .params = params_add_node,
	 .show = view_object,
	 .timeout_us = SECONDS(30)},
	{.name = "add-nodes",
	 .usage = "N [connect]",
	 .help = "start N nodes here",
	 .daemon = CTL_MANAGER,
	 .method = "addNodes",
	 .min = 1,
	 .max = 2,
	 .params = params_add_nodes,
	 .view = &view_nodes,
	 .timeout_us = SECONDS(120),
	 .run = ctl_run_add_nodes},
	{.name = "shutdown-node",
	 .usage = "A",
	 .help = "end a node",
	 .daemon = CTL_MANAGER,
	 .method = "shutdownNode",
	 .min = 1,
	 .max = 1,
	 .params = params_node,
	 .show = view_object},
	{.name = "forget-node",
	 .usage = "A",
	 .help = "forget a node that is away, so that its name is free",
	 .daemon = CTL_MANAGER,
	 .method = "forgetNode",
	 .min = 1,
	 .max = 1,
	 .params = params_node,
	 .show = view_object},
	{.name = "connect",
	 .usage = "A B",
	 .help = "make a transport between two nodes",
	 .daemon = CTL_MANAGER,
	 .method = "connectNodes",
	 .min = 2,
	 .max = 2,
	 .params = params_pair,
	 .show = view_object,
	 .timeout_us = SECONDS(30)},
	{.name = "disconnect-nodes",
	 .usage = "A B",
	 .help = "end the transport between two nodes",
	 .daemon = CTL_MANAGER,
	 .method = "disconnectNodes",
	 .min = 2,
	 .max = 2,
	 .params = params_pair,
	 .show = view_object},
	{.name = "list-transports",
	 .usage = "A",
	 .help = "the transports of a node",
	 .daemon = CTL_MANAGER,
	 .method = "listTransports",
	 .paged = true,
	 .min = 1,
	 .max = 1,
	 .params = params_node,
	 .view = &view_transports},
	{.name = "list-all-transports",
	 .usage = "",
	 .help = "all transports",
	 .daemon = CTL_MANAGER,
	 .method = "listAllTransports",
	 .paged = true,
	 .params = params_none,
	 .view = &view_transports},
	{.name = "find-route",
	 .usage = "A B",
	 .help = "the path a connection would take",
	 .daemon = CTL_MANAGER,
	 .method = "findRoute",
	 .min = 2,
	 .max = 2,
	 .params = ctl_params_find_route,
	 .show = view_route,
	 .options = ctl_route_options,
	 .watch = true},
	{.name = "set-cost",
	 .usage = "A B COST|auto",
	 .help = "what the link of two nodes costs, whatever is measured",
	 .daemon = CTL_MANAGER,
	 .method = "setLinkCost",
	 .min = 3,
	 .max = 3,
	 .params = ctl_params_set_cost,
	 .show = view_object},
	{.name = "set-transit",
	 .usage = "NODE yes|no",
	 .help = "may paths of others lead through this node?",
	 .daemon = CTL_MANAGER,
	 .method = "setTransit",
	 .min = 2,
	 .max = 2,
	 .params = ctl_params_set_transit,
	 .show = view_object},
	{.name = "build-route",
	 .usage = "A B [C ...]",
	 .help = "install a route along exactly these nodes",
	 .daemon = CTL_MANAGER,
	 .method = "buildRoute",
	 .min = 2,
	 .max = CTL_WORDS_MAX - 1,
	 .params = params_nodes,
	 .show = view_route,
	 .timeout_us = SECONDS(30)},
	{.name = "list-routes",
	 .usage = "A",
	 .help = "the route rules of a node",
	 .daemon = CTL_MANAGER,
	 .method = "listRoutes",
	 .paged = true,
	 .min = 1,
	 .max = 1,
	 .params = params_node,
	 .view = &view_rules},
	{.name = "invite",
	 .usage = "",
	 .help = "a token that lets nodes in",
	 .daemon = CTL_MANAGER,
	 .method = "invite",
	 .params = ctl_params_invite,
	 .show = view_invite,
	 .options = ctl_invite_options},
	{.name = "invites",
	 .usage = "",
	 .help = "the invites and what is left of them",
	 .daemon = CTL_MANAGER,
	 .method = "listInvites",
	 .params = params_none,
	 .view = &ctl_view_invites},
	{.name = "remove-invite",
	 .usage = "TOKEN",
	 .help = "it (or the one of this number) lets nobody in any more",
	 .daemon = CTL_MANAGER,
	 .method = "removeInvite",
	 .min = 1,
	 .max = 1,
	 .params = ctl_params_invite_ref,
	 .show = view_object},
	{.name = "set-role",
	 .usage = "NODE member|relay|gateway|default",
	 .help = "what a node may do",
	 .daemon = CTL_MANAGER,
	 .method = "setRole",
	 .min = 2,
	 .max = 2,
	 .params = ctl_params_role,
	 .show = view_object},
	{.name = "revoke",
	 .usage = "NODE",
	 .help = "cut a key off, for good (a whole id if it is not known)",
	 .daemon = CTL_MANAGER,
	 .method = "revoke",
	 .min = 1,
	 .max = 1,
	 .params = params_node,
	 .show = view_object},
	{.name = "unrevoke",
	 .usage = "NODE",
	 .help = "let a revoked key in again",
	 .daemon = CTL_MANAGER,
	 .method = "unrevoke",
	 .min = 1,
	 .max = 1,
	 .params = params_node,
	 .show = view_object},
	{.name = "revoked",
	 .usage = "",
	 .help = "the keys that are cut off",
	 .daemon = CTL_MANAGER,
	 .method = "listRevoked",
	 .params = params_none,
	 .view = &ctl_view_revoked},
	{.name = "allow",
	 .usage = "ID",
	 .help = "put a node on the list of Admission = allowlist",
	 .daemon = CTL_MANAGER,
	 .method = "allow",
	 .min = 1,
	 .max = 1,
	 .params = params_node,
	 .show = view_object},
	{.name = "disallow",
	 .usage = "ID",
	 .help = "take it off the list",
	 .daemon = CTL_MANAGER,
	 .method = "disallow",
	 .min = 1,
	 .max = 1,
	 .params = params_node,
	 .show = view_object},
	{.name = "allowed",
	 .usage = "",
	 .help = "the nodes on that list",
	 .daemon = CTL_MANAGER,
	 .method = "listAllowed",
	 .params = params_none,
	 .view = &ctl_view_allowed},
	{.name = "apps",
	 .usage = "[TYPE | type TYPE | name NAME]",
	 .help = "the apps of the mesh",
	 .daemon = CTL_MANAGER,
	 .method = "listApps",
	 .paged = true,
	 .max = 2,
	 .params = params_apps,
	 .view = &view_apps},
	{.name = "events",
	 .usage = "[nodemanager|gatewayd|subscriberd]",
	 .help = "what happens, as it happens (Ctrl-C ends)",
	 .daemon = CTL_MANAGER,
	 .max = 1,
	 .options = events_options,
	 .run = ctl_run_events},
	{.name = "gateways",
	 .usage = "",
	 .help = "the gateways the subscriber knows, best first",
	 .daemon = CTL_SUBSCRIBER,
	 .method = "listGateways",
	 .params = params_none,
	 .view = &view_gateways},
	{.name = "scan",
	 .usage = "[NETWORKS]",
	 .help = "look for gateways now; NETWORKS: babel,kernel,... (none named: the configured)",
	 .daemon = CTL_SUBSCRIBER,
	 .max = 1,
	 .run = ctl_run_scan},
	{.name = "graph",
	 .usage = "",
	 .help = "the hosts and links that scans have found",
	 .daemon = CTL_SUBSCRIBER,
	 .options = ctl_graph_options,
	 .run = ctl_run_graph,
	 .watch = true},
	{.name = "connect-gateway",
	 .usage = "[GATEWAY]",
	 .help = "use this gateway, by IP or name (none named: the best)",
	 .daemon = CTL_SUBSCRIBER,
	 .method = "connect",
	 .max = 1,
	 .params = params_gateway,
	 .show = view_object,
	 .timeout_us = SECONDS(60),
	 .options = gateway_options},
	{.name = "disconnect",
	 .usage = "",
	 .help = "leave the gateway and stay offline",
	 .daemon = CTL_SUBSCRIBER,
	 .method = "disconnect",
	 .params = params_none,
	 .show = view_object,
	 .timeout_us = SECONDS(30)},
	{.name = "sessions",
	 .usage = "",
	 .help = "leases: granted by gatewayd here, or held by subscriberd",
	 .daemon = CTL_GATEWAY,
	 .method = "listSessions",
	 .params = params_none,
	 .view = &ctl_view_sessions},
	{.name = "end-session",
	 .usage = "SID",
	 .help = "end a lease of gatewayd here (the first characters will do)",
	 .daemon = CTL_GATEWAY,
	 .method = "endSession",
	 .min = 1,
	 .max = 1,
	 .params = ctl_params_sid,
	 .show = view_object},
	{.name = "add-code",
	 .usage = "NAME",
	 .help = "an access code for gatewayd here; it is shown once",
	 .daemon = CTL_GATEWAY,
	 .method = "addAccessCode",
	 .min = 1,
	 .max = 1,
	 .params = ctl_params_code,
	 .show = view_object},
	{.name = "codes",
	 .usage = "",
	 .help = "the access codes",
	 .daemon = CTL_GATEWAY,
	 .method = "listAccessCodes",
	 .params = params_none,
	 .view = &ctl_view_codes},
	{.name = "remove-code",
	 .usage = "NAME",
	 .help = "it is good for no new lease any more",
	 .daemon = CTL_GATEWAY,
	 .method = "removeAccessCode",
	 .min = 1,
	 .max = 1,
	 .params = ctl_params_code,
	 .show = view_object},
	{.name = "set-gateway",
	 .usage = "KEY VALUE",
	 .help = "a setting of gatewayd here, until it is reloaded or restarted",
	 .daemon = CTL_GATEWAY,
	 .method = "setConfig",
	 .min = 2,
	 .max = 2,
	 .params = ctl_params_setting,
	 .show = view_object},
	{.name = "known-gateways",
	 .usage = "",
	 .help = "other gateways that gatewayd here has heard of",
	 .daemon = CTL_GATEWAY,
	 .method = "listGateways",
	 .params = params_none,
	 .view = &ctl_view_known},
	{.name = "methods",
	 .usage = "[" CTL_DAEMON_WORDS "]",
	 .help = "the methods of a daemon's JSON-RPC",
	 .daemon = CTL_MANAGER,
	 .max = 1,
	 .run = ctl_run_methods},
	{.name = "rpc",
	 .usage = CTL_DAEMON_WORDS " METHOD [JSON]",
	 .help = "call a method; JSON: its parameters, an object or an array",
	 .daemon = CTL_MANAGER,
	 .min = 2,
	 .max = 3,
	 .timeout_us = 60000000,
	 .run = ctl_run_rpc},
	{.name = "completion",
	 .usage = "bash|zsh",
	 .help = "a script for the shell: eval \"$(meshctl completion bash)\"",
	 .daemon = CTL_MANAGER,
	 .min = 1,
	 .max = 1,
	 .run = ctl_run_completion},
	{.name = "complete",
	 .usage = "[WORD ...]",
	 .help = "what the last of these words may become",
	 .daemon = CTL_MANAGER,
	 .max = CTL_WORDS_MAX - 1,
	 .run = ctl_run_complete,
	 .hidden = true},
	{.name = "help",
	 .usage = "[COMMAND]",
	 .help = "this list",
	 .daemon = CTL_MANAGER,
	 .max = 1,
	 .run = ctl_run_help},
	{.name = "exit", .usage = "", .help = "end the prompt", .daemon = CTL_MANAGER},
};
#define COUNT (sizeof commands / sizeof commands[0])

const struct ctl_command *ctl_command_at(size_t i)
{
	return i < COUNT ? &commands[i] : NULL;
}

static void dashes(const char *name, char out[NAME_LEN_MAX])
{
	snprintf(out, NAME_LEN_MAX, "%s", name);
	for (char *p = out; *p; p++) {
		if (*p == '_')
			*p = '-';
	}
}

const struct ctl_command *ctl_command_find(const char *name)
{
	char text[NAME_LEN_MAX];

	if (strlen(name) >= sizeof text)
		return NULL;
	dashes(strcmp(name, "quit") == 0 ? "exit" : name, text);
	for (size_t i = 0; i < COUNT; i++) {
		if (strcmp(commands[i].name, text) == 0)
			return &commands[i];
	}
	return NULL;
}

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;

	return m < c ? m : c;
}

/* Levenshtein distance. */
static size_t distance(const char *a, const char *b)
{
	size_t row[NAME_LEN_MAX + 1], len = strlen(b);

	for (size_t j = 0; j <= len; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= len; j++) {
			size_t above = row[j];
			row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[len];
}

const struct ctl_command *ctl_command_closest(const char *name)
{
	const struct ctl_command *best = NULL;
	char text[NAME_LEN_MAX];
	size_t best_distance = 4, len;

	dashes(name, text);
	len = strlen(text);
	for (size_t i = 0; i < COUNT; i++) {
		size_t d = distance(text, commands[i].name);
		if (commands[i].hidden)
			continue;
		if (len >= 3 && strncmp(text, commands[i].name, len) == 0)
			d = 1;
		bool shorter =
			best && d == best_distance && strlen(commands[i].name) < strlen(best->name);
		if ((d < best_distance || shorter) && d < strlen(commands[i].name)) {
			best = &commands[i];
			best_distance = d;
		}
	}
	return best;
}

/* "connect-gateway [GATEWAY] [-p PORT] [-m METHOD]" */
static void usage_text(const struct ctl_command *c, char *out, size_t size)
{
	int len = snprintf(out, size, "%s%s%s", c->name, *c->usage ? " " : "", c->usage);

	for (const struct ctl_option *o = c->options; o && o->name && len < (int)size; o++)
		len += snprintf(out + len, size - (size_t)len, o->value ? " [%s %s]" : " [%s%s]",
				o->letter ? o->letter : o->name, o->value ? o->value : "");
}

void ctl_command_describe(const struct ctl_command *c, FILE *out)
{
	char text[256];

	usage_text(c, text, sizeof text);
	fprintf(out, "%s\n    %s\n", text, c->help);
	for (const struct ctl_option *o = c->options; o && o->name; o++) {
		snprintf(text, sizeof text, "%s%s%s %s", o->letter ? o->letter : "",
			 o->letter ? ", " : "", o->name, o->value ? o->value : "");
		fprintf(out, "    %-24s %s\n", text, o->help ? o->help : "");
	}
}

void ctl_command_help(FILE *out)
{
	for (size_t i = 0; i < COUNT; i++) {
		char left[256];
		if (commands[i].hidden)
			continue;
		usage_text(&commands[i], left, sizeof left);
		if (strlen(left) > HELP_LEFT_MAX)
			snprintf(left, sizeof left, "%s %s", commands[i].name, commands[i].usage);
		fprintf(out, "  %-50s %s\n", left, commands[i].help);
	}
	fprintf(out,
		"\nA node (A, B, ...) is a number of list-nodes, an id, a short id or a name.\n");
}
