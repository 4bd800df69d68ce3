/*
 * A walk through networks in search of gateways: breadth first from our own host, several networks
 * at once.  Sans-I/O: `now` is monotonic microseconds, `now_s` wall-clock seconds for what is kept;
 * questions go out through walk_ops with a number, answers come back with it.
 *
 * Two kinds of questions: what a network knows (our own host first, then every host that the
 * network can be asked about), and whether a host is a gateway (once a port and scan).  A gateway
 * tells the gateways that it knows; those are asked first, so that a walk may end before it has
 * reached everybody.  What is known stays from one scan to the next, and what a complete scan does
 * not see any more is marked as gone.
 */
#ifndef SUBSCRIBERD_WALK_H
#define SUBSCRIBERD_WALK_H

#include "base/nethost.h"
#include "base/prefix.h"
#include "base/timerq.h"

#define WALK_NETWORKS_MAX 16
#define WALK_PORTS_MAX 8
#define WALK_OWN_MAX 64	    /* addresses of our own host */
#define WALK_ALLOWED_MAX 64 /* networks */
#define WALK_TOLD_MAX 32    /* gateways that one gateway tells */
#define WALK_TOLD_ALL 1024u /* that all of them tell in one scan */
#define WALK_PARALLEL_MAX 256
#define WALK_LINKS_PER_HOST 8 /* on average; more are ignored (counted) */
#define WALK_GATEWAY_NAME_MAX 63
#define WALK_GATEWAY_ID_MAX 64
#define WALK_WHY_MAX 160
/* In walk_host.networks: a gateway told us of it. */
#define WALK_TOLD (UINT32_C(1) << 31)

enum walk_answer { WALK_NOT_ASKED, WALK_SILENT, WALK_NO_GATEWAY, WALK_GATEWAY };
const char *walk_answer_name(enum walk_answer a);

struct walk_gateway {
	struct net_addr addr; /* with the port that it answered on */
	char name[WALK_GATEWAY_NAME_MAX + 1], id[WALK_GATEWAY_ID_MAX + 1];
};

struct walk_host {
	struct net_host host; /* all zero: our own */
	uint32_t networks;    /* set of those that know it, bit by number, and WALK_TOLD */
	uint8_t depth;	      /* hops from our own host, as far as is known */
	bool gone;
	uint16_t told_port; /* 0: none */
	enum walk_answer answer;
	const struct walk_host *from; /* whom it was found through; NULL for our own */
	uint64_t first_s, seen_s, asked_s;
	uint32_t seen_scan, asked_scan;
	struct walk_gateway *gateway; /* NULL unless it is one */
	/* The walk's own. */
	uint32_t queried; /* networks asked about it in this scan */
	uint8_t open;	  /* questions to it that have no answer yet */
	bool queued, heard;
};

struct walk_link {
	struct walk_host *a, *b;
	uint8_t network;
	bool gone;
	uint32_t cost, seen_scan;
	uint64_t first_s, seen_s;
};

struct walk_ops {
	/* Exactly one walk_on_query or walk_on_ask follows each, later.  `host` NULL: our own. */
	void (*query)(void *ctx, unsigned network, const struct net_host *host, uint64_t serial);
	void (*ask)(void *ctx, const struct net_addr *addr, uint64_t serial);
	/* Something of it has changed that is worth keeping; `news`: worth telling, too. */
	void (*host)(void *ctx, const struct walk_host *h, bool news);
	void (*link)(void *ctx, const struct walk_link *l, bool news);
	void (*forget)(void *ctx, const struct walk_host *h);
	/* It is a gateway (told once a scan). */
	void (*gateway)(void *ctx, const struct walk_host *h);
	void (*finished)(void *ctx);
};

struct walk_policy {
	uint64_t delay_us;			      /* between two questions */
	uint64_t network_delay_us[WALK_NETWORKS_MAX]; /* between hosts that only this one knows */
	unsigned parallel, depth_max, gateways_max;   /* gateways_max 0: no end */
	size_t hosts_max;
	uint16_t ports[WALK_PORTS_MAX];
	size_t port_count;
	struct net_prefix allowed[WALK_ALLOWED_MAX]; /* only hosts in these are asked */
	size_t allowed_count;
	uint32_t walkers; /* networks that can be asked about other hosts */
};

enum walk_network_state { WALK_UNUSED, WALK_WAITING, WALK_ANSWERED, WALK_FAILED };

struct walk_progress {
	bool running, enough; /* enough: it ended at gateways_max */
	uint32_t scan;
	uint64_t started_s, finished_s;
	uint32_t hosts, links;	 /* known, not gone */
	uint32_t asked, waiting; /* of this scan; in the queue and on the way */
	uint32_t answered, gateways;
	uint64_t ignored; /* hosts and links over the limits */
	enum walk_network_state network[WALK_NETWORKS_MAX];
	char why[WALK_NETWORKS_MAX][WALK_WHY_MAX];
};

struct walk;

/* NULL when out of memory.  `ops` outlives it, the policy is copied. */
struct walk *walk_new(const struct walk_policy *policy, const struct walk_ops *ops, void *ctx,
		      uint64_t seed);
void walk_free(struct walk *w);
/* Between scans, or for what is asked from now on. */
void walk_set_policy(struct walk *w, const struct walk_policy *policy);
/* Addresses of our own host; hosts with them are our own host.  More than WALK_OWN_MAX are left
 * out. */
void walk_set_own(struct walk *w, const struct net_addr *addrs, size_t count);

/* From the store, before the first scan.  Copied; `from` by key, NULL or unknown: our own.
 * -ENOSPC, -ENOMEM. */
int walk_restore_host(struct walk *w, const struct walk_host *saved, const struct net_host *from);
int walk_restore_link(struct walk *w, const struct net_host *a, const struct net_host *b,
		      const struct walk_link *saved);

/*
 * Begins a scan of these networks; `scan` grows from one to the next.  The number of an earlier,
 * interrupted scan goes on with it: hosts that were asked in it are not asked again.  False, and
 * nothing happens, while one runs.
 */
bool walk_start(struct walk *w, uint32_t networks, uint32_t scan, uint64_t now_s, uint64_t now);
/* Ends it where it is; answers that are still to come change nothing. */
void walk_stop(struct walk *w, uint64_t now_s);
uint64_t walk_next(const struct walk *w);
void walk_run(struct walk *w, uint64_t now_s, uint64_t now);

/* What the answer to query `serial` tells; then walk_on_query.  For scan_sink: 0 always. */
int walk_saw_host(struct walk *w, uint64_t serial, const struct net_host *h, uint64_t now_s);
int walk_saw_link(struct walk *w, uint64_t serial, const struct net_link *l, uint64_t now_s);
/* `error` NULL: answered. */
void walk_on_query(struct walk *w, uint64_t serial, const char *error, uint64_t now_s,
		   uint64_t now);
/* `gateway` (for WALK_GATEWAY) has name and id, its address is the one that was asked.  `told`
 * with ports. */
void walk_on_ask(struct walk *w, uint64_t serial, enum walk_answer answer,
		 const struct walk_gateway *gateway, const struct net_addr *told, size_t told_count,
		 uint64_t now_s, uint64_t now);

void walk_progress(const struct walk *w, struct walk_progress *out);
/* NULL when it is not known. */
const struct walk_host *walk_find(const struct walk *w, const struct net_host *h);
/* Walks all hosts, our own first: *it = 0 first; NULL ends. */
const struct walk_host *walk_next_host(const struct walk *w, size_t *it);
#endif
