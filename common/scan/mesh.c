/*
 * mesh: the overlay as nodemanager tells it to those who may ask: its nodes, with their addresses,
 * and its transports.  (Apps of type internet_gateway come from apptracker, through our node: see
 * subscriberd/discover.c.)
 *
 * The query's text: the results of listNodes and listAllTransports.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/id.h"
#include "base/map.h"
#include "io/config.h"
#include "io/hostlookup.h"
#include "io/jsonrpc.h"
#include "scan/exchange.h"
#include "scan/text.h"

#define NODES_MAX 65536u

static int mesh_probe(const struct scan_env *env, char *why)
{
	return scan_probe_address(env->cfg->mesh_manager_rpc, "nodemanager's RPC", why);
}

/* ---- parse ---- */

struct reader {
	const struct scan_sink *sink;
	struct map nodes; /* mesh_id -> struct net_host, ours */
};

static int take_node(struct reader *r, struct json_object *node)
{
	const char *text = text_json_str(node, "id");
	struct net_addr addr;
	struct net_host *h;
	struct mesh_id id;
	int rc;

	if (mesh_id_parse(&id, text) != 0 || map_get(&r->nodes, &id))
		return 0;
	h = calloc(1, sizeof *h);
	if (!h)
		return -ENOMEM;
	cstr_copy(h->name, sizeof h->name, text);
	cstr_print(h->how, sizeof h->how, "node");
	if (net_addr_parse(&addr, text_json_str(node, "addr"), 0) == 0 && scan_addr_usable(&addr))
		h->addr = addr;
	h->addr.port = 0;
	rc = map_put(&r->nodes, &id, h);
	if (rc) {
		free(h);
		return rc == -ENOSPC ? -E2BIG : rc;
	}
	return scan_put_host(r->sink, h);
}

static const struct net_host *node_at(const struct reader *r, struct json_object *o,
				      const char *key)
{
	struct mesh_id id;

	return mesh_id_parse(&id, text_json_str(o, key)) ? NULL : map_get(&r->nodes, &id);
}

static int take_transport(struct reader *r, struct json_object *t)
{
	const struct net_host *a = node_at(r, t, "a"), *b = node_at(r, t, "b");

	if (!a || !b || strcasecmp(text_json_str(t, "status"), "connected") != 0)
		return 0;
	return scan_put_link(r->sink, a, b, text_json_u32(t, "cost"));
}

static int each(struct reader *r, struct json_object *list,
		int (*take)(struct reader *r, struct json_object *o))
{
	int rc = 0;

	for (size_t i = 0; list && !rc && i < json_object_array_length(list); i++)
		rc = take(r, json_object_array_get_idx(list, i));
	return rc;
}

static int mesh_parse(const uint8_t *data, size_t len, const struct scan_sink *sink)
{
	struct bytes rest = bytes_of(data, len);
	struct reader r = {.sink = sink};
	bool bad = false;
	struct json_object *nodes = text_json(&rest, &bad), *transports = text_json(&rest, &bad),
			   *list = text_json_get(nodes, "nodes", json_type_array);
	struct net_host *h;
	size_t it = 0;
	int rc;

	map_init(&r.nodes, sizeof(struct mesh_id), NODES_MAX, len);
	rc = !list || bad ? -EBADMSG : each(&r, list, take_node);
	if (!rc)
		rc = each(&r, text_json_get(transports, "transports", json_type_array),
			  take_transport);
	while ((h = map_next(&r.nodes, &it)))
		free(h);
	map_free(&r.nodes);
	json_object_put(nodes);
	json_object_put(transports);
	return rc;
}

/* ---- query ---- */

struct mesh_request {
	struct event_base *base;
	const struct config *cfg;
	uint64_t timeout_us;
	struct host_lookup *lookup; /* under way */
	struct net_addr addrs[HOST_LOOKUP_ADDRS_MAX];
	unsigned at, count;
	struct rpc_client *call;
	struct json_object *nodes;
	scan_answer_cb *cb;
	void *arg;
};

static void mesh_query_cancel(void *request)
{
	struct mesh_request *q = request;

	if (!q)
		return;
	host_lookup_cancel(q->lookup);
	if (q->call)
		rpc_client_cancel(q->call);
	json_object_put(q->nodes);
	free(q);
}

static void on_answer(const struct rpc_answer *answer, void *arg);

static bool ask(struct mesh_request *q, const char *method)
{
	char ip[NET_ADDR_TEXT];
	struct rpc_target to = {.host = net_addr_ip_text(&q->addrs[q->at], ip),
				.port = q->addrs[q->at].port,
				.token = q->cfg->mesh_manager_token,
				.timeout_us = q->timeout_us};

	q->call = rpc_client_call(q->base, &to, method, NULL, on_answer, q);
	return q->call != NULL;
}

static void finish(struct mesh_request *q, const struct rpc_answer *answer)
{
	struct json_object *both[] = {q->nodes, answer->result};
	char *text = NULL;
	size_t len = 0;
	FILE *out = answer->outcome == RPC_OUTCOME_RESULT ? open_memstream(&text, &len) : NULL;

	if (out) {
		for (int i = 0; i < 2; i++)
			fprintf(out, "%s\n",
				json_object_to_json_string_ext(both[i], JSON_C_TO_STRING_PLAIN));
		fclose(out);
	}
	q->cb(text ? 0 : -EIO, text ? "" : answer->text, (const uint8_t *)text, len, q->arg);
	free(text);
	mesh_query_cancel(q);
}

static void ask_or_finish(struct mesh_request *q, const char *method)
{
	if (!ask(q, method))
		finish(q,
		       &(struct rpc_answer){.outcome = RPC_OUTCOME_DOWN, .text = "out of memory"});
}

static void on_answer(const struct rpc_answer *answer, void *arg)
{
	struct mesh_request *q = arg;

	q->call = NULL;
	/* A name may have addresses where nobody answers. */
	if (answer->outcome == RPC_OUTCOME_DOWN && !q->nodes && q->at + 1 < q->count) {
		q->at++;
		ask_or_finish(q, "listNodes");
		return;
	}
	if (answer->outcome != RPC_OUTCOME_RESULT || q->nodes) {
		finish(q, answer);
		return;
	}
	q->nodes = json_object_get(answer->result);
	ask_or_finish(q, "listAllTransports");
}

static void on_lookup(void *arg, const struct net_addr *addrs, unsigned count, const char *why)
{
	struct rpc_answer none = {.outcome = RPC_OUTCOME_DOWN};
	struct mesh_request *q = arg;

	q->lookup = NULL;
	memcpy(q->addrs, addrs, count * sizeof *addrs);
	q->count = count;
	if (count) {
		ask_or_finish(q, "listNodes");
		return;
	}
	snprintf(none.text, sizeof none.text, "the name cannot be resolved: %s", why);
	finish(q, &none);
}

/* 0: the answer will come. */
static int begin(struct mesh_request *q)
{
	const char *manager = q->cfg->mesh_manager_rpc;
	char name[NET_NAME_TEXT];
	uint16_t port;

	if (net_addr_parse(&q->addrs[0], manager, 0) == 0) {
		q->count = 1;
		return ask(q, "listNodes") ? 0 : -ENOMEM;
	}
	return net_name_parse(name, &port, manager)
		       ? -EINVAL
		       : host_lookup_new(&q->lookup, q->base, name, port, on_lookup, q);
}

static int mesh_query(void **request, const struct scan_env *env, const struct net_host *host,
		      scan_answer_cb *cb, void *arg)
{
	struct mesh_request *q;
	int rc;

	if (host)
		return -ENOTSUP;
	q = calloc(1, sizeof *q);
	if (!q)
		return -ENOMEM;
	*q = (struct mesh_request){.base = env->base,
				   .cfg = env->cfg,
				   .timeout_us = env->timeout_us,
				   .cb = cb,
				   .arg = arg};
	rc = begin(q);
	if (rc) {
		free(q);
		return rc;
	}
	*request = q;
	return 0;
}

const struct scan_module scan_mesh = {
	.name = "mesh",
	.probe = mesh_probe,
	.parse = mesh_parse,
	.query = mesh_query,
	.query_cancel = mesh_query_cancel,
};
