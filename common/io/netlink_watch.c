#include "io/netlink_watch.h"

#include <errno.h>
#include <event2/event.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cstr.h"
#include "io/netlink_msg.h"
#include "io/nft.h"
#include "io/timer.h"

#define RX_BYTES 65536
#define SOCKET_BYTES                                                                               \
	(4 << 20) /* a thousand leases in one transaction of ours are told one by one */
/* Of all tables; every message about one begins with its table's name. */
#define NAME_ATTRIBUTE 1
_Static_assert(NFTA_TABLE_NAME == NAME_ATTRIBUTE && NFTA_CHAIN_TABLE == NAME_ATTRIBUTE &&
		       NFTA_RULE_TABLE == NAME_ATTRIBUTE && NFTA_SET_TABLE == NAME_ATTRIBUTE &&
		       NFTA_SET_ELEM_LIST_TABLE == NAME_ATTRIBUTE &&
		       NFTA_OBJ_TABLE == NAME_ATTRIBUTE,
	       "the table's name is where we look for it");

struct nl_watch {
	struct mnl_socket *sock;
	struct event *event;
	char table[NFT_TABLE_NAME_MAX + 1]; /* "": routes */
	uint32_t owner;			    /* the socket that made the table */
	bool touched;			    /* by another, since we have made it */
	nl_watch_cb *cb;
	void *arg;
	_Alignas(struct nlmsghdr) char rx[RX_BYTES];
};

static bool about_table(const struct nl_watch *w, const struct nlmsghdr *h)
{
	const struct nlattr *tb[NAME_ATTRIBUTE + 1];
	char name[NFT_TABLE_NAME_MAX + 1];

	if (h->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES ||
	    (h->nlmsg_type & 0xff) == NFT_MSG_NEWGEN ||
	    !nl_attrs(h, sizeof(struct nfgenmsg), tb, NAME_ATTRIBUTE))
		return false;
	nl_attr_str(tb[NAME_ATTRIBUTE], name, sizeof name);
	return strcmp(name, w->table) == 0;
}

static bool is_new_table(const struct nlmsghdr *h)
{
	return h->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE);
}

/* Is there news, with `news` before this message?  With `made` it may tell us who we are: what came
 * before is history then, what comes behind is not. */
static bool message_read(struct nl_watch *w, const struct nlmsghdr *h, bool made, bool news)
{
	if (!*w->table)
		return news || h->nlmsg_type >= NLMSG_MIN_TYPE;
	if (!about_table(w, h))
		return news;
	if (made && is_new_table(h)) {
		w->owner = h->nlmsg_pid;
		return false;
	}
	return news || h->nlmsg_pid != w->owner;
}

static bool drain(struct nl_watch *w, bool made)
{
	bool news = false;
	ssize_t n;

	while ((n = recv(mnl_socket_get_fd(w->sock), w->rx, sizeof w->rx, MSG_DONTWAIT)) > 0 ||
	       (n < 0 && (errno == EINTR || errno == ENOBUFS))) {
		int left = (int)n;

		if (n < 0) { /* something was lost: it may have been ours to hear */
			news = news || (errno == ENOBUFS && !made);
			continue;
		}
		for (const struct nlmsghdr *h = (void *)w->rx; mnl_nlmsg_ok(h, left);
		     h = mnl_nlmsg_next(h, &left))
			news = message_read(w, h, made, news);
	}
	return news;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct nl_watch *w = arg;

	(void)fd;
	(void)what;
	if (drain(w, false) || w->touched) {
		w->touched = false;
		w->cb(w->arg);
	}
}

void nl_watch_made(struct nl_watch *w)
{
	w->touched = drain(w, true);
	if (w->touched)
		event_active(w->event, EV_READ, 0);
}

static int join(struct nl_watch *w, const int *groups, size_t count)
{
	int size = SOCKET_BYTES;

	if (!w->sock || mnl_socket_bind(w->sock, 0, MNL_SOCKET_AUTOPID))
		return -errno;
	for (size_t i = 0; i < count; i++)
		if (mnl_socket_setsockopt(w->sock, NETLINK_ADD_MEMBERSHIP, (void *)&groups[i],
					  sizeof groups[i]))
			return -errno;
	/* Without the right to it the default has to do. */
	setsockopt(mnl_socket_get_fd(w->sock), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	return 0;
}

static int watch_start(struct nl_watch *w, struct event_base *base, const int *groups, size_t count)
{
	int rc = join(w, groups, count);

	if (rc)
		return rc;
	w->event =
		event_new(base, mnl_socket_get_fd(w->sock), EV_READ | EV_PERSIST, on_readable, w);
	return w->event && event_add(w->event, NULL) == 0 ? 0 : -ENOMEM;
}

static int watch_open(struct nl_watch **out, struct event_base *base, int bus, const int *groups,
		      size_t count)
{
	struct nl_watch *w = calloc(1, sizeof *w);
	int rc;

	if (!w)
		return -ENOMEM;
	w->sock = mnl_socket_open2(bus, SOCK_CLOEXEC | SOCK_NONBLOCK);
	rc = watch_start(w, base, groups, count);
	if (rc) {
		nl_watch_free(w);
		return rc;
	}
	*out = w;
	return 0;
}

int nl_watch_routes(struct nl_watch **out, struct event_base *base, nl_watch_cb *cb, void *arg)
{
	static const int groups[] = {RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE,
				     RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE};
	int rc = watch_open(out, base, NETLINK_ROUTE, groups, sizeof groups / sizeof groups[0]);

	if (rc)
		return rc;
	(*out)->cb = cb;
	(*out)->arg = arg;
	return 0;
}

int nl_watch_table(struct nl_watch **out, struct event_base *base, const char *table,
		   nl_watch_cb *cb, void *arg)
{
	static const int group = NFNLGRP_NFTABLES;
	int rc = strlen(table) > NFT_TABLE_NAME_MAX
			 ? -EINVAL
			 : watch_open(out, base, NETLINK_NETFILTER, &group, 1);

	if (rc)
		return rc;
	cstr_copy((*out)->table, sizeof(*out)->table, table);
	(*out)->cb = cb;
	(*out)->arg = arg;
	return 0;
}

void nl_watch_free(struct nl_watch *w)
{
	if (!w)
		return;
	event_drop(w->event);
	if (w->sock)
		mnl_socket_close(w->sock);
	free(w);
}
