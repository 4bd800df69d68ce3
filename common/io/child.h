/*
 * Child processes: an argument vector (never a shell), a process group of their own, output to our
 * log line by line, exit told by callback (pidfd: no SIGCHLD handler to share), killed with their
 * whole group, by force after a deadline.  After kill -9 of ours they go on: a method must know its
 * leftovers (pid file, management socket) and end them at the next start.
 */
#ifndef IO_CHILD_H
#define IO_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CHILD_LINE_MAX 512	       /* longer lines are cut */
#define CHILD_INPUT_MAX 4096u	       /* a pipe takes as much without a reader */
#define CHILD_LINES_PER_MINUTE_MAX 600 /* more are counted and dropped */

struct event_base;
struct child;

/* `status` as of waitpid.  The child is gone from the table; free it here or later. */
typedef void child_exit_cb(struct child *c, int status, void *arg);
/* One line of output (stdout and stderr together), without its newline, printable.
 * Must not free the child. */
typedef void child_line_cb(struct child *c, const char *line, void *arg);

/* Bytes of its output as they come; instead of lines.  Must not free the child. */
typedef void child_output_cb(struct child *c, const char *data, size_t len, void *arg);

struct child_spec {
	const char *name;	 /* for the log */
	const char *const *argv; /* argv[0]: a path, or a name looked up in PATH */
	const char *const *env;	 /* NULL: ours */
	uint64_t privileges;	 /* capabilities that it gets, of those that we kept; 0: none */
	const char *input;	 /* all of its stdin, at most CHILD_INPUT_MAX bytes; NULL: none */
	child_exit_cb *on_exit;	 /* may be NULL */
	child_line_cb *on_line;	 /* NULL: to the log at info level */
	/* NULL: lines.  What the child says on stderr goes nowhere then. */
	child_output_cb *on_output;
	void *arg;
};

/* 0; -ENOENT, -EACCES, -EAGAIN, ... when it cannot be started; -EMSGSIZE: too much input. */
int child_start(struct child **out, struct event_base *base, const struct child_spec *spec);
pid_t child_pid(const struct child *c); /* 0 once it has ended */
/* SIGTERM to the group, SIGKILL after `deadline_us`; on_exit follows. */
void child_stop(struct child *c, uint64_t deadline_us);
/* Kills the group at once if it still runs, reaps it, no callback.  NULL is fine. */
void child_free(struct child *c);
/* "exit 3", "signal 9 (Killed)". */
const char *child_status_text(int status, char out[48]);
#endif
