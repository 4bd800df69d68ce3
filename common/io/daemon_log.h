/* Where log lines of a daemon go: stderr, with a time for people or with the journal's "<N>". */
#ifndef IO_DAEMON_LOG_H
#define IO_DAEMON_LOG_H

#include "base/log.h"

/* `format` is the value of daemon.LogFormat: auto, plain or journal. */
void daemon_log_open(const char *format);
/* The value of general.LogLevel. */
enum log_level daemon_log_level(const char *word);
#endif
