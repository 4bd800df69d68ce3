/*
 * What happens in a daemon, told to whoever watches: GET /events as server-sent events (the format
 * of the HTML standard), authorised like the RPC.
 *
 *   id: 1764061234567890
 *   event: node.up
 *   data: {"time":1764061234,"node":"..."}
 *
 * Ids grow, from one run to the next too (they begin with the wall clock).  The last EVENTS_KEPT
 * are kept: a watcher that comes back with Last-Event-ID gets what it missed, or, when that is no
 * longer all there, an event `missed` first.  A comment every 15 s shows that the line is alive.
 * There is a limit of watchers, and one that does not read is dropped; both are counted.
 */
#ifndef IO_EVENTS_H
#define IO_EVENTS_H

#include <stddef.h>
#include <stdint.h>

#define EVENTS_KEPT 512
#define EVENTS_WATCHERS_MAX 32
#define EVENTS_TEXT_MAX_BYTES 2048 /* of one event; a longer one keeps its name only */
#define EVENTS_HEARTBEAT_S 15

struct event_base;
struct events;
struct json_object;
struct metrics;
struct rpc_http;

/* Serves /events on `http`, which must be freed first.  0 or -ENOMEM. */
int events_new(struct events **out, struct event_base *base, struct rpc_http *http);
/* NULL is fine. */
void events_free(struct events *e);
/* `name` is a word like "node.up"; consumes `data` (an object; the time is added to it).  May be
 * called from anywhere: nothing is called back. */
void events_emit(struct events *e, const char *name, struct json_object *data);

struct events_counters {
	uint64_t emitted, slow, refused; /* slow: watchers dropped; refused: over the limit */
	size_t watchers;
};
void events_get_counters(const struct events *e, struct events_counters *out);
/* meshnet_rpc_... and meshnet_events_... of a daemon that has both. */
void events_metrics(const struct events *e, const struct rpc_http *http, struct metrics *m);
#endif
