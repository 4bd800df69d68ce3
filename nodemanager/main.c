#include "io/config_doc.h"
#include "nodemanager/shell.h"
#include "nodemanager/spawn.h"

const char *const daemon_docs[] = {config_doc_general,
				   config_doc_daemon,
				   config_doc_database,
				   config_doc_nodemanager,
				   config_doc_apptracker,
				   config_doc_msgsrv,
				   NULL};

static const struct daemon_spec spec = {
	.name = "nodemanager",
	.summary = "registers nodes, makes links between them, finds and installs routes",
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
