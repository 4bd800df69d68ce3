/* Where the peers of a WireGuard interface were last heard from, kept in a file: after a restart
 * their sessions are begun anew from our side, at once. */
#ifndef IO_WGPEERS_H
#define IO_WGPEERS_H

#include "base/addr.h"
#include "io/wgdev.h"

#define WGPEERS_MAX 65536u

struct wgpeers; /* key -> endpoint */

/* Of the file, or none.  NULL when out of memory. */
struct wgpeers *wgpeers_load(const char *path);
void wgpeers_free(struct wgpeers *p); /* NULL is fine */
/* Family 0: not known. */
struct net_addr wgpeers_get(const struct wgpeers *p, const uint8_t key[WG_KEY_BYTES]);
/* Family 0 forgets it. */
void wgpeers_set(struct wgpeers *p, const uint8_t key[WG_KEY_BYTES], const struct net_addr *a);
/* Writes the file (mode 0600, in one step) if anything has changed; without any peers it goes.
 * 0, -errno. */
int wgpeers_save(struct wgpeers *p, const char *path);
/* The file's text: a line of key (hex) and endpoint for each.  Pure; what is no such line is left
 * out. */
void wgpeers_parse(struct wgpeers *p, const char *text, size_t len);
struct wgpeers *wgpeers_new(void);
#endif
