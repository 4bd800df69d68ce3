/* The events of the subscriber as JSON. */
#include "subscriberd/api.h"

struct json_object *sub_api_event_json(const struct sub_event *e)
{
	struct json_object *o = json_object_new_object();
	char key[SUB_KEY_MAX];

	bool state = e->kind == SUB_EVENT_STATE || e->kind == SUB_EVENT_STANDBY;

	if (state || e->kind == SUB_EVENT_LOST)
		rpc_set_str(o, state ? "from" : "state", sub_state_name(e->from));
	if (state)
		rpc_set_str(o, "to", sub_state_name(e->to));
	if (e->gateway) {
		rpc_set_str(o, "gateway", sub_contact_key(&e->gateway->contact, key));
		if (*e->gateway->info.name)
			rpc_set_str(o, "name", e->gateway->info.name);
	}
	if (e->why)
		rpc_set_str(o, "why", e->why);
	if (e->kind == SUB_EVENT_FAILOVER)
		rpc_set(o, "outageMs", json_object_new_double((double)e->outage_us / 1000.0));
	return o;
}
