/* addNode and addNodes: processes are started, and the answer waits until they have registered. */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "io/clock.h"
#include "io/timer.h"
#include "nodemanager/api.h"

#define POLL_US 50000
#define WAIT_US 8000000u
#define WAIT_EACH_US 200000u /* more for each: they all start at once on one machine */

struct nm_adding {
	LIST_ENTRY(nm_adding) all;
	struct nm_api *api;
	struct rpc_call *call;
	struct event *timer;
	uint64_t until_us;
	bool many;
	size_t count;
	struct mesh_id ids[NM_API_ADD_MAX];
};

static void adding_free(struct nm_adding *a)
{
	LIST_REMOVE(a, all);
	event_free(a->timer);
	free(a);
}

void nm_api_end(struct nm_api *api)
{
	while (!LIST_EMPTY(&api->adding)) {
		rpc_fail(LIST_FIRST(&api->adding)->call, RPC_FAILED, "the nodemanager ends");
		adding_free(LIST_FIRST(&api->adding));
	}
}

static bool all_settled(const struct nm_adding *a)
{
	for (size_t i = 0; i < a->count; i++) {
		struct nm_node_info info;
		bool there = nm_node_get(a->api->nm, &a->ids[i], &info) == 0 && info.connected;
		if (!there && nm_spawn_runs(a->api->spawner, &a->ids[i]))
			return false;
	}
	return true;
}

static struct json_object *one(const struct nm_adding *a, size_t i)
{
	struct nm_node_info info = {.id = a->ids[i], .name = ""};
	nm_node_get(a->api->nm, &a->ids[i], &info);
	return nm_api_node_json(&info);
}

static void reply(struct nm_adding *a)
{
	if (!a->many) {
		rpc_reply(a->call, one(a, 0));
		return;
	}
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();
	for (size_t i = 0; i < a->count; i++)
		json_object_array_add(list, one(a, i));
	rpc_set(o, "nodes", list);
	rpc_reply(a->call, o);
}

static void poll_added(evutil_socket_t fd, short what, void *arg)
{
	struct nm_adding *a = arg;
	struct nm_node_info info;
	struct timeval tv = {0, POLL_US};
	(void)fd, (void)what;
	if (!all_settled(a) && daemon_now_us() < a->until_us) {
		evtimer_add(a->timer, &tv);
		return;
	}
	if (!a->many && (nm_node_get(a->api->nm, &a->ids[0], &info) || !info.connected))
		rpc_fail(a->call, RPC_FAILED, "the node did not register; the log says why");
	else
		reply(a);
	adding_free(a);
}

static bool spawn_failed(struct rpc_call *call, const char *name, int err)
{
	if (err == -EEXIST)
		rpc_fail(call, RPC_FAILED, "node %s runs already", name);
	else if (err == -EBUSY)
		rpc_fail(call, RPC_BUSY, "too many nodes were started here (%d)", NM_SPAWN_MAX);
	else
		rpc_fail(call, RPC_FAILED, "cannot start a node: %s", strerror(-err));
	return false;
}

/* A name that no node has. */
static void free_name(struct nm_api *api, char out[NAME_MAX_BYTES + 1])
{
	struct mesh_id id;
	unsigned n = 0;
	do
		snprintf(out, NAME_MAX_BYTES + 1, "node-%u", ++n);
	while (nm_node_find(api->nm, out, &id) == 0 || nm_spawn_named(api->spawner, out));
}

static void add(struct nm_api *api, struct rpc_call *call, size_t count, const char *name,
		bool connect, bool many)
{
	struct nm_adding *a = calloc(1, sizeof *a);
	if (a)
		a->timer = timer_new(api->base, poll_added, a);
	if (!a || !a->timer) {
		free(a);
		rpc_fail(call, RPC_INTERNAL, "out of memory");
		return;
	}
	LIST_INSERT_HEAD(&api->adding, a, all);
	a->api = api;
	a->call = call;
	a->many = many;
	a->until_us = daemon_now_us() + WAIT_US + count * WAIT_EACH_US;
	for (; a->count < count; a->count++) {
		char made[NAME_MAX_BYTES + 1];
		if (!name)
			free_name(api, made);
		int err = nm_spawn(api->spawner, name ? name : made, connect, &a->ids[a->count]);
		if (err) {
			spawn_failed(call, name ? name : made, err);
			adding_free(a);
			return;
		}
		/* So that numbers follow the order of asking, not of registering. */
		struct nm_node_record record = {.id = a->ids[a->count]};
		cstr_copy(record.name, sizeof record.name, name ? name : made);
		nm_expect_node(api->nm, &record);
	}
	struct timeval tv = {0, POLL_US};
	evtimer_add(a->timer, &tv);
}

void nm_api_add_node(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct nm_api *api = arg;
	const char *name = rpc_param_str(params, "name", NULL);
	struct mesh_id id;
	struct nm_node_info info;
	if (name && !name[0])
		name = NULL;
	if (name && !nm_spawn_name_ok(name))
		rpc_fail(call, RPC_INVALID_PARAMS,
			 "name: letters, digits, '-', '_' and '.' (not first)");
	else if (name && nm_node_find(api->nm, name, &id) == 0 &&
		 nm_node_get(api->nm, &id, &info) == 0 && info.connected)
		rpc_fail(call, RPC_FAILED, "there is a node %s already", name);
	else
		add(api, call, 1, name, rpc_param_bool(params, "connect", false), false);
}

void nm_api_add_nodes(struct rpc_call *call, struct json_object *params, void *arg)
{
	add(arg, call, (size_t)rpc_param_u64(params, "count", 1), NULL,
	    rpc_param_bool(params, "connect", false), true);
}
