#include "subscriberd/api.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "core/keyproof.h"
#include "io/clock.h"
#include "io/nodeinfo.h"

#define ORDER_PREFIX "connect-"
#define WHY_ALL_MAX 1024 /* of all ways to a gateway */

/* --- reading what gateways say ------------------------------------------------------------ */

static const char *get_str(struct json_object *o, const char *key)
{
	struct json_object *v;
	if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_string))
		return "";
	return json_object_get_string(v);
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
	if (!isfinite(d) || d <= 0)
		return 0;
	return d < max ? d : max;
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
	cstr_print(why, SUB_WHY_MAX, "its answer makes no sense: %s", what);
	return -EBADMSG;
}

static void read_methods(struct json_object *list, struct sub_info *out)
{
	size_t n = list ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n && out->method_count < SUB_METHODS_MAX; i++) {
		struct json_object *m = json_object_array_get_idx(list, i);
		const char *name =
			json_object_is_type(m, json_type_object) ? get_str(m, "name") : "";
		struct json_object *ready;
		if (!name[0] || strlen(name) > SUB_METHOD_NAME_MAX ||
		    (json_object_object_get_ex(m, "ready", &ready) && !get_bool(m, "ready")))
			continue;
		cstr_copy(out->methods[out->method_count++], sizeof out->methods[0], name);
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
	nodeinfo_text(answer, "name", out->name, sizeof out->name);
	nodeinfo_text(answer, "id", out->id, sizeof out->id);
	read_methods(get_object(answer, "methods", json_type_array), out);
	terms = get_object(answer, "terms", json_type_object);
	if (terms) {
		out->free_slots = get_u64(terms, "freeSlots", INT64_MAX);
		out->max_subscribers = get_u64(terms, "maxSubscribers", INT64_MAX);
		out->lease_seconds = get_u64(terms, "leaseSeconds", INT64_MAX);
		out->rate_kbps = get_u64(terms, "rateKbps", INT64_MAX);
		nodeinfo_text(terms, "price", out->price, sizeof out->price);
		nodeinfo_text(terms, "currency", out->currency, sizeof out->currency);
		nodeinfo_text(terms, "text", out->text, sizeof out->text);
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
	nodeinfo_text(answer, "errorMsg", text, sizeof text);
	cstr_print(why, SUB_WHY_MAX, "refused: %s", text[0] ? text : "no reason given");
	return -EPERM;
}

/* Name servers; what is none is left out. */
static void read_dns(struct json_object *list, struct sub_lease *out)
{
	size_t n = list ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n && out->dns_count < SUB_DNS_MAX; i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		struct net_addr *a = &out->dns[out->dns_count];
		if (json_object_is_type(v, json_type_string) &&
		    net_addr_parse(a, json_object_get_string(v), 0) == 0 &&
		    !net_addr_is_loopback(a))
			out->dns_count++;
	}
}

int sub_api_read_lease(struct json_object *answer, struct sub_lease *out, char *why)
{
	memset(out, 0, sizeof *out);
	if (!json_object_is_type(answer, json_type_object))
		return malformed(why, "the lease is no object");
	if (!get_bool(answer, "success")) {
		int err = refused(answer, why);
		return get_bool(answer, "temporary") ? -EAGAIN : err;
	}
	const char *sid = get_str(answer, "sid"), *method = get_str(answer, "method");
	/* Methods write it into configurations of other programs: what gatewayd accepts as a sid,
	 * and nothing that could be more than a word there. */
	if (!sid_valid(sid) || !method[0] || strlen(method) > SUB_METHOD_NAME_MAX)
		return malformed(why, "sid or method");
	cstr_copy(out->sid, sizeof out->sid, sid);
	cstr_copy(out->method, sizeof out->method, method);
	out->lease_seconds = get_u64(answer, "leaseSeconds", 365 * 86400);
	if (out->lease_seconds == 0)
		return malformed(why, "leaseSeconds");
	if (read_address(answer, "ipv4", "cidr4", "ipv4gateway", &out->ip4, &out->gateway4, 4) ||
	    read_address(answer, "ipv6", "cidr6", "ipv6gateway", &out->ip6, &out->gateway6, 6) ||
	    (!out->ip4.addr.family && !out->ip6.addr.family))
		return malformed(why, "addresses");
	read_dns(get_object(answer, "dns", json_type_array), out);
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

struct json_object *sub_api_options(const char *code)
{
	struct json_object *o = json_object_new_object();

	if (*code)
		rpc_set_str(o, "code", code);
	return o;
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

void sub_api_own(struct json_object *holder, const uint8_t secret[MESH_SECRET_BYTES],
		 const struct mesh_id *gateway, struct ownerproof_call *c)
{
	struct json_object *owner = json_object_new_object();
	struct ownerproof_key key;
	uint8_t proof[OWNERPROOF_BYTES];
	char text[MESH_ID_TEXT];

	if (c->method[0]) /* requestConnection: the rest of its options is covered too */
		c->options = json_object_to_json_string_ext(
			holder, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	ownerproof_key(secret, gateway, &key);
	if (owner && ownerproof_make(&key, gateway, c, proof) == 0) {
		rpc_set_str(owner, "key", mesh_id_text(&key.public, text));
		rpc_set_u64(owner, "stamp", c->stamp);
		hex_encode(proof, sizeof proof, text);
		rpc_set_str(owner, "proof", text);
		rpc_set(holder, "owner", owner);
	} else {
		json_object_put(owner);
	}
	sodium_memzero(&key, sizeof key);
}

struct json_object *sub_api_challenge(const struct keyproof_ask *ask)
{
	struct json_object *params = json_object_new_object();
	char hex[2 * KEYPROOF_BYTES + 1];

	hex_encode(ask->challenge, sizeof ask->challenge, hex);
	rpc_set_str(params, "challenge", hex);
	return params;
}

void sub_api_read_proof(struct json_object *answer, const struct keyproof_ask *ask,
			const char *place, struct sub_info *info)
{
	uint8_t proof[KEYPROOF_BYTES];
	struct mesh_id id;

	info->asked = true;
	info->proven = mesh_id_parse(&id, info->id) == 0 &&
		       hex_decode(get_str(answer, "proof"), proof, sizeof proof) == 0 &&
		       keyproof_check(ask, &id, place, proof);
	if (info->proven)
		mesh_id_text(&id, info->id); /* written in one way */
}

struct json_object *sub_api_method_object(struct json_object *lease, const char *method)
{
	return get_object(lease, method, json_type_object);
}

/* --- our own RPC -------------------------------------------------------------------------- */

static struct json_object *rounded(double v, double steps)
{
	return json_object_new_double(round(v * steps) / steps);
}

static void set_quality(struct json_object *o, const struct sub_gateway *g)
{
	/* What was measured through a tunnel of ours says more. */
	const struct sub_quality *q = g->tunnel.samples ? &g->tunnel : &g->quality;

	rpc_set(o, "rttMs", rounded(q->rtt_ms > 0 ? q->rtt_ms : g->quality.rtt_ms, 100));
	rpc_set(o, "jitterMs", rounded(q->jitter_ms, 100));
	rpc_set(o, "lossPercent", rounded(q->loss * 100, 10));
	rpc_set(o, "rpcLossPercent", rounded(g->quality.loss * 100, 10));
	rpc_set(o, "uplinkFaultPercent", rounded(g->uplink_fault * 100, 10));
	rpc_set(o, "goodputBps", g->goodput_bps > 0 ? rounded(g->goodput_bps, 1) : NULL);
}

struct ranked {
	const struct sub_gateway *g;
	struct sub_rank rank;
	char found_by[SUB_WHY_MAX];
};

static const char *via_text(const struct sub_gateway *g)
{
	return g->contact.via == SUB_VIA_MESH ? "mesh" : "http";
}

#define OWN_NOTE                                                                                   \
	"the gateway is on our own host: lease and tunnel are there, but what is sent into it "    \
	"would come back here, so nothing is. Traffic needs a gateway on another host"

/* We have a lease at the gateway of our own host. */
static bool is_look(const struct sub_session_status *s)
{
	return s->state == SUB_ONLINE && s->gateway && s->gateway->own;
}

static const char *state_text(const struct sub_session_status *s)
{
	return is_look(s) ? "own host" : sub_state_name(s->state);
}

static const char *way_state(const struct ranked *w, const struct sub_status *s)
{
	if (w->g == s->active.gateway)
		return state_text(&s->active);
	if (w->g == s->standby.gateway)
		return s->standby.state == SUB_STANDBY ? "standby" : "opening standby";
	return isinf(w->rank.score) ? "unusable" : "ready";
}

/* The way that we use, or the best one. */
static const struct ranked *way_used(const struct ranked *ways, size_t count,
				     const struct sub_status *s)
{
	for (size_t i = 0; i < count; i++)
		if (ways[i].g == s->active.gateway)
			return &ways[i];
	for (size_t i = 0; i < count; i++)
		if (ways[i].g == s->standby.gateway)
			return &ways[i];
	return ways;
}

static bool item_listed(const char *list, const char *item)
{
	size_t len = strlen(item);

	for (const char *at = list; (at = strstr(at, item)); at += len)
		if ((at == list || at[-1] == ',') && (!at[len] || at[len] == ','))
			return true;
	return false;
}

/* Adds to a list what is not in it. */
static void list_add(char *list, size_t size, const char *item)
{
	size_t len = strlen(list);

	if (!item_listed(list, item))
		cstr_print(list + len, size - len, "%s%s", len ? "," : "", item);
}

static struct json_object *score_json(const struct sub_rank *r)
{
	return isinf(r->score) ? NULL : rounded(r->score, 10);
}

static struct json_object *ways_json(const struct ranked *ways, size_t count,
				     const struct sub_status *s)
{
	struct json_object *list = json_object_new_array();
	char key[SUB_KEY_MAX];

	for (size_t i = 0; i < count; i++) {
		const struct ranked *w = &ways[i];
		struct json_object *o = json_object_new_object();
		rpc_set_str(o, "key", sub_contact_key(&w->g->contact, key));
		rpc_set_str(o, "via", via_text(w->g));
		rpc_set(o, "foundBy", rpc_text(w->found_by));
		rpc_set_str(o, "state", way_state(w, s));
		rpc_set_str(o, "method", w->rank.method);
		rpc_set(o, "score", score_json(&w->rank));
		rpc_set(o, "rttMs", rounded(w->g->quality.rtt_ms, 100));
		rpc_set(o, "why", rpc_text(w->rank.why));
		json_object_array_add(list, o);
	}
	return list;
}

/* Why the best way stands where it does, and what the others are worth. */
static void set_why(struct json_object *o, const struct ranked *ways, size_t count,
		    const struct ranked *used)
{
	char why[WHY_ALL_MAX], key[SUB_KEY_MAX];
	size_t len = (size_t)snprintf(why, sizeof why, "%s", ways->rank.why);

	for (size_t i = 1; i < count && len < sizeof why; i++) {
		const struct ranked *w = &ways[i];
		const char *place = w->g->contact.via == SUB_VIA_MESH
					    ? "the mesh"
					    : sub_contact_key(&w->g->contact, key);
		const char *also = w == used ? "in use" : "also";
		if (isinf(w->rank.score) && strcmp(w->rank.why, ways->rank.why) == 0)
			continue; /* said */
		int n = isinf(w->rank.score)
				? snprintf(why + len, sizeof why - len, "; not by %s: %s", place,
					   w->rank.why)
				: snprintf(why + len, sizeof why - len, "; %s by %s: %.1f", also,
					   place, w->rank.score);
		len += n > 0 ? (size_t)n : 0;
	}
	const struct sub_info *info = &ways->g->info;
	if (info->asked && !info->proven && info->id[0] && len < sizeof why)
		cstr_print(why + len, sizeof why - len, "; does not prove that its key is %.8s",
			   info->id);
	rpc_set(o, "why", rpc_text(why));
}

/* One gateway by all its ways, the best first. */
static struct json_object *gateway_json(const struct ranked *ways, size_t count,
					const struct sub_status *s, size_t place)
{
	char found_by[WHY_ALL_MAX] = "", via[16] = "", key[SUB_KEY_MAX];
	struct json_object *o = json_object_new_object(), *methods = json_object_new_array();
	const struct sub_rank *r = &ways->rank;
	const struct sub_gateway *g = ways->g;
	const struct ranked *used = way_used(ways, count, s);

	for (size_t i = 0; i < count; i++) {
		list_add(found_by, sizeof found_by, ways[i].found_by);
		list_add(via, sizeof via, via_text(ways[i].g));
	}
	if (isinf(r->score))
		rpc_set(o, "rank", NULL);
	else
		rpc_set_u64(o, "rank", place);
	rpc_set_str(o, "name", g->info.name);
	rpc_set(o, "id", g->id[0] ? rpc_text(g->id) : NULL);
	rpc_set_str(o, "key", sub_contact_key(&g->contact, key));
	rpc_set(o, "foundBy", rpc_text(found_by));
	rpc_set_str(o, "via", via);
	for (size_t i = 0; i < g->info.method_count; i++)
		json_object_array_add(methods, rpc_text(g->info.methods[i]));
	rpc_set_str(o, "method", r->method);
	rpc_set(o, "methods", methods);
	rpc_set_str(o, "state", way_state(used, s));
	rpc_set(o, "score", score_json(r));
	rpc_set_bool(o, "pinned", r->pinned);
	set_quality(o, g);
	rpc_set_bool(o, "online", g->info.online);
	rpc_set_u64(o, "freeSlots", g->info.free_slots);
	rpc_set_str(o, "price", g->info.price);
	rpc_set_str(o, "currency", g->info.currency);
	rpc_set_str(o, "text", g->info.text);
	rpc_set_u64(o, "failures", g->failures);
	rpc_set_u64(o, "firstSeen", g->first_seen_s);
	rpc_set_u64(o, "lastSeen", g->last_seen_s);
	rpc_set_str(o, "error", g->error);
	set_why(o, ways, count, used);
	rpc_set(o, "ways", ways_json(ways, count, s));
	return o;
}

static int by_rank(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;
	return sub_rank_before(&y->rank, &x->rank) - sub_rank_before(&x->rank, &y->rank);
}

/* Behind its first way stand the others; how many they are. */
static size_t gather(struct ranked *list, size_t count)
{
	size_t n = 1;

	for (size_t i = 1; i < count; i++) {
		if (!sub_gateway_same(list[0].g, list[i].g))
			continue;
		struct ranked way = list[i];
		memmove(&list[n + 1], &list[n], (i - n) * sizeof *list);
		list[n++] = way;
	}
	return n;
}

static void list_gateways(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct sub_api_hooks *h = arg;
	struct ranked *list = calloc(SUB_GATEWAYS_MAX, sizeof *list);
	struct json_object *result = json_object_new_object(), *array = json_object_new_array();
	struct sub_status status;
	size_t n = 0, it = 0, ways;
	uint64_t now = daemon_now_us();

	(void)params;
	sub_engine_status(h->engine, &status);
	while (list && n < SUB_GATEWAYS_MAX &&
	       (list[n].g = sub_engine_next_gateway(h->engine, &it))) {
		sub_engine_rank(h->engine, list[n].g, now, &list[n].rank);
		h->found_by(h->ctx, &list[n].g->contact, list[n].found_by);
		n++;
	}
	if (n)
		qsort(list, n, sizeof *list, by_rank);
	for (size_t i = 0; i < n; i += ways) {
		ways = gather(list + i, n - i);
		json_object_array_add(array, gateway_json(list + i, ways, &status,
							  json_object_array_length(array) + 1));
	}
	free(list);
	rpc_set(result, "gateways", array);
	rpc_reply(call, result);
}

static void set_prefix(struct json_object *o, const char *key, const struct net_prefix *p)
{
	char text[NET_PREFIX_TEXT];
	if (p->addr.family)
		rpc_set_str(o, key, net_prefix_text(p, text));
}

static struct json_object *traffic_json(const struct sub_api_hooks *h, unsigned slot)
{
	struct sub_traffic t;
	if (!h->traffic(h->ctx, slot, &t))
		return NULL;
	struct json_object *o = json_object_new_object();
	rpc_set_u64(o, "upPackets", t.up_packets);
	rpc_set_u64(o, "upBytes", t.up_bytes);
	rpc_set_u64(o, "downPackets", t.down_packets);
	rpc_set_u64(o, "downBytes", t.down_bytes);
	rpc_set_u64(o, "dropped", t.dropped);
	return o;
}

static void set_lease(struct json_object *o, const struct sub_api_hooks *h,
		      const struct sub_session_status *s, uint64_t now)
{
	const struct sub_lease *l = s->lease;
	struct json_object *dns = json_object_new_array();
	char ip[NET_ADDR_TEXT];

	rpc_set_str(o, "sid", l->sid);
	set_prefix(o, "ipv4", &l->ip4);
	set_prefix(o, "ipv6", &l->ip6);
	if (l->gateway4.family)
		rpc_set_str(o, "ipv4gateway", net_addr_ip_text(&l->gateway4, ip));
	if (l->gateway6.family)
		rpc_set_str(o, "ipv6gateway", net_addr_ip_text(&l->gateway6, ip));
	for (unsigned i = 0; i < l->dns_count; i++)
		json_object_array_add(dns, rpc_text(net_addr_ip_text(&l->dns[i], ip)));
	rpc_set(o, "dns", dns);
	rpc_set_u64(o, "timeoutTimestamp",
		    daemon_wall_s() +
			    (s->lease_end_us > now ? (s->lease_end_us - now) / 1000000 : 0));
	rpc_set_str(o, "interface", h->interface(h->ctx, s->slot));
	rpc_set(o, "traffic", traffic_json(h, s->slot));
}

/* NULL when there is none. */
static struct json_object *session_json(const struct sub_api_hooks *h,
					const struct sub_session_status *s, const char *role,
					uint64_t now)
{
	char key[SUB_KEY_MAX];

	if (!s->gateway)
		return NULL;
	const struct sub_quality *q = &s->gateway->tunnel;
	struct json_object *o = json_object_new_object();
	rpc_set_str(o, "role", role);
	rpc_set_str(o, "gateway", s->gateway->info.name);
	rpc_set_str(o, "key", sub_contact_key(&s->gateway->contact, key));
	rpc_set_str(o, "state", state_text(s));
	rpc_set_str(o, "method", s->method);
	rpc_set_u64(o, "sinceSeconds", (now - s->since_us) / 1000000);
	rpc_set(o, "rttMs", rounded(q->rtt_ms > 0 ? q->rtt_ms : s->gateway->quality.rtt_ms, 100));
	rpc_set(o, "lossPercent", rounded(q->loss * 100, 10));
	if (s->lease)
		set_lease(o, h, s, now);
	return o;
}

static void list_sessions(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct sub_api_hooks *h = arg;
	struct json_object *result = json_object_new_object(), *array = json_object_new_array();
	uint64_t now = daemon_now_us();
	struct sub_status s;

	(void)params;
	sub_engine_status(h->engine, &s);
	if (s.active.gateway)
		json_object_array_add(array, session_json(h, &s.active, "active", now));
	if (s.standby.gateway)
		json_object_array_add(array, session_json(h, &s.standby, "standby", now));
	rpc_set(result, "sessions", array);
	rpc_reply(call, result);
}

static void set_order(struct json_object *o, const struct sub_status *s, uint64_t now)
{
	rpc_set_str(o, "orderState", sub_order_name(s->order_state));
	if (s->order_why[0])
		rpc_set(o, "orderWhy", rpc_text(s->order_why));
	if (s->order_again_us)
		rpc_set_u64(o, "askAgainMs",
			    s->order_again_us > now ? (s->order_again_us - now) / 1000 : 0);
}

static void status(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct sub_api_hooks *h = arg;
	struct json_object *o = json_object_new_object();
	struct sub_status s;
	uint64_t now = daemon_now_us();

	(void)params;
	sub_engine_status(h->engine, &s);
	rpc_set_bool(o, "success", true);
	rpc_set_str(o, "daemon", "subscriberd");
	rpc_set_str(o, "version", MESHNET_VERSION);
	rpc_set_str(o, "state", state_text(&s.active));
	rpc_set_bool(o, "online", s.active.state == SUB_ONLINE && !is_look(&s.active));
	if (is_look(&s.active))
		rpc_set_str(o, "note", OWN_NOTE);
	rpc_set_bool(o, "wanted", s.wanted);
	if (s.order[0])
		rpc_set_str(o, "ordered", s.order);
	set_order(o, &s, now);
	rpc_set_u64(o, "gateways", sub_engine_gateways(h->engine));
	rpc_set_u64(o, "failovers", s.failovers);
	rpc_set_u64(o, "moves", s.moves);
	rpc_set(o, "lastOutageMs", rounded((double)s.last_outage_us / 1000.0, 1000));
	rpc_set(o, "lastDetectMs", rounded((double)s.last_detect_us / 1000.0, 1000));
	rpc_set(o, "lastSwitchMs", rounded((double)s.last_switch_us / 1000.0, 1000));
	rpc_set(o, "session", session_json(h, &s.active, "active", now));
	rpc_set(o, "standby", session_json(h, &s.standby, "standby", now));
	rpc_reply(call, o);
}

static void reply_success(const struct sub_api_hooks *h, struct rpc_call *call)
{
	struct json_object *o = json_object_new_object();
	h->changed(h->ctx);
	rpc_set_bool(o, "success", true);
	rpc_reply(call, o);
}

/* Why the ordered gateway cannot be used for now; NULL: it can, or any will do. */
static const char *hindrance(const struct sub_api_hooks *h, const struct sub_status *s,
			     struct sub_rank *r)
{
	const struct sub_gateway *g = s->order[0] ? sub_engine_find(h->engine, s->order) : NULL;

	if (!g)
		return NULL;
	sub_engine_rank(h->engine, g, daemon_now_us(), r);
	return isinf(r->score) ? r->why : NULL;
}

/* {success, callId, done, ...}: how far an order is. */
static void reply_order(const struct sub_api_hooks *h, struct rpc_call *call, int64_t order)
{
	const char *why;
	enum sub_order_state state = sub_engine_order(h->engine, order, &why);
	struct json_object *o = json_object_new_object();
	struct sub_status s;
	struct sub_rank rank;
	char id[40];

	cstr_print(id, sizeof id, ORDER_PREFIX "%" PRId64, order);
	sub_engine_status(h->engine, &s);
	if (state == SUB_ORDER_PENDING && !why[0])
		why = hindrance(h, &s, &rank);
	rpc_set_bool(o, "success", state != SUB_ORDER_FAILED && state != SUB_ORDER_UNKNOWN);
	rpc_set_str(o, "callId", id);
	rpc_set_bool(o, "done", state != SUB_ORDER_PENDING);
	if (state == SUB_ORDER_FAILED)
		rpc_set_str(o, "errorMsg", why);
	else if (state == SUB_ORDER_PENDING && why)
		rpc_set(o, "waiting", rpc_text(why));
	else if (state == SUB_ORDER_UNKNOWN)
		rpc_set_str(o, "errorMsg", "another order came");
	else if (state == SUB_ORDER_DONE && s.active.gateway)
		rpc_set_str(o, "gateway", s.active.gateway->info.name);
	if (state == SUB_ORDER_DONE)
		rpc_set_str(o, "method", s.active.method);
	if (state == SUB_ORDER_DONE && is_look(&s.active))
		rpc_set_str(o, "note", OWN_NOTE);
	rpc_reply(call, o);
}

static void do_connect(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct sub_api_hooks *h = arg;
	const char *gateway = rpc_param_str(params, "gateway", NULL);
	const char *method = rpc_param_str(params, "method", NULL);
	uint64_t port = rpc_param_u64(params, "port", 65533);
	struct net_addr addr;
	char key[SUB_KEY_MAX];

	if (gateway && net_addr_parse(&addr, gateway, (uint16_t)port) == 0) {
		/* An address that nobody has announced is as good as a configured one. */
		struct sub_contact c = {.via = SUB_VIA_HTTP, .addr = addr};
		gateway = sub_contact_key(&c, key);
		h->ordered(h->ctx, &addr);
		if (sub_engine_found(h->engine, &c, NULL, daemon_wall_s(), daemon_now_us()) != 0) {
			rpc_fail(call, RPC_FAILED, "too many gateways are known already");
			return;
		}
	}
	int64_t order = sub_engine_connect(h->engine, gateway, method, daemon_now_us());
	if (order < 0) {
		rpc_fail(call, RPC_FAILED, "no gateway '%s' is known; listGateways shows them",
			 gateway);
		return;
	}
	h->changed(h->ctx);
	reply_order(h, call, order);
}

bool sub_api_poll_order(const struct sub_api_hooks *h, struct rpc_call *call, const char *id)
{
	size_t len = strlen(ORDER_PREFIX);
	char *end;

	if (strncmp(id, ORDER_PREFIX, len) != 0)
		return false;
	long order = strtol(id + len, &end, 10);
	reply_order(h, call, *end ? 0 : order);
	return true;
}

static void do_disconnect(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct sub_api_hooks *h = arg;
	(void)params;
	sub_engine_disconnect(h->engine, daemon_now_us());
	reply_success(h, call);
}

/* State names are those of sub_state_name(). */
static const char shapes[] =
	"traffic What passed a tunnel, since it is there.\n"
	"upPackets uint\n"
	"upBytes uint\n"
	"downPackets uint\n"
	"downBytes uint\n"
	"dropped uint\n"
	"\n"
	"session A lease that is held or being asked for.\n"
	"role =active,standby\n"
	"gateway text its name\n"
	"key text how it is reached; what connect takes\n"
	"state text\n"
	"method text\n"
	"sinceSeconds uint in this state\n"
	"rttMs number\n"
	"lossPercent number\n"
	"sid? text from here on: once there is a lease\n"
	"ipv4? text\n"
	"ipv6? text\n"
	"ipv4gateway? text\n"
	"ipv6gateway? text\n"
	"dns? text[]\n"
	"timeoutTimestamp? uint when it ends, seconds since 1970\n"
	"interface? text\n"
	"traffic? @traffic|null\n"
	"\n"
	"way One of the ways to a gateway.\n"
	"key text how it is reached; what connect takes\n"
	"via =mesh,http\n"
	"foundBy text\n"
	"state text\n"
	"method text|null the one that would be used\n"
	"score number|null\n"
	"rttMs number\n"
	"why text\n"
	"\n"
	"gateway A gateway that is known.\n"
	"rank uint|null its place; null: not to be used now\n"
	"name text\n"
	"id text|null the key that it has proven, by which its ways are put together\n"
	"key text how it is reached; what connect takes\n"
	"foundBy text\n"
	"via text mesh, http, or both\n"
	"method text|null the one that would be used\n"
	"methods text[]\n"
	"state text of its session, or ready, or unusable\n"
	"score number|null\n"
	"pinned bool whether the operator ordered it\n"
	"rttMs number\n"
	"jitterMs number\n"
	"lossPercent number\n"
	"rpcLossPercent number\n"
	"uplinkFaultPercent number\n"
	"goodputBps number|null\n"
	"online bool whether it says that its uplink works\n"
	"freeSlots uint\n"
	"price text\n"
	"currency text\n"
	"text text\n"
	"failures uint in a row\n"
	"firstSeen uint seconds since 1970\n"
	"lastSeen uint seconds since 1970\n"
	"error text the last one, or empty\n"
	"why text how it came to its place\n"
	"ways @way[] the best first\n"
	"\n"
	"order How far an order to connect is.\n"
	"success bool\n"
	"callId text what pollCallStatus takes\n"
	"done bool\n"
	"errorMsg? text why it failed\n"
	"waiting? text the refusal that it waits out, or why nobody is asked\n"
	"gateway? text the one that is connected now\n"
	"method? text\n"
	"note? text as in status\n"
	"\n";

#define KEY "text(" RPC_NUM(SUB_API_KEY_MAX) ") "
#define METHOD "text(" RPC_NUM(SUB_METHOD_NAME_MAX) ") "

static const struct rpc_method methods[] = {
	{.name = "status",
	 .handler = status,
	 .access = RPC_AUTHORISED,
	 .text = "Whether we are online, by whom, and how it went so far.",
	 .result = "success bool\n"
		   "daemon text subscriberd\n"
		   "version text\n"
		   "state text\n"
		   "online bool\n"
		   "note? text what keeps a connection from being a way out\n"
		   "wanted bool whether we shall be connected\n"
		   "ordered? text the gateway that the operator ordered\n"
		   "orderState =none,pending,done,failed of the latest connect\n"
		   "orderWhy? text why it failed, or the refusal that it waits out\n"
		   "askAgainMs? uint when a refused one asks again\n"
		   "gateways uint that are known\n"
		   "failovers uint\n"
		   "moves uint to a better gateway\n"
		   "lastOutageMs number\n"
		   "lastDetectMs number\n"
		   "lastSwitchMs number\n"
		   "session @session|null\n"
		   "standby @session|null\n"},
	{.name = "listGateways",
	 .handler = list_gateways,
	 .access = RPC_AUTHORISED,
	 .text = "The gateways that are known, the best first, and why.",
	 .result = "gateways @gateway[]\n"},
	{.name = "listSessions",
	 .handler = list_sessions,
	 .access = RPC_AUTHORISED,
	 .text = "Our leases.",
	 .result = "sessions @session[]\n"},
	{.name = "connect",
	 .handler = do_connect,
	 .access = RPC_AUTHORISED,
	 .text = "Connects, and stays with this gateway; pollCallStatus tells how it goes.",
	 .params = "gateway? " KEY "name, key or address; none: the best\n"
		   "port? uint(1..65535) of its RPC, when an address is given; none: 65533\n"
		   "method? " METHOD "none: the best\n",
	 .result = "@order",
	 .fails = "no such gateway is known, or too many are"},
	{.name = "disconnect",
	 .handler = do_disconnect,
	 .access = RPC_AUTHORISED,
	 .text = "Gives the leases back and stays away until connect.",
	 .result = "success bool\n"},
};

static const struct rpc_about about = {
	"Meshnet subscriberd",
	"Finds gateways, stays connected to the best, moves to another when it fails.",
};

int sub_api_register(struct rpc_server *rpc, struct sub_api_hooks *hooks)
{
	int err = rpc_server_add(rpc, methods, sizeof methods / sizeof *methods, hooks);
	rpc_server_describe(rpc, &about);
	return err ? err : rpc_server_shapes(rpc, shapes);
}
