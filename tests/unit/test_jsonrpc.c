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
	uint64_t a, b;

	(void)arg;
	if (rpc_param_u64(call, params, "minuend", RPC_REQUIRED, 0, 1000, &a) &&
	    rpc_param_u64(call, params, "subtrahend", RPC_REQUIRED, 0, 1000, &b))
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
	const char *text = "none";
	bool flag = false;
	struct json_object *list = NULL, *object = NULL, *out;
	char buf[16];
	const char *ref = NULL;

	(void)arg;
	if (!rpc_param_str(call, params, "text", RPC_OPTIONAL, 8, &text) ||
	    !rpc_param_bool(call, params, "flag", RPC_OPTIONAL, &flag) ||
	    !rpc_param_array(call, params, "list", RPC_OPTIONAL, 2, &list) ||
	    !rpc_param_object(call, params, "object", RPC_OPTIONAL, &object) ||
	    !rpc_param_ref(call, params, "ref", RPC_OPTIONAL, buf, sizeof buf, &ref))
		return;
	out = json_object_new_object();
	rpc_set_str(out, "text", text);
	rpc_set_bool(out, "flag", flag);
	rpc_set_str(out, "ref", ref);
	rpc_reply(call, out);
}

static const struct rpc_method methods[] = {
	{"subtract", {"minuend", "subtrahend"}, h_subtract, RPC_PUBLIC},
	{"update", {"a", "b", "c", "d", "e"}, h_update, RPC_PUBLIC},
	{"notify_hello", {"a"}, h_update, RPC_PUBLIC},
	{"get_data", {NULL}, h_data, RPC_PUBLIC},
	{"sum", {"a", "b", "c"}, h_sum, RPC_PUBLIC},
	{"hold", {NULL}, h_hold, RPC_PUBLIC},
	{"echo", {"text", "flag", "list", "object", "ref"}, h_echo, RPC_PUBLIC},
	{"secret", {NULL}, h_update, RPC_AUTHORISED},
};

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
	{CALL("echo", "{\"object\":[]}"), WRONG("object must be an object")},
	{CALL("echo", "{\"ref\":12}"),
	 OK("{\"text\":\"none\",\"flag\":false,\"ref\":\"12\"}", "1")},
	{CALL("echo", "{\"ref\":\"n1\"}"),
	 OK("{\"text\":\"none\",\"flag\":false,\"ref\":\"n1\"}", "1")},
	{CALL("echo", "{\"ref\":\"0123456789abcdef\"}"), WRONG("ref is longer than 15 bytes")},
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
	static const struct rpc_method keep[] = {{"keep", {NULL}, keep_call, RPC_PUBLIC}};
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spec_examples),
		cmocka_unit_test(test_version1),
		cmocka_unit_test(test_hostile),
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
