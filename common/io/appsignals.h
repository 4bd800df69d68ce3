/* Signals of an app that runs in the foreground: SIGINT and SIGTERM end its loop, SIGHUP reads the
 * options again and says how that went.  And what a service manager wants to hear of it. */
#ifndef IO_APPSIGNALS_H
#define IO_APPSIGNALS_H

#include <event2/event.h>
#include <stdbool.h>

struct appsignals {
	struct event_base *base;
	struct event *events[4]; /* the last for the service manager's watchdog */
	const char *manager;
	bool json; /* as of appline_say */
	int (*reload)(void *arg);
	void *arg;
};

/* `reload` answers 0, or -1 when the old options stay.  0 or -ENOMEM; to be freed in either case.
 */
int appsignals_init(struct appsignals *s, struct event_base *base, bool json,
		    int (*reload)(void *arg), void *arg);
/* Tells the service manager that we are ready, and from then on that the loop turns. */
void appsignals_ready(struct appsignals *s);
void appsignals_free(struct appsignals *s);

#endif
