/*
 * Standby paths: for each connection a second path that shares no node with the first but the ends,
 * or else as little as may be, with its rules in place and known to both ends, who go over to it by
 * themselves.  It is made a little after the connection, so that short ones cost nothing, and never
 * outlives the path that it stands by for.  A manager that has been started anew has the ends
 * forget what the last one made.
 */
#include "nodemanager/state.h"

#include <errno.h>

/* More than any sound link; a path of shared ones is still below suspect. */
#define SHARED_COST (1u << 23)
_Static_assert((uint64_t)SHARED_COST *NM_HOPS_MAX < NM_COST_SUSPECT, "a path seems suspect");

static const struct nm_path_owner standby_path;

bool nm_path_is_standby(const struct nm_path *path)
{
	return path->ops == &standby_path;
}

static void tell(struct nm *nm, const struct nm_conn *c, const struct nm_path *path)
{
	struct msg m = {.type = MSG_StandbyRoute};
	m.standby_route.connection = c->id;
	m.standby_route.path = c->path_number;
	for (unsigned i = 0; i < 2; i++) {
		if (path) {
			m.standby_route.out_transport = path->out_transport[i];
			m.standby_route.out_route = path->out_route[i];
			m.standby_route.in_transport = path->in_transport[i];
			m.standby_route.in_route = path->in_route[i];
		}
		nm_node_send(nm, c->end[i].node, &m);
	}
}

static void look_at(struct nm_conn *c, uint64_t at)
{
	timerq_set(&c->nm->timers, &c->standby_timer, at); /* out of memory: it does without */
}

static void look_again(struct nm_conn *c, uint64_t now, uint64_t in)
{
	look_at(c, now + in + nm_random_u64(c->nm) % NM_STANDBY_SPREAD_US);
}

void nm_standby_want(struct nm_conn *c, uint64_t now)
{
	if (c->nm->config.standby_paths && !c->local && !c->standby)
		look_again(c, now, NM_STANDBY_DELAY_US);
}

void nm_standby_drop(struct nm *nm, struct nm_conn *c)
{
	struct nm_path *path = c->standby;
	c->standby = NULL;
	c->standby_ready = c->standby_used = false;
	if (path)
		nm_path_remove(nm, path);
}

/* The ends first: they must not go over to what is about to vanish. */
void nm_standby_renew(struct nm *nm, struct nm_conn *c, uint64_t now)
{
	if (!nm->config.standby_paths && !c->standby)
		return;
	tell(nm, c, NULL);
	nm_standby_drop(nm, c);
	nm_standby_want(c, now);
}

/* A doubt about one of the ends speaks against no path more than against another. */
static bool could_carry(const struct nm_path *path)
{
	if (path->broken || nm_path_is_suspect(path) || nm_path_is_banned(path))
		return false;
	for (size_t i = 0; i < path->rule_count; i++) {
		const struct nm_node *node = path->rules[i].node;
		if (!node || (node->doubted && node != path->ends[0] && node != path->ends[1]))
			return false;
	}
	for (size_t i = 0; i < path->hop_count; i++) {
		const struct nm_transport *t = path->hops[i].transport;
		if (t->edge == GRAPH_NONE || t->link->retire_us) /* about to be broken, or to go */
			return false;
	}
	return true;
}

struct nm_path *nm_standby_take(struct nm *nm, struct nm_conn *c)
{
	struct nm_path *path = c->standby;
	if (!path || !c->standby_ready || !could_carry(path))
		return NULL;
	c->standby = NULL;
	c->standby_ready = c->standby_used = false;
	timerq_cancel(&nm->timers, &c->standby_timer);
	return path;
}

/* --- the path --------------------------------------------------------------------------------- */

static void installed(struct nm *nm, struct nm_path *path, uint64_t now)
{
	struct nm_conn *c = path->owner;
	(void)now;
	c->standby_ready = true;
	tell(nm, c, path);
}

static void failed(struct nm *nm, struct nm_path *path, const struct nm_reply *why, uint64_t now)
{
	struct nm_conn *c = path->owner;
	(void)why;
	nm_standby_drop(nm, c);
	look_again(c, now, NM_STANDBY_RETRY_US);
}

static void broken(struct nm *nm, struct nm_path *path, uint64_t now)
{
	nm_standby_renew(nm, path->owner, now);
}

static void dearer(struct nm *nm, struct nm_path *path)
{
	(void)nm;
	look_at(path->owner, 0);
}

static const struct nm_path_owner standby_path = {
	.installed = installed,
	.failed = failed,
	.broken = broken,
	.leave = broken,
	.dearer = dearer,
};

/* For the search that follows: the nodes in the middle of the path are none for others. */
static void nodes_shun(struct nm *nm, const struct nm_path *path, bool shunned)
{
	for (size_t i = 0; i < path->rule_count; i++) {
		const struct nm_node *node = path->rules[i].node;
		if (node && node != path->ends[0] && node != path->ends[1])
			graph_node_set_transit(nm->graph, node->vertex, !shunned && node->transit);
	}
}

/* And its links are the last choice; `costs` is what they cost, for links_restore. */
static void links_shun(struct nm *nm, const struct nm_path *path, uint32_t costs[NM_HOPS_MAX])
{
	for (size_t i = 0; i < path->hop_count; i++) {
		uint32_t edge = path->hops[i].transport->edge;
		costs[i] = graph_edge_cost(nm->graph, edge);
		graph_edge_set_cost(nm->graph, edge, costs[i] + SHARED_COST);
	}
}

static void links_restore(struct nm *nm, const struct nm_path *path,
			  const uint32_t costs[NM_HOPS_MAX])
{
	for (size_t i = 0; i < path->hop_count; i++)
		graph_edge_set_cost(nm->graph, path->hops[i].transport->edge, costs[i]);
}

static bool has_link(const struct nm_path *path, uint32_t transport)
{
	for (size_t i = 0; i < path->hop_count; i++)
		if (path->hops[i].transport->id == transport)
			return true;
	return false;
}

/* Does what has been found leave the path anywhere? */
static bool found_differs(const struct nm *nm, const struct nm_path *path)
{
	for (size_t i = 0; i < nm->found.count; i++)
		if (!has_link(path, nm->found.hops[i].tag))
			return true;
	return false;
}

static int find_now(struct nm *nm, struct nm_conn *c, uint64_t now)
{
	struct nm_node *from = c->end[0].node, *to = c->end[1].node;
	uint64_t best = nm_path_best(nm, c->id, from, to);
	if (best >= NM_COST_SUSPECT || !found_differs(nm, c->path))
		return -ENETUNREACH;
	return nm_path_find(nm, c->id, from, to, NM_COST_SUSPECT - 1, &standby_path, c, &c->standby,
			    now);
}

/* No node in common but the ends; otherwise as few links as may be. */
static int find(struct nm *nm, struct nm_conn *c, uint64_t now)
{
	uint32_t costs[NM_HOPS_MAX] = {0};
	links_shun(nm, c->path, costs);
	nodes_shun(nm, c->path, true);
	int err = find_now(nm, c, now);
	nodes_shun(nm, c->path, false);
	if (err == -ENETUNREACH)
		err = find_now(nm, c, now);
	links_restore(nm, c->path, costs);
	return err;
}

/* Each costs a search: so many in a second. */
static bool may_search(struct nm *nm, uint64_t now)
{
	if (now / 1000000 != nm->standby_second) {
		nm->standby_second = now / 1000000;
		nm->standby_count = 0;
	}
	return nm->standby_count++ < NM_STANDBYS_PER_SECOND;
}

static void due(struct timer *timer, uint64_t now)
{
	struct nm_conn *c = timer->owner;
	struct nm *nm = c->nm;
	/* Otherwise it is looked at when it is on a path again, or its end has reported. */
	if (!c->established || !nm_conn_can_move(c))
		return;
	if (c->standby_used) {
		c->standby_used = false;
		nm_conn_reroute(nm, c, now);
	} else if (c->standby) {
		if (nm_path_is_banned(c->standby))
			nm_standby_renew(nm, c, now);
	} else if (!nm->config.standby_paths) {
		return;
	} else if (!may_search(nm, now)) {
		look_again(c, now, NM_STANDBY_SPREAD_US);
	} else if (find(nm, c, now)) {
		look_again(c, now, NM_STANDBY_RETRY_US);
	}
}

void nm_standby_init(struct nm_conn *c)
{
	timer_init(&c->standby_timer, due, c);
}

/* --- what the ends say ------------------------------------------------------------------------ */

static bool begins(const struct nm_path *path, unsigned side, uint32_t transport, uint32_t route)
{
	return path && path->out_transport[side] == transport && path->out_route[side] == route;
}

void nm_standby_reported(struct nm *nm, struct nm_conn *c, unsigned side, uint32_t out_transport,
			 uint32_t out_route, uint64_t now)
{
	if (begins(c->standby, side, out_transport, out_route)) {
		c->standby_used = true;
		look_at(c, now);
	} else {
		nm_standby_renew(nm, c, now);
	}
}

void nm_route_switched(struct nm *nm, struct nm_node *node, const struct msg_route_switched *m,
		       uint64_t now)
{
	struct nm_conn *c = map_get(&nm->conns, &m->connection);
	unsigned side = c && c->end[0].node == node ? 0 : 1;
	if (!c || c->local || c->end[side].node != node) {
		log_debug("RouteSwitched for unknown connection %016llx",
			  (unsigned long long)m->connection);
		return;
	}
	/* The word of it may have come by another way, and then all is said. */
	if (begins(c->path, side, m->out_transport, m->out_route) ||
	    begins(c->next, side, m->out_transport, m->out_route))
		return;
	if (now - c->switched_us < NM_SWITCH_US)
		return;
	c->switched_us = now;
	nm_conn_reroute(nm, c, now);
}
