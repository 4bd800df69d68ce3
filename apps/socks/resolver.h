/* Names, resolved on the event loop without blocking it.  One slow name does not hold up others. */
#ifndef SOCKS_RESOLVER_H
#define SOCKS_RESOLVER_H

#include "base/addr.h"

struct event_base;
struct resolver;
struct lookup;

#define RESOLVER_ADDRS_MAX 8u
#define RESOLVER_LOOKUPS_MAX 16384u
/* Different names of one asker that are not answered yet. */
#define RESOLVER_QUESTIONS_MAX 128u

/* `count` 0: there is no such name, or nobody answered.  The lookup is over. */
typedef void resolver_cb(void *arg, const struct net_addr *addrs, unsigned count);

/* Name servers; none: those of /etc/resolv.conf (whose search list is not used: a name is what it
 * says).  /etc/hosts counts.  Both are read again when they have changed.  NULL when out of
 * memory. */
struct resolver *resolver_new(struct event_base *base, const struct net_addr *servers,
			      unsigned count);
/* Ends all lookups without callbacks. */
void resolver_free(struct resolver *r);
/* Addresses with this port, in the order to try them.  `asker` is whoever the limit is for.  NULL:
 * a limit is reached, or out of memory.  The callback comes later, never from within. */
struct lookup *resolver_ask(struct resolver *r, uint64_t asker, const char *name, uint16_t port,
			    resolver_cb *cb, void *arg);
/* No callback any more. */
void resolver_cancel(struct lookup *l);
#endif
