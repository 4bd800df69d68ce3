/*
 * Between the engine and its file: takes up what an earlier process has left, and has the file
 * written when that changes.  What another manager than the one trusted now has said is not taken
 * up.
 */
#ifndef NODE_KEEPER_H
#define NODE_KEEPER_H

#include "io/daemon.h"
#include "io/keyfile.h"
#include "node/engine.h"

struct keeper;

/* NULL when out of memory.  With KeepState = no it does nothing but remove the file. */
struct keeper *keeper_new(struct daemon *d, const struct keypair *keys, struct node_engine *engine);
/* Before anything else happens to the engine.  From here on there is something to keep. */
void keeper_restore(struct keeper *k, uint64_t now);
/* The manager has proved to be this one. */
void keeper_manager(struct keeper *k, const struct mesh_id *id);
/* After each change of the engine: cheap. */
void keeper_look(struct keeper *k);
/* Writes what has not been written.  NULL is fine.  The engine is still there. */
void keeper_free(struct keeper *k);
#endif
