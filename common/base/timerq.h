/*
 * Timers as an intrusive binary heap: a state machine embeds `struct timer`, the engine keeps one
 * queue and tells its shell when it wants to be woken.  Arming never allocates once the queue has
 * been as long before.
 */
#ifndef BASE_TIMERQ_H
#define BASE_TIMERQ_H

#include <stddef.h>
#include <stdint.h>

#define TIMER_NEVER UINT64_MAX

struct timer {
	uint64_t at_us;
	size_t index; /* position in the heap + 1; 0 when not armed */
	void (*fire)(struct timer *t, uint64_t now);
	void *owner;
};

struct timerq {
	struct timer **heap;
	size_t count, capacity;
};

void timerq_init(struct timerq *q);
void timerq_free(struct timerq *q);
void timer_init(struct timer *t, void (*fire)(struct timer *t, uint64_t now), void *owner);
/* Arms or moves; TIMER_NEVER disarms.  0 or -ENOMEM. */
int timerq_set(struct timerq *q, struct timer *t, uint64_t at_us);
void timerq_cancel(struct timerq *q, struct timer *t);
/* The first time from `at_us` on that is a multiple of `slack_us`: what does not mind being that
 * late wakes the process together with everything else that does not mind. */
uint64_t timer_coalesce(uint64_t at_us, uint64_t slack_us);
/* When the first timer is due, or TIMER_NEVER. */
uint64_t timerq_next(const struct timerq *q);
/* Fires what was due at the time of the call, in order of time.  A timer is disarmed before it
 * fires and may set or cancel any timer; what it arms for now or earlier fires in the next call. */
void timerq_run(struct timerq *q, uint64_t now);
#endif
