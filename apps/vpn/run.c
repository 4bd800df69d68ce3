#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>

#include "base/log.h"
#include "io/privileges.h"
#include "io/timer.h"
#include "vpn/host.h"
#include "vpn/vpn.h"

/* --- signals ---------------------------------------------------------------------------------- */

static void on_end(evutil_socket_t number, short what, void *arg)
{
	struct vpn_signals *s = arg;

	(void)number;
	(void)what;
	event_base_loopbreak(s->base);
}

static void on_hup(evutil_socket_t number, short what, void *arg)
{
	struct vpn_signals *s = arg;
	bool good = vpn_options_reload(s->opt) == 0;
	struct json_object *o = json_object_new_object();

	(void)number;
	(void)what;
	if (!good)
		log_error("configuration not reloaded: the old one stays in use");
	json_object_object_add(o, "reload", json_object_new_string(good ? "done" : "refused"));
	appline_say(s->opt->json, o);
}

int vpn_signals_init(struct vpn_signals *s, struct event_base *base, const struct vpn_options *opt)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

	*s = (struct vpn_signals){.base = base, .opt = opt};
	for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		s->events[i] =
			evsignal_new(base, numbers[i], numbers[i] == SIGHUP ? on_hup : on_end, s);
		if (!s->events[i] || event_add(s->events[i], NULL))
			return -ENOMEM;
	}
	return 0;
}

void vpn_signals_free(struct vpn_signals *s)
{
	for (unsigned i = 0; i < sizeof s->events / sizeof *s->events; i++)
		event_drop(s->events[i]);
}

/* --- life ------------------------------------------------------------------------------------- */

static int run(bool server, const struct vpn_options *o)
{
	struct event_base *base = sodium_init() < 0 ? NULL : event_base_new();
	int code;

	if (!base) {
		log_error("cannot start the event loop");
		return 1;
	}
	code = server ? vpn_server_run(base, o) : vpn_client_run(base, o);
	event_base_free(base);
	return code;
}

static int give_up(const struct vpn_options *o)
{
	int rc = privileges_stay(o->cfg->daemon_user, o->cfg->general_state_dir, NULL);

	return rc ? rc : privileges_limit(PRIVILEGES_NETWORK);
}

int vpn_main(bool server, int argc, char **argv)
{
	static struct vpn_options o;
	int verdict = vpn_options_parse(&o, server, argc, argv);
	int code = verdict < 0 ? 2 : 0;

	if (verdict == 0)
		code = give_up(&o) ? 1 : run(server, &o);
	else if (verdict == 2)
		code = vpn_host_cleanup(server, &o) ? 1 : 0;
	vpn_options_free(&o);
	return code;
}
