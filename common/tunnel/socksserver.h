/*
 * A SOCKS5 server for leases: user and password (RFC 1929) say which one, CONNECT and UDP ASSOCIATE
 * to addresses (no names: they are not resolved here).  The connections are this host's own, so
 * what its firewall refuses to forward is refused here by the same networks.
 */
#ifndef TUNNEL_SOCKSSERVER_H
#define TUNNEL_SOCKSSERVER_H

#include "base/policy.h"
#include "tunnel/tunnel.h"

#define SOCKSSERVER_FLOWS_TOTAL 8192u
#define SOCKSSERVER_PASSWORD_TEXT 49 /* 24 bytes in hex */

struct event_base;
struct nl;
struct socksserver;

struct socksserver_config {
	uint16_t port;
	uint32_t flows_max;   /* of one lease, associations too */
	uint64_t idle_us;     /* a connection on which nothing moves is ended */
	const char *uplink;   /* connections may only leave by this interface; "": any */
	struct policy denied; /* where clients may not go */
	struct nl *nl;	      /* to ask for routes */
};

/* -EADDRINUSE, ... */
int socksserver_new(struct socksserver **out, struct event_base *base,
		    const struct socksserver_config *config);
void socksserver_free(struct socksserver *s); /* NULL is fine */
/* There already: 0.  -ENOSPC, -ENOMEM. */
int socksserver_add(struct socksserver *s, const char *sid,
		    const char password[SOCKSSERVER_PASSWORD_TEXT]);
/* Its connections end. */
void socksserver_remove(struct socksserver *s, const char *sid);
/* -ENOENT. */
int socksserver_counters(struct socksserver *s, const char *sid, struct tunnel_counters *out);
#endif
