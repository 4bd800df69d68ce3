/*
 * What every daemon's main is: arguments (-f -o --check --cleanup -d --background --version
 * --help), the configuration, logs, privileges, the state directory and its lock, signals,
 * readiness.  A daemon's main.c is
 *
 *     const char *const daemon_docs[] = {config_doc_general, config_doc_node, NULL};
 *     static const struct daemon_spec spec = {.name = "node", .summary = "...",
 *             .check = node_check, .start = node_start, .stop = node_stop, .free = node_free};
 *     int main(int argc, char **argv) { return daemon_main(&spec, argc, argv); }
 *
 * Exit codes: 0, 1 (bad configuration, start failed, cleanup failed), 2 (bad arguments).
 */
#ifndef IO_DAEMON_H
#define IO_DAEMON_H

#include <event2/event.h>

#include "io/clock.h"
#include "io/config.h"

#define DAEMON_STOP_US 1500000u /* after a SIGTERM; the loop ends then in any case */

struct daemon {
	struct event_base *base; /* with priorities 0 (urgent) .. 2, default 1 */
	struct config *cfg;	 /* this address is stable; SIGHUP changes the values in place */
	const char *name;	 /* spec->name */
	const char *config_path; /* -f, or NULL for the default */
	const char *state_dir;	 /* exists, mode 0700 when we made it */
	void *ctx;		 /* the daemon's own, set by start */
	struct daemon_priv *priv;
};

struct daemon_spec {
	const char *name, *summary;
	const char
		*sections; /* comma separated: those of daemon_docs that --help lists; NULL: all */
	/* Timers may be late by a millisecond: two system calls less in each turn of the loop. */
	bool coarse_timers;
	/* Optional: what ranges cannot say.  Reports each fault, 0 or -EINVAL.  Also for --check
	 * and SIGHUP, so it must not touch the world. */
	int (*check)(const struct config *cfg, config_report *report, void *report_ctx);
	/* Builds everything on d->base.  0, or -errno after it logged one clear line; `free` is
	 * called in both cases.  Readiness is told to the service manager after a 0, unless start
	 * called daemon_hold_ready(). */
	int (*start)(struct daemon *d);
	/* Optional: SIGTERM or SIGINT came.  The loop ends when it returns, or, if it called
	 * daemon_hold(), at daemon_exit() or DAEMON_STOP_US later. */
	void (*stop)(struct daemon *d);
	/* Optional: d->cfg has new values (those that need a restart are the daemon's to ignore).
	 */
	void (*reload)(struct daemon *d);
	/* Optional: after the loop, or after a failed start; releases d->ctx (may be NULL). */
	void (*free)(struct daemon *d);
	/* Optional: --cleanup; takes back what a killed run left on the host, without `start`. Runs
	 * under the lock of the state directory.  0 or -errno (logged). */
	int (*cleanup)(struct daemon *d);
	/* Started as root it becomes daemon.User (io/privileges.h); otherwise it stays uid 0. */
	bool own_user;
	/* Optional: a folder in the state directory that is the user's too, with all in it. */
	const char *tree;
	/* Optional, sandbox_enter: when it is ready it makes no other system calls than those of
	 * io/sandbox.h, unless daemon.Sandbox says no.  Not for one that starts programs, which
	 * then carries no list of calls either. */
	int (*sandbox)(void);
	/* Optional: the capabilities that it keeps, all others are given up before `start`, and not
	 * come back with a SIGHUP.  --cleanup keeps what it was started with. */
	uint64_t (*privileges)(const struct config *cfg);
	/* Optional, of one that stays root: groups that it joins where they exist, comma separated;
	 * for sockets of others' daemons. */
	const char *groups;
};

/* The sections that --help can list (io/config_doc.h), then NULL.  Of all sections, but for a
 * program that defines it itself: it carries no others. */
extern const char *const daemon_docs[];

int daemon_main(const struct daemon_spec *spec, int argc, char **argv);

/* Inside `stop`: the end takes a while, daemon_exit() follows. */
void daemon_hold(struct daemon *d);
/* Ends the loop; `code` is the exit code.  At any time after `start` began. */
void daemon_exit(struct daemon *d, int code);
/* Inside `start`: not ready yet; daemon_ready() follows. */
void daemon_hold_ready(struct daemon *d);
void daemon_ready(struct daemon *d);
/* "STATUS=..." for the service manager; nothing without one. */
void daemon_status(struct daemon *d, const char *text);

/* STATE_DIR/NAME.SUFFIX (for example "node.db"); -ENAMETOOLONG. */
int daemon_state_path(const struct daemon *d, const char *suffix, char *out, size_t size);
/* The configuration allows for so many sockets: raises the limit on open files, and warns where it
 * cannot be raised as far. */
void daemon_want_files(size_t count);
/* The configured name, or the host name when it is empty (cut to `size`).  Returns `out`. */
const char *daemon_host_name(const char *configured, char *out, size_t size);
#endif
