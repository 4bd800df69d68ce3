/* JSON-RPC: the specification's examples, hostile input, late answers, who is authorised. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/jsonrpc.h"
#include "io/jsonrpc_guard.h"

static struct rpc_call *held[8];
static size_t held_count;
static int notified;

static void h_subtract(struct rpc_call *call, struct json_object *params, void *arg)
{
	uint64_t a = rpc_param_u64(params, "minuend", 0);
	uint64_t b = rpc_param_u64(params, "subtrahend", 0);

	(void)arg;
	rpc_reply(call, json_object_new_int64((int64_t)a - (int64_t)b));
}

static void h_update(struct rpc_call *call, struct json_object *params, void *arg)
{
	(void)params;
	(void)arg;
	notified++;
	rpc_reply(call, NULL);
}

static void h_data(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct json_object *a = json_object_new_array();

	(void)params;
	(void)arg;
	json_object_array_add(a, json_object_new_string("hello"));
	json_object_array_add(a, json_object_new_int(5));
	rpc_reply(call, a);
}

static void h_sum(struct rpc_call *call, struct json_object *params, void *arg)
{
	int64_t sum = 0;

	(void)arg;
	json_object_object_foreach(params, key, value)
	{
		(void)key;
		sum += json_object_get_int64(value);
	}
	rpc_reply(call, json_object_new_int64(sum));
}

static void h_hold(struct rpc_call *call, struct json_object *params, void *arg)
{
	(void)params;
	(void)arg;
	assert_true(held_count < 8);
	held[held_count++] = call;
}

static void h_echo(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct json_object *out = json_object_new_object();

	(void)arg;
	rpc_set_str(out, "text", rpc_param_str(params, "text", "none"));
	rpc_set_bool(out, "flag", rpc_param_bool(params, "flag", false));
	rpc_set_str(out, "ref", rpc_param_str(params, "ref", NULL));
	rpc_reply(call, out);
}

static const struct rpc_method methods[] = {
	{.name = "subtract",
	 .handler = h_subtract,
	 .params = "minuend uint(0..1000) from this\n"
		   "subtrahend uint(0..1000u) this is taken\n"},
	{.name = "update",
	 .handler = h_update,
	 .params = "a uint\nb uint\nc uint\nd uint\ne uint\n"},
	{.name = "notify_hello", .handler = h_update, .params = "a uint\n"},
	{.name = "get_data", .handler = h_data, .result = "any[]"},
	{.name = "sum", .handler = h_sum, .params = "a? uint\nb? uint\nc? uint\n"},
	{.name = "hold", .handler = h_hold},
	{.name = "echo",
	 .handler = h_echo,
	 .text = "Says it again.",
	 .params = "text? text(8) some words\n"
		   "flag? bool\n"
		   "list? ref(3)[2]\n"
		   "object? @inner\n"
		   "ref? ref(15)\n"
		   "key? id\n"
		   "word? =yes,no,perhaps\n"
		   "either? text(4)|bool\n",
	 .result = "text text|null what was said\n"
		   "flag bool\n"
		   "ref? text\n"
		   "more? @inner[]\n",
	 .fails = "it cannot speak"},
	{.name = "secret",
	 .handler = h_update,
	 .access = RPC_AUTHORISED,
	 .params = "o? @inner\n",
	 .result = "=up+to,down"},
};

static const char shapes[] = "inner What is inside.\n"
			     "a uint(1..5)\nb? @inner\n"
			     "\n";

struct got {
	char text[16384];
	size_t len;
	int times;
};

static void got_answer(const char *text, size_t len, void *arg)
{
	struct got *g = arg;

	assert_true(len < sizeof g->text);
	if (len)
		memcpy(g->text, text, len);
	g->text[len] = '\0';
	g->len = len;
	g->times++;
}

static struct rpc_server *server_make(void)
{
	struct rpc_server *s = NULL;

	held_count = 0;
	assert_int_equal(rpc_server_new(&s), 0);
	assert_int_equal(rpc_server_add(s, methods, sizeof methods / sizeof methods[0], NULL), 0);
	assert_int_equal(rpc_server_shapes(s, shapes), 0);
	return s;
}

/* Compares as JSON, so the order of members does not matter. */
static void assert_json(const char *got, const char *wanted)
{
	struct json_object *a = *got ? json_tokener_parse(got) : NULL;
	struct json_object *b = *wanted ? json_tokener_parse(wanted) : NULL;

	if (!json_object_equal(a, b) || !*got != !*wanted)
		fail_msg("got    %s\nwanted %s", got, wanted);
	json_object_put(a);
	json_object_put(b);
}

static void check(struct rpc_server *s, const char *request, const char *wanted)
{
	struct got g = {.times = 0};
	const struct rpc_ctx ctx = {.authorised = false};

	assert_null(rpc_dispatch(s, request, strlen(request), &ctx, got_answer, &g));
	assert_int_equal(g.times, 1);
	assert_json(g.text, wanted);
}

#define ERR(code, text, id)                                                                        \
	"{\"jsonrpc\":\"2.0\",\"error\":{\"code\":" #code ",\"message\":\"" text "\"},\"id\":" id  \
	"}"
#define KEY64 "0123456789abcdefABCDEF0123456789abcdef0123456789abcdef0123456789"
#define INVALID ERR(-32600, "Invalid Request", "null")
#define PARSE ERR(-32700, "Parse error", "null")
#define OK(result, id) "{\"jsonrpc\":\"2.0\",\"result\":" result ",\"id\":" id "}"

/* The examples of section 7 of the JSON-RPC 2.0 specification, in its order. */
static const char *const spec_examples[][2] = {
	{"{\"jsonrpc\":\"2.0\",\"method\":\"subtract\",\"params\":[42,23],\"id\":1}",
	 OK("19", "1")},
	{"{\"jsonrpc\":\"2.0\",\"method\":\"subtract\",\"params\":[23,42],\"id\":2}",
	 OK("-19", "2")},
	{"{\"jsonrpc\":\"2.0\",\"method\":\"subtract\",\"params\":{\"subtrahend\":23,"
	 "\"minuend\":42},\"id\":3}",
	 OK("19", "3")},
	{"{\"jsonrpc\":\"2.0\",\"method\":\"update\",\"params\":[1,2,3,4,5]}", ""},
	{"{\"jsonrpc\":\"2.0\",\"method\":\"foobar\"}", ""},
	{"{\"jsonrpc\":\"2.0\",\"method\":\"foobar\",\"id\":\"1\"}",
	 ERR(-32601, "Method not found", "\"1\"")},
	{"{\"jsonrpc\":\"2.0\",\"method\":\"foobar,\"params\":\"bar\",\"baz]", PARSE},
	{"{\"jsonrpc\":\"2.0\",\"method\":1,\"params\":\"bar\"}", INVALID},
	{"[{\"jsonrpc\":\"2.0\",\"method\":\"sum\",\"params\":[1,2,4],\"id\":\"1\"},"
	 "{\"jsonrpc\":\"2.0\",\"method\"]",
	 PARSE},
	{"[]", INVALID},
	{"[1]", "[" INVALID "]"},
	{"[1,2,3]", "[" INVALID "," INVALID "," INVALID "]"},
	{"[{\"jsonrpc\":\"2.0\",\"method\":\"sum\",\"params\":[1,2,4],\"id\":\"1\"},"
	 "{\"jsonrpc\":\"2.0\",\"method\":\"notify_hello\",\"params\":[7]},"
	 "{\"jsonrpc\":\"2.0\",\"method\":\"subtract\",\"params\":[42,23],\"id\":\"2\"},"
	 "{\"foo\":\"boo\"},"
	 "{\"jsonrpc\":\"2.0\",\"method\":\"foo.get\",\"params\":{\"name\":\"myself\"},"
	 "\"id\":\"5\"},"
	 "{\"jsonrpc\":\"2.0\",\"method\":\"get_data\",\"id\":\"9\"}]",
	 "[" OK("7", "\"1\"") "," OK("19", "\"2\"") "," INVALID "," ERR(
		 -32601, "Method not found", "\"5\"") "," OK("[\"hello\",5]", "\"9\"") "]"},
	{"[{\"jsonrpc\":\"2.0\",\"method\":\"notify_hello\",\"params\":[1]},"
	 "{\"jsonrpc\":\"2.0\",\"method\":\"notify_hello\",\"params\":[7]}]",
	 ""},
};

static void test_spec_examples(void **state)
{
	struct rpc_server *s = server_make();

	(void)state;
	notified = 0;
	for (size_t i = 0; i < sizeof spec_examples / sizeof spec_examples[0]; i++)
		check(s, spec_examples[i][0], spec_examples[i][1]);
	assert_int_equal(notified, 4);
	rpc_server_free(s);
}

static const char *const version1[][2] = {
	{"{\"method\":\"subtract\",\"params\":[5,3],\"id\":7}",
	 "{\"result\":2,\"error\":null,\"id\":7}"},
	{"{\"jsonrpc\":\"1.0\",\"method\":\"subtract\",\"params\":[5,3],\"id\":\"x\"}",
	 "{\"result\":2,\"error\":null,\"id\":\"x\"}"},
	{"{\"method\":\"nope\",\"params\":[],\"id\":7}",
	 "{\"result\":null,\"error\":{\"code\":-32601,\"message\":\"Method not found\"},"
	 "\"id\":7}"},
	{"{\"method\":\"update\",\"params\":[],\"id\":null}", ""},
	{"{\"method\":\"update\",\"params\":[]}",
	 "{\"result\":null,\"error\":{\"code\":-32600,\"message\":\"Invalid Request\"},"
	 "\"id\":null}"},
};

static void test_version1(void **state)
{
	struct rpc_server *s = server_make();

	(void)state;
	for (size_t i = 0; i < sizeof version1 / sizeof version1[0]; i++)
		check(s, version1[i][0], version1[i][1]);
	rpc_server_free(s);
}

#define CALL(method, params)                                                                       \
	"{\"jsonrpc\":\"2.0\",\"method\":\"" method "\",\"params\":" params ",\"id\":1}"
#define WRONG(text) ERR(-32602, "Invalid params: " text, "1")

static const char *const hostile[][2] = {
	{"", PARSE},
	{" \n\t ", PARSE},
	{"\xff\xfe", PARSE},
	{CALL("echo", "[\"\xc3\x28\"]"), PARSE},
	{CALL("echo", "[NaN]"), PARSE},
	{CALL("echo", "[Infinity]"), PARSE},
	{CALL("echo", "['a']"), PARSE},
	{CALL("echo", "[1,]"), PARSE},
	{CALL("echo", "[\"a\nb\"]"), PARSE},
	{CALL("echo", "{\"text\":\"NI/' ok\"}"),
	 OK("{\"text\":\"NI/' ok\",\"flag\":false,\"ref\":null}", "1")},
	{CALL("echo", "[]") "x", PARSE},
	{CALL("echo", "[]") CALL("echo", "[]"), PARSE},
	{CALL("echo", "[]") " \r\n", OK("{\"text\":\"none\",\"flag\":false,\"ref\":null}", "1")},
	{"null", INVALID},
	{"true", INVALID},
	{"5", INVALID},
	{"\"text\"", INVALID},
	{"{}", INVALID},
	{"{\"jsonrpc\":\"2.0\"}", INVALID},
	{"{\"jsonrpc\":2,\"method\":\"sum\",\"id\":1}", ERR(-32600, "Invalid Request", "1")},
	{"{\"jsonrpc\":\"3.0\",\"method\":\"sum\",\"id\":1}", ERR(-32600, "Invalid Request", "1")},
	{"{\"jsonrpc\":\"2.0\",\"method\":\"sum\",\"id\":[1]}", INVALID},
	{"{\"jsonrpc\":\"2.0\",\"method\":\"sum\",\"id\":{}}", INVALID},
	{"{\"jsonrpc\":\"2.0\",\"method\":\"sum\\u0000x\",\"id\":1}",
	 ERR(-32601, "Method not found", "1")},
	{CALL("sum", "5"), ERR(-32600, "Invalid Request", "1")},
	{CALL("sum", "\"bar\""), ERR(-32600, "Invalid Request", "1")},
	{CALL("sum", "null"), OK("0", "1")},
	{CALL("sum", "[1,2,3,4]"), WRONG("too many for sum")},
	{CALL("get_data", "[1]"), WRONG("too many for get_data")},
	{CALL("sum", "[1,2,3,4,5,6,7,8,9,10]"), WRONG("too many for sum")},
	{CALL("subtract", "[1]"), WRONG("subtrahend is missing")},
	{CALL("subtract", "[null,1]"), WRONG("minuend is missing")},
	{CALL("subtract", "[\"1\",1]"), WRONG("minuend must be a whole number")},
	{CALL("subtract", "[1.5,1]"), WRONG("minuend must be a whole number")},
	{CALL("subtract", "[-1,1]"), WRONG("minuend must be 0 to 1000")},
	{CALL("subtract", "[1001,1]"), WRONG("minuend must be 0 to 1000")},
	{CALL("subtract", "[18446744073709551616000,1]"), WRONG("minuend must be 0 to 1000")},
	{CALL("subtract", "[-18446744073709551616000,1]"), WRONG("minuend must be 0 to 1000")},
	{CALL("echo", "[5]"), WRONG("text must be a string")},
	{CALL("echo", "[\"a\\u0000b\"]"), WRONG("text must be text without NUL")},
	{CALL("echo", "[\"123456789\"]"), WRONG("text is longer than 8 bytes")},
	{CALL("echo", "{\"flag\":1}"), WRONG("flag must be true or false")},
	{CALL("echo", "{\"list\":{}}"), WRONG("list must be an array")},
	{CALL("echo", "{\"list\":[1,2,3]}"), WRONG("list has more than 2 entries")},
	{CALL("echo", "{\"list\":[1,\"abcd\"]}"), WRONG("list[1] is longer than 3 bytes")},
	{CALL("echo", "{\"list\":[1,{}]}"), WRONG("list[1] must be a number, an id or a name")},
	{CALL("echo", "{\"list\":[null]}"), WRONG("list[0] must be a number, an id or a name")},
	{CALL("echo", "{\"object\":[]}"), WRONG("object must be an object")},
	{CALL("echo", "{\"object\":{}}"), WRONG("object.a is missing")},
	{CALL("echo", "{\"object\":{\"a\":6}}"), WRONG("object.a must be 1 to 5")},
	{CALL("echo", "{\"object\":{\"a\":5,\"b\":{\"a\":5,\"c\":0}}}"),
	 WRONG("object.b.c is not known here")},
	{CALL("echo", "{\"word\":\"maybe\"}"), WRONG("word must be yes, no or perhaps")},
	{CALL("echo", "{\"word\":5}"), WRONG("word must be a word")},
	{CALL("echo", "{\"either\":5}"), WRONG("either must be a string, or true or false")},
	{CALL("echo", "{\"either\":\"12345\"}"), WRONG("either is longer than 4 bytes")},
	{CALL("echo", "{\"unknown\":1,\"either\":true}"),
	 OK("{\"text\":\"none\",\"flag\":false,\"ref\":null}", "1")},
	{CALL("echo", "{\"ref\":12}"),
	 OK("{\"text\":\"none\",\"flag\":false,\"ref\":\"12\"}", "1")},
	{CALL("echo", "{\"ref\":\"n1\"}"),
	 OK("{\"text\":\"none\",\"flag\":false,\"ref\":\"n1\"}", "1")},
	{CALL("echo", "{\"ref\":\"0123456789abcdef\"}"), WRONG("ref is longer than 15 bytes")},
	{CALL("echo", "{\"key\":\"" KEY64 "\"}"),
	 OK("{\"text\":\"none\",\"flag\":false,\"ref\":null}", "1")},
	{CALL("echo", "{\"key\":\"" KEY64 "0\"}"), WRONG("key must be 64 hex digits")},
	{CALL("echo", "{\"key\":\"x\"}"), WRONG("key must be 64 hex digits")},
	{CALL("echo", "{\"key\":7}"), WRONG("key must be 64 hex digits")},
	{CALL("echo", "{\"ref\":-1}"), WRONG("ref must be a number of the list, an id or a name")},
	{CALL("secret", "[]"), ERR(-32001, "secret needs an authorised address or the token", "1")},
};

static void test_hostile(void **state)
{
	struct rpc_server *s = server_make();

	(void)state;
	for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++)
		check(s, hostile[i][0], hostile[i][1]);
	rpc_server_free(s);
}

/* `n` times `open`, then `n` times `close`. */
static char *nested(const char *open, const char *close, size_t n)
{
	char *text = calloc(n, strlen(open) + strlen(close) + 1);

	assert_non_null(text);
	for (size_t i = 0; i < n; i++)
		memcpy(text + i * strlen(open), open, strlen(open));
	for (size_t i = 0; i < n; i++)
		memcpy(text + n * strlen(open) + i * strlen(close), close, strlen(close));
	return text;
}

static void test_depth_and_batch(void **state)
{
	static const char entry[] = "{\"jsonrpc\":\"2.0\",\"method\":\"update\"},";
	struct rpc_server *s = server_make();
	char *deep = nested("[", "]", 100000), *objects = nested("{\"a\":", "}", 1000);
	char *large = calloc(1, RPC_BODY_MAX_BYTES + 2);
	char batch[sizeof entry * 66] = "[";
	size_t len = 1;

	(void)state;
	check(s, deep, PARSE);
	memset(large, ' ', RPC_BODY_MAX_BYTES + 1);
	check(s, large, ERR(-32600, "Invalid Request: larger than 1 MiB", "null"));
	free(large);
	assert_null(rpc_parse("{}\0{}", 5, NULL));
	assert_null(rpc_parse("\0", 1, NULL));
	assert_null(rpc_parse("[1]\0", 4, NULL));
	check(s, objects, PARSE);
	for (int i = 0; i < 64; i++)
		len += (size_t)snprintf(batch + len, sizeof batch - len, "%s", entry);
	batch[len - 1] = ']';
	check(s, batch, "");
	snprintf(batch + len - 1, sizeof batch - len + 1, ",1]");
	check(s, batch, ERR(-32600, "Invalid Request: more than 64 in a batch", "null"));
	free(deep);
	free(objects);
	rpc_server_free(s);
}

/* Every prefix of a valid request, and every single byte changed: always one answer, never a crash.
 */
static void test_mutations(void **state)
{
	static const char text[] =
		"[{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":{\"text\":\"\\u00e9a\","
		"\"list\":[1,null]},\"id\":1.5e3},{\"method\":\"sum\",\"params\":[1],\"id\":2}]";
	struct rpc_server *s = server_make();
	const struct rpc_ctx ctx = {.authorised = true};
	char copy[sizeof text];

	(void)state;
	for (size_t i = 0; i < sizeof text - 1; i++) {
		struct got g = {.times = 0};
		rpc_dispatch(s, text, i, &ctx, got_answer, &g);
		assert_json(g.text, PARSE);
		for (int b = 0; b < 256; b += 3) {
			g.times = 0;
			memcpy(copy, text, sizeof text);
			copy[i] = (char)b;
			assert_null(rpc_dispatch(s, copy, sizeof text - 1, &ctx, got_answer, &g));
			assert_int_equal(g.times, 1);
		}
	}
	rpc_server_free(s);
}

static void test_late_answers(void **state)
{
	static const char batch[] = "[" CALL("hold", "[]") "," CALL(
		"sum", "[1]") ","
			      "{\"jsonrpc\":\"2.0\",\"method\":\"hold\",\"id\":2},"
			      "{\"jsonrpc\":\"2.0\",\"method\":\"hold\"}]";
	struct rpc_server *s = server_make();
	const struct rpc_ctx ctx = {.over_mesh = true, .mesh_app = "gw"};
	struct got g = {.times = 0};

	(void)state;
	assert_non_null(rpc_dispatch(s, batch, strlen(batch), &ctx, got_answer, &g));
	assert_int_equal(held_count, 3);
	assert_string_equal(rpc_call_ctx(held[0])->mesh_app, "gw");
	assert_true(rpc_call_wanted(held[0]));
	rpc_reply(held[1], json_object_new_string("second"));
	rpc_fail(held[2], RPC_FAILED, "nobody reads this");
	assert_int_equal(g.times, 0);
	rpc_fail(held[0], RPC_FAILED, "no %s", "way");
	assert_int_equal(g.times, 1);
	assert_json(g.text,
		    "[" ERR(-32000, "no way", "1") "," OK("1", "1") "," OK("\"second\"", "2") "]");
	rpc_server_free(s);
}

static void test_client_and_server_gone(void **state)
{
	static const char call[] = CALL("hold", "[]");
	struct rpc_server *s = server_make();
	const struct rpc_ctx ctx = {.authorised = false};
	struct got g = {.times = 0};
	struct rpc_request *r;

	(void)state;
	r = rpc_dispatch(s, call, strlen(call), &ctx, got_answer, &g);
	rpc_request_abandon(r);
	assert_false(rpc_call_wanted(held[0]));
	rpc_reply(held[0], json_object_new_int(1));
	assert_non_null(rpc_dispatch(s, call, strlen(call), &ctx, got_answer, &g));
	rpc_server_free(s);
	assert_false(rpc_call_wanted(held[1]));
	rpc_reply(held[1], json_object_new_int(1));
	assert_int_equal(g.times, 0);
}

static void keep_call(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct rpc_call **list = *(struct rpc_call ***)arg;

	(void)params;
	*list = call;
	(*(struct rpc_call ***)arg)++;
}

static void test_pending_limit(void **state)
{
	static const struct rpc_method keep[] = {{.name = "keep", .handler = keep_call}};
	static struct rpc_call *calls[RPC_PENDING_MAX];
	static const char call[] = CALL("keep", "[]");
	struct rpc_call **next = calls;
	const struct rpc_ctx ctx = {.authorised = false};
	struct rpc_server *s = NULL;
	struct got g = {.times = 0};

	(void)state;
	assert_int_equal(rpc_server_new(&s), 0);
	assert_int_equal(rpc_server_add(s, keep, 1, &next), 0);
	for (int i = 0; i < RPC_PENDING_MAX; i++)
		assert_non_null(rpc_dispatch(s, call, strlen(call), &ctx, got_answer, &g));
	log_set_level(LOG_LEVEL_ERROR);
	check(s, call, ERR(-32002, "too many calls are waiting for their answers", "null"));
	log_set_level(LOG_LEVEL_INFO);
	for (int i = 0; i < RPC_PENDING_MAX; i++)
		rpc_reply(calls[i], NULL);
	assert_int_equal(g.times, RPC_PENDING_MAX);
	rpc_server_free(s);
}

static void test_text(void **state)
{
	static const char *const table[][2] = {
		{"plain", "plain"},
		{"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
		{"\xf0\x9f\x8c\x90", "\xf0\x9f\x8c\x90"},
		{"a\xff"
		 "b",
		 "a\xef\xbf\xbd"
		 "b"},
		{"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
		{"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
		{"cut\xe2\x82", "cut\xef\xbf\xbd\xef\xbf\xbd"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct json_object *o = rpc_text(table[i][0]);
		assert_string_equal(json_object_get_string(o), table[i][1]);
		json_object_put(o);
	}
}

static void test_client_halves(void **state)
{
	static const char error[] =
		"{\"error\":{\"code\":-5,\"message\":\"a\\u001bb\",\"data\":[1]}}";
	struct json_object *params = json_object_new_object();
	struct rpc_server *s = server_make();
	struct rpc_answer a;
	struct got g = {.times = 0};
	const struct rpc_ctx ctx = {.authorised = false};
	size_t len = 0;
	char *text;

	(void)state;
	rpc_set_u64(params, "minuend", 9);
	rpc_set_u64(params, "subtrahend", 4);
	text = rpc_encode_call(77, "subtract", params, &len);
	rpc_dispatch(s, text, len, &ctx, got_answer, &g);
	rpc_decode_answer(g.text, g.len, 77, &a);
	assert_int_equal(a.outcome, RPC_OUTCOME_RESULT);
	assert_int_equal(json_object_get_int(a.result), 5);
	rpc_answer_free(&a);
	rpc_decode_answer(g.text, g.len, 78, &a);
	assert_int_equal(a.outcome, RPC_OUTCOME_DOWN);
	for (size_t i = 0; i < g.len; i++) {
		rpc_decode_answer(g.text, i, 77, &a);
		assert_int_equal(a.outcome, RPC_OUTCOME_DOWN);
		assert_int_equal(a.code, -EPROTO);
	}
	rpc_decode_answer(error, strlen(error), 1, &a);
	assert_int_equal(a.outcome, RPC_OUTCOME_ERROR);
	assert_int_equal(a.code, -5);
	assert_string_equal(a.text, "a?b");
	rpc_answer_free(&a);
	free(text);
	json_object_put(params);
	rpc_server_free(s);
}

struct guard_case {
	const char *from;
	bool get;
	const char *origin, *host, *authorization;
	bool allowed;
};

static const struct guard_case guard_cases[] = {
	{"10.1.2.3", false, NULL, "gw", NULL, true},
	{"10.2.2.3", false, NULL, "gw", NULL, false},
	{"::1", false, NULL, NULL, NULL, true},
	{"fd00:1::5", false, NULL, "x", NULL, true},
	{"fd01:1::5", false, NULL, "x", NULL, false},
	{"192.0.2.1", false, NULL, "x", "Bearer s3cret", true},
	{"192.0.2.1", false, NULL, "x", "bearer   s3cret", true},
	{"192.0.2.1", false, NULL, "x", "Bearer s3cre", false},
	{"192.0.2.1", false, NULL, "x", "Bearer s3cretx", false},
	{"192.0.2.1", false, NULL, "x", "Bearer ", false},
	{"192.0.2.1", false, NULL, "x", "s3cret", false},
	{"192.0.2.1", false, "http://evil.example", "x", "Bearer s3cret", true},
	/* A page from elsewhere; a page whose name was made to point here; our own page. */
	{"10.1.2.3", false, "http://evil.example", "127.0.0.1:1234", NULL, false},
	{"10.1.2.3", false, "null", "127.0.0.1:1234", NULL, false},
	{"10.1.2.3", false, "http://evil.example", NULL, NULL, false},
	{"10.1.2.3", false, "http://evil.example:1234", "evil.example:1234", NULL, false},
	{"10.1.2.3", true, NULL, "evil.example:1234", NULL, false},
	{"10.1.2.3", true, NULL, NULL, NULL, false},
	{"10.1.2.3", false, "http://127.0.0.1:1234", "127.0.0.1:1234", NULL, true},
	{"10.1.2.3", false, "http://[::1]:1234", "[::1]:1234", NULL, true},
	{"10.1.2.3", false, "http://127.0.0.1:80", "127.0.0.1:1234", NULL, false},
	{"10.1.2.3", false, "http://LOCALHOST:1234", "localhost:1234", NULL, true},
	{"10.1.2.3", true, NULL, "router.lan:1234", NULL, true},
	{"10.1.2.3", true, NULL, "gate", NULL, true},
	{"10.1.2.3", true, NULL, "router", NULL, false},
};

static void test_guard(void **state)
{
	const struct rpc_http_spec spec = {"10.1.0.0/16, fd00::/16,::1", "s3cret",
					   "router.lan, gate"};
	struct rpc_guard g = {0};

	(void)state;
	assert_int_equal(rpc_guard_init(&g, &spec), 0);
	for (size_t i = 0; i < sizeof guard_cases / sizeof guard_cases[0]; i++) {
		const struct guard_case *t = &guard_cases[i];
		struct rpc_credentials c = {.get = t->get,
					    .origin = t->origin,
					    .host = t->host,
					    .authorization = t->authorization};
		assert_int_equal(net_addr_parse(&c.addr, t->from, 0), 0);
		if (rpc_guard_allows(&g, &c) != t->allowed)
			fail_msg("case %zu", i);
	}
	/* A browser says whether another site's page is behind the request, also without Origin. */
	struct rpc_credentials c = {.get = true, .host = "127.0.0.1:1234"};
	assert_int_equal(net_addr_parse(&c.addr, "10.1.2.3", 0), 0);
	assert_true(rpc_guard_allows(&g, &c));
	c.fetch_site = "cross-site";
	assert_false(rpc_guard_allows(&g, &c));
	c.fetch_site = "same-site";
	assert_false(rpc_guard_allows(&g, &c));
	c.fetch_site = "same-origin";
	assert_true(rpc_guard_allows(&g, &c));
	rpc_guard_clear(&g);
}

static void quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

static void test_guard_config(void **state)
{
	static const char *const bad[] = {"10.0.0.0/33", "10.0.0.0/",  "10.0.0.0/x",
					  "::/129",	 "example",    "10.0.0.1:80",
					  "1.2.3",	 "10.0.0.0/-1"};
	struct rpc_guard g = {0};
	const struct rpc_http_spec none = {NULL, "", NULL};
	struct rpc_credentials c = {.authorization = "Bearer "};

	(void)state;
	log_set_sink(quiet);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		const struct rpc_http_spec spec = {bad[i], NULL, NULL};
		assert_int_equal(rpc_guard_init(&g, &spec), -EINVAL);
	}
	log_set_sink(NULL);
	assert_int_equal(rpc_guard_init(&g, &none), 0);
	net_addr_parse(&c.addr, "127.0.0.1", 0);
	assert_false(rpc_guard_allows(&g, &c));
	rpc_guard_clear(&g);
}

static void ask(struct rpc_server *s, bool authorised, const char *request, const char *wanted)
{
	struct got g = {.times = 0};
	const struct rpc_ctx ctx = {.authorised = authorised};

	assert_null(rpc_dispatch(s, request, strlen(request), &ctx, got_answer, &g));
	assert_json(g.text, wanted);
}

/* Only what strangers may call is lenient: daemons of other versions call that. */
static void test_unknown_params(void **state)
{
	struct rpc_server *s = server_make();

	(void)state;
	ask(s, true, CALL("secret", "{\"p\":1}"), WRONG("p is not known here"));
	ask(s, true, CALL("secret", "{\"o\":{\"a\":1,\"x\":1}}"), WRONG("o.x is not known here"));
	ask(s, true, CALL("secret", "{\"o\":null}"), OK("null", "1"));
	ask(s, false, CALL("secret", "{\"p\":1}"),
	    ERR(-32001, "secret needs an authorised address or the token", "1"));
	rpc_server_free(s);
}

/* In `wanted` a single quote stands for a double one. */
static void assert_quoted(struct json_object *got, const char *wanted)
{
	char text[4096];

	assert_true(strlen(wanted) < sizeof text);
	strcpy(text, wanted);
	for (char *p = text; (p = strchr(p, '\'')); p++)
		*p = '"';
	assert_json(json_object_to_json_string(got), text);
}

#define NULLABLE(schema) "{'anyOf':[" schema ",{'type':'null'}]}"
#define PARAM(name, text, schema)                                                                  \
	"{'name':'" name "','description':'" text                                                  \
	"','required':false,'schema':" NULLABLE(schema) "}"
#define REF(max) "{'anyOf':[{'type':'integer','minimum':0},{'type':'string','maxLength':" max "}]}"

static const char echo_document
	[] = "{'name':'echo','summary':'Says it "
	     "again.','paramStructure':'either','params':[" PARAM("text",
								  "some words", "{'type':'string','maxLength':8}") "," PARAM("flag",
															     "",
															     "{'type':'boolean'}") "," PARAM("list", "", "{'type':'array','items':" REF("3") ",'maxItems':2}") "," PARAM("object",
																													 "",
																													 "{'$ref':'#/components/schemas/"
																													 "inner'}") "," PARAM("ref", "", REF("15")) "," PARAM("key",
																																			      "",
																																			      "{'type':'string','pattern':'^[0-9a-f]{64}$'}") "," PARAM("word",
																																											"",
																																											"{'type':'string','enum':['yes','no','"
																																											"perhaps']}") "," PARAM("either",
																																														"",
																																														"{'type':'string'"
																																														",'maxLength':4},"
																																														"{'type':'"
																																														"boolean'}") "],"
																																															     "'re"
																																															     "sul"
																																															     "t':"
																																															     "{'"
																																															     "nam"
																																															     "e':"
																																															     "'re"
																																															     "sul"
																																															     "t',"
																																															     "'sc"
																																															     "hem"
																																															     "a':"
																																															     "{'"
																																															     "typ"
																																															     "e':"
																																															     "'ob"
																																															     "jec"
																																															     "t',"
																																															     "'pr"
																																															     "ope"
																																															     "rti"
																																															     "es'"
																																															     ":{"
																																															     "'te"
																																															     "xt'"
																																															     ":{'"
																																															     "any"
																																															     "Of'"
																																															     ":[{"
																																															     "'ty"
																																															     "pe'"
																																															     ":'"
																																															     "str"
																																															     "ing"
																																															     "'},"
																																															     "{'"
																																															     "typ"
																																															     "e':"
																																															     "'nu"
																																															     "ll'"
																																															     "}],"
																																															     "'de"
																																															     "scr"
																																															     "ipt"
																																															     "ion"
																																															     "':'"
																																															     "wha"
																																															     "t "
																																															     "was"
																																															     " sa"
																																															     "id'"
																																															     "},"
																																															     "'fl"
																																															     "ag'"
																																															     ":{'"
																																															     "typ"
																																															     "e':"
																																															     "'bo"
																																															     "ole"
																																															     "an'"
																																															     "},'"
																																															     "ref"
																																															     "':{"
																																															     "'ty"
																																															     "pe'"
																																															     ":'"
																																															     "str"
																																															     "ing"
																																															     "'},"
																																															     "'mo"
																																															     "re'"
																																															     ":{'"
																																															     "typ"
																																															     "e':"
																																															     "'ar"
																																															     "ray"
																																															     "','"
																																															     "ite"
																																															     "ms'"
																																															     ":{'"
																																															     "$re"
																																															     "f':"
																																															     "'#/"
																																															     "com"
																																															     "pon"
																																															     "ent"
																																															     "s/"
																																															     "sch"
																																															     "ema"
																																															     "s/"
																																															     "inn"
																																															     "er'"
																																															     "}}}"
																																															     ","
																																															     "'re"
																																															     "qui"
																																															     "red"
																																															     "':["
																																															     "'te"
																																															     "xt'"
																																															     ",'"
																																															     "fla"
																																															     "g']"
																																															     ",'"
																																															     "add"
																																															     "iti"
																																															     "ona"
																																															     "lPr"
																																															     "ope"
																																															     "rti"
																																															     "es'"
																																															     ":fa"
																																															     "lse"
																																															     "}},"
																																															     "'er"
																																															     "ror"
																																															     "s':"
																																															     "[{'"
																																															     "cod"
																																															     "e':"
																																															     "-32"
																																															     "602"
																																															     ",'"
																																															     "mes"
																																															     "sag"
																																															     "e':"
																																															     "'In"
																																															     "val"
																																															     "id "
																																															     "par"
																																															     "ams"
																																															     "'},"
																																															     "{'"
																																															     "cod"
																																															     "e':"
																																															     "-32"
																																															     "000"
																																															     ",'"
																																															     "mes"
																																															     "sag"
																																															     "e':"
																																															     "'it"
																																															     " ca"
																																															     "nno"
																																															     "t "
																																															     "spe"
																																															     "ak'"
																																															     "}],"
																																															     "'x-"
																																															     "acc"
																																															     "ess"
																																															     "':'"
																																															     "pub"
																																															     "lic"
																																															     "','"
																																															     "x-"
																																															     "unk"
																																															     "now"
																																															     "n-"
																																															     "par"
																																															     "ams"
																																															     "':'"
																																															     "ign"
																																															     "ore"
																																															     "d'"
																																															     "}";
static const char secret_document[] =
	"{'name':'secret','summary':'','paramStructure':'either','params':[" PARAM(
		"o", "",
		"{'$ref':'#/components/schemas/inner'}") "],"
							 "'result':{'name':'result','schema':{'"
							 "type':'string','enum':['up to','down']}},"
							 "'errors':[{'code':-32602,'message':'"
							 "Invalid params'},"
							 "{'code':-32001,'message':'it needs an "
							 "authorised address or the token'}],"
							 "'x-access':'authorised','x-unknown-"
							 "params':'refused'}";
static const char inner_document[] =
	"{'schemas':{'inner':{'type':'object','properties':{"
	"'a':{'type':'integer','minimum':1,'maximum':5},"
	"'b':{'$ref':'#/components/schemas/inner'}},'required':['a'],"
	"'additionalProperties':false,'description':'What is inside.'}}}";

static struct json_object *member(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	assert_true(json_object_object_get_ex(o, key, &v));
	return v;
}

static void test_discover(void **state)
{
	static const struct rpc_about about = {"A title", "A text."};
	static const char call[] = CALL("rpc.discover", "[]");
	struct rpc_server *s = server_make();
	const struct rpc_ctx ctx = {.authorised = false};
	struct got g = {.times = 0};
	struct json_object *o, *doc, *list;

	(void)state;
	rpc_server_describe(s, &about);
	rpc_dispatch(s, call, sizeof call - 1, &ctx, got_answer, &g);
	o = rpc_parse(g.text, g.len, NULL);
	doc = member(o, "result");
	list = member(doc, "methods");
	assert_string_equal(json_object_get_string(member(doc, "openrpc")), "1.2.6");
	assert_string_equal(json_object_get_string(member(member(doc, "info"), "title")),
			    "A title");
	assert_int_equal(json_object_array_length(list), sizeof methods / sizeof methods[0] + 1);
	assert_quoted(json_object_array_get_idx(list, 6), echo_document);
	assert_quoted(json_object_array_get_idx(list, 7), secret_document);
	assert_quoted(member(doc, "components"), inner_document);
	json_object_put(o);
	rpc_server_free(s);
}

/* Where strangers may call nothing, they are told nothing. */
static void test_discover_needs_right(void **state)
{
	static const struct rpc_method closed[] = {
		{.name = "secret", .handler = h_update, .access = RPC_AUTHORISED},
	};
	static const char call[] = CALL("rpc.discover", "{}");
	const struct rpc_ctx ctx = {.authorised = true};
	struct got g = {.times = 0};
	struct rpc_server *s = NULL;

	(void)state;
	assert_int_equal(rpc_server_new(&s), 0);
	assert_int_equal(rpc_server_add(s, closed, 1, NULL), 0);
	check(s, call, ERR(-32001, "rpc.discover needs an authorised address or the token", "1"));
	rpc_dispatch(s, call, sizeof call - 1, &ctx, got_answer, &g);
	assert_non_null(strstr(g.text, "\"openrpc\""));
	rpc_server_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spec_examples),
		cmocka_unit_test(test_version1),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_unknown_params),
		cmocka_unit_test(test_discover),
		cmocka_unit_test(test_discover_needs_right),
		cmocka_unit_test(test_depth_and_batch),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_late_answers),
		cmocka_unit_test(test_client_and_server_gone),
		cmocka_unit_test(test_pending_limit),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_client_halves),
		cmocka_unit_test(test_guard),
		cmocka_unit_test(test_guard_config),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
