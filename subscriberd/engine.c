#include "subscriberd/engine_int.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/log.h"

#define SAVE_US 30000000u /* what changes all the time is saved this often */
/* An order that is refused for now asks again so soon, doubled each time, and for so long. */
#define ORDER_AGAIN_US 250000u
#define ORDER_AGAIN_DOUBLINGS 3u
#define ORDER_PATIENCE_US 12000000u
#define FORGET_US UINT64_C(600000000) /* what has never answered, e.g. a mistyped address */

const char *sub_state_name(enum sub_state s)
{
	static const char names[][11] = {"idle", "requesting", "opening", "standby", "online"};
	return (unsigned)s < 5 ? names[s] : "?";
}

const char *sub_order_name(enum sub_order_state state)
{
	static const char names[][8] = {"none", "pending", "done", "failed"};
	return (unsigned)state < 4 ? names[state] : "?";
}

const char *sub_event_name(enum sub_event_kind kind)
{
	static const char names[][17] = {"session.state", "standby.state", "gateway.lost",
					 "session.failover", "session.moved"};
	return (unsigned)kind < 5 ? names[kind] : "?";
}

/* Is the order pending because of a refusal, and nobody is asked at the moment? */
static bool waits(const struct sub_engine *e)
{
	if (e->order_state != SUB_ORDER_PENDING || !e->order_again_us)
		return false;
	for (unsigned i = 0; i < SUB_SLOTS; i++)
		if (e->sessions[i].state == SUB_REQUESTING || e->sessions[i].state == SUB_OPENING)
			return false;
	return true;
}

void sub_arm(struct sub_engine *e)
{
	uint64_t at = e->scan_at_us;

	sub_min(&at, e->retry_at_us);
	sub_min(&at, e->hold_until_us);
	if (waits(e))
		sub_min(&at, e->order_until_us);
	if (e->active->state == SUB_ONLINE)
		sub_min(&at, e->look_at_us);
	for (unsigned i = 0; i < SUB_SLOTS; i++)
		sub_min(&at, sub_session_next(&e->sessions[i]));
	timerq_set(&e->timers, &e->timer, at);
}

void sub_tell(struct sub_engine *e, struct sub_event event)
{
	if (e->ops->event)
		e->ops->event(e->ctx, &event);
}

void sub_save(struct sub_engine *e, struct sub_gateway *g)
{
	g->saved_us = 0;
	e->ops->save(e->ctx, g);
}

/* --- the table of gateways ---------------------------------------------------------------- */

static struct sub_gateway *find_contact(const struct sub_engine *e, const struct sub_contact *c)
{
	for (size_t i = 0; i < e->count; i++)
		if (sub_contact_equal(&e->gateways[i]->contact, c))
			return e->gateways[i];
	return NULL;
}

/* By the key of a way, or (*any) by what the gateway is called or has proven to be: then by the way
 * that was heard last. */
static struct sub_gateway *find_key(const struct sub_engine *e, const char *key, bool *any)
{
	char text[SUB_KEY_MAX];
	struct sub_gateway *found = NULL;

	*any = false;
	for (size_t i = 0; i < e->count; i++) {
		struct sub_gateway *g = e->gateways[i];
		if (strcmp(sub_contact_key(&g->contact, text), key) == 0) {
			*any = false;
			return g;
		}
		if (((g->info.name[0] && strcmp(g->info.name, key) == 0) ||
		     (g->id[0] && strcmp(g->id, key) == 0)) &&
		    (!found || (sub_gateway_same(g, found) && g->heard_us > found->heard_us))) {
			found = g;
			*any = true;
		}
	}
	return found;
}

void sub_ask(struct sub_engine *e, struct sub_gateway *g)
{
	for (size_t i = 0; i < e->count && !g->asking; i++) {
		if (e->gateways[i] != g)
			continue;
		g->asking = true;
		e->info_serial[i] = ++e->counter;
		e->ops->ask_info(e->ctx, g, e->info_serial[i]);
	}
}

static void look_whether_own(struct sub_engine *e, struct sub_gateway *g)
{
	g->own = e->ops->is_own && e->ops->is_own(e->ctx, g);
}

/* An earlier run may have waited for it already. */
static uint64_t forget_at(const struct sub_gateway *known, uint64_t now_s, uint64_t now)
{
	uint64_t age_s = known && known->first_seen_s < now_s ? now_s - known->first_seen_s : 0;

	return age_s < FORGET_US / 1000000 ? now + FORGET_US - age_s * 1000000 : now;
}

int sub_engine_found(struct sub_engine *e, const struct sub_contact *c,
		     const struct sub_gateway *known, uint64_t now_s, uint64_t now)
{
	char key[SUB_KEY_MAX];
	struct sub_gateway *g = find_contact(e, c);

	if (g) {
		g->forget_at_us = forget_at(NULL, now_s, now);
		if (!g->heard_us) /* announced, and not yet answered: ask at once */
			sub_ask(e, g);
		return 0;
	}
	if (e->count >= SUB_GATEWAYS_MAX || !(g = calloc(1, sizeof *g))) {
		if (e->refused_full++ == 0)
			log_warn("more than %u gateways: the rest is ignored", SUB_GATEWAYS_MAX);
		return -ENOSPC;
	}
	if (known)
		*g = *known;
	g->contact = *c;
	g->asking = false;
	g->heard_us = g->answered_us = g->cooldown_until_us = g->proven_us = 0;
	g->forget_at_us = forget_at(known, now_s, now);
	if (!g->first_seen_s)
		g->first_seen_s = now_s;
	look_whether_own(e, g);
	e->gateways[e->count++] = g;
	log_info("gateway found: %s", sub_contact_key(c, key));
	sub_ask(e, g);
	sub_step(e, now);
	return 0;
}

static bool in_use(const struct sub_engine *e, const struct sub_gateway *g)
{
	return g == e->active->gateway || g == e->standby->gateway;
}

static bool to_forget(const struct sub_engine *e, const struct sub_gateway *g, uint64_t now)
{
	char key[SUB_KEY_MAX];

	return !g->last_seen_s && now >= g->forget_at_us && !in_use(e, g) && g != e->order_asked &&
	       strcmp(e->pinned, sub_contact_key(&g->contact, key)) != 0 &&
	       !sub_names_have(&e->policy.terms.pinned, g);
}

/* Answers to what was asked there are late now. */
static void forget_silent(struct sub_engine *e, uint64_t now)
{
	char key[SUB_KEY_MAX];
	size_t kept = 0;

	for (size_t i = 0; i < e->count; i++) {
		struct sub_gateway *g = e->gateways[i];
		if (!to_forget(e, g, now)) {
			e->info_serial[kept] = e->info_serial[i];
			e->gateways[kept++] = g;
			continue;
		}
		log_info("gateway forgotten, as it has never answered: %s",
			 sub_contact_key(&g->contact, key));
		e->ops->forget(e->ctx, g);
		if (e->insist == g)
			e->insist = NULL;
		free(g);
	}
	e->count = kept;
}

void sub_engine_vanished(struct sub_engine *e, const struct sub_contact *c, uint64_t now)
{
	struct sub_gateway *g = find_contact(e, c);
	(void)now;
	/* In use, the probes decide: the tracker may be wrong or away. */
	if (g && !in_use(e, g))
		g->heard_us = 0;
}

/* --- nodeInfo ----------------------------------------------------------------------------- */

static void heard(struct sub_engine *e, struct sub_gateway *g, const struct sub_info *info,
		  double rtt_ms, uint64_t now)
{
	g->info = *info;
	g->heard_us = g->answered_us = now;
	g->silence[0] = '\0';
	sub_ways_identify(e, g, info, now);
	look_whether_own(e, g);
	sub_gateway_proof(g, info->online);
	if (rtt_ms > 0)
		sub_quality_answer(&g->quality, rtt_ms, now);
	else if (g->quality.rtt_ms <= 0)
		sub_ask(e, g); /* the first answer had to make the way; now measure */
}

static void accept_order(struct sub_engine *e, struct sub_gateway *g, uint64_t now);

static void on_answer(struct sub_engine *e, struct sub_gateway *g, const struct sub_info *info,
		      const char *error, uint64_t now)
{
	if (e->order_asked == g) {
		e->order_asked = NULL;
		if (error)
			sub_order_settle(e, SUB_ORDER_FAILED, error);
		else
			accept_order(e, g, now);
	}
	for (unsigned i = 0; i < SUB_SLOTS && !error && !info->online; i++)
		if (e->sessions[i].gateway == g && e->sessions[i].state >= SUB_OPENING)
			sub_session_fail(e, &e->sessions[i], FAULT_GATEWAY, "its uplink is down",
					 now);
	sub_step(e, now);
}

void sub_engine_on_info(struct sub_engine *e, uint64_t serial, const struct sub_info *info,
			double rtt_ms, const char *error, uint64_t now_s, uint64_t now)
{
	for (size_t i = 0; i < e->count; i++) {
		struct sub_gateway *g = e->gateways[i];
		if (!g->asking || e->info_serial[i] != serial)
			continue;
		g->asking = false;
		if (error) {
			sub_quality_silence(&g->quality, now);
			cstr_copy(g->silence, sizeof g->silence, error);
			g->proven_us = 0; /* who answers next may be somebody else */
		} else {
			g->last_seen_s = now_s;
			heard(e, g, info, rtt_ms, now);
		}
		if (!g->saved_us || now - g->saved_us >= SAVE_US) {
			e->ops->save(e->ctx, g);
			g->saved_us = now;
		}
		on_answer(e, g, info, error, now);
		return;
	}
}

/* --- time --------------------------------------------------------------------------------- */

static void scan(struct sub_engine *e, uint64_t now)
{
	e->scan_at_us = now + e->policy.scan_interval_us;
	e->ops->discover(e->ctx);
	forget_silent(e, now);
	for (size_t i = 0; i < e->count; i++)
		sub_ask(e, e->gateways[i]);
}

static void on_timer(struct timer *t, uint64_t now)
{
	struct sub_engine *e = t->owner;

	if (now >= e->scan_at_us)
		scan(e, now);
	if (now >= e->hold_until_us) {
		e->hold_until_us = TIMER_NEVER;
		e->holding = false;
		e->ops->go_offline(e->ctx, false);
	}
	for (unsigned i = 0; i < SUB_SLOTS; i++)
		sub_session_run(e, &e->sessions[i], now);
	if (e->active->state == SUB_ONLINE && now >= e->look_at_us)
		sub_consider(e, now);
	if (waits(e) && now >= e->order_until_us)
		sub_order_settle(e, SUB_ORDER_FAILED, e->order_why);
	if (now >= e->retry_at_us)
		sub_step(e, now);
	sub_arm(e);
}

uint64_t sub_engine_next(const struct sub_engine *e)
{
	return timerq_next(&e->timers);
}

void sub_engine_run(struct sub_engine *e, uint64_t now)
{
	timerq_run(&e->timers, now);
}

/* --- orders ------------------------------------------------------------------------------- */

struct sub_engine *sub_engine_new(const struct sub_policy *policy, const struct sub_ops *ops,
				  void *ctx, uint64_t now)
{
	struct sub_engine *e = calloc(1, sizeof *e);

	if (!e)
		return NULL;
	e->policy = *policy;
	e->ops = ops;
	e->ctx = ctx;
	e->wanted = policy->auto_connect;
	e->active = &e->sessions[0];
	e->standby = &e->sessions[1];
	for (unsigned i = 0; i < SUB_SLOTS; i++) {
		e->sessions[i].slot = i;
		e->sessions[i].since_us = now;
		e->sessions[i].deadline_us = TIMER_NEVER;
	}
	e->retry_at_us = e->hold_until_us = TIMER_NEVER;
	e->scan_at_us = now;
	e->patience_us = policy->better_for_us;
	timerq_init(&e->timers);
	timer_init(&e->timer, on_timer, e);
	sub_arm(e);
	return e;
}

void sub_engine_free(struct sub_engine *e)
{
	if (!e)
		return;
	for (size_t i = 0; i < e->count; i++)
		free(e->gateways[i]);
	timerq_free(&e->timers);
	free(e);
}

void sub_engine_set_policy(struct sub_engine *e, const struct sub_policy *policy, uint64_t now)
{
	e->policy = *policy;
	e->patience_us = policy->better_for_us;
	sub_min(&e->scan_at_us, now + policy->scan_interval_us);
	for (unsigned i = 0; i < SUB_SLOTS; i++) {
		struct sub_session *s = &e->sessions[i];
		if (s->gateway && sub_ways_have(e, &e->policy.terms.banned, s->gateway))
			sub_session_fail(e, s, FAULT_GATEWAY, "it is banned now", now);
	}
	sub_step(e, now);
}

void sub_order_settle(struct sub_engine *e, enum sub_order_state state, const char *why)
{
	if (e->order_state != SUB_ORDER_PENDING || e->order_asked)
		return;
	e->order_state = state;
	if (why != e->order_why)
		cstr_copy(e->order_why, sizeof e->order_why, why);
}

bool sub_order_waits(struct sub_engine *e, const struct sub_session *s, const char *why,
		     uint64_t now)
{
	unsigned n = e->order_refusals;
	uint64_t again = now + ((uint64_t)ORDER_AGAIN_US
				<< (n < ORDER_AGAIN_DOUBLINGS ? n : ORDER_AGAIN_DOUBLINGS));

	if (e->order_state != SUB_ORDER_PENDING || e->order_asked ||
	    !sub_order_allows(e, s->gateway, s->method))
		return false;
	if (!n)
		e->order_until_us = now + ORDER_PATIENCE_US;
	if (again > e->order_until_us)
		return false;
	e->order_refusals++;
	e->order_again_us = again;
	cstr_copy(e->order_why, sizeof e->order_why, why);
	return true;
}

enum sub_order_state sub_engine_order(const struct sub_engine *e, int64_t number, const char **why)
{
	*why = e->order_why;
	return number > 0 && number == e->order ? e->order_state : SUB_ORDER_UNKNOWN;
}

/* Is a method wanted that we do not use?  What a gateway does not offer now it may offer soon, or
 * by a way that is not known to be its own yet: that is waited for. */
static bool impossible(const struct sub_engine *e, char *why)
{
	const struct sub_terms *t = &e->policy.terms;
	bool accepted = !e->order_method[0];

	for (size_t i = 0; i < t->method_count; i++)
		accepted = accepted || strcmp(t->methods[i], e->order_method) == 0;
	if (!accepted)
		cstr_print(why, SUB_WHY_MAX, "%s is not among subscriber.Methods", e->order_method);
	return !accepted;
}

/* From now on this gateway (NULL: any) is the only one. */
static void accept_order(struct sub_engine *e, struct sub_gateway *g, uint64_t now)
{
	struct sub_session *a = e->active, *b = e->standby;
	char why[SUB_WHY_MAX];

	if (impossible(e, why)) {
		sub_order_settle(e, SUB_ORDER_FAILED, why);
		return;
	}
	e->wanted = true;
	e->standby_at_us = now;
	e->pinned[0] = '\0';
	e->pinned_any = e->order_any;
	memcpy(e->pinned_method, e->order_method, sizeof e->pinned_method);
	if (g) {
		sub_contact_key(&g->contact, e->pinned);
		g->cooldown_until_us = 0;
		memset(g->faults, 0, sizeof g->faults);
		sub_ways_share(e, g);
	}
	if (b->gateway && !sub_order_allows(e, b->gateway, b->method))
		sub_session_end(e, b, now);
	if (a->gateway && a->state != SUB_ONLINE && !sub_order_allows(e, a->gateway, a->method))
		sub_session_end(e, a, now);
	if (a->state == SUB_ONLINE && sub_order_allows(e, a->gateway, a->method))
		sub_order_settle(e, SUB_ORDER_DONE, "");
	else if (a->state == SUB_ONLINE)
		e->look_at_us = now;
}

int64_t sub_engine_connect(struct sub_engine *e, const char *key, const char *method, uint64_t now)
{
	bool any = false;
	struct sub_gateway *g = key ? find_key(e, key, &any) : NULL;

	if (key && !g)
		return -ENOENT;
	e->order_asked = NULL;
	sub_order_settle(e, SUB_ORDER_FAILED, "another order came");
	e->order++;
	e->order_state = SUB_ORDER_PENDING;
	e->order_why[0] = '\0';
	e->order_refusals = 0;
	e->order_again_us = 0;
	cstr_copy(e->order_method, sizeof e->order_method, method ? method : "");
	e->order_any = any;
	if (g && !g->heard_us) {
		e->order_asked = g;
		sub_ask(e, g);
	} else {
		accept_order(e, g, now);
	}
	sub_step(e, now);
	return e->order;
}

void sub_engine_disconnect(struct sub_engine *e, uint64_t now)
{
	e->wanted = false;
	e->pinned[0] = e->pinned_method[0] = '\0';
	e->order_asked = NULL;
	sub_order_settle(e, SUB_ORDER_FAILED, "disconnected");
	sub_engine_stop(e, now);
}

void sub_engine_scan(struct sub_engine *e, uint64_t now)
{
	e->scan_at_us = now;
	sub_arm(e);
}

void sub_engine_stop(struct sub_engine *e, uint64_t now)
{
	e->wanted = false;
	sub_session_end(e, e->standby, now);
	sub_session_end(e, e->active, now);
	e->retry_at_us = TIMER_NEVER;
	sub_arm(e);
}

/* --- looking at it ------------------------------------------------------------------------ */

static struct sub_session_status session_status(const struct sub_session *s)
{
	return (struct sub_session_status){
		.slot = s->slot,
		.state = s->state,
		.gateway = s->gateway,
		.lease = s->state >= SUB_OPENING ? &s->lease : NULL,
		.method = s->method,
		.since_us = s->since_us,
		.lease_end_us = s->state >= SUB_OPENING ? s->lease_end_us : 0,
	};
}

void sub_engine_status(const struct sub_engine *e, struct sub_status *out)
{
	*out = (struct sub_status){
		.active = session_status(e->active),
		.standby = session_status(e->standby),
		.failovers = e->failovers,
		.moves = e->moves,
		.last_outage_us = e->last_outage_us,
		.last_detect_us = e->last_detect_us,
		.last_switch_us = e->last_switch_us,
		.wanted = e->wanted,
		.order = e->pinned,
		.order_state = e->order_state,
		.order_why = e->order_why,
		.order_again_us = waits(e) ? e->order_again_us : 0,
	};
}

const struct sub_gateway *sub_engine_next_gateway(const struct sub_engine *e, size_t *it)
{
	return *it < e->count ? e->gateways[(*it)++] : NULL;
}

const struct sub_gateway *sub_engine_find(const struct sub_engine *e, const char *key)
{
	bool any;

	return find_key(e, key, &any);
}

void sub_engine_rank(const struct sub_engine *e, const struct sub_gateway *g, uint64_t now,
		     struct sub_rank *out)
{
	const struct sub_session *s = g == e->active->gateway	 ? e->active
				      : g == e->standby->gateway ? e->standby
								 : NULL;
	struct sub_rank_question q = {.only = s ? s->method : NULL,
				      .live = s && s->state >= SUB_STANDBY};

	sub_ways_rank(e, g, q, now, out);
}
