/*
 * nftables by libnftables: our own tables of family inet, never anybody else's.  A table is made in
 * one transaction and goes in one; nothing is flushed.  Synchronous, about a millisecond a call.
 *
 * Tables are created and removed through io/hostjournal.h (host_nft_gateway, host_nft_killswitch,
 * host_nft_remove); what happens inside our own table afterwards (leases) comes here directly,
 * because it goes with the table.
 *
 * A packet passes only if every table of the host lets it: where a firewall of the host drops
 * forwarded packets, our accept does not help (docs say what to allow).
 */
#ifndef IO_NFT_H
#define IO_NFT_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/prefix.h"

#define NFT_TABLE_NAME_MAX 32
#define NFT_TUNNELS_MAX 32

struct nft;

int nft_open(struct nft **out); /* -ENOMEM, -EPERM, ... */
void nft_close(struct nft *nft);

/* 1, 0, or -errno. */
int nft_table_exists(struct nft *nft, const char *table);
/* -ENOENT when it is not there. */
int nft_table_del(struct nft *nft, const char *table);
/*
 * Somebody may flush or delete our table.  nft_table_mark gives a number for the fixed part (chains
 * and rules, not leases) right after creation; later 1 = still so, 0 = gone or changed (create it
 * and its leases again: host_nft_* replaces what is left), -errno.
 */
int nft_table_mark(struct nft *nft, const char *table, uint64_t *mark);
int nft_table_intact(struct nft *nft, const char *table, uint64_t mark);

/* ---- gateway ---- */
/* A lease is an element of the table's maps for each direction and family, with a counter in it. */
struct nft_lease {
	const char *interface;	  /* the tunnel interface its packets come from */
	struct net_addr ip4, ip6; /* family 0: none */
	uint8_t mac[6];
	bool has_mac; /* packets must come from `mac` too: links with link-layer addresses */
};

struct nft_gateway {
	const char *table; /* "meshnet_gw" */
	/* The tunnels' interfaces: names, or "mgw*" for all that begin so.  0 .. NFT_TUNNELS_MAX;
	 * none only where some are borrowed.
	 */
	const char *const *tunnels;
	size_t tunnel_count;
	/*
	 * Interfaces that are somebody else's and stay so, e.g. a LAN: nothing is filtered there
	 * but what leaves for the uplink (which must be named then) without a lease.  What leaves
	 * with one gets the uplink's address with masquerade_borrowed.
	 */
	const char *const *borrowed;
	size_t borrowed_count; /* 0 .. NFT_TUNNELS_MAX */
	bool masquerade_borrowed;
	const char *uplink; /* packets of subscribers may only leave here; "": any but tunnels */
	struct net_prefix pool4, pool6; /* masqueraded; family 0: none */
	bool routed6;			/* pool6 is routed to us: no masquerading of IPv6 */
	/* Destinations that subscribers may not reach (the host's local and community networks),
	 * and exceptions from them. */
	const struct net_prefix *denied, *allowed;
	size_t denied_count, allowed_count;
	/* What subscribers may reach on this host itself: ICMP echo always, and these ports. */
	const uint16_t *open_ports;
	size_t open_port_count;
	/* Those that are in it from the beginning: who has one must not notice a replacement. */
	const struct nft_lease *leases;
	size_t lease_count;
};
/*
 * Anti-spoofing: from a tunnel only (interface, source address) pairs of leases pass, counted; to a
 * tunnel only leased addresses.  Subscribers do not reach each other.  Connections into a tunnel
 * from outside are refused.  TCP MSS is clamped.  -EEXIST when a table of this name is there,
 * -EINVAL for names that are none.  With `replace` a table of this name is replaced in the same
 * transaction (the caller knows that it is ours).
 */
int nft_gateway_create(struct nft *nft, const struct nft_gateway *gw, bool replace);
/* The rules of a table that is there, anew: for other tunnels, ports or pools.  Leases, counters
 * and the networks that are denied and allowed stay, whatever `gw` says of them; so no packet is
 * lost that the old rules look at meanwhile, whereas the elements of a table that is replaced are
 * gone before its last packet has passed.  -ENOENT. */
int nft_gateway_refresh(struct nft *nft, const struct nft_gateway *gw);

/* Any number of them in one transaction.  -EEXIST when an address of one is in use; nothing is
 * changed then. */
int nft_leases_add(struct nft *nft, const char *table, const struct nft_lease *leases,
		   size_t count);
/* The same as were added.  -ENOENT when one is not there; nothing is changed then. */
int nft_leases_del(struct nft *nft, const char *table, const struct nft_lease *leases,
		   size_t count);

struct nft_counter {
	uint64_t packets, bytes;
};
struct nft_lease_counters {
	struct nft_counter up, down; /* from and to the subscriber; zero since it was added */
};
/* Both families together.  -ENOENT. */
int nft_lease_counters(struct nft *nft, const char *table, const struct nft_lease *lease,
		       struct nft_lease_counters *out);
/* Every address of every lease, once for each direction, in no order. */
typedef void nft_count_visit(const char *interface, const struct net_addr *addr, bool up,
			     struct nft_counter c, void *ctx);
int nft_leases_count(struct nft *nft, const char *table, nft_count_visit *visit, void *ctx);

struct nft_gateway_counters {
	struct nft_counter spoofed;  /* from a tunnel without a lease */
	struct nft_counter denied;   /* to a network that is not for subscribers */
	struct nft_counter unleased; /* to a tunnel address that nobody holds */
};
/* Zero since the table was made. */
int nft_gateway_counters(struct nft *nft, const char *table, struct nft_gateway_counters *out);

/* ---- VPN server ---- */
struct nft_masquerade {
	const char *table;
	struct net_prefix net4, net6; /* family 0: none */
};
/* What comes from the networks and leaves for others gets the address of the interface that it
 * leaves by; TCP learns the path's size.  Errors and `replace` as above. */
int nft_masquerade_create(struct nft *nft, const struct nft_masquerade *m, bool replace);

/* ---- subscriber ---- */
struct nft_killswitch {
	const char *table; /* "meshnet_sub" */
	/* Interfaces, or prefixes with '*', up to NFT_TUNNELS_MAX.  None: there is no way out. */
	const char *const *tunnels;
	const uint8_t *families; /* of each: 4 or 6 for that one only, 0 for both; NULL: both */
	size_t tunnel_count;
	/* Where packets may go without the tunnel (what carries the mesh itself, the LAN). */
	const struct net_prefix *allowed;
	size_t allowed_count;
	uint32_t mark; /* packets with this mark may leave too; 0: none */
};
/* Loopback, DHCP and neighbour discovery pass as well.  Errors and `replace` as above. */
int nft_killswitch_create(struct nft *nft, const struct nft_killswitch *ks, bool replace);
#endif
