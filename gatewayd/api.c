#include "gatewayd/api.h"

#include <errno.h>
#include <json-c/printbuf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "core/keyproof.h"
#include "gatewayd/api_owner.h"
#include "gatewayd/api_peers.h"
#include "gatewayd/peers.h"
#include "io/clock.h"
#include "io/config.h"
#include "io/config_value.h"
#include "io/hook.h"
#include "io/keyfile.h"

/* ---- shapes ---- */

void gw_api_refuse(struct rpc_call *call, const struct gw_refusal *why)
{
	struct json_object *o = json_object_new_object();

	rpc_set_bool(o, "success", false);
	rpc_set_str(o, "errorMsg", why->text);
	rpc_set_bool(o, "temporary", why->temporary);
	rpc_reply(call, o);
}

static struct json_object *success(void)
{
	struct json_object *o = json_object_new_object();

	rpc_set_bool(o, "success", true);
	return o;
}

/* Null for no address. */
static void set_address(struct json_object *o, const char *key, const struct net_addr *a)
{
	char text[NET_ADDR_TEXT];

	rpc_set_str(o, key, a->family ? net_addr_ip_text(a, text) : NULL);
}

/* ipv4, cidr4 (the prefix length), ipv4gateway; all null without a pool of this family. */
static void set_family(struct json_object *o, char family, const struct net_addr *own,
		       const struct pool *pool)
{
	struct net_addr gateway = pool_gateway(pool);
	char key[16];

	cstr_print(key, sizeof(key), "ipv%c", family);
	set_address(o, key, own);
	cstr_print(key, sizeof(key), "cidr%c", family);
	if (pool_in_use(pool))
		rpc_set_u64(o, key, pool->net.bits);
	else
		rpc_set(o, key, NULL);
	cstr_print(key, sizeof(key), "ipv%cgateway", family);
	set_address(o, key, &gateway);
}

static struct json_object *terms_json(const struct gw_api *api)
{
	const struct gw_terms *t = gw_engine_terms(api->engine);
	struct json_object *o = json_object_new_object();

	rpc_set_u64(o, "maxSubscribers", t->max_subscribers);
	rpc_set_u64(o, "freeSlots", gw_engine_free_slots(api->engine));
	rpc_set_u64(o, "leaseSeconds", t->lease_s);
	rpc_set_u64(o, "rateKbps", t->rate_kbps);
	rpc_set_u64(o, "quotaBytes", t->quota_bytes);
	rpc_set_u64(o, "monthQuotaBytes", t->month_quota_bytes);
	rpc_set_u64(o, "stepDownKbps", t->step_down_kbps);
	rpc_set_bool(o, "codeRequired", t->code_required);
	rpc_set_str(o, "price", api->cfg->gateway_price);
	rpc_set_str(o, "currency", api->cfg->gateway_currency);
	rpc_set_str(o, "text", api->cfg->gateway_text);
	return o;
}

/* checkedAt: seconds since 1970, 0 before the first proof. */
static struct json_object *uplink_json(const struct gw_api *api)
{
	const struct gw_uplink *u = gw_engine_uplink(api->engine);
	struct json_object *o = json_object_new_object();
	double rtt_ms = (double)u->rtt_us / 1000.0;
	char text[32];

	cstr_print(text, sizeof(text), "%.2f", rtt_ms);
	rpc_set_bool(o, "online", u->online);
	rpc_set_u64(o, "checkedAt", u->checked_s);
	rpc_set(o, "rttMs", json_object_new_double_s(rtt_ms, text));
	return o;
}

static struct json_object *node_json(const struct gw_api *api)
{
	struct json_object *o = json_object_new_object();
	char id[MESH_ID_TEXT];

	rpc_set_bool(o, "connected", api->node_up);
	rpc_set_str(o, "id", api->node ? mesh_id_text(api->node, id) : NULL);
	rpc_set_str(o, "app", api->name);
	return o;
}

static struct json_object *dns_json(const struct gw_api *api)
{
	struct json_object *list = json_object_new_array();
	const char *at = api->cfg->gateway_dns;
	char item[NET_ADDR_TEXT], ip[NET_ADDR_TEXT];
	struct net_addr a;

	for (unsigned n = 0; n < GW_API_DNS_MAX && config_list_next(&at, item, sizeof(item)); n++)
		if (net_addr_parse(&a, item, 53) == 0)
			json_object_array_add(list, rpc_text(net_addr_ip_text(&a, ip)));
	return list;
}

static struct json_object *lease_json(const struct gw_api *api, const struct lease *l)
{
	struct json_object *o = success();

	rpc_set_str(o, "sid", l->sid);
	rpc_set_str(o, "method", l->method);
	rpc_set_u64(o, "timeoutTimestamp", steady_clock_wall_s(&api->clock, l->expires_s));
	rpc_set_u64(o, "leaseSeconds", gw_engine_terms(api->engine)->lease_s);
	set_family(o, '4', &l->ip4, gw_engine_pool4(api->engine));
	set_family(o, '6', &l->ip6, gw_engine_pool6(api->engine));
	rpc_set(o, "dns", dns_json(api));
	rpc_set_u64(o, "rateKbps", l->rate_now_kbps);
	rpc_set_u64(o, "quotaBytes", l->quota_bytes);
	rpc_set(o, l->method, gw_methods_answer(api->methods, l));
	return o;
}

static void set_traffic(struct json_object *o, const struct tunnel_counters *c)
{
	rpc_set_bool(o, "connected", c->connected);
	rpc_set_u64(o, "upPackets", c->up_packets);
	rpc_set_u64(o, "upBytes", c->up_bytes);
	rpc_set_u64(o, "downPackets", c->down_packets);
	rpc_set_u64(o, "downBytes", c->down_bytes);
	rpc_set_u64(o, "spoofed", c->spoofed);
	rpc_set_u64(o, "dropped", c->dropped);
}

/* Of a method that cannot tell: what passed the firewall. */
static void host_traffic(const struct gw_api *api, const struct lease *l,
			 struct tunnel_counters *out)
{
	struct nft_lease_counters c;

	if (gw_host_lease_counters(api->host, l, &c))
		*out = (struct tunnel_counters){.up_packets = c.up.packets,
						.up_bytes = c.up.bytes,
						.down_packets = c.down.packets,
						.down_bytes = c.down.bytes,
						.connected = true};
}

static struct json_object *session_json(const struct gw_api *api, const struct lease *l)
{
	struct json_object *o = json_object_new_object();
	struct tunnel_counters counters = {0};
	char id[MESH_ID_TEXT];
	bool has_app = lease_binding_has_app(&l->who);

	rpc_set_str(o, "sid", l->sid);
	rpc_set_str(o, "method", l->method);
	rpc_set(o, "name", rpc_text(l->name));
	rpc_set_u64(o, "port", l->port);
	rpc_set_str(o, "node", has_app ? mesh_id_text(&l->who.node, id) : NULL);
	rpc_set(o, "app", rpc_text(has_app ? l->who.app : NULL));
	rpc_set_bool(o, "proven", l->who.proven);
	rpc_set_bool(o, "keyed", lease_binding_has_key(&l->who));
	set_address(o, "host", &l->who.host);
	set_address(o, "ipv4", &l->ip4);
	set_address(o, "ipv6", &l->ip6);
	rpc_set_u64(o, "grantedAt", steady_clock_wall_s(&api->clock, l->granted_s));
	rpc_set_u64(o, "timeoutTimestamp", steady_clock_wall_s(&api->clock, l->expires_s));
	rpc_set_u64(o, "rateKbps", l->rate_now_kbps);
	rpc_set_bool(o, "rateKept", gw_shape_covers(gw_host_shaping(api->host), l));
	rpc_set_u64(o, "quotaBytes", l->quota_bytes);
	rpc_set_u64(o, "usedBytes", l->up_bytes + l->down_bytes);
	rpc_set_u64(o, "monthBytes", l->account ? account_used(l->account) : 0);
	rpc_set_str(o, "code", *l->code ? l->code : NULL);
	rpc_set_str(o, "interface", l->interface);
	if (!gw_methods_counters(api->methods, l, &counters))
		host_traffic(api, l, &counters);
	set_traffic(o, &counters);
	return o;
}

const char *gw_api_app_info(const struct gw_api *api, char *out, size_t size)
{
	const struct gw_terms *t = gw_engine_terms(api->engine);
	const struct gw_method *methods;
	size_t count = gw_engine_methods(api->engine, &methods);
	struct json_object *o = json_object_new_object(), *names = json_object_new_array();

	rpc_set_str(o, "version", MESHNET_VERSION);
	rpc_set_bool(o, "online", gw_engine_uplink(api->engine)->online);
	rpc_set_bool(o, "full", gw_engine_free_slots(api->engine) == 0);
	for (size_t i = 0; names && i < count; i++)
		json_object_array_add(names, json_object_new_string(methods[i].name));
	rpc_set(o, "methods", names);
	rpc_set_u64(o, "leaseSeconds", t->lease_s);
	rpc_set_u64(o, "rateKbps", t->rate_kbps);
	rpc_set_u64(o, "quotaBytes", t->quota_bytes);
	rpc_set_str(o, "price", api->cfg->gateway_price);
	rpc_set_str(o, "currency", api->cfg->gateway_currency);
	rpc_set_u64(o, "rpcPort", api->cfg->gateway_rpc_port);
	cstr_copy(out, size, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	json_object_put(o);
	return out;
}

/* ---- who asks ---- */

static struct lease_binding caller_of(const struct rpc_ctx *ctx)
{
	struct lease_binding b = {0};

	if (ctx->over_mesh) {
		b.proven = true;
		b.node = ctx->mesh_peer;
		cstr_copy(b.app, sizeof(b.app), ctx->mesh_app);
	} else {
		b.host = ctx->addr;
		b.host.port = 0;
	}
	return b;
}

static bool wrong(struct rpc_call *call, const char *what)
{
	rpc_fail(call, RPC_INVALID_PARAMS, "Invalid params: %s", what);
	return false;
}

/* A host says itself which app will use the tunnel; nothing stands on its word but this lease. */
static bool app_from_options(struct rpc_call *call, struct json_object *options,
			     struct lease_binding *who)
{
	const char *node = rpc_param_str(options, "node", NULL);
	const char *app = rpc_param_str(options, "app", NULL);

	if (!node && !app)
		return true;
	if (!node || !app || !*app)
		return wrong(call, "options.node and options.app come together");
	if (mesh_id_parse(&who->node, node) || mesh_id_is_zero(&who->node))
		return wrong(call, "options.node is not a node id (64 hex digits)");
	cstr_copy(who->app, sizeof(who->app), app);
	return true;
}

/* The options as the method and the store see them: the authenticated peer stands above what the
 * caller wrote.  A new object. */
static struct json_object *options_settle(struct json_object *asked,
					  const struct lease_binding *who)
{
	struct json_object *o = NULL;
	char id[MESH_ID_TEXT];

	if (asked && json_object_deep_copy(asked, &o, NULL))
		return NULL;
	if (!o)
		o = json_object_new_object();
	if (o && lease_binding_has_app(who)) {
		rpc_set_str(o, "node", mesh_id_text(&who->node, id));
		rpc_set(o, "app", rpc_text(who->app));
	}
	if (o) { /* neither kept nor shown to a method */
		json_object_object_del(o, "code");
		json_object_object_del(o, "owner");
	}
	return o;
}

/* ---- calls ---- */

static struct json_object *node_info(struct gw_api *api)
{
	struct json_object *o = success();

	rpc_set(o, "name", rpc_text(api->name));
	rpc_set_str(o, "version", MESHNET_VERSION);
	rpc_set_bool(o, "gateway", true);
	rpc_set(o, "methods", gw_methods_info(api->methods));
	rpc_set(o, "unavailable", gw_methods_absent(api->methods));
	rpc_set(o, "terms", terms_json(api));
	rpc_set(o, "uplink", uplink_json(api));
	rpc_set_bool(o, "ipv6support", pool_in_use(gw_engine_pool6(api->engine)));
	rpc_set_str(o, "id", api->id);
	rpc_set(o, "gateways", gw_api_peers_told(api->peers, NULL));
	return o;
}

static int print_text(struct json_object *o, struct printbuf *out, int level, int flags)
{
	const char *text = json_object_get_userdata(o);

	(void)level, (void)flags;
	return printbuf_memappend(out, text, (int)strlen(text));
}

static void free_text(struct json_object *o, void *text)
{
	(void)o;
	free(text);
}

/* Consumes `o`: an object that prints as it does now, without looking at itself again. */
static struct json_object *printed(struct json_object *o)
{
	char *text = strdup(json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	struct json_object *p = text ? json_object_new_object() : NULL;

	json_object_put(o);
	if (p)
		json_object_set_serializer(p, print_text, text, free_text);
	else
		free(text);
	return p;
}

void gw_api_changed(struct gw_api *api)
{
	json_object_put(api->info);
	api->info = NULL;
	if (api->rpc)
		rpc_server_forget(api->rpc);
}

/* All that it tells calls gw_api_changed, but the other gateways, and what methods know alone. */
static bool info_fresh(void *arg)
{
	const struct gw_api *api = arg;

	return api->info && api->info_s == steady_clock_s(&api->clock) &&
	       api->info_peers == gw_peers_changes(api->peers);
}

/* That it is us who answers, where we were called. */
static void reply_proof(struct gw_api *api, struct rpc_call *call, const char *challenge)
{
	const struct rpc_ctx *ctx = rpc_call_ctx(call);
	uint8_t asked[KEYPROOF_BYTES], proof[KEYPROOF_BYTES];
	char place[KEYPROOF_PLACE_MAX], hex[2 * KEYPROOF_BYTES + 1];
	struct json_object *o;

	if (ctx->over_mesh && api->node)
		keyproof_mesh(api->node, api->name, place);
	else
		keyproof_http(&ctx->local, place);
	if (hex_decode(challenge, asked, sizeof(asked)) ||
	    !keyproof_answer(proof, &api->keys->id, api->keys->secret, asked, place)) {
		(void)wrong(call, "challenge is no X25519 key (64 hex digits)");
		return;
	}
	o = node_info(api);
	hex_encode(proof, sizeof(proof), hex);
	rpc_set_str(o, "proof", hex);
	rpc_reply(call, o);
}

/* Everybody asks it of every gateway all the time; without a challenge the answer is the same. */
static void api_node_info(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct gw_api *api = arg;
	const char *challenge = rpc_param_str(params, "challenge", NULL);

	gw_api_peers_learn(api->peers, params);
	if (challenge) {
		reply_proof(api, call, challenge);
		return;
	}
	if (!info_fresh(api)) {
		gw_api_changed(api);
		api->info = printed(node_info(api));
		api->info_s = steady_clock_s(&api->clock);
		api->info_peers = gw_peers_changes(api->peers);
	}
	if (json_object_object_length(params) == 0)
		rpc_keep(call, info_fresh, api);
	rpc_reply(call, json_object_get(api->info));
}

static bool sid_param(struct rpc_call *call, struct json_object *params, const char **sid)
{
	*sid = rpc_param_str(params, "sid", NULL);
	if (*sid && !sid_valid(*sid))
		return wrong(call, "sid is 1 to 64 characters of A-Z a-z 0-9 - _");
	return true;
}

struct asked {
	struct gw_request req;
	char name[LEASE_NAME_MAX + 1];
	struct json_object *options; /* owned */
};

static bool request_read(const struct gw_api *api, struct rpc_call *call,
			 struct json_object *params, struct asked *a)
{
	struct json_object *options = rpc_param_json(params, "options");
	const char *name = rpc_param_str(params, "name", "");

	a->req.who = caller_of(rpc_call_ctx(call));
	a->req.method = rpc_param_str(params, "method", NULL);
	a->req.code = options ? rpc_param_str(options, "code", NULL) : NULL;
	if (!sid_param(call, params, &a->req.sid))
		return false;
	if (!gw_api_owner(api, call, options, "requestConnection", a->req.sid,
			  a->req.method ? a->req.method : "", &a->req.who))
		return false;
	if (options && !a->req.who.proven && !app_from_options(call, options, &a->req.who))
		return false;
	a->options = options_settle(options, &a->req.who);
	if (!a->options) {
		rpc_fail(call, RPC_INTERNAL, "out of memory");
		return false;
	}
	gw_methods_learn(api->methods, a->req.method, &a->req.who.host, &rpc_call_ctx(call)->local,
			 a->options);
	bytes_to_cstr(bytes_str(name), a->name, sizeof(a->name));
	a->req.name = a->name;
	a->req.port = (uint16_t)rpc_param_u64(params, "port", 0);
	a->req.options = json_object_to_json_string_ext(a->options, JSON_C_TO_STRING_PLAIN);
	if (strlen(a->req.options) <= LEASE_OPTIONS_MAX)
		return true;
	return wrong(call, "options are too long");
}

/* ---- answers that wait ---- */

enum held_kind { HELD_REQUEST, HELD_RENEW, HELD_RELEASE };

struct gw_held {
	struct rpc_call *call;
	enum held_kind kind;
	char sid[SID_MAX + 1];
};

static void answer_renew(struct gw_api *api, struct rpc_call *call, const struct lease *l)
{
	struct json_object *o = success();

	rpc_set_u64(o, "timeoutTimestamp", steady_clock_wall_s(&api->clock, l->expires_s));
	rpc_set_u64(o, "leaseSeconds", gw_engine_terms(api->engine)->lease_s);
	rpc_reply(call, o);
}

/* Nothing that could be lost is told; what was asked for again within one turn may be gone. */
static void answer(struct gw_api *api, const struct gw_held *h, int rc)
{
	const struct lease *l = gw_engine_lease(api->engine, h->sid);
	struct gw_refusal why = {.temporary = true, .text = "the gateway could not set it up"};

	if (h->kind == HELD_RELEASE) {
		rpc_reply(h->call, success()); /* it is over, recorded or not */
	} else if (rc || !l) {
		if (rc)
			gw_engine_refuse_store(api->engine, rc, &why);
		gw_api_refuse(h->call, &why);
	} else if (h->kind == HELD_RENEW) {
		answer_renew(api, h->call, l);
	} else {
		rpc_reply(h->call, lease_json(api, l));
	}
}

static void hold(struct gw_api *api, struct rpc_call *call, enum held_kind kind, const char *sid)
{
	struct gw_held h = {.call = call, .kind = kind};

	cstr_copy(h.sid, sizeof(h.sid), sid);
	if (api->held_count == api->held_size) {
		size_t size = api->held_size ? api->held_size * 2 : 64;
		struct gw_held *list = reallocarray(api->held, size, sizeof(*list));

		if (!list) {
			rpc_fail(call, RPC_INTERNAL, "out of memory");
			return;
		}
		api->held = list;
		api->held_size = size;
	}
	api->held[api->held_count++] = h;
	api->settle_soon(api->settle_arg);
}

void gw_api_settled(struct gw_api *api, int rc)
{
	struct gw_held *list = api->held;
	size_t count = api->held_count;

	api->held = NULL; /* an answer may lead to the next call */
	api->held_count = api->held_size = 0;
	for (size_t i = 0; i < count; i++)
		answer(api, &list[i], rc);
	free(list);
}

void gw_api_clear(struct gw_api *api)
{
	gw_api_settled(api, -ECANCELED);
	free(api->held);
	api->held = NULL;
	gw_api_changed(api);
}

/* ---- calls for subscribers ---- */

static void api_request(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct gw_api *api = arg;
	struct asked a = {0};
	const struct lease *l;
	struct gw_refusal why;

	if (request_read(api, call, params, &a)) {
		if (gw_engine_request(api->engine, &a.req, steady_clock_s(&api->clock), &l, &why))
			hold(api, call, HELD_REQUEST, l->sid);
		else
			gw_api_refuse(call, &why);
	}
	json_object_put(a.options);
}

static void api_renew(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct gw_api *api = arg;
	struct lease_binding who = caller_of(rpc_call_ctx(call));
	const struct lease *l;
	struct gw_refusal why;
	const char *sid = NULL;

	if (!sid_param(call, params, &sid) ||
	    !gw_api_owner(api, call, params, "renewConnection", sid, NULL, &who))
		return;
	if (gw_engine_renew(api->engine, sid, &who, steady_clock_s(&api->clock), &l, &why))
		hold(api, call, HELD_RENEW, sid);
	else
		gw_api_refuse(call, &why);
}

static void api_release(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct gw_api *api = arg;
	struct lease_binding who = caller_of(rpc_call_ctx(call));
	struct gw_refusal why;
	const char *sid = NULL;

	if (!sid_param(call, params, &sid) ||
	    !gw_api_owner(api, call, params, "releaseConnection", sid, NULL, &who))
		return;
	if (gw_engine_release(api->engine, sid, &who, steady_clock_s(&api->clock), &why))
		hold(api, call, HELD_RELEASE, sid);
	else
		gw_api_refuse(call, &why);
}

static struct json_object *counters_json(const struct gw_api *api)
{
	const struct gw_counters *c = gw_engine_counters(api->engine);
	struct json_object *o = json_object_new_object();
	struct nft_gateway_counters nft;

	rpc_set_u64(o, "granted", c->granted);
	rpc_set_u64(o, "repeated", c->repeated);
	rpc_set_u64(o, "renewed", c->renewed);
	rpc_set_u64(o, "released", c->released);
	rpc_set_u64(o, "expired", c->expired);
	rpc_set_u64(o, "refused", c->refused);
	rpc_set_u64(o, "hooksRun", hooks_counters(api->hooks)->run);
	rpc_set_u64(o, "hooksFailed", hooks_counters(api->hooks)->failed);
	rpc_set_u64(o, "hooksDropped", hooks_counters(api->hooks)->dropped);
	rpc_set_u64(o, "rulesetRepairs", gw_host_repairs(api->host));
	if (gw_host_counters(api->host, &nft) == 0) {
		rpc_set_u64(o, "spoofedPackets", nft.spoofed.packets);
		rpc_set_u64(o, "deniedPackets", nft.denied.packets);
		rpc_set_u64(o, "unleasedPackets", nft.unleased.packets);
	}
	return o;
}

static struct json_object *pool_json(const struct pool *p)
{
	struct json_object *o;
	char text[NET_PREFIX_TEXT];

	if (!pool_in_use(p))
		return NULL;
	o = json_object_new_object();
	rpc_set_str(o, "network", net_prefix_text(&p->net, text));
	rpc_set_u64(o, "size", pool_size(p));
	rpc_set_u64(o, "used", p->used);
	return o;
}

/* Why rates are not kept to, when they are not. */
static struct json_object *shaping_json(const struct gw_api *api)
{
	const struct gw_shape *shape = gw_host_shaping(api->host);
	struct json_object *o = json_object_new_object();
	const char *why = gw_shape_why(shape), *why_queue;

	rpc_set_bool(o, "active", *gw_shape_queue(shape) && !*why);
	rpc_set_str(o, "queue", gw_shape_queue(shape));
	why_queue = gw_shape_queue_why(shape);
	rpc_set(o, "queueReason", *why_queue ? rpc_text(why_queue) : NULL);
	rpc_set(o, "reason", *why ? rpc_text(why) : NULL);
	return o;
}

static void api_status(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct gw_api *api = arg;
	struct json_object *o = success();

	(void)params;
	rpc_set(o, "name", rpc_text(api->name));
	rpc_set_str(o, "version", MESHNET_VERSION);
	rpc_set_u64(o, "startedAt", api->started_s);
	rpc_set(o, "node", node_json(api));
	rpc_set(o, "uplink", uplink_json(api));
	rpc_set(o, "methods", gw_methods_info(api->methods));
	rpc_set(o, "unavailable", gw_methods_absent(api->methods));
	rpc_set_u64(o, "sessions", gw_engine_lease_count(api->engine));
	rpc_set(o, "terms", terms_json(api));
	rpc_set(o, "shaping", shaping_json(api));
	rpc_set(o, "pool4", pool_json(gw_engine_pool4(api->engine)));
	rpc_set(o, "pool6", pool_json(gw_engine_pool6(api->engine)));
	rpc_set(o, "counters", counters_json(api));
	rpc_reply(call, o);
}

/* listSessions(offset, limit): the oldest first. */
static void api_list_sessions(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct gw_api *api = arg;
	struct json_object *o, *list;
	uint64_t offset = rpc_param_u64(params, "offset", 0), at = 0;
	uint64_t limit = rpc_param_u64(params, "limit", GW_API_SESSIONS_MAX);

	o = success();
	list = json_object_new_array();
	for (const struct lease *l = NULL; list && (l = gw_engine_lease_after(api->engine, l));) {
		if (at++ < offset)
			continue;
		if (at > offset + limit)
			break;
		json_object_array_add(list, session_json(api, l));
	}
	rpc_set(o, "sessions", list);
	rpc_set_u64(o, "total", gw_engine_lease_count(api->engine));
	rpc_reply(call, o);
}

#define NAME "text(" RPC_NUM(NAME_MAX_BYTES) ") "
#define METHOD "text(" RPC_NUM(TEXT_MAX_BYTES) ") "
#define SESSIONS "uint(1.." RPC_NUM(GW_API_SESSIONS_MAX) ") "

static const struct rpc_method methods[] = {
	{.name = "nodeInfo",
	 .handler = api_node_info,
	 .access = RPC_PUBLIC,
	 .text = "What this gateway offers, and on which terms. Who asks may tell of other "
		 "gateways; those in PeerNetworks are then asked, too.",
	 .params = "gateways? any a list of \"IP:PORT\", or of objects that have it as address\n"
		   "challenge? id a key of one's own, fresh; the answer has a proof for it\n",
	 .result = "@node_info"},
	{.name = "requestConnection",
	 .handler = api_request,
	 .access = RPC_PUBLIC,
	 .text = "Asks for a lease. The same request again is the same lease. A lease is on the "
		 "disk before it is answered.",
	 .params = "sid? " GW_API_SID_TEXT "A-Z a-z 0-9 - _; none: the gateway makes one\n"
		   "name? " NAME "what the subscriber calls itself\n"
		   "port? uint(0..65535) of its own RPC, if it has one\n"
		   "method? " METHOD "one of nodeInfo's; without it the answer is a refusal\n"
		   "options? @options\n",
	 .result = "@lease|@refusal"},
	{.name = "renewConnection",
	 .handler = api_renew,
	 .access = RPC_PUBLIC,
	 .text = "Makes a lease last anew.",
	 .params = GW_API_SID "owner? @owner\n",
	 .result = "@renewal|@refusal"},
	{.name = "releaseConnection",
	 .handler = api_release,
	 .access = RPC_PUBLIC,
	 .text = "Gives a lease back.",
	 .params = GW_API_SID "owner? @owner\n",
	 .result = "@done|@refusal"},
	{.name = "status",
	 .handler = api_status,
	 .access = RPC_AUTHORISED,
	 .text = "The gateway in figures.",
	 .result = "success bool\n"
		   "name text\n"
		   "version text\n"
		   "startedAt uint seconds since 1970\n"
		   "node @own_node\n"
		   "uplink @uplink\n"
		   "methods @method[]\n"
		   "unavailable @unavailable[]\n"
		   "sessions uint leases now\n"
		   "terms @terms\n"
		   "shaping @shaping\n"
		   "pool4 @pool|null\n"
		   "pool6 @pool|null\n"
		   "counters @counters\n"},
	{.name = "listSessions",
	 .handler = api_list_sessions,
	 .access = RPC_AUTHORISED,
	 .text = "The leases, the oldest first.",
	 .params = "offset? uint(0..4294967295) the first that is wanted\n"
		   "limit? " SESSIONS "how many\n",
	 .result = "success bool\n"
		   "sessions @session[]\n"
		   "total uint how many there are\n"},
};

static const struct rpc_about about = {
	"Meshnet gatewayd",
	"An uplink that is shared. A refusal is a result with success false and a sentence in "
	"errorMsg; temporary says whether to try again. Also over the mesh, to the gateway's app.",
};

int gw_api_register(struct rpc_server *server, struct gw_api *api)
{
	int rc = rpc_server_add(server, methods, sizeof(methods) / sizeof(methods[0]), api);

	rpc_server_describe(server, &about);
	api->rpc = server;
	if (!rc)
		rc = rpc_server_shapes(server, gw_api_shapes);
	return rc ? rc : gw_api_register_admin(server, api);
}
