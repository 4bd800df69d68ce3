/* The events of the gateway as JSON. */
#include "base/cstr.h"
#include "gatewayd/api.h"

#include <stdio.h>

static void lease_json(struct json_object *o, const struct lease *l)
{
	char text[MESH_ID_TEXT];

	/* The sid is what a lease is managed with: watchers get its head, as logs do. */
	cstr_print(text, sizeof(text), "%.8s", l->sid);
	rpc_set_str(o, "sid", text);
	rpc_set_str(o, "method", l->method);
	if (*l->name)
		rpc_set_str(o, "name", l->name);
	if (lease_binding_has_app(&l->who))
		rpc_set_str(o, "node", mesh_id_text(&l->who.node, text));
	if (l->ip4.family)
		rpc_set_str(o, "ipv4", net_addr_ip_text(&l->ip4, text));
	if (l->ip6.family)
		rpc_set_str(o, "ipv6", net_addr_ip_text(&l->ip6, text));
	rpc_set_u64(o, "timeoutTimestamp", l->expires_s);
}

struct json_object *gw_api_event_json(const struct gw_engine *e, const struct lease *l)
{
	struct json_object *o = json_object_new_object();

	if (l)
		lease_json(o, l);
	else
		rpc_set(o, "rttMs",
			json_object_new_double((double)gw_engine_uplink(e)->rtt_us / 1000.0));
	return o;
}
