/*
 * Is the Internet there?  TCP connects to the configured targets: the first that succeeds proves
 * the uplink and its round trip.  One failed round is looked at again at once, the second in a row
 * means offline.  Without targets the uplink is taken as online.
 */
#ifndef GATEWAYD_UPLINK_H
#define GATEWAYD_UPLINK_H

#include <stdbool.h>
#include <stdint.h>

#define UPLINK_TARGETS_MAX 8
#define UPLINK_TIMEOUT_US 2000000u /* of a round */
#define UPLINK_RECHECK_US 300000u  /* after the first failed round */
#define UPLINK_OFFLINE_US 2000000u /* between rounds while offline, at most */
#define UPLINK_FAILURES_OFFLINE 2

struct event_base;
struct uplink;

struct uplink_config {
	const char *targets;   /* "1.1.1.1:443, [2606:4700::1111]:443"; may be "" */
	const char *interface; /* leave by this one; "": as the routes say */
	uint64_t interval_us;
};

/* After every round that settles something: online with its round trip, or offline. */
typedef void uplink_cb(bool online, uint64_t rtt_us, void *arg);

/* Begins with a round at once; `cb` never from inside this call.  -ENOMEM, -EINVAL (targets). */
int uplink_new(struct uplink **out, struct event_base *base, const struct uplink_config *config,
	       uplink_cb *cb, void *arg);
void uplink_free(struct uplink *u); /* NULL is fine */
#endif
