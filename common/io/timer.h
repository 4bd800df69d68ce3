/* Timers of the event loop, in microseconds. */
#ifndef IO_TIMER_H
#define IO_TIMER_H

#include <event2/event.h>
#include <stdint.h>
#include <sys/time.h>

struct timeval timer_span(uint64_t us);
/* NULL when out of memory; event_drop() it. */
struct event *timer_new(struct event_base *base, event_callback_fn due, void *arg);
/* Once, `us` from now, and no more as set before.  0, or -1 when out of memory. */
int timer_in(struct event *timer, uint64_t us);
/* Frees any event; NULL is allowed. */
void event_drop(struct event *timer);

#endif
