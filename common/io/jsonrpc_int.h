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

struct rpc_shape_table {
	const struct rpc_shape *list;
	size_t count;
};

TAILQ_HEAD(request_list, rpc_request);

struct rpc_server {
	struct rpc_table tables[RPC_TABLES_MAX];
	struct rpc_shape_table shapes[RPC_TABLES_MAX];
	size_t table_count, shape_table_count;
	const struct rpc_about *about; /* NULL: nothing is said */
	struct request_list pending;
	size_t pending_count;
	uint64_t refused_busy;
};

/* A rpc_shape_find; its argument is the server. */
rpc_shape_find rpc_server_shape;
/* Whether strangers may not call it.  Discovery tells them only where they may call something. */
bool rpc_needs_right(const struct rpc_server *server, const struct rpc_method *method);

/* rpc.discover; its argument is the server. */
extern const struct rpc_method rpc_discover_method;
#endif
