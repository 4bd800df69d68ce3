#include "io/child.h"

#include <ctype.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/clock.h"
#include "io/privileges.h"
#include "io/timer.h"

#define CHILD_MINUTE_US 60000000u
#define CHILD_READ_BYTES 4096

struct child {
	pid_t pid; /* also its process group; 0 once reaped */
	int pidfd, pipe;
	char name[32];
	struct event *exit_ev, *pipe_ev, *kill_ev;
	child_exit_cb *on_exit;
	child_line_cb *on_line;
	child_output_cb *on_output;
	void *arg;
	char line[CHILD_LINE_MAX + 1];
	size_t line_len;
	uint64_t minute_start_us;
	unsigned minute_lines;
	uint64_t dropped_lines;
};

/* ---- output ---- */

static bool line_allowed(struct child *c)
{
	uint64_t now = daemon_now_us();

	if (now - c->minute_start_us >= CHILD_MINUTE_US) {
		if (c->dropped_lines)
			log_warn("%s: %llu lines of output dropped", c->name,
				 (unsigned long long)c->dropped_lines);
		c->minute_start_us = now;
		c->minute_lines = 0;
		c->dropped_lines = 0;
	}
	if (c->minute_lines >= CHILD_LINES_PER_MINUTE_MAX) {
		c->dropped_lines++;
		return false;
	}
	c->minute_lines++;
	return true;
}

static void line_done(struct child *c)
{
	size_t len = c->line_len;

	c->line_len = 0;
	if (len == 0 || !line_allowed(c))
		return;
	c->line[len] = '\0';
	if (c->on_line)
		c->on_line(c, c->line, c->arg);
	else
		log_info("%s: %s", c->name, c->line);
}

static void output_bytes(struct child *c, const char *data, size_t len)
{
	if (c->on_output) {
		c->on_output(c, data, len, c->arg);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		char ch = data[i];
		if (ch == '\n' || ch == '\r')
			line_done(c);
		else if (c->line_len < CHILD_LINE_MAX)
			c->line[c->line_len++] = isprint((unsigned char)ch) || ch & 0x80 ? ch : '?';
	}
}

/* False at the end of the output. */
static bool output_read(struct child *c)
{
	char buf[CHILD_READ_BYTES];
	ssize_t n = read(c->pipe, buf, sizeof buf);

	if (n > 0)
		output_bytes(c, buf, (size_t)n);
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void pipe_readable(evutil_socket_t fd, short what, void *arg)
{
	struct child *c = arg;

	(void)fd;
	(void)what;
	if (!output_read(c))
		event_del(c->pipe_ev);
}

/* What it wrote before it ended; grandchildren may hold the pipe open, so not to the end. */
static void output_drain(struct child *c)
{
	char buf[CHILD_READ_BYTES];
	ssize_t n;

	/* A pipe holds 64 KB. */
	for (int i = 0; i < 17 && (n = read(c->pipe, buf, sizeof buf)) > 0; i++)
		output_bytes(c, buf, (size_t)n);
	line_done(c);
	event_del(c->pipe_ev);
}

/* ---- end ---- */

static void child_exited(evutil_socket_t fd, short what, void *arg)
{
	struct child *c = arg;
	siginfo_t info = {0};
	int status = 0;

	(void)fd;
	(void)what;
	if (waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) || !info.si_pid)
		return;
	/* Its helpers, if any, end with it; before it is reaped, while the group id is surely its.
	 */
	kill(-c->pid, SIGKILL);
	waitpid(c->pid, &status, 0);
	c->pid = 0;
	event_del(c->exit_ev);
	event_del(c->kill_ev);
	output_drain(c);
	if (c->on_exit)
		c->on_exit(c, status, c->arg);
}

static void child_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct child *c = arg;

	(void)fd;
	(void)what;
	if (c->pid) {
		log_warn("%s: did not end in time, killed", c->name);
		kill(-c->pid, SIGKILL);
	}
}

void child_stop(struct child *c, uint64_t deadline_us)
{
	if (!c->pid)
		return;
	kill(-c->pid, SIGTERM);
	timer_in(c->kill_ev, deadline_us);
}

void child_free(struct child *c)
{
	if (!c)
		return;
	if (c->pid) {
		kill(-c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
	}
	struct event *events[] = {c->exit_ev, c->pipe_ev, c->kill_ev};
	for (size_t i = 0; i < 3; i++)
		event_drop(events[i]);
	if (c->pidfd >= 0)
		close(c->pidfd);
	if (c->pipe >= 0)
		close(c->pipe);
	free(c);
}

pid_t child_pid(const struct child *c)
{
	return c->pid;
}

const char *child_status_text(int status, char out[48])
{
	if (WIFSIGNALED(status))
		cstr_print(out, 48, "signal %d (%.30s)", WTERMSIG(status),
			   strsignal(WTERMSIG(status)));
	else
		cstr_print(out, 48, "exit %d", WEXITSTATUS(status));
	return out;
}

/* ---- start ---- */

/* A pipe with all that it will read; the end to read from, -1: nothing, or -errno. */
static int input_pipe(const char *input)
{
	size_t len = input ? strlen(input) : 0;
	int ends[2];

	if (!input)
		return -1;
	if (len > CHILD_INPUT_MAX)
		return -EMSGSIZE;
	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	ssize_t n = write(ends[1], input, len);
	close(ends[1]);
	if (n == (ssize_t)len)
		return ends[0];
	close(ends[0]);
	return -EIO;
}

static int spawn_actions(posix_spawn_file_actions_t *fa, int in, int out, bool raw)
{
	int rc = in >= 0 ? posix_spawn_file_actions_adddup2(fa, in, 0)
			 : posix_spawn_file_actions_addopen(fa, 0, "/dev/null", O_RDONLY, 0);

	if (!rc)
		rc = posix_spawn_file_actions_adddup2(fa, out, 1);
	if (!rc && raw)
		rc = posix_spawn_file_actions_addopen(fa, 2, "/dev/null", O_WRONLY, 0);
	else if (!rc)
		rc = posix_spawn_file_actions_adddup2(fa, out, 2);
	if (!rc)
		rc = posix_spawn_file_actions_addclosefrom_np(fa, 3);
	return rc;
}

/* A group of its own, and none of the signals that we block or ignore. */
static int spawn_attributes(posix_spawnattr_t *attr)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(attr, &none);
	posix_spawnattr_setsigdefault(attr, &all);
	posix_spawnattr_setpgroup(attr, 0);
	return posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						      POSIX_SPAWN_SETSIGDEF);
}

static int spawn(struct child *c, const struct child_spec *spec, int out)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int in = input_pipe(spec->input);
	/* posix_spawn does not write through these; its type is older than const. */
	char *const *argv = (char *const *)(uintptr_t)spec->argv;
	char *const *env = spec->env ? (char *const *)(uintptr_t)spec->env : environ;
	int rc;

	if (in < -1)
		return in;
	rc = posix_spawn_file_actions_init(&fa);
	if (!rc && (rc = posix_spawnattr_init(&attr)))
		posix_spawn_file_actions_destroy(&fa);
	if (!rc) {
		rc = spawn_actions(&fa, in, out, spec->on_output != NULL);
		if (!rc)
			rc = spawn_attributes(&attr);
		if (!rc) {
			privileges_lend(spec->privileges);
			rc = posix_spawnp(&c->pid, argv[0], &fa, &attr, argv, env);
			privileges_lend(0);
		}
		posix_spawnattr_destroy(&attr);
		posix_spawn_file_actions_destroy(&fa);
	}
	if (in >= 0)
		close(in);
	if (rc)
		c->pid = 0;
	return -rc;
}

static int child_watch(struct child *c, struct event_base *base)
{
	c->pidfd = pidfd_open(c->pid, 0);
	if (c->pidfd < 0)
		return -errno;
	c->exit_ev = event_new(base, c->pidfd, EV_READ | EV_PERSIST, child_exited, c);
	c->pipe_ev = event_new(base, c->pipe, EV_READ | EV_PERSIST, pipe_readable, c);
	c->kill_ev = timer_new(base, child_deadline, c);
	if (!c->exit_ev || !c->pipe_ev || !c->kill_ev || event_add(c->exit_ev, NULL) ||
	    event_add(c->pipe_ev, NULL))
		return -ENOMEM;
	return 0;
}

int child_start(struct child **out, struct event_base *base, const struct child_spec *spec)
{
	struct child *c = calloc(1, sizeof *c);
	int ends[2];
	int rc;

	if (!c)
		return -ENOMEM;
	c->pidfd = c->pipe = -1;
	c->on_exit = spec->on_exit;
	c->on_line = spec->on_line;
	c->on_output = spec->on_output;
	c->arg = spec->arg;
	cstr_copy(c->name, sizeof c->name, spec->name);
	if (pipe2(ends, O_CLOEXEC)) {
		rc = -errno;
		child_free(c);
		return rc;
	}
	c->pipe = ends[0];
	fcntl(c->pipe, F_SETFL, O_NONBLOCK);
	rc = spawn(c, spec, ends[1]);
	close(ends[1]);
	if (!rc)
		rc = child_watch(c, base);
	if (rc) {
		child_free(c);
		return rc;
	}
	*out = c;
	return 0;
}
