/* Bencode and cjdns's admin protocol, against what a real cjdns said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/id.h"
#include "io/cjdns.h"

static bool parse(struct benc *v, const char *text)
{
	return benc_parse(v, text, strlen(text)) == 0;
}

static bool text_is(struct bytes b, const char *text)
{
	return bytes_equal(b, bytes_str(text));
}

static void test_reads_what_cjdns_says(void **state)
{
	struct benc v, list, item;
	(void)state;
	/* Padded lengths, as they came. */
	assert_true(parse(&v, "d0001:q4:pong4:txid2:t1e"));
	assert_true(text_is(benc_get_text(&v, "q"), "pong"));
	assert_true(parse(&v, "d06:cookie10:1753314669e"));
	assert_true(text_is(benc_get_text(&v, "cookie"), "1753314669"));
	assert_true(parse(&v, "d000000011:connectionsle5:error4:none4:txid2:t2e"));
	list = benc_get(&v, "connections");
	assert_int_equal(list.type, BENC_LIST);
	struct rbuf it = benc_items(&list);
	assert_false(benc_next(&it, &item));
	assert_true(parse(&v, "d07:handlesli14070ei-14069ee5:totali2e4:txid2:t2e"));
	assert_int_equal(benc_get_int(&v, "total", 9), 2);
	assert_int_equal(benc_get_int(&v, "handles", 9), 9);
	assert_int_equal(benc_get_int(&v, "absent", 9), 9);
	list = benc_get(&v, "handles");
	it = benc_items(&list);
	assert_true(benc_next(&it, &item));
	assert_int_equal(item.num, 14070);
	assert_true(benc_next(&it, &item));
	assert_int_equal(item.num, -14069);
	assert_false(benc_next(&it, &item));
}

static void test_refuses_what_is_none(void **state)
{
	static const char *const bad[] = {"",
					  "d",
					  "i",
					  "ie",
					  "i-e",
					  "i12",
					  "i99999999999999999999e",
					  "5:abc",
					  "99999999999999999999999:a",
					  "1:ab",
					  "d1:ae",
					  "di1e1:ae",
					  "dle1:ae",
					  "l",
					  "x",
					  ":a",
					  "lllllllllllllllllleeeeeeeeeeeeeeeeee"};
	struct benc v;
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(parse(&v, bad[i]));
}

static void test_address_of_a_key(void **state)
{
	static const char *const known[][2] = {
		{"v20.0000.0000.0000.0001.uyn822n9qks1nd252hpnk1lt5pcg0g6bl5bxfj987jl9ncvqu100.k",
		 "fc38:7d37:927c:e7fd:284e:ed82:ec49:6847"},
		{"lh2747f6fmpd9cdsbn7bsn2lxwzdrhzml42xcg2652vxfhkr50z0.k",
		 "fc47:630d:4e55:71f7:b873:27bd:ac5a:ca0a"},
		{"rdv6m7tngpf0n1b44lh4cfxh4xj9465hxg0xspfup5nw7lgtqy70.k",
		 "fc1f:fd0d:2912:bbdd:a396:6032:75b4:aed7"},
	};
	struct net_addr a, want;
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(net_addr_parse(&want, known[i][1], 0), 0);
		assert_int_equal(cjdns_address(&a, bytes_str(known[i][0])), 0);
		assert_true(net_addr_same_ip(&a, &want));
	}
	assert_int_equal(cjdns_address(&a, bytes_str("lh2747.k")), -EINVAL);
	assert_int_equal(
		cjdns_address(&a,
			      bytes_str("ah2747f6fmpd9cdsbn7bsn2lxwzdrhzml42xcg2652vxfhkr50z0.k")),
		-EINVAL);
	assert_int_equal(
		cjdns_address(&a,
			      bytes_str("xlh2747f6fmpd9cdsbn7bsn2lxwzdrhzml42xcg2652vxfhkr50z0.k")),
		-EINVAL);
}

/* The hash as a server checks it: over the message with the cookie's hash in its place. */
static bool authentic(const uint8_t *msg, size_t len, const char *password)
{
	struct benc v;
	uint8_t copy[4096], hash[crypto_hash_sha256_BYTES];
	char inner[65], outer[65], seed[200];

	if (len > sizeof copy || benc_parse(&v, msg, len))
		return false;
	struct bytes cookie = benc_get_text(&v, "cookie"), got = benc_get_text(&v, "hash");
	if (got.len != 64)
		return false;
	snprintf(seed, sizeof seed, "%s%.*s", password, (int)cookie.len, (const char *)cookie.data);
	crypto_hash_sha256(hash, (const uint8_t *)seed, strlen(seed));
	hex_encode(hash, sizeof hash, inner);
	memcpy(copy, msg, len);
	memcpy(copy + (got.data - msg), inner, 64);
	crypto_hash_sha256(hash, copy, len);
	hex_encode(hash, sizeof hash, outer);
	return memcmp(outer, got.data, 64) == 0;
}

static void test_request_as_a_real_cjdns_took_it(void **state)
{
	static const char want[] = "d2:aq13:Core_nodeInfo4:argsde6:cookie10:17533146694:hash64:"
				   "1257094814d5439c7532c253bc67220ee9c869b080c32622f5e9538d3cb1f8d"
				   "a1:q4:auth4:txid2:t2e";
	uint8_t out[400];
	(void)state;
	size_t len = cjdns_request(out, sizeof out, "Core_nodeInfo", (struct bytes){0},
				   bytes_str("1753314669"), "NONE", "t2");
	assert_int_equal(len, sizeof want - 1);
	assert_memory_equal(out, want, len);
	assert_int_equal(cjdns_request(out, 100, "Core_nodeInfo", (struct bytes){0},
				       bytes_str("1753314669"), "NONE", "t2"),
			 0);
}

/* ---- a stand-in that speaks the protocol ---- */

struct server {
	int fd;
	struct event *ev;
	struct event_base *base;
	unsigned requests, cookies, drop; /* that many requests are lost */
	const char *password;
};

static void serve(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;
	uint8_t buf[4096], out[4096];
	struct sockaddr_in from;
	socklen_t from_len = sizeof from;
	struct benc v;
	ssize_t n = recvfrom(fd, buf, sizeof buf, 0, (struct sockaddr *)&from, &from_len);

	(void)what;
	assert_true(n > 0);
	assert_int_equal(benc_parse(&v, buf, (size_t)n), 0);
	struct bytes txid = benc_get_text(&v, "txid"), aq = benc_get_text(&v, "aq");
	int len;
	if (text_is(benc_get_text(&v, "q"), "cookie")) {
		s->cookies++;
		len = snprintf((char *)out, sizeof out, "d06:cookie10:1753314669e");
	} else if (s->drop) {
		s->drop--;
		return;
	} else if (!authentic(buf, (size_t)n, s->password)) {
		len = snprintf((char *)out, sizeof out,
			       "d0000005:error12:Auth failed.4:txid%zu:%.*se", txid.len,
			       (int)txid.len, (const char *)txid.data);
	} else {
		s->requests++;
		const char *error = text_is(aq, "fail") ? "20:connection not found" : "4:none";
		len = snprintf((char *)out, sizeof out, "d00005:error%s6:resulti7e4:txid%zu:%.*se",
			       error, txid.len, (int)txid.len, (const char *)txid.data);
	}
	sendto(fd, out, (size_t)len, 0, (struct sockaddr *)&from, from_len);
}

struct answers {
	struct event_base *base;
	unsigned wanted, count;
	int err;
	int64_t result;
	char why[CJDNS_WHY_MAX];
	struct cjdns *close; /* from inside the callback */
};

static void on_answer(int err, const char *why, const struct benc *answer, void *arg)
{
	struct answers *a = arg;

	a->err = err;
	snprintf(a->why, sizeof a->why, "%s", why);
	a->result = answer ? benc_get_int(answer, "result", -1) : -1;
	if (a->close)
		cjdns_close(a->close);
	if (++a->count == a->wanted)
		event_base_loopbreak(a->base);
}

static struct net_addr server_open(struct server *s, struct event_base *base)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof in;
	struct net_addr a = {.family = 4, .ip = {127, 0, 0, 1}};

	s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(s->fd, (struct sockaddr *)&in, sizeof in), 0);
	getsockname(s->fd, (struct sockaddr *)&in, &len);
	a.port = ntohs(in.sin_port);
	s->ev = event_new(base, s->fd, EV_READ | EV_PERSIST, serve, s);
	event_add(s->ev, NULL);
	return a;
}

static void test_calls(void **state)
{
	struct event_base *base = event_base_new();
	struct server s = {.password = "s3cret"};
	struct answers a = {.base = base, .wanted = 40};
	struct net_addr at = server_open(&s, base);
	struct cjdns *c;
	(void)state;
	s.drop = 1;
	assert_int_equal(cjdns_open(&c, base, &at, "s3cret"), 0);
	for (int i = 0; i < 40; i++)
		assert_int_equal(cjdns_call(c, "Core_pid", (struct bytes){0}, 0, on_answer, &a), 0);
	event_base_dispatch(base);
	assert_int_equal(a.err, 0);
	assert_int_equal(a.result, 7);
	assert_int_equal(s.cookies, 1);
	assert_int_equal(s.requests, 40);
	/* An error of the server is told in its words. */
	a.count = 0;
	a.wanted = 1;
	cjdns_call(c, "fail", bytes_str("d10:connectioni0ee"), 0, on_answer, &a);
	event_base_dispatch(base);
	assert_int_equal(a.err, -EREMOTEIO);
	assert_string_equal(a.why, "connection not found");
	/* Closed from inside a callback. */
	a.count = 0;
	a.close = c;
	cjdns_call(c, "Core_pid", (struct bytes){0}, 0, on_answer, &a);
	cjdns_call(c, "Core_pid", (struct bytes){0}, 0, on_answer, &a);
	event_base_dispatch(base);
	assert_int_equal(a.count, 1);
	event_free(s.ev);
	close(s.fd);
	event_base_free(base);
}

static void test_failures(void **state)
{
	struct event_base *base = event_base_new();
	struct server s = {.password = "s3cret"};
	struct answers a = {.base = base, .wanted = 1};
	struct net_addr at = server_open(&s, base);
	struct cjdns *c;
	(void)state;
	assert_int_equal(cjdns_open(&c, base, &at, "other"), 0);
	cjdns_call(c, "Core_pid", (struct bytes){0}, 0, on_answer, &a);
	event_base_dispatch(base);
	assert_int_equal(a.err, -EACCES);
	s.drop = 1000;
	a.count = 0;
	cjdns_call(c, "Core_pid", (struct bytes){0}, 200000, on_answer, &a);
	event_base_dispatch(base);
	assert_int_equal(a.err, -ETIMEDOUT);
	event_free(s.ev);
	close(s.fd);
	a.count = 0;
	cjdns_call(c, "Core_pid", (struct bytes){0}, 0, on_answer, &a);
	event_base_dispatch(base);
	assert_int_equal(a.err, -ECONNREFUSED);
	static uint8_t big[CJDNS_ARGS_MAX + 1];
	assert_int_equal(cjdns_call(c, "x", bytes_of(big, sizeof big), 0, on_answer, &a), -E2BIG);
	cjdns_close(c);
	event_base_free(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_what_cjdns_says),
		cmocka_unit_test(test_refuses_what_is_none),
		cmocka_unit_test(test_address_of_a_key),
		cmocka_unit_test(test_request_as_a_real_cjdns_took_it),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_failures),
	};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
