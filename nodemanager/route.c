/*
 * Routes that somebody asked for by naming every node: they live until one of their links dies.
 * The store has them, because no connection at their ends tells the next manager what they are for.
 */
#include "nodemanager/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct nm_route {
	TAILQ_ENTRY(nm_route) all;
	uint64_t number;
	struct nm_path *path;
	struct nm_trace *trace; /* after a restart: until the path is found again */
	nm_done *done;		/* NULL once it has been called */
	void *arg;
};

/* Out of our tables only. */
static void route_drop(struct nm *nm, struct nm_route *route, uint16_t code, const char *text)
{
	if (route->path)
		nm_path_remove(nm, route->path);
	nm_trace_free(route->trace);
	if (route->done)
		route->done(route->arg, code, text, 0);
	TAILQ_REMOVE(&nm->route_list, route, all);
	nm->route_count--;
	free(route);
}

static void route_free(struct nm *nm, struct nm_route *route, uint16_t code, const char *text)
{
	if (nm->ops->route_remove)
		nm->ops->route_remove(nm->ctx, route->number);
	route_drop(nm, route, code, text);
}

static void route_save(struct nm *nm, const struct nm_path *path)
{
	struct nm_route_record record = {.number = path->number};
	for (unsigned i = 0; i < 2; i++) {
		record.node[i] = path->ends[i]->id;
		record.out_transport[i] = path->out_transport[i];
		record.out_route[i] = path->out_route[i];
	}
	if (nm->ops->route_save)
		nm->ops->route_save(nm->ctx, &record);
}

static void installed(struct nm *nm, struct nm_path *path, uint64_t now)
{
	struct nm_route *route = path->owner;
	nm_done *done = route->done;
	(void)now;
	route->done = NULL;
	route_save(nm, path);
	done(route->arg, CODE_OK, "", path->number);
}

static void failed(struct nm *nm, struct nm_path *path, const struct nm_reply *why, uint64_t now)
{
	(void)now;
	route_free(nm, path->owner, why->code, why->text);
}

static void broken(struct nm *nm, struct nm_path *path, uint64_t now)
{
	(void)now;
	log_info("route %llu ends with a link of it", (unsigned long long)path->number);
	route_free(nm, path->owner, CODE_LOST, "a link of the route died");
}

static void leave(struct nm *nm, struct nm_path *path, uint64_t now)
{
	(void)now;
	log_info("route %llu ends: a node of it is no relay any more",
		 (unsigned long long)path->number);
	route_free(nm, path->owner, CODE_LOST, "a node of the route is no relay any more");
}

static void traced(struct nm *nm, void *owner, struct nm_path *path, uint64_t now)
{
	struct nm_route *route = owner;
	(void)now;
	nm_trace_free(route->trace);
	route->trace = NULL;
	route->path = path;
	if (path)
		return;
	log_info("route %llu did not outlive the restart", (unsigned long long)route->number);
	route_free(nm, route, CODE_LOST, "the route is not whole any more");
}

static const struct nm_path_owner route_path = {
	.installed = installed,
	.failed = failed,
	.broken = broken,
	.leave = leave,
	.traced = traced,
};

void nm_routes_free(struct nm *nm)
{
	while (!TAILQ_EMPTY(&nm->route_list))
		route_drop(nm, TAILQ_FIRST(&nm->route_list), CODE_UNAVAILABLE,
			   "the nodemanager ends");
}

void nm_routes_give_up(struct nm *nm)
{
	struct nm_route *route = TAILQ_FIRST(&nm->route_list);
	while (route) {
		struct nm_route *next = TAILQ_NEXT(route, all);
		if (route->trace)
			traced(nm, route, NULL, 0);
		route = next;
	}
}

void nm_routes_forget(struct nm *nm, const struct nm_node *node)
{
	struct nm_route *route = TAILQ_FIRST(&nm->route_list);
	while (route) {
		struct nm_route *next = TAILQ_NEXT(route, all);
		if (route->trace && nm_trace_needs(route->trace, node))
			traced(nm, route, NULL, 0);
		route = next;
	}
}

static struct nm_route *route_new(struct nm *nm, uint64_t number)
{
	struct nm_route *route = nm->route_count < NM_ROUTES_MAX ? calloc(1, sizeof *route) : NULL;
	if (!route)
		return NULL;
	route->number = number;
	TAILQ_INSERT_TAIL(&nm->route_list, route, all);
	nm->route_count++;
	return route;
}

int nm_load_route(struct nm *nm, const struct nm_route_record *record)
{
	struct nm_trace_ends ends;
	for (unsigned i = 0; i < 2; i++) {
		ends.node[i] = nm_node_by_id(nm, &record->node[i]);
		ends.out_transport[i] = record->out_transport[i];
		ends.out_route[i] = record->out_route[i];
	}
	if (!ends.node[0] || !ends.node[1] || ends.node[0] == ends.node[1])
		return -EINVAL;
	struct nm_route *route = route_new(nm, record->number);
	if (!route)
		return -ENOSPC;
	route->trace = nm_trace_new(record->number, &ends, &route_path, route);
	if (route->trace)
		return 0;
	route_drop(nm, route, CODE_BUSY, "out of memory");
	return -ENOMEM;
}

struct chain {
	struct nm_node *nodes[NM_HOPS_MAX + 1];
	struct nm_transport *transports[NM_HOPS_MAX];
	char text[TEXT_MAX_BYTES + 1];
};

static bool chain_link(struct nm *nm, struct chain *c, size_t i)
{
	char a[NAME_MAX_BYTES + 1], b[NAME_MAX_BYTES + 1];
	uint32_t edge = graph_edge_between(nm->graph, c->nodes[i - 1]->vertex, c->nodes[i]->vertex);
	if (edge == GRAPH_NONE) {
		snprintf(c->text, sizeof c->text, "%s and %s have no transport between them",
			 nm_node_text(c->nodes[i - 1], a), nm_node_text(c->nodes[i], b));
		return false;
	}
	c->transports[i - 1] = nm_transport_by_id(nm, graph_edge_tag(nm->graph, edge));
	return true;
}

/* False with c->text saying why not. */
static bool chain_fill(struct nm *nm, struct chain *c, const struct mesh_id *ids, size_t count)
{
	char name[NAME_MAX_BYTES + 1];
	for (size_t i = 0; i < count; i++) {
		c->nodes[i] = nm_node_by_id(nm, &ids[i]);
		if (!c->nodes[i] || !c->nodes[i]->session) {
			snprintf(c->text, sizeof c->text, "node %s is not connected",
				 c->nodes[i] ? nm_node_text(c->nodes[i], name) : "(unknown)");
			return false;
		}
		for (size_t j = 0; j < i; j++) {
			if (c->nodes[j] != c->nodes[i])
				continue;
			snprintf(c->text, sizeof c->text, "node %s is named twice",
				 nm_node_text(c->nodes[i], name));
			return false;
		}
		if (i && i + 1 < count && !c->nodes[i]->transit) {
			snprintf(c->text, sizeof c->text, "node %s does not forward for others",
				 nm_node_text(c->nodes[i], name));
			return false;
		}
		if (i && !chain_link(nm, c, i))
			return false;
	}
	return true;
}

void nm_build_route(struct nm *nm, const struct mesh_id *nodes, size_t count, nm_done *done,
		    void *arg, uint64_t now)
{
	struct chain chain;
	if (count < 2 || count > NM_HOPS_MAX + 1) {
		done(arg, CODE_INVALID, "a route has 2 to 65 nodes", 0);
		return;
	}
	if (!chain_fill(nm, &chain, nodes, count)) {
		done(arg, CODE_NO_ROUTE, chain.text, 0);
		return;
	}
	struct nm_route *route = route_new(nm, nm_number_next(nm));
	if (!route) {
		done(arg, CODE_BUSY, "there are too many routes", 0);
		return;
	}
	route->done = done;
	route->arg = arg;
	route->path = nm_path_install(nm, route->number, chain.nodes, chain.transports, count - 1,
				      &route_path, route, now);
	if (!route->path)
		route_free(nm, route, CODE_BUSY, "out of memory");
}
