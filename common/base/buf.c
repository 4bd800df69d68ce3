#include "base/buf.h"

#include <string.h>

struct rbuf rbuf_init(const void *data, size_t len)
{
	const uint8_t *p = data;
	return (struct rbuf){.p = p, .end = len ? p + len : p, .bad = false};
}

size_t rbuf_left(const struct rbuf *r)
{
	return (size_t)(r->end - r->p);
}

struct bytes rbuf_view(struct rbuf *r, size_t len)
{
	if (r->bad || rbuf_left(r) < len) {
		r->bad = true;
		return (struct bytes){NULL, 0};
	}
	struct bytes b = {r->p, len};
	if (len)
		r->p += len;
	return b;
}

void rbuf_copy(struct rbuf *r, void *out, size_t len)
{
	struct bytes b = rbuf_view(r, len);
	if (!len)
		return;
	if (r->bad)
		memset(out, 0, len);
	else
		memcpy(out, b.data, len);
}

static uint64_t read_be(struct rbuf *r, size_t width)
{
	struct bytes b = rbuf_view(r, width);
	uint64_t v = 0;
	for (size_t i = 0; i < b.len; i++)
		v = v << 8 | b.data[i];
	return v;
}

uint8_t rbuf_u8(struct rbuf *r)
{
	return (uint8_t)read_be(r, 1);
}

uint16_t rbuf_u16(struct rbuf *r)
{
	return (uint16_t)read_be(r, 2);
}

uint32_t rbuf_u32(struct rbuf *r)
{
	return (uint32_t)read_be(r, 4);
}

uint64_t rbuf_u64(struct rbuf *r)
{
	return read_be(r, 8);
}

static struct bytes read_run(struct rbuf *r, size_t len, size_t max)
{
	if (len > max) {
		r->bad = true;
		return (struct bytes){NULL, 0};
	}
	return rbuf_view(r, len);
}

struct bytes rbuf_run16(struct rbuf *r, size_t max)
{
	return read_run(r, rbuf_u16(r), max);
}

struct bytes rbuf_run32(struct rbuf *r, size_t max)
{
	return read_run(r, rbuf_u32(r), max);
}

bool rbuf_done(const struct rbuf *r)
{
	return !r->bad && r->p == r->end;
}

struct wbuf wbuf_init(void *data, size_t len)
{
	uint8_t *p = data;
	return (struct wbuf){.start = p, .p = p, .end = len ? p + len : p, .bad = false};
}

uint8_t *wbuf_space(struct wbuf *w, size_t len)
{
	if (w->bad || (size_t)(w->end - w->p) < len) {
		w->bad = true;
		return NULL;
	}
	uint8_t *p = w->p;
	if (len)
		w->p += len;
	return p;
}

void wbuf_copy(struct wbuf *w, const void *data, size_t len)
{
	uint8_t *p = wbuf_space(w, len);
	if (p && len)
		memcpy(p, data, len);
}

static void write_be(struct wbuf *w, uint64_t v, size_t width)
{
	uint8_t *p = wbuf_space(w, width);
	for (size_t i = 0; p && i < width; i++)
		p[i] = (uint8_t)(v >> (8 * (width - 1 - i)));
}

void wbuf_u8(struct wbuf *w, uint8_t v)
{
	write_be(w, v, 1);
}

void wbuf_u16(struct wbuf *w, uint16_t v)
{
	write_be(w, v, 2);
}

void wbuf_u32(struct wbuf *w, uint32_t v)
{
	write_be(w, v, 4);
}

void wbuf_u64(struct wbuf *w, uint64_t v)
{
	write_be(w, v, 8);
}

void wbuf_run16(struct wbuf *w, struct bytes b)
{
	if (b.len > UINT16_MAX)
		w->bad = true;
	wbuf_u16(w, (uint16_t)b.len);
	wbuf_copy(w, b.data, b.len);
}

void wbuf_run32(struct wbuf *w, struct bytes b)
{
	if (b.len > UINT32_MAX)
		w->bad = true;
	wbuf_u32(w, (uint32_t)b.len);
	wbuf_copy(w, b.data, b.len);
}

size_t wbuf_len(const struct wbuf *w)
{
	return (size_t)(w->p - w->start);
}

struct bytes bytes_of(const void *data, size_t len)
{
	return (struct bytes){data, len};
}

struct bytes bytes_str(const char *s)
{
	return (struct bytes){(const uint8_t *)s, s ? strlen(s) : 0};
}

bool bytes_equal(struct bytes a, struct bytes b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

void bytes_to_cstr(struct bytes b, char *out, size_t size)
{
	size_t n = b.len < size - 1 ? b.len : size - 1;
	for (size_t i = 0; i < n; i++) {
		uint8_t c = b.data[i];
		out[i] = (c >= 0x20 && c != 0x7f) ? (char)c : '?';
	}
	out[n] = '\0';
}
