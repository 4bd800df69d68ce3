/* A TCP connection of the server for a stream: resolve, ask the policy, connect, join. */
#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/sockaddr.h"
#include "io/timer.h"
#include "socks/pipe.h"
#include "socks/server.h"

struct target {
	LIST_ENTRY(target) link;
	struct session *session;
	struct mux_stream *stream; /* until it is the pipe's */
	struct lookup *lookup;
	struct net_addr addrs[RESOLVER_ADDRS_MAX];
	unsigned count, next;
	uint8_t code; /* why the last address did not do */
	uint64_t deadline_us;
	int fd; /* while connecting */
	struct event *connecting;
	bool flowing;
	struct pipe pipe;
};

static void target_free(struct target *t)
{
	if (t->lookup)
		resolver_cancel(t->lookup);
	event_drop(t->connecting);
	if (t->fd >= 0)
		close(t->fd);
	LIST_REMOVE(t, link);
	t->session->count--;
	free(t);
}

static void refuse(struct target *t, uint8_t code)
{
	mux_refuse(t->stream, code);
	target_free(t);
}

/* --- joined ----------------------------------------------------------------------------------- */

static void pipe_over(struct pipe *p)
{
	target_free((struct target *)((char *)p - offsetof(struct target, pipe)));
}

static struct net_addr local_address(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	struct net_addr a = {0};

	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		sockaddr_to_net(&a, (struct sockaddr *)&ss);
	return a;
}

static void join(struct target *t)
{
	const int on = 1;
	struct net_addr bound = local_address(t->fd);
	struct mux_stream *stream = t->stream;
	struct bufferevent *bev =
		bufferevent_socket_new(t->session->server->base, t->fd, BEV_OPT_CLOSE_ON_FREE);

	if (!bev) {
		refuse(t, SOCKS5_FAILURE);
		return;
	}
	(void)setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	event_free(t->connecting);
	t->connecting = NULL;
	t->fd = -1;
	t->stream = NULL;
	t->flowing = true;
	mux_accept(stream, &bound);
	if (pipe_start(&t->pipe, bev, stream, false, pipe_over)) {
		mux_reset(stream, SOCKS5_FAILURE);
		bufferevent_free(bev);
		target_free(t);
	}
}

/* --- connecting ------------------------------------------------------------------------------- */

static uint8_t code_of(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return SOCKS5_CONNECTION_REFUSED;
	case ENETUNREACH:
	case EAFNOSUPPORT:
		return SOCKS5_NETWORK_UNREACHABLE;
	case EHOSTUNREACH:
	case ETIMEDOUT:
		return SOCKS5_HOST_UNREACHABLE;
	default:
		return SOCKS5_FAILURE;
	}
}

static void on_connect(evutil_socket_t fd, short what, void *arg);

/* An even share of what is left, so that one dead address does not use up the time of the others.
 */
static struct timeval patience(const struct target *t, uint64_t now)
{
	uint64_t left = t->deadline_us > now ? t->deadline_us - now : 0;
	uint64_t share = left / (t->count - t->next + 1);

	return timer_span(share);
}

/* 0: under way. */
static int begin(struct target *t, const struct net_addr *to)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_from_net(&ss, to);
	struct timeval tv = patience(t, daemon_now_us());

	t->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (t->fd < 0)
		return errno;
	if (connect(t->fd, (struct sockaddr *)&ss, len) && errno != EINPROGRESS)
		return errno;
	t->connecting = event_new(t->session->server->base, t->fd, EV_WRITE, on_connect, t);
	return t->connecting && event_add(t->connecting, &tv) == 0 ? 0 : ENOMEM;
}

static void give_up_attempt(struct target *t)
{
	event_drop(t->connecting);
	t->connecting = NULL;
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

static void try_next(struct target *t)
{
	while (t->next < t->count) {
		const struct net_addr *to = &t->addrs[t->next++];
		int error;
		if (!server_allows(t->session->server, to)) {
			t->code = SOCKS5_NOT_ALLOWED;
			continue;
		}
		error = begin(t, to);
		if (!error)
			return;
		t->code = code_of(error);
		give_up_attempt(t);
	}
	refuse(t, t->code);
}

static void on_connect(evutil_socket_t fd, short what, void *arg)
{
	struct target *t = arg;
	int error = ETIMEDOUT;
	socklen_t len = sizeof error;

	if (!(what & EV_TIMEOUT) && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
		error = errno;
	if (!error) {
		join(t);
		return;
	}
	t->code = code_of(error);
	give_up_attempt(t);
	try_next(t);
}

static void on_resolved(void *arg, const struct net_addr *addrs, unsigned count)
{
	struct target *t = arg;

	t->lookup = NULL;
	memcpy(t->addrs, addrs, count * sizeof *addrs);
	t->count = count;
	try_next(t);
}

/* --- life ------------------------------------------------------------------------------------- */

void target_new(struct session *s, struct mux_stream *stream, const struct socks_addr *to)
{
	struct target *t = session_has_room(s) ? calloc(1, sizeof *t) : NULL;
	struct server *v = s->server;

	if (!t) {
		mux_refuse(stream, SOCKS5_FAILURE);
		return;
	}
	t->session = s;
	t->stream = stream;
	t->fd = -1;
	t->code = SOCKS5_HOST_UNREACHABLE;
	t->deadline_us = daemon_now_us() + v->opt->connect_us;
	mux_stream_set_user(stream, t);
	LIST_INSERT_HEAD(&s->targets, t, link);
	s->count++;
	if (to->ip.family) {
		t->addrs[0] = to->ip;
		t->count = 1;
		try_next(t);
		return;
	}
	t->lookup = resolver_ask(v->resolver, s->number, to->name, to->ip.port, on_resolved, t);
	if (!t->lookup) {
		server_too_many_names(v);
		refuse(t, SOCKS5_FAILURE);
	}
}

struct pipe *target_pipe(struct target *t)
{
	return &t->pipe;
}

void target_closed(struct target *t, enum mux_end how)
{
	if (t->flowing)
		pipe_closed(&t->pipe, how);
	else
		target_free(t);
}

void targets_drop_all(struct session *s)
{
	struct target *t;

	while ((t = LIST_FIRST(&s->targets))) {
		if (t->flowing)
			pipe_abort(&t->pipe, true);
		target_free(t);
	}
}

void targets_sweep(struct session *s, uint64_t now)
{
	struct target *t, *next;

	for (t = LIST_FIRST(&s->targets); t; t = next) {
		next = LIST_NEXT(t, link);
		if (!t->flowing && now >= t->deadline_us) {
			refuse(t, SOCKS5_HOST_UNREACHABLE);
		} else if (t->flowing && now >= t->pipe.last_us + s->server->opt->idle_us) {
			log_debug("socks-server: a stream was idle for too long");
			pipe_abort(&t->pipe, false);
			target_free(t);
		}
	}
}
