#include "gatewayd/uplink.h"

#include <errno.h>
#include <event2/event.h>
#include <net/if.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/clock.h"
#include "io/config_value.h"
#include "io/netlink.h"
#include "io/netlink_watch.h"
#include "io/sockaddr.h"
#include "io/timer.h"

#define DNS_PORT 53
#define ANSWER_MAX 1500

enum sort { SORT_TCP, SORT_DNS, SORTS };

struct probe {
	struct uplink *u;
	enum sort sort;
	struct net_addr target;
	int fd; /* -1: nothing is under way */
	struct event *event;
};

struct uplink {
	struct event_base *base;
	struct nl *nl;
	struct nl_watch *watch;
	struct probe probes[SORTS * UPLINK_TARGETS_MAX];
	size_t count, open;   /* targets; probes under way */
	size_t wanted[SORTS]; /* how many targets of this sort there are */
	bool answered[SORTS]; /* in this round */
	uint16_t id;	      /* of this round's questions */
	char interface[IFNAMSIZ], name[UPLINK_NAME_MAX + 1];
	uint64_t interval_us, started_us, rtt_us;
	struct event *timer; /* the round's end while one runs, else the next round */
	struct event *hint;  /* a look at the routes */
	unsigned failures;   /* rounds in a row */
	bool online;
	uplink_cb *cb;
	void *arg;
};

static void probe_close(struct probe *p)
{
	if (p->fd < 0)
		return;
	event_free(p->event);
	close(p->fd);
	p->event = NULL;
	p->fd = -1;
	p->u->open--;
}

static void told(struct uplink *u, bool online, const char *why)
{
	u->online = online;
	u->cb(online, online ? u->rtt_us : 0, why, u->arg);
}

static const char *why_not(const struct uplink *u)
{
	if (u->count == 0)
		return "there is no default route";
	if (u->wanted[SORT_TCP] && !u->answered[SORT_TCP])
		return "no target takes a connection";
	return "no name server answers";
}

static void round_end(struct uplink *u, bool proven)
{
	uint64_t next = u->interval_us;

	for (size_t i = 0; i < u->count; i++)
		probe_close(&u->probes[i]);
	u->failures = proven ? 0 : u->failures + 1;
	if (!proven && u->failures < UPLINK_FAILURES_OFFLINE)
		next = UPLINK_RECHECK_US;
	else if (!proven && next > UPLINK_OFFLINE_US)
		next = UPLINK_OFFLINE_US;
	timer_in(u->timer, next);
	if (proven || u->failures >= UPLINK_FAILURES_OFFLINE)
		told(u, proven, why_not(u));
}

static bool all_answered(const struct uplink *u)
{
	for (int i = 0; i < SORTS; i++)
		if (u->wanted[i] && !u->answered[i])
			return false;
	return true;
}

static void probe_done(struct probe *p, bool good)
{
	struct uplink *u = p->u;

	probe_close(p);
	if (good && !u->answered[p->sort]) {
		u->answered[p->sort] = true;
		/* A connection tells the round trip better than a server that has to ask around. */
		if (p->sort == SORT_TCP || !u->wanted[SORT_TCP])
			u->rtt_us = daemon_now_us() - u->started_us;
	}
	if (all_answered(u))
		round_end(u, true);
	else if (u->open == 0)
		round_end(u, false);
}

static bool connected(int fd)
{
	socklen_t len = sizeof(int);
	int err = 0;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err == 0;
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
	struct probe *p = arg;
	uint8_t answer[ANSWER_MAX];
	ssize_t n;

	(void)what;
	if (p->sort == SORT_TCP) {
		probe_done(p, connected(fd));
		return;
	}
	n = recv(fd, answer, sizeof(answer), 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* Something else than the answer to our question: the right one may follow. */
	if (n > 0 && !uplink_answered(answer, (size_t)n, p->u->id) && n >= 2 &&
	    (answer[0] << 8 | answer[1]) != p->u->id)
		return;
	probe_done(p, n > 0 && uplink_answered(answer, (size_t)n, p->u->id));
}

static int probe_connect(const struct probe *p, int fd)
{
	const char *interface = p->u->interface;
	uint8_t question[UPLINK_QUESTION_MAX];
	struct sockaddr_storage sa;
	socklen_t len = sockaddr_from_net(&sa, &p->target);
	size_t size;

	if (*interface && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface,
				     (socklen_t)strlen(interface) + 1) < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS)
		return -errno;
	if (p->sort == SORT_TCP)
		return 0;
	size = uplink_question(question, p->u->id, p->u->name);
	return send(fd, question, size, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int probe_begin(struct probe *p)
{
	int type = p->sort == SORT_TCP ? SOCK_STREAM : SOCK_DGRAM;
	short what = p->sort == SORT_TCP ? EV_WRITE : EV_READ | EV_PERSIST;
	int fd = socket(p->target.family == 6 ? AF_INET6 : AF_INET,
			type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc = fd < 0 ? -errno : probe_connect(p, fd);

	if (!rc) {
		p->event = event_new(p->u->base, fd, what, on_ready, p);
		rc = p->event && event_add(p->event, NULL) == 0 ? 0 : -ENOMEM;
	}
	if (rc) {
		event_drop(p->event);
		p->event = NULL;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	p->fd = fd;
	p->u->open++;
	return 0;
}

/* ---- routes ---- */

struct link_look {
	const char *name;
	uint32_t index;
	bool up;
};

static int on_link(const struct nl_link *l, void *ctx)
{
	struct link_look *look = ctx;

	if (look->index ? l->index != look->index : strcmp(l->name, look->name) != 0)
		return 0;
	look->up = l->up && l->running && !l->loopback;
	return 1;
}

static bool link_up(struct uplink *u, const char *name, uint32_t index)
{
	struct link_look look = {name, index, false};

	nl_link_list(u->nl, on_link, &look);
	return look.up;
}

static bool route_leads(struct uplink *u, const struct net_addr *to)
{
	struct nl_route r;

	return nl_route_get(u->nl, to, 0, &r) == 0 &&
	       (r.type == NL_ROUTE_UNICAST || !r.type || r.type == NL_ROUTE_LOCAL) &&
	       (r.type == NL_ROUTE_LOCAL || link_up(u, "", r.dev));
}

/* Nothing is sent there: it stands for the whole Internet. */
static bool default_route(struct uplink *u)
{
	static const char *const far[] = {"192.88.99.1", "2002::1"};
	struct net_addr a;

	for (size_t i = 0; i < 2; i++)
		if (net_addr_parse(&a, far[i], 0) == 0 && route_leads(u, &a))
			return true;
	return false;
}

/* Could any target be reached, as links and routes are now? */
static bool reachable(struct uplink *u)
{
	if (*u->interface && !link_up(u, u->interface, 0))
		return false;
	if (*u->interface)
		return true;
	for (size_t i = 0; i < u->count; i++)
		if (route_leads(u, &u->probes[i].target))
			return true;
	return u->count == 0 && default_route(u);
}

/* ---- rounds ---- */

static void round_begin(struct uplink *u)
{
	char text[NET_ADDR_TEXT];

	u->started_us = daemon_now_us();
	u->rtt_us = 0;
	memset(u->answered, 0, sizeof(u->answered));
	randombytes_buf(&u->id, sizeof(u->id));
	for (size_t i = 0; i < u->count; i++) {
		int rc = probe_begin(&u->probes[i]);

		if (rc)
			log_debug("uplink target %s: %s", net_addr_text(&u->probes[i].target, text),
				  strerror(-rc));
	}
	if (u->open)
		timer_in(u->timer, UPLINK_TIMEOUT_US);
	else
		round_end(u, u->count == 0 && reachable(u));
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

static void on_hint(evutil_socket_t fd, short what, void *arg)
{
	struct uplink *u = arg;

	(void)fd, (void)what;
	if (u->online && !reachable(u)) {
		u->failures = UPLINK_FAILURES_OFFLINE;
		round_end(u, false);
		return;
	}
	if (!u->open && daemon_now_us() - u->started_us >= UPLINK_HINT_ROUND_US)
		round_begin(u);
	else if (!u->open && !u->online)
		timer_in(u->timer, UPLINK_RECHECK_US);
}

static void on_change(void *arg)
{
	struct uplink *u = arg;

	if (!event_pending(u->hint, EV_TIMEOUT, NULL))
		timer_in(u->hint, UPLINK_HINT_US);
}

/* ---- configuration ---- */

static int targets_parse(struct uplink *u, const char *list, enum sort sort)
{
	static const char *const keys[SORTS] = {"UplinkTargets", "UplinkDns"};
	char text[NET_ADDR_TEXT + 8];

	while (config_list_next(&list, text, sizeof(text))) {
		struct probe *p = &u->probes[u->count];

		if (u->wanted[sort] == UPLINK_TARGETS_MAX) {
			log_warn("gateway.%s: only the first %d are used", keys[sort],
				 UPLINK_TARGETS_MAX);
			return 0;
		}
		if (net_addr_parse(&p->target, text, sort == SORT_DNS ? DNS_PORT : 0) ||
		    !p->target.port) {
			log_error("gateway.%s: '%s' is not IP:PORT", keys[sort], text);
			return -EINVAL;
		}
		p->u = u;
		p->sort = sort;
		p->fd = -1;
		u->count++;
		u->wanted[sort]++;
	}
	return 0;
}

static int parts_open(struct uplink *u, const struct uplink_config *config)
{
	int rc = targets_parse(u, config->targets, SORT_TCP);

	if (!rc)
		rc = targets_parse(u, config->servers, SORT_DNS);
	if (rc)
		return rc;
	u->timer = timer_new(u->base, on_timer, u);
	u->hint = timer_new(u->base, on_hint, u);
	if (!u->timer || !u->hint)
		return -ENOMEM;
	rc = nl_watch_routes(&u->watch, u->base, on_change, u);
	if (rc)
		log_warn("changes of routes are not told to us: %s", strerror(-rc));
	return 0;
}

int uplink_new(struct uplink **out, struct event_base *base, struct nl *nl,
	       const struct uplink_config *config, uplink_cb *cb, void *arg)
{
	struct uplink *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return -ENOMEM;
	u->base = base;
	u->nl = nl;
	u->interval_us = config->interval_us;
	u->cb = cb;
	u->arg = arg;
	cstr_copy(u->interface, sizeof(u->interface), config->interface);
	cstr_copy(u->name, sizeof(u->name), config->name);
	rc = parts_open(u, config);
	if (rc) {
		uplink_free(u);
		return rc;
	}
	timer_in(u->timer, 0);
	*out = u;
	return 0;
}

void uplink_free(struct uplink *u)
{
	if (!u)
		return;
	for (size_t i = 0; i < u->count; i++)
		probe_close(&u->probes[i]);
	nl_watch_free(u->watch);
	event_drop(u->timer);
	event_drop(u->hint);
	free(u);
}
