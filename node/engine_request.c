#include "node/engine_impl.h"

#include <stdlib.h>

static void request_free(struct node_engine *e, struct node_request *r)
{
	map_del(&e->requests, &r->seq);
	TAILQ_REMOVE(&e->request_order, r, order);
	r->app->request_count--;
	free(r);
}

/* All requests live equally long, so the list is in order of deadline. */
static void arm(struct node_engine *e)
{
	struct node_request *first = TAILQ_FIRST(&e->request_order);

	timerq_set(&e->timers, &e->request_timer, first ? first->deadline_us : TIMER_NEVER);
}

struct node_request *request_new(struct node_engine *e, struct node_app *app,
				 enum request_kind kind, uint32_t app_seq, uint32_t handle,
				 uint64_t now)
{
	struct node_request *r;

	if (app->request_count >= REQUESTS_PER_APP_MAX) {
		engine_refused(e, "requests of one app", now);
		return NULL;
	}
	if (!(r = malloc(sizeof *r)))
		return NULL;
	*r = (struct node_request){
		.kind = kind,
		.seq = engine_next_seq(e),
		.app_seq = app_seq,
		.handle = handle,
		.app = app,
		.deadline_us = now + REQUEST_TIMEOUT_US,
	};
	if (map_get(&e->requests, &r->seq) || map_put(&e->requests, &r->seq, r)) {
		free(r);
		return NULL;
	}
	app->request_count++;
	TAILQ_INSERT_TAIL(&e->request_order, r, order);
	arm(e);
	return r;
}

static void fail(struct node_request *r, uint16_t code, const char *text)
{
	struct msg m = {.type = MSG_AppListResponse, .seq = r->app_seq};

	if (r->kind == REQUEST_CONNECT) {
		app_ack(r->app, r->app_seq, code, 0, text);
	} else if (r->kind == REQUEST_APP_LIST) {
		m.app_list_response.code = code;
		m.app_list_response.text = bytes_str(text);
		app_send(r->app, &m);
	}
}

void request_fail_all(struct node_engine *e, uint16_t code, const char *text)
{
	struct node_request *r;

	while ((r = TAILQ_FIRST(&e->request_order))) {
		if (text)
			fail(r, code, text);
		request_free(e, r);
	}
	arm(e);
}

void request_drop_app(struct node_engine *e, struct node_app *app)
{
	struct node_request *r, *next;

	for (r = TAILQ_FIRST(&e->request_order); r && app->request_count; r = next) {
		next = TAILQ_NEXT(r, order);
		if (r->app == app)
			request_free(e, r);
	}
	arm(e);
}

void request_fire(struct timer *t, uint64_t now)
{
	struct node_engine *e = t->owner;
	struct node_request *r;

	while ((r = TAILQ_FIRST(&e->request_order)) && r->deadline_us <= now) {
		fail(r, CODE_TIMEOUT, "no answer from the manager");
		request_free(e, r);
	}
	arm(e);
}

/* --- answers --------------------------------------------------------------------------------- */

static void connect_answer(struct node_engine *e, const struct node_request *r,
			   const struct msg_connect_with_route_ack *a)
{
	char text[TEXT_MAX_BYTES + 1];

	if (a->code == CODE_OK) {
		conn_bind(e, r, a->connection);
		return;
	}
	bytes_to_cstr(a->text, text, sizeof text);
	app_ack(r->app, r->app_seq, a->code, 0, text);
}

/* The app gave up, or left, before its connection was there. */
static void connect_unwanted(struct node_engine *e, uint64_t id, uint64_t now)
{
	struct node_conn *c = conn_find(e, id);

	if (!c)
		engine_ended(e, MSG_ConnectionShutdown, id, CODE_CLOSED);
	else if (!c->bound)
		conn_kill(c, CODE_CLOSED, NULL, now);
}

static void register_answer(const struct node_request *r, const struct msg_register_app_ack *a)
{
	char text[TEXT_MAX_BYTES + 1];

	bytes_to_cstr(a->text, text, sizeof text);
	if (a->code != CODE_OK)
		log_warn("manager does not list app %s: %s (%s)", r->app->name,
			 msg_code_name(a->code), text);
}

void request_answer(struct node_engine *e, const struct msg *m, uint64_t now)
{
	struct node_request *r = map_get(&e->requests, &m->seq);
	static const uint16_t answers[] = {
		[REQUEST_CONNECT] = MSG_ConnectWithRouteAck,
		[REQUEST_APP_LIST] = MSG_AppListResponse,
		[REQUEST_REGISTER_APP] = MSG_RegisterAppAck,
	};

	if (!r || answers[r->kind] != m->type) {
		if (m->type == MSG_ConnectWithRouteAck && m->connect_with_route_ack.code == CODE_OK)
			connect_unwanted(e, m->connect_with_route_ack.connection, now);
		return;
	}
	if (r->kind == REQUEST_CONNECT) {
		connect_answer(e, r, &m->connect_with_route_ack);
	} else if (r->kind == REQUEST_APP_LIST) {
		struct msg out = *m;
		out.seq = r->app_seq;
		app_send(r->app, &out);
	} else {
		register_answer(r, &m->register_app_ack);
	}
	request_free(e, r);
	arm(e);
}
