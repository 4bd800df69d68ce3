/*
 * yggdrasil: its admin socket, JSON both ways.  Our own node tells its peers; of others we ask
 * their peers by key (debug_remotegetpeers), which the network answers for them.  A node's address
 * follows from its key (yggdrasil 0.4 and later).
 */
#include <errno.h>
#include <event2/event.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/id.h"
#include "io/config.h"
#include "io/timer.h"
#include "scan/exchange.h"
#include "scan/text.h"

#define ADMIN_PORT 9001
#define KEY_BYTES 32
#define ATTEMPTS 3
#define AGAIN_US 1000000u

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
	cstr_copy(h->name, sizeof h->name, key);
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

/* Our own node answers at once. */
static int ask_own(void **request, const struct scan_env *env, scan_answer_cb *cb, void *arg)
{
	return scan_exchange_start((struct scan_exchange **)request, env,
				   env->cfg->yggdrasil_socket, ADMIN_PORT,
				   "{\"request\":\"getpeers\"}\n", on_input, cb, arg);
}

/*
 * A question to a node that ours has no path to is lost, and only makes it look for one; the answer
 * then is a timeout 6 s later.  So it is asked again meanwhile, and the first answer counts.
 */
struct yggdrasil_request {
	struct scan_env env; /* the configuration in it is stable */
	char question[256];
	struct attempt {
		struct yggdrasil_request *of;
		void *exchange; /* NULL: not begun, or over */
	} attempts[ATTEMPTS];
	unsigned begun;
	struct event *again;
	scan_answer_cb *cb;
	void *arg;
};

static void request_free(struct yggdrasil_request *q)
{
	for (unsigned i = 0; i < ATTEMPTS; i++)
		scan_exchange_cancel(q->attempts[i].exchange);
	event_drop(q->again);
	free(q);
}

static void on_attempt(int err, const char *why, const uint8_t *data, size_t len, void *arg)
{
	struct attempt *a = arg;
	struct yggdrasil_request *q = a->of;

	a->exchange = NULL;
	for (unsigned i = 0; err && i < ATTEMPTS; i++)
		if (q->attempts[i].exchange)
			return;
	q->cb(err, why, data, len, q->arg);
	request_free(q);
}

static int attempt(struct yggdrasil_request *q)
{
	static const struct timeval wait = {AGAIN_US / 1000000, AGAIN_US % 1000000};
	struct attempt *a = &q->attempts[q->begun++];

	a->of = q;
	if (q->begun < ATTEMPTS)
		evtimer_add(q->again, &wait);
	return scan_exchange_start((struct scan_exchange **)&a->exchange, &q->env,
				   q->env.cfg->yggdrasil_socket, ADMIN_PORT, q->question, on_input,
				   on_attempt, a);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	attempt(arg); /* the one before goes on */
}

static int ask_other(void **request, const struct scan_env *env, const struct net_host *host,
		     scan_answer_cb *cb, void *arg)
{
	struct yggdrasil_request *q = calloc(1, sizeof *q);
	int err = -ENOMEM;

	if (!q)
		return -ENOMEM;
	*q = (struct yggdrasil_request){.env = *env, .cb = cb, .arg = arg};
	cstr_print(q->question, sizeof q->question,
		   "{\"request\":\"debug_remotegetpeers\",\"arguments\":{\"key\":\"%.64s\"}}\n",
		   host->name);
	q->again = timer_new(env->base, on_again, q);
	if (q->again)
		err = attempt(q);
	if (err)
		request_free(q);
	else
		*request = q;
	return err;
}

/* What the daemon gets back must tell the two kinds of requests apart. */
struct yggdrasil_handle {
	bool own;
	void *request;
	scan_answer_cb *cb;
	void *arg;
};

static void on_end(int err, const char *why, const uint8_t *data, size_t len, void *arg)
{
	struct yggdrasil_handle *h = arg;

	h->cb(err, why, data, len, h->arg);
	free(h);
}

static int yggdrasil_query(void **request, const struct scan_env *env, const struct net_host *host,
			   scan_answer_cb *cb, void *arg)
{
	struct yggdrasil_handle *h;
	uint8_t key[KEY_BYTES];
	int err;

	if (host && hex_decode(host->name, key, KEY_BYTES))
		return -EINVAL;
	h = calloc(1, sizeof *h);
	if (!h)
		return -ENOMEM;
	*h = (struct yggdrasil_handle){.own = !host, .cb = cb, .arg = arg};
	err = host ? ask_other(&h->request, env, host, on_end, h)
		   : ask_own(&h->request, env, on_end, h);
	if (err)
		free(h);
	else
		*request = h;
	return err;
}

static void yggdrasil_query_cancel(void *request)
{
	struct yggdrasil_handle *h = request;

	if (!h)
		return;
	if (h->own)
		scan_exchange_cancel(h->request);
	else if (h->request)
		request_free(h->request);
	free(h);
}

const struct scan_module scan_yggdrasil = {
	.name = "yggdrasil",
	.walks = true,
	.probe = yggdrasil_probe,
	.parse = yggdrasil_parse,
	.query = yggdrasil_query,
	.query_cancel = yggdrasil_query_cancel,
};
