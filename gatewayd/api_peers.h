/* JSON about other gateways: what we tell and hear of them in nodeInfo, and listGateways. */
#ifndef GATEWAYD_API_PEERS_H
#define GATEWAYD_API_PEERS_H

#include "gatewayd/peers.h"
#include "io/jsonrpc.h"

/* nodeInfo's `gateways`: addresses, at most GW_PEERS_TOLD_MAX. */
struct json_object *gw_api_peers_told(const struct gw_peers *p);
/* Parameter `gateways` of nodeInfo; anything else than a list of addresses is nothing. */
void gw_api_peers_learn(struct gw_peers *p, struct json_object *params);
/* Another's nodeInfo: name and id of `peer`, and whom it tells.  False when it is no gateway. */
bool gw_api_peers_read(struct json_object *answer, struct gw_peer *peer,
		       struct net_addr told[GW_PEERS_TOLD_MAX], size_t *count);
/* The result of listGateways. */
struct json_object *gw_api_peers_list(const struct gw_peers *p);
#endif
