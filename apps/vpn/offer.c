#include "vpn/offer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"

#define VERSION 1
#define JSON_DEPTH_MAX 8

static struct json_object *parse(const uint8_t *data, size_t len)
{
	struct json_tokener *tok =
		len && len <= VPN_MESSAGE_MAX ? json_tokener_new_ex(JSON_DEPTH_MAX) : NULL;
	struct json_object *o = NULL;

	if (!tok)
		return NULL;
	o = json_tokener_parse_ex(tok, (const char *)data, (int)len);
	bool whole = json_tokener_get_error(tok) == json_tokener_success &&
		     json_tokener_get_parse_end(tok) == len;
	json_tokener_free(tok);
	if (whole && json_object_is_type(o, json_type_object))
		return o;
	json_object_put(o);
	return NULL;
}

static struct json_object *get(struct json_object *o, const char *key, enum json_type type)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(o, key, &v);
	return json_object_is_type(v, type) ? v : NULL;
}

static void set_text(struct json_object *o, const char *key, const char *text)
{
	json_object_object_add(o, key, json_object_new_string(text));
}

/* --- the client's ----------------------------------------------------------------------------- */

struct json_object *vpn_request_new(struct json_object *mesh)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "version", json_object_new_int(VERSION));
	json_object_object_add(o, "mesh", mesh);
	return o;
}

struct json_object *vpn_request_read(const uint8_t *data, size_t len, char why[VPN_TEXT_MAX])
{
	struct json_object *o = parse(data, len), *version, *mesh;

	version = o ? get(o, "version", json_type_int) : NULL;
	mesh = o ? get(o, "mesh", json_type_object) : NULL;
	if (!version || json_object_get_int(version) != VERSION || !mesh) {
		snprintf(why, VPN_TEXT_MAX, "%s",
			 version ? "this server speaks version 1" : "that is no request");
		json_object_put(o);
		return NULL;
	}
	json_object_get(mesh);
	json_object_put(o);
	return mesh;
}

/* --- the server's ----------------------------------------------------------------------------- */

static void set_family(struct json_object *o, const struct net_prefix *subnet,
		       const struct net_addr *own, const struct net_addr *gateway)
{
	bool v4 = subnet->addr.family == 4;
	struct net_prefix p = {*own, subnet->bits};
	char text[NET_PREFIX_TEXT];

	if (!subnet->addr.family)
		return;
	set_text(o, v4 ? "ipv4" : "ipv6", net_prefix_text(&p, text));
	set_text(o, v4 ? "gateway4" : "gateway6", net_addr_ip_text(gateway, text));
}

static void set_advice(struct json_object *o, const struct vpn_advice *a)
{
	struct json_object *routes = json_object_new_array(), *dns = json_object_new_array();
	char text[NET_PREFIX_TEXT];

	for (unsigned i = 0; i < a->route_count; i++)
		json_object_array_add(routes,
				      json_object_new_string(net_prefix_text(&a->routes[i], text)));
	for (unsigned i = 0; i < a->dns_count; i++)
		json_object_array_add(dns,
				      json_object_new_string(net_addr_ip_text(&a->dns[i], text)));
	json_object_object_add(o, "routes", routes);
	json_object_object_add(o, "dns", dns);
}

struct json_object *vpn_offer_new(const struct vpn_hosts *h, uint32_t host,
				  const struct vpn_advice *advice, struct json_object *mesh)
{
	struct net_addr own4 = vpn_hosts_addr4(h, host), own6 = vpn_hosts_addr6(h, host);
	struct net_addr gateway4 = vpn_hosts_addr4(h, 1), gateway6 = vpn_hosts_addr6(h, 1);
	struct json_object *o = json_object_new_object();

	set_family(o, &h->subnet4, &own4, &gateway4);
	set_family(o, &h->subnet6, &own6, &gateway6);
	set_advice(o, advice);
	json_object_object_add(o, "mesh", mesh);
	return o;
}

struct json_object *vpn_refusal_new(const char *why)
{
	struct json_object *o = json_object_new_object();

	set_text(o, "error", why);
	return o;
}

/* False: there is one and it is no address of that family. */
static bool take_family(struct json_object *o, bool v4, struct net_prefix *own,
			struct net_addr *gateway)
{
	struct json_object *p = get(o, v4 ? "ipv4" : "ipv6", json_type_string);
	struct json_object *g = get(o, v4 ? "gateway4" : "gateway6", json_type_string);
	uint8_t family = v4 ? 4 : 6;

	if (!p && !g)
		return true;
	return p && g && net_prefix_parse(own, json_object_get_string(p)) == 0 &&
	       net_addr_parse(gateway, json_object_get_string(g), 0) == 0 &&
	       own->addr.family == family && gateway->family == family;
}

/* The text of an element, or NULL. */
static const char *element(struct json_object *list, size_t i)
{
	struct json_object *v = json_object_array_get_idx(list, i);

	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

/* Both may be missing: older servers give none.  False: one is malformed, or there are too many. */
static bool take_advice(struct json_object *o, struct vpn_advice *a)
{
	struct json_object *routes = get(o, "routes", json_type_array);
	struct json_object *dns = get(o, "dns", json_type_array);
	size_t n_routes = routes ? json_object_array_length(routes) : 0;
	size_t n_dns = dns ? json_object_array_length(dns) : 0;
	const char *text;

	if (n_routes > VPN_ROUTES_MAX || n_dns > VPN_DNS_MAX)
		return false;
	for (; a->route_count < n_routes; a->route_count++) {
		text = element(routes, a->route_count);
		if (!text || net_prefix_parse(&a->routes[a->route_count], text))
			return false;
	}
	for (; a->dns_count < n_dns; a->dns_count++) {
		text = element(dns, a->dns_count);
		if (!text || net_addr_parse(&a->dns[a->dns_count], text, 0))
			return false;
	}
	return true;
}

int vpn_offer_read(struct vpn_offer *out, const uint8_t *data, size_t len, char why[VPN_TEXT_MAX])
{
	struct json_object *error;
	bool good;

	memset(out, 0, sizeof *out);
	out->root = parse(data, len);
	error = out->root ? get(out->root, "error", json_type_string) : NULL;
	out->mesh = out->root ? get(out->root, "mesh", json_type_object) : NULL;
	good = out->mesh && !error && take_family(out->root, true, &out->ip4, &out->gateway4) &&
	       take_family(out->root, false, &out->ip6, &out->gateway6) &&
	       (out->ip4.addr.family || out->ip6.addr.family) &&
	       take_advice(out->root, &out->advice);
	if (good)
		return 0;
	/* The text is a peer's: only what is safe to show. */
	bytes_to_cstr(bytes_str(error ? json_object_get_string(error)
				      : "its answer is not one of a VPN server"),
		      why, VPN_TEXT_MAX);
	vpn_offer_free(out);
	return -EINVAL;
}

void vpn_offer_free(struct vpn_offer *o)
{
	json_object_put(o->root);
	memset(o, 0, sizeof *o);
}
