/* gatewayd: shares an Internet uplink with subscribers, under terms. */
#include "io/config_doc.h"
#include "gatewayd/shell.h"
#include "tunnel/tunnel.h"

const char *const daemon_docs[] = {config_doc_general, config_doc_daemon, config_doc_database,
				   config_doc_gateway, TUNNEL_DOCS,	  NULL};

int main(int argc, char **argv)
{
	static const struct daemon_spec spec = {
		.name = "gatewayd",
		.summary = "shares this host's Internet uplink with subscribers of the mesh",
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
