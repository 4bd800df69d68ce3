/* The token of an RPC that is open to more than loopback. */
#ifndef IO_RPCTOKEN_H
#define IO_RPCTOKEN_H

#include "io/daemon.h"

#define RPC_TOKEN_MAX 256

/*
 * `configured` when it is not empty.  Otherwise, when one of the addresses in `listen` (a comma
 * separated list) is not loopback, the token in STATEDIR/NAME-rpc.key, which is made at the first
 * start (mode 0600; the path is logged, never the token).  Otherwise "".  0, -EINVAL (too long or
 * not printable; logged) or another -errno (logged).
 */
int rpc_token_get(const struct daemon *d, const char *configured, const char *listen,
		  char out[RPC_TOKEN_MAX]);
#endif
