/*
 * A WireGuard interface: the kernel's (generic netlink) where it has one, else a wireguard-go
 * process with a socket of its own (the cross-platform protocol).  Both are used alike.
 *
 * Calls are synchronous (below a millisecond to the kernel, about one to the process).  The link
 * and the process are written down in the host's journal and end with wgdev_close.
 */
#ifndef IO_WGDEV_H
#define IO_WGDEV_H

#include "io/hostjournal.h"
#include "io/netlink.h"

#define WG_KEY_BYTES 32
#define WGDEV_ALLOWED_MAX 2
#define WGDEV_ADDRS_MAX 2
#define WGDEV_WHY_MAX 160
#define WGDEV_START_US 3000000u /* what a process may take to start */

struct event_base;
struct wgdev;

enum wgdev_kind { WGDEV_ANY, WGDEV_KERNEL, WGDEV_GO };

/* Which one can be had here: WGDEV_KERNEL or WGDEV_GO for what is wanted, or -errno and why not.
 * Makes an interface for a moment when it must ask the kernel. */
int wgdev_probe(struct nl *nl, enum wgdev_kind wanted, char why[WGDEV_WHY_MAX]);
const char *wgdev_kind_text(enum wgdev_kind kind);

enum wgdev_event {
	WGDEV_READY, /* the interface is up with its addresses; peers may be set */
	WGDEV_LOST,  /* it is gone (or did not come): close it */
};
/* `text` says why for WGDEV_LOST.  READY may come from inside wgdev_open and wgdev_wait, LOST comes
 * from the event loop only.  wgdev_close may be called from here, but for READY. */
typedef void wgdev_event_cb(enum wgdev_event event, const char *text, void *arg);

struct wgdev_config {
	const char *interface; /* a name, or a template with one %d */
	enum wgdev_kind kind;  /* as wgdev_probe answered */
	uint32_t mtu;
	const uint8_t *secret;	     /* WG_KEY_BYTES; not kept */
	uint16_t port;		     /* 0: any */
	const struct nl_addr *addrs; /* `link` is filled in; family 0 is left out */
	size_t addr_count;	     /* at most WGDEV_ADDRS_MAX */
	wgdev_event_cb *event;
	void *arg;
};

/* `journal` may be NULL (then `nl` is used and nothing is written down). */
int wgdev_open(struct wgdev **out, struct event_base *base, struct hostjournal *journal,
	       struct nl *nl, const struct wgdev_config *config, char why[WGDEV_WHY_MAX]);
/* Waits until it is ready, at most so long.  0; -ETIMEDOUT: it goes on; -EIO and why: it is lost,
 * which the loop would tell as well. */
int wgdev_wait(struct wgdev *d, uint64_t timeout_us, char why[WGDEV_WHY_MAX]);
bool wgdev_ready(const struct wgdev *d);
/* "" before it is ready. */
const char *wgdev_interface(const struct wgdev *d);
uint32_t wgdev_index(const struct wgdev *d);
void wgdev_close(struct wgdev *d); /* NULL is fine */

struct wgdev_peer {
	uint8_t key[WG_KEY_BYTES];
	const uint8_t *psk;			      /* WG_KEY_BYTES; NULL: none */
	struct net_addr endpoint;		      /* family 0: wherever it is heard from */
	struct net_prefix allowed[WGDEV_ALLOWED_MAX]; /* family 0: none */
	uint16_t keepalive_s; /* 0: none.  With it a handshake begins at once */
};
/* Adds the peer or changes it (a psk stays when none is given).  -EAGAIN before it is ready. */
int wgdev_set_peer(struct wgdev *d, const struct wgdev_peer *peer);
/* Of a peer that is there: sent to from now on, from whatever address of ours fits.  wireguard-go
 * keeps to the one that it was last reached at, even when the host has it no more. */
int wgdev_set_endpoint(struct wgdev *d, const uint8_t key[WG_KEY_BYTES],
		       const struct net_addr *endpoint);
/* 0 also when there is none. */
int wgdev_remove_peer(struct wgdev *d, const uint8_t key[WG_KEY_BYTES]);

struct wgdev_stat {
	uint8_t key[WG_KEY_BYTES];
	struct net_addr endpoint; /* family 0: not heard yet */
	uint64_t rx_bytes, tx_bytes;
	uint64_t handshake_s; /* seconds since 1970 of the last one; 0: none yet */
};
/* All peers; a non-zero answer of `visit` ends the list with that value. */
typedef int wgdev_visit(const struct wgdev_stat *s, void *ctx);
int wgdev_list(struct wgdev *d, wgdev_visit *visit, void *ctx);
#endif
