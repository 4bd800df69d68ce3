#include "io/appsignals.h"

#include <errno.h>
#include <json-c/json.h>
#include <signal.h>

#include "base/log.h"
#include "io/appline.h"
#include "io/notify.h"
#include "io/timer.h"

static void on_end(evutil_socket_t number, short what, void *arg)
{
	struct appsignals *s = arg;

	(void)number;
	(void)what;
	event_base_loopbreak(s->base);
}

static void on_hup(evutil_socket_t number, short what, void *arg)
{
	struct appsignals *s = arg;
	bool good = s->reload(s->arg) == 0;
	struct json_object *o = json_object_new_object();

	(void)number;
	(void)what;
	if (!good)
		log_error("configuration not reloaded: the old one stays in use");
	json_object_object_add(o, "reload", json_object_new_string(good ? "done" : "refused"));
	appline_say(s->json, o);
}

int appsignals_init(struct appsignals *s, struct event_base *base, bool json,
		    int (*reload)(void *arg), void *arg)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

	*s = (struct appsignals){
		.base = base, .json = json, .reload = reload, .arg = arg, .manager = notify_take()};
	for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		s->events[i] =
			evsignal_new(base, numbers[i], numbers[i] == SIGHUP ? on_hup : on_end, s);
		if (!s->events[i] || event_add(s->events[i], NULL))
			return -ENOMEM;
	}
	return 0;
}

void appsignals_ready(struct appsignals *s)
{
	notify(s->manager, "READY=1");
	s->events[3] = notify_watchdog(s->base, s->manager);
}

void appsignals_free(struct appsignals *s)
{
	for (unsigned i = 0; i < sizeof s->events / sizeof *s->events; i++)
		event_drop(s->events[i]);
}
