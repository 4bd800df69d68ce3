/* The text format of figures, and server-sent events over loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "io/events.h"
#include "io/jsonrpc.h"
#include "io/metrics.h"
#include "io/statushttp.h"

static void test_text(void **state)
{
	const struct metric_label two[] = {{"a", "x"},
					   {"b", "back\\slash \"quote\"\nline \xc3\xa9"}};
	struct evbuffer *out = evbuffer_new();
	struct metrics m;
	char text[2048] = "";

	(void)state;
	metrics_begin(&m, out);
	metrics_counter(&m, "x_total", "Help with \\ and\nline.", 18446744073709551615u);
	metrics_family(&m, "y_bytes", METRIC_GAUGE, "Why.");
	metrics_sample(&m, "kind", "k", 7);
	metrics_sample_labels(&m, two, 2, 8);
	metrics_gauge_us(&m, "z_seconds", "Z.", 1500042);
	evbuffer_copyout(out, text, sizeof text - 1);
	assert_string_equal(text, "# HELP x_total Help with \\\\ and\\nline.\n"
				  "# TYPE x_total counter\n"
				  "x_total 18446744073709551615\n"
				  "# HELP y_bytes Why.\n"
				  "# TYPE y_bytes gauge\n"
				  "y_bytes{kind=\"k\"} 7\n"
				  "y_bytes{a=\"x\",b=\"back\\\\slash \\\"quote\\\"\\nline ??\"} 8\n"
				  "# HELP z_seconds Z.\n"
				  "# TYPE z_seconds gauge\n"
				  "z_seconds 1.500042\n");
	evbuffer_free(out);
}

static void test_process(void **state)
{
	struct evbuffer *out = evbuffer_new();
	struct metrics m;
	char text[4096] = "", *p;

	(void)state;
	metrics_begin(&m, out);
	metrics_process(&m, "test");
	evbuffer_copyout(out, text, sizeof text - 1);
	p = strstr(text, "\nprocess_resident_memory_bytes ");
	assert_non_null(p);
	assert_true(strtoull(p + 31, NULL, 10) > 100000);
	p = strstr(text, "\nprocess_open_fds ");
	assert_non_null(p);
	assert_true(strtoull(p + 18, NULL, 10) >= 3);
	p = strstr(text, "\nprocess_start_time_seconds ");
	assert_non_null(p);
	assert_true(llabs(strtoll(p + 28, NULL, 10) - (long long)time(NULL)) < 600);
	assert_non_null(strstr(text, "meshnet_build_info{daemon=\"test\",version=\""));
	evbuffer_free(out);
}

/* ---- events ---- */

struct fixture {
	struct event_base *base;
	struct rpc_server *server;
	struct rpc_http *http;
	struct events *events;
};

static int setup(void **state)
{
	const struct rpc_http_spec spec = {.networks = "127.0.0.0/8", .token = "letmein"};
	struct fixture *f = calloc(1, sizeof *f);

	*state = f;
	f->base = event_base_new();
	assert_int_equal(rpc_server_new(&f->server), 0);
	assert_int_equal(rpc_http_new(&f->http, f->base, f->server, &spec), 0);
	assert_int_equal(events_new(&f->events, f->base, f->http), 0);
	assert_int_equal(rpc_http_listen(f->http, "127.0.0.1", 0), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rpc_http_free(f->http);
	rpc_server_free(f->server);
	events_free(f->events);
	event_base_free(f->base);
	free(f);
	return 0;
}

static int dial(uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void turn(struct event_base *base)
{
	const struct timespec ms = {0, 1000000};

	event_base_loop(base, EVLOOP_NONBLOCK);
	nanosleep(&ms, NULL);
}

/* Reads on until `want` has come (true), the end, or three seconds. */
static bool read_until(struct event_base *base, int fd, const char *want, char *out, size_t size)
{
	size_t got = strlen(out);

	for (int i = 0; i < 3000; i++) {
		ssize_t n;
		turn(base);
		n = read(fd, out + got, size - 1 - got);
		if (n == 0)
			return strstr(out, want) != NULL;
		if (n > 0)
			got += (size_t)n;
		out[got] = '\0';
		if (strstr(out, want))
			return true;
	}
	return false;
}

static int watch(struct fixture *f, const char *headers)
{
	char request[512];
	int fd = dial(rpc_http_port(f->http)), len;

	len = snprintf(request, sizeof request, "GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n",
		       headers);
	assert_int_equal(write(fd, request, (size_t)len), len);
	return fd;
}

static void emit(struct fixture *f, const char *name, const char *text)
{
	struct json_object *o = json_object_new_object();

	rpc_set_str(o, "text", text);
	events_emit(f->events, name, o);
}

static size_t watchers(struct fixture *f)
{
	struct events_counters c;

	events_get_counters(f->events, &c);
	return c.watchers;
}

static void test_events(void **state)
{
	struct fixture *f = *state;
	char out[8192] = "", again[8192] = "", headers[128], *id;
	int fd;

	emit(f, "a.before", "nobody sees this now");
	fd = watch(f, "");
	assert_true(read_until(f->base, fd, "retry: 2000\nid: ", out, sizeof out));
	assert_non_null(strstr(out, "HTTP/1.1 200"));
	assert_non_null(strstr(out, "Content-Type: text/event-stream"));
	assert_null(strstr(out, "a.before"));
	emit(f, "b.one", "line\nfeed");
	assert_true(read_until(f->base, fd, "feed", out, sizeof out));
	assert_non_null(strstr(out, "event: b.one\ndata: {\"text\":\"line\\nfeed\",\"time\":"));
	id = strstr(out, "id: "); /* where it begins; then that of the event */
	assert_non_null(id);
	id = strstr(id + 4, "id: ");
	assert_non_null(id);
	snprintf(headers, sizeof headers, "Last-Event-ID: %llu\r\n", strtoull(id + 4, NULL, 10));
	close(fd);
	for (int i = 0; i < 100 && watchers(f); i++)
		turn(f->base);
	assert_int_equal(watchers(f), 0);
	/* What came meanwhile is there, and only that. */
	emit(f, "c.two", "missed");
	fd = watch(f, headers);
	assert_true(read_until(f->base, fd, "c.two", again, sizeof again));
	assert_null(strstr(again, "b.one"));
	assert_null(strstr(again, "event: missed"));
	close(fd);
}

static void test_events_lost(void **state)
{
	struct fixture *f = *state;
	const size_t size = 1u << 20;
	char *out = malloc(size);
	int fd;

	assert_non_null(out);
	out[0] = '\0';
	for (int i = 0; i < EVENTS_KEPT + 10; i++) {
		char text[32];
		snprintf(text, sizeof text, "n%d.", i);
		emit(f, "x.y", text);
	}
	fd = watch(f, "Last-Event-ID: 5\r\n");
	assert_true(read_until(f->base, fd, "\"n521.\"", out, size));
	assert_non_null(strstr(out, "event: missed"));
	assert_null(strstr(out, "\"n9.\""));
	assert_non_null(strstr(out, "\"n10.\""));
	close(fd);
	/* Nonsense is like nothing. */
	fd = watch(f, "Last-Event-ID: 12x\r\n");
	out[0] = '\0';
	assert_true(read_until(f->base, fd, "retry:", out, size));
	assert_null(strstr(out, "x.y"));
	close(fd);
	free(out);
}

static void test_events_access(void **state)
{
	struct fixture *f = *state;
	char out[4096] = "";
	int fd = watch(f, "Origin: http://evil.example\r\n");

	assert_true(read_until(f->base, fd, "\r\n\r\n", out, sizeof out));
	assert_non_null(strstr(out, "HTTP/1.1 403"));
	close(fd);
	fd = watch(f, "Origin: http://evil.example\r\nAuthorization: Bearer letmein\r\n");
	out[0] = '\0';
	assert_true(read_until(f->base, fd, "retry:", out, sizeof out));
	close(fd);
}

static void test_events_limits(void **state)
{
	struct fixture *f = *state;
	struct events_counters c;
	char out[4096] = "", *large = malloc(EVENTS_TEXT_MAX_BYTES);
	int fds[EVENTS_WATCHERS_MAX + 1];

	for (int i = 0; i < EVENTS_WATCHERS_MAX; i++) {
		out[0] = '\0';
		fds[i] = watch(f, "");
		assert_true(read_until(f->base, fds[i], "retry:", out, sizeof out));
	}
	fds[EVENTS_WATCHERS_MAX] = watch(f, "");
	out[0] = '\0';
	assert_true(read_until(f->base, fds[EVENTS_WATCHERS_MAX], "\r\n\r\n", out, sizeof out));
	assert_non_null(strstr(out, "HTTP/1.1 503"));
	/* None of them reads: all are dropped when their share is full, and the emitter never
	 * waits. */
	memset(large, 'x', EVENTS_TEXT_MAX_BYTES);
	large[1500] = '\0';
	for (int i = 0; i < 20000 && watchers(f); i++) {
		emit(f, "big", large);
		event_base_loop(f->base, EVLOOP_NONBLOCK);
	}
	events_get_counters(f->events, &c);
	assert_int_equal(c.watchers, 0);
	assert_int_equal(c.slow, EVENTS_WATCHERS_MAX);
	assert_int_equal(c.refused, 1);
	for (int i = 0; i <= EVENTS_WATCHERS_MAX; i++)
		close(fds[i]);
	free(large);
}

static void test_events_open_at_the_end(void **state)
{
	struct fixture *f = *state;
	char out[4096] = "";
	int fd = watch(f, "");

	assert_true(read_until(f->base, fd, "retry:", out, sizeof out));
	emit(f, "last", "word"); /* teardown frees the server under an open stream */
	close(fd);
}

/* ---- the small server ---- */

static void write_one(struct metrics *m, void *arg)
{
	(void)arg;
	metrics_gauge(m, "one", "One.", 1);
}

static uint16_t free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	close(fd);
	return ntohs(a.sin_port);
}

static const struct {
	const char *request, *status;
} requests[] = {
	{"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 200"},
	{"GET /metrics?x HTTP/1.0\r\nHost: localhost:80\r\n\r\n", "HTTP/1.1 200"},
	{"GET /metrics HTTP/1.1\nHost: [::1]:9\n\n", "HTTP/1.1 200"},
	{"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 403"},
	{"GET /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 403"},
	{"GET /metricsx HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 404"},
	{"POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 405"},
	{"\x16\x03\x01\r\n\r\n", "HTTP/1.1 405"},
	{"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n",
	 "HTTP/1.1 200"},
};

static void test_status_http(void **state)
{
	struct event_base *base = event_base_new();
	uint16_t port = free_port();
	struct status_http *s;
	char out[4096], *huge = malloc(8192);
	int fds[100], fd;

	(void)state;
	assert_int_equal(status_http_new(&s, base, port, write_one, NULL), 0);
	for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
		fd = dial(port);
		out[0] = '\0';
		(void)!write(fd, requests[i].request, strlen(requests[i].request));
		if (!read_until(base, fd, requests[i].status, out, sizeof out))
			fail_msg("request %zu: %s", i, out);
		close(fd);
	}
	memset(huge, 'x', 8192);
	fd = dial(port);
	out[0] = '\0';
	(void)!write(fd, huge, 8192);
	assert_true(read_until(base, fd, "HTTP/1.1 400", out, sizeof out));
	close(fd);
	/* Idle ones make room. */
	for (int i = 0; i < 100; i++) {
		fds[i] = dial(port);
		turn(base);
	}
	fd = dial(port);
	out[0] = '\0';
	(void)!write(fd, requests[0].request, strlen(requests[0].request));
	assert_true(read_until(base, fd, "\none 1\n", out, sizeof out));
	close(fd);
	for (int i = 0; i < 100; i++)
		close(fds[i]);
	status_http_free(s);
	event_base_free(base);
	free(huge);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_process),
		cmocka_unit_test_setup_teardown(test_events, setup, teardown),
		cmocka_unit_test_setup_teardown(test_events_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_events_access, setup, teardown),
		cmocka_unit_test_setup_teardown(test_events_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_events_open_at_the_end, setup, teardown),
		cmocka_unit_test(test_status_http),
	};

	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
