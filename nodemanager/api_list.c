/*
 * Lists: whole, or `limit` entries from `offset` on.  Each answer says how many there are in
 * `total`.  A list that does not fit into one answer is refused with a word about paging.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* False: the call has been answered. */
static bool list_begin(struct list *l, struct rpc_call *call, struct json_object *params,
		       const char *key)
{
	uint64_t offset = 0, limit = 0;
	if (!rpc_param_u64(call, params, "offset", RPC_OPTIONAL, 0, UINT32_MAX, &offset) ||
	    !rpc_param_u64(call, params, "limit", RPC_OPTIONAL, 1, LIMIT_MAX, &limit))
		return false;
	bool paged = offset || limit;
	*l = (struct list){.call = call, .key = key, .paged = paged};
	l->window.offset = (size_t)offset;
	l->window.limit = limit ? (size_t)limit : paged ? LIMIT_MAX : WHOLE_MAX;
	l->items = json_object_new_array();
	return true;
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
	if (list_begin(&l, call, params, "nodes"))
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
	if (nm_api_node(api, call, params, "node", &id) &&
	    list_begin(&l, call, params, "transports"))
		list_end(&l, nm_transports_each(api->nm, &id, l.window, add_transport, l.items));
}

static void list_all_transports(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	struct list l;
	if (list_begin(&l, call, params, "transports"))
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
	if (nm_api_node(api, call, params, "node", &id) && list_begin(&l, call, params, "routes"))
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

static bool apps_kind(const char *text, uint8_t *kind)
{
	static const char *const names[] = {"all", "by_type", "by_name"};
	for (uint8_t i = 0; i < 3; i++) {
		if (strcmp(text, names[i]) == 0) {
			*kind = i;
			return true;
		}
	}
	return false;
}

static void list_apps(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	const char *kind_text = "all", *value = "";
	struct list list;
	uint8_t kind;
	if (!rpc_param_str(call, params, "kind", RPC_OPTIONAL, 16, &kind_text) ||
	    !rpc_param_str(call, params, "value", RPC_OPTIONAL, NAME_MAX_BYTES, &value))
		return;
	if (!apps_kind(kind_text, &kind)) {
		rpc_fail(call, RPC_INVALID_PARAMS, "kind: all, by_type or by_name");
		return;
	}
	if (!list_begin(&list, call, params, "apps"))
		return;
	struct apps_call *a = calloc(1, sizeof *a);
	if (!a) {
		json_object_put(list.items);
		rpc_fail(call, RPC_INTERNAL, "out of memory");
		return;
	}
	a->api = api;
	a->list = list;
	a->kind = kind;
	snprintf(a->value, sizeof a->value, "%s", value);
	nm_list_apps(api->nm, kind, a->value, 0, apps_page, a, daemon_now_us());
	api->touched(api->ctx);
}

static const struct rpc_method methods[] = {
	{"listNodes", {"offset", "limit"}, list_nodes, RPC_AUTHORISED},
	{"listTransports", {"node", "offset", "limit"}, list_transports, RPC_AUTHORISED},
	{"listAllTransports", {"offset", "limit"}, list_all_transports, RPC_AUTHORISED},
	{"listRoutes", {"node", "offset", "limit"}, list_routes, RPC_AUTHORISED},
	{"listApps", {"kind", "value", "offset", "limit"}, list_apps, RPC_AUTHORISED},
};

int nm_api_list_register(struct rpc_server *server, struct nm_api *api)
{
	return rpc_server_add(server, methods, sizeof methods / sizeof *methods, api);
}
