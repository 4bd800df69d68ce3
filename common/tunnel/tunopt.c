#include "tunnel/tunopt.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "io/config_value.h"
#include "io/hostjournal.h"

bool tunopt_string(struct json_object *o, const char *key, size_t max, const char **out)
{
	struct json_object *v;

	if (!o || !json_object_object_get_ex(o, key, &v) ||
	    !json_object_is_type(v, json_type_string))
		return false;
	*out = json_object_get_string(v);
	size_t len = (size_t)json_object_get_string_len(v);
	return len > 0 && len <= max && strlen(*out) == len;
}

bool tunopt_u32(struct json_object *o, const char *key, uint32_t min, uint32_t max, uint32_t *out)
{
	struct json_object *v;

	if (!o || !json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_int))
		return false;
	int64_t n = json_object_get_int64(v);
	if (n < min || n > max)
		return false;
	*out = (uint32_t)n;
	return true;
}

bool tunopt_key(struct json_object *o, const char *key, uint8_t out[32])
{
	const char *text;
	size_t len = 0;

	return tunopt_string(o, key, 64, &text) &&
	       sodium_base642bin(out, 32, text, strlen(text), NULL, &len, NULL,
				 sodium_base64_VARIANT_ORIGINAL) == 0 &&
	       len == 32 && !sodium_is_zero(out, 32);
}

void tunopt_set_string(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

void tunopt_set_u32(struct json_object *o, const char *key, uint32_t value)
{
	json_object_object_add(o, key, json_object_new_int64(value));
}

void tunopt_set_key(struct json_object *o, const char *key, const uint8_t value[32])
{
	char text[sodium_base64_ENCODED_LEN(32, sodium_base64_VARIANT_ORIGINAL)];

	sodium_bin2base64(text, sizeof text, value, 32, sodium_base64_VARIANT_ORIGINAL);
	tunopt_set_string(o, key, text);
}

int tunopt_nl(const struct tunnel_env *env, struct nl **nl, struct nl **own)
{
	int rc = 0;

	*own = NULL;
	if (!env->journal)
		rc = nl_open(own);
	*nl = env->journal ? hostjournal_nl(env->journal) : *own;
	return rc;
}

void tunopt_count(struct tunnel_counters *out, const struct nl_link_stats *s, enum tunnel_end end,
		  bool connected)
{
	bool gateway = end == TUNNEL_GATEWAY;

	*out = (struct tunnel_counters){
		.up_packets = gateway ? s->rx_packets : s->tx_packets,
		.up_bytes = gateway ? s->rx_bytes : s->tx_bytes,
		.down_packets = gateway ? s->tx_packets : s->rx_packets,
		.down_bytes = gateway ? s->tx_bytes : s->rx_bytes,
		.dropped = s->dropped,
		.connected = connected,
	};
}

void tunopt_sid_key(uint8_t key[TUNOPT_SID_KEY], const char *sid)
{
	crypto_generichash(key, TUNOPT_SID_KEY, (const uint8_t *)sid, strlen(sid), NULL, 0);
}

void *tunopt_by_sid(const struct map *m, const char *sid)
{
	uint8_t key[TUNOPT_SID_KEY];

	tunopt_sid_key(key, sid);
	return map_get(m, key);
}

void tunopt_sid_secret(const uint8_t key[32], const char *sid, uint8_t *out, size_t len)
{
	crypto_generichash(out, len, (const uint8_t *)sid, strlen(sid), key, 32);
}

/* ---- endpoints ---- */

struct endpoints {
	struct json_object *list;
	uint16_t port;
};

static void add_endpoint(struct endpoints *e, struct net_addr a)
{
	char text[NET_ADDR_TEXT];

	if (!a.port)
		a.port = e->port;
	if (json_object_array_length(e->list) < TUNOPT_ADDRS_MAX)
		json_object_array_add(e->list, json_object_new_string(net_addr_text(&a, text)));
}

static bool is_local(const struct net_addr *a)
{
	return net_addr_is_loopback(a) || (a->family == 4 && a->ip[0] == 169 && a->ip[1] == 254) ||
	       (a->family == 6 && a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80);
}

static int on_address(const struct nl_addr *a, void *ctx)
{
	if (a->proto != NL_PROTO_MESHNET && !is_local(&a->prefix.addr))
		add_endpoint(ctx, a->prefix.addr);
	return 0;
}

void tunopt_set_endpoints(struct json_object *o, const char *list, uint16_t port, struct nl *nl)
{
	struct endpoints e = {json_object_new_array(), port};
	char item[NET_ADDR_TEXT];
	struct net_addr a;

	if (!e.list)
		return;
	if (!*list)
		nl_addr_list(nl, 0, on_address, &e);
	while (config_list_next(&list, item, sizeof item))
		if (net_addr_parse(&a, item, port) == 0)
			add_endpoint(&e, a);
	json_object_object_add(o, "endpoints", e.list);
}

/* Where a stranger tells us to send packets: somewhere that is not ourselves. */
static bool may_send_to(const struct net_addr *a)
{
	static const uint8_t none[16];
	size_t len = a->family == 4 ? 4 : 16;

	return a->port && !is_local(a) && memcmp(a->ip, none, len) != 0 &&
	       a->ip[0] < (a->family == 4 ? 224 : 255);
}

size_t tunopt_endpoints(struct json_object *answer, const struct net_addr *server,
			struct net_addr out[TUNOPT_ADDRS_MAX])
{
	struct json_object *list = NULL;
	uint32_t port = 0;
	size_t n = 0;

	if (server->family && tunopt_u32(answer, "port", 1, UINT16_MAX, &port)) {
		out[n] = *server;
		out[n++].port = (uint16_t)port;
	}
	if (!answer || !json_object_object_get_ex(answer, "endpoints", &list) ||
	    !json_object_is_type(list, json_type_array))
		return n;
	for (size_t i = 0; i < json_object_array_length(list) && n < TUNOPT_ADDRS_MAX; i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		if (json_object_is_type(v, json_type_string) &&
		    net_addr_parse(&out[n], json_object_get_string(v), 0) == 0 &&
		    may_send_to(&out[n]) &&
		    (!server->family || net_addr_same_ip(&out[n], server)) &&
		    (n == 0 || !net_addr_equal(&out[n], &out[0])))
			n++;
	}
	return n;
}

struct nl_addr tunopt_client_addr(const struct net_prefix *own, const struct net_addr *gateway)
{
	struct nl_addr a = {.prefix = *own, .peer = *gateway};

	a.prefix.bits = own->addr.family == 4 ? 32 : 128;
	if (a.peer.family != own->addr.family)
		a.peer.family = 0;
	return a;
}

int tunopt_lease_routes(struct nl *nl, uint32_t dev, const struct net_addr *ip4,
			const struct net_addr *ip6, bool add)
{
	const struct net_addr *addrs[] = {ip4, ip6};
	int rc = 0;

	for (int i = 0; !rc && i < 2; i++) {
		const struct net_addr *a = addrs[i];
		const struct nl_route r = {
			.family = a->family,
			.dst = {.addr = *a, .bits = a->family == 4 ? 32 : 128},
			.dev = dev,
		};

		if (!a->family)
			continue;
		rc = add ? nl_route_add(nl, &r) : nl_route_del(nl, &r);
		if (rc == -EEXIST || !add)
			rc = 0;
	}
	return rc;
}
