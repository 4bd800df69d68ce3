/*
 * The gateway's JSON-RPC over stream connections of the mesh: one message is one request (or
 * batch), one message its answer.  The caller is the authenticated peer.
 */
#ifndef GATEWAYD_STREAM_H
#define GATEWAYD_STREAM_H

#include <stdbool.h>

struct gw_streams;
struct meshconn;
struct rpc_server;

#define GW_STREAMS_MAX 1024u
#define GW_STREAMS_PER_NODE_MAX 8u

/* NULL when out of memory. */
struct gw_streams *gw_streams_new(struct rpc_server *server);
/* Closes all; before the server is freed.  NULL is fine. */
void gw_streams_free(struct gw_streams *all);
/* Takes an incoming connection; false: a limit is reached. */
bool gw_streams_accept(struct gw_streams *s, struct meshconn *conn);
#endif
