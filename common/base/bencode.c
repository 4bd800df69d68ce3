#include "base/bencode.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LENGTH_DIGITS_MAX 20

static bool digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool fail(struct rbuf *r)
{
	r->bad = true;
	return false;
}

/* Digits up to `stop`, which is consumed; at least one. */
static bool read_number(struct rbuf *r, char stop, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;
	unsigned digits = 0;

	while (rbuf_left(r) && digit(*r->p)) {
		v = v * 10 + (uint64_t)(*r->p++ - '0');
		if (++digits > LENGTH_DIGITS_MAX || v > max)
			return fail(r);
	}
	*out = v;
	return (digits && rbuf_u8(r) == (uint8_t)stop && !r->bad) || fail(r);
}

static bool read_int(struct rbuf *r, struct benc *v)
{
	uint64_t n = 0;
	bool minus = rbuf_left(r) && *r->p == '-';

	r->p += minus;
	if (!read_number(r, 'e', INT64_MAX, &n))
		return false;
	v->type = BENC_INT;
	v->num = minus ? -(int64_t)n : (int64_t)n;
	return true;
}

static bool read_string(struct rbuf *r, struct benc *v)
{
	uint64_t len = 0;

	if (!read_number(r, ':', UINT32_MAX, &len))
		return false;
	v->type = BENC_STRING;
	v->body = rbuf_view(r, (size_t)len);
	return !r->bad;
}

/* Recursion ends at BENC_DEPTH_MAX. */
static bool read_value(struct rbuf *r, struct benc *v, unsigned depth)
{
	const uint8_t *start;
	bool dict, key = true;

	*v = (struct benc){0};
	if (!rbuf_left(r) || depth > BENC_DEPTH_MAX)
		return fail(r);
	if (digit(*r->p))
		return read_string(r, v);
	uint8_t mark = rbuf_u8(r);
	if (mark == 'i')
		return read_int(r, v);
	if (mark != 'l' && mark != 'd')
		return fail(r);
	dict = mark == 'd';
	start = r->p;
	while (rbuf_left(r) && *r->p != 'e') {
		struct benc inner;
		if ((dict && key && !digit(*r->p)) || !read_value(r, &inner, depth + 1))
			return fail(r);
		key = !key;
	}
	if (!rbuf_left(r) || (dict && !key))
		return fail(r);
	v->type = dict ? BENC_DICT : BENC_LIST;
	v->body = bytes_of(start, (size_t)(r->p - start));
	r->p++;
	return true;
}

int benc_parse(struct benc *out, const void *data, size_t len)
{
	struct rbuf r = rbuf_init(data, len);

	if (read_value(&r, out, 0) && rbuf_done(&r))
		return 0;
	*out = (struct benc){0};
	return -EBADMSG;
}

struct rbuf benc_items(const struct benc *v)
{
	bool inside = v->type == BENC_LIST || v->type == BENC_DICT;

	return rbuf_init(v->body.data, inside ? v->body.len : 0);
}

bool benc_next(struct rbuf *it, struct benc *out)
{
	*out = (struct benc){0};
	return rbuf_left(it) && read_value(it, out, 0);
}

struct benc benc_get(const struct benc *v, const char *key)
{
	struct rbuf it = benc_items(v);
	struct bytes wanted = bytes_str(key);
	struct benc k, value;

	if (v->type == BENC_DICT)
		while (benc_next(&it, &k) && benc_next(&it, &value))
			if (bytes_equal(k.body, wanted))
				return value;
	return (struct benc){0};
}

struct bytes benc_get_text(const struct benc *v, const char *key)
{
	struct benc value = benc_get(v, key);

	return value.type == BENC_STRING ? value.body : (struct bytes){0};
}

int64_t benc_get_int(const struct benc *v, const char *key, int64_t otherwise)
{
	struct benc value = benc_get(v, key);

	return value.type == BENC_INT ? value.num : otherwise;
}

void benc_put_string(struct wbuf *w, struct bytes text)
{
	char length[24];
	int n = snprintf(length, sizeof length, "%zu:", text.len);

	wbuf_copy(w, length, (size_t)n);
	wbuf_copy(w, text.data, text.len);
}

void benc_put_text(struct wbuf *w, const char *text)
{
	benc_put_string(w, bytes_str(text));
}

void benc_put_int(struct wbuf *w, int64_t v)
{
	char text[32];
	int n = snprintf(text, sizeof text, "i%" PRId64 "e", v);

	wbuf_copy(w, text, (size_t)n);
}

void benc_put_mark(struct wbuf *w, char mark)
{
	wbuf_u8(w, (uint8_t)mark);
}
