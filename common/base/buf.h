/*
 * Cursors for all encoding and decoding.  The error is sticky: read or write every field, then look
 * once at `bad`.  A read past the end answers zeroes, a write past the end is dropped; neither ever
 * touches memory outside the given range.  All integers are big-endian.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A view of somebody else's bytes: valid as long as its owner keeps them. */
struct bytes {
	const uint8_t *data;
	size_t len;
};

struct rbuf {
	const uint8_t *p, *end;
	bool bad;
};

struct wbuf {
	uint8_t *start, *p, *end;
	bool bad;
};

struct rbuf rbuf_init(const void *data, size_t len);
uint8_t rbuf_u8(struct rbuf *r);
uint16_t rbuf_u16(struct rbuf *r);
uint32_t rbuf_u32(struct rbuf *r);
uint64_t rbuf_u64(struct rbuf *r);
/* Copies `len` bytes out (zeroes when short). */
void rbuf_copy(struct rbuf *r, void *out, size_t len);
/* A view of `len` bytes; {NULL, 0} when short. */
struct bytes rbuf_view(struct rbuf *r, size_t len);
/* A length-prefixed run (u16 or u32 length); longer than `max` is an error. */
struct bytes rbuf_run16(struct rbuf *r, size_t max);
struct bytes rbuf_run32(struct rbuf *r, size_t max);
size_t rbuf_left(const struct rbuf *r);
/* True when nothing went wrong and nothing is left over. */
bool rbuf_done(const struct rbuf *r);

struct wbuf wbuf_init(void *data, size_t len);
void wbuf_u8(struct wbuf *w, uint8_t v);
void wbuf_u16(struct wbuf *w, uint16_t v);
void wbuf_u32(struct wbuf *w, uint32_t v);
void wbuf_u64(struct wbuf *w, uint64_t v);
void wbuf_copy(struct wbuf *w, const void *data, size_t len);
void wbuf_run16(struct wbuf *w, struct bytes b);
void wbuf_run32(struct wbuf *w, struct bytes b);
/* Reserves `len` bytes to be filled in later; NULL when they do not fit. */
uint8_t *wbuf_space(struct wbuf *w, size_t len);
size_t wbuf_len(const struct wbuf *w);

/* Views and C strings. */
struct bytes bytes_of(const void *data, size_t len);
struct bytes bytes_str(const char *s);
bool bytes_equal(struct bytes a, struct bytes b);
/* Copies a view into a C string, cut to fit; bytes that are not printable ASCII or UTF-8 lead or
 * continuation bytes become '?', so that a peer's text is safe in a log or a terminal. */
void bytes_to_cstr(struct bytes b, char *out, size_t size);

/* Unaligned big-endian access where a cursor would be noise; compilers make one load or store of
 * each, and they are met several times with every packet. */
static inline uint32_t be32_get(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t be64_get(const uint8_t *p)
{
	return (uint64_t)be32_get(p) << 32 | be32_get(p + 4);
}

static inline void be32_put(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static inline void be64_put(uint8_t *p, uint64_t v)
{
	be32_put(p, (uint32_t)(v >> 32));
	be32_put(p + 4, (uint32_t)v);
}
#endif
