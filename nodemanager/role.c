/*
 * What a node may do: forward for others (transit), and offer a way out of the mesh.  Nobody has to
 * believe a node for it: paths are made here and apps are listed from here.
 *
 * Transit is lost for one of several reasons, of which the role is one; nm_node_transit_update
 * looks at all of them.
 */
#include "nodemanager/state.h"

#include <errno.h>
#include <string.h>

static uint8_t role_of(const struct nm *nm, const struct nm_node *node)
{
	return node->role == ROLE_DEFAULT ? nm->config.default_role : node->role;
}

uint8_t nm_role_of(const struct nm *nm, const struct nm_node *node)
{
	return role_of(nm, node);
}

/* Whoever takes these carries what others have to say to the world, in the clear. */
static bool leads_out(const char *type)
{
	static const char *const types[] = {"internet_gateway", "socks_server", "vpn_server"};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (strcmp(type, types[i]) == 0)
			return true;
	return false;
}

bool nm_role_may_offer(const struct nm *nm, const struct nm_node *node, const char *type)
{
	return role_of(nm, node) >= ROLE_GATEWAY || !leads_out(type);
}

void nm_node_transit_update(struct nm *nm, struct nm_node *node, uint64_t now)
{
	bool transit = role_of(nm, node) >= ROLE_RELAY && !node->no_transit;
	if (node->transit == transit)
		return;
	node->transit = transit;
	graph_node_set_transit(nm->graph, node->vertex, transit);
	if (!transit) {
		nm_paths_leave(nm, node, now);
		return;
	}
	nm_conns_retry(nm, now);
	nm_standbys_retry(nm, now);
	nm_review_all(nm);
}

void nm_role_apply(struct nm *nm, struct nm_node *node, uint64_t now)
{
	nm_apps_review(nm, node);
	nm_node_transit_update(nm, node, now);
}

static void roles_due(struct timer *timer, uint64_t now)
{
	struct nm *nm = timer->owner;
	struct nm_node *node;
	TAILQ_FOREACH(node, &nm->node_list, all) {
		if (node->role == ROLE_DEFAULT)
			nm_role_apply(nm, node, now);
	}
}

void nm_roles_init(struct nm *nm)
{
	timer_init(&nm->roles, roles_due, nm);
}

/* The default may be another one now. */
void nm_roles_changed(struct nm *nm)
{
	if (timerq_set(&nm->timers, &nm->roles, 0))
		log_warn("out of memory: DefaultRole holds for new nodes only");
}

int nm_set_role(struct nm *nm, const struct mesh_id *id, uint8_t role, uint64_t now)
{
	char name[NAME_MAX_BYTES + 1];
	struct nm_node *node = nm_node_by_id(nm, id);
	if (role >= ROLES)
		return -EINVAL;
	if (!node)
		return -ENOENT;
	struct nm_node_record record = nm_node_record_of(node);
	record.role = role;
	if (nm->ops->node_admit && nm->ops->node_admit(nm->ctx, &record, NULL))
		return -EIO;
	node->role = role;
	log_info("node %s is a %s now", nm_node_text(node, name),
		 node_role_name(role_of(nm, node)));
	nm_role_apply(nm, node, now);
	return 0;
}
