/*
 * Lists: whole, or `limit` entries from `offset` on.  Each answer says how many there are in
 * `total`.  A list that does not fit into one answer is refused with a word about paging.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "io/clock.h"
#include "nodemanager/api.h"

#define LIMIT_MAX 2000	      /* in one page */
#define WHOLE_MAX 4000	      /* more do not fit into RPC_BODY_MAX_BYTES however short they are */
#define ANSWER_FRAME_MAX 1024 /* what the answer has around its result */
#define APPS_MAX 100000	      /* that are counted */

struct list {
	struct rpc_call *call;
	const char *key;
	struct json_object *items;
	struct nm_window window;
	bool paged;
};

static void list_begin(struct list *l, struct rpc_call *call, struct json_object *params,
		       const char *key)
{
	uint64_t offset = rpc_param_u64(params, "offset", 0);
	uint64_t limit = rpc_param_u64(params, "limit", 0);
	bool paged = offset || limit;
	*l = (struct list){.call = call, .key = key, .paged = paged};
	l->window.offset = (size_t)offset;
	l->window.limit = limit ? (size_t)limit : paged ? LIMIT_MAX : WHOLE_MAX;
	l->items = json_object_new_array();
}

static void list_end(struct list *l, size_t total)
{
	size_t len = 0;
	struct json_object *o = json_object_new_object();
	rpc_set_u64(o, "total", total);
	if (l->paged)
		rpc_set_u64(o, "offset", l->window.offset);
	rpc_set(o, l->key, l->items);
	json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN, &len);
	if (len + ANSWER_FRAME_MAX <= RPC_BODY_MAX_BYTES && (l->paged || total <= WHOLE_MAX)) {
		rpc_reply(l->call, o);
		return;
	}
	json_object_put(o);
	rpc_fail(l->call, RPC_FAILED,
		 l->paged ? "these do not fit into one answer: ask for fewer (limit) of the %zu %s"
			  : "%zu %s do not fit into one answer: ask for pages (offset, limit)",
		 total, l->key);
}

/* --- nodes ------------------------------------------------------------------------------------ */

static void add_node(void *arg, const struct nm_node_info *info)
{
	json_object_array_add(arg, nm_api_node_json(info));
}

static void list_nodes(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct list l;
	list_begin(&l, call, params, "nodes");
	list_end(&l, nm_nodes_each(api->nm, l.window, add_node, l.items));
}

/* --- transports ------------------------------------------------------------------------------- */

/* null for what is not known, or not set. */
static struct json_object *known(uint64_t value)
{
	return value ? json_object_new_uint64(value) : NULL;
}

static struct json_object *transport_json(const struct nm_transport_info *t)
{
	char id[MESH_ID_TEXT];
	struct json_object *o = json_object_new_object();
	rpc_set_u64(o, "id", t->id);
	rpc_set_str(o, "status", nm_transport_status_name(t->status));
	rpc_set_bool(o, "suspect", t->suspect);
	rpc_set_str(o, "a", mesh_id_text(&t->a, id));
	rpc_set_str(o, "b", mesh_id_text(&t->b, id));
	rpc_set(o, "a_name", rpc_text(t->a_name));
	rpc_set(o, "b_name", rpc_text(t->b_name));
	rpc_set_u64(o, "a_port", t->a_port);
	rpc_set_u64(o, "b_port", t->b_port);
	rpc_set_u64(o, "rtt_us", t->rtt_us);
	rpc_set_u64(o, "loss_ppm", t->loss_ppm);
	rpc_set_u64(o, "queue_bytes", t->queue_bytes);
	rpc_set(o, "capacity_bps", known(t->capacity_bps));
	rpc_set_u64(o, "cost", t->cost);
	rpc_set(o, "set_cost", known(t->set_cost));
	rpc_set_bool(o, "upkeep", t->upkeep);
	rpc_set_u64(o, "rate_bps", t->rate_bps);
	rpc_set_u64(o, "tx_bytes", t->tx_bytes);
	rpc_set_u64(o, "rx_bytes", t->rx_bytes);
	rpc_set_u64(o, "retransmits", t->retransmits);
	return o;
}

static void add_transport(void *arg, const struct nm_transport_info *t)
{
	json_object_array_add(arg, transport_json(t));
}

static void list_transports(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct mesh_id id;
	struct list l;
	if (!nm_api_node(api, call, params, "node", &id))
		return;
	list_begin(&l, call, params, "transports");
	list_end(&l, nm_transports_each(api->nm, &id, l.window, add_transport, l.items));
}

static void list_all_transports(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct list l;
	list_begin(&l, call, params, "transports");
	list_end(&l, nm_transports_each(api->nm, NULL, l.window, add_transport, l.items));
}

/* --- routes ----------------------------------------------------------------------------------- */

static struct json_object *rule_json(const struct nm_rule_info *r)
{
	char number[17];
	struct json_object *o = json_object_new_object();
	snprintf(number, sizeof number, "%016llx", (unsigned long long)r->connection);
	rpc_set_u64(o, "in_transport", r->in_transport);
	rpc_set_u64(o, "in_route", r->in_route);
	rpc_set_u64(o, "out_transport", r->out_transport);
	rpc_set_u64(o, "out_route", r->out_route);
	rpc_set_str(o, "connection", number);
	rpc_set_bool(o, "standby", r->standby);
	return o;
}

static void add_rule(void *arg, const struct nm_rule_info *r)
{
	json_object_array_add(arg, rule_json(r));
}

static void list_routes(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct mesh_id id;
	struct list l;
	if (!nm_api_node(api, call, params, "node", &id))
		return;
	list_begin(&l, call, params, "routes");
	list_end(&l, nm_rules_each(api->nm, &id, l.window, add_rule, l.items));
}

/* --- apps ------------------------------------------------------------------------------------- */

/* The tracker's pages are read until there is no more, also behind the window: they are counted. */
struct apps_call {
	struct nm_api *api;
	struct list list;
	size_t seen;
	uint8_t kind;
	char value[NAME_MAX_BYTES + 1];
};

static struct json_object *app_json(const struct nm_api *api, const struct app_item *app)
{
	char text[APP_INFO_MAX_BYTES + 1], id[MESH_ID_TEXT];
	struct nm_node_info node;
	struct json_object *o = json_object_new_object();
	rpc_set_str(o, "node", mesh_id_text(&app->node, id));
	rpc_set(o, "node_name",
		rpc_text(nm_node_get(api->nm, &app->node, &node) == 0 ? node.name : ""));
	bytes_to_cstr(app->app, text, sizeof text);
	rpc_set(o, "app", rpc_text(text));
	bytes_to_cstr(app->type, text, sizeof text);
	rpc_set(o, "type", rpc_text(text));
	bytes_to_cstr(app->info, text, sizeof text);
	rpc_set(o, "info", rpc_text(text));
	return o;
}

static void add_app(struct apps_call *a, const struct app_item *app)
{
	size_t at = a->seen++;
	if (at >= a->list.window.offset && at - a->list.window.offset < a->list.window.limit)
		json_object_array_add(a->list.items, app_json(a->api, app));
}

static void apps_page(void *arg, uint16_t code, const char *text,
		      const struct msg_app_list_response *page)
{
	struct apps_call *a = arg;
	if (code != CODE_OK || !page) {
		nm_api_failed(a->list.call, code, text);
		json_object_put(a->list.items);
		free(a);
		return;
	}
	for (uint16_t i = 0; i < page->apps_count; i++)
		add_app(a, &page->apps[i]);
	if (page->next && page->apps_count && a->seen < APPS_MAX) {
		nm_list_apps(a->api->nm, a->kind, a->value, page->next, apps_page, a,
			     daemon_now_us());
		return;
	}
	list_end(&a->list, a->seen);
	free(a);
}

static uint8_t apps_kind(const char *text)
{
	static const char *const names[] = {"all", "by_type", "by_name"};
	uint8_t kind = 2;
	while (kind > 0 && strcmp(text, names[kind]) != 0)
		kind--;
	return kind;
}

static void list_apps(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct apps_call *a = calloc(1, sizeof *a);
	if (!a) {
		rpc_fail(call, RPC_INTERNAL, "out of memory");
		return;
	}
	a->api = api;
	a->kind = apps_kind(rpc_param_str(params, "kind", "all"));
	list_begin(&a->list, call, params, "apps");
	cstr_copy(a->value, sizeof a->value, rpc_param_str(params, "value", ""));
	nm_list_apps(api->nm, a->kind, a->value, 0, apps_page, a, daemon_now_us());
	api->touched(api->ctx);
}

static const char shapes[] =
	"transport The link of two nodes.\n"
	"id uint\n"
	"status =creating,opening,connected\n"
	"suspect bool whether an end hears nothing while it should\n"
	"a id one end\n"
	"b id the other\n"
	"a_name text\n"
	"b_name text\n"
	"a_port uint UDP\n"
	"b_port uint UDP\n"
	"rtt_us uint measured, in microseconds\n"
	"loss_ppm uint packets lost of a million\n"
	"queue_bytes uint what waits to be sent\n"
	"capacity_bps uint|null bits a second it can carry, when that is known\n"
	"cost uint what routes reckon with\n"
	"set_cost uint|null what setLinkCost said\n"
	"upkeep bool whether the manager chose this link to keep nodes connected\n"
	"rate_bps uint bits a second now\n"
	"tx_bytes uint\n"
	"rx_bytes uint\n"
	"retransmits uint\n"
	"\n"
	"rule A route rule: what comes in here goes out there.\n"
	"in_transport uint 0: the route begins here\n"
	"in_route uint\n"
	"out_transport uint 0: it ends here\n"
	"out_route uint\n"
	"connection text its number, 16 hex digits\n"
	"standby bool whether it waits for the first way to fail\n"
	"\n"
	"app An app that is registered in the mesh.\n"
	"node id\n"
	"node_name text\n"
	"app text its name\n"
	"type text\n"
	"info text what it says of itself\n"
	"\n";

#define PAGE                                                                                       \
	"offset? uint(0..4294967295) the first that is wanted\n"                                   \
	"limit? uint(1.." RPC_NUM(LIMIT_MAX) ") how many; without both the whole list\n"
#define PAGED                                                                                      \
	"total uint how many there are\n"                                                          \
	"offset? uint of the page, when one was asked for\n"
#define TOO_LONG "they do not fit into one answer: pages do"

#define APP_VALUE "text(" RPC_NUM(NAME_MAX_BYTES) ") "

static const struct rpc_method methods[] = {
	{.name = "listNodes",
	 .handler = list_nodes,
	 .access = RPC_AUTHORISED,
	 .text = "The nodes that are known, connected or not.",
	 .params = PAGE,
	 .result = PAGED "nodes @node[]\n",
	 .fails = TOO_LONG},
	{.name = "listTransports",
	 .handler = list_transports,
	 .access = RPC_AUTHORISED,
	 .text = "The transports of one node.",
	 .params = "node " NM_API_NODE "the node\n" PAGE,
	 .result = PAGED "transports @transport[]\n",
	 .fails = NM_API_NO_NODE "; or " TOO_LONG},
	{.name = "listAllTransports",
	 .handler = list_all_transports,
	 .access = RPC_AUTHORISED,
	 .text = "All transports.",
	 .params = PAGE,
	 .result = PAGED "transports @transport[]\n",
	 .fails = TOO_LONG},
	{.name = "listRoutes",
	 .handler = list_routes,
	 .access = RPC_AUTHORISED,
	 .text = "The route rules of one node.",
	 .params = "node " NM_API_NODE "the node\n" PAGE,
	 .result = PAGED "routes @rule[]\n",
	 .fails = NM_API_NO_NODE "; or " TOO_LONG},
	{.name = "listApps",
	 .handler = list_apps,
	 .access = RPC_AUTHORISED,
	 .text = "The apps that the tracker knows.",
	 .params = "kind? =all,by_type,by_name\n"
		   "value? " APP_VALUE "the type, or the name\n" PAGE,
	 .result = PAGED "apps @app[]\n",
	 .fails = "the tracker is away, or " TOO_LONG,
	 .busy = "too much is being asked for at once"},
};

int nm_api_list_register(struct rpc_server *server, struct nm_api *api)
{
	int err = rpc_server_shapes(server, shapes);
	return err ? err : rpc_server_add(server, methods, sizeof methods / sizeof *methods, api);
}
