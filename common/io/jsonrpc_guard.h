/* Who is authorised: the decision behind an rpc_http, apart from HTTP itself. */
#ifndef IO_JSONRPC_GUARD_H
#define IO_JSONRPC_GUARD_H

#include "io/jsonrpc.h"

#define RPC_NETWORKS_MAX 64

struct rpc_network {
	struct net_addr addr;
	unsigned bits;
};

struct rpc_guard {
	struct rpc_network networks[RPC_NETWORKS_MAX];
	size_t network_count;
	char *token, *names;
};

/* What a request shows of itself; the texts are header values or NULL. */
struct rpc_credentials {
	struct net_addr addr;
	bool get;
	const char *origin, *host, *authorization;
	const char *fetch_site; /* Sec-Fetch-Site: where a browser says the request was made */
};

/* Copies the spec.  -EINVAL (logged) or -ENOMEM; the guard is empty then. */
int rpc_guard_init(struct rpc_guard *g, const struct rpc_http_spec *spec);
void rpc_guard_clear(struct rpc_guard *g);
bool rpc_guard_allows(const struct rpc_guard *g, const struct rpc_credentials *c);
#endif
