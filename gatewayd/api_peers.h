/* JSON about other gateways: what we tell and hear of them in nodeInfo, and listGateways. */
#ifndef GATEWAYD_API_PEERS_H
#define GATEWAYD_API_PEERS_H

#include "gatewayd/peers.h"
#include "io/jsonrpc.h"

/* nodeInfo's `gateways`: [{name, address}], at most GW_PEERS_TOLD_MAX, behind what `list` has
 * (NULL: nothing).  Returns the list. */
struct json_object *gw_api_peers_told(const struct gw_peers *p, struct json_object *list);
/* Parameter `gateways` of nodeInfo: addresses, or objects as we tell them; the rest is nothing. */
void gw_api_peers_learn(struct gw_peers *p, struct json_object *params);
/* Another's nodeInfo: name and id of `peer`, and whom it tells.  False when it is no gateway. */
bool gw_api_peers_read(struct json_object *answer, struct gw_peer *peer,
		       struct net_addr told[GW_PEERS_TOLD_MAX], size_t *count);
/* All of them with when they were proven, behind what `list` has.  Returns the list. */
struct json_object *gw_api_peers_list(const struct gw_peers *p, struct json_object *list);
#endif
