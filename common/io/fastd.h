/*
 * A fastd process with one peer and one interface (mode tun).  Version 22 is known to do.
 *
 * One process for many peers does not do: to a peer that has been added, or one that comes anew,
 * it refuses all handshakes until its next handshake key, which is up to 15 s.  A fresh process has
 * a fresh key, so each end of a tunnel has a process of its own, and is given a new one when the
 * other end begins anew.
 *
 * It runs in a folder of ours, which goes with it; the interface is made beforehand (tun_make) and
 * outlives it.
 */
#ifndef IO_FASTD_H
#define IO_FASTD_H

#include "base/addr.h"
#include "io/hostjournal.h"

#define FASTD_KEY_TEXT 65 /* 64 hexadecimal digits */
#define FASTD_WHY_MAX 160

struct event_base;
struct fastd;

/* Is it installed?  0, or -errno and why not. */
int fastd_probe(char why[FASTD_WHY_MAX]);

/* Loads DIR/NAME.key or makes it (io/keyfile.h); the program itself tells the public key. */
int fastd_keys(const char *dir, const char *name, char secret[FASTD_KEY_TEXT],
	       char public_key[FASTD_KEY_TEXT], char why[FASTD_WHY_MAX]);
/* 64 lower-case hexadecimal digits. */
bool fastd_key_valid(const char *key);

/* From the event loop: it has ended; close it. */
typedef void fastd_end_cb(const char *text, void *arg);

struct fastd_config {
	const char *folder; /* made (mode 0700); what is in it of an earlier run is removed */
	const char *interface;
	const char *secret, *peer; /* our secret, the other end's public key */
	uint32_t mtu;
	uint16_t port;		/* 0: any */
	struct net_addr remote; /* family 0: the peer comes to us */
	fastd_end_cb *ended;
	void *arg;
};
int fastd_open(struct fastd **out, struct event_base *base, struct hostjournal *journal,
	       const struct fastd_config *config, char why[FASTD_WHY_MAX]);
/* Is it connected with its peer?  1, 0, or -errno when it cannot be asked (yet). */
int fastd_connected(struct fastd *f);
void fastd_close(struct fastd *f); /* NULL is fine; also from inside `ended` */

/* What its status socket says.  Pure.  1, 0, -EBADMSG. */
int fastd_status_connected(const char *text, size_t len);
#endif
