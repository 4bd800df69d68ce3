/*
 * A lease: what a gateway granted to one subscriber, and the table of all of them.  Pure:
 * wall-clock seconds and random bytes are arguments.
 *
 * Who a lease belongs to (its binding) decides who may ask for it again, renew or release it:
 *  - over the mesh the caller's node and app are authenticated (`proven`) and must be the lease's;
 *  - over HTTP a caller may prove that it has a key (core/ownerproof.h): who has the lease's key is
 *    its owner, at whatever address, and nobody else is;
 *  - without a key the caller is known by its host address, which must be the lease's;
 *  - to renew and release, a call from inside the tunnel does as well.
 * A lease bound by a proven app is out of reach of any host.
 */
#ifndef GATEWAYD_LEASE_H
#define GATEWAYD_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/addr.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/sid.h"
#include "base/timerq.h"

#define LEASE_SID_RANDOM_BYTES 16
#define LEASE_METHOD_MAX 31
#define LEASE_NAME_MAX NAME_MAX_BYTES
#define LEASE_OPTIONS_MAX 4096
#define LEASE_INTERFACE_MAX 15

struct account;

struct lease_binding {
	bool proven;		      /* node and app come from an authenticated connection */
	struct mesh_id node;	      /* zero: no app of the mesh */
	char app[NAME_MAX_BYTES + 1]; /* empty exactly when node is zero */
	struct net_addr host;	      /* family 0 over the mesh; port is not part of it */
	struct mesh_id key;	      /* over HTTP, proven; zero: none */
	uint64_t stamp;		      /* of the last call that `key` has proven; 0 without */
};

struct lease {
	char sid[SID_MAX + 1];
	char method[LEASE_METHOD_MAX + 1];
	char name[LEASE_NAME_MAX + 1]; /* what the subscriber calls itself; may be empty */
	uint16_t port;		       /* RPC port of the subscriber; 0: none told */
	struct lease_binding who;
	char *options;				 /* the request's, as text; owned; NULL like "" */
	char interface[LEASE_INTERFACE_MAX + 1]; /* where its packets come out, once it is open */
	struct net_addr ip4, ip6;		 /* family 0: none; port 0 */
	/* What its packets come from, once it is open: mostly ip4 and ip6. */
	struct net_addr source4, source6;
	uint8_t source_mac[6];
	bool has_mac;
	/* Of a lease that keeps its own addresses: the gateway's on the same network. */
	struct net_addr near4, near6;
	uint64_t granted_s, expires_s;	 /* wall clock */
	uint64_t rate_kbps, quota_bytes; /* as granted; 0: no limit */
	char code[LEASE_NAME_MAX + 1];	 /* name of the access code it came with; "": none */
	uint64_t up_bytes, down_bytes;	 /* used so far, over restarts */
	uint64_t rate_now_kbps;		 /* what holds now; 0: no limit */

	/* The engine's and the table's own. */
	struct timer expiry;
	TAILQ_ENTRY(lease) link;
	TAILQ_ENTRY(lease) unsettled_link;
	enum lease_change {
		LEASE_SETTLED,
		LEASE_GRANTED,	/* since the last settlement */
		LEASE_EXTENDED, /* from settled_s */
	} change;
	uint64_t settled_s;
	struct account *account;
	uint64_t seen_up, seen_down;   /* of the host's counters, as they were last */
	uint64_t count_up, count_down; /* while they are read */
	bool used;		       /* not yet saved */
};

TAILQ_HEAD(lease_list, lease);

struct lease_table {
	struct lease_list all; /* oldest first */
	struct map by_sid;     /* keyed by a hash of the sid */
	struct map by_app;     /* keyed by a hash of (method, node, app); one lease each */
	struct map by_addr;    /* keyed by the source addresses */
	size_t count;
};

/* 128 bits as 32 hex digits. */
void lease_sid_make(const uint8_t random[LEASE_SID_RANDOM_BYTES], char sid[SID_MAX + 1]);

bool lease_binding_has_app(const struct lease_binding *b);
bool lease_binding_has_key(const struct lease_binding *b);
/* True when the caller is the subscriber that the lease was made for and names the same app. */
bool lease_belongs_to(const struct lease *l, const struct lease_binding *caller);
/* The same for calls that name only a sid: a host may also speak from inside its tunnel, and need
 * not say which app it is. */
bool lease_may_manage(const struct lease *l, const struct lease_binding *caller);
/* True when both count against the same per-host limit: one node, one key, one IPv4 address, one
 * IPv6 /64. */
bool lease_same_host(const struct lease_binding *a, const struct lease_binding *b);

/* Frees with what it owns; NULL is fine. */
void lease_free(struct lease *l);

void lease_table_init(struct lease_table *t, size_t max, uint64_t seed);
/* Forgets the leases; they stay their owner's. */
void lease_table_free(struct lease_table *t);
/* 0, -EEXIST for a sid or (method, app) that is there, -ENOSPC, -ENOMEM. */
int lease_table_add(struct lease_table *t, struct lease *l);
void lease_table_remove(struct lease_table *t, struct lease *l);
struct lease *lease_table_by_sid(const struct lease_table *t, const char *sid);
struct lease *lease_table_by_app(const struct lease_table *t, const char *method,
				 const struct mesh_id *node, const char *app);
/* Its source addresses are known now. */
void lease_table_opened(struct lease_table *t, struct lease *l);
/* They are to change. */
void lease_table_closed(struct lease_table *t, struct lease *l);
struct lease *lease_table_by_addr(const struct lease_table *t, const struct net_addr *a);
/* The oldest lease of this method that is the caller's; NULL.  One of the caller's key may be out
 * of its reach all the same (lease_belongs_to): its stamp is an old one. */
struct lease *lease_table_by_owner(const struct lease_table *t, const char *method,
				   const struct lease_binding *caller);
size_t lease_table_count_host(const struct lease_table *t, const struct lease_binding *who);
#endif
