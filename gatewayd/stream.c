#include "gatewayd/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/clock.h"
#include "io/jsonrpc.h"
#include "libmeshapp/meshapp.h"

struct stream {
	TAILQ_ENTRY(stream) link;
	struct gw_streams *all;
	struct meshconn *conn;
	struct rpc_request *waiting; /* its answer comes later */
	bool inside, failed;	     /* inside: rpc_dispatch is running for it */
};

struct gw_streams {
	struct rpc_server *server;
	TAILQ_HEAD(, stream) list;
	size_t count;
	struct log_limit full;
};

static void stream_forget(struct stream *s)
{
	if (s->waiting)
		rpc_request_abandon(s->waiting);
	TAILQ_REMOVE(&s->all->list, s, link);
	s->all->count--;
	free(s);
}

static void stream_close(struct stream *s, uint16_t code, const char *reason)
{
	meshconn_close(s->conn, code, reason);
	stream_forget(s);
}

static void on_answer(const char *text, size_t len, void *arg)
{
	struct stream *s = arg;

	s->waiting = NULL;
	if (!len || meshconn_send(s->conn, text, len) == 0)
		return;
	/* Answers are small against the credit: who lets it run out does not read. */
	s->failed = true;
	if (!s->inside)
		stream_close(s, CODE_BUSY, "answers are not read");
}

static struct rpc_ctx caller(const struct meshconn *conn)
{
	struct rpc_ctx ctx = {.over_mesh = true, .mesh_peer = *meshconn_peer_node(conn)};

	cstr_copy(ctx.mesh_app, sizeof(ctx.mesh_app), meshconn_peer_app(conn));
	return ctx;
}

static void on_data(struct meshconn *conn, const uint8_t *data, size_t len)
{
	struct stream *s = meshconn_arg(conn);
	struct rpc_ctx ctx = caller(conn);

	if (s->waiting) {
		stream_close(s, CODE_BUSY, "one request at a time");
		return;
	}
	if (len > RPC_BODY_MAX_BYTES) {
		stream_close(s, CODE_INVALID, "request is too large");
		return;
	}
	s->inside = true;
	s->waiting = rpc_dispatch(s->all->server, data, len, &ctx, on_answer, s);
	s->inside = false;
	if (s->failed)
		stream_close(s, CODE_BUSY, "answers are not read");
}

static void on_closed(struct meshconn *conn, uint16_t code, const char *reason)
{
	(void)code, (void)reason;
	stream_forget(meshconn_arg(conn));
}

static bool has_room(struct gw_streams *all, const struct mesh_id *node)
{
	const struct stream *s;
	size_t same = 0;

	TAILQ_FOREACH(s, &all->list, link)
		same += mesh_id_equal(meshconn_peer_node(s->conn), node);
	return all->count < GW_STREAMS_MAX && same < GW_STREAMS_PER_NODE_MAX;
}

bool gw_streams_accept(struct gw_streams *all, struct meshconn *conn)
{
	static const struct meshconn_callbacks cb = {.consume = on_data, .on_closed = on_closed};
	struct stream *s;

	if (!has_room(all, meshconn_peer_node(conn))) {
		if (log_limit_due(&all->full, daemon_now_us()))
			log_warn("too many RPC connections over the mesh (%llu refused so far)",
				 (unsigned long long)all->full.count);
		return false;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return false;
	s->all = all;
	s->conn = conn;
	TAILQ_INSERT_TAIL(&all->list, s, link);
	all->count++;
	meshconn_set_callbacks(conn, &cb, s);
	return true;
}

struct gw_streams *gw_streams_new(struct rpc_server *server)
{
	struct gw_streams *all = calloc(1, sizeof(*all));

	if (!all)
		return NULL;
	all->server = server;
	TAILQ_INIT(&all->list);
	return all;
}

void gw_streams_free(struct gw_streams *all)
{
	struct stream *s;

	if (!all)
		return;
	while ((s = TAILQ_FIRST(&all->list)))
		stream_close(s, CODE_CLOSED, "the gateway ends");
	free(all);
}
