/*
 * Programs that a method runs (wireguard-go, fastd, ...): a child (io/child.h) that is written down
 * in the host's journal before it starts, so that one that outlives a killed daemon is ended by the
 * daemon's next start or by --cleanup.  It is known by a random word in its environment, which its
 * own children inherit and nothing else has: a process number that was given out again, or somebody
 * else's process of the same name, is never mistaken for it.
 */
#ifndef IO_HELPER_H
#define IO_HELPER_H

#include "io/child.h"
#include "io/hostjournal.h"

#define HELPER_ENV_MAX 8

struct helper;

struct helper_spec {
	const char *name;	 /* for the log and the journal */
	const char *const *argv; /* as child_spec's */
	const char *const *env; /* "NAME=value" besides ours, at most HELPER_ENV_MAX; may be NULL */
	uint64_t privileges;	/* as child_spec's */
	const char *socket;	/* path of a socket that goes with it; NULL: none */
	child_exit_cb *on_exit; /* as child_spec's */
	child_line_cb *on_line; /* NULL: to the log at debug level */
	void *arg;
};

/* `journal` may be NULL: then nobody ends it after a kill -9 of ours.  Errors are child_start's and
 * the journal's. */
int helper_start(struct helper **out, struct event_base *base, struct hostjournal *journal,
		 const struct helper_spec *spec);
/* 0 once it has ended. */
pid_t helper_pid(const struct helper *h);
/* Ends it at once with all its children, and removes its socket.  NULL is fine.  From inside
 * on_exit too. */
void helper_free(struct helper *h);

/*
 * Runs a program to its end and gives what it printed on its standard output, without trailing
 * blanks; `input` (at most 4096 bytes) is its standard input.  For programs that answer in
 * milliseconds: we wait.  0; -ENOENT and the like; -ETIMEDOUT; -EIO when it failed; -EMSGSIZE.
 */
int helper_output(const char *const *argv, const char *input, char *out, size_t size,
		  uint64_t timeout_us);
#endif
