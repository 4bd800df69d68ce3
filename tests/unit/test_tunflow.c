/* Packets of a TUN interface turned around, against sums that are counted anew; flows against their
 * limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/tunflow.h"

static struct net_addr addr(const char *text)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(&a, text, 0), 0);
	return a;
}

/* The plain way: everything summed, which must give 0xffff. */
static uint32_t sum(const uint8_t *p, size_t len, uint32_t s)
{
	for (size_t i = 0; i < len; i++)
		s += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

static bool sums_are_right(const uint8_t *packet, size_t len)
{
	bool v4 = packet[0] >> 4 == 4;
	size_t header = v4 ? (size_t)(packet[0] & 15) * 4 : 40;
	uint8_t protocol = v4 ? packet[9] : packet[6];
	uint32_t pseudo = sum(packet + (v4 ? 12 : 8), v4 ? 8 : 32, 0);

	if (protocol == TUNFLOW_ICMP)
		pseudo = 0;
	else
		pseudo += protocol + (uint32_t)(len - header);
	return (!v4 || sum(packet, header, 0) == 0xffff) &&
	       sum(packet + header, len - header, pseudo) == 0xffff;
}

/* A segment with some data and right sums. */
static size_t segment(uint8_t *out, const struct net_addr *src, const struct net_addr *dst,
		      uint8_t flags, size_t data)
{
	size_t header = src->family == 4 ? 20 : 40, tcp = 20;
	uint8_t payload[256];
	struct tunflow_packet p;

	for (size_t i = 0; i < sizeof payload; i++)
		payload[i] = (uint8_t)(i * 37 + 1);
	/* Made as a datagram, whose IP header is right, and rewritten. */
	size_t len = tunflow_datagram(out, 512, src, dst, bytes_of(payload, tcp - 8 + data));
	assert_int_equal(len, header + tcp + data);
	assert_int_equal(tunflow_parse(out, len, &p), 0);
	out[header + 12] = 5 << 4;
	out[header + 13] = flags;
	be32_put(out + header + 4, 0xfffffffe);
	out[src->family == 4 ? 9 : 6] = TUNFLOW_TCP;
	if (src->family == 4) {
		out[10] = out[11] = 0;
		uint32_t s = ~sum(out, 20, 0);
		out[10] = (uint8_t)(s >> 8);
		out[11] = (uint8_t)s;
	}
	out[header + 16] = out[header + 17] = 0;
	uint32_t s = ~sum(out + header, len - header,
			  sum(out + (src->family == 4 ? 12 : 8), src->family == 4 ? 8 : 32, 0) +
				  TUNFLOW_TCP + (uint32_t)(len - header));
	out[header + 16] = (uint8_t)(s >> 8);
	out[header + 17] = (uint8_t)s;
	assert_true(sums_are_right(out, len));
	return len;
}

static const char *const ends[][4] = {
	{"10.117.0.2:40000", "198.51.100.80:80", "10.117.0.1:20001", "10.117.0.2:1"},
	{"[fd75::2]:40000", "[2001:db8::80]:443", "[fd75::1]:65535", "[fd75::2]:9"},
	{"255.255.255.255:65535", "0.0.0.0:0", "0.0.0.0:0", "255.255.255.255:65535"},
};

static void test_readdresses_and_keeps_the_sums(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		struct net_addr a = addr(ends[i][0]), b = addr(ends[i][1]), c = addr(ends[i][2]),
				d = addr(ends[i][3]);
		uint8_t packet[512], before[512];
		struct tunflow_packet p;
		size_t len = segment(packet, &a, &b, TUNFLOW_ACK, 33);

		memcpy(before, packet, len);
		assert_int_equal(tunflow_parse(packet, len, &p), 0);
		assert_true(net_addr_equal(&p.src, &a) && net_addr_equal(&p.dst, &b));
		assert_int_equal(p.end - p.payload, 33);
		tunflow_readdress(packet, &p, &c, &d);
		assert_true(sums_are_right(packet, len));
		assert_int_equal(tunflow_parse(packet, len, &p), 0);
		assert_true(net_addr_equal(&p.src, &c) && net_addr_equal(&p.dst, &d));
		/* And back: byte for byte, but for the two forms of zero in a sum. */
		tunflow_readdress(packet, &p, &a, &b);
		assert_true(sums_are_right(packet, len));
		assert_memory_equal(packet + p.payload, before + p.payload, 33);
		/* What was wrong stays wrong. */
		packet[p.payload] ^= 1;
		tunflow_readdress(packet, &p, &c, &d);
		assert_false(sums_are_right(packet, len));
	}
}

static void test_refuses_with_a_reset(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct net_addr a = addr(ends[i][0]), b = addr(ends[i][1]);
		uint8_t packet[512], out[TUNFLOW_HEADERS_MAX];
		struct tunflow_packet p, r;
		size_t len = segment(packet, &a, &b, TUNFLOW_SYN, 0);

		assert_int_equal(tunflow_parse(packet, len, &p), 0);
		len = tunflow_refuse(out, packet, &p);
		assert_true(sums_are_right(out, len));
		assert_int_equal(tunflow_parse(out, len, &r), 0);
		assert_true(net_addr_equal(&r.src, &b) && net_addr_equal(&r.dst, &a));
		assert_int_equal(r.tcp_flags, TUNFLOW_RST | TUNFLOW_ACK);
		assert_int_equal(be32_get(out + r.l4 + 8), 0xffffffff);
		packet[p.l4 + 13] = TUNFLOW_ACK;
		be32_put(packet + p.l4 + 8, 77);
		assert_int_equal(tunflow_parse(packet, p.end, &p), 0);
		len = tunflow_refuse(out, packet, &p);
		assert_int_equal(tunflow_parse(out, len, &r), 0);
		assert_int_equal(r.tcp_flags, TUNFLOW_RST);
		assert_int_equal(be32_get(out + r.l4 + 4), 77);
		assert_true(sums_are_right(out, len));
	}
}

static void test_makes_datagrams(void **state)
{
	static uint8_t packet[70000], payload[66000];
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct net_addr a = addr(ends[i][0]), b = addr(ends[i][1]);
		size_t header = i == 0 ? 28 : 48, most = i == 0 ? 65507 : 65527;
		const size_t lengths[] = {0, 1, 2, 1001, most};
		struct tunflow_packet p;

		memset(payload, 0xff, sizeof payload); /* the largest sum */
		for (size_t k = 0; k < 5; k++) {
			size_t len = tunflow_datagram(packet, sizeof packet, &a, &b,
						      bytes_of(payload, lengths[k]));
			assert_int_equal(len, header + lengths[k]);
			assert_true(sums_are_right(packet, len));
			assert_int_equal(tunflow_parse(packet, len, &p), 0);
			assert_int_equal(p.end - p.payload, lengths[k]);
			assert_true(net_addr_equal(&p.src, &a) && net_addr_equal(&p.dst, &b));
		}
		assert_int_equal(tunflow_datagram(packet, sizeof packet, &a, &b,
						  bytes_of(payload, most + 1)),
				 0);
		assert_int_equal(
			tunflow_datagram(packet, header + 9, &a, &b, bytes_of(payload, 10)), 0);
		struct net_addr other = addr(ends[1 - i][0]);
		assert_int_equal(
			tunflow_datagram(packet, sizeof packet, &a, &other, bytes_of(payload, 1)),
			0);
	}
}

static void test_answers_an_echo(void **state)
{
	uint8_t v4[32] = {0x45, 0, 0,  32, 0, 0, 0,  0, 64, TUNFLOW_ICMP,
			  0,	0, 10, 0,  0, 1, 10, 0, 0,  2,
			  8,	0, 0,  0,  1, 2, 3,  4, 5,  6,
			  7,	8};
	struct tunflow_packet p;
	uint32_t s = ~sum(v4, 20, 0);
	(void)state;

	v4[10] = (uint8_t)(s >> 8);
	v4[11] = (uint8_t)s;
	s = ~sum(v4 + 20, 12, 0);
	v4[22] = (uint8_t)(s >> 8);
	v4[23] = (uint8_t)s;
	assert_int_equal(tunflow_parse(v4, sizeof v4, &p), 0);
	assert_true(tunflow_echo(v4, &p));
	assert_int_equal(v4[20], 0);
	assert_int_equal(v4[15], 2);
	assert_int_equal(v4[19], 1);
	assert_true(sums_are_right(v4, sizeof v4));
	assert_false(tunflow_echo(v4, &p)); /* no answer to an answer */
	struct net_addr a = addr("[fd00::1]:0"), b = addr("[fd00::2]:0");
	uint8_t v6[64];
	size_t len = tunflow_datagram(v6, sizeof v6, &a, &b, bytes_of("12345678", 8));
	v6[6] = TUNFLOW_ICMP6;
	v6[40] = 128;
	v6[41] = v6[42] = v6[43] = 0;
	s = ~sum(v6 + 40, len - 40, sum(v6 + 8, 32, 0) + TUNFLOW_ICMP6 + (uint32_t)(len - 40));
	v6[42] = (uint8_t)(s >> 8);
	v6[43] = (uint8_t)s;
	assert_int_equal(tunflow_parse(v6, len, &p), 0);
	assert_true(tunflow_echo(v6, &p));
	assert_int_equal(v6[40], 129);
	assert_int_equal(v6[23], 2);
	assert_true(sums_are_right(v6, len));
}

static void test_refuses_what_is_no_packet(void **state)
{
	struct net_addr a = addr("10.0.0.1:1"), b = addr("10.0.0.2:2");
	uint8_t packet[512], bad[512];
	struct tunflow_packet p;
	size_t len = segment(packet, &a, &b, TUNFLOW_ACK, 10);
	(void)state;

	for (size_t cut = 0; cut < len; cut++)
		assert_int_not_equal(tunflow_parse(packet, cut, &p), 0);
	const struct {
		size_t at;
		uint8_t value;
		int err;
	} changes[] = {
		{0, 0x44, -EINVAL},	/* a header shorter than it can be */
		{0, 0x4f, -EINVAL},	/* and one longer than the packet */
		{0, 0x55, -EINVAL},	/* version 5 */
		{6, 0x20, -EOPNOTSUPP}, /* a first fragment */
		{7, 1, -EOPNOTSUPP},	/* a later one */
		{9, 132, -EOPNOTSUPP},	/* SCTP */
		{9, TUNFLOW_UDP, -EINVAL}, {32, 0x40, -EINVAL}, /* a TCP header of 16 bytes */
		{32, 0xf0, -EINVAL},				/* of 60 */
	};
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		memcpy(bad, packet, len);
		bad[changes[i].at] = changes[i].value;
		assert_int_equal(tunflow_parse(bad, len, &p), changes[i].err);
	}
}

static void test_flows_are_found_and_end(void **state)
{
	struct net_addr app = addr("10.0.0.1:1000"), remote = addr("192.0.2.1:80");
	struct tunflow_table t;
	struct tunflow *f, *g;
	(void)state;

	assert_int_equal(tunflow_table_init(&t, 2, 7), 0);
	f = tunflow_open(&t, &app, &remote, 100);
	assert_non_null(f);
	assert_null(tunflow_open(&t, &app, &remote, 100)); /* one between two ends */
	assert_ptr_equal(tunflow_find(&t, &app, &remote), f);
	assert_ptr_equal(tunflow_by_port(&t, f->port), f);
	assert_null(tunflow_by_port(&t, 0));
	assert_null(tunflow_by_port(&t, 65535));
	app.port++;
	g = tunflow_open(&t, &app, &remote, 100);
	assert_non_null(g);
	assert_int_not_equal(f->port, g->port);
	app.port++;
	assert_null(tunflow_open(&t, &app, &remote, 100)); /* two at most */
	tunflow_end(&t, f, 200);
	assert_ptr_equal(tunflow_by_port(&t, f->port), f); /* its last packets still pass */
	assert_non_null(tunflow_open(&t, &app, &remote, 300));
	/* The same ends again: what is over makes room, under another port. */
	uint16_t old = f->port;
	struct net_addr first = f->app;
	tunflow_end(&t, g, 300);
	f = tunflow_open(&t, &first, &remote, 400);
	assert_non_null(f);
	assert_int_not_equal(f->port, old);
	assert_null(tunflow_by_port(&t, old));
	tunflow_sweep(&t, 300);
	assert_int_equal(t.count, 3);
	tunflow_sweep(&t, 301);
	assert_int_equal(t.count, 2);
	tunflow_table_free(&t);
}

static void test_ports_come_back_late_and_what_is_over_is_limited(void **state)
{
	struct net_addr app = addr("10.0.0.1:1"), remote = addr("192.0.2.1:80");
	static bool seen[65536];
	struct tunflow_table t;
	(void)state;

	assert_int_equal(tunflow_table_init(&t, 100, 7), 0);
	for (unsigned i = 0; i < TUNFLOW_PORTS; i++) {
		app.port = (uint16_t)(i + 1);
		struct tunflow *f = tunflow_open(&t, &app, &remote, i);
		assert_non_null(f);
		assert_false(seen[f->port]);
		seen[f->port] = true;
		tunflow_end(&t, f, i);
		assert_true(t.count <= 500);
	}
	tunflow_table_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readdresses_and_keeps_the_sums),
		cmocka_unit_test(test_refuses_with_a_reset),
		cmocka_unit_test(test_makes_datagrams),
		cmocka_unit_test(test_answers_an_echo),
		cmocka_unit_test(test_refuses_what_is_no_packet),
		cmocka_unit_test(test_flows_are_found_and_end),
		cmocka_unit_test(test_ports_come_back_late_and_what_is_over_is_limited),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
