/*
 * Node processes that addNode starts beside us: each with a state directory, an app socket and a
 * key of its own under StateDir/nodes/NAME.  They end with us when we end in order, and are found
 * again by nobody after a kill -9: then they simply reconnect.
 */
#ifndef NODEMANAGER_SPAWN_H
#define NODEMANAGER_SPAWN_H

#include "io/daemon.h"
#include "nodemanager/engine.h"

#define NM_SPAWN_MAX 1024
#define NM_SPAWN_FOLDER "nodes" /* in the state directory: a folder for each */

struct nm_spawner;

/* `manager_key`: ours, for the nodes to expect; `port`: where we listen.  NULL: out of memory. */
struct nm_spawner *nm_spawner_new(struct daemon *d, const struct mesh_id *manager_key,
				  uint16_t port);
/* Kills what still runs. */
void nm_spawner_free(struct nm_spawner *s);
/* A name that can be a directory: letters, digits, '-', '_', '.', not first. */
bool nm_spawn_name_ok(const char *name);
/* Starts one; its key is made here, so that its id is known at once.  0; -EBUSY: too many; -EEXIST:
 * it runs already; other -errno (logged). */
int nm_spawn(struct nm_spawner *s, const char *name, bool connect, struct mesh_id *id);
bool nm_spawn_named(const struct nm_spawner *s, const char *name);
bool nm_spawn_runs(const struct nm_spawner *s, const struct mesh_id *id);
/* Asks all to end; `done` is called when none is left (perhaps at once). */
void nm_spawner_stop(struct nm_spawner *s, void (*done)(void *arg), void *arg);
#endif
