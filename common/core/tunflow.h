/*
 * TCP and UDP of a TUN interface, taken out of their IP packets and put into them again: packets of
 * the host's own TCP are turned towards a listener of ours behind the same interface and back, so
 * that the kernel ends them (tunnel/sockstun.h).  Pure.
 *
 * A flow is one TCP connection of an application: (its address, the remote one) <-> a port of ours,
 * which is how the listener knows it again.
 */
#ifndef CORE_TUNFLOW_H
#define CORE_TUNFLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/addr.h"
#include "base/map.h"

/* ---- packets ---- */
#define TUNFLOW_ICMP 1
#define TUNFLOW_TCP 6
#define TUNFLOW_UDP 17
#define TUNFLOW_ICMP6 58
#define TUNFLOW_HEADERS_MAX (40 + 20) /* of what is made here */
#define TUNFLOW_FIN 1u
#define TUNFLOW_SYN 2u
#define TUNFLOW_RST 4u
#define TUNFLOW_ACK 16u

struct tunflow_packet {
	uint8_t protocol;	  /* one of the four */
	struct net_addr src, dst; /* with ports, ICMP without */
	size_t l4;		  /* where its header begins */
	size_t payload;		  /* and what stands behind that */
	size_t end;
	uint8_t tcp_flags;
};

/* 0, -EINVAL: not a whole packet; -EOPNOTSUPP: a fragment, an extension header of IPv6, or another
 * protocol.  Checksums are the kernel's affair. */
int tunflow_parse(const uint8_t *packet, size_t len, struct tunflow_packet *out);
/* Other addresses and ports in a TCP packet that was parsed, of its own family; checksums follow
 * (RFC 1624), so a wrong one stays wrong. */
void tunflow_readdress(uint8_t *packet, const struct tunflow_packet *p, const struct net_addr *src,
		       const struct net_addr *dst);
/* The reset that answers a segment (no reset itself) that nobody takes, a SYN first of all; its
 * length. */
size_t tunflow_refuse(uint8_t out[TUNFLOW_HEADERS_MAX], const uint8_t *packet,
		      const struct tunflow_packet *p);
/* True when the packet was an echo request and is its answer now. */
bool tunflow_echo(uint8_t *packet, const struct tunflow_packet *p);
/* A datagram in a packet; its length, or 0 when that is larger than `size` or the families differ.
 */
size_t tunflow_datagram(uint8_t *out, size_t size, const struct net_addr *src,
			const struct net_addr *dst, struct bytes payload);

/* ---- flows ---- */
#define TUNFLOW_PORT_FIRST 20000u
#define TUNFLOW_PORTS 32768u /* of ours; reused as late as can be */
#define TUNFLOW_MAX 16384u

struct tunflow {
	TAILQ_ENTRY(tunflow) link;
	struct net_addr app, remote;
	uint16_t port;
	bool over; /* only its last packets still pass */
	uint64_t last_us;
	void *owner; /* NULL when over */
};

TAILQ_HEAD(tunflow_list, tunflow);

struct tunflow_table {
	struct map by_ends;
	struct tunflow **by_port;
	struct tunflow_list live, over; /* the longest silent first */
	size_t max, count, live_count;
	unsigned next;
};

/* At most `max` flows that are not over (TUNFLOW_MAX at most).  -ENOMEM. */
int tunflow_table_init(struct tunflow_table *t, size_t max, uint64_t seed);
/* The owners of live flows are asked nothing. */
void tunflow_table_free(struct tunflow_table *t);
/* NULL: too many, or no memory.  One that is over between the same ends makes room. */
struct tunflow *tunflow_open(struct tunflow_table *t, const struct net_addr *app,
			     const struct net_addr *remote, uint64_t now_us);
struct tunflow *tunflow_find(const struct tunflow_table *t, const struct net_addr *app,
			     const struct net_addr *remote);
struct tunflow *tunflow_by_port(const struct tunflow_table *t, uint16_t port);
void tunflow_touch(struct tunflow_table *t, struct tunflow *f, uint64_t now_us);
/* Its owner has done with it. */
void tunflow_end(struct tunflow_table *t, struct tunflow *f, uint64_t now_us);
void tunflow_close(struct tunflow_table *t, struct tunflow *f);
/* Closes what is over and has been silent since `before_us`. */
void tunflow_sweep(struct tunflow_table *t, uint64_t before_us);
#endif
