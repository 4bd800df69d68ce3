/*
 * The subscriber's interface of the method "socks": what the host sends into it goes through a
 * SOCKS5 server.  TCP is ended by the host's own kernel: a segment to anywhere is turned towards a
 * listener of ours behind the same interface, as if it came from the gateway's tunnel address
 * (core/tunflow.h), and what the kernel answers is turned back.  A SYN waits until the server has
 * connected, so an application sees a refusal as one.  UDP goes through associations (socksudp.h).
 * An echo request to the gateway's tunnel address is answered when the server has taken our login
 * meanwhile: probes tell the truth.  There is no other ICMP through a SOCKS server.
 */
#ifndef TUNNEL_SOCKSTUN_H
#define TUNNEL_SOCKSTUN_H

#include "tunnel/socksdial.h"
#include "tunnel/tunnel.h"

struct nl;
struct sockstun;

struct sockstun_config {
	struct event_base *base;
	struct nl *nl;
	const char *interface; /* name or template */
	uint32_t mtu;
	uint32_t flows_max; /* TCP and UDP together */
	uint64_t idle_us;   /* a connection on which nothing moves is ended */
	struct net_prefix ip4, ip6;
	struct net_addr gateway4, gateway6;    /* a family without one does not take this way */
	const struct socksdial_server *server; /* outlives it */
	/* The interface is gone: free it. */
	void (*lost)(void *arg);
	void *arg;
};

/* Up, with its addresses.  0 or -errno. */
int sockstun_new(struct sockstun **out, const struct sockstun_config *config);
void sockstun_free(struct sockstun *t); /* NULL is fine */
const char *sockstun_interface(const struct sockstun *t);
void sockstun_counters(const struct sockstun *t, struct tunnel_counters *out);
#endif
