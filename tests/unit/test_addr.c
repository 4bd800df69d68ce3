/* Addresses, ids and hexadecimal as text and on the wire; the log's limit. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/addr.h"
#include "base/id.h"
#include "base/log.h"

static struct net_addr parsed(const char *text)
{
	struct net_addr a;
	assert_int_equal(net_addr_parse(&a, text, 99), 0);
	return a;
}

static void test_good_text(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{"1.2.3.4:5", "1.2.3.4:5"},
		{"1.2.3.4", "1.2.3.4:99"},
		{"[::1]:5", "[::1]:5"},
		{"[::1]", "[::1]:99"},
		{"::1", "[::1]:99"},
		{"fe80::1:2", "[fe80::1:2]:99"},
		{"255.255.255.255:65535", "255.255.255.255:65535"},
		{"[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
		 "[2001:db8:1111:2222:3333:4444:5555:6666]:65535"},
		{"0.0.0.0:0", "0.0.0.0:0"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char text[NET_ADDR_TEXT];
		struct net_addr a = parsed(cases[i][0]);
		assert_string_equal(net_addr_text(&a, text), cases[i][1]);
		struct net_addr again = parsed(text);
		assert_true(net_addr_equal(&a, &again));
	}
	char ip[NET_ADDR_TEXT];
	struct net_addr a = parsed("[::1]:5"), none = {0};
	assert_string_equal(net_addr_ip_text(&a, ip), "::1");
	assert_string_equal(net_addr_text(&none, ip), "none");
}

static void test_bad_text(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"",
		":",
		":5",
		"1.2.3",
		"1.2.3.4.5",
		"1.2.3.4:",
		"1.2.3.4:x",
		"1.2.3.4:-1",
		"1.2.3.4: 5",
		"1.2.3.4:65536",
		"1.2.3.4:+5",
		"256.1.1.1",
		"[::1",
		"[::1]x",
		"[::1]:",
		"[::1]:99999",
		"[1.2.3.4",
		"localhost",
		"localhost:80",
		"1.2.3.4/8",
		"::g",
		" 1.2.3.4",
		"1.2.3.4 ",
		"[]:5",
		"1.2.3.4:5:6",
		"111111111111111111111111111111111111111111111111111111111111111111111111",
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct net_addr a = {.family = 77};
		assert_int_equal(net_addr_parse(&a, bad[i], 1), -EINVAL);
		assert_int_equal(a.family, 77); /* untouched */
	}
}

static void test_kinds(void **state)
{
	(void)state;
	struct net_addr a = parsed("127.9.8.7:1"), b = parsed("[::1]:1"), c = parsed("10.1.2.3:1");
	assert_true(net_addr_is_loopback(&a));
	assert_true(net_addr_is_loopback(&b));
	assert_false(net_addr_is_loopback(&c));
	struct net_addr any6 = parsed("[::]:1"), any4 = parsed("0.0.0.0:1"), none = {0};
	assert_false(net_addr_is_loopback(&any6));
	assert_false(net_addr_is_loopback(&any4));
	assert_false(net_addr_is_loopback(&none));
	struct net_addr d = parsed("10.1.2.3:2");
	assert_true(net_addr_same_ip(&c, &d));
	assert_false(net_addr_equal(&c, &d));
}

/* Against counting bits one by one. */
static void test_prefix(void **state)
{
	(void)state;
	struct net_addr a = parsed("[2001:db8:f0f0::aa55]:1");
	for (unsigned flip = 0; flip < 128; flip++) {
		struct net_addr b = a;
		b.ip[flip / 8] ^= (uint8_t)(0x80 >> flip % 8);
		for (unsigned bits = 0; bits <= 128; bits++)
			assert_int_equal(net_addr_same_prefix(&a, &b, bits), bits <= flip);
	}
	struct net_addr v4 = parsed("10.0.0.1"), other = parsed("10.0.0.255");
	assert_true(net_addr_same_prefix(&v4, &other, 24));
	assert_false(net_addr_same_prefix(&v4, &other, 25));
	assert_false(net_addr_same_prefix(&v4, &v4, 33));
	assert_false(net_addr_same_prefix(&v4, &a, 0));
}

static void test_wire(void **state)
{
	(void)state;
	static const char *const good[] = {"1.2.3.4:5", "[fe80::1]:65535"};
	for (int i = 0; i < 2; i++) {
		uint8_t buf[NET_ADDR_BYTES];
		struct net_addr a = parsed(good[i]), b;
		struct wbuf w = wbuf_init(buf, sizeof buf);
		net_addr_write(&w, &a);
		assert_int_equal(wbuf_len(&w), NET_ADDR_BYTES);
		struct rbuf r = rbuf_init(buf, sizeof buf);
		net_addr_read(&r, &b);
		assert_true(rbuf_done(&r));
		assert_true(net_addr_equal(&a, &b));
		for (int family = 0; family < 256; family++) {
			bool known = family == 6 || (family == 4 && i == 0);
			buf[0] = (uint8_t)family;
			r = rbuf_init(buf, sizeof buf);
			net_addr_read(&r, &b);
			/* An IPv6 address under family 4 has bytes that belong to nothing. */
			assert_int_equal(rbuf_done(&r), known);
		}
	}
}

static void test_id(void **state)
{
	(void)state;
	struct mesh_id id, back;
	char text[MESH_ID_TEXT + 1], small[MESH_ID_SHORT];
	for (unsigned i = 0; i < MESH_ID_BYTES; i++)
		id.b[i] = (uint8_t)(i * 37 + 1);
	assert_int_equal(strlen(mesh_id_text(&id, text)), 64);
	assert_int_equal(mesh_id_parse(&back, text), 0);
	assert_true(mesh_id_equal(&id, &back));
	assert_int_equal(mesh_id_cmp(&id, &back), 0);
	back.b[31]++;
	assert_false(mesh_id_equal(&id, &back));
	assert_true(mesh_id_cmp(&id, &back) < 0);
	assert_memory_equal(mesh_id_short(&id, small), text, 8);
	assert_int_equal(strlen(small), 8);
	struct mesh_id zero = {0};
	assert_true(mesh_id_is_zero(&zero));
	assert_false(mesh_id_is_zero(&id));
	text[63] = '\0';
	assert_int_equal(mesh_id_parse(&back, text), -EINVAL);
	strcpy(text + 63, "g");
	assert_int_equal(mesh_id_parse(&back, text), -EINVAL);
	strcpy(text + 63, "00");
	assert_int_equal(mesh_id_parse(&back, text), -EINVAL);
	assert_int_equal(mesh_id_parse(&back, ""), -EINVAL);
}

static void test_log_limit(void **state)
{
	(void)state;
	struct log_limit l = {0};
	assert_true(log_limit_due(&l, 0)); /* the first always, whatever the clock says */
	unsigned due = 0;
	for (uint64_t s = 1; s <= 600; s++)
		due += log_limit_due(&l, s * 1000000u);
	assert_int_equal(due, 10);
	assert_int_equal(l.count, 601);
}

static char last_line[2048];
static unsigned lines;
static void sink(enum log_level level, const char *line)
{
	(void)level;
	lines++;
	strncpy(last_line, line, sizeof last_line - 1);
}

static void test_log(void **state)
{
	(void)state;
	char big[3000];
	memset(big, 'x', sizeof big);
	big[sizeof big - 1] = '\0';
	log_set_sink(sink);
	log_set_level(LOG_LEVEL_WARN);
	log_info("not shown");
	assert_int_equal(lines, 0);
	log_warn("shown %d", 5);
	assert_string_equal(last_line, "shown 5");
	log_error("%s", big);
	assert_int_equal(lines, 2);
	assert_true(strlen(last_line) < sizeof big - 1);
	log_set_sink(NULL);
	log_set_level(LOG_LEVEL_INFO);
}

static void test_names(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"",
		"host",
		":1",
		"host:",
		"host:0",
		"host:65536",
		"host:1x",
		"a b:1",
		"a..b:1",
		".a:1",
		"-a.example:1",
		"a-.test:1",
		"1.2.3:4",
		"300.1.1.1:5",
		"1.2.3.4.:5",
		"[::1]:5",
		"a/b:1",
		"::1:5",
		"5:1",
		"unix:/a:1",
		"a.example.:-1",
		"h\xc3\xb6:1",
	};
	static const struct {
		const char *text, *host;
		uint16_t port;
	} good[] = {
		{"manager.example.org:5999", "manager.example.org", 5999},
		{"localhost:1", "localhost", 1},
		{"a-b_c.1and1.example.:65535", "a-b_c.1and1.example.", 65535},
		{"10.example:5", "10.example", 5},
	};
	char host[NET_NAME_TEXT], longest[NET_LABEL_MAX + 8];
	uint16_t port = 0;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (net_name_parse(host, &port, bad[i]) != -EINVAL)
			fail_msg("'%s' is taken for a name", bad[i]);
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(net_name_parse(host, &port, good[i].text), 0);
		assert_string_equal(host, good[i].host);
		assert_int_equal(port, good[i].port);
	}
	memset(longest, 'a', sizeof longest);
	memcpy(longest + NET_LABEL_MAX, ".b:1", 5);
	assert_int_equal(net_name_parse(host, &port, longest), 0);
	memcpy(longest + NET_LABEL_MAX, "a.b:1", 6);
	assert_int_equal(net_name_parse(host, &port, longest), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_text), cmocka_unit_test(test_names),
		cmocka_unit_test(test_bad_text),  cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_prefix),	  cmocka_unit_test(test_wire),
		cmocka_unit_test(test_id),	  cmocka_unit_test(test_log_limit),
		cmocka_unit_test(test_log),
	};
	return cmocka_run_group_tests_name("addr", tests, NULL, NULL);
}
