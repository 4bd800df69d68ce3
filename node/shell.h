/* The node's sockets around its engine: the manager, the apps, UDP, timers. */
#ifndef NODE_SHELL_H
#define NODE_SHELL_H

#include "io/daemon.h"

struct node_shell;

/* What ranges cannot say about the configuration. */
int node_check(const struct config *cfg, config_report *report, void *report_ctx);
/* The capabilities of daemon_spec: for FirewallMark, and for buffers that the kernel's limits
 * (net.core.rmem_max, wmem_max) forbid to everybody else. */
uint64_t node_privileges(const struct config *cfg);
/* 0, or -errno after one line in the log; *out is NULL then. */
int node_shell_new(struct daemon *d, struct node_shell **out);
void node_shell_free(struct node_shell *s);
/* Takes leave of everybody; daemon_exit follows. */
void node_shell_stop(struct node_shell *s);
#endif
