#include "socks/pipe.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <sys/socket.h>

#include "io/clock.h"
#include "socks/socks.h"

static void end(struct pipe *p)
{
	struct bufferevent *bev = p->bev;

	p->bev = NULL;
	bufferevent_free(bev);
	p->over(p);
}

/* So that nobody takes half a file for a whole one. */
static void close_with_reset(struct bufferevent *bev)
{
	const struct linger at_once = {.l_onoff = 1};

	(void)setsockopt(bufferevent_getfd(bev), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	bufferevent_free(bev);
}

void pipe_abort(struct pipe *p, bool lost)
{
	if (p->stream && !lost)
		mux_reset(p->stream, SOCKS5_FAILURE);
	p->stream = NULL;
	if (p->bev)
		close_with_reset(p->bev);
	p->bev = NULL;
}

static void fail(struct pipe *p)
{
	pipe_abort(p, false);
	p->over(p);
}

/* --- from the socket -------------------------------------------------------------------------- */

static void on_read(struct bufferevent *bev, void *arg)
{
	struct pipe *p = arg;

	/* libevent would call back again and again while its high-water mark is reached. */
	if (evbuffer_get_length(bufferevent_get_input(bev)) >= SOCKS_READ_AHEAD_BYTES) {
		bufferevent_disable(bev, EV_READ);
		p->paused = true;
	}
	if (p->stream)
		mux_readable(p->stream);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct pipe *p = arg;

	(void)bev;
	if ((what & BEV_EVENT_EOF) && p->stream)
		mux_finish(p->stream);
	else if (what & (BEV_EVENT_ERROR | BEV_EVENT_EOF))
		fail(p);
}

size_t pipe_pull(struct pipe *p, uint8_t *out, size_t max)
{
	struct evbuffer *in = p->bev ? bufferevent_get_input(p->bev) : NULL;
	int n = in ? evbuffer_remove(in, out, max) : 0;

	if (n <= 0)
		return 0;
	p->last_us = daemon_now_us();
	if (p->paused && evbuffer_get_length(in) <= SOCKS_READ_AHEAD_BYTES / 2) {
		p->paused = false;
		bufferevent_enable(p->bev, EV_READ);
	}
	return (size_t)n;
}

/* --- to the socket ---------------------------------------------------------------------------- */

static void end_if_drained(struct pipe *p)
{
	if (evbuffer_get_length(bufferevent_get_output(p->bev)) > 0)
		return;
	if (p->fin && !p->shut) {
		p->shut = true;
		shutdown(bufferevent_getfd(p->bev), SHUT_WR);
	}
	if (!p->stream)
		end(p);
}

static void on_write(struct bufferevent *bev, void *arg)
{
	(void)bev;
	end_if_drained(arg);
}

/* What the socket has taken earns the other end its window back. */
static void on_drain(struct evbuffer *b, const struct evbuffer_cb_info *info, void *arg)
{
	struct pipe *p = arg;
	size_t own = info->n_deleted < p->before ? info->n_deleted : p->before;

	(void)b;
	if (info->n_deleted == 0)
		return;
	p->before -= own;
	p->last_us = daemon_now_us();
	if (p->stream && info->n_deleted > own)
		mux_consumed(p->stream, info->n_deleted - own);
}

void pipe_data(struct pipe *p, struct bytes data)
{
	p->last_us = daemon_now_us();
	if (bufferevent_write(p->bev, data.data, data.len))
		fail(p);
}

void pipe_fin(struct pipe *p)
{
	p->fin = true;
	end_if_drained(p);
}

void pipe_closed(struct pipe *p, enum mux_end how)
{
	p->stream = NULL;
	if (how != MUX_END_FINISHED)
		fail(p);
	else
		end_if_drained(p);
}

/* --- life ------------------------------------------------------------------------------------- */

void pipe_start(struct pipe *p, struct bufferevent *bev, struct mux_stream *stream, bool eof,
		void (*over)(struct pipe *p))
{
	*p = (struct pipe){.bev = bev, .stream = stream, .over = over, .last_us = daemon_now_us()};
	p->before = evbuffer_get_length(bufferevent_get_output(bev));
	bufferevent_setcb(bev, on_read, on_write, on_event, p);
	bufferevent_setwatermark(bev, EV_READ, 0, SOCKS_READ_AHEAD_BYTES);
	evbuffer_add_cb(bufferevent_get_output(bev), on_drain, p);
	mux_readable(stream);
	if (eof)
		mux_finish(stream);
	else
		bufferevent_enable(bev, EV_READ);
	bufferevent_enable(bev, EV_WRITE);
}
