#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>

#include "base/log.h"
#include "io/notify.h"
#include "io/privileges.h"
#include "vpn/host.h"
#include "vpn/vpn.h"

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
