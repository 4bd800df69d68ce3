#include "io/statushttp.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/addr.h"
#include "base/log.h"
#include "io/clock.h"
#include "io/metrics.h"
#include "io/sockaddr.h"
#include "io/timer.h"

#define CONNECTIONS_MAX 16u
#define REQUEST_MAX_BYTES 4096u
/* For the request to be whole, then for the answer to be taken. */
#define DEADLINE_S 5

struct client {
	TAILQ_ENTRY(client) link;
	struct status_http *server;
	struct bufferevent *bev;
	struct event *deadline;
	bool answered;
};

struct status_http {
	struct event_base *base;
	struct evconnlistener *listeners[2];
	status_http_write *write;
	void *arg;
	TAILQ_HEAD(, client) clients; /* oldest first */
	size_t count;
	struct log_limit crowded;
};

static void client_free(struct client *c)
{
	TAILQ_REMOVE(&c->server->clients, c, link);
	c->server->count--;
	event_drop(c->deadline);
	bufferevent_free(c->bev);
	free(c);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	client_free(arg);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	(void)bev, (void)what;
	client_free(arg);
}

static void on_written(struct bufferevent *bev, void *arg)
{
	(void)bev;
	client_free(arg);
}

static void drain(struct bufferevent *bev)
{
	struct evbuffer *in = bufferevent_get_input(bev);

	evbuffer_drain(in, evbuffer_get_length(in));
}

static void answer(struct client *c, const char *status, const char *type, struct evbuffer *body)
{
	struct evbuffer *out = bufferevent_get_output(c->bev);

	c->answered = true;
	evbuffer_add_printf(out,
			    "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
			    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
			    "Connection: close\r\n\r\n",
			    status, type, evbuffer_get_length(body));
	evbuffer_add_buffer(out, body);
	bufferevent_setcb(c->bev, NULL, on_written, on_event, c);
}

static bool is_for(const char *line, const char *path)
{
	size_t len = strlen(path);

	return strncmp(line, "GET ", 4) == 0 && strncmp(line + 4, path, len) == 0 &&
	       (line[4 + len] == ' ' || line[4 + len] == '?');
}

/* A browser lured to a name that suddenly points at us sends that name: only numbers and localhost
 * are answered.  `request` is all of the head. */
static bool host_is_ours(const char *request)
{
	const char *host = strcasestr(request, "\nHost:");
	char name[NET_ADDR_TEXT];
	struct net_addr ip;
	size_t len;

	if (!host)
		return false;
	host += 6 + strspn(host + 6, " \t");
	len = strcspn(host, " \t\r\n");
	if (len >= sizeof name)
		return false;
	memcpy(name, host, len);
	name[len] = '\0';
	return net_addr_parse(&ip, name, 0) == 0 || strcasecmp(name, "localhost") == 0 ||
	       strncasecmp(name, "localhost:", 10) == 0;
}

static void serve(struct client *c, const char *request)
{
	struct evbuffer *body = evbuffer_new();
	struct metrics m;

	if (!body) {
		client_free(c);
		return;
	}
	if (strncmp(request, "GET ", 4) != 0) {
		answer(c, "405 Method Not Allowed", "text/plain", body);
	} else if (!is_for(request, "/metrics")) {
		evbuffer_add_printf(body, "there is only /metrics\n");
		answer(c, "404 Not Found", "text/plain", body);
	} else if (!host_is_ours(request)) {
		answer(c, "403 Forbidden", "text/plain", body);
	} else {
		metrics_begin(&m, body);
		c->server->write(&m, c->server->arg);
		answer(c, "200 OK", METRICS_TYPE, body);
	}
	evbuffer_free(body);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct client *c = arg;
	struct evbuffer *in = bufferevent_get_input(bev);
	char head[REQUEST_MAX_BYTES + 1];
	size_t len = evbuffer_get_length(in);
	struct evbuffer *nothing;

	if (c->answered)
		return;
	if (len > REQUEST_MAX_BYTES)
		len = REQUEST_MAX_BYTES;
	evbuffer_copyout(in, head, len);
	head[len] = '\0';
	if (strlen(head) == len && (strstr(head, "\r\n\r\n") || strstr(head, "\n\n"))) {
		drain(bev);
		serve(c, head);
	} else if (strlen(head) != len || len == REQUEST_MAX_BYTES) {
		drain(bev);
		nothing = evbuffer_new();
		if (nothing)
			answer(c, "400 Bad Request", "text/plain", nothing);
		else
			client_free(c);
		if (nothing)
			evbuffer_free(nothing);
	}
}

static void crowd_out(struct status_http *s)
{
	client_free(TAILQ_FIRST(&s->clients));
	if (log_limit_due(&s->crowded, daemon_now_us()))
		log_warn("metrics: too many connections, the oldest is closed (%llu so far)",
			 (unsigned long long)s->crowded.count);
}

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa, int len,
		      void *arg)
{
	const struct timeval deadline = {.tv_sec = DEADLINE_S};
	struct status_http *s = arg;
	struct client *c = calloc(1, sizeof *c);

	(void)l, (void)sa, (void)len;
	if (c)
		c->bev = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!c || !c->bev) {
		evutil_closesocket(fd);
		free(c);
		return;
	}
	if (s->count == CONNECTIONS_MAX)
		crowd_out(s);
	c->server = s;
	TAILQ_INSERT_TAIL(&s->clients, c, link);
	s->count++;
	c->deadline = timer_new(s->base, on_deadline, c);
	bufferevent_setcb(c->bev, on_read, NULL, on_event, c);
	bufferevent_setwatermark(c->bev, EV_READ, 0, REQUEST_MAX_BYTES);
	if (!c->deadline || event_add(c->deadline, &deadline) ||
	    bufferevent_enable(c->bev, EV_READ))
		client_free(c);
}

static void accept_failed(struct evconnlistener *l, void *arg)
{
	static struct log_limit limit;

	(void)l, (void)arg;
	if (log_limit_due(&limit, daemon_now_us()))
		log_warn("metrics: cannot accept a connection: %s", strerror(errno));
}

static int listen_on(struct status_http *s, size_t slot, const char *ip, uint16_t port)
{
	unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
	struct sockaddr_storage ss;
	struct net_addr addr;
	socklen_t len;

	if (net_addr_parse(&addr, ip, port))
		return -EINVAL;
	len = sockaddr_from_net(&ss, &addr);
	if (addr.family == 6)
		flags |= LEV_OPT_BIND_IPV6ONLY;
	errno = 0;
	s->listeners[slot] = evconnlistener_new_bind(s->base, on_accept, s, flags, 128,
						     (struct sockaddr *)&ss, (int)len);
	if (!s->listeners[slot])
		return errno ? -errno : -ENOMEM;
	evconnlistener_set_error_cb(s->listeners[slot], accept_failed);
	return 0;
}

int status_http_new(struct status_http **out, struct event_base *base, uint16_t port,
		    status_http_write *write, void *arg)
{
	struct status_http *s = calloc(1, sizeof *s);
	int err;

	if (!s)
		return -ENOMEM;
	s->base = base;
	s->write = write;
	s->arg = arg;
	TAILQ_INIT(&s->clients);
	err = listen_on(s, 0, "127.0.0.1", port);
	if (!err) {
		err = listen_on(s, 1, "::1", port);
		if (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL)
			err = 0;
	}
	if (err) {
		log_error("metrics: cannot listen on port %u: %s", port, strerror(-err));
		status_http_free(s);
		return err;
	}
	log_info("metrics at http://127.0.0.1:%u/metrics", port);
	*out = s;
	return 0;
}

void status_http_free(struct status_http *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < 2; i++) {
		if (s->listeners[i])
			evconnlistener_free(s->listeners[i]);
	}
	while (!TAILQ_EMPTY(&s->clients))
		client_free(TAILQ_FIRST(&s->clients));
	free(s);
}
