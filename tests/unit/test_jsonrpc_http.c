/* The HTTP side over loopback: limits, methods, time limits, access, and the client against it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "io/jsonrpc.h"
#include "netns.h"

struct fixture {
	struct event_base *base;
	struct rpc_server *server;
	struct rpc_http *http;
	struct rpc_call *held;
};

static void h_hold(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct fixture *f = arg;

	(void)params;
	f->held = call;
}

static void h_who(struct rpc_call *call, struct json_object *params, void *arg)
{
	const struct rpc_ctx *ctx = rpc_call_ctx(call);
	struct json_object *o = json_object_new_object();
	char text[NET_ADDR_TEXT];

	(void)params;
	(void)arg;
	rpc_set_str(o, "ip", net_addr_ip_text(&ctx->addr, text));
	rpc_set_bool(o, "authorised", ctx->authorised);
	rpc_reply(call, o);
}

static void h_big(struct rpc_call *call, struct json_object *params, void *arg)
{
	uint64_t size = rpc_param_u64(params, "size", 0);
	char *text;

	(void)arg;
	text = calloc(1, (size_t)size + 1);
	memset(text, 'x', (size_t)size);
	rpc_reply(call, json_object_new_string(text));
	free(text);
}

static void get_metrics(const struct rpc_ctx *ctx, const char *path, const char *query,
			struct rpc_page *page, void *arg)
{
	(void)ctx;
	(void)arg;
	page->type = "text/plain";
	evbuffer_add_printf(page->body, "path=%s query=%s", path, query ? query : "-");
}

static const struct rpc_method methods[] = {
	{.name = "who", .handler = h_who},
	{.name = "hold", .handler = h_hold},
	{.name = "big", .handler = h_big, .params = "size uint(0..4194304)\n"},
	{.name = "secret", .handler = h_who, .access = RPC_AUTHORISED},
};

static int setup(void **state)
{
	const struct rpc_http_spec spec = {.networks = "127.0.0.0/8", .token = "letmein"};
	struct fixture *f = calloc(1, sizeof *f);

	*state = f;
	f->base = event_base_new();
	assert_int_equal(rpc_server_new(&f->server), 0);
	assert_int_equal(rpc_server_add(f->server, methods, 4, f), 0);
	assert_int_equal(rpc_http_new(&f->http, f->base, f->server, &spec), 0);
	assert_int_equal(rpc_http_listen(f->http, "127.0.0.1", 0), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rpc_http_free(f->http);
	rpc_server_free(f->server);
	event_base_free(f->base);
	free(f);
	return 0;
}

static int dial(const struct fixture *f)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(rpc_http_port(f->http))};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void pump(struct fixture *f)
{
	event_base_loop(f->base, EVLOOP_NONBLOCK);
	usleep(500);
}

/* Sends everything (as far as it is taken), then reads until the end of file, `stop` in the answer,
 * or `ms`.  True at the end of file. */
static bool talk(struct fixture *f, int fd, const char *data, size_t len, const char *stop,
		 unsigned ms, char *out, size_t size)
{
	uint64_t end = now_ms() + ms;
	size_t sent = 0, got = 0;

	out[0] = '\0';
	while (now_ms() < end) {
		ssize_t n = len > sent ? send(fd, data + sent, len - sent, MSG_NOSIGNAL) : 0;
		if (n > 0)
			sent += (size_t)n;
		pump(f);
		n = recv(fd, out + got, size - 1 - got, 0);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return true;
		if (n > 0)
			got += (size_t)n;
		out[got] = '\0';
		if (stop && strstr(out, stop))
			return false;
	}
	return false;
}

static void ask(struct fixture *f, const char *request, const char *stop, char *out, size_t size)
{
	int fd = dial(f);

	talk(f, fd, request, strlen(request), stop, 3000, out, size);
	close(fd);
}

#define POST(headers, body) "POST / HTTP/1.1\r\nHost: x\r\n" headers "\r\n" body
#define WHO "{\"jsonrpc\":\"2.0\",\"method\":\"who\",\"id\":1}"
#define SECRET "{\"jsonrpc\":\"2.0\",\"method\":\"secret\",\"id\":1}"

struct exchange {
	const char *request, *answer[2];
};

static const struct exchange exchanges[] = {
	{POST("Content-Length: 39\r\n", WHO), {"HTTP/1.1 200", "\"authorised\":true"}},
	{POST("Transfer-Encoding: chunked\r\n", "27\r\n" WHO "\r\n0\r\n\r\n"),
	 {"HTTP/1.1 200", "\"ip\":\"127.0.0.1\""}},
	{POST("Content-Length: 39\r\nOrigin: http://evil.example\r\n", WHO),
	 {"HTTP/1.1 200", "\"authorised\":false"}},
	{POST("Content-Length: 42\r\nOrigin: http://evil.example\r\n", SECRET),
	 {"HTTP/1.1 401", "-32001"}},
	{POST("Content-Length: 42\r\nOrigin: http://e.example\r\n"
	      "Authorization: Bearer letmein\r\n",
	      SECRET),
	 {"HTTP/1.1 200", "\"authorised\":true"}},
	{POST("Content-Length: 0\r\n", ""), {"HTTP/1.1 200", "-32700"}},
	{POST("", ""), {"HTTP/1.1 200", "-32700"}},
	{POST("Content-Length: 35\r\n", "{\"jsonrpc\":\"2.0\",\"method\":\"who\"}   "),
	 {"HTTP/1.1 204", "\r\n\r\n"}},
	{POST("Content-Length: -5\r\n", ""), {"HTTP/1.1 400", "close"}},
	{POST("Content-Length: 99999999999999999999\r\n", ""), {"HTTP/1.1 4", "close"}},
	{POST("Content-Length: 1048577\r\n", "x"), {"HTTP/1.1 413", "close"}},
	{POST("Transfer-Encoding: chunked\r\n", "100001\r\nx"), {"HTTP/1.1 413", "close"}},
	{POST("Transfer-Encoding: chunked\r\n", "zz\r\nx"), {"HTTP/1.1 4", "close"}},
	{"garbage\r\n\r\n", {"HTTP/1.1 400", "close"}},
	{"\x16\x03\x01\x02\r\n\r\n", {"HTTP/1.1 400", "close"}},
	{"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
	 {"HTTP/1.1 405", "Allow: POST"}},
	{"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", {"HTTP/1.1 405", "Allow: POST"}},
	{"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n", {"HTTP/1.1 405", "Connection: close"}},
	{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", {"HTTP/1.1 405", "Allow: POST"}},
};

static void test_exchanges(void **state)
{
	char out[8192];

	for (size_t i = 0; i < sizeof exchanges / sizeof exchanges[0]; i++) {
		const struct exchange *e = &exchanges[i];
		ask(*state, e->request, e->answer[1], out, sizeof out);
		if (strncmp(out, e->answer[0], strlen(e->answer[0])) != 0 ||
		    !strstr(out, e->answer[1]))
			fail_msg("exchange %zu: %s", i, out);
	}
}

static void test_pages(void **state)
{
	struct fixture *f = *state;
	char out[4096];

	assert_int_equal(rpc_http_get(f->http, "/metrics", RPC_PUBLIC, get_metrics, NULL), 0);
	assert_int_equal(rpc_http_get(f->http, "/own", RPC_AUTHORISED, get_metrics, NULL), 0);
	assert_int_equal(rpc_http_get(f->http, "/web/", RPC_PUBLIC, get_metrics, NULL), 0);
	ask(f, "GET /metrics?a=1 HTTP/1.1\r\nHost: x\r\n\r\n", "a=1", out, sizeof out);
	assert_non_null(strstr(out, "path=/metrics query=a=1"));
	assert_non_null(strstr(out, "text/plain"));
	ask(f, "GET /web/a%2fb HTTP/1.1\r\nHost: x\r\n\r\n", "query=-", out, sizeof out);
	assert_non_null(strstr(out, "path=/web/a/b query=-"));
	ask(f, "GET /metricsx HTTP/1.1\r\nHost: x\r\n\r\n", "</BODY>", out, sizeof out);
	assert_non_null(strstr(out, "HTTP/1.1 404"));
	ask(f, "GET /metrics%00x HTTP/1.1\r\nHost: x\r\n\r\n", "</BODY>", out, sizeof out);
	assert_non_null(strstr(out, "HTTP/1.1 404"));
	ask(f, "GET /own HTTP/1.1\r\nHost: rebound.example\r\n\r\n", "\r\n\r\n", out, sizeof out);
	assert_non_null(strstr(out, "HTTP/1.1 403"));
	ask(f, "GET /own HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "query=-", out, sizeof out);
	assert_non_null(strstr(out, "HTTP/1.1 200"));
}

/* What follows a refused or bodyless request must not be taken for a request of its own: a web page
 * could put one there without its Origin header. */
static void test_no_smuggling(void **state)
{
	static const char *const first[] = {
		POST("Content-Length: 1048577\r\nOrigin: http://evil.example\r\n", ""),
		"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
		"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"TRACE / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"FOO / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		POST("Transfer-Encoding: gzip, chunked\r\n", ""),
		POST("Transfer-Encoding: chunked\r\n", "zz\r\n"),
	};
	char request[2048], out[8192];

	for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) {
		snprintf(request, sizeof request, "%s%s", first[i],
			 POST("Content-Length: 42\r\n", SECRET));
		ask(*state, request, "authorised", out, sizeof out);
		if (strstr(out, "authorised"))
			fail_msg("case %zu: %s", i, out);
	}
}

static void test_keep_alive_and_pipelining(void **state)
{
	static const char two[] =
		POST("Content-Length: 39\r\n", WHO) POST("Content-Length: 42\r\n", SECRET);
	char out[8192];
	int fd = dial(*state);

	assert_false(talk(*state, fd, two, strlen(two), "]]", 300, out, sizeof out));
	assert_non_null(strstr(strstr(out, "200 OK") + 6, "200 OK"));
	assert_false(talk(*state, fd, two, strlen(two), "]]", 300, out, sizeof out));
	assert_non_null(strstr(strstr(out, "200 OK") + 6, "200 OK"));
	close(fd);
}

/* A client that sends all of a large body before it reads still gets the 413. */
static void test_large_body(void **state)
{
	const size_t size = 3u << 20;
	char *request = malloc(size + 200), out[4096];
	int n = sprintf(request, POST("Content-Length: %zu\r\n", ""), size), fd = dial(*state);

	memset(request + n, 'x', size);
	assert_true(talk(*state, fd, request, (size_t)n + size, NULL, 5000, out, sizeof out));
	assert_non_null(strstr(out, "HTTP/1.1 413"));
	close(fd);
	fd = dial(*state);
	n = sprintf(request, POST("Content-Length: %u\r\n", ""), RPC_BODY_MAX_BYTES);
	memset(request + n, ' ', RPC_BODY_MAX_BYTES);
	memcpy(request + n, WHO, strlen(WHO));
	assert_false(talk(*state, fd, request, (size_t)n + RPC_BODY_MAX_BYTES, "authorised", 5000,
			  out, sizeof out));
	assert_non_null(strstr(out, "HTTP/1.1 200"));
	close(fd);
	free(request);
}

static void test_long_header(void **state)
{
	char request[40000], out[4096];
	int n = sprintf(request, "POST / HTTP/1.1\r\nX: "), fd = dial(*state);

	memset(request + n, 'x', sizeof request - (size_t)n);
	assert_true(talk(*state, fd, request, sizeof request, NULL, 5000, out, sizeof out));
	assert_non_null(strstr(out, "HTTP/1.1 400"));
	close(fd);
}

/* A byte now and then restarts evhttp's own timeout, not ours. */
static void test_slow_loris(void **state)
{
	static const char head[] = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n";
	uint64_t start = now_ms();
	int fd = dial(*state), idle = dial(*state);
	char out[256];
	bool closed = false, idle_closed = false;

	for (size_t i = 0; (!closed || !idle_closed) && now_ms() < start + 14000; i++) {
		if (!closed)
			closed = talk(*state, fd, i < sizeof head - 1 ? head + i : "x", 1, NULL,
				      200, out, sizeof out);
		if (!idle_closed)
			idle_closed = talk(*state, idle, "", 0, NULL, 20, out, sizeof out);
	}
	assert_true(closed);
	assert_true(idle_closed);
	assert_in_range(now_ms() - start, 8000, 13000);
	close(fd);
	close(idle);
}

static void quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

static void test_connection_limit(void **state)
{
	int fds[RPC_CONNECTIONS_MAX + 20];
	const size_t count = sizeof fds / sizeof fds[0];
	char out[4096];
	size_t refused = 0;

	log_set_sink(quiet);
	for (size_t i = 0; i < count; i++) {
		fds[i] = dial(*state);
		pump(*state);
	}
	for (size_t i = 0; i < count; i++)
		refused += talk(*state, fds[i], "", 0, NULL, 4, out, sizeof out);
	assert_int_equal(refused, 20);
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
	log_set_sink(NULL);
	for (uint64_t end = now_ms() + 2500; now_ms() < end;)
		pump(*state);
	ask(*state, exchanges[0].request, "authorised", out, sizeof out);
	assert_non_null(strstr(out, "HTTP/1.1 200"));
}

/* The client hangs up while its call is open; the answer then goes nowhere. */
static void test_client_gone(void **state)
{
	static const char hold[] = POST("Content-Length: 40\r\n",
					"{\"jsonrpc\":\"2.0\",\"method\":\"hold\",\"id\":1}");
	struct fixture *f = *state;
	char out[256];
	int fd = dial(f);

	talk(f, fd, hold, strlen(hold), NULL, 50, out, sizeof out);
	assert_non_null(f->held);
	close(fd);
	pump(f);
	rpc_reply(f->held, NULL);
	for (int i = 0; i < 20; i++)
		pump(f);
	f->held = NULL;
	fd = dial(f);
	talk(f, fd, hold, strlen(hold), NULL, 50, out, sizeof out);
	assert_non_null(f->held);
	rpc_http_free(f->http);
	f->http = NULL;
	assert_false(rpc_call_wanted(f->held));
	rpc_fail(f->held, RPC_FAILED, "too late");
	close(fd);
}

static void test_listen_errors(void **state)
{
	struct fixture *f = *state;
	char taken[64];

	log_set_sink(quiet);
	snprintf(taken, sizeof taken, "127.0.0.2:0,127.0.0.1:%u", rpc_http_port(f->http));
	assert_int_equal(rpc_http_listen(f->http, "localhost", 1), -EINVAL);
	assert_int_equal(rpc_http_listen(f->http, "127.0.0.1:66666", 1), -EINVAL);
	assert_int_equal(rpc_http_listen(f->http, "", 1), -EADDRNOTAVAIL);
	assert_int_equal(rpc_http_listen(f->http, taken, 1), -EADDRINUSE);
	assert_int_equal(rpc_http_listen(f->http, "192.0.2.77", 0), -EADDRNOTAVAIL);
	assert_int_equal(rpc_http_listen(f->http, "127.0.0.2,[::1]", 0), 0);
	log_set_sink(NULL);
}

/* ---- the client ---- */

struct result {
	struct rpc_answer answer;
	int times;
	char text[64];
};

static void got_result(const struct rpc_answer *answer, void *arg)
{
	struct result *r = arg;

	r->answer = *answer;
	r->times++;
	snprintf(r->text, sizeof r->text, "%s", json_object_to_json_string(answer->result));
	r->answer.result = r->answer.data = NULL;
}

static struct result call(struct fixture *f, uint16_t port, const char *method, uint64_t size,
			  const char *token)
{
	const struct rpc_target to = {"127.0.0.1", port, token, 700000};
	struct json_object *params = json_object_new_object();
	struct result r = {.times = 0};

	if (size)
		rpc_set_u64(params, "size", size);
	assert_non_null(rpc_client_call(f->base, &to, method, params, got_result, &r));
	json_object_put(params);
	for (uint64_t end = now_ms() + 3000; r.times == 0 && now_ms() < end;)
		pump(f);
	assert_int_equal(r.times, 1);
	return r;
}

static void test_client(void **state)
{
	struct fixture *f = *state;
	const struct rpc_http_spec token_only = {.token = "letmein"};
	uint16_t port = rpc_http_port(f->http);
	struct result r = call(f, port, "who", 0, NULL);

	assert_int_equal(r.answer.outcome, RPC_OUTCOME_RESULT);
	assert_non_null(strstr(r.text, "127.0.0.1"));
	r = call(f, port, "nope", 0, NULL);
	assert_int_equal(r.answer.outcome, RPC_OUTCOME_ERROR);
	assert_int_equal(r.answer.code, RPC_NO_METHOD);
	assert_int_equal(rpc_http_set_access(f->http, &token_only), 0);
	assert_int_equal(call(f, port, "secret", 0, NULL).answer.code, RPC_DENIED);
	assert_int_equal(call(f, port, "secret", 0, "letmein").answer.outcome, RPC_OUTCOME_RESULT);
	r = call(f, port, "big", RPC_BODY_MAX_BYTES - 100, NULL);
	assert_int_equal(r.answer.outcome, RPC_OUTCOME_RESULT);
	r = call(f, port, "big", RPC_BODY_MAX_BYTES, NULL);
	assert_int_equal(r.answer.outcome, RPC_OUTCOME_DOWN);
	assert_int_equal(r.answer.code, -EMSGSIZE);
	r = call(f, port, "hold", 0, NULL);
	assert_int_equal(r.answer.outcome, RPC_OUTCOME_DOWN);
	assert_int_equal(r.answer.code, -ETIMEDOUT);
	rpc_reply(f->held, NULL);
}

/* A port where nobody listens; one where somebody does and never answers, hangs up or babbles. */
static void test_client_down(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof at;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct result r;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	r = call(f, ntohs(at.sin_port), "who", 0, NULL);
	assert_int_equal(r.answer.outcome, RPC_OUTCOME_DOWN);
	assert_int_equal(r.answer.code, -ECONNREFUSED);
	assert_int_equal(listen(fd, 1), 0);
	r = call(f, ntohs(at.sin_port), "who", 0, NULL);
	assert_int_equal(r.answer.code, -ETIMEDOUT);
	close(fd);
}

static void babble(evutil_socket_t fd, short what, void *arg)
{
	int peer = accept(fd, NULL, NULL);

	(void)what;
	if (peer < 0)
		return;
	if (send(peer, arg, strlen(arg), MSG_NOSIGNAL) < 0)
		perror("send");
	shutdown(peer, SHUT_WR);
	usleep(1000);
	close(peer);
}

#define HEAD31 "HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n"

static void test_client_babble(void **state)
{
	static const char *const texts[] = {
		"",
		"SSH-2.0-x\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\nabc",
		HEAD31 "{\"jsonrpc\":\"2.0\",\"result\":1,\"id",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct sockaddr_in at = {.sin_family = AF_INET};
		socklen_t len = sizeof at;
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		struct event *ev;
		at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
		assert_int_equal(listen(fd, 1), 0);
		assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
		ev = event_new(f->base, fd, EV_READ, babble, (void *)(uintptr_t)texts[i]);
		event_add(ev, NULL);
		assert_int_equal(call(f, ntohs(at.sin_port), "who", 0, NULL).answer.outcome,
				 RPC_OUTCOME_DOWN);
		event_free(ev);
		close(fd);
	}
}

static void test_client_cancel(void **state)
{
	struct fixture *f = *state;
	const struct rpc_target to = {"127.0.0.1", rpc_http_port(f->http), NULL, 0};
	struct result r = {.times = 0};

	for (int steps = 0; steps < 12; steps++) {
		struct rpc_client *c = rpc_client_call(f->base, &to, "hold", NULL, got_result, &r);
		assert_non_null(c);
		for (int i = 0; i < steps; i++)
			pump(f);
		rpc_client_cancel(c);
		for (int i = 0; i < 5; i++)
			pump(f);
		if (f->held)
			rpc_reply(f->held, NULL);
		f->held = NULL;
	}
	assert_int_equal(r.times, 0);
}

static void test_client_sync(void **state)
{
	struct fixture *f = *state;
	const struct rpc_target to = {"localhost", rpc_http_port(f->http), NULL, 2000000};
	const struct rpc_target nowhere = {"bad..name", 1, NULL, 2000000};
	struct rpc_answer a;
	pid_t child = fork();
	int status;

	if (child == 0) {
		rpc_client_sync(&to, "who", NULL, &a);
		_exit(a.outcome == RPC_OUTCOME_RESULT && a.result ? 0 : 1);
	}
	while (waitpid(child, &status, WNOHANG) == 0)
		pump(f);
	assert_int_equal(status, 0);
	rpc_client_sync(&nowhere, "who", NULL, &a);
	assert_int_equal(a.outcome, RPC_OUTCOME_DOWN);
	assert_non_null(strstr(a.text, "bad..name"));
}

/* In a network of its own: who is asked, and why that fails. */
static int ask_nowhere(const char *host, int want)
{
	const struct rpc_target to = {host, 9, NULL, 3000000};
	struct rpc_answer a;

	rpc_client_sync(&to, "who", NULL, &a);
	int ok = a.outcome == RPC_OUTCOME_DOWN && a.code == -want &&
		 strcmp(a.text, strerror(want)) == 0;
	if (!ok)
		fprintf(stderr, "%s: %d (%s), not %s\n", host, a.code, a.text, strerror(want));
	rpc_answer_free(&a);
	return !ok;
}

static int ask_all_nowhere(void)
{
	if (!netns_enter())
		return 77;
	free(netns_output("ip link set lo up; ip link add v0 type veth peer name v1;"
			  "ip link set v0 up; ip link set v1 up; ip addr add 10.8.0.1/24 dev v0;"
			  "echo 1 >/proc/sys/net/ipv4/neigh/v0/mcast_solicit;"
			  "echo 50 >/proc/sys/net/ipv4/neigh/v0/retrans_time_ms;"
			  "ip route add unreachable 10.9.0.0/16;"
			  "ip route add prohibit 10.10.0.0/16"));
	return ask_nowhere("127.0.0.1", ECONNREFUSED) + ask_nowhere("::1", ECONNREFUSED) +
	       ask_nowhere("10.1.1.1", ENETUNREACH) + ask_nowhere("10.9.0.1", EHOSTUNREACH) +
	       ask_nowhere("10.10.0.1", EACCES) +
	       ask_nowhere("10.8.0.2", EHOSTUNREACH) /* nobody has it: known after a moment */;
}

static void test_client_nowhere(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	if (child == 0)
		_exit(ask_all_nowhere());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_exchanges),     T(test_pages),
		T(test_no_smuggling),  T(test_keep_alive_and_pipelining),
		T(test_large_body),    T(test_long_header),
		T(test_slow_loris),    T(test_connection_limit),
		T(test_client_gone),   T(test_listen_errors),
		T(test_client),	       T(test_client_down),
		T(test_client_babble), T(test_client_cancel),
		T(test_client_sync),   T(test_client_nowhere),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
