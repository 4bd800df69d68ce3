/*
 * TUN interfaces: one IP packet per read and write, no packet information header.  The interface is
 * not persistent: it dies with its descriptor, and its addresses and routes with it.
 *
 * One opened with TUN_VNET has a virtio header (wire/vnethdr.h) before each packet, both ways: a
 * read may then give a super-packet of up to the interface's gso_max_size, and a write may take
 * one.
 */
#ifndef IO_TUN_H
#define IO_TUN_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TUN_PACKET_MAX 65535u
#define TUN_HEADER_MAX 10u
/* Per wake-up, so that one interface cannot starve the loop, and what it reads finds room. */
#define TUN_READ_BATCH 32
#define TUN_READ_BYTES (256u << 10)

struct event_base;
struct tun;

/* `packet`, with TUN_VNET its header and then the packet, is writable and valid during the call. */
typedef void tun_packet_cb(uint8_t *packet, size_t len, void *arg);
/* The interface is unusable (somebody deleted it); free it. */
typedef void tun_error_cb(int err, void *arg);
/* No packet comes for now, or enough have in this wake-up. */
typedef void tun_batch_end_cb(void *arg);

enum tun_kind { TUN_PLAIN, TUN_VNET };

/*
 * `name` may hold one %d ("mgw%d").  Made down; not reading yet.  IPv6 autoconfiguration of its own
 * is off (no link-local chatter).  -ENOENT: no /dev/net/tun; -EPERM; -EBUSY: the name is in use.
 */
int tun_open(struct tun **out, struct event_base *base, const char *name, enum tun_kind kind);
/*
 * An interface that another process has opened and handed to us: consumes `fd`, also on failure.
 * -EINVAL: it is no TUN interface of that kind.  The other process may do with its descriptor what
 * it likes: we never block on it.
 */
int tun_adopt(struct tun **out, struct event_base *base, int fd, enum tun_kind kind);
/* To hand it to another process; it stays ours. */
int tun_fd(const struct tun *t);
void tun_free(struct tun *t); /* NULL is fine; also from inside its callbacks */
const char *tun_name(const struct tun *t);
uint32_t tun_index(const struct tun *t);

void tun_set_callbacks(struct tun *t, tun_packet_cb *packet, tun_error_cb *error, void *arg);
/* Called with the `arg` of the others after each batch of packets; NULL: nobody is told. */
void tun_set_batch_end(struct tun *t, tun_batch_end_cb *batch_end);
/* Off: the kernel queues (500 packets) and then drops. */
int tun_set_reading(struct tun *t, bool on);
/* TUN_VNET: may the kernel hand out super-packets and packets without a checksum?  Off at first.
 * 0, or -errno and off. */
int tun_set_offload(struct tun *t, bool on);
/* 0; -EAGAIN: the kernel has no room, drop it; -EINVAL: not an IP packet; -EIO: it is down. */
int tun_write(struct tun *t, const uint8_t *packet, size_t len);
/* A packet without a header, whatever the kind. */
int tun_write_plain(struct tun *t, const uint8_t *packet, size_t len);

/* For a program that opens it by its name, comes and goes: the interface stays until the link is
 * deleted.  Made down, in NL_GROUP_MESHNET; daemons use host_tun_add.  -EEXIST. */
struct nl;
int tun_make(struct nl *nl, const char *name);

/* 0, or the reason why no TUN can be made here: -ENOENT, -EPERM, -ENODEV. */
int tun_probe(void);
/* Can TUN_VNET be opened here? */
bool tun_probe_vnet(void);
#endif
