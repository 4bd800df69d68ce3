/*
 * The subscriber's UDP through a SOCKS5 server: an association for each address and port that an
 * application sends from, so that answers from anywhere find back; one more is kept ready, so that
 * a question to a name server waits for nothing.
 */
#ifndef TUNNEL_SOCKSUDP_H
#define TUNNEL_SOCKSUDP_H

#include "tunnel/socksdial.h"

struct socksudp;

struct socksudp_config {
	const struct socksdial_server *server; /* outlives it */
	size_t max;			       /* associations */
	/* A datagram for `to`; valid during the call. */
	void (*deliver)(const struct net_addr *from, const struct net_addr *to,
			struct bytes payload, void *arg);
	void *arg;
};

int socksudp_new(struct socksudp **out, struct event_base *base,
		 const struct socksudp_config *config);
void socksudp_free(struct socksudp *u); /* NULL is fine */
/* 0, or why it was dropped: -ENOSPC, ... */
int socksudp_send(struct socksudp *u, const struct net_addr *from, const struct net_addr *to,
		  struct bytes payload);
#endif
