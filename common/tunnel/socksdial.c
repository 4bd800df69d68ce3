#include "tunnel/socksdial.h"

#include <errno.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/sockaddr.h"
#include "io/tcppair.h"
#include "io/timer.h"

#define REQUEST_BYTES_MAX (3u + SOCKS_ADDR_BYTES_MAX)
#define SAID_MAX (SOCKS5_GREETING_BYTES + SOCKS5_MESSAGE_MAX + REQUEST_BYTES_MAX)
#define HEARD_MAX (3u + SOCKS_ADDR_BYTES_MAX)

enum step { CONNECTING, GREETING, LOGIN, REQUEST };

struct socksdial {
	struct socksdial_server server;
	enum socksdial_want want;
	struct net_addr to;
	int fd;
	struct event *readable, *writable;
	enum step step;
	uint8_t said[SAID_MAX];
	size_t said_at, said_len;
	uint8_t heard[HEARD_MAX];
	size_t heard_len;
	struct net_addr bound;
	socksdial_cb *cb;
	void *arg;
};

static void dial_free(struct socksdial *d)
{
	event_drop(d->readable);
	event_drop(d->writable);
	if (d->fd >= 0)
		close(d->fd);
	sodium_memzero(d, sizeof *d);
	free(d);
}

void socksdial_cancel(struct socksdial *d)
{
	if (d)
		dial_free(d);
}

static void finish(struct socksdial *d, int err, uint8_t code)
{
	struct socksdial_result r = {.err = err, .code = code, .fd = -1, .bound = d->bound};
	socksdial_cb *cb = d->cb;
	void *arg = d->arg;

	if (!err) {
		r.fd = d->fd;
		d->fd = -1;
	}
	dial_free(d);
	cb(&r, arg);
}

/* ---- saying ---- */

static bool has_login(const struct socksdial *d)
{
	return d->server.user[0] != '\0';
}

static void say(struct socksdial *d, enum step step)
{
	struct wbuf w = wbuf_init(d->said + d->said_len, sizeof d->said - d->said_len);

	if (step == GREETING)
		socks5_write_greeting(&w, has_login(d) ? SOCKS5_PASSWORD : SOCKS5_NO_LOGIN);
	else if (step == LOGIN)
		socks5_write_login(&w, d->server.user, d->server.password);
	else
		socks5_write_request(
			&w, d->want == SOCKSDIAL_CONNECT ? SOCKS5_CONNECT : SOCKS5_ASSOCIATE,
			&d->to);
	d->said_len += wbuf_len(&w);
}

/* False: over. */
static bool send_said(struct socksdial *d)
{
	ssize_t n = send(d->fd, d->said + d->said_at, d->said_len - d->said_at, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		finish(d, -errno, 0);
		return false;
	}
	d->said_at += n < 0 ? 0 : (size_t)n;
	if (d->said_at < d->said_len)
		event_add(d->writable, NULL);
	else
		event_del(d->writable);
	return true;
}

static bool say_now(struct socksdial *d, enum step step)
{
	if (!d->server.eager) {
		d->said_at = d->said_len = 0;
		say(d, step);
	}
	d->step = step;
	return d->server.eager || send_said(d);
}

static void begin(struct socksdial *d)
{
	say(d, GREETING);
	if (d->server.eager && has_login(d))
		say(d, LOGIN);
	if (d->server.eager && d->want != SOCKSDIAL_CHECK)
		say(d, REQUEST);
	d->step = GREETING;
	send_said(d);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct socksdial *d = arg;
	int err = 0;
	socklen_t len = sizeof err;

	(void)what;
	if (d->step != CONNECTING) {
		send_said(d);
		return;
	}
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
	if (err)
		finish(d, -err, 0);
	else
		begin(d);
}

/* ---- hearing ---- */

/* How many bytes belong to what is waited for: no more are taken, what follows is the owner's. */
static size_t wanted(const struct socksdial *d)
{
	if (d->step != REQUEST)
		return SOCKS5_ANSWER_BYTES;
	if (d->heard_len < SOCKS5_REPLY_HEAD)
		return SOCKS5_REPLY_HEAD;
	int size = socks_addr_size(d->heard + 3, d->heard_len - 3);
	return size > 0 ? 3 + (size_t)size : d->heard_len;
}

/* False: over. */
static bool after_login(struct socksdial *d)
{
	if (d->want == SOCKSDIAL_CHECK) {
		finish(d, 0, 0);
		return false;
	}
	return say_now(d, REQUEST);
}

static bool on_choice(struct socksdial *d)
{
	int choice = socks5_read_choice(d->heard);

	if (choice == (int)(has_login(d) ? SOCKS5_PASSWORD : SOCKS5_NO_LOGIN))
		return has_login(d) ? say_now(d, LOGIN) : after_login(d);
	finish(d, choice == SOCKS5_NO_METHOD ? -EACCES : -EPROTO, 0);
	return false;
}

static bool on_login(struct socksdial *d)
{
	int rc = socks5_read_login_answer(d->heard);

	if (!rc)
		return after_login(d);
	finish(d, rc, 0);
	return false;
}

static bool on_reply(struct socksdial *d)
{
	struct socks5_reply reply = {0};
	int rc = socks5_read_reply(d->heard, d->heard_len, &reply);

	if (rc == 0)
		return true; /* not yet whole */
	d->bound = reply.bound.ip;
	if (rc < 0)
		finish(d, -EPROTO, 0);
	else
		finish(d, reply.code == SOCKS5_OK ? 0 : -EREMOTEIO, reply.code);
	return false;
}

/* False: over. */
static bool hear(struct socksdial *d)
{
	enum step step = d->step;

	if (step == REQUEST)
		return on_reply(d);
	d->heard_len = 0;
	return step == GREETING ? on_choice(d) : on_login(d);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct socksdial *d = arg;

	if (what & EV_TIMEOUT) {
		finish(d, -ETIMEDOUT, 0);
		return;
	}
	if (d->step == CONNECTING) { /* failed, or who speaks first is no SOCKS5 server */
		on_writable(fd, EV_WRITE, d);
		return;
	}
	for (;;) {
		size_t want = wanted(d);
		ssize_t n = recv(fd, d->heard + d->heard_len, want - d->heard_len, 0);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			finish(d, n < 0 ? -errno : -ECONNRESET, 0);
			return;
		}
		d->heard_len += (size_t)n;
		if (d->heard_len == want && !hear(d))
			return;
	}
}

/* ---- start ---- */

static int open_socket(struct socksdial *d)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_from_net(&ss, &d->server.addr);

	if (!len)
		return -EDESTADDRREQ;
	d->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (d->fd < 0)
		return -errno;
	tcppair_prepare(d->fd);
	return connect(d->fd, (struct sockaddr *)&ss, len) && errno != EINPROGRESS ? -errno : 0;
}

int socksdial_start(struct socksdial **out, struct event_base *base,
		    const struct socksdial_server *server, enum socksdial_want want,
		    const struct net_addr *to, uint64_t timeout_us, socksdial_cb *cb, void *arg)
{
	struct socksdial *d = calloc(1, sizeof *d);
	int rc;

	if (!d)
		return -ENOMEM;
	d->server = *server;
	d->want = want;
	d->fd = -1;
	d->cb = cb;
	d->arg = arg;
	if (to)
		d->to = *to;
	rc = open_socket(d);
	if (!rc) {
		d->readable = event_new(base, d->fd, EV_READ | EV_PERSIST, on_readable, d);
		d->writable = event_new(base, d->fd, EV_WRITE | EV_PERSIST, on_writable, d);
		/* Until it is connected only the time counts. */
		if (!d->readable || !d->writable || timer_in(d->readable, timeout_us) ||
		    event_add(d->writable, NULL))
			rc = -ENOMEM;
	}
	if (rc) {
		dial_free(d);
		return rc;
	}
	*out = d;
	return 0;
}
