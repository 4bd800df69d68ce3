/*
 * Standby paths: for each connection one or a few other paths that share no node with the first or
 * with each other but the ends, or else as little as may be, with their rules in place and known to
 * both ends, who go over to the first that lives by themselves.  They are made a little after the
 * connection, one after the other, so that short ones cost nothing.  When one of them becomes the
 * path the others go on standing by; when another path does, all end.  A manager that has been
 * started anew has the ends forget what the last one made.
 */
#include "nodemanager/state.h"

#include <errno.h>
#include <string.h>

/* More than any sound link; a path of shared ones is still below suspect. */
#define SHARED_COST (1u << 23)
_Static_assert((uint64_t)SHARED_COST *NM_HOPS_MAX < NM_COST_SUSPECT, "a path seems suspect");

static const struct nm_path_owner standby_path;

bool nm_path_is_standby(const struct nm_path *path)
{
	return path->ops == &standby_path;
}

/* NULL: they forget all that they know. */
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

static void tell_all(struct nm *nm, const struct nm_conn *c)
{
	for (size_t i = 0; i < c->standby_count; i++)
		if (c->standby[i].ready)
			tell(nm, c, c->standby[i].path);
}

static void look_at(struct nm_conn *c, uint64_t at)
{
	timerq_set(&c->nm->timers, &c->standby_timer, at); /* out of memory: it does without */
}

static void look_again(struct nm_conn *c, uint64_t now, uint64_t in)
{
	look_at(c, now + in + nm_random_u64(c->nm) % NM_STANDBY_SPREAD_US);
}

static void set_lacks(struct nm_conn *c, bool lacks)
{
	if (c->standby_lacks == lacks)
		return;
	c->standby_lacks = lacks;
	if (lacks) {
		TAILQ_INSERT_TAIL(&c->nm->lacking, c, lack);
		c->nm->lacking_count++;
	} else {
		TAILQ_REMOVE(&c->nm->lacking, c, lack);
		c->nm->lacking_count--;
	}
}

/* There is no way for one now. */
static void lack(struct nm_conn *c, uint64_t now)
{
	look_again(c, now, NM_STANDBY_RETRY_US);
	set_lacks(c, true);
}

static void want(struct nm_conn *c, uint64_t now)
{
	if (c->standby_count < c->nm->config.standby_paths && !c->local)
		look_again(c, now, NM_STANDBY_DELAY_US);
}

static size_t place_of(const struct nm_conn *c, const struct nm_path *path)
{
	size_t i = 0;
	while (i < c->standby_count && c->standby[i].path != path)
		i++;
	return i;
}

/* It is none of them any more. */
static void let_go(struct nm_conn *c, size_t at)
{
	if (c->standby_used == c->standby[at].path)
		c->standby_used = NULL;
	c->standby_count--;
	memmove(&c->standby[at], &c->standby[at + 1],
		(c->standby_count - at) * sizeof c->standby[0]);
}

static void remove_last(struct nm *nm, struct nm_conn *c)
{
	struct nm_path *path = c->standby[c->standby_count - 1].path;
	let_go(c, c->standby_count - 1);
	nm_path_remove(nm, path);
}

void nm_standby_drop(struct nm *nm, struct nm_conn *c)
{
	while (c->standby_count)
		remove_last(nm, c);
}

/* The ends first: they must not go over to what is about to vanish. */
void nm_standby_renew(struct nm *nm, struct nm_conn *c, uint64_t now)
{
	if (!nm->config.standby_paths && !c->standby_count)
		return;
	tell(nm, c, NULL);
	nm_standby_drop(nm, c);
	want(c, now);
}

/* The same for one of them. */
static void give_up(struct nm *nm, struct nm_conn *c, struct nm_path *path, uint64_t now)
{
	size_t at = place_of(c, path);
	bool ready = c->standby[at].ready;
	let_go(c, at);
	if (ready) {
		tell(nm, c, NULL);
		tell_all(nm, c);
	}
	nm_path_remove(nm, path);
	want(c, now);
}

void nm_standby_moved(struct nm *nm, struct nm_conn *c, uint64_t now)
{
	if (c->standbys_stay)
		tell_all(nm, c);
	else
		nm_standby_drop(nm, c);
	c->standbys_stay = c->left_path = false;
	want(c, now);
}

/* The ends are told before any rule goes. */
static void keep_only(struct nm *nm, struct nm_conn *c, size_t number)
{
	size_t count = c->standby_count;
	tell(nm, c, NULL);
	c->standby_count = number;
	tell_all(nm, c);
	c->standby_count = count;
	while (c->standby_count > number)
		remove_last(nm, c);
}

void nm_standby_number_changed(struct nm *nm)
{
	struct nm_conn *c;
	size_t number = nm->config.standby_paths;
	TAILQ_FOREACH(c, &nm->conn_list, all) {
		if (c->standby_count > number)
			keep_only(nm, c, number);
		else if (c->standby_count < number && !c->local)
			look_at(c, 0);
	}
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

static bool could_be_taken(const struct nm_conn *c, size_t at)
{
	return at < c->standby_count && c->standby[at].ready && could_carry(c->standby[at].path);
}

struct nm_path *nm_standby_take(struct nm *nm, struct nm_conn *c)
{
	size_t at = place_of(c, c->standby_used);
	if (!could_be_taken(c, at))
		for (at = 0; at < c->standby_count && !could_be_taken(c, at);)
			at++;
	c->standbys_stay = at < c->standby_count;
	if (!c->standbys_stay)
		return NULL;
	struct nm_path *path = c->standby[at].path;
	let_go(c, at);
	c->standby_used = NULL;
	timerq_cancel(&nm->timers, &c->standby_timer);
	set_lacks(c, false);
	return path;
}

/* --- the path --------------------------------------------------------------------------------- */

static void installed(struct nm *nm, struct nm_path *path, uint64_t now)
{
	struct nm_conn *c = path->owner;
	c->standby[place_of(c, path)].ready = true;
	tell(nm, c, path);
	want(c, now);
}

static void failed(struct nm *nm, struct nm_path *path, const struct nm_reply *why, uint64_t now)
{
	struct nm_conn *c = path->owner;
	(void)why;
	let_go(c, place_of(c, path));
	nm_path_remove(nm, path);
	lack(c, now);
}

static void broken(struct nm *nm, struct nm_path *path, uint64_t now)
{
	give_up(nm, path->owner, path, now);
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

/* The path, and its standbys. */
static const struct nm_path *path_at(const struct nm_conn *c, size_t i)
{
	return i ? c->standby[i - 1].path : c->path;
}

/* For the search that follows: the nodes in the middle of the path are none for others. */
static void nodes_shun(struct nm *nm, const struct nm_path *path, bool shunned)
{
	for (size_t i = 0; i < path->rule_count; i++) {
		const struct nm_node *node = path->rules[i].node;
		if (node && node != path->ends[0] && node != path->ends[1])
			graph_node_set_transit(nm->graph, node->vertex, !shunned && node->transit);
	}
}

/* And its links are the last choice, however many paths use them; `costs` is what they cost, for
 * links_restore. */
static void links_shun(struct nm *nm, const struct nm_path *path, uint32_t costs[NM_HOPS_MAX])
{
	for (size_t i = 0; i < path->hop_count; i++) {
		uint32_t edge = path->hops[i].transport->edge;
		costs[i] = graph_edge_cost(nm->graph, edge);
		if (costs[i] < SHARED_COST)
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
	struct nm_path **path = &c->standby[c->standby_count].path;
	if (nm_path_best(nm, c->id, from, to) >= NM_COST_SUSPECT)
		return -ENETUNREACH;
	for (size_t i = 0; i <= c->standby_count; i++)
		if (!found_differs(nm, path_at(c, i)))
			return -ENETUNREACH;
	int err =
		nm_path_find(nm, c->id, from, to, NM_COST_SUSPECT - 1, &standby_path, c, path, now);
	if (!err)
		c->standby[c->standby_count++].ready = false;
	return err;
}

/* No node in common but the ends; otherwise as few links as may be. */
static int find(struct nm *nm, struct nm_conn *c, uint64_t now)
{
	uint32_t costs[1 + STANDBY_ROUTES_MAX][NM_HOPS_MAX] = {{0}};
	size_t paths = 1 + c->standby_count;
	for (size_t i = 0; i < paths; i++) {
		links_shun(nm, path_at(c, i), costs[i]);
		nodes_shun(nm, path_at(c, i), true);
	}
	int err = find_now(nm, c, now);
	for (size_t i = 0; i < paths; i++)
		nodes_shun(nm, path_at(c, i), false);
	if (err == -ENETUNREACH)
		err = find_now(nm, c, now);
	for (size_t i = paths; i-- > 0;)
		links_restore(nm, path_at(c, i), costs[i]);
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

static bool one_is_coming(const struct nm_conn *c)
{
	return c->standby_count && !c->standby[c->standby_count - 1].ready;
}

static struct nm_path *banned(const struct nm_conn *c)
{
	for (size_t i = 0; i < c->standby_count; i++)
		if (nm_path_is_banned(c->standby[i].path))
			return c->standby[i].path;
	return NULL;
}

static void due(struct timer *timer, uint64_t now)
{
	struct nm_conn *c = timer->owner;
	struct nm *nm = c->nm;
	struct nm_path *path;
	set_lacks(c, false);
	/* Otherwise it is looked at when it is on a path again, or its end has reported. */
	if (!c->established || !nm_conn_can_move(c))
		return;
	if (c->standby_used || c->left_path) {
		c->left_path = false;
		nm_conn_reroute(nm, c, now);
		return;
	}
	while ((path = banned(c)))
		give_up(nm, c, path, now);
	if (c->standby_count >= nm->config.standby_paths || one_is_coming(c))
		return;
	if (!may_search(nm, now))
		look_again(c, now, NM_STANDBY_SPREAD_US);
	else if (find(nm, c, now))
		lack(c, now);
}

static void lacking_due(struct timer *timer, uint64_t now)
{
	struct nm *nm = timer->owner;
	struct nm_conn *c;
	for (size_t n = 0; nm->lacking_due && n < NM_STANDBY_LOOKS; n++) {
		nm->lacking_due--;
		if (!(c = TAILQ_FIRST(&nm->lacking)))
			break;
		set_lacks(c, false);
		look_again(c, now, 0);
	}
	nm->lacking_calm_us = now + NM_STANDBY_CALM_US;
	if (nm->lacking_due && nm->lacking_count)
		timerq_set(&nm->timers, timer, now + 1000000);
}

/* After a moment: a node that comes back brings more than one link. */
void nm_standbys_retry(struct nm *nm, uint64_t now)
{
	uint64_t at = now + NM_STANDBY_DELAY_US;
	nm->lacking_due = nm->lacking_count;
	if (!nm->lacking_count || nm->lacking_timer.index)
		return;
	timerq_set(&nm->timers, &nm->lacking_timer,
		   at < nm->lacking_calm_us ? nm->lacking_calm_us : at);
}

void nm_standbys_init(struct nm *nm)
{
	TAILQ_INIT(&nm->lacking);
	timer_init(&nm->lacking_timer, lacking_due, nm);
}

void nm_standbys_free(struct nm *nm)
{
	timerq_cancel(&nm->timers, &nm->lacking_timer);
}

void nm_standby_free(struct nm *nm, struct nm_conn *c)
{
	set_lacks(c, false);
	timerq_cancel(&nm->timers, &c->standby_timer);
	nm_standby_drop(nm, c);
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

static const struct nm_path *standby_that_begins(const struct nm_conn *c, unsigned side,
						 uint32_t transport, uint32_t route)
{
	for (size_t i = 0; i < c->standby_count; i++)
		if (begins(c->standby[i].path, side, transport, route))
			return c->standby[i].path;
	return NULL;
}

void nm_standby_reported(struct nm *nm, struct nm_conn *c, unsigned side, uint32_t out_transport,
			 uint32_t out_route, uint64_t now)
{
	const struct nm_path *used = standby_that_begins(c, side, out_transport, out_route);
	if (used)
		c->standby_used = used;
	/* What the other end has told is not undone by this one's being where it was. */
	if (c->standby_used || c->left_path)
		look_at(c, now);
	else
		nm_standby_renew(nm, c, now);
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
	c->standby_used = standby_that_begins(c, side, m->out_transport, m->out_route);
	/* While the other end is away it cannot be told: it will report. */
	c->left_path = !nm_conn_can_move(c);
	if (c->left_path)
		return;
	nm_conn_reroute(nm, c, now);
	c->standby_used = NULL;
}
