/* Which ways connections take, and what operators have to say about it. */
#include "nodemanager/api.h"

#include "io/clock.h"

/* Nodes, hops and cost of a path, into `o`. */
static void path_json(const struct nm_api *api, struct json_object *o, const struct mesh_id *nodes,
		      size_t count, uint64_t cost)
{
	struct json_object *list = json_object_new_array();
	for (size_t i = 0; i < count; i++) {
		struct nm_node_info info;
		if (nm_node_get(api->nm, &nodes[i], &info) == 0)
			json_object_array_add(list, nm_api_brief_json(&info));
	}
	rpc_set(o, "nodes", list);
	rpc_set_u64(o, "hops", count - 1);
	rpc_set_u64(o, "cost", cost);
}

struct paths {
	const struct nm_api *api;
	struct json_object *list;
};

static void add_path(void *arg, const struct mesh_id *nodes, size_t count, uint64_t cost)
{
	struct paths *paths = arg;
	struct json_object *o = json_object_new_object();
	path_json(paths->api, o, nodes, count, cost);
	json_object_array_add(paths->list, o);
}

static void find_route(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct mesh_id a, b, nodes[NM_API_ROUTE_NODES_MAX];
	uint64_t cost, k = 0;
	bool by_links = false, complete = true;
	if (!nm_api_two_nodes(api, call, params, &a, &b) ||
	    !rpc_param_u64(call, params, "k", RPC_OPTIONAL, 1, NM_ROUTES_ASKED_MAX, &k))
		return;
	long count = nm_find_route(api->nm, &a, &b, nodes, NM_API_ROUTE_NODES_MAX, &cost);
	if (count < 0) {
		rpc_fail(call, RPC_FAILED, "there is no way between these nodes now");
		return;
	}
	struct json_object *o = json_object_new_object();
	path_json(api, o, nodes, (size_t)count, cost);
	if (k) {
		struct paths paths = {api, json_object_new_array()};
		nm_find_routes(api->nm, &a, &b, (size_t)k, add_path, &paths, &by_links, &complete);
		rpc_set_bool(o, "complete", complete);
		rpc_set_str(o, "disjoint", by_links ? "links" : "nodes");
		rpc_set(o, "paths", paths.list);
	}
	rpc_reply(call, o);
}

static void set_link_cost(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct mesh_id a, b;
	uint64_t cost = 0; /* null: as measured */
	if (!nm_api_two_nodes(api, call, params, &a, &b) ||
	    !rpc_param_u64(call, params, "cost", RPC_OPTIONAL, 1, NM_LINK_COST_MAX, &cost))
		return;
	if (nm_set_link_cost(api->nm, &a, &b, (uint32_t)cost, daemon_now_us()))
		rpc_fail(call, RPC_FAILED, "these two have no link");
	else
		rpc_reply(call, json_object_new_object());
	api->touched(api->ctx);
}

static void set_transit(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct mesh_id id;
	bool transit;
	if (!nm_api_node(api, call, params, "node", &id) ||
	    !rpc_param_bool(call, params, "transit", RPC_REQUIRED, &transit))
		return;
	if (nm_set_transit(api->nm, &id, transit, daemon_now_us()))
		rpc_fail(call, RPC_FAILED, "there is no such node");
	else
		rpc_reply(call, json_object_new_object());
	api->touched(api->ctx);
}

static const struct rpc_method methods[] = {
	{"findRoute", {"a", "b", "k"}, find_route, RPC_AUTHORISED},
	{"setLinkCost", {"a", "b", "cost"}, set_link_cost, RPC_AUTHORISED},
	{"setTransit", {"node", "transit"}, set_transit, RPC_AUTHORISED},
};

int nm_api_routing_register(struct rpc_server *server, struct nm_api *api)
{
	return rpc_server_add(server, methods, sizeof methods / sizeof *methods, api);
}
