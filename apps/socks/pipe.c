#include "socks/pipe.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <sys/socket.h>

#include "io/clock.h"
#include "io/timer.h"
#include "socks/socks.h"

/* Stops reading for good. */
static void stop_reading(struct pipe *p)
{
	event_drop(p->readable);
	p->readable = NULL;
}

static void end(struct pipe *p)
{
	struct bufferevent *bev = p->bev;

	p->bev = NULL;
	stop_reading(p);
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
	stop_reading(p);
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

/* While the stream knows, there is nothing to tell it: no more events until it has read all. */
static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct pipe *p = arg;

	(void)fd;
	(void)what;
	if (p->told || !p->stream) {
		event_del(p->readable);
		return;
	}
	p->told = true;
	mux_readable(p->stream);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	(void)bev;
	if (what & (BEV_EVENT_ERROR | BEV_EVENT_EOF))
		fail(arg);
}

/* The socket's end, or its failure, comes at the place where its data does.  Below 0: the pipe is
 * over, and gone. */
static ssize_t read_socket(struct pipe *p, uint8_t *out, size_t max)
{
	ssize_t n = recv(p->fd, out, max, MSG_DONTWAIT);

	if (n == 0) {
		p->ended = true;
		stop_reading(p);
		mux_finish(p->stream);
	} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
		fail(p);
		return -1;
	}
	return n > 0 ? n : 0;
}

size_t pipe_pull(struct pipe *p, uint8_t *out, size_t max)
{
	struct evbuffer *early = bufferevent_get_input(p->bev);
	ssize_t n = 0;

	if (evbuffer_get_length(early) > 0)
		n = evbuffer_remove(early, out, max);
	else if (!p->ended)
		n = read_socket(p, out, max);
	if (n < 0)
		return 0;
	if (n > 0)
		p->last_us = daemon_now_us();
	if ((size_t)n < max && p->readable) {
		p->told = false;
		event_add(p->readable, NULL);
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
	ssize_t n = 0;

	p->last_us = daemon_now_us();
	if (evbuffer_get_length(bufferevent_get_output(p->bev)) == 0) {
		n = send(p->fd, data.data, data.len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			n = 0;
	}
	if (n < 0 || ((size_t)n < data.len &&
		      bufferevent_write(p->bev, data.data + n, data.len - (size_t)n)))
		fail(p);
	else if (n > 0)
		mux_consumed(p->stream, (size_t)n);
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

int pipe_start(struct pipe *p, struct bufferevent *bev, struct mux_stream *stream, bool eof,
	       void (*over)(struct pipe *p))
{
	*p = (struct pipe){.fd = bufferevent_getfd(bev), .ended = eof, .told = true, .over = over};
	if (!eof) {
		p->readable = event_new(bufferevent_get_base(bev), p->fd, EV_READ | EV_PERSIST,
					on_readable, p);
		if (!p->readable)
			return -ENOMEM;
	}
	p->bev = bev;
	p->stream = stream;
	p->last_us = daemon_now_us();
	p->before = evbuffer_get_length(bufferevent_get_output(bev));
	bufferevent_disable(bev, EV_READ);
	bufferevent_setcb(bev, NULL, on_write, on_event, p);
	evbuffer_add_cb(bufferevent_get_output(bev), on_drain, p);
	mux_readable(stream);
	if (eof)
		mux_finish(stream);
	bufferevent_enable(bev, EV_WRITE);
	return 0;
}
