#include "io/cjdns.h"

#include <errno.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/id.h"
#include "base/log.h"
#include "io/clock.h"
#include "io/sockaddr.h"
#include "io/timer.h"

#define RESEND_US 700000u
#define COOKIE_US 8000000u /* of 20 s that the server keeps it */
#define HASH_TEXT (2 * crypto_hash_sha256_BYTES)
#define COOKIE_MAX 64
#define KEY_CHARS 52 /* and ".k" */

struct call {
	TAILQ_ENTRY(call) link;
	char function[64], txid[24];
	uint8_t *args;
	size_t args_len;
	uint64_t timeout_us, deadline_us, sent_us; /* sent_us 0: waits for its turn */
	bool retried;				   /* once more with a new cookie */
	cjdns_cb *cb;
	void *arg;
};
TAILQ_HEAD(calls, call);

struct cjdns {
	int fd;
	struct event *readable, *timer;
	char *password;
	uint8_t cookie[COOKIE_MAX];
	size_t cookie_len;
	uint64_t cookie_at_us, asked_cookie_us, counter;
	struct calls calls;
	size_t count, sent;
	bool *closed; /* set while a callback runs: the client is gone */
	uint8_t rx[CJDNS_MESSAGE_MAX];
};

/* ---- pure ---- */

/* The hash stands where it will stand while it is counted. */
static size_t encode(uint8_t *out, size_t size, const char *function, struct bytes args,
		     struct bytes cookie, const char *txid, const char *hash)
{
	struct wbuf w = wbuf_init(out, size);

	benc_put_mark(&w, 'd');
	benc_put_text(&w, "aq");
	benc_put_text(&w, function);
	benc_put_text(&w, "args");
	if (args.len)
		wbuf_copy(&w, args.data, args.len);
	else
		wbuf_copy(&w, "de", 2);
	benc_put_text(&w, "cookie");
	benc_put_string(&w, cookie);
	benc_put_text(&w, "hash");
	benc_put_text(&w, hash);
	benc_put_text(&w, "q");
	benc_put_text(&w, "auth");
	benc_put_text(&w, "txid");
	benc_put_text(&w, txid);
	benc_put_mark(&w, 'e');
	return w.bad ? 0 : wbuf_len(&w);
}

static void hash_hex(crypto_hash_sha256_state *state, char out[HASH_TEXT + 1])
{
	uint8_t hash[crypto_hash_sha256_BYTES];

	crypto_hash_sha256_final(state, hash);
	hex_encode(hash, sizeof hash, out);
}

size_t cjdns_request(uint8_t *out, size_t size, const char *function, struct bytes args,
		     struct bytes cookie, const char *password, const char *txid)
{
	crypto_hash_sha256_state state;
	char hash[HASH_TEXT + 1];
	size_t len;

	crypto_hash_sha256_init(&state);
	crypto_hash_sha256_update(&state, (const uint8_t *)password, strlen(password));
	crypto_hash_sha256_update(&state, cookie.data, cookie.len);
	hash_hex(&state, hash);
	len = encode(out, size, function, args, cookie, txid, hash);
	if (!len)
		return 0;
	crypto_hash_sha256_init(&state);
	crypto_hash_sha256_update(&state, out, len);
	hash_hex(&state, hash);
	return encode(out, size, function, args, cookie, txid, hash);
}

struct bytes cjdns_key(struct bytes node)
{
	size_t want = KEY_CHARS + 2;

	if (node.len < want || memcmp(node.data + node.len - 2, ".k", 2) != 0 ||
	    (node.len > want && node.data[node.len - want - 1] != '.'))
		return (struct bytes){0};
	return bytes_of(node.data + node.len - want, want);
}

/* Base 32 of cjdns: five bits a digit, the lowest first. */
static bool key_decode(const uint8_t *text, uint8_t out[32])
{
	static const char digits[] = "0123456789bcdfghjklmnpqrstuvwxyz";
	uint32_t bits = 0;
	unsigned have = 0;
	size_t n = 0;

	for (size_t i = 0; i < KEY_CHARS; i++) {
		const char *at = text[i] ? strchr(digits, text[i]) : NULL;
		if (!at)
			return false;
		bits |= (uint32_t)(at - digits) << have;
		have += 5;
		if (have >= 8 && n < 32) {
			out[n++] = (uint8_t)bits;
			bits >>= 8;
			have -= 8;
		}
	}
	return n == 32 && bits == 0;
}

int cjdns_address(struct net_addr *out, struct bytes key)
{
	struct bytes text = cjdns_key(key);
	uint8_t pub[32], hash[crypto_hash_sha512_BYTES];

	if (!text.len || !key_decode(text.data, pub))
		return -EINVAL;
	crypto_hash_sha512(hash, pub, sizeof pub);
	crypto_hash_sha512(hash, hash, sizeof hash);
	if (hash[0] != 0xfc)
		return -EINVAL;
	*out = (struct net_addr){.family = 6};
	memcpy(out->ip, hash, 16);
	return 0;
}

/* ---- calls ---- */

static void call_free(struct cjdns *c, struct call *call)
{
	TAILQ_REMOVE(&c->calls, call, link);
	c->count--;
	c->sent -= call->sent_us != 0;
	free(call->args);
	free(call);
}

/* False: the client was closed by the callback. */
static bool call_end(struct cjdns *c, struct call *call, int err, const char *why,
		     const struct benc *answer)
{
	cjdns_cb *cb = call->cb;
	void *arg = call->arg;
	bool closed = false;

	call_free(c, call);
	c->closed = &closed;
	cb(err, why, answer, arg);
	if (!closed)
		c->closed = NULL;
	return !closed;
}

static void fail_all(struct cjdns *c, int err, const char *why)
{
	/* Not those that a callback adds. */
	for (size_t n = c->count; n && !TAILQ_EMPTY(&c->calls); n--)
		if (!call_end(c, TAILQ_FIRST(&c->calls), err, why, NULL))
			return;
}

static void send_bytes(struct cjdns *c, const void *data, size_t len)
{
	if (len && send(c->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
		log_debug("cjdns: %s", strerror(errno));
}

static bool cookie_fresh(const struct cjdns *c, uint64_t now)
{
	return c->cookie_len && now < c->cookie_at_us + COOKIE_US;
}

static void ask_cookie(struct cjdns *c, uint64_t now)
{
	static const char question[] = "d1:q6:cookie4:txid6:cookiee";

	if (c->asked_cookie_us && now < c->asked_cookie_us + RESEND_US)
		return;
	c->asked_cookie_us = now;
	send_bytes(c, question, sizeof question - 1);
}

static void call_send(struct cjdns *c, struct call *call, uint64_t now)
{
	uint8_t out[CJDNS_ARGS_MAX + 512];

	if (!call->sent_us)
		c->sent++;
	call->sent_us = now;
	send_bytes(c, out,
		   cjdns_request(out, sizeof out, call->function,
				 bytes_of(call->args, call->args_len),
				 bytes_of(c->cookie, c->cookie_len), c->password, call->txid));
}

/* Sends what may go, and looks again when something must be sent again or is too late. */
static void pump(struct cjdns *c)
{
	uint64_t now = daemon_now_us(), next = now + RESEND_US;
	struct call *call, *then;

	for (call = TAILQ_FIRST(&c->calls); call; call = then) {
		then = TAILQ_NEXT(call, link);
		if (!call->deadline_us && (call->sent_us || c->sent < CJDNS_SENT_MAX))
			call->deadline_us = now + call->timeout_us;
		if (call->deadline_us && now >= call->deadline_us) {
			if (!call_end(c, call, -ETIMEDOUT, "cjdns does not answer", NULL))
				return;
			then = TAILQ_FIRST(&c->calls);
			continue;
		}
		if (!cookie_fresh(c, now))
			ask_cookie(c, now);
		else if (call->sent_us ? now >= call->sent_us + RESEND_US
				       : c->sent < CJDNS_SENT_MAX)
			call_send(c, call, now);
		if (call->deadline_us && call->deadline_us < next)
			next = call->deadline_us;
	}
	if (TAILQ_EMPTY(&c->calls)) {
		evtimer_del(c->timer);
		return;
	}
	uint64_t wait = next > now ? next - now : 1000;
	timer_in(c->timer, wait);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	pump(arg);
}

static void take_cookie(struct cjdns *c, struct bytes cookie)
{
	if (cookie.len > sizeof c->cookie)
		return;
	memcpy(c->cookie, cookie.data, cookie.len);
	c->cookie_len = cookie.len;
	c->cookie_at_us = daemon_now_us();
	c->asked_cookie_us = 0;
}

static struct call *call_of(struct cjdns *c, struct bytes txid)
{
	struct call *call;

	TAILQ_FOREACH(call, &c->calls, link) {
		if (call->sent_us && bytes_equal(bytes_str(call->txid), txid))
			return call;
	}
	return NULL;
}

/* False: the client is gone. */
static bool take_answer(struct cjdns *c, const struct benc *answer)
{
	struct bytes cookie = benc_get_text(answer, "cookie"),
		     error = benc_get_text(answer, "error");
	struct call *call = call_of(c, benc_get_text(answer, "txid"));
	char why[CJDNS_WHY_MAX];

	if (cookie.len)
		take_cookie(c, cookie);
	if (!call)
		return true;
	bytes_to_cstr(error, why, sizeof why);
	if (strncmp(why, "Auth failed", 11) == 0) {
		if (call->retried)
			return call_end(c, call, -EACCES, "cjdns: wrong admin password", answer);
		/* The cookie may have been too old: once more with a new one. */
		call->retried = true;
		call->sent_us = 0;
		c->sent--;
		c->cookie_len = 0;
		return true;
	}
	bool ok = !error.len || strcmp(why, "none") == 0;
	return call_end(c, call, ok ? 0 : -EREMOTEIO, ok ? "" : why, answer);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct cjdns *c = arg;
	struct benc answer;

	(void)what;
	for (int i = 0; i < 32; i++) {
		ssize_t n = recv(fd, c->rx, sizeof c->rx, MSG_DONTWAIT);
		if (n < 0 && errno == ECONNREFUSED) {
			fail_all(c, -ECONNREFUSED, "cjdns's admin interface is not there");
			return;
		}
		if (n < 0)
			break;
		if (benc_parse(&answer, c->rx, (size_t)n) == 0 && !take_answer(c, &answer))
			return;
	}
	pump(c);
}

int cjdns_call(struct cjdns *c, const char *function, struct bytes args, uint64_t timeout_us,
	       cjdns_cb *cb, void *arg)
{
	struct call *call;

	if (args.len > CJDNS_ARGS_MAX || strlen(function) >= sizeof call->function)
		return -E2BIG;
	if (c->count >= CJDNS_CALLS_MAX)
		return -ENOSPC;
	call = calloc(1, sizeof *call);
	if (!call || (args.len && !(call->args = malloc(args.len)))) {
		free(call);
		return -ENOMEM;
	}
	cstr_copy(call->function, sizeof call->function, function);
	cstr_print(call->txid, sizeof call->txid, "%llx", (unsigned long long)++c->counter);
	if (args.len)
		memcpy(call->args, args.data, args.len);
	call->args_len = args.len;
	call->timeout_us = timeout_us ? timeout_us : CJDNS_TIMEOUT_US;
	call->cb = cb;
	call->arg = arg;
	TAILQ_INSERT_TAIL(&c->calls, call, link);
	c->count++;
	/* From the loop, so that no callback comes from inside this. */
	static const struct timeval at_once = {0, 0};
	return evtimer_add(c->timer, &at_once) ? -ENOMEM : 0;
}

/* ---- begin and end ---- */

static int open_socket(struct cjdns *c, const struct net_addr *addr)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_from_net(&ss, addr);

	if (!len)
		return -EINVAL;
	c->fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&ss, len))
		return -errno;
	return 0;
}

int cjdns_open(struct cjdns **out, struct event_base *base, const struct net_addr *addr,
	       const char *password)
{
	struct cjdns *c = calloc(1, sizeof *c);
	uint64_t random;
	int err;

	if (!c)
		return -ENOMEM;
	c->fd = -1;
	TAILQ_INIT(&c->calls);
	if (sodium_init() < 0)
		err = -EIO;
	else
		err = open_socket(c, addr);
	if (!err) {
		randombytes_buf(&random, sizeof random);
		c->counter = random >> 16;
		c->password = strdup(password);
		c->readable = event_new(base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
		c->timer = timer_new(base, on_timer, c);
		if (!c->password || !c->readable || !c->timer || event_add(c->readable, NULL))
			err = -ENOMEM;
	}
	if (err) {
		cjdns_close(c);
		return err;
	}
	*out = c;
	return 0;
}

void cjdns_close(struct cjdns *c)
{
	struct call *call;

	if (!c)
		return;
	if (c->closed)
		*c->closed = true;
	while ((call = TAILQ_FIRST(&c->calls)))
		call_free(c, call);
	event_drop(c->readable);
	event_drop(c->timer);
	if (c->fd >= 0)
		close(c->fd);
	if (c->password)
		sodium_memzero(c->password, strlen(c->password));
	free(c->password);
	free(c);
}
