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
	uint64_t cost, k = rpc_param_u64(params, "k", 0);
	bool by_links = false, complete = true;
	if (!nm_api_two_nodes(api, call, params, &a, &b))
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
	uint64_t cost = rpc_param_u64(params, "cost", 0); /* null: as measured */
	if (!nm_api_two_nodes(api, call, params, &a, &b))
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
	bool transit = rpc_param_bool(params, "transit", true);
	if (!nm_api_node(api, call, params, "node", &id))
		return;
	if (nm_set_transit(api->nm, &id, transit, daemon_now_us()))
		rpc_fail(call, RPC_FAILED, "there is no such node");
	else
		rpc_reply(call, json_object_new_object());
	api->touched(api->ctx);
}

#define WAYS "uint(1.." RPC_NUM(NM_ROUTES_ASKED_MAX) ") "
#define COST "uint(1.." RPC_NUM(NM_LINK_COST_MAX) ") "

static const char shapes[] = "path One way through the mesh.\n"
			     "nodes @brief[] from end to end\n"
			     "hops uint\n"
			     "cost uint the sum of its links' costs\n"
			     "\n";

static const struct rpc_method methods[] = {
	{.name = "findRoute",
	 .handler = find_route,
	 .access = RPC_AUTHORISED,
	 .text = "The way that a connection between two nodes would take now; with k also as many "
		 "ways as can be had that share no node, else no link.",
	 .params = NM_API_A_AND_B "k? " WAYS "how many ways\n",
	 .result = "nodes @brief[] from end to end\n"
		   "hops uint\n"
		   "cost uint the sum of the links' costs\n"
		   "complete? bool with k; false: it took too long, and there may be more\n"
		   "disjoint? =nodes,links with k: what no two ways have in common\n"
		   "paths? @path[] with k: the ways, the cheapest first\n",
	 .fails = NM_API_NO_NODE "; or there is no way between them"},
	{.name = "setLinkCost",
	 .handler = set_link_cost,
	 .access = RPC_AUTHORISED,
	 .text = "Sets what the link of two nodes costs, instead of what is measured.",
	 .params = NM_API_A_AND_B "cost? " COST "none: as measured\n",
	 .fails = NM_API_NO_NODE "; or they have no link"},
	{.name = "setTransit",
	 .handler = set_transit,
	 .access = RPC_AUTHORISED,
	 .text = "Whether a node forwards what is not for itself.",
	 .params = "node " NM_API_NODE "the node\n"
		   "transit bool\n",
	 .fails = NM_API_NO_NODE},
};

int nm_api_routing_register(struct rpc_server *server, struct nm_api *api)
{
	int err = rpc_server_shapes(server, shapes);
	return err ? err : rpc_server_add(server, methods, sizeof methods / sizeof *methods, api);
}
