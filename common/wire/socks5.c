#include "wire/socks5.h"

#include <errno.h>
#include <string.h>

#define SOCKS_VERSION 5
#define LOGIN_VERSION 1

const char *socks5_code_text(uint8_t code)
{
	static const char names[][36] = {
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

void socks5_write_greeting(struct wbuf *w, enum socks5_method method)
{
	wbuf_u8(w, SOCKS_VERSION);
	wbuf_u8(w, 1);
	wbuf_u8(w, (uint8_t)method);
}

static void put_text(struct wbuf *w, const char *text)
{
	size_t len = strnlen(text, SOCKS_NAME_MAX);

	wbuf_u8(w, (uint8_t)len);
	wbuf_copy(w, text, len);
}

void socks5_write_login(struct wbuf *w, const char *user, const char *password)
{
	wbuf_u8(w, LOGIN_VERSION);
	put_text(w, user);
	put_text(w, password);
}

void socks5_write_request(struct wbuf *w, enum socks5_command command, const struct net_addr *to)
{
	const struct socks_addr a = {.ip = *to};

	wbuf_u8(w, SOCKS_VERSION);
	wbuf_u8(w, (uint8_t)command);
	wbuf_u8(w, 0);
	socks_addr_write(w, &a);
}

int socks5_read_choice(const uint8_t answer[SOCKS5_ANSWER_BYTES])
{
	return answer[0] == SOCKS_VERSION ? answer[1] : -EPROTO;
}

int socks5_read_login_answer(const uint8_t answer[SOCKS5_ANSWER_BYTES])
{
	if (answer[0] != LOGIN_VERSION)
		return -EPROTO;
	return answer[1] ? -EACCES : 0;
}

/* A reply and a request are of the same form. */
int socks5_read_reply(const uint8_t *data, size_t len, struct socks5_reply *out)
{
	struct socks5_request r;
	int rc = socks5_read_request(data, len, &r);

	if (rc > 0)
		*out = (struct socks5_reply){.code = r.command, .bound = r.to};
	return rc;
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
