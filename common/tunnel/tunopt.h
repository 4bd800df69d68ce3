/* Small things that several methods need: values of the options and answers that the two ends tell
 * each other, which may be anything, and keys of maps. */
#ifndef TUNNEL_TUNOPT_H
#define TUNNEL_TUNOPT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "base/prefix.h"
#include "io/netlink.h"
#include "tunnel/tunnel.h"

#define TUNOPT_SID_KEY 32
#define TUNOPT_ADDRS_MAX 16

/* A string of 1 to `max` bytes; it lives as long as the object. */
bool tunopt_string(struct json_object *o, const char *key, size_t max, const char **out);
/* An integer of that range. */
bool tunopt_u32(struct json_object *o, const char *key, uint32_t min, uint32_t max, uint32_t *out);
/* 32 bytes in base64, not all zero. */
bool tunopt_key(struct json_object *o, const char *key, uint8_t out[32]);
void tunopt_set_string(struct json_object *o, const char *key, const char *value);
void tunopt_set_u32(struct json_object *o, const char *key, uint32_t value);
void tunopt_set_key(struct json_object *o, const char *key, const uint8_t value[32]);

/* The journal's netlink, or without one our own, which is in *own too: nl_close(*own) when done. */
int tunopt_nl(const struct tunnel_env *env, struct nl **nl, struct nl **own);

/* What a lease's interface has counted: at the gateway it receives what goes up. */
void tunopt_count(struct tunnel_counters *out, const struct nl_link_stats *s, enum tunnel_end end,
		  bool connected);

/* Of a map: sids are longer than its keys may be. */
void tunopt_sid_key(uint8_t key[TUNOPT_SID_KEY], const char *sid);
/* What such a map has for `sid`, or NULL. */
void *tunopt_by_sid(const struct map *m, const char *sid);
/* `len` bytes (16 .. 64), the same for a sid each time, also after a restart, and nobody else's who
 * has not `key`. */
void tunopt_sid_secret(const uint8_t key[32], const char *sid, uint8_t *out, size_t len);

/*
 * Addresses under which the gateway can be reached from outside of its tunnels: those of `list`
 * (configured, IP or IP:PORT), else the global ones of the host's own interfaces.
 */
void tunopt_set_endpoints(struct json_object *o, const char *list, uint16_t port, struct nl *nl);
/*
 * Where the subscriber finds the server: at `server`, where it asked, on the answer's port (or on
 * that of an endpoint with this address); or, when it asked over the mesh (family 0), at the
 * answer's endpoints.  How many, 0 .. TUNOPT_ADDRS_MAX.
 */
size_t tunopt_endpoints(struct json_object *answer, const struct net_addr *server,
			struct net_addr out[TUNOPT_ADDRS_MAX]);

/* The subscriber's address: point to point, so that no route to the pool comes with it (two
 * gateways may have the same one). */
struct nl_addr tunopt_client_addr(const struct net_prefix *own, const struct net_addr *gateway);

/*
 * At the gateway: routes to the addresses of one lease by the interface `dev`, with which they go.
 * Several methods lease from one pool, so no interface may have the pool to itself; where its own
 * address brings a route to the whole of it, these are more specific.  0 (also when they are there
 * already) or -errno.
 */
int tunopt_lease_routes(struct nl *nl, uint32_t dev, const struct net_addr *ip4,
			const struct net_addr *ip6, bool add);
#endif
