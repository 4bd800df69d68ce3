/* What the nodemanager keeps over a restart: who was registered, invited, allowed and revoked,
 * which links and routes are wanted, and which numbers are used up. */
#ifndef NODEMANAGER_STORE_H
#define NODEMANAGER_STORE_H

#include "nodemanager/engine.h"

struct config;
struct nm_store;

/* 0 or -errno (logged). */
int nm_store_open(struct nm_store **out, const char *path, const struct config *cfg);
void nm_store_close(struct nm_store *s); /* NULL is fine */
/* Puts everything into the engine.  0 or -errno. */
int nm_store_load(struct nm_store *s, struct nm *nm);
/* From now on the writes of a moment are one transaction; `pending` is called at the first, and the
 * owner calls nm_store_flush soon, before anybody can hear of what was written. */
void nm_store_gather(struct nm_store *s, void (*pending)(void *arg), void *arg);
void nm_store_flush(struct nm_store *s);
/* Errors are logged by the store; what failed is lost at the next restart, no sooner. */
void nm_store_node_put(struct nm_store *s, const struct nm_node_record *node, uint64_t wall_s);
void nm_store_node_del(struct nm_store *s, const struct mesh_id *id);
void nm_store_link_put(struct nm_store *s, const struct mesh_id *a, const struct mesh_id *b);
void nm_store_link_del(struct nm_store *s, const struct mesh_id *a, const struct mesh_id *b);
void nm_store_link_transport(struct nm_store *s, const struct mesh_id *a, const struct mesh_id *b,
			     uint32_t transport);
void nm_store_link_options(struct nm_store *s, const struct mesh_id *a, const struct mesh_id *b,
			   const struct nm_link_options *options);
void nm_store_route_put(struct nm_store *s, const struct nm_route_record *route);
void nm_store_route_del(struct nm_store *s, uint64_t number);
/* What admission decides: 0 or -errno, and then nothing has changed. */
int nm_store_node_admit(struct nm_store *s, const struct nm_node_record *node,
			const struct nm_invite_record *used, uint64_t wall_s);
int nm_store_invite_put(struct nm_store *s, const struct nm_invite_record *invite);
int nm_store_invite_del(struct nm_store *s, uint64_t number);
int nm_store_revoked_put(struct nm_store *s, const struct nm_revoked_record *revoked);
int nm_store_revoked_del(struct nm_store *s, const struct mesh_id *id);
int nm_store_allowed_put(struct nm_store *s, const struct mesh_id *id);
int nm_store_allowed_del(struct nm_store *s, const struct mesh_id *id);
void nm_store_counter_put(struct nm_store *s, enum nm_counter which, uint32_t value);
#endif
