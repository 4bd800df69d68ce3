/* The client's half of SOCKS5, without blocking: connect, log in, ask.  One object a connection. */
#ifndef TUNNEL_SOCKSDIAL_H
#define TUNNEL_SOCKSDIAL_H

#include "wire/socks5.h"

struct event_base;
struct socksdial;

struct socksdial_server {
	struct net_addr addr;
	char user[SOCKS_NAME_MAX + 1], password[SOCKS_NAME_MAX + 1]; /* user "": no login */
	/* Everything is said at once, without waiting for the answers: one round trip instead of
	 * three.  Our own server's. */
	bool eager;
};

enum socksdial_want {
	SOCKSDIAL_CHECK,     /* only log in: is it there, and are we welcome? */
	SOCKSDIAL_CONNECT,   /* to `to` */
	SOCKSDIAL_ASSOCIATE, /* for datagrams that come from `to` */
};

struct socksdial_result {
	/* 0; -EACCES: the login was refused; -EREMOTEIO: the request was, with this code; -EPROTO:
	 * this is no SOCKS5 server; -ETIMEDOUT, -ECONNREFUSED, ... */
	int err;
	uint8_t code;
	int fd; /* connected and the owner's now; -1 on errors */
	struct net_addr bound;
};
/* Once, from the event loop; the dial is gone then. */
typedef void socksdial_cb(const struct socksdial_result *r, void *arg);

/* `server` is copied.  0, or -errno and no callback. */
int socksdial_start(struct socksdial **out, struct event_base *base,
		    const struct socksdial_server *server, enum socksdial_want want,
		    const struct net_addr *to, uint64_t timeout_us, socksdial_cb *cb, void *arg);
/* No callback.  NULL is fine. */
void socksdial_cancel(struct socksdial *d);
#endif
