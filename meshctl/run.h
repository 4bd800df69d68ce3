/* Runs one command: asks the daemon, shows the answer. */
#ifndef MESHCTL_RUN_H
#define MESHCTL_RUN_H

#include <stdio.h>

#include "meshctl/args.h"

enum ctl_exit { CTL_OK = 0, CTL_REFUSED = 1, CTL_USAGE = 2, CTL_UNREACHABLE = 3 };
enum ctl_daemon { CTL_MANAGER, CTL_GATEWAY, CTL_SUBSCRIBER };
#define CTL_DAEMONS 3

struct ctl_command;
struct json_object;
struct rpc_answer;
struct rpc_target;

#define CTL_PAGE 500 /* entries of a list: fits into one answer, however long their names are */

/* The command in a->words; results on `out`, errors (one line each) on `err`. */
enum ctl_exit ctl_run(const struct ctl_args *a, FILE *out, FILE *err);
/* The same without --watch: once, whatever it says. */
enum ctl_exit ctl_run_once(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			   FILE *err);
/* Again and again until Ctrl-C, then CTL_OK; when already the first time fails, its exit status. */
enum ctl_exit ctl_watch(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			FILE *err);
/* Reads commands until the end of the input or `exit`; each line may add options to `a`'s.  With
 * `interactive` it shows a prompt that can be edited.  The exit status of the last command. */
enum ctl_exit ctl_prompt(const struct ctl_args *a, FILE *in, FILE *out, FILE *err,
			 bool interactive);

/* ---- for the commands that are more than one call ---- */

const char *ctl_daemon_name(enum ctl_daemon d);
/* Where the daemon is; its texts are those of `a`. */
struct rpc_target ctl_target(const struct ctl_args *a, enum ctl_daemon d);
/* CTL_OK, or says on `err` why the call failed. */
enum ctl_exit ctl_answer_check(const struct rpc_target *to, enum ctl_daemon d,
			       const struct rpc_answer *answer, FILE *err);
/* Calls; a paged list is asked for page by page and put together. */
void ctl_call(const struct rpc_target *to, const struct ctl_command *c, struct json_object *params,
	      struct rpc_answer *answer);
/* `daemon` cannot be reached; how to start it. */
enum ctl_exit ctl_unreachable(const struct rpc_target *to, enum ctl_daemon d, const char *why,
			      FILE *err);
/* As `a` and the command want it: JSON, a table or lines. */
void ctl_show(const struct ctl_args *a, const struct ctl_command *c, struct json_object *result,
	      FILE *out);

/* Ctrl-C does not end us from begin to end, but makes `ctl_interrupted` true. */
void ctl_interrupt_begin(void);
void ctl_interrupt_end(void);
bool ctl_interrupted(void);
/* False: interrupted meanwhile. */
bool ctl_sleep_us(uint64_t us);

enum ctl_exit ctl_run_status(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			     FILE *err);
enum ctl_exit ctl_run_help(const struct ctl_args *a, const struct ctl_command *self, FILE *out,
			   FILE *err);
#endif
