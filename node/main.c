#include "io/config_doc.h"
#include "io/sandbox.h"
#include "node/shell.h"

const char *const daemon_docs[] = {config_doc_general,
				   config_doc_daemon,
				   config_doc_node,
				   config_doc_transport,
				   config_doc_connection,
				   config_doc_congestion,
				   NULL};

static int start(struct daemon *d)
{
	struct node_shell *s;
	int err = node_shell_new(d, &s);

	d->ctx = s;
	return err;
}

static void stop(struct daemon *d)
{
	daemon_hold(d);
	node_shell_stop(d->ctx);
}

static void release(struct daemon *d)
{
	node_shell_free(d->ctx);
}

static const struct daemon_spec spec = {
	.name = "node",
	.summary = "carries packets of the mesh and serves the apps of this host",
	.coarse_timers = true, /* io/ticker.h has those that are not */
	.check = node_check,
	.start = start,
	.stop = stop,
	.free = release,
	.own_user = true,
	.sandbox = sandbox_enter,
	.privileges = node_privileges,
};

int main(int argc, char **argv)
{
	return daemon_main(&spec, argc, argv);
}
