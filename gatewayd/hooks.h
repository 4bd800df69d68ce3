/*
 * Programs of the operator that are run when a lease begins and when it ends: OnRegister and
 * OnRelease.  No shell: the configured words, then
 *
 *   EVENT SID METHOD NAME HOST IPV4 IPV6 INTERFACE TIMEOUT
 *
 * EVENT is register or release; HOST is the subscriber's address, or its node's id over the mesh;
 * TIMEOUT is seconds since 1970; what there is none of is "-".  A few run at once, the others wait;
 * one that takes too long is ended.
 */
#ifndef GATEWAYD_HOOKS_H
#define GATEWAYD_HOOKS_H

#include <stdint.h>

#include "gatewayd/lease.h"

#define HOOKS_RUNNING_MAX 4u
#define HOOKS_WAITING_MAX 1024u
#define HOOKS_WORDS_MAX 16u /* of the configured command */
#define HOOKS_COMMAND_MAX 1024u
#define HOOKS_TIMEOUT_US 10000000u
#define HOOKS_KILL_US 1000000u /* after SIGTERM */

struct event_base;
struct gw_hooks;

struct gw_hook_counters {
	uint64_t run, failed, dropped; /* dropped: too many waited */
};

int gw_hooks_new(struct gw_hooks **out, struct event_base *base); /* -ENOMEM */
/* What runs is killed, what waits is dropped.  NULL is fine. */
void gw_hooks_free(struct gw_hooks *h);
/* `command` "" is nothing; it and the lease are copied.  `event` is "register" or "release". */
void gw_hooks_run(struct gw_hooks *h, const char *command, const char *event, const struct lease *l,
		  uint64_t timeout_wall_s);
const struct gw_hook_counters *gw_hooks_counters(const struct gw_hooks *h);
#endif
