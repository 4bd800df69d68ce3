/* Who is used, who is the standby, and when they change roles. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "subscriberd/engine_int.h"

#define RETRY_US 1000000u /* nothing usable: look again this soon */
#define LOOK_US 1000000u  /* would the standby be better? */

/* Better: by a quarter and this much.  Much better: by half and this much, and moved to sooner. */
#define BETTER_FACTOR 1.25
#define BETTER_MS 5.0
#define MUCH_FACTOR 2.0
#define MUCH_MS 20.0
#define MUCH_FOR_US 4000000u
/* Each move to a better one doubles the patience for the next, up to this; it halves with time. */
#define PATIENCE_DOUBLINGS 16u
#define PATIENCE_HALVES_US 600000000u
/* Another one takes the standby's place when it has been much better than it for so long. */
#define THIRD_FOR_US 10000000u
/* A gateway in use whose RPC is silent for this long cannot be relied on. */
#define RPC_SILENT_US 5000000u
#define RPC_SOUND_US 6000000u
/* What runs through the old gateway after an ordered move may end within this. */
#define GRACE_US 10000000u
/* One that has held for this long has no failures any more. */
#define SOUND_US 60000000u

static bool is_named(const struct sub_engine *e, const struct sub_gateway *g)
{
	char key[SUB_KEY_MAX];

	return e->pinned[0] && strcmp(sub_contact_key(&g->contact, key), e->pinned) == 0;
}

/* Whichever way was named: it is the gateway that is meant. */
bool sub_order_allows(const struct sub_engine *e, const struct sub_gateway *g, const char *method)
{
	const struct sub_gateway *w;
	size_t it = 0;

	if (e->pinned_method[0] && strcmp(e->pinned_method, method) != 0)
		return false;
	bool found = !e->pinned[0];
	while (!found && (w = sub_way_next(e, g, &it)))
		found = is_named(e, w);
	return found;
}

/* --- who is the best ---------------------------------------------------------------------- */

struct choice {
	struct sub_gateway *g;
	struct sub_rank rank;
	bool last;   /* the other session is at this gateway too */
	bool insist; /* the one lost a moment ago, by a method that has not failed */
	bool named;  /* the way that was ordered */
};

static bool choice_before(const struct choice *a, const struct choice *b)
{
	if (a->insist != b->insist)
		return a->insist;
	if (a->last != b->last)
		return !a->last;
	if (a->named != b->named)
		return a->named;
	return sub_rank_before(&a->rank, &b->rank);
}

/* The best gateway with its best method, none of those that `x` and `y` (may be NULL) are at: by
 * another way it is no help for itself. */
static bool pick(const struct sub_engine *e, const struct sub_session *x,
		 const struct sub_session *y, uint64_t now, struct choice *out)
{
	const struct sub_session *taken[] = {x, y};

	out->g = NULL;
	for (size_t i = 0; i < e->count; i++) {
		struct choice c = {.g = e->gateways[i]};
		struct sub_rank_question q = {.only = e->pinned_method};
		for (unsigned k = 0; k < 2; k++) {
			if (!taken[k] || !taken[k]->gateway ||
			    !sub_gateway_same(taken[k]->gateway, c.g))
				continue;
			c.last = true;
			q.except = taken[k]->method;
		}
		if (!sub_order_allows(e, c.g, e->pinned_method))
			continue;
		sub_ways_rank(e, c.g, q, now, &c.rank);
		c.insist = e->insist && c.rank.method && sub_gateway_same(c.g, e->insist) &&
			   c.g->answered_us >= e->insist_since_us &&
			   !sub_ways_failed(e, c.g, c.rank.method);
		c.named = !e->pinned_any && is_named(e, c.g);
		if (isfinite(c.rank.score) && (!out->g || choice_before(&c, out)))
			*out = c;
	}
	return out->g != NULL;
}

bool sub_has_other(const struct sub_engine *e, const struct sub_session *s, uint64_t now)
{
	const struct sub_session *other = s == e->active ? e->standby : e->active;
	struct choice c;

	return other->state == SUB_STANDBY || other->state == SUB_ONLINE ||
	       pick(e, s, NULL, now, &c);
}

/* --- roles -------------------------------------------------------------------------------- */

static void swap_roles(struct sub_engine *e)
{
	struct sub_session *s = e->active;

	e->active = e->standby;
	e->standby = s;
	e->better_since_us = e->much_since_us = e->third_since_us = 0;
	e->moving = false;
}

bool sub_promote(struct sub_engine *e, const char *why, uint64_t now)
{
	struct sub_session *old = e->active, *next = e->standby;

	swap_roles(e);
	if (!sub_session_online(e, next, now)) {
		/* It has been given up; the old one goes on as far as it can. */
		if (e->active == next)
			swap_roles(e);
		return false;
	}
	e->moved_us = now;
	if (!why)
		return true;
	e->moves++;
	log_info("moved to %s: %s", next->gateway->info.name, why);
	sub_tell(e,
		 (struct sub_event){.kind = SUB_EVENT_MOVED, .gateway = next->gateway, .why = why});
	sub_session_set_state(e, old, SUB_STANDBY, now);
	return true;
}

static void take_active(struct sub_engine *e, uint64_t now)
{
	struct sub_session *b = e->standby;
	struct choice c;

	if (b->gateway && !sub_order_allows(e, b->gateway, b->method))
		sub_session_end(e, b, now);
	if (b->state == SUB_STANDBY) {
		swap_roles(e);
		sub_session_online(e, b, now);
	} else if (b->state != SUB_IDLE) {
		swap_roles(e); /* what was to be the standby will be more */
	} else if (pick(e, NULL, NULL, now, &c)) {
		sub_session_request(e, e->active, c.g, c.rank.method, now);
	} else {
		e->retry_at_us = now + RETRY_US;
	}
}

/* An ordered move needs the second slot as well, whether or not a standby is wanted. */
static bool wants_second(const struct sub_engine *e)
{
	return e->policy.standby || !sub_order_allows(e, e->active->gateway, e->active->method);
}

static void take_standby(struct sub_engine *e, uint64_t now)
{
	struct choice c;

	if (!wants_second(e))
		return;
	if (now < e->standby_at_us)
		e->retry_at_us = e->standby_at_us;
	else if (pick(e, e->active, NULL, now, &c))
		sub_session_request(e, e->standby, c.g, c.rank.method, now);
	else
		e->retry_at_us = now + RETRY_US;
}

void sub_step(struct sub_engine *e, uint64_t now)
{
	e->retry_at_us = TIMER_NEVER;
	if (e->wanted && e->active->state == SUB_IDLE)
		take_active(e, now);
	if (e->wanted && e->active->state == SUB_ONLINE && e->standby->state == SUB_IDLE)
		take_standby(e, now);
	sub_arm(e);
}

/* --- is another one better? --------------------------------------------------------------- */

static void forgive(struct sub_engine *e, struct sub_session *s, uint64_t now)
{
	if (s->state < SUB_STANDBY || now - s->since_us < SOUND_US)
		return;
	s->gateway->failures = 0;
	struct sub_method_fault *m = sub_gateway_fault(s->gateway, s->method, false);
	if (m)
		m->failures = 0;
	sub_ways_share(e, s->gateway);
}

static struct sub_rank rank_of(const struct sub_engine *e, const struct sub_session *s,
			       uint64_t now)
{
	struct sub_rank r;

	sub_ways_rank(e, s->gateway, (struct sub_rank_question){.only = s->method, .live = true},
		      now, &r);
	return r;
}

/* 0: `b` is not better than `a`; 1: it is; 2: much. */
static int degree(const struct sub_rank *a, const struct sub_rank *b)
{
	if (isinf(b->score))
		return 0;
	if (isinf(a->score) || (b->pinned && !a->pinned))
		return 2;
	if (a->pinned && !b->pinned)
		return 0;
	if (b->score * MUCH_FACTOR + MUCH_MS < a->score)
		return 2;
	return b->score * BETTER_FACTOR + BETTER_MS < a->score;
}

/* True once `now` has been `lasts` since it began to be so. */
static bool lasting(uint64_t *since, bool so, uint64_t lasts, uint64_t now)
{
	if (!so)
		*since = 0;
	else if (!*since)
		*since = now;
	return so && now - *since >= lasts;
}

static uint64_t patience(struct sub_engine *e, uint64_t now)
{
	while (e->patience_us > e->policy.better_for_us && e->moved_us &&
	       now - e->moved_us >= PATIENCE_HALVES_US) {
		e->patience_us /= 2;
		e->moved_us += PATIENCE_HALVES_US;
	}
	return e->patience_us;
}

static const char *better(struct sub_engine *e, uint64_t now)
{
	struct sub_rank a = rank_of(e, e->active, now), b = rank_of(e, e->standby, now);
	int by = degree(&a, &b);
	if (e->moving && by > 0)
		return "it has been better for a while";
	uint64_t wait = patience(e, now), most = e->policy.better_for_us * PATIENCE_DOUBLINGS;
	bool much =
		lasting(&e->much_since_us, by == 2, wait < MUCH_FOR_US ? wait : MUCH_FOR_US, now);

	if (!lasting(&e->better_since_us, by > 0, wait, now) && !much)
		return NULL;
	e->patience_us = wait * 2 < most ? wait * 2 : most;
	return much ? "it is much better" : "it has been better for a while";
}

/* NULL: stay. */
static const char *reason_to_move(struct sub_engine *e, uint64_t now)
{
	const struct sub_session *a = e->active, *b = e->standby;
	uint64_t lease_us = a->lease.lease_seconds * 1000000;

	if (!sub_order_allows(e, b->gateway, b->method))
		return NULL;
	if (!sub_order_allows(e, a->gateway, a->method))
		return "it was ordered";
	if (isinf(rank_of(e, b, now).score) || b->probes[SUB_PROBE_GATEWAY].lost > 0)
		return NULL;
	if (a->renew_failed && now + lease_us / 4 >= a->lease_end_us)
		return "the other's lease cannot be renewed";
	if (a->gateway->answered_us + RPC_SILENT_US < now &&
	    b->gateway->answered_us + RPC_SOUND_US >= now)
		return "the other's RPC no longer answers";
	return better(e, now);
}

static void consider_third(struct sub_engine *e, uint64_t now)
{
	struct sub_rank b = rank_of(e, e->standby, now);
	struct choice c;
	bool so = pick(e, e->active, e->standby, now, &c) && !c.last && degree(&b, &c.rank) == 2;

	if (!lasting(&e->third_since_us, so, THIRD_FOR_US, now))
		return;
	log_info("%s is a better standby", c.g->info.name);
	sub_session_end(e, e->standby, now);
	e->standby_at_us = now;
	sub_step(e, now);
}

/* Without a standby: is somebody better?  Then the second slot is opened, to move over. */
static void consider_any(struct sub_engine *e, uint64_t now)
{
	struct sub_rank a = rank_of(e, e->active, now);
	struct choice c;
	bool so = pick(e, e->active, NULL, now, &c) && !c.last && degree(&a, &c.rank) > 0;

	e->moving = lasting(&e->third_since_us, so, patience(e, now), now);
	if (e->moving)
		sub_session_request(e, e->standby, c.g, c.rank.method, now);
}

void sub_consider(struct sub_engine *e, uint64_t now)
{
	struct sub_session *b = e->standby;
	const char *why;

	e->look_at_us = now + LOOK_US;
	forgive(e, e->active, now);
	forgive(e, b, now);
	if (b->state == SUB_IDLE && !wants_second(e))
		consider_any(e, now);
	if (b->state != SUB_STANDBY)
		return;
	why = reason_to_move(e, now);
	if (why) {
		sub_promote(e, why, now);
		return;
	}
	bool keep = e->policy.standby && sub_order_allows(e, b->gateway, b->method);
	if (!keep && now - e->moved_us >= GRACE_US && now - b->since_us >= GRACE_US)
		sub_session_end(e, b, now);
	else if (keep)
		consider_third(e, now);
	sub_step(e, now);
}
