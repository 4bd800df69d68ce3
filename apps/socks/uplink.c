#include "socks/uplink.h"

#include <errno.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/clock.h"
#include "io/timer.h"
#include "libmeshapp/meshapp.h"

#define HELLO_TIMEOUT_US 10000000u
#define RETRY_MIN_US 200000u
#define RETRY_MAX_US 5000000u
/* A server that failed is asked again only when there is no other. */
#define AVOID_US 30000000u
#define AVOIDED_MAX 16u

struct avoided {
	struct mesh_id node;
	char app[NAME_MAX_BYTES + 1];
	uint64_t failed_us;
};

struct uplink {
	struct event_base *base;
	const struct socks_options *opt;
	struct uplink_callbacks cb;
	void *ctx;
	struct meshapp *app;
	struct event *timer; /* try again, or no HELLO has come */
	bool listing;
	/* The server of now, or that we try. */
	struct mesh_id node;
	bool has_node;
	char name[NAME_MAX_BYTES + 1];
	struct meshconn *dialled; /* until it is up and the carrier's */
	struct carrier *carrier;
	struct meshconn *datagrams;
	bool up;
	unsigned failures; /* in a row */
	uint64_t losses,
		silences; /* servers that went away; of these, those that just fell silent */
	struct avoided avoided[AVOIDED_MAX];
	unsigned avoided_next;
};

static void tell(struct uplink *u, bool up, const char *reason)
{
	struct json_object *o = json_object_new_object();
	char id[MESH_ID_TEXT];

	json_object_object_add(o, "state", json_object_new_string(up ? "up" : "down"));
	json_object_object_add(o, "server", json_object_new_string(u->name));
	if (u->has_node)
		json_object_object_add(o, "node",
				       json_object_new_string(mesh_id_text(&u->node, id)));
	if (reason)
		json_object_object_add(o, "reason", json_object_new_string(reason));
	json_object_object_add(o, "losses", json_object_new_int64((int64_t)u->losses));
	json_object_object_add(o, "silences", json_object_new_int64((int64_t)u->silences));
	appline_say(u->opt->json, o);
}

static void arm(struct uplink *u, uint64_t us)
{
	timer_in(u->timer, us);
}

/* --- whom to ask ------------------------------------------------------------------------------ */

static uint64_t failed_at(const struct uplink *u, const struct meshapp_entry *e)
{
	uint64_t at = 0;

	for (unsigned i = 0; i < AVOIDED_MAX; i++) {
		const struct avoided *a = &u->avoided[i];
		if (a->failed_us > at && mesh_id_equal(&a->node, &e->node) &&
		    strcmp(a->app, e->app) == 0)
			at = a->failed_us;
	}
	return at && daemon_now_us() < at + AVOID_US ? at : 0;
}

/* Any that has not failed lately, else the one whose failure is the oldest. */
static const struct meshapp_entry *choose(const struct uplink *u, const struct meshapp_entry *v,
					  size_t count)
{
	size_t start = count ? randombytes_uniform((uint32_t)count) : 0;
	const struct meshapp_entry *best = NULL;
	uint64_t best_at = UINT64_MAX;

	for (size_t i = 0; i < count; i++) {
		const struct meshapp_entry *e = &v[(start + i) % count];
		uint64_t at = failed_at(u, e);
		if (at < best_at) {
			best = e;
			best_at = at;
		}
	}
	return best;
}

static void avoid(struct uplink *u)
{
	struct avoided *a = &u->avoided[u->avoided_next++ % AVOIDED_MAX];

	a->node = u->node;
	a->failed_us = daemon_now_us();
	memcpy(a->app, u->name, sizeof a->app);
}

/* --- the end of a connection ------------------------------------------------------------------ */

/* Closes what there is, without a word to the owner. */
static void drop(struct uplink *u, const char *reason)
{
	struct meshconn *dialled = u->dialled, *datagrams = u->datagrams;
	struct carrier *carrier = u->carrier;

	u->dialled = u->datagrams = NULL;
	u->carrier = NULL;
	if (dialled)
		meshconn_close(dialled, CODE_CLOSED, reason);
	if (datagrams)
		meshconn_close(datagrams, CODE_CLOSED, reason);
	carrier_free(carrier, reason);
}

static void again(struct uplink *u, const char *reason)
{
	bool was_up = u->up;
	/* Of a server that was up a moment ago the next is sought at once. */
	uint64_t wait = was_up ? 0 : RETRY_MIN_US << (u->failures < 5 ? u->failures : 5);
	char text[TEXT_MAX_BYTES + 1];

	snprintf(text, sizeof text, "%s", reason);
	u->up = false;
	if (!was_up)
		u->failures++;
	avoid(u);
	if (was_up) {
		u->losses++;
		u->silences += carrier_timed_out(u->carrier);
		tell(u, false, text);
		log_warn("socks-client: server %s is lost: %s (%llu so far, %llu of them silent)",
			 u->name, text, (unsigned long long)u->losses,
			 (unsigned long long)u->silences);
		/* The owner lets go of the streams while they are still there. */
		u->cb.down(u->ctx, text);
	} else {
		log_info("socks-client: no server: %s", text);
	}
	drop(u, text);
	arm(u, wait < RETRY_MAX_US ? wait : RETRY_MAX_US);
}

void uplink_renew(struct uplink *u, const char *reason)
{
	if (u->up)
		again(u, reason);
}

static void on_over(void *ctx, const char *reason)
{
	again(ctx, reason);
}

/* --- datagrams -------------------------------------------------------------------------------- */

static void on_record(struct meshconn *conn, const uint8_t *data, size_t len)
{
	struct uplink *u = meshconn_arg(conn);
	struct mux_record record;
	struct mux_stream *stream = NULL;

	if (u->up && mux_record_read(bytes_of(data, len), &record))
		stream = mux_find(carrier_mux(u->carrier), record.stream);
	if (stream && mux_stream_is_udp(stream))
		u->cb.record(u->ctx, stream, &record);
}

static void on_datagrams_closed(struct meshconn *conn, uint16_t code, const char *reason)
{
	struct uplink *u = meshconn_arg(conn);

	u->datagrams = NULL;
	log_info("socks-client: datagram connection: %s (%s)", msg_code_name(code), reason);
	/* Alone it does not end the streams. */
	if (u->up)
		arm(u, RETRY_MAX_US);
}

static void dial_datagrams(struct uplink *u)
{
	static const struct meshconn_callbacks cb = {.consume = on_record,
						     .on_closed = on_datagrams_closed};

	if (u->datagrams || !u->app || !meshapp_is_up(u->app))
		return;
	u->datagrams = meshapp_connect(u->app, &u->node, u->name, CLASS_DATAGRAM, &cb, u);
	if (!u->datagrams)
		arm(u, RETRY_MAX_US);
}

int uplink_send_record(struct uplink *u, const uint8_t *record, size_t len)
{
	return u->up && u->datagrams ? meshconn_send(u->datagrams, record, len) : -ENOTCONN;
}

/* --- streams ---------------------------------------------------------------------------------- */

static void mux_up(void *ctx)
{
	struct uplink *u = ctx;

	u->up = true;
	u->failures = 0;
	evtimer_del(u->timer);
	tell(u, true, NULL);
	/* Now, so that the server knows by then whose datagrams these are. */
	dial_datagrams(u);
	u->cb.up(u->ctx);
}

static void mux_opened(void *ctx, struct mux_stream *s, const struct net_addr *bound)
{
	struct uplink *u = ctx;

	u->cb.streams.opened(u->ctx, s, bound);
}

static size_t mux_pull(void *ctx, struct mux_stream *s, uint8_t *out, size_t max)
{
	struct uplink *u = ctx;

	return u->cb.streams.pull(u->ctx, s, out, max);
}

static void mux_data(void *ctx, struct mux_stream *s, struct bytes data)
{
	struct uplink *u = ctx;

	u->cb.streams.data(u->ctx, s, data);
}

static void mux_fin(void *ctx, struct mux_stream *s)
{
	struct uplink *u = ctx;

	u->cb.streams.fin(u->ctx, s);
}

static void mux_closed(void *ctx, struct mux_stream *s, enum mux_end how, uint8_t code)
{
	struct uplink *u = ctx;

	u->cb.streams.closed(u->ctx, s, how, code);
}

/* --- dialling --------------------------------------------------------------------------------- */

static void on_dialled(struct meshconn *conn)
{
	static const struct mux_ops ops = {.up = mux_up,
					   .opened = mux_opened,
					   .pull = mux_pull,
					   .data = mux_data,
					   .fin = mux_fin,
					   .closed = mux_closed};
	struct uplink *u = meshconn_arg(conn);
	struct carrier_config config = {
		.base = u->base, .conn = conn, .ops = &ops, .ctx = u, .over = on_over};

	config.mux = (struct mux_config){.client = true,
					 .streams_max = u->opt->streams_max,
					 .window_max = u->opt->window_max,
					 .growth_max = SOCKS_GROWTH_BYTES,
					 .patience_us = u->opt->to.has_node ? SOCKS_PATIENCE_LONG_US
									    : SOCKS_PATIENCE_US};
	randombytes_buf(&config.mux.seed, sizeof config.mux.seed);
	u->node = *meshconn_peer_node(conn);
	u->has_node = true;
	u->carrier = carrier_new(&config);
	if (!u->carrier) {
		again(u, "out of memory");
		return;
	}
	u->dialled = NULL;
	arm(u, HELLO_TIMEOUT_US);
}

static void on_dial_failed(struct meshconn *conn, uint16_t code, const char *reason)
{
	struct uplink *u = meshconn_arg(conn);

	u->dialled = NULL;
	again(u, reason[0] ? reason : msg_code_name(code));
}

static void dial(struct uplink *u)
{
	static const struct meshconn_callbacks cb = {.on_up = on_dialled,
						     .on_closed = on_dial_failed};

	u->dialled = meshapp_connect(u->app, u->has_node ? &u->node : NULL, u->name, CLASS_STREAM,
				     &cb, u);
	if (!u->dialled)
		again(u, strerror(errno));
}

static void on_list(void *arg, uint16_t code, const struct meshapp_entry *entries, size_t count)
{
	struct uplink *u = arg;
	const struct meshapp_entry *e = choose(u, entries, count);

	u->listing = false;
	if (u->carrier || u->dialled)
		return;
	if (code || !e) {
		/* There is nobody to avoid. */
		log_info("socks-client: no server: %s",
			 code ? msg_code_name(code) : "the mesh has none");
		arm(u, RETRY_MIN_US << (u->failures < 4 ? u->failures++ : 4));
		return;
	}
	u->node = e->node;
	u->has_node = true;
	memcpy(u->name, e->app, sizeof u->name);
	dial(u);
}

static void seek(struct uplink *u)
{
	if (u->carrier || u->dialled || u->listing || !u->app || !meshapp_is_up(u->app))
		return;
	if (u->opt->to.app[0]) {
		memcpy(u->name, u->opt->to.app, sizeof u->name);
		u->has_node = u->opt->to.has_node;
		u->node = u->opt->to.node;
		dial(u);
		return;
	}
	u->listing = meshapp_list(u->app, APP_LIST_BY_TYPE, SOCKS_SERVER_TYPE, on_list, u) == 0;
	if (!u->listing)
		arm(u, RETRY_MAX_US);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct uplink *u = arg;

	(void)fd;
	(void)what;
	if (u->up)
		dial_datagrams(u);
	else if (u->carrier)
		again(u, "no HELLO");
	else
		seek(u);
}

/* --- life ------------------------------------------------------------------------------------- */

void uplink_node(struct uplink *u, struct meshapp *app, bool up)
{
	u->app = app;
	u->failures = 0;
	if (up)
		seek(u);
}

struct mux *uplink_mux(const struct uplink *u)
{
	return u->up ? carrier_mux(u->carrier) : NULL;
}

struct uplink *uplink_new(struct event_base *base, const struct socks_options *opt,
			  const struct uplink_callbacks *cb, void *ctx)
{
	struct uplink *u = calloc(1, sizeof *u);

	if (!u)
		return NULL;
	u->base = base;
	u->opt = opt;
	u->cb = *cb;
	u->ctx = ctx;
	u->timer = timer_new(base, on_timer, u);
	if (!u->timer) {
		free(u);
		return NULL;
	}
	return u;
}

void uplink_free(struct uplink *u)
{
	if (!u)
		return;
	drop(u, "the client ends");
	event_free(u->timer);
	free(u);
}
