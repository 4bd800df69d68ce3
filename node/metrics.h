/* The figures of a node for Prometheus. */
#ifndef NODE_METRICS_H
#define NODE_METRICS_H

#include "io/metrics.h"
#include "node/engine.h"

void node_metrics_write(struct metrics *m, const struct node_engine *engine);
#endif
