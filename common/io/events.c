#include "io/events.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/clock.h"
#include "io/jsonrpc.h"
#include "io/metrics.h"
#include "io/timer.h"

struct events {
	struct rpc_http *http;
	struct event *heartbeat;
	char *kept[EVENTS_KEPT]; /* at id % EVENTS_KEPT */
	uint64_t first, next;	 /* ids of this run: [first, next) */
	struct rpc_stream *watchers[EVENTS_WATCHERS_MAX];
	struct events_counters counters;
	struct log_limit slow_log, refused_log;
};

static uint64_t oldest_kept(const struct events *e)
{
	return e->next - e->first > EVENTS_KEPT ? e->next - EVENTS_KEPT : e->first;
}

static void watcher_send(struct events *e, struct rpc_stream *w, const char *text)
{
	if (rpc_stream_send(w, text, strlen(text)) != -ENOBUFS)
		return;
	e->counters.slow++;
	if (log_limit_due(&e->slow_log, daemon_now_us()))
		log_warn("events: a watcher does not read, it is dropped (%llu so far)",
			 (unsigned long long)e->slow_log.count);
}

static void on_heartbeat(evutil_socket_t fd, short what, void *arg)
{
	struct events *e = arg;

	(void)fd, (void)what;
	for (size_t i = 0; i < e->counters.watchers; i++)
		watcher_send(e, e->watchers[i], ": alive\n\n");
}

static bool has_room(void *arg)
{
	struct events *e = arg;

	if (e->counters.watchers < EVENTS_WATCHERS_MAX)
		return true;
	e->counters.refused++;
	if (log_limit_due(&e->refused_log, daemon_now_us()))
		log_warn("events: more than %d watchers, refused (%llu so far)",
			 EVENTS_WATCHERS_MAX, (unsigned long long)e->refused_log.count);
	return false;
}

static void resume(struct events *e, struct rpc_stream *w, const char *last_event_id)
{
	char *end, text[128];
	uint64_t last, at;

	errno = 0;
	last = last_event_id ? strtoull(last_event_id, &end, 10) : 0;
	if (!last_event_id || end == last_event_id || *end || errno || last >= e->next)
		return;
	at = last + 1;
	if (at < oldest_kept(e)) {
		at = oldest_kept(e);
		cstr_print(text, sizeof text, "event: missed\ndata: {\"time\":%" PRIu64 "}\n\n",
			   daemon_wall_s());
		watcher_send(e, w, text);
	}
	for (; at < e->next; at++) {
		if (e->kept[at % EVENTS_KEPT])
			watcher_send(e, w, e->kept[at % EVENTS_KEPT]);
	}
}

static void opened(struct rpc_stream *stream, const char *last_event_id, void *arg)
{
	const struct timeval every = {.tv_sec = EVENTS_HEARTBEAT_S};
	struct events *e = arg;
	char text[128];

	e->watchers[e->counters.watchers++] = stream;
	cstr_print(text, sizeof text, ": events of this daemon\nretry: 2000\nid: %" PRIu64 "\n\n",
		   e->next - 1);
	/* An id without data: from here on, also for who sees no event before the line breaks. */
	if (!last_event_id)
		watcher_send(e, stream, text);
	else
		watcher_send(e, stream, ": events of this daemon\nretry: 2000\n\n");
	resume(e, stream, last_event_id);
	if (e->counters.watchers == 1)
		event_add(e->heartbeat, &every);
}

static void closed(struct rpc_stream *stream, void *arg)
{
	struct events *e = arg;

	for (size_t i = 0; i < e->counters.watchers; i++) {
		if (e->watchers[i] == stream) {
			e->watchers[i] = e->watchers[--e->counters.watchers];
			break;
		}
	}
	if (e->counters.watchers == 0)
		event_del(e->heartbeat);
}

static const struct rpc_stream_ops stream_ops = {
	.type = "text/event-stream",
	.room = has_room,
	.open = opened,
	.closed = closed,
};

int events_new(struct events **out, struct event_base *base, struct rpc_http *http)
{
	struct events *e = calloc(1, sizeof *e);

	if (!e)
		return -ENOMEM;
	e->http = http;
	e->first = e->next = daemon_wall_us();
	e->heartbeat = event_new(base, -1, EV_PERSIST, on_heartbeat, e);
	if (!e->heartbeat || rpc_http_stream(http, "/events", RPC_AUTHORISED, &stream_ops, e)) {
		events_free(e);
		return -ENOMEM;
	}
	*out = e;
	return 0;
}

void events_free(struct events *e)
{
	if (!e)
		return;
	for (size_t i = 0; i < EVENTS_KEPT; i++)
		free(e->kept[i]);
	event_drop(e->heartbeat);
	free(e);
}

/* json-c escapes control characters, so that the data is one line. */
static char *text_make(uint64_t id, const char *name, struct json_object *data)
{
	size_t len = 0;
	const char *json = json_object_to_json_string_length(
		data, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	size_t size = 128 + strlen(name) + len;
	char *text = json ? malloc(size) : NULL;

	if (text)
		cstr_print(text, size, "id: %" PRIu64 "\nevent: %s\ndata: %s\n\n", id, name,
			   len <= EVENTS_TEXT_MAX_BYTES ? json : "{\"cut\":true}");
	return text;
}

void events_emit(struct events *e, const char *name, struct json_object *data)
{
	uint64_t id = e->next++;
	char **slot = &e->kept[id % EVENTS_KEPT];

	if (data)
		rpc_set_u64(data, "time", daemon_wall_s());
	free(*slot);
	*slot = data ? text_make(id, name, data) : NULL;
	json_object_put(data);
	e->counters.emitted++;
	for (size_t i = 0; *slot && i < e->counters.watchers; i++)
		watcher_send(e, e->watchers[i], *slot);
}

void events_get_counters(const struct events *e, struct events_counters *out)
{
	*out = e->counters;
}

void events_metrics(const struct events *e, const struct rpc_http *http, struct metrics *m)
{
	struct rpc_http_counters rpc;

	rpc_http_get_counters(http, &rpc);
	metrics_counter(m, "meshnet_rpc_requests_total", "HTTP requests to the RPC port.",
			rpc.requests);
	metrics_counter(m, "meshnet_rpc_unauthorized_total",
			"Requests refused for want of a token or an authorised address.",
			rpc.unauthorized);
	metrics_counter(m, "meshnet_rpc_evicted_total",
			"Idle connections closed to make room for new ones.", rpc.evicted);
	metrics_gauge(m, "meshnet_rpc_connections", "Open connections to the RPC port.",
		      rpc.connections);
	metrics_counter(m, "meshnet_events_total", "Events that were told.", e->counters.emitted);
	metrics_gauge(m, "meshnet_events_watchers", "Who watches /events now.",
		      e->counters.watchers);
	metrics_counter(m, "meshnet_events_slow_watchers_total",
			"Watchers dropped because they did not read.", e->counters.slow);
	metrics_counter(m, "meshnet_events_refused_watchers_total",
			"Watchers refused over the limit.", e->counters.refused);
}
