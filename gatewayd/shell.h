/* The running gateway: what main.c hands to daemon_main. */
#ifndef GATEWAYD_SHELL_H
#define GATEWAYD_SHELL_H

#include "io/daemon.h"

#define GW_TICK_S 1  /* leases end, the app's info is kept true */
#define GW_USAGE_S 2 /* counters are read, quotas looked at */

int gw_shell_check(const struct config *cfg, config_report *report, void *report_ctx);
int gw_shell_start(struct daemon *d);
void gw_shell_reload(struct daemon *d);
void gw_shell_free(struct daemon *d);
int gw_shell_cleanup(struct daemon *d);
/* The capabilities of daemon_spec. */
uint64_t gw_shell_privileges(const struct config *cfg);
#endif
