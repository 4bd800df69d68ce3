#include "apptracker/index.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static void text_key(uint8_t key[TRACKER_KEY_BYTES], const char *text)
{
	crypto_generichash(key, TRACKER_KEY_BYTES, (const uint8_t *)text, strlen(text), NULL, 0);
}

static void item_key(uint8_t key[TRACKER_KEY_BYTES], const struct mesh_id *node, const char *app)
{
	crypto_generichash(key, TRACKER_KEY_BYTES, (const uint8_t *)app, strlen(app), node->b,
			   sizeof node->b);
}

void tracker_index_init(struct tracker_index *ix, size_t max, uint64_t seed)
{
	*ix = (struct tracker_index){0};
	map_init(&ix->items, TRACKER_KEY_BYTES, max, seed);
	for (unsigned by = 0; by < TRACKER_BY_COUNT; by++)
		map_init(&ix->lists[by], TRACKER_KEY_BYTES, max, seed);
	TAILQ_INIT(&ix->all.items);
}

void tracker_index_free(struct tracker_index *ix)
{
	while (!TAILQ_EMPTY(&ix->all.items))
		tracker_index_remove(ix, TAILQ_FIRST(&ix->all.items));
	map_free(&ix->items);
	for (unsigned by = 0; by < TRACKER_BY_COUNT; by++)
		map_free(&ix->lists[by]);
}

struct tracker_item *tracker_index_find(const struct tracker_index *ix, const struct mesh_id *node,
					const char *app)
{
	uint8_t key[TRACKER_KEY_BYTES];
	item_key(key, node, app);
	return map_get(&ix->items, key);
}

static struct tracker_list *list_get(struct tracker_index *ix, enum tracker_by by,
				     const uint8_t key[TRACKER_KEY_BYTES])
{
	if (by == TRACKER_ALL)
		return &ix->all;
	struct tracker_list *list = map_get(&ix->lists[by], key);
	if (list)
		return list;
	list = calloc(1, sizeof *list);
	if (!list)
		return NULL;
	TAILQ_INIT(&list->items);
	list->by = by;
	memcpy(list->key, key, TRACKER_KEY_BYTES);
	if (map_put(&ix->lists[by], key, list)) {
		free(list);
		return NULL;
	}
	return list;
}

static void list_leave(struct tracker_index *ix, struct tracker_item *item, unsigned by)
{
	struct tracker_list *list = item->in[by].list;
	if (!list)
		return;
	TAILQ_REMOVE(&list->items, item, in[by].link);
	item->in[by].list = NULL;
	if (--list->count == 0 && by != TRACKER_ALL) {
		map_del(&ix->lists[by], list->key);
		free(list);
	}
}

static bool list_join(struct tracker_index *ix, struct tracker_item *item, enum tracker_by by)
{
	uint8_t key[TRACKER_KEY_BYTES] = {0};
	if (by == TRACKER_BY_NODE)
		memcpy(key, item->entry.node.b, sizeof key);
	else if (by != TRACKER_ALL)
		text_key(key, by == TRACKER_BY_TYPE ? item->entry.type : item->entry.app);
	struct tracker_list *list = list_get(ix, by, key);
	if (!list)
		return false;
	TAILQ_INSERT_TAIL(&list->items, item, in[by].link);
	item->in[by].list = list;
	list->count++;
	return true;
}

/* After 2^32 entries the positions begin anew; a reader in the middle may see some twice. */
static uint32_t position_next(struct tracker_index *ix)
{
	if (ix->next_position == UINT32_MAX) {
		struct tracker_item *item;
		ix->next_position = 0;
		TAILQ_FOREACH(item, &ix->all.items, in[TRACKER_ALL].link) {
			item->position = ++ix->next_position;
		}
	}
	return ++ix->next_position;
}

struct tracker_item *tracker_index_add(struct tracker_index *ix, const struct tracker_entry *entry)
{
	struct tracker_item *item = calloc(1, sizeof *item);
	if (!item)
		return NULL;
	item->entry = *entry;
	item_key(item->key, &entry->node, entry->app);
	bool ok = map_put(&ix->items, item->key, item) == 0;
	for (unsigned by = 0; ok && by < TRACKER_BY_COUNT; by++)
		ok = list_join(ix, item, by);
	if (!ok) {
		if (map_get(&ix->items, item->key) == item)
			map_del(&ix->items, item->key);
		for (unsigned by = 0; by < TRACKER_BY_COUNT; by++)
			list_leave(ix, item, by);
		free(item);
		return NULL;
	}
	item->position = position_next(ix);
	return item;
}

void tracker_index_remove(struct tracker_index *ix, struct tracker_item *item)
{
	map_del(&ix->items, item->key);
	for (unsigned by = 0; by < TRACKER_BY_COUNT; by++)
		list_leave(ix, item, by);
	free(item);
}

const struct tracker_list *tracker_index_list(const struct tracker_index *ix, enum tracker_by by,
					      const char *value)
{
	uint8_t key[TRACKER_KEY_BYTES];
	if (by == TRACKER_ALL)
		return &ix->all;
	text_key(key, value);
	return map_get(&ix->lists[by], key);
}

const struct tracker_list *tracker_index_node(const struct tracker_index *ix,
					      const struct mesh_id *node)
{
	return map_get(&ix->lists[TRACKER_BY_NODE], node->b);
}
