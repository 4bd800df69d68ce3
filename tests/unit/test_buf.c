/* Cursors: values come back, and nothing outside the given range is read or written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"

static void write_all(struct wbuf *w)
{
	wbuf_u8(w, 0x01);
	wbuf_u16(w, 0x0203);
	wbuf_u32(w, 0x04050607);
	wbuf_u64(w, 0x08090a0b0c0d0e0fu);
	wbuf_run16(w, bytes_str("ab"));
	wbuf_run32(w, bytes_str("cde"));
	wbuf_copy(w, "xyz", 3);
}

#define ALL_BYTES (1 + 2 + 4 + 8 + 2 + 2 + 4 + 3 + 3)

static bool read_all(struct rbuf *r)
{
	char tail[3];
	bool good = rbuf_u8(r) == 0x01;
	good &= rbuf_u16(r) == 0x0203;
	good &= rbuf_u32(r) == 0x04050607;
	good &= rbuf_u64(r) == 0x08090a0b0c0d0e0fu;
	good &= bytes_equal(rbuf_run16(r, 2), bytes_str("ab"));
	good &= bytes_equal(rbuf_run32(r, 3), bytes_str("cde"));
	rbuf_copy(r, tail, 3);
	return good && memcmp(tail, "xyz", 3) == 0;
}

static void test_round_trip(void **state)
{
	(void)state;
	static const uint8_t head[] = {1,  2,  3,  4,  5,  6,  7, 8, 9,
				       10, 11, 12, 13, 14, 15, 0, 2, 'a'};
	uint8_t buf[ALL_BYTES];
	struct wbuf w = wbuf_init(buf, sizeof buf);
	write_all(&w);
	assert_false(w.bad);
	assert_int_equal(wbuf_len(&w), ALL_BYTES);
	assert_memory_equal(buf, head, sizeof head); /* big-endian */
	struct rbuf r = rbuf_init(buf, sizeof buf);
	assert_true(read_all(&r));
	assert_true(rbuf_done(&r));
}

static void test_every_short_length(void **state)
{
	(void)state;
	uint8_t full[ALL_BYTES];
	struct wbuf w = wbuf_init(full, sizeof full);
	write_all(&w);
	for (size_t len = 0; len < ALL_BYTES; len++) {
		/* Heap blocks of the exact size: ASan sees a byte too far. */
		uint8_t *part = malloc(len + 1);
		memcpy(part, full, len);
		part[len] = 0xee;
		struct rbuf r = rbuf_init(part, len);
		assert_false(read_all(&r));
		assert_true(r.bad);
		assert_false(rbuf_done(&r));
		assert_int_equal(rbuf_u64(&r), 0); /* sticky, and zeroes */
		w = wbuf_init(part, len);
		write_all(&w);
		assert_true(w.bad);
		assert_true(wbuf_len(&w) <= len);
		assert_int_equal(part[len], 0xee);
		wbuf_u8(&w, 1);
		assert_true(w.bad);
		free(part);
	}
}

static void test_trailing(void **state)
{
	(void)state;
	struct rbuf r = rbuf_init("abc", 3);
	rbuf_u16(&r);
	assert_false(rbuf_done(&r));
	assert_int_equal(rbuf_left(&r), 1);
	rbuf_u8(&r);
	assert_true(rbuf_done(&r));
}

static void test_run_limits(void **state)
{
	(void)state;
	static const uint8_t run16[] = {0, 3, 'a', 'b', 'c'}, huge[] = {0xff, 0xff, 0xff, 0xff, 1};
	struct rbuf r = rbuf_init(run16, sizeof run16);
	rbuf_run16(&r, 2);
	assert_true(r.bad);
	r = rbuf_init(run16, sizeof run16);
	assert_int_equal(rbuf_run16(&r, 3).len, 3);
	r = rbuf_init(huge, sizeof huge);
	assert_null(rbuf_run32(&r, SIZE_MAX).data);
	assert_true(r.bad);
	uint8_t out[16];
	struct wbuf w = wbuf_init(out, sizeof out);
	wbuf_run16(&w, bytes_of(out, 65536)); /* the length does not fit, whatever the room */
	assert_true(w.bad);
}

static void test_empty(void **state)
{
	(void)state;
	struct rbuf r = rbuf_init(NULL, 0);
	assert_true(rbuf_done(&r));
	rbuf_copy(&r, NULL, 0);
	assert_false(r.bad);
	struct wbuf w = wbuf_init(NULL, 0);
	wbuf_copy(&w, NULL, 0);
	assert_false(w.bad);
	wbuf_u8(&w, 1);
	assert_true(w.bad);
	assert_true(bytes_equal(bytes_of(NULL, 0), bytes_str("")));
	assert_int_equal(bytes_str(NULL).len, 0);
}

static void test_space(void **state)
{
	(void)state;
	uint8_t buf[8] = {0};
	struct wbuf w = wbuf_init(buf, sizeof buf);
	uint8_t *hole = wbuf_space(&w, 4);
	wbuf_u32(&w, 7);
	assert_ptr_equal(hole, buf);
	be32_put(hole, 0xdeadbeef);
	assert_int_equal(be32_get(buf), 0xdeadbeef);
	assert_null(wbuf_space(&w, 1));
	be64_put(buf, 0x0102030405060708u);
	assert_int_equal(be64_get(buf), 0x0102030405060708u);
	assert_int_equal(buf[7], 8);
}

static void test_cstr(void **state)
{
	(void)state;
	char out[6];
	bytes_to_cstr(bytes_str("abcdefgh"), out, sizeof out);
	assert_string_equal(out, "abcde");
	bytes_to_cstr(bytes_of("a\0\n\x1b\x7f", 5), out, sizeof out);
	assert_string_equal(out, "a????");
	bytes_to_cstr(bytes_str("\xc3\xa9"), out, sizeof out);
	assert_string_equal(out, "\xc3\xa9");
	bytes_to_cstr(bytes_str("abc"), out, 1);
	assert_string_equal(out, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_every_short_length),
		cmocka_unit_test(test_trailing),   cmocka_unit_test(test_run_limits),
		cmocka_unit_test(test_empty),	   cmocka_unit_test(test_space),
		cmocka_unit_test(test_cstr),
	};
	return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
