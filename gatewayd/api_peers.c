#include "gatewayd/api_peers.h"

#include "io/nodeinfo.h"

static struct json_object *peer_json(const struct gw_peer *peer)
{
	struct json_object *o = json_object_new_object();
	char text[NET_ADDR_TEXT];

	rpc_set(o, "name", rpc_text(peer->name));
	rpc_set_str(o, "address", net_addr_text(&peer->addr, text));
	return o;
}

struct json_object *gw_api_peers_told(const struct gw_peers *p, struct json_object *list)
{
	const struct gw_peer *peer;
	size_t it = 0;

	if (!list)
		list = json_object_new_array();
	for (int n = 0; list && n < GW_PEERS_TOLD_MAX && (peer = gw_peers_next(p, &it)); n++)
		json_object_array_add(list, peer_json(peer));
	return list;
}

void gw_api_peers_learn(struct gw_peers *p, struct json_object *params)
{
	struct net_addr told[GW_PEERS_TOLD_MAX];
	size_t count = p ? nodeinfo_gateways(params, told, GW_PEERS_TOLD_MAX) : 0;

	for (size_t i = 0; i < count; i++)
		gw_peers_learn(p, &told[i]);
}

bool gw_api_peers_read(struct json_object *answer, struct gw_peer *peer,
		       struct net_addr told[GW_PEERS_TOLD_MAX], size_t *count)
{
	*count = 0;
	if (!nodeinfo_is_gateway(answer))
		return false;
	nodeinfo_text(answer, "name", peer->name, sizeof peer->name);
	nodeinfo_text(answer, "id", peer->id, sizeof peer->id);
	*count = nodeinfo_gateways(answer, told, GW_PEERS_TOLD_MAX);
	return true;
}

struct json_object *gw_api_peers_list(const struct gw_peers *p, struct json_object *list)
{
	const struct gw_peer *peer;
	size_t it = 0;

	if (!list)
		list = json_object_new_array();
	while (list && (peer = gw_peers_next(p, &it))) {
		struct json_object *o = peer_json(peer);
		rpc_set_bool(o, "configured", peer->configured);
		rpc_set_u64(o, "provenAt", peer->proven_s);
		json_object_array_add(list, o);
	}
	return list;
}
