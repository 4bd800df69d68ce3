/*
 * TUN interfaces: one IP packet per read and write, no packet information header.  The interface is
 * not persistent: it dies with its descriptor, and its addresses and routes with it.
 */
#ifndef IO_TUN_H
#define IO_TUN_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TUN_PACKET_MAX 65535u
#define TUN_READ_BATCH 32 /* packets per wake-up, so that one interface cannot starve the loop */

struct event_base;
struct tun;

/* `packet` is valid during the call. */
typedef void tun_packet_cb(const uint8_t *packet, size_t len, void *arg);
/* The interface is unusable (somebody deleted it); free it. */
typedef void tun_error_cb(int err, void *arg);

/*
 * `name` may hold one %d ("mgw%d").  Made down; not reading yet.  IPv6 autoconfiguration of its own
 * is off (no link-local chatter).  -ENOENT: no /dev/net/tun; -EPERM; -EBUSY: the name is in use.
 */
int tun_open(struct tun **out, struct event_base *base, const char *name);
void tun_free(struct tun *t); /* NULL is fine; also from inside its callbacks */
const char *tun_name(const struct tun *t);
uint32_t tun_index(const struct tun *t);

void tun_set_callbacks(struct tun *t, tun_packet_cb *packet, tun_error_cb *error, void *arg);
/* Off: the kernel queues (500 packets) and then drops. */
int tun_set_reading(struct tun *t, bool on);
/* 0; -EAGAIN: the kernel has no room, drop it; -EINVAL: not an IP packet; -EIO: it is down. */
int tun_write(struct tun *t, const uint8_t *packet, size_t len);

/* 0, or the reason why no TUN can be made here: -ENOENT, -EPERM, -ENODEV. */
int tun_probe(void);
#endif
