#include "base/addr.h"

#include <arpa/inet.h> /* inet_pton and inet_ntop: pure functions, no socket */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool net_addr_same_ip(const struct net_addr *a, const struct net_addr *b)
{
	return a->family == b->family && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

bool net_addr_equal(const struct net_addr *a, const struct net_addr *b)
{
	return net_addr_same_ip(a, b) && a->port == b->port;
}

bool net_addr_is_loopback(const struct net_addr *a)
{
	static const uint8_t loop6[16] = {[15] = 1};
	if (a->family == 4)
		return a->ip[0] == 127;
	return a->family == 6 && memcmp(a->ip, loop6, 16) == 0;
}

bool net_addr_same_prefix(const struct net_addr *a, const struct net_addr *b, unsigned bits)
{
	if (a->family != b->family || bits > (a->family == 4 ? 32u : 128u))
		return false;
	unsigned whole = bits / 8, rest = bits % 8;
	if (memcmp(a->ip, b->ip, whole) != 0)
		return false;
	return rest == 0 || (a->ip[whole] ^ b->ip[whole]) >> (8 - rest) == 0;
}

const char *net_addr_ip_text(const struct net_addr *a, char out[NET_ADDR_TEXT])
{
	if (a->family == 0)
		snprintf(out, NET_ADDR_TEXT, "none");
	else
		inet_ntop(a->family == 4 ? AF_INET : AF_INET6, a->ip, out, NET_ADDR_TEXT);
	return out;
}

const char *net_addr_text(const struct net_addr *a, char out[NET_ADDR_TEXT])
{
	char ip[NET_ADDR_TEXT];
	net_addr_ip_text(a, ip);
	if (a->family == 0)
		snprintf(out, NET_ADDR_TEXT, "none");
	else
		snprintf(out, NET_ADDR_TEXT, a->family == 4 ? "%.46s:%u" : "[%.46s]:%u", ip,
			 a->port);
	return out;
}

static int parse_port(const char *text, uint16_t *port)
{
	char *end;
	if (*text < '0' || *text > '9')
		return -EINVAL;
	unsigned long v = strtoul(text, &end, 10);
	if (*end || v > UINT16_MAX)
		return -EINVAL;
	*port = (uint16_t)v;
	return 0;
}

static int parse_ip(struct net_addr *a, const char *text)
{
	if (inet_pton(AF_INET, text, a->ip) == 1)
		a->family = 4;
	else if (inet_pton(AF_INET6, text, a->ip) == 1)
		a->family = 6;
	else
		return -EINVAL;
	return 0;
}

int net_addr_parse(struct net_addr *a, const char *text, uint16_t default_port)
{
	char ip[NET_ADDR_TEXT];
	const char *colon = strrchr(text, ':');
	struct net_addr v = {.port = default_port};
	const char *port = NULL;

	if (strlen(text) >= sizeof ip)
		return -EINVAL;
	memcpy(ip, text, strlen(text) + 1);
	if (text[0] == '[') {
		char *close = strchr(ip, ']');
		if (!close || (close[1] && close[1] != ':'))
			return -EINVAL;
		port = close[1] ? text + (close - ip) + 2 : NULL;
		*close = '\0';
		memmove(ip, ip + 1, strlen(ip));
	} else if (colon && strchr(text, ':') == colon) {
		ip[colon - text] = '\0';
		port = colon + 1;
	}
	if (parse_ip(&v, ip) || (port && parse_port(port, &v.port)))
		return -EINVAL;
	*a = v;
	return 0;
}

/* The bytes of a label at `at`, 0: it is none. */
static size_t label_len(const char *at, const char *end)
{
	size_t n = 0;

	while (at + n < end && (isalnum((unsigned char)at[n]) || at[n] == '-' || at[n] == '_'))
		n++;
	return n > NET_LABEL_MAX || at[0] == '-' || at[n - (n > 0)] == '-' ? 0 : n;
}

int net_name_parse(char host[NET_NAME_TEXT], uint16_t *port, const char *text)
{
	const char *end = strrchr(text, ':'), *at = text, *last = text;
	uint16_t number;

	if (!end || end - text >= NET_NAME_TEXT || parse_port(end + 1, &number) || number == 0)
		return -EINVAL;
	while (at < end) {
		size_t n = label_len(at, end);

		if (n == 0)
			return -EINVAL;
		last = at;
		at += n;
		if (at < end && *at++ != '.')
			return -EINVAL;
	}
	if (at == text || strspn(last, "0123456789") == (size_t)(end - last - (end[-1] == '.')))
		return -EINVAL;
	memcpy(host, text, (size_t)(end - text));
	host[end - text] = '\0';
	*port = number;
	return 0;
}

void net_addr_write(struct wbuf *w, const struct net_addr *a)
{
	wbuf_u8(w, a->family);
	wbuf_copy(w, a->ip, sizeof a->ip);
	wbuf_u16(w, a->port);
}

void net_addr_read(struct rbuf *r, struct net_addr *a)
{
	a->family = rbuf_u8(r);
	rbuf_copy(r, a->ip, sizeof a->ip);
	a->port = rbuf_u16(r);
	if (a->family != 0 && a->family != 4 && a->family != 6)
		r->bad = true;
	/* One address has one form, or comparing them would be fooled. */
	size_t used = a->family == 6 ? 16 : a->family == 4 ? 4 : 0;
	for (size_t i = used; i < sizeof a->ip; i++)
		if (a->ip[i])
			r->bad = true;
}
