/* The address pools: bounds of prefixes, exhaustion, and a seeded run against a naive oracle. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gatewayd/pool.h"

static const char *ip_text(const struct net_addr *a)
{
	static char text[NET_ADDR_TEXT];

	return net_addr_ip_text(a, text);
}

static struct net_addr ip(const char *text)
{
	struct net_addr a = {0};

	assert_int_equal(net_addr_parse(&a, text, 0), 0);
	return a;
}

static void test_prefixes(void **state)
{
	static const struct {
		const char *prefix, *gateway, *first;
		uint32_t size;
	} good[] = {
		{"10.66.0.0/16", "10.66.0.1", "10.66.0.2", 65533},
		{"10.0.0.0/8", "10.0.0.1", "10.0.0.2", 65534},
		{"192.168.7.0/24", "192.168.7.1", "192.168.7.2", 253},
		{"192.168.7.4/30", "192.168.7.5", "192.168.7.6", 1},
		{"192.168.7.8/29", "192.168.7.9", "192.168.7.10", 5},
		{"fd00:66::/64", "fd00:66::1", "fd00:66::2", 65534},
		{"fd00:66::/48", "fd00:66::1", "fd00:66::2", 65534},
		{"fd00::ff00/120", "fd00::ff01", "fd00::ff02", 254},
		{"fd00::4/126", "fd00::5", "fd00::6", 2},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct pool p;
		struct net_addr a;

		assert_int_equal(pool_init(&p, good[i].prefix), 0);
		assert_true(pool_in_use(&p));
		a = pool_gateway(&p);
		assert_string_equal(ip_text(&a), good[i].gateway);
		assert_int_equal(pool_size(&p), good[i].size);
		assert_int_equal(pool_left(&p), good[i].size);
		assert_int_equal(pool_take(&p, &a), 0);
		assert_string_equal(ip_text(&a), good[i].first);
		assert_int_equal(pool_left(&p), good[i].size - 1);
		pool_free(&p);
	}
}

static void test_bad_prefixes(void **state)
{
	static const struct {
		const char *prefix;
		int rc;
	} bad[] = {
		{"10.66.0.0", -EINVAL},	    {"10.66.0.1/16", -EINVAL}, {"10.66.0.0/", -EINVAL},
		{"10.66.0.0/33", -EINVAL},  {"10.66.0.0/x", -EINVAL},  {"/16", -EINVAL},
		{"10.66.0.0/31", -ERANGE},  {"10.66.0.0/32", -ERANGE}, {"0.0.0.0/0", -ERANGE},
		{"fd00:66::1/64", -EINVAL}, {"fd00::/127", -ERANGE},   {"::/0", -ERANGE},
		{"fd00:66::/129", -EINVAL}, {"host/24", -EINVAL},      {"10.66.0.0/16,", -EINVAL},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct pool p;
		struct net_addr a;

		assert_int_equal(pool_init(&p, bad[i].prefix), bad[i].rc);
		assert_false(pool_in_use(&p));
		assert_int_equal(pool_take(&p, &a), -ENOSPC);
		pool_free(&p);
	}
}

static void test_empty(void **state)
{
	struct net_addr a = ip("10.0.0.2");
	struct pool p;

	(void)state;
	assert_int_equal(pool_init(&p, ""), 0);
	assert_false(pool_in_use(&p));
	assert_int_equal(pool_left(&p), 0);
	assert_int_equal(pool_take_exact(&p, &a), -ERANGE);
	assert_int_equal(pool_give(&p, &a), -ENOENT);
	assert_int_equal(pool_take(&p, &a), -ENOSPC);
	pool_free(&p);
}

/* Every address of a prefix once, none of the reserved ones, then a clear end. */
static void exhaust(const char *prefix, const char *const *never)
{
	static uint8_t seen[65536];
	struct net_addr a, b;
	struct pool p;
	uint32_t n = 0;

	memset(seen, 0, sizeof(seen));
	assert_int_equal(pool_init(&p, prefix), 0);
	while (pool_take(&p, &a) == 0) {
		unsigned low =
			a.family == 4 ? a.ip[2] * 256u + a.ip[3] : a.ip[14] * 256u + a.ip[15];

		assert_true(net_prefix_contains(&p.net, &a));
		assert_false(seen[low]++);
		for (const char *const *r = never; *r; r++)
			assert_string_not_equal(ip_text(&a), *r);
		n++;
	}
	assert_int_equal(n, pool_size(&p));
	assert_int_equal(pool_left(&p), 0);
	assert_int_equal(pool_take(&p, &b), -ENOSPC);
	b = p.net.addr;
	assert_int_equal(pool_give(&p, &b), -ENOENT); /* the network is nobody's to give back */
	pool_free(&p);
}

static void test_exhaustion(void **state)
{
	(void)state;
	exhaust("10.66.0.0/16",
		(const char *const[]){"10.66.0.0", "10.66.0.1", "10.66.255.255", NULL});
	exhaust("10.66.4.0/25",
		(const char *const[]){"10.66.4.0", "10.66.4.1", "10.66.4.127", NULL});
	exhaust("fd00:66::/64", (const char *const[]){"fd00:66::", "fd00:66::1", NULL});
	exhaust("fd00::/125", (const char *const[]){"fd00::", "fd00::1", NULL});
}

static void test_exact(void **state)
{
	static const char *const outside[] = {"10.66.0.0", "10.66.0.1", "10.66.0.255",
					      "10.66.1.2", "10.65.0.2", "::10.66.0.2",
					      "fd00:66::2"};
	struct net_addr a, in = ip("10.66.0.2");
	struct pool p;

	(void)state;
	assert_int_equal(pool_init(&p, "10.66.0.0/24"), 0);
	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		a = ip(outside[i]);
		assert_int_equal(pool_take_exact(&p, &a), -ERANGE);
		assert_int_equal(pool_give(&p, &a), -ENOENT);
	}
	assert_int_equal(pool_give(&p, &in), -ENOENT);
	assert_int_equal(pool_take_exact(&p, &in), 0);
	assert_int_equal(pool_take_exact(&p, &in), -EEXIST);
	assert_int_equal(pool_take(&p, &a), 0);
	assert_string_equal(ip_text(&a), "10.66.0.3");
	assert_int_equal(pool_give(&p, &in), 0);
	assert_int_equal(pool_give(&p, &in), -ENOENT);
	/* what was given back rests while there are others */
	assert_int_equal(pool_take(&p, &a), 0);
	assert_string_equal(ip_text(&a), "10.66.0.4");
	pool_free(&p);

	assert_int_equal(pool_init(&p, "fd00:66::/48"), 0);
	a = ip("fd00:66:0:1::2"); /* inside the prefix, but not among the indexed ones */
	assert_int_equal(pool_take_exact(&p, &a), -ERANGE);
	a = ip("fd00:66::1:0");
	assert_int_equal(pool_take_exact(&p, &a), -ERANGE);
	a = ip("fd00:66::ffff");
	assert_int_equal(pool_take_exact(&p, &a), 0);
	pool_free(&p);
}

static uint32_t next_random(uint32_t *s)
{
	*s = *s * 1664525u + 1013904223u;
	return *s >> 8;
}

/* A long mixed run; the oracle is one flag an address. */
static void test_oracle(void **state)
{
	static uint8_t taken[256];
	uint32_t seed = 7, count = 0;
	struct pool p;

	(void)state;
	assert_int_equal(pool_init(&p, "10.66.7.0/24"), 0);
	for (int i = 0; i < 100000; i++) {
		uint32_t r = next_random(&seed);
		struct net_addr a = p.net.addr;
		uint8_t low = (uint8_t)(r >> 2);
		int rc;

		a.ip[3] = low;
		if (r % 4 == 0) {
			rc = pool_give(&p, &a);
			assert_int_equal(rc, taken[low] ? 0 : -ENOENT);
			count -= taken[low];
			taken[low] = 0;
		} else if (r % 4 == 1) {
			rc = pool_take_exact(&p, &a);
			assert_int_equal(rc, low < 2 || low == 255 ? -ERANGE
					     : taken[low]	   ? -EEXIST
								   : 0);
			count += rc == 0;
			taken[low] |= rc == 0;
		} else {
			rc = pool_take(&p, &a);
			assert_int_equal(rc, count == 253 ? -ENOSPC : 0);
			if (rc == 0)
				assert_false(taken[a.ip[3]]++);
			count += rc == 0;
		}
		assert_int_equal(pool_left(&p), 253 - count);
	}
	pool_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prefixes), cmocka_unit_test(test_bad_prefixes),
		cmocka_unit_test(test_empty),	 cmocka_unit_test(test_exhaustion),
		cmocka_unit_test(test_exact),	 cmocka_unit_test(test_oracle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
