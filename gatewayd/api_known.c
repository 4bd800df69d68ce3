#include "gatewayd/api_known.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "io/clock.h"
#include "io/jsonrpc.h"
#include "libmeshapp/meshapp.h"

struct known_gateway {
	struct mesh_id node;
	char app[NAME_MAX_BYTES + 1], info[APP_INFO_MAX_BYTES + 1];
	uint64_t seen_s; /* wall clock */
};

struct gw_known {
	struct meshapp *app;
	char own[NAME_MAX_BYTES + 1];
	uint64_t asked_s;
	struct known_gateway *list;
	size_t count;
};

struct gw_known *gw_known_new(struct meshapp *app, const char *own_app)
{
	struct gw_known *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->app = app;
	cstr_copy(k->own, sizeof(k->own), own_app);
	return k;
}

void gw_known_free(struct gw_known *k)
{
	if (!k)
		return;
	free(k->list);
	free(k);
}

static bool is_us(const struct gw_known *k, const struct meshapp_entry *e)
{
	const struct mesh_id *node = meshapp_node(k->app);

	return node && mesh_id_equal(node, &e->node) && strcmp(k->own, e->app) == 0;
}

static void on_list(void *arg, uint16_t code, const struct meshapp_entry *entries, size_t count)
{
	struct gw_known *k = arg;
	struct known_gateway *list;
	size_t n = 0;

	if (code != MESHAPP_OK) /* the tracker is away: what we know is better than nothing */
		return;
	list = calloc(KNOWN_MAX, sizeof(*list));
	if (!list)
		return;
	for (size_t i = 0; i < count && n < KNOWN_MAX; i++) {
		if (is_us(k, &entries[i]))
			continue;
		list[n].node = entries[i].node;
		cstr_copy(list[n].app, sizeof(list[n].app), entries[i].app);
		cstr_copy(list[n].info, sizeof(list[n].info), entries[i].info);
		list[n++].seen_s = daemon_wall_s();
	}
	free(k->list);
	k->list = list;
	k->count = n;
}

void gw_known_tick(struct gw_known *k, uint64_t now_s)
{
	if (!k->app || !meshapp_is_up(k->app) ||
	    (k->asked_s && now_s - k->asked_s < KNOWN_INTERVAL_S))
		return;
	if (meshapp_list(k->app, MESHAPP_BY_TYPE, KNOWN_APP_TYPE, on_list, k) == 0)
		k->asked_s = now_s;
}

static struct json_object *one(const struct known_gateway *g)
{
	struct json_object *o = json_object_new_object();
	char id[MESH_ID_TEXT];

	rpc_set(o, "name", rpc_text(g->app));
	rpc_set_str(o, "node", mesh_id_text(&g->node, id));
	return o;
}

void gw_known_add(const struct gw_known *k, struct json_object *list)
{
	for (size_t i = 0; list && i < k->count; i++) {
		struct json_object *o = one(&k->list[i]);
		struct json_object *info =
			rpc_parse(k->list[i].info, strlen(k->list[i].info), NULL);

		rpc_set(o, "info", info);
		rpc_set_u64(o, "seenAt", k->list[i].seen_s);
		json_object_array_add(list, o);
	}
}
