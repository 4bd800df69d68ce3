/* Any bytes as a request to a small server, and as an answer to a client: every request gets
 * exactly one answer callback, and what is sent is JSON that a client can read. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "io/jsonrpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
	struct rpc_call *held[RPC_BATCH_MAX];
	size_t held_count;
	unsigned answers;
};

static void h_echo(struct rpc_call *call, struct json_object *params, void *arg)
{
	const char *text = NULL, *ref = NULL;
	struct json_object *list = NULL, *object = NULL;
	char buf[32];
	uint64_t number = 0;
	bool flag = false;

	(void)arg;
	if (rpc_param_str(call, params, "a", RPC_OPTIONAL, 64, &text) &&
	    rpc_param_u64(call, params, "b", RPC_OPTIONAL, 1, 99, &number) &&
	    rpc_param_bool(call, params, "c", RPC_OPTIONAL, &flag) &&
	    rpc_param_array(call, params, "d", RPC_OPTIONAL, 9, &list) &&
	    rpc_param_object(call, params, "e", RPC_OPTIONAL, &object) &&
	    rpc_param_ref(call, params, "f", RPC_OPTIONAL, buf, sizeof buf, &ref)) {
		if (number > 99 || (text && strlen(text) > 64))
			abort();
		rpc_reply(call, rpc_text(text));
	}
}

static void h_hold(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct state *s = arg;

	(void)params;
	s->held[s->held_count++] = call;
}

static const struct rpc_method methods[] = {
	{"e", {"a", "b", "c", "d", "e", "f"}, h_echo, RPC_PUBLIC},
	{"h", {NULL}, h_hold, RPC_AUTHORISED},
};

static void check_answer(const char *text, size_t len, void *arg)
{
	struct state *s = arg;
	struct json_object *o = len ? rpc_parse(text, len, NULL) : NULL;

	s->answers++;
	if (len && !o)
		abort();
	json_object_put(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct rpc_ctx ctx = {.authorised = true};
	struct state s = {.answers = 0};
	struct rpc_server *server;
	struct rpc_answer answer;

	if (rpc_server_new(&server) || rpc_server_add(server, methods, 2, &s))
		abort();
	rpc_dispatch(server, data, size, &ctx, check_answer, &s);
	for (size_t i = 0; i < s.held_count; i++)
		rpc_reply(s.held[i], NULL);
	rpc_server_free(server);
	if (s.answers != 1)
		abort();
	rpc_decode_answer(data, size, 1, &answer);
	rpc_answer_free(&answer);
	return 0;
}
