#include "io/ticker.h"

#include <errno.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "io/timer.h"

/* As far away as a time_t of 32 bits allows with room to spare. */
#define LONGEST_US (1000000ull << 20)

struct ticker {
	int fd;
	bool set;
	struct event *ev;
	ticker_cb *due;
	void *arg;
};

/* Setting it also takes back that it was due, so nothing is ever read from it. */
static void set(struct ticker *t, uint64_t us)
{
	struct itimerspec at = {.it_value = {.tv_sec = (time_t)(us / 1000000),
					     .tv_nsec = (long)(us % 1000000) * 1000}};

	(void)timerfd_settime(t->fd, 0, &at, NULL);
}

void ticker_set(struct ticker *t, uint64_t wait_us)
{
	t->set = wait_us != TICKER_NEVER;
	if (!t->set)
		wait_us = 0; /* disarms it */
	else if (wait_us == 0)
		wait_us = 1;
	set(t, wait_us < LONGEST_US ? wait_us : LONGEST_US);
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
	struct ticker *t = arg;

	(void)fd;
	(void)what;
	t->set = false;
	t->due(t->arg);
	if (!t->set)
		set(t, 0);
}

int ticker_new(struct ticker **out, struct event_base *base, ticker_cb *due, void *arg)
{
	struct ticker *t = calloc(1, sizeof *t);

	if (!t)
		return -ENOMEM;
	t->due = due;
	t->arg = arg;
	t->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (t->fd < 0) {
		int err = -errno;
		free(t);
		return err;
	}
	t->ev = event_new(base, t->fd, EV_READ | EV_PERSIST, on_due, t);
	if (!t->ev || event_add(t->ev, NULL)) {
		ticker_free(t);
		return -ENOMEM;
	}
	*out = t;
	return 0;
}

void ticker_free(struct ticker *t)
{
	if (!t)
		return;
	event_drop(t->ev);
	close(t->fd);
	free(t);
}
