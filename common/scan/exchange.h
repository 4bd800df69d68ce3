/*
 * Talking to a routing daemon: a stream socket (Unix or TCP) on which one question after the other
 * is sent, with limits of time and size; and answers that are there at once.
 */
#ifndef SCAN_EXCHANGE_H
#define SCAN_EXCHANGE_H

#include "base/buf.h"
#include "scan/scan.h"

struct scan_exchange;

/*
 * Something came: `all` is what has come so far (never empty), since the beginning.  Returns 0 when
 * more is wanted, 1 when the answer is whole, or -errno.  It may send.  `ended`: nothing more will
 * come (0 is an error then).
 */
typedef int scan_input(struct scan_exchange *x, struct bytes all, bool ended);

/* `address`: "/path", "unix:/path", "unix:///path", "IP:PORT", "tcp://IP:PORT" (`port` when it has
 * none).  `hello` is sent at once; may be NULL.  0, -EINVAL, -ENOMEM. */
int scan_exchange_start(struct scan_exchange **out, const struct scan_env *env, const char *address,
			uint16_t port, const char *hello, scan_input *input, scan_answer_cb *cb,
			void *arg);
void scan_exchange_send(struct scan_exchange *x, const void *data, size_t len);
void scan_exchange_print(struct scan_exchange *x, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* The module's own notes: how far it is, up to where it has looked, and some bytes. */
struct scan_notes {
	unsigned step;
	size_t seen;
	char text[512];
};
struct scan_notes *scan_exchange_notes(struct scan_exchange *x);
void scan_exchange_cancel(void *request);

/* An answer that is there already, given from the event loop: consumes `data` (malloced; may be
 * NULL with an error). */
int scan_reply_start(void **out, const struct scan_env *env, int err, const char *why,
		     uint8_t *data, size_t len, scan_answer_cb *cb, void *arg);
void scan_reply_cancel(void *request);

/* Probe of a Unix socket or TCP address as above: is it there?  Only looks at Unix paths. */
int scan_probe_address(const char *address, const char *what, char *why);
#endif
