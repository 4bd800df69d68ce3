#include "gatewayd/uplink.h"

#include <errno.h>
#include <event2/event.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "io/clock.h"
#include "io/config_value.h"
#include "io/sockaddr.h"

struct
try {
	struct uplink *u;
	struct net_addr target;
	int fd; /* -1: no connect under way */
	struct event *event;
};

struct uplink {
	struct event_base *base;
	struct try tries[UPLINK_TARGETS_MAX];
	size_t count, open; /* targets; connects under way */
	char interface[IFNAMSIZ];
	uint64_t interval_us, started_us;
	struct event *timer; /* the round's end while one runs, else the next round */
	unsigned failures;   /* rounds in a row */
	uplink_cb *cb;
	void *arg;
};

static void timer_set(struct uplink *u, uint64_t us)
{
	struct timeval tv = {.tv_sec = (time_t)(us / 1000000),
			     .tv_usec = (suseconds_t)(us % 1000000)};

	event_add(u->timer, &tv);
}

static void try_close(struct try *t)
{
	if (t->fd < 0)
		return;
	event_free(t->event);
	close(t->fd);
	t->event = NULL;
	t->fd = -1;
	t->u->open--;
}

static void round_end(struct uplink *u, bool proven)
{
	uint64_t took = daemon_now_us() - u->started_us, next = u->interval_us;

	for (size_t i = 0; i < u->count; i++)
		try_close(&u->tries[i]);
	u->failures = proven ? 0 : u->failures + 1;
	if (!proven && u->failures < UPLINK_FAILURES_OFFLINE)
		next = UPLINK_RECHECK_US;
	else if (!proven && next > UPLINK_OFFLINE_US)
		next = UPLINK_OFFLINE_US;
	timer_set(u, next);
	if (proven || u->failures >= UPLINK_FAILURES_OFFLINE)
		u->cb(proven, proven ? took : 0, u->arg);
}

static void on_connected(evutil_socket_t fd, short what, void *arg)
{
	struct try *t = arg;
	struct uplink *u = t->u;
	socklen_t len = sizeof(int);
	int err = 0;

	(void)what;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err == 0) {
		round_end(u, true);
		return;
	}
	log_debug("uplink target %zu: %s", (size_t)(t - u->tries), strerror(err));
	try_close(t);
	if (u->open == 0)
		round_end(u, false);
}

static int try_connect(struct try *t)
{
	struct sockaddr_storage sa;
	socklen_t len = sockaddr_from_net(&sa, &t->target);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if ((*t->u->interface && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, t->u->interface,
					    (socklen_t)strlen(t->u->interface) + 1) < 0) ||
	    (connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS)) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	t->event = event_new(t->u->base, fd, EV_WRITE, on_connected, t);
	if (!t->event || event_add(t->event, NULL) < 0) {
		if (t->event)
			event_free(t->event);
		t->event = NULL;
		close(fd);
		return -ENOMEM;
	}
	t->fd = fd;
	t->u->open++;
	return 0;
}

static void round_begin(struct uplink *u)
{
	char text[NET_ADDR_TEXT];

	u->started_us = daemon_now_us();
	for (size_t i = 0; i < u->count; i++) {
		int rc = try_connect(&u->tries[i]);

		if (rc)
			log_debug("uplink target %s: %s", net_addr_text(&u->tries[i].target, text),
				  strerror(-rc));
	}
	if (u->open)
		timer_set(u, UPLINK_TIMEOUT_US);
	else
		round_end(u, u->count == 0);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct uplink *u = arg;

	(void)fd, (void)what;
	if (u->open)
		round_end(u, false);
	else
		round_begin(u);
}

static int targets_parse(struct uplink *u, const char *list)
{
	char text[NET_ADDR_TEXT + 8];

	while (config_list_next(&list, text, sizeof(text))) {
		struct try *t = &u->tries[u->count];

		if (u->count == UPLINK_TARGETS_MAX) {
			log_warn("gateway.UplinkTargets: only the first %d are used",
				 UPLINK_TARGETS_MAX);
			return 0;
		}
		if (net_addr_parse(&t->target, text, 0) || !t->target.port) {
			log_error("gateway.UplinkTargets: '%s' is not IP:PORT", text);
			return -EINVAL;
		}
		t->u = u;
		t->fd = -1;
		u->count++;
	}
	return 0;
}

int uplink_new(struct uplink **out, struct event_base *base, const struct uplink_config *config,
	       uplink_cb *cb, void *arg)
{
	struct uplink *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return -ENOMEM;
	u->base = base;
	u->interval_us = config->interval_us;
	u->cb = cb;
	u->arg = arg;
	snprintf(u->interface, sizeof(u->interface), "%s", config->interface);
	u->timer = event_new(base, -1, 0, on_timer, u);
	rc = u->timer ? targets_parse(u, config->targets) : -ENOMEM;
	if (rc) {
		uplink_free(u);
		return rc;
	}
	timer_set(u, 0);
	*out = u;
	return 0;
}

void uplink_free(struct uplink *u)
{
	if (!u)
		return;
	for (size_t i = 0; i < u->count; i++)
		try_close(&u->tries[i]);
	if (u->timer)
		event_free(u->timer);
	free(u);
}
