#include "apptracker/shell.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "apptracker/engine.h"
#include "apptracker/metrics.h"
#include "apptracker/store.h"
#include "base/log.h"
#include "base/map.h"
#include "base/timerq.h"
#include "io/chan.h"
#include "io/keyfile.h"
#include "io/statushttp.h"
#include "io/timer.h"

#define FLUSH_US 200000u

struct shell {
	struct daemon *daemon;
	struct tracker *engine;
	struct tracker_store *store;
	struct chan_listener *listener;
	struct status_http *status; /* NULL unless configured */
	struct event *timer, *flush;
	struct map channels; /* number -> chan */
	uint64_t next_channel;
};

/* --- the engine's timer ----------------------------------------------------------------------- */

static void timer_arm(struct shell *s)
{
	uint64_t at = tracker_next_timeout(s->engine), now = daemon_now_us();
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
	tracker_tick(s->engine, daemon_now_us());
	timer_arm(s);
}

/* --- effects ---------------------------------------------------------------------------------- */

static int op_send(void *ctx, uint64_t channel, const struct msg *m)
{
	struct shell *s = ctx;
	struct chan *ch = map_get(&s->channels, &channel);
	if (!ch)
		return -ENOTCONN;
	if (m->type == MSG_AppRegistrationResponse && !chan_is_ready(ch))
		chan_ready(ch);
	return chan_send(ch, m);
}

static void op_close(void *ctx, uint64_t channel, const char *reason)
{
	struct shell *s = ctx;
	struct chan *ch = map_del(&s->channels, &channel);
	if (ch)
		chan_finish(ch, reason);
}

static void flush_soon(struct shell *s, bool wanted)
{
	struct timeval tv = {0, FLUSH_US};
	if (wanted)
		evtimer_add(s->flush, &tv);
}

static void op_saved(void *ctx, const struct tracker_entry *entry)
{
	struct shell *s = ctx;
	flush_soon(s, tracker_store_put(s->store, entry));
}

static void op_removed(void *ctx, const struct mesh_id *node, const char *app)
{
	struct shell *s = ctx;
	flush_soon(s, tracker_store_del(s->store, node, app));
}

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
	struct shell *s = arg;
	(void)fd, (void)what;
	tracker_store_flush(s->store);
}

static const struct tracker_ops ops = {
	.send = op_send,
	.close = op_close,
	.saved = op_saved,
	.removed = op_removed,
};

/* --- channels --------------------------------------------------------------------------------- */

/* A channel's number is kept as its argument: a pointer may be used again, a number never is. */
static uint64_t number_of(const struct chan *ch)
{
	return (uint64_t)(uintptr_t)chan_arg(ch);
}

static void on_up(struct chan *ch, const struct mesh_id *peer)
{
	struct shell *s = chan_owner(ch);
	uint64_t number = ++s->next_channel;
	chan_set_arg(ch, (void *)(uintptr_t)number);
	if (map_put(&s->channels, &number, ch)) {
		chan_close(ch, "too many managers");
		return;
	}
	if (tracker_manager_up(s->engine, peer, number, daemon_now_us())) {
		map_del(&s->channels, &number);
		chan_close(ch, "this manager is not welcome");
	}
	timer_arm(s);
}

static void on_msg(struct chan *ch, const struct msg *m)
{
	struct shell *s = chan_owner(ch);
	/* A hello without a number gets no answer, but makes the channel ready all the same. */
	if (m->type == MSG_AppRegistrationRequest && !chan_is_ready(ch) &&
	    m->app_registration_request.op == APP_OP_HELLO)
		chan_ready(ch);
	tracker_manager_msg(s->engine, number_of(ch), m, daemon_now_us());
	timer_arm(s);
}

static void on_down(struct chan *ch, uint16_t code, const char *reason)
{
	struct shell *s = chan_owner(ch);
	uint64_t number = number_of(ch);
	(void)code;
	log_debug("%s: %s", chan_text(ch), reason);
	map_del(&s->channels, &number);
	tracker_manager_down(s->engine, number, daemon_now_us());
	timer_arm(s);
}

/* --- start and stop --------------------------------------------------------------------------- */

static void load_entry(void *arg, const struct tracker_entry *entry)
{
	struct shell *s = arg;
	tracker_load(s->engine, entry, daemon_now_us());
}

static int open_store(struct shell *s)
{
	char path[PATH_MAX];
	int err = daemon_state_path(s->daemon, "db", path, sizeof path);
	if (!err)
		err = tracker_store_open(&s->store, path, s->daemon->cfg);
	if (!err)
		err = tracker_store_each(s->store, load_entry, s);
	return err;
}

static int open_listener(struct shell *s)
{
	struct keypair key;
	struct noise_keypair noise;
	int err = keyfile_load(s->daemon->state_dir, s->daemon->name, &key);
	if (err)
		return err;
	noise_keypair_from_secret(&noise, key.secret);
	char id[MESH_ID_TEXT];
	log_info("this apptracker's key is %s", mesh_id_text(&key.id, id));
	struct chan_options opt = {
		.name = "manager",
		.key = &noise,
		.peer_role = FROM_MANAGER,
		.cb = {.on_up = on_up, .on_msg = on_msg, .on_down = on_down},
		.arg = s,
	};
	err = chan_listen(&s->listener, s->daemon->base, s->daemon->cfg->apptracker_listen_addr,
			  &opt);
	sodium_memzero(&noise, sizeof noise);
	keyfile_wipe(&key);
	return err;
}

static struct tracker_config engine_config(const struct config *cfg)
{
	struct tracker_config c;
	tracker_config_default(&c);
	c.apps_max = (size_t)cfg->apptracker_max_apps;
	c.managers = cfg->apptracker_managers;
	return c;
}

static void write_metrics(struct metrics *m, void *arg)
{
	const struct shell *s = arg;

	tracker_metrics_write(m, s->engine);
	chan_listener_metrics(s->listener, m);
	metrics_process(m, "apptracker");
}

static int open_status(struct shell *s)
{
	uint64_t port = s->daemon->cfg->apptracker_status_port;

	return port ? status_http_new(&s->status, s->daemon->base, (uint16_t)port, write_metrics, s)
		    : 0;
}

int tracker_start(struct daemon *d)
{
	struct shell *s = calloc(1, sizeof *s);
	if (!s)
		return -ENOMEM;
	d->ctx = s;
	s->daemon = d;
	uint64_t seed;
	randombytes_buf(&seed, sizeof seed);
	struct tracker_config c = engine_config(d->cfg);
	map_init(&s->channels, sizeof(uint64_t), 4 * c.managers_max, seed);
	s->engine = tracker_new(&c, &ops, s, seed);
	s->timer = timer_new(d->base, on_timer, s);
	s->flush = timer_new(d->base, on_flush, s);
	if (!s->engine || !s->timer || !s->flush)
		return -ENOMEM;
	int err = open_store(s);
	if (!err)
		err = open_listener(s);
	if (!err)
		err = open_status(s);
	if (err)
		return err;
	log_info("apptracker serves on %s; %zu apps known", d->cfg->apptracker_listen_addr,
		 tracker_count(s->engine));
	timer_arm(s);
	return 0;
}

void tracker_shutdown(struct daemon *d)
{
	struct shell *s = d->ctx;
	if (!s)
		return;
	status_http_free(s->status);
	chan_listener_free(s->listener);
	tracker_free(s->engine);
	tracker_store_close(s->store);
	event_drop(s->timer);
	event_drop(s->flush);
	map_free(&s->channels);
	free(s);
	d->ctx = NULL;
}
