#include "subscriberd/shell.h"

#include <errno.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/cstr.h"
#include "base/log.h"
#include "core/keyproof.h"
#include "io/config_value.h"
#include "io/events.h"
#include "io/jsonrpc.h"
#include "io/keyfile.h"
#include "io/metrics.h"
#include "io/privileges.h"
#include "io/resolv.h"
#include "io/timer.h"
#include "libmeshapp/meshapp.h"
#include "subscriberd/api.h"
#include "subscriberd/api_scan.h"
#include "subscriberd/carrier.h"
#include "subscriberd/discover.h"
#include "subscriberd/engine.h"
#include "subscriberd/hooks.h"
#include "subscriberd/host.h"
#include "subscriberd/metrics.h"
#include "subscriberd/session.h"
#include "subscriberd/store.h"
#include "tunnel/tunnel.h"

#define ASK_TIMEOUT_US 4000000u
#define REQUEST_TIMEOUT_US 5000000u
#define REFRESH_TICKS 5u /* seconds: the kill switch follows the main table */
#define END_US 1200000u	 /* for the operator's programs, when we end */
#define SUBSCRIBER_TYPE "internet_subscriber"
#define KNOWN_AT_START 64u

struct shell {
	struct daemon *daemon;
	struct sub_policy policy;
	struct sub_engine *engine;
	struct sub_store *store;
	struct sub_host *host;
	LIST_HEAD(, question) questions; /* under way; a carrier that ends tells nobody */
	struct keypair keys;		 /* ours; what our leases are bound to comes from it */
	uint64_t stamp;
	struct carrier *carrier;
	struct discover *discover;
	struct meshapp *app;
	struct rpc_server *rpc;
	struct rpc_http *http;
	struct events *events;
	struct sub_api_hooks hooks;
	struct api_scan_hooks scan_hooks;
	struct event *timer;

	struct resolv *resolv;
	struct sub_hooks *programs; /* the operator's */
	struct event *tick;
	uint64_t ticks, ticked_us, end_by_us;

	struct slot {
		struct session *session;
		struct json_object *answer; /* kept from the grant until the tunnel is open */
		struct net_addr server;	    /* asked for it; family 0: over the mesh */
		uint64_t carried;	    /* bytes, at the last tick */
		bool own;		    /* a gateway on our own host: for a look only */
	} slots[SUB_SLOTS];
	int in_use;			 /* slot; -1 none */
	bool looking;			 /* at our own host's gateway, and not online */
	bool renew_inside, renew_failed; /* where a renewal was last asked for; it failed there */
	bool quiet;			 /* the daemon ends: no callbacks into the engine */
};

struct question {
	LIST_ENTRY(question) link;
	struct shell *shell;
	uint64_t serial;
	unsigned slot;
	struct keyproof_ask ask; /* of nodeInfo; where it was asked; "": for no proof */
	char place[SUB_KEY_MAX];
};

static void rearm(struct shell *s);

static struct question *question_new(struct shell *s, uint64_t serial, unsigned slot)
{
	struct question *q = malloc(sizeof *q);
	if (!q)
		return NULL;
	*q = (struct question){.shell = s, .serial = serial, .slot = slot};
	LIST_INSERT_HEAD(&s->questions, q, link);
	return q;
}

static void question_free(struct question *q)
{
	LIST_REMOVE(q, link);
	free(q);
}

/* --- questions to gateways ---------------------------------------------------------------- */

static void on_info(const struct rpc_answer *answer, double rtt_ms, void *arg)
{
	struct question *q = arg;
	struct sub_info info;
	char why[SUB_WHY_MAX];
	const char *error = NULL;

	if (answer->outcome != RPC_OUTCOME_RESULT)
		error = sub_api_failure(answer);
	else if (sub_api_read_info(answer->result, &info, why) != 0)
		error = why;
	else if (q->place[0])
		sub_api_read_proof(answer->result, &q->ask, q->place, &info);
	sub_engine_on_info(q->shell->engine, q->serial, &info, rtt_ms, error, daemon_wall_s(),
			   daemon_now_us());
	rearm(q->shell);
	question_free(q);
}

static void op_ask_info(void *ctx, const struct sub_gateway *g, uint64_t serial)
{
	struct shell *s = ctx;
	struct question *q = question_new(s, serial, 0);
	struct json_object *params = NULL;
	uint8_t random[KEYPROOF_BYTES];

	if (!q)
		return;
	if (sub_gateway_unproven(g, daemon_now_us())) {
		randombytes_buf(random, sizeof random);
		keyproof_ask(&q->ask, random);
		sub_contact_key(&g->contact, q->place);
		params = sub_api_challenge(&q->ask);
	}
	carrier_call(s->carrier, &g->contact, "nodeInfo", params, ASK_TIMEOUT_US, on_info, q);
	json_object_put(params);
}

static void on_lease(const struct rpc_answer *answer, double rtt_ms, void *arg)
{
	struct question *q = arg;
	struct shell *s = q->shell;
	struct sub_lease lease;
	char why[SUB_WHY_MAX];
	const char *error = NULL;
	int err = 0;

	(void)rtt_ms;
	if (answer->outcome != RPC_OUTCOME_RESULT)
		error = sub_api_failure(answer);
	else if ((err = sub_api_read_lease(answer->result, &lease, why)) != 0)
		error = why;
	struct slot *slot = &s->slots[q->slot];
	json_object_put(slot->answer);
	slot->answer = error ? NULL : json_object_get(answer->result);
	sub_engine_on_lease(s->engine, q->serial, &lease, error, err == -EAGAIN, daemon_now_us());
	rearm(s);
	question_free(q);
}

/* Says with a call that it is ours (core/ownerproof.h).  Over the mesh the node does that. */
static void own(struct shell *s, const struct sub_gateway *g, struct json_object *holder,
		struct ownerproof_call *c)
{
	uint64_t now = daemon_wall_us();
	struct mesh_id gateway;

	/* What it only says is its key may be another's, to whom it would hand on our proof. */
	if (g->contact.via == SUB_VIA_MESH || mesh_id_parse(&gateway, g->id) != 0)
		return;
	s->stamp = now > s->stamp ? now : s->stamp + 1;
	(void)sub_store_set_stamp(s->store,
				  s->stamp); /* the clock may be wrong at the next start */
	c->stamp = s->stamp;
	sub_api_own(holder, s->keys.secret, &gateway, c);
}

static struct json_object *sid_params(struct shell *s, const struct sub_gateway *g,
				      const char *method, const char *sid)
{
	struct json_object *params = sub_api_sid(sid);

	own(s, g, params,
	    &(struct ownerproof_call){.call = method, .sid = sid, .method = "", .options = ""});
	return params;
}

static void op_request(void *ctx, unsigned slot, const struct sub_gateway *g, const char *method,
		       const char *sid, uint64_t serial)
{
	struct shell *s = ctx;
	struct question *q = question_new(s, serial, slot);
	const struct tunnel_method *m = tunnel_client_find(method);
	struct tunnel_env env = session_env(s->slots[slot].session);
	struct json_object *options = sub_api_options(s->daemon->cfg->subscriber_access_code),
			   *params;
	char name[NAME_MAX_BYTES + 1], why[TUNNEL_WHY_MAX] = "";

	if (g->contact.via == SUB_VIA_HTTP)
		env.server = g->contact.addr;
	if (m && m->client_options && m->client_options(&env, options, why) != 0)
		log_warn("method %s: %s", method, why);
	own(s, g, options,
	    &(struct ownerproof_call){.call = "requestConnection", .sid = sid, .method = method});
	params = sub_api_request(sid, daemon_host_name("", name, sizeof name),
				 s->daemon->cfg->subscriber_rpc_port, method, options);
	s->slots[slot].server =
		g->contact.via == SUB_VIA_HTTP ? g->contact.addr : (struct net_addr){0};
	(void)sub_host_reach(s->host, slot, &s->slots[slot].server);
	if (q)
		carrier_call(s->carrier, &g->contact, "requestConnection", params,
			     REQUEST_TIMEOUT_US, on_lease, q);
	json_object_put(params);
}

static void on_renewed(const struct rpc_answer *answer, double rtt_ms, void *arg)
{
	struct question *q = arg;
	char why[SUB_WHY_MAX];
	const char *error = NULL;
	bool gone = false;

	(void)rtt_ms;
	if (answer->outcome != RPC_OUTCOME_RESULT)
		error = sub_api_failure(answer);
	else if (sub_api_read_renewal(answer->result, &gone, why) != 0)
		error = why;
	/* Another gateway may have the same address inside. */
	gone = gone && !q->shell->renew_inside;
	q->shell->renew_failed = error && q->shell->renew_inside;
	sub_engine_on_renewed(q->shell->engine, q->serial, error, gone, daemon_now_us());
	rearm(q->shell);
	question_free(q);
}

static void call_with_sid(struct shell *s, const struct sub_gateway *g, const char *method,
			  const char *sid, carrier_cb *cb, void *arg)
{
	struct json_object *params = sid_params(s, g, method, sid);

	carrier_call(s->carrier, &g->contact, method, params, REQUEST_TIMEOUT_US, cb, arg);
	json_object_put(params);
}

/* The gateway's address inside of the tunnel in use: what comes from there is surely ours, also
 * when our address outside has changed since the lease was granted.  False: there is none. */
static bool inside_contact(const struct shell *s, const char *sid, struct sub_contact *to)
{
	struct sub_status status;

	sub_engine_status(s->engine, &status);
	const struct sub_lease *lease = status.active.lease;
	if (to->via != SUB_VIA_HTTP || s->in_use < 0 || !lease || strcmp(lease->sid, sid) != 0)
		return false;
	struct tunnel_path path = session_path(s->slots[s->in_use].session);
	if (path.via4.family || path.via6.family)
		return false;
	struct net_addr a = lease->gateway4.family ? lease->gateway4 : lease->gateway6;
	a.port = to->addr.port;
	to->addr = a;
	return a.family != 0;
}

static void op_renew(void *ctx, const struct sub_gateway *g, const char *sid, uint64_t serial)
{
	struct shell *s = ctx;
	struct question *q = question_new(s, serial, 0);
	struct sub_contact to = g->contact;
	struct json_object *params;

	if (!q)
		return;
	/* One that does not answer there is asked outside the next time. */
	s->renew_inside = !s->renew_failed && inside_contact(s, sid, &to);
	params = sid_params(s, g, "renewConnection", sid);
	carrier_call(s->carrier, &to, "renewConnection", params, REQUEST_TIMEOUT_US, on_renewed, q);
	json_object_put(params);
}

static void on_released(const struct rpc_answer *answer, double rtt_ms, void *arg)
{
	(void)answer;
	(void)rtt_ms;
	(void)arg;
}

static void op_release(void *ctx, const struct sub_gateway *g, const char *sid)
{
	call_with_sid(ctx, g, "releaseConnection", sid, on_released, NULL);
}

/* --- the tunnel --------------------------------------------------------------------------- */

static void on_tunnel(uint64_t serial, enum tunnel_state state, const char *text, void *arg)
{
	struct shell *s = arg;

	if (s->quiet)
		return;
	if (state == TUNNEL_CONNECTING)
		sub_engine_on_trouble(s->engine, serial, daemon_now_us());
	else
		sub_engine_on_tunnel(s->engine, serial, state == TUNNEL_UP, text, daemon_now_us());
	rearm(s);
}

static void op_tunnel_open(void *ctx, unsigned slot, const struct sub_gateway *g,
			   const struct sub_lease *lease, uint64_t serial)
{
	struct shell *s = ctx;
	struct slot *to = &s->slots[slot];
	struct session *const all[SUB_SLOTS] = {s->slots[0].session, s->slots[1].session};
	struct session_grant grant = {.lease = lease, .answer = to->answer, .server = to->server};

	to->own = g->own;
	session_close(to->session);
	session_interface_name(s->daemon->cfg->subscriber_interface,
			       hostjournal_nl(sub_host_journal(s->host)), all, SUB_SLOTS,
			       grant.interface);
	to->carried = 0;
	session_open(to->session, &grant, serial);
}

/* The rules go first: what comes from the tunnel's address must not find another way. */
static void op_tunnel_close(void *ctx, unsigned slot)
{
	struct shell *s = ctx;

	sub_host_leave(s->host, slot);
	session_close(s->slots[slot].session);
	if (s->in_use == (int)slot)
		s->in_use = -1;
}

static int op_stand_by(void *ctx, unsigned slot, const struct sub_lease *lease)
{
	struct shell *s = ctx;
	struct session *session = s->slots[slot].session;
	struct tunnel_path path = session_path(session);
	struct net_addr server = session_server(session);
	int err = 0;

	(void)lease;
	if (s->slots[slot].own)
		return 0;
	if (!net_addr_equal(&server, &s->slots[slot].server))
		err = sub_host_reach(s->host, slot, &server);
	if (!err)
		err = sub_host_stand_by(s->host, slot, session_interface(session), &path);
	if (!err)
		session_start_probes(session);
	return err;
}

/* Ours, or those that the gateway names. */
static void set_name_servers(struct shell *s, const char *interface, const struct sub_lease *lease)
{
	const struct config *cfg = s->daemon->cfg;
	struct net_addr servers[RESOLV_SERVERS_MAX];
	const char *at = cfg->subscriber_dns;
	char item[NET_ADDR_TEXT];
	unsigned n = 0;

	while (n < RESOLV_SERVERS_MAX && config_list_next(&at, item, sizeof item))
		n += net_addr_parse(&servers[n], item, 53) == 0;
	for (unsigned i = 0; n == i && i < lease->dns_count && i < RESOLV_SERVERS_MAX; i++)
		servers[n++] = lease->dns[i];
	if (!cfg->subscriber_use_dns || n == 0)
		(void)resolv_restore(s->resolv);
	else
		(void)resolv_set(s->resolv, interface, servers, n);
}

static int op_go_online(void *ctx, unsigned slot, const struct sub_lease *lease)
{
	struct shell *s = ctx;
	int err;

	s->looking = s->slots[slot].own;
	if (s->looking) {
		daemon_status(s->daemon, "at the gateway of our own host");
		return 0;
	}
	err = sub_host_online(s->host, slot);
	if (err && s->in_use < 0)
		sub_host_offline(s->host, false); /* what was half made would hold us offline */
	if (err)
		return err;
	s->in_use = (int)slot;
	set_name_servers(s, session_interface(s->slots[slot].session), lease);
	daemon_status(s->daemon, "online");
	return 0;
}

static void op_go_offline(void *ctx, bool hold)
{
	struct shell *s = ctx;

	hold = hold && !s->looking; /* nothing went through it */
	s->looking = false;
	s->in_use = -1;
	sub_host_offline(s->host, hold);
	if (!hold)
		(void)resolv_restore(s->resolv);
	daemon_status(s->daemon, hold ? "moving to another gateway" : "offline");
}

static void on_probe(uint64_t serial, bool answered, double rtt_ms, void *arg)
{
	struct shell *s = arg;
	sub_engine_on_probe(s->engine, serial, answered, rtt_ms, daemon_now_us());
	rearm(s);
}

static void op_probe(void *ctx, unsigned slot, enum sub_probe kind, uint64_t serial,
		     uint64_t timeout_us)
{
	session_probe(((struct shell *)ctx)->slots[slot].session, kind, serial, timeout_us);
}

/* --- discovery ---------------------------------------------------------------------------- */

static void op_discover(void *ctx)
{
	discover_run(((struct shell *)ctx)->discover);
}

static void op_save(void *ctx, const struct sub_gateway *g)
{
	sub_store_save(((struct shell *)ctx)->store, g);
}

static void op_forget(void *ctx, const struct sub_gateway *g)
{
	struct shell *s = ctx;

	sub_store_forget(s->store, g);
	if (g->contact.via == SUB_VIA_HTTP)
		sub_host_forget(s->host, &g->contact.addr);
}

static bool op_is_own(void *ctx, const struct sub_gateway *g)
{
	return discover_is_own(((struct shell *)ctx)->discover, g);
}

static void on_app_state(struct meshapp *app, bool up, const char *text)
{
	struct shell *s = meshapp_arg(app);
	log_info("mesh node: %s%s%s", up ? "connected" : "away", text[0] ? ", " : "", text);
	if (up)
		sub_engine_scan(s->engine, daemon_now_us());
	rearm(s);
}

static void op_event(void *ctx, const struct sub_event *event)
{
	struct shell *s = ctx;

	sub_hooks_event(s->programs, event);
	if (s->events)
		events_emit(s->events, sub_event_name(event->kind), sub_api_event_json(event));
}

static const struct sub_ops ops = {
	.ask_info = op_ask_info,
	.request = op_request,
	.renew = op_renew,
	.probe = op_probe,
	.release = op_release,
	.tunnel_open = op_tunnel_open,
	.tunnel_close = op_tunnel_close,
	.stand_by = op_stand_by,
	.go_online = op_go_online,
	.go_offline = op_go_offline,
	.save = op_save,
	.forget = op_forget,
	.is_own = op_is_own,
	.discover = op_discover,
	.event = op_event,
};

/* --- time --------------------------------------------------------------------------------- */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct shell *s = arg;
	(void)fd;
	(void)what;
	sub_engine_run(s->engine, daemon_now_us());
	rearm(s);
}

static void rearm(struct shell *s)
{
	uint64_t at = sub_engine_next(s->engine), now = daemon_now_us();

	if (at == TIMER_NEVER) {
		evtimer_del(s->timer);
		return;
	}
	uint64_t wait = at > now ? at - now : 0;
	timer_in(s->timer, wait);
}

/* What the tunnels carried, and whether the host is still as we made it. */
static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct shell *s = arg;
	uint64_t now = daemon_now_us(), elapsed = now - s->ticked_us;
	struct tunnel_counters c;

	(void)fd, (void)what;
	s->ticked_us = now;
	for (unsigned i = 0; i < SUB_SLOTS; i++) {
		struct slot *slot = &s->slots[i];
		if (!session_counters(slot->session, &c))
			continue;
		uint64_t carried = c.up_bytes + c.down_bytes;
		if (carried > slot->carried)
			sub_engine_on_traffic(s->engine, i, carried - slot->carried, elapsed);
		slot->carried = carried;
	}
	if (++s->ticks % REFRESH_TICKS == 0)
		sub_host_refresh(s->host);
}

/* --- start and end ------------------------------------------------------------------------ */

static const char *hook_interface(void *ctx, unsigned slot)
{
	struct shell *s = ctx;
	return session_interface(s->slots[slot].session);
}

static void hook_changed(void *ctx)
{
	rearm(ctx);
}

static bool hook_traffic(void *ctx, unsigned slot, struct sub_traffic *out)
{
	struct shell *s = ctx;
	struct tunnel_counters c;

	if (!session_counters(s->slots[slot].session, &c))
		return false;
	*out = (struct sub_traffic){c.up_packets, c.up_bytes, c.down_packets, c.down_bytes,
				    c.dropped};
	return true;
}

static const char *hook_found_by(void *ctx, const struct sub_contact *c, char out[SUB_WHY_MAX])
{
	return discover_found_by(((struct shell *)ctx)->discover, c, out);
}

static void hook_ordered(void *ctx, const struct net_addr *gateway)
{
	sub_host_ordered(((struct shell *)ctx)->host, gateway);
}

static void hook_scan(void *ctx)
{
	struct shell *s = ctx;
	sub_engine_scan(s->engine, daemon_now_us());
	rearm(s);
}

static void hook_event(void *ctx, const char *name, struct json_object *data)
{
	struct shell *s = ctx;

	if (s->events)
		events_emit(s->events, name, data);
	else
		json_object_put(data);
}

static int wrong(config_report *report, void *ctx, const char *key, const char *what)
{
	char line[200];

	cstr_print(line, sizeof line, "subscriber.%s: %.150s", key, what);
	report(ctx, line);
	return -EINVAL;
}

static int check_methods(const struct config *cfg, config_report *report, void *ctx)
{
	const char *at = cfg->subscriber_methods;
	char name[64], line[200];
	size_t n = 0;

	while (config_list_next(&at, name, sizeof name)) {
		n++;
		if (tunnel_client_find(name))
			continue;
		cstr_print(line, sizeof line, "there is no method '%s'", name);
		return wrong(report, ctx, "Methods", line);
	}
	cstr_print(line, sizeof line, "1 to %d methods are wanted, not %zu", SUB_METHODS_MAX, n);
	return n == 0 || n > SUB_METHODS_MAX ? wrong(report, ctx, "Methods", line) : 0;
}

int sub_shell_check(const struct config *cfg, config_report *report, void *ctx)
{
	const struct {
		const char *key, *line;
	} hooks[] = {{"OnConnect", cfg->subscriber_on_connect},
		     {"OnDisconnect", cfg->subscriber_on_disconnect},
		     {"OnGoingOnline", cfg->subscriber_on_going_online},
		     {"OnGoingOffline", cfg->subscriber_on_going_offline}};
	char currency[16];
	double price;

	for (size_t i = 0; i < sizeof hooks / sizeof *hooks; i++)
		if (hook_check(hooks[i].line, NULL) != 0)
			return wrong(report, ctx, hooks[i].key,
				     "an executable with arguments is wanted (a quote without its "
				     "end, or too many words)");
	if (!sub_price_parse(cfg->subscriber_max_price, &price, currency))
		return wrong(report, ctx, "MaxPrice", "a number is wanted, or NUMBER CURRENCY");
	int err = check_methods(cfg, report, ctx);
	return err ? err : discover_check(cfg, report, ctx);
}

static void read_names(struct sub_names *to, const char *list)
{
	to->count = 0;
	while (to->count < SUB_NAMES_MAX &&
	       config_list_next(&list, to->text[to->count], SUB_KEY_MAX))
		to->count++;
}

static void read_policy(struct shell *s)
{
	const struct config *cfg = s->daemon->cfg;
	const char *at = cfg->subscriber_methods;
	struct sub_policy *p = &s->policy;
	struct sub_terms *t = &p->terms;

	*p = (struct sub_policy){
		.auto_connect = cfg->subscriber_auto_connect,
		.standby = cfg->subscriber_standby,
		.probe_uplink = cfg->subscriber_probe_target[0] != '\0',
		.scan_interval_us = cfg->subscriber_scan_interval * 1000000,
		.probe_interval_us = cfg->subscriber_probe_interval * 1000,
		.standby_probe_interval_us = cfg->subscriber_standby_probe_interval * 1000,
		.probe_losses = (unsigned)cfg->subscriber_probe_losses,
		.better_for_us = cfg->subscriber_better_for * 1000000,
	};
	while (t->method_count < SUB_METHODS_MAX &&
	       config_list_next(&at, t->methods[t->method_count], SUB_METHOD_NAME_MAX + 1))
		t->method_count++;
	sub_price_parse(cfg->subscriber_max_price, &t->max_price, t->currency);
	read_names(&t->pinned, cfg->subscriber_pinned_gateways);
	read_names(&t->banned, cfg->subscriber_banned_gateways);
}

static int open_mesh(struct shell *s)
{
	const struct config *cfg = s->daemon->cfg;
	uint8_t random[4];
	char fresh[32], id[NAME_MAX_BYTES + 1], hex[9];

	if (!cfg->subscriber_node[0])
		return 0;
	randombytes_buf(random, sizeof random);
	hex_encode(random, sizeof random, hex);
	cstr_print(fresh, sizeof fresh, "subscriber-%s", hex);
	(void)sub_store_app(s->store, fresh, id, sizeof id);
	s->app = meshapp_open(s->daemon->base, &(struct meshapp_options){
						       .node_addr = cfg->subscriber_node,
						       .app_id = id,
						       .app_type = SUBSCRIBER_TYPE,
						       .info = "",
						       .cb = {.on_state = on_app_state},
						       .arg = s,
					       });
	if (!s->app) {
		log_error("subscriber.Node '%s' is no address of a node", cfg->subscriber_node);
		return -EINVAL;
	}
	return 0;
}

static struct rpc_http_spec rpc_spec(const struct config *cfg)
{
	return (struct rpc_http_spec){.networks = cfg->subscriber_authorized_networks,
				      .token = cfg->subscriber_admin_token};
}

static void on_metrics(const struct rpc_ctx *ctx, const char *path, const char *query,
		       struct rpc_page *page, void *arg)
{
	struct shell *s = arg;
	struct sub_traffic traffic;
	struct metrics m;
	bool used = s->in_use >= 0 && hook_traffic(s, (unsigned)s->in_use, &traffic);

	(void)ctx, (void)path, (void)query;
	page->type = METRICS_TYPE;
	metrics_begin(&m, page->body);
	sub_metrics_write(&m, s->engine, used ? &traffic : NULL);
	sub_metrics_walk(&m, discover_walk(s->discover));
	events_metrics(s->events, s->http, &m);
	metrics_process(&m, "subscriberd");
}

static int open_pages(struct shell *s)
{
	int err = events_new(&s->events, s->daemon->base, s->http);

	return err ? err : rpc_http_get(s->http, "/metrics", RPC_AUTHORISED, on_metrics, s);
}

static int open_rpc(struct shell *s)
{
	const struct config *cfg = s->daemon->cfg;
	struct rpc_http_spec spec = rpc_spec(cfg);
	int err = rpc_server_new(&s->rpc);

	s->hooks = (struct sub_api_hooks){
		s->engine, hook_interface, hook_traffic, hook_changed, hook_found_by, hook_ordered,
		s};
	s->scan_hooks = (struct api_scan_hooks){s->discover, hook_scan, &s->hooks, s};
	if (!err)
		err = sub_api_register(s->rpc, &s->hooks);
	if (!err)
		err = api_scan_register(s->rpc, &s->scan_hooks);
	if (!err)
		err = rpc_http_new(&s->http, s->daemon->base, s->rpc, &spec);
	if (!err)
		err = open_pages(s);
	if (!err)
		err = rpc_http_listen(s->http, cfg->subscriber_rpc_addr,
				      (uint16_t)cfg->subscriber_rpc_port);
	return err;
}

static int open_state(struct shell *s)
{
	char path[512];
	int err = daemon_state_path(s->daemon, "host.db", path, sizeof path);

	if (!err)
		err = sub_host_open(&s->host, path, s->daemon->cfg);
	if (!err)
		err = daemon_state_path(s->daemon, "db", path, sizeof path);
	if (!err)
		err = sub_store_open(&s->store, path, s->daemon->cfg);
	if (!err)
		err = keyfile_load(s->daemon->state_dir, s->daemon->name, &s->keys);
	if (!err)
		s->stamp = sub_store_stamp(s->store);
	if (!err)
		err = resolv_open(&s->resolv, s->daemon->base, s->daemon->state_dir,
				  s->daemon->name);
	return err;
}

static void on_known(const struct sub_gateway *g, void *ctx)
{
	struct shell *s = ctx;
	sub_engine_found(s->engine, &g->contact, g, daemon_wall_s(), daemon_now_us());
}

static int open_discovery(struct shell *s)
{
	return discover_new(&s->discover, &(struct discover_spec){.daemon = s->daemon,
								  .engine = s->engine,
								  .app = s->app,
								  .changed = hook_changed,
								  .event = hook_event,
								  .ctx = s});
}

static int open_sessions(struct shell *s)
{
	const struct session_spec spec = {.daemon = s->daemon,
					  .host = s->host,
					  .app = s->app,
					  .on_tunnel = on_tunnel,
					  .on_probe = on_probe,
					  .arg = s};
	int err = 0;

	for (unsigned i = 0; i < SUB_SLOTS && !err; i++)
		err = session_new(&s->slots[i].session, &spec);
	if (!err)
		err = sub_hooks_new(&s->programs, s->daemon->base, s->daemon->cfg, hook_interface,
				    s);
	return err;
}

int sub_shell_start(struct daemon *d)
{
	static const struct timeval second = {1, 0};
	struct shell *s = calloc(1, sizeof *s);
	int err;

	d->ctx = s;
	if (!s)
		return -ENOMEM;
	s->daemon = d;
	read_policy(s);
	s->in_use = -1;
	s->ticked_us = daemon_now_us();
	s->timer = timer_new(d->base, on_timer, s);
	s->tick = event_new(d->base, -1, EV_PERSIST, on_tick, s);
	if (!s->timer || !s->tick || evtimer_add(s->tick, &second))
		return -ENOMEM;
	err = open_state(s);
	if (err)
		return err;
	s->engine = sub_engine_new(&s->policy, &ops, s, daemon_now_us());
	if (!s->engine)
		return -ENOMEM;
	err = open_mesh(s);
	if (!err)
		err = open_sessions(s);
	if (!err && !(s->carrier = carrier_new(d->base, s->app)))
		err = -ENOMEM;
	if (!err)
		err = open_discovery(s);
	if (!err)
		err = open_rpc(s);
	if (!err)
		err = sub_store_load(s->store, KNOWN_AT_START, on_known, s);
	if (!err)
		rearm(s);
	return err;
}

static void wait_end(struct shell *s);

static void on_end(evutil_socket_t fd, short what, void *arg)
{
	struct shell *s = arg;

	(void)fd, (void)what;
	if (!sub_hooks_idle(s->programs) && daemon_now_us() < s->end_by_us)
		wait_end(s);
	else
		daemon_exit(s->daemon, 0);
}

static void wait_end(struct shell *s)
{
	static const struct timeval moment = {0, 200000};

	if (event_base_once(s->daemon->base, -1, EV_TIMEOUT, on_end, s, &moment) != 0)
		daemon_exit(s->daemon, 0);
}

/* The release is on its way to the gateway, and the operator's programs may run: give them a
 * moment. */
void sub_shell_stop(struct daemon *d)
{
	struct shell *s = d->ctx;

	sub_engine_stop(s->engine, daemon_now_us());
	s->end_by_us = daemon_now_us() + END_US;
	daemon_hold(d);
	wait_end(s);
}

void sub_shell_reload(struct daemon *d)
{
	struct shell *s = d->ctx;
	struct rpc_http_spec spec = rpc_spec(d->cfg);

	read_policy(s);
	sub_host_refresh(s->host);
	sub_engine_set_policy(s->engine, &s->policy, daemon_now_us());
	rpc_http_set_access(s->http, &spec);
	discover_reload(s->discover);
	rearm(s);
}

void sub_shell_free(struct daemon *d)
{
	struct shell *s = d->ctx;

	if (!s)
		return;
	s->quiet = true;
	for (unsigned i = 0; i < SUB_SLOTS; i++) {
		session_free(s->slots[i].session);
		s->slots[i].session = NULL;
		json_object_put(s->slots[i].answer);
	}
	sub_hooks_free(s->programs);
	if (s->http)
		rpc_http_free(s->http);
	if (s->rpc)
		rpc_server_free(s->rpc);
	events_free(s->events);
	s->events = NULL;
	carrier_free(s->carrier);
	while (!LIST_EMPTY(&s->questions))
		question_free(LIST_FIRST(&s->questions));
	meshapp_close(s->app);
	discover_free(s->discover);
	sub_engine_free(s->engine);
	resolv_close(s->resolv);
	sub_host_close(s->host);
	sub_store_close(s->store);
	keyfile_wipe(&s->keys);
	event_drop(s->timer);
	event_drop(s->tick);
	free(s);
	d->ctx = NULL;
}

uint64_t sub_shell_privileges(const struct config *cfg)
{
	uint64_t caps = PRIVILEGES_NETWORK;

	/* Its programs know one state directory only: each gets a mount namespace. */
	if (config_list_has(cfg->subscriber_methods, "softether"))
		caps |= PRIVILEGE(CAP_SYS_ADMIN);
	return caps;
}

int sub_shell_cleanup(struct daemon *d)
{
	char path[512];
	int err = daemon_state_path(d, "host.db", path, sizeof path);
	int names = resolv_cleanup(d->state_dir, d->name);

	if (!err)
		err = sub_host_cleanup(path);
	return err ? err : names;
}
