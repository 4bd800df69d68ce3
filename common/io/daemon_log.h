/* Where log lines of a daemon go: stderr, with a time for people or with the journal's "<N>"; or
 * syslog. */
#ifndef IO_DAEMON_LOG_H
#define IO_DAEMON_LOG_H

#include <stdbool.h>

#include "base/log.h"

/* `format` is the value of daemon.LogFormat: auto, plain, journal or syslog.  `name` (kept) is for
 * syslog.  `background`: nobody reads stderr, so that it is syslog in any case. */
void daemon_log_open(const char *format, const char *name, bool background);
/* The value of general.LogLevel. */
enum log_level daemon_log_level(const char *word);
#endif
