/*
 * What the subscriber decides: which gateway to use, when to renew, when to leave it.  Sans-I/O:
 * `now` is monotonic microseconds, effects go out through sub_ops, answers come back through the
 * sub_engine_on_... calls with the number that the question carried, so that a late answer to an
 * old question changes nothing.
 *
 * Two sessions, known to the shell as slots 0 and 1.  One is the active one, which traffic takes;
 * the other is the standby: a lease and an open tunnel at the second-best gateway.  They change
 * roles when the active one fails (at once), or when the standby has stayed better (the new one is
 * in use before the old one becomes the standby, so nothing is lost).
 *
 *   IDLE -> REQUESTING -> OPENING -> STANDBY <-> ONLINE
 *
 * A gateway on our own host leads in a circle, and is used by order only: for a look at how its
 * leases and tunnels come and go.  Such a session is not probed, and the shell leads no traffic
 * into it.
 */
#ifndef SUBSCRIBERD_ENGINE_H
#define SUBSCRIBERD_ENGINE_H

#include "base/prefix.h"
#include "base/timerq.h"
#include "subscriberd/rank.h"

#define SUB_GATEWAYS_MAX 256u
#define SUB_SLOTS 2u
#define SUB_DNS_MAX 3u

enum sub_state { SUB_IDLE, SUB_REQUESTING, SUB_OPENING, SUB_STANDBY, SUB_ONLINE };
const char *sub_state_name(enum sub_state s);

/* What requestConnection granted, as far as every method has it. */
struct sub_lease {
	char sid[SID_MAX + 1];
	char method[SUB_METHOD_NAME_MAX + 1];
	uint64_t lease_seconds;
	struct net_prefix ip4, ip6; /* ours; family 0: none */
	struct net_addr gateway4, gateway6;
	struct net_addr dns[SUB_DNS_MAX];
	unsigned dns_count;
};

enum sub_event_kind {
	SUB_EVENT_STATE,    /* of the active session: from, to */
	SUB_EVENT_STANDBY,  /* of the standby: from, to */
	SUB_EVENT_LOST,	    /* a gateway was given up: why */
	SUB_EVENT_FAILOVER, /* online again by another way: outage_us */
	SUB_EVENT_MOVED,    /* the standby was better: both lived, nothing was lost: why */
};
/* "session.state" and so on. */
const char *sub_event_name(enum sub_event_kind kind);
struct sub_event {
	enum sub_event_kind kind;
	enum sub_state from, to;
	const struct sub_gateway *gateway; /* may be NULL */
	unsigned slot;			   /* STATE and STANDBY: */
	const struct sub_lease *lease;	   /* NULL before there is one */
	const char *why;
	uint64_t outage_us;
};

/* What a probe asks. */
enum sub_probe {
	SUB_PROBE_GATEWAY, /* the gateway's end of the tunnel */
	SUB_PROBE_UPLINK,  /* a target beyond it, if one is configured */
	SUB_PROBES
};

struct sub_ops {
	/* Each starts something; exactly one sub_engine_on_... call with `serial` follows, later.
	 * ask_info also has its key proven, as sub_gateway_unproven says. */
	void (*ask_info)(void *ctx, const struct sub_gateway *g, uint64_t serial);
	/* `sid`: of the lease that we had with this method there; "" none. */
	void (*request)(void *ctx, unsigned slot, const struct sub_gateway *g, const char *method,
			const char *sid, uint64_t serial);
	void (*renew)(void *ctx, const struct sub_gateway *g, const char *sid, uint64_t serial);
	/* Sends one probe through that tunnel, which is lost after `timeout_us`. */
	void (*probe)(void *ctx, unsigned slot, enum sub_probe kind, uint64_t serial,
		      uint64_t timeout_us);
	/* No answer is expected. */
	void (*release)(void *ctx, const struct sub_gateway *g, const char *sid);
	/* Opens the tunnel of the lease just granted; sub_engine_on_tunnel follows. */
	void (*tunnel_open)(void *ctx, unsigned slot, const struct sub_gateway *g,
			    const struct sub_lease *lease, uint64_t serial);
	void (*tunnel_close)(void *ctx, unsigned slot);
	/* That tunnel is up, but traffic does not take it: it can be probed from here on.  0, or
	 * -errno: then it is given up. */
	int (*stand_by)(void *ctx, unsigned slot, const struct sub_lease *lease);
	/* New traffic goes through that tunnel from here on, instead of through the other one.
	 * 0, or -errno: then it is given up. */
	int (*go_online)(void *ctx, unsigned slot, const struct sub_lease *lease);
	/* `hold`: we are looking for another gateway, let nothing leave by another way meanwhile.
	 */
	void (*go_offline)(void *ctx, bool hold);
	void (*save)(void *ctx, const struct sub_gateway *g);
	/* It is not among the gateways any more. */
	void (*forget)(void *ctx, const struct sub_gateway *g);
	/* Is it on our own host?  May be NULL: none is. */
	bool (*is_own)(void *ctx, const struct sub_gateway *g);
	/* The list of apps and the configured addresses should be read again. */
	void (*discover)(void *ctx);
	/* For whoever watches.  May be NULL. */
	void (*event)(void *ctx, const struct sub_event *event);
};

struct sub_policy {
	struct sub_terms terms;
	bool auto_connect, standby;
	bool probe_uplink; /* there is a target for SUB_PROBE_UPLINK */
	uint64_t scan_interval_us, probe_interval_us, standby_probe_interval_us;
	unsigned probe_losses;
	uint64_t better_for_us; /* the standby has been better for this long: move */
};

struct sub_engine;

struct sub_engine *sub_engine_new(const struct sub_policy *policy, const struct sub_ops *ops,
				  void *ctx, uint64_t now);
void sub_engine_free(struct sub_engine *e);
void sub_engine_set_policy(struct sub_engine *e, const struct sub_policy *policy, uint64_t now);
uint64_t sub_engine_next(const struct sub_engine *e);
void sub_engine_run(struct sub_engine *e, uint64_t now);

/* A gateway was found, or is known from the store (`known` with its quality; may be NULL).  What
 * has never answered is forgotten ten minutes after it was found last, unless an order or the
 * pinned ones name it.  -ENOSPC at the limit (counted). */
int sub_engine_found(struct sub_engine *e, const struct sub_contact *c,
		     const struct sub_gateway *known, uint64_t now_s, uint64_t now);
/* apptracker no longer lists it. */
void sub_engine_vanished(struct sub_engine *e, const struct sub_contact *c, uint64_t now);

/* Answers.  `error` is NULL on success. */
void sub_engine_on_info(struct sub_engine *e, uint64_t serial, const struct sub_info *info,
			double rtt_ms, const char *error, uint64_t now_s, uint64_t now);
/* `passing`: it is a refusal that the gateway itself calls temporary. */
void sub_engine_on_lease(struct sub_engine *e, uint64_t serial, const struct sub_lease *lease,
			 const char *error, bool passing, uint64_t now);
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
/* What the tunnel of a slot carried in the last `elapsed_us`, both directions together. */
void sub_engine_on_traffic(struct sub_engine *e, unsigned slot, uint64_t bytes,
			   uint64_t elapsed_us);

/*
 * Orders of the operator.  connect: this gateway (and method) and no other until disconnect (NULL:
 * the best), by the way that was named before its others, unless it is in use already.  What is in
 * use stays so until the new one is up.  A gateway that has not answered yet is asked first, and
 * nothing changes when it does not, nor for a method that is not among the terms'.  While the order
 * is pending, a refusal that may pass (the gateway has not heard of our release yet) is waited out
 * for a while. The number of the order, for sub_engine_order; -ENOENT. disconnect: stay offline
 * until connect.
 */
int64_t sub_engine_connect(struct sub_engine *e, const char *key, const char *method, uint64_t now);
void sub_engine_disconnect(struct sub_engine *e, uint64_t now);
void sub_engine_scan(struct sub_engine *e, uint64_t now);
/* Leaves the gateways in order: leases released, tunnels closed, routes taken back. */
void sub_engine_stop(struct sub_engine *e, uint64_t now);

enum sub_order_state { SUB_ORDER_UNKNOWN, SUB_ORDER_PENDING, SUB_ORDER_DONE, SUB_ORDER_FAILED };
const char *sub_order_name(enum sub_order_state state);
/* Only the latest order is remembered.  `*why` (never NULL): why it failed, or the refusal that a
 * pending one waits out. */
enum sub_order_state sub_engine_order(const struct sub_engine *e, int64_t number, const char **why);

struct sub_session_status {
	unsigned slot;
	enum sub_state state;
	const struct sub_gateway *gateway; /* NULL when IDLE */
	const struct sub_lease *lease;	   /* NULL unless OPENING or later */
	const char *method;
	uint64_t since_us;     /* when the state was entered */
	uint64_t lease_end_us; /* 0: no lease */
};
struct sub_status {
	struct sub_session_status active, standby;
	uint64_t failovers, moves;
	uint64_t last_outage_us;	  /* from the last sign of the old gateway to ONLINE */
	uint64_t last_detect_us;	  /* from the first sign of the fault to giving it up */
	uint64_t last_switch_us;	  /* from giving it up to ONLINE */
	bool wanted;			  /* false after disconnect */
	const char *order;		  /* key of the way that was ordered; "" none */
	enum sub_order_state order_state; /* UNKNOWN: there was no order */
	const char *order_why;		  /* as of sub_engine_order */
	uint64_t order_again_us;	  /* a pending one asks again then; 0: it does not wait */
};
void sub_engine_status(const struct sub_engine *e, struct sub_status *out);
/* Walks the ways to gateways in no order: *it = 0 first; NULL ends. */
const struct sub_gateway *sub_engine_next_gateway(const struct sub_engine *e, size_t *it);
/* How many there are: several ways to one are one. */
size_t sub_engine_gateways(const struct sub_engine *e);
/* The ways by which the gateway with this key is proven to be reached now. */
unsigned sub_engine_ways(const struct sub_engine *e, const char *id, uint64_t now);
const struct sub_gateway *sub_engine_find(const struct sub_engine *e, const char *key);
void sub_engine_rank(const struct sub_engine *e, const struct sub_gateway *g, uint64_t now,
		     struct sub_rank *out);
#endif
