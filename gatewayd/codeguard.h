/*
 * Slows down whoever tries access codes: some wrong ones a minute from one host, and some more from
 * all together.  A fixed table; hosts whose hashes meet share what they may do wrong.  Pure.
 */
#ifndef GATEWAYD_CODEGUARD_H
#define GATEWAYD_CODEGUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "gatewayd/lease.h"

#define CODEGUARD_SLOTS 256u
#define CODEGUARD_PER_HOST 5u
#define CODEGUARD_ALL 100u
#define CODEGUARD_WINDOW_S 60u

struct codeguard_window {
	uint64_t began_s;
	unsigned wrong;
};

struct codeguard {
	uint64_t seed;
	struct codeguard_window hosts[CODEGUARD_SLOTS], all;
};

/* May this caller have a code looked at now? */
bool codeguard_allows(struct codeguard *g, const struct lease_binding *who, uint64_t now_s);
/* The one it gave was wrong. */
void codeguard_wrong(struct codeguard *g, const struct lease_binding *who, uint64_t now_s);
#endif
