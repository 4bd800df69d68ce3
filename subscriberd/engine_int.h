/* Inside the subscriber's engine: engine.c (gateways, orders, time), engine_session.c (one session
 * from its request to its end), engine_choose.c (which gateway, who is the standby, when to move),
 * engine_ways.c (several ways to one gateway).
 */
#ifndef SUBSCRIBERD_ENGINE_INT_H
#define SUBSCRIBERD_ENGINE_INT_H

#include "subscriberd/engine.h"

/* Traffic is held back this long while we look for another gateway. */
#define SUB_HOLD_US 60000000u
/* A new standby is opened this long after the last change. */
#define SUB_STANDBY_DELAY_US 2000000u

struct probing {
	uint64_t serial, at_us, sent_us;
	uint64_t fault_us; /* when the first of those lost in a row was sent */
	bool under_way;
	unsigned lost;	 /* in a row */
	uint32_t recent; /* a bit for each of the last 32, the newest lowest: 1 lost */
	unsigned count;	 /* how many of these there are */
};

struct sub_session {
	unsigned slot;
	enum sub_state state;
	struct sub_gateway *gateway; /* NULL when IDLE */
	char method[SUB_METHOD_NAME_MAX + 1];
	bool asked_again; /* for the lease that we had there */
	struct sub_lease lease;
	uint64_t since_us;
	uint64_t serial;      /* of the question under way, then of the tunnel */
	uint64_t deadline_us; /* of REQUESTING and OPENING */
	uint64_t renew_serial, renew_at_us, lease_end_us;
	bool renew_failed;
	struct probing probes[SUB_PROBES];
	double least_rtt_ms, last_rtt_ms; /* of probes to the gateway, since it is up */
	uint64_t last_alive_us;
	uint64_t trouble_us, trouble_at_us; /* interrupted since; given up at (NEVER: it is not) */
	uint64_t watch_at_us;		    /* its nodeInfo is asked this often */
};

struct sub_engine {
	struct sub_policy policy;
	const struct sub_ops *ops;
	void *ctx;

	struct sub_gateway *gateways[SUB_GATEWAYS_MAX];
	uint64_t info_serial[SUB_GATEWAYS_MAX];
	size_t count;
	uint64_t refused_full;

	struct sub_session sessions[SUB_SLOTS];
	struct sub_session *active, *standby;
	bool wanted, holding;
	uint64_t lost_us, gave_up_us, failovers, moves;
	uint64_t last_outage_us, last_detect_us, last_switch_us;
	/* Lost by a fault of its method while its RPC answers: its other methods come first, by the
	 * ways that have answered since then. */
	struct sub_gateway *insist;
	uint64_t insist_since_us;

	/* The latest order. */
	int64_t order;
	enum sub_order_state order_state;
	char order_why[SUB_WHY_MAX];
	struct sub_gateway *order_asked; /* has to answer before the order counts */
	/* Refusals that may pass: how many, when it is asked again (0: none), and until when. */
	unsigned order_refusals;
	uint64_t order_again_us, order_until_us;
	bool order_any; /* pinned_any, when it counts */
	char order_method[SUB_METHOD_NAME_MAX + 1];
	/* `pinned_any`: the gateway was named, otherwise one way to it, which comes first. */
	bool pinned_any;
	char pinned[SUB_KEY_MAX], pinned_method[SUB_METHOD_NAME_MAX + 1];

	uint64_t counter; /* numbers questions */
	uint64_t scan_at_us, retry_at_us, hold_until_us, look_at_us;
	/* Hysteresis. */
	uint64_t standby_at_us;			 /* no standby is opened before */
	uint64_t better_since_us, much_since_us; /* 0: the standby is not */
	uint64_t third_since_us;		 /* 0: nobody is better than the standby */
	uint64_t patience_us, moved_us;
	bool moving; /* the second slot is opened to move over, not to stand by */

	struct timerq timers;
	struct timer timer;
};

/* --- engine.c --- */
void sub_arm(struct sub_engine *e);
void sub_tell(struct sub_engine *e, struct sub_event event);
void sub_ask(struct sub_engine *e, struct sub_gateway *g);
void sub_save(struct sub_engine *e, struct sub_gateway *g);
void sub_order_settle(struct sub_engine *e, enum sub_order_state state, const char *why);
/* Was this the refusal of a pending order, that may pass?  Then it is asked again at
 * order_again_us. */
bool sub_order_waits(struct sub_engine *e, const struct sub_session *s, const char *why,
		     uint64_t now);
static inline void sub_min(uint64_t *a, uint64_t b)
{
	if (b < *a)
		*a = b;
}

/* --- engine_ways.c --- */
/* Walks the ways to the gateway of `g`, with itself: *it = 0 first; NULL ends. */
const struct sub_gateway *sub_way_next(const struct sub_engine *e, const struct sub_gateway *g,
				       size_t *it);
/* Is the gateway one of these, by whatever way? */
bool sub_ways_have(const struct sub_engine *e, const struct sub_names *names,
		   const struct sub_gateway *g);
/* sub_rank for this way, pinned or banned when the gateway is. */
void sub_ways_rank(const struct sub_engine *e, const struct sub_gateway *g,
		   struct sub_rank_question q, uint64_t now, struct sub_rank *out);
/* Has that method of the gateway failed lately? */
bool sub_ways_failed(const struct sub_engine *e, const struct sub_gateway *g, const char *method);
/* Has its RPC answered by any way since then? */
bool sub_ways_answer(const struct sub_engine *e, const struct sub_gateway *g, uint64_t since);
void sub_ways_ask(struct sub_engine *e, const struct sub_gateway *g);
/* What was found out about the gateway's tunnels by this way holds for the others. */
void sub_ways_share(struct sub_engine *e, const struct sub_gateway *g);
/* Whose way it is, by an answer. */
void sub_ways_identify(struct sub_engine *e, struct sub_gateway *g, const struct sub_info *info,
		       uint64_t now);

/* --- engine_session.c --- */
/* What is to blame for the end of a session. */
enum sub_fault { FAULT_GATEWAY, FAULT_METHOD, FAULT_NONE };

void sub_session_request(struct sub_engine *e, struct sub_session *s, struct sub_gateway *g,
			 const char *method, uint64_t now);
/* Its traffic goes through it from now on: it has to be the active one. */
bool sub_session_online(struct sub_engine *e, struct sub_session *s, uint64_t now);
void sub_session_set_state(struct sub_engine *e, struct sub_session *s, enum sub_state to,
			   uint64_t now);
/* Gives the gateway, or this method of it, up. */
void sub_session_fail(struct sub_engine *e, struct sub_session *s, enum sub_fault fault,
		      const char *why, uint64_t now);
/* It was refused for now: no blame, and nothing before `until`. */
void sub_session_put_off(struct sub_engine *e, struct sub_session *s, const char *why,
			 uint64_t until, uint64_t now);
/* Ends it in order: no blame. */
void sub_session_end(struct sub_engine *e, struct sub_session *s, uint64_t now);
void sub_session_run(struct sub_engine *e, struct sub_session *s, uint64_t now);
uint64_t sub_session_next(const struct sub_session *s);

/* --- engine_choose.c --- */
/* Brings the sessions forward where they should be. */
void sub_step(struct sub_engine *e, uint64_t now);
/* Would the standby be better?  Once a second while online. */
void sub_consider(struct sub_engine *e, uint64_t now);
/* The standby becomes the active one, which has failed (`why` NULL) or becomes the standby. */
bool sub_promote(struct sub_engine *e, const char *why, uint64_t now);
/* Does the order allow this gateway and method? */
bool sub_order_allows(const struct sub_engine *e, const struct sub_gateway *g, const char *method);
/* Could anybody else than this session's be used? */
bool sub_has_other(const struct sub_engine *e, const struct sub_session *s, uint64_t now);
#endif
