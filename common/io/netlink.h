/*
 * The host's links, addresses, routes and rules by rtnetlink.  Every call is one synchronous
 * request and its answer (microseconds); errors are the kernel's, as -errno.  What is added carries
 * our protocol number, and a deletion matches it: nobody else's entry can be taken away from here.
 *
 * Daemons change the host through io/hostjournal.h, which calls this after it has written down
 * what it is about to do.  Reading, and links that die with us (TUN), are fine from here directly.
 */
#ifndef IO_NETLINK_H
#define IO_NETLINK_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/prefix.h"

#define NL_PROTO_MESHNET 137 /* `ip route show table all proto 137` shows what is ours */
#define NL_GROUP_MESHNET 137 /* link group of the links we create */
#define NL_DUMP_MAX 200000u  /* entries of one dump; more is -E2BIG */
#define NL_TABLE_MAIN 254u

struct nl; /* one NETLINK_ROUTE socket; not for several threads */

int nl_open(struct nl **out);
void nl_close(struct nl *nl); /* NULL is fine */

/* ---- links ---- */
struct nl_link {
	uint32_t index;
	char name[IFNAMSIZ];
	char kind[16]; /* "veth", "tun", "" when the kernel does not say */
	uint32_t mtu, group;
	bool up;      /* administratively */
	bool running; /* and with a carrier */
	bool loopback;
	bool point_to_point;
};

/* The index (positive), or -ENODEV. */
int nl_link_index(struct nl *nl, const char *name);
int nl_link_get(struct nl *nl, const char *name, struct nl_link *out);
int nl_link_set_up(struct nl *nl, uint32_t index, bool up);
int nl_link_set_mtu(struct nl *nl, uint32_t index, uint32_t mtu);
/* The largest super-packet that the link is given; longer ones are cut before. */
int nl_link_set_gso_max(struct nl *nl, uint32_t index, uint32_t bytes);
/* A link of a kind that needs no parameters, in NL_GROUP_MESHNET.  -EOPNOTSUPP: no such kind. */
int nl_link_add(struct nl *nl, const char *name, const char *kind);
/* Could links of this kind be made?  Loads the kernel's module, makes no link.  0, -EOPNOTSUPP,
 * -EPERM, ... */
int nl_link_probe(struct nl *nl, const char *kind);
/* No link-local address of its own: nothing is sent before we send. */
int nl_link_set_quiet(struct nl *nl, uint32_t index);
struct nl_link_stats {
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes, dropped;
};
int nl_link_get_stats(struct nl *nl, uint32_t index, struct nl_link_stats *out);

/* ---- tunnels: links with an outer pair of addresses ---- */
enum nl_tunnel_kind {
	NL_TUNNEL_IPIP,	  /* IPv4 in IPv4 */
	NL_TUNNEL_SIT,	  /* IPv4 and IPv6 in IPv4 */
	NL_TUNNEL_IP6TNL, /* IPv4 and IPv6 in IPv6 */
	NL_TUNNEL_GRE,
	NL_TUNNEL_IP6GRE,
	NL_TUNNEL_VXLAN, /* over IPv4 or IPv6 */
};
#define NL_VNI_MAX 0xffffffu
struct nl_tunnel {
	enum nl_tunnel_kind kind;
	struct net_addr local, remote; /* of the family that the kind has outside */
	uint32_t key;		       /* GRE: of both directions, 0: none.  VXLAN: the VNI */
	uint16_t port;		       /* VXLAN: of both ends */
	uint8_t mac[6];		       /* VXLAN: of the link */
};
/* The kernel's name of the kind. */
const char *nl_tunnel_kind_name(enum nl_tunnel_kind kind);
/* In NL_GROUP_MESHNET, down.  -EINVAL: the addresses do not fit the kind; -EEXIST: the name, or
 * another tunnel with these addresses and this key. */
int nl_tunnel_add(struct nl *nl, const char *name, const struct nl_tunnel *t);
/* Bytes of headers that the kind puts before a packet, from this link's MTU. */
uint32_t nl_tunnel_overhead(const struct nl_tunnel *t);
int nl_link_del(struct nl *nl, uint32_t index);
/*
 * Many at once: the kernel takes some 20 ms to delete a link, and about as long for all of a group.
 * nl_link_leave puts a link of ours into a group of its own, nl_leaving_del deletes that group.
 */
#define NL_GROUP_LEAVING 0x6d676f6eu
int nl_link_leave(struct nl *nl, uint32_t index);
int nl_leaving_del(struct nl *nl);
/* Into NL_GROUP_MESHNET: the journal takes back such links only. */
int nl_link_claim(struct nl *nl, uint32_t index);
/* "mgip%d" and 7: "mgip7".  False when there is no place for a number, or no room. */
bool nl_link_numbered(char out[IFNAMSIZ], const char *template, uint32_t number);
/* The first name that no link has, for a template with one %d; any other name as it is. -ENOSPC. */
int nl_link_free_name(struct nl *nl, const char *wanted, char out[IFNAMSIZ]);
/* While it is down.  -EEXIST. */
int nl_link_rename(struct nl *nl, uint32_t index, const char *name);
int nl_link_set_mac(struct nl *nl, uint32_t index, const uint8_t mac[6]);
/* Another name for it; it keeps its own. */
int nl_link_add_altname(struct nl *nl, uint32_t index, const char *name);

/* ---- addresses ---- */
struct nl_addr {
	uint32_t link;
	struct net_prefix prefix; /* the address with its prefix length */
	struct net_addr peer;	  /* point-to-point: the prefix is the peer's; family 0: none */
	uint8_t proto;		  /* as listed; adding always sets ours */
};

/* -EEXIST when the link has it already.  IPv6 without duplicate detection: it
 * is usable as soon as the kernel's work queue has run.  Bring the link up
 * first: the kernel loses the route to an IPv6 peer of an address given to a link that is down. */
int nl_addr_add(struct nl *nl, const struct nl_addr *a);
int nl_addr_del(struct nl *nl, const struct nl_addr *a);

/* ---- neighbours ---- */
/* The link-layer address of `addr` as far as the kernel knows it now; -ENOENT. */
int nl_neigh_get(struct nl *nl, uint32_t link, const struct net_addr *addr, uint8_t mac[6]);
/* For good, as long as the link is there. */
int nl_neigh_add(struct nl *nl, uint32_t link, const struct net_addr *addr, const uint8_t mac[6]);
/* Of a VXLAN link: frames for `mac` go to `remote`, and frames from it come from nowhere else. */
int nl_fdb_add(struct nl *nl, uint32_t link, const uint8_t mac[6], const struct net_addr *remote);

/* ---- routes ---- */
enum nl_route_type {
	NL_ROUTE_UNICAST = 1,
	NL_ROUTE_LOCAL = 2,
	NL_ROUTE_BLACKHOLE = 6,
	NL_ROUTE_UNREACHABLE = 7,
	NL_ROUTE_PROHIBIT = 8,
	/* others are listed with their kernel number (linux/rtnetlink.h) */
};

struct nl_route {
	uint8_t family;		/* 4 or 6 */
	struct net_prefix dst;	/* family 0: the default route */
	struct net_addr via;	/* family 0: on-link */
	struct net_addr source; /* preferred source address; family 0: the kernel's choice */
	uint32_t dev;		/* link index; 0: none (from `via`, or an unreachable route) */
	bool onlink;		/* `via` is on the link, even if no other route says so (yet) */
	uint32_t table;		/* 0 means main */
	uint32_t metric;	/* 0: the kernel's default */
	uint8_t type;		/* enum nl_route_type; 0 means unicast */
	uint8_t proto;		/* as listed; adding always sets ours */
};

/* -EEXIST when there is one with this destination, table and metric; -ESRCH when there is none. */
int nl_route_add(struct nl *nl, const struct nl_route *r);
int nl_route_del(struct nl *nl, const struct nl_route *r);
/* Which route a packet to `dst` would take now (with this mark). */
int nl_route_get(struct nl *nl, const struct net_addr *dst, uint32_t mark, struct nl_route *out);

/* ---- rules ---- */
struct nl_rule {
	uint8_t family; /* 4 or 6 */
	uint32_t priority;
	uint32_t table;
	uint32_t fwmark, fwmask;    /* mask 0: the rule does not look at the mark */
	struct net_prefix from, to; /* family 0: any */
	char iif[IFNAMSIZ];	    /* "": any */
	bool invert;		    /* "not" */
	bool suppress;		    /* ignore routes of the table with at most this length: */
	uint8_t suppress_prefixlength;
	uint8_t proto; /* as listed; adding always sets ours */
};

int nl_rule_add(struct nl *nl, const struct nl_rule *r);
int nl_rule_del(struct nl *nl, const struct nl_rule *r); /* -ENOENT */

/* ---- neighbours ---- */
struct nl_neigh {
	uint32_t link;
	struct net_addr addr;
	uint8_t lladdr[6]; /* an Ethernet address, if has_lladdr */
	bool has_lladdr;
	bool failed; /* it was asked for and did not answer */
	bool noarp;  /* nobody: multicast, and what needs no address */
};

/*
 * Lists.  `visit` answers 0 to go on, anything else ends the list with that value.  `family` 4, 6,
 * or 0 for both.  A list that the kernel interrupted (something changed meanwhile) is -EINTR after
 * the visits: drop what was collected and ask again.
 */
typedef int nl_link_visit(const struct nl_link *l, void *ctx);
typedef int nl_addr_visit(const struct nl_addr *a, void *ctx);
typedef int nl_route_visit(const struct nl_route *r, void *ctx);
typedef int nl_rule_visit(const struct nl_rule *r, void *ctx);
typedef int nl_neigh_visit(const struct nl_neigh *n, void *ctx);
int nl_link_list(struct nl *nl, nl_link_visit *visit, void *ctx);
int nl_addr_list(struct nl *nl, uint8_t family, nl_addr_visit *visit, void *ctx);
/* All tables.  A route with several next hops is visited once for each. */
int nl_route_list(struct nl *nl, uint8_t family, nl_route_visit *visit, void *ctx);
int nl_rule_list(struct nl *nl, uint8_t family, nl_rule_visit *visit, void *ctx);
int nl_neigh_list(struct nl *nl, uint8_t family, nl_neigh_visit *visit, void *ctx);
#endif
