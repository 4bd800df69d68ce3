/*
 * frr: ospfd's vty socket of FRRouting.  The router LSAs are the whole graph of an area.  A command
 * ends with a NUL; its answer ends with three NULs and a status byte.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "io/config.h"
#include "scan/exchange.h"
#include "scan/text.h"

#define NETWORKS_MAX 1024 /* transit networks of an area */
#define EDGES_MAX 16384u

static int frr_probe(const struct scan_env *env, char *why)
{
	return scan_probe_address(env->cfg->frr_socket, "FRRouting's ospfd", why);
}

/* ---- parse ---- */

/*
 * The database keeps what a router that is gone has said, up to an hour.  So the links are
 * collected first; those that both ends tell, as far as they lead from our own router, are the
 * graph.
 */
struct edge {
	uint32_t a, b, cost; /* router ids, which are IPv4 addresses */
};

struct edges {
	struct edge *at;
	size_t count, capacity;
};

struct transit {
	uint32_t dr, first; /* designated router; the router that was seen on it first */
};

struct reader {
	const struct scan_sink *sink;
	struct edges links, stubs; /* between routers; a router's addresses beside its id */
	struct transit *networks;
	size_t count;
};

static int edges_add(struct edges *e, uint32_t a, uint32_t b, uint32_t cost)
{
	if (e->count >= EDGES_MAX)
		return -E2BIG;
	if (e->count == e->capacity) {
		size_t more = e->capacity ? 2 * e->capacity : 64;
		struct edge *moved = realloc(e->at, more * sizeof *moved);
		if (!moved)
			return -ENOMEM;
		e->at = moved;
		e->capacity = more;
	}
	e->at[e->count++] = (struct edge){a, b, cost};
	return 0;
}

static int by_ends(const void *x, const void *y)
{
	const struct edge *a = x, *b = y;

	if (a->a != b->a)
		return a->a < b->a ? -1 : 1;
	return (a->b > b->b) - (a->b < b->b);
}

static bool edges_have(const struct edges *e, uint32_t a, uint32_t b)
{
	struct edge wanted = {a, b, 0};

	return e->count && bsearch(&wanted, e->at, e->count, sizeof wanted, by_ends);
}

/* Where the edges of `a` begin; they are sorted. */
static size_t edges_from(const struct edges *e, uint32_t a)
{
	size_t low = 0, high = e->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (e->at[mid].a < a)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool id_read(const char *text, uint32_t *id)
{
	struct net_host h;

	if (!scan_host_of(&h, text, "") || h.addr.family != 4)
		return false;
	*id = be32_get(h.addr.ip);
	return true;
}

/* Routers with the same designated router share a network. */
static int take_transit(struct reader *r, uint32_t router, struct json_object *l)
{
	uint32_t dr, cost = text_json_u32(l, "tos0Metric");
	int rc;

	if (!id_read(text_json_str(l, "designatedRouterAddress"), &dr))
		return 0;
	for (size_t i = 0; i < r->count; i++)
		if (r->networks[i].dr == dr) {
			rc = edges_add(&r->links, r->networks[i].first, router, cost);
			return rc ? rc : edges_add(&r->links, router, r->networks[i].first, cost);
		}
	if (r->count < NETWORKS_MAX)
		r->networks[r->count++] = (struct transit){dr, router};
	return 0;
}

static int take_link(struct reader *r, uint32_t router, struct json_object *l)
{
	const char *type = text_json_str(l, "linkType");
	uint32_t other;

	if (strncmp(type, "another Router", 14) == 0)
		return id_read(text_json_str(l, "neighborRouterId"), &other)
			       ? edges_add(&r->links, router, other, text_json_u32(l, "tos0Metric"))
			       : 0;
	if (strcmp(type, "a Transit Network") == 0 || strcmp(type, "Transit Network") == 0)
		return take_transit(r, router, l);
	if (strcmp(type, "Stub Network") != 0 ||
	    strcmp(text_json_str(l, "networkMask"), "255.255.255.255") != 0 ||
	    !id_read(text_json_str(l, "networkAddress"), &other) || other == router)
		return 0;
	return edges_add(&r->stubs, router, other, 0);
}

static int take_lsa(struct reader *r, struct json_object *lsa)
{
	struct json_object *links = text_json_get(lsa, "routerLinks", json_type_object);
	uint32_t router;
	int rc = 0;

	if (!links || !id_read(text_json_str(lsa, "advertisingRouter"), &router))
		return 0;
	json_object_object_foreach(links, name, l)
	{
		(void)name;
		if (!rc)
			rc = take_link(r, router, l);
	}
	return rc;
}

static int take_areas(struct reader *r, struct json_object *areas)
{
	int rc = 0;

	json_object_object_foreach(areas, name, list)
	{
		(void)name;
		if (!json_object_is_type(list, json_type_array))
			continue;
		for (size_t i = 0; !rc && i < json_object_array_length(list); i++)
			rc = take_lsa(r, json_object_array_get_idx(list, i));
	}
	return rc;
}

static struct net_host host_of(uint32_t id, bool router)
{
	struct net_host h = {.addr.family = 4, .how = "ospf"};
	char text[NET_ADDR_TEXT];

	be32_put(h.addr.ip, id);
	if (router)
		cstr_copy(h.name, sizeof h.name, net_addr_ip_text(&h.addr, text));
	return h;
}

static int put_edges(const struct reader *r, const struct edges *e, uint32_t router, bool both)
{
	struct net_host a = host_of(router, true), b;
	int rc = 0;

	for (size_t i = edges_from(e, router); !rc && i < e->count && e->at[i].a == router; i++) {
		if (both && !edges_have(e, e->at[i].b, router))
			continue;
		b = host_of(e->at[i].b, both);
		rc = scan_put_host(r->sink, &b);
		if (!rc)
			rc = scan_put_link(r->sink, &a, &b, e->at[i].cost);
	}
	return rc;
}

/* Breadth first; `reached` holds the ids in the order they are reached. */
static int put_reachable(const struct reader *r, uint32_t own)
{
	size_t max = r->links.count + 1, count = 1;
	uint32_t *reached = calloc(max, sizeof *reached);
	struct net_host h = host_of(own, true);
	int rc = reached ? scan_put_host(r->sink, &h) : -ENOMEM;

	if (reached)
		reached[0] = own;
	for (size_t at = 0; !rc && at < count; at++) {
		for (size_t i = edges_from(&r->links, reached[at]); i < r->links.count; i++) {
			const struct edge *e = &r->links.at[i];
			if (e->a != reached[at])
				break;
			bool known = !edges_have(&r->links, e->b, e->a);
			for (size_t k = 0; !known && k < count; k++)
				known = reached[k] == e->b;
			if (!known)
				reached[count++] = e->b;
		}
		rc = put_edges(r, &r->links, reached[at], true);
		if (!rc)
			rc = put_edges(r, &r->stubs, reached[at], false);
	}
	free(reached);
	return rc;
}

static int frr_parse(const uint8_t *data, size_t len, const struct scan_sink *sink)
{
	struct bytes rest = bytes_of(data, len);
	struct reader r = {.sink = sink};
	bool bad = false;
	/* The NULs and the status stand behind it. */
	struct json_object *o = text_json(&rest, &bad);
	struct json_object *states = text_json_get(o, "routerLinkStates", json_type_object);
	struct json_object *areas = text_json_get(states, "areas", json_type_object);
	uint32_t own = 0;
	int rc = areas && id_read(text_json_str(o, "routerId"), &own) ? 0 : -EBADMSG;

	if (!rc && !(r.networks = calloc(NETWORKS_MAX, sizeof *r.networks)))
		rc = -ENOMEM;
	if (!rc)
		rc = take_areas(&r, areas);
	if (!rc && r.links.count)
		qsort(r.links.at, r.links.count, sizeof *r.links.at, by_ends);
	if (!rc && r.stubs.count)
		qsort(r.stubs.at, r.stubs.count, sizeof *r.stubs.at, by_ends);
	if (!rc)
		rc = put_reachable(&r, own);
	free(r.networks);
	free(r.links.at);
	free(r.stubs.at);
	json_object_put(o);
	return rc;
}

/* ---- query ---- */

static int on_input(struct scan_exchange *x, struct bytes all, bool ended)
{
	(void)x, (void)ended;
	if (all.len < 4 || memcmp(all.data + all.len - 4, "\0\0\0", 3) != 0)
		return 0;
	return all.data[all.len - 1] == 0 ? 1 : -EPROTO;
}

static int frr_query(void **request, const struct scan_env *env, const struct net_host *host,
		     scan_answer_cb *cb, void *arg)
{
	static const char command[] = "show ip ospf database router json";
	int rc;

	if (host)
		return -ENOTSUP;
	rc = scan_exchange_start((struct scan_exchange **)request, env, env->cfg->frr_socket, 0,
				 NULL, on_input, cb, arg);
	if (!rc)
		scan_exchange_send(*request, command, sizeof command);
	return rc;
}

const struct scan_module scan_frr = {
	.name = "frr",
	.probe = frr_probe,
	.parse = frr_parse,
	.query = frr_query,
	.query_cancel = scan_exchange_cancel,
};
