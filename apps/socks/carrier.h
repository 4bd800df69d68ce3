/* A mux on its mesh connection: messages of the one are messages of the other. */
#ifndef SOCKS_CARRIER_H
#define SOCKS_CARRIER_H

#include "socks/mux.h"

struct event_base;
struct meshconn;
struct carrier;

struct carrier_config {
	struct event_base *base;
	struct meshconn *conn; /* a stream, up; its callbacks are the carrier's from now on */
	struct mux_config mux;
	const struct mux_ops *ops; /* without `ready` */
	void *ctx;		   /* of ops, and of `over` */
	/* The connection is over: the other end's doing, or a fault of its.  The carrier is still
	 * there, for carrier_free. */
	void (*over)(void *ctx, const char *reason);
};

/* NULL when out of memory; the connection is then untouched. */
struct carrier *carrier_new(const struct carrier_config *config);
/* Closes the connection, if it is not yet over, with this reason.  Its streams vanish without
 * callbacks.  May be called from any callback.  NULL is fine. */
void carrier_free(struct carrier *k, const char *reason);
struct mux *carrier_mux(const struct carrier *k);
/* It is over because the other end said nothing any more. */
bool carrier_timed_out(const struct carrier *k);
struct meshconn *carrier_conn(const struct carrier *k);
#endif
