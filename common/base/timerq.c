#include "base/timerq.h"

#include <errno.h>
#include <stdlib.h>

void timerq_init(struct timerq *q)
{
	*q = (struct timerq){0};
}

void timerq_free(struct timerq *q)
{
	for (size_t i = 0; i < q->count; i++)
		q->heap[i]->index = 0;
	free(q->heap);
	timerq_init(q);
}

void timer_init(struct timer *t, void (*fire)(struct timer *t, uint64_t now), void *owner)
{
	*t = (struct timer){.at_us = TIMER_NEVER, .fire = fire, .owner = owner};
}

static void place(struct timerq *q, size_t i, struct timer *t)
{
	q->heap[i] = t;
	t->index = i + 1;
}

static void sift_up(struct timerq *q, size_t i)
{
	struct timer *t = q->heap[i];
	while (i > 0 && q->heap[(i - 1) / 2]->at_us > t->at_us) {
		place(q, i, q->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	place(q, i, t);
}

static void sift_down(struct timerq *q, size_t i)
{
	struct timer *t = q->heap[i];
	for (;;) {
		size_t child = 2 * i + 1;
		if (child + 1 < q->count && q->heap[child + 1]->at_us < q->heap[child]->at_us)
			child++;
		if (child >= q->count || q->heap[child]->at_us >= t->at_us)
			break;
		place(q, i, q->heap[child]);
		i = child;
	}
	place(q, i, t);
}

void timerq_cancel(struct timerq *q, struct timer *t)
{
	if (!t->index)
		return;
	size_t i = t->index - 1;
	t->index = 0;
	t->at_us = TIMER_NEVER;
	struct timer *last = q->heap[--q->count];
	if (last == t)
		return;
	place(q, i, last);
	sift_up(q, i);
	sift_down(q, last->index - 1);
}

int timerq_set(struct timerq *q, struct timer *t, uint64_t at_us)
{
	if (at_us == TIMER_NEVER) {
		timerq_cancel(q, t);
		return 0;
	}
	if (!t->index) {
		if (q->count == q->capacity) {
			size_t capacity = q->capacity ? q->capacity * 2 : 16;
			struct timer **heap = realloc(q->heap, capacity * sizeof(struct timer *));
			if (!heap)
				return -ENOMEM;
			q->heap = heap;
			q->capacity = capacity;
		}
		place(q, q->count++, t);
	}
	t->at_us = at_us;
	sift_up(q, t->index - 1);
	sift_down(q, t->index - 1);
	return 0;
}

uint64_t timer_coalesce(uint64_t at_us, uint64_t slack_us)
{
	uint64_t past = slack_us ? at_us % slack_us : 0;

	return past && at_us <= UINT64_MAX - slack_us ? at_us - past + slack_us : at_us;
}

uint64_t timerq_next(const struct timerq *q)
{
	return q->count ? q->heap[0]->at_us : TIMER_NEVER;
}

void timerq_run(struct timerq *q, uint64_t now)
{
	/* Bounded by what is armed now: a timer that re-arms itself for `now` cannot hold us here.
	 */
	for (size_t budget = q->count; budget && q->count && q->heap[0]->at_us <= now; budget--) {
		struct timer *t = q->heap[0];
		timerq_cancel(q, t);
		t->fire(t, now);
	}
}
