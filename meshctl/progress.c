#include "meshctl/progress.h"

#include <event2/event.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/jsonrpc.h"
#include "io/timer.h"
#include "meshctl/command.h"

#define PER_CALL 100 /* nodemanager's limit */
#define POLL_US 250000

/* One long call, with `status` asked again and again beside it. */
struct adding {
	struct event_base *base;
	const struct rpc_target *to;
	struct event *timer;
	struct rpc_client *call, *poll;
	struct rpc_answer answer;
	uint64_t base_count, done, total; /* connected before; of ours so far; wanted in all */
	bool counted, finished;
	FILE *err;
};

static void line_show(const struct adding *a, uint64_t now)
{
	fprintf(a->err, "\r%llu of %llu nodes\033[K", (unsigned long long)now,
		(unsigned long long)a->total);
	fflush(a->err);
}

static void on_status(const struct rpc_answer *answer, void *arg)
{
	struct adding *a = arg;
	struct json_object *n = NULL;
	struct timeval tv = {0, POLL_US};
	uint64_t count;

	a->poll = NULL;
	if (answer->outcome == RPC_OUTCOME_RESULT &&
	    json_object_object_get_ex(answer->result, "nodes_connected", &n)) {
		count = json_object_get_uint64(n);
		if (!a->counted)
			a->base_count = count > a->done ? count - a->done : 0;
		a->counted = true;
		count = count > a->base_count ? count - a->base_count : 0;
		line_show(a, count > a->total ? a->total : count);
	}
	if (!a->finished)
		event_add(a->timer, &tv);
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct adding *a = arg;

	(void)fd, (void)what;
	if (!a->poll)
		a->poll = rpc_client_call(a->base, a->to, "status", NULL, on_status, a);
}

static void on_added(const struct rpc_answer *answer, void *arg)
{
	struct adding *a = arg;

	a->call = NULL;
	a->finished = true;
	a->answer = *answer;
	json_object_get(a->answer.result);
	json_object_get(a->answer.data);
	event_base_loopbreak(a->base);
}

/* Numbers only, as the asynchronous client wants it; false: then without progress. */
static bool host_resolve(const char *host, char out[NI_MAXHOST])
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	bool ok = getaddrinfo(host, NULL, &hints, &list) == 0 && list &&
		  getnameinfo(list->ai_addr, list->ai_addrlen, out, NI_MAXHOST, NULL, 0,
			      NI_NUMERICHOST) == 0;

	if (list)
		freeaddrinfo(list);
	return ok;
}

static void call_with_progress(struct adding *a, struct json_object *params)
{
	struct timeval now = {0};

	a->finished = false;
	a->base = event_base_new();
	a->timer = a->base ? timer_new(a->base, on_poll, a) : NULL;
	a->answer = (struct rpc_answer){.outcome = RPC_OUTCOME_DOWN, .text = "out of memory"};
	if (a->timer && !event_add(a->timer, &now))
		a->call = rpc_client_call(a->base, a->to, "addNodes", params, on_added, a);
	if (a->call)
		event_base_dispatch(a->base);
	if (a->poll)
		rpc_client_cancel(a->poll);
	a->poll = NULL;
	event_drop(a->timer);
	if (a->base)
		event_base_free(a->base);
}

static void take_all(struct json_object *from, struct json_object *to, uint64_t *connected)
{
	struct json_object *list = NULL, *up = NULL;

	json_object_object_get_ex(from, "nodes", &list);
	if (!json_object_is_type(list, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *node = json_object_array_get_idx(list, i);
		if (json_object_object_get_ex(node, "connected", &up))
			*connected += json_object_get_boolean(up) ? 1 : 0;
		json_object_array_add(to, json_object_get(node));
	}
}

static enum ctl_exit add_some(const struct ctl_args *args, struct adding *a,
			      struct json_object *params, struct json_object *all,
			      uint64_t *connected, uint64_t count)
{
	char host[NI_MAXHOST];
	struct rpc_target numeric = *a->to;
	const struct rpc_target *given = a->to;
	bool shown = isatty(fileno(a->err)) && !args->json && host_resolve(given->host, host);
	enum ctl_exit status;

	rpc_set_u64(params, "count", count);
	if (shown) {
		numeric.host = host;
		a->to = &numeric;
		call_with_progress(a, params);
		a->to = given;
		fprintf(a->err, "\r\033[K");
	} else {
		rpc_client_sync(given, "addNodes", params, &a->answer);
	}
	status = ctl_answer_check(given, CTL_MANAGER, &a->answer, a->err);
	if (status == CTL_OK)
		take_all(a->answer.result, all, connected);
	rpc_answer_free(&a->answer);
	a->done += count;
	return status;
}

enum ctl_exit ctl_run_add_nodes(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
				FILE *err)
{
	char error[CTL_ERROR_MAX] = "out of memory";
	struct json_object *params = c->params(a, error), *count = NULL;
	struct json_object *result = json_object_new_object(), *all = json_object_new_array();
	struct rpc_target to = ctl_target(a, CTL_MANAGER);
	struct adding adding = {.to = &to, .err = err};
	enum ctl_exit status = params ? CTL_OK : CTL_USAGE;
	uint64_t connected = 0;

	if (!params)
		fprintf(err, "meshctl: %s: %s\n", c->name, error);
	else if (json_object_object_get_ex(params, "count", &count))
		adding.total = json_object_get_uint64(count);
	if (!to.timeout_us)
		to.timeout_us = c->timeout_us;
	rpc_set(result, "nodes", all);
	for (uint64_t left = adding.total; left && status == CTL_OK;) {
		uint64_t some = left < PER_CALL ? left : PER_CALL;
		status = add_some(a, &adding, params, all, &connected, some);
		left -= some;
	}
	if (json_object_array_length(all))
		ctl_show(a, c, result, out);
	if (status == CTL_OK && connected < adding.total) {
		fprintf(err,
			"meshctl: only %llu of %llu nodes have registered; the log of the "
			"nodemanager says why\n",
			(unsigned long long)connected, (unsigned long long)adding.total);
		status = CTL_REFUSED;
	}
	json_object_put(result);
	json_object_put(params);
	return status;
}
