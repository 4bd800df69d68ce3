/*
 * What the kernel tells of its own accord: that links, addresses or routes have changed, and that
 * somebody else has changed our nftables table.  Hints only: who gets one looks for itself.
 */
#ifndef IO_NETLINK_WATCH_H
#define IO_NETLINK_WATCH_H

#include <stdbool.h>

struct event_base;
struct nl_watch;

/* Once for all that came since the last time; never from inside a call. */
typedef void nl_watch_cb(void *arg);

/* Links, addresses and routes of this network namespace.  -ENOMEM, -errno. */
int nl_watch_routes(struct nl_watch **out, struct event_base *base, nl_watch_cb *cb, void *arg);
/* Table inet `table`, changed by anybody but who made it.  The name is copied. */
int nl_watch_table(struct nl_watch **out, struct event_base *base, const char *table,
		   nl_watch_cb *cb, void *arg);
/* We have just made the table: whoever did that is us, and what was told before is history.  What
 * others have done to it since is told by the loop. */
void nl_watch_made(struct nl_watch *w);
void nl_watch_free(struct nl_watch *w); /* NULL is fine */
#endif
