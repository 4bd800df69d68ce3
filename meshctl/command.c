#include "meshctl/command.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "io/jsonrpc.h"

#define NAME_LEN_MAX 32
#define ADD_NODES_MAX 1000

/* ---- parameters ---- */

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
	char *end;
	unsigned long n = strtoul(a->words[1], &end, 10);

	if (!isdigit((unsigned char)*a->words[1]) || *end || n == 0 || n > ADD_NODES_MAX) {
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
	struct json_object *o = json_object_new_object();

	(void)error;
	if (a->count > 1)
		rpc_set_str(o, "gateway", a->words[1]);
	if (a->port)
		rpc_set_u64(o, "port", a->port);
	if (a->method)
		rpc_set_str(o, "method", a->method);
	return o;
}

static struct json_object *params_invite(const struct ctl_args *a, char *error)
{
	struct json_object *o = json_object_new_object();
	uint64_t seconds;

	(void)error;
	if (a->uses)
		rpc_set_u64(o, "uses", strtoul(a->uses, NULL, 10));
	if (a->expires && ctl_duration_parse(&seconds, a->expires) == 0)
		rpc_set_u64(o, "expiresSeconds", seconds);
	if (a->role)
		rpc_set_str(o, "role", a->role);
	return o;
}

static struct json_object *params_invite_ref(const struct ctl_args *a, char *error)
{
	struct json_object *o = json_object_new_object();

	(void)error;
	rpc_set_str(o, "invite", a->words[1]);
	return o;
}

static struct json_object *params_role(const struct ctl_args *a, char *error)
{
	struct json_object *o = params_node(a, error);

	rpc_set_str(o, "role", a->words[2]);
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
				     {"TRANSPORTS", "transports", VIEW_NUMBER},
				     {"APPS", "apps", VIEW_NUMBER},
				     {0}}};

static const struct view view_invites = {
	"invites", "no invites",
	(const struct view_column[]){{"#", "number", VIEW_NUMBER},
				     {"STATE", "state", VIEW_TEXT},
				     {"ROLE", "role", VIEW_TEXT},
				     {"USED", "used", VIEW_NUMBER},
				     {"OF", "uses", VIEW_NUMBER},
				     {"EXPIRES", "expires", VIEW_TIME},
				     {0}}};

static const struct view view_revoked = {"revoked", "no key is revoked",
					 (const struct view_column[]){{"ID", "id", VIEW_TEXT},
								      {"NAME", "name", VIEW_TEXT},
								      {"SINCE", "since", VIEW_TIME},
								      {0}}};

static const struct view view_allowed = {
	"allowed", "no node is allowed here (nodemanager.Allow is not shown)",
	(const struct view_column[]){{"ID", "id", VIEW_TEXT}, {0}}};

static const struct view view_transports = {
	"transports", "no transports",
	(const struct view_column[]){{"ID", "id", VIEW_NUMBER},
				     {"A", "a_name|a", VIEW_ID},
				     {"B", "b_name|b", VIEW_ID},
				     {"STATUS", "status", VIEW_TEXT},
				     {"RTT", "rtt_us", VIEW_US},
				     {"LOSS", "loss_ppm", VIEW_PPM},
				     {"RATE", "rate_bps", VIEW_BPS},
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
	(const struct view_column[]){{"NAME", "name|key", VIEW_TEXT},
				     {"VIA", "via", VIEW_TEXT},
				     {"METHOD", "method|methods", VIEW_TEXT},
				     {"STATE", "state", VIEW_TEXT},
				     {"SCORE", "score", VIEW_NUMBER},
				     {"RTT", "rttMs", VIEW_MS},
				     {"LOSS", "lossPercent", VIEW_PERCENT},
				     {"ONLINE", "online", VIEW_YES_NO},
				     {"WHY", "why", VIEW_TEXT},
				     {0}}};

static const struct view view_sessions = {
	"sessions", "no sessions",
	(const struct view_column[]){{"SID", "sid", VIEW_TEXT},
				     {"NAME", "name|gateway", VIEW_TEXT},
				     {"METHOD", "method", VIEW_TEXT},
				     {"NODE", "node", VIEW_ID},
				     {"IPV4", "ipv4", VIEW_TEXT},
				     {"IPV6", "ipv6", VIEW_TEXT},
				     {"UNTIL", "timeoutTimestamp", VIEW_TIME},
				     {0}}};

/* ---- the table ---- */

#define SECONDS(n) ((n)*UINT64_C(1000000))

static const struct ctl_command commands[] = {
	{"status", "", "what each daemon that answers says of itself", CTL_MANAGER, NULL, 0, 0,
	 params_none, NULL, view_object, SECONDS(5)},
	{"list-nodes", "", "the nodes of the mesh", CTL_MANAGER, "listNodes", 0, 0, params_none,
	 &view_nodes, NULL, 0},
	{"add-node", "[NAME] [connect]", "start a node here; 'connect' links it to another",
	 CTL_MANAGER, "addNode", 0, 2, params_add_node, NULL, view_object, SECONDS(30)},
	{"add-nodes", "N [connect]", "start N nodes here", CTL_MANAGER, "addNodes", 1, 2,
	 params_add_nodes, &view_nodes, NULL, SECONDS(120)},
	{"shutdown-node", "A", "end a node", CTL_MANAGER, "shutdownNode", 1, 1, params_node, NULL,
	 view_object, 0},
	{"forget-node", "A", "forget a node that is away: its name is free", CTL_MANAGER,
	 "forgetNode", 1, 1, params_node, NULL, view_object, 0},
	{"set-role", "A ROLE", "what a node may do: member, relay, gateway or default", CTL_MANAGER,
	 "setRole", 2, 2, params_role, NULL, view_object, 0},
	{"invite", "[--uses N] [--expires 2d] [--role ROLE]",
	 "a token that lets nodes in (1 use, 2 days, member)", CTL_MANAGER, "invite", 0, 0,
	 params_invite, NULL, view_invite, 0},
	{"invites", "", "the invites and what is left of them", CTL_MANAGER, "listInvites", 0, 0,
	 params_none, &view_invites, NULL, 0},
	{"remove-invite", "TOKEN or number", "it lets nobody in any more", CTL_MANAGER,
	 "removeInvite", 1, 1, params_invite_ref, NULL, view_object, 0},
	{"revoke", "A", "cut a key off, for good (a whole id if it is not known)", CTL_MANAGER,
	 "revoke", 1, 1, params_node, NULL, view_object, 0},
	{"unrevoke", "A", "let a revoked key in again", CTL_MANAGER, "unrevoke", 1, 1, params_node,
	 NULL, view_object, 0},
	{"revoked", "", "the keys that are cut off", CTL_MANAGER, "listRevoked", 0, 0, params_none,
	 &view_revoked, NULL, 0},
	{"allow", "ID", "put a node on the list of Admission = allowlist", CTL_MANAGER, "allow", 1,
	 1, params_node, NULL, view_object, 0},
	{"disallow", "ID", "take it off the list", CTL_MANAGER, "disallow", 1, 1, params_node, NULL,
	 view_object, 0},
	{"allowed", "", "the nodes on that list", CTL_MANAGER, "listAllowed", 0, 0, params_none,
	 &view_allowed, NULL, 0},
	{"connect", "A B", "make a transport between two nodes", CTL_MANAGER, "connectNodes", 2, 2,
	 params_pair, NULL, view_object, SECONDS(30)},
	{"list-transports", "A", "the transports of a node", CTL_MANAGER, "listTransports", 1, 1,
	 params_node, &view_transports, NULL, 0},
	{"list-all-transports", "", "all transports", CTL_MANAGER, "listAllTransports", 0, 0,
	 params_none, &view_transports, NULL, 0},
	{"find-route", "A B", "the path a connection would take", CTL_MANAGER, "findRoute", 2, 2,
	 params_pair, NULL, view_route, 0},
	{"build-route", "A B [C ...]", "install a route along exactly these nodes", CTL_MANAGER,
	 "buildRoute", 2, CTL_WORDS_MAX - 1, params_nodes, NULL, view_route, SECONDS(30)},
	{"list-routes", "A", "the route rules of a node", CTL_MANAGER, "listRoutes", 1, 1,
	 params_node, &view_rules, NULL, 0},
	{"apps", "[TYPE | type TYPE | name NAME]", "the apps of the mesh", CTL_MANAGER, "listApps",
	 0, 2, params_apps, &view_apps, NULL, 0},
	{"gateways", "", "the gateways the subscriber knows, best first", CTL_SUBSCRIBER,
	 "listGateways", 0, 0, params_none, &view_gateways, NULL, 0},
	{"scan", "", "look for gateways now", CTL_SUBSCRIBER, "startScan", 0, 0, params_none, NULL,
	 view_object, SECONDS(30)},
	{"connect-gateway", "[IP or NAME] [-p PORT] [-m METHOD]",
	 "use this gateway (none named: the best)", CTL_SUBSCRIBER, "connect", 0, 1, params_gateway,
	 NULL, view_object, SECONDS(60)},
	{"disconnect", "", "leave the gateway and stay offline", CTL_SUBSCRIBER, "disconnect", 0, 0,
	 params_none, NULL, view_object, SECONDS(30)},
	{"sessions", "", "leases: granted by gatewayd here, or held by subscriberd", CTL_GATEWAY,
	 "listSessions", 0, 0, params_none, &view_sessions, NULL, 0},
	{"help", "[COMMAND]", "this list", CTL_MANAGER, NULL, 0, 1, NULL, NULL, NULL, 0},
	{"exit", "", "end the prompt", CTL_MANAGER, NULL, 0, 0, NULL, NULL, NULL, 0},
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
		if (len >= 3 && strncmp(text, commands[i].name, len) == 0)
			d = 1;
		if (d < best_distance && d < strlen(commands[i].name)) {
			best = &commands[i];
			best_distance = d;
		}
	}
	return best;
}

void ctl_command_help(FILE *out)
{
	for (size_t i = 0; i < COUNT; i++) {
		char left[96];
		snprintf(left, sizeof left, "%s %s", commands[i].name, commands[i].usage);
		fprintf(out, "  %-52s %s\n", left, commands[i].help);
	}
	fprintf(out,
		"\nA node (A, B, ...) is a number of list-nodes, an id, a short id or a name.\n");
}
