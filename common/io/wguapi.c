#include "io/wguapi.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"

/* ---- answers ---- */

void wguapi_init(struct wguapi *p, wgdev_visit *visit, void *ctx)
{
	*p = (struct wguapi){.visit = visit, .ctx = ctx};
}

static void fault(struct wguapi *p, int result)
{
	if (!p->result)
		p->result = result;
}

static void peer_end(struct wguapi *p)
{
	if (p->in_peer && p->visit && !p->result)
		fault(p, p->visit(&p->peer, p->ctx));
	p->in_peer = false;
}

static void peer_begin(struct wguapi *p, const char *value)
{
	peer_end(p);
	p->peer = (struct wgdev_stat){0};
	p->in_peer = true;
	if (strlen(value) != 2 * WG_KEY_BYTES || hex_decode(value, p->peer.key, WG_KEY_BYTES))
		fault(p, -EBADMSG);
}

static uint64_t number(struct wguapi *p, const char *value)
{
	char *end;

	errno = 0;
	uint64_t n = strtoull(value, &end, 10);
	if (!isdigit((unsigned char)*value) || *end || errno)
		fault(p, -EBADMSG);
	return n;
}

/* "-22", or the positive number that the protocol speaks of. */
static void answer_errno(struct wguapi *p, const char *value)
{
	char *end;
	long n = strtol(value, &end, 10);

	if (!*value || *end || n < -4095 || n > 4095)
		fault(p, -EBADMSG);
	else if (n)
		fault(p, (int)(n < 0 ? n : -n));
}

static void peer_value(struct wguapi *p, const char *key, const char *value)
{
	if (strcmp(key, "rx_bytes") == 0)
		p->peer.rx_bytes = number(p, value);
	else if (strcmp(key, "tx_bytes") == 0)
		p->peer.tx_bytes = number(p, value);
	else if (strcmp(key, "last_handshake_time_sec") == 0)
		p->peer.handshake_s = number(p, value);
	else if (strcmp(key, "endpoint") == 0 && net_addr_parse(&p->peer.endpoint, value, 0))
		p->peer.endpoint = (struct net_addr){0}; /* with a zone: nothing we could use */
}

static void line_end(struct wguapi *p)
{
	char *value = memchr(p->line, '=', p->len);

	p->line[p->len] = '\0';
	if (p->done || (p->len && (!value || strlen(p->line) != p->len))) {
		fault(p, -EBADMSG);
		return;
	}
	if (p->len == 0) {
		peer_end(p);
		p->done = true;
		return;
	}
	*value++ = '\0';
	if (strcmp(p->line, "errno") == 0)
		answer_errno(p, value);
	else if (strcmp(p->line, "public_key") == 0)
		peer_begin(p, value);
	else if (p->in_peer)
		peer_value(p, p->line, value);
}

void wguapi_feed(struct wguapi *p, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] == '\n') {
			line_end(p);
			p->len = 0;
		} else if (p->len < WGUAPI_LINE_MAX) {
			p->line[p->len++] = data[i];
		} else {
			fault(p, -EBADMSG);
		}
	}
	if (p->done && p->len)
		fault(p, -EBADMSG);
}

/* ---- requests ---- */

struct request {
	char *out;
	size_t len;
	bool bad;
};

static void put(struct request *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct request *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(r->out + r->len, WGUAPI_REQUEST_MAX - r->len, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= WGUAPI_REQUEST_MAX - r->len)
		r->bad = true;
	else
		r->len += (size_t)n;
}

static void put_key(struct request *r, const char *name, const uint8_t key[WG_KEY_BYTES])
{
	char hex[2 * WG_KEY_BYTES + 1];

	hex_encode(key, WG_KEY_BYTES, hex);
	put(r, "%s=%s\n", name, hex);
}

static size_t finish(struct request *r)
{
	put(r, "\n");
	return r->bad ? 0 : r->len;
}

size_t wguapi_device(char out[WGUAPI_REQUEST_MAX], const uint8_t secret[WG_KEY_BYTES],
		     uint16_t port)
{
	struct request r = {.out = out};

	put(&r, "set=1\n");
	put_key(&r, "private_key", secret);
	put(&r, "listen_port=%u\n", port);
	return finish(&r);
}

size_t wguapi_peer(char out[WGUAPI_REQUEST_MAX], const struct wgdev_peer *peer)
{
	struct request r = {.out = out};
	char text[NET_PREFIX_TEXT];

	put(&r, "set=1\n");
	put_key(&r, "public_key", peer->key);
	if (peer->psk)
		put_key(&r, "preshared_key", peer->psk);
	if (peer->endpoint.family)
		put(&r, "endpoint=%s\n", net_addr_text(&peer->endpoint, text));
	put(&r, "replace_allowed_ips=true\n");
	for (int i = 0; i < WGDEV_ALLOWED_MAX; i++)
		if (peer->allowed[i].addr.family)
			put(&r, "allowed_ip=%s\n", net_prefix_text(&peer->allowed[i], text));
	put(&r, "persistent_keepalive_interval=%u\n", peer->keepalive_s);
	return finish(&r);
}

size_t wguapi_endpoint(char out[WGUAPI_REQUEST_MAX], const uint8_t key[WG_KEY_BYTES],
		       const struct net_addr *endpoint)
{
	struct request r = {.out = out};
	char text[NET_ADDR_TEXT];

	put(&r, "set=1\n");
	put_key(&r, "public_key", key);
	put(&r, "update_only=true\nendpoint=%s\n", net_addr_text(endpoint, text));
	return finish(&r);
}

size_t wguapi_remove(char out[WGUAPI_REQUEST_MAX], const uint8_t key[WG_KEY_BYTES])
{
	struct request r = {.out = out};

	put(&r, "set=1\n");
	put_key(&r, "public_key", key);
	put(&r, "remove=true\n");
	return finish(&r);
}
