/*
 * One timer of microseconds beside an event loop whose own timers are coarse (daemon.h,
 * coarse_timers).  libevent's precise ones cost a system call in each turn of the loop, whether
 * they have changed or not; this one costs one when it is set (timerfd_create(2)).
 */
#ifndef IO_TICKER_H
#define IO_TICKER_H

#include <stdint.h>

#define TICKER_NEVER UINT64_MAX

struct event_base;
struct ticker;

typedef void ticker_cb(void *arg);

/* Not set yet.  0 or -errno. */
int ticker_new(struct ticker **out, struct event_base *base, ticker_cb *due, void *arg);
void ticker_free(struct ticker *t); /* NULL is fine; not from inside its callback */
/* Once, so long from now: at once for 0, not at all for TICKER_NEVER.  Takes the place of what was
 * set before. */
void ticker_set(struct ticker *t, uint64_t wait_us);
#endif
