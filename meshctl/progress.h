/* Commands that take long, and say how far they are. */
#ifndef MESHCTL_PROGRESS_H
#define MESHCTL_PROGRESS_H

#include "meshctl/run.h"

/* add-nodes: in calls of at most 100; while they come up, a terminal on `err` shows how many. */
enum ctl_exit ctl_run_add_nodes(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
				FILE *err);
#endif
