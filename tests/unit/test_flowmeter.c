/* Which flows count as sending little. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "core/flowmeter.h"

#define MS 1000u
#define BULK_PORT 5201

static struct flowmeter m;
static uint64_t now;

static void begin(void)
{
	static const uint8_t key[FLOWMETER_KEY_BYTES] = {7, 1, 3};

	flowmeter_init(&m, key);
	now = 1000000000;
}

/* A packet of a flow named by protocol and port. */
static bool packet(uint8_t version, uint8_t protocol, uint16_t port, size_t len)
{
	static uint8_t p[UINT16_MAX];
	size_t header = version == 6 ? 40 : 20;

	memset(p, 0, header + 8);
	p[0] = version == 6 ? 0x60 : 0x45;
	p[version == 6 ? 6 : 9] = protocol;
	p[header + 2] = (uint8_t)(port >> 8);
	p[header + 3] = (uint8_t)port;
	return flowmeter_sparse(&m, p, len, now);
}

static void fill(uint8_t version, unsigned packets)
{
	for (unsigned i = 0; i < packets; i++)
		packet(version, 6, BULK_PORT, 1400);
}

static void test_bulk_and_sparse(void **state)
{
	(void)state;
	for (uint8_t version = 4; version <= 6; version += 2) {
		begin();
		assert_true(packet(version, 6, BULK_PORT, 60)); /* as every flow begins */
		fill(version, 20);
		for (unsigned i = 0; i < 1000; i++) {
			now += 10 * MS;
			fill(version, 80); /* about 100 Mbit/s */
			assert_false(packet(version, 6, BULK_PORT, 60));
			assert_true(packet(version, 1, 0, 84));
			assert_true(packet(version, 17, 53, 120)); /* as a voice: 96 kbit/s */
		}
	}
}

/* Back among the sparse only after a pause, in which what it had queued has left. */
static void test_calm_again(void **state)
{
	(void)state;
	begin();
	fill(4, 100);
	now += 2 * FLOWMETER_HALF_LIFE_US;
	assert_false(packet(4, 6, BULK_PORT, 60));
	now += 10 * FLOWMETER_HALF_LIFE_US;
	assert_true(packet(4, 6, BULK_PORT, 60));
	fill(4, 100);
	now += (uint64_t)FLOWMETER_HALF_LIFE_US << 32; /* the clock of the slots has gone round */
	packet(4, 6, BULK_PORT, 60);
	fill(4, 100);
	now += 1000000000;
	assert_true(packet(4, 6, BULK_PORT, 60));
}

static void test_long_packets(void **state)
{
	(void)state;
	begin();
	assert_true(packet(4, 6, 80, FLOWMETER_PACKET_BYTES));
	assert_false(packet(4, 6, 81, FLOWMETER_PACKET_BYTES + 1));
	assert_false(packet(4, 6, 82, 19)); /* no IP packet at all */
	assert_false(packet(6, 6, 83, 39));
}

/* Twenty bulk flows at once: few of a thousand others look like them. */
static void test_collisions(void **state)
{
	unsigned wrong = 0;

	(void)state;
	begin();
	for (uint16_t flow = 0; flow < 20; flow++)
		for (unsigned i = 0; i < 20; i++)
			packet(4, 6, (uint16_t)(1000 + flow), 1400);
	for (uint16_t flow = 0; flow < 1000; flow++) {
		now += FLOWMETER_HALF_LIFE_US / 1000;
		wrong += !packet(4, 17, flow, 100);
	}
	assert_in_range(wrong, 0, 30);
}

/* Fragments of one datagram stay together: ports stand in the first only. */
static void test_fragments(void **state)
{
	uint8_t first[1400] = {0x45, [6] = 0x20, [9] = 17, [20] = 1, [22] = 2};
	uint8_t rest[1400] = {0x45, [7] = 100, [9] = 17, [20] = 9, [22] = 9};

	(void)state;
	begin();
	for (unsigned i = 0; i < 4; i++)
		flowmeter_sparse(&m, first, sizeof first, now);
	for (unsigned i = 0; i < 4; i++)
		flowmeter_sparse(&m, rest, sizeof rest, now);
	assert_false(flowmeter_sparse(&m, rest, 100, now));
	assert_false(flowmeter_sparse(&m, first, 100, now));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bulk_and_sparse), cmocka_unit_test(test_calm_again),
		cmocka_unit_test(test_long_packets),	cmocka_unit_test(test_collisions),
		cmocka_unit_test(test_fragments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
