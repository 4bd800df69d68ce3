/*
 * cjdns's admin interface: bencode over UDP, each call authenticated by a cookie of the server and
 * the password of cjdroute.conf ("admin": {"bind", "password"}).  Calls are answered in any order;
 * what is lost is sent again.
 *
 *     struct wbuf args = wbuf_init(buf, sizeof buf);
 *     benc_put_mark(&args, 'd');
 *     benc_put_text(&args, "connection");
 *     benc_put_int(&args, 0);
 *     benc_put_mark(&args, 'e');
 *     cjdns_call(c, "IpTunnel_showConnection", bytes_of(buf, wbuf_len(&args)), 0, on_shown, me);
 */
#ifndef IO_CJDNS_H
#define IO_CJDNS_H

#include "base/addr.h"
#include "base/bencode.h"

#define CJDNS_MESSAGE_MAX 20000u /* the server's limit is below this */
#define CJDNS_ARGS_MAX 1500u
#define CJDNS_CALLS_MAX 256u /* of one client, answered or not yet sent */
#define CJDNS_SENT_MAX 16u   /* on the way at once */
#define CJDNS_WHY_MAX 160
#define CJDNS_TIMEOUT_US 3000000u

struct event_base;
struct cjdns;

/*
 * Once for each call, from the event loop.  err 0: `answer` is the dict, valid during the call.
 * Else `why` is a sentence: -ETIMEDOUT, -ECONNREFUSED (nobody listens there), -EACCES (wrong
 * password), -EREMOTEIO (the answer's `error`, which is the text; `answer` is there too).
 * The client may be closed from here.
 */
typedef void cjdns_cb(int err, const char *why, const struct benc *answer, void *arg);

/* 0 or -errno.  Nothing is sent before the first call. */
int cjdns_open(struct cjdns **out, struct event_base *base, const struct net_addr *addr,
	       const char *password);
/* Calls under way end without a callback.  NULL is fine. */
void cjdns_close(struct cjdns *c);
/* `args` is an encoded dict, or empty; copied.  `timeout_us` 0: CJDNS_TIMEOUT_US.  0, -E2BIG
 * (arguments), -ENOSPC (calls), -ENOMEM: then no callback. */
int cjdns_call(struct cjdns *c, const char *function, struct bytes args, uint64_t timeout_us,
	       cjdns_cb *cb, void *arg);

/* ---- pure ---- */

/* The request with its authentication; `len` 0 when it does not fit. */
size_t cjdns_request(uint8_t *out, size_t size, const char *function, struct bytes args,
		     struct bytes cookie, const char *password, const char *txid);
/* The fc00::/8 address of a public key in text ("....k", or the end of "v20.LABEL....k").
 * -EINVAL. */
int cjdns_address(struct net_addr *out, struct bytes key);
/* The same the other way round is not possible; this checks only the form and cuts a node's
 * "v20.LABEL.KEY.k" to "KEY.k".  Empty when it is none. */
struct bytes cjdns_key(struct bytes node);
#endif
