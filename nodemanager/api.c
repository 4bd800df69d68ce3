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
	char buf[MESH_ID_TEXT]; /* a whole id; names are shorter */
	const char *text = NULL;
	return rpc_param_ref(call, params, name, RPC_REQUIRED, buf, sizeof buf, &text) &&
	       node_of(api, call, text, id);
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

/* The text of a node argument inside an array: a number or a string. */
static const char *item_text(struct json_object *item)
{
	enum json_type type = json_object_get_type(item);
	return type == json_type_string || type == json_type_int ? json_object_get_string(item)
								 : NULL;
}

static void build_route(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct json_object *list = NULL;
	struct mesh_id nodes[NM_API_ROUTE_NODES_MAX];
	if (!rpc_param_array(call, params, "nodes", RPC_REQUIRED, NM_API_ROUTE_NODES_MAX, &list))
		return;
	size_t count = json_object_array_length(list);
	for (size_t i = 0; i < count && i < NM_API_ROUTE_NODES_MAX; i++) {
		const char *text = item_text(json_object_array_get_idx(list, i));
		if (!text) {
			rpc_fail(call, RPC_INVALID_PARAMS, "nodes: numbers, ids or names");
			return;
		}
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

/* The RPC is on loopback unless told otherwise, so every method needs the right of its address. */
static const struct rpc_method methods[] = {
	{"addNode", {"connect", "name"}, nm_api_add_node, RPC_AUTHORISED},
	{"addNodes", {"count", "connect"}, nm_api_add_nodes, RPC_AUTHORISED},
	{"shutdownNode", {"node"}, shutdown_node, RPC_AUTHORISED},
	{"forgetNode", {"node"}, forget_node, RPC_AUTHORISED},
	{"connectNodes", {"a", "b"}, connect_nodes, RPC_AUTHORISED},
	{"disconnectNodes", {"a", "b"}, disconnect_nodes, RPC_AUTHORISED},
	{"buildRoute", {"nodes"}, build_route, RPC_AUTHORISED},
	{"status", {NULL}, status, RPC_AUTHORISED},
};

int nm_api_register(struct rpc_server *server, struct nm_api *api)
{
	int err = rpc_server_add(server, methods, sizeof methods / sizeof *methods, api);
	if (!err)
		err = nm_api_list_register(server, api);
	if (!err)
		err = nm_api_routing_register(server, api);
	return err ? err : nm_api_admission_register(server, api);
}
