#include "subscriberd/api_scan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "io/nodeinfo.h"
#include "scan/scan.h"

/* ---- between network modules and the walk ---- */

int api_scan_saw_host(const struct net_host *h, void *ctx)
{
	const struct api_scan_sink *s = ctx;

	return walk_saw_host(s->walk, s->serial, h, s->now_s);
}

int api_scan_saw_link(const struct net_link *l, void *ctx)
{
	const struct api_scan_sink *s = ctx;

	return walk_saw_link(s->walk, s->serial, l, s->now_s);
}

/* ---- to and from gateways ---- */

struct json_object *api_scan_ask(const struct walk *w)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	const struct walk_host *h;
	char text[NET_ADDR_TEXT];
	size_t it = 1, n = 0; /* not our own host */

	while (n < API_SCAN_KNOWN_MAX && (h = walk_next_host(w, &it))) {
		if (h->answer != WALK_GATEWAY || h->gone)
			continue;
		json_object_array_add(
			list, json_object_new_string(net_addr_text(&h->gateway->addr, text)));
		n++;
	}
	rpc_set(o, "gateways", list);
	return o;
}

bool api_scan_read_info(struct json_object *answer, struct walk_gateway *gateway,
			struct net_addr told[WALK_TOLD_MAX], size_t *count)
{
	*count = 0;
	*gateway = (struct walk_gateway){0};
	if (!nodeinfo_is_gateway(answer))
		return false;
	nodeinfo_text(answer, "name", gateway->name, sizeof gateway->name);
	nodeinfo_text(answer, "id", gateway->id, sizeof gateway->id);
	*count = nodeinfo_gateways(answer, told, WALK_TOLD_MAX);
	return true;
}

/* ---- shapes ---- */

struct json_object *api_scan_gateway_json(const struct walk_host *h)
{
	struct json_object *o = json_object_new_object();
	char addr[NET_ADDR_TEXT], networks[GRAPH_NETWORKS_MAX], from[GRAPH_KEY_MAX];

	rpc_set_str(o, "address", net_addr_text(&h->gateway->addr, addr));
	rpc_set(o, "name", rpc_text(h->gateway->name));
	rpc_set_bool(o, "own", net_host_is_own(&h->host));
	rpc_set_str(o, "networks", discover_networks_text(h->networks, networks));
	rpc_set(o, "from", h->from ? rpc_text(graph_key(&h->from->host, from)) : NULL);
	rpc_set_u64(o, "depth", h->depth);
	return o;
}

static struct json_object *networks_json(const struct discover_status *s)
{
	static const char *const states[] = {"", "asked", "answered", "failed"};
	const struct scan_module *const *modules = scan_modules();
	struct json_object *list = json_object_new_array();

	for (int i = 0; modules[i]; i++) {
		bool absent = s->absent >> i & 1;
		if (!absent && s->progress.network[i] == WALK_UNUSED)
			continue;
		struct json_object *o = json_object_new_object();
		rpc_set_str(o, "name", modules[i]->name);
		rpc_set_str(o, "state", absent ? "absent" : states[s->progress.network[i]]);
		rpc_set(o, "why", rpc_text(s->progress.why[i]));
		json_object_array_add(list, o);
	}
	return list;
}

static struct json_object *found_json(const struct walk *w)
{
	struct json_object *list = json_object_new_array();
	const struct walk_host *h;
	size_t it = 0;

	while (json_object_array_length(list) < SUB_GATEWAYS_MAX && (h = walk_next_host(w, &it)))
		if (h->answer == WALK_GATEWAY && !h->gone)
			json_object_array_add(list, api_scan_gateway_json(h));
	return list;
}

struct json_object *api_scan_status_json(const struct discover_status *s, const struct walk *walk)
{
	const struct walk_progress *p = &s->progress;
	struct json_object *o = json_object_new_object();

	rpc_set_bool(o, "success", true);
	rpc_set_str(o, "callId", s->call_id);
	rpc_set_bool(o, "done", !p->running);
	rpc_set_bool(o, "enough", p->enough);
	rpc_set_u64(o, "startedAt", p->started_s);
	rpc_set_u64(o, "finishedAt", p->finished_s);
	rpc_set_u64(o, "hosts", p->hosts);
	rpc_set_u64(o, "links", p->links);
	rpc_set_u64(o, "asked", p->asked);
	rpc_set_u64(o, "waiting", p->waiting);
	rpc_set_u64(o, "answered", p->answered);
	rpc_set_u64(o, "gateways", p->gateways);
	rpc_set_u64(o, "ignored", p->ignored);
	rpc_set(o, "networks", networks_json(s));
	if (walk)
		rpc_set(o, "found", found_json(walk));
	return o;
}

/* ---- calls ---- */

static void start_scan(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct api_scan_hooks *h = arg;
	const char *networks = NULL;
	char call_id[DISCOVER_CALL_ID_MAX], why[WALK_WHY_MAX];
	struct discover_status s;

	if (!rpc_param_str(call, params, "networks", RPC_OPTIONAL, GRAPH_NETWORKS_MAX - 1,
			   &networks))
		return;
	if (discover_scan(h->discover, networks && *networks ? networks : NULL, call_id, why)) {
		rpc_fail(call, RPC_INVALID_PARAMS, "Invalid params: %s", why);
		return;
	}
	h->scan(h->ctx);
	discover_status(h->discover, call_id, &s);
	rpc_reply(call, api_scan_status_json(&s, NULL));
}

static void poll_status(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct api_scan_hooks *h = arg;
	const char *call_id = NULL;
	struct discover_status s;

	if (!rpc_param_str(call, params, "callId", RPC_OPTIONAL, DISCOVER_CALL_ID_MAX, &call_id))
		return;
	if (call_id && sub_api_poll_order(h->orders, call, call_id))
		return;
	if (discover_status(h->discover, call_id, &s) != 0)
		rpc_fail(call, RPC_FAILED, "no such call is remembered (startScan begins one)");
	else
		rpc_reply(call, api_scan_status_json(&s, discover_walk(h->discover)));
}

struct graph_answer {
	struct json_object *hosts, *links;
	uint64_t last_host, last_link;
};

static void add_host(const struct graph_host *row, void *ctx)
{
	struct graph_answer *a = ctx;
	struct json_object *o = json_object_new_object(), *gw;
	char text[GRAPH_KEY_MAX], addr[NET_ADDR_TEXT];
	const struct walk_host *h = &row->h;

	rpc_set(o, "key", rpc_text(graph_key(&h->host, text)));
	rpc_set_str(o, "address",
		    h->host.addr.family ? net_addr_ip_text(&h->host.addr, addr) : NULL);
	rpc_set(o, "name", rpc_text(h->host.name));
	rpc_set_str(o, "networks", row->networks);
	rpc_set_str(o, "how", h->host.how);
	rpc_set(o, "from", rpc_text(graph_key(&row->from, text)));
	rpc_set_u64(o, "depth", h->depth);
	rpc_set_bool(o, "gone", h->gone);
	rpc_set_str(o, "answer", walk_answer_name(h->answer));
	rpc_set_u64(o, "firstSeen", h->first_s);
	rpc_set_u64(o, "lastSeen", h->seen_s);
	rpc_set_u64(o, "askedAt", h->asked_s);
	if (h->answer == WALK_GATEWAY && h->gateway) {
		gw = json_object_new_object();
		rpc_set_str(gw, "address", net_addr_text(&row->gateway.addr, addr));
		rpc_set(gw, "name", rpc_text(row->gateway.name));
		rpc_set(o, "gateway", gw);
	}
	rpc_set_u64(o, "stamp", row->stamp);
	a->last_host = row->stamp;
	json_object_array_add(a->hosts, o);
}

static void add_link(const struct graph_link *row, void *ctx)
{
	struct graph_answer *a = ctx;
	struct json_object *o = json_object_new_object();
	char text[GRAPH_KEY_MAX];

	rpc_set(o, "a", rpc_text(graph_key(&row->a, text)));
	rpc_set(o, "b", rpc_text(graph_key(&row->b, text)));
	rpc_set_str(o, "network", row->network);
	rpc_set_u64(o, "cost", row->l.cost);
	rpc_set_bool(o, "gone", row->l.gone);
	rpc_set_u64(o, "firstSeen", row->l.first_s);
	rpc_set_u64(o, "lastSeen", row->l.seen_s);
	rpc_set_u64(o, "stamp", row->stamp);
	a->last_link = row->stamp;
	json_object_array_add(a->links, o);
}

/* Takes off what has a later stamp than the other list reaches: it comes with the next answer. */
static void cut(struct json_object *list, uint64_t last)
{
	size_t n = json_object_array_length(list);

	while (n > 0) {
		struct json_object *stamp = NULL;
		json_object_object_get_ex(json_object_array_get_idx(list, n - 1), "stamp", &stamp);
		if (json_object_get_uint64(stamp) <= last)
			return;
		json_object_array_del_idx(list, --n, 1);
	}
}

static void get_graph(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct api_scan_hooks *h = arg;
	struct graph_store *g = discover_graph(h->discover);
	struct graph_answer a = {0};
	struct json_object *o;
	uint64_t since = 0, last;

	if (!rpc_param_u64(call, params, "timestamp", RPC_OPTIONAL, 0, INT64_MAX, &since))
		return;
	a.hosts = json_object_new_array();
	a.links = json_object_new_array();
	graph_store_hosts(g, since, API_GRAPH_ROWS_MAX, add_host, &a);
	graph_store_links(g, since, API_GRAPH_ROWS_MAX, add_link, &a);
	bool hosts_cut = json_object_array_length(a.hosts) == API_GRAPH_ROWS_MAX,
	     links_cut = json_object_array_length(a.links) == API_GRAPH_ROWS_MAX;
	last = hosts_cut && (!links_cut || a.last_host < a.last_link) ? a.last_host
	       : links_cut					      ? a.last_link
	       : a.last_host > a.last_link			      ? a.last_host
								      : a.last_link;
	cut(a.hosts, last);
	cut(a.links, last);
	o = json_object_new_object();
	rpc_set_bool(o, "success", true);
	rpc_set_u64(o, "timestamp", last ? last : since);
	rpc_set_bool(o, "more", hosts_cut || links_cut);
	rpc_set(o, "hosts", a.hosts);
	rpc_set(o, "links", a.links);
	rpc_reply(call, o);
}

static const struct rpc_method methods[] = {
	{"startScan", {"networks"}, start_scan, RPC_AUTHORISED},
	{"pollCallStatus", {"callId"}, poll_status, RPC_AUTHORISED},
	{"getGraphSince", {"timestamp"}, get_graph, RPC_AUTHORISED},
};

int api_scan_register(struct rpc_server *rpc, struct api_scan_hooks *hooks)
{
	return rpc_server_add(rpc, methods, sizeof methods / sizeof *methods, hooks);
}
