/*
 * frr: ospfd's vty socket of FRRouting.  The router LSAs are the whole graph of an area.  A command
 * ends with a NUL; its answer ends with three NULs and a status byte.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config.h"
#include "scan/exchange.h"
#include "scan/text.h"

#define NETWORKS_MAX 1024 /* transit networks of an area */

static int frr_probe(const struct scan_env *env, char *why)
{
	return scan_probe_address(env->cfg->frr_socket, "FRRouting's ospfd", why);
}

/* ---- parse ---- */

struct transit {
	struct net_addr dr;
	struct net_host first; /* router that was seen on it first */
};

struct reader {
	const struct scan_sink *sink;
	struct transit *networks;
	size_t count;
};

static bool router_of(struct net_host *h, const char *id)
{
	if (!scan_host_of(h, id, "ospf"))
		return false;
	snprintf(h->name, sizeof h->name, "%s", id);
	return true;
}

/* Routers with the same designated router share a network. */
static int take_transit(struct reader *r, const struct net_host *router, struct json_object *l)
{
	struct net_host dr;

	if (!scan_host_of(&dr, text_json_str(l, "designatedRouterAddress"), "ospf"))
		return 0;
	for (size_t i = 0; i < r->count; i++)
		if (net_addr_same_ip(&r->networks[i].dr, &dr.addr))
			return scan_put_link(r->sink, &r->networks[i].first, router,
					     text_json_u32(l, "tos0Metric"));
	if (r->count < NETWORKS_MAX)
		r->networks[r->count++] = (struct transit){dr.addr, *router};
	return 0;
}

static int take_link(struct reader *r, const struct net_host *router, struct json_object *l)
{
	const char *type = text_json_str(l, "linkType");
	struct net_host other;
	int rc;

	if (strncmp(type, "another Router", 14) == 0 &&
	    router_of(&other, text_json_str(l, "neighborRouterId")))
		return scan_put_link(r->sink, router, &other, text_json_u32(l, "tos0Metric"));
	if (strcmp(type, "a Transit Network") == 0 || strcmp(type, "Transit Network") == 0)
		return take_transit(r, router, l);
	if (strcmp(type, "Stub Network") != 0 ||
	    strcmp(text_json_str(l, "networkMask"), "255.255.255.255") != 0 ||
	    !scan_host_of(&other, text_json_str(l, "networkAddress"), "ospf") ||
	    net_host_equal(&other, router))
		return 0;
	rc = scan_put_host(r->sink, &other);
	return rc ? rc : scan_put_link(r->sink, router, &other, 0);
}

static int take_lsa(struct reader *r, struct json_object *lsa)
{
	struct json_object *links = text_json_get(lsa, "routerLinks", json_type_object);
	struct net_host router;
	int rc;

	if (!router_of(&router, text_json_str(lsa, "advertisingRouter")))
		return 0;
	rc = scan_put_host(r->sink, &router);
	if (links && !rc) {
		json_object_object_foreach(links, name, l)
		{
			(void)name;
			if (!rc)
				rc = take_link(r, &router, l);
		}
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

static int frr_parse(const uint8_t *data, size_t len, const struct scan_sink *sink)
{
	struct bytes rest = bytes_of(data, len);
	struct reader r = {.sink = sink};
	bool bad = false;
	/* The NULs and the status stand behind it. */
	struct json_object *o = text_json(&rest, &bad);
	struct json_object *states = text_json_get(o, "routerLinkStates", json_type_object);
	struct json_object *areas = text_json_get(states, "areas", json_type_object);
	int rc = areas ? 0 : -EBADMSG;

	if (!rc && !(r.networks = calloc(NETWORKS_MAX, sizeof *r.networks)))
		rc = -ENOMEM;
	if (!rc)
		rc = take_areas(&r, areas);
	free(r.networks);
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
