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
	static const char states[][9] = {"", "asked", "answered", "failed"};
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
	const char *networks = rpc_param_str(params, "networks", "");
	char call_id[DISCOVER_CALL_ID_MAX], why[WALK_WHY_MAX];
	struct discover_status s;

	if (discover_scan(h->discover, *networks ? networks : NULL, call_id, why)) {
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
	const char *call_id = rpc_param_str(params, "callId", NULL);
	struct discover_status s;

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
	uint64_t since = rpc_param_u64(params, "timestamp", 0), last;

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

static const char shapes[] = "network How one network module fared.\n"
			     "name text\n"
			     "state =absent,asked,answered,failed\n"
			     "why text\n"
			     "\n"
			     "found A gateway of the walk.\n"
			     "address text IP:PORT\n"
			     "name text\n"
			     "own bool whether it is this host\n"
			     "networks text\n"
			     "from text|null the host that it was found by\n"
			     "depth uint hosts between us and it\n"
			     "\n"
			     "scan How far a scan is.\n"
			     "success bool\n"
			     "callId text what pollCallStatus takes\n"
			     "done bool\n"
			     "enough bool whether it stopped for having found enough\n"
			     "startedAt uint seconds since 1970\n"
			     "finishedAt uint seconds since 1970; 0: not yet\n"
			     "hosts uint\n"
			     "links uint\n"
			     "asked uint hosts that were asked for nodeInfo\n"
			     "waiting uint\n"
			     "answered uint\n"
			     "gateways uint\n"
			     "ignored uint\n"
			     "networks @network[]\n"
			     "found? @found[] with pollCallStatus: the gateways\n"
			     "\n"
			     "graph_gateway The gateway of a host.\n"
			     "address text IP:PORT\n"
			     "name text\n"
			     "\n"
			     "graph_host A host that was seen.\n"
			     "key text\n"
			     "address text|null\n"
			     "name text\n"
			     "networks text\n"
			     "how text\n"
			     "from text the host that it was found by\n"
			     "depth uint hosts between us and it\n"
			     "gone bool\n"
			     "answer text what it said to nodeInfo\n"
			     "firstSeen uint seconds since 1970\n"
			     "lastSeen uint seconds since 1970\n"
			     "askedAt uint seconds since 1970\n"
			     "gateway? @graph_gateway\n"
			     "stamp uint\n"
			     "\n"
			     "graph_link A link that was seen.\n"
			     "a text the key of one host\n"
			     "b text\n"
			     "network text\n"
			     "cost uint\n"
			     "gone bool\n"
			     "firstSeen uint seconds since 1970\n"
			     "lastSeen uint seconds since 1970\n"
			     "stamp uint\n"
			     "\n";

#define NETWORKS "text(" RPC_NUM(API_NETWORKS_MAX) ") "
#define CALL_ID "text(" RPC_NUM(DISCOVER_CALL_ID_MAX) ") "
#define STAMP "uint(0..9223372036854775807) "

static const struct rpc_method methods[] = {
	{.name = "startScan",
	 .handler = start_scan,
	 .access = RPC_AUTHORISED,
	 .text = "Looks for gateways; pollCallStatus tells how it goes.",
	 .params = "networks? " NETWORKS "kernel, babel, ...; none: all\n",
	 .result = "@scan"},
	{.name = "pollCallStatus",
	 .handler = poll_status,
	 .access = RPC_AUTHORISED,
	 .text = "How far a scan or an order to connect is.",
	 .params = "callId? " CALL_ID "none: the last scan\n",
	 .result = "@scan|@order",
	 .fails = "no such call is remembered"},
	{.name = "getGraphSince",
	 .handler = get_graph,
	 .access = RPC_AUTHORISED,
	 .text = "Hosts and links that are new or changed.",
	 .params = "timestamp? " STAMP "of the last answer; none: from the beginning\n",
	 .result = "success bool\n"
		   "timestamp uint for the next call\n"
		   "more bool whether to ask again at once\n"
		   "hosts @graph_host[]\n"
		   "links @graph_link[]\n"},
};

int api_scan_register(struct rpc_server *rpc, struct api_scan_hooks *hooks)
{
	int err = rpc_server_shapes(rpc, shapes);
	return err ? err : rpc_server_add(rpc, methods, sizeof methods / sizeof *methods, hooks);
}
