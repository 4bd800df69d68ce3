#include "apptracker/engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apptracker/index.h"
#include "base/log.h"
#include "base/timerq.h"

#define SECOND_US 1000000u

/* Known by its key; with a channel, or with entries that wait for it to come back. */
struct manager {
	LIST_ENTRY(manager) all;
	struct tracker *tracker;
	struct mesh_id id;
	bool connected, said_hello;
	uint64_t channel;
	struct timer grace;
	LIST_HEAD(, tracker_item) items;
	struct log_limit refused;
};

struct tracker {
	struct tracker_config config;
	const struct tracker_ops *ops;
	void *ctx;
	struct timerq timers;
	struct tracker_index index;
	struct map managers, channels;
	LIST_HEAD(, manager) manager_list;
	struct log_limit unwanted;
	uint64_t registrations, lists, refused_count;
};

void tracker_config_default(struct tracker_config *c)
{
	*c = (struct tracker_config){
		.apps_max = 65536,
		.apps_per_node_max = 256,
		.managers_max = 64,
		.grace_us = 30 * SECOND_US,
	};
}

struct tracker *tracker_new(const struct tracker_config *config, const struct tracker_ops *ops,
			    void *ctx, uint64_t seed)
{
	struct tracker *t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	t->config = *config;
	t->ops = ops;
	t->ctx = ctx;
	timerq_init(&t->timers);
	tracker_index_init(&t->index, config->apps_max, seed);
	map_init(&t->managers, MESH_ID_BYTES, config->managers_max, seed);
	map_init(&t->channels, sizeof(uint64_t), config->managers_max, seed);
	return t;
}

void tracker_free(struct tracker *t)
{
	if (!t)
		return;
	while (!LIST_EMPTY(&t->manager_list)) {
		struct manager *m = LIST_FIRST(&t->manager_list);
		LIST_REMOVE(m, all);
		free(m);
	}
	tracker_index_free(&t->index);
	map_free(&t->managers);
	map_free(&t->channels);
	timerq_free(&t->timers);
	free(t);
}

/* --- managers --------------------------------------------------------------------------------- */

static void entry_remove(struct tracker *t, struct tracker_item *item)
{
	if (t->ops->removed)
		t->ops->removed(t->ctx, &item->entry.node, item->entry.app);
	LIST_REMOVE(item, of_manager);
	tracker_index_remove(&t->index, item);
}

static void manager_forget_entries(struct tracker *t, struct manager *m)
{
	while (!LIST_EMPTY(&m->items))
		entry_remove(t, LIST_FIRST(&m->items));
}

static void manager_free(struct tracker *t, struct manager *m)
{
	timerq_cancel(&t->timers, &m->grace);
	if (m->connected)
		map_del(&t->channels, &m->channel);
	map_del(&t->managers, m->id.b);
	LIST_REMOVE(m, all);
	free(m);
}

static void grace_over(struct timer *timer, uint64_t now)
{
	struct manager *m = timer->owner;
	char id[MESH_ID_SHORT];
	(void)now;
	log_info("manager %s did not come back: its apps leave the list",
		 mesh_id_short(&m->id, id));
	manager_forget_entries(m->tracker, m);
	manager_free(m->tracker, m);
}

static struct manager *manager_get(struct tracker *t, const struct mesh_id *id)
{
	struct manager *m = map_get(&t->managers, id->b);
	if (m)
		return m;
	m = calloc(1, sizeof *m);
	if (!m)
		return NULL;
	m->tracker = t;
	m->id = *id;
	timer_init(&m->grace, grace_over, m);
	if (map_put(&t->managers, id->b, m)) {
		free(m);
		return NULL;
	}
	LIST_INSERT_HEAD(&t->manager_list, m, all);
	return m;
}

static bool allowed(const char *list, const struct mesh_id *id)
{
	char text[MESH_ID_TEXT];
	if (!list || !list[strspn(list, ", \t")])
		return true;
	mesh_id_text(id, text);
	while (*list) {
		list += strspn(list, ", \t");
		size_t len = strcspn(list, ", \t");
		if (len == MESH_ID_TEXT - 1 && strncasecmp(list, text, len) == 0)
			return true;
		list += len;
	}
	return false;
}

static void manager_away(struct tracker *t, struct manager *m, uint64_t now)
{
	map_del(&t->channels, &m->channel);
	m->connected = m->said_hello = false;
	if (LIST_EMPTY(&m->items) || timerq_set(&t->timers, &m->grace, now + t->config.grace_us)) {
		manager_forget_entries(t, m);
		manager_free(t, m);
	}
}

int tracker_manager_up(struct tracker *t, const struct mesh_id *id, uint64_t channel, uint64_t now)
{
	char text[MESH_ID_SHORT];
	if (!allowed(t->config.managers, id)) {
		if (log_limit_due(&t->unwanted, now))
			log_warn("manager %s is not in [apptracker] Managers (%llu refused so far)",
				 mesh_id_short(id, text), (unsigned long long)t->unwanted.count);
		return -EACCES;
	}
	struct manager *m = manager_get(t, id);
	if (!m)
		return -ENOSPC;
	if (m->connected) { /* the newer channel has just proved to be alive */
		uint64_t old = m->channel;
		map_del(&t->channels, &old);
		m->connected = m->said_hello = false;
		t->ops->close(t->ctx, old, "the same manager has connected again");
	}
	int err = map_put(&t->channels, &channel, m);
	if (err) {
		manager_forget_entries(t, m);
		manager_free(t, m);
		return err;
	}
	timerq_cancel(&t->timers, &m->grace);
	m->connected = true;
	m->channel = channel;
	log_info("manager %s connected", mesh_id_short(id, text));
	return 0;
}

void tracker_manager_down(struct tracker *t, uint64_t channel, uint64_t now)
{
	char text[MESH_ID_SHORT];
	struct manager *m = map_get(&t->channels, &channel);
	if (!m)
		return;
	log_info("manager %s is away", mesh_id_short(&m->id, text));
	manager_away(t, m, now);
}

/* --- registrations ---------------------------------------------------------------------------- */

static bool text_copy(char out[NAME_MAX_BYTES + 1], struct bytes text)
{
	if (!text.len || text.len > NAME_MAX_BYTES)
		return false;
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] <= ' ' || text.data[i] == 0x7f)
			return false;
	memcpy(out, text.data, text.len);
	out[text.len] = '\0';
	return true;
}

static bool entry_fill(struct tracker_entry *e, const struct manager *m,
		       const struct msg_app_registration_request *r)
{
	*e = (struct tracker_entry){.manager = m->id, .node = r->node};
	if (mesh_id_is_zero(&r->node) || !text_copy(e->app, r->app) ||
	    !text_copy(e->type, r->type) || r->info.len > sizeof e->info)
		return false;
	e->info_len = (uint16_t)r->info.len;
	if (e->info_len)
		memcpy(e->info, r->info.data, e->info_len);
	return true;
}

static bool others(struct tracker *t, const struct manager *m, const struct tracker_item *item)
{
	const struct manager *owner = map_get(&t->managers, item->entry.manager.b);
	return owner && owner != m && owner->connected;
}

static uint16_t entry_add(struct tracker *t, struct manager *m, const struct tracker_entry *e,
			  const char **text)
{
	struct tracker_item *item = tracker_index_find(&t->index, &e->node, e->app);
	const struct tracker_list *of_node = tracker_index_node(&t->index, &e->node);
	*text = "another manager has this app";
	if (item && others(t, m, item))
		return CODE_REFUSED;
	*text = "too many apps";
	if (!item && ((of_node && of_node->count >= t->config.apps_per_node_max) ||
		      t->index.all.count >= t->config.apps_max))
		return CODE_BUSY;
	*text = "";
	if (item && strcmp(item->entry.type, e->type) == 0) {
		LIST_REMOVE(item, of_manager);
		item->entry = *e;
	} else {
		if (item) {
			LIST_REMOVE(item, of_manager);
			tracker_index_remove(&t->index, item);
		}
		item = tracker_index_add(&t->index, e);
	}
	if (!item) {
		*text = "out of memory";
		return CODE_BUSY;
	}
	LIST_INSERT_HEAD(&m->items, item, of_manager);
	if (t->ops->saved)
		t->ops->saved(t->ctx, &item->entry);
	return CODE_OK;
}

int tracker_load(struct tracker *t, const struct tracker_entry *entry, uint64_t now)
{
	const char *text;
	if (!allowed(t->config.managers, &entry->manager))
		return -EINVAL;
	struct manager *m = manager_get(t, &entry->manager);
	if (!m)
		return -ENOSPC;
	if (!m->connected && !m->grace.index) {
		int err = timerq_set(&t->timers, &m->grace, now + t->config.grace_us);
		if (err)
			return err;
	}
	return entry_add(t, m, entry, &text) == CODE_OK ? 0 : -ENOSPC;
}

static uint16_t entry_drop(struct tracker *t, struct manager *m,
			   const struct msg_app_registration_request *r)
{
	char app[NAME_MAX_BYTES + 1];
	if (!text_copy(app, r->app))
		return CODE_INVALID;
	struct tracker_item *item = tracker_index_find(&t->index, &r->node, app);
	if (!item || !mesh_id_equal(&item->entry.manager, &m->id))
		return CODE_NOT_FOUND;
	entry_remove(t, item);
	return CODE_OK;
}

static void node_drop(struct tracker *t, struct manager *m, const struct mesh_id *node)
{
	const struct tracker_list *list = tracker_index_node(&t->index, node);
	struct tracker_item *item = list ? TAILQ_FIRST(&list->items) : NULL;
	while (item) {
		/* The list itself goes with its last entry, so look ahead first. */
		struct tracker_item *next = TAILQ_NEXT(item, in[TRACKER_BY_NODE].link);
		if (mesh_id_equal(&item->entry.manager, &m->id))
			entry_remove(t, item);
		item = next;
	}
}

static uint16_t registration(struct tracker *t, struct manager *m,
			     const struct msg_app_registration_request *r, const char **text)
{
	struct tracker_entry e;
	*text = "";
	switch (r->op) {
	case APP_OP_HELLO:
		manager_forget_entries(t, m);
		m->said_hello = true;
		return CODE_OK;
	case APP_OP_ADD:
		if (entry_fill(&e, m, r))
			return entry_add(t, m, &e, text);
		*text = "an app has a node, an id and a type";
		return CODE_INVALID;
	case APP_OP_REMOVE:
		return entry_drop(t, m, r);
	case APP_OP_NODE_GONE:
		node_drop(t, m, &r->node);
		return CODE_OK;
	default:
		*text = "no such operation";
		return CODE_INVALID;
	}
}

static void on_registration(struct tracker *t, struct manager *m, const struct msg *in,
			    uint64_t now)
{
	struct msg out = {.type = MSG_AppRegistrationResponse, .seq = in->seq};
	const char *text;
	uint16_t code = registration(t, m, &in->app_registration_request, &text);
	char id[MESH_ID_SHORT];

	t->registrations++;
	t->refused_count += code != CODE_OK;
	if (code == CODE_BUSY && log_limit_due(&m->refused, now))
		log_warn("an app of manager %s is refused: %s (%llu so far)",
			 mesh_id_short(&m->id, id), text, (unsigned long long)m->refused.count);
	out.app_registration_response.code = code;
	out.app_registration_response.text = bytes_str(text);
	if (in->seq)
		t->ops->send(t->ctx, m->channel, &out);
}

/* --- lists ------------------------------------------------------------------------------------ */

static const struct tracker_list *wanted(const struct tracker *t,
					 const struct msg_app_list_request *r)
{
	static const enum tracker_by by[] = {
		[APP_LIST_ALL] = TRACKER_ALL,
		[APP_LIST_BY_TYPE] = TRACKER_BY_TYPE,
		[APP_LIST_BY_NAME] = TRACKER_BY_NAME,
	};
	char value[NAME_MAX_BYTES + 1] = "";
	if (r->kind != APP_LIST_ALL && !text_copy(value, r->value))
		return NULL;
	return tracker_index_list(&t->index, by[r->kind], value);
}

static void list_fill(struct msg_app_list_response *out, const struct tracker_list *list,
		      unsigned by, uint32_t after)
{
	const struct tracker_item *item;
	TAILQ_FOREACH(item, &list->items, in[by].link) {
		if (item->position <= after)
			continue;
		if (out->apps_count == APPS_PER_RESPONSE_MAX) {
			out->next = after;
			return;
		}
		after = item->position;
		out->apps[out->apps_count++] = (struct app_item){
			.node = item->entry.node,
			.app = bytes_str(item->entry.app),
			.type = bytes_str(item->entry.type),
			.info = bytes_of(item->entry.info, item->entry.info_len),
		};
	}
}

static void on_list(struct tracker *t, struct manager *m, const struct msg *in)
{
	struct msg out = {.type = MSG_AppListResponse, .seq = in->seq};
	const struct msg_app_list_request *r = &in->app_list_request;
	t->lists++;
	if (r->kind > APP_LIST_BY_NAME) {
		out.app_list_response.code = CODE_INVALID;
		out.app_list_response.text = bytes_str("no such kind of list");
	} else {
		const struct tracker_list *list = wanted(t, r);
		if (list)
			list_fill(&out.app_list_response, list, list->by, r->after);
	}
	t->ops->send(t->ctx, m->channel, &out);
}

void tracker_manager_msg(struct tracker *t, uint64_t channel, const struct msg *in, uint64_t now)
{
	struct manager *m = map_get(&t->channels, &channel);
	if (!m)
		return;
	bool hello = in->type == MSG_AppRegistrationRequest &&
		     in->app_registration_request.op == APP_OP_HELLO;
	if (!m->said_hello && !hello) {
		manager_away(t, m, now);
		t->ops->close(t->ctx, channel, "the first message must be the hello");
	} else if (in->type == MSG_AppRegistrationRequest) {
		on_registration(t, m, in, now);
	} else if (in->type == MSG_AppListRequest) {
		on_list(t, m, in);
	} else if (in->type == MSG_Ping) {
		t->ops->send(t->ctx, channel, &(struct msg){.type = MSG_CommonAck, .seq = in->seq});
	} /* else: an ack that nobody waits for */
}

uint64_t tracker_next_timeout(const struct tracker *t)
{
	return timerq_next(&t->timers);
}

void tracker_tick(struct tracker *t, uint64_t now)
{
	timerq_run(&t->timers, now);
}

size_t tracker_count(const struct tracker *t)
{
	return t->index.all.count;
}

void tracker_status_get(const struct tracker *t, struct tracker_status *out)
{
	*out = (struct tracker_status){
		.apps = t->index.all.count,
		.managers_connected = t->channels.count,
		.registrations = t->registrations,
		.lists = t->lists,
		.refused = t->refused_count,
		.unwanted = t->unwanted.count,
	};
}
