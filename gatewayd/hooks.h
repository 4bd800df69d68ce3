/*
 * Programs of the operator that are run when a lease begins and when it ends: OnRegister and
 * OnRelease (io/hook.h says how).  Behind the configured words come
 *
 *   EVENT SID METHOD NAME HOST IPV4 IPV6 INTERFACE TIMEOUT
 *
 * EVENT is register or release; HOST is the subscriber's address, or its node's id over the mesh;
 * TIMEOUT is seconds since 1970; what there is none of is "-".
 */
#ifndef GATEWAYD_HOOKS_H
#define GATEWAYD_HOOKS_H

#include <stdint.h>

#include "gatewayd/lease.h"
#include "io/hook.h"

#define GW_HOOKS_RUNNING_MAX 4u
#define GW_HOOKS_WAITING_MAX 1024u

/* `command` "" is nothing.  `event` is "register" or "release". */
void gw_hooks_run(struct hooks *h, const char *command, const char *event, const struct lease *l,
		  uint64_t timeout_wall_s);
#endif
