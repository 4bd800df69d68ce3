#include "wire/socksaddr.h"

#include <stdio.h>
#include <string.h>

int socks_addr_size(const uint8_t *data, size_t len)
{
	if (len == 0)
		return 0;
	switch (data[0]) {
	case SOCKS_ADDR_IPV4:
		return 1 + 4 + 2;
	case SOCKS_ADDR_IPV6:
		return 1 + 16 + 2;
	case SOCKS_ADDR_NAME:
		return len < 2 ? 0 : 1 + 1 + data[1] + 2;
	default:
		return -1;
	}
}

static void read_name(struct rbuf *r, struct socks_addr *a)
{
	struct bytes name = rbuf_view(r, rbuf_u8(r));

	if (name.len == 0)
		r->bad = true;
	for (size_t i = 0; i < name.len; i++) {
		if (name.data[i] <= ' ' || name.data[i] > '~')
			r->bad = true;
		a->name[i] = (char)name.data[i];
	}
}

void socks_addr_read(struct rbuf *r, struct socks_addr *a)
{
	memset(a, 0, sizeof *a);
	switch (rbuf_u8(r)) {
	case SOCKS_ADDR_IPV4:
		a->ip.family = 4;
		rbuf_copy(r, a->ip.ip, 4);
		break;
	case SOCKS_ADDR_IPV6:
		a->ip.family = 6;
		rbuf_copy(r, a->ip.ip, 16);
		break;
	case SOCKS_ADDR_NAME:
		read_name(r, a);
		break;
	default:
		r->bad = true;
	}
	a->ip.port = rbuf_u16(r);
}

void socks_addr_write(struct wbuf *w, const struct socks_addr *a)
{
	size_t len = strlen(a->name);

	if (a->ip.family == 6) {
		wbuf_u8(w, SOCKS_ADDR_IPV6);
		wbuf_copy(w, a->ip.ip, 16);
	} else if (a->ip.family == 4 || len == 0) {
		wbuf_u8(w, SOCKS_ADDR_IPV4);
		wbuf_copy(w, a->ip.ip, 4);
	} else {
		wbuf_u8(w, SOCKS_ADDR_NAME);
		wbuf_u8(w, (uint8_t)len);
		wbuf_copy(w, a->name, len);
	}
	wbuf_u16(w, a->ip.port);
}

const char *socks_addr_text(const struct socks_addr *a, char out[SOCKS_ADDR_TEXT])
{
	if (a->ip.family)
		net_addr_text(&a->ip, out);
	else
		snprintf(out, SOCKS_ADDR_TEXT, "%s:%u", a->name, a->ip.port);
	return out;
}
