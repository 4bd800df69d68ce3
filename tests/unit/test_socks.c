/* The SOCKS apps: what SOCKS5 clients say, addresses, the deny list, the command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "io/clock.h"
#include "socks/hostnets.h"
#include "socks/muxframe.h"
#include "socks/resolver.h"
#include "socks/socks.h"

#define BYTES(s) (const uint8_t *)(s), sizeof(s) - 1

/* Every beginning of a whole message is incomplete, whatever follows it is left alone. */
#define EXPECT_EACH_LENGTH(call, whole)                                                            \
	do {                                                                                       \
		for (size_t len = 0; len < (whole); len++)                                         \
			assert_int_equal((call), 0);                                               \
		for (size_t len = (whole); len < (whole) + 3; len++)                               \
			assert_int_equal((call), (int)(whole));                                    \
	} while (0)

static void test_greeting(void **state)
{
	const uint8_t both[] = "\5\2\0\2xyz", none[] = "\5\0xyz", other[] = "\5\1\1xyz";
	enum socks5_method m;

	(void)state;
	EXPECT_EACH_LENGTH(socks5_read_greeting(both, len, SOCKS5_NO_LOGIN, &m), 4);
	assert_int_equal(m, SOCKS5_NO_LOGIN);
	EXPECT_EACH_LENGTH(socks5_read_greeting(both, len, SOCKS5_PASSWORD, &m), 4);
	assert_int_equal(m, SOCKS5_PASSWORD);
	EXPECT_EACH_LENGTH(socks5_read_greeting(none, len, SOCKS5_NO_LOGIN, &m), 2);
	assert_int_equal(m, SOCKS5_NO_METHOD);
	EXPECT_EACH_LENGTH(socks5_read_greeting(other, len, SOCKS5_PASSWORD, &m), 3);
	assert_int_equal(m, SOCKS5_NO_METHOD);
	assert_int_equal(socks5_read_greeting(BYTES("\4\1"), SOCKS5_NO_LOGIN, &m), -EPROTO);
	assert_int_equal(socks5_read_greeting(BYTES("G"), SOCKS5_NO_LOGIN, &m), -EPROTO);
}

static void test_login(void **state)
{
	const uint8_t good[] = "\1\4anna\12green doorxyz";
	struct socks5_login want = {"anna", "green door"}, got;

	(void)state;
	memset(&got, 0x55, sizeof got);
	EXPECT_EACH_LENGTH(socks5_read_login(good, len, &got), 17);
	assert_memory_equal(&got, &want, sizeof want);
	assert_int_equal(socks5_read_login(BYTES("\5"), &got), -EPROTO);
	assert_int_equal(socks5_read_login(BYTES("\1\4an\0a\1x"), &got), -EPROTO);
	assert_int_equal(socks5_read_login(BYTES("\1\1a\2x\0"), &got), -EPROTO);
	uint8_t longest[SOCKS5_MESSAGE_MAX];
	memset(longest, 'x', sizeof longest);
	longest[0] = 1;
	longest[1] = longest[257] = 255;
	assert_int_equal(socks5_read_login(longest, 513, &got), 513);
	assert_int_equal(strlen(got.password), 255);
}

static void test_request(void **state)
{
	static const struct {
		const char *data;
		size_t len;
		uint8_t command;
		const char *to;
	} good[] = {
		{"\5\1\0\1\1\2\3\4\0\120xyz", 10, 1, "1.2.3.4:80"},
		{"\5\3\7\1\0\0\0\0\0\0xyz", 10, 3, "0.0.0.0:0"},
		{"\5\1\0\3\10web.test\1\273xyz", 15, 1, "web.test:443"},
		{"\5\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\7xyz", 22, 2, "[::1]:7"},
	};
	static const struct {
		const char *data;
		size_t len;
		int rc;
	} bad[] = {
		{"\4\1", 2, -EPROTO},
		{"\5\1\0\2", 4, -EAFNOSUPPORT},
		{"\5\1\0\0", 4, -EAFNOSUPPORT},
		{"\5\1\0\377\0\0\0\0", 8, -EAFNOSUPPORT},
		{"\5\1\0\3\0\0\120", 7, -EAFNOSUPPORT},
		{"\5\1\0\3\3a\0b\0\120", 10, -EAFNOSUPPORT},
		{"\5\1\0\3\3a b\0\120", 10, -EAFNOSUPPORT},
		{"\5\1\0\3\3a\377b\0\120", 10, -EAFNOSUPPORT},
	};
	struct socks5_request r;
	char text[SOCKS_ADDR_TEXT];

	(void)state;
	for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
		EXPECT_EACH_LENGTH(socks5_read_request((const uint8_t *)good[i].data, len, &r),
				   good[i].len);
		assert_int_equal(r.command, good[i].command);
		assert_string_equal(socks_addr_text(&r.to, text), good[i].to);
	}
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(socks5_read_request((const uint8_t *)bad[i].data, bad[i].len, &r),
				 bad[i].rc);
}

static void test_replies(void **state)
{
	uint8_t out[SOCKS5_REPLY_BYTES_MAX];
	struct net_addr a;

	(void)state;
	assert_int_equal(socks5_write_reply(out, 5, NULL), 10);
	assert_memory_equal(out, "\5\5\0\1\0\0\0\0\0\0", 10);
	assert_int_equal(net_addr_parse(&a, "[fd00::1]:258", 0), 0);
	assert_int_equal(socks5_write_reply(out, 0, &a), 22);
	assert_memory_equal(out, "\5\0\0\4\375\0", 6);
	assert_memory_equal(out + 20, "\1\2", 2);
	for (unsigned code = 0; code < 256; code++)
		assert_non_null(socks5_code_text((uint8_t)code));
}

static void test_datagrams(void **state)
{
	uint8_t out[3 + SOCKS_ADDR_BYTES_MAX];
	struct wbuf w = wbuf_init(out, sizeof out);
	struct socks_addr a;
	struct bytes payload;

	(void)state;
	assert_int_equal(socks5_read_datagram(BYTES("\0\0\0\1\1\2\3\4\0\7hello"), &a, &payload), 0);
	assert_true(bytes_equal(payload, bytes_str("hello")));
	assert_int_equal(a.ip.port, 7);
	assert_int_equal(socks5_read_datagram(BYTES("\0\0\0\3\1x\0\7"), &a, &payload), 0);
	assert_int_equal(payload.len, 0);
	assert_string_equal(a.name, "x");
	assert_int_equal(socks5_read_datagram(BYTES("\0\0\1\3\1x\0\7"), &a, &payload), -EOPNOTSUPP);
	assert_int_equal(socks5_read_datagram(BYTES("\0\0\0\3\1x\0"), &a, &payload), -EPROTO);
	assert_int_equal(socks5_read_datagram(BYTES("\0\0\0\5\1x\0\7"), &a, &payload), -EPROTO);
	assert_int_equal(socks5_read_datagram(BYTES(""), &a, &payload), -EPROTO);
	a = (struct socks_addr){.ip = {.family = 4, .ip = {9, 8, 7, 6}, .port = 5}};
	socks5_write_datagram_header(&w, &a);
	assert_int_equal(wbuf_len(&w), 10);
	assert_memory_equal(out, "\0\0\0\1\11\10\7\6\0\5", 10);
}

static void test_records(void **state)
{
	uint8_t out[MUX_RECORD_HEADER_MAX];
	struct mux_record r;

	(void)state;
	for (unsigned family = 4; family <= 6; family += 2) {
		struct wbuf w = wbuf_init(out, sizeof out);
		struct socks_addr a = {.ip = {.family = (uint8_t)family, .port = 9}};
		mux_record_write_header(&w, 77, &a);
		assert_int_equal(wbuf_len(&w),
				 family == 4 ? MUX_RECORD_HEADER_IPV4 : MUX_RECORD_HEADER_IPV6);
		assert_true(mux_record_read(bytes_of(out, wbuf_len(&w)), &r));
		assert_int_equal(r.stream, 77);
		assert_true(net_addr_equal(&r.addr.ip, &a.ip) && r.payload.len == 0);
		for (size_t len = 0; len < wbuf_len(&w); len++)
			assert_false(mux_record_read(bytes_of(out, len), &r));
	}
}

/* --- where clients may go --------------------------------------------------------------------- */

static bool allows(const struct policy *p, const char *text)
{
	struct net_addr a;

	assert_int_equal(net_addr_parse(&a, text, 80), 0);
	return policy_allows(p, &a);
}

static void test_default_policy(void **state)
{
	static const char *const denied[] = {
		"0.0.0.0",
		"0.1.2.3",
		"10.0.0.1",
		"10.255.255.255",
		"100.64.0.1",
		"127.0.0.1",
		"127.255.255.254",
		"169.254.0.1",
		"172.16.0.1",
		"172.31.255.1",
		"192.168.1.1",
		"224.0.0.251",
		"255.255.255.255",
		"240.0.0.1",
		"::",
		"::1",
		"fe80::1",
		"febf::1",
		"fc00::1",
		"fdff::1",
		"ff02::1",
		"fec0::1",
		"::ffff:10.0.0.1",
		"::ffff:127.0.0.1",
		"::127.0.0.1",
		"64:ff9b::a00:1",
		"64:ff9b::7f00:1",
		"2002:7f00:1::1",
		"2002:c0a8:101::",
	};
	static const char *const allowed[] = {
		"1.1.1.1",	   "9.255.255.255", "11.0.0.0",	      "100.63.0.1",
		"100.128.0.1",	   "126.1.1.1",	    "128.0.0.1",      "172.15.0.1",
		"172.32.0.1",	   "192.167.1.1",   "198.51.100.80",  "2001:db8::1",
		"2606:4700::1111", "fb00::1",	    "::ffff:1.1.1.1", "64:ff9b::101:101",
		"2002:101:101::1",
	};
	struct config *cfg = config_new();
	struct policy p = {0};

	(void)state;
	assert_int_equal(policy_deny(&p, cfg->proxy_denied_networks), 0);
	assert_int_equal(policy_allow(&p, cfg->proxy_allowed_networks), 0);
	for (unsigned i = 0; i < sizeof denied / sizeof *denied; i++)
		if (allows(&p, denied[i]))
			fail_msg("%s is allowed", denied[i]);
	for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++)
		if (!allows(&p, allowed[i]))
			fail_msg("%s is denied", allowed[i]);
	assert_false(policy_allows(&p, &(struct net_addr){0}));
	config_free(cfg);
}

static void test_exceptions(void **state)
{
	struct policy p = {0};
	struct net_prefix own;

	(void)state;
	assert_true(allows(&p, "10.0.0.1"));
	assert_int_equal(policy_deny(&p, "10.0.0.0/8,::1,::/96"), 0);
	assert_int_equal(policy_allow(&p, "10.1.0.0/16, ::1"), 0);
	assert_false(allows(&p, "10.0.0.1"));
	assert_true(allows(&p, "10.1.0.1"));
	assert_true(allows(&p, "::1"));
	assert_int_equal(net_prefix_parse(&own, "203.0.113.7/24"), 0);
	assert_true(policy_add_local(&p, &own));
	assert_false(allows(&p, "203.0.113.9"));
	assert_false(allows(&p, "::ffff:203.0.113.9"));
	assert_true(allows(&p, "203.0.114.9"));
	/* A tunnel without a network of its own does not deny the world. */
	assert_int_equal(net_prefix_parse(&own, "198.51.100.1/0"), 0);
	assert_true(policy_add_local(&p, &own));
	assert_false(allows(&p, "198.51.100.1"));
	assert_true(allows(&p, "198.51.100.2"));
	assert_int_equal(policy_allow(&p, "203.0.113.8/30"), 0);
	assert_true(allows(&p, "203.0.113.9"));
	assert_int_equal(policy_deny(&p, "x"), -EINVAL);
	for (unsigned i = 2; i < POLICY_NETS_MAX - 1; i++)
		assert_int_equal(policy_deny(&p, "10.0.0.0/8"), 0);
	assert_int_equal(policy_deny(&p, "10.0.0.0/8"), -ENOSPC);
	while (p.local_count < POLICY_LOCAL_MAX)
		assert_true(policy_add_local(&p, &own));
	assert_false(policy_add_local(&p, &own));
}

static void test_host_networks(void **state)
{
	struct policy p = {0};

	(void)state;
	assert_int_equal(hostnets_read(&p), 0);
	assert_true(p.local_count == 0 || !allows(&p, "127.0.0.1"));
	unsigned count = p.local_count;
	assert_int_equal(hostnets_read(&p), 0);
	assert_int_equal(p.local_count, count);
}

/* --- names ------------------------------------------------------------------------------------ */

struct answers {
	unsigned count;
	struct net_addr last;
	struct lookup *cancel;
};

static void on_answer(void *arg, const struct net_addr *addrs, unsigned count)
{
	struct answers *a = arg;

	a->count++;
	if (count)
		a->last = addrs[0];
	if (a->cancel)
		resolver_cancel(a->cancel);
	a->cancel = NULL;
}

/* No name server is there: what does not stand in /etc/hosts stays unanswered. */
static void test_resolver(void **state)
{
	struct event_base *base = event_base_new();
	const struct net_addr nobody = {.family = 4, .ip = {127, 0, 0, 1}, .port = 9};
	struct resolver *r = resolver_new(base, &nobody, 1);
	struct answers a = {0}, b = {0}, never = {0};
	uint64_t end = daemon_now_us() + 5000000u;
	char name[16];

	(void)state;
	assert_non_null(r);
	assert_non_null(resolver_ask(r, 1, "127.0.0.7", 80, on_answer, &a));
	/* The first to be answered ends the other, whose answer is there as well. */
	assert_non_null(resolver_ask(r, 1, "127.0.0.8", 82, on_answer, &b));
	b.cancel = resolver_ask(r, 1, "127.0.0.9", 81, on_answer, &never);
	assert_int_equal(a.count, 0);
	while ((!a.count || !b.count) && daemon_now_us() < end)
		event_base_loop(base, EVLOOP_ONCE);
	assert_int_equal(a.count, 1);
	assert_true(a.last.ip[3] == 7 && a.last.port == 80);
	assert_int_equal(b.count, 1);
	assert_true(b.last.ip[3] == 8 && b.last.port == 82);
	assert_int_equal(never.count, 0);
	/* The limit is an asker's own. */
	unsigned asked = 0;
	for (; asked < 2 * RESOLVER_QUESTIONS_MAX; asked++) {
		snprintf(name, sizeof name, "n%u.invalid", asked);
		struct lookup *l = resolver_ask(r, 1, name, 80, on_answer, &never);
		if (!l)
			break;
		if (asked % 2)
			resolver_cancel(l);
	}
	assert_int_equal(asked, RESOLVER_QUESTIONS_MAX);
	assert_non_null(resolver_ask(r, 1, "n0.invalid", 80, on_answer, &never));
	assert_non_null(resolver_ask(r, 2, "m.invalid", 80, on_answer, &never));
	resolver_free(r);
	assert_int_equal(never.count, 0);
	event_base_free(base);
}

/* --- the command line ---------------------------------------------------------------------------
 */

static int saved[2];

/* What is printed meanwhile is not looked at. */
static void quiet(bool on)
{
	int null = open("/dev/null", O_WRONLY);

	fflush(stdout);
	for (int i = 0; i < 2; i++) {
		if (on)
			saved[i] = dup(i + 1);
		dup2(on ? null : saved[i], i + 1);
		if (!on)
			close(saved[i]);
	}
	close(null);
	if (!on)
		log_set_sink(NULL);
}

/* The words stay where they are: a reload reads them again. */
static int parse(struct socks_options *o, bool server, const char *line)
{
	static char copy[1024], *argv[32];
	int argc = 0, verdict;

	argv[argc++] = (char *)(uintptr_t) "socks";
	argv[argc++] = (char *)(uintptr_t) "-f";
	argv[argc++] = (char *)(uintptr_t) "/dev/null";
	snprintf(copy, sizeof copy, "%s", line);
	for (char *save, *word = strtok_r(copy, " ", &save); word;
	     word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	quiet(true);
	verdict = socks_options_parse(o, server, argc, argv);
	quiet(false);
	return verdict;
}

static int reload(struct socks_options *o)
{
	int rc;

	quiet(true);
	rc = socks_options_reload(o);
	quiet(false);
	return rc;
}

#define NODE "aa000000000000000000000000000000000000000000000000000000000000bb"

static void test_command_line(void **state)
{
	static const char *const bad_server[] = {"extra",
						 "--to x",
						 "--listen 127.0.0.1",
						 "--allow 10.0.0.0/33",
						 "--deny nonsense",
						 "--id ",
						 "-o proxy.MaxStreams=0",
						 "-o proxy.Nonsense=1",
						 "-o proxy.Resolvers=x"};
	static const char *const bad_client[] = {"extra",
						 "--to x@12",
						 ("--to @" NODE),
						 "--listen nonsense",
						 "--allow 1.1.1.1",
						 "-o proxy.User=x",
						 "-o proxy.Password=x",
						 "-f /nonexistent",
						 "-o proxy.Server=x@y"};
	static struct socks_options o;

	(void)state;
	for (unsigned i = 0; i < sizeof bad_server / sizeof *bad_server; i++) {
		if (parse(&o, true, bad_server[i]) != -1 && strcmp(bad_server[i], "--id ") != 0)
			fail_msg("accepted: %s", bad_server[i]);
		socks_options_free(&o);
	}
	for (unsigned i = 0; i < sizeof bad_client / sizeof *bad_client; i++) {
		if (parse(&o, false, bad_client[i]) != -1)
			fail_msg("accepted: %s", bad_client[i]);
		socks_options_free(&o);
	}
	assert_int_equal(parse(&o, true, "--help"), 1);
	assert_int_equal(parse(&o, false, "--version"), 1);
	assert_int_equal(parse(&o, false, "--check"), 1);
	socks_options_free(&o);
}

static void test_options(void **state)
{
	static struct socks_options o;

	(void)state;
	assert_int_equal(parse(&o, true, "--json --allow 10.1.0.0/16 -o proxy.ProxyTimeout=7"), 0);
	assert_string_equal(o.app_id, "socks");
	assert_string_equal(o.node_addr, "127.0.0.1:17000");
	assert_true(o.json && o.deny_local && o.idle_us == 7000000u && o.streams_max == 4096);
	assert_true(allows(&o.policy, "10.1.0.1") && !allows(&o.policy, "10.2.0.1"));
	socks_options_free(&o);
	assert_int_equal(parse(&o, false, ""), 0);
	assert_true(o.listen_count == 1 && o.listen[0].port == 1080 && !o.to.app[0] &&
		    !o.wants_login);
	assert_null(o.app_id);
	socks_options_free(&o);
	assert_int_equal(parse(&o, false,
			       "--to exit@" NODE " --listen 0.0.0.0 --listen [::1]:9 --node /x "
			       "-o proxy.User=anna -o proxy.Password=b"),
			 0);
	assert_string_equal(o.to.app, "exit");
	assert_true(o.to.has_node && o.to.node.b[0] == 0xaa && o.listen_count == 2);
	assert_true(o.listen[0].port == 1080 && o.listen[1].port == 9 && o.wants_login);
	assert_string_equal(o.login.user, "anna");
	assert_string_equal(o.node_addr, "/x");
	socks_options_free(&o);
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

/* A good file changes what may change; a bad one nothing. */
static void test_reload(void **state)
{
	static struct socks_options o;
	char path[] = "/tmp/meshnet-socks-XXXXXX", words[128];
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	write_file(path, "[proxy]\nDeniedNetworks = 10.0.0.0/8\nProxyTimeout = 5\n");
	snprintf(words, sizeof words, "-f %s --deny 172.16.0.0/12 -o proxy.MaxStreams=9", path);
	assert_int_equal(parse(&o, true, words), 0);
	assert_true(!allows(&o.policy, "10.0.0.1") && allows(&o.policy, "11.0.0.1"));
	write_file(path, "[proxy]\nDeniedNetworks = 11.0.0.0/8\nProxyTimeout = 6\n"
			 "MaxStreams = 50\nMaxClients = 3\nUser = anna\nPassword = b\n");
	assert_int_equal(reload(&o), 0);
	assert_true(allows(&o.policy, "10.0.0.1") && !allows(&o.policy, "11.0.0.1"));
	/* The command line still counts. */
	assert_false(allows(&o.policy, "172.16.0.1"));
	assert_true(o.idle_us == 6000000u && o.clients_max == 3 && o.streams_max == 9);
	write_file(path, "[proxy]\nDeniedNetworks = 12.0.0.0/8\nProxyTimeout = nonsense\n");
	assert_int_equal(reload(&o), -1);
	assert_true(!allows(&o.policy, "11.0.0.1") && allows(&o.policy, "12.0.0.1"));
	assert_int_equal(o.idle_us, 6000000u);
	socks_options_free(&o);
	write_file(path, "[proxy]\nUser = anna\nPassword = b\n");
	snprintf(words, sizeof words, "-f %s", path);
	assert_int_equal(parse(&o, false, words), 0);
	write_file(path, "[proxy]\nUser = bert\nPassword = c\nListen = 127.0.0.1:9\n");
	assert_int_equal(reload(&o), 0);
	assert_string_equal(o.login.user, "bert");
	assert_int_equal(o.listen[0].port, 1080);
	write_file(path, "");
	assert_int_equal(reload(&o), 0);
	assert_false(o.wants_login);
	socks_options_free(&o);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_greeting),       cmocka_unit_test(test_login),
		cmocka_unit_test(test_request),	       cmocka_unit_test(test_replies),
		cmocka_unit_test(test_datagrams),      cmocka_unit_test(test_records),
		cmocka_unit_test(test_default_policy), cmocka_unit_test(test_exceptions),
		cmocka_unit_test(test_host_networks),  cmocka_unit_test(test_resolver),
		cmocka_unit_test(test_command_line),   cmocka_unit_test(test_options),
		cmocka_unit_test(test_reload),
	};
	return cmocka_run_group_tests_name("socks", tests, NULL, NULL);
}
