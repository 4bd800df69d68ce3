/* What leases use, and what they may. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "gatewayd/engine_int.h"

/* A counter below what it was has begun again. */
static uint64_t grown(uint64_t *seen, uint64_t now)
{
	uint64_t by = now >= *seen ? now - *seen : now;

	*seen = now;
	return by;
}

static void usage_add(struct lease *l, uint64_t up, uint64_t down)
{
	up = grown(&l->seen_up, up);
	down = grown(&l->seen_down, down);
	if (!up && !down)
		return;
	l->up_bytes += up;
	l->down_bytes += down;
	l->used = true;
	if (!l->account)
		return;
	l->account->up_bytes += up;
	l->account->down_bytes += down;
	l->account->dirty = true;
}

void gw_usage_close(struct gw_engine *e, struct lease *l)
{
	uint64_t up, down;

	if (e->ops->lease_count(e->ctx, l, &up, &down))
		usage_add(l, up, down);
	e->ops->tunnel_close(e->ctx, l);
}

void gw_account_leave(struct gw_engine *e, struct lease *l)
{
	struct account *a = l->account;

	l->account = NULL;
	if (!a || --a->leases)
		return;
	if (a->dirty && e->ops->account_save(e->ctx, a) == 0)
		a->dirty = false;
	if (!a->dirty)
		account_remove(&e->accounts, a);
}

struct account *gw_account_open(struct gw_engine *e, const char *who)
{
	struct account *a = account_find(&e->accounts, who);

	if (a)
		return a;
	a = account_add(&e->accounts, who, e->month);
	if (a)
		e->ops->account_load(e->ctx, who, e->month, &a->up_bytes, &a->down_bytes);
	return a;
}

int gw_account_enter(struct gw_engine *e, struct lease *l)
{
	char who[ACCOUNT_WHO_MAX + 1];

	account_who(&l->who, l->code, who);
	l->account = gw_account_open(e, who);
	if (!l->account)
		return -ENOMEM;
	l->account->leases++;
	return 0;
}

bool gw_month_used_up(const struct gw_engine *e, const struct account *a)
{
	return e->terms.month_quota_bytes && account_used(a) >= e->terms.month_quota_bytes;
}

static bool quota_used_up(const struct gw_engine *e, const struct lease *l)
{
	return (l->quota_bytes && l->up_bytes + l->down_bytes >= l->quota_bytes) ||
	       (l->account && gw_month_used_up(e, l->account));
}

uint64_t gw_rate_due(const struct gw_engine *e, const struct lease *l)
{
	uint64_t step = e->terms.step_down_kbps;

	if (!step || !quota_used_up(e, l))
		return l->rate_kbps;
	return l->rate_kbps && l->rate_kbps < step ? l->rate_kbps : step;
}

/* ---- counting ---- */

void gw_engine_set_month(struct gw_engine *e, uint32_t month)
{
	struct account *a;

	if (e->month == month)
		return;
	e->month = month;
	TAILQ_FOREACH(a, &e->accounts.all, link)
		account_turn(a, month);
}

void gw_engine_count_begin(struct gw_engine *e)
{
	struct lease *l;

	TAILQ_FOREACH(l, &e->leases.all, link)
		l->count_up = l->count_down = 0;
}

void gw_engine_count(struct gw_engine *e, const struct net_addr *addr, bool up, uint64_t bytes)
{
	struct lease *l = lease_table_by_addr(&e->leases, addr);

	if (l)
		*(up ? &l->count_up : &l->count_down) += bytes;
}

/* False: it has ended. */
static bool quota_apply(struct gw_engine *e, struct lease *l)
{
	uint64_t rate = gw_rate_due(e, l);

	if (!e->terms.step_down_kbps && quota_used_up(e, l)) {
		log_info("lease %.8s... has used up its quota", l->sid);
		gw_tell(e, GW_EVENT_QUOTA, l);
		gw_engine_end(e, l->sid);
		return false;
	}
	if (rate == l->rate_now_kbps)
		return true;
	l->rate_now_kbps = rate;
	e->ops->rate_set(e->ctx, l);
	if (rate != l->rate_kbps)
		gw_tell(e, GW_EVENT_QUOTA, l);
	return true;
}

static void accounts_save(struct gw_engine *e)
{
	struct account *a, *next;

	for (a = TAILQ_FIRST(&e->accounts.all); a; a = next) {
		next = TAILQ_NEXT(a, link);
		if (a->dirty && e->ops->account_save(e->ctx, a) == 0)
			a->dirty = false;
		if (!a->dirty && !a->leases)
			account_remove(&e->accounts, a);
	}
}

void gw_engine_count_end(struct gw_engine *e)
{
	struct lease *l, *next;

	TAILQ_FOREACH(l, &e->leases.all, link)
		usage_add(l, l->count_up, l->count_down);
	for (l = TAILQ_FIRST(&e->leases.all); l; l = next) {
		next = TAILQ_NEXT(l, link);
		if (quota_apply(e, l) && l->used && e->ops->usage_save(e->ctx, l) == 0)
			l->used = false;
	}
	accounts_save(e);
}

void gw_engine_counters_reset(struct gw_engine *e)
{
	struct lease *l;

	TAILQ_FOREACH(l, &e->leases.all, link)
		l->seen_up = l->seen_down = 0;
}
