/*
 * The host's name servers, borrowed by one owner (vpn-client, subscriberd) while its tunnel is up:
 *
 * - /etc/resolv.conf is replaced whole.  What was there (a file, a link, nothing) is kept in the
 *   state directory first, so that it comes back after kill -9 as well.  What somebody else has
 *   written since is left alone.  Two owners on one host give back in the reverse order.
 * - Where that file belongs to systemd-resolved, `resolvectl` tells it the servers of the tunnel's
 *   interface, and that they answer for every name (`~.`) but the domains of other links.  It
 *   forgets both with the interface, so nothing is kept; whoever made the interface removes it.
 *   When another interface's servers are set, its former one is reverted afterwards.
 */
#ifndef IO_RESOLV_H
#define IO_RESOLV_H

#include "base/addr.h"

#define RESOLV_SERVERS_MAX 3u /* the resolver of libc reads no more */

struct event_base;
struct resolv;

/* `owner` names the file in the state directory, and us in the comment of resolv.conf.  Both texts
 * and `base` must outlive it.  Puts back what a killed run has left (failing is logged, and tried
 * again at the next restore).  0 or -ENOMEM. */
int resolv_open(struct resolv **out, struct event_base *base, const char *state_dir,
		const char *owner);
/* Restores.  NULL is fine. */
void resolv_close(struct resolv *r);

/*
 * 1 to RESOLV_SERVERS_MAX servers (their ports are not used) behind `interface`.  Again with other
 * servers or another interface is fine; the state directory must exist.  0 or -errno (logged).
 * With systemd-resolved 0 means that resolvectl was started; what it does not like it says in our
 * log, and names are resolved as before.
 */
int resolv_set(struct resolv *r, const char *interface, const struct net_addr *servers,
	       unsigned count);
/* 0 also when there is nothing to put back; -errno (logged): try again later. */
int resolv_restore(struct resolv *r);

/* For --cleanup, without a loop: what a killed run has left.  As resolv_restore. */
int resolv_cleanup(const char *state_dir, const char *owner);
#endif
