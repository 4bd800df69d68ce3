/* Replay window over a 64-bit counter (RFC 6479): numbers far below the highest are refused. */
#ifndef CORE_REPLAY_H
#define CORE_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#define REPLAY_WORDS 32 /* 2048 numbers, one word of which is always being cleared */
#define REPLAY_WINDOW ((REPLAY_WORDS - 1) * 64)

struct replay {
	uint64_t next; /* highest accepted + 1 */
	uint64_t bits[REPLAY_WORDS];
};

/* True when the number is new; it is then marked.  Call only after the packet is authenticated. */
bool replay_accept(struct replay *r, uint64_t number);
#endif
