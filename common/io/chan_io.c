/*
 * The bytes of a channel's socket.  A bufferevent makes the connection and owns the descriptor, but
 * libevent 2.1 reads 4 KB and writes 16 KB at a time, a turn of the loop each: too little for apps
 * that move gigabits.  Here a turn reads as much as there is, into one buffer that all channels of
 * a group share, and writes everything that the turn has produced, at its end.
 */
#include "io/chan_int.h"

#include <errno.h>
#include <event2/buffer.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "io/clock.h"

/* A frame that may be longer than half of this gets memory of its own. */
#define SCRATCH_BYTES (256u << 10)
#define SCRATCH_LARGE_BYTES (512u << 10)
#define READS_PER_TURN 2u
/* More than this is written at once: the other end can work on it meanwhile. */
#define WRITE_NOW_BYTES (256u << 10)
/* Of a Unix socket: so that a few of the largest records fit. */
#define SOCKET_BUFFER_BYTES (1 << 20)

static size_t scratch_bytes(const struct chan *ch)
{
	return ch->group->opt.max_body_bytes > FRAME_CONTROL_MAX_BYTES ? SCRATCH_LARGE_BYTES
								       : SCRATCH_BYTES;
}

/* --- writing -------------------------------------------------------------------------------- */

size_t chan_output_pending(const struct chan *ch)
{
	return evbuffer_get_length(ch->out);
}

static void socket_failed(struct chan *ch, int err)
{
	bool closed = err == ECONNRESET || err == EPIPE;

	chan_lost(ch, closed ? CODE_CLOSED : CODE_LOST, evutil_socket_error_to_string(err));
}

/* The descriptors go with the bytes that are to be sent next: not later than their messages. */
static ssize_t write_with_fds(struct chan *ch)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof ch->fds_out)];
	} control = {0};
	size_t len = ch->fds_out_count * sizeof *ch->fds_out;
	struct evbuffer_iovec v;
	struct msghdr m = {.msg_iov = (struct iovec *)&v,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = CMSG_SPACE(len)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), ch->fds_out, len);
	evbuffer_peek(ch->out, -1, NULL, &v, 1);
	ssize_t n = sendmsg(ch->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0) {
		evbuffer_drain(ch->out, (size_t)n);
		while (ch->fds_out_count)
			close(ch->fds_out[--ch->fds_out_count]);
	}
	return n;
}

int chan_send_fd(struct chan *ch, const struct msg *m, int fd)
{
	struct sockaddr_storage sa = {0};
	socklen_t len = sizeof sa;

	if (ch->encrypted || getsockname(ch->fd, (struct sockaddr *)&sa, &len) ||
	    sa.ss_family != AF_UNIX)
		return -EOPNOTSUPP;
	if (ch->fds_out_count == CHAN_FDS_MAX)
		return -ENOBUFS;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return -errno;
	ch->fds_out[ch->fds_out_count++] = copy;
	int err = chan_send(ch, m);
	if (err && ch->fds_out_count && ch->fds_out[ch->fds_out_count - 1] == copy)
		close(ch->fds_out[--ch->fds_out_count]);
	return err;
}

/* What the socket takes now.  0, or the error that ends the channel. */
static int write_some(struct chan *ch)
{
	const struct chan_options *o = &ch->group->opt;

	if (o->before_write)
		o->before_write(o->arg);
	while (chan_output_pending(ch)) {
		ssize_t n =
			ch->fds_out_count ? write_with_fds(ch) : evbuffer_write(ch->out, ch->fd);
		if (n > 0)
			continue;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return errno;
		ch->blocked = true;
		event_add(ch->wr, NULL);
		return 0;
	}
	ch->blocked = false;
	return 0;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct chan *ch = arg;
	(void)fd;
	(void)what;

	chan_hold(ch);
	int err = write_some(ch);
	if (err)
		socket_failed(ch, err);
	else
		chan_written(ch);
	chan_put(ch);
}

void chan_output_added(struct chan *ch)
{
	if (ch->blocked)
		return;
	/* An error is told from the loop, not within the sender's call. */
	if (chan_output_pending(ch) >= WRITE_NOW_BYTES)
		(void)write_some(ch);
	event_active(ch->wr, EV_WRITE, 0);
}

/* What follows of `b` after the first `n` bytes of it and whatever stood before. */
static int add_rest(struct chan *ch, struct bytes b, size_t n)
{
	return n < b.len && evbuffer_add(ch->out, b.data + n, b.len - n) ? -ENOMEM : 0;
}

int chan_write_frame(struct chan *ch, struct bytes head, struct bytes tail)
{
	const struct chan_options *o = &ch->group->opt;
	struct iovec v[2] = {{(void *)(uintptr_t)head.data, head.len},
			     {(void *)(uintptr_t)tail.data, tail.len}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};

	if (ch->blocked || ch->fds_out_count || chan_output_pending(ch))
		return -EAGAIN;
	if (o->before_write)
		o->before_write(o->arg);
	/* Any error comes again, when the loop writes what is left. */
	ssize_t n = sendmsg(ch->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	size_t done = n > 0 ? (size_t)n : 0;
	if (done == head.len + tail.len)
		return 0;
	if (add_rest(ch, head, done < head.len ? done : head.len) ||
	    add_rest(ch, tail, done > head.len ? done - head.len : 0))
		return -ENOMEM;
	if (done)
		ch->blocked = event_add(ch->wr, NULL) == 0;
	else
		event_active(ch->wr, EV_WRITE, 0);
	return 0;
}

/* --- reading -------------------------------------------------------------------------------- */

static int make_scratch(struct chan *ch)
{
	struct chan_group *g = ch->group;

	if (!g->scratch)
		g->scratch = block_new(scratch_bytes(ch));
	return g->scratch ? 0 : -ENOMEM;
}

/* Keeps what has arrived of a frame that is not whole, or of frames that nobody reads now. */
static void keep(struct chan *ch, const uint8_t *data, size_t len)
{
	size_t want = ch->need > scratch_bytes(ch) / 2 && ch->need > len ? ch->need : len;
	struct block *old = ch->in;

	if (!len) {
		ch->in = NULL;
		ch->in_len = 0;
		block_put(old);
		return;
	}
	if (!old || old->size < want) {
		ch->in = block_new(want);
		if (!ch->in) {
			ch->in = old;
			chan_end(ch, CODE_BUSY, "out of memory");
			return;
		}
		memcpy(ch->in->data, data, len);
		block_put(old);
	} else {
		memmove(old->data, data, len);
	}
	ch->in_len = len;
}

/* The block is held: what is handled may end the channel, or the whole group. */
static void handle(struct chan *ch, struct block *b, size_t len)
{
	block_get(b);
	size_t used = chan_handle(ch, b->data, len);
	if (ch->phase != CHAN_DEAD)
		keep(ch, b->data + used, len - used);
	block_put(b);
}

void chan_process_input(struct chan *ch)
{
	chan_hold(ch);
	if (ch->in_len)
		handle(ch, ch->in, ch->in_len);
	chan_put(ch);
}

/* Where the next bytes go: behind those of a large frame, or behind what is left, in scratch. */
static struct block *read_into(struct chan *ch, size_t *at, size_t *room)
{
	*at = ch->in_len;
	if (ch->in_len && ch->need > scratch_bytes(ch) / 2) {
		*room = ch->need - ch->in_len;
		return ch->in;
	}
	if (make_scratch(ch))
		return NULL;
	if (ch->in_len)
		memcpy(ch->group->scratch->data, ch->in->data, ch->in_len);
	*room = ch->group->scratch->size - ch->in_len;
	return ch->group->scratch;
}

static void keep_fds(struct chan *ch, struct msghdr *m)
{
	int fd;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = CMSG_LEN(0); at + sizeof fd <= c->cmsg_len; at += sizeof fd) {
			memcpy(&fd, (uint8_t *)c + at, sizeof fd);
			if (ch->fds_in_count < CHAN_FDS_MAX)
				ch->fds_in[ch->fds_in_count++] = fd;
			else
				close(fd);
		}
	}
}

int chan_take_fd(struct chan *ch)
{
	int fd = ch->fds_in_count ? ch->fds_in[0] : -1;

	if (fd >= 0)
		memmove(ch->fds_in, ch->fds_in + 1, --ch->fds_in_count * sizeof fd);
	return fd;
}

static ssize_t read_with_fds(struct chan *ch, uint8_t *data, size_t len)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof ch->fds_in)];
	} control;
	struct iovec v = {data, len};
	struct msghdr m = {.msg_iov = &v,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof control};
	ssize_t n = recvmsg(ch->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n >= 0)
		keep_fds(ch, &m);
	return n;
}

/* False: no more for now. */
static bool read_some(struct chan *ch)
{
	size_t at, room;
	struct block *b = read_into(ch, &at, &room);

	if (!b) {
		chan_end(ch, CODE_BUSY, "out of memory");
		return false;
	}
	ssize_t n = ch->group->opt.take_fds ? read_with_fds(ch, b->data + at, room)
					    : read(ch->fd, b->data + at, room);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n < 0) {
		socket_failed(ch, errno);
		return false;
	}
	if (n == 0) {
		chan_lost(ch, CODE_CLOSED, "the peer closed it");
		return false;
	}
	/* Bytes of a frame that is not whole yet are a sign of life too. */
	ch->heard_us = daemon_now_us();
	if (ch->phase == CHAN_FINISHING)
		return true;
	handle(ch, b, at + (size_t)n);
	return (size_t)n == room && ch->phase != CHAN_DEAD && !ch->paused;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct chan *ch = arg;
	(void)fd;
	(void)what;

	chan_hold(ch);
	for (unsigned i = 0; i < READS_PER_TURN && read_some(ch); i++)
		;
	chan_put(ch);
}

void chan_set_reading(struct chan *ch, bool on)
{
	if (on)
		event_add(ch->rd, NULL);
	else
		event_del(ch->rd);
}

/* --- life ----------------------------------------------------------------------------------- */

int chan_io_open(struct chan *ch)
{
	struct event_base *base = ch->group->base;

	ch->fd = bufferevent_getfd(ch->bev);
	bufferevent_setcb(ch->bev, NULL, NULL, NULL, NULL);
	bufferevent_disable(ch->bev, EV_READ | EV_WRITE);
	/* Of a TCP socket the kernel finds the right size itself. */
	if (!ch->remote.family && ch->group->opt.max_body_bytes > FRAME_CONTROL_MAX_BYTES) {
		const int bytes = SOCKET_BUFFER_BYTES;
		if (setsockopt(ch->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes))
			setsockopt(ch->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
	}
	ch->rd = event_new(base, ch->fd, EV_READ | EV_PERSIST, on_readable, ch);
	ch->wr = event_new(base, ch->fd, EV_WRITE, on_writable, ch);
	return ch->rd && ch->wr && event_add(ch->rd, NULL) == 0 ? 0 : -ENOMEM;
}

void chan_io_stop(struct chan *ch)
{
	bufferevent_setcb(ch->bev, NULL, NULL, NULL, NULL);
	bufferevent_disable(ch->bev, EV_READ | EV_WRITE);
	if (ch->rd)
		event_del(ch->rd);
	if (ch->wr)
		event_del(ch->wr);
}

void chan_io_free(struct chan *ch)
{
	if (ch->rd)
		event_free(ch->rd);
	if (ch->wr)
		event_free(ch->wr);
	if (ch->out)
		evbuffer_free(ch->out);
	block_put(ch->in);
	while (ch->fds_out_count)
		close(ch->fds_out[--ch->fds_out_count]);
	while (ch->fds_in_count)
		close(ch->fds_in[--ch->fds_in_count]);
	if (ch->bev)
		bufferevent_free(ch->bev);
}
