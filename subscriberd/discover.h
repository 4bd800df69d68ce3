/*
 * Looks for gateways: those that apptracker lists and those that the configuration names.  What is
 * found goes to the engine.
 */
#ifndef SUBSCRIBERD_DISCOVER_H
#define SUBSCRIBERD_DISCOVER_H

#include "io/daemon.h"
#include "subscriberd/engine.h"

struct discover;
struct meshapp;

struct discover_spec {
	struct daemon *daemon;
	struct sub_engine *engine;
	struct meshapp *app; /* NULL: no mesh */
	/* The engine has heard something: its next timer may have changed. */
	void (*changed)(void *ctx);
	void *ctx;
};

/* Copies the spec; what it names outlives this.  0 or -ENOMEM. */
int discover_new(struct discover **out, const struct discover_spec *spec);
void discover_free(struct discover *d); /* NULL is fine */
/* Reads the list of apps and the configured addresses again. */
void discover_run(struct discover *d);
#endif
