#include "socks/alive.h"

#include <string.h>

void alive_init(struct alive *a, uint64_t patience_us)
{
	memset(a, 0, sizeof *a);
	a->patience_us = patience_us;
}

void alive_heard(struct alive *a, const struct mux_frame *f)
{
	a->heard = true;
	if (f->type == MUX_PING) {
		a->pong_due = true;
		a->their_token = f->token;
		return;
	}
	if (f->type == MUX_PONG) {
		a->pongs++;
		a->answered = a->answered || f->token == a->token;
		return;
	}
	a->active = a->owes = true;
}

void alive_said(struct alive *a, uint8_t type)
{
	a->said = true;
	a->owes = false;
	if (type == MUX_PING) {
		a->ping_due = false;
		a->pings++;
	} else if (type == MUX_PONG) {
		a->pong_due = false;
	} else {
		a->active = true;
	}
}

uint64_t alive_patience_us(const struct alive *a)
{
	uint64_t us = 4 * a->answer_us;

	if (us < a->patience_us)
		return a->patience_us;
	return us < ALIVE_PATIENCE_MAX_US ? us : ALIVE_PATIENCE_MAX_US;
}

static void take_answer(struct alive *a, uint64_t now)
{
	uint64_t took = now - a->asked_us;

	a->answered = false;
	if (!a->asked_us)
		return;
	a->asked_us = 0;
	a->answer_us -= a->answer_us / 4;
	if (took > a->answer_us)
		a->answer_us = took;
}

/* What has happened since the last tick happened now, as far as we know. */
static void note(struct alive *a, uint64_t now)
{
	/* We did not run: a silence of that time is our own. */
	bool slept = now >= a->tick_us + 4 * ALIVE_TICK_US;

	a->tick_us = now;
	if (a->answered)
		take_answer(a, now);
	if (a->heard || slept) {
		a->heard_us = now;
		a->ping_us = 0;
	}
	if (a->said)
		a->said_us = now;
	if (a->active)
		a->active_us = now;
	a->heard = a->said = a->active = false;
}

static void ask(struct alive *a, uint64_t now)
{
	a->ping_us = now;
	a->ping_due = true;
	if (a->asked_us)
		return; /* the same question once more */
	a->token++;
	a->asked_us = now;
}

bool alive_tick(struct alive *a, uint64_t now, uint32_t streams)
{
	bool busy;

	note(a, now);
	busy = streams && now < a->active_us + ALIVE_RECENT_US;
	if (a->owes && now >= a->said_us + ALIVE_WORD_US) {
		a->owes = false;
		a->pong_due = true;
	}
	if (!a->ping_us && now >= a->heard_us + (busy ? ALIVE_BUSY_US : ALIVE_IDLE_US))
		ask(a, now);
	return !a->patience_us || !a->ping_us || now < a->ping_us + alive_patience_us(a);
}
