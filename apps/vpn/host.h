/*
 * What the VPN apps change on the host, through its journal (io/hostjournal.h) only: taken back at
 * the end, by the next start, or by --cleanup.
 *
 * The client's rules, at RulePriority and behind it (one more for each vpn-client of this host):
 *   +0  packets of our node (its FirewallMark), and to DirectNetworks: main table
 *   +1  whatever the main table knows a way to, but for its default route: main table
 *   +2  our own table: what the server names; with a full tunnel everything, and `unreachable`
 *       behind it, for both families: nothing leaves elsewhere while the tunnel is away
 */
#ifndef VPN_HOST_H
#define VPN_HOST_H

#include "vpn/vpn.h"

struct event_base;
struct vpn_host;

/* Takes back what a killed run has left.  0, or -errno (logged; -EBUSY: another one is running with
 * this state directory). */
int vpn_host_open(struct vpn_host **out, struct event_base *base, bool server,
		  const struct vpn_options *opt);
/* Takes everything back.  NULL is fine. */
void vpn_host_close(struct vpn_host *h);
/* --cleanup: 0, or -errno. */
int vpn_host_cleanup(bool server, const struct vpn_options *opt);

/* Client: the interface is up.  0 or -errno (logged). */
int vpn_host_online(struct vpn_host *h, const char *interface, const struct vpn_offer *offer);
/* Client: it is gone.  A full tunnel stays closed; else names are resolved as before. */
void vpn_host_offline(struct vpn_host *h);

/* Server: forwarding and translation for the subnets.  0 or -errno (logged). */
int vpn_host_serve(struct vpn_host *h, const struct vpn_hosts *hosts);
/* Server: forwarding again, should another program have taken it back at its own end. */
void vpn_host_keep_serving(struct vpn_host *h, const struct vpn_hosts *hosts);
#endif
