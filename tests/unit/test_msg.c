/* The message catalogue, every message of it: made, encoded, decoded, cut, stretched, dumped. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <json-c/json.h>
#include <cmocka.h>

#include "wire/frame.h"
#include "wire/msg.h"

#define ROOM (1u << 17)

static uint32_t rng_state;
static uint32_t rng(void)
{
	rng_state = rng_state * 1664525u + 1013904223u;
	return rng_state >> 8;
}

/* Zeros, of the heap: some compilers have a shorter code for programs below 1 MB. */
static const uint8_t *text_bytes;

static struct bytes some(size_t max)
{
	return bytes_of(text_bytes, rng() % ((max < 300 ? max : 300) + 1));
}

static struct net_addr some_addr(void)
{
	struct net_addr a = {.family = rng() % 2 ? 4 : 6, .port = (uint16_t)rng()};
	for (int i = 0; i < (a.family == 4 ? 4 : 16); i++)
		a.ip[i] = (uint8_t)rng();
	return a;
}

/* --- fill, from the catalogue ------------------------------------------------------------- */

#define F_U8(n) m->n = (uint8_t)rng();
#define F_U16(n) m->n = (uint16_t)rng();
#define F_U32(n) m->n = rng() * 77777u;
#define F_U64(n) m->n = (uint64_t)rng() << 40 | rng();
/* Never what a secret is filled with. */
#define F_ID(n) memset(m->n.b, (int)(rng() | 0x80), sizeof m->n.b);
#define F_SECRET(n) memset(m->n, 0x11, sizeof m->n);
#define F_ADDR(n) m->n = some_addr();
#define F_STR(n, max) m->n = some(max);
#define F_BLOB(n, max) m->n = some(max);
#define F_LIST(item, n, max)                                                                       \
	m->n##_count = (uint16_t)(rng() % ((max) + 1));                                            \
	for (uint16_t i = 0; i < m->n##_count; i++)                                                \
		fill_##item(&m->n[i]);
#define ITEM(name, FIELDS)                                                                         \
	static void fill_##name(struct name *m)                                                    \
	{                                                                                          \
		FIELDS                                                                             \
	}
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	static void fill_msg_##name(struct msg_##name *m)                                          \
	{                                                                                          \
		FIELDS                                                                             \
	}
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE
#undef F_U8
#undef F_U16
#undef F_U32
#undef F_U64
#undef F_ID
#undef F_SECRET
#undef F_ADDR
#undef F_STR
#undef F_BLOB
#undef F_LIST

/* --- limits, from the catalogue: every field one over its own ------------------------------ */

#define F_U8(n)
#define F_U16(n)
#define F_U32(n)
#define F_U64(n)
#define F_ID(n)
#define F_SECRET(n)
#define F_ADDR(n)
#define OVER(n, max)                                                                               \
	m->n = bytes_of(text_bytes, max);                                                          \
	assert_true(encodes(outer));                                                               \
	m->n.len = (max) + 1;                                                                      \
	assert_false(encodes(outer));                                                              \
	m->n.len = 0;                                                                              \
	checked++;
#define F_STR(n, max) OVER(n, max)
#define F_BLOB(n, max) OVER(n, max)
#define F_LIST(item, n, max)                                                                       \
	m->n##_count = (max) + 1;                                                                  \
	assert_false(encodes(outer));                                                              \
	m->n##_count = 1;                                                                          \
	checked += over_##item(outer, &m->n[0]);                                                   \
	m->n##_count = 0;                                                                          \
	checked++;

static uint8_t *room;
static size_t room_size;

static bool encodes(const struct msg *m)
{
	struct wbuf w = wbuf_init(room, room_size);
	msg_encode(m, &w);
	if (!w.bad) {
		struct msg *back = malloc(sizeof *back);
		assert_int_equal(wbuf_len(&w), msg_encoded_size(m));
		assert_int_equal(msg_decode(back, bytes_of(room, wbuf_len(&w))), 0);
		free(back);
	}
	return !w.bad;
}

#define ITEM(name, FIELDS)                                                                         \
	static unsigned over_##name(const struct msg *outer, struct name *m)                       \
	{                                                                                          \
		unsigned checked = 0;                                                              \
		(void)outer;                                                                       \
		(void)m;                                                                           \
		FIELDS                                                                             \
		return checked;                                                                    \
	}
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	static unsigned over_msg_##name(const struct msg *outer, struct msg_##name *m)             \
	{                                                                                          \
		unsigned checked = 0;                                                              \
		(void)outer;                                                                       \
		(void)m;                                                                           \
		FIELDS                                                                             \
		return checked;                                                                    \
	}
#include "wire/messages.def"
#undef ITEM
#undef MESSAGE

struct catalogue_entry {
	uint16_t type;
	const char *name;
	unsigned senders;
	enum msg_state state;
	void (*fill)(struct msg *m);
	unsigned (*over)(struct msg *m);
};

#define ITEM(name, FIELDS)
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	static void fill_##name(struct msg *m)                                                     \
	{                                                                                          \
		fill_msg_##name(&m->name);                                                         \
	}                                                                                          \
	static unsigned over_##name(struct msg *m)                                                 \
	{                                                                                          \
		return over_msg_##name(m, &m->name);                                               \
	}
#include "wire/messages.def"
#undef MESSAGE
static const struct catalogue_entry catalogue[] = {
#define MESSAGE(type, Name, name, senders, state, FIELDS)                                          \
	{type, #Name, senders, MSG_STATE_##state, fill_##name, over_##name},
#include "wire/messages.def"
};
#undef MESSAGE
#undef ITEM
#define CATALOGUE_COUNT (sizeof catalogue / sizeof *catalogue)

static struct msg *filled(const struct catalogue_entry *e)
{
	struct msg *m = calloc(1, sizeof *m);
	m->type = e->type;
	m->seq = rng();
	e->fill(m);
	return m;
}

/* --- tests -------------------------------------------------------------------------------- */

static void test_catalogue(void **state)
{
	(void)state;
	for (size_t i = 0; i < CATALOGUE_COUNT; i++) {
		const struct catalogue_entry *e = &catalogue[i];
		for (size_t j = 0; j < i; j++) {
			assert_int_not_equal(e->type, catalogue[j].type);
			assert_string_not_equal(e->name, catalogue[j].name);
		}
		assert_int_not_equal(e->type, 0);
		assert_string_equal(msg_type_name(e->type), e->name);
		for (unsigned sender = 1; sender < 16; sender <<= 1) {
			bool may = e->senders & sender;
			assert_int_equal(msg_allowed(e->type, sender, MSG_STATE_READY), may);
			assert_int_equal(msg_allowed(e->type, sender, MSG_STATE_HELLO),
					 may && e->state == MSG_STATE_HELLO);
		}
	}
	assert_string_equal(msg_type_name(0), "unknown");
	assert_false(msg_allowed(0, FROM_ANY, MSG_STATE_READY));
}

/* Decoding what was encoded and encoding it again gives the same bytes. */
static void test_round_trip(void **state)
{
	(void)state;
	uint8_t *a = malloc(ROOM), *b = malloc(ROOM);
	struct msg *back = malloc(sizeof *back);
	for (size_t i = 0; i < CATALOGUE_COUNT * 20; i++) {
		struct msg *m = filled(&catalogue[i % CATALOGUE_COUNT]);
		struct wbuf wa = wbuf_init(a, ROOM), wb = wbuf_init(b, ROOM);
		msg_encode(m, &wa);
		assert_false(wa.bad);
		assert_int_equal(wbuf_len(&wa), msg_encoded_size(m));
		assert_int_equal(msg_decode(back, bytes_of(a, wbuf_len(&wa))), 0);
		assert_int_equal(back->type, m->type);
		assert_int_equal(back->seq, m->seq);
		msg_encode(back, &wb);
		assert_false(wb.bad);
		assert_int_equal(wbuf_len(&wb), wbuf_len(&wa));
		assert_memory_equal(a, b, wbuf_len(&wa));
		free(m);
	}
	free(a);
	free(b);
	free(back);
}

/* Heap copies of the exact length, so that a read past the end is seen by ASan. */
static int decode_exact(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);
	struct msg *m = malloc(sizeof *m);
	memcpy(copy, data, len);
	int err = msg_decode(m, bytes_of(copy, len));
	free(copy);
	free(m);
	return err;
}

static void test_truncated_and_trailing(void **state)
{
	(void)state;
	uint8_t *a = calloc(1, ROOM);
	for (size_t i = 0; i < CATALOGUE_COUNT; i++) {
		struct msg *m = filled(&catalogue[i]);
		struct wbuf w = wbuf_init(a, ROOM - 1);
		msg_encode(m, &w);
		size_t len = wbuf_len(&w);
		for (size_t cut = 0; cut < len; cut++)
			assert_int_equal(decode_exact(a, cut), -EBADMSG);
		a[len] = 0;
		assert_int_equal(decode_exact(a, len + 1), -EBADMSG);
		assert_int_equal(decode_exact(a, len), 0);
		/* Nor does encoding write past too small a buffer. */
		for (size_t room_len = 0; room_len < len; room_len += 1 + len / 50) {
			uint8_t *small = malloc(room_len ? room_len : 1);
			w = wbuf_init(small, room_len);
			msg_encode(m, &w);
			assert_true(w.bad);
			free(small);
		}
		free(m);
	}
	free(a);
}

static void test_limits(void **state)
{
	(void)state;
	unsigned checked = 0;
	room_size = MAX_MESSAGE_BYTES + 1024;
	room = malloc(room_size);
	for (size_t i = 0; i < CATALOGUE_COUNT; i++) {
		struct msg *m = calloc(1, sizeof *m);
		m->type = catalogue[i].type;
		checked += catalogue[i].over(m);
		free(m);
	}
	assert_true(checked > 30);
	free(room);
}

static void test_hostile_lengths(void **state)
{
	(void)state;
	/* A count or length over its limit is refused although the bytes are there. */
	uint8_t buf[4096] = {0};
	struct msg m;
	struct wbuf w = wbuf_init(buf, sizeof buf);
	wbuf_u16(&w, MSG_OpenUDP);
	wbuf_u32(&w, 1);
	wbuf_u32(&w, 5);
	wbuf_u16(&w, ADDRS_MAX + 1);
	size_t len = wbuf_len(&w) + (ADDRS_MAX + 1) * NET_ADDR_BYTES;
	assert_int_equal(msg_decode(&m, bytes_of(buf, len)), -EBADMSG);
	w = wbuf_init(buf, sizeof buf);
	wbuf_u16(&w, MSG_UnregisterApp);
	wbuf_u32(&w, 1);
	wbuf_u16(&w, NAME_MAX_BYTES + 1);
	len = wbuf_len(&w) + NAME_MAX_BYTES + 1;
	assert_int_equal(msg_decode(&m, bytes_of(buf, len)), -EBADMSG);
	w = wbuf_init(buf, sizeof buf);
	wbuf_u16(&w, MSG_AppMessage);
	wbuf_u32(&w, 1);
	wbuf_u64(&w, 1);
	wbuf_u32(&w, UINT32_MAX);
	assert_int_equal(msg_decode(&m, bytes_of(buf, sizeof buf)), -EBADMSG);
	w = wbuf_init(buf, sizeof buf);
	wbuf_u16(&w, 999);
	wbuf_u32(&w, 1);
	assert_int_equal(msg_decode(&m, bytes_of(buf, 6)), -EBADMSG);
}

static void test_dump(void **state)
{
	(void)state;
	const size_t out_size = 1u << 20;
	char *out = malloc(out_size);

	assert_non_null(out);
	for (size_t i = 0; i < CATALOGUE_COUNT; i++) {
		struct msg *m = filled(&catalogue[i]);
		assert_ptr_equal(msg_dump(m, out, out_size), out);
		json_object *o = json_tokener_parse(out);
		assert_non_null(o);
		assert_string_equal(json_object_get_string(json_object_object_get(o, "message")),
				    catalogue[i].name);
		assert_null(strstr(out, "1111111111"));
		json_object_put(o);
		for (size_t size = 1; size < 200; size++) { /* cut to fit, always ended */
			memset(out, 'x', 256);
			msg_dump(m, out, size);
			assert_true(strlen(out) < size);
			assert_int_equal(out[size], 'x');
		}
		free(m);
	}
	struct msg m = {.type = MSG_UnregisterApp};
	m.unregister_app.app = bytes_str("a\"b\\c\n\x7f\xff");
	msg_dump(&m, out, out_size);
	json_object *o = json_tokener_parse(out);
	assert_non_null(o);
	json_object_put(o);
	m.type = MSG_TransportCreate;
	memset(&m.transport_create, 0xab, sizeof m.transport_create);
	memset(m.transport_create.peer.b, 0, 32);
	assert_null(strstr(msg_dump(&m, out, out_size), "abab"));
	assert_non_null(strstr(out, "***"));
	free(out);
}

static void test_frame(void **state)
{
	(void)state;
	uint8_t buf[64] = {0};
	struct bytes body;
	size_t need;
	frame_header_put(buf, 10);
	for (size_t len = 0; len < 18; len++) {
		assert_int_equal(frame_parse(bytes_of(buf, len), 100, &body, &need), 0);
		assert_int_equal(need, len < 8 ? 8 : 18);
	}
	assert_int_equal(frame_parse(bytes_of(buf, 64), 100, &body, &need), 18);
	assert_ptr_equal(body.data, buf + 8);
	assert_int_equal(body.len, 10);
	assert_int_equal(frame_parse(bytes_of(buf, 8), 9, &body, &need), -EMSGSIZE);
	assert_int_equal(frame_parse(bytes_of(buf, 8), 10, &body, &need), 0);
	frame_header_put(buf, 0);
	assert_int_equal(frame_parse(bytes_of(buf, 8), 100, &body, &need), -EBADMSG);
	memset(buf, 0xff, 8);
	assert_int_equal(frame_parse(bytes_of(buf, 64), SIZE_MAX - 8, &body, &need), -EMSGSIZE);
}

int main(void)
{
	uint8_t *zeros = calloc(1, MAX_MESSAGE_BYTES + 1);
	int failed;

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_catalogue),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_truncated_and_trailing),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_hostile_lengths),
		cmocka_unit_test(test_dump),
		cmocka_unit_test(test_frame),
	};
	if (!zeros)
		return 1;
	text_bytes = zeros;
	failed = cmocka_run_group_tests_name("msg", tests, NULL, NULL);
	free(zeros);
	return failed;
}
