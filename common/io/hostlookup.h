/*
 * The addresses of a host's name, by the system's own resolver (nsswitch.conf(5), /etc/hosts, what
 * resolv.conf(5) says at that time) in a thread that lives as long as the question: the loop never
 * waits.  A question that is cancelled ends by itself, with the resolver's timeouts.
 */
#ifndef IO_HOSTLOOKUP_H
#define IO_HOSTLOOKUP_H

#include "base/addr.h"

struct event_base;
struct host_lookup;

#define HOST_LOOKUP_ADDRS_MAX 8u

/* `count` 0: `why` says why there is none.  The addresses are in the order to try them.  The lookup
 * is over. */
typedef void host_lookup_cb(void *arg, const struct net_addr *addrs, unsigned count,
			    const char *why);

/* The callback comes from the loop, with `port` in each address.  0; -EINVAL for a name that is too
 * long; -ENOMEM, -EAGAIN (no thread), -EMFILE. */
int host_lookup_new(struct host_lookup **out, struct event_base *base, const char *host,
		    uint16_t port, host_lookup_cb *cb, void *arg);
/* No callback any more.  NULL is fine. */
void host_lookup_cancel(struct host_lookup *l);
#endif
