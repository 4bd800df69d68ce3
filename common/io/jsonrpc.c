/* The method table and the dispatch: bytes in, bytes out. */
#include "io/jsonrpc_int.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/cstr.h"
#include "base/log.h"

#define SERIAL_FLAGS (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)

struct rpc_call {
	struct rpc_request *request;
	struct json_object *source; /* keeps params alive */
	struct json_object *params;
	struct json_object *id;
	struct json_object *answer; /* NULL when there is nothing to send */
	bool version2, notification, done, open_to_all;
};

/* Lives until its last call is answered; `server` and `cb` go NULL when they go away before. */
struct rpc_request {
	struct rpc_server *server;
	struct rpc_ctx ctx;
	rpc_answer_cb *cb;
	void *arg;
	TAILQ_ENTRY(rpc_request) link;
	bool batch;
	struct rpc_kept_call keep; /* its text: while it is dispatched, and no batch */
	size_t open;		   /* calls not answered, plus one while dispatching */
	size_t count;
	struct rpc_call calls[];
};

int rpc_server_new(struct rpc_server **out)
{
	struct rpc_server *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	TAILQ_INIT(&s->pending);
	*out = s;
	return 0;
}

int rpc_server_shapes(struct rpc_server *server, const char *shapes)
{
	if (server->shape_table_count == RPC_TABLES_MAX)
		return -ENOMEM;
	server->shapes[server->shape_table_count++] = shapes;
	return 0;
}

void rpc_server_describe(struct rpc_server *server, const struct rpc_about *about)
{
	server->about = about;
}

bool rpc_server_shape(const void *server, struct rpc_span name, struct rpc_shape *out)
{
	const struct rpc_server *s = server;

	for (size_t t = 0; t < s->shape_table_count; t++)
		for (const char *at = s->shapes[t]; rpc_shape_next(&at, out);)
			if (name.len == out->name.len && memcmp(name.p, out->name.p, name.len) == 0)
				return true;
	return false;
}

int rpc_server_add(struct rpc_server *server, const struct rpc_method *methods, size_t count,
		   void *arg)
{
	if (server->table_count == RPC_TABLES_MAX)
		return -ENOMEM;
	server->tables[server->table_count++] = (struct rpc_table){methods, count, arg};
	return 0;
}

static void request_detach(struct rpc_request *r)
{
	if (!r->server)
		return;
	TAILQ_REMOVE(&r->server->pending, r, link);
	r->server->pending_count--;
	r->server = NULL;
}

void rpc_server_free(struct rpc_server *server)
{
	struct rpc_request *r;

	if (!server)
		return;
	while ((r = TAILQ_FIRST(&server->pending))) {
		r->cb = NULL;
		request_detach(r);
	}
	rpc_kept_clear(&server->kept);
	free(server);
}

void rpc_server_forget(struct rpc_server *server)
{
	rpc_kept_clear(&server->kept);
}

void rpc_keep(struct rpc_call *call, rpc_fresh *fresh, void *arg)
{
	if (call->open_to_all && call->version2 && call->request->keep.text) {
		call->request->keep.fresh = fresh;
		call->request->keep.arg = arg;
	}
}

void rpc_request_abandon(struct rpc_request *request)
{
	request->cb = NULL;
}

/* `keep` of `server` may be NULL. */
static void send_json(rpc_answer_cb *cb, void *arg, struct json_object *answer,
		      struct rpc_server *server, const struct rpc_kept_call *keep)
{
	static const char failed[] = "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32603,\"message\":"
				     "\"Internal error\"},\"id\":null}";
	size_t len = 0;
	const char *text = json_object_to_json_string_length(answer, SERIAL_FLAGS, &len);

	if (!text) {
		text = failed;
		len = sizeof failed - 1;
	} else if (keep && keep->fresh) {
		rpc_kept_put(&server->kept, keep, text, len);
	}
	cb(text, len, arg);
}

static void request_answer(struct rpc_request *r, struct rpc_server *server)
{
	struct json_object *all = NULL;

	if (!r->batch && r->calls[0].answer)
		all = json_object_get(r->calls[0].answer);
	for (size_t i = 0; r->batch && i < r->count; i++) {
		if (!r->calls[i].answer)
			continue;
		if (!all)
			all = json_object_new_array();
		if (all)
			json_object_array_add(all, json_object_get(r->calls[i].answer));
	}
	if (all)
		send_json(r->cb, r->arg, all, server, r->keep.text ? &r->keep : NULL);
	else
		r->cb(NULL, 0, r->arg);
	json_object_put(all);
}

static void request_release(struct rpc_request *r)
{
	struct rpc_server *server = r->server;

	if (--r->open > 0)
		return;
	request_detach(r);
	if (r->cb)
		request_answer(r, server);
	for (size_t i = 0; i < r->count; i++) {
		json_object_put(r->calls[i].source);
		json_object_put(r->calls[i].answer);
		json_object_put(r->calls[i].params);
	}
	free(r);
}

static struct json_object *answer_frame(bool version2, struct json_object *id)
{
	struct json_object *o = json_object_new_object();

	if (o && version2)
		rpc_set_str(o, "jsonrpc", "2.0");
	if (o)
		rpc_set(o, "id", json_object_get(id));
	return o;
}

/* JSON-RPC 2.0 forbids the other member, 1.0 wants it as null.  Consumes result and error. */
static struct json_object *answer_make(const struct rpc_call *c, struct json_object *result,
				       struct json_object *error)
{
	struct json_object *o = answer_frame(c->version2, c->id);

	if (!o) {
		json_object_put(result);
		json_object_put(error);
		return NULL;
	}
	if (!error || !c->version2)
		rpc_set(o, "result", result);
	if (error || !c->version2)
		rpc_set(o, "error", error);
	return o;
}

static void call_finish(struct rpc_call *call, struct json_object *result,
			struct json_object *error)
{
	assert(!call->done);
	call->done = true;
	if (call->notification || !call->request->cb) {
		json_object_put(result);
		json_object_put(error);
	} else {
		call->answer = answer_make(call, result, error);
	}
	request_release(call->request);
}

void rpc_reply(struct rpc_call *call, struct json_object *result)
{
	call_finish(call, result, NULL);
}

static struct json_object *error_make(int code, const char *message)
{
	struct json_object *e = json_object_new_object();

	if (e) {
		rpc_set_i64(e, "code", code);
		rpc_set_str(e, "message", message);
	}
	return e;
}

void rpc_fail(struct rpc_call *call, int code, const char *fmt, ...)
{
	char text[TEXT_MAX_BYTES + 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	call_finish(call, NULL, error_make(code, text));
}

const struct rpc_ctx *rpc_call_ctx(const struct rpc_call *call)
{
	return &call->request->ctx;
}

bool rpc_call_wanted(const struct rpc_call *call)
{
	return call->request->cb != NULL;
}

static const struct rpc_method *method_find(const struct rpc_server *s, const char *name,
					    void **arg)
{
	for (size_t t = 0; t < s->table_count; t++) {
		for (size_t i = 0; i < s->tables[t].count; i++) {
			if (strcmp(s->tables[t].methods[i].name, name) == 0) {
				*arg = s->tables[t].arg;
				return &s->tables[t].methods[i];
			}
		}
	}
	return strcmp(name, rpc_discover_method.name) == 0 ? &rpc_discover_method : NULL;
}

/* By-position parameters get their names; a new object, or NULL when there are too many. */
static struct json_object *params_named(const struct rpc_method *m, struct json_object *given)
{
	const char *fields = m->params;
	struct rpc_field f;
	struct json_object *o;
	char name[64];
	size_t n;

	if (json_object_is_type(given, json_type_object))
		return json_object_get(given);
	o = json_object_new_object();
	n = given ? json_object_array_length(given) : 0;
	for (size_t i = 0; o && i < n; i++) {
		if (!rpc_field_next(&fields, &f)) {
			json_object_put(o);
			return NULL;
		}
		cstr_print(name, sizeof name, "%.*s", (int)f.name.len, f.name.p);
		rpc_set(o, name, json_object_get(json_object_array_get_idx(given, i)));
	}
	return o;
}

static bool is_scalar_id(struct json_object *id)
{
	switch (json_object_get_type(id)) {
	case json_type_null:
	case json_type_string:
	case json_type_int:
	case json_type_double:
		return true;
	default:
		return false;
	}
}

/* Fills the call's envelope; false when it is no request by either version of the specification. */
static bool envelope_read(struct rpc_call *c, struct json_object *o, const char **method,
			  struct json_object **params)
{
	struct json_object *version = NULL, *name = NULL, *id = NULL;
	bool has_version, has_id;

	c->version2 = true;
	if (!json_object_is_type(o, json_type_object))
		return false;
	has_version = json_object_object_get_ex(o, "jsonrpc", &version);
	has_id = json_object_object_get_ex(o, "id", &id);
	if (!is_scalar_id(id))
		return false;
	c->id = id;
	if (has_version) {
		const char *v = json_object_is_type(version, json_type_string)
					? json_object_get_string(version)
					: "";
		c->version2 = strcmp(v, "1.0") != 0;
		if (c->version2 && strcmp(v, "2.0") != 0)
			return false;
	}
	json_object_object_get_ex(o, "method", &name);
	json_object_object_get_ex(o, "params", params);
	if (!json_object_is_type(name, json_type_string))
		return false;
	if (*params && !json_object_is_type(*params, json_type_array) &&
	    !json_object_is_type(*params, json_type_object))
		return false;
	/* A name with a NUL inside is nobody's method. */
	*method = strlen(json_object_get_string(name)) == (size_t)json_object_get_string_len(name)
			  ? json_object_get_string(name)
			  : "";
	/* 1.0 needs no "jsonrpc" member, but always an id (null for a notification). */
	if (!has_version)
		c->version2 = false;
	if (!c->version2 && !has_id)
		return false;
	c->notification = c->version2 ? !has_id : id == NULL;
	return true;
}

bool rpc_needs_right(const struct rpc_server *s, const struct rpc_method *m)
{
	if (m != &rpc_discover_method)
		return m->access == RPC_AUTHORISED;
	for (size_t t = 0; t < s->table_count; t++)
		for (size_t i = 0; i < s->tables[t].count; i++)
			if (s->tables[t].methods[i].access == RPC_PUBLIC)
				return false;
	return true;
}

/* False: the call has been failed. */
static bool params_take(struct rpc_server *server, struct rpc_call *c, const struct rpc_method *m,
			struct json_object *given)
{
	char why[RPC_SHAPE_WHY_MAX];

	c->params = params_named(m, given);
	if (!c->params)
		rpc_fail(c, RPC_INVALID_PARAMS, "Invalid params: too many for %s", m->name);
	else if (!rpc_shape_check(c->params, m->params, m->access == RPC_AUTHORISED,
				  rpc_server_shape, server, why))
		rpc_fail(c, RPC_INVALID_PARAMS, "Invalid params: %s", why);
	else
		return true;
	return false;
}

static void call_run(struct rpc_server *server, struct rpc_call *c, struct json_object *source)
{
	struct json_object *given = NULL;
	const struct rpc_method *m;
	const char *name = NULL;
	void *arg = server; /* of rpc.discover */

	c->source = json_object_get(source);
	if (!envelope_read(c, source, &name, &given)) {
		c->notification = false;
		rpc_fail(c, RPC_INVALID_REQUEST, "Invalid Request");
		return;
	}
	m = method_find(server, name, &arg);
	if (!m) {
		rpc_fail(c, RPC_NO_METHOD, "Method not found");
		return;
	}
	c->open_to_all = !rpc_needs_right(server, m);
	if (!c->open_to_all && !c->request->ctx.authorised) {
		if (c->request->ctx.denied)
			*c->request->ctx.denied = true;
		rpc_fail(c, RPC_DENIED, "%s needs an authorised address or the token", m->name);
		return;
	}
	if (params_take(server, c, m, given))
		m->handler(c, c->params, arg);
}

/* An answer before any call is known: to bytes that are no request at all. */
static void refuse(rpc_answer_cb *cb, void *arg, int code, const char *message)
{
	struct rpc_call none = {.version2 = true};
	struct json_object *answer = answer_make(&none, NULL, error_make(code, message));

	send_json(cb, arg, answer, NULL, NULL);
	json_object_put(answer);
}

static struct rpc_request *request_new(struct rpc_server *server, size_t count,
				       const struct rpc_ctx *ctx, rpc_answer_cb *cb, void *arg)
{
	struct rpc_request *r = calloc(1, sizeof *r + count * sizeof r->calls[0]);

	if (!r)
		return NULL;
	r->server = server;
	r->ctx = *ctx;
	r->cb = cb;
	r->arg = arg;
	r->count = count;
	r->open = count + 1;
	for (size_t i = 0; i < count; i++)
		r->calls[i].request = r;
	TAILQ_INSERT_TAIL(&server->pending, r, link);
	server->pending_count++;
	return r;
}

static struct rpc_request *request_run(struct rpc_server *server, struct json_object *root,
				       const struct rpc_kept_call *said, const struct rpc_ctx *ctx,
				       rpc_answer_cb *cb, void *arg)
{
	bool batch = json_object_is_type(root, json_type_array);
	size_t count = batch ? json_object_array_length(root) : 1;
	struct rpc_request *r = request_new(server, count, ctx, cb, arg);

	if (!r) {
		refuse(cb, arg, RPC_INTERNAL, "Internal error");
		return NULL;
	}
	r->batch = batch;
	if (!batch)
		r->keep = *said;
	for (size_t i = 0; i < count; i++)
		call_run(server, &r->calls[i], batch ? json_object_array_get_idx(root, i) : root);
	if (r->open == 1) {
		request_release(r);
		return NULL;
	}
	r->open--;
	r->keep = (struct rpc_kept_call){0}; /* its bytes are the caller's */
	return r;
}

struct rpc_request *rpc_dispatch(struct rpc_server *server, const void *data, size_t len,
				 const struct rpc_ctx *ctx, rpc_answer_cb *cb, void *arg)
{
	const struct rpc_kept_call said = {.text = data, .len = len};
	size_t kept_len;
	const char *kept = rpc_kept_find(&server->kept, data, len, &kept_len);

	if (kept) {
		cb(kept, kept_len, arg);
		return NULL;
	}
	bool is_null = false;
	bool large = len > RPC_BODY_MAX_BYTES;
	struct json_object *root = large ? NULL : rpc_parse(data, len, &is_null);
	bool array = json_object_is_type(root, json_type_array);
	size_t count = array ? json_object_array_length(root) : 1;
	struct rpc_request *r = NULL;

	if (large) {
		refuse(cb, arg, RPC_INVALID_REQUEST, "Invalid Request: larger than 1 MiB");
	} else if (!root && !is_null) {
		refuse(cb, arg, RPC_PARSE_ERROR, "Parse error");
	} else if (count == 0) {
		refuse(cb, arg, RPC_INVALID_REQUEST, "Invalid Request");
	} else if (count > RPC_BATCH_MAX) {
		refuse(cb, arg, RPC_INVALID_REQUEST, "Invalid Request: more than 64 in a batch");
	} else if (server->pending_count >= RPC_PENDING_MAX) {
		if (server->refused_busy++ == 0)
			log_warn("rpc: %d requests wait for answers, refusing more",
				 RPC_PENDING_MAX);
		refuse(cb, arg, RPC_BUSY, "too many calls are waiting for their answers");
	} else {
		r = request_run(server, root, &said, ctx, cb, arg);
	}
	json_object_put(root);
	return r;
}
