/* meshctl: the command line of Meshnet. */
#include <event2/event.h>
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
		"  --token TOKEN|@FILE  the daemon's token, or the file that it is in\n"
		"                       (default: $MESH_RPC_TOKEN)\n"
		"  --timeout SECONDS    how long to wait for an answer\n"
		"  -w, --watch [SECONDS]  show it again and again (default: every 2 s)\n"
		"  --json               print what the RPC said\n"
		"  --version, --help\n\n"
		"Commands:\n",
		CTL_MANAGER_PORT, CTL_GATEWAY_PORT, CTL_SUBSCRIBER_PORT);
	ctl_command_help(out);
	fprintf(out, "\nExit status: 0 done, 1 the daemon said no, 2 usage, 3 no answer; of the\n"
		     "prompt: that of its last command.\n");
}

/* libevent's own lines about a failed connect say nothing that our error does not. */
static void event_quiet(int severity, const char *text)
{
	(void)severity;
	(void)text;
}

/* What a daemon calls things may be in any script, whatever the terminal's language is. */
static void locale_take(void)
{
	setlocale(LC_ALL, "");
	if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		setlocale(LC_CTYPE, "C.UTF-8");
	setlocale(LC_NUMERIC, "C");
}

/* "@FILE": its first line. */
static int token_take(struct ctl_args *a, char *buf, size_t size)
{
	FILE *f;

	if (!a->token)
		a->token = getenv("MESH_RPC_TOKEN");
	if (!a->token || a->token[0] != '@')
		return 0;
	f = fopen(a->token + 1, "re");
	if (!f || !fgets(buf, (int)size, f)) {
		fprintf(stderr, "meshctl: --token %.200s: %s\n", a->token,
			f ? "the file is empty" : strerror(errno));
		if (f)
			fclose(f);
		return -1;
	}
	fclose(f);
	buf[strcspn(buf, " \t\r\n")] = '\0';
	a->token = buf;
	return 0;
}

int main(int argc, char **argv)
{
	static char token[512];
	struct ctl_args a;
	char error[CTL_ERROR_MAX];

	locale_take();
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
	if (token_take(&a, token, sizeof token))
		return CTL_USAGE;
	if (a.count == 0)
		return (int)ctl_prompt(&a, stdin, stdout, stderr, isatty(STDIN_FILENO));
	return (int)ctl_run(&a, stdout, stderr);
}
