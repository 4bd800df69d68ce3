/* Calls over HTTP with evhttp's client, and the carrier-free halves of it. */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cstr.h"
#include "io/jsonrpc.h"
#include "io/sockaddr.h"
#include "io/timer.h"

#define TIMEOUT_DEFAULT_US 10000000u
#define CALL_ID 1u /* one call a connection: the id only has to come back */

struct rpc_client {
	struct evhttp_connection *conn;
	struct evhttp_request *req; /* NULL once evhttp is done with it */
	struct event *timer;	    /* the deadline, and the way to answer from the loop */
	rpc_client_cb *cb;
	void *arg;
	struct rpc_answer answer;
	int error; /* why evhttp gave up */
	bool starting;
	/* evhttp's own, while it connects. */
	bufferevent_data_cb on_read, on_write;
	bufferevent_event_cb on_event;
	void *ev_arg;
};

static void answer_down(struct rpc_answer *a, int error, const char *text)
{
	a->outcome = RPC_OUTCOME_DOWN;
	a->code = error;
	cstr_copy(a->text, sizeof a->text, text);
}

char *rpc_encode_call(uint32_t id, const char *method, struct json_object *params, size_t *len)
{
	struct json_object *o = json_object_new_object();
	const char *text;
	char *out = NULL;

	if (!o)
		return NULL;
	rpc_set_str(o, "jsonrpc", "2.0");
	rpc_set_u64(o, "id", id);
	rpc_set_str(o, "method", method);
	if (params)
		rpc_set(o, "params", json_object_get(params));
	text = json_object_to_json_string_length(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, len);
	if (text && (out = malloc(*len + 1)))
		memcpy(out, text, *len + 1);
	json_object_put(o);
	return out;
}

static void decode_error(struct json_object *error, struct rpc_answer *a)
{
	struct json_object *code = NULL, *message = NULL, *data = NULL;

	json_object_object_get_ex(error, "code", &code);
	json_object_object_get_ex(error, "message", &message);
	json_object_object_get_ex(error, "data", &data);
	a->outcome = RPC_OUTCOME_ERROR;
	a->code = json_object_get_int(code);
	bytes_to_cstr(bytes_str(message ? json_object_get_string(message) : "unnamed error"),
		      a->text, sizeof a->text);
	a->data = json_object_get(data);
}

void rpc_decode_answer(const void *data, size_t len, uint32_t id, struct rpc_answer *answer)
{
	struct json_object *o = len <= RPC_BODY_MAX_BYTES ? rpc_parse(data, len, NULL) : NULL;
	struct json_object *error = NULL, *result = NULL, *got_id = NULL;

	*answer = (struct rpc_answer){0};
	json_object_object_get_ex(o, "error", &error);
	json_object_object_get_ex(o, "id", &got_id);
	if (json_object_is_type(error, json_type_object)) {
		decode_error(error, answer);
	} else if (!json_object_is_type(o, json_type_object) ||
		   !json_object_object_get_ex(o, "result", &result)) {
		answer_down(answer, -EPROTO, "the answer is not JSON-RPC");
	} else if (!json_object_is_type(got_id, json_type_int) ||
		   json_object_get_uint64(got_id) != id) {
		answer_down(answer, -EPROTO, "the answer belongs to another call");
	} else {
		answer->outcome = RPC_OUTCOME_RESULT;
		answer->result = json_object_get(result);
	}
	json_object_put(o);
}

void rpc_answer_free(struct rpc_answer *answer)
{
	json_object_put(answer->result);
	json_object_put(answer->data);
	answer->result = answer->data = NULL;
}

static void client_free(struct rpc_client *c)
{
	if (c->req)
		evhttp_cancel_request(c->req);
	if (c->conn)
		evhttp_connection_free(c->conn);
	event_drop(c->timer);
	rpc_answer_free(&c->answer);
	free(c);
}

void rpc_client_cancel(struct rpc_client *call)
{
	client_free(call);
}

/* Either the deadline has passed, or an answer is ready and evhttp is off the stack. */
static void finish(evutil_socket_t fd, short what, void *arg)
{
	struct rpc_client *c = arg;
	rpc_client_cb *cb = c->cb;

	(void)fd;
	(void)what;
	if (c->req)
		answer_down(&c->answer, -ETIMEDOUT, "no answer in time");
	cb(&c->answer, c->arg);
	client_free(c);
}

static void answer_from_http(struct rpc_client *c, struct evhttp_request *req)
{
	struct evbuffer *in = evhttp_request_get_input_buffer(req);
	size_t len = evbuffer_get_length(in);
	const unsigned char *body = len ? evbuffer_pullup(in, -1) : NULL;
	int status = evhttp_request_get_response_code(req);
	char text[64];

	rpc_decode_answer(body ? body : (const unsigned char *)"", body ? len : 0, CALL_ID,
			  &c->answer);
	if (c->answer.outcome == RPC_OUTCOME_DOWN && status != HTTP_OK) {
		cstr_print(text, sizeof text, "HTTP status %d", status);
		answer_down(&c->answer, -EPROTO, text);
	}
}

/* On loopback the refusal comes so soon that errno is of something else by then. */
static bool is_connect_error(int err)
{
	static const int all[] = {ECONNREFUSED, EHOSTUNREACH, ENETUNREACH,  ETIMEDOUT,
				  ECONNRESET,	ENETDOWN,     EHOSTDOWN,    EACCES,
				  EPERM,	ENOPROTOOPT,  EADDRNOTAVAIL};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (all[i] == err)
			return true;
	return false;
}

/* evhttp tells nobody why a connect failed; its bufferevent does, once, and then errno is gone. */
static void on_connecting(struct bufferevent *bev, short what, void *arg)
{
	struct rpc_client *c = arg;
	int saved = errno;

	if (what & BEV_EVENT_ERROR)
		c->error = is_connect_error(saved) ? saved : ECONNREFUSED;
	bufferevent_setcb(bev, c->on_read, c->on_write, c->on_event, c->ev_arg);
	errno = saved;
	c->on_event(bev, what, c->ev_arg); /* `c` may be gone after it */
}

static void watch_connect(struct rpc_client *c)
{
	struct bufferevent *bev = evhttp_connection_get_bufferevent(c->conn);

	bufferevent_getcb(bev, &c->on_read, &c->on_write, &c->on_event, &c->ev_arg);
	if (c->on_event)
		bufferevent_setcb(bev, c->on_read, c->on_write, on_connecting, c);
}

/* Why nothing could be sent there at all: the kernel has no way, or may not use it.  It says so for
 * a datagram as well, without sending one. */
static int no_way(struct evhttp_connection *conn)
{
	struct net_addr a;
	struct sockaddr_storage ss;
	socklen_t len;
	char *host = NULL;
	uint16_t port = 0;
	int fd, err = 0;

	evhttp_connection_get_peer(conn, &host, &port);
	if (!host || net_addr_parse(&a, host, port) != 0)
		return EHOSTUNREACH;
	len = sockaddr_from_net(&ss, &a);
	fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&ss, len) != 0)
		err = errno;
	if (fd >= 0)
		close(fd);
	return err ? err : EHOSTUNREACH;
}

static void request_error(enum evhttp_request_error error, void *arg)
{
	struct rpc_client *c = arg;

	if (c->error) /* it did not even connect */
		return;
	switch (error) {
	case EVREQ_HTTP_TIMEOUT:
		c->error = ETIMEDOUT;
		break;
	case EVREQ_HTTP_DATA_TOO_LONG:
		c->error = EMSGSIZE;
		break;
	case EVREQ_HTTP_EOF: /* evhttp has this for a connect that fails at once too */
		c->error = c->starting ? no_way(c->conn) : ECONNRESET;
		break;
	default:
		c->error = EPROTO;
	}
}

static void request_done(struct evhttp_request *req, void *arg)
{
	struct rpc_client *c = arg;

	c->req = NULL;
	if (req && evhttp_request_get_response_code(req) != 0) {
		answer_from_http(c, req);
	} else {
		if (!c->error)
			c->error = ECONNREFUSED; /* only a connect that failed has none */
		answer_down(&c->answer, -c->error, strerror(c->error));
	}
	event_active(c->timer, EV_TIMEOUT, 0);
}

static int client_send(struct rpc_client *c, const struct rpc_target *t, const char *method,
		       struct json_object *params)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(c->req);
	size_t len = 0;
	char *text = rpc_encode_call(CALL_ID, method, params, &len);
	char host[300], bearer[300];
	int err;

	cstr_print(host, sizeof host, strchr(t->host, ':') ? "[%s]:%u" : "%s:%u", t->host, t->port);
	err = !text || evhttp_add_header(headers, "Host", host) ||
	      evhttp_add_header(headers, "Content-Type", "application/json") ||
	      evhttp_add_header(headers, "Connection", "close") ||
	      evbuffer_add(evhttp_request_get_output_buffer(c->req), text, len);
	free(text);
	if (!err && t->token && *t->token) {
		cstr_print(bearer, sizeof bearer, "Bearer %s", t->token);
		err = evhttp_add_header(headers, "Authorization", bearer);
	}
	if (err) {
		evhttp_request_free(c->req);
		c->req = NULL;
		return -ENOMEM;
	}
	return 0;
}

/* From here on evhttp owns the request; an error at once is answered from the loop like any other.
 */
static void client_start(struct rpc_client *c)
{
	struct evhttp_request *req = c->req;

	c->starting = true;
	if (evhttp_make_request(c->conn, req, EVHTTP_REQ_POST, "/") != 0 && c->req) {
		c->req = NULL;
		c->error = no_way(c->conn);
		answer_down(&c->answer, -c->error, strerror(c->error));
		event_active(c->timer, EV_TIMEOUT, 0);
	}
	c->starting = false;
	if (c->req)
		watch_connect(c);
}

struct rpc_client *rpc_client_call(struct event_base *base, const struct rpc_target *target,
				   const char *method, struct json_object *params,
				   rpc_client_cb *cb, void *arg)
{
	uint64_t timeout_us = target->timeout_us ? target->timeout_us : TIMEOUT_DEFAULT_US;
	const struct timeval tv = timer_span(timeout_us);
	struct rpc_client *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->cb = cb;
	c->arg = arg;
	c->timer = timer_new(base, finish, c);
	c->conn = evhttp_connection_base_new(base, NULL, target->host, target->port);
	c->req = evhttp_request_new(request_done, c);
	if (!c->timer || !c->conn || !c->req || event_add(c->timer, &tv) ||
	    client_send(c, target, method, params)) {
		if (c->req)
			evhttp_request_free(c->req);
		c->req = NULL;
		client_free(c);
		return NULL;
	}
	evhttp_request_set_error_cb(c->req, request_error);
	evhttp_connection_set_max_body_size(c->conn, RPC_BODY_MAX_BYTES);
	evhttp_connection_set_max_headers_size(c->conn, 16384);
	evhttp_connection_set_timeout_tv(c->conn, &tv);
	client_start(c);
	return c;
}

static void sync_done(const struct rpc_answer *answer, void *arg)
{
	struct rpc_answer *out = arg;

	*out = *answer;
	json_object_get(out->result);
	json_object_get(out->data);
}

static void call_sync(const struct rpc_target *target, const char *host, const char *method,
		      struct json_object *params, struct rpc_answer *answer)
{
	struct rpc_target numeric = *target;
	struct event_base *base = event_base_new();

	numeric.host = host;
	answer_down(answer, -ENOMEM, strerror(ENOMEM));
	if (base && rpc_client_call(base, &numeric, method, params, sync_done, answer))
		event_base_dispatch(base);
	if (base)
		event_base_free(base);
}

/*
 * A name becomes an address here, so that evhttp need not look it up and a failure is told well. It
 * may have several ("localhost": ::1 and 127.0.0.1) of which not all answer: the next is tried
 * while a connection is refused.
 */
void rpc_client_sync(const struct rpc_target *target, const char *method,
		     struct json_object *params, struct rpc_answer *answer)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	char host[NI_MAXHOST];
	int err = getaddrinfo(target->host, NULL, &hints, &list);

	*answer = (struct rpc_answer){0};
	answer_down(answer, -ENXIO, "");
	if (err)
		cstr_print(answer->text, sizeof answer->text, "%s: %s", target->host,
			   gai_strerror(err));
	for (struct addrinfo *a = list; a; a = a->ai_next) {
		if (getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof host, NULL, 0,
				NI_NUMERICHOST))
			continue;
		call_sync(target, host, method, params, answer);
		if (answer->outcome != RPC_OUTCOME_DOWN || answer->code != -ECONNREFUSED)
			break;
	}
	if (list)
		freeaddrinfo(list);
}
