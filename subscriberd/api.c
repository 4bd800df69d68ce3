#include "subscriberd/api.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/clock.h"

/* --- reading what gateways say ------------------------------------------------------------ */

static const char *get_str(struct json_object *o, const char *key)
{
	struct json_object *v;
	if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_string))
		return "";
	return json_object_get_string(v);
}

/* Text of a stranger, safe for a terminal and cut to size. */
static void copy_text(char *out, size_t size, struct json_object *o, const char *key)
{
	bytes_to_cstr(bytes_str(get_str(o, key)), out, size);
}

static uint64_t get_u64(struct json_object *o, const char *key, uint64_t max)
{
	struct json_object *v;
	if (!json_object_object_get_ex(o, key, &v) ||
	    !(json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double)))
		return 0;
	int64_t n = json_object_get_int64(v);
	return n < 0 ? 0 : (uint64_t)n > max ? max : (uint64_t)n;
}

static double get_double(struct json_object *o, const char *key, double max)
{
	struct json_object *v;
	double d;
	if (!json_object_object_get_ex(o, key, &v))
		return 0;
	d = json_object_get_double(v);
	return isfinite(d) && d > 0 ? fmin(d, max) : 0;
}

static bool get_bool(struct json_object *o, const char *key)
{
	struct json_object *v;
	return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_boolean) &&
	       json_object_get_boolean(v);
}

static struct json_object *get_object(struct json_object *o, const char *key, json_type type)
{
	struct json_object *v;
	if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, type))
		return NULL;
	return v;
}

static int malformed(char *why, const char *what)
{
	snprintf(why, SUB_WHY_MAX, "its answer makes no sense: %s", what);
	return -EBADMSG;
}

static void read_methods(struct json_object *list, struct sub_info *out)
{
	size_t n = list ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n && out->method_count < SUB_METHODS_MAX; i++) {
		struct json_object *m = json_object_array_get_idx(list, i);
		const char *name =
			json_object_is_type(m, json_type_object) ? get_str(m, "name") : "";
		if (!name[0] || strlen(name) > SUB_METHOD_NAME_MAX)
			continue;
		snprintf(out->methods[out->method_count++], sizeof out->methods[0], "%s", name);
	}
}

int sub_api_read_info(struct json_object *answer, struct sub_info *out, char *why)
{
	struct json_object *terms, *uplink;

	memset(out, 0, sizeof *out);
	if (!json_object_is_type(answer, json_type_object))
		return malformed(why, "nodeInfo is no object");
	if (!get_bool(answer, "success") || !get_bool(answer, "gateway"))
		return malformed(why, "it is no gateway");
	copy_text(out->name, sizeof out->name, answer, "name");
	read_methods(get_object(answer, "methods", json_type_array), out);
	terms = get_object(answer, "terms", json_type_object);
	if (terms) {
		out->free_slots = get_u64(terms, "freeSlots", INT64_MAX);
		out->max_subscribers = get_u64(terms, "maxSubscribers", INT64_MAX);
		out->lease_seconds = get_u64(terms, "leaseSeconds", INT64_MAX);
		out->rate_kbps = get_u64(terms, "rateKbps", INT64_MAX);
		copy_text(out->price, sizeof out->price, terms, "price");
		copy_text(out->text, sizeof out->text, terms, "text");
	}
	uplink = get_object(answer, "uplink", json_type_object);
	if (uplink) {
		out->online = get_bool(uplink, "online");
		out->uplink_rtt_ms = get_double(uplink, "rttMs", 60000);
	}
	return 0;
}

/* An address with its prefix length; absent is fine (family 0). */
static int read_address(struct json_object *o, const char *ip, const char *cidr, const char *via,
			struct net_prefix *own, struct net_addr *gateway, uint8_t family)
{
	const char *text = get_str(o, ip);
	uint64_t bits = get_u64(o, cidr, 128);

	if (!text[0])
		return 0;
	if (net_addr_parse(&own->addr, text, 0) != 0 || own->addr.family != family ||
	    net_addr_is_loopback(&own->addr) || bits == 0 || bits > (family == 4 ? 32u : 128u) ||
	    net_addr_parse(gateway, get_str(o, via), 0) != 0 || gateway->family != family)
		return -EBADMSG;
	own->bits = (uint8_t)bits;
	return 0;
}

static int refused(struct json_object *answer, char *why)
{
	char text[SUB_WHY_MAX - 20];
	copy_text(text, sizeof text, answer, "errorMsg");
	snprintf(why, SUB_WHY_MAX, "refused: %s", text[0] ? text : "no reason given");
	return -EPERM;
}

int sub_api_read_lease(struct json_object *answer, struct sub_lease *out, char *why)
{
	memset(out, 0, sizeof *out);
	if (!json_object_is_type(answer, json_type_object))
		return malformed(why, "the lease is no object");
	if (!get_bool(answer, "success"))
		return refused(answer, why);
	const char *sid = get_str(answer, "sid"), *method = get_str(answer, "method");
	if (!sid[0] || strlen(sid) >= sizeof out->sid || !method[0] ||
	    strlen(method) > SUB_METHOD_NAME_MAX)
		return malformed(why, "sid or method");
	snprintf(out->sid, sizeof out->sid, "%s", sid);
	snprintf(out->method, sizeof out->method, "%s", method);
	out->lease_seconds = get_u64(answer, "leaseSeconds", 365 * 86400);
	if (out->lease_seconds == 0)
		return malformed(why, "leaseSeconds");
	if (read_address(answer, "ipv4", "cidr4", "ipv4gateway", &out->ip4, &out->gateway4, 4) ||
	    read_address(answer, "ipv6", "cidr6", "ipv6gateway", &out->ip6, &out->gateway6, 6) ||
	    (!out->ip4.addr.family && !out->ip6.addr.family))
		return malformed(why, "addresses");
	return 0;
}

int sub_api_read_renewal(struct json_object *answer, bool *gone, char *why)
{
	*gone = false;
	if (!json_object_is_type(answer, json_type_object))
		return malformed(why, "the renewal is no object");
	if (get_bool(answer, "success"))
		return 0;
	*gone = !get_bool(answer, "temporary");
	return refused(answer, why);
}

const char *sub_api_failure(const struct rpc_answer *answer)
{
	return answer->text[0] ? answer->text : "no answer";
}

/* --- what we ask gateways ------------------------------------------------------------------ */

struct json_object *sub_api_options(void)
{
	return json_object_new_object();
}

struct json_object *sub_api_request(const char *sid, const char *name, uint64_t port,
				    const char *method, struct json_object *options)
{
	struct json_object *params = json_object_new_object();

	rpc_set(params, "sid", sid[0] ? json_object_new_string(sid) : NULL);
	rpc_set_str(params, "name", name);
	rpc_set_u64(params, "port", port);
	rpc_set_str(params, "method", method);
	rpc_set(params, "options", options);
	return params;
}

struct json_object *sub_api_sid(const char *sid)
{
	struct json_object *params = json_object_new_object();
	rpc_set_str(params, "sid", sid);
	return params;
}

struct json_object *sub_api_method_object(struct json_object *lease, const char *method)
{
	return get_object(lease, method, json_type_object);
}

/* --- our own RPC -------------------------------------------------------------------------- */

static struct json_object *gateway_json(const struct sub_api_hooks *h, const struct sub_gateway *g,
					const struct sub_status *s, uint64_t now)
{
	const struct sub_engine *e = h->engine;
	char found_by[SUB_WHY_MAX];

	struct json_object *o = json_object_new_object(), *methods = json_object_new_array();
	char key[SUB_KEY_MAX], why[SUB_WHY_MAX];
	double score = sub_engine_score(e, g, now, why);
	bool current = s->gateway == g;

	rpc_set_str(o, "name", g->info.name);
	rpc_set_str(o, "key", sub_contact_key(&g->contact, key));
	rpc_set(o, "foundBy", rpc_text(h->found_by(h->ctx, &g->contact, found_by)));
	rpc_set_str(o, "via", g->contact.via == SUB_VIA_MESH ? "mesh" : "http");
	for (size_t i = 0; i < g->info.method_count; i++)
		json_object_array_add(methods, rpc_text(g->info.methods[i]));
	rpc_set(o, "methods", methods);
	rpc_set_str(o, "state",
		    current	   ? sub_state_name(s->state)
		    : isinf(score) ? "unusable"
				   : "ready");
	rpc_set(o, "score", isinf(score) ? NULL : json_object_new_double(round(score * 10) / 10));
	rpc_set(o, "rttMs", json_object_new_double(round(g->quality.rtt_ms * 100) / 100));
	rpc_set(o, "jitterMs", json_object_new_double(round(g->quality.jitter_ms * 100) / 100));
	rpc_set(o, "lossPercent", json_object_new_double(round(g->quality.loss * 1000) / 10));
	rpc_set_bool(o, "online", g->info.online);
	rpc_set_u64(o, "freeSlots", g->info.free_slots);
	rpc_set_str(o, "price", g->info.price);
	rpc_set_str(o, "text", g->info.text);
	rpc_set_u64(o, "failures", g->failures);
	rpc_set_u64(o, "firstSeen", g->first_seen_s);
	rpc_set_u64(o, "lastSeen", g->last_seen_s);
	rpc_set_str(o, "error", g->error);
	rpc_set_str(o, "why", why);
	return o;
}

struct ranked {
	const struct sub_gateway *g;
	double score;
};

static int by_score(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;
	return (x->score > y->score) - (x->score < y->score);
}

static void list_gateways(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct sub_api_hooks *h = arg;
	struct ranked list[SUB_GATEWAYS_MAX];
	struct json_object *result = json_object_new_object(), *array = json_object_new_array();
	struct sub_status status;
	char why[SUB_WHY_MAX];
	size_t n = 0, it = 0;
	uint64_t now = daemon_now_us();

	(void)params;
	sub_engine_status(h->engine, &status);
	while (n < SUB_GATEWAYS_MAX && (list[n].g = sub_engine_next_gateway(h->engine, &it))) {
		list[n].score = sub_engine_score(h->engine, list[n].g, now, why);
		n++;
	}
	qsort(list, n, sizeof *list, by_score);
	for (size_t i = 0; i < n; i++)
		json_object_array_add(array, gateway_json(h, list[i].g, &status, now));
	rpc_set(result, "gateways", array);
	rpc_reply(call, result);
}

static void set_prefix(struct json_object *o, const char *key, const struct net_prefix *p)
{
	char text[NET_PREFIX_TEXT];
	if (p->addr.family)
		rpc_set_str(o, key, net_prefix_text(p, text));
}

static struct json_object *traffic_json(const struct sub_api_hooks *h)
{
	struct sub_traffic t;
	if (!h->traffic(h->ctx, &t))
		return NULL;
	struct json_object *o = json_object_new_object();
	rpc_set_u64(o, "upPackets", t.up_packets);
	rpc_set_u64(o, "upBytes", t.up_bytes);
	rpc_set_u64(o, "downPackets", t.down_packets);
	rpc_set_u64(o, "downBytes", t.down_bytes);
	rpc_set_u64(o, "dropped", t.dropped);
	return o;
}

static struct json_object *session_json(const struct sub_api_hooks *h, const struct sub_status *s,
					uint64_t now)
{
	struct json_object *o = json_object_new_object();
	char key[SUB_KEY_MAX], ip[NET_ADDR_TEXT];

	rpc_set_str(o, "gateway", s->gateway->info.name);
	rpc_set_str(o, "key", sub_contact_key(&s->gateway->contact, key));
	rpc_set_str(o, "state", sub_state_name(s->state));
	rpc_set_u64(o, "sinceSeconds", (now - s->since_us) / 1000000);
	rpc_set(o, "rttMs", json_object_new_double(round(s->gateway->quality.rtt_ms * 100) / 100));
	if (s->lease) {
		rpc_set_str(o, "sid", s->lease->sid);
		rpc_set_str(o, "method", s->lease->method);
		set_prefix(o, "ipv4", &s->lease->ip4);
		set_prefix(o, "ipv6", &s->lease->ip6);
		if (s->lease->gateway4.family)
			rpc_set_str(o, "ipv4gateway", net_addr_ip_text(&s->lease->gateway4, ip));
		if (s->lease->gateway6.family)
			rpc_set_str(o, "ipv6gateway", net_addr_ip_text(&s->lease->gateway6, ip));
		rpc_set_str(o, "interface", h->interface(h->ctx));
		rpc_set(o, "traffic", traffic_json(h));
	}
	return o;
}

static void list_sessions(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct sub_api_hooks *h = arg;
	struct json_object *result = json_object_new_object(), *array = json_object_new_array();
	struct sub_status s;

	(void)params;
	sub_engine_status(h->engine, &s);
	if (s.gateway)
		json_object_array_add(array, session_json(h, &s, daemon_now_us()));
	rpc_set(result, "sessions", array);
	rpc_reply(call, result);
}

static void status(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct sub_api_hooks *h = arg;
	struct json_object *o = json_object_new_object();
	struct sub_status s;
	size_t it = 0, n = 0;
	uint64_t now = daemon_now_us();

	(void)params;
	sub_engine_status(h->engine, &s);
	while (sub_engine_next_gateway(h->engine, &it))
		n++;
	rpc_set_bool(o, "success", true);
	rpc_set_str(o, "daemon", "subscriberd");
	rpc_set_str(o, "version", MESHNET_VERSION);
	rpc_set_str(o, "state", sub_state_name(s.state));
	rpc_set_bool(o, "online", s.state == SUB_ONLINE);
	rpc_set_bool(o, "wanted", s.wanted);
	rpc_set_u64(o, "gateways", n);
	rpc_set_u64(o, "failovers", s.failovers);
	rpc_set(o, "lastOutageMs", json_object_new_double((double)s.last_outage_us / 1000.0));
	rpc_set(o, "session", s.gateway ? session_json(h, &s, now) : NULL);
	rpc_reply(call, o);
}

static void reply_success(const struct sub_api_hooks *h, struct rpc_call *call)
{
	struct json_object *o = json_object_new_object();
	h->changed(h->ctx);
	rpc_set_bool(o, "success", true);
	rpc_reply(call, o);
}

static void do_connect(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct sub_api_hooks *h = arg;
	const char *gateway = NULL, *method = NULL;
	uint64_t port = 65533;
	struct net_addr addr;
	char key[SUB_KEY_MAX];

	if (!rpc_param_str(call, params, "gateway", RPC_OPTIONAL, SUB_KEY_MAX - 1, &gateway) ||
	    !rpc_param_u64(call, params, "port", RPC_OPTIONAL, 1, 65535, &port) ||
	    !rpc_param_str(call, params, "method", RPC_OPTIONAL, SUB_METHOD_NAME_MAX, &method))
		return;
	if (gateway && net_addr_parse(&addr, gateway, (uint16_t)port) == 0) {
		/* An address that nobody has announced is as good as a configured one. */
		struct sub_contact c = {.via = SUB_VIA_HTTP, .addr = addr};
		gateway = sub_contact_key(&c, key);
		if (sub_engine_found(h->engine, &c, NULL, daemon_wall_s(), daemon_now_us()) != 0) {
			rpc_fail(call, RPC_FAILED, "too many gateways are known already");
			return;
		}
	}
	if (sub_engine_connect(h->engine, gateway, method, daemon_now_us()) != 0)
		rpc_fail(call, RPC_FAILED, "no gateway '%s' is known; listGateways shows them",
			 gateway);
	else
		reply_success(h, call);
}

static void do_disconnect(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct sub_api_hooks *h = arg;
	(void)params;
	sub_engine_disconnect(h->engine, daemon_now_us());
	reply_success(h, call);
}

static const struct rpc_method methods[] = {
	{"status", {NULL}, status, RPC_AUTHORISED},
	{"listGateways", {NULL}, list_gateways, RPC_AUTHORISED},
	{"listSessions", {NULL}, list_sessions, RPC_AUTHORISED},
	{"connect", {"gateway", "port", "method"}, do_connect, RPC_AUTHORISED},
	{"disconnect", {NULL}, do_disconnect, RPC_AUTHORISED},
};

int sub_api_register(struct rpc_server *rpc, struct sub_api_hooks *hooks)
{
	return rpc_server_add(rpc, methods, sizeof methods / sizeof *methods, hooks);
}
