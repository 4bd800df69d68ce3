#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "echo/echo.h"
#include "io/clock.h"
#include "io/timer.h"
#include "libmeshapp/meshapp.h"

/* A datagram that is not back by then is lost. */
#define DATAGRAM_WAIT_US 1000000u
#define TRY_AGAIN_US 300000u
#define PROGRESS_US 2000000u
#define CODE_INTERRUPTED 130

struct client {
	struct event_base *base;
	const struct echo_options *opt;
	struct meshapp *app;
	struct meshconn *conn;
	struct event *deadline, *retry, *lost_timer, *progress, *ends[2];
	uint8_t *data;
	/* Ring of `window` slots, by message number: when it was sent; 0 when it is back or lost.
	 */
	uint64_t *sent_us;
	uint64_t next, oldest; /* numbers: to be sent; the first that may still be under way */
	uint64_t start_us, heard_us;
	struct echo_report report;
	int code;
	bool done;
};

static void finish(struct client *c, int code)
{
	if (c->done)
		return;
	c->done = true;
	c->code = code;
	c->report.elapsed_us = c->start_us ? daemon_now_us() - c->start_us : 0;
	event_base_loopbreak(c->base);
}

static void fail(struct client *c, const char *what, const char *detail)
{
	if (!c->done)
		log_error("%s: %s", what, detail);
	finish(c, 1);
}

/* --- sending ------------------------------------------------------------------------------ */

static void check_finished(struct client *c)
{
	const struct echo_report *r = &c->report;
	if (r->received + r->lost < c->opt->count)
		return;
	if (r->received)
		finish(c, 0);
	else
		fail(c, "nothing came back", "every datagram was lost");
}

static uint64_t *slot(struct client *c, uint64_t seq)
{
	return &c->sent_us[seq % c->opt->window];
}

static void send_more(struct client *c)
{
	const struct echo_options *o = c->opt;
	while (!c->done && c->conn && c->next < o->count && c->next < c->oldest + o->window) {
		echo_fill(c->data, o->size_bytes, c->next);
		uint64_t begun_us = daemon_now_us(); /* sending may go on within the call */
		int err = meshconn_send(c->conn, c->data, o->size_bytes);
		if (err == -EAGAIN)
			return;
		if (err) {
			fail(c, "cannot send", strerror(-err));
			return;
		}
		*slot(c, c->next++) = begun_us;
		c->report.sent++;
	}
}

static void advance(struct client *c)
{
	while (c->oldest < c->next && *slot(c, c->oldest) == 0)
		c->oldest++;
}

static void on_lost_timer(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;
	uint64_t now = daemon_now_us();
	(void)fd;
	(void)what;

	for (uint64_t seq = c->oldest; seq < c->next; seq++) {
		if (*slot(c, seq) && now - *slot(c, seq) >= DATAGRAM_WAIT_US) {
			*slot(c, seq) = 0;
			c->report.lost++;
		}
	}
	advance(c);
	check_finished(c);
	send_more(c);
	if (!c->done)
		timer_in(c->lost_timer, DATAGRAM_WAIT_US / 10);
}

/* --- receiving ---------------------------------------------------------------------------- */

static void consume(struct meshconn *conn, const uint8_t *data, size_t len)
{
	struct client *c = meshconn_arg(conn);
	bool numbered = c->opt->datagram && len >= ECHO_SEQ_BYTES;
	uint64_t seq = numbered ? be64_get(data) : c->oldest;

	/* A datagram that was given up, or came twice. */
	if (numbered && (seq < c->oldest || (seq < c->next && *slot(c, seq) == 0)))
		return;
	if (c->opt->datagram && !numbered && seq >= c->next)
		return;
	if (seq >= c->next || len != c->opt->size_bytes || !echo_check(data, len, seq)) {
		fail(c, "wrong content", "what came back is not what was sent");
		return;
	}
	c->report.latency_us[c->report.received++] = daemon_now_us() - *slot(c, seq);
	c->report.bytes += len;
	*slot(c, seq) = 0;
	c->heard_us = daemon_now_us();
	advance(c);
	check_finished(c);
	send_more(c);
}

static void on_writable(struct meshconn *conn)
{
	send_more(meshconn_arg(conn));
}

/* --- connecting --------------------------------------------------------------------------- */

static void on_conn_up(struct meshconn *conn)
{
	struct client *c = meshconn_arg(conn);
	c->start_us = c->heard_us = daemon_now_us();
	timer_in(c->progress, PROGRESS_US);
	if (c->opt->datagram)
		timer_in(c->lost_timer, DATAGRAM_WAIT_US / 10);
	send_more(c);
}

static void on_conn_closed(struct meshconn *conn, uint16_t code, const char *reason)
{
	struct client *c = meshconn_arg(conn);
	bool again = c->opt->wait && !c->start_us && code != CODE_INVALID;

	c->conn = NULL;
	if (again && meshapp_is_up(c->app))
		timer_in(c->retry, TRY_AGAIN_US);
	else if (!again)
		fail(c, msg_code_name(code), reason);
}

static void try_connect(struct client *c)
{
	static const struct meshconn_callbacks cb = {on_conn_up, consume, on_writable,
						     on_conn_closed};
	const struct echo_options *o = c->opt;

	if (c->conn || c->done)
		return;
	c->conn = meshapp_connect(c->app, o->to.has_node ? &o->to.node : NULL, o->to.app,
				  o->datagram ? CLASS_DATAGRAM : CLASS_STREAM, &cb, c);
	if (!c->conn && errno != ENOTCONN)
		fail(c, "cannot connect", strerror(errno));
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	try_connect(arg);
}

static void on_state(struct meshapp *app, bool up, const char *text)
{
	struct client *c = meshapp_arg(app);
	if (up)
		try_connect(c);
	else if (!c->opt->wait)
		fail(c, "the node went away", text);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;
	char text[96];
	uint64_t quiet_us = c->start_us ? daemon_now_us() - c->heard_us : c->opt->timeout_us;
	(void)fd;
	(void)what;
	if (quiet_us < c->opt->timeout_us) {
		timer_in(c->deadline, c->opt->timeout_us - quiet_us);
		return;
	}
	snprintf(text, sizeof text, "%zu of %" PRIu64 " messages came back", c->report.received,
		 c->opt->count);
	fail(c, "timeout", c->start_us ? text : "no connection");
}

static void on_progress(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;
	double seconds = (double)(daemon_now_us() - c->start_us) / 1e6;
	(void)fd;
	(void)what;
	fprintf(stderr, "%zu of %" PRIu64 " came back, %" PRIu64 " lost, %.0f s, %.1f Mbit/s\n",
		c->report.received, c->opt->count, c->report.lost, seconds,
		(double)c->report.bytes * 8e-6 / seconds);
	timer_in(c->progress, PROGRESS_US);
}

static void on_interrupt(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	finish(arg, CODE_INTERRUPTED);
}

/* --- run ---------------------------------------------------------------------------------- */

static bool client_init(struct client *c)
{
	const struct echo_options *o = c->opt;
	c->data = malloc(o->size_bytes ? o->size_bytes : 1);
	c->sent_us = calloc(o->window, sizeof *c->sent_us);
	c->report.latency_us =
		calloc(o->count ? (size_t)o->count : 1, sizeof *c->report.latency_us);
	c->report.size_bytes = o->size_bytes;
	c->deadline = timer_new(c->base, on_deadline, c);
	c->retry = timer_new(c->base, on_retry, c);
	c->lost_timer = timer_new(c->base, on_lost_timer, c);
	c->progress = timer_new(c->base, on_progress, c);
	c->ends[0] = evsignal_new(c->base, SIGINT, on_interrupt, c);
	c->ends[1] = evsignal_new(c->base, SIGTERM, on_interrupt, c);
	return c->data && c->sent_us && c->report.latency_us && c->deadline && c->retry &&
	       c->lost_timer && c->progress && c->ends[0] && c->ends[1] &&
	       event_add(c->ends[0], NULL) == 0 && event_add(c->ends[1], NULL) == 0;
}

static void client_clear(struct client *c)
{
	meshapp_close(c->app);
	struct event *events[] = {c->deadline, c->retry,   c->lost_timer,
				  c->progress, c->ends[0], c->ends[1]};
	for (size_t i = 0; i < sizeof events / sizeof *events; i++)
		event_drop(events[i]);
	free(c->data);
	free(c->sent_us);
	free(c->report.latency_us);
}

int echo_client_run(struct event_base *base, const struct echo_options *opt)
{
	struct client c = {.base = base, .opt = opt, .code = 1};
	char id[32];
	struct meshapp_options mo = {
		.node_addr = opt->node_addr,
		.app_id = opt->app_id ? opt->app_id : id,
		.app_type = "echo_client",
		.cb = {.on_state = on_state},
		.arg = &c,
	};
	snprintf(id, sizeof id, "echo-client-%08x", randombytes_random());
	if (!client_init(&c)) {
		log_error("out of memory");
	} else if (!(c.app = meshapp_open(base, &mo))) {
		log_error("cannot open the node at %s: %s", mo.node_addr, strerror(errno));
	} else {
		timer_in(c.deadline, opt->timeout_us);
		event_base_dispatch(base);
		if (c.start_us)
			echo_report_print(&c.report, opt->json, stdout);
	}
	client_clear(&c);
	return c.code;
}
