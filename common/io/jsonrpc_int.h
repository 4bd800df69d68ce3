/* What the files of rpc_server share. */
#ifndef IO_JSONRPC_INT_H
#define IO_JSONRPC_INT_H

#include <sys/queue.h>

#include "io/jsonrpc.h"

#define RPC_TABLES_MAX 16

struct rpc_table {
	const struct rpc_method *methods;
	size_t count;
	void *arg;
};

TAILQ_HEAD(request_list, rpc_request);

#define RPC_KEPT_REQUEST_MAX 256u

/* One answer, for all who ask the same (jsonrpc_kept.c).  Zeroes: none. */
struct rpc_kept {
	char request[RPC_KEPT_REQUEST_MAX];
	size_t len, id_at, id_count;
	char *answer; /* NULL: there is none */
	size_t rest_len;
	rpc_fresh *fresh;
	void *arg;
};
/* The call as it came, and what rpc_keep was given. */
struct rpc_kept_call {
	const char *text;
	size_t len;
	rpc_fresh *fresh; /* NULL: it is not to be kept */
	void *arg;
};
void rpc_kept_clear(struct rpc_kept *k);
/* Of a single call, by version 2.0; keeps nothing when the id cannot be told from the rest. */
void rpc_kept_put(struct rpc_kept *k, const struct rpc_kept_call *c, const char *answer,
		  size_t len);
/* NULL: it has to be answered anew.  Valid until the next call. */
const char *rpc_kept_find(struct rpc_kept *k, const char *text, size_t len, size_t *answer_len);

struct rpc_server {
	struct rpc_table tables[RPC_TABLES_MAX];
	const char *shapes[RPC_TABLES_MAX]; /* SHAPES */
	size_t table_count, shape_table_count;
	const struct rpc_about *about; /* NULL: nothing is said */
	struct request_list pending;
	size_t pending_count;
	uint64_t refused_busy;
	struct rpc_kept kept;
};

/* A rpc_shape_find; its argument is the server. */
rpc_shape_find rpc_server_shape;
/* Whether strangers may not call it.  Discovery tells them only where they may call something. */
bool rpc_needs_right(const struct rpc_server *server, const struct rpc_method *method);

/* rpc.discover; its argument is the server. */
extern const struct rpc_method rpc_discover_method;
#endif
