#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#define LOG_LINE_BYTES 1024
#define LOG_LIMIT_INTERVAL_US 60000000u

static void sink_stderr(enum log_level level, const char *line)
{
	(void)level;
	fprintf(stderr, "%s\n", line);
}

/* The process has one log; this is the only state outside a daemon's context. */
static log_sink *current_sink = sink_stderr;
static enum log_level current_level = LOG_LEVEL_INFO;

void log_set_sink(log_sink *sink)
{
	current_sink = sink ? sink : sink_stderr;
}

void log_set_level(enum log_level max)
{
	current_level = max;
}

bool log_enabled(enum log_level level)
{
	return level <= current_level;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char line[LOG_LINE_BYTES];
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	current_sink(level, line);
}

bool log_limit_due(struct log_limit *l, uint64_t now)
{
	l->count++;
	if (l->logged && now < l->next_us)
		return false;
	l->logged = l->count;
	l->next_us = now + LOG_LIMIT_INTERVAL_US;
	return true;
}
