#include "io/config_doc.h"
#include "io/sandbox.h"
#include "apptracker/shell.h"

const char *const daemon_docs[] = {config_doc_general, config_doc_daemon, config_doc_database,
				   config_doc_apptracker, NULL};

static const struct daemon_spec spec = {
	.name = "apptracker",
	.summary = "keeps the list of who offers what in the mesh",
	.start = tracker_start,
	.free = tracker_shutdown,
	.own_user = true,
	.sandbox = sandbox_enter,
};

int main(int argc, char **argv)
{
	return daemon_main(&spec, argc, argv);
}
