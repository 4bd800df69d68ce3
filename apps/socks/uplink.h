/*
 * The client's way to a server: finds one through the mesh, or takes the one it is told, keeps a
 * stream connection with a mux and a datagram connection to it, and moves to another when it goes.
 */
#ifndef SOCKS_UPLINK_H
#define SOCKS_UPLINK_H

#include "socks/carrier.h"
#include "socks/socks.h"

struct meshapp;
struct uplink;

struct uplink_callbacks {
	struct mux_ops streams; /* without `ready`, `up` and `open` */
	/* Streams may be opened. */
	void (*up)(void *ctx);
	/* The streams are gone, without `closed`; the search has begun again. */
	void (*down)(void *ctx, const char *reason);
	void (*record)(void *ctx, struct mux_stream *stream, const struct mux_record *record);
};

/* NULL when out of memory. */
struct uplink *uplink_new(struct event_base *base, const struct socks_options *opt,
			  const struct uplink_callbacks *cb, void *ctx);
void uplink_free(struct uplink *u);
/* Our node is there, or away. */
void uplink_node(struct uplink *u, struct meshapp *app, bool up);
/* While it is up; NULL otherwise. */
struct mux *uplink_mux(const struct uplink *u);
/* -ENOTCONN, or what meshconn_send says. */
int uplink_send_record(struct uplink *u, const uint8_t *record, size_t len);
/* Gives this connection up for a new one. */
void uplink_renew(struct uplink *u, const char *reason);
#endif
