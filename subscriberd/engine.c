#include "subscriberd/engine.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define ANSWER_TIMEOUT_US 5000000u /* requestConnection and renewConnection */
#define OPEN_TIMEOUT_US 8000000u
#define RETRY_US 1000000u    /* nothing usable: look again this soon */
#define COOLDOWN_US 1000000u /* after a failure; doubles with each */
#define COOLDOWN_DOUBLINGS 6u
#define TROUBLE_US                                                                                 \
	600000u		  /* an interrupted tunnel has this long to come back (a daemon restarts) */
#define HOLD_US 60000000u /* traffic is held back this long while we look */
#define QUIET_PROBES 4u	  /* the scan of a gateway in use is rarer: the probes tell more */

struct sub_engine {
	struct sub_policy policy;
	const struct sub_ops *ops;
	void *ctx;

	struct sub_gateway *gateways[SUB_GATEWAYS_MAX];
	size_t count;
	uint64_t refused_full;

	enum sub_state state;
	struct sub_gateway *current;
	struct sub_lease lease;
	bool wanted, holding;
	char pinned[SUB_KEY_MAX], pinned_method[SUB_METHOD_NAME_MAX + 1];
	uint64_t since_us, lost_us, failovers, last_outage_us;

	uint64_t counter; /* numbers questions */
	uint64_t serial;  /* of the session's question under way, then of its tunnel */
	uint64_t renew_serial, renew_at_us, lease_end_us;
	uint64_t probe_serial, probe_at_us, last_alive_us;
	unsigned probes_lost;
	bool probing;
	uint64_t deadline_us; /* of REQUESTING and OPENING */
	uint64_t scan_at_us, retry_at_us, hold_until_us, trouble_at_us;
	uint64_t info_serial[SUB_GATEWAYS_MAX];

	struct timerq timers;
	struct timer timer;
};

static void step(struct sub_engine *e, uint64_t now);

const char *sub_state_name(enum sub_state s)
{
	static const char *const names[] = {"idle", "requesting", "opening", "online"};
	return (unsigned)s < 4 ? names[s] : "?";
}

static void min_of(uint64_t *a, uint64_t b)
{
	if (b < *a)
		*a = b;
}

static void arm(struct sub_engine *e)
{
	uint64_t at = e->scan_at_us;

	min_of(&at, e->retry_at_us);
	min_of(&at, e->deadline_us);
	min_of(&at, e->hold_until_us);
	if (e->state == SUB_ONLINE) {
		min_of(&at, e->probe_at_us);
		min_of(&at, e->renew_at_us);
		min_of(&at, e->trouble_at_us);
	}
	timerq_set(&e->timers, &e->timer, at);
}

const char *sub_event_name(enum sub_event_kind kind)
{
	static const char *const names[] = {"session.state", "gateway.lost", "session.failover"};
	return (unsigned)kind < 3 ? names[kind] : "?";
}

static void tell(struct sub_engine *e, struct sub_event event)
{
	event.gateway = e->current;
	if (e->ops->event)
		e->ops->event(e->ctx, &event);
}

static void set_state(struct sub_engine *e, enum sub_state to, uint64_t now)
{
	if (e->state != to) {
		log_debug("session: %s -> %s", sub_state_name(e->state), sub_state_name(to));
		tell(e, (struct sub_event){.kind = SUB_EVENT_STATE, .from = e->state, .to = to});
	}
	e->state = to;
	e->since_us = now;
	e->deadline_us = TIMER_NEVER;
}

/* --- the table of gateways ---------------------------------------------------------------- */

static struct sub_gateway *find_contact(const struct sub_engine *e, const struct sub_contact *c)
{
	for (size_t i = 0; i < e->count; i++)
		if (sub_contact_equal(&e->gateways[i]->contact, c))
			return e->gateways[i];
	return NULL;
}

static struct sub_gateway *find_key(const struct sub_engine *e, const char *key)
{
	char text[SUB_KEY_MAX];
	for (size_t i = 0; i < e->count; i++) {
		struct sub_gateway *g = e->gateways[i];
		if (strcmp(sub_contact_key(&g->contact, text), key) == 0 ||
		    (g->info.name[0] && strcmp(g->info.name, key) == 0))
			return g;
	}
	return NULL;
}

static void ask(struct sub_engine *e, size_t i)
{
	struct sub_gateway *g = e->gateways[i];
	if (g->asking)
		return;
	g->asking = true;
	e->info_serial[i] = ++e->counter;
	e->ops->ask_info(e->ctx, g, e->info_serial[i]);
}

int sub_engine_found(struct sub_engine *e, const struct sub_contact *c,
		     const struct sub_gateway *known, uint64_t now_s, uint64_t now)
{
	char key[SUB_KEY_MAX];
	struct sub_gateway *g = find_contact(e, c);

	if (g) {
		if (!g->heard_us) /* announced, and not yet answered: ask at once */
			for (size_t i = 0; i < e->count; i++)
				if (e->gateways[i] == g)
					ask(e, i);
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
	g->heard_us = g->cooldown_until_us = 0;
	if (!g->first_seen_s)
		g->first_seen_s = now_s;
	e->gateways[e->count++] = g;
	log_info("gateway found: %s", sub_contact_key(c, key));
	ask(e, e->count - 1);
	step(e, now);
	return 0;
}

void sub_engine_vanished(struct sub_engine *e, const struct sub_contact *c, uint64_t now)
{
	struct sub_gateway *g = find_contact(e, c);
	(void)now;
	/* In use, the probes decide: the tracker may be wrong or away. */
	if (g && g != e->current)
		g->heard_us = 0;
}

/* --- leaving and choosing ----------------------------------------------------------------- */

static struct sub_gateway *best(const struct sub_engine *e, const struct sub_gateway *except,
				uint64_t now)
{
	struct sub_gateway *found = NULL;
	double least = HUGE_VAL;
	char why[SUB_WHY_MAX], key[SUB_KEY_MAX];

	for (size_t i = 0; i < e->count; i++) {
		struct sub_gateway *g = e->gateways[i];
		if (g == except ||
		    (e->pinned[0] && strcmp(sub_contact_key(&g->contact, key), e->pinned) != 0))
			continue;
		double score = sub_engine_score(e, g, now, why);
		if (score < least) {
			least = score;
			found = g;
		}
	}
	return found;
}

static void blame(struct sub_engine *e, struct sub_gateway *g, const char *why, uint64_t now)
{
	unsigned doublings = g->failures < COOLDOWN_DOUBLINGS ? g->failures : COOLDOWN_DOUBLINGS;

	strncpy(g->error, why, sizeof g->error - 1);
	g->error[sizeof g->error - 1] = '\0';
	g->failures++;
	g->cooldown_until_us = now + ((uint64_t)COOLDOWN_US << doublings);
	e->ops->save(e->ctx, g);
}

/* Ends the session locally.  `hold`: another one is to follow. */
static void drop_session(struct sub_engine *e, bool hold, uint64_t now)
{
	bool was_online = e->state == SUB_ONLINE;

	if (e->state == SUB_OPENING || was_online)
		e->ops->tunnel_close(e->ctx);
	if (was_online || (e->holding && !hold)) {
		e->ops->go_offline(e->ctx, hold);
		e->holding = hold;
		e->hold_until_us = hold ? now + HOLD_US : TIMER_NEVER;
	}
	e->current = NULL;
	e->probing = false;
	e->serial = ++e->counter; /* answers to the old session's questions are late now */
	set_state(e, SUB_IDLE, now);
}

static void give_up(struct sub_engine *e, const char *why, uint64_t now)
{
	struct sub_gateway *g = e->current;
	char key[SUB_KEY_MAX];

	log_warn("gateway %s given up: %s", sub_contact_key(&g->contact, key), why);
	tell(e, (struct sub_event){.kind = SUB_EVENT_LOST, .from = e->state, .why = why});
	if (e->state == SUB_ONLINE) {
		e->lost_us = e->last_alive_us;
		e->failovers++;
	}
	/* The lease is told to end in case the gateway is only unreachable to us. */
	if (g->sid[0] && e->state != SUB_REQUESTING)
		e->ops->release(e->ctx, g, g->sid);
	g->sid[0] = '\0';
	blame(e, g, why, now);
	drop_session(e, e->wanted, now);
	step(e, now);
}

static void try_gateway(struct sub_engine *e, struct sub_gateway *g, uint64_t now)
{
	const char *method = e->pinned_method[0] ? e->pinned_method
						 : sub_gateway_method(g, e->policy.methods,
								      e->policy.method_count);
	char key[SUB_KEY_MAX];

	log_info("asking %s (%s) for a %s connection", g->info.name,
		 sub_contact_key(&g->contact, key), method);
	e->current = g;
	set_state(e, SUB_REQUESTING, now);
	e->deadline_us = now + ANSWER_TIMEOUT_US;
	e->serial = ++e->counter;
	e->ops->request(e->ctx, g, method, e->serial);
}

/* Brings an idle session forward if it should be. */
static void step(struct sub_engine *e, uint64_t now)
{
	e->retry_at_us = TIMER_NEVER;
	if (e->state == SUB_IDLE && e->wanted) {
		struct sub_gateway *g = best(e, NULL, now);
		if (g)
			try_gateway(e, g, now);
		else
			e->retry_at_us = now + RETRY_US;
	}
	arm(e);
}

/* --- answers ------------------------------------------------------------------------------ */

void sub_engine_on_info(struct sub_engine *e, uint64_t serial, const struct sub_info *info,
			double rtt_ms, const char *error, uint64_t now_s, uint64_t now)
{
	for (size_t i = 0; i < e->count; i++) {
		struct sub_gateway *g = e->gateways[i];
		if (!g->asking || e->info_serial[i] != serial)
			continue;
		g->asking = false;
		if (error) {
			sub_quality_silence(&g->quality);
		} else {
			g->info = *info;
			g->heard_us = now;
			g->last_seen_s = now_s;
			if (rtt_ms > 0)
				sub_quality_answer(&g->quality, rtt_ms);
			else if (g->quality.rtt_ms <= 0)
				ask(e, i); /* the first answer had to make the way; now measure */
		}
		e->ops->save(e->ctx, g);
		if (g == e->current && e->state == SUB_ONLINE && !error && !info->online)
			give_up(e, "its uplink is down", now);
		else
			step(e, now);
		return;
	}
}

void sub_engine_on_lease(struct sub_engine *e, uint64_t serial, const struct sub_lease *lease,
			 const char *error, uint64_t now)
{
	if (e->state != SUB_REQUESTING || serial != e->serial)
		return;
	if (error) {
		give_up(e, error, now);
		return;
	}
	e->lease = *lease;
	memcpy(e->current->sid, lease->sid, sizeof e->current->sid);
	e->lease_end_us = now + lease->lease_seconds * 1000000;
	e->renew_at_us = now + lease->lease_seconds * 1000000 / 2;
	e->ops->save(e->ctx, e->current);
	set_state(e, SUB_OPENING, now);
	e->deadline_us = now + OPEN_TIMEOUT_US;
	arm(e);
	e->serial = ++e->counter;
	e->ops->tunnel_open(e->ctx, e->current, &e->lease, e->serial);
}

static void enter_online(struct sub_engine *e, uint64_t now)
{
	char ip[NET_PREFIX_TEXT];

	if (e->ops->go_online(e->ctx, &e->lease) != 0) {
		give_up(e, "the host's routes could not be set", now);
		return;
	}
	set_state(e, SUB_ONLINE, now);
	e->holding = false;
	e->hold_until_us = TIMER_NEVER;
	e->current->failures = 0;
	e->current->error[0] = '\0';
	e->probes_lost = 0;
	e->probing = false;
	e->trouble_at_us = TIMER_NEVER;
	e->probe_at_us = now + e->policy.probe_interval_us;
	e->last_alive_us = now;
	if (e->lost_us) {
		e->last_outage_us = now - e->lost_us;
		tell(e, (struct sub_event){.kind = SUB_EVENT_FAILOVER,
					   .outage_us = e->last_outage_us});
		e->lost_us = 0;
	}
	log_info("online through %s with %s", e->current->info.name,
		 net_prefix_text(&e->lease.ip4, ip));
	arm(e);
}

void sub_engine_on_tunnel(struct sub_engine *e, uint64_t serial, bool up, const char *text,
			  uint64_t now)
{
	if (serial != e->serial || (e->state != SUB_OPENING && e->state != SUB_ONLINE))
		return;
	if (!up)
		give_up(e, text, now);
	else if (e->state == SUB_OPENING)
		enter_online(e, now);
	else
		e->trouble_at_us = TIMER_NEVER;
}

void sub_engine_on_trouble(struct sub_engine *e, uint64_t serial, uint64_t now)
{
	if (serial != e->serial || e->state != SUB_ONLINE || e->trouble_at_us != TIMER_NEVER)
		return;
	e->trouble_at_us = now + TROUBLE_US;
	arm(e);
}

void sub_engine_on_renewed(struct sub_engine *e, uint64_t serial, const char *error, bool gone,
			   uint64_t now)
{
	if (e->state != SUB_ONLINE || serial != e->renew_serial)
		return;
	uint64_t length = e->lease.lease_seconds * 1000000;
	if (!error) {
		e->lease_end_us = now + length;
		e->renew_at_us = now + length / 2;
	} else if (gone || now >= e->lease_end_us) {
		give_up(e, error, now);
		return;
	} else {
		e->renew_at_us = now + length / 8;
	}
	arm(e);
}

void sub_engine_on_probe(struct sub_engine *e, uint64_t serial, bool answered, double rtt_ms,
			 uint64_t now)
{
	if (e->state != SUB_ONLINE || !e->probing || serial != e->probe_serial)
		return;
	e->probing = false;
	if (answered) {
		e->probes_lost = 0;
		e->last_alive_us = now;
		e->current->heard_us = now;
		sub_quality_answer(&e->current->quality, rtt_ms);
		return;
	}
	sub_quality_silence(&e->current->quality);
	if (++e->probes_lost >= e->policy.probe_losses) {
		give_up(e, "it no longer answers through the tunnel", now);
		return;
	}
	e->probe_at_us = now; /* make sure at once */
	arm(e);
}

/* --- time --------------------------------------------------------------------------------- */

static void scan(struct sub_engine *e, uint64_t now)
{
	e->scan_at_us = now + e->policy.scan_interval_us;
	e->ops->discover(e->ctx);
	for (size_t i = 0; i < e->count; i++)
		ask(e, i);
}

static void run_online(struct sub_engine *e, uint64_t now)
{
	if (now >= e->renew_at_us) {
		/* Until the answer, or for a silent gateway: ask again soon. */
		e->renew_at_us = now + e->lease.lease_seconds * 1000000 / 8;
		e->renew_serial = ++e->counter;
		e->ops->renew(e->ctx, e->current, e->lease.sid, e->renew_serial);
	}
	if (e->state == SUB_ONLINE && now >= e->trouble_at_us) {
		e->trouble_at_us = now + TROUBLE_US;
		if (best(e, e->current, now))
			give_up(e, "its tunnel is interrupted", now);
	}
	if (e->state == SUB_ONLINE && now >= e->probe_at_us) {
		e->probe_at_us = now + e->policy.probe_interval_us;
		if (!e->probing) {
			e->probing = true;
			e->probe_serial++;
			e->ops->probe(e->ctx, e->probe_serial);
		}
	}
}

static void on_timer(struct timer *t, uint64_t now)
{
	struct sub_engine *e = t->owner;

	if (now >= e->scan_at_us)
		scan(e, now);
	if (now >= e->hold_until_us && e->state != SUB_ONLINE) {
		e->hold_until_us = TIMER_NEVER;
		e->holding = false;
		e->ops->go_offline(e->ctx, false);
	}
	if (now >= e->deadline_us)
		give_up(e,
			e->state == SUB_OPENING ? "its tunnel did not come up"
						: "it did not answer the request",
			now);
	if (e->state == SUB_ONLINE)
		run_online(e, now);
	if (now >= e->retry_at_us)
		step(e, now);
	arm(e);
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
	e->deadline_us = e->retry_at_us = e->hold_until_us = e->trouble_at_us = TIMER_NEVER;
	e->scan_at_us = e->since_us = now;
	timerq_init(&e->timers);
	timer_init(&e->timer, on_timer, e);
	arm(e);
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
	min_of(&e->scan_at_us, now + policy->scan_interval_us);
	arm(e);
}

int sub_engine_connect(struct sub_engine *e, const char *key, const char *method, uint64_t now)
{
	struct sub_gateway *g = key ? find_key(e, key) : NULL;

	if (key && !g)
		return -ENOENT;
	e->wanted = true;
	e->pinned[0] = e->pinned_method[0] = '\0';
	if (g) {
		sub_contact_key(&g->contact, e->pinned);
		g->cooldown_until_us = 0;
	}
	if (method)
		strncpy(e->pinned_method, method, SUB_METHOD_NAME_MAX);
	if (e->current && g && e->current != g) {
		if (e->current->sid[0])
			e->ops->release(e->ctx, e->current, e->current->sid);
		e->current->sid[0] = '\0';
		drop_session(e, true, now);
	}
	step(e, now);
	return 0;
}

void sub_engine_disconnect(struct sub_engine *e, uint64_t now)
{
	e->wanted = false;
	e->pinned[0] = e->pinned_method[0] = '\0';
	sub_engine_stop(e, now);
}

void sub_engine_scan(struct sub_engine *e, uint64_t now)
{
	e->scan_at_us = now;
	arm(e);
}

void sub_engine_stop(struct sub_engine *e, uint64_t now)
{
	if (e->current && e->current->sid[0] && e->state != SUB_REQUESTING) {
		e->ops->release(e->ctx, e->current, e->current->sid);
		e->current->sid[0] = '\0';
		e->ops->save(e->ctx, e->current);
	}
	drop_session(e, false, now);
	e->retry_at_us = TIMER_NEVER;
	arm(e);
}

/* --- looking at it ------------------------------------------------------------------------ */

void sub_engine_status(const struct sub_engine *e, struct sub_status *out)
{
	*out = (struct sub_status){
		.state = e->state,
		.gateway = e->current,
		.lease = e->state >= SUB_OPENING ? &e->lease : NULL,
		.since_us = e->since_us,
		.failovers = e->failovers,
		.last_outage_us = e->last_outage_us,
		.wanted = e->wanted,
	};
}

const struct sub_gateway *sub_engine_next_gateway(const struct sub_engine *e, size_t *it)
{
	return *it < e->count ? e->gateways[(*it)++] : NULL;
}

const struct sub_gateway *sub_engine_find(const struct sub_engine *e, const char *key)
{
	return find_key(e, key);
}

double sub_engine_score(const struct sub_engine *e, const struct sub_gateway *g, uint64_t now,
			char why[SUB_WHY_MAX])
{
	return sub_gateway_score(g, e->policy.methods, e->policy.method_count, now, why);
}
