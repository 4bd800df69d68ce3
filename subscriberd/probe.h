/*
 * Probes through the tunnel: an ICMP echo to an address, sent on the tunnel's interface only
 * (RFC 792, RFC 4443), or a TCP connect where the operator names a target.
 */
#ifndef SUBSCRIBERD_PROBE_H
#define SUBSCRIBERD_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

struct event_base;
struct probe;

typedef void probe_cb(uint64_t serial, bool answered, double rtt_ms, void *arg);

struct probe *probe_new(struct event_base *base, probe_cb *cb, void *arg);
void probe_free(struct probe *p);
/* From now on probes go from `source` (family 0: the kernel's choice) to `target` over `interface`;
 * with a port other than 0 by TCP connect.  An outstanding probe is forgotten.  0 or -errno. */
int probe_open(struct probe *p, const char *interface, const struct net_addr *source,
	       const struct net_addr *target);
void probe_close(struct probe *p);
/* One probe; the callback follows within `timeout_us`, later than this call. */
void probe_send(struct probe *p, uint64_t serial, uint64_t timeout_us);
#endif
