#include "gatewayd/shell.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cstr.h"
#include "base/log.h"
#include "gatewayd/api.h"
#include "gatewayd/hooks.h"
#include "gatewayd/metrics.h"
#include "gatewayd/peers.h"
#include "gatewayd/store.h"
#include "gatewayd/stream.h"
#include "gatewayd/uplink.h"
#include "io/config_value.h"
#include "io/events.h"
#include "io/hostjournal.h"
#include "io/jsonrpc.h"
#include "io/keyfile.h"
#include "io/metrics.h"
#include "io/privileges.h"
#include "io/timer.h"
#include "libmeshapp/meshapp.h"

struct gw_shell {
	struct daemon *d;
	char name[NAME_MAX_BYTES + 1];
	struct gw_engine *engine;
	struct gw_store *store;
	struct gw_host *host;
	struct gw_methods *methods;
	struct meshapp *app; /* NULL: no node configured */
	struct gw_streams *streams;
	struct rpc_server *rpc;
	struct rpc_http *http;
	struct events *events;
	struct uplink *uplink;
	struct gw_peers *peers;
	struct keypair keys; /* of this gateway */
	char id[MESH_ID_TEXT];
	struct hooks *hooks;
	struct gw_known *known;
	struct gw_api api;
	struct event *tick, *settle;
	unsigned ticks;
	char info[APP_INFO_MAX_BYTES + 1];
};

/* ---- settlement ----
 *
 * The requests of one turn of the loop are one transaction of the store and one of the host's
 * table, and are answered after both. */

static void rules_failed(const char *sid, int rc, void *ctx)
{
	struct gw_shell *s = ctx;

	log_error("rules of lease %.8s...: %s", sid, strerror(-rc));
	gw_engine_end(s->engine, sid);
}

static void settle(struct gw_shell *s)
{
	int rc = gw_store_flush(s->store);

	gw_engine_settle(s->engine, rc);
	gw_host_flush(s->host, rules_failed, s);
	gw_api_settled(&s->api, rc);
}

static void on_settle(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	settle(arg);
}

static void settle_soon(void *arg)
{
	struct gw_shell *s = arg;

	event_active(s->settle, EV_TIMEOUT, 0);
}

/* ---- what the engine does ---- */

static int lease_save(void *ctx, const struct lease *l)
{
	struct gw_shell *s = ctx;

	return gw_store_save(s->store, l);
}

static int lease_delete(void *ctx, const char *sid)
{
	struct gw_shell *s = ctx;

	return gw_store_delete(s->store, sid);
}

static int tunnel_open(void *ctx, struct lease *l, char *why)
{
	struct gw_shell *s = ctx;
	int rc = gw_methods_open(s->methods, l, why);

	if (rc)
		return rc;
	rc = gw_host_lease_add(s->host, l);
	if (rc) {
		cstr_print(why, GW_WHY_MAX, "the gateway is out of memory");
		gw_methods_close(s->methods, l);
		return rc;
	}
	settle_soon(s);
	return 0;
}

static void tunnel_close(void *ctx, const struct lease *l)
{
	struct gw_shell *s = ctx;

	gw_host_lease_del(s->host, l);
	gw_methods_close(s->methods, l);
	settle_soon(s);
}

static void rate_set(void *ctx, const struct lease *l)
{
	struct gw_shell *s = ctx;

	gw_host_rate(s->host, l);
}

static bool lease_count(void *ctx, const struct lease *l, uint64_t *up, uint64_t *down)
{
	struct gw_shell *s = ctx;

	struct nft_lease_counters c;

	if (!gw_host_lease_counters(s->host, l, &c))
		return false;
	*up = c.up.bytes;
	*down = c.down.bytes;
	return true;
}

static int account_load(void *ctx, const char *who, uint32_t month, uint64_t *up, uint64_t *down)
{
	struct gw_shell *s = ctx;

	return gw_store_account_load(s->store, who, month, up, down);
}

static int account_save(void *ctx, const struct account *a)
{
	struct gw_shell *s = ctx;

	return gw_store_account_save(s->store, a);
}

static int usage_save(void *ctx, const struct lease *l)
{
	struct gw_shell *s = ctx;

	return gw_store_usage_save(s->store, l);
}

static int code_find(void *ctx, const char *code, char name[LEASE_NAME_MAX + 1])
{
	struct gw_shell *s = ctx;

	return gw_store_code_find(s->store, code, name);
}

static void random_fill(void *ctx, void *out, size_t len)
{
	(void)ctx;
	randombytes_buf(out, len);
}

static void hook(struct gw_shell *s, enum gw_event event, const struct lease *l)
{
	const struct config *cfg = s->d->cfg;
	uint64_t until_s;

	if (!l || !s->hooks)
		return;
	until_s = steady_clock_wall_s(&s->api.clock, l->expires_s);
	if (event == GW_EVENT_GRANTED)
		gw_hooks_run(s->hooks, cfg->gateway_on_register, "register", l, until_s);
	else if (event == GW_EVENT_RELEASED || event == GW_EVENT_EXPIRED)
		gw_hooks_run(s->hooks, cfg->gateway_on_release, "release", l, until_s);
}

static void on_event(void *ctx, enum gw_event event, const struct lease *l)
{
	struct gw_shell *s = ctx;

	gw_api_changed(&s->api);
	hook(s, event, l);
	/* Leases of an earlier run come back before there is anybody to tell. */
	if (s->events)
		events_emit(s->events, gw_event_name(event), gw_api_event_json(s->engine, l));
}

static const struct gw_ops ops = {
	.lease_save = lease_save,
	.lease_delete = lease_delete,
	.tunnel_open = tunnel_open,
	.tunnel_close = tunnel_close,
	.rate_set = rate_set,
	.lease_count = lease_count,
	.account_load = account_load,
	.account_save = account_save,
	.usage_save = usage_save,
	.code_find = code_find,
	.random_bytes = random_fill,
	.event = on_event,
};

static struct gw_terms terms_of(const struct config *cfg)
{
	return (struct gw_terms){
		.max_subscribers = cfg->gateway_max_subscribers,
		.sessions_per_host = cfg->gateway_sessions_per_host,
		.lease_s = cfg->gateway_lease_seconds,
		.rate_kbps = cfg->gateway_rate_kbps,
		.quota_bytes = cfg->gateway_quota_bytes,
		.month_quota_bytes = cfg->gateway_month_quota_bytes,
		.step_down_kbps = cfg->gateway_step_down_kbps,
		.code_required = cfg->gateway_require_code,
	};
}

/* ---- the mesh ---- */

/* Others find us by this; told only when it changed. */
static void info_update(struct gw_shell *s)
{
	char info[APP_INFO_MAX_BYTES + 1];

	if (!s->app || !s->methods)
		return;
	gw_api_app_info(&s->api, info, sizeof(info));
	if (strcmp(info, s->info) == 0)
		return;
	cstr_copy(s->info, sizeof(s->info), info);
	if (meshapp_set_info(s->app, info))
		log_warn("the app's info could not be sent");
}

static void on_app_state(struct meshapp *app, bool up, const char *text)
{
	struct gw_shell *s = meshapp_arg(app);
	char id[MESH_ID_SHORT];

	s->api.node_up = up;
	s->api.node = meshapp_node(app);
	gw_methods_node_state(s->methods, up);
	gw_api_changed(&s->api);
	if (up)
		log_info("app '%s' on node %s%s%s", s->name, mesh_id_short(s->api.node, id),
			 *text ? ": " : "", text);
	else
		log_warn("the node is away: %s", text);
}

static bool on_app_incoming(struct meshapp *app, struct meshconn *conn)
{
	struct gw_shell *s = meshapp_arg(app);

	if (meshconn_class(conn) == CLASS_STREAM)
		return s->streams && gw_streams_accept(s->streams, conn);
	return gw_methods_accept(s->methods, conn);
}

static int mesh_open(struct gw_shell *s)
{
	struct meshapp_options opt = {
		.node_addr = s->d->cfg->gateway_node,
		.app_id = s->name,
		.app_type = KNOWN_APP_TYPE,
		.info = "",
		.cb = {.on_state = on_app_state, .on_incoming = on_app_incoming},
		.arg = s,
	};

	if (!*opt.node_addr)
		return 0;
	s->app = meshapp_open(s->d->base, &opt);
	if (s->app)
		return 0;
	log_error("gateway.Node: '%s': %s", opt.node_addr, strerror(errno));
	return -EINVAL;
}

/* ---- the uplink ---- */

static void on_uplink(bool online, uint64_t rtt_us, const char *why, void *arg)
{
	struct gw_shell *s = arg;
	const struct gw_uplink *before = gw_engine_uplink(s->engine);
	struct gw_uplink now = {.online = online, .checked_s = daemon_wall_s(), .rtt_us = rtt_us};

	if (online && !before->online)
		log_info("the uplink is proven (%.1f ms)", (double)rtt_us / 1000.0);
	else if (!online && (before->online || !before->checked_s))
		log_warn("the uplink is down: %s", why);
	gw_engine_set_uplink(s->engine, &now);
	gw_api_changed(&s->api);
	info_update(s);
}

static int uplink_start(struct gw_shell *s)
{
	const struct config *cfg = s->d->cfg;
	struct uplink_config uc = {
		.targets = cfg->gateway_uplink_targets,
		.servers = cfg->gateway_uplink_dns,
		.name = cfg->gateway_uplink_dns_name,
		.interface = cfg->gateway_uplink_interface,
		.interval_us = cfg->gateway_uplink_interval * 1000000u,
	};
	struct uplink *u;
	struct nl *nl = hostjournal_nl(gw_host_journal(s->host));
	int rc = uplink_new(&u, s->d->base, nl, &uc, on_uplink, s);

	if (rc)
		return rc;
	uplink_free(s->uplink);
	s->uplink = u;
	return 0;
}

/* ---- usage ---- */

static uint32_t month_now(void)
{
	time_t now = (time_t)daemon_wall_s();
	struct tm tm;

	gmtime_r(&now, &tm);
	return (uint32_t)((tm.tm_year + 1900) * 100 + tm.tm_mon + 1);
}

/* Also before the table is made anew, which begins its counters again. */
static void usage_read(struct gw_shell *s)
{
	gw_engine_set_month(s->engine, month_now());
	gw_host_count(s->host, s->engine);
}

/* ---- start ---- */

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct gw_shell *s = arg;

	(void)fd, (void)what;
	gw_engine_run(s->engine, steady_clock_s(&s->api.clock));
	if (++s->ticks % GW_USAGE_S == 0)
		usage_read(s);
	if (s->ticks % GW_GUARD_S == 0)
		gw_host_guard(s->host, false, s->d->cfg, s->engine);
	gw_known_tick(s->known, steady_clock_s(&s->api.clock));
	info_update(s);
}

static int tick_start(struct gw_shell *s)
{
	struct timeval tv = {.tv_sec = GW_TICK_S};

	s->tick = event_new(s->d->base, -1, EV_PERSIST, on_tick, s);
	return s->tick && event_add(s->tick, &tv) == 0 ? 0 : -ENOMEM;
}

static int settle_start(struct gw_shell *s)
{
	s->settle = timer_new(s->d->base, on_settle, s);
	if (!s->settle)
		return -ENOMEM;
	gw_store_gather(s->store, settle_soon, s);
	return 0;
}

static int engine_start(struct gw_shell *s)
{
	struct gw_terms terms = terms_of(s->d->cfg);
	char path[PATH_MAX];
	uint64_t seed;
	int rc;

	randombytes_buf(&seed, sizeof(seed));
	rc = gw_engine_new(&s->engine, s->d->cfg->gateway_pool4, s->d->cfg->gateway_pool6, &terms,
			   seed, &ops, s);
	if (!rc)
		gw_engine_set_month(s->engine, month_now());
	if (!rc)
		rc = daemon_state_path(s->d, "db", path, sizeof(path));
	return rc ? rc : gw_store_open(&s->store, path, s->d->cfg);
}

static int host_start(struct gw_shell *s)
{
	char path[PATH_MAX];
	int rc = daemon_state_path(s->d, "host.db", path, sizeof(path));

	return rc ? rc : gw_host_open(&s->host, path);
}

static int tunnels_tell(struct gw_shell *s)
{
	const char *names[GW_METHODS_MAX];
	int rc = gw_host_tunnels(s->host, names, gw_methods_interfaces(s->methods, false, names));

	return rc ? rc
		  : gw_host_borrowed(s->host, names,
				     gw_methods_interfaces(s->methods, true, names));
}

static int methods_start(struct gw_shell *s)
{
	const struct config *cfg = s->d->cfg;
	struct tunnel_env env = {
		.base = s->d->base,
		.journal = gw_host_journal(s->host),
		.app = s->app,
		.state_dir = s->d->state_dir,
		.cfg = cfg,
	};
	int rc = gw_methods_start(&s->methods, &env, s->engine, cfg->gateway_methods);

	return rc ? rc : tunnels_tell(s);
}

static void restore_one(const struct lease *l, void *ctx)
{
	struct gw_shell *s = ctx;

	gw_engine_restore(s->engine, l, steady_clock_s(&s->api.clock));
}

static int leases_restore(struct gw_shell *s)
{
	int rc = gw_store_load(s->store, restore_one, s);

	settle(s);
	if (!rc && gw_engine_lease_count(s->engine))
		log_info("%zu leases of the earlier run go on", gw_engine_lease_count(s->engine));
	return rc;
}

static struct rpc_http_spec http_spec(const struct config *cfg)
{
	return (struct rpc_http_spec){
		.networks = cfg->gateway_authorized_networks,
		.token = cfg->gateway_admin_token,
	};
}

static void on_metrics(const struct rpc_ctx *ctx, const char *path, const char *query,
		       struct rpc_page *page, void *arg)
{
	struct gw_shell *s = arg;
	struct metrics m;

	(void)ctx, (void)path, (void)query;
	page->type = METRICS_TYPE;
	metrics_begin(&m, page->body);
	gw_metrics_write(&m, s->engine);
	events_metrics(s->events, s->http, &m);
	metrics_process(&m, "gatewayd");
}

static int pages_start(struct gw_shell *s)
{
	int rc = events_new(&s->events, s->d->base, s->http);

	return rc ? rc : rpc_http_get(s->http, "/metrics", RPC_AUTHORISED, on_metrics, s);
}

static int rpc_start(struct gw_shell *s)
{
	struct rpc_http_spec spec = http_spec(s->d->cfg);
	int rc = rpc_server_new(&s->rpc);

	if (!rc)
		rc = gw_api_register(s->rpc, &s->api);
	if (rc)
		return rc;
	s->streams = gw_streams_new(s->rpc);
	if (!s->streams)
		return -ENOMEM;
	rc = rpc_http_new(&s->http, s->d->base, s->rpc, &spec);
	return rc ? rc : pages_start(s);
}

static int rpc_listen(struct gw_shell *s)
{
	const struct config *cfg = s->d->cfg;

	return rpc_http_listen(s->http, cfg->gateway_rpc_listen, (uint16_t)cfg->gateway_rpc_port);
}

/* The public key of this gateway. */
static int peers_start(struct gw_shell *s)
{
	int rc = keyfile_load(s->d->state_dir, s->d->name, &s->keys);

	if (rc)
		return rc;
	mesh_id_text(&s->keys.id, s->id);
	return gw_peers_new(&s->peers, s->d->base, s->d->cfg, s->id);
}

static void settings_apply(struct gw_shell *s);

static void on_set(void *arg)
{
	settings_apply(arg);
}

static int api_start(struct gw_shell *s)
{
	int rc = peers_start(s);

	if (rc)
		return rc;
	s->api = (struct gw_api){
		.engine = s->engine,
		.methods = s->methods,
		.host = s->host,
		.cfg = s->d->cfg,
		.peers = s->peers,
		.name = s->name,
		.id = s->id,
		.keys = &s->keys,
		.started_s = daemon_wall_s(),
		.store = s->store,
		.known = s->known,
		.hooks = s->hooks,
		.reload = on_set,
		.settle_soon = settle_soon,
		.settle_arg = s,
		.clock = steady_clock_begin(),
	};
	return rpc_start(s);
}

static void on_touched(void *arg)
{
	struct gw_shell *s = arg;

	gw_host_guard(s->host, true, s->d->cfg, s->engine);
}

static int helpers_start(struct gw_shell *s)
{
	s->known = gw_known_new(s->app, s->name);
	if (!s->known)
		return -ENOMEM;
	return hooks_new(&s->hooks, s->d->base, GW_HOOKS_RUNNING_MAX, GW_HOOKS_WAITING_MAX);
}

static int host_setup(struct gw_shell *s)
{
	gw_host_watch(s->host, s->d->base, on_touched, s);
	return gw_host_setup(s->host, s->d->cfg, s->engine);
}

int gw_shell_start(struct daemon *d)
{
	/* The table comes after the interfaces and before the leases that stand in it; nobody is
	 * answered before the leases are back. */
	static int (*const steps[])(struct gw_shell *) = {
		engine_start,	settle_start,  host_start,   mesh_open,
		helpers_start,	methods_start, host_setup,   api_start,
		leases_restore, rpc_listen,    uplink_start, tick_start,
	};
	struct gw_shell *s = calloc(1, sizeof(*s));
	int rc = 0;

	if (!s)
		return -ENOMEM;
	d->ctx = s;
	s->d = d;
	daemon_host_name(d->cfg->gateway_name, s->name, sizeof(s->name));
	if (sodium_init() < 0)
		return -EIO;
	for (size_t i = 0; !rc && i < sizeof(steps) / sizeof(steps[0]); i++)
		rc = steps[i](s);
	return rc;
}

/* ---- later ---- */

static void settings_apply(struct gw_shell *s)
{
	const struct config *cfg = s->d->cfg;
	struct gw_terms terms = terms_of(cfg);
	struct rpc_http_spec spec = http_spec(cfg);

	gw_engine_set_terms(s->engine, &terms);
	rpc_http_set_access(s->http, &spec);
	if (uplink_start(s))
		log_error("the old uplink targets stay in use");
	usage_read(s);
	gw_host_shape(s->host, cfg, s->engine);
	gw_host_settings(s->host, cfg, s->engine);
	gw_api_changed(&s->api);
	info_update(s);
}

void gw_shell_reload(struct daemon *d)
{
	struct gw_shell *s = d->ctx;

	if (gw_methods_list(s->methods, d->cfg->gateway_methods))
		tunnels_tell(s);
	gw_peers_reload(s->peers);
	settings_apply(s);
}

void gw_shell_free(struct daemon *d)
{
	struct gw_shell *s = d->ctx;

	if (!s)
		return;
	event_drop(s->tick);
	if (s->settle && s->host) {
		usage_read(s);
		settle(s);
	}
	uplink_free(s->uplink);
	if (s->http)
		rpc_http_free(s->http);
	events_free(s->events);
	s->events = NULL;
	gw_streams_free(s->streams);
	if (s->rpc)
		rpc_server_free(s->rpc);
	s->api.rpc = NULL;
	gw_peers_free(s->peers);
	gw_methods_stop(s->methods);
	meshapp_close(s->app);
	gw_known_free(s->known);
	gw_host_close(s->host);
	gw_api_clear(&s->api);
	hooks_free(s->hooks);
	event_drop(s->settle);
	gw_engine_free(s->engine);
	gw_store_close(s->store);
	keyfile_wipe(&s->keys);
	free(s);
	d->ctx = NULL;
}

uint64_t gw_shell_privileges(const struct config *cfg)
{
	uint64_t caps = PRIVILEGES_NETWORK;

	/* Its programs know one state directory only: each gets a mount namespace. */
	if (config_list_has(cfg->gateway_methods, "softether"))
		caps |= PRIVILEGE(CAP_SYS_ADMIN);
	return caps;
}

int gw_shell_cleanup(struct daemon *d)
{
	struct gw_shell s = {.d = d};
	int rc = host_start(&s);

	if (rc)
		return rc;
	return gw_host_close(s.host) ? -EIO : 0;
}
