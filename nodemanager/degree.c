/*
 * Degree = N: the mesh keeps itself together.  Each node is given links until it has N to nodes
 * that are there: the first to anybody (far), so that neighbourhoods do not fall apart into
 * islands, the others to whoever is nearest by what the links there are have measured (near).  A
 * random node that cannot be reached is always worth a link.
 *
 * A link of ours is replaced when its far end has been gone for the grace period or when no
 * transport comes to be.  Where a node has far more than N for a while, the dearest of ours goes,
 * unless it is the only way: first the paths move off it.  Links that somebody asked for are
 * counted, and never touched.  All of it is bounded: so many nodes are looked at in a second, so
 * many links are made.
 */
#include "nodemanager/state.h"

#define TICK_US 1000000u
#define NODES_PER_TICK 64
#define LINKS_PER_TICK 32
#define DEAD_PER_TICK 512 /* links whose ends are looked at */
#define CHECKS_PER_TICK 8 /* whether the whole mesh can be reached */
#define SAMPLES 8	  /* candidates for one link */
#define FAIL_US 30000000u /* without a transport although both ends are there */
#define SURPLUS_US 60000000u
#define RETIRE_US 10000000u /* for paths to move off it */
#define CROWDED_COST 2000u  /* 20 ms: for each link that a candidate has too many */

struct round {
	size_t links, checks; /* still allowed */
};

static struct nm_node *far_end(const struct nm_link_end *e)
{
	return e->link->end[e == &e->link->end[0]].node;
}

static bool is_up(const struct nm_link *link)
{
	return link->transport && link->transport->status == NM_TRANSPORT_CONNECTED;
}

static bool counts(const struct nm_link_end *e)
{
	return far_end(e)->present && !e->link->retire_us;
}

static size_t degree_of(const struct nm_node *node)
{
	const struct nm_link_end *e;
	size_t n = 0;
	LIST_FOREACH(e, &node->links, of_node)
		n += counts(e);
	return n;
}

static bool has_far(const struct nm_node *node)
{
	const struct nm_link_end *e;
	LIST_FOREACH(e, &node->links, of_node) {
		if (counts(e) && e->link->options.upkeep == NM_UPKEEP_FAR)
			return true;
	}
	return false;
}

/* --- what goes -------------------------------------------------------------------------------- */

static bool is_gone(const struct nm *nm, const struct nm_node *node, uint64_t now)
{
	return !node->present && !node->recover && now - node->gone_us > nm->config.grace_us;
}

/* Both ends are there, and yet there is no transport. */
static bool has_failed(struct nm_link *link, uint64_t now)
{
	bool possible = link->end[0].node->session && link->end[1].node->session;
	if (is_up(link) || !possible)
		link->down_since = 0;
	else if (!link->down_since)
		link->down_since = now;
	return link->down_since && now - link->down_since > FAIL_US;
}

/* Some of the links, in turn. */
static void drop_dead(struct nm *nm, uint64_t now)
{
	for (size_t i = 0, n = nm->link_count; i < n && i < DEAD_PER_TICK; i++) {
		struct nm_link *link = TAILQ_FIRST(&nm->link_list);
		TAILQ_REMOVE(&nm->link_list, link, all);
		TAILQ_INSERT_TAIL(&nm->link_list, link, all);
		bool retired = link->retire_us && now >= link->retire_us;
		if (link->options.upkeep &&
		    (retired || is_gone(nm, link->end[0].node, now) ||
		     is_gone(nm, link->end[1].node, now) || has_failed(link, now)))
			nm_link_forget(nm, link, now);
	}
}

static void retire(struct nm *nm, struct nm_link *link, uint64_t now)
{
	struct nm_transport *t = link->transport;
	link->retire_us = now + RETIRE_US;
	nm_transport_cost_update(nm, t);
	/* With the link as dear as a suspect one: is there any other way? */
	if (nm_path_best(nm, 0, t->end[0].node, t->end[1].node) < NM_COST_SUSPECT) {
		nm_path_avoid(nm, t, now);
		return;
	}
	link->retire_us = 0;
	nm_transport_cost_update(nm, t);
}

static bool may_retire(const struct nm *nm, const struct nm_link_end *e)
{
	return e->link->options.upkeep && counts(e) && is_up(e->link) &&
	       degree_of(far_end(e)) > nm->config.degree;
}

static uint32_t cost_of(const struct nm *nm, const struct nm_link *link)
{
	return graph_edge_cost(nm->graph, link->transport->edge);
}

static void drop_surplus(struct nm *nm, struct nm_node *node, uint64_t now)
{
	struct nm_link_end *e;
	struct nm_link *worst = NULL;
	if (degree_of(node) <= nm->config.degree + nm->config.degree / 2 + 1) {
		node->surplus_since = 0;
		return;
	}
	if (!node->surplus_since)
		node->surplus_since = now;
	if (now - node->surplus_since < SURPLUS_US)
		return;
	LIST_FOREACH(e, &node->links, of_node) {
		if (may_retire(nm, e) && (!worst || cost_of(nm, e->link) > cost_of(nm, worst)))
			worst = e->link;
	}
	if (worst)
		retire(nm, worst, now);
}

/* --- what comes ------------------------------------------------------------------------------- */

static struct nm_node *random_online(struct nm *nm)
{
	return nm->online[nm_random_u64(nm) % nm->online_count];
}

/* How little it suits; NM_COST_ANY: not at all. */
static uint64_t unfitness(struct nm *nm, const struct nm_node *node, const struct nm_node *to,
			  bool far)
{
	size_t degree = degree_of(to), wanted = nm->config.degree;
	if (to == node || nm_link_find(node, to) || degree > 2 * wanted ||
	    degree >= nm->config.transports_per_node_max)
		return NM_COST_ANY;
	uint64_t distance = nm_path_best(nm, 0, node, to);
	if (distance == NM_COST_ANY)
		return 0; /* an island */
	uint64_t crowd = degree >= wanted ? (degree - wanted + 1) * (uint64_t)CROWDED_COST : 0;
	return 1 + crowd + (far ? 0 : distance);
}

static bool link_make(struct nm *nm, struct nm_node *node, struct nm_node *to, bool far,
		      uint64_t now)
{
	struct nm_link *link = nm_link_want(nm, node, to, true);
	if (!link)
		return false;
	link->options.upkeep = far ? NM_UPKEEP_FAR : NM_UPKEEP_NEAR;
	if (nm->ops->link_options)
		nm->ops->link_options(nm->ctx, &node->id, &to->id, &link->options);
	nm_link_try(nm, link, now);
	return true;
}

static bool add(struct nm *nm, struct nm_node *node, uint64_t now)
{
	struct nm_node *best = NULL;
	uint64_t least = NM_COST_ANY;
	bool far = !has_far(node);
	for (unsigned i = 0; i < SAMPLES; i++) {
		struct nm_node *to = random_online(nm);
		uint64_t unfit = unfitness(nm, node, to, far);
		if (unfit < least) {
			least = unfit;
			best = to;
		}
	}
	return best && link_make(nm, node, best, far, now);
}

/* To a random node that cannot be reached, unless something is on its way already. */
static bool bridge(struct nm *nm, struct nm_node *node, uint64_t now)
{
	const struct nm_link_end *e;
	struct nm_node *to = random_online(nm);
	LIST_FOREACH(e, &node->links, of_node) {
		if (counts(e) && !is_up(e->link))
			return false;
	}
	return unfitness(nm, node, to, true) == 0 && link_make(nm, node, to, true, now);
}

static void look_at(struct nm *nm, struct nm_node *node, struct round *round, uint64_t now)
{
	drop_surplus(nm, node, now);
	if (!round->links)
		return;
	if (degree_of(node) < nm->config.degree) {
		round->links -= add(nm, node, now);
	} else if (round->checks) {
		round->checks--;
		round->links -= bridge(nm, node, now);
	}
}

/* Not wanted any more: whatever was about to go stays. */
static void retire_none(struct nm *nm)
{
	struct nm_link *link;
	TAILQ_FOREACH(link, &nm->link_list, all) {
		link->retire_us = 0;
		if (link->transport)
			nm_transport_cost_update(nm, link->transport);
	}
}

static void tick(struct timer *t, uint64_t now)
{
	struct nm *nm = t->owner;
	struct round round = {LINKS_PER_TICK, CHECKS_PER_TICK};
	if (!nm->config.degree) {
		retire_none(nm);
		return;
	}
	size_t count = nm->online_count < NODES_PER_TICK ? nm->online_count : NODES_PER_TICK;
	if (!nm->recovering)
		drop_dead(nm, now);
	for (size_t i = 0; i < count && !nm->recovering && nm->online_count > 1; i++)
		look_at(nm, nm->online[nm->degree_at++ % nm->online_count], &round, now);
	if (timerq_set(&nm->timers, t, now + TICK_US))
		log_warn("out of memory: links are not looked after any more");
}

/* At once; the timer keeps itself going while there is a degree to keep. */
void nm_degree_start(struct nm *nm)
{
	if (nm->config.degree && !nm->degree_timer.index)
		timerq_set(&nm->timers, &nm->degree_timer, 0);
}

void nm_degree_init(struct nm *nm)
{
	timer_init(&nm->degree_timer, tick, nm);
	nm_degree_start(nm);
}
