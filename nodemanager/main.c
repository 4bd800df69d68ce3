#include "nodemanager/shell.h"
#include "nodemanager/spawn.h"

static const struct daemon_spec spec = {
	.name = "nodemanager",
	.summary = "registers nodes, makes links between them, finds and installs routes",
	.sections = "general,daemon,database,nodemanager,apptracker,msgsrv",
	.start = nm_shell_start,
	.stop = nm_shell_stop,
	.reload = nm_shell_reload,
	.free = nm_shell_free,
	.own_user = true,
	.tree = NM_SPAWN_FOLDER,
};

int main(int argc, char **argv)
{
	return daemon_main(&spec, argc, argv);
}
