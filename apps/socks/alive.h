/*
 * Is the other end of a mux still there?  A mesh connection alone says so late: when a machine is
 * cut off, nobody is left to tell.  common/PROTOCOL.md section 7.
 *
 * Who has heard something else than a PONG says a word within ALIVE_WORD_US, so a silence means
 * something however slowly data moves.  Pure; time comes with alive_tick, which is called a few
 * times a second.
 */
#ifndef SOCKS_ALIVE_H
#define SOCKS_ALIVE_H

#include "socks/muxframe.h"

#define ALIVE_TICK_US 250000u
#define ALIVE_WORD_US 1000000u
/* A silence of this length brings a PING: while streams move or wait, and otherwise. */
#define ALIVE_BUSY_US 1000000u
#define ALIVE_IDLE_US 5000000u
/* Streams on which nothing has happened for so long do not count. */
#define ALIVE_RECENT_US 30000000u
#define ALIVE_PATIENCE_MAX_US 60000000u

struct alive {
	uint64_t patience_us; /* from a PING to the end; 0: for ever */
	uint64_t tick_us, heard_us, said_us, active_us;
	uint64_t ping_us;   /* when the silence was first asked about; 0: there is none */
	uint64_t asked_us;  /* when `token` was asked; 0: it is answered */
	uint64_t answer_us; /* what an answer takes at worst, decaying */
	uint32_t token, their_token;
	bool heard, said, active; /* since the last tick */
	bool owes;		  /* a word */
	bool ping_due, pong_due, answered;
	uint64_t pings, pongs;
};

void alive_init(struct alive *a, uint64_t patience_us);
/* A frame has come, or gone out. */
void alive_heard(struct alive *a, const struct mux_frame *f);
void alive_said(struct alive *a, uint8_t type);
/* False: the other end is gone.  `streams`: how many there are.  Afterwards ping_due and pong_due
 * say what is to be sent. */
bool alive_tick(struct alive *a, uint64_t now, uint32_t streams);
/* What the patience is now: longer where answers have been slow. */
uint64_t alive_patience_us(const struct alive *a);
#endif
