/* What RPC shows of the engine's tables. */
#include "nodemanager/disjoint.h"
#include "nodemanager/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct nm_node_info node_info(const struct nm *nm, const struct nm_node *node)
{
	const struct nm_end *e;
	struct nm_node_info info = {
		.number = node->number,
		.id = node->id,
		.name = node->name,
		.addr = node->remote,
		.connected = node->session,
		.transit = node->transit,
		.revoked = nm_is_revoked(nm, &node->id),
		.admitted = node->admitted,
		.role = nm_role_of(nm, node),
		.role_given = node->role != ROLE_DEFAULT,
		.over_limit = node->over_limit.count,
		.strays = node->strays.count,
		.apps = node->app_count,
		.connections = node->conn_count,
	};
	LIST_FOREACH(e, &node->ends, of_node) {
		info.transports += e->transport->status == NM_TRANSPORT_CONNECTED;
	}
	return info;
}

/* A decimal number that the list has; 0: it is none. */
static const struct nm_node *by_number(const struct nm *nm, const char *text)
{
	char *end;
	const struct nm_node *node;
	if (text[0] < '0' || text[0] > '9')
		return NULL;
	unsigned long long number = strtoull(text, &end, 10);
	if (*end || number > UINT32_MAX)
		return NULL;
	TAILQ_FOREACH(node, &nm->node_list, all) {
		if (node->number == number)
			return node;
	}
	return NULL;
}

static int by_short_id(const struct nm *nm, const char *text, const struct nm_node **found)
{
	uint8_t head[(MESH_ID_SHORT - 1) / 2];
	const struct nm_node *node;
	if (hex_decode(text, head, sizeof head))
		return -ENOENT;
	TAILQ_FOREACH(node, &nm->node_list, all) {
		if (memcmp(node->id.b, head, sizeof head) != 0)
			continue;
		if (*found)
			return -EEXIST;
		*found = node;
	}
	return *found ? 0 : -ENOENT;
}

int nm_node_find(const struct nm *nm, const char *text, struct mesh_id *id)
{
	uint8_t key[NM_TEXT_KEY_BYTES];
	struct mesh_id whole;
	const struct nm_node *node = by_number(nm, text);
	if (!node) {
		nm_text_key(key, text);
		node = map_get(&nm->names, key);
	}
	if (!node && mesh_id_parse(&whole, text) == 0)
		node = nm_node_by_id(nm, &whole);
	if (!node && strlen(text) == MESH_ID_SHORT - 1) {
		int err = by_short_id(nm, text, &node);
		if (err)
			return err;
	}
	if (!node)
		return -ENOENT;
	*id = node->id;
	return 0;
}

int nm_node_get(const struct nm *nm, const struct mesh_id *id, struct nm_node_info *info)
{
	const struct nm_node *node = nm_node_by_id(nm, id);
	if (!node)
		return -ENOENT;
	*info = node_info(nm, node);
	return 0;
}

/* Is this one, the next of all, to be shown? */
static bool in_window(struct nm_window window, size_t at)
{
	return at >= window.offset && at - window.offset < window.limit;
}

size_t nm_nodes_each(const struct nm *nm, struct nm_window window,
		     void (*each)(void *arg, const struct nm_node_info *), void *arg)
{
	const struct nm_node *node;
	size_t at = 0;
	TAILQ_FOREACH(node, &nm->node_list, all) {
		if (!in_window(window, at++))
			continue;
		struct nm_node_info info = node_info(nm, node);
		each(arg, &info);
	}
	return at;
}

static struct nm_transport_info transport_info(const struct nm *nm, const struct nm_transport *t)
{
	return (struct nm_transport_info){
		.id = t->id,
		.status = t->status,
		.suspect = t->end[0].suspect || t->end[1].suspect,
		.a = t->end[0].node->id,
		.b = t->end[1].node->id,
		.a_name = t->end[0].node->name,
		.b_name = t->end[1].node->name,
		.a_port = t->end[0].port,
		.b_port = t->end[1].port,
		.rtt_us = t->meter.rtt_us,
		.loss_ppm = t->meter.loss_ppm,
		.queue_bytes = cost_meter_queue(&t->meter),
		.capacity_bps = t->meter.capacity_bps,
		.set_cost = t->link->options.cost,
		.upkeep = t->link->options.upkeep,
		.cost = t->edge == GRAPH_NONE ? 0 : graph_edge_cost(nm->graph, t->edge),
		.rate_bps = t->rate_bps,
		.tx_bytes = t->tx_bytes,
		.rx_bytes = t->rx_bytes,
		.retransmits = t->retransmits,
	};
}

size_t nm_transports_each(const struct nm *nm, const struct mesh_id *id, struct nm_window window,
			  void (*each)(void *arg, const struct nm_transport_info *), void *arg)
{
	const struct nm_node *node = id ? nm_node_by_id(nm, id) : NULL;
	const struct nm_transport *t;
	size_t at = 0;
	if (id && !node)
		return 0;
	TAILQ_FOREACH(t, &nm->transport_list, all) {
		if (node && t->end[0].node != node && t->end[1].node != node)
			continue;
		if (!in_window(window, at++))
			continue;
		struct nm_transport_info info = transport_info(nm, t);
		each(arg, &info);
	}
	return at;
}

size_t nm_rules_each(const struct nm *nm, const struct mesh_id *id, struct nm_window window,
		     void (*each)(void *arg, const struct nm_rule_info *), void *arg)
{
	const struct nm_node *node = nm_node_by_id(nm, id);
	const struct nm_rule *r;
	size_t at = 0;
	if (!node)
		return 0;
	LIST_FOREACH(r, &node->rules, of_node) {
		if (!in_window(window, at++))
			continue;
		struct nm_rule_info info = {r->in_transport,  r->in_route,
					    r->out_transport, r->out_route,
					    r->path->number,  nm_path_is_standby(r->path)};
		each(arg, &info);
	}
	return at;
}

void nm_status_get(const struct nm *nm, struct nm_status *status)
{
	*status = (struct nm_status){
		.nodes = nm->nodes.count,
		.nodes_connected = nm->online_count,
		.links = nm->link_count,
		.transports = nm->transports.count,
		.transports_connected = nm->transports_up,
		.connections = nm->conns.count,
		.routes = nm->route_count,
		.apps = nm->app_count,
		.requests = nm->requests.count,
		.invites = nm->invite_count,
		.revoked = nm->revoked.count,
		.allowed = nm->allowed.count,
		.admission = nm->config.admission,
		.refused_revoked = nm->refused_revoked,
		.over_limit = nm->over_limit,
		.tracker = nm->tracker,
		.recovering = nm->recovering,
		.refused = nm->refused,
		.dropped = nm->dropped,
	};
	memcpy(status->events, nm->told, sizeof status->events);
}

/* The ids along a path, ends included; -ENOSPC. */
static long path_ids(const struct nm *nm, const struct nm_node *from, const struct graph_path *path,
		     struct mesh_id *nodes, size_t max)
{
	if (path->count + 1 > max)
		return -ENOSPC;
	nodes[0] = from->id;
	for (size_t i = 0; i < path->count; i++) {
		const struct nm_transport *t = nm_transport_by_id(nm, path->hops[i].tag);
		const struct nm_node *end = t->end[0].node;
		nodes[i + 1] = mesh_id_equal(&end->id, &nodes[i]) ? t->end[1].node->id : end->id;
	}
	return (long)path->count + 1;
}

long nm_find_route(struct nm *nm, const struct mesh_id *a, const struct mesh_id *b,
		   struct mesh_id *nodes, size_t max, uint64_t *cost)
{
	const struct nm_node *from = nm_node_by_id(nm, a), *to = nm_node_by_id(nm, b);
	if (!from || !to)
		return -ENOENT;
	int err = graph_find(nm->graph, from->vertex, to->vertex, &nm->found);
	if (err)
		return err;
	*cost = nm->found.cost;
	return path_ids(nm, from, &nm->found, nodes, max);
}

long nm_find_routes(struct nm *nm, const struct mesh_id *a, const struct mesh_id *b, size_t count,
		    void (*each)(void *arg, const struct mesh_id *nodes, size_t node_count,
				 uint64_t cost),
		    void *arg, bool *by_links, bool *complete)
{
	const struct nm_node *from = nm_node_by_id(nm, a), *to = nm_node_by_id(nm, b);
	struct graph_path paths[2][NM_ROUTES_ASKED_MAX] = {0};
	struct mesh_id nodes[NM_HOPS_MAX + 1];
	size_t found[2] = {0}, work = NM_ROUTES_WORK_MAX;
	if (!from || !to)
		return -ENOENT;
	int err = graph_find_disjoint(nm->graph, from->vertex, to->vertex, DISJOINT_NODES, count,
				      &work, paths[0], &found[0]);
	if (!err && found[0] < count && work)
		err = graph_find_disjoint(nm->graph, from->vertex, to->vertex, DISJOINT_EDGES,
					  count, &work, paths[1], &found[1]);
	*complete = work || found[0] == count;
	*by_links = found[1] > found[0];
	for (size_t i = 0; !err && i < found[*by_links]; i++) {
		const struct graph_path *path = &paths[*by_links][i];
		long n = path_ids(nm, from, path, nodes, NM_HOPS_MAX + 1);
		if (n > 0)
			each(arg, nodes, (size_t)n, path->cost);
	}
	for (size_t i = 0; i < NM_ROUTES_ASKED_MAX; i++) {
		graph_path_free(&paths[0][i]);
		graph_path_free(&paths[1][i]);
	}
	return err ? err : (long)found[*by_links];
}
