/* The nodemanager's sockets, timers, files and RPC around its engine. */
#ifndef NODEMANAGER_SHELL_H
#define NODEMANAGER_SHELL_H

#include "io/daemon.h"

/* For struct daemon_spec. */
int nm_shell_start(struct daemon *d);
void nm_shell_stop(struct daemon *d);
void nm_shell_reload(struct daemon *d);
void nm_shell_free(struct daemon *d);
#endif
