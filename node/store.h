/*
 * The file StateDir/node.state: what a node goes on with after its own restart (keep.h).  Written
 * beside and put in place, by a thread of its own, because a flash card may take its time to sync
 * and packets must not wait; at most once a second, and only when the content has changed.  Nothing
 * here stops a node: a file that cannot be written, or is not ours, is said once in the log.
 */
#ifndef NODE_STORE_H
#define NODE_STORE_H

#include "node/keep.h"

struct event_base;
struct node_store;

/* Fills in what is to be written now; 0, or -errno: nothing is. */
typedef int node_store_take(void *ctx, struct keep_state *out);

/* NULL when out of memory.  Nothing is read or written yet. */
struct node_store *node_store_new(struct event_base *base, const char *dir,
				  const uint8_t secret[32], node_store_take *take, void *ctx);
/* Waits for the thread, if it is writing. */
void node_store_free(struct node_store *s);

/* 0 and *out (keep_free it); -ENOENT: there is none; -EBADMSG: damaged or of another node, logged;
 * other -errno, logged. */
int node_store_load(struct node_store *s, struct keep_state *out);
/* The state may have changed: it is asked for and written soon. */
void node_store_changed(struct node_store *s);
/* Asks and writes before it returns. */
void node_store_write_now(struct node_store *s);
/* There is to be none. */
void node_store_remove(struct node_store *s);
#endif
