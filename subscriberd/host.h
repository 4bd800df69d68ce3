/*
 * The subscriber's changes to its host's network: our own routing tables and rules, and the kill
 * switch.  Everything goes through io/hostjournal.h, so a crash leaves nothing behind for good.
 *
 * Rules stand before the main table's (as wg-quick's do), at RulePriority and behind:
 *
 *   +0  to DirectNetworks, to gateways that are reached over IP, and from our node: main
 *   +1  main without its default routes (the community network and the LAN stay direct)
 *   +2  from the address of a session: that session's table (RouteTable + 1 and + 2), whose only
 *       route is its tunnel.  So what began through one tunnel stays there, and a standby can be
 *       probed, while another one is in use.
 *   +3  RouteTable: default through the tunnel in use, and behind it an unreachable one, so that
 *       nothing leaves by another way when the tunnel's interface goes.  Both families always: a
 *       gateway without IPv6 makes IPv6 unreachable, not direct.
 *
 * The kill switch is an nftables table that stands from the first moment on, over restarts and
 * crashes, until a start without KillSwitch or --cleanup.
 */
#ifndef SUBSCRIBERD_HOST_H
#define SUBSCRIBERD_HOST_H

#include <stdbool.h>

#include "io/config.h"
#include "io/hostjournal.h"
#include "subscriberd/engine.h"
#include "tunnel/tunnel.h"

struct sub_host;

/* Takes back what a crashed run has left, and puts the kill switch up.  0 or -errno (logged). */
int sub_host_open(struct sub_host **out, const char *journal_path, const struct config *cfg);
/* Takes back everything but the kill switch. */
void sub_host_close(struct sub_host *h);
/* For --cleanup: the kill switch too.  0 or -errno; -EIO when something could not be taken back. */
int sub_host_cleanup(const char *journal_path);
struct hostjournal *sub_host_journal(struct sub_host *h);
/* The configuration has changed, or some time has passed: the kill switch follows it and the main
 * table's networks, and is put back if somebody has taken it away. */
void sub_host_refresh(struct sub_host *h);

/* The operator has named this gateway: the kill switch lets us ask it (the latest one only). */
void sub_host_ordered(struct sub_host *h, const struct net_addr *gateway);
/* Nobody means it any more. */
void sub_host_forget(struct sub_host *h, const struct net_addr *gateway);

/* --- the sessions, by slot --- */

/* From now on `server` (family 0: none) is reached beside all tunnels. */
int sub_host_reach(struct sub_host *h, unsigned slot, const struct net_addr *server);
/* The tunnel is up: what comes from its addresses takes it.  0 or -errno (logged). */
int sub_host_stand_by(struct sub_host *h, unsigned slot, const char *interface,
		      const struct tunnel_path *path);
/* Default routes through this session's tunnel, without a gap after the other one's. */
int sub_host_online(struct sub_host *h, unsigned slot);
/* The session is over. */
void sub_host_leave(struct sub_host *h, unsigned slot);
/* No session is in use.  `hold`: the rules and the unreachable routes stay. */
void sub_host_offline(struct sub_host *h, bool hold);
#endif
