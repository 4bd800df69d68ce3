/*
 * The operator's programs, run when the way out changes (io/hook.h says how): OnGoingOnline and
 * OnGoingOffline for the host, OnConnect and OnDisconnect for each gateway that comes into use.
 * When one takes over from another, the new one's OnConnect comes before the old one's
 * OnDisconnect, and the host stays online.
 *
 * Arguments behind those configured: EVENT GATEWAY METHOD INTERFACE IPV4 IPV6 ("" for what there is
 * none of).  The same in the environment: MESHNET_EVENT, MESHNET_GATEWAY, MESHNET_GATEWAY_KEY,
 * MESHNET_METHOD, MESHNET_INTERFACE, MESHNET_IPV4, MESHNET_IPV6.
 */
#ifndef SUBSCRIBERD_HOOKS_H
#define SUBSCRIBERD_HOOKS_H

#include "io/config.h"
#include "io/hook.h"
#include "subscriberd/engine.h"

struct sub_hooks;

/* `interface` tells the interface of a slot's tunnel.  0 or -ENOMEM. */
int sub_hooks_new(struct sub_hooks **out, struct event_base *base, const struct config *cfg,
		  const char *(*interface)(void *ctx, unsigned slot), void *ctx);
/* NULL is fine. */
void sub_hooks_free(struct sub_hooks *h);
void sub_hooks_event(struct sub_hooks *h, const struct sub_event *e);
/* Nothing runs or waits. */
bool sub_hooks_idle(const struct sub_hooks *h);
#endif
