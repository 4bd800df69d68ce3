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
	const char *text = rpc_param_str(params, "a", NULL);
	const char *ref = rpc_param_str(params, "f", NULL);
	uint64_t number = rpc_param_u64(params, "b", 1);
	struct json_object *list = rpc_param_json(params, "d");
	struct json_object *object = rpc_param_json(params, "e");

	(void)arg;
	/* What the table promises. */
	if (number < 1 || number > 99 || (text && strlen(text) > 64) || (ref && strlen(ref) > 31) ||
	    (list && json_object_array_length(list) > 9) ||
	    (object && rpc_param_u64(object, "n", 0) > 9))
		abort();
	rpc_reply(call, rpc_text(text));
}

static void h_hold(struct rpc_call *call, struct json_object *params, void *arg)
{
	struct state *s = arg;

	(void)params;
	s->held[s->held_count++] = call;
}

static const struct rpc_method methods[] = {
	{.name = "e",
	 .handler = h_echo,
	 .params = "a? text(64)\nb? uint(1..99)\nc? bool|text\nd? ref(9)[9]\ne? @o\nf? ref(31)\n"
		   "g? =x,yy\n",
	 .result = "text|null"},
	{.name = "h", .handler = h_hold, .access = RPC_AUTHORISED},
};

static const char object_shape[] = "o\nn uint(0..9)\no? @o\n* any\n\n";

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

	if (rpc_server_new(&server) || rpc_server_add(server, methods, 2, &s) ||
	    rpc_server_shapes(server, object_shape))
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
