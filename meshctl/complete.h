/* What a line may go on with: for the prompt, and for the shells through `meshctl complete`. */
#ifndef MESHCTL_COMPLETE_H
#define MESHCTL_COMPLETE_H

#include "meshctl/run.h"

typedef void ctl_candidate(const char *word, void *arg);

/* The last of `words` is what is being typed (perhaps ""); calls `each` with every word that it may
 * become.  Names of nodes and gateways come from the daemons that `base` and the options among the
 * words say, with little patience; without an answer there are none.  Says nothing. */
void ctl_complete(const struct ctl_args *base, char *const *words, size_t count,
		  ctl_candidate *each, void *arg);

enum ctl_exit ctl_run_complete(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			       FILE *err);
/* `meshctl completion bash|zsh` */
enum ctl_exit ctl_run_completion(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
				 FILE *err);
#endif
