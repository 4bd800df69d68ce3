/*
 * Levelled logs.  `base` knows no clock and no file: a line goes to the sink, which io/daemon.c
 * sets to stderr (with a time, or with the journal's "<N>" prefix).  Tests set their own.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARN = 4, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

typedef void log_sink(enum log_level level, const char *line);

/* NULL restores the default sink (plain lines on stderr). */
void log_set_sink(log_sink *sink);
void log_set_level(enum log_level max);
bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/*
 * For what a hostile peer can provoke: the first event is logged, then at most one line a minute
 * with the number of events since.  `now` in microseconds, monotonic.
 */
struct log_limit {
	uint64_t count, logged, next_us;
};
bool log_limit_due(struct log_limit *l, uint64_t now);
#endif
