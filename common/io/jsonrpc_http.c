/*
 * An rpc_server behind evhttp.
 *
 * evhttp of libevent 2.1 neither limits the number of connections nor the time a whole request may
 * take (its timeout restarts with every byte).  So we make each connection's bufferevent ourselves
 * and hold a reference to it: the sweep below ends what is over time with shutdown(), which evhttp
 * sees as the peer's end of file, and takes over what evhttp has freed (its callbacks are gone).
 * That then lingers a moment and drops what still comes in: closed with unread bytes, the socket
 * would be reset, and a client that is still sending would never read our 413.
 */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <event2/util.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>

#include "base/log.h"
#include "io/clock.h"
#include "io/jsonrpc.h"
#include "io/jsonrpc_guard.h"
#include "io/sockaddr.h"
#include "io/timer.h"

#define LISTENERS_MAX 32
#define HOOKS_MAX 32
#define HEADERS_MAX_BYTES 16384
/* Of one connection; evhttp leaves a body in the input until it is whole. */
#define INPUT_MAX_BYTES (RPC_BODY_MAX_BYTES + HEADERS_MAX_BYTES)
#define LINGER_US 2000000u
#define SECOND_US 1000000u

struct hook {
	const char *path;
	enum rpc_access access;
	rpc_get_handler *handler;	  /* or */
	const struct rpc_stream_ops *ops; /* an answer that goes on */
	void *arg;
};

/* Also the rpc_stream of the header. */
struct conn {
	TAILQ_ENTRY(conn) link;
	struct rpc_http *http;
	struct bufferevent *bev;
	struct net_addr addr, local;
	uint64_t deadline_us;
	struct evhttp_request *req; /* while its answer is outstanding */
	struct rpc_request *rpc;
	const struct hook *streaming; /* `req` is an answer without end */
	bool admitted, ended, lingering, denied;
};
TAILQ_HEAD(conn_list, conn);

struct rpc_http {
	struct event_base *base;
	struct rpc_server *server;
	struct evhttp *evhttp;
	struct event *sweep;
	struct rpc_guard guard;
	struct evhttp_bound_socket *bound[LISTENERS_MAX];
	size_t bound_count, conn_count, hook_count;
	struct conn_list conns;
	struct hook hooks[HOOKS_MAX];
	struct log_limit crowded;
	uint64_t requests, unauthorized;
	time_t dated; /* `date` is of then; 0: of never */
	char date[32];
};

/* ---- connections ---- */

static void addr_of_fd(int fd, struct net_addr *out)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof ss;

	*out = (struct net_addr){0};
	if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
		sockaddr_to_net(out, (struct sockaddr *)&ss);
}

static void local_of_fd(int fd, struct net_addr *out)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof ss;

	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		sockaddr_to_net(out, (struct sockaddr *)&ss);
}

static bool conn_is_dead(const struct conn *c)
{
	bufferevent_event_cb event_cb;

	bufferevent_getcb(c->bev, NULL, NULL, &event_cb, NULL);
	return !event_cb;
}

static void conn_free(struct conn *c)
{
	TAILQ_REMOVE(&c->http->conns, c, link);
	c->http->conn_count--;
	bufferevent_decref(c->bev);
	free(c);
}

static void conn_end(struct conn *c)
{
	if (!c->ended)
		shutdown(bufferevent_getfd(c->bev), SHUT_RDWR);
	c->ended = true;
}

/* Counts live connections, of everybody or of the peer of `of`, and finds the one that has been
 * idle longest (the list is in that order). */
static size_t live_count(const struct rpc_http *h, const struct conn *of, struct conn **idle)
{
	size_t count = 0;
	struct conn *o;

	*idle = NULL;
	TAILQ_FOREACH(o, &h->conns, link) {
		unsigned bits = o->addr.family == 4 ? 32 : 64;
		if (!o->admitted || o->ended || o->lingering)
			continue;
		if (of && !net_addr_same_prefix(&o->addr, &of->addr, bits))
			continue;
		count++;
		if (!*idle && !o->req && o != of)
			*idle = o;
	}
	return count;
}

/* A new connection always finds room: one that has not said anything for longest goes for it, first
 * one of the same peer when that peer has many.  So nobody keeps others out by holding idle ones;
 * only when every one of them waits for an answer is the new one refused. */
static void conn_admit(struct conn *c)
{
	struct rpc_http *h = c->http;
	struct conn *idle;
	char text[NET_ADDR_TEXT];

	addr_of_fd(bufferevent_getfd(c->bev), &c->addr);
	local_of_fd(bufferevent_getfd(c->bev), &c->local);
	c->admitted = true;
	if ((net_addr_is_loopback(&c->addr) ||
	     live_count(h, c, &idle) <= RPC_CONNECTIONS_PER_PEER_MAX) &&
	    live_count(h, NULL, &idle) <= RPC_CONNECTIONS_MAX)
		return;
	if (log_limit_due(&h->crowded, daemon_now_us()))
		log_warn("rpc: too many connections, closing idle ones for new ones; now for %s "
			 "(%llu so far)",
			 net_addr_ip_text(&c->addr, text), (unsigned long long)h->crowded.count);
	conn_end(idle ? idle : c);
}

static void conn_overdue(struct conn *c, uint64_t now)
{
	struct evhttp_request *req = c->req;

	if (!req) {
		conn_end(c);
		return;
	}
	rpc_request_abandon(c->rpc);
	c->req = NULL;
	c->rpc = NULL;
	c->deadline_us = now + RPC_IDLE_S * SECOND_US;
	evhttp_send_error(req, HTTP_SERVUNAVAIL, "no answer in time");
}

static void linger_read(struct bufferevent *bev, void *arg)
{
	struct evbuffer *in = bufferevent_get_input(bev);

	(void)arg;
	evbuffer_drain(in, evbuffer_get_length(in));
}

static void linger_event(struct bufferevent *bev, short what, void *arg)
{
	(void)bev;
	(void)what;
	conn_free(arg);
}

static void conn_linger(struct conn *c, uint64_t now)
{
	c->lingering = true;
	c->deadline_us = now + LINGER_US;
	linger_read(c->bev, NULL);
	bufferevent_set_timeouts(c->bev, NULL, NULL);
	bufferevent_setcb(c->bev, linger_read, NULL, linger_event, c);
	if (c->ended || bufferevent_enable(c->bev, EV_READ))
		conn_free(c);
}

static void stream_gone(struct conn *c);

static void conn_check(struct conn *c, uint64_t now)
{
	if (c->streaming && conn_is_dead(c))
		stream_gone(c);
	if (c->lingering) {
		if (now >= c->deadline_us)
			conn_free(c);
	} else if (conn_is_dead(c)) {
		if (!c->req)
			conn_linger(c, now);
	} else {
		if (!c->admitted && !c->ended)
			conn_admit(c);
		if (now >= c->deadline_us)
			conn_overdue(c, now);
	}
}

static void sweep(evutil_socket_t fd, short what, void *arg)
{
	struct rpc_http *h = arg;
	uint64_t now = daemon_now_us();
	struct conn *c, *next;

	(void)fd;
	(void)what;
	for (c = TAILQ_FIRST(&h->conns); c; c = next) {
		next = TAILQ_NEXT(c, link);
		conn_check(c, now);
	}
	if (h->conn_count) {
		const struct timeval second = {.tv_sec = 1};
		event_add(h->sweep, &second);
	}
}

/* evhttp asks for the bufferevent of a connection it has just accepted; the socket comes after. */
static struct bufferevent *conn_new(struct event_base *base, void *arg)
{
	struct rpc_http *h = arg;
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	struct conn *c = bev ? calloc(1, sizeof *c) : NULL;

	if (!c) {
		if (bev)
			bufferevent_free(bev);
		return NULL;
	}
	bufferevent_setwatermark(bev, EV_READ, 0, INPUT_MAX_BYTES);
	bufferevent_incref(bev);
	c->http = h;
	c->bev = bev;
	c->deadline_us = daemon_now_us() + RPC_IDLE_S * SECOND_US;
	TAILQ_INSERT_TAIL(&h->conns, c, link);
	h->conn_count++;
	event_active(h->sweep, EV_TIMEOUT, 0);
	return bev;
}

static struct conn *conn_of(struct rpc_http *h, struct evhttp_request *req)
{
	struct evhttp_connection *evcon = evhttp_request_get_connection(req);
	struct bufferevent *bev = evcon ? evhttp_connection_get_bufferevent(evcon) : NULL;
	struct conn *c;

	TAILQ_FOREACH(c, &h->conns, link)
		if (c->bev == bev)
			return c;
	return NULL;
}

/* ---- requests ---- */

static bool is_authorised(const struct rpc_http *h, const struct net_addr *addr,
			  struct evhttp_request *req)
{
	const struct evkeyvalq *in = evhttp_request_get_input_headers(req);
	const struct rpc_credentials given = {
		.addr = *addr,
		.get = evhttp_request_get_command(req) == EVHTTP_REQ_GET,
		.origin = evhttp_find_header(in, "Origin"),
		.host = evhttp_find_header(in, "Host"),
		.authorization = evhttp_find_header(in, "Authorization"),
		.fetch_site = evhttp_find_header(in, "Sec-Fetch-Site"),
	};

	return rpc_guard_allows(&h->guard, &given);
}

/*
 * evhttp reads no body with most methods and would take it for the next request: one that a web
 * page could write in full, without the Origin header of its own.
 */
static void close_after(struct evhttp_request *req)
{
	evhttp_add_header(evhttp_request_get_output_headers(req), "Connection", "close");
}

/* evhttp would write it anew for each answer. */
static const char *date_now(struct rpc_http *h)
{
	time_t now = (time_t)daemon_wall_s();
	struct tm tm;

	if (now != h->dated && gmtime_r(&now, &tm)) {
		evutil_date_rfc1123(h->date, sizeof h->date, &tm);
		h->dated = now;
	}
	return h->date;
}

static void headers_common(struct rpc_http *h, struct evhttp_request *req, const char *type)
{
	struct evkeyvalq *out = evhttp_request_get_output_headers(req);

	evhttp_add_header(out, "Date", date_now(h));
	evhttp_add_header(out, "Content-Type", type);
	evhttp_add_header(out, "Cache-Control", "no-store");
	evhttp_add_header(out, "X-Content-Type-Options", "nosniff");
}

static void unauthorized(struct rpc_http *h, struct evhttp_request *req)
{
	h->unauthorized++;
	evhttp_add_header(evhttp_request_get_output_headers(req), "WWW-Authenticate",
			  "Bearer realm=\"meshnet\"");
}

static void send_bytes(struct conn *c, struct evhttp_request *req, const char *text, size_t len)
{
	struct evbuffer *body = evbuffer_new();

	if (!body || (len && evbuffer_add(body, text, len))) {
		evhttp_send_error(req, HTTP_INTERNAL, NULL);
	} else if (len == 0) {
		evhttp_send_reply(req, HTTP_NOCONTENT, "No Content", NULL);
	} else {
		headers_common(c->http, req, "application/json");
		if (c->denied)
			unauthorized(c->http, req);
		evhttp_send_reply(req, c->denied ? 401 : HTTP_OK, c->denied ? "Unauthorized" : "OK",
				  body);
	}
	if (body)
		evbuffer_free(body);
}

static void answered(const char *text, size_t len, void *arg)
{
	struct conn *c = arg;
	struct evhttp_request *req = c->req;

	c->req = NULL;
	c->rpc = NULL;
	c->deadline_us = daemon_now_us() + RPC_IDLE_S * SECOND_US;
	send_bytes(c, req, text, len);
}

static void serve_post(struct rpc_http *h, struct conn *c, struct evhttp_request *req,
		       struct rpc_ctx *ctx)
{
	struct evbuffer *in = evhttp_request_get_input_buffer(req);
	size_t len = evbuffer_get_length(in);
	const unsigned char *body = len ? evbuffer_pullup(in, -1) : (const unsigned char *)"";
	struct rpc_request *rpc;

	if (!body) {
		evhttp_send_error(req, HTTP_INTERNAL, NULL);
		return;
	}
	c->req = req;
	c->denied = false;
	ctx->denied = &c->denied;
	c->deadline_us = daemon_now_us() + RPC_ANSWER_S * SECOND_US;
	rpc = rpc_dispatch(h->server, body, len, ctx, answered, c);
	if (rpc)
		c->rpc = rpc;
}

static const struct hook *hook_find(const struct rpc_http *h, const char *path)
{
	const struct hook *best = NULL;

	for (size_t i = 0; i < h->hook_count; i++) {
		const struct hook *k = &h->hooks[i];
		size_t len = strlen(k->path);
		bool below = k->path[len - 1] == '/' && strncmp(path, k->path, len) == 0;

		if (strcmp(path, k->path) == 0)
			return k;
		if (below && (!best || len > strlen(best->path)))
			best = k;
	}
	return best;
}

static void serve_page(struct rpc_http *h, const struct hook *k, struct evhttp_request *req,
		       const struct rpc_ctx *ctx, const char *path, const char *query)
{
	struct rpc_page page = {HTTP_OK, "text/html; charset=utf-8", evbuffer_new()};

	if (!page.body) {
		evhttp_send_error(req, HTTP_INTERNAL, NULL);
		return;
	}
	k->handler(ctx, path, query, &page, k->arg);
	headers_common(h, req, page.type);
	evhttp_send_reply(req, page.status, NULL, page.body);
	evbuffer_free(page.body);
}

/* evhttp has given the connection up.  A request that it has let go of is ours to free. */
static void stream_gone(struct conn *c)
{
	const struct hook *k = c->streaming;
	struct evhttp_request *req = c->req;

	if (!k)
		return;
	c->streaming = NULL;
	c->req = NULL;
	k->ops->closed((struct rpc_stream *)c, k->arg);
	if (!evhttp_request_get_connection(req))
		evhttp_send_reply_end(req);
}

static void stream_closed(struct evhttp_connection *evcon, void *arg)
{
	(void)evcon;
	stream_gone(arg);
}

static void serve_stream(const struct hook *k, struct conn *c, struct evhttp_request *req)
{
	const char *last =
		evhttp_find_header(evhttp_request_get_input_headers(req), "Last-Event-ID");

	if (!k->ops->room(k->arg)) {
		evhttp_send_error(req, HTTP_SERVUNAVAIL, "too many readers");
		return;
	}
	c->streaming = k;
	c->req = req;
	c->deadline_us = UINT64_MAX;
	headers_common(c->http, req, k->ops->type);
	evhttp_connection_set_closecb(evhttp_request_get_connection(req), stream_closed, c);
	evhttp_send_reply_start(req, HTTP_OK, "OK");
	bufferevent_set_timeouts(c->bev, NULL, NULL);
	k->ops->open((struct rpc_stream *)c, last, k->arg);
}

int rpc_stream_send(struct rpc_stream *stream, const void *data, size_t len)
{
	struct conn *c = (struct conn *)stream;
	struct evbuffer *chunk;

	if (c->ended || !c->streaming)
		return -EPIPE;
	if (evbuffer_get_length(bufferevent_get_output(c->bev)) + len > RPC_STREAM_BACKLOG_BYTES) {
		conn_end(c);
		return -ENOBUFS;
	}
	chunk = evbuffer_new();
	if (chunk && evbuffer_add(chunk, data, len) == 0)
		evhttp_send_reply_chunk(c->req, chunk);
	if (chunk)
		evbuffer_free(chunk);
	return chunk ? 0 : -ENOMEM;
}

static void serve_get(struct rpc_http *h, struct conn *c, struct evhttp_request *req,
		      const struct rpc_ctx *ctx)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *raw = uri ? evhttp_uri_get_path(uri) : NULL;
	size_t len = 0;
	char *path = evhttp_uridecode(raw && *raw ? raw : "/", 0, &len);
	const struct hook *k = path && strlen(path) == len ? hook_find(h, path) : NULL;

	if (!k && h->hook_count == 0) {
		evhttp_add_header(evhttp_request_get_output_headers(req), "Allow", "POST");
		evhttp_send_reply(req, HTTP_BADMETHOD, "Method Not Allowed", NULL);
	} else if (!k) {
		evhttp_send_error(req, HTTP_NOTFOUND, NULL);
	} else if (k->access == RPC_AUTHORISED && !ctx->authorised) {
		h->unauthorized++;
		evhttp_send_reply(req, 403, "Forbidden", NULL);
	} else if (k->ops) {
		serve_stream(k, c, req);
	} else {
		serve_page(h, k, req, ctx, path, evhttp_uri_get_query(uri));
	}
	free(path);
}

static void serve(struct evhttp_request *req, void *arg)
{
	struct rpc_http *h = arg;
	struct conn *c = conn_of(h, req);
	enum evhttp_cmd_type method = evhttp_request_get_command(req);
	struct rpc_ctx ctx = {0};

	if (c && !c->admitted)
		conn_admit(c);
	if (!c || c->ended) {
		evhttp_send_error(req, HTTP_SERVUNAVAIL, NULL);
		return;
	}
	if (method != EVHTTP_REQ_POST ||
	    !evhttp_find_header(evhttp_request_get_input_headers(req), "Content-Length"))
		close_after(req);
	ctx.addr = c->addr;
	ctx.local = c->local;
	ctx.authorised = is_authorised(h, &ctx.addr, req);
	h->requests++;
	TAILQ_REMOVE(&h->conns, c, link); /* the list is in the order of the last sign of life */
	TAILQ_INSERT_TAIL(&h->conns, c, link);
	c->deadline_us = daemon_now_us() + RPC_IDLE_S * SECOND_US;
	if (method == EVHTTP_REQ_POST) {
		serve_post(h, c, req, &ctx);
	} else if (method == EVHTTP_REQ_GET) {
		serve_get(h, c, req, &ctx);
	} else {
		evhttp_add_header(evhttp_request_get_output_headers(req), "Allow",
				  h->hook_count ? "POST, GET" : "POST");
		evhttp_send_reply(req, HTTP_BADMETHOD, "Method Not Allowed", NULL);
	}
}

int rpc_http_set_access(struct rpc_http *http, const struct rpc_http_spec *spec)
{
	struct rpc_guard g = {0};
	int err = rpc_guard_init(&g, spec);

	if (err)
		return err;
	rpc_guard_clear(&http->guard);
	http->guard = g;
	return 0;
}

int rpc_http_get(struct rpc_http *http, const char *path, enum rpc_access access,
		 rpc_get_handler *handler, void *arg)
{
	if (http->hook_count == HOOKS_MAX)
		return -ENOMEM;
	http->hooks[http->hook_count++] = (struct hook){path, access, handler, NULL, arg};
	return 0;
}

int rpc_http_stream(struct rpc_http *http, const char *path, enum rpc_access access,
		    const struct rpc_stream_ops *ops, void *arg)
{
	if (http->hook_count == HOOKS_MAX)
		return -ENOMEM;
	http->hooks[http->hook_count++] = (struct hook){path, access, NULL, ops, arg};
	return 0;
}

void rpc_http_get_counters(const struct rpc_http *http, struct rpc_http_counters *out)
{
	*out = (struct rpc_http_counters){http->requests, http->unauthorized, http->crowded.count,
					  http->conn_count};
}

/* ---- listening ---- */

/* `arg` is evhttp's, so the limit of the log lines has to be of the process. */
static void accept_failed(struct evconnlistener *listener, void *arg)
{
	static struct log_limit limit;

	(void)listener;
	(void)arg;
	if (log_limit_due(&limit, daemon_now_us()))
		log_warn("rpc: cannot accept a connection: %s", strerror(errno));
}

static int listen_one(struct rpc_http *h, const struct net_addr *addr)
{
	const unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE |
			       (addr->family == 6 ? LEV_OPT_BIND_IPV6ONLY : 0);
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_from_net(&ss, addr);
	struct evconnlistener *l;

	if (h->bound_count == LISTENERS_MAX)
		return -ENOSPC;
	errno = 0;
	/* The callback is a placeholder (a listener without one does not start): evhttp sets its.
	 */
	l = evconnlistener_new_bind(h->base, NULL, NULL, flags, 128, (struct sockaddr *)&ss,
				    (int)len);
	if (!l)
		return errno ? -errno : -ENOMEM;
	h->bound[h->bound_count] = evhttp_bind_listener(h->evhttp, l);
	if (!h->bound[h->bound_count]) {
		evconnlistener_free(l);
		return -ENOMEM;
	}
	h->bound_count++;
	evconnlistener_set_error_cb(l, accept_failed);
	return 0;
}

static int listen_text(struct rpc_http *h, const char *text, uint16_t port, size_t first)
{
	struct net_addr addr;
	char shown[NET_ADDR_TEXT];
	int err;

	if (net_addr_parse(&addr, text, port)) {
		log_error("rpc: cannot listen on '%s': not an address like 127.0.0.1 or [::1]:1234",
			  text);
		return -EINVAL;
	}
	/* "0.0.0.0,::" with port 0: one free port for both. */
	if (addr.port == 0 && h->bound_count > first)
		addr.port = rpc_http_port(h);
	err = listen_one(h, &addr);
	if (addr.family == 6 && (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL)) {
		log_warn("rpc: no IPv6 here, not listening on %s", net_addr_text(&addr, shown));
		return 0;
	}
	if (err)
		log_error("rpc: cannot listen on %s: %s", net_addr_text(&addr, shown),
			  strerror(-err));
	return err;
}

int rpc_http_listen(struct rpc_http *http, const char *addrs, uint16_t port)
{
	size_t first = http->bound_count;
	char *copy = strdup(addrs), *rest = NULL;
	int err = copy ? 0 : -ENOMEM;

	for (char *t = copy ? strtok_r(copy, ", \t", &rest) : NULL; t && !err;
	     t = strtok_r(NULL, ", \t", &rest))
		err = listen_text(http, t, port, first);
	free(copy);
	if (!err && http->bound_count == first)
		err = -EADDRNOTAVAIL;
	while (err && http->bound_count > first)
		evhttp_del_accept_socket(http->evhttp, http->bound[--http->bound_count]);
	return err;
}

uint16_t rpc_http_port(const struct rpc_http *http)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	struct net_addr addr = {0};
	int fd = http->bound_count ? evhttp_bound_socket_get_fd(http->bound[0]) : -1;

	if (fd >= 0 && getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		sockaddr_to_net(&addr, (struct sockaddr *)&ss);
	return addr.port;
}

static int http_open(struct rpc_http *h)
{
	const ev_uint16_t all = EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
				EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS |
				EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH;

	h->evhttp = evhttp_new(h->base);
	h->sweep = timer_new(h->base, sweep, h);
	if (!h->evhttp || !h->sweep)
		return -ENOMEM;
	evhttp_set_max_body_size(h->evhttp, RPC_BODY_MAX_BYTES);
	evhttp_set_max_headers_size(h->evhttp, HEADERS_MAX_BYTES);
	evhttp_set_timeout(h->evhttp, RPC_IDLE_S);
	evhttp_set_allowed_methods(h->evhttp, all);
	evhttp_set_bevcb(h->evhttp, conn_new, h);
	evhttp_set_gencb(h->evhttp, serve, h);
	return 0;
}

int rpc_http_new(struct rpc_http **out, struct event_base *base, struct rpc_server *server,
		 const struct rpc_http_spec *spec)
{
	struct rpc_http *h = calloc(1, sizeof *h);
	int err;

	if (!h)
		return -ENOMEM;
	h->base = base;
	h->server = server;
	TAILQ_INIT(&h->conns);
	err = rpc_guard_init(&h->guard, spec);
	if (!err)
		err = http_open(h);
	if (err) {
		rpc_http_free(h);
		return err;
	}
	*out = h;
	return 0;
}

void rpc_http_free(struct rpc_http *http)
{
	struct conn *c;

	if (!http)
		return;
	for (c = TAILQ_FIRST(&http->conns); c; c = TAILQ_NEXT(c, link)) {
		if (c->rpc)
			rpc_request_abandon(c->rpc);
	}
	if (http->evhttp)
		evhttp_free(http->evhttp);
	while ((c = TAILQ_FIRST(&http->conns)))
		conn_free(c);
	event_drop(http->sweep);
	rpc_guard_clear(&http->guard);
	free(http);
}
