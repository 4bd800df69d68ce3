#include "io/daemon_log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 1200

/* In one write, so that lines of several processes on one terminal do not mix. */
static void line_put(const char *text, int len)
{
	ssize_t n;

	if (len < 0)
		return;
	if (len >= LINE_BYTES)
		len = LINE_BYTES - 1;
	n = write(STDERR_FILENO, text, (size_t)len);
	/* There is nowhere left to tell of a log that cannot be written. */
	(void)n;
}

static void sink_journal(enum log_level level, const char *line)
{
	char text[LINE_BYTES];

	line_put(text, snprintf(text, sizeof text, "<%d>%s\n", (int)level, line));
}

static void sink_plain(enum log_level level, const char *line)
{
	static const char names[][6] = {
		[LOG_LEVEL_ERROR] = "error",
		[LOG_LEVEL_WARN] = "warn ",
		[LOG_LEVEL_INFO] = "info ",
		[LOG_LEVEL_DEBUG] = "debug",
	};
	char text[LINE_BYTES], clock[32];
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	strftime(clock, sizeof clock, "%Y-%m-%d %H:%M:%S", &tm);
	line_put(text, snprintf(text, sizeof text, "%s.%03ld %s %s\n", clock, now.tv_nsec / 1000000,
				names[level], line));
}

/* As systemd.exec(5) says: the variable is inherited, so it counts only when it is this stderr. */
static bool stderr_is_journal(void)
{
	const char *env = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return env && sscanf(env, "%llu:%llu", &dev, &ino) == 2 && !fstat(STDERR_FILENO, &st) &&
	       st.st_dev == dev && st.st_ino == ino;
}

static void sink_syslog(enum log_level level, const char *line)
{
	syslog((int)level, "%s", line);
}

void daemon_log_open(const char *format, const char *name, bool background)
{
	bool to_syslog = background || !strcmp(format, "syslog");
	bool journal =
		!strcmp(format, "journal") || (strcmp(format, "plain") != 0 && stderr_is_journal());

	if (to_syslog)
		openlog(name, LOG_PID | LOG_NDELAY, LOG_DAEMON);
	log_set_sink(to_syslog ? sink_syslog : journal ? sink_journal : sink_plain);
}

enum log_level daemon_log_level(const char *word)
{
	if (!strcmp(word, "error"))
		return LOG_LEVEL_ERROR;
	if (!strcmp(word, "warn"))
		return LOG_LEVEL_WARN;
	return !strcmp(word, "debug") ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
}
