/* What a nodeInfo says of a gateway and of those that it knows.  Everything in it comes from a
 * stranger. */
#ifndef IO_NODEINFO_H
#define IO_NODEINFO_H

#include "base/addr.h"
#include "io/jsonrpc.h"

/* Is it the answer of a gateway? */
bool nodeinfo_is_gateway(struct json_object *answer);
/* A string of it, safe for a terminal and cut to size; "" when there is none. */
void nodeinfo_text(struct json_object *o, const char *key, char *out, size_t size);
/* `gateways`, of an answer or of the parameters: "IP:PORT", or objects that have it as `address`;
 * the rest is nothing.  How many of them, `max` at most. */
size_t nodeinfo_gateways(struct json_object *o, struct net_addr *out, size_t max);
#endif
