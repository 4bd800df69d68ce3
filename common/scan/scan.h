/*
 * Network modules: how to walk one kind of network looking for hosts.  A module is one file with
 * one constant table; null.c is the template to copy.  `parse` is pure (bytes of the real daemon's
 * answer in, hosts and links out, so that fixtures and the fuzzer reach it); `query` is the I/O
 * that gets those bytes.
 */
#ifndef SCAN_SCAN_H
#define SCAN_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/prefix.h"

#define SCAN_ANSWER_MAX_BYTES (16u << 20)
#define SCAN_HOSTS_MAX 65536u
#define SCAN_NAME_MAX 128
#define SCAN_WHY_MAX 160

struct event_base;

/* A host by its address, or (address family 0) by a name that only its network understands. */
struct scan_host {
	struct net_addr addr;
	char name[SCAN_NAME_MAX]; /* key, router id, ...; "" when it has none */
};

struct scan_link {
	struct scan_host a, b;
	uint32_t cost; /* as the network counts; 0: unknown */
};

/* Where a parser puts what it finds; the values live during the call.  Non-zero ends the parse and
 * is returned by it. */
struct scan_sink {
	int (*host)(const struct scan_host *host, void *ctx);
	int (*link)(const struct scan_link *link, void *ctx);
	void *ctx;
};

/* `data` is the whole answer, valid during the call; err 0, or -errno and `why`. */
typedef void scan_answer_cb(int err, const char *why, const uint8_t *data, size_t len, void *arg);

struct scan_module {
	const char *name; /* section of the configuration, "how" in what was found */

	/* Is this network here?  0, or -errno and why not (SCAN_WHY_MAX bytes). */
	int (*probe)(char *why);
	/* Pure.  0, -EBADMSG for what is no answer of this network, -E2BIG, or the sink's value. */
	int (*parse)(const uint8_t *data, size_t len, const struct scan_sink *sink);
	/*
	 * Asks about `host` (NULL: our own); `cb` is called once, from the event loop.  Modules
	 * that only know the whole network at once answer -ENOTSUP for other hosts.  *request is
	 * for query_cancel.
	 */
	int (*query)(void **request, struct event_base *base, const struct scan_host *host,
		     uint64_t timeout_us, scan_answer_cb *cb, void *arg);
	void (*query_cancel)(void *request);
};

extern const struct scan_module scan_null;
#endif
