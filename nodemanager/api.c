#include "nodemanager/api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/clock.h"

/* --- nodes ------------------------------------------------------------------------------------ */

static bool node_of(struct nm_api *api, struct rpc_call *call, const char *text, struct mesh_id *id)
{
	int err = nm_node_find(api->nm, text, id);
	if (err == -EEXIST)
		rpc_fail(call, RPC_FAILED, "several nodes have ids that begin with %.64s", text);
	else if (err)
		rpc_fail(call, RPC_FAILED, "there is no node %.64s", text);
	return !err;
}

bool nm_api_node(struct nm_api *api, struct rpc_call *call, struct json_object *params,
		 const char *name, struct mesh_id *id)
{
	return node_of(api, call, rpc_param_str(params, name, ""), id);
}

struct json_object *nm_api_brief_json(const struct nm_node_info *info)
{
	char id[MESH_ID_TEXT], brief[MESH_ID_SHORT];
	struct json_object *o = json_object_new_object();
	rpc_set_u64(o, "number", info->number);
	rpc_set_str(o, "id", mesh_id_text(&info->id, id));
	rpc_set_str(o, "short", mesh_id_short(&info->id, brief));
	rpc_set(o, "name", rpc_text(info->name));
	return o;
}

struct json_object *nm_api_node_json(const struct nm_node_info *info)
{
	char addr[NET_ADDR_TEXT];
	struct json_object *o = nm_api_brief_json(info);
	rpc_set_str(o, "addr", info->addr.family ? net_addr_text(&info->addr, addr) : "");
	rpc_set_bool(o, "connected", info->connected);
	rpc_set_bool(o, "transit", info->transit);
	rpc_set_str(o, "state", info->revoked ? "revoked" : info->connected ? "connected" : "away");
	rpc_set_str(o, "role", node_role_name(info->role));
	rpc_set_bool(o, "role_given", info->role_given);
	rpc_set_bool(o, "admitted", info->admitted);
	rpc_set_u64(o, "transports", info->transports);
	rpc_set_u64(o, "apps", info->apps);
	rpc_set_u64(o, "connections", info->connections);
	rpc_set_u64(o, "over_limit", info->over_limit);
	rpc_set_u64(o, "strays", info->strays);
	return o;
}

static struct json_object *wrap(const char *key, struct json_object *value)
{
	struct json_object *o = json_object_new_object();
	rpc_set(o, key, value);
	return o;
}

static void shutdown_node(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct mesh_id id;
	if (!nm_api_node(api, call, params, "node", &id))
		return;
	nm_shutdown_node(api->nm, &id, daemon_now_us());
	rpc_reply(call, json_object_new_object());
	api->touched(api->ctx);
}

static void forget_node(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct mesh_id id;
	if (!nm_api_node(api, call, params, "node", &id))
		return;
	if (nm_forget_node(api->nm, &id, daemon_now_us()))
		rpc_fail(call, RPC_FAILED, "the node is connected: use shutdownNode first");
	else
		rpc_reply(call, json_object_new_object());
	api->touched(api->ctx);
}

/* --- links and transports --------------------------------------------------------------------- */

void nm_api_failed(struct rpc_call *call, uint16_t code, const char *text)
{
	rpc_fail(call, code == CODE_BUSY ? RPC_BUSY : RPC_FAILED, "%s",
		 text[0] ? text : msg_code_name(code));
}

static void connected(void *arg, uint16_t code, const char *text, uint64_t value)
{
	struct rpc_call *call = arg;
	if (code == CODE_OK)
		rpc_reply(call, wrap("transport", json_object_new_uint64(value)));
	else
		nm_api_failed(call, code, text);
}

bool nm_api_two_nodes(struct nm_api *api, struct rpc_call *call, struct json_object *params,
		      struct mesh_id *a, struct mesh_id *b)
{
	return nm_api_node(api, call, params, "a", a) && nm_api_node(api, call, params, "b", b);
}

static void connect_nodes(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct mesh_id a, b;
	if (!nm_api_two_nodes(api, call, params, &a, &b))
		return;
	nm_connect_nodes(api->nm, &a, &b, connected, call, daemon_now_us());
	api->touched(api->ctx);
}

static void disconnect_nodes(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct mesh_id a, b;
	if (!nm_api_two_nodes(api, call, params, &a, &b))
		return;
	if (nm_disconnect_nodes(api->nm, &a, &b, daemon_now_us()))
		rpc_fail(call, RPC_FAILED, "these two have no link");
	else
		rpc_reply(call, json_object_new_object());
	api->touched(api->ctx);
}

/* --- routes ----------------------------------------------------------------------------------- */

struct route_call {
	struct rpc_call *call;
	size_t hops;
};

static void built(void *arg, uint16_t code, const char *text, uint64_t value)
{
	struct route_call r = *(struct route_call *)arg;
	free(arg);
	if (code != CODE_OK) {
		nm_api_failed(r.call, code, text);
		return;
	}
	struct json_object *o = json_object_new_object();
	rpc_set_u64(o, "route", (uint32_t)value); /* what its ends know it by */
	rpc_set_u64(o, "hops", r.hops);
	rpc_reply(r.call, o);
}

static void build_route(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct json_object *list = rpc_param_json(params, "nodes");
	struct mesh_id nodes[NM_API_ROUTE_NODES_MAX];
	size_t count = json_object_array_length(list);
	for (size_t i = 0; i < count && i < NM_API_ROUTE_NODES_MAX; i++) {
		const char *text = json_object_get_string(json_object_array_get_idx(list, i));
		if (!node_of(api, call, text, &nodes[i]))
			return;
	}
	struct route_call *r = malloc(sizeof *r);
	if (!r) {
		rpc_fail(call, RPC_INTERNAL, "out of memory");
		return;
	}
	*r = (struct route_call){.call = call, .hops = count ? count - 1 : 0};
	nm_build_route(api->nm, nodes, count, built, r, daemon_now_us());
	api->touched(api->ctx);
}

/* --- status ----------------------------------------------------------------------------------- */

static void status(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	char id[MESH_ID_TEXT];
	struct nm_status s;
	struct json_object *o = json_object_new_object();
	(void)params;
	nm_status_get(api->nm, &s);
	rpc_set_str(o, "version", MESHNET_VERSION);
	rpc_set_str(o, "key", mesh_id_text(&api->id, id));
	rpc_set_u64(o, "nodes", s.nodes);
	rpc_set_u64(o, "nodes_connected", s.nodes_connected);
	rpc_set_u64(o, "links", s.links);
	rpc_set_u64(o, "transports", s.transports);
	rpc_set_u64(o, "transports_connected", s.transports_connected);
	rpc_set_u64(o, "connections", s.connections);
	rpc_set_u64(o, "routes", s.routes);
	rpc_set_u64(o, "apps", s.apps);
	rpc_set_u64(o, "requests_pending", s.requests);
	rpc_set_bool(o, "apptracker", s.tracker);
	rpc_set_bool(o, "recovering", s.recovering);
	rpc_set_str(o, "admission", nm_api_admission_name(s.admission));
	rpc_set_u64(o, "invites", s.invites);
	rpc_set_u64(o, "revoked", s.revoked);
	rpc_set_u64(o, "allowed", s.allowed);
	rpc_set_u64(o, "refused", s.refused);
	rpc_set_u64(o, "refused_revoked", s.refused_revoked);
	rpc_set_u64(o, "over_limit", s.over_limit);
	rpc_set_u64(o, "dropped", s.dropped);
	rpc_reply(call, o);
}

static const char shapes[] =
	"brief What tells a node from the others.\n"
	"number uint its number in the list\n"
	"id id its public key\n"
	"short text the first digits of the key\n"
	"name text its name, or empty\n"
	"\n"
	"node A node.\n"
	"number uint its number in the list\n"
	"id id its public key\n"
	"short text the first digits of the key\n"
	"name text its name, or empty\n"
	"addr text where it connected from, or empty\n"
	"connected bool whether its channel is up\n"
	"transit bool whether it forwards for others\n"
	"state =revoked,connected,away\n"
	"role =default,member,relay,gateway\n"
	"role_given bool whether setRole gave the role (else the invite or the configuration)\n"
	"admitted bool whether it may come back without an invite\n"
	"transports uint transports it has now\n"
	"apps uint apps it registered\n"
	"connections uint connections that begin or end there\n"
	"over_limit uint messages of it that were over a limit\n"
	"strays uint messages of it that fitted nothing\n"
	"\n";

#define NODE_NAME "text(" RPC_NUM(NAME_MAX_BYTES) ") "
#define ADD_COUNT "uint(1.." RPC_NUM(NM_API_ADD_MAX) ") "
#define ROUTE_NODES "ref(" RPC_NUM(NM_API_REF_MAX) ")[" RPC_NUM(NM_API_ROUTE_NODES_MAX) "] "

/* The RPC is on loopback unless told otherwise, so every method needs the right of its address. */
static const struct rpc_method methods[] = {
	{.name = "addNode",
	 .handler = nm_api_add_node,
	 .access = RPC_AUTHORISED,
	 .text = "Starts a node on this machine and waits until it has registered.",
	 .params = "connect? bool whether it gets a link to another node\n"
		   "name? " NODE_NAME "letters, digits, '-', '_', '.'; none: node-N\n",
	 .result = "@node",
	 .fails = "it runs already, or did not register",
	 .busy = "too many nodes were started here"},
	{.name = "addNodes",
	 .handler = nm_api_add_nodes,
	 .access = RPC_AUTHORISED,
	 .text = "Starts several nodes on this machine.",
	 .params = "count " ADD_COUNT "how many\n"
		   "connect? bool whether each gets a link to another node\n",
	 .result = "nodes @node[] in the order of their numbers; one may still be away\n",
	 .fails = "a node cannot be started",
	 .busy = "too many nodes were started here"},
	{.name = "shutdownNode",
	 .handler = shutdown_node,
	 .access = RPC_AUTHORISED,
	 .text = "Ends a node.",
	 .params = "node " NM_API_NODE "the node\n",
	 .fails = NM_API_NO_NODE},
	{.name = "forgetNode",
	 .handler = forget_node,
	 .access = RPC_AUTHORISED,
	 .text = "Forgets a node that is not connected, with its links.",
	 .params = "node " NM_API_NODE "the node\n",
	 .fails = NM_API_NO_NODE "; or it is connected"},
	{.name = "connectNodes",
	 .handler = connect_nodes,
	 .access = RPC_AUTHORISED,
	 .text = "Makes two nodes neighbours, and answers when their transport is up. The link "
		 "is remembered and made again when it fails.",
	 .params = NM_API_A_AND_B,
	 .result = "transport uint its number\n",
	 .fails = NM_API_NO_NODE "; or they cannot be connected",
	 .busy = "too much is being asked for at once"},
	{.name = "disconnectNodes",
	 .handler = disconnect_nodes,
	 .access = RPC_AUTHORISED,
	 .text = "Ends the link of two nodes and forgets it.",
	 .params = NM_API_A_AND_B,
	 .fails = NM_API_NO_NODE "; or they have no link"},
	{.name = "buildRoute",
	 .handler = build_route,
	 .access = RPC_AUTHORISED,
	 .text = "Installs a route over exactly these nodes, each a neighbour of the next.",
	 .params = "nodes " ROUTE_NODES "from the first end to the last, two at least\n",
	 .result = "route uint what its ends know it by\n"
		   "hops uint\n",
	 .fails = NM_API_NO_NODE "; or two of them have no transport",
	 .busy = "too much is being asked for at once"},
	{.name = "status",
	 .handler = status,
	 .access = RPC_AUTHORISED,
	 .text = "The whole in figures.",
	 .result = "version text\n"
		   "key id the manager's public key, for node.ManagerKey\n"
		   "nodes uint known ones\n"
		   "nodes_connected uint\n"
		   "links uint pairs of nodes that shall be neighbours\n"
		   "transports uint\n"
		   "transports_connected uint\n"
		   "connections uint\n"
		   "routes uint\n"
		   "apps uint\n"
		   "requests_pending uint that wait for nodes or the tracker\n"
		   "apptracker bool whether it is connected\n"
		   "recovering bool whether nodes are still awaited after a restart\n"
		   "admission =open,token,allowlist\n"
		   "invites uint\n"
		   "revoked uint\n"
		   "allowed uint\n"
		   "refused uint registrations turned away\n"
		   "refused_revoked uint of these, for a revoked key\n"
		   "over_limit uint of the dropped, over a limit\n"
		   "dropped uint messages over a limit or out of order\n"},
};

static const struct rpc_about about = {
	"Meshnet nodemanager",
	"Nodes, links, routes and who may be in the mesh. A node is named by its number in the "
	"list, its id, the beginning of its id, or its name.",
};

int nm_api_register(struct rpc_server *server, struct nm_api *api)
{
	int err = rpc_server_add(server, methods, sizeof methods / sizeof *methods, api);
	rpc_server_describe(server, &about);
	if (!err)
		err = rpc_server_shapes(server, shapes);
	if (!err)
		err = nm_api_list_register(server, api);
	if (!err)
		err = nm_api_routing_register(server, api);
	return err ? err : nm_api_admission_register(server, api);
}
