/* Answers that are kept for all who ask the same, but for the id. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "io/jsonrpc.h"

/* A public method whose answer is kept: how often it was asked, and what it says. */
static unsigned asked, said;
static bool still;

static bool is_still(void *arg)
{
	(void)arg;
	return still;
}

static void h_kept(struct rpc_call *call, struct json_object *params, void *arg)
{
	(void)params;
	asked++;
	rpc_keep(call, is_still, arg);
	rpc_reply(call, json_object_new_int((int)said));
}

struct got {
	int times;
	char text[512];
};

static void got_answer(const char *text, size_t len, void *arg)
{
	struct got *g = arg;

	g->times++;
	assert_true(len < sizeof g->text);
	memcpy(g->text, text ? text : "", len);
	g->text[len] = '\0';
}

/* As it is: the order of the members too. */
static void check(struct rpc_server *s, const char *request, const char *wanted)
{
	struct got g = {.times = 0};
	const struct rpc_ctx ctx = {.authorised = false};

	assert_null(rpc_dispatch(s, request, strlen(request), &ctx, got_answer, &g));
	assert_int_equal(g.times, 1);
	assert_string_equal(g.text, wanted);
}

#define ERR(code, text, id)                                                                        \
	"{\"jsonrpc\":\"2.0\",\"id\":" id ",\"error\":{\"code\":" #code ",\"message\":\"" text     \
	"\"}}"
#define PARSE ERR(-32700, "Parse error", "null")
#define OK(result, id) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"result\":" result "}"
#define OWN "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"own\"}"
#define ASK(id) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"kept\"}"

static void test_kept_answers(void **state)
{
	static const struct rpc_method table[] = {
		{.name = "kept", .handler = h_kept, .access = RPC_PUBLIC},
		{.name = "own", .handler = h_kept, .access = RPC_AUTHORISED},
	};
	/* The same, but for what is not a plain number: asked anew, and answered right. */
	static const char *const others[][2] = {
		{"{\"jsonrpc\":\"2.0\",\"id\":\"7\",\"method\":\"kept\"}", OK("5", "\"7\"")},
		{ASK("-7"), OK("5", "-7")},
		{ASK("1.5"), OK("5", "1.5")},
		{ASK("1e3"), OK("5", "1e3")},
		{ASK("07"), PARSE},
		{ASK(""), PARSE},
		{ASK("7 7"), PARSE},
		{ASK("1234567890123456789"), OK("5", "1234567890123456789")},
		{ASK("1") " ", OK("5", "1")},
		{ASK("1") "x", PARSE},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"kepT\"}",
		 ERR(-32601, "Method not found", "1")},
		{"[" ASK("1") "]", "[" OK("5", "1") "]"},
		{"{\"id\":1,\"method\":\"kept\"}", "{\"id\":1,\"result\":5,\"error\":null}"},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"\\u0069d\":3,\"method\":\"kept\"}", OK("5", "3")},
		{"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":3,\"method\":\"kept\"}", OK("5", "3")},
		{"{\"jsonrpc\":\"2.0\",\"method\":\"kept\",\"params\":{\"id\":1}}", ""},
	};
	const struct rpc_ctx trusted = {.authorised = true};
	struct got g = {.times = 0};
	struct rpc_server *s;

	(void)state;
	assert_int_equal(rpc_server_new(&s), 0);
	assert_int_equal(rpc_server_add(s, table, 2, NULL), 0);
	asked = 0;
	said = 5;
	still = true;
	check(s, ASK("1"), OK("5", "1"));
	check(s, ASK("1"), OK("5", "1"));
	check(s, ASK("42"), OK("5", "42"));
	check(s, ASK("0"), OK("5", "0"));
	check(s, ASK("123456789012345"), OK("5", "123456789012345"));
	check(s, ASK("7"), OK("5", "7"));
	assert_int_equal(asked, 1);
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		check(s, others[i][0], others[i][1]);
		check(s, ASK("8"), OK("5", "8"));
		check(s, others[i][0], others[i][1]);
	}
	/* What has changed shows at once, told or by what the method looks at. */
	check(s, ASK("1"), OK("5", "1"));
	said = 6;
	check(s, ASK("1"), OK("5", "1"));
	rpc_server_forget(s);
	check(s, ASK("1"), OK("6", "1"));
	said = 7;
	still = false;
	check(s, ASK("2"), OK("7", "2"));
	check(s, ASK("2"), OK("7", "2"));
	still = true;
	/* What is not everybody's is nobody else's. */
	assert_null(rpc_dispatch(s, OWN, sizeof OWN - 1, &trusted, got_answer, &g));
	check(s, OWN, ERR(-32001, "own needs an authorised address or the token", "1"));
	rpc_server_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kept_answers),
	};
	return cmocka_run_group_tests_name("jsonrpc_kept", tests, NULL, NULL);
}
