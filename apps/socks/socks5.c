#include "socks/socks5.h"

#include <errno.h>
#include <string.h>

#define SOCKS_VERSION 5
#define LOGIN_VERSION 1

const char *socks5_code_text(uint8_t code)
{
	static const char *const names[] = {
		"ok",
		"general failure",
		"not allowed by the server's rules",
		"network unreachable",
		"host unreachable",
		"connection refused",
		"time to live expired",
		"command not supported",
		"address type not supported",
	};

	return code < sizeof names / sizeof *names ? names[code] : "unknown code";
}

int socks5_read_greeting(const uint8_t *data, size_t len, enum socks5_method wanted,
			 enum socks5_method *method)
{
	*method = SOCKS5_NO_METHOD;
	if (len > 0 && data[0] != SOCKS_VERSION)
		return -EPROTO;
	if (len < 2 || len < 2u + data[1])
		return 0;
	if (memchr(data + 2, (int)wanted, data[1]))
		*method = wanted;
	return 2 + data[1];
}

static bool take_text(struct rbuf *r, char out[SOCKS_NAME_MAX + 1])
{
	size_t len = rbuf_u8(r);

	rbuf_copy(r, out, len);
	/* A NUL inside would make "abc" of "abc\0def". */
	return !memchr(out, 0, len);
}

int socks5_read_login(const uint8_t *data, size_t len, struct socks5_login *out)
{
	struct rbuf r = rbuf_init(data, len);
	bool clean;

	memset(out, 0, sizeof *out);
	if (len > 0 && data[0] != LOGIN_VERSION)
		return -EPROTO;
	rbuf_u8(&r);
	clean = take_text(&r, out->user);
	clean = take_text(&r, out->password) && clean;
	if (r.bad)
		return 0;
	return clean ? (int)(len - rbuf_left(&r)) : -EPROTO;
}

int socks5_read_request(const uint8_t *data, size_t len, struct socks5_request *out)
{
	struct rbuf r = rbuf_init(data, len);
	int size;

	if (len > 0 && data[0] != SOCKS_VERSION)
		return -EPROTO;
	if (len < 4)
		return 0;
	rbuf_u8(&r);
	out->command = rbuf_u8(&r);
	rbuf_u8(&r); /* reserved: clients put anything there */
	size = socks_addr_size(r.p, rbuf_left(&r));
	if (size < 0)
		return -EAFNOSUPPORT;
	if (size == 0 || rbuf_left(&r) < (size_t)size)
		return 0;
	socks_addr_read(&r, &out->to);
	return r.bad ? -EAFNOSUPPORT : (int)(len - rbuf_left(&r));
}

size_t socks5_write_reply(uint8_t out[SOCKS5_REPLY_BYTES_MAX], uint8_t code,
			  const struct net_addr *bound)
{
	struct wbuf w = wbuf_init(out, SOCKS5_REPLY_BYTES_MAX);
	struct socks_addr a = {0};

	if (bound)
		a.ip = *bound;
	wbuf_u8(&w, SOCKS_VERSION);
	wbuf_u8(&w, code);
	wbuf_u8(&w, 0);
	socks_addr_write(&w, &a);
	return wbuf_len(&w);
}

int socks5_read_datagram(const uint8_t *data, size_t len, struct socks_addr *to,
			 struct bytes *payload)
{
	struct rbuf r = rbuf_init(data, len);
	uint8_t fragment;

	rbuf_u16(&r);
	fragment = rbuf_u8(&r);
	socks_addr_read(&r, to);
	*payload = rbuf_view(&r, rbuf_left(&r));
	if (r.bad)
		return -EPROTO;
	return fragment ? -EOPNOTSUPP : 0;
}

void socks5_write_datagram_header(struct wbuf *w, const struct socks_addr *from)
{
	wbuf_u16(w, 0);
	wbuf_u8(w, 0);
	socks_addr_write(w, from);
}
