/*
 * Hooks: programs that the operator has told a daemon to run at some events.  A hook is an
 * executable with arguments, divided at blanks ('...' and "..." keep them together; no shell, no
 * variables), to which the event's own arguments are appended.  One runs at a time, in the order of
 * the events; what takes too long is ended, and when too many wait new ones are dropped, both said
 * in the log.  What a hook prints goes to the log.
 */
#ifndef IO_HOOK_H
#define IO_HOOK_H

#include <stdbool.h>
#include <stddef.h>

#define HOOK_ARGS_MAX 32 /* of the configured line and the event together */
#define HOOK_LINE_MAX 1024
#define HOOK_WAITING_MAX 64
#define HOOK_SECONDS_MAX 10 /* then it is ended */

struct event_base;
struct hooks;

/* 0 or -ENOMEM. */
int hooks_new(struct hooks **out, struct event_base *base);
/* Ends what runs, forgets what waits.  NULL is fine. */
void hooks_free(struct hooks *h);
/* Runs `line` (empty: does nothing), with `args` (ending with NULL) behind its own arguments and
 * `env` ("NAME=value" besides ours, ending with NULL; may be NULL).  Copies everything.  `name` is
 * for the log, a literal. */
void hooks_run(struct hooks *h, const char *name, const char *line, const char *const *args,
	       const char *const *env);
/* Nothing runs or waits. */
bool hooks_idle(const struct hooks *h);
/* For the configuration's check: 0; -EINVAL when a quote has no end or there are too many words. */
int hook_check(const char *line);
#endif
