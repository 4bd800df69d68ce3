/* One session: asked for, opened, kept alive, probed, ended. */
#include <stdio.h>
#include <string.h>

#include "base/cstr.h"
#include "base/log.h"
#include "subscriberd/engine_int.h"

#define ANSWER_TIMEOUT_US 5000000u /* requestConnection */
#define OPEN_TIMEOUT_US 8000000u
#define COOLDOWN_US 1000000u /* after a failure; doubles with each */
#define COOLDOWN_DOUBLINGS 6u
/* An interrupted tunnel has this long to come back (a daemon restarts). */
#define TROUBLE_US 600000u
#define FRESH_ANSWER_US 2000000u /* its RPC has answered within this: it answers */
/* So many failures in a row, and a lease is given back: a new one is made anew. */
#define ASKED_AGAIN 3u
/* A gateway that has held for this long has no failures any more. */
#define SOUND_US 60000000u

/* A probe is lost after some round trips, within these bounds. */
#define PROBE_ROUND_TRIPS 5
#define PROBE_TIMEOUT_MIN_US 250000u
#define PROBE_UPLINK_MIN_US 500000u
#define PROBE_TIMEOUT_MAX_US 2000000u
/* After a loss probes follow faster, until as many were answered. */
#define SUSPECT_PROBES 8u
#define SUSPECT_INTERVAL_US 200000u
/* A tunnel that loses this share of so many probes is as good as dead, if there is another. */
#define LOSSY_PROBES 16u
#define LOSSY_PERCENT 30u

/* nodeInfo of a gateway in use: whether its uplink is proven, and whether its RPC answers. */
#define WATCH_US 1000000u
#define WATCH_SLOW_US 5000000u
/* What tells a full tunnel: the round trip grows. */
#define FULL_RTT_FACTOR 1.5
#define FULL_RTT_MS 5.0
#define CARRIED_MIN_BYTES 32768u

static struct sub_session *by_serial(struct sub_engine *e, uint64_t serial)
{
	for (unsigned i = 0; i < SUB_SLOTS; i++)
		if (e->sessions[i].state != SUB_IDLE && e->sessions[i].serial == serial)
			return &e->sessions[i];
	return NULL;
}

static bool is_up(const struct sub_session *s)
{
	return s->state == SUB_STANDBY || s->state == SUB_ONLINE;
}

void sub_session_set_state(struct sub_engine *e, struct sub_session *s, enum sub_state to,
			   uint64_t now)
{
	bool active = s == e->active;

	if (s->state != to) {
		log_debug("%s: %s -> %s", active ? "session" : "standby", sub_state_name(s->state),
			  sub_state_name(to));
		sub_tell(e,
			 (struct sub_event){.kind = active ? SUB_EVENT_STATE : SUB_EVENT_STANDBY,
					    .from = s->state,
					    .to = to,
					    .gateway = s->gateway,
					    .slot = s->slot,
					    .lease = s->state >= SUB_OPENING ? &s->lease : NULL});
	}
	s->state = to;
	s->since_us = now;
	s->deadline_us = TIMER_NEVER;
}

/* --- the end ------------------------------------------------------------------------------ */

/* Ends it locally.  `hold`: another one is to follow. */
static void drop(struct sub_engine *e, struct sub_session *s, bool hold, uint64_t now)
{
	bool was_online = s->state == SUB_ONLINE;

	if (s->state >= SUB_OPENING)
		e->ops->tunnel_close(e->ctx, s->slot);
	if (s == e->active && (was_online || (e->holding && !hold))) {
		e->ops->go_offline(e->ctx, hold);
		e->holding = hold;
		e->hold_until_us = hold ? now + SUB_HOLD_US : TIMER_NEVER;
	}
	sub_session_set_state(e, s, SUB_IDLE, now);
	s->gateway = NULL;
	s->serial = ++e->counter; /* answers to the old session's questions are late now */
}

static void release(struct sub_engine *e, struct sub_session *s)
{
	struct sub_gateway *g = s->gateway;

	if (s->state < SUB_OPENING)
		return;
	e->ops->release(e->ctx, g, s->lease.sid);
	if (strcmp(g->sid, s->lease.sid) == 0)
		g->sid[0] = g->sid_method[0] = '\0';
}

static void blame(struct sub_engine *e, struct sub_session *s, enum sub_fault fault,
		  const char *why, uint64_t now)
{
	struct sub_gateway *g = s->gateway;
	struct sub_method_fault *m = sub_gateway_fault(g, s->method, true);

	if (is_up(s) && now - s->since_us >= SOUND_US)
		g->failures = m->failures = 0;
	cstr_copy(g->error, sizeof g->error, why);
	if (fault == FAULT_NONE)
		return;
	unsigned *failures = fault == FAULT_METHOD ? &m->failures : &g->failures;
	unsigned doublings = *failures < COOLDOWN_DOUBLINGS ? *failures : COOLDOWN_DOUBLINGS;
	uint64_t until = now + ((uint64_t)COOLDOWN_US << doublings);

	++*failures;
	if (fault == FAULT_METHOD)
		m->until_us = until;
	else
		g->cooldown_until_us = until;
	sub_ways_share(e, g);
	sub_save(e, g);
}

/* When the first sign of what is wrong now was; 0: there was none before. */
static uint64_t fault_began(const struct sub_session *s)
{
	uint64_t at = s->trouble_at_us == TIMER_NEVER ? TIMER_NEVER : s->trouble_us;

	for (unsigned k = 0; k < SUB_PROBES; k++)
		if (s->probes[k].lost > 0)
			sub_min(&at, s->probes[k].fault_us);
	return at == TIMER_NEVER ? 0 : at;
}

static void count_loss(struct sub_engine *e, struct sub_session *s, enum sub_fault fault,
		       uint64_t now)
{
	struct sub_gateway *g = s->gateway;
	uint64_t began = fault_began(s);
	uint64_t fresh = now > FRESH_ANSWER_US ? now - FRESH_ANSWER_US : 0;

	e->insist_since_us = began > fresh ? began : fresh;
	e->lost_us = s->last_alive_us;
	e->gave_up_us = now;
	e->last_detect_us = began ? now - began : 0;
	e->failovers++;
	e->insist = fault == FAULT_METHOD && sub_ways_answer(e, g, e->insist_since_us) ? g : NULL;
}

/* Its tunnel is dead and nobody else can be had, so it is asked again, and for the same lease: its
 * daemon may have been started again, and the release would come after that. */
static bool keeps_lease(const struct sub_engine *e, const struct sub_session *s, bool was_up,
			enum sub_fault fault, uint64_t now)
{
	const struct sub_method_fault *m = sub_gateway_fault(s->gateway, s->method, false);

	return (was_up || s->asked_again) && fault == FAULT_METHOD && e->wanted && m &&
	       m->failures < ASKED_AGAIN && !sub_has_other(e, s, now);
}

void sub_session_fail(struct sub_engine *e, struct sub_session *s, enum sub_fault fault,
		      const char *why, uint64_t now)
{
	char key[SUB_KEY_MAX], text[SUB_WHY_MAX];
	bool was_online = s->state == SUB_ONLINE, was_up = is_up(s);

	cstr_copy(text, sizeof text, why); /* it may be the gateway's own */
	log_warn("gateway %s (%s%s) given up: %s", sub_contact_key(&s->gateway->contact, key),
		 s->method, s == e->active ? "" : ", standby", text);
	sub_tell(e, (struct sub_event){.kind = SUB_EVENT_LOST,
				       .from = s->state,
				       .gateway = s->gateway,
				       .why = text});
	if (sub_order_allows(e, s->gateway, s->method) && !was_online)
		sub_order_settle(e, SUB_ORDER_FAILED, text);
	blame(e, s, fault, text, now);
	e->standby_at_us = now + SUB_STANDBY_DELAY_US;
	if (was_online)
		count_loss(e, s, fault, now);
	/* The standby takes over before anything of the old one is taken away. */
	if (was_online && e->standby->state == SUB_STANDBY)
		sub_promote(e, NULL, now);
	/* The lease is told to end in case the gateway is only unreachable to us. */
	if (!keeps_lease(e, s, was_up, fault, now))
		release(e, s);
	drop(e, s, e->wanted, now);
	sub_step(e, now);
}

void sub_session_put_off(struct sub_engine *e, struct sub_session *s, const char *why,
			 uint64_t until, uint64_t now)
{
	char key[SUB_KEY_MAX];
	struct sub_gateway *g = s->gateway;

	log_info("gateway %s (%s) is asked again soon: %s", sub_contact_key(&g->contact, key),
		 s->method, why);
	cstr_copy(g->error, sizeof g->error, why);
	/* It is the gateway that refuses, by whatever way. */
	for (size_t i = 0; i < e->count; i++)
		if (sub_gateway_same(e->gateways[i], g))
			e->gateways[i]->cooldown_until_us = until;
	if (s == e->standby)
		e->standby_at_us = until;
	drop(e, s, e->wanted, now);
	sub_step(e, now);
	sub_min(&e->retry_at_us, until);
	sub_arm(e);
}

void sub_session_end(struct sub_engine *e, struct sub_session *s, uint64_t now)
{
	struct sub_gateway *g = s->gateway;

	if (g) {
		release(e, s);
		sub_save(e, g);
	}
	drop(e, s, false, now);
}

/* --- the beginning ------------------------------------------------------------------------ */

void sub_session_request(struct sub_engine *e, struct sub_session *s, struct sub_gateway *g,
			 const char *method, uint64_t now)
{
	char key[SUB_KEY_MAX];
	bool ours = strcmp(g->sid_method, method) == 0;

	log_info("asking %s (%s) for a %s %s", g->info.name, sub_contact_key(&g->contact, key),
		 method, s == e->active ? "connection" : "standby connection");
	s->gateway = g;
	s->asked_again = ours && g->sid[0];
	if (method != s->method)
		cstr_copy(s->method, sizeof s->method, method);
	sub_session_set_state(e, s, SUB_REQUESTING, now);
	s->deadline_us = now + ANSWER_TIMEOUT_US;
	s->serial = ++e->counter;
	e->ops->request(e->ctx, s->slot, g, s->method, ours ? g->sid : "", s->serial);
}

void sub_engine_on_lease(struct sub_engine *e, uint64_t serial, const struct sub_lease *lease,
			 const char *error, bool passing, uint64_t now)
{
	struct sub_session *s = by_serial(e, serial);

	if (!s || s->state != SUB_REQUESTING)
		return;
	if (error && s->asked_again) {
		/* The lease that we had there is no more: ask for a new one. */
		s->gateway->sid[0] = '\0';
		sub_session_request(e, s, s->gateway, s->method, now);
		sub_arm(e);
		return;
	}
	if (error && passing && sub_order_waits(e, s, error, now)) {
		sub_session_put_off(e, s, error, e->order_again_us, now);
		return;
	}
	if (error) {
		sub_session_fail(e, s, FAULT_GATEWAY, error, now);
		return;
	}
	s->lease = *lease;
	memcpy(s->gateway->sid, lease->sid, sizeof s->gateway->sid);
	memcpy(s->gateway->sid_method, s->method, sizeof s->gateway->sid_method);
	s->lease_end_us = now + lease->lease_seconds * 1000000;
	s->renew_at_us = now + lease->lease_seconds * 1000000 / 2;
	s->renew_failed = false;
	s->gateway->answered_us = now;
	sub_save(e, s->gateway);
	sub_session_set_state(e, s, SUB_OPENING, now);
	s->deadline_us = now + OPEN_TIMEOUT_US;
	s->serial = ++e->counter;
	sub_arm(e);
	e->ops->tunnel_open(e->ctx, s->slot, s->gateway, &s->lease, s->serial);
}

static void begin_probes(struct sub_engine *e, struct sub_session *s, uint64_t now)
{
	uint64_t first = s->gateway->own ? TIMER_NEVER : now + e->policy.probe_interval_us;

	memset(s->probes, 0, sizeof s->probes);
	s->probes[SUB_PROBE_GATEWAY].at_us = first;
	s->probes[SUB_PROBE_UPLINK].at_us = e->policy.probe_uplink ? first : TIMER_NEVER;
	s->least_rtt_ms = s->last_rtt_ms = 0;
	s->trouble_at_us = TIMER_NEVER;
	s->last_alive_us = now;
	s->watch_at_us = now + WATCH_US;
}

bool sub_session_online(struct sub_engine *e, struct sub_session *s, uint64_t now)
{
	char ip[NET_PREFIX_TEXT];
	const struct net_prefix *own = s->lease.ip4.addr.family ? &s->lease.ip4 : &s->lease.ip6;

	if (e->ops->go_online(e->ctx, s->slot, &s->lease) != 0) {
		sub_session_fail(e, s, FAULT_METHOD, "the host's routes could not be set", now);
		return false;
	}
	sub_session_set_state(e, s, SUB_ONLINE, now);
	e->holding = false;
	e->hold_until_us = TIMER_NEVER;
	e->insist = NULL;
	s->gateway->error[0] = '\0';
	e->look_at_us = now;
	if (e->lost_us) {
		e->last_outage_us = now - e->lost_us;
		e->last_switch_us = now - e->gave_up_us;
		sub_tell(e, (struct sub_event){.kind = SUB_EVENT_FAILOVER,
					       .gateway = s->gateway,
					       .outage_us = e->last_outage_us});
		e->lost_us = 0;
	}
	if (sub_order_allows(e, s->gateway, s->method))
		sub_order_settle(e, SUB_ORDER_DONE, "");
	log_info(s->gateway->own ? "%s is on our own host: its tunnel is up (%s, %s), and no "
				   "traffic is led into it"
				 : "online through %s by %s with %s",
		 s->gateway->info.name, s->method, net_prefix_text(own, ip));
	return true;
}

static void come_up(struct sub_engine *e, struct sub_session *s, uint64_t now)
{
	begin_probes(e, s, now);
	if (e->ops->stand_by(e->ctx, s->slot, &s->lease) != 0) {
		sub_session_fail(e, s, FAULT_METHOD, "the host's routes could not be set", now);
		return;
	}
	if (s == e->active) {
		sub_session_online(e, s, now);
	} else {
		sub_session_set_state(e, s, SUB_STANDBY, now);
		log_info("standby at %s by %s", s->gateway->info.name, s->method);
		e->better_since_us = e->much_since_us = e->third_since_us = 0;
		e->look_at_us = now;
	}
	sub_arm(e);
}

void sub_engine_on_tunnel(struct sub_engine *e, uint64_t serial, bool up, const char *text,
			  uint64_t now)
{
	struct sub_session *s = by_serial(e, serial);

	if (!s || s->state < SUB_OPENING)
		return;
	if (!up)
		sub_session_fail(e, s, FAULT_METHOD, text, now);
	else if (s->state == SUB_OPENING)
		come_up(e, s, now);
	else
		s->trouble_at_us = TIMER_NEVER;
}

void sub_engine_on_trouble(struct sub_engine *e, uint64_t serial, uint64_t now)
{
	struct sub_session *s = by_serial(e, serial);

	if (!s || !is_up(s) || s->trouble_at_us != TIMER_NEVER || s->gateway->own)
		return;
	s->trouble_at_us = now + TROUBLE_US;
	s->trouble_us = now;
	sub_arm(e);
}

/* --- the lease ---------------------------------------------------------------------------- */

void sub_engine_on_renewed(struct sub_engine *e, uint64_t serial, const char *error, bool gone,
			   uint64_t now)
{
	struct sub_session *s = NULL;

	for (unsigned i = 0; i < SUB_SLOTS; i++)
		if (is_up(&e->sessions[i]) && e->sessions[i].renew_serial == serial)
			s = &e->sessions[i];
	if (!s)
		return;
	uint64_t length = s->lease.lease_seconds * 1000000;
	s->renew_failed = error != NULL;
	if (!error) {
		s->gateway->answered_us = now;
		s->lease_end_us = now + length;
		s->renew_at_us = now + length / 2;
	} else if (gone || now >= s->lease_end_us) {
		sub_session_fail(e, s, gone ? FAULT_NONE : FAULT_GATEWAY, error, now);
		return;
	} else {
		s->renew_at_us = now + length / 8;
	}
	sub_arm(e);
}

static void renew(struct sub_engine *e, struct sub_session *s, uint64_t now)
{
	/* Until the answer, or for a silent gateway: ask again soon. */
	s->renew_at_us = now + s->lease.lease_seconds * 1000000 / 8;
	s->renew_serial = ++e->counter;
	e->ops->renew(e->ctx, s->gateway, s->lease.sid, s->renew_serial);
}

/* --- probes ------------------------------------------------------------------------------- */

static uint64_t probe_timeout(const struct sub_session *s, enum sub_probe kind)
{
	const struct sub_gateway *g = s->gateway;
	double rtt = g->tunnel.rtt_ms > 0 ? g->tunnel.rtt_ms : g->quality.rtt_ms;
	uint64_t least = kind == SUB_PROBE_UPLINK ? PROBE_UPLINK_MIN_US : PROBE_TIMEOUT_MIN_US;

	if (kind == SUB_PROBE_UPLINK)
		rtt += g->info.uplink_rtt_ms;
	uint64_t wait = (uint64_t)(rtt * 1000) * PROBE_ROUND_TRIPS;
	wait = wait < least ? least : wait;
	return wait > PROBE_TIMEOUT_MAX_US ? PROBE_TIMEOUT_MAX_US : wait;
}

static unsigned ones(uint32_t bits)
{
	return (unsigned)__builtin_popcount(bits);
}

static void note(struct probing *p, bool lost)
{
	p->recent = p->recent << 1 | lost;
	p->count += p->count < 32;
	p->lost = lost ? p->lost + 1 : 0;
	if (p->lost == 1)
		p->fault_us = p->sent_us;
}

static uint64_t probe_interval(const struct sub_engine *e, const struct sub_session *s,
			       enum sub_probe kind)
{
	const struct probing *p = &s->probes[kind];
	uint64_t usual =
		s == e->active ? e->policy.probe_interval_us : e->policy.standby_probe_interval_us;

	if (kind == SUB_PROBE_UPLINK)
		usual *= 2;
	if (p->recent & ((1u << SUSPECT_PROBES) - 1))
		sub_min(&usual, SUSPECT_INTERVAL_US);
	return usual;
}

static bool lossy(const struct probing *p)
{
	unsigned seen = p->count < 32 ? p->count : 32;

	return p->count >= LOSSY_PROBES && ones(p->recent) * 100 >= seen * LOSSY_PERCENT;
}

/* A target that nobody reaches, through neither gateway, says nothing of this one. */
static bool target_counts(struct sub_engine *e, struct sub_session *s, uint64_t now)
{
	struct sub_session *other = s == e->active ? e->standby : e->active;

	if (!is_up(other))
		return sub_has_other(e, s, now);
	return other->probes[SUB_PROBE_UPLINK].count > 0 &&
	       other->probes[SUB_PROBE_UPLINK].lost == 0;
}

static void probe_lost(struct sub_engine *e, struct sub_session *s, enum sub_probe kind,
		       uint64_t now)
{
	struct probing *p = &s->probes[kind];
	struct sub_session *other = s == e->active ? e->standby : e->active;

	if (p->lost == 1) { /* Does its RPC answer?  Is the other one any better? */
		sub_ways_ask(e, s->gateway);
		if (is_up(other) && e->policy.probe_uplink)
			sub_min(&other->probes[SUB_PROBE_UPLINK].at_us, now);
	}
	p->at_us = now; /* make sure at once */
	if (kind == SUB_PROBE_UPLINK) {
		sub_gateway_proof(s->gateway, false);
		sub_ways_share(e, s->gateway);
		if (p->lost >= e->policy.probe_losses && target_counts(e, s, now))
			sub_session_fail(e, s, FAULT_GATEWAY,
					 "nothing answers beyond it: its uplink is down", now);
		return;
	}
	sub_quality_silence(&s->gateway->tunnel, now);
	sub_ways_share(e, s->gateway);
	if (p->lost >= e->policy.probe_losses)
		sub_session_fail(e, s, FAULT_METHOD, "it no longer answers through the tunnel",
				 now);
	else if (lossy(p) && sub_has_other(e, s, now))
		sub_session_fail(e, s, FAULT_METHOD, "its tunnel loses too much", now);
}

static void probe_answered(struct sub_engine *e, struct sub_session *s, enum sub_probe kind,
			   double rtt_ms, uint64_t now)
{
	struct sub_gateway *g = s->gateway;

	s->last_alive_us = now;
	g->heard_us = now;
	if (kind == SUB_PROBE_UPLINK) {
		sub_gateway_proof(g, true);
		sub_ways_share(e, g);
		return;
	}
	s->last_rtt_ms = rtt_ms;
	if (s->least_rtt_ms <= 0 || rtt_ms < s->least_rtt_ms)
		s->least_rtt_ms = rtt_ms;
	sub_quality_answer(&g->tunnel, rtt_ms, now);
	sub_ways_share(e, g);
}

void sub_engine_on_probe(struct sub_engine *e, uint64_t serial, bool answered, double rtt_ms,
			 uint64_t now)
{
	for (unsigned i = 0; i < SUB_SLOTS; i++) {
		struct sub_session *s = &e->sessions[i];
		for (unsigned k = 0; k < SUB_PROBES && is_up(s); k++) {
			struct probing *p = &s->probes[k];
			if (!p->under_way || p->serial != serial)
				continue;
			p->under_way = false;
			note(p, !answered);
			if (answered)
				probe_answered(e, s, (enum sub_probe)k, rtt_ms, now);
			else
				probe_lost(e, s, (enum sub_probe)k, now);
			sub_arm(e);
			return;
		}
	}
}

void sub_engine_on_traffic(struct sub_engine *e, unsigned slot, uint64_t bytes, uint64_t elapsed_us)
{
	struct sub_session *s = &e->sessions[slot];

	if (!is_up(s) || bytes < CARRIED_MIN_BYTES || elapsed_us == 0 || s->least_rtt_ms <= 0)
		return;
	bool full = s->last_rtt_ms > s->least_rtt_ms * FULL_RTT_FACTOR + FULL_RTT_MS;
	sub_gateway_carried(s->gateway, (double)bytes * 8e6 / (double)elapsed_us, full);
	sub_ways_share(e, s->gateway);
}

/* --- time --------------------------------------------------------------------------------- */

static void run_probes(struct sub_engine *e, struct sub_session *s, uint64_t now)
{
	for (unsigned k = 0; k < SUB_PROBES && s->gateway; k++) {
		struct probing *p = &s->probes[k];
		if (now < p->at_us)
			continue;
		p->at_us = now + probe_interval(e, s, (enum sub_probe)k);
		if (p->under_way)
			continue;
		p->under_way = true;
		p->serial = ++e->counter;
		p->sent_us = now;
		e->ops->probe(e->ctx, s->slot, (enum sub_probe)k, p->serial,
			      probe_timeout(s, (enum sub_probe)k));
	}
}

static void run_trouble(struct sub_engine *e, struct sub_session *s, uint64_t now)
{
	s->trouble_at_us = now + TROUBLE_US;
	if (s != e->active || sub_has_other(e, s, now))
		sub_session_fail(e, s, FAULT_METHOD, "its tunnel is interrupted", now);
}

static void run_up(struct sub_engine *e, struct sub_session *s, uint64_t now)
{
	if (now >= s->renew_at_us)
		renew(e, s, now);
	if (now >= s->watch_at_us) {
		s->watch_at_us = now + (s == e->active ? WATCH_US : WATCH_SLOW_US);
		sub_ask(e, s->gateway);
	}
	if (now >= s->trouble_at_us)
		run_trouble(e, s, now);
	if (is_up(s))
		run_probes(e, s, now);
	if (is_up(s) && now >= s->lease_end_us)
		sub_session_fail(e, s, FAULT_GATEWAY, "its lease could not be renewed", now);
}

void sub_session_run(struct sub_engine *e, struct sub_session *s, uint64_t now)
{
	if (now >= s->deadline_us && s->state == SUB_OPENING)
		sub_session_fail(e, s, FAULT_METHOD, "its tunnel did not come up", now);
	else if (now >= s->deadline_us && s->state == SUB_REQUESTING)
		sub_session_fail(e, s, FAULT_GATEWAY, "it did not answer the request", now);
	else if (is_up(s))
		run_up(e, s, now);
}

uint64_t sub_session_next(const struct sub_session *s)
{
	uint64_t at = s->deadline_us;

	if (!is_up(s))
		return at;
	for (unsigned k = 0; k < SUB_PROBES; k++)
		sub_min(&at, s->probes[k].at_us);
	sub_min(&at, s->renew_at_us);
	sub_min(&at, s->trouble_at_us);
	sub_min(&at, s->watch_at_us);
	sub_min(&at, s->lease_end_us);
	return at;
}
