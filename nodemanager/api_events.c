/* The events of the nodemanager as JSON. */
#include "nodemanager/api.h"

#include <stdio.h>

static void node_set(struct json_object *o, const char *key, const char *name_key,
		     const struct mesh_id *id, const char *name)
{
	char text[MESH_ID_TEXT];

	if (!id)
		return;
	rpc_set_str(o, key, mesh_id_text(id, text));
	if (name && *name)
		rpc_set_str(o, name_key, name);
}

struct json_object *nm_api_event_json(const struct nm_event *e)
{
	struct json_object *o = json_object_new_object();
	char text[NET_ADDR_TEXT];

	if (e->b) {
		node_set(o, "a", "a_name", e->a, e->a_name);
		node_set(o, "b", "b_name", e->b, e->b_name);
	} else {
		node_set(o, "node", "name", e->a, e->a_name);
	}
	if (e->addr)
		rpc_set_str(o, "addr", net_addr_text(e->addr, text));
	if (e->transport)
		rpc_set_u64(o, "transport", e->transport);
	if (e->connection) {
		snprintf(text, sizeof text, "%016llx", (unsigned long long)e->connection);
		rpc_set_str(o, "connection", text);
	}
	if (e->app && *e->app)
		rpc_set_str(o, "app", e->app);
	if (e->type)
		rpc_set_str(o, "type", e->type);
	if (e->text && *e->text)
		rpc_set_str(o, "why", e->text);
	return o;
}
