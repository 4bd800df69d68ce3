#include "node/shell.h"

#include <errno.h>
#include <sched.h>
#include <malloc.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "core/seal.h"
#include "io/chan.h"
#include "io/keyfile.h"
#include "io/privileges.h"
#include "io/statushttp.h"
#include "io/sysctl.h"
#include "io/ticker.h"
#include "io/tun.h"
#include "node/delay.h"
#include "node/engine.h"
#include "node/hostaddr.h"
#include "node/keeper.h"
#include "node/metrics.h"
#include "node/udp.h"

#define TUN_ALONE_BYTES 2000u
#define TICK_SLACK_US 20000u
#define HEAP_KEPT_BYTES (16 << 20) /* of free heap */
#define LEAVE_US 150000		   /* for the last messages to be written */

struct node_shell {
	struct daemon *daemon;
	struct keypair keys;
	struct node_engine *engine;
	struct udp *udp;
	struct keeper *keeper;
	struct delay *delay; /* NULL unless delay is simulated */
	struct chan_client *manager;
	struct chan *manager_chan;
	struct chan_listener *apps;
	struct status_http *status; /* NULL unless configured */
	struct ticker *tick;
	struct event *flush, *leave;
	int offered_fd; /* came with the message that is being handled; -1 */
	/* What `tick` is armed for, and when that was last put off. */
	uint64_t tick_at_us, tick_moved_us;
};

/* --- time ------------------------------------------------------------------------------------ */

/* Later deadlines come with every packet: they move the timer only now and then, so that a busy
 * node wakes too early sometimes (never too late) and an idle one does not. */
static void arm(struct node_shell *s, uint64_t now)
{
	uint64_t next = node_engine_next_timeout(s->engine);

	if (next >= s->tick_at_us) {
		if (next - s->tick_at_us < TICK_SLACK_US || now - s->tick_moved_us < TICK_SLACK_US)
			return;
		s->tick_moved_us = now;
	}
	s->tick_at_us = next;
	ticker_set(s->tick, next > now ? next - now : 0);
}

static void flush_now(struct node_shell *s)
{
	uint64_t now = daemon_now_us();

	node_engine_flush(s->engine, now);
	keeper_look(s->keeper);
	arm(s, now);
}

static void on_tick(void *arg)
{
	struct node_shell *s = arg;
	uint64_t now = daemon_now_us();

	s->tick_at_us = UINT64_MAX;
	node_engine_tick(s->engine, now);
	keeper_look(s->keeper);
	arm(s, now);
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
	struct node_shell *s = arg;

	(void)fd;
	(void)what;
	flush_now(s);
}

/* One flush for all messages that a channel delivers in this turn of the loop. */
static void flush_soon(struct node_shell *s)
{
	event_active(s->flush, EV_TIMEOUT, 0);
}

/* --- engine ops ------------------------------------------------------------------------------ */

static int op_manager_send(void *ctx, const struct msg *m)
{
	struct node_shell *s = ctx;

	return s->manager_chan ? chan_send(s->manager_chan, m) : -ENOTCONN;
}

static void op_manager_close(void *ctx, const char *why)
{
	struct node_shell *s = ctx;
	struct chan *ch = s->manager_chan;

	s->manager_chan = NULL;
	if (ch)
		chan_close(ch, why);
}

static void op_quit(void *ctx, const char *why)
{
	struct node_shell *s = ctx;

	(void)why;
	node_shell_stop(s);
}

static int op_app_send(void *ctx, void *channel, const struct msg *m)
{
	(void)ctx;
	return chan_send(channel, m);
}

static size_t op_app_pending(void *ctx, void *channel)
{
	(void)ctx;
	return chan_output_pending(channel);
}

static int op_udp_open(void *ctx, uint32_t transport, uint16_t port, void **socket)
{
	struct node_shell *s = ctx;
	struct udp_socket *out;
	int bound = udp_open(s->udp, transport, port, &out);

	if (bound >= 0)
		*socket = out;
	return bound;
}

static void op_udp_close(void *ctx, void *socket)
{
	struct node_shell *s = ctx;

	if (s->delay)
		delay_forget(s->delay, socket);
	udp_close(socket);
}

static void op_udp_send(void *ctx, void *socket, const struct net_addr *to, struct pkt *const *v,
			size_t n)
{
	struct node_shell *s = ctx;

	if (s->delay)
		delay_send(s->delay, socket, to, v, n);
	else
		udp_send(socket, to, v, n);
}

static void op_random(void *ctx, void *out, size_t len)
{
	(void)ctx;
	randombytes_buf(out, len);
}

static void op_trim(void *ctx)
{
	struct node_shell *s = ctx;

	udp_trim(s->udp);
	malloc_trim(0);
}

/* --- TUN interfaces of apps ------------------------------------------------------------------ */

struct shell_tun {
	struct node_shell *shell;
	struct node_tun *engine_tun;
	struct tun *tun;
	bool within; /* a batch, and not at its first packet */
};

static void on_tun_packet(uint8_t *record, size_t len, void *arg)
{
	struct shell_tun *t = arg;
	bool waits = node_engine_tun_packet(t->shell->engine, t->engine_tun, record, len,
					    daemon_now_us());

	/* A small packet that comes first mostly comes alone: it goes before we look for another.
	 */
	if (!waits && !t->within && len < TUN_ALONE_BYTES)
		flush_now(t->shell);
	t->within = true;
}

static void on_tun_batch_end(void *arg)
{
	struct shell_tun *t = arg;

	t->within = false;
	node_engine_tun_batch_end(t->shell->engine, t->engine_tun, daemon_now_us());
	flush_now(t->shell);
}

static void on_tun_lost(int err, void *arg)
{
	struct shell_tun *t = arg;

	(void)err;
	node_engine_tun_lost(t->shell->engine, t->engine_tun);
}

static int op_tun_open(void *ctx, void *channel, bool vnet, struct node_tun *engine_tun,
		       void **handle)
{
	struct node_shell *s = ctx;
	struct shell_tun *t = s->offered_fd < 0 ? NULL : calloc(1, sizeof *t);
	int err;

	(void)channel;
	if (!t)
		return s->offered_fd < 0 ? -ENOENT : -ENOMEM;
	err = tun_adopt(&t->tun, s->daemon->base, s->offered_fd, vnet ? TUN_VNET : TUN_PLAIN);
	s->offered_fd = -1;
	if (err) {
		free(t);
		return err;
	}
	t->shell = s;
	t->engine_tun = engine_tun;
	tun_set_callbacks(t->tun, on_tun_packet, on_tun_lost, t);
	tun_set_batch_end(t->tun, on_tun_batch_end);
	*handle = t;
	return 0;
}

static void op_tun_close(void *ctx, void *handle)
{
	struct shell_tun *t = handle;

	(void)ctx;
	tun_free(t->tun);
	free(t);
}

static void op_tun_read(void *ctx, void *handle, bool on)
{
	struct shell_tun *t = handle;

	(void)ctx;
	(void)tun_set_reading(t->tun, on);
}

static int op_tun_write(void *ctx, void *handle, bool vnet, const uint8_t *record, size_t len)
{
	struct shell_tun *t = handle;

	(void)ctx;
	return vnet ? tun_write(t->tun, record, len) : tun_write_plain(t->tun, record, len);
}

static const struct node_engine_ops engine_ops = {
	.manager_send = op_manager_send,
	.manager_close = op_manager_close,
	.quit = op_quit,
	.app_send = op_app_send,
	.app_pending = op_app_pending,
	.udp_open = op_udp_open,
	.udp_close = op_udp_close,
	.udp_send = op_udp_send,
	.random = op_random,
	.trim = op_trim,
	.tun_open = op_tun_open,
	.tun_close = op_tun_close,
	.tun_read = op_tun_read,
	.tun_write = op_tun_write,
};

/* --- UDP ------------------------------------------------------------------------------------- */

static void on_udp_input(void *ctx, uint32_t transport, struct block *b, const struct udp_slice *v,
			 size_t n, const struct net_addr *from)
{
	struct node_shell *s = ctx;

	node_engine_udp_input(s->engine, transport, b, v, n, from, daemon_now_us());
}

static void on_udp_batch_end(void *ctx)
{
	flush_now(ctx);
}

/* --- the manager ----------------------------------------------------------------------------- */

static void tell_addrs(struct node_shell *s)
{
	const struct config *cfg = s->daemon->cfg;
	struct net_addr addrs[ADDRS_MAX];
	size_t n = cfg->node_advertise[0]
			   ? hostaddr_parse(addrs, ADDRS_MAX, cfg->node_advertise)
			   : hostaddr_list(addrs, ADDRS_MAX, cfg->node_exclude_interfaces);

	node_engine_set_addrs(s->engine, addrs, n);
}

static void on_manager_up(struct chan *ch, const struct mesh_id *peer)
{
	struct node_shell *s = chan_owner(ch);

	keeper_manager(s->keeper, peer);
	s->manager_chan = ch;
	tell_addrs(s);
	node_engine_manager_up(s->engine, daemon_now_us());
	flush_soon(s);
}

static void on_manager_msg(struct chan *ch, const struct msg *m)
{
	struct node_shell *s = chan_owner(ch);

	node_engine_manager_message(s->engine, m, daemon_now_us());
	if (s->manager_chan == ch && !chan_is_ready(ch) && node_engine_registered(s->engine))
		chan_ready(ch);
	flush_soon(s);
}

static void on_manager_down(struct chan *ch, uint16_t code, const char *reason)
{
	struct node_shell *s = chan_owner(ch);

	(void)code;
	log_info("channel to the manager is closed: %s", reason);
	s->manager_chan = NULL;
	node_engine_manager_down(s->engine, daemon_now_us());
	flush_soon(s);
}

static bool manager_pin(void *arg, const struct mesh_id *peer)
{
	struct node_shell *s = arg;

	return keyfile_trust(s->daemon->state_dir, "node-manager", s->daemon->cfg->node_manager_key,
			     peer) == 0;
}

/* --- apps ------------------------------------------------------------------------------------ */

static void on_app_up(struct chan *ch, const struct mesh_id *peer)
{
	struct node_shell *s = chan_owner(ch);
	struct node_app *app = node_engine_app_up(s->engine, ch, daemon_now_us());

	(void)peer;
	chan_set_arg(ch, app);
	if (!app)
		chan_close(ch, "too many apps");
}

static void on_app_msg(struct chan *ch, const struct msg *m)
{
	struct node_shell *s = chan_owner(ch);
	struct node_app *app = chan_arg(ch);
	uint64_t now = daemon_now_us();

	s->offered_fd = m->type == MSG_AttachTun ? chan_take_fd(ch) : -1;
	if (node_engine_app_message(s->engine, app, m, now)) {
		chan_finish(ch, "protocol");
		node_engine_app_down(s->engine, app, now);
	} else if (!chan_is_ready(ch) && node_engine_app_registered(app)) {
		chan_ready(ch);
	}
	if (s->offered_fd >= 0)
		close(s->offered_fd);
	flush_soon(s);
}

static void on_app_down(struct chan *ch, uint16_t code, const char *reason)
{
	struct node_shell *s = chan_owner(ch);

	(void)code;
	(void)reason;
	node_engine_app_down(s->engine, chan_arg(ch), daemon_now_us());
	flush_soon(s);
}

static void on_app_drain(struct chan *ch)
{
	struct node_shell *s = chan_owner(ch);

	node_engine_app_drained(s->engine, chan_arg(ch), daemon_now_us());
	flush_soon(s);
}

/* --- life ------------------------------------------------------------------------------------ */

int node_check(const struct config *cfg, config_report *report, void *report_ctx)
{
	if (!cfg->node_app_talk_addr[0] && !cfg->node_app_talk_unix[0])
		report(report_ctx, "node: AppTalkAddr and AppTalkUnix are both empty: no app could "
				   "use this node");
	return cfg->node_app_talk_addr[0] || cfg->node_app_talk_unix[0] ? 0 : -EINVAL;
}

/* Unknown (another network namespace than the first may not see it): not enough. */
static bool limit_allows(const char *key, uint64_t bytes)
{
	char value[SYSCTL_VALUE_MAX];

	return sysctl_read(key, value, sizeof value) == 0 && strtoull(value, NULL, 10) >= bytes;
}

uint64_t node_privileges(const struct config *cfg)
{
	uint64_t buffer = cfg->transport_socket_buffer, admin = PRIVILEGE(CAP_NET_ADMIN);

	if ((privileges_have() & admin) && (!limit_allows("net.core.rmem_max", buffer) ||
					    !limit_allows("net.core.wmem_max", buffer)))
		return admin;
	if (!cfg->node_firewall_mark)
		return 0;
	return privileges_raw_marks() ? PRIVILEGE(CAP_NET_RAW) : admin;
}

/* A host may well be called 12345678, a node may not: it would be taken for an id. */
static void node_name(const char *configured, char out[NAME_MAX_BYTES + 1])
{
	static const char prefix[] = "host-";
	size_t room = NAME_MAX_BYTES - (sizeof prefix - 1), len;
	daemon_host_name(configured, out, NAME_MAX_BYTES + 1);
	if (*configured || !mesh_id_like(out))
		return;
	len = strnlen(out, room);
	memmove(out + sizeof prefix - 1, out, len);
	memcpy(out, prefix, sizeof prefix - 1);
	out[sizeof prefix - 1 + len] = '\0';
}

static void engine_config(const struct node_shell *s, struct node_engine_config *c)
{
	const struct config *cfg = s->daemon->cfg;

	node_engine_config_init(c);
	c->id = s->keys.id;
	memcpy(c->secret, s->keys.secret, sizeof c->secret);
	node_name(cfg->node_name, c->name);
	snprintf(c->token, sizeof c->token, "%s", cfg->node_token);
	c->connect = cfg->node_connect;
	c->max_apps = (size_t)cfg->node_max_apps;
	c->max_transports = (size_t)cfg->node_max_transports;
	c->max_routes = (size_t)cfg->node_max_routes;
	c->max_connections = c->max_connections_per_app = (size_t)cfg->node_max_connections;
	c->liveness_us = cfg->transport_liveness_timeout * 1000;
	c->rekey_us = cfg->transport_rekey_interval * 1000000;
	c->codel_target_us = cfg->congestion_codel_target;
	c->codel_interval_us = cfg->congestion_codel_interval;
	c->congestion =
		strcmp(cfg->congestion_algorithm, "cubic") == 0 ? CONGESTION_CUBIC : CONGESTION_BBR;
	if (strcmp(cfg->connection_cipher, "auto") != 0)
		c->ciphers = SEAL_CHACHA20_POLY1305;
	c->connection_buffer_bytes = (size_t)cfg->connection_max_buffer;
	c->message_max_bytes = (size_t)cfg->connection_max_message;
	c->stats_interval_us = cfg->transport_stats_interval * 1000;
}

static int open_engine(struct node_shell *s)
{
	struct node_engine_config c;
	char id[MESH_ID_TEXT];
	int err = keyfile_load(s->daemon->state_dir, "node", &s->keys);

	if (err)
		return err;
	engine_config(s, &c);
	s->engine = node_engine_new(&c, &engine_ops, s, daemon_now_us());
	log_info("node %s is %s", c.name, mesh_id_text(&s->keys.id, id));
	sodium_memzero(&c, sizeof c);
	return s->engine ? 0 : -ENOMEM;
}

static int open_events(struct node_shell *s)
{
	struct event_base *base = s->daemon->base;

	s->tick_at_us = UINT64_MAX;
	s->flush = event_new(base, -1, 0, on_flush, s);
	return s->flush ? ticker_new(&s->tick, base, on_tick, s) : -ENOMEM;
}

static int open_delay(struct node_shell *s)
{
	const struct config *cfg = s->daemon->cfg;
	struct delay_config c = {
		.min_us = cfg->transport_simulate_delay * 1000,
		.max_us = cfg->transport_max_simulated_delay * 1000,
		.loss_ppm = (uint32_t)cfg->transport_simulate_loss,
	};

	if (!c.min_us && !c.max_us && !c.loss_ppm)
		return 0;
	log_warn("outgoing packets are delayed or lost on purpose (Simulate... in [transport])");
	s->delay = delay_new(s->daemon->base, &c);
	return s->delay ? 0 : -ENOMEM;
}

static int open_udp(struct node_shell *s)
{
	const struct config *cfg = s->daemon->cfg;
	struct udp_config c = {
		.base = s->daemon->base,
		.buffer_bytes = (int)cfg->transport_socket_buffer,
		.mark = (uint32_t)cfg->node_firewall_mark,
		.input = on_udp_input,
		.batch_end = on_udp_batch_end,
		.ctx = s,
	};

	if (net_addr_parse(&c.bind, cfg->node_bind_addr, 0))
		return -EINVAL;
	s->udp = udp_new(&c);
	return s->udp ? open_delay(s) : -ENOMEM;
}

static void channel_key(const struct node_shell *s, struct noise_keypair *key)
{
	memcpy(key->secret, s->keys.secret, sizeof key->secret);
	memcpy(key->public, s->keys.id.b, sizeof key->public);
}

static int open_apps(struct node_shell *s)
{
	const struct config *cfg = s->daemon->cfg;
	struct noise_keypair key;
	struct chan_options opt = {
		.name = "app",
		.key = &key,
		.plain_local = true,
		.peer_role = FROM_APP,
		.max_body_bytes = FRAME_MAX_BYTES,
		.cb = {on_app_up, on_app_msg, on_app_down, on_app_drain},
		.arg = s,
		.max_channels = (unsigned)cfg->node_max_apps,
		.take_fds = true,
		.local_twin = true,
	};
	char where[512];
	int n = snprintf(where, sizeof where, "%s%s%s%s", cfg->node_app_talk_addr,
			 cfg->node_app_talk_addr[0] && cfg->node_app_talk_unix[0] ? "," : "",
			 cfg->node_app_talk_unix[0] ? "unix:" : "", cfg->node_app_talk_unix);

	if (n < 0 || (size_t)n >= sizeof where)
		return -ENAMETOOLONG;
	channel_key(s, &key);
	int err = chan_listen(&s->apps, s->daemon->base, where, &opt);
	sodium_memzero(&key, sizeof key);
	return err;
}

/* The apps' address is bound before: a second process by mistake takes up nothing. */
static int open_keeper(struct node_shell *s)
{
	s->keeper = keeper_new(s->daemon, &s->keys, s->engine);
	if (!s->keeper)
		return -ENOMEM;
	keeper_restore(s->keeper, daemon_now_us());
	return 0;
}

static void write_metrics(struct metrics *m, void *arg)
{
	const struct node_shell *s = arg;

	node_metrics_write(m, s->engine);
	chan_listener_metrics(s->apps, m);
	metrics_process(m, "node");
}

static int open_status(struct node_shell *s)
{
	uint64_t port = s->daemon->cfg->node_status_port;

	return port ? status_http_new(&s->status, s->daemon->base, (uint16_t)port, write_metrics, s)
		    : 0;
}

static int open_manager(struct node_shell *s)
{
	const struct config *cfg = s->daemon->cfg;
	struct noise_keypair key;
	struct chan_options opt = {
		.name = "manager",
		.key = &key,
		.peer_role = FROM_MANAGER,
		.cb = {on_manager_up, on_manager_msg, on_manager_down, NULL},
		.arg = s,
		.pin = manager_pin,
		.mark = (uint32_t)cfg->node_firewall_mark,
	};

	channel_key(s, &key);
	int err = chan_client_new(&s->manager, s->daemon->base, cfg->node_manager_addr, &opt);
	sodium_memzero(&key, sizeof key);
	return err;
}

/*
 * Whom a packet wakes up on this host (an app, another node) would preempt us in the middle of
 * sending, and what is left of us then sends the next to sleep on another CPU, whose waking up
 * takes longer than all the work: a round trip of several processes is half as long without.  Only
 * a wish.
 */
static void take_policy(const struct config *cfg)
{
	const struct sched_param none = {0};

	if (strcmp(cfg->node_scheduling, "batch") == 0 && sched_setscheduler(0, SCHED_BATCH, &none))
		log_debug("no batch scheduling: %s", strerror(errno));
}

/* A stream's bytes come and go by the megabyte: pages that go back to the kernel each time come
 * back one fault each.  What is left over after a burst goes when it is quiet (op_trim). */
static void keep_heap(void)
{
	(void)mallopt(M_TRIM_THRESHOLD, HEAP_KEPT_BYTES);
	(void)mallopt(M_MMAP_THRESHOLD, HEAP_KEPT_BYTES);
}

int node_shell_new(struct daemon *d, struct node_shell **out)
{
	struct node_shell *s = calloc(1, sizeof *s);
	int err;

	*out = NULL;
	if (!s)
		return -ENOMEM;
	s->daemon = d;
	take_policy(d->cfg);
	keep_heap();
	daemon_want_files((size_t)(d->cfg->node_max_transports + d->cfg->node_max_apps));
	if ((err = open_engine(s)) || (err = open_events(s)) || (err = open_udp(s)) ||
	    (err = open_apps(s)) || (err = open_keeper(s)) || (err = open_manager(s)) ||
	    (err = open_status(s))) {
		log_error("node cannot start: %s", strerror(-err));
		node_shell_free(s);
		return err;
	}
	arm(s, daemon_now_us());
	*out = s;
	return 0;
}

void node_shell_free(struct node_shell *s)
{
	if (!s)
		return;
	status_http_free(s->status);
	chan_client_free(s->manager);
	s->manager_chan = NULL;
	chan_listener_free(s->apps);
	keeper_free(s->keeper);
	node_engine_free(s->engine);
	delay_free(s->delay);
	udp_free(s->udp);
	ticker_free(s->tick);
	if (s->flush)
		event_free(s->flush);
	if (s->leave)
		event_free(s->leave);
	keyfile_wipe(&s->keys);
	free(s);
}

static void on_leave(evutil_socket_t fd, short what, void *arg)
{
	struct node_shell *s = arg;

	(void)fd;
	(void)what;
	daemon_exit(s->daemon, 0);
}

void node_shell_stop(struct node_shell *s)
{
	struct timeval tv = {.tv_usec = LEAVE_US};

	if (s->leave)
		return;
	node_engine_shutdown(s->engine, daemon_now_us());
	s->leave = event_new(s->daemon->base, -1, 0, on_leave, s);
	if (!s->leave || event_add(s->leave, &tv))
		daemon_exit(s->daemon, 0);
}
