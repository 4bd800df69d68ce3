#include "io/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/id.h"
#include "base/log.h"
#include "io/clock.h"

#define MARK_VARIABLE "MESHNET_HELPER"
#define INPUT_MAX 4096u /* a pipe takes as much without a reader */

struct helper {
	struct child *child;
	struct hostjournal *journal;
	struct host_process process;
	char name[32], mark[sizeof MARK_VARIABLE + 1 + HOST_PROCESS_MARK_MAX];
};

static void log_line(struct child *c, const char *line, void *arg)
{
	(void)arg;
	log_debug("process %d: %s", (int)child_pid(c), line);
}

/* Ours, the caller's and the mark; the caller frees the array. */
static const char **environment(const struct helper *h, const char *const *more)
{
	size_t count = 0, n = 0;

	while (environ[count])
		count++;
	const char **env = calloc(count + HELPER_ENV_MAX + 2, sizeof *env);
	if (!env)
		return NULL;
	for (; n < count; n++)
		env[n] = environ[n];
	for (size_t i = 0; more && more[i] && i < HELPER_ENV_MAX; i++)
		env[n++] = more[i];
	env[n] = h->mark;
	return env;
}

static int start(struct helper *h, struct event_base *base, const struct helper_spec *spec)
{
	const char **env = environment(h, spec->env);
	const struct child_spec cs = {
		.name = h->name,
		.argv = spec->argv,
		.env = env,
		.privileges = spec->privileges,
		.on_exit = spec->on_exit,
		.on_line = spec->on_line ? spec->on_line : log_line,
		.arg = spec->arg,
	};
	int rc = env ? 0 : -ENOMEM;

	if (!rc && h->journal)
		rc = host_process_add(h->journal, &h->process);
	if (!rc) {
		rc = child_start(&h->child, base, &cs);
		if (rc && h->journal)
			host_process_remove(h->journal, &h->process);
	}
	free(env);
	return rc;
}

int helper_start(struct helper **out, struct event_base *base, struct hostjournal *journal,
		 const struct helper_spec *spec)
{
	struct helper *h = calloc(1, sizeof *h);
	uint8_t random[16];
	int rc;

	if (!h)
		return -ENOMEM;
	h->journal = journal;
	randombytes_buf(random, sizeof random);
	hex_encode(random, sizeof random, h->process.mark);
	cstr_print(h->mark, sizeof h->mark, "%s=%s", MARK_VARIABLE, h->process.mark);
	cstr_copy(h->name, sizeof h->name, spec->name);
	memcpy(h->process.name, h->name, sizeof h->process.name);
	if (spec->socket && strlen(spec->socket) >= sizeof h->process.socket) {
		free(h);
		return -ENAMETOOLONG;
	}
	cstr_copy(h->process.socket, sizeof h->process.socket, spec->socket ? spec->socket : "");
	rc = start(h, base, spec);
	if (rc) {
		free(h);
		return rc;
	}
	*out = h;
	return 0;
}

pid_t helper_pid(const struct helper *h)
{
	return child_pid(h->child);
}

void helper_free(struct helper *h)
{
	if (!h)
		return;
	child_free(h->child);
	if (*h->process.socket)
		unlink(h->process.socket);
	if (h->journal)
		host_process_remove(h->journal, &h->process);
	free(h);
}

/* ---- a program that only answers ---- */

struct run {
	int in[2], out[2]; /* ends to read from and to write to; -1: closed */
	pid_t pid;
};

static void shut(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int run_spawn(struct run *r, const char *const *argv)
{
	posix_spawn_file_actions_t fa;
	char *const *args = (char *const *)(uintptr_t)argv;
	int rc = -posix_spawn_file_actions_init(&fa);

	if (rc)
		return rc;
	rc = -posix_spawn_file_actions_adddup2(&fa, r->in[0], 0);
	if (!rc)
		rc = -posix_spawn_file_actions_adddup2(&fa, r->out[1], 1);
	if (!rc)
		rc = -posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);
	if (!rc)
		rc = -posix_spawn_file_actions_addclosefrom_np(&fa, 3);
	if (!rc)
		rc = -posix_spawnp(&r->pid, args[0], &fa, NULL, args, environ);
	posix_spawn_file_actions_destroy(&fa);
	return rc;
}

/* To the end of the output. */
static int run_read(const struct run *r, char *out, size_t size, uint64_t deadline_us)
{
	struct pollfd p = {.fd = r->out[0], .events = POLLIN};
	size_t len = 0;

	for (;;) {
		uint64_t now = daemon_now_us();
		int ready =
			now < deadline_us ? poll(&p, 1, (int)((deadline_us - now) / 1000) + 1) : 0;
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			return ready ? -errno : -ETIMEDOUT;
		ssize_t n = read(r->out[0], out + len, size - len);
		if (n < 0)
			return -errno;
		len += (size_t)n;
		if (len == size)
			return -EMSGSIZE;
		if (n == 0)
			break;
	}
	while (len && strchr(" \t\r\n", out[len - 1]))
		len--;
	out[len] = '\0';
	return 0;
}

static int run_talk(struct run *r, const char *input, char *out, size_t size, uint64_t deadline_us)
{
	size_t len = input ? strlen(input) : 0;

	if (len && write(r->in[1], input, len) != (ssize_t)len)
		return -EIO;
	shut(&r->in[0]);
	shut(&r->in[1]);
	shut(&r->out[1]);
	return run_read(r, out, size, deadline_us);
}

int helper_output(const char *const *argv, const char *input, char *out, size_t size,
		  uint64_t timeout_us)
{
	struct run r = {{-1, -1}, {-1, -1}, 0};
	int rc = 0, status = 0;

	if (input && strlen(input) > INPUT_MAX)
		return -EINVAL;
	if (pipe2(r.in, O_CLOEXEC) || pipe2(r.out, O_CLOEXEC))
		rc = -errno;
	if (!rc)
		rc = run_spawn(&r, argv);
	if (!rc) {
		rc = run_talk(&r, input, out, size, daemon_now_us() + timeout_us);
		if (rc)
			kill(r.pid, SIGKILL);
		waitpid(r.pid, &status, 0);
		if (!rc && status)
			rc = -EIO;
	}
	for (int i = 0; i < 2; i++) {
		shut(&r.in[i]);
		shut(&r.out[i]);
	}
	return rc;
}
