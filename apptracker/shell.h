/* The apptracker's sockets, timers and files around its engine. */
#ifndef APPTRACKER_SHELL_H
#define APPTRACKER_SHELL_H

#include "io/daemon.h"

/* For struct daemon_spec. */
int tracker_start(struct daemon *d);
void tracker_shutdown(struct daemon *d);
#endif
