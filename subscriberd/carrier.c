#include "subscriberd/carrier.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/clock.h"
#include "io/timer.h"
#include "libmeshapp/meshapp.h"

struct call {
	TAILQ_ENTRY(call) queue;
	struct carrier *carrier;
	struct peer *peer;	 /* over the mesh */
	struct rpc_client *http; /* over HTTP */
	struct event *timer;	 /* timeout; or "now", for a failure that is known at once */
	uint32_t id;
	uint64_t sent_us; /* 0: waits for the stream */
	bool fresh;	  /* the stream was made for it: no round trip can be told */
	char *text;	  /* the request, until it is sent */
	size_t text_len;
	int fail_errno;
	carrier_cb *cb;
	void *arg;
};
TAILQ_HEAD(calls, call);

struct peer {
	TAILQ_ENTRY(peer) queue;
	struct carrier *carrier;
	struct mesh_id node;
	char app[NAME_MAX_BYTES + 1];
	struct meshconn *conn; /* NULL: none */
	struct calls calls;
	size_t call_count;
};
TAILQ_HEAD(peers, peer);

struct carrier {
	struct event_base *base;
	struct meshapp *app;
	struct peers peers;
	size_t peer_count;
	struct calls others; /* HTTP calls, and those that failed at once */
	uint32_t next_id;
};

struct carrier *carrier_new(struct event_base *base, struct meshapp *app)
{
	struct carrier *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->base = base;
	c->app = app;
	TAILQ_INIT(&c->peers);
	TAILQ_INIT(&c->others);
	return c;
}

static void call_free(struct call *k)
{
	if (k->peer) {
		TAILQ_REMOVE(&k->peer->calls, k, queue);
		k->peer->call_count--;
	} else {
		TAILQ_REMOVE(&k->carrier->others, k, queue);
	}
	if (k->http)
		rpc_client_cancel(k->http);
	event_drop(k->timer);
	free(k->text);
	free(k);
}

static void peer_free(struct peer *p)
{
	struct call *k;
	while ((k = TAILQ_FIRST(&p->calls)))
		call_free(k);
	if (p->conn)
		meshconn_close(p->conn, CODE_CLOSED, "subscriber ends");
	TAILQ_REMOVE(&p->carrier->peers, p, queue);
	p->carrier->peer_count--;
	free(p);
}

void carrier_free(struct carrier *c)
{
	struct peer *p;
	struct call *k;
	if (!c)
		return;
	while ((p = TAILQ_FIRST(&c->peers)))
		peer_free(p);
	while ((k = TAILQ_FIRST(&c->others)))
		call_free(k);
	free(c);
}

/* Ends the call: callback, then it is gone. */
static void finish(struct call *k, const struct rpc_answer *answer)
{
	double rtt_ms =
		k->sent_us && !k->fresh ? (double)(daemon_now_us() - k->sent_us) / 1000.0 : 0;
	carrier_cb *cb = k->cb;
	void *arg = k->arg;

	call_free(k);
	cb(answer, rtt_ms, arg);
}

static void finish_down(struct call *k, int err, const char *text)
{
	struct rpc_answer a = {.outcome = RPC_OUTCOME_DOWN, .code = -err};
	cstr_copy(a.text, sizeof a.text, text);
	finish(k, &a);
}

static void on_call_timer(evutil_socket_t fd, short what, void *arg)
{
	struct call *k = arg;
	(void)fd;
	(void)what;
	if (k->fail_errno)
		finish_down(k, k->fail_errno, strerror(k->fail_errno));
	else
		finish_down(k, ETIMEDOUT, "no answer in time");
}

/* --- over the mesh ------------------------------------------------------------------------ */

static void send_waiting(struct peer *p)
{
	struct call *k;
	TAILQ_FOREACH(k, &p->calls, queue) {
		if (!k->text || meshconn_send(p->conn, k->text, k->text_len) != 0)
			continue;
		k->sent_us = daemon_now_us();
		free(k->text);
		k->text = NULL;
	}
}

static void on_up(struct meshconn *conn)
{
	send_waiting(meshconn_arg(conn));
}

static void on_message(struct meshconn *conn, const uint8_t *data, size_t len)
{
	struct peer *p = meshconn_arg(conn);
	struct call *k;

	TAILQ_FOREACH(k, &p->calls, queue) {
		struct rpc_answer answer;
		if (k->text)
			continue;
		rpc_decode_answer(data, len, k->id, &answer);
		/* An answer to another call is no valid answer to this one. */
		bool ours = answer.outcome != RPC_OUTCOME_DOWN;
		if (ours)
			finish(k, &answer);
		rpc_answer_free(&answer);
		if (ours)
			return;
	}
}

/* The calls end from their timers: a callback may call again, which opens a new stream. */
static void on_closed(struct meshconn *conn, uint16_t code, const char *reason)
{
	struct peer *p = meshconn_arg(conn);
	static const struct timeval now = {0, 0};
	struct call *k;

	log_debug("stream to gateway %s ended: %s %s", p->app, msg_code_name(code), reason);
	p->conn = NULL;
	while ((k = TAILQ_FIRST(&p->calls))) {
		TAILQ_REMOVE(&p->calls, k, queue);
		TAILQ_INSERT_TAIL(&p->carrier->others, k, queue);
		k->peer = NULL;
		k->fail_errno = code == CODE_NO_ROUTE ? EHOSTUNREACH : ECONNRESET;
		evtimer_add(k->timer, &now);
	}
	p->call_count = 0;
}

static const struct meshconn_callbacks stream_callbacks = {
	.on_up = on_up,
	.consume = on_message,
	.on_closed = on_closed,
};

/* Makes room in a full table: a gateway that we ask nothing right now can be reached again later.
 */
static void drop_idle_peer(struct carrier *c)
{
	struct peer *p;
	TAILQ_FOREACH(p, &c->peers, queue)
		if (p->call_count == 0) {
			peer_free(p);
			return;
		}
}

static struct peer *peer_get(struct carrier *c, const struct sub_contact *to)
{
	struct peer *p;

	TAILQ_FOREACH(p, &c->peers, queue)
		if (mesh_id_equal(&p->node, &to->node) && strcmp(p->app, to->app) == 0)
			return p;
	if (c->peer_count >= CARRIER_PEERS_MAX)
		drop_idle_peer(c);
	if (c->peer_count >= CARRIER_PEERS_MAX || !(p = calloc(1, sizeof *p)))
		return NULL;
	p->carrier = c;
	p->node = to->node;
	memcpy(p->app, to->app, sizeof p->app);
	TAILQ_INIT(&p->calls);
	TAILQ_INSERT_TAIL(&c->peers, p, queue);
	c->peer_count++;
	return p;
}

/* 0 or a positive errno. */
static int start_mesh(struct call *k, const struct sub_contact *to)
{
	struct peer *p = k->carrier->app ? peer_get(k->carrier, to) : NULL;

	if (!p)
		return k->carrier->app ? ENOSPC : ENOTCONN;
	if (p->call_count >= CARRIER_CALLS_MAX)
		return EBUSY;
	if (!p->conn) {
		p->conn = meshapp_connect(k->carrier->app, &p->node, p->app, CLASS_STREAM,
					  &stream_callbacks, p);
		if (!p->conn)
			return errno;
	}
	k->fresh = !meshconn_is_up(p->conn);
	TAILQ_REMOVE(&k->carrier->others, k, queue);
	k->peer = p;
	TAILQ_INSERT_TAIL(&p->calls, k, queue);
	p->call_count++;
	if (!k->fresh)
		send_waiting(p);
	return 0;
}

/* --- over HTTP ---------------------------------------------------------------------------- */

static void on_http(const struct rpc_answer *answer, void *arg)
{
	struct call *k = arg;

	k->http = NULL; /* it ends with this callback; one that goes on is cancelled */
	finish(k, answer);
}

static int start_http(struct call *k, const struct sub_contact *to, const char *method,
		      struct json_object *params, uint64_t timeout_us)
{
	char host[NET_ADDR_TEXT];
	struct rpc_target target = {.host = net_addr_ip_text(&to->addr, host),
				    .port = to->addr.port,
				    .timeout_us = timeout_us};

	k->sent_us = daemon_now_us();
	k->http = rpc_client_call(k->carrier->base, &target, method, params, on_http, k);
	return k->http ? 0 : ENOMEM;
}

void carrier_call(struct carrier *c, const struct sub_contact *to, const char *method,
		  struct json_object *params, uint64_t timeout_us, carrier_cb *cb, void *arg)
{
	struct call *k = calloc(1, sizeof *k);
	struct timeval wait = timer_span(timeout_us);

	if (!k || !(k->timer = timer_new(c->base, on_call_timer, k))) {
		struct rpc_answer a = {.outcome = RPC_OUTCOME_DOWN, .code = -ENOMEM};
		free(k);
		cb(&a, 0, arg);
		return;
	}
	k->carrier = c;
	k->cb = cb;
	k->arg = arg;
	k->id = ++c->next_id;
	TAILQ_INSERT_TAIL(&c->others, k, queue);
	if (to->via == SUB_VIA_MESH) {
		k->text = rpc_encode_call(k->id, method, params, &k->text_len);
		k->fail_errno = k->text ? start_mesh(k, to) : ENOMEM;
	} else {
		k->fail_errno = start_http(k, to, method, params, timeout_us);
	}
	if (k->fail_errno)
		wait = (struct timeval){0, 0};
	evtimer_add(k->timer, &wait);
}
