/* Between engine.c (who gets a lease) and engine_usage.c (what it may carry). */
#ifndef GATEWAYD_ENGINE_INT_H
#define GATEWAYD_ENGINE_INT_H

#include "gatewayd/engine.h"

struct gw_engine {
	struct pool pool4, pool6;
	struct gw_terms terms;
	struct gw_uplink uplink;
	struct gw_method methods[GW_METHODS_MAX];
	size_t method_count;
	struct lease_table leases;
	struct lease_list unsettled; /* by unsettled_link */
	struct account_table accounts;
	struct codeguard codes;
	uint32_t month;
	struct timerq timers; /* of wall-clock time */
	struct gw_counters counters;
	const struct gw_ops *ops;
	void *ctx;
};

void gw_tell(struct gw_engine *e, enum gw_event event, const struct lease *l);

/* The account that a lease's traffic goes to; -ENOMEM. */
int gw_account_enter(struct gw_engine *e, struct lease *l);
void gw_account_leave(struct gw_engine *e, struct lease *l);
/* Without a lease: NULL when there is no memory for it.  Who asks removes it when nobody uses it.
 */
struct account *gw_account_open(struct gw_engine *e, const char *who);
bool gw_month_used_up(const struct gw_engine *e, const struct account *a);
uint64_t gw_rate_due(const struct gw_engine *e, const struct lease *l);
/* Closes a lease's tunnel; the last that its counters say counts too. */
void gw_usage_close(struct gw_engine *e, struct lease *l);
#endif
