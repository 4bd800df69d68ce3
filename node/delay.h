/*
 * TESTS ONLY: holds outgoing UDP packets back for a random time, and loses some, between the engine
 * and udp.h ([transport] SimulateDelay, MaxSimulatedDelay, SimulateLoss).
 */
#ifndef NODE_DELAY_H
#define NODE_DELAY_H

#include "node/udp.h"

struct event_base;
struct delay;

struct delay_config {
	uint64_t min_us, max_us;
	uint32_t loss_ppm;
};
/* NULL: out of memory. */
struct delay *delay_new(struct event_base *base, const struct delay_config *config);
void delay_free(struct delay *d);
/* Copies the packets. */
void delay_send(struct delay *d, struct udp_socket *s, const struct net_addr *to,
		struct pkt *const *v, size_t n);
/* Forgets what is on its way from this socket; call before udp_close. */
void delay_forget(struct delay *d, const struct udp_socket *s);
#endif
