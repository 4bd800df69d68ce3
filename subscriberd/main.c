/* subscriberd: keeps this host online through gateways of the mesh. */
#include "subscriberd/shell.h"
#include "tunnel/tunnel.h"

static const struct daemon_spec spec = {
	.name = "subscriberd",
	.summary = "finds gateways in the mesh, connects to the best and moves on when it fails",
	.sections = "general,daemon,database,subscriber," TUNNEL_SECTIONS
		    ",kernel,l2,babel,bird,frr,olsr,batman,yggdrasil",
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
