/*
 * What the apptracker keeps over a restart: its entries.  Managers tell everything again when they
 * reconnect, so writes are gathered and committed together (tracker_store_flush).
 */
#ifndef APPTRACKER_STORE_H
#define APPTRACKER_STORE_H

#include "apptracker/engine.h"

struct config;
struct tracker_store;

/* 0 or -errno (logged). */
int tracker_store_open(struct tracker_store **out, const char *path, const struct config *cfg);
void tracker_store_close(struct tracker_store *s); /* flushes; NULL is fine */
/* Each entry once.  0 or -errno. */
int tracker_store_each(struct tracker_store *s,
		       void (*each)(void *arg, const struct tracker_entry *entry), void *arg);
/* Errors are logged by the store and otherwise ignored: the list in memory is what counts.  True
 * when a flush is now wanted and was not before. */
bool tracker_store_put(struct tracker_store *s, const struct tracker_entry *entry);
bool tracker_store_del(struct tracker_store *s, const struct mesh_id *node, const char *app);
void tracker_store_flush(struct tracker_store *s);
#endif
