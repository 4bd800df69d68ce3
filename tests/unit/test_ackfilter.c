/* Which acknowledgements of TCP take the place of earlier ones, and which must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/buf.h"
#include "core/ackfilter.h"
#include "unit/packets.h"

#define HEADER 10u
#define ACK 0x10

struct ack {
	uint8_t version, flags, class;
	uint16_t port;
	uint32_t seq, ack, stamp; /* stamp 0: no option */
	size_t payload;
};

static struct ackfilter f;
static uint8_t record[HEADER + 200];

static const struct ack plain = {.version = 4, .flags = ACK, .port = 80, .seq = 7, .ack = 1000};
static const struct ack stamped = {
	.version = 6, .flags = ACK, .port = 80, .seq = 7, .ack = 1000, .stamp = 5};

/* Its length with the header before it. */
static size_t make(const struct ack *a)
{
	struct net_addr src = {.family = a->version, .ip = {10, 0, 0, 1}},
			dst = {.family = a->version, .ip = {10, 0, 0, 2}};
	uint8_t tcp[32 + 100] = {0};
	size_t header = a->stamp ? 32 : 20;

	tcp[0] = (uint8_t)(a->port >> 8);
	tcp[1] = (uint8_t)a->port;
	be32_put(tcp + 4, a->seq);
	be32_put(tcp + 8, a->ack);
	tcp[12] = (uint8_t)(header / 4 << 4);
	tcp[13] = a->flags;
	if (a->stamp) {
		memcpy(tcp + 20, (const uint8_t[]){1, 1, 8, 10}, 4);
		be32_put(tcp + 24, a->stamp);
	}
	memset(record, 0x5a, HEADER);
	size_t len = packet_wrap(record + HEADER, &src, &dst, 6, tcp, header + a->payload, 16);
	record[HEADER + 1] |= (uint8_t)(a->version == 4 ? a->class : a->class << 4);
	return HEADER + len;
}

static bool hold(const struct ack *a)
{
	return ackfilter_hold(&f, record, make(a), HEADER);
}

static uint32_t held_ack(size_t i)
{
	return be32_get(f.held[i].record + f.held[i].len -
			(f.held[i].len == HEADER + 40 ? 12 : 24));
}

static void test_later_takes_the_place(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct ack a = i ? stamped : plain;
		memset(&f, 0, sizeof f);
		for (unsigned n = 0; n < 10; n++, a.ack += 65000)
			assert_true(hold(&a));
		assert_int_equal(f.count, 1);
		assert_int_equal(held_ack(0), 1000 + 9 * 65000);
		assert_int_equal(f.held[0].record[0], 0x5a); /* its header came along */
		assert_int_equal(f.held[0].len, make(&a));
	}
}

static void test_number_wraps(void **state)
{
	struct ack a = plain;

	(void)state;
	memset(&f, 0, sizeof f);
	a.ack = UINT32_MAX - 5;
	assert_true(hold(&a));
	a.ack = 10;
	assert_true(hold(&a));
	assert_int_equal(f.count, 1);
	assert_int_equal(held_ack(0), 10);
}

/* Each differs from one that is held in one thing, and says something of its own. */
static void refused_behind(struct ack first, struct ack second)
{
	memset(&f, 0, sizeof f);
	assert_true(hold(&first));
	assert_false(hold(&second));
	assert_int_equal(f.count, 1);
	assert_int_equal(held_ack(0), first.ack);
}

static void test_what_says_more_passes(void **state)
{
	struct ack second = plain;

	(void)state;
	refused_behind(plain, plain); /* a duplicate tells of a loss */
	second.ack -= 1;
	refused_behind(plain, second);
	second = plain;
	second.ack += 1;
	second.seq++;
	refused_behind(plain, second);
	second.seq--;
	second.class = 3; /* congestion experienced */
	refused_behind(plain, second);
	second = stamped;
	second.ack++;
	second.class = 3;
	refused_behind(stamped, second);
	second.class = 0;
	second.stamp--;
	refused_behind(stamped, second);
}

static void test_only_pure_ones_are_held(void **state)
{
	struct ack a;

	(void)state;
	memset(&f, 0, sizeof f);
	for (unsigned flags = 0; flags < 256; flags++) {
		a = plain;
		a.flags = (uint8_t)flags;
		assert_int_equal(hold(&a), flags == ACK);
		f.count = 0;
	}
	a = plain;
	a.payload = 1;
	assert_false(hold(&a));
	/* A sign of congestion (RFC 7560's bit), a fragment, options of IP, another protocol. */
	static const struct {
		size_t at;
		uint8_t value;
	} other[] = {{20 + 12, 0x51}, {6, 0x20}, {7, 1}, {0, 0x46}, {9, 17}, {3, 41}, {0, 0x55}};
	for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
		size_t len = make(&plain);
		record[HEADER + other[i].at] = other[i].value;
		assert_false(ackfilter_hold(&f, record, len, HEADER));
	}
	/* Timestamps are the one option. */
	size_t len = make(&stamped);
	record[HEADER + 40 + 20 + 2] = 5; /* SACK */
	assert_false(ackfilter_hold(&f, record, len, HEADER));
	len = make(&stamped);
	record[HEADER + 6] = 44; /* a fragment */
	assert_false(ackfilter_hold(&f, record, len, HEADER));
	for (len = 0; len < make(&stamped); len++)
		assert_false(ackfilter_hold(&f, record, len, HEADER));
	assert_int_equal(f.count, 0);
}

static void test_flows_keep_their_places(void **state)
{
	struct ack a = plain;

	(void)state;
	memset(&f, 0, sizeof f);
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < ACKFILTER_FLOWS; i++) {
			a.port = (uint16_t)(100 + i);
			a.ack = 1000 + round;
			assert_true(hold(&a));
		}
	assert_int_equal(f.count, ACKFILTER_FLOWS);
	for (unsigned i = 0; i < ACKFILTER_FLOWS; i++) {
		assert_int_equal(f.held[i].record[HEADER + 20 + 1], 100 + i);
		assert_int_equal(held_ack(i), 1002);
	}
	a.port = 99;
	assert_false(hold(&a)); /* no room */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_later_takes_the_place),
		cmocka_unit_test(test_number_wraps),
		cmocka_unit_test(test_what_says_more_passes),
		cmocka_unit_test(test_only_pure_ones_are_held),
		cmocka_unit_test(test_flows_keep_their_places),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
