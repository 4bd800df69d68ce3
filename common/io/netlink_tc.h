/*
 * Traffic control, as far as leases need it: htb with a class a lease on an interface of our own,
 * and a redirection of a tunnel's packets through that.  Which packets are whose is computed from
 * their addresses by a classic BPF program (cls_bpf), so there is one filter for all leases.
 * Synchronous; errors are the kernel's, -ENOENT and -EOPNOTSUPP when it lacks a kind.
 */
#ifndef IO_NETLINK_TC_H
#define IO_NETLINK_TC_H

#include <linux/filter.h>

#include "io/netlink.h"

#define NL_TC_MAJOR 0x6d67u	   /* of our handles: "mg" */
#define NL_TC_PRIO 0x6d67u	   /* of our filters */
#define NL_TC_RATE_MAX 4000000000u /* bytes a second */

/* Root htb of a link that is ours; what fits no class passes at once. */
int nl_htb_add(struct nl *nl, uint32_t dev);
/* Makes or changes class `minor` below class `parent` (0: the root). */
int nl_htb_class(struct nl *nl, uint32_t dev, uint16_t minor, uint16_t parent,
		 uint64_t rate_bytes_s, uint64_t ceil_bytes_s);
int nl_htb_class_del(struct nl *nl, uint32_t dev, uint16_t minor);
/* The queue of a class: "fq_codel", ... or "bfifo" with this limit. */
int nl_leaf_set(struct nl *nl, uint32_t dev, uint16_t minor, const char *kind,
		uint32_t limit_bytes);
/* The hooks that packets pass on their way in and out.  -EEXIST: somebody uses them. */
int nl_clsact_add(struct nl *nl, uint32_t dev);
/* Takes our filters back, and the hooks too unless others have filters there.  0 when gone. */
int nl_clsact_release(struct nl *nl, uint32_t dev);

enum nl_tc_hook { NL_TC_CLASS, NL_TC_INGRESS, NL_TC_EGRESS };
/* Packets for which the program answers: at a hook, anything but 0 goes to `to`; with NL_TC_CLASS
 * the answer is the class. */
int nl_bpf_add(struct nl *nl, uint32_t dev, enum nl_tc_hook hook, const struct sock_filter *program,
	       uint16_t length, uint32_t to);

/* The same, but it replaces the one that this function set there before. */
int nl_bpf_replace(struct nl *nl, uint32_t dev, enum nl_tc_hook hook,
		   const struct sock_filter *program, uint16_t length, uint32_t to);

/*
 * The program: packets from (or to) an address of the networks, of which the low 16 bits that are
 * not the network's are the answer: the class, or -1 with `redirect`.  Other packets: 0, and with
 * `redirect` those at whose other end is the first address of the network, which is ours.
 */
#define NL_BPF_MAX 60
uint16_t nl_bpf_leases(struct sock_filter out[NL_BPF_MAX], const struct net_prefix *net4,
		       const struct net_prefix *net6, bool from, bool redirect);

/*
 * The same for hosts with addresses of all sorts: packets from (or to) `host`, but for those
 * between it and `server`.  `*fit` is how many hosts of the list found room in the program (about
 * 800 of IPv4, 220 of IPv6).
 */
#define NL_BPF_HOSTS_MAX 4000
struct nl_bpf_host {
	struct net_addr host, server; /* of one family */
	uint16_t minor;		      /* of its class */
};
uint16_t nl_bpf_hosts(struct sock_filter out[NL_BPF_HOSTS_MAX], const struct nl_bpf_host *hosts,
		      size_t count, size_t *fit, bool from, bool redirect);
#endif
