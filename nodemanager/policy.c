/* What operators say about links and nodes, over what is measured.  The store has it. */
#include "nodemanager/state.h"

#include <errno.h>

static struct nm_link *link_of(const struct nm *nm, const struct mesh_id *a,
			       const struct mesh_id *b)
{
	const struct nm_node *na = nm_node_by_id(nm, a), *nb = nm_node_by_id(nm, b);
	return na && nb ? nm_link_find(na, nb) : NULL;
}

int nm_load_link_options(struct nm *nm, const struct mesh_id *a, const struct mesh_id *b,
			 const struct nm_link_options *options)
{
	struct nm_link *link = link_of(nm, a, b);
	if (!link || options->cost > NM_LINK_COST_MAX || options->upkeep > NM_UPKEEP_FAR)
		return -EINVAL;
	link->options = *options;
	return 0;
}

int nm_set_link_cost(struct nm *nm, const struct mesh_id *a, const struct mesh_id *b, uint32_t cost,
		     uint64_t now)
{
	struct nm_link *link = link_of(nm, a, b);
	(void)now;
	if (cost > NM_LINK_COST_MAX)
		return -EINVAL;
	if (!link)
		return -ENOENT;
	link->options.cost = cost;
	if (nm->ops->link_options)
		nm->ops->link_options(nm->ctx, a, b, &link->options);
	if (link->transport)
		nm_transport_cost_update(nm, link->transport);
	return 0;
}

/* The paths that go through the node. */
static void paths_leave(struct nm *nm, const struct nm_node *node)
{
	const struct nm_rule *r;
	LIST_FOREACH(r, &node->rules, of_node) {
		if (r->path->ends[0] != node && r->path->ends[1] != node && r->path->ops->dearer)
			r->path->ops->dearer(nm, r->path);
	}
}

int nm_set_transit(struct nm *nm, const struct mesh_id *id, bool transit, uint64_t now)
{
	struct nm_node *node = nm_node_by_id(nm, id);
	if (!node)
		return -ENOENT;
	if (node->no_transit == !transit)
		return 0;
	node->no_transit = !transit;
	graph_node_set_transit(nm->graph, node->vertex, transit);
	nm_node_save(nm, node);
	if (!transit) {
		paths_leave(nm, node);
		return 0;
	}
	nm_conns_retry(nm, now);
	nm_review_all(nm);
	return 0;
}
