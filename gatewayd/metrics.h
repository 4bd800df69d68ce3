/* The figures of the gateway for Prometheus. */
#ifndef GATEWAYD_METRICS_H
#define GATEWAYD_METRICS_H

#include "gatewayd/engine.h"
#include "io/metrics.h"

void gw_metrics_write(struct metrics *m, const struct gw_engine *e);
#endif
