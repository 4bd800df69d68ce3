#include "libmeshapp/meshapp_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sodium.h>
#include <string.h>

#include "base/log.h"
#include "io/clock.h"

/* --- lifetime ----------------------------------------------------------------------------- */

void meshapp_hold(struct meshapp *app)
{
	app->holds++;
}

void meshapp_put(struct meshapp *app)
{
	if (--app->holds == 0 && app->dead)
		free(app);
}

void meshapp_close(struct meshapp *app)
{
	if (!app || app->dead)
		return;
	meshapp_hold(app);
	app->dead = true;
	app->up = false;
	app->ch = NULL;
	chan_client_free(app->client);
	meshapp_list_fail_all(app, CODE_CLOSED, true);
	meshconn_drop_all(app);
	meshtun_drop_all(app);
	map_free(&app->by_id);
	if (app->timer)
		event_free(app->timer);
	meshapp_put(app);
}

/* --- timer -------------------------------------------------------------------------------- */

void meshapp_arm_timer(struct meshapp *app)
{
	struct timeval tv = {1, 0};
	if (!app->dead && !event_pending(app->timer, EV_TIMEOUT, NULL))
		event_add(app->timer, &tv);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct meshapp *app = arg;
	uint64_t now = daemon_now_us();
	(void)fd;
	(void)what;

	meshapp_hold(app);
	meshapp_list_expire(app, now);
	if (!app->dead)
		meshconn_expire(app, now);
	if (!app->dead && (!TAILQ_EMPTY(&app->connecting) || !TAILQ_EMPTY(&app->lists)))
		meshapp_arm_timer(app);
	meshapp_put(app);
}

/* --- registration ------------------------------------------------------------------------- */

static int send_registration(struct meshapp *app)
{
	struct msg m = {.type = MSG_RegisterApp};

	m.seq = app->register_seq = chan_next_seq(app->ch);
	m.register_app.app = bytes_str(app->id);
	m.register_app.type = bytes_str(app->type);
	m.register_app.info = bytes_str(app->info);
	return chan_send(app->ch, &m);
}

static void tell_state(struct meshapp *app, bool up, const char *text)
{
	if (app->cb.on_state)
		app->cb.on_state(app, up, text);
}

static void registered(struct meshapp *app, const struct msg_register_app_ack *ack)
{
	char text[TEXT_MAX_BYTES + 1];
	bool accepted = ack->code == CODE_OK || ack->code == CODE_UNAVAILABLE;

	bytes_to_cstr(ack->text, text, sizeof text);
	if (!accepted) {
		log_warn("the node refused app %s: %s", app->id,
			 text[0] ? text : msg_code_name(ack->code));
		app->up = false;
		struct chan *ch = app->ch;
		app->ch = NULL;
		chan_close(ch, "refused");
		meshconn_fail_all(app, CODE_LOST, "refused by the node");
		if (!app->dead)
			tell_state(app, false, text[0] ? text : msg_code_name(ack->code));
		return;
	}
	app->node = ack->node;
	app->has_node = true;
	app->max_message =
		ack->max_message < MAX_MESSAGE_BYTES ? ack->max_message : MAX_MESSAGE_BYTES;
	if (app->up)
		return;
	app->up = true;
	chan_ready(app->ch);
	(void)chan_send(app->ch, &(struct msg){.type = MSG_TakeParts, .take_parts = {.parts = 1}});
	tell_state(app, true, text);
}

/* --- channel ------------------------------------------------------------------------------ */

static void on_up(struct chan *ch, const struct mesh_id *peer)
{
	struct meshapp *app = chan_arg(ch);
	(void)peer;
	app->ch = ch;
	(void)send_registration(app);
}

static void on_msg(struct chan *ch, const struct msg *m)
{
	struct meshapp *app = chan_arg(ch);

	meshapp_hold(app);
	switch (m->type) {
	case MSG_RegisterAppAck:
		if (m->seq == app->register_seq)
			registered(app, &m->register_app_ack);
		break;
	case MSG_AppListResponse:
		meshapp_list_response(app, m);
		break;
	case MSG_DetachTun:
		meshtun_detached(app, &m->detach_tun);
		break;
	default:
		meshconn_input(app, m);
	}
	meshapp_put(app);
}

static void on_down(struct chan *ch, uint16_t code, const char *reason)
{
	struct meshapp *app = chan_arg(ch);
	bool was_up = app->up;
	(void)code;

	meshapp_hold(app);
	app->ch = NULL;
	app->up = false;
	meshapp_list_fail_all(app, CODE_LOST, false);
	if (!app->dead)
		meshconn_fail_all(app, CODE_LOST, "the channel to the node ended");
	meshtun_fail_all(app);
	if (!app->dead && was_up)
		tell_state(app, false, reason);
	meshapp_put(app);
}

static void on_drain(struct chan *ch)
{
	struct meshapp *app = chan_arg(ch);
	meshapp_hold(app);
	meshconn_drained(app);
	meshapp_put(app);
}

/* --- open --------------------------------------------------------------------------------- */

static bool copy_text(char *out, size_t size, const char *text, bool may_be_empty)
{
	size_t len = text ? strlen(text) : 0;
	if (len >= size || (!len && !may_be_empty))
		return false;
	snprintf(out, size, "%s", text ? text : "");
	return true;
}

static int app_init(struct meshapp *app, const struct meshapp_options *opt)
{
	struct chan_options co = {
		.name = "node",
		.key = opt->key,
		.plain_local = true,
		.local_twin = true,
		.expected = opt->node_key,
		.peer_role = FROM_NODE,
		.max_body_bytes = FRAME_MAX_BYTES,
		.cb = {on_up, on_msg, on_down, on_drain},
		.arg = app,
	};
	if (!copy_text(app->id, sizeof app->id, opt->app_id, false) ||
	    !copy_text(app->type, sizeof app->type, opt->app_type, false) ||
	    !copy_text(app->info, sizeof app->info, opt->info, true) || !opt->node_addr)
		return -EINVAL;
	app->cb = opt->cb;
	app->arg = opt->arg;
	app->timer = event_new(app->base, -1, 0, on_timer, app);
	if (!app->timer)
		return -ENOMEM;
	return chan_client_new(&app->client, app->base, opt->node_addr, &co);
}

struct meshapp *meshapp_open(struct event_base *base, const struct meshapp_options *opt)
{
	struct meshapp *app = calloc(1, sizeof *app);
	uint64_t seed;

	if (!app || sodium_init() < 0) {
		free(app);
		errno = ENOMEM;
		return NULL;
	}
	randombytes_buf(&seed, sizeof seed);
	app->base = base;
	TAILQ_INIT(&app->connecting);
	TAILQ_INIT(&app->open);
	TAILQ_INIT(&app->blocked);
	TAILQ_INIT(&app->lists);
	TAILQ_INIT(&app->tuns);
	map_init(&app->by_id, sizeof(uint64_t), MESHAPP_CONNS_MAX, seed);
	int err = app_init(app, opt);
	if (err) {
		meshapp_close(app);
		errno = -err;
		return NULL;
	}
	return app;
}

int meshapp_set_info(struct meshapp *app, const char *info)
{
	if (!copy_text(app->info, sizeof app->info, info, true))
		return -EINVAL;
	if (!app->up)
		return 0;
	int err = send_registration(app);
	return err == -ENOMEM ? err : 0;
}

void *meshapp_arg(const struct meshapp *app)
{
	return app->arg;
}

bool meshapp_is_up(const struct meshapp *app)
{
	return app->up;
}

const char *meshapp_app_id(const struct meshapp *app)
{
	return app->id;
}

const struct mesh_id *meshapp_node(const struct meshapp *app)
{
	return app->has_node ? &app->node : NULL;
}
