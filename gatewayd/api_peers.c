#include "gatewayd/api_peers.h"

#include "base/buf.h"

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

/* "IP:PORT", or an object that has it as `address`. */
static bool address_read(struct json_object *item, struct net_addr *out)
{
	struct json_object *v = item;

	if (json_object_is_type(item, json_type_object) &&
	    !json_object_object_get_ex(item, "address", &v))
		return false;
	return json_object_is_type(v, json_type_string) &&
	       net_addr_parse(out, json_object_get_string(v), 0) == 0;
}

static size_t addresses_read(struct json_object *o, struct net_addr out[GW_PEERS_TOLD_MAX])
{
	struct json_object *list = NULL;
	size_t n = 0;

	if (!json_object_object_get_ex(o, "gateways", &list) ||
	    !json_object_is_type(list, json_type_array))
		return 0;
	for (size_t i = 0; i < json_object_array_length(list) && n < GW_PEERS_TOLD_MAX; i++) {
		if (address_read(json_object_array_get_idx(list, i), &out[n]))
			n++;
	}
	return n;
}

void gw_api_peers_learn(struct gw_peers *p, struct json_object *params)
{
	struct net_addr told[GW_PEERS_TOLD_MAX];
	size_t count = p ? addresses_read(params, told) : 0;

	for (size_t i = 0; i < count; i++)
		gw_peers_learn(p, &told[i]);
}

static void copy_text(char *out, size_t size, struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	out[0] = '\0';
	if (json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_string))
		bytes_to_cstr(bytes_str(json_object_get_string(v)), out, size);
}

bool gw_api_peers_read(struct json_object *answer, struct gw_peer *peer,
		       struct net_addr told[GW_PEERS_TOLD_MAX], size_t *count)
{
	struct json_object *v = NULL;

	*count = 0;
	if (!json_object_is_type(answer, json_type_object) ||
	    !json_object_object_get_ex(answer, "gateway", &v) ||
	    !json_object_is_type(v, json_type_boolean) || !json_object_get_boolean(v))
		return false;
	copy_text(peer->name, sizeof peer->name, answer, "name");
	copy_text(peer->id, sizeof peer->id, answer, "id");
	*count = addresses_read(answer, told);
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
