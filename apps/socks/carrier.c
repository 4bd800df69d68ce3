#include "socks/carrier.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "io/clock.h"
#include "io/timer.h"
#include "libmeshapp/meshapp.h"

/* Messages in a row, so that what arrives has its turn as well. */
#define BURST_MESSAGES 16

struct carrier {
	struct carrier_config config;
	struct mux *mux;
	struct event *flush, *tick;
	/* A callback of the mux may free the carrier; the mux is then still on the stack. */
	unsigned holds;
	bool dead, timed_out;
	uint8_t buffer[MUX_MESSAGE_BYTES];
};

static void hold(struct carrier *k)
{
	k->holds++;
}

static void put(struct carrier *k)
{
	if (--k->holds || !k->dead)
		return;
	mux_free(k->mux);
	event_drop(k->flush);
	event_drop(k->tick);
	free(k);
}

static void over(struct carrier *k, uint16_t code, const char *reason)
{
	struct meshconn *conn = k->config.conn;

	k->config.conn = NULL;
	if (conn)
		meshconn_close(conn, code, reason);
	if (!k->dead)
		k->config.over(k->config.ctx, reason);
}

/* --- to the mesh ------------------------------------------------------------------------------ */

static void on_flush(evutil_socket_t fd, short what, void *arg)
{
	struct carrier *k = arg;
	int rc = 0;

	(void)fd;
	(void)what;
	hold(k);
	for (unsigned i = 0; i < BURST_MESSAGES && !rc && !k->dead && k->config.conn; i++) {
		if (!meshconn_is_writable(k->config.conn))
			break;
		size_t len = mux_output(k->mux, k->buffer);
		if (len == 0)
			break;
		if (k->config.conn)
			rc = meshconn_send(k->config.conn, k->buffer, len);
		if (i + 1 == BURST_MESSAGES)
			event_active(k->flush, EV_TIMEOUT, 0);
	}
	/* A message with a hole behind it is worth nothing.  (When the channel is gone, on_closed
	 * follows by itself.) */
	if (rc && rc != -ENOTCONN)
		over(k, CODE_PROTOCOL, strerror(-rc));
	put(k);
}

/* What takes a turn in quick succession goes into one message. */
static void mux_ready(void *ctx)
{
	struct carrier *k = ctx;

	event_active(k->flush, EV_TIMEOUT, 0);
}

static void on_writable(struct meshconn *conn)
{
	struct carrier *k = meshconn_arg(conn);

	event_active(k->flush, EV_TIMEOUT, 0);
}

/* --- liveness --------------------------------------------------------------------------------- */

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct carrier *k = arg;

	(void)fd;
	(void)what;
	hold(k);
	if (!k->dead && k->config.conn && mux_tick(k->mux, daemon_now_us())) {
		k->timed_out = true;
		over(k, CODE_LOST, mux_fault(k->mux));
	}
	put(k);
}

/* --- from the mesh ---------------------------------------------------------------------------- */

static void consume(struct meshconn *conn, const uint8_t *data, size_t len)
{
	struct carrier *k = meshconn_arg(conn);

	hold(k);
	if (mux_input(k->mux, data, len) && !k->dead)
		over(k, CODE_PROTOCOL, mux_fault(k->mux));
	put(k);
}

static void on_closed(struct meshconn *conn, uint16_t code, const char *reason)
{
	struct carrier *k = meshconn_arg(conn);

	hold(k);
	k->config.conn = NULL;
	over(k, code, reason[0] ? reason : msg_code_name(code));
	put(k);
}

/* --- the owner's callbacks, until the carrier is freed ---------------------------------------- */

static void mux_up(void *ctx)
{
	struct carrier *k = ctx;

	if (!k->dead)
		k->config.ops->up(k->config.ctx);
}

static void mux_open_wanted(void *ctx, struct mux_stream *s, const struct socks_addr *to)
{
	struct carrier *k = ctx;

	if (!k->dead)
		k->config.ops->open(k->config.ctx, s, to);
}

static void mux_opened(void *ctx, struct mux_stream *s, const struct net_addr *bound)
{
	struct carrier *k = ctx;

	if (!k->dead)
		k->config.ops->opened(k->config.ctx, s, bound);
}

static size_t mux_pull(void *ctx, struct mux_stream *s, uint8_t *out, size_t max)
{
	struct carrier *k = ctx;

	return k->dead ? 0 : k->config.ops->pull(k->config.ctx, s, out, max);
}

static void mux_data(void *ctx, struct mux_stream *s, struct bytes data)
{
	struct carrier *k = ctx;

	if (!k->dead)
		k->config.ops->data(k->config.ctx, s, data);
}

static void mux_fin(void *ctx, struct mux_stream *s)
{
	struct carrier *k = ctx;

	if (!k->dead)
		k->config.ops->fin(k->config.ctx, s);
}

static void mux_closed(void *ctx, struct mux_stream *s, enum mux_end how, uint8_t code)
{
	struct carrier *k = ctx;

	if (!k->dead)
		k->config.ops->closed(k->config.ctx, s, how, code);
}

/* --- life ------------------------------------------------------------------------------------- */

struct carrier *carrier_new(const struct carrier_config *config)
{
	static const struct mux_ops ops = {
		.ready = mux_ready,
		.up = mux_up,
		.open = mux_open_wanted,
		.opened = mux_opened,
		.pull = mux_pull,
		.data = mux_data,
		.fin = mux_fin,
		.closed = mux_closed,
	};
	static const struct meshconn_callbacks cb = {
		.consume = consume, .on_writable = on_writable, .on_closed = on_closed};
	const struct timeval tick = {.tv_usec = ALIVE_TICK_US};
	struct carrier *k = calloc(1, sizeof *k);

	if (!k)
		return NULL;
	k->config = *config;
	hold(k);
	k->flush = timer_new(config->base, on_flush, k);
	k->tick = event_new(config->base, -1, EV_PERSIST, on_tick, k);
	if (k->flush && k->tick && event_add(k->tick, &tick) == 0)
		k->mux = mux_new(&config->mux, &ops, k);
	if (!k->mux) {
		k->dead = true;
		put(k);
		return NULL;
	}
	meshconn_set_callbacks(config->conn, &cb, k);
	return k;
}

void carrier_free(struct carrier *k, const char *reason)
{
	struct meshconn *conn;

	if (!k || k->dead)
		return;
	k->dead = true;
	conn = k->config.conn;
	k->config.conn = NULL;
	if (conn)
		meshconn_close(conn, CODE_CLOSED, reason);
	put(k);
}

struct mux *carrier_mux(const struct carrier *k)
{
	return k->mux;
}

bool carrier_timed_out(const struct carrier *k)
{
	return k->timed_out;
}

struct meshconn *carrier_conn(const struct carrier *k)
{
	return k->config.conn;
}
