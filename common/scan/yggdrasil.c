/*
 * yggdrasil: its admin socket, JSON both ways.  Our own node tells its peers; of others we ask
 * their peers by key (debug_remotegetpeers), which the network answers for them.  A node's address
 * follows from its key (yggdrasil 0.4 and later).
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "io/config.h"
#include "scan/exchange.h"
#include "scan/text.h"

#define ADMIN_PORT 9001
#define KEY_BYTES 32

static int yggdrasil_probe(const struct scan_env *env, char *why)
{
	return scan_probe_address(env->cfg->yggdrasil_socket, "yggdrasil", why);
}

/* ---- parse ---- */

/* 0x02, the number of leading ones of the inverted key, then what follows the first zero. */
static bool address_of_key(const char *text, struct net_addr *out)
{
	uint8_t key[KEY_BYTES];
	unsigned ones = 0, bit, n = 0;

	if (hex_decode(text, key, KEY_BYTES))
		return false;
	*out = (struct net_addr){.family = 6, .ip = {2}};
	for (bit = 0; bit < 8 * KEY_BYTES && !(key[bit / 8] >> (7 - bit % 8) & 1); bit++)
		ones++;
	out->ip[1] = (uint8_t)ones;
	for (bit++; bit < 8 * KEY_BYTES && n < 14 * 8; bit++, n++)
		if (!(key[bit / 8] >> (7 - bit % 8) & 1))
			out->ip[2 + n / 8] |= (uint8_t)(0x80 >> n % 8);
	return true;
}

static bool host_of_key(const char *key, struct net_host *h)
{
	*h = (struct net_host){.how = "peer"};
	if (!address_of_key(key, &h->addr))
		return false;
	snprintf(h->name, sizeof h->name, "%s", key);
	return true;
}

static int take_peer(const char *key, const struct net_host *of, const struct scan_sink *sink)
{
	struct net_host h;
	int rc;

	if (!host_of_key(key, &h))
		return 0;
	rc = scan_put_host(sink, &h);
	return rc ? rc : scan_put_link(sink, of, &h, 0);
}

static int take_peers(struct json_object *peers, const struct scan_sink *sink)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < json_object_array_length(peers); i++)
		rc = take_peer(text_json_str(json_object_array_get_idx(peers, i), "key"), NULL,
			       sink);
	return rc;
}

/* {"200:...": {"keys": [...]}}: the peers of the one with this address. */
static int take_remote(struct json_object *response, const struct scan_sink *sink)
{
	int rc = 0;

	json_object_object_foreach(response, address, value)
	{
		struct json_object *keys = text_json_get(value, "keys", json_type_array);
		struct net_host of;
		if (!keys || !scan_host_of(&of, address, "peer"))
			continue;
		for (size_t i = 0; !rc && i < json_object_array_length(keys); i++) {
			struct json_object *key = json_object_array_get_idx(keys, i);
			if (json_object_is_type(key, json_type_string))
				rc = take_peer(json_object_get_string(key), &of, sink);
		}
	}
	return rc;
}

static int take_answer(struct json_object *o, const struct scan_sink *sink)
{
	struct json_object *response = text_json_get(o, "response", json_type_object), *peers;

	if (strcmp(text_json_str(o, "status"), "success") != 0 || !response)
		return strcmp(text_json_str(o, "status"), "error") == 0 ? 0 : -EBADMSG;
	peers = text_json_get(response, "peers", json_type_array);
	if (peers)
		return take_peers(peers, sink);
	/* getself, in between, tells nothing that we do not know. */
	return text_json_get(response, "build_name", json_type_string)
		       ? 0
		       : take_remote(response, sink);
}

static int yggdrasil_parse(const uint8_t *data, size_t len, const struct scan_sink *sink)
{
	struct bytes rest = bytes_of(data, len);
	struct json_object *o;
	bool bad = false;
	int rc = len ? 0 : -EBADMSG;

	while (!rc && (o = text_json(&rest, &bad))) {
		rc = take_answer(o, sink);
		json_object_put(o);
	}
	return rc ? rc : bad ? -EBADMSG : 0;
}

/* ---- query ---- */

static int on_input(struct scan_exchange *x, struct bytes all, bool ended)
{
	(void)x, (void)ended;
	return text_json_span(all.data, all.len) ? 1 : 0;
}

static int yggdrasil_query(void **request, const struct scan_env *env, const struct net_host *host,
			   scan_answer_cb *cb, void *arg)
{
	uint8_t key[KEY_BYTES];
	char question[256];

	if (host && hex_decode(host->name, key, KEY_BYTES))
		return -EINVAL;
	if (host)
		snprintf(question, sizeof question,
			 "{\"request\":\"debug_remotegetpeers\",\"arguments\":{\"key\":\"%.64s\"}}"
			 "\n",
			 host->name);
	else
		snprintf(question, sizeof question, "{\"request\":\"getpeers\"}\n");
	return scan_exchange_start((struct scan_exchange **)request, env,
				   env->cfg->yggdrasil_socket, ADMIN_PORT, question, on_input, cb,
				   arg);
}

const struct scan_module scan_yggdrasil = {
	.name = "yggdrasil",
	.walks = true,
	.probe = yggdrasil_probe,
	.parse = yggdrasil_parse,
	.query = yggdrasil_query,
	.query_cancel = scan_exchange_cancel,
};
