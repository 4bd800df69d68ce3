/*
 * Bencode (BitTorrent's, and cjdns's admin protocol) as views of the bytes.  Reading is lenient in
 * one point: the length of a string may have zeros before it ("d0001:q..."), as cjdns pads them.
 */
#ifndef BASE_BENCODE_H
#define BASE_BENCODE_H

#include "base/buf.h"

#define BENC_DEPTH_MAX 16

enum benc_type { BENC_NONE, BENC_INT, BENC_STRING, BENC_LIST, BENC_DICT };

/* Lives as long as the bytes that it was read from. */
struct benc {
	enum benc_type type;
	int64_t num;	   /* BENC_INT */
	struct bytes body; /* BENC_STRING: the text; lists and dicts: what stands inside */
};

/* One value and nothing behind it, looked at to its last leaf.  0 or -EBADMSG. */
int benc_parse(struct benc *out, const void *data, size_t len);
/* The value of a dict's key; type BENC_NONE when it is not there or `v` is no dict. */
struct benc benc_get(const struct benc *v, const char *key);
/* Its text when it is a string there, else empty. */
struct bytes benc_get_text(const struct benc *v, const char *key);
/* `otherwise` when there is no such number. */
int64_t benc_get_int(const struct benc *v, const char *key, int64_t otherwise);
/* Walks a list: `it` is benc_items() first. */
struct rbuf benc_items(const struct benc *v);
bool benc_next(struct rbuf *it, struct benc *out);

void benc_put_string(struct wbuf *w, struct bytes text);
void benc_put_text(struct wbuf *w, const char *text);
void benc_put_int(struct wbuf *w, int64_t v);
/* 'd', 'l' begin, 'e' ends a dict or list. */
void benc_put_mark(struct wbuf *w, char mark);
#endif
