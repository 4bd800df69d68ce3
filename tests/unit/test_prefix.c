/* base/prefix and base/ippacket. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/ippacket.h"
#include "base/prefix.h"
#include "packets.h"

static void test_parse(void **state)
{
	static const struct {
		const char *text, *want; /* want NULL: refused */
	} cases[] = {
		{"10.0.0.0/8", "10.0.0.0/8"},
		{"10.1.2.3", "10.1.2.3/32"},
		{"fd00::/8", "fd00::/8"},
		{"::1", "::1/128"},
		{"0.0.0.0/0", "0.0.0.0/0"},
		{"::/0", "::/0"},
		{"10.0.0.0/33", NULL},
		{"::/129", NULL},
		{"10.0.0.0/", NULL},
		{"10.0.0.0/ 8", NULL},
		{"10.0.0.0/-1", NULL},
		{"10.0.0.0/8x", NULL},
		{"10.0.0.0:80/8", NULL},
		{"[::1]:5/128", NULL},
		{"/8", NULL},
		{"", NULL},
		{"name/8", NULL},
		{"10.0.0.0/99999999999999999999", NULL},
		{"1111111111111111111111111111111111111111111111111111111111111111/8", NULL},
	};
	char text[NET_PREFIX_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct net_prefix p;
		int rc = net_prefix_parse(&p, cases[i].text);
		assert_int_equal(rc, cases[i].want ? 0 : -EINVAL);
		if (cases[i].want)
			assert_string_equal(net_prefix_text(&p, text), cases[i].want);
	}
}

static void test_list(void **state)
{
	struct net_prefix p[3];

	(void)state;
	assert_int_equal(net_prefix_parse_list(p, 3, ""), 0);
	assert_int_equal(net_prefix_parse_list(p, 3, " , ,"), 0);
	assert_int_equal(net_prefix_parse_list(p, 3, "10.0.0.0/8, fd00::/8 ,1.2.3.4"), 3);
	assert_int_equal(p[2].bits, 32);
	assert_int_equal(net_prefix_parse_list(p, 2, "10.0.0.0/8,fd00::/8,1.2.3.4"), -ENOSPC);
	assert_int_equal(net_prefix_parse_list(p, 3, "10.0.0.0/8,x"), -EINVAL);
}

/* One bit at a time. */
static bool naive_contains(const struct net_prefix *p, const struct net_addr *a)
{
	for (unsigned bit = 0; bit < p->bits; bit++)
		if ((p->addr.ip[bit / 8] ^ a->ip[bit / 8]) >> (7 - bit % 8) & 1)
			return false;
	return p->addr.family == a->family;
}

static void test_contains(void **state)
{
	unsigned inside = 0;

	(void)state;
	srand(7);
	for (int round = 0; round < 20000; round++) {
		struct net_prefix p = {.addr.family = round & 1 ? 4 : 6};
		unsigned size = round & 1 ? 4 : 16;
		p.bits = (uint8_t)((unsigned)rand() % (size * 8 + 1));
		for (unsigned i = 0; i < size; i++)
			p.addr.ip[i] = (uint8_t)rand();
		struct net_addr a = p.addr;
		unsigned flip = (unsigned)rand() % (size * 8);
		a.ip[flip / 8] ^= (uint8_t)(0x80u >> flip % 8);
		assert_int_equal(net_prefix_contains(&p, &a), naive_contains(&p, &a));
		inside += net_prefix_contains(&p, &a);
		struct net_prefix n = net_prefix_network(&p);
		assert_true(net_prefix_contains(&p, &n.addr) && n.bits == p.bits);
		for (unsigned bit = p.bits; bit < size * 8; bit++)
			assert_int_equal(n.addr.ip[bit / 8] >> (7 - bit % 8) & 1, 0);
	}
	assert_true(inside > 1000 && inside < 19000);
}

static void test_packets(void **state)
{
	struct net_addr a4, b4, a6, b6, src, dst;
	uint8_t p[128];

	(void)state;
	net_addr_parse(&a4, "10.0.0.1", 0);
	net_addr_parse(&b4, "192.0.2.7", 0);
	net_addr_parse(&a6, "fd00::1", 0);
	net_addr_parse(&b6, "2001:db8::7", 0);
	for (int v6 = 0; v6 < 2; v6++) {
		const struct net_addr *a = v6 ? &a6 : &a4, *b = v6 ? &b6 : &b4;
		size_t len = packet_udp(p, a, b, 1, 2);
		assert_int_equal(ippacket_ends(p, len, &src, &dst), 0);
		assert_true(net_addr_equal(&src, a) && net_addr_equal(&dst, b));
		for (size_t cut = 0; cut < len; cut++) {
			/* On the heap, so that a sanitizer sees a read past the end. */
			uint8_t *copy = malloc(cut + 1);
			assert_non_null(copy);
			memcpy(copy, p, cut);
			assert_int_equal(ippacket_ends(copy, cut, &src, &dst), -EINVAL);
			free(copy);
		}
		assert_int_equal(ippacket_ends(p, len + 1, &src, &dst), -EINVAL);
		for (unsigned version = 0; version < 16; version++) {
			p[0] = (uint8_t)(version << 4 | 5);
			assert_int_equal(ippacket_ends(p, len, &src, &dst) == 0,
					 version == (v6 ? 6 : 4));
		}
	}
	/* A header length beyond the packet, or below its minimum. */
	size_t len = packet_udp(p, &a4, &b4, 1, 2);
	p[0] = 0x4f;
	assert_int_equal(ippacket_ends(p, len, &src, &dst), len < 60 ? -EINVAL : 0);
	p[0] = 0x44;
	assert_int_equal(ippacket_ends(p, len, &src, &dst), -EINVAL);
}

/* A TCP segment of `data` bytes with `options` words of options. */
static size_t packet_tcp(uint8_t *p, bool v6, size_t options, size_t data, uint8_t flags)
{
	size_t ip = v6 ? 40 : 20, tcp = 20 + 4 * options, len = ip + tcp + data;

	memset(p, 0, len);
	p[0] = v6 ? 0x60 : 0x45;
	p[v6 ? 6 : 9] = 6;
	p[v6 ? 5 : 3] = (uint8_t)(v6 ? len - ip : len);
	p[ip + 12] = (uint8_t)(tcp / 4 << 4);
	p[ip + 13] = flags;
	return len;
}

static void test_tcp_data(void **state)
{
	struct net_addr a;
	uint8_t p[200];

	(void)state;
	net_addr_parse(&a, "10.0.0.1", 0);
	assert_false(ippacket_has_tcp_data(p, packet_udp(p, &a, &a, 1, 2)));
	for (int v6 = 0; v6 < 2; v6++) {
		assert_true(ippacket_has_tcp_data(p, packet_tcp(p, v6, 3, 1, 0x10)));
		assert_false(ippacket_has_tcp_data(p, packet_tcp(p, v6, 3, 0, 0x10)));
		assert_false(ippacket_has_tcp_data(p, packet_tcp(p, v6, 3, 0, 0x02)));
		assert_true(ippacket_has_tcp_data(p, packet_tcp(p, v6, 3, 0, 0x11)));
		size_t len = packet_tcp(p, v6, 3, 0, 0x10);
		for (size_t cut = 0; cut < len; cut++) {
			uint8_t *copy = malloc(cut + 1);
			assert_non_null(copy);
			memcpy(copy, p, cut);
			assert_false(ippacket_has_tcp_data(copy, cut));
			free(copy);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),	 cmocka_unit_test(test_list),
		cmocka_unit_test(test_contains), cmocka_unit_test(test_packets),
		cmocka_unit_test(test_tcp_data),
	};
	return cmocka_run_group_tests_name("prefix", tests, NULL, NULL);
}
