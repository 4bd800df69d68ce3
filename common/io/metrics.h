/*
 * Figures for Prometheus, in its text format (version 0.0.4): one family after the other, each with
 * HELP and TYPE once and its samples right behind.  Names and labels are ours, so that a wrong one
 * is a bug (assert); values of labels may come from anybody and are escaped.
 *
 * Rules of naming: `meshnet_<daemon>_<what>_<unit>`, counters end in _total, units are base units
 * (seconds, bytes).
 */
#ifndef IO_METRICS_H
#define IO_METRICS_H

#include <stddef.h>
#include <stdint.h>

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct evbuffer;

enum metric_type { METRIC_COUNTER, METRIC_GAUGE };

struct metrics {
	struct evbuffer *out;
	const char *family; /* the one that samples belong to now */
};

struct metric_label {
	const char *name, *value;
};

/* `out` stays the caller's; text is appended to it. */
void metrics_begin(struct metrics *m, struct evbuffer *out);

/* A family of one sample without labels. */
void metrics_counter(struct metrics *m, const char *name, const char *help, uint64_t value);
void metrics_gauge(struct metrics *m, const char *name, const char *help, uint64_t value);
/* In seconds, given in microseconds. */
void metrics_gauge_us(struct metrics *m, const char *name, const char *help, uint64_t value_us);
/* A family of several samples; then each of them. */
void metrics_family(struct metrics *m, const char *name, enum metric_type type, const char *help);
void metrics_sample(struct metrics *m, const char *label, const char *label_value, uint64_t value);
void metrics_sample_labels(struct metrics *m, const struct metric_label *labels, size_t count,
			   uint64_t value);

/* What Prometheus' own libraries tell of a process (process_resident_memory_bytes,
 * process_open_fds,
 * ...), and meshnet_build_info.  What /proc does not tell is left out. */
void metrics_process(struct metrics *m, const char *daemon);
#endif
