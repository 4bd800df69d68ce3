/* `events`: follows a daemon's server-sent events. */
#ifndef MESHCTL_EVENTS_H
#define MESHCTL_EVENTS_H

#include "meshctl/run.h"

#define SSE_LINE_MAX 8192

/* Lines of server-sent events put together again. */
struct sse {
	char line[SSE_LINE_MAX];
	size_t len;
	bool too_long;
	char id[24], event[64], data[SSE_LINE_MAX];
	/* A whole event with its data; the three texts above are valid. */
	void (*on_event)(struct sse *s, void *arg);
	void *arg;
};
void sse_feed(struct sse *s, const char *bytes, size_t len);

/* Until Ctrl-C or --count; comes back after a break, and misses nothing that the daemon still has.
 */
enum ctl_exit ctl_run_events(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			     FILE *err);
#endif
