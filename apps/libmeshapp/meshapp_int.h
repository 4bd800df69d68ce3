/* What the parts of libmeshapp share: meshapp.c (the channel, registration), meshapp_list.c
 * (lists), meshconn.c (connections), meshtun.c (TUN interfaces handed to the node). */
#ifndef LIBMESHAPP_MESHAPP_INT_H
#define LIBMESHAPP_MESHAPP_INT_H

#include <event2/event.h>
#include <sys/queue.h>

#include "base/map.h"
#include "io/chan.h"
#include "libmeshapp/meshapp.h"
#include "libmeshapp/meshtun.h"

/* More than this waiting on the socket stops the app as missing credit does. */
#define MESHAPP_OUTPUT_HIGH_BYTES (8u << 20)

TAILQ_HEAD(meshconn_list, meshconn);
TAILQ_HEAD(list_request_list, list_request);
TAILQ_HEAD(meshtun_list, meshtun);

struct meshapp {
	struct event_base *base;
	struct chan_client *client;
	struct chan *ch; /* while connected */
	struct event *timer;
	struct meshapp_callbacks cb;
	void *arg;
	char id[NAME_MAX_BYTES + 1], type[NAME_MAX_BYTES + 1], info[APP_INFO_MAX_BYTES + 1];
	bool up, has_node;
	struct mesh_id node;
	uint32_t register_seq, max_message, next_handle;
	struct meshconn_list connecting, open;
	struct meshconn_list blocked; /* open ones that wait for the socket to drain */
	struct map by_id; /* connection id -> struct meshconn, as soon as the id is known */
	unsigned conn_count, asking; /* asking: connections that the node has not answered */
	struct list_request_list lists;
	struct meshtun_list tuns;
	/* Callbacks may close the app: it is freed when the last of them has returned. */
	unsigned holds;
	bool dead;
};

struct meshconn {
	TAILQ_ENTRY(meshconn) link; /* in connecting or open */
	TAILQ_ENTRY(meshconn) blocked_link;
	struct meshapp *app;
	struct meshconn_callbacks cb;
	void *arg;
	uint64_t id; /* 0: not known yet */
	uint32_t seq, handle;
	uint8_t class;
	bool up, want_write, blocked, manual_credit;
	bool asking, deferred; /* deferred: too many ask already, it waits for its turn */
	int64_t credit;	       /* bytes that we may send; below zero by at most one message */
	size_t unconsumed;     /* bytes delivered to the app and not consumed yet */
	size_t credit_due;     /* consumed, not yet told to the node */
	uint64_t deadline_us;  /* to come up */
	uint8_t *message;      /* what has come of a long one in parts; NULL: none has begun */
	size_t message_have, message_len;
	struct tunroute_counters tun_counters;
	struct mesh_id peer;
	char peer_app[NAME_MAX_BYTES + 1];
	unsigned holds;
	bool dead;
};

void meshapp_hold(struct meshapp *app);
void meshapp_put(struct meshapp *app);
/* Wakes the app at least once a second while something waits for an answer. */
void meshapp_arm_timer(struct meshapp *app);

void meshapp_list_response(struct meshapp *app, const struct msg *m);
void meshapp_list_expire(struct meshapp *app, uint64_t now);
/* Fails all with a code; `quiet` drops them without a callback. */
void meshapp_list_fail_all(struct meshapp *app, uint16_t code, bool quiet);

/* False: the ack is for somebody else. */
bool meshtun_ack(struct meshapp *app, const struct msg *m);
void meshtun_detached(struct meshapp *app, const struct msg_detach_tun *d);
void meshtun_stats(struct meshconn *c, const struct msg_tun_stats *s);
void meshtun_fail_all(struct meshapp *app);
/* Without a word to their owners, who close them later. */
void meshtun_drop_all(struct meshapp *app);

/* CommonAck, ConnectionOn, ConnectionShutdown, AppMessage, AppPart, AppCredit. */
void meshconn_input(struct meshapp *app, const struct msg *m);
void meshconn_drained(struct meshapp *app);
void meshconn_expire(struct meshapp *app, uint64_t now);
void meshconn_fail_all(struct meshapp *app, uint16_t code, const char *reason);
void meshconn_drop_all(struct meshapp *app);
#endif
