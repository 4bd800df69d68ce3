/* Which connection a packet goes to, and which packets of a peer get in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/tunroute.h"
#include "packets.h"
#include "wire/vnethdr.h"

static struct net_addr addr(const char *text)
{
	struct net_addr a = {0};

	if (text)
		assert_int_equal(net_addr_parse(&a, text, 0), 0);
	return a;
}

static struct tunroute peer(const char *local4, const char *remote4, const char *local6,
			    const char *remote6, bool v4, bool v6)
{
	return (struct tunroute){.filter = {.v4 = v4,
					    .v6 = v6,
					    .local4 = addr(local4),
					    .remote4 = addr(remote4),
					    .local6 = addr(local6),
					    .remote6 = addr(remote6)}};
}

static size_t packet(uint8_t *p, const char *src, const char *dst)
{
	struct net_addr s = addr(src), d = addr(dst);

	return packet_udp(p, &s, &d, 1, 2);
}

static struct tunroute *out(struct tunroute_table *t, const char *src, const char *dst)
{
	uint8_t p[100];
	struct bytes b;
	size_t len = packet(p, src, dst);

	return tunroute_out(t, p, len, &b);
}

static int in(struct tunroute *r, const char *src, const char *dst)
{
	uint8_t p[100];
	struct net_addr from;

	return tunroute_in(r, p, packet(p, src, dst), &from);
}

/* As a gateway has it: each peer has its own addresses. */
static void test_gateway(void **state)
{
	struct tunroute a = peer(NULL, "10.0.0.2", NULL, "fd00::2", true, true),
			b = peer(NULL, "10.0.0.3", NULL, NULL, true, false),
			c = peer(NULL, "10.0.0.2", NULL, NULL, true, false);
	struct tunroute_table t;

	(void)state;
	tunroute_table_init(&t, false, 1);
	assert_int_equal(tunroute_add(&t, &a), 0);
	assert_int_equal(tunroute_add(&t, &b), 0);
	assert_int_equal(tunroute_add(&t, &c), -EEXIST);
	assert_int_equal(t.count, 2);
	assert_ptr_equal(out(&t, "192.0.2.1", "10.0.0.2"), &a);
	assert_ptr_equal(out(&t, "192.0.2.1", "10.0.0.3"), &b);
	assert_ptr_equal(out(&t, "2001:db8::1", "fd00::2"), &a);
	assert_null(out(&t, "192.0.2.1", "10.0.0.4"));
	assert_null(out(&t, "2001:db8::1", "fd00::3"));
	assert_int_equal(in(&a, "10.0.0.2", "192.0.2.1"), 0);
	assert_int_equal(in(&a, "10.0.0.3", "192.0.2.1"), -EPERM);
	assert_int_equal(in(&a, "fd00::2", "2001:db8::1"), 0);
	assert_int_equal(in(&b, "fd00::2", "2001:db8::1"), -EPERM); /* it has no IPv6 */
	assert_int_equal(a.counters.in_packets, 2);
	assert_int_equal(a.counters.in_bytes, 60 + 80);
	assert_int_equal(a.counters.foreign, 1);
	assert_int_equal(b.counters.foreign, 1);
	tunroute_remove(&t, &a);
	assert_null(out(&t, "192.0.2.1", "10.0.0.2"));
	assert_null(out(&t, "2001:db8::1", "fd00::2"));
	assert_int_equal(tunroute_add(&t, &c), 0);
	assert_ptr_equal(out(&t, "192.0.2.1", "10.0.0.2"), &c);
	tunroute_remove(&t, &b);
	tunroute_remove(&t, &c);
	assert_int_equal(t.count, 0);
	tunroute_table_free(&t);
}

/* As a subscriber has it: everything goes to the one peer, but only from our own addresses. */
static void test_client(void **state)
{
	struct tunroute a = peer("10.0.0.2", NULL, NULL, NULL, true, false),
			b = peer("10.0.0.3", NULL, NULL, NULL, true, false);
	struct tunroute_table t;

	(void)state;
	tunroute_table_init(&t, false, 1);
	assert_int_equal(tunroute_add(&t, &a), 0);
	assert_int_equal(tunroute_add(&t, &b), -EEXIST);
	assert_ptr_equal(out(&t, "10.0.0.2", "198.51.100.1"), &a);
	assert_null(out(&t, "10.9.9.9", "198.51.100.1"));
	assert_null(out(&t, "fd00::2", "2001:db8::1"));
	assert_int_equal(a.counters.dropped, 2);
	assert_int_equal(in(&a, "198.51.100.1", "10.0.0.2"), 0);
	assert_int_equal(in(&a, "198.51.100.1", "192.168.1.1"), -EPERM);
	tunroute_sent(&a, 60, true);
	tunroute_sent(&a, 60, false);
	assert_int_equal(a.counters.out_packets, 1);
	assert_int_equal(a.counters.out_bytes, 60);
	assert_int_equal(a.counters.dropped, 3);
	tunroute_remove(&t, &a);
	assert_null(out(&t, "10.0.0.2", "198.51.100.1"));
	tunroute_table_free(&t);
}

static void test_bad_filters(void **state)
{
	struct tunroute none = peer(NULL, NULL, NULL, NULL, false, false),
			crossed = peer("fd00::1", NULL, NULL, NULL, true, true),
			crossed6 = peer(NULL, NULL, NULL, "10.0.0.1", true, true);
	struct tunroute_table t;

	(void)state;
	tunroute_table_init(&t, true, 1);
	assert_int_equal(tunroute_add(&t, &none), -EINVAL);
	assert_int_equal(tunroute_add(&t, &crossed), -EINVAL);
	assert_int_equal(tunroute_add(&t, &crossed6), -EINVAL);
	assert_int_equal(t.count, 0);
	tunroute_table_free(&t);
}

/* Headers: kept for who takes them, left out for who does not, unless something is to be done. */
static void test_headers(void **state)
{
	struct tunroute with = peer(NULL, "10.0.0.2", NULL, NULL, true, false),
			without = peer(NULL, "10.0.0.3", NULL, NULL, true, false);
	uint8_t r[VNETHDR_BYTES + 100] = {0};
	struct net_addr src;
	struct tunroute_table t;
	struct bytes b;

	(void)state;
	with.vnet = true;
	tunroute_table_init(&t, true, 1);
	assert_int_equal(tunroute_add(&t, &with), 0);
	assert_int_equal(tunroute_add(&t, &without), 0);
	size_t len = packet(r + VNETHDR_BYTES, "10.0.0.1", "10.0.0.2");
	assert_ptr_equal(tunroute_out(&t, r, VNETHDR_BYTES + len, &b), &with);
	assert_true(b.data == r && b.len == VNETHDR_BYTES + len);
	tunroute_sent(&with, b.len, true);
	assert_int_equal(with.counters.out_bytes, len);
	assert_int_equal(tunroute_in(&with, r, VNETHDR_BYTES + len, &src), -EPERM);

	len = packet(r + VNETHDR_BYTES, "10.0.0.1", "10.0.0.3");
	assert_ptr_equal(tunroute_out(&t, r, VNETHDR_BYTES + len, &b), &without);
	assert_true(b.data == r + VNETHDR_BYTES && b.len == len);
	vnethdr_write(r, &(struct vnethdr){
				 .flags = VNETHDR_NEEDS_CSUM, .csum_start = 20, .csum_offset = 6});
	assert_null(tunroute_out(&t, r, VNETHDR_BYTES + len, &b));
	assert_int_equal(without.counters.dropped, 1);

	/* Malformed, from either side. */
	assert_null(tunroute_out(&t, r, VNETHDR_BYTES + len - 1, &b));
	assert_null(tunroute_out(&t, r, VNETHDR_BYTES, &b));
	assert_null(tunroute_out(&t, r, 0, &b));
	assert_int_equal(tunroute_in(&with, r, 3, &src), -EINVAL);
	assert_int_equal(tunroute_in(&without, r, 3, &src), -EINVAL);
	len = packet(r + VNETHDR_BYTES, "10.0.0.2", "10.0.0.1");
	vnethdr_write(r, &(struct vnethdr){.gso_type = VNETHDR_GSO_UDP, .gso_size = 1});
	assert_int_equal(tunroute_in(&with, r, VNETHDR_BYTES + len, &src), -EINVAL);
	vnethdr_write(r, &(struct vnethdr){0});
	assert_int_equal(tunroute_in(&with, r, VNETHDR_BYTES + len, &src), 0);
	tunroute_remove(&t, &with);
	tunroute_remove(&t, &without);
	tunroute_table_free(&t);
}

/* Against a list of all routes, looked through one by one. */
static void test_oracle(void **state)
{
	enum { PEERS = 64 };
	static struct tunroute r[PEERS];
	static bool inside[PEERS];
	struct tunroute_table t;

	(void)state;
	srand(7);
	tunroute_table_init(&t, false, 3);
	for (unsigned i = 0; i < PEERS; i++) {
		char text[32];
		snprintf(text, sizeof text, "10.0.0.%u", 1 + i % 48);
		r[i] = peer(NULL, i == 5 ? NULL : text, NULL, NULL, true, false);
	}
	for (unsigned step = 0; step < 20000; step++) {
		unsigned i = (unsigned)rand() % PEERS;
		bool clash = false;
		for (unsigned j = 0; j < PEERS; j++)
			clash |= inside[j] &&
				 net_addr_same_ip(&r[j].filter.remote4, &r[i].filter.remote4);
		if (inside[i]) {
			tunroute_remove(&t, &r[i]);
			inside[i] = false;
		} else {
			assert_int_equal(tunroute_add(&t, &r[i]), clash ? -EEXIST : 0);
			inside[i] = !clash;
		}
		char dst[32];
		snprintf(dst, sizeof dst, "10.0.0.%u", 1 + (unsigned)rand() % 60);
		struct net_addr a = addr(dst);
		struct tunroute *want = inside[5] ? &r[5] : NULL;
		for (unsigned j = 0; j < PEERS; j++)
			if (inside[j] && net_addr_same_ip(&r[j].filter.remote4, &a))
				want = &r[j];
		assert_ptr_equal(out(&t, "192.0.2.1", dst), want);
	}
	tunroute_table_free(&t);
}

/* TCP's data keeps its order, with a virtio header before it or without. */
static void test_order(void **state)
{
	uint8_t packet[VNETHDR_BYTES + 60] = {0}, *ip = packet + VNETHDR_BYTES;
	struct tunroute with = {.vnet = true}, without = {.vnet = false};

	(void)state;
	ip[0] = 0x45;
	ip[9] = 6;
	ip[20 + 12] = 5 << 4;
	assert_true(tunroute_in_order(&with, packet, sizeof packet));
	assert_true(tunroute_in_order(&without, ip, 41));
	assert_false(tunroute_in_order(&without, ip, 40));
	assert_false(tunroute_in_order(&without, packet, sizeof packet));
	assert_false(tunroute_in_order(&with, packet, VNETHDR_BYTES));
	assert_false(tunroute_in_order(&with, packet, 0));
	ip[9] = 17;
	assert_false(tunroute_in_order(&with, packet, sizeof packet));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gateway),	    cmocka_unit_test(test_client),
		cmocka_unit_test(test_bad_filters), cmocka_unit_test(test_headers),
		cmocka_unit_test(test_oracle),	    cmocka_unit_test(test_order),
	};
	return cmocka_run_group_tests_name("tunroute", tests, NULL, NULL);
}
