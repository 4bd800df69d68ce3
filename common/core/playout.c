#include "core/playout.h"

#include <stdlib.h>
#include <string.h>

#include "core/record.h"

/* Small records are copied, so that each does not pin the buffer it was received in. */
#define COPY_BYTES 4096u
#define BATCH_US 500u /* what is due so soon goes with the rest: a wake-up less */
/* A path reorders often when one in so many records comes late, and that more than once. */
#define OFTEN_SHARE 32u
#define OFTEN_LEAST 3u
#define FEW_RECORDS 256u /* the slowest of so few is not as slow as it gets */
#define SLOW_SHARE 20u
#define DELAY_UPDATE_US 2000u

/* Of a number below `top`.  Missing, also after it was given up: `missing_us` is when a higher one
 * came first.  Held: `block`.  Otherwise it has gone out. */
struct playout_slot {
	uint64_t early; /* 1 + number, above `top`, that has gone out already */
	uint64_t missing_us;
	uint64_t sent_us; /* by our clock, had it come as fast as the fastest */
	struct block *block;
	uint32_t at, len; /* in the block */
};

void playout_init(struct playout *o)
{
	*o = (struct playout){0};
}

static struct playout_slot *slot(const struct playout *o, uint64_t number)
{
	return &o->slots[number % PLAYOUT_RECORDS];
}

void playout_free(struct playout *o)
{
	for (size_t i = 0; o->slots && i < PLAYOUT_RECORDS; i++)
		block_put(o->slots[i].block);
	free(o->slots);
	playout_init(o);
}

/* --- what is seen --------------------------------------------------------------------------- */

static void turn_clock(struct playout *o, uint64_t now)
{
	uint64_t age = now - o->clock_at_us;

	if (age < PLAYOUT_CLOCK_US)
		return;
	o->clock_before = o->clock;
	o->clock_before.known &= age < 2 * (uint64_t)PLAYOUT_CLOCK_US;
	o->clock.known = false;
	o->clock_at_us = now;
}

static void turn_period(struct playout *o, uint64_t now)
{
	uint64_t age = now - o->period_at_us;

	turn_clock(o, now);

	if (age < PLAYOUT_PERIOD_US ||
	    (age < PLAYOUT_PERIOD_MAX_US && o->now.records < PLAYOUT_PERIOD_RECORDS))
		return;
	o->before = o->now;
	o->now = (struct playout_seen){0};
	if (age >= 2 * (uint64_t)PLAYOUT_PERIOD_MAX_US)
		o->before = o->now;
	o->period_at_us = now;
}

static uint16_t base(const struct playout *o)
{
	const struct playout_clock *c = &o->clock, *before = &o->clock_before;

	if (!before->known)
		return c->base;
	if (!c->known)
		return before->base;
	return (int16_t)(c->base - before->base) < 0 ? c->base : before->base;
}

/* How much later than the fastest this record came.  Times wrap every two seconds, far above what
 * is looked for. */
static uint32_t note_delay(struct playout *o, uint16_t time, uint64_t now)
{
	uint16_t raw = (uint16_t)(record_time(now) - time);

	if (!o->clock.known || (int16_t)(raw - o->clock.base) < 0)
		o->clock = (struct playout_clock){.base = raw, .known = true};
	uint32_t beyond = (uint32_t)(uint16_t)(raw - base(o)) * RECORD_TIME_US;
	if (beyond > PLAYOUT_WAIT_MAX_US)
		beyond = PLAYOUT_WAIT_MAX_US;
	uint16_t *count = &o->now.delays[beyond / PLAYOUT_DELAY_STEP_US];
	if (*count < UINT16_MAX)
		++*count;
	return beyond;
}

/* What all but one in SLOW_SHARE records need, and more while few are known. */
static uint64_t even_delay(const struct playout *o)
{
	uint64_t seen = 0, above = 0;
	unsigned i = PLAYOUT_DELAYS;

	for (unsigned k = 0; k < PLAYOUT_DELAYS; k++)
		seen += (uint64_t)o->now.delays[k] + o->before.delays[k];
	while (i > 0 && above * SLOW_SHARE <= seen) {
		i--;
		above += (uint64_t)o->now.delays[i] + o->before.delays[i];
	}
	uint64_t delay = (uint64_t)i * PLAYOUT_DELAY_STEP_US;
	delay += delay * FEW_RECORDS / (FEW_RECORDS + seen);
	return delay < PLAYOUT_WAIT_MAX_US ? delay : PLAYOUT_WAIT_MAX_US;
}

static void update_delay(struct playout *o, uint64_t now)
{
	if (now < o->delay_at_us)
		return;
	o->delay_at_us = now + DELAY_UPDATE_US;
	o->delay_us = now < o->reorders_until_us ? even_delay(o) : 0;
}

static void note_late(struct playout *o, uint64_t late_us, uint64_t now)
{
	o->late++;
	o->known = true;
	if (late_us > o->now.late_us)
		o->now.late_us = late_us;
	uint32_t late = ++o->now.late + o->before.late;
	if (late >= OFTEN_LEAST && late * OFTEN_SHARE >= o->now.records + o->before.records)
		o->reorders_until_us = now + PLAYOUT_REORDERS_US;
}

uint64_t playout_patience_us(const struct playout *o)
{
	uint64_t late = o->now.late_us > o->before.late_us ? o->now.late_us : o->before.late_us;

	if (!late)
		return o->known ? 0 : PLAYOUT_WAIT_FIRST_US;
	late += late / 4;
	return late < PLAYOUT_WAIT_MAX_US ? late : PLAYOUT_WAIT_MAX_US;
}

uint64_t playout_delay_us(const struct playout *o)
{
	return o->delay_us;
}

/* --- out ------------------------------------------------------------------------------------ */

/* The number that is next goes out, or is given up. */
static void step(struct playout *o, playout_deliver *deliver, void *ctx, uint64_t now)
{
	struct playout_slot s = *slot(o, o->next);

	slot(o, o->next)->block = NULL;
	o->next++;
	if (s.missing_us) {
		o->given_up++;
		o->known = true;
	}
	if (!s.block)
		return;
	o->held_bytes -= s.len + PLAYOUT_OVERHEAD_BYTES;
	deliver(ctx, bytes_of(s.block->data + s.at, s.len), now);
	block_put(s.block);
}

static uint64_t due(const struct playout *o)
{
	const struct playout_slot *s = slot(o, o->next);

	if (s->missing_us)
		return s->missing_us + playout_patience_us(o);
	return s->block ? s->sent_us + o->delay_us : 0;
}

uint64_t playout_next(const struct playout *o)
{
	return o->next == o->top ? UINT64_MAX : due(o);
}

/* Nothing that is missing became so before what is missing below it, and nothing was sent before
 * what is below it: the first is due first. */
void playout_expire(struct playout *o, playout_deliver *deliver, void *ctx, uint64_t now)
{
	turn_period(o, now);
	update_delay(o, now);
	while (o->next < o->top && due(o) <= now + BATCH_US)
		step(o, deliver, ctx, now);
}

void playout_flush(struct playout *o, playout_deliver *deliver, void *ctx, uint64_t now)
{
	while (o->next < o->top)
		step(o, deliver, ctx, now);
}

/* --- in ------------------------------------------------------------------------------------- */

static bool make_slots(struct playout *o)
{
	if (!o->slots)
		o->slots = calloc(PLAYOUT_RECORDS, sizeof *o->slots);
	return o->slots != NULL;
}

/* `number` is the highest: what it skips is missing from now on. */
static void raise_top(struct playout *o, uint64_t number, playout_deliver *deliver, void *ctx,
		      uint64_t now)
{
	if (number - o->top >= PLAYOUT_RECORDS) {
		playout_flush(o, deliver, ctx, now);
		memset(o->slots, 0, PLAYOUT_RECORDS * sizeof *o->slots);
		o->given_up += number - o->top;
		o->next = o->top = number;
	}
	while (number - o->next >= PLAYOUT_RECORDS)
		step(o, deliver, ctx, now);
	for (; o->top < number; o->top++) {
		bool gone = slot(o, o->top)->early == o->top + 1;
		*slot(o, o->top) = (struct playout_slot){.missing_us = gone ? 0 : now};
	}
	*slot(o, o->top++) = (struct playout_slot){0};
}

static void came_late(struct playout *o, uint64_t number, uint64_t now)
{
	struct playout_slot *s = slot(o, number);

	if (o->top - number > PLAYOUT_RECORDS || !s->missing_us)
		return;
	note_late(o, now - s->missing_us, now);
	s->missing_us = 0;
}

/* The record stays: it must not pin a large buffer, with others in it, that it came in. */
static void settle(struct playout_slot *s)
{
	struct block *b = s->len <= COPY_BYTES ? block_new(s->len) : NULL;

	if (!b)
		return;
	memcpy(b->data, s->block->data + s->at, s->len);
	block_put(s->block);
	s->block = b;
	s->at = 0;
}

static void hold(struct playout *o, const struct playout_record *r, uint64_t sent_us)
{
	struct playout_slot *s = slot(o, r->number);

	s->sent_us = sent_us;
	s->block = block_get(r->block);
	s->at = (uint32_t)(r->data.data - r->block->data);
	s->len = (uint32_t)r->data.len;
	o->held_bytes += s->len + PLAYOUT_OVERHEAD_BYTES;
}

void playout_add(struct playout *o, const struct playout_record *r, playout_deliver *deliver,
		 void *ctx, uint64_t now)
{
	/* Where the path itself reorders, order is worth more to TCP than the start that hops give
	 * to a flow that sends little, and a flow that meets losses sends little. */
	bool passes = r->overtakes && (r->eager || now >= o->reorders_until_us);
	uint64_t sent_us = now;

	turn_period(o, now);
	o->now.records++;
	if (!r->empty && !passes)
		sent_us -= note_delay(o, r->time, now);
	if ((r->number == o->top && !o->slots) || !make_slots(o)) {
		if (r->number >= o->top)
			o->next = o->top = r->number + 1;
		if (!r->empty)
			deliver(ctx, r->data, now);
		return;
	}
	if (passes && r->number > o->top && r->number - o->next < PLAYOUT_RECORDS) {
		*slot(o, r->number) = (struct playout_slot){.early = r->number + 1};
		deliver(ctx, r->data, now);
		return;
	}
	if (r->number >= o->top)
		raise_top(o, r->number, deliver, ctx, now);
	else
		came_late(o, r->number, now);
	if (!r->empty && (r->eager || passes || r->number < o->next))
		deliver(ctx, r->data, now);
	else if (!r->empty)
		hold(o, r, sent_us);
	playout_expire(o, deliver, ctx, now);
	while (o->held_bytes > PLAYOUT_BYTES)
		step(o, deliver, ctx, now);
	if (r->number >= o->next && slot(o, r->number)->block)
		settle(slot(o, r->number));
}
