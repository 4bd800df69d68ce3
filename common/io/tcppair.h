/*
 * Two connected TCP sockets joined: bytes both ways, each direction ended on its own (half-close).
 * What one end does not take stays in the kernel of the other, but for one buffer of TCPPAIR_BUFFER
 * bytes a direction: a slow reader slows the sender, and nothing grows.
 */
#ifndef IO_TCPPAIR_H
#define IO_TCPPAIR_H

#include "base/buf.h"

#define TCPPAIR_BUFFER 65536u

struct event_base;
struct tcppair;
enum tcppair_end { TCPPAIR_A, TCPPAIR_B };

/* `count` bytes have been taken from that end.  The pair may not be freed from here. */
typedef void tcppair_moved(enum tcppair_end from, size_t count, void *arg);
/* Both directions have ended, or one end has failed: the sockets are closed.  Free the pair, from
 * here at the earliest. */
typedef void tcppair_over(void *arg);

/*
 * Takes both sockets (non-blocking) over, if it succeeds.  `to_b`: bytes of A that were read
 * already (TCPPAIR_BUFFER at most).  `moved` may be NULL.  No callback comes from inside.  0 or
 * -ENOMEM.
 */
int tcppair_new(struct tcppair **out, struct event_base *base, int a, int b, struct bytes to_b,
		tcppair_moved *moved, tcppair_over *over, void *arg);
/* Whoever is still joined sees a reset.  NULL is fine. */
void tcppair_free(struct tcppair *p);
/* Has nothing moved for that long?  With one direction ended, four minutes at most. */
bool tcppair_is_silent(const struct tcppair *p, uint64_t idle_us, uint64_t now_us);
/* Closes with a reset instead of an end. */
void tcppair_reset_socket(int fd);
/* Small segments go at once; a silent peer that is gone is noticed within some minutes. */
void tcppair_prepare(int fd);
#endif
