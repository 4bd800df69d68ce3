#include "gatewayd/engine_int.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/log.h"

#define US_PER_S 1000000u
#define SID_TRIES 4

int gw_engine_new(struct gw_engine **out, const char *pool4, const char *pool6,
		  const struct gw_terms *terms, uint64_t seed, const struct gw_ops *ops, void *ctx)
{
	struct gw_engine *e = calloc(1, sizeof(*e));
	int rc;

	if (!e)
		return -ENOMEM;
	e->terms = *terms;
	e->ops = ops;
	e->ctx = ctx;
	lease_table_init(&e->leases, GW_SUBSCRIBERS_MAX, seed);
	TAILQ_INIT(&e->unsettled);
	account_table_init(&e->accounts, GW_SUBSCRIBERS_MAX, seed);
	e->codes.seed = seed;
	timerq_init(&e->timers);
	rc = pool_init(&e->pool4, pool4);
	if (!rc)
		rc = pool_init(&e->pool6, pool6);
	if (!rc && !pool_in_use(&e->pool4) && !pool_in_use(&e->pool6))
		rc = -EINVAL;
	if (!rc && pool_in_use(&e->pool4) && pool_in_use(&e->pool6)) {
		pool_limit(&e->pool4, e->pool6.limit);
		pool_limit(&e->pool6, e->pool4.limit);
	}
	if (rc) {
		gw_engine_free(e);
		return rc;
	}
	*out = e;
	return 0;
}

void gw_engine_free(struct gw_engine *e)
{
	struct lease *l;

	if (!e)
		return;
	while ((l = TAILQ_FIRST(&e->leases.all))) {
		TAILQ_REMOVE(&e->leases.all, l, link);
		timerq_cancel(&e->timers, &l->expiry);
		lease_free(l);
	}
	lease_table_free(&e->leases);
	account_table_free(&e->accounts);
	timerq_free(&e->timers);
	pool_free(&e->pool4);
	pool_free(&e->pool6);
	free(e);
}

/* ---- settings ---- */

void gw_engine_set_terms(struct gw_engine *e, const struct gw_terms *terms)
{
	e->terms = *terms;
}

const struct gw_terms *gw_engine_terms(const struct gw_engine *e)
{
	return &e->terms;
}

static struct gw_method *method_find(struct gw_engine *e, const char *name)
{
	for (size_t i = 0; i < e->method_count; i++)
		if (strcmp(e->methods[i].name, name) == 0)
			return &e->methods[i];
	return NULL;
}

int gw_engine_add_method(struct gw_engine *e, const char *name, bool needs_app)
{
	struct gw_method *m;

	if (!*name || strlen(name) > LEASE_METHOD_MAX)
		return -EINVAL;
	if (method_find(e, name))
		return -EEXIST;
	if (e->method_count == GW_METHODS_MAX)
		return -ENOSPC;
	m = &e->methods[e->method_count++];
	cstr_copy(m->name, sizeof(m->name), name);
	m->needs_app = needs_app;
	return 0;
}

void gw_engine_set_ready(struct gw_engine *e, const char *method, bool ready)
{
	struct gw_method *m = method_find(e, method);

	if (m)
		m->ready = ready;
}

size_t gw_engine_methods(const struct gw_engine *e, const struct gw_method **out)
{
	*out = e->methods;
	return e->method_count;
}

const char *gw_event_name(enum gw_event event)
{
	static const char names[][16] = {
		[GW_EVENT_GRANTED] = "lease.granted",
		[GW_EVENT_RENEWED] = "lease.renewed",
		[GW_EVENT_RELEASED] = "lease.released",
		[GW_EVENT_EXPIRED] = "lease.expired",
		[GW_EVENT_QUOTA] = "lease.quota",
		[GW_EVENT_UPLINK_ONLINE] = "uplink.online",
		[GW_EVENT_UPLINK_OFFLINE] = "uplink.offline",
	};

	return (size_t)event < sizeof(names) / sizeof(names[0]) ? names[event] : "?";
}

void gw_tell(struct gw_engine *e, enum gw_event event, const struct lease *l)
{
	if (e->ops->event)
		e->ops->event(e->ctx, event, l);
}

void gw_engine_set_uplink(struct gw_engine *e, const struct gw_uplink *uplink)
{
	bool changed = uplink->online != e->uplink.online || !e->uplink.checked_s;

	e->uplink = *uplink;
	if (changed && uplink->checked_s)
		gw_tell(e, uplink->online ? GW_EVENT_UPLINK_ONLINE : GW_EVENT_UPLINK_OFFLINE, NULL);
}

const struct gw_uplink *gw_engine_uplink(const struct gw_engine *e)
{
	return &e->uplink;
}

/* ---- refusals ---- */

static bool refuse(struct gw_engine *e, struct gw_refusal *why, bool temporary, const char *fmt,
		   ...) __attribute__((format(printf, 4, 5)));

static bool refuse(struct gw_engine *e, struct gw_refusal *why, bool temporary, const char *fmt,
		   ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why->text, sizeof(why->text), fmt, ap);
	va_end(ap);
	why->temporary = temporary;
	e->counters.refused++;
	return false;
}

static bool refuse_store(struct gw_engine *e, struct gw_refusal *why, int rc)
{
	log_error("lease store: %s", strerror(-rc));
	if (rc == -ENOSPC)
		return refuse(e, why, true,
			      "the gateway's disk is full, it cannot record a lease now");
	return refuse(e, why, true, "the gateway cannot record a lease now");
}

static bool refuse_method(struct gw_engine *e, const char *asked, struct gw_refusal *why)
{
	char names[GW_REFUSAL_MAX / 2] = "";
	size_t len = 0;

	for (size_t i = 0; i < e->method_count && len < sizeof(names); i++)
		len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s", i ? ", " : "",
					e->methods[i].name);
	if (!asked)
		return refuse(e, why, false, "no method asked for; this gateway has: %s", names);
	return refuse(e, why, false, "method '%.31s' is not offered; this gateway has: %s", asked,
		      names);
}

/* ---- the life of a lease ---- */

static void addresses_give(struct gw_engine *e, const struct lease *l)
{
	pool_give(&e->pool4, &l->ip4);
	pool_give(&e->pool6, &l->ip6);
}

/* Both of a lease have one index, so that either tells whose a packet is. */
static int second_take(struct gw_engine *e, struct lease *l)
{
	if (!pool_in_use(&e->pool4) ||
	    pool_take_index(&e->pool6, pool_index(&e->pool4, &l->ip4), &l->ip6))
		return pool_take(&e->pool6, &l->ip6);
	return 0;
}

static int addresses_take(struct gw_engine *e, struct lease *l)
{
	int rc = 0;

	if (pool_in_use(&e->pool4))
		rc = pool_take(&e->pool4, &l->ip4);
	if (!rc && pool_in_use(&e->pool6))
		rc = second_take(e, l);
	if (rc)
		addresses_give(e, l);
	return rc;
}

static void unsettled_add(struct gw_engine *e, struct lease *l, enum lease_change change)
{
	if (l->change != LEASE_SETTLED)
		return;
	l->change = change;
	TAILQ_INSERT_TAIL(&e->unsettled, l, unsettled_link);
}

static void unsettled_remove(struct gw_engine *e, struct lease *l)
{
	if (l->change == LEASE_SETTLED)
		return;
	l->change = LEASE_SETTLED;
	TAILQ_REMOVE(&e->unsettled, l, unsettled_link);
}

/* Takes back what lease_enter did and frees; the store is the caller's business. */
static void lease_leave(struct gw_engine *e, struct lease *l)
{
	gw_account_leave(e, l);
	unsettled_remove(e, l);
	timerq_cancel(&e->timers, &l->expiry);
	lease_table_remove(&e->leases, l);
	addresses_give(e, l);
	lease_free(l);
}

static void lease_expired(struct timer *t, uint64_t now)
{
	struct lease *l = (struct lease *)((char *)t - offsetof(struct lease, expiry));
	struct gw_engine *e = t->owner;
	int rc;

	(void)now;
	log_info("lease %.8s... expired", l->sid);
	e->counters.expired++;
	gw_tell(e, GW_EVENT_EXPIRED, l);
	gw_usage_close(e, l);
	rc = e->ops->lease_delete(e->ctx, l->sid);
	if (rc) /* a row that stays is over all the same: the next start drops it */
		log_warn("expired lease stays in the store: %s", strerror(-rc));
	lease_leave(e, l);
}

/* Table and timer for a lease that has its addresses.  On error nothing has changed. */
static int lease_enter(struct gw_engine *e, struct lease *l)
{
	int rc = lease_table_add(&e->leases, l);

	if (rc)
		return rc;
	timer_init(&l->expiry, lease_expired, e);
	rc = timerq_set(&e->timers, &l->expiry, l->expires_s * US_PER_S);
	if (!rc)
		rc = gw_account_enter(e, l);
	if (!rc) {
		l->rate_now_kbps = gw_rate_due(e, l);
		return 0;
	}
	timerq_cancel(&e->timers, &l->expiry);
	lease_table_remove(&e->leases, l);
	return rc;
}

/* 0, or -errno of the store and the lease lives on. */
static int lease_end(struct gw_engine *e, struct lease *l)
{
	int rc = e->ops->lease_delete(e->ctx, l->sid);

	if (rc)
		return rc;
	gw_tell(e, GW_EVENT_RELEASED, l);
	gw_usage_close(e, l);
	lease_leave(e, l);
	return 0;
}

static bool sid_choose(struct gw_engine *e, const struct gw_request *req, char *sid)
{
	uint8_t random[LEASE_SID_RANDOM_BYTES];

	if (req->sid) {
		cstr_copy(sid, SID_MAX + 1, req->sid);
		return true;
	}
	for (int i = 0; i < SID_TRIES; i++) {
		e->ops->random_bytes(e->ctx, random, sizeof(random));
		lease_sid_make(random, sid);
		if (!lease_table_by_sid(&e->leases, sid))
			return true;
	}
	return false;
}

static int options_copy(struct lease *l, const char *options)
{
	l->options = NULL;
	if (!options || !*options)
		return 0;
	l->options = strdup(options);
	return l->options ? 0 : -ENOMEM;
}

static struct lease *lease_make(struct gw_engine *e, const struct gw_request *req, uint64_t now_s)
{
	struct lease *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	if (!sid_choose(e, req, l->sid) || options_copy(l, req->options)) {
		lease_free(l);
		return NULL;
	}
	cstr_copy(l->method, sizeof(l->method), req->method);
	cstr_copy(l->name, sizeof(l->name), req->name ? req->name : "");
	l->port = req->port;
	l->who = req->who;
	l->who.host.port = 0;
	l->granted_s = now_s;
	l->expires_s = now_s + e->terms.lease_s;
	l->rate_kbps = e->terms.rate_kbps;
	l->quota_bytes = e->terms.quota_bytes;
	return l;
}

/* Saved first, then the tunnel.  On an error it is neither; the caller drops the lease. */
static bool lease_activate(struct gw_engine *e, struct lease *l, struct gw_refusal *why)
{
	char text[GW_WHY_MAX] = "";
	int rc = e->ops->lease_save(e->ctx, l), del;

	if (rc)
		return refuse_store(e, why, rc);
	rc = e->ops->tunnel_open(e->ctx, l, text);
	if (!rc) {
		lease_table_opened(&e->leases, l);
		return true;
	}
	del = e->ops->lease_delete(e->ctx, l->sid);
	if (del) /* the next start finds it and lets it run out */
		log_error("lease store: %s", strerror(-del));
	return refuse(e, why, rc != -EINVAL, "method '%s': %s", l->method,
		      *text ? text : strerror(-rc));
}

static bool code_good(struct gw_engine *e, const struct gw_request *req, uint64_t now_s,
		      char name[LEASE_NAME_MAX + 1], struct gw_refusal *why)
{
	*name = '\0';
	if (!req->code && e->terms.code_required)
		return refuse(e, why, false, "an access code is needed (options.code)");
	if (!req->code)
		return true;
	if (!codeguard_allows(&e->codes, &req->who, now_s))
		return refuse(e, why, true, "too many wrong access codes; try again in a minute");
	if (e->ops->code_find(e->ctx, req->code, name) == 0)
		return true;
	codeguard_wrong(&e->codes, &req->who, now_s);
	return refuse(e, why, false, "this access code is not known");
}

/* With nothing to step down to, a month that is used up is over. */
static bool within_quota(struct gw_engine *e, const struct gw_request *req, const char *code,
			 struct gw_refusal *why)
{
	char who[ACCOUNT_WHO_MAX + 1];
	struct account *a;
	bool over;

	if (!e->terms.month_quota_bytes || e->terms.step_down_kbps)
		return true;
	account_who(&req->who, code, who);
	a = gw_account_open(e, who);
	over = a && gw_month_used_up(e, a);
	if (a && !a->leases && !a->dirty)
		account_remove(&e->accounts, a);
	return over ? refuse(e, why, true, "this month's quota (%llu bytes) is used up",
			     (unsigned long long)e->terms.month_quota_bytes)
		    : true;
}

static bool grant(struct gw_engine *e, const struct gw_request *req, uint64_t now_s,
		  const struct lease **out, struct gw_refusal *why)
{
	char code[LEASE_NAME_MAX + 1];
	struct lease *l;

	if (!code_good(e, req, now_s, code, why) || !within_quota(e, req, code, why))
		return false;
	l = lease_make(e, req, now_s);
	if (!l)
		return refuse(e, why, true, "the gateway is out of memory");
	cstr_copy(l->code, sizeof(l->code), code);
	if (addresses_take(e, l)) {
		lease_free(l);
		return refuse(e, why, true, "the gateway has no free address");
	}
	if (lease_enter(e, l)) {
		addresses_give(e, l);
		lease_free(l);
		return refuse(e, why, true, "the gateway cannot hold another lease now");
	}
	if (!lease_activate(e, l, why)) {
		lease_leave(e, l);
		return false;
	}
	unsettled_add(e, l, LEASE_GRANTED);
	*out = l;
	return true;
}

/* ---- requests ---- */

/* Is this gateway able to serve anybody new by this method? */
static bool may_serve(struct gw_engine *e, const struct gw_method *m, struct gw_refusal *why)
{
	if (!m->ready)
		return refuse(e, why, true, "method '%s' is not ready", m->name);
	if (!e->uplink.online)
		return refuse(e, why, true, "the gateway's uplink is %s",
			      e->uplink.checked_s ? "down" : "not yet proven");
	return true;
}

static bool within_limits(struct gw_engine *e, const struct gw_request *req, struct gw_refusal *why)
{
	if (e->leases.count >= e->terms.max_subscribers || e->leases.count >= GW_SUBSCRIBERS_MAX)
		return refuse(e, why, true, "the gateway is full (%zu subscribers)",
			      e->leases.count);
	if (e->terms.sessions_per_host &&
	    lease_table_count_host(&e->leases, &req->who) >= e->terms.sessions_per_host)
		return refuse(e, why, true, "too many sessions from this host (limit %llu)",
			      (unsigned long long)e->terms.sessions_per_host);
	return true;
}

/* An app has one lease a method.  Whoever is the app's owner gets a new one in its place: the
 * subscriber lost its sid, or a host had claimed the app before the app itself came. */
static bool app_is_free(struct gw_engine *e, const struct gw_request *req, struct gw_refusal *why)
{
	struct lease *l;
	int rc;

	if (!lease_binding_has_app(&req->who))
		return true;
	l = lease_table_by_app(&e->leases, req->method, &req->who.node, req->who.app);
	if (!l)
		return true;
	if (!lease_belongs_to(l, &req->who))
		return refuse(e, why, true, "no session for this subscriber now");
	rc = lease_end(e, l);
	return rc ? refuse_store(e, why, rc) : true;
}

/* The lease that the caller holds already and asks for again. */
static struct lease *held_lease(struct gw_engine *e, const struct gw_request *req)
{
	struct lease *l;

	if (req->sid)
		return lease_table_by_sid(&e->leases, req->sid);
	l = lease_table_by_owner(&e->leases, req->method, &req->who);
	/* Who proves to be the app shares no sid with a host that only claimed to be it. */
	return l && req->who.proven && !l->who.proven ? NULL : l;
}

/* Saved, or as before. */
static int lease_extend(struct gw_engine *e, struct lease *l, uint64_t now_s)
{
	uint64_t before = l->expires_s;
	int rc;

	l->expires_s = now_s + e->terms.lease_s;
	if (l->expires_s < before) /* the lease time was shortened: what is promised stands */
		l->expires_s = before;
	rc = e->ops->lease_save(e->ctx, l);
	if (rc) {
		l->expires_s = before;
		return rc;
	}
	/* armed already: cannot fail */
	timerq_set(&e->timers, &l->expiry, l->expires_s * US_PER_S);
	if (l->change == LEASE_SETTLED)
		l->settled_s = before;
	unsettled_add(e, l, LEASE_EXTENDED);
	return 0;
}

/* The tunnel as the lease now says.  False: it cannot be had, and the lease is over. */
static bool lease_reopen(struct gw_engine *e, struct lease *l, struct gw_refusal *why)
{
	log_info("lease %.8s... goes on at another address of its owner", l->sid);
	gw_usage_close(e, l);
	l->seen_up = l->seen_down = 0;
	lease_table_closed(&e->leases, l);
	if (lease_activate(e, l, why))
		return true;
	gw_tell(e, GW_EVENT_RELEASED, l);
	lease_leave(e, l);
	return false;
}

/* The owner of a key asks again: what it says now holds.  From another address, or with other
 * options, its tunnel is made anew; addresses, usage and end stay. */
static bool lease_follow(struct gw_engine *e, struct lease *l, const struct gw_request *req,
			 struct gw_refusal *why)
{
	const char *asked = req->options ? req->options : "";
	bool same = net_addr_same_ip(&l->who.host, &req->who.host) &&
		    strcmp(l->options ? l->options : "", asked) == 0;
	struct lease_binding before = l->who;
	char *options = l->options, *copy;
	int rc;

	if (req->who.stamp <= l->who.stamp)
		return true;
	copy = strdup(asked);
	if (!copy)
		return refuse(e, why, true, "the gateway is out of memory");
	l->options = copy;
	l->who.host = req->who.host;
	l->who.host.port = 0;
	l->who.stamp = req->who.stamp;
	rc = e->ops->lease_save(e->ctx, l);
	if (rc) {
		l->who = before;
		l->options = options;
		free(copy);
		return refuse_store(e, why, rc);
	}
	free(options);
	return same || lease_reopen(e, l, why);
}

static bool repeat(struct gw_engine *e, const struct gw_request *req, struct lease *l,
		   uint64_t now_s, const struct lease **out, struct gw_refusal *why)
{
	int rc = 0;

	if (!lease_belongs_to(l, &req->who))
		return refuse(e, why, false,
			      lease_binding_has_key(&req->who) &&
					      mesh_id_equal(&l->who.key, &req->who.key)
				      ? "a later call of this subscriber was here already"
				      : "this sid cannot be used");
	if (strcmp(l->method, req->method) != 0)
		return refuse(e, why, false, "this session uses method '%s'; release it first",
			      l->method);
	if (lease_binding_has_key(&l->who) && !lease_follow(e, l, req, why))
		return false;
	/* Who comes back late (a restart) must not lose the lease before its first renewal. */
	if ((l->expires_s - now_s) * 4 < e->terms.lease_s * 3)
		rc = lease_extend(e, l, now_s);
	if (rc)
		return refuse_store(e, why, rc);
	e->counters.repeated++;
	*out = l;
	return true;
}

bool gw_engine_request(struct gw_engine *e, const struct gw_request *req, uint64_t now_s,
		       const struct lease **out, struct gw_refusal *why)
{
	const struct gw_method *m;
	struct lease *l;

	gw_engine_run(e, now_s);
	m = req->method ? method_find(e, req->method) : NULL;
	if (!m)
		return refuse_method(e, req->method, why);
	if (m->needs_app && !lease_binding_has_app(&req->who))
		return refuse(e, why, false,
			      "method '%s' needs options {node, app}: who will use the tunnel",
			      m->name);
	l = held_lease(e, req);
	if (l)
		return repeat(e, req, l, now_s, out, why);
	return may_serve(e, m, why) && app_is_free(e, req, why) && within_limits(e, req, why) &&
	       grant(e, req, now_s, out, why);
}

static struct lease *manageable(struct gw_engine *e, const char *sid,
				const struct lease_binding *caller, struct gw_refusal *why)
{
	struct lease *l = lease_table_by_sid(&e->leases, sid);

	if (l && lease_may_manage(l, caller)) {
		if (mesh_id_equal(&l->who.key, &caller->key) && caller->stamp > l->who.stamp)
			l->who.stamp = caller->stamp;
		return l;
	}
	refuse(e, why, false, "no such session");
	return NULL;
}

bool gw_engine_renew(struct gw_engine *e, const char *sid, const struct lease_binding *caller,
		     uint64_t now_s, const struct lease **out, struct gw_refusal *why)
{
	struct lease *l;
	int rc;

	gw_engine_run(e, now_s);
	l = manageable(e, sid, caller, why);
	if (!l)
		return false;
	rc = lease_extend(e, l, now_s);
	if (rc)
		return refuse_store(e, why, rc);
	e->counters.renewed++;
	*out = l;
	return true;
}

bool gw_engine_release(struct gw_engine *e, const char *sid, const struct lease_binding *caller,
		       uint64_t now_s, struct gw_refusal *why)
{
	struct lease *l;
	int rc;

	gw_engine_run(e, now_s);
	l = manageable(e, sid, caller, why);
	if (!l)
		return false;
	rc = lease_end(e, l);
	if (rc)
		return refuse_store(e, why, rc);
	e->counters.released++;
	return true;
}

/* ---- settlement ---- */

bool gw_engine_unsettled(const struct gw_engine *e)
{
	return !TAILQ_EMPTY(&e->unsettled);
}

static void lease_stands(struct gw_engine *e, struct lease *l)
{
	bool new = l->change == LEASE_GRANTED;

	unsettled_remove(e, l);
	if (new)
		e->counters.granted++;
	gw_tell(e, new ? GW_EVENT_GRANTED : GW_EVENT_RENEWED, l);
}

static void lease_falls(struct gw_engine *e, struct lease *l)
{
	if (l->change == LEASE_GRANTED) {
		gw_usage_close(e, l);
		lease_leave(e, l);
		return;
	}
	unsettled_remove(e, l);
	l->expires_s = l->settled_s;
	timerq_set(&e->timers, &l->expiry, l->expires_s * US_PER_S);
}

void gw_engine_settle(struct gw_engine *e, int rc)
{
	struct lease *l;

	while ((l = TAILQ_FIRST(&e->unsettled))) {
		if (rc)
			lease_falls(e, l);
		else
			lease_stands(e, l);
	}
}

void gw_engine_refuse_store(struct gw_engine *e, int rc, struct gw_refusal *why)
{
	refuse_store(e, why, rc);
}

bool gw_engine_end(struct gw_engine *e, const char *sid)
{
	struct lease *l = lease_table_by_sid(&e->leases, sid);
	int rc;

	if (!l)
		return false;
	rc = e->ops->lease_delete(e->ctx, sid);
	if (rc) /* the next start finds it and lets it run out */
		log_error("lease store: %s", strerror(-rc));
	gw_tell(e, GW_EVENT_RELEASED, l);
	gw_usage_close(e, l);
	lease_leave(e, l);
	return true;
}

size_t gw_engine_remove_method(struct gw_engine *e, const char *name)
{
	struct gw_method *m = method_find(e, name);
	struct lease *l, *next;
	size_t ended = 0, after;

	if (!m)
		return 0;
	for (l = TAILQ_FIRST(&e->leases.all); l; l = next) {
		next = TAILQ_NEXT(l, link);
		if (strcmp(l->method, m->name) == 0)
			ended += gw_engine_end(e, l->sid);
	}
	after = e->method_count - 1 - (size_t)(m - e->methods);
	memmove(m, m + 1, after * sizeof(*m));
	e->method_count--;
	return ended;
}

/* ---- after a restart ---- */

/* Only addresses of the present pools; -ERANGE when the operator changed them. */
static int addresses_retake(struct gw_engine *e, const struct lease *l)
{
	int rc;

	if ((l->ip4.family != 0) != pool_in_use(&e->pool4) ||
	    (l->ip6.family != 0) != pool_in_use(&e->pool6))
		return -ERANGE;
	rc = pool_in_use(&e->pool4) ? pool_take_exact(&e->pool4, &l->ip4) : 0;
	if (rc || !pool_in_use(&e->pool6))
		return rc;
	rc = pool_take_exact(&e->pool6, &l->ip6);
	if (rc)
		pool_give(&e->pool4, &l->ip4);
	return rc;
}

/* Addresses, table, timer and tunnel, or nothing. */
static int lease_resume(struct gw_engine *e, struct lease *l)
{
	char why[GW_WHY_MAX];
	int rc = addresses_retake(e, l);

	if (rc)
		return rc;
	rc = lease_enter(e, l);
	if (!rc) {
		rc = e->ops->tunnel_open(e->ctx, l, why);
		if (!rc) {
			lease_table_opened(&e->leases, l);
			return 0;
		}
		timerq_cancel(&e->timers, &l->expiry);
		gw_account_leave(e, l);
		lease_table_remove(&e->leases, l);
	}
	addresses_give(e, l);
	return rc;
}

static int restore_copy(struct gw_engine *e, const struct lease *saved, uint64_t now_s)
{
	struct lease *l = malloc(sizeof(*l));
	int rc;

	if (!l)
		return -ENOMEM;
	*l = *saved;
	l->change = LEASE_SETTLED;
	l->account = NULL;
	l->seen_up = l->seen_down = 0;
	l->used = false;
	l->interface[0] = '\0';
	l->source4 = l->source6 = (struct net_addr){0};
	if (l->expires_s > now_s + e->terms.lease_s)
		l->expires_s = now_s + e->terms.lease_s;
	rc = options_copy(l, saved->options);
	if (!rc)
		rc = lease_resume(e, l);
	if (rc)
		lease_free(l);
	return rc;
}

int gw_engine_restore(struct gw_engine *e, const struct lease *saved, uint64_t now_s)
{
	int rc;

	if (lease_table_by_sid(&e->leases, saved->sid))
		return -EEXIST;
	if (saved->expires_s > now_s && method_find(e, saved->method)) {
		rc = restore_copy(e, saved, now_s);
		if (!rc)
			return 0;
		log_warn("lease %.8s... of an earlier run is given up: %s", saved->sid,
			 strerror(-rc));
	}
	gw_tell(e, GW_EVENT_EXPIRED, saved);
	rc = e->ops->lease_delete(e->ctx, saved->sid);
	return rc ? rc : -ESTALE;
}

/* ---- looking ---- */

const struct lease *gw_engine_lease(const struct gw_engine *e, const char *sid)
{
	return lease_table_by_sid(&e->leases, sid);
}

const struct lease *gw_engine_lease_of(const struct gw_engine *e, const char *method,
				       const struct mesh_id *node, const char *app)
{
	return lease_table_by_app(&e->leases, method, node, app);
}

const struct lease *gw_engine_lease_after(const struct gw_engine *e, const struct lease *l)
{
	return l ? TAILQ_NEXT(l, link) : TAILQ_FIRST(&e->leases.all);
}

size_t gw_engine_lease_count(const struct gw_engine *e)
{
	return e->leases.count;
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

uint64_t gw_engine_free_slots(const struct gw_engine *e)
{
	uint64_t max = at_most(e->terms.max_subscribers, GW_SUBSCRIBERS_MAX);
	uint64_t n = max > e->leases.count ? max - e->leases.count : 0;

	if (pool_in_use(&e->pool4))
		n = at_most(n, pool_left(&e->pool4));
	if (pool_in_use(&e->pool6))
		n = at_most(n, pool_left(&e->pool6));
	return n;
}

const struct pool *gw_engine_pool4(const struct gw_engine *e)
{
	return &e->pool4;
}

const struct pool *gw_engine_pool6(const struct gw_engine *e)
{
	return &e->pool6;
}

const struct gw_counters *gw_engine_counters(const struct gw_engine *e)
{
	return &e->counters;
}

uint64_t gw_engine_next_s(const struct gw_engine *e)
{
	uint64_t at_us = timerq_next(&e->timers);

	return at_us == TIMER_NEVER ? GW_NEVER : at_us / US_PER_S;
}

void gw_engine_run(struct gw_engine *e, uint64_t now_s)
{
	timerq_run(&e->timers, now_s * US_PER_S);
}
