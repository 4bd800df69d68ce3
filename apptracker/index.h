/*
 * The entries of the apptracker in memory: by (node, app), and in order of position by node, type,
 * name and manager.  Pure table: what an entry means is engine.c's business.
 */
#ifndef APPTRACKER_INDEX_H
#define APPTRACKER_INDEX_H

#include <sys/queue.h>

#include "apptracker/engine.h"
#include "base/map.h"

#define TRACKER_KEY_BYTES 32

enum tracker_by {
	TRACKER_ALL,
	TRACKER_BY_TYPE,
	TRACKER_BY_NAME,
	TRACKER_BY_NODE,
	TRACKER_BY_COUNT
};

struct tracker_list;

struct tracker_item {
	struct tracker_entry entry;
	uint32_t position;
	uint8_t key[TRACKER_KEY_BYTES];
	struct {
		TAILQ_ENTRY(tracker_item) link;
		struct tracker_list *list;
	} in[TRACKER_BY_COUNT];
	LIST_ENTRY(tracker_item) of_manager;
};

/* All entries with one type, name or node. */
struct tracker_list {
	TAILQ_HEAD(tracker_items, tracker_item) items;
	size_t count;
	enum tracker_by by;
	uint8_t key[TRACKER_KEY_BYTES];
};

struct tracker_index {
	struct map items; /* key of (node, app) -> tracker_item */
	struct map lists[TRACKER_BY_COUNT];
	struct tracker_list all;
	uint32_t next_position;
};

void tracker_index_init(struct tracker_index *ix, size_t max, uint64_t seed);
/* Frees the items too. */
void tracker_index_free(struct tracker_index *ix);
struct tracker_item *tracker_index_find(const struct tracker_index *ix, const struct mesh_id *node,
					const char *app);
/* Puts a copy at the end.  NULL: full or out of memory. */
struct tracker_item *tracker_index_add(struct tracker_index *ix, const struct tracker_entry *entry);
/* Takes it out of every list and frees it. */
void tracker_index_remove(struct tracker_index *ix, struct tracker_item *item);
/* The list of a type or name; NULL when there is none.  `value` is ignored for TRACKER_ALL. */
const struct tracker_list *tracker_index_list(const struct tracker_index *ix, enum tracker_by by,
					      const char *value);
const struct tracker_list *tracker_index_node(const struct tracker_index *ix,
					      const struct mesh_id *node);
#endif
