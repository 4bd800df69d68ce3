/* subscriberd: keeps this host online through gateways of the mesh. */
#include "io/config_doc.h"
#include "subscriberd/shell.h"
#include "tunnel/tunnel.h"

const char *const daemon_docs[] = {config_doc_general,	 config_doc_daemon,
				   config_doc_database,	 config_doc_subscriber,
				   TUNNEL_DOCS,		 config_doc_kernel,
				   config_doc_l2,	 config_doc_babel,
				   config_doc_bird,	 config_doc_frr,
				   config_doc_olsr,	 config_doc_batman,
				   config_doc_yggdrasil, NULL};

static const struct daemon_spec spec = {
	.name = "subscriberd",
	.summary = "finds gateways in the mesh, connects to the best and moves on when it fails",
	.check = sub_shell_check,
	.start = sub_shell_start,
	.stop = sub_shell_stop,
	.reload = sub_shell_reload,
	.free = sub_shell_free,
	.cleanup = sub_shell_cleanup,
	.privileges = sub_shell_privileges,
	.groups = "bird,frrvty,yggdrasil,olsrd", /* of sockets that networks are asked by */
};

int main(int argc, char **argv)
{
	return daemon_main(&spec, argc, argv);
}
