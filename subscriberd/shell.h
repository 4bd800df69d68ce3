/* The subscriber's I/O: fills the engine's operations with the mesh, HTTP, tunnels and routes. */
#ifndef SUBSCRIBERD_SHELL_H
#define SUBSCRIBERD_SHELL_H

#include "io/daemon.h"

int sub_shell_check(const struct config *cfg, config_report *report, void *ctx);
int sub_shell_start(struct daemon *d);
void sub_shell_stop(struct daemon *d);
void sub_shell_reload(struct daemon *d);
void sub_shell_free(struct daemon *d);
int sub_shell_cleanup(struct daemon *d);
/* The capabilities of daemon_spec. */
uint64_t sub_shell_privileges(const struct config *cfg);
#endif
