/* Runs one command: asks the daemon, shows the answer. */
#ifndef MESHCTL_RUN_H
#define MESHCTL_RUN_H

#include <stdio.h>

#include "meshctl/args.h"

enum ctl_exit { CTL_OK = 0, CTL_REFUSED = 1, CTL_USAGE = 2, CTL_UNREACHABLE = 3 };

/* The command in a->words; results on `out`, errors (one line each) on `err`. */
enum ctl_exit ctl_run(const struct ctl_args *a, FILE *out, FILE *err);
/* Reads commands until the end of the input or `exit`; each line may add options to `a`'s.  With
 * `interactive` it shows a prompt.  The exit status of the last command. */
enum ctl_exit ctl_prompt(const struct ctl_args *a, FILE *in, FILE *out, FILE *err,
			 bool interactive);
#endif
