/* Between wgdev.c (what both kinds share), wgdev_kernel.c and wgdev_go.c. */
#ifndef IO_WGDEV_INT_H
#define IO_WGDEV_INT_H

#include <event2/event.h>

#include "io/helper.h"
#include "io/wgdev.h"

struct wgdev_ops {
	/* Begins; wgdev_up when it is there. */
	int (*open)(struct wgdev *d, char why[WGDEV_WHY_MAX]);
	/* The interface and what makes it go. */
	void (*close)(struct wgdev *d);
	/* One step of starting, where that takes a while; NULL: open has done all. */
	void (*step)(struct wgdev *d);
	int (*set_peer)(struct wgdev *d, const struct wgdev_peer *peer);
	int (*set_endpoint)(struct wgdev *d, const uint8_t key[WG_KEY_BYTES],
			    const struct net_addr *endpoint);
	int (*remove_peer)(struct wgdev *d, const uint8_t key[WG_KEY_BYTES]);
	int (*list)(struct wgdev *d, wgdev_visit *visit, void *ctx);
};
extern const struct wgdev_ops wgdev_kernel_ops, wgdev_go_ops;

struct wgdev {
	const struct wgdev_ops *ops;
	struct event_base *base;
	struct hostjournal *journal;
	struct nl *nl;
	char wanted[IFNAMSIZ]; /* name or template */
	uint32_t mtu;
	uint8_t secret[WG_KEY_BYTES]; /* until it is set */
	uint16_t port;
	struct nl_addr addrs[WGDEV_ADDRS_MAX];
	size_t addr_count;
	wgdev_event_cb *event;
	void *arg;

	char interface[IFNAMSIZ];
	uint32_t index;
	bool ready;

	/* the kernel's */
	struct nl *genl;
	uint16_t family;

	/* wireguard-go's */
	struct helper *process;
	struct event *timer;
	uint64_t deadline_us;
	char made[IFNAMSIZ]; /* the name that it knows its interface by */
	char socket[64];
	char lost[64]; /* why it ended; told from the loop */
};

/* The link d->index, named d->interface, gets addresses and goes up; then it is ready. */
int wgdev_up(struct wgdev *d);
/* Told by the loop. */
void wgdev_fail(struct wgdev *d, const char *text);
#endif
