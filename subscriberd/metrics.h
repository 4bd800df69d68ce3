/* The figures of the subscriber for Prometheus. */
#ifndef SUBSCRIBERD_METRICS_H
#define SUBSCRIBERD_METRICS_H

#include "io/metrics.h"
#include "subscriberd/api.h"
#include "subscriberd/walk.h"

/* `traffic` is NULL while there is no tunnel. */
void sub_metrics_write(struct metrics *m, const struct sub_engine *e,
		       const struct sub_traffic *traffic);
/* What is known of the networks around us. */
void sub_metrics_walk(struct metrics *m, const struct walk *w);
#endif
