/*
 * What a VPN client and its server say to each other on the stream, each one message of JSON:
 *   request  {"version": 1, "mesh": {"vnet": true}}
 *   answer   {"ipv4": "10.200.0.2/24", "gateway4": "10.200.0.1", "ipv6": ..., "gateway6": ...,
 *             "routes": ["192.168.7.0/24", ...], "dns": ["10.200.0.1", ...],
 *             "mesh": {"node": id, "app": id, "mtu": n, "vnet": true}}  or {"error": text}
 * "mesh" is the tunnel method's own (common/tunnel/mesh.c).
 */
#ifndef VPN_OFFER_H
#define VPN_OFFER_H

#include <json-c/json.h>

#include "vpn/hosts.h"

#define VPN_MESSAGE_MAX 4096u
#define VPN_TEXT_MAX 160

#define VPN_ROUTES_MAX 64u
#define VPN_DNS_MAX 3u /* the resolver of libc reads no more */

/* What the server tells every client. */
struct vpn_advice {
	struct net_prefix routes[VPN_ROUTES_MAX];
	struct net_addr dns[VPN_DNS_MAX];
	unsigned route_count, dns_count;
};

struct vpn_offer {
	struct vpn_advice advice;
	struct net_prefix ip4, ip6;
	struct net_addr gateway4, gateway6;
	struct json_object *mesh; /* owned by `root` */
	struct json_object *root;
};

/* All objects that these return are the caller's to put. */
struct json_object *vpn_request_new(struct json_object *mesh); /* consumes `mesh` */
/* The method's object of a request (possibly empty); NULL with `why` when it is none of ours. */
struct json_object *vpn_request_read(const uint8_t *data, size_t len, char why[VPN_TEXT_MAX]);

struct json_object *vpn_offer_new(const struct vpn_hosts *hosts, uint32_t host,
				  const struct vpn_advice *advice,
				  struct json_object *mesh); /* consumes `mesh` */
struct json_object *vpn_refusal_new(const char *why);
/* 0 and an offer to put with vpn_offer_free; -EINVAL with `why` (a refusal says why itself). */
int vpn_offer_read(struct vpn_offer *o, const uint8_t *data, size_t len, char why[VPN_TEXT_MAX]);
void vpn_offer_free(struct vpn_offer *o);
#endif
