/* Any bytes as what the programs of the methods say, and as what the other end of a method tells:
 * what is taken is within its limits. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "io/fastd.h"
#include "io/wgpeers.h"
#include "io/wguapi.h"
#include "tunnel/tunopt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static int count_peer(const struct wgdev_stat *s, void *ctx)
{
	require(s->endpoint.family == 0 || s->endpoint.family == 4 || s->endpoint.family == 6);
	++*(size_t *)ctx;
	return 0;
}

/* The same answer, whole or in two pieces. */
static void try_uapi(const char *data, size_t size)
{
	struct wguapi a, b;
	size_t peers_a = 0, peers_b = 0, cut = size / 3;

	wguapi_init(&a, count_peer, &peers_a);
	wguapi_feed(&a, data, size);
	wguapi_init(&b, count_peer, &peers_b);
	wguapi_feed(&b, data, cut);
	wguapi_feed(&b, data + cut, size - cut);
	require(a.done == b.done && peers_a == peers_b && !a.result == !b.result);
	require(a.len <= WGUAPI_LINE_MAX);
}

static void try_answer(const char *data, size_t size)
{
	struct json_tokener *t = json_tokener_new_ex(8);
	struct json_object *o = t ? json_tokener_parse_ex(t, data, (int)size) : NULL;
	struct net_addr out[TUNOPT_ADDRS_MAX], server = {.family = 4, .ip = {192, 0, 2, 1}};
	uint8_t key[32];
	const char *text;
	uint32_t v;

	if (o && json_object_is_type(o, json_type_object)) {
		for (int i = 0; i < 2; i++) {
			size_t n = tunopt_endpoints(o, &server, out);
			require(n <= TUNOPT_ADDRS_MAX);
			for (size_t j = 0; j < n; j++)
				require(out[j].port &&
					(!server.family || net_addr_same_ip(&out[j], &server)));
			server.family = 0;
		}
		tunopt_key(o, "publicKey", key);
		require(!tunopt_string(o, "publicKey", 64, &text) || strlen(text) <= 64);
		require(!tunopt_u32(o, "mtu", 1280, 9000, &v) || (v >= 1280 && v <= 9000));
	}
	json_object_put(o);
	if (t)
		json_tokener_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct wgpeers *p = wgpeers_new();

	try_uapi(text, size);
	try_answer(text, size);
	int rc = fastd_status_connected(text, size);
	require(rc < 0 || rc == 0 || rc == 1);
	require(p != NULL);
	wgpeers_parse(p, text, size);
	wgpeers_free(p);
	return 0;
}
