/*
 * What wireguard-go says on its socket: lines "key=value", an empty line at the end.  Pure.
 */
#ifndef IO_WGUAPI_H
#define IO_WGUAPI_H

#include "io/wgdev.h"

#define WGUAPI_LINE_MAX 255u

struct wguapi {
	wgdev_visit *visit; /* may be NULL */
	void *ctx;
	struct wgdev_stat peer;
	bool in_peer;
	bool done;  /* the empty line was there */
	int result; /* errno's value, of `visit`, or -EBADMSG */
	char line[WGUAPI_LINE_MAX + 1];
	size_t len;
};

void wguapi_init(struct wguapi *p, wgdev_visit *visit, void *ctx);
/* The next bytes, cut anywhere.  What follows the end is an error. */
void wguapi_feed(struct wguapi *p, const char *data, size_t len);

#define WGUAPI_REQUEST_MAX 1024u
/* Requests, complete.  The length, or 0 when it does not fit. */
size_t wguapi_device(char out[WGUAPI_REQUEST_MAX], const uint8_t secret[WG_KEY_BYTES],
		     uint16_t port);
size_t wguapi_peer(char out[WGUAPI_REQUEST_MAX], const struct wgdev_peer *peer);
size_t wguapi_endpoint(char out[WGUAPI_REQUEST_MAX], const uint8_t key[WG_KEY_BYTES],
		       const struct net_addr *endpoint);
size_t wguapi_remove(char out[WGUAPI_REQUEST_MAX], const uint8_t key[WG_KEY_BYTES]);
#endif
