#include "io/metrics.h"

#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <event2/buffer.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#ifndef MESHNET_VERSION
#define MESHNET_VERSION "unknown"
#endif

#define LABEL_VALUE_MAX 512 /* more of a value is cut */

void metrics_begin(struct metrics *m, struct evbuffer *out)
{
	*m = (struct metrics){.out = out};
}

static bool name_ok(const char *name)
{
	if (!isalpha((unsigned char)*name) && *name != '_')
		return false;
	for (; *name; name++) {
		if (!isalnum((unsigned char)*name) && *name != '_')
			return false;
	}
	return true;
}

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), n = strlen(end);

	return len >= n && strcmp(text + len - n, end) == 0;
}

/* A backslash and a line feed, and in values of labels the quote, are escaped; bytes that are no
 * UTF-8 would spoil the whole answer for the reader: what is not ASCII text there is replaced. */
static void escaped(struct evbuffer *out, const char *text, bool quoted)
{
	size_t left = LABEL_VALUE_MAX;

	for (const char *p = text; *p && left > 0; p++, left--) {
		unsigned char ch = (unsigned char)*p;
		if (ch == '\\')
			evbuffer_add(out, "\\\\", 2);
		else if (ch == '\n')
			evbuffer_add(out, "\\n", 2);
		else if (ch == '"' && quoted)
			evbuffer_add(out, "\\\"", 2);
		else if (ch < 0x20 || ch >= 0x7f)
			evbuffer_add(out, "?", 1);
		else
			evbuffer_add(out, p, 1);
	}
}

void metrics_family(struct metrics *m, const char *name, enum metric_type type, const char *help)
{
	assert(name_ok(name) && ends_with(name, "_total") == (type == METRIC_COUNTER));
	m->family = name;
	evbuffer_add_printf(m->out, "# HELP %s ", name);
	escaped(m->out, help, false);
	evbuffer_add_printf(m->out, "\n# TYPE %s %s\n", name,
			    type == METRIC_COUNTER ? "counter" : "gauge");
}

static void labels_write(struct metrics *m, const struct metric_label *labels, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		assert(name_ok(labels[i].name));
		evbuffer_add_printf(m->out, "%c%s=\"", i ? ',' : '{', labels[i].name);
		escaped(m->out, labels[i].value, true);
		evbuffer_add(m->out, "\"", 1);
	}
	if (count)
		evbuffer_add(m->out, "}", 1);
}

void metrics_sample_labels(struct metrics *m, const struct metric_label *labels, size_t count,
			   uint64_t value)
{
	assert(m->family);
	evbuffer_add_printf(m->out, "%s", m->family);
	labels_write(m, labels, count);
	evbuffer_add_printf(m->out, " %" PRIu64 "\n", value);
}

void metrics_sample(struct metrics *m, const char *label, const char *label_value, uint64_t value)
{
	const struct metric_label one = {label, label_value};

	metrics_sample_labels(m, &one, 1, value);
}

void metrics_counter(struct metrics *m, const char *name, const char *help, uint64_t value)
{
	metrics_family(m, name, METRIC_COUNTER, help);
	metrics_sample_labels(m, NULL, 0, value);
}

void metrics_gauge(struct metrics *m, const char *name, const char *help, uint64_t value)
{
	metrics_family(m, name, METRIC_GAUGE, help);
	metrics_sample_labels(m, NULL, 0, value);
}

/* Exact, and without a locale's comma. */
static void seconds_write(struct metrics *m, uint64_t value_us)
{
	evbuffer_add_printf(m->out, "%s %" PRIu64 ".%06" PRIu64 "\n", m->family, value_us / 1000000,
			    value_us % 1000000);
}

void metrics_gauge_us(struct metrics *m, const char *name, const char *help, uint64_t value_us)
{
	assert(ends_with(name, "_seconds"));
	metrics_family(m, name, METRIC_GAUGE, help);
	seconds_write(m, value_us);
}

static void process_memory(struct metrics *m)
{
	unsigned long size = 0, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (!f)
		return;
	if (fscanf(f, "%lu %lu", &size, &resident) == 2) {
		metrics_gauge(m, "process_virtual_memory_bytes", "Virtual memory size in bytes.",
			      size * page);
		metrics_gauge(m, "process_resident_memory_bytes", "Resident memory size in bytes.",
			      resident * page);
	}
	fclose(f);
}

static void process_files(struct metrics *m)
{
	struct rlimit limit;
	DIR *d = opendir("/proc/self/fd");
	uint64_t count = 0;

	if (d) {
		while (readdir(d))
			count++;
		closedir(d);
		/* ".", ".." and the directory itself. */
		metrics_gauge(m, "process_open_fds", "Number of open file descriptors.",
			      count > 3 ? count - 3 : 0);
	}
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		metrics_gauge(m, "process_max_fds", "Maximum number of open file descriptors.",
			      limit.rlim_cur);
}

static uint64_t timeval_us(const struct timeval *tv)
{
	return (uint64_t)tv->tv_sec * 1000000 + (uint64_t)tv->tv_usec;
}

/* Field 22 of /proc/self/stat, which begins behind the name in brackets: clock ticks after boot. */
static uint64_t process_start_us(void)
{
	char text[1024] = "", *p;
	FILE *f = fopen("/proc/self/stat", "re");
	struct timespec boot, wall;
	unsigned long long ticks = 0;
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;

	if (f)
		fclose(f);
	text[n] = '\0';
	p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p || sscanf(p, "%llu", &ticks) != 1 || clock_gettime(CLOCK_BOOTTIME, &boot) ||
	    clock_gettime(CLOCK_REALTIME, &wall))
		return 0;
	uint64_t up_us = (uint64_t)boot.tv_sec * 1000000 + (uint64_t)boot.tv_nsec / 1000;
	uint64_t wall_us = (uint64_t)wall.tv_sec * 1000000 + (uint64_t)wall.tv_nsec / 1000;
	uint64_t after_boot_us = ticks * 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);

	return wall_us - up_us + after_boot_us;
}

void metrics_process(struct metrics *m, const char *daemon)
{
	const struct metric_label build[] = {{"daemon", daemon}, {"version", MESHNET_VERSION}};
	uint64_t start_us = process_start_us();
	struct rusage usage;

	metrics_family(m, "meshnet_build_info", METRIC_GAUGE, "Which daemon of which version.");
	metrics_sample_labels(m, build, 2, 1);
	process_memory(m);
	process_files(m);
	if (getrusage(RUSAGE_SELF, &usage) == 0) {
		metrics_family(m, "process_cpu_seconds_total", METRIC_COUNTER,
			       "Total user and system CPU time spent in seconds.");
		seconds_write(m, timeval_us(&usage.ru_utime) + timeval_us(&usage.ru_stime));
	}
	if (start_us)
		metrics_gauge_us(m, "process_start_time_seconds",
				 "Start time of the process since unix epoch in seconds.",
				 start_us);
}
