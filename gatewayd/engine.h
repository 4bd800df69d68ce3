/*
 * What the gateway decides: who gets a lease, with which addresses, until when.  Sans-I/O:
 * wall-clock seconds (`now_s`) and the subscriber's identity are arguments, effects go out through
 * gw_ops.
 *
 * A lease is durable before it is answered.  The shell gathers what is saved in one turn of its
 * loop into one transaction, then calls gw_engine_settle with the outcome, and only then answers:
 * what was granted or extended since the last settlement stands, or is taken back.  When opening a
 * tunnel fails, everything done for the lease is taken back at once.  Asking twice gives the same
 * lease; one that has used up a quarter of its time is renewed by that.
 */
#ifndef GATEWAYD_ENGINE_H
#define GATEWAYD_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gatewayd/account.h"
#include "gatewayd/codeguard.h"
#include "gatewayd/lease.h"
#include "gatewayd/pool.h"

#define GW_METHODS_MAX 16
#define GW_WHY_MAX 160
#define GW_REFUSAL_MAX 200
#define GW_SUBSCRIBERS_MAX 65535u
#define GW_NEVER UINT64_MAX

enum gw_event {
	GW_EVENT_GRANTED,
	GW_EVENT_RENEWED,
	GW_EVENT_RELEASED,
	GW_EVENT_EXPIRED,
	GW_EVENT_QUOTA, /* used up: it is slowed down, or ended */
	GW_EVENT_UPLINK_ONLINE,
	GW_EVENT_UPLINK_OFFLINE,
};
/* "lease.granted" and so on. */
const char *gw_event_name(enum gw_event event);

/* All return 0 or -errno.  None may call back into the engine. */
struct gw_ops {
	int (*lease_save)(void *ctx, const struct lease *l); /* durable with the settlement */
	int (*lease_delete)(void *ctx, const char *sid);
	/* Sets l->interface.  -EINVAL: the options are wrong, asking again is of no use.  On an
	 * error `why` (GW_WHY_MAX bytes) is a sentence for the subscriber. */
	int (*tunnel_open)(void *ctx, struct lease *l, char *why);
	void (*tunnel_close)(void *ctx, const struct lease *l);
	/* l->rate_now_kbps holds from now on. */
	void (*rate_set)(void *ctx, const struct lease *l);
	/* Its bytes as the host's counters have them now; false: nothing is known. */
	bool (*lease_count)(void *ctx, const struct lease *l, uint64_t *up, uint64_t *down);
	/* What was used before; -ENOENT. */
	int (*account_load)(void *ctx, const char *who, uint32_t month, uint64_t *up,
			    uint64_t *down);
	int (*account_save)(void *ctx, const struct account *a);
	int (*usage_save)(void *ctx, const struct lease *l);
	/* The name of an access code; -ENOENT. */
	int (*code_find)(void *ctx, const char *code, char name[LEASE_NAME_MAX + 1]);
	void (*random_bytes)(void *ctx, void *out, size_t len);
	/* For whoever watches; `l` is the lease it is about, NULL for the uplink.  May be NULL. */
	void (*event)(void *ctx, enum gw_event event, const struct lease *l);
};

struct gw_terms {
	uint64_t max_subscribers;	 /* 1 .. GW_SUBSCRIBERS_MAX */
	uint64_t sessions_per_host;	 /* 0: no limit */
	uint64_t lease_s;		 /* how long a lease lasts, at least 1 */
	uint64_t rate_kbps, quota_bytes; /* of new leases; 0: no limit */
	uint64_t month_quota_bytes;	 /* of one subscriber; 0: no limit */
	uint64_t step_down_kbps;	 /* when a quota is used up; 0: the lease ends */
	bool code_required;
};

struct gw_uplink {
	bool online;
	uint64_t checked_s; /* wall clock; 0: not yet checked */
	uint64_t rtt_us;
};

struct gw_method {
	char name[LEASE_METHOD_MAX + 1];
	bool needs_app; /* bound to (node, app), one lease each */
	bool ready;	/* else requests are refused for now */
};

struct gw_request {
	const char *sid;     /* valid per sid_valid, or NULL: the gateway makes one */
	const char *name;    /* NULL or at most LEASE_NAME_MAX bytes */
	const char *method;  /* NULL is refused like one we do not have */
	const char *options; /* NULL or at most LEASE_OPTIONS_MAX bytes */
	const char *code;    /* access code; NULL: none */
	uint16_t port;
	struct lease_binding who;
};

struct gw_refusal {
	bool temporary; /* asking again later may help */
	char text[GW_REFUSAL_MAX];
};

struct gw_counters {
	uint64_t granted, repeated, renewed, released, expired, refused;
};

struct gw_engine;

/*
 * Prefixes as in pool_init; at least one must not be empty.  `seed` is random.
 * 0, -ENOMEM, or what pool_init says.  `ops` must outlive the engine.
 */
int gw_engine_new(struct gw_engine **out, const char *pool4, const char *pool6,
		  const struct gw_terms *terms, uint64_t seed, const struct gw_ops *ops, void *ctx);
/* Leases stay in the store, tunnels are not closed: the next start goes on with them. */
void gw_engine_free(struct gw_engine *e);
/* For leases made from now on; more subscribers than a lower limit stay until they leave. */
void gw_engine_set_terms(struct gw_engine *e, const struct gw_terms *terms);
const struct gw_terms *gw_engine_terms(const struct gw_engine *e);
/* Offers a method, not ready at first.  -ENOSPC, -EINVAL (length), -EEXIST. */
int gw_engine_add_method(struct gw_engine *e, const char *name, bool needs_app);
/* Ends its leases, and offers it no longer.  How many they were. */
size_t gw_engine_remove_method(struct gw_engine *e, const char *name);
void gw_engine_set_ready(struct gw_engine *e, const char *method, bool ready);
size_t gw_engine_methods(const struct gw_engine *e, const struct gw_method **out);
void gw_engine_set_uplink(struct gw_engine *e, const struct gw_uplink *uplink);
const struct gw_uplink *gw_engine_uplink(const struct gw_engine *e);

/*
 * Takes up a lease of an earlier run (from the store; copied, private fields ignored) and opens its
 * tunnel.  -EEXIST: it is here already.  -ESTALE: it is over, or no longer fits pools or methods;
 * then it was deleted from the store.  A lease is cut to the present lease time, so that a clock
 * that was wrong does not make it eternal.
 */
int gw_engine_restore(struct gw_engine *e, const struct lease *saved, uint64_t now_s);

/* True and *out (valid until the next call that changes leases; to be answered after the
 * settlement), or false and *why. */
bool gw_engine_request(struct gw_engine *e, const struct gw_request *req, uint64_t now_s,
		       const struct lease **out, struct gw_refusal *why);
bool gw_engine_renew(struct gw_engine *e, const char *sid, const struct lease_binding *caller,
		     uint64_t now_s, const struct lease **out, struct gw_refusal *why);
bool gw_engine_release(struct gw_engine *e, const char *sid, const struct lease_binding *caller,
		       uint64_t now_s, struct gw_refusal *why);

/* Has anything been granted or extended since the last settlement? */
bool gw_engine_unsettled(const struct gw_engine *e);
/* `rc`: 0 when what was saved is durable, else the error of the store. */
void gw_engine_settle(struct gw_engine *e, int rc);
/* What the subscriber is told when it was not. */
void gw_engine_refuse_store(struct gw_engine *e, int rc, struct gw_refusal *why);
/* Ends a lease, whosever it is: its administrator says so, or the host cannot carry it.  False:
 * there is none. */
bool gw_engine_end(struct gw_engine *e, const char *sid);
const struct lease *gw_engine_lease(const struct gw_engine *e, const char *sid);
/*
 * Usage: the shell reads all of the host's counters between begin and end, a leased address at a
 * time, every few seconds.  Quotas are looked at in the end; what was used is saved.  The month is
 * a number like 202611; leases that are granted or ended later belong to it too.
 */
void gw_engine_set_month(struct gw_engine *e, uint32_t month);
void gw_engine_count_begin(struct gw_engine *e);
void gw_engine_count(struct gw_engine *e, const struct net_addr *addr, bool up, uint64_t bytes);
void gw_engine_count_end(struct gw_engine *e);
/* The host's counters begin again at zero. */
void gw_engine_counters_reset(struct gw_engine *e);
/* The lease that an app's data belongs to; NULL. */
const struct lease *gw_engine_lease_of(const struct gw_engine *e, const char *method,
				       const struct mesh_id *node, const char *app);
/* Walks all leases, oldest first: NULL begins, NULL ends. */
const struct lease *gw_engine_lease_after(const struct gw_engine *e, const struct lease *l);
size_t gw_engine_lease_count(const struct gw_engine *e);
/* How many more leases could be granted. */
uint64_t gw_engine_free_slots(const struct gw_engine *e);
const struct pool *gw_engine_pool4(const struct gw_engine *e);
const struct pool *gw_engine_pool6(const struct gw_engine *e);
const struct gw_counters *gw_engine_counters(const struct gw_engine *e);

/* When the next lease ends, or GW_NEVER; gw_engine_run ends what is due. */
uint64_t gw_engine_next_s(const struct gw_engine *e);
void gw_engine_run(struct gw_engine *e, uint64_t now_s);
#endif
