/*
 * Network modules: how to walk one kind of network looking for hosts.  A module is one file with
 * one constant table; null.c is the template to copy.  `parse` is pure (bytes of the real daemon's
 * answer in, hosts and links out, so that fixtures and the fuzzer reach it); `query` is the I/O
 * that gets those bytes.  exchange.h helps with talking, text.h with reading.
 *
 * Where several answers are needed, `query` joins them to one text that `parse` takes apart.
 */
#ifndef SCAN_SCAN_H
#define SCAN_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/nethost.h"

#define SCAN_ANSWER_MAX_BYTES (16u << 20)
#define SCAN_MODULES_MAX 16
#define SCAN_WHY_MAX 160

struct config;
struct event_base;

struct scan_env {
	struct event_base *base;
	const struct config *cfg; /* stable; the module reads its own section */
	uint64_t timeout_us;	  /* of a query */
};

/* Where a parser puts what it finds; the values live during the call.  Non-zero ends the parse and
 * is returned by it.  Hosts and links may come more than once. */
struct scan_sink {
	int (*host)(const struct net_host *host, void *ctx);
	int (*link)(const struct net_link *link, void *ctx);
	void *ctx;
};

/* `data` is the whole answer, valid during the call; err 0, or -errno and `why`. */
typedef void scan_answer_cb(int err, const char *why, const uint8_t *data, size_t len, void *arg);

struct scan_module {
	const char *name; /* section of the configuration, "how" in what was found */
	/* Hosts other than our own can be asked, by the name that this network gave them. */
	bool walks;
	/* Is this network here?  0, or -errno and why not (SCAN_WHY_MAX bytes).  Quick. */
	int (*probe)(const struct scan_env *env, char *why);
	/* Pure.  0, -EBADMSG for what is no answer of this network, -E2BIG, -ENOMEM, or the sink's
	 * value. */
	int (*parse)(const uint8_t *data, size_t len, const struct scan_sink *sink);
	/*
	 * Asks about `host` (copied; NULL: our own); `cb` is called once, from the event loop, not
	 * from inside this call.  *request is for query_cancel and dead once `cb` is called.
	 * -ENOTSUP for other hosts unless it `walks`.  On an error `cb` is not called.
	 */
	int (*query)(void **request, const struct scan_env *env, const struct net_host *host,
		     scan_answer_cb *cb, void *arg);
	void (*query_cancel)(void *request);
};

/* NULL when there is no such module; `null` is not among them. */
const struct scan_module *scan_module_find(const char *name);
/* All, ends with NULL; the order is their number for those who keep sets of them. */
const struct scan_module *const *scan_modules(void);

extern const struct scan_module scan_null;
extern const struct scan_module scan_kernel, scan_l2, scan_babel, scan_bird, scan_frr, scan_olsr,
	scan_batman, scan_yggdrasil, scan_cjdns, scan_mesh;
#endif
