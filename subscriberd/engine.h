/*
 * What the subscriber decides: which gateway to use, when to renew, when to leave it.  Sans-I/O:
 * `now` is monotonic microseconds, effects go out through sub_ops, answers come back through the
 * sub_engine_on_... calls with the number that the question carried, so that a late answer to an
 * old question changes nothing.
 *
 *   IDLE -> REQUESTING -> OPENING -> ONLINE -> (dead) -> REQUESTING the next ...
 */
#ifndef SUBSCRIBERD_ENGINE_H
#define SUBSCRIBERD_ENGINE_H

#include "base/prefix.h"
#include "base/timerq.h"
#include "subscriberd/gateway.h"

#define SUB_GATEWAYS_MAX 256u

enum sub_state { SUB_IDLE, SUB_REQUESTING, SUB_OPENING, SUB_ONLINE };
const char *sub_state_name(enum sub_state s);

/* What requestConnection granted, as far as every method has it. */
struct sub_lease {
	char sid[65];
	char method[SUB_METHOD_NAME_MAX + 1];
	uint64_t lease_seconds;
	struct net_prefix ip4, ip6; /* ours; family 0: none */
	struct net_addr gateway4, gateway6;
};

enum sub_event_kind {
	SUB_EVENT_STATE,    /* from, to */
	SUB_EVENT_LOST,	    /* a gateway was given up: why */
	SUB_EVENT_FAILOVER, /* online again by another way: outage_us */
};
/* "session.state" and so on. */
const char *sub_event_name(enum sub_event_kind kind);
struct sub_event {
	enum sub_event_kind kind;
	enum sub_state from, to;
	const struct sub_gateway *gateway; /* may be NULL */
	const char *why;
	uint64_t outage_us;
};

struct sub_ops {
	/* Each starts something; exactly one sub_engine_on_... call with `serial` follows, later.
	 */
	void (*ask_info)(void *ctx, const struct sub_gateway *g, uint64_t serial);
	void (*request)(void *ctx, const struct sub_gateway *g, const char *method,
			uint64_t serial);
	void (*renew)(void *ctx, const struct sub_gateway *g, const char *sid, uint64_t serial);
	/* Sends one probe through the tunnel. */
	void (*probe)(void *ctx, uint64_t serial);
	/* No answer is expected. */
	void (*release)(void *ctx, const struct sub_gateway *g, const char *sid);
	/* Opens the tunnel of the lease just granted; sub_engine_on_tunnel follows. */
	void (*tunnel_open)(void *ctx, const struct sub_gateway *g, const struct sub_lease *lease,
			    uint64_t serial);
	void (*tunnel_close)(void *ctx);
	/* Traffic goes through the tunnel from here on.  0, or -errno: then it is given up. */
	int (*go_online)(void *ctx, const struct sub_lease *lease);
	/* `hold`: we are looking for another gateway, let nothing leave by another way meanwhile.
	 */
	void (*go_offline)(void *ctx, bool hold);
	void (*save)(void *ctx, const struct sub_gateway *g);
	/* The list of apps and the configured addresses should be read again. */
	void (*discover)(void *ctx);
	/* For whoever watches.  May be NULL. */
	void (*event)(void *ctx, const struct sub_event *event);
};

struct sub_policy {
	const char *methods[SUB_METHODS_MAX]; /* accepted, the preferred first; kept alive by the
						 caller */
	size_t method_count;
	bool auto_connect;
	uint64_t scan_interval_us, probe_interval_us;
	unsigned probe_losses;
};

struct sub_engine;

struct sub_engine *sub_engine_new(const struct sub_policy *policy, const struct sub_ops *ops,
				  void *ctx, uint64_t now);
void sub_engine_free(struct sub_engine *e);
void sub_engine_set_policy(struct sub_engine *e, const struct sub_policy *policy, uint64_t now);
uint64_t sub_engine_next(const struct sub_engine *e);
void sub_engine_run(struct sub_engine *e, uint64_t now);

/* A gateway was found, or is known from the store (`known` with its quality; may be NULL).
 * -ENOSPC at the limit (counted). */
int sub_engine_found(struct sub_engine *e, const struct sub_contact *c,
		     const struct sub_gateway *known, uint64_t now_s, uint64_t now);
/* apptracker no longer lists it. */
void sub_engine_vanished(struct sub_engine *e, const struct sub_contact *c, uint64_t now);

/* Answers.  `error` is NULL on success. */
void sub_engine_on_info(struct sub_engine *e, uint64_t serial, const struct sub_info *info,
			double rtt_ms, const char *error, uint64_t now_s, uint64_t now);
void sub_engine_on_lease(struct sub_engine *e, uint64_t serial, const struct sub_lease *lease,
			 const char *error, uint64_t now);
/* gone: the gateway does not know the lease any more, ask anew; else it may be a passing fault. */
void sub_engine_on_renewed(struct sub_engine *e, uint64_t serial, const char *error, bool gone,
			   uint64_t now);
void sub_engine_on_tunnel(struct sub_engine *e, uint64_t serial, bool up, const char *text,
			  uint64_t now);
/* The tunnel is interrupted and tries again by itself.  Whoever else is usable is taken soon,
 * unless sub_engine_on_tunnel says first that it is up again. */
void sub_engine_on_trouble(struct sub_engine *e, uint64_t serial, uint64_t now);
void sub_engine_on_probe(struct sub_engine *e, uint64_t serial, bool answered, double rtt_ms,
			 uint64_t now);

/* Orders of the operator.  connect: this one and no other until disconnect (NULL: the best);
 * -ENOENT.  disconnect: stay offline until connect. */
int sub_engine_connect(struct sub_engine *e, const char *key, const char *method, uint64_t now);
void sub_engine_disconnect(struct sub_engine *e, uint64_t now);
void sub_engine_scan(struct sub_engine *e, uint64_t now);
/* Leaves the gateway in order: lease released, tunnel closed, routes taken back. */
void sub_engine_stop(struct sub_engine *e, uint64_t now);

struct sub_status {
	enum sub_state state;
	const struct sub_gateway *gateway; /* in use; NULL when IDLE */
	const struct sub_lease *lease;	   /* NULL unless OPENING or ONLINE */
	uint64_t since_us;		   /* when the state was entered */
	uint64_t failovers;
	uint64_t last_outage_us; /* from the last sign of the old gateway to ONLINE */
	bool wanted;		 /* false after disconnect */
};
void sub_engine_status(const struct sub_engine *e, struct sub_status *out);
/* Walks the gateways in no order: *it = 0 first; NULL ends. */
const struct sub_gateway *sub_engine_next_gateway(const struct sub_engine *e, size_t *it);
const struct sub_gateway *sub_engine_find(const struct sub_engine *e, const char *key);
double sub_engine_score(const struct sub_engine *e, const struct sub_gateway *g, uint64_t now,
			char why[SUB_WHY_MAX]);
#endif
