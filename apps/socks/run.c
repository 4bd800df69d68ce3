#include <errno.h>
#include <event2/event.h>
#include <malloc.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/resource.h>

#include "base/log.h"
#include "io/privileges.h"
#include "io/timer.h"
#include "socks/socks.h"

/* Buffers of one message come and go; giving their pages back each time costs more than they do. */
#define HEAP_KEPT_BYTES (4 << 20)

/* --- signals ---------------------------------------------------------------------------------- */

static void on_end(evutil_socket_t number, short what, void *arg)
{
	struct socks_signals *s = arg;

	(void)number;
	(void)what;
	event_base_loopbreak(s->base);
}

static void on_hup(evutil_socket_t number, short what, void *arg)
{
	struct socks_signals *s = arg;
	bool good = socks_options_reload(s->opt) == 0;
	struct json_object *o = json_object_new_object();

	(void)number;
	(void)what;
	if (good)
		s->reloaded(s->arg);
	json_object_object_add(o, "reload", json_object_new_string(good ? "done" : "refused"));
	appline_say(s->opt->json, o);
}

int socks_signals_init(struct socks_signals *s, struct event_base *base, struct socks_options *opt,
		       void (*reloaded)(void *arg), void *arg)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

	*s = (struct socks_signals){.base = base, .opt = opt, .reloaded = reloaded, .arg = arg};
	for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		s->events[i] =
			evsignal_new(base, numbers[i], numbers[i] == SIGHUP ? on_hup : on_end, s);
		if (!s->events[i] || event_add(s->events[i], NULL))
			return -ENOMEM;
	}
	return 0;
}

void socks_signals_free(struct socks_signals *s)
{
	for (unsigned i = 0; i < sizeof s->events / sizeof *s->events; i++)
		event_drop(s->events[i]);
}

/* --- life ------------------------------------------------------------------------------------- */

/* A socket a stream: the usual soft limit of 1,024 is for programs that use select. */
static void raise_descriptor_limit(const struct socks_options *o)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return;
	r.rlim_cur = r.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &r);
	if (r.rlim_max < o->streams_max)
		log_warn("only %llu descriptors are allowed: [proxy] MaxStreams = %u cannot be "
			 "reached",
			 (unsigned long long)r.rlim_max, o->streams_max);
}

static int run(bool server, struct socks_options *o)
{
	struct event_base *base = sodium_init() < 0 ? NULL : event_base_new();
	int code;

	if (!base) {
		log_error("cannot start the event loop");
		return 1;
	}
	raise_descriptor_limit(o);
	(void)mallopt(M_TRIM_THRESHOLD, HEAP_KEPT_BYTES);
	code = server ? socks_server_run(base, o) : socks_client_run(base, o);
	event_base_free(base);
	return code;
}

int socks_main(bool server, int argc, char **argv)
{
	static struct socks_options o;
	int verdict = socks_options_parse(&o, server, argc, argv);
	int code = verdict < 0 ? 2 : 0;

	if (verdict == 0)
		code = privileges_limit(PRIVILEGE(CAP_NET_BIND_SERVICE)) ? 1 : run(server, &o);
	socks_options_free(&o);
	return code;
}
