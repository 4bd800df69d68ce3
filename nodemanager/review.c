/*
 * Connections move to better paths.  What has become worse moves those that run over it as soon as
 * there is a better way; what has become better is looked at by all, a few connections at a time,
 * and taken only after it has been better for a while, longer for one that has moved before.  The
 * old path carries until the new one is ready.
 */
#include "nodemanager/state.h"

static void arm(struct nm *nm, uint64_t at)
{
	if (at < (nm->review_timer.index ? nm->review_timer.at_us : TIMER_NEVER))
		timerq_set(&nm->timers, &nm->review_timer, at);
}

/* However much changes, no more are looked at in a second. */
void nm_review_all(struct nm *nm)
{
	nm->review_left = nm->conns.count;
	if (nm->review_left)
		arm(nm, nm->review_next_us);
}

void nm_review_soon(struct nm *nm, struct nm_conn *c)
{
	if (c->is_urgent)
		return;
	c->is_urgent = true;
	TAILQ_INSERT_TAIL(&nm->urgent, c, urgent);
	arm(nm, 0);
}

void nm_review_forget(struct nm *nm, struct nm_conn *c)
{
	if (c->is_urgent)
		TAILQ_REMOVE(&nm->urgent, c, urgent);
	c->is_urgent = false;
}

void nm_review_transport(struct nm *nm, struct nm_transport *t, bool worse)
{
	struct nm_hop *hop;
	if (!worse) {
		nm_review_all(nm);
		return;
	}
	LIST_FOREACH(hop, &t->hops, of_transport) {
		if (hop->path->ops->dearer)
			hop->path->ops->dearer(nm, hop->path);
	}
}

/* Whoever has moved often lately thinks longer. */
static bool patient_enough(struct nm_conn *c, uint64_t now)
{
	while (c->moves && now - c->moved_at > NM_CALM_US) {
		c->moves--;
		c->moved_at += NM_CALM_US;
	}
	unsigned doublings = c->moves < NM_BETTER_DOUBLINGS ? c->moves : NM_BETTER_DOUBLINGS;
	return now - c->better_since >= (uint64_t)NM_BETTER_US << doublings;
}

static void review(struct nm *nm, struct nm_conn *c, bool urgent, uint64_t now)
{
	if (!nm_conn_can_move(c)) {
		c->better_since = 0;
		return;
	}
	if (nm_path_is_banned(c->path)) {
		nm_conn_reroute(nm, c, now);
		return;
	}
	uint64_t best = nm_path_best(nm, c->id, c->end[0].node, c->end[1].node);
	if (!cost_is_worth_a_move(best, nm_path_cost(nm, c->path))) {
		c->better_since = 0;
		return;
	}
	if (!c->better_since)
		c->better_since = now;
	if (!urgent && !patient_enough(c, now)) {
		nm->review_again = true;
		return;
	}
	c->better_since = 0;
	if (!nm_conn_move(nm, c, best, now))
		return;
	c->moves += !urgent;
	c->moved_at = now;
}

static void review_urgent(struct nm *nm, uint64_t now)
{
	struct nm_conn *c;
	for (size_t n = 0; n < NM_CONNS_AT_ONCE && (c = TAILQ_FIRST(&nm->urgent)); n++) {
		nm_review_forget(nm, c);
		review(nm, c, true, now);
	}
}

static void review_some(struct nm *nm, uint64_t now)
{
	if (now < nm->review_next_us)
		return;
	nm->review_next_us = now + NM_REVIEW_US;
	for (size_t n = 0; n < NM_REVIEWS_AT_ONCE && nm->review_left; n++) {
		struct nm_conn *c = TAILQ_FIRST(&nm->conn_list);
		nm->review_left = c ? nm->review_left - 1 : 0;
		if (!c)
			return;
		TAILQ_REMOVE(&nm->conn_list, c, all);
		TAILQ_INSERT_TAIL(&nm->conn_list, c, all);
		review(nm, c, false, now);
	}
}

static void fire(struct timer *t, uint64_t now)
{
	struct nm *nm = t->owner;
	bool more = !TAILQ_EMPTY(&nm->urgent);
	review_urgent(nm, now);
	if (!more)
		review_some(nm, now);
	if (!nm->review_left && nm->review_again) {
		nm->review_again = false;
		nm->review_left = nm->conns.count;
		nm->review_next_us = now + NM_REVIEW_AGAIN_US;
	}
	if (!TAILQ_EMPTY(&nm->urgent))
		arm(nm, now);
	else if (nm->review_left)
		arm(nm, nm->review_next_us);
}

void nm_review_init(struct nm *nm)
{
	TAILQ_INIT(&nm->urgent);
	timer_init(&nm->review_timer, fire, nm);
}

void nm_review_free(struct nm *nm)
{
	timerq_cancel(&nm->timers, &nm->review_timer);
}
