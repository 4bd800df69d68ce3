/* Hop header, fragment header, ack, and the macs: bytes as PROTOCOL.md draws them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "core/hopkey.h"
#include "wire/packet.h"

static uint64_t rng = 0xda3e39cb94b95bdbu;

static uint64_t any64(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng * 0x2545f4914f6cdd1du;
}

static uint32_t any(uint32_t below)
{
	return (uint32_t)((any64() >> 16) % below);
}

static void test_hop_header(void **state)
{
	static const uint8_t want[HOP_HEADER_BYTES] = {
		3,    1,    9,	  2,	0x11, 0x22, 0x33, 0x44, 0x01, 0x02, 0x03, 0x04,
		0x05, 0x06, 0x07, 0x08, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8};
	struct hop_header h = {3, 1, 9, 2, 0x11223344, 0x0102030405060708, 0xa1a2a3a4a5a6a7a8};
	uint8_t out[HOP_HEADER_BYTES];
	struct hop_header got;

	(void)state;
	hop_header_write(out, &h);
	assert_memory_equal(out, want, sizeof want);
	assert_int_equal(hop_header_read(&got, bytes_of(out, sizeof out)), 0);
	assert_memory_equal(&got, &h, sizeof h);
	assert_int_equal(hop_header_read(&got, bytes_of(out, sizeof out - 1)), -EBADMSG);
	assert_int_equal(hop_header_read(&got, bytes_of(NULL, 0)), -EBADMSG);
	for (unsigned type = 0; type < 256; type++) {
		out[0] = (uint8_t)type;
		assert_int_equal(hop_header_read(&got, bytes_of(out, sizeof out)),
				 type >= 1 && type <= 9 ? 0 : -EBADMSG);
	}
}

static void test_fragment_header(void **state)
{
	static const uint8_t want[FRAGMENT_HEADER_BYTES] = {1, 2, 3, 4,	   5,	 6,
							    7, 8, 0, 0x10, 0xff, 0xff};
	struct fragment_header f = {RECORD_DATA, 0x0203, 0x0405060708, 0x10, 0xffff}, got;
	uint8_t out[FRAGMENT_HEADER_BYTES];

	(void)state;
	fragment_header_write(out, &f);
	assert_memory_equal(out, want, sizeof want);
	assert_int_equal(fragment_header_read(&got, out, 1), 0);
	assert_int_equal(got.kind, f.kind);
	assert_int_equal(got.time, f.time);
	assert_int_equal(got.record, f.record);
	assert_int_equal(got.offset, f.offset);
	assert_int_equal(got.total, f.total);
	assert_int_equal(fragment_header_read(&got, out, 0xffff - 0x10), 0);
	assert_int_equal(fragment_header_read(&got, out, 0xffff - 0x10 + 1), -EBADMSG);
	assert_int_equal(fragment_header_read(&got, out, 0), -EBADMSG);
	assert_int_equal(fragment_header_read(&got, out, SIZE_MAX - 8), -EBADMSG);
	out[0] = RECORD_DATAGRAM;
	assert_int_equal(fragment_header_read(&got, out, 1), 0);
	out[0] = RECORD_DATAGRAM + 1;
	assert_int_equal(fragment_header_read(&got, out, 1), -EBADMSG);
}

/* --- acks --------------------------------------------------------------------------------- */

static size_t encode(uint8_t buf[ACK_MAX_BYTES], const struct ack *a)
{
	struct wbuf w = wbuf_init(buf, ACK_MAX_BYTES);

	ack_write(&w, a);
	assert_false(w.bad);
	return wbuf_len(&w);
}

static struct ack any_ack(unsigned ranges)
{
	struct ack a = {.cumulative = any64() >> (2 + any(40)),
			.latest_tries = (uint8_t)any(256),
			.delay_us = (uint32_t)any64(),
			.range_count = (uint8_t)ranges};
	uint64_t at = a.cumulative;

	for (unsigned i = 0; i < ranges; i++) {
		a.ranges[i].start = at + 1 + any(1000);
		a.ranges[i].end = at = a.ranges[i].start + 1 + any(1000);
	}
	a.largest = at + any(1000) - (at ? 1 : 0);
	a.latest = a.largest - (a.largest < 1000 ? 0 : any(1000));
	return a;
}

static void test_ack_round_trip(void **state)
{
	uint8_t buf[ACK_MAX_BYTES];
	struct ack got;

	(void)state;
	for (unsigned i = 0; i < 5000; i++) {
		struct ack a = any_ack(i % (ACK_RANGES_MAX + 1));
		size_t len = encode(buf, &a);
		assert_int_equal(ack_read(&got, bytes_of(buf, len)), 0);
		assert_int_equal(got.cumulative, a.cumulative);
		assert_int_equal(got.largest, a.largest);
		assert_int_equal(got.latest, a.latest);
		assert_int_equal(got.latest_tries, a.latest_tries);
		assert_int_equal(got.delay_us, a.delay_us);
		assert_int_equal(got.range_count, a.range_count);
		assert_memory_equal(got.ranges, a.ranges, a.range_count * sizeof a.ranges[0]);
		assert_int_equal(ack_read(&got, bytes_of(buf, len - 1 - any((uint32_t)len - 1))),
				 -EBADMSG);
		if (len < sizeof buf)
			assert_int_equal(ack_read(&got, bytes_of(buf, len + 1)), -EBADMSG);
	}
}

static int read_ack(uint64_t cumulative, uint32_t ahead, uint32_t behind, unsigned count,
		    const void *ranges, size_t len)
{
	uint8_t buf[2 * ACK_MAX_BYTES] = {0};
	struct wbuf w = wbuf_init(buf, sizeof buf);
	struct ack a;

	wbuf_u64(&w, cumulative);
	wbuf_u32(&w, ahead);
	wbuf_u32(&w, behind);
	wbuf_u8(&w, 0);
	wbuf_u32(&w, 0);
	wbuf_u8(&w, (uint8_t)count);
	wbuf_copy(&w, ranges, len);
	assert_false(w.bad);
	return ack_read(&a, bytes_of(buf, wbuf_len(&w)));
}

static void test_ack_malformed(void **state)
{
	static const struct {
		uint64_t cumulative;
		uint32_t ahead, behind;
		unsigned count;
		const char *ranges;
		size_t len;
		int want;
	} cases[] = {
		{10, 0, 0, 0, "", 0, 0},
		{0, 0, 0, 0, "", 0, -EBADMSG}, /* nothing has arrived: no such ack */
		{0, 1, 0, 0, "", 0, 0},
		{0, 1, 1, 0, "", 0, -EBADMSG}, /* the latest below zero */
		{UINT64_MAX, 1, 0, 0, "", 0, -EBADMSG},
		{UINT64_MAX / 2 + 1, 1, 0, 0, "", 0, -EBADMSG},
		{10, 5, 0, 1, "\1\4", 2, 0},
		{10, 5, 0, 1, "\0\4", 2, -EBADMSG}, /* touches the cumulative */
		{10, 5, 0, 1, "\2\0", 2, -EBADMSG}, /* empty */
		{10, 5, 0, 1, "\1\5", 2, -EBADMSG}, /* above the largest */
		{10, 9, 0, 2, "\1\2\1\5", 4, 0},
		{10, 9, 0, 2, "\1\2\0\6", 4, -EBADMSG}, /* they touch */
		{10, 9, 0, 2, "\1\2\1", 3, -EBADMSG},
		{10, 1000, 0, 1, "\177\200\1", 3, 0},
		{10, 1000, 0, 1, "\201\0\1", 3, -EBADMSG}, /* longer than needed */
		{10, 4000000, 0, 1, "\377\377\177\1", 4, 0},
		{10, 4000000, 0, 1, "\377\377\377\1\1", 5, -EBADMSG}, /* above 21 bits */
		{10, 4000000, 0, 1, "\377\377\377", 3, -EBADMSG},
	};
	uint8_t many[2 * (ACK_RANGES_MAX + 1)];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (read_ack(cases[i].cumulative, cases[i].ahead, cases[i].behind, cases[i].count,
			     cases[i].ranges, cases[i].len) != cases[i].want)
			fail_msg("case %zu", i);
	memset(many, 1, sizeof many);
	assert_int_equal(read_ack(9, 1000, 0, ACK_RANGES_MAX, many, 2 * ACK_RANGES_MAX), 0);
	assert_int_equal(read_ack(9, 1000, 0, ACK_RANGES_MAX + 1, many, sizeof many), -EBADMSG);
}

/* What a number cannot say must not reach the wire. */
static void test_ack_too_far(void **state)
{
	uint8_t buf[ACK_MAX_BYTES];
	struct wbuf w = wbuf_init(buf, sizeof buf);
	struct ack a = {.cumulative = 5, .largest = 1u << 22, .latest = 1u << 22, .range_count = 1};

	(void)state;
	a.ranges[0].start = 5 + (1u << 21);
	a.ranges[0].end = a.ranges[0].start + 1;
	ack_write(&w, &a);
	assert_true(w.bad);
}

/* --- macs --------------------------------------------------------------------------------- */

/* PROTOCOL.md section 3.2, word by word. */
static uint64_t naive_mac(const struct hopkey *key, const uint8_t *packet, size_t len)
{
	uint8_t in[16 + FRAGMENT_HEADER_BYTES], out[8];
	size_t n = 16 + FRAGMENT_HEADER_BYTES;

	memcpy(in, packet, 16);
	if (packet[0] == PACKET_DATA && len >= HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES) {
		memcpy(in + 16, packet + HOP_HEADER_BYTES, FRAGMENT_HEADER_BYTES);
	} else {
		crypto_shorthash(in + 16, packet + HOP_HEADER_BYTES, len - HOP_HEADER_BYTES,
				 key->k);
		n = 24;
	}
	crypto_shorthash(out, in, n, key->k);
	return be64_get(out);
}

/* What the mac must cover: every byte but DATA's fragment body. */
static void test_mac(void **state)
{
	uint8_t secret[32] = {1, 2, 3}, packet[200];
	struct hopkey key, other;
	struct hop_header got;

	(void)state;
	hopkey_derive(&key, secret, "hop");
	hopkey_derive(&other, secret, "outer");
	assert_memory_not_equal(key.k, other.k, sizeof key.k);
	for (unsigned i = 0; i < 400; i++) {
		size_t len = HOP_HEADER_BYTES + any(sizeof packet - HOP_HEADER_BYTES);
		struct hop_header h = {.type = (uint8_t)(1 + i % 8),
				       .label = any(1000),
				       .epoch = (uint8_t)any(256),
				       .seq = any64()};
		randombytes_buf(packet, sizeof packet);
		hopkey_seal(&key, packet, len, &h);
		assert_int_equal(be64_get(packet + 16), naive_mac(&key, packet, len));
		assert_int_equal(hop_header_read(&got, bytes_of(packet, len)), 0);
		assert_true(hopkey_verify(&key, packet, len, &got));
		assert_false(hopkey_verify(&other, packet, len, &got));
		size_t at = any((uint32_t)len);
		packet[at] ^= (uint8_t)(1u << any(8));
		bool free_body =
			h.type == PACKET_DATA && at >= HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES;
		if (hop_header_read(&got, bytes_of(packet, len)) == 0)
			assert_int_equal(hopkey_verify(&key, packet, len, &got), free_body);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hop_header),     cmocka_unit_test(test_fragment_header),
		cmocka_unit_test(test_ack_round_trip), cmocka_unit_test(test_ack_malformed),
		cmocka_unit_test(test_ack_too_far),    cmocka_unit_test(test_mac),
	};
	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
