#include "apptracker/shell.h"

static const struct daemon_spec spec = {
	.name = "apptracker",
	.summary = "keeps the list of who offers what in the mesh",
	.sections = "general,daemon,database,apptracker",
	.start = tracker_start,
	.free = tracker_shutdown,
	.own_user = true,
	.sandbox = true,
};

int main(int argc, char **argv)
{
	return daemon_main(&spec, argc, argv);
}
