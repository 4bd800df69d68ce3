#include "node/engine_impl.h"

#include <stdlib.h>

static void take_out(struct node_engine *e, struct node_request *r)
{
	if (map_get(&e->requests, &r->seq) == r) {
		map_del(&e->requests, &r->seq);
		TAILQ_REMOVE(&e->request_order, r, order);
	} else {
		TAILQ_REMOVE(&e->held, r, order);
		e->held_count--;
	}
}

static void request_free(struct node_engine *e, struct node_request *r)
{
	take_out(e, r);
	r->app->request_count--;
	free(r);
}

static void arm_for(struct node_engine *e, struct timer *t, const struct node_request *first)
{
	timerq_set(&e->timers, t, first ? first->deadline_us : TIMER_NEVER);
}

/* All requests live equally long, and all are held equally long, so each list is in order of
 * deadline. */
static void arm(struct node_engine *e)
{
	arm_for(e, &e->request_timer, TAILQ_FIRST(&e->request_order));
	arm_for(e, &e->held_timer, TAILQ_FIRST(&e->held));
}

static struct node_request *request_make(struct node_engine *e, struct node_app *app,
					 enum request_kind kind, uint32_t app_seq, uint32_t handle,
					 uint64_t now)
{
	struct node_request *r;

	if (app->request_count >= REQUESTS_PER_APP_MAX) {
		engine_refused(e, "requests of one app", now);
		return NULL;
	}
	if (!(r = calloc(1, sizeof *r)))
		return NULL;
	r->kind = kind;
	r->app_seq = app_seq;
	r->handle = handle;
	r->app = app;
	app->request_count++;
	return r;
}

/* Made or taken out, in no list; consumes r.  False: out of memory. */
static bool request_ask(struct node_engine *e, struct node_request *r, uint64_t now)
{
	r->seq = engine_next_seq(e);
	r->deadline_us = now + REQUEST_TIMEOUT_US;
	if (map_get(&e->requests, &r->seq) || map_put(&e->requests, &r->seq, r)) {
		r->app->request_count--;
		free(r);
		return false;
	}
	TAILQ_INSERT_TAIL(&e->request_order, r, order);
	arm(e);
	return true;
}

struct node_request *request_new(struct node_engine *e, struct node_app *app,
				 enum request_kind kind, uint32_t app_seq, uint32_t handle,
				 uint64_t now)
{
	struct node_request *r = request_make(e, app, kind, app_seq, handle, now);

	return r && request_ask(e, r, now) ? r : NULL;
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

static void fail_and_free(struct node_engine *e, struct node_request *r, uint16_t code,
			  const char *text)
{
	fail(r, code, text);
	request_free(e, r);
}

static void drop_list(struct node_engine *e, struct node_request_list *list,
		      const struct node_app *app)
{
	struct node_request *r, *next;

	for (r = TAILQ_FIRST(list); r; r = next) {
		next = TAILQ_NEXT(r, order);
		if (!app || r->app == app)
			request_free(e, r);
	}
}

void request_free_all(struct node_engine *e)
{
	drop_list(e, &e->request_order, NULL);
	drop_list(e, &e->held, NULL);
	arm(e);
}

void request_drop_app(struct node_engine *e, struct node_app *app)
{
	if (!app->request_count)
		return;
	drop_list(e, &e->request_order, app);
	drop_list(e, &e->held, app);
	arm(e);
}

void request_fire(struct timer *t, uint64_t now)
{
	struct node_engine *e = t->owner;
	struct node_request *r;

	while ((r = TAILQ_FIRST(&e->request_order)) && r->deadline_us <= now)
		fail_and_free(e, r, CODE_TIMEOUT, "no answer from the manager");
	arm(e);
}

/* --- connections that wait for the manager ---------------------------------------------------- */

static void ask_connect(struct node_engine *e, const struct node_request *r)
{
	struct msg out = {.type = MSG_ConnectWithRoute, .seq = r->seq};

	out.connect_with_route.peer = r->node;
	out.connect_with_route.app = bytes_str(r->peer_app);
	out.connect_with_route.from_app = bytes_str(r->app->name);
	out.connect_with_route.class = r->cls;
	engine_manager_send(e, &out);
}

/* In no list. */
static void wait_in_held(struct node_engine *e, struct node_request *r, uint64_t deadline_us)
{
	r->deadline_us = deadline_us;
	TAILQ_INSERT_TAIL(&e->held, r, order);
	e->held_count++;
	arm(e);
}

static void hold(struct node_engine *e, struct node_request *r, uint64_t now)
{
	r->was_held = true;
	e->past.held++;
	wait_in_held(e, r, now + HOLD_US);
}

uint16_t request_connect(struct node_app *a, const struct msg *m, uint64_t now)
{
	const struct msg_connect_to_app *c = &m->connect_to_app;
	struct node_engine *e = a->engine;
	struct node_request *r;

	if (!e->registered && e->held_count >= HELD_MAX) {
		engine_refused(e, "connections that wait for the manager", now);
		return CODE_BUSY;
	}
	if (!(r = request_make(e, a, REQUEST_CONNECT, m->seq, c->handle, now)))
		return CODE_BUSY;
	r->node = c->node;
	r->cls = c->class;
	bytes_to_cstr(c->app, r->peer_app, sizeof r->peer_app);
	if (!e->registered)
		hold(e, r, now);
	else if (request_ask(e, r, now))
		ask_connect(e, r);
	else
		return CODE_BUSY;
	return CODE_OK;
}

static void ask_held(struct node_engine *e, struct node_request *r, uint64_t now)
{
	struct node_app *app = r->app;
	uint32_t app_seq = r->app_seq;

	take_out(e, r);
	if (request_ask(e, r, now))
		ask_connect(e, r);
	else
		app_ack(app, app_seq, CODE_BUSY, 0, "too many requests");
}

void request_release_held(struct node_engine *e, uint64_t now)
{
	struct node_request *r;

	while ((r = TAILQ_FIRST(&e->held))) {
		r->patience_us = now + PATIENCE_US;
		ask_held(e, r, now);
	}
	arm(e);
}

/* Registered, all that is held are answers to ask again for; otherwise those are older, and sooner
 * over, than what began to wait since. */
void request_held_fire(struct timer *t, uint64_t now)
{
	struct node_engine *e = t->owner;
	struct node_request *r;

	while ((r = TAILQ_FIRST(&e->held)) && r->deadline_us <= now) {
		if (e->registered)
			ask_held(e, r, now);
		else
			fail_and_free(e, r, CODE_UNAVAILABLE, "the node's manager is away");
	}
	arm(e);
}

static bool is_worth_another(const struct node_request *r, uint16_t code, uint64_t now)
{
	return r->patience_us > now &&
	       (code == CODE_NOT_FOUND || code == CODE_NO_ROUTE || code == CODE_UNAVAILABLE);
}

void request_manager_lost(struct node_engine *e, uint64_t now)
{
	struct node_request *r;

	while ((r = TAILQ_FIRST(&e->request_order))) {
		if (r->kind != REQUEST_CONNECT || r->was_held || e->held_count >= HELD_MAX) {
			fail_and_free(e, r, CODE_UNAVAILABLE, "the node's manager is away");
		} else {
			take_out(e, r);
			hold(e, r, now);
		}
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
	if (r->kind == REQUEST_CONNECT &&
	    is_worth_another(r, m->connect_with_route_ack.code, now)) {
		take_out(e, r);
		wait_in_held(e, r, now + ASK_AGAIN_US);
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
