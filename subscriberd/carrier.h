/*
 * JSON-RPC to a gateway, however it is reached: over a mesh stream to its app (kept open between
 * calls) or over HTTP.  One callback per call, always from the event loop.
 */
#ifndef SUBSCRIBERD_CARRIER_H
#define SUBSCRIBERD_CARRIER_H

#include "io/jsonrpc.h"
#include "subscriberd/gateway.h"

#define CARRIER_PEERS_MAX 256u /* gateways with a mesh stream of ours */
#define CARRIER_CALLS_MAX 64u  /* under way to one gateway */

struct meshapp;
struct carrier;

/* `answer` lives during the call.  `rtt_ms`: question to answer on an open channel; 0 when the
 * channel had to be made first. */
typedef void carrier_cb(const struct rpc_answer *answer, double rtt_ms, void *arg);

/* `app` may be NULL: no mesh.  NULL when out of memory. */
struct carrier *carrier_new(struct event_base *base, struct meshapp *app);
/* Calls under way end without a callback. */
void carrier_free(struct carrier *c);
/* `params` stays the caller's.  Failures come through `cb` too (RPC_OUTCOME_DOWN). */
void carrier_call(struct carrier *c, const struct sub_contact *to, const char *method,
		  struct json_object *params, uint64_t timeout_us, carrier_cb *cb, void *arg);
#endif
