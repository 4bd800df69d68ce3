/*
 * Is the Internet there?  Several targets are asked at once: addresses that a TCP connection is
 * made to, and name servers that are asked a question.  The first of each sort that answers is
 * enough; when both sorts are configured, both must.  One failed round is looked at again at once,
 * the second in a row means offline.  When the kernel says that routes or links have changed and no
 * target can be reached any more, that is offline at once; otherwise a new round begins.
 *
 * Without targets a default route over a link that is up has to do.
 */
#ifndef GATEWAYD_UPLINK_H
#define GATEWAYD_UPLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UPLINK_TARGETS_MAX 8 /* of each sort */
#define UPLINK_NAME_MAX 253
#define UPLINK_TIMEOUT_US 2000000u    /* of a round */
#define UPLINK_RECHECK_US 300000u     /* after the first failed round */
#define UPLINK_OFFLINE_US 2000000u    /* between rounds while offline, at most */
#define UPLINK_HINT_US 50000u	      /* after a change of routes: more of them may follow */
#define UPLINK_HINT_ROUND_US 1000000u /* rounds because of such changes, at most one in so long */
#define UPLINK_FAILURES_OFFLINE 2

struct event_base;
struct nl;
struct uplink;

struct uplink_config {
	const char *targets;   /* "1.1.1.1:443, [2606:4700::1111]:443"; may be "" */
	const char *servers;   /* "9.9.9.9, [2620:fe::fe]:53"; may be "" */
	const char *name;      /* what they are asked for */
	const char *interface; /* leave by this one; "": as the routes say */
	uint64_t interval_us;
};

/* After every round that settles something: online with its round trip, or offline and why. */
typedef void uplink_cb(bool online, uint64_t rtt_us, const char *why, void *arg);

/* Begins with a round at once; `cb` never from inside this call.  `nl` stays the caller's, and
 * looks at routes.  -ENOMEM, -EINVAL (targets). */
int uplink_new(struct uplink **out, struct event_base *base, struct nl *nl,
	       const struct uplink_config *config, uplink_cb *cb, void *arg);
void uplink_free(struct uplink *u); /* NULL is fine */

/* The question for the IPv4 address of `name`: its length, or 0 when that is no name. */
#define UPLINK_QUESTION_MAX 272
size_t uplink_question(uint8_t out[UPLINK_QUESTION_MAX], uint16_t id, const char *name);
/* A name server has answered it, were it that there is no such name. */
bool uplink_answered(const uint8_t *answer, size_t len, uint16_t id);
#endif
