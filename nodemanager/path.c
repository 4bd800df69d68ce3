/*
 * Rules along a path.  Forward labels F and backward labels B, one of each per transport T:
 *
 *   node 0:      (0, id) -> (T0, F0)            (T0, B0) -> (0, number)
 *   node i:      (Ti-1, Fi-1) -> (Ti, Fi)       (Ti, Bi) -> (Ti-1, Bi-1)
 *   last node:   (Tn-1, Fn-1) -> (0, number)    (0, id) -> (Tn-1, Bn-1)
 *
 * Labels come from one counter, which restarts and wraps without meeting a label that is in use.
 */
#include "nodemanager/state.h"

#include <errno.h>
#include <stdlib.h>

struct label_key {
	uint32_t transport, label;
};

static uint32_t label_next(struct nm *nm, uint32_t transport)
{
	struct label_key key = {.transport = transport};
	do
		key.label = nm_counter_next(nm, NM_COUNTER_LABEL);
	while (map_get(&nm->labels, &key));
	return key.label;
}

/* The lower half is the connection's name at its ends; the upper one is random, so that nobody can
 * claim the connection of others after our restart. */
uint64_t nm_number_next(struct nm *nm)
{
	uint64_t number;
	do
		number = nm_random_u64(nm) << 32 | nm_counter_next(nm, NM_COUNTER_CONNECTION);
	while (map_get(&nm->conns, &number));
	return number;
}

static void rule_acked(struct nm *nm, void *owner, uint32_t arg, const struct nm_reply *reply,
		       uint64_t now)
{
	struct nm_path *path = owner;
	(void)arg;
	if (reply->code != CODE_OK)
		path->ops->failed(nm, path, reply, now);
	else if (--path->pending == 0)
		path->ops->installed(nm, path, now);
}

void nm_path_rule(struct nm *nm, struct nm_path *path, struct nm_node *node, struct nm_rule rule)
{
	struct nm_rule *r = &path->rules[path->rule_count++];
	struct label_key key = {rule.in_transport, rule.in_route};
	*r = rule;
	r->node = node;
	r->path = path;
	LIST_INSERT_HEAD(&node->rules, r, of_node);
	/* Without an entry the label is merely not protected when the counter has wrapped. */
	if (key.transport)
		map_put(&nm->labels, &key, r);
}

void nm_rule_forget(struct nm *nm, struct nm_rule *r)
{
	struct label_key key = {r->in_transport, r->in_route};
	if (map_get(&nm->labels, &key) == r)
		map_del(&nm->labels, &key);
	LIST_REMOVE(r, of_node);
	r->node = NULL;
}

static int rule_send(struct nm *nm, struct nm_path *path, struct nm_node *node, struct nm_rule rule,
		     uint64_t now)
{
	struct msg m = {.type = MSG_AddRoute};
	nm_path_rule(nm, path, node, rule);
	m.add_route = (struct msg_add_route){rule.in_transport, rule.in_route, rule.out_transport,
					     rule.out_route};
	path->pending++;
	return nm_request_send(nm, node, &m, &path->requests, rule_acked, path, 0, now);
}

/* What is being installed: nodes[0..n] with a transport and two labels between neighbours. */
struct way {
	struct nm_node *const *nodes;
	struct nm_transport *const *t;
	size_t n;
	uint32_t forward[NM_HOPS_MAX], backward[NM_HOPS_MAX];
};

/* Both rules of the node at place `i`. */
static int place_rules(struct nm *nm, struct nm_path *path, const struct way *w, size_t i,
		       uint64_t now)
{
	struct nm_rule forward = {0}, backward = {0};

	forward.in_transport = i ? w->t[i - 1]->id : 0;
	forward.in_route = i ? w->forward[i - 1] : label_next(nm, 0);
	forward.out_transport = i < w->n ? w->t[i]->id : 0;
	forward.out_route = i < w->n ? w->forward[i] : (uint32_t)path->number;
	backward.in_transport = i < w->n ? w->t[i]->id : 0;
	backward.in_route = i < w->n ? w->backward[i] : label_next(nm, 0);
	backward.out_transport = i ? w->t[i - 1]->id : 0;
	backward.out_route = i ? w->backward[i - 1] : (uint32_t)path->number;
	int err = rule_send(nm, path, w->nodes[i], forward, now);
	return err ? err : rule_send(nm, path, w->nodes[i], backward, now);
}

static void ends_fill(struct nm_path *path, const struct way *w)
{
	size_t last = w->n - 1;
	path->ends[0] = w->nodes[0];
	path->ends[1] = w->nodes[w->n];
	path->out_transport[0] = path->in_transport[0] = w->t[0]->id;
	path->out_transport[1] = path->in_transport[1] = w->t[last]->id;
	path->out_route[0] = w->forward[0];
	path->in_route[0] = w->backward[0];
	path->out_route[1] = w->backward[last];
	path->in_route[1] = w->forward[last];
}

struct nm_path *nm_path_adopt(uint64_t number, struct nm_transport *const *transports,
			      size_t hop_count, const struct nm_path_owner *ops, void *owner)
{
	struct nm_path *path = calloc(1, sizeof *path + hop_count * sizeof path->hops[0]);
	if (!path)
		return NULL;
	path->rules = calloc(2 * (hop_count + 1), sizeof *path->rules);
	if (!path->rules) {
		free(path);
		return NULL;
	}
	path->number = number;
	path->hop_count = hop_count;
	path->ops = ops;
	path->owner = owner;
	for (size_t i = 0; i < hop_count; i++) {
		path->hops[i].path = path;
		path->hops[i].transport = transports[i];
		LIST_INSERT_HEAD(&transports[i]->hops, &path->hops[i], of_transport);
	}
	return path;
}

struct nm_path *nm_path_install(struct nm *nm, uint64_t number, struct nm_node *const *nodes,
				struct nm_transport *const *transports, size_t hop_count,
				const struct nm_path_owner *ops, void *owner, uint64_t now)
{
	struct way w = {.nodes = nodes, .t = transports, .n = hop_count};
	if (!hop_count || hop_count > NM_HOPS_MAX)
		return NULL;
	struct nm_path *path = nm_path_adopt(number, transports, hop_count, ops, owner);
	if (!path)
		return NULL;
	for (size_t i = 0; i < hop_count; i++) {
		w.forward[i] = label_next(nm, transports[i]->id);
		w.backward[i] = label_next(nm, transports[i]->id);
	}
	ends_fill(path, &w);
	for (size_t i = 0; i <= hop_count; i++) {
		if (place_rules(nm, path, &w, i, now)) {
			nm_path_remove(nm, path);
			return NULL;
		}
	}
	return path;
}

/* Equals are chosen between by the number, so that paths spread and each stays where it is. */
static int search(struct nm *nm, uint64_t number, const struct nm_node *from,
		  const struct nm_node *to)
{
	return graph_find_spread(nm->graph, from->vertex, to->vertex, number, &nm->found);
}

uint64_t nm_path_best(struct nm *nm, uint64_t number, const struct nm_node *from,
		      const struct nm_node *to)
{
	return search(nm, number, from, to) ? NM_COST_ANY : nm->found.cost;
}

int nm_path_find(struct nm *nm, uint64_t number, struct nm_node *from, struct nm_node *to,
		 uint64_t cost_max, const struct nm_path_owner *ops, void *owner,
		 struct nm_path **path, uint64_t now)
{
	struct nm_node *nodes[NM_HOPS_MAX + 1] = {from};
	struct nm_transport *transports[NM_HOPS_MAX];
	int err = search(nm, number, from, to);
	if (err)
		return err;
	size_t count = nm->found.count;
	if (count == 0 || count > NM_HOPS_MAX || nm->found.cost > cost_max)
		return -ENETUNREACH;
	for (size_t i = 0; i < count; i++) {
		struct nm_transport *t = nm_transport_by_id(nm, nm->found.hops[i].tag);
		transports[i] = t;
		nodes[i + 1] = t->end[0].node == nodes[i] ? t->end[1].node : t->end[0].node;
	}
	*path = nm_path_install(nm, number, nodes, transports, count, ops, owner, now);
	return *path ? 0 : -ENOMEM;
}

static void hops_detach(struct nm_path *path)
{
	for (size_t i = 0; i < path->hop_count; i++) {
		if (path->hops[i].transport)
			LIST_REMOVE(&path->hops[i], of_transport);
		path->hops[i].transport = NULL;
	}
}

void nm_path_remove(struct nm *nm, struct nm_path *path)
{
	nm_request_drop(nm, &path->requests);
	hops_detach(path);
	for (size_t i = 0; i < path->rule_count; i++) {
		struct nm_rule *r = &path->rules[i];
		if (!r->node)
			continue;
		nm_tell_route_removed(nm, r->node, r->in_transport, r->in_route);
		nm_rule_forget(nm, r);
	}
	free(path->rules);
	free(path);
}

static void path_break(struct nm *nm, struct nm_path *path, uint64_t now)
{
	hops_detach(path);
	path->broken = true;
	path->ops->broken(nm, path, now);
}

void nm_path_break(struct nm *nm, struct nm_transport *t, uint64_t now)
{
	while (!LIST_EMPTY(&t->hops))
		path_break(nm, LIST_FIRST(&t->hops)->path, now);
}

static void told_again(struct nm *nm, void *owner, uint32_t arg, const struct nm_reply *reply,
		       uint64_t now)
{
	struct nm_path *path = owner;
	(void)arg;
	/* A channel that is lost once more ends in another report. */
	if (reply->code != CODE_OK && reply->code != CODE_LOST && !path->broken)
		path_break(nm, path, now);
}

void nm_path_rule_again(struct nm *nm, struct nm_rule *rule, uint64_t now)
{
	struct nm_path *path = rule->path;
	struct msg m = {.type = MSG_AddRoute};
	m.add_route = (struct msg_add_route){rule->in_transport, rule->in_route,
					     rule->out_transport, rule->out_route};
	if (nm_request_send(nm, rule->node, &m, &path->requests, told_again, path, 0, now))
		path_break(nm, path, now);
}

void nm_path_avoid(struct nm *nm, struct nm_transport *t, uint64_t now)
{
	struct nm_hop *hop = LIST_FIRST(&t->hops);
	while (hop) {
		struct nm_hop *next = LIST_NEXT(hop, of_transport);
		if (hop->path->ops->suspect)
			hop->path->ops->suspect(nm, hop->path, now);
		hop = next;
	}
}

bool nm_path_is_suspect(const struct nm_path *path)
{
	for (size_t i = 0; i < path->hop_count; i++) {
		const struct nm_transport *t = path->hops[i].transport;
		if (t && (t->end[0].suspect || t->end[1].suspect))
			return true;
	}
	return false;
}

bool nm_path_is_banned(const struct nm_path *path)
{
	for (size_t i = 0; i < path->rule_count; i++) {
		const struct nm_node *node = path->rules[i].node;
		if (node && node->no_transit && node != path->ends[0] && node != path->ends[1])
			return true;
	}
	return false;
}

uint64_t nm_path_cost(const struct nm *nm, const struct nm_path *path)
{
	uint64_t cost = 0;
	for (size_t i = 0; i < path->hop_count; i++) {
		const struct nm_transport *t = path->hops[i].transport;
		if (t && t->edge != GRAPH_NONE)
			cost += graph_edge_cost(nm->graph, t->edge);
	}
	return cost;
}
