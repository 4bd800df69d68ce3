#include "scan/exchange.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cstr.h"
#include "io/sockaddr.h"
#include "io/timer.h"

struct scan_exchange {
	struct bufferevent *bev;
	struct event *timer;
	scan_input *input;
	scan_answer_cb *cb;
	void *arg;
	struct scan_notes notes;
};

/* ---- addresses ---- */

/* Without what stands before the path or the IP; *is_path tells which. */
static const char *address_strip(const char *address, bool *is_path)
{
	if (strncmp(address, "tcp://", 6) == 0)
		address += 6;
	else if (strncmp(address, "unix://", 7) == 0)
		address += 7;
	else if (strncmp(address, "unix:", 5) == 0)
		address += 5;
	*is_path = *address == '/';
	return address;
}

static socklen_t address_read(struct sockaddr_storage *ss, const char *address, uint16_t port)
{
	struct net_addr a;
	bool is_path;

	address = address_strip(address, &is_path);
	if (is_path)
		return sockaddr_from_path(ss, address);
	return net_addr_parse(&a, address, port) ? 0 : sockaddr_from_net(ss, &a);
}

int scan_probe_address(const char *address, const char *what, char *why)
{
	struct stat st;
	bool is_path;

	if (!*address) {
		cstr_print(why, SCAN_WHY_MAX, "no address of %s is configured", what);
		return -ENOENT;
	}
	address = address_strip(address, &is_path);
	if (is_path && stat(address, &st) != 0) {
		cstr_print(why, SCAN_WHY_MAX, "%s does not run here (no %.80s)", what, address);
		return -ENOENT;
	}
	return 0;
}

/* ---- the exchange ---- */

void scan_exchange_cancel(void *request)
{
	struct scan_exchange *x = request;

	if (!x)
		return;
	if (x->bev)
		bufferevent_free(x->bev);
	event_drop(x->timer);
	free(x);
}

static void finish(struct scan_exchange *x, int err, const char *why)
{
	struct evbuffer *in = bufferevent_get_input(x->bev);
	size_t len = err ? 0 : evbuffer_get_length(in);
	const uint8_t *data = len ? evbuffer_pullup(in, -1) : NULL;

	bufferevent_disable(x->bev, EV_READ | EV_WRITE);
	x->cb(err, why, data, len, x->arg);
	scan_exchange_cancel(x);
}

/* True: it has come to its end. */
static bool look(struct scan_exchange *x, bool ended)
{
	struct evbuffer *in = bufferevent_get_input(x->bev);
	size_t len = evbuffer_get_length(in);
	int rc;

	if (len > SCAN_ANSWER_MAX_BYTES) {
		finish(x, -E2BIG, "its answer is too long");
		return true;
	}
	rc = len ? x->input(x, bytes_of(evbuffer_pullup(in, -1), len), ended) : 0;
	if (rc == 0 && !ended)
		return false;
	if (rc > 0)
		finish(x, 0, "");
	else
		finish(x, rc ? rc : -EPROTO,
		       rc ? "it refuses to answer" : "it ended in the middle");
	return true;
}

static void on_read(struct bufferevent *bev, void *arg)
{
	(void)bev;
	look(arg, false);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	int err = EVUTIL_SOCKET_ERROR();

	(void)bev;
	if (what & BEV_EVENT_EOF)
		look(arg, true);
	else if (what & BEV_EVENT_ERROR)
		finish(arg, err ? -err : -EIO, strerror(err ? err : EIO));
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	finish(arg, -ETIMEDOUT, "it does not answer in time");
}

struct scan_notes *scan_exchange_notes(struct scan_exchange *x)
{
	return &x->notes;
}

void scan_exchange_send(struct scan_exchange *x, const void *data, size_t len)
{
	bufferevent_write(x->bev, data, len);
}

void scan_exchange_print(struct scan_exchange *x, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	evbuffer_add_vprintf(bufferevent_get_output(x->bev), fmt, ap);
	va_end(ap);
}

int scan_exchange_start(struct scan_exchange **out, const struct scan_env *env, const char *address,
			uint16_t port, const char *hello, scan_input *input, scan_answer_cb *cb,
			void *arg)
{
	struct scan_exchange *x;
	struct sockaddr_storage ss;
	socklen_t len = address_read(&ss, address, port);

	if (!len)
		return -EINVAL;
	x = calloc(1, sizeof *x);
	if (!x)
		return -ENOMEM;
	x->input = input;
	x->cb = cb;
	x->arg = arg;
	/* Deferred: a connect that fails at once is told from the loop. */
	x->bev = bufferevent_socket_new(env->base, -1,
					BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
	x->timer = timer_new(env->base, on_timeout, x);
	if (!x->bev || !x->timer || timer_in(x->timer, env->timeout_us)) {
		scan_exchange_cancel(x);
		return -ENOMEM;
	}
	bufferevent_setcb(x->bev, on_read, NULL, on_event, x);
	bufferevent_enable(x->bev, EV_READ | EV_WRITE);
	if (hello)
		bufferevent_write(x->bev, hello, strlen(hello));
	if (bufferevent_socket_connect(x->bev, (struct sockaddr *)&ss, (int)len)) {
		int err = errno ? -errno : -EIO;
		scan_exchange_cancel(x);
		return err;
	}
	*out = x;
	return 0;
}

/* ---- answers that are there ---- */

struct scan_reply {
	struct event *now;
	uint8_t *data;
	size_t len;
	int err;
	char why[SCAN_WHY_MAX];
	scan_answer_cb *cb;
	void *arg;
};

void scan_reply_cancel(void *request)
{
	struct scan_reply *r = request;

	if (!r)
		return;
	event_drop(r->now);
	free(r->data);
	free(r);
}

static void on_now(evutil_socket_t fd, short what, void *arg)
{
	struct scan_reply *r = arg;

	(void)fd, (void)what;
	r->cb(r->err, r->why, r->data, r->err ? 0 : r->len, r->arg);
	scan_reply_cancel(r);
}

int scan_reply_start(void **out, const struct scan_env *env, int err, const char *why,
		     uint8_t *data, size_t len, scan_answer_cb *cb, void *arg)
{
	static const struct timeval at_once = {0, 0};
	struct scan_reply *r = calloc(1, sizeof *r);

	if (!r) {
		free(data);
		return -ENOMEM;
	}
	*r = (struct scan_reply){.data = data, .len = len, .err = err, .cb = cb, .arg = arg};
	cstr_copy(r->why, sizeof r->why, why);
	r->now = timer_new(env->base, on_now, r);
	if (!r->now || evtimer_add(r->now, &at_once)) {
		scan_reply_cancel(r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}
