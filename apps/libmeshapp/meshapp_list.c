/* Lists of apps: one request of the app is as many on the wire as it takes. */
#include "libmeshapp/meshapp_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/clock.h"

#define LISTS_MAX 64

struct list_request {
	TAILQ_ENTRY(list_request) link;
	uint32_t seq, after;
	uint8_t kind;
	char value[NAME_MAX_BYTES + 1];
	struct meshapp_entry *entries;
	size_t count;
	uint64_t deadline_us; /* of the page asked for */
	meshapp_list_cb *cb;
	void *arg;
};

static int ask(struct meshapp *app, struct list_request *r)
{
	struct msg m = {.type = MSG_AppListRequest};

	m.seq = r->seq = chan_next_seq(app->ch);
	m.app_list_request.kind = r->kind;
	m.app_list_request.value = bytes_str(r->value);
	m.app_list_request.after = r->after;
	r->deadline_us = daemon_now_us() + MESHAPP_REQUEST_TIMEOUT_US;
	return chan_send(app->ch, &m);
}

static void finish(struct meshapp *app, struct list_request *r, uint16_t code, bool quiet)
{
	TAILQ_REMOVE(&app->lists, r, link);
	if (!quiet)
		r->cb(r->arg, code, code ? NULL : r->entries, code ? 0 : r->count);
	free(r->entries);
	free(r);
}

int meshapp_list(struct meshapp *app, uint8_t kind, const char *value, meshapp_list_cb *cb,
		 void *arg)
{
	struct list_request *r, *other;
	size_t len = value ? strlen(value) : 0, waiting = 0;

	if (kind > APP_LIST_BY_NAME || len > NAME_MAX_BYTES)
		return -EINVAL;
	if (!app->up)
		return -ENOTCONN;
	TAILQ_FOREACH(other, &app->lists, link)
		waiting++;
	r = waiting < LISTS_MAX ? calloc(1, sizeof *r) : NULL;
	if (!r)
		return -ENOMEM;
	r->kind = kind;
	if (len)
		memcpy(r->value, value, len);
	r->cb = cb;
	r->arg = arg;
	int err = ask(app, r);
	if (err) {
		free(r);
		return err == -ENOMEM ? err : -ENOTCONN;
	}
	TAILQ_INSERT_TAIL(&app->lists, r, link);
	meshapp_arm_timer(app);
	return 0;
}

static int append(struct list_request *r, const struct msg_app_list_response *p)
{
	size_t room = MESHAPP_LIST_MAX - r->count;
	size_t add = p->apps_count < room ? p->apps_count : room;
	struct meshapp_entry *v;

	if (!add)
		return 0;
	v = realloc(r->entries, (r->count + add) * sizeof *v);
	if (!v)
		return -ENOMEM;
	r->entries = v;
	for (size_t i = 0; i < add; i++) {
		struct meshapp_entry *e = &v[r->count++];
		e->node = p->apps[i].node;
		bytes_to_cstr(p->apps[i].app, e->app, sizeof e->app);
		bytes_to_cstr(p->apps[i].type, e->type, sizeof e->type);
		bytes_to_cstr(p->apps[i].info, e->info, sizeof e->info);
	}
	return 0;
}

void meshapp_list_response(struct meshapp *app, const struct msg *m)
{
	const struct msg_app_list_response *p = &m->app_list_response;
	struct list_request *r;

	TAILQ_FOREACH(r, &app->lists, link)
		if (r->seq == m->seq)
			break;
	if (!r)
		return;
	if (p->code || append(r, p)) {
		finish(app, r, p->code ? p->code : CODE_BUSY, false);
		return;
	}
	/* A position that does not advance would go on for ever. */
	bool more = p->next > r->after && p->apps_count && r->count < MESHAPP_LIST_MAX;
	r->after = p->next;
	if (!more)
		finish(app, r, CODE_OK, false);
	else if (ask(app, r))
		finish(app, r, CODE_LOST, false);
}

void meshapp_list_expire(struct meshapp *app, uint64_t now)
{
	struct list_request *r;

	/* Deadlines are of equal length, but a list that goes on to its next page keeps its place.
	 */
again:
	TAILQ_FOREACH(r, &app->lists, link) {
		if (now < r->deadline_us)
			continue;
		finish(app, r, CODE_TIMEOUT, false);
		if (app->dead)
			return;
		goto again;
	}
}

void meshapp_list_fail_all(struct meshapp *app, uint16_t code, bool quiet)
{
	struct list_request *r;

	while ((r = TAILQ_FIRST(&app->lists)))
		finish(app, r, code, quiet);
}
