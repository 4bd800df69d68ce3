/*
 * Apps of the connected nodes, and the apptracker, which keeps the list that apps ask for.  We know
 * the apps of our own nodes ourselves: a tracker that comes back is told all of them again, and a
 * connection to "any node that has the app" works without it.
 */
#include "base/cstr.h"
#include "nodemanager/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All apps of one name. */
struct nm_app_name {
	uint8_t key[NM_TEXT_KEY_BYTES];
	struct nm_app_list apps;
};

/* A question to the tracker: from a node (registration or list), or from RPC. */
struct nm_query {
	struct nm *nm;
	struct timer timer;
	uint32_t seq;
	uint16_t type; /* what it will be answered with: RegisterAppAck, AppListResponse; 0: nobody
			*/
	uint64_t channel;
	uint32_t node_seq;
	struct mesh_id node; /* who asks, if it is a node */
	nm_apps_done *done;  /* of RPC */
	void *arg;
};

/* --- questions to the tracker ----------------------------------------------------------------- */

static void query_done(struct nm_query *q, uint16_t code, const char *text,
		       const struct msg_app_list_response *list)
{
	struct nm *nm = q->nm;
	struct msg m = {.type = q->type, .seq = q->node_seq};
	struct nm_node *asker = q->type ? nm_node_by_id(nm, &q->node) : NULL;
	timerq_cancel(&nm->timers, &q->timer);
	map_del(&nm->queries, &q->seq);
	if (asker && asker->queries) /* it may have been forgotten, and come anew */
		asker->queries--;
	if (q->done) {
		q->done(q->arg, code, text, list);
	} else if (q->type == MSG_RegisterAppAck) {
		struct nm_session *s = nm_session_by_channel(nm, q->channel);
		m.register_app_ack.code = code;
		m.register_app_ack.text = bytes_str(text);
		m.register_app_ack.max_message = MAX_MESSAGE_BYTES;
		if (s)
			m.register_app_ack.node = s->id;
		nm_answer(nm, q->channel, &m);
	} else if (q->type == MSG_AppListResponse) {
		if (list)
			m.app_list_response = *list;
		m.app_list_response.code = code;
		m.app_list_response.text = bytes_str(text);
		nm_answer(nm, q->channel, &m);
	} else if (code != CODE_OK) {
		log_warn("apptracker: %s", text);
	}
	free(q);
}

static void query_late(struct timer *t, uint64_t now)
{
	(void)now;
	query_done(t->owner, CODE_TIMEOUT, "the apptracker does not answer", NULL);
}

static bool tracker_send(struct nm *nm, const struct msg *m)
{
	return nm->tracker && nm->ops->tracker_send(nm->ctx, m) >= 0;
}

/* Sends `m` on behalf of `q` (copied); q.done or an answer to the node follows in any case. */
static void query(struct nm *nm, struct nm_query from, struct msg *m, uint64_t now)
{
	struct nm_query *q = malloc(sizeof *q);
	if (!q) {
		if (from.done)
			from.done(from.arg, CODE_BUSY, "out of memory", NULL);
		return;
	}
	*q = from;
	q->nm = nm;
	q->seq = m->seq = nm_seq_next(nm);
	timer_init(&q->timer, query_late, q);
	if (map_put(&nm->queries, &q->seq, q) ||
	    timerq_set(&nm->timers, &q->timer, now + nm->config.request_timeout_us))
		query_done(q, CODE_BUSY, "too many questions to the apptracker", NULL);
	else if (!tracker_send(nm, m))
		query_done(q, CODE_UNAVAILABLE, "the apptracker is away", NULL);
}

/* Of a node: counted until it is answered. */
static void node_query(struct nm *nm, struct nm_node *node, uint16_t type, uint32_t seq,
		       struct msg *m, uint64_t now)
{
	node->queries++;
	query(nm,
	      (struct nm_query){.type = type,
				.channel = node->session->channel,
				.node_seq = seq,
				.node = node->id},
	      m, now);
}

static void queries_fail(struct nm *nm, const char *why)
{
	struct nm_query *q;
	size_t it = 0;
	/* An answer may ask anew: begin again after each. */
	for (size_t left = nm->queries.count; left && (q = map_next(&nm->queries, &it)); left--) {
		query_done(q, CODE_UNAVAILABLE, why, NULL);
		it = 0;
	}
}

static struct msg registration(uint8_t op, const struct nm_node *node, const struct nm_app *app)
{
	struct msg m = {.type = MSG_AppRegistrationRequest};
	m.app_registration_request.op = op;
	if (node)
		m.app_registration_request.node = node->id;
	if (app) {
		m.app_registration_request.app = bytes_str(app->name);
		m.app_registration_request.type = bytes_str(app->type);
		m.app_registration_request.info = bytes_of(app->info, app->info_len);
	}
	return m;
}

/* --- the tracker's channel -------------------------------------------------------------------- */

void nm_tracker_up(struct nm *nm, uint64_t now)
{
	struct nm_node *node;
	struct nm_app *app;
	struct msg m = registration(APP_OP_HELLO, NULL, NULL);

	log_info("apptracker connected; it is told %zu apps", nm->app_count);
	nm->tracker = true;
	query(nm, (struct nm_query){0}, &m, now);
	TAILQ_FOREACH(node, &nm->node_list, all) {
		LIST_FOREACH(app, &node->apps, of_node) {
			if (app->barred)
				continue;
			m = registration(APP_OP_ADD, node, app);
			tracker_send(nm, &m);
		}
	}
}

void nm_tracker_down(struct nm *nm, uint64_t now)
{
	(void)now;
	if (nm->tracker)
		log_warn("the apptracker is away: app lists do not work until it is back");
	nm->tracker = false;
	queries_fail(nm, "the apptracker is away");
}

void nm_tracker_msg(struct nm *nm, const struct msg *m, uint64_t now)
{
	char text[TEXT_MAX_BYTES + 1];
	struct nm_query *q = map_get(&nm->queries, &m->seq);
	(void)now;
	if (!q)
		return; /* too late, or to something that nobody waits for */
	if (m->type == MSG_AppRegistrationResponse && q->type != MSG_AppListResponse) {
		bytes_to_cstr(m->app_registration_response.text, text, sizeof text);
		query_done(q, m->app_registration_response.code, text, NULL);
	} else if (m->type == MSG_AppListResponse && q->type == MSG_AppListResponse) {
		bytes_to_cstr(m->app_list_response.text, text, sizeof text);
		bool ok = m->app_list_response.code == CODE_OK;
		query_done(q, m->app_list_response.code, text, ok ? &m->app_list_response : NULL);
	} else {
		nm->dropped++;
	}
}

/* --- the apps of our nodes -------------------------------------------------------------------- */

static struct nm_app *app_find(const struct nm_node *node, const char *name)
{
	struct nm_app *app;
	LIST_FOREACH(app, &node->apps, of_node) {
		if (strcmp(app->name, name) == 0)
			return app;
	}
	return NULL;
}

static void app_free(struct nm *nm, struct nm_app *app)
{
	uint8_t key[NM_TEXT_KEY_BYTES];
	nm_text_key(key, app->name);
	struct nm_app_name *name = map_get(&nm->apps, key);
	nm_event_app(nm, NM_EVENT_APP_GONE, app);
	LIST_REMOVE(app, of_node);
	LIST_REMOVE(app, of_name);
	app->node->app_count--;
	nm->app_count--;
	free(app);
	if (name && LIST_EMPTY(&name->apps)) {
		map_del(&nm->apps, key);
		free(name);
	}
}

static struct nm_app_name *name_get(struct nm *nm, const char *text)
{
	uint8_t key[NM_TEXT_KEY_BYTES];
	nm_text_key(key, text);
	struct nm_app_name *name = map_get(&nm->apps, key);
	if (name)
		return name;
	name = calloc(1, sizeof *name);
	if (!name)
		return NULL;
	memcpy(name->key, key, sizeof key);
	if (map_put(&nm->apps, key, name)) {
		free(name);
		return NULL;
	}
	return name;
}

static struct nm_app *app_new(struct nm *nm, struct nm_node *node, const char *text)
{
	struct nm_app *app = calloc(1, sizeof *app);
	if (!app)
		return NULL;
	struct nm_app_name *name = name_get(nm, text);
	if (!name) {
		free(app);
		return NULL;
	}
	cstr_copy(app->name, sizeof app->name, text);
	app->node = node;
	LIST_INSERT_HEAD(&node->apps, app, of_node);
	LIST_INSERT_HEAD(&name->apps, app, of_name);
	node->app_count++;
	nm->app_count++;
	return app;
}

static bool app_is(const struct nm_app *app, const char *type, struct bytes info)
{
	return strcmp(app->type, type) == 0 &&
	       bytes_equal(info, bytes_of(app->info, app->info_len));
}

static void register_answer(struct nm *nm, struct nm_node *node, uint32_t seq, uint16_t code,
			    const char *text)
{
	struct msg m = {.type = MSG_RegisterAppAck, .seq = seq};
	m.register_app_ack.code = code;
	m.register_app_ack.text = bytes_str(text);
	m.register_app_ack.node = node->id;
	m.register_app_ack.max_message = MAX_MESSAGE_BYTES;
	nm_answer(nm, node->session->channel, &m);
}

void nm_register_app(struct nm *nm, struct nm_node *node, const struct msg *m, uint64_t now)
{
	const struct msg_register_app *r = &m->register_app;
	char name[NAME_MAX_BYTES + 1], type[NAME_MAX_BYTES + 1];
	if (!nm_name_copy(name, r->app) || !nm_name_copy(type, r->type)) {
		register_answer(nm, node, m->seq, CODE_INVALID,
				"an app has an id and a type without blanks");
		return;
	}
	if (!nm_role_may_offer(nm, node, type)) {
		register_answer(nm, node, m->seq, CODE_REFUSED,
				"apps of this type need a node with the role gateway");
		return;
	}
	struct nm_app *app = app_find(node, name);
	if (!nm_may_change_app(nm, node, now) || node->queries >= nm->config.queries_per_node_max) {
		nm_over_limit(nm, node, "app registrations per second", now);
		/* A node whose channel comes and goes says again what the tracker knows. */
		bool known = nm->tracker && app && app_is(app, type, r->info);
		register_answer(nm, node, m->seq, known ? CODE_OK : CODE_BUSY,
				known ? "" : "too many apps at once");
		return;
	}
	bool fresh = !app;
	if (!app && node->app_count < nm->config.apps_per_node_max)
		app = app_new(nm, node, name);
	if (!app) {
		nm_over_limit(nm, node, "apps", now);
		register_answer(nm, node, m->seq, CODE_BUSY, "too many apps");
		return;
	}
	memcpy(app->type, type, sizeof type);
	if (fresh)
		nm_event_app(nm, NM_EVENT_APP_REGISTERED, app);
	app->info_len =
		(uint16_t)(r->info.len < APP_INFO_MAX_BYTES ? r->info.len : APP_INFO_MAX_BYTES);
	if (app->info_len)
		memcpy(app->info, r->info.data, app->info_len);
	struct msg out = registration(APP_OP_ADD, node, app);
	node_query(nm, node, MSG_RegisterAppAck, m->seq, &out, now);
}

void nm_unregister_app(struct nm *nm, struct nm_node *node, const struct msg *m, uint64_t now)
{
	char name[NAME_MAX_BYTES + 1];
	struct nm_app *app =
		nm_name_copy(name, m->unregister_app.app) ? app_find(node, name) : NULL;
	if (!nm_may_change_app(nm, node, now)) /* it must go all the same */
		nm_over_limit(nm, node, "app registrations per second", now);
	struct msg ack = {.type = MSG_CommonAck, .seq = m->seq};
	if (app) {
		struct msg out = registration(APP_OP_REMOVE, node, app);
		tracker_send(nm, &out);
		app_free(nm, app);
	} else {
		ack.common_ack.code = CODE_NOT_FOUND;
	}
	nm_answer(nm, node->session->channel, &ack);
}

void nm_apps_gone(struct nm *nm, struct nm_node *node)
{
	if (LIST_EMPTY(&node->apps))
		return;
	while (!LIST_EMPTY(&node->apps))
		app_free(nm, LIST_FIRST(&node->apps));
	struct msg m = registration(APP_OP_NODE_GONE, node, NULL);
	tracker_send(nm, &m);
}

void nm_apps_keep(struct nm *nm, struct nm_node *node,
		  bool (*has)(const void *arg, const char *name), const void *arg)
{
	struct nm_app *app = LIST_FIRST(&node->apps);
	while (app) {
		struct nm_app *next = LIST_NEXT(app, of_node);
		if (!has(arg, app->name)) {
			struct msg m = registration(APP_OP_REMOVE, node, app);
			tracker_send(nm, &m);
			app_free(nm, app);
		}
		app = next;
	}
}

void nm_apps_review(struct nm *nm, struct nm_node *node)
{
	struct nm_app *app;
	LIST_FOREACH(app, &node->apps, of_node) {
		bool barred = !nm_role_may_offer(nm, node, app->type);
		if (barred == app->barred)
			continue;
		app->barred = barred;
		struct msg m = registration(barred ? APP_OP_REMOVE : APP_OP_ADD, node, app);
		tracker_send(nm, &m);
	}
}

bool nm_app_is_barred(const struct nm_node *node, const char *name)
{
	const struct nm_app *app = app_find(node, name);
	return app && app->barred;
}

void nm_apps_free(struct nm *nm)
{
	struct nm_node *node;
	nm->tracker = false;
	queries_fail(nm, "the nodemanager ends");
	TAILQ_FOREACH(node, &nm->node_list, all) {
		while (!LIST_EMPTY(&node->apps))
			app_free(nm, LIST_FIRST(&node->apps));
	}
}

struct nm_node *nm_app_nearest(struct nm *nm, struct nm_node *from, const char *text)
{
	uint8_t key[NM_TEXT_KEY_BYTES];
	nm_text_key(key, text);
	struct nm_app_name *name = map_get(&nm->apps, key);
	struct nm_node *best = NULL;
	uint64_t best_cost = 0;
	struct nm_app *app;
	size_t looked = 0;
	if (!name)
		return NULL;
	LIST_FOREACH(app, &name->apps, of_name) {
		if (!app->node->session || app->barred)
			continue;
		if (looked++ == NM_APP_CANDIDATES)
			break;
		if (graph_find(nm->graph, from->vertex, app->node->vertex, &nm->found) == 0 &&
		    (!best || nm->found.cost < best_cost)) {
			best = app->node;
			best_cost = nm->found.cost;
		}
	}
	return best;
}

/* --- lists ------------------------------------------------------------------------------------ */

void nm_app_list_request(struct nm *nm, struct nm_node *node, const struct msg *m, uint64_t now)
{
	struct msg out = {.type = MSG_AppListRequest, .app_list_request = m->app_list_request};
	if (node->queries < nm->config.queries_per_node_max) {
		node_query(nm, node, MSG_AppListResponse, m->seq, &out, now);
		return;
	}
	nm_over_limit(nm, node, "questions to the apptracker", now);
	out = (struct msg){.type = MSG_AppListResponse, .seq = m->seq};
	out.app_list_response.code = CODE_BUSY;
	out.app_list_response.text = bytes_str("too many questions at once");
	nm_answer(nm, node->session->channel, &out);
}

void nm_list_apps(struct nm *nm, uint8_t kind, const char *value, uint32_t after,
		  nm_apps_done *done, void *arg, uint64_t now)
{
	struct msg out = {.type = MSG_AppListRequest};
	out.app_list_request.kind = kind;
	out.app_list_request.value = bytes_str(value);
	out.app_list_request.after = after;
	query(nm, (struct nm_query){.type = MSG_AppListResponse, .done = done, .arg = arg}, &out,
	      now);
}
