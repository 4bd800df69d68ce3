/* The figures of the apptracker for Prometheus. */
#ifndef APPTRACKER_METRICS_H
#define APPTRACKER_METRICS_H

#include "apptracker/engine.h"
#include "io/metrics.h"

void tracker_metrics_write(struct metrics *m, const struct tracker *t);
#endif
