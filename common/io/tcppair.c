#include "io/tcppair.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/timer.h"

#define READS_MAX 4		 /* in a row, of one end */
#define HALF_ENDED_US 240000000u /* RFC 5382 */
#define KEEPALIVE_IDLE_S 60
#define KEEPALIVE_INTERVAL_S 15
#define KEEPALIVE_COUNT 4

struct end {
	struct tcppair *pair;
	int fd;
	struct event *readable, *writable;
	uint8_t *waiting; /* for this end to take it; NULL: nothing */
	size_t waiting_at, waiting_len;
	bool ended; /* it sends nothing more */
	bool shut;  /* it has been told the same of the other */
};

struct tcppair {
	struct end ends[2];
	tcppair_moved *moved;
	tcppair_over *over;
	void *arg;
	uint64_t last_us;
};

void tcppair_reset_socket(int fd)
{
	const struct linger now = {.l_onoff = 1};

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(fd);
}

void tcppair_prepare(int fd)
{
	const int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S,
		  count = KEEPALIVE_COUNT;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

static void close_ends(struct tcppair *p, bool reset)
{
	for (int i = 0; i < 2; i++) {
		struct end *e = &p->ends[i];

		event_drop(e->readable);
		event_drop(e->writable);
		e->readable = e->writable = NULL;
		free(e->waiting);
		e->waiting = NULL;
		if (e->fd >= 0 && reset)
			tcppair_reset_socket(e->fd);
		else if (e->fd >= 0)
			close(e->fd);
		e->fd = -1;
	}
}

static struct end *other(struct end *e)
{
	return &e->pair->ends[e == &e->pair->ends[TCPPAIR_A]];
}

static void finish(struct tcppair *p, bool reset)
{
	close_ends(p, reset);
	p->over(p->arg); /* may free us */
}

/* The end of `e` is passed on once everything of it has been.  True: the pair is over. */
static bool pass_end(struct end *e)
{
	struct end *to = other(e);

	if (!e->ended || to->waiting || to->shut)
		return false;
	to->shut = true;
	shutdown(to->fd, SHUT_WR);
	if (!e->shut)
		return false;
	finish(e->pair, false);
	return true;
}

/* Sends, and keeps what is not taken; the sender is read no further then.  False: failed. */
static bool give(struct end *to, const uint8_t *data, size_t len)
{
	ssize_t n = send(to->fd, data, len, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return false;
	size_t taken = n < 0 ? 0 : (size_t)n;
	if (taken == len)
		return true;
	to->waiting = malloc(len - taken);
	if (!to->waiting)
		return false;
	memcpy(to->waiting, data + taken, len - taken);
	to->waiting_at = 0;
	to->waiting_len = len - taken;
	event_del(other(to)->readable);
	return event_add(to->writable, NULL) == 0;
}

/* False: the pair is over. */
static bool read_once(struct end *e, bool *more)
{
	static uint8_t buffer[TCPPAIR_BUFFER];
	ssize_t n = recv(e->fd, buffer, sizeof buffer, 0);
	struct tcppair *p = e->pair;

	*more = n == (ssize_t)sizeof buffer;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n == 0) {
		e->ended = true;
		event_del(e->readable);
		return !pass_end(e);
	}
	if (n > 0) {
		p->last_us = daemon_now_us();
		if (p->moved)
			p->moved(e == &p->ends[TCPPAIR_A] ? TCPPAIR_A : TCPPAIR_B, (size_t)n,
				 p->arg);
		if (give(other(e), buffer, (size_t)n))
			return true;
	}
	finish(p, true);
	return false;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct end *e = arg;
	bool more = true;

	(void)fd;
	(void)what;
	for (int i = 0; more && i < READS_MAX; i++)
		if (!read_once(e, &more) || other(e)->waiting)
			return;
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct end *e = arg;
	struct tcppair *p = e->pair;
	ssize_t n = send(fd, e->waiting + e->waiting_at, e->waiting_len, MSG_NOSIGNAL);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		finish(p, true);
		return;
	}
	p->last_us = daemon_now_us();
	e->waiting_at += (size_t)n;
	e->waiting_len -= (size_t)n;
	if (e->waiting_len)
		return;
	free(e->waiting);
	e->waiting = NULL;
	event_del(e->writable);
	if (other(e)->ended)
		pass_end(other(e));
	else if (event_add(other(e)->readable, NULL))
		finish(p, true);
}

static int end_init(struct tcppair *p, struct event_base *base, enum tcppair_end which, int fd)
{
	struct end *e = &p->ends[which];

	e->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, e);
	e->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, on_writable, e);
	return e->readable && e->writable && event_add(e->readable, NULL) == 0 ? 0 : -ENOMEM;
}

static int keep_first(struct end *to, struct bytes first)
{
	if (!first.len)
		return 0;
	to->waiting = malloc(first.len);
	if (!to->waiting)
		return -ENOMEM;
	memcpy(to->waiting, first.data, first.len);
	to->waiting_len = first.len;
	event_del(other(to)->readable);
	return event_add(to->writable, NULL) == 0 ? 0 : -ENOMEM;
}

int tcppair_new(struct tcppair **out, struct event_base *base, int a, int b, struct bytes to_b,
		tcppair_moved *moved, tcppair_over *over, void *arg)
{
	struct tcppair *p = calloc(1, sizeof *p);
	int rc;

	if (!p)
		return -ENOMEM;
	p->moved = moved;
	p->over = over;
	p->arg = arg;
	p->last_us = daemon_now_us();
	for (int i = 0; i < 2; i++)
		p->ends[i] = (struct end){.pair = p, .fd = -1};
	rc = end_init(p, base, TCPPAIR_A, a);
	if (!rc)
		rc = end_init(p, base, TCPPAIR_B, b);
	if (!rc)
		rc = keep_first(&p->ends[TCPPAIR_B], to_b);
	if (rc) {
		tcppair_free(p);
		return rc;
	}
	p->ends[TCPPAIR_A].fd = a;
	p->ends[TCPPAIR_B].fd = b;
	*out = p;
	return 0;
}

void tcppair_free(struct tcppair *p)
{
	if (!p)
		return;
	close_ends(p, true);
	free(p);
}

bool tcppair_is_silent(const struct tcppair *p, uint64_t idle_us, uint64_t now_us)
{
	bool half = p->ends[TCPPAIR_A].ended || p->ends[TCPPAIR_B].ended;

	if (half && idle_us > HALF_ENDED_US)
		idle_us = HALF_ENDED_US;
	return now_us - p->last_us > idle_us;
}
