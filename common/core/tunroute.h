/*
 * Packets of a TUN interface and the datagram connections that they ride on: which connection takes
 * a packet of the kernel's, and which packets of a peer may reach the kernel.  Used by a node for
 * interfaces that an app has handed to it, and by the app itself where it cannot.
 *
 * A route's filter names the addresses at its two ends.  A packet goes out by the route whose
 * remote address is its destination, else by the one route that has any remote address; a packet
 * that comes in must have its ends where the filter has them.
 *
 * Records are as in tunnel/tunpump.h: an IP packet, with `vnet` behind a virtio header.
 */
#ifndef CORE_TUNROUTE_H
#define CORE_TUNROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/buf.h"
#include "base/map.h"

#define TUNROUTE_MAX 65536u /* of one table */

struct tunroute_filter {
	bool v4, v6; /* families that pass */
	/* Family 0: any address of that family. */
	struct net_addr local4, remote4, local6, remote6;
};

struct tunroute_counters {
	uint64_t in_packets, in_bytes;	 /* from the peer; bytes of IP packets */
	uint64_t out_packets, out_bytes; /* to the peer */
	uint64_t foreign;		 /* from the peer, with an address that is not its own */
	uint64_t dropped; /* malformed, no room, or nothing that the peer may be sent */
};

struct tunroute {
	struct tunroute_filter filter;
	struct tunroute_counters counters;
	bool vnet; /* records to and from the peer have headers */
	void *owner;
};

struct tunroute_table {
	bool vnet; /* the interface's packets have headers */
	struct map by4, by6;
	struct tunroute *any;
	size_t count;
};

void tunroute_table_init(struct tunroute_table *t, bool vnet, uint64_t seed);
void tunroute_table_free(struct tunroute_table *t);
/* The route stays the caller's, and must not change while it is in the table.  0; -EEXIST: another
 * one has its remote address (or any); -EINVAL: no family, or addresses of the wrong one; -ENOSPC;
 * -ENOMEM. */
int tunroute_add(struct tunroute_table *t, struct tunroute *r);
void tunroute_remove(struct tunroute_table *t, struct tunroute *r);

/*
 * A packet of the kernel's, `record` with a header if the table says so; the header is put in order
 * in place.  The route to send `out` by, which points into `record`; NULL when there is none, or
 * the peer cannot be given this packet (counted).  The caller counts with tunroute_sent.
 */
struct tunroute *tunroute_out(struct tunroute_table *t, uint8_t *record, size_t len,
			      struct bytes *out);
void tunroute_sent(struct tunroute *r, size_t len, bool taken);

/* A record of the peer (hostile).  0: it may be written to the interface; -EINVAL: malformed;
 * -EPERM: not between the filter's ends, `src` says where it claims to come from.  Counted. */
int tunroute_in(struct tunroute *r, const uint8_t *record, size_t len, struct net_addr *src);
/* Whether a record of the peer should reach the interface in the order in which it was sent, and
 * evenly: TCP takes anything else for losses. */
bool tunroute_in_order(const struct tunroute *r, const uint8_t *record, size_t len);
#endif
