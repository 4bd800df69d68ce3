/*
 * Hooks: programs that the operator has told a daemon to run at some events.  A hook is an
 * executable with arguments, divided at blanks ('...' and "..." keep them together; no shell, no
 * variables), to which the event's own arguments are appended.  They begin in the order of the
 * events, from the loop (never inside of hooks_run), and as many as the daemon allows run at once;
 * what takes too long is ended, and when too many wait new ones are dropped, both said in the log.
 * What a hook prints goes to the log.
 */
#ifndef IO_HOOK_H
#define IO_HOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOOK_WORDS_MAX 32  /* of the configured line */
#define HOOK_VALUES_MAX 16 /* arguments of the event; so many pairs for its environment, too */
#define HOOK_LINE_MAX 1024
#define HOOK_SECONDS_MAX 10 /* then it is ended */
#define HOOK_NAME_MAX 31    /* longer ones are cut */

struct event_base;
struct hooks;

struct hook_counters {
	uint64_t run, failed, dropped; /* failed: not begun, took too long, or said so */
};

/* `running_max` at once (1: strictly one after the other), `waiting_max` behind them.
 * 0 or -ENOMEM. */
int hooks_new(struct hooks **out, struct event_base *base, size_t running_max, size_t waiting_max);
/* Ends what runs, forgets what waits.  NULL is fine. */
void hooks_free(struct hooks *h);
/* Runs `line` (empty: does nothing), with `args` (ending with NULL) behind its own arguments and
 * `env` ("NAME=value" besides ours, ending with NULL; may be NULL).  Copies everything.  `name` is
 * for the log. */
void hooks_run(struct hooks *h, const char *name, const char *line, const char *const *args,
	       const char *const *env);
/* Nothing runs or waits. */
bool hooks_idle(const struct hooks *h);
const struct hook_counters *hooks_counters(const struct hooks *h);
/* For the configuration's check: 0 and the first word ("" of an empty line; `program` may be NULL);
 * -EINVAL when a quote has no end, or it is too long or of too many words. */
int hook_check(const char *line, char program[HOOK_LINE_MAX]);
#endif
