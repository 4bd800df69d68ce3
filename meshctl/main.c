/* meshctl: the command line of Meshnet. */
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "meshctl/command.h"
#include "meshctl/run.h"

static void usage(FILE *out)
{
	fprintf(out,
		"usage: meshctl [options] [command ...]\n"
		"Without a command: a prompt (help, exit).\n\n"
		"  -p, --port PORT      nodemanager's RPC port on this host (default: "
		"$MESH_RPC_PORT "
		"or %d)\n"
		"  --rpc HOST[:PORT]    nodemanager elsewhere\n"
		"  -g HOST[:PORT]       gatewayd or subscriberd (default: this host, %d and %d)\n"
		"  --token TOKEN        the daemon's administration token\n"
		"  --timeout SECONDS    how long to wait for an answer\n"
		"  --uses N, --expires 2d, --role ROLE   for invite\n"
		"  --json               print what the RPC said\n"
		"  --version, --help\n\n"
		"Commands:\n",
		CTL_MANAGER_PORT, CTL_GATEWAY_PORT, CTL_SUBSCRIBER_PORT);
	ctl_command_help(out);
	fprintf(out, "\nExit status: 0 done, 1 the daemon said no, 2 usage, 3 no answer.\n");
}

/* libevent's own lines about a failed connect say nothing that our error does not. */
static void event_quiet(int severity, const char *text)
{
	(void)severity;
	(void)text;
}

int main(int argc, char **argv)
{
	struct ctl_args a;
	char error[CTL_ERROR_MAX];

	signal(SIGPIPE, SIG_IGN);
	event_set_log_callback(event_quiet);
	if (ctl_args_init(&a, getenv("MESH_RPC_PORT"), error) ||
	    ctl_args_parse(&a, argc - 1, argv + 1, error)) {
		fprintf(stderr, "meshctl: %s\n", error);
		return CTL_USAGE;
	}
	if (a.version) {
		printf("meshctl %s\n", MESHNET_VERSION);
		return CTL_OK;
	}
	if (a.help && a.count == 0) {
		usage(stdout);
		return CTL_OK;
	}
	if (a.count == 0)
		return (int)ctl_prompt(&a, stdin, stdout, stderr, isatty(STDIN_FILENO));
	return (int)ctl_run(&a, stdout, stderr);
}
