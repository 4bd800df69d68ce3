/* gatewayd: shares an Internet uplink with subscribers, under terms. */
#include "gatewayd/shell.h"
#include "tunnel/tunnel.h"

int main(int argc, char **argv)
{
	static const struct daemon_spec spec = {
		.name = "gatewayd",
		.summary = "shares this host's Internet uplink with subscribers of the mesh",
		.sections = "general,daemon,database,gateway," TUNNEL_SECTIONS,
		.coarse_timers = true, /* all that it waits for takes longer */
		.check = gw_shell_check,
		.start = gw_shell_start,
		.reload = gw_shell_reload,
		.free = gw_shell_free,
		.cleanup = gw_shell_cleanup,
		.privileges = gw_shell_privileges,
	};

	return daemon_main(&spec, argc, argv);
}
