#include "io/timer.h"

#include <stddef.h>

struct timeval timer_span(uint64_t us)
{
	return (struct timeval){.tv_sec = (time_t)(us / 1000000u),
				.tv_usec = (suseconds_t)(us % 1000000u)};
}

struct event *timer_new(struct event_base *base, event_callback_fn due, void *arg)
{
	return evtimer_new(base, due, arg);
}

int timer_in(struct event *timer, uint64_t us)
{
	struct timeval tv = timer_span(us);

	return event_add(timer, &tv);
}

void event_drop(struct event *timer)
{
	if (timer)
		event_free(timer);
}
