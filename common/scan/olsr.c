/*
 * olsr: olsrd's jsoninfo plugin, one GET.  The topology table is the whole graph; in the tables of
 * older versions the members have other names.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/cstr.h"
#include "io/config.h"
#include "scan/exchange.h"
#include "scan/text.h"

#define JSONINFO_PORT 9090
/* A cost of olsrd is ETX times 1024, or ETX as a fraction in newer versions; we tell 1024ths. */
#define COST_ONE 1024

static int olsr_probe(const struct scan_env *env, char *why)
{
	return scan_probe_address(env->cfg->olsr_addr, "olsrd's jsoninfo", why);
}

/* ---- parse ---- */

/* The body behind an HTTP header; older plugins send none. */
static struct bytes body_of(struct bytes all)
{
	static const char end[] = "\r\n\r\n";
	const uint8_t *at;

	if (!text_begins(all, "HTTP/"))
		return all;
	at = memmem(all.data, all.len, end, 4);
	return at ? bytes_of(at + 4, all.len - (size_t)(at + 4 - all.data)) : (struct bytes){0};
}

static uint32_t cost_of(struct json_object *o, const char *key)
{
	struct json_object *whole = text_json_get(o, key, json_type_int),
			   *part = text_json_get(o, key, json_type_double);
	double d = part ? json_object_get_double(part) * COST_ONE : 0;

	if (whole)
		return text_json_u32(o, key);
	return d > 0 && d < (double)UINT32_MAX ? (uint32_t)d : 0;
}

static bool host_at(struct net_host *h, struct json_object *o, const char *key, const char *old)
{
	const char *text = text_json_str(o, key);

	return scan_host_of(h, *text ? text : text_json_str(o, old), "olsr");
}

typedef int take_row(struct json_object *row, const struct scan_sink *sink);

static int take_topology(struct json_object *row, const struct scan_sink *sink)
{
	struct net_host a, b;
	int rc;

	if (!host_at(&a, row, "lastHopIP", "lastHop") ||
	    !host_at(&b, row, "destinationIP", "destination"))
		return 0;
	rc = scan_put_host(sink, &a);
	if (!rc)
		rc = scan_put_host(sink, &b);
	return rc ? rc : scan_put_link(sink, &a, &b, cost_of(row, "tcEdgeCost"));
}

static int take_neighbour(struct json_object *row, const struct scan_sink *sink)
{
	struct net_host h;

	return host_at(&h, row, "ipAddress", "ipv4Address") ||
			       host_at(&h, row, "ipv6Address", "ipv6Address")
		       ? scan_put_host(sink, &h)
		       : 0;
}

static int take_link(struct json_object *row, const struct scan_sink *sink)
{
	struct net_host h;
	int rc;

	if (!host_at(&h, row, "remoteIP", "neighborIP"))
		return 0;
	rc = scan_put_host(sink, &h);
	return rc ? rc : scan_put_link(sink, NULL, &h, cost_of(row, "linkCost"));
}

static int take_route(struct json_object *row, const struct scan_sink *sink)
{
	char text[TEXT_WORD_MAX];
	struct net_prefix p;
	struct net_host h;
	const char *to = text_json_str(row, "destination");

	/* With its length in the text, or beside it. */
	cstr_print(text, sizeof text, strchr(to, '/') ? "%.80s" : "%.80s/%u", to,
		   text_json_u32(row, "genmask"));
	if (net_prefix_parse(&p, text) != 0 || !scan_host_of_route(&h, &p, "olsr"))
		return 0;
	return scan_put_host(sink, &h);
}

static int take_hna(struct json_object *row, const struct scan_sink *sink)
{
	struct net_host h;

	return host_at(&h, row, "gateway", "gateway") ? scan_put_host(sink, &h) : 0;
}

static int take_table(struct json_object *o, const char *name, take_row *take,
		      const struct scan_sink *sink)
{
	struct json_object *list = text_json_get(o, name, json_type_array);
	int rc = 0;

	for (size_t i = 0; list && !rc && i < json_object_array_length(list); i++)
		rc = take(json_object_array_get_idx(list, i), sink);
	return rc;
}

static int olsr_parse(const uint8_t *data, size_t len, const struct scan_sink *sink)
{
	static const struct {
		char name[12];
		take_row *take;
	} tables[] = {{"topology", take_topology},
		      {"neighbors", take_neighbour},
		      {"links", take_link},
		      {"routes", take_route},
		      {"hna", take_hna}};
	struct bytes body = body_of(bytes_of(data, len));
	bool bad = false;
	struct json_object *o = text_json(&body, &bad);
	int rc = 0;

	if (!text_json_get(o, "topology", json_type_array))
		rc = -EBADMSG;
	for (size_t i = 0; !rc && i < sizeof tables / sizeof *tables; i++)
		rc = take_table(o, tables[i].name, tables[i].take, sink);
	json_object_put(o);
	return rc;
}

/* ---- query ---- */

/* With or without Content-Length: it ends where the object ends. */
static int on_input(struct scan_exchange *x, struct bytes all, bool ended)
{
	struct bytes body = body_of(all);

	(void)x, (void)ended;
	if (text_begins(all, "HTTP/") && body.data &&
	    !memchr(all.data, '2', all.len < 12 ? all.len : 12))
		return -EPROTO;
	return text_json_span(body.data, body.len) ? 1 : 0;
}

static int olsr_query(void **request, const struct scan_env *env, const struct net_host *host,
		      scan_answer_cb *cb, void *arg)
{
	if (host)
		return -ENOTSUP;
	return scan_exchange_start((struct scan_exchange **)request, env, env->cfg->olsr_addr,
				   JSONINFO_PORT, "GET /all HTTP/1.0\r\n\r\n", on_input, cb, arg);
}

const struct scan_module scan_olsr = {
	.name = "olsr",
	.probe = olsr_probe,
	.parse = olsr_parse,
	.query = olsr_query,
	.query_cancel = scan_exchange_cancel,
};
