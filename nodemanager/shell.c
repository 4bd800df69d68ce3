#include "nodemanager/shell.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/map.h"
#include "base/timerq.h"
#include "io/chan.h"
#include "io/events.h"
#include "io/keyfile.h"
#include "io/metrics.h"
#include "io/rpctoken.h"
#include "io/timer.h"
#include "nodemanager/api.h"
#include "nodemanager/metrics.h"
#include "nodemanager/store.h"

#define UNAUTHENTICATED_MAX 256u

struct shell {
	struct daemon *daemon;
	struct keypair keys;
	struct nm *engine;
	struct nm_store *store;
	struct nm_spawner *spawner;
	struct chan_listener *nodes;
	struct chan_client *tracker;
	struct rpc_server *rpc;
	struct rpc_http *http;
	struct events *events;
	char token[RPC_TOKEN_MAX];
	struct nm_api api;
	struct event *timer, *flush;
	struct map channels; /* number -> chan */
	uint64_t next_channel;
};

/* --- the engine's timer ----------------------------------------------------------------------- */

static void timer_arm(void *ctx)
{
	struct shell *s = ctx;
	uint64_t at = nm_next_timeout(s->engine), now = daemon_now_us();
	if (at == TIMER_NEVER) {
		evtimer_del(s->timer);
		return;
	}
	uint64_t in = at > now ? at - now : 0;
	timer_in(s->timer, in);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct shell *s = arg;
	(void)fd, (void)what;
	nm_tick(s->engine, daemon_now_us());
	timer_arm(s);
}

/* --- what is decided is durable before anybody hears of it --------------------------------------
 *
 * The writes of one turn of the loop are one transaction.  It ends before the first byte is written
 * to a node or to the tracker, and at the latest after the events that are active now; answers of
 * RPC go out in a later turn.
 */

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	nm_store_flush(((struct shell *)arg)->store);
}

static void store_pending(void *arg)
{
	event_active(((struct shell *)arg)->flush, EV_TIMEOUT, 0);
}

static void before_write(void *arg)
{
	nm_store_flush(((struct shell *)arg)->store);
}

/* --- effects ---------------------------------------------------------------------------------- */

static int op_node_send(void *ctx, uint64_t channel, const struct msg *m)
{
	struct shell *s = ctx;
	struct chan *ch = map_get(&s->channels, &channel);
	if (!ch)
		return -ENOTCONN;
	if (m->type == MSG_RegisterNodeAck && m->register_node_ack.code == CODE_OK)
		chan_ready(ch);
	return chan_send(ch, m);
}

static void op_node_close(void *ctx, uint64_t channel, const char *reason)
{
	struct shell *s = ctx;
	struct chan *ch = map_del(&s->channels, &channel);
	if (ch)
		chan_finish(ch, reason);
}

static int op_tracker_send(void *ctx, const struct msg *m)
{
	struct shell *s = ctx;
	struct chan *ch = chan_client_chan(s->tracker);
	return ch ? chan_send(ch, m) : -ENOTCONN;
}

static void op_random(void *ctx, void *out, size_t len)
{
	(void)ctx;
	randombytes_buf(out, len);
}

static void op_node_save(void *ctx, const struct nm_node_record *node)
{
	nm_store_node_put(((struct shell *)ctx)->store, node, daemon_wall_s());
}

static void op_node_remove(void *ctx, const struct mesh_id *id)
{
	nm_store_node_del(((struct shell *)ctx)->store, id);
}

static void op_link_save(void *ctx, const struct mesh_id *a, const struct mesh_id *b)
{
	nm_store_link_put(((struct shell *)ctx)->store, a, b);
}

static void op_link_remove(void *ctx, const struct mesh_id *a, const struct mesh_id *b)
{
	nm_store_link_del(((struct shell *)ctx)->store, a, b);
}

static void op_link_transport(void *ctx, const struct mesh_id *a, const struct mesh_id *b,
			      uint32_t transport)
{
	nm_store_link_transport(((struct shell *)ctx)->store, a, b, transport);
}

static void op_link_options(void *ctx, const struct mesh_id *a, const struct mesh_id *b,
			    const struct nm_link_options *options)
{
	nm_store_link_options(((struct shell *)ctx)->store, a, b, options);
}

static void op_route_save(void *ctx, const struct nm_route_record *route)
{
	nm_store_route_put(((struct shell *)ctx)->store, route);
}

static void op_route_remove(void *ctx, uint64_t number)
{
	nm_store_route_del(((struct shell *)ctx)->store, number);
}

static void op_counter_save(void *ctx, enum nm_counter which, uint32_t value)
{
	nm_store_counter_put(((struct shell *)ctx)->store, which, value);
}

static void op_event(void *ctx, const struct nm_event *event)
{
	struct shell *s = ctx;

	/* NULL until the RPC is open, and again when it is closed. */
	if (s->events)
		events_emit(s->events, nm_event_name(event->kind), nm_api_event_json(event));
}

static uint64_t op_wall_s(void *ctx)
{
	(void)ctx;
	return daemon_wall_s();
}

static int op_node_admit(void *ctx, const struct nm_node_record *node,
			 const struct nm_invite_record *used)
{
	return nm_store_node_admit(((struct shell *)ctx)->store, node, used, daemon_wall_s());
}

static int op_invite_save(void *ctx, const struct nm_invite_record *invite)
{
	return nm_store_invite_put(((struct shell *)ctx)->store, invite);
}

static int op_invite_remove(void *ctx, uint64_t number)
{
	return nm_store_invite_del(((struct shell *)ctx)->store, number);
}

static int op_revoked_save(void *ctx, const struct nm_revoked_record *revoked)
{
	return nm_store_revoked_put(((struct shell *)ctx)->store, revoked);
}

static int op_revoked_remove(void *ctx, const struct mesh_id *id)
{
	return nm_store_revoked_del(((struct shell *)ctx)->store, id);
}

static int op_allowed_save(void *ctx, const struct mesh_id *id)
{
	return nm_store_allowed_put(((struct shell *)ctx)->store, id);
}

static int op_allowed_remove(void *ctx, const struct mesh_id *id)
{
	return nm_store_allowed_del(((struct shell *)ctx)->store, id);
}

static const struct nm_ops ops = {
	.node_send = op_node_send,
	.node_close = op_node_close,
	.tracker_send = op_tracker_send,
	.random = op_random,
	.node_save = op_node_save,
	.node_remove = op_node_remove,
	.link_save = op_link_save,
	.link_remove = op_link_remove,
	.link_transport = op_link_transport,
	.link_options = op_link_options,
	.route_save = op_route_save,
	.route_remove = op_route_remove,
	.counter_save = op_counter_save,
	.event = op_event,
	.wall_s = op_wall_s,
	.node_admit = op_node_admit,
	.invite_save = op_invite_save,
	.invite_remove = op_invite_remove,
	.revoked_save = op_revoked_save,
	.revoked_remove = op_revoked_remove,
	.allowed_save = op_allowed_save,
	.allowed_remove = op_allowed_remove,
};

/* --- channels of nodes ------------------------------------------------------------------------ */

/* A channel's number is kept as its argument: a pointer may be used again, a number never is. */
static uint64_t number_of(const struct chan *ch)
{
	return (uint64_t)(uintptr_t)chan_arg(ch);
}

static void on_node_up(struct chan *ch, const struct mesh_id *peer)
{
	struct shell *s = chan_owner(ch);
	uint64_t number = ++s->next_channel;
	chan_set_arg(ch, (void *)(uintptr_t)number);
	if (map_put(&s->channels, &number, ch)) {
		chan_close(ch, "too many channels");
		return;
	}
	int err = nm_node_up(s->engine, peer, chan_remote(ch), number, daemon_now_us());
	if (err)
		map_del(&s->channels, &number);
	if (err == -EACCES)
		chan_finish(ch, "its key is revoked");
	else if (err)
		chan_close(ch, "too many nodes");
	timer_arm(s);
}

static void on_node_msg(struct chan *ch, const struct msg *m)
{
	struct shell *s = chan_owner(ch);
	nm_node_msg(s->engine, number_of(ch), m, daemon_now_us());
	timer_arm(s);
}

static void on_node_down(struct chan *ch, uint16_t code, const char *reason)
{
	struct shell *s = chan_owner(ch);
	uint64_t number = number_of(ch);
	(void)code;
	log_debug("%s: %s", chan_text(ch), reason);
	map_del(&s->channels, &number);
	nm_node_down(s->engine, number, daemon_now_us());
	timer_arm(s);
}

/* --- the apptracker --------------------------------------------------------------------------- */

static bool tracker_pin(void *arg, const struct mesh_id *peer)
{
	struct shell *s = arg;
	return keyfile_trust(s->daemon->state_dir, "nodemanager-tracker",
			     s->daemon->cfg->apptracker_public_key, peer) == 0;
}

static void on_tracker_up(struct chan *ch, const struct mesh_id *peer)
{
	struct shell *s = chan_owner(ch);
	(void)peer;
	nm_tracker_up(s->engine, daemon_now_us());
	timer_arm(s);
}

static void on_tracker_msg(struct chan *ch, const struct msg *m)
{
	struct shell *s = chan_owner(ch);
	if (m->type == MSG_AppRegistrationResponse && !chan_is_ready(ch))
		chan_ready(ch);
	nm_tracker_msg(s->engine, m, daemon_now_us());
	timer_arm(s);
}

static void on_tracker_down(struct chan *ch, uint16_t code, const char *reason)
{
	struct shell *s = chan_owner(ch);
	(void)code, (void)reason;
	nm_tracker_down(s->engine, daemon_now_us());
	timer_arm(s);
}

/* --- start ------------------------------------------------------------------------------------ */

static enum nm_admission_mode admission_mode(const char *text)
{
	if (strcmp(text, "token") == 0)
		return NM_ADMISSION_TOKEN;
	return strcmp(text, "allowlist") == 0 ? NM_ADMISSION_ALLOWLIST : NM_ADMISSION_OPEN;
}

static uint8_t role_of(const char *text)
{
	if (strcmp(text, "member") == 0)
		return ROLE_MEMBER;
	return strcmp(text, "relay") == 0 ? ROLE_RELAY : ROLE_GATEWAY;
}

static void engine_config(const struct config *cfg, struct nm_config *c)
{
	nm_config_default(c);
	c->start_port = (uint16_t)cfg->msgsrv_start_port;
	c->max_buffer = (uint32_t)cfg->msgsrv_max_buffer;
	c->max_packet_size = (uint16_t)cfg->msgsrv_max_packet_size;
	c->time_unit_us = (uint32_t)cfg->msgsrv_time_unit;
	c->send_interval_us = (uint32_t)cfg->msgsrv_send_interval;
	c->connection_timeout_us = (uint32_t)cfg->msgsrv_connection_timeout;
	c->retransmit_limit = (uint16_t)cfg->msgsrv_retransmit_limit;
	c->nodes_max = (size_t)cfg->nodemanager_max_nodes;
	c->transports_per_node_max = (size_t)cfg->nodemanager_max_transports_per_node;
	c->standby_paths = (size_t)cfg->nodemanager_standby_paths; /* 3 at most */
	_Static_assert(STANDBY_ROUTES_MAX == 3, "config_keys.def says so too");
	c->degree = (size_t)cfg->nodemanager_degree;
	c->link_retry_min_us = cfg->nodemanager_relink_seconds * 1000000;
	if (c->link_retry_max_us < c->link_retry_min_us)
		c->link_retry_max_us = c->link_retry_min_us;
	c->admission = admission_mode(cfg->nodemanager_admission);
	c->tokens = cfg->nodemanager_tokens;
	c->allowed = cfg->nodemanager_allow;
	c->default_role = role_of(cfg->nodemanager_default_role);
}

static int open_engine(struct shell *s)
{
	struct nm_config c;
	char path[PATH_MAX];
	uint64_t seed;
	engine_config(s->daemon->cfg, &c);
	randombytes_buf(&seed, sizeof seed);
	map_init(&s->channels, sizeof(uint64_t), 2 * c.nodes_max + UNAUTHENTICATED_MAX, seed);
	s->engine = nm_new(&c, &ops, s);
	s->timer = timer_new(s->daemon->base, on_timer, s);
	s->flush = timer_new(s->daemon->base, on_flush, s);
	if (!s->engine || !s->timer || !s->flush)
		return -ENOMEM;
	int err = daemon_state_path(s->daemon, "db", path, sizeof path);
	if (!err)
		err = nm_store_open(&s->store, path, s->daemon->cfg);
	if (!err)
		err = nm_store_load(s->store, s->engine);
	if (err)
		return err;
	nm_store_gather(s->store, store_pending, s);
	nm_recover(s->engine, daemon_now_us());
	return 0;
}

static int open_channels(struct shell *s, const struct noise_keypair *key)
{
	const struct config *cfg = s->daemon->cfg;
	struct chan_options nodes = {
		.name = "node",
		.key = key,
		.peer_role = FROM_NODE,
		.cb = {.on_up = on_node_up, .on_msg = on_node_msg, .on_down = on_node_down},
		.arg = s,
		.before_write = before_write,
		.max_channels = (unsigned)cfg->nodemanager_max_nodes + UNAUTHENTICATED_MAX,
		.max_unauthenticated = UNAUTHENTICATED_MAX,
	};
	struct chan_options tracker = {
		.name = "apptracker",
		.key = key,
		.peer_role = FROM_TRACKER,
		.cb = {.on_up = on_tracker_up,
		       .on_msg = on_tracker_msg,
		       .on_down = on_tracker_down},
		.arg = s,
		.before_write = before_write,
		.pin = tracker_pin,
	};
	int err = chan_listen(&s->nodes, s->daemon->base, cfg->nodemanager_listen_addr, &nodes);
	return err ? err
		   : chan_client_new(&s->tracker, s->daemon->base, cfg->apptracker_addr, &tracker);
}

static int open_keys(struct shell *s)
{
	char id[MESH_ID_TEXT];
	struct noise_keypair key;
	int err = keyfile_load(s->daemon->state_dir, s->daemon->name, &s->keys);
	if (err)
		return err;
	noise_keypair_from_secret(&key, s->keys.secret);
	log_info("this nodemanager's key is %s", mesh_id_text(&s->keys.id, id));
	err = open_channels(s, &key);
	sodium_memzero(&key, sizeof key);
	return err;
}

static void on_metrics(const struct rpc_ctx *ctx, const char *path, const char *query,
		       struct rpc_page *page, void *arg)
{
	struct shell *s = arg;
	struct metrics m;

	(void)ctx, (void)path, (void)query;
	page->type = METRICS_TYPE;
	metrics_begin(&m, page->body);
	nm_metrics_write(&m, s->engine);
	chan_listener_metrics(s->nodes, &m);
	events_metrics(s->events, s->http, &m);
	metrics_process(&m, "nodemanager");
}

/* Loopback needs nothing; from elsewhere the token is needed, and there is always one then. */
static int rpc_spec(struct shell *s, struct rpc_http_spec *spec)
{
	const struct config *cfg = s->daemon->cfg;
	int err = rpc_token_get(s->daemon, cfg->nodemanager_rpc_token, cfg->nodemanager_rpc_addr,
				s->token);

	*spec = (struct rpc_http_spec){.networks = "127.0.0.0/8,::1", .token = s->token};
	return err;
}

static int open_pages(struct shell *s)
{
	int err = events_new(&s->events, s->daemon->base, s->http);

	return err ? err : rpc_http_get(s->http, "/metrics", RPC_AUTHORISED, on_metrics, s);
}

static int open_rpc(struct shell *s)
{
	const struct config *cfg = s->daemon->cfg;
	struct rpc_http_spec spec;
	s->spawner = nm_spawner_new(s->daemon, &s->keys.id, chan_listener_port(s->nodes));
	if (!s->spawner)
		return -ENOMEM;
	s->api = (struct nm_api){.nm = s->engine,
				 .id = s->keys.id,
				 .spawner = s->spawner,
				 .base = s->daemon->base,
				 .touched = timer_arm,
				 .ctx = s};
	int err = rpc_spec(s, &spec);
	if (!err)
		err = rpc_server_new(&s->rpc);
	if (!err)
		err = nm_api_register(s->rpc, &s->api);
	if (!err)
		err = rpc_http_new(&s->http, s->daemon->base, s->rpc, &spec);
	if (!err)
		err = open_pages(s);
	return err ? err
		   : rpc_http_listen(s->http, cfg->nodemanager_rpc_addr,
				     (uint16_t)cfg->nodemanager_rpc_port);
}

int nm_shell_start(struct daemon *d)
{
	struct shell *s = calloc(1, sizeof *s);
	if (!s)
		return -ENOMEM;
	d->ctx = s;
	s->daemon = d;
	daemon_want_files((size_t)d->cfg->nodemanager_max_nodes + UNAUTHENTICATED_MAX);
	int err = open_engine(s);
	if (!err)
		err = open_keys(s);
	if (!err)
		err = open_rpc(s);
	if (err)
		return err;
	log_info("nodes register at %s, RPC at %s port %u; without the apptracker at %s app lists "
		 "do not work",
		 d->cfg->nodemanager_listen_addr, d->cfg->nodemanager_rpc_addr,
		 rpc_http_port(s->http), d->cfg->apptracker_addr);
	timer_arm(s);
	return 0;
}

/* --- end -------------------------------------------------------------------------------------- */

static void spawned_ended(void *arg)
{
	daemon_exit(arg, 0);
}

void nm_shell_stop(struct daemon *d)
{
	struct shell *s = d->ctx;
	daemon_hold(d);
	nm_spawner_stop(s->spawner, spawned_ended, d);
}

void nm_shell_reload(struct daemon *d)
{
	struct shell *s = d->ctx;
	struct nm_config c;
	engine_config(d->cfg, &c);
	nm_set_config(s->engine, &c);
	struct rpc_http_spec spec;
	if (rpc_spec(s, &spec) == 0)
		rpc_http_set_access(s->http, &spec);
	timer_arm(s);
}

/* The engine first: it answers the calls that still wait. */
void nm_shell_free(struct daemon *d)
{
	struct shell *s = d->ctx;
	if (!s)
		return;
	nm_api_end(&s->api);
	nm_free(s->engine);
	rpc_http_free(s->http);
	rpc_server_free(s->rpc);
	events_free(s->events);
	chan_client_free(s->tracker);
	chan_listener_free(s->nodes);
	nm_spawner_free(s->spawner);
	nm_store_close(s->store);
	event_drop(s->timer);
	event_drop(s->flush);
	map_free(&s->channels);
	keyfile_wipe(&s->keys);
	sodium_memzero(s->token, sizeof s->token);
	free(s);
	d->ctx = NULL;
}
