/* The figures of the nodemanager for Prometheus. */
#ifndef NODEMANAGER_METRICS_H
#define NODEMANAGER_METRICS_H

#include "io/metrics.h"
#include "nodemanager/engine.h"

void nm_metrics_write(struct metrics *m, const struct nm *nm);
#endif
