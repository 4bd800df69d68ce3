/* Any method of any daemon, and which there are. */
#ifndef MESHCTL_RAW_H
#define MESHCTL_RAW_H

#include "meshctl/command.h"

#define CTL_DAEMON_WORDS "nodemanager|gatewayd|subscriberd"

/* `rpc DAEMON METHOD [JSON]`: the answer as JSON, whatever it is. */
enum ctl_exit ctl_run_rpc(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			  FILE *err);
/* `methods [DAEMON]`: what rpc.discover says; nodemanager's when none is named. */
enum ctl_exit ctl_run_methods(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			      FILE *err);
#endif
