/*
 * The UDP sockets of transports on libevent, one each.  Batches both ways: recvmmsg with UDP_GRO
 * in, UDP_SEGMENT over runs of equally long packets out; where the kernel refuses either, or
 * does it wrongly (udp_offload.h), one datagram a buffer.  A packet that the kernel does not take
 * at once is lost: the transport sends it again.
 */
#ifndef NODE_UDP_H
#define NODE_UDP_H

#include "core/pkt.h"
#include "node/engine.h"

struct event_base;
struct udp;
struct udp_socket;

struct udp_config {
	struct event_base *base;
	struct net_addr bind; /* port ignored; "::" takes IPv4 too */
	int buffer_bytes;     /* of each socket, each direction */
	uint32_t mark;	      /* SO_MARK; 0: none */
	/* What has come for one transport from one address; blocks are counted. */
	void (*input)(void *ctx, uint32_t transport, struct block *b, const struct udp_slice *v,
		      size_t n, const struct net_addr *from);
	/* After the inputs of one wake-up. */
	void (*batch_end)(void *ctx);
	void *ctx;
};

struct udp *udp_new(const struct udp_config *config);
/* All sockets must be closed before. */
void udp_free(struct udp *u);
/* Gives back the receive buffers until the next datagram. */
void udp_trim(struct udp *u);

/* The bound port and *out, or -errno.  Port 0: any. */
int udp_open(struct udp *u, uint32_t transport, uint16_t port, struct udp_socket **out);
void udp_close(struct udp_socket *s);
void udp_send(struct udp_socket *s, const struct net_addr *to, struct pkt *const *v, size_t n);

struct udp_counters {
	uint64_t rx_datagrams, rx_wakeups, tx_calls, tx_lost, gso_refused;
};
const struct udp_counters *udp_get_counters(const struct udp *u);
#endif
