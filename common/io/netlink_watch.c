/* Telling that the host's addresses have changed. */
#include <errno.h>
#include <event2/event.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/netlink.h"

struct nl_watch {
	int fd;
	struct event *ev;
	nl_watch_cb *cb;
	void *arg;
};

/* What has changed does not matter, nor whether something was missed (ENOBUFS). */
static void readable(evutil_socket_t fd, short what, void *arg)
{
	struct nl_watch *w = arg;
	char buf[8192];

	(void)what;
	while (recv(fd, buf, sizeof buf, 0) > 0 || errno == EINTR || errno == ENOBUFS)
		errno = 0;
	w->cb(w->arg);
}

int nl_watch_open(struct nl_watch **out, struct event_base *base, nl_watch_cb *cb, void *arg)
{
	struct sockaddr_nl a = {.nl_family = AF_NETLINK,
				.nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
	struct nl_watch *w = calloc(1, sizeof *w);
	int rc;

	if (!w)
		return -ENOMEM;
	w->cb = cb;
	w->arg = arg;
	w->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	rc = w->fd < 0 || bind(w->fd, (struct sockaddr *)&a, sizeof a) ? -errno : 0;
	if (!rc) {
		w->ev = event_new(base, w->fd, EV_READ | EV_PERSIST, readable, w);
		rc = w->ev && event_add(w->ev, NULL) == 0 ? 0 : -ENOMEM;
	}
	if (rc) {
		nl_watch_close(w);
		return rc;
	}
	*out = w;
	return 0;
}

void nl_watch_close(struct nl_watch *w)
{
	if (!w)
		return;
	if (w->ev)
		event_free(w->ev);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}
