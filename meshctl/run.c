#include "meshctl/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/addr.h"
#include "io/jsonrpc.h"
#include "meshctl/command.h"

#define TIMEOUT_DEFAULT_US 10000000u
#define POLL_US 200000u

static const struct {
	const char *name;
	uint16_t port;
} daemons[] = {
	[CTL_MANAGER] = {"nodemanager", CTL_MANAGER_PORT},
	[CTL_GATEWAY] = {"gatewayd", CTL_GATEWAY_PORT},
	[CTL_SUBSCRIBER] = {"subscriberd", CTL_SUBSCRIBER_PORT},
};

/* gatewayd and subscriberd are where -g says, or --rpc when only that was given. */
struct rpc_target ctl_target(const struct ctl_args *a, enum ctl_daemon d)
{
	const struct ctl_endpoint *e = d == CTL_MANAGER ? &a->rpc : &a->gate;
	uint16_t port;

	if (d != CTL_MANAGER && !a->gate.given && a->rpc.given)
		e = &a->rpc;
	port = e->port && (d == CTL_MANAGER || e->given) ? e->port : daemons[d].port;
	return (struct rpc_target){e->host, port, a->token, a->timeout_us};
}

static enum ctl_exit refused(const char *daemon, const char *text, FILE *err)
{
	fprintf(err, "meshctl: %s: %s\n", daemon, text);
	return CTL_REFUSED;
}

/* gatewayd and subscriberd say no inside the result: {success: false, errorMsg}. */
static bool says_no(struct json_object *result, char text[TEXT_MAX_BYTES + 1])
{
	struct json_object *success = NULL, *why = NULL;

	if (!json_object_object_get_ex(result, "success", &success) ||
	    !json_object_is_type(success, json_type_boolean) || json_object_get_boolean(success))
		return false;
	json_object_object_get_ex(result, "errorMsg", &why);
	bytes_to_cstr(bytes_str(why ? json_object_get_string(why) : "refused"), text,
		      TEXT_MAX_BYTES + 1);
	return true;
}

const char *ctl_daemon_name(enum ctl_daemon d)
{
	return daemons[d].name;
}

static bool is_here(const char *host)
{
	struct net_addr addr;

	return strcmp(host, "localhost") == 0 ||
	       (net_addr_parse(&addr, host, 0) == 0 && net_addr_is_loopback(&addr));
}

enum ctl_exit ctl_unreachable(const struct rpc_target *to, enum ctl_daemon d, const char *why,
			      FILE *err)
{
	const char *daemon = daemons[d].name;

	fprintf(err,
		strchr(to->host, ':') ? "meshctl: cannot reach %s at [%s]:%u: %s"
				      : "meshctl: cannot reach %s at %s:%u: %s",
		daemon, to->host, to->port, why);
	if (is_here(to->host))
		fprintf(err, " (start it with `meshnet-%s`, or say with %s where it runs)", daemon,
			d == CTL_MANAGER ? "-p or --rpc" : "-g");
	fputc('\n', err);
	return CTL_UNREACHABLE;
}

enum ctl_exit ctl_answer_check(const struct rpc_target *to, enum ctl_daemon d,
			       const struct rpc_answer *answer, FILE *err)
{
	char text[TEXT_MAX_BYTES + 1];

	switch (answer->outcome) {
	case RPC_OUTCOME_DOWN:
		return ctl_unreachable(to, d, answer->text, err);
	case RPC_OUTCOME_ERROR:
		if (answer->code == RPC_DENIED)
			fprintf(err,
				"meshctl: %s wants its token: --token TOKEN, --token @FILE or "
				"$MESH_RPC_TOKEN\n",
				daemons[d].name);
		return refused(daemons[d].name, answer->text, err);
	case RPC_OUTCOME_RESULT:
		break;
	}
	return says_no(answer->result, text) ? refused(daemons[d].name, text, err) : CTL_OK;
}

static void show_json(struct json_object *result, FILE *out)
{
	fprintf(out, "%s\n",
		json_object_to_json_string_ext(result, JSON_C_TO_STRING_PLAIN |
							       JSON_C_TO_STRING_NOSLASHESCAPE));
}

void ctl_show(const struct ctl_args *a, const struct ctl_command *c, struct json_object *result,
	      FILE *out)
{
	if (a->json)
		show_json(result, out);
	else if (c->view)
		view_list(result, c->view, out);
	else
		c->show(result, out);
}

/* Long work answers with a callId; true while pollCallStatus says that it goes on. */
static bool goes_on(struct json_object *result, const char **call_id)
{
	struct json_object *id = NULL, *done = NULL;

	if (json_object_object_get_ex(result, "callId", &id) && id)
		*call_id = json_object_get_string(id);
	if (!*call_id)
		return false;
	if (json_object_object_get_ex(result, "done", &done))
		return !json_object_get_boolean(done);
	return id && !json_object_object_get_ex(result, "result", &done);
}

static void poll_once(const struct rpc_target *to, const char *call_id, struct rpc_answer *answer)
{
	struct json_object *params = json_object_new_object();
	const struct timespec wait = {0, POLL_US * 1000};

	rpc_set_str(params, "callId", call_id);
	nanosleep(&wait, NULL);
	rpc_client_sync(to, "pollCallStatus", params, answer);
	json_object_put(params);
}

/* Follows long work to its end, at most as long as the command may take. */
static void follow(const struct rpc_target *to, struct rpc_answer *answer)
{
	const char *found = NULL;
	uint64_t tries = to->timeout_us / POLL_US + 1;
	char *call_id;

	if (answer->outcome != RPC_OUTCOME_RESULT || !goes_on(answer->result, &found))
		return;
	call_id = strdup(found);
	for (; call_id && tries > 0; tries--) {
		struct rpc_answer next;
		poll_once(to, call_id, &next);
		if (next.outcome == RPC_OUTCOME_ERROR && next.code == RPC_NO_METHOD) {
			rpc_answer_free(&next);
			break; /* the first answer is all there is to know */
		}
		rpc_answer_free(answer);
		*answer = next;
		found = call_id;
		if (next.outcome != RPC_OUTCOME_RESULT || !goes_on(answer->result, &found))
			break;
	}
	free(call_id);
}

/* How many the daemon has; 0: it does not say. */
static uint64_t total_of(struct json_object *result)
{
	struct json_object *total = NULL;

	return json_object_object_get_ex(result, "total", &total) ? json_object_get_uint64(total)
								  : 0;
}

static struct json_object *items_of(struct json_object *result, const struct ctl_command *c)
{
	struct json_object *items = NULL;

	json_object_object_get_ex(result, c->view->list, &items);
	return json_object_is_type(items, json_type_array) ? items : NULL;
}

/* Appends the next page to the answer.  False: there was none, or the answer is an error now. */
static bool next_page(const struct rpc_target *to, const struct ctl_command *c,
		      struct json_object *params, struct rpc_answer *answer)
{
	struct json_object *all = items_of(answer->result, c), *more;
	size_t count = all ? json_object_array_length(all) : 0, added;
	struct rpc_answer next;

	if (!all || count >= total_of(answer->result))
		return false;
	rpc_set_u64(params, "offset", count);
	rpc_client_sync(to, c->method, params, &next);
	if (next.outcome != RPC_OUTCOME_RESULT) {
		rpc_answer_free(answer);
		*answer = next;
		return false;
	}
	more = items_of(next.result, c);
	added = more ? json_object_array_length(more) : 0;
	for (size_t i = 0; i < added; i++)
		json_object_array_add(all, json_object_get(json_object_array_get_idx(more, i)));
	rpc_answer_free(&next);
	return added > 0;
}

void ctl_call(const struct rpc_target *to, const struct ctl_command *c, struct json_object *params,
	      struct rpc_answer *answer)
{
	if (c->paged) {
		rpc_set_u64(params, "offset", 0);
		rpc_set_u64(params, "limit", CTL_PAGE);
	}
	rpc_client_sync(to, c->method, params, answer);
	if (!c->paged || answer->outcome != RPC_OUTCOME_RESULT)
		return;
	while (next_page(to, c, params, answer))
		;
	if (answer->outcome == RPC_OUTCOME_RESULT)
		json_object_object_del(answer->result, "offset"); /* it is whole */
}

static enum ctl_exit run_call(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			      FILE *err)
{
	char error[CTL_ERROR_MAX] = "out of memory";
	struct json_object *params = c->params(a, error);
	struct rpc_target to = ctl_target(a, c->daemon);
	enum ctl_daemon daemon = c->daemon;
	struct rpc_answer answer;
	enum ctl_exit status;

	if (!params) {
		fprintf(err, "meshctl: %s: %s\n", c->name, error);
		return CTL_USAGE;
	}
	if (!to.timeout_us)
		to.timeout_us = c->timeout_us ? c->timeout_us : TIMEOUT_DEFAULT_US;
	ctl_call(&to, c, params, &answer);
	/* `sessions` on a host without gatewayd means the subscriber's own. */
	if (daemon == CTL_GATEWAY && answer.outcome == RPC_OUTCOME_DOWN && !a->gate.given &&
	    !a->rpc.given) {
		rpc_answer_free(&answer);
		daemon = CTL_SUBSCRIBER;
		to.port = daemons[daemon].port;
		ctl_call(&to, c, params, &answer);
	}
	follow(&to, &answer);
	status = ctl_answer_check(&to, daemon, &answer, err);
	if (status == CTL_OK)
		ctl_show(a, c, answer.result, out);
	rpc_answer_free(&answer);
	json_object_put(params);
	return status;
}

static void show_status(const char *name, const struct rpc_target *to,
			const struct rpc_answer *answer, FILE *out)
{
	fprintf(out, strchr(to->host, ':') ? "%s at [%s]:%u\n" : "%s at %s:%u\n", name, to->host,
		to->port);
	if (answer->outcome == RPC_OUTCOME_ERROR)
		fprintf(out, "error: %s\n", answer->text);
	else
		view_object(answer->result, out);
	fputc('\n', out);
}

enum ctl_exit ctl_run_status(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			     FILE *err)
{
	struct json_object *all = json_object_new_object();
	size_t answered = 0;

	for (size_t d = 0; d < sizeof daemons / sizeof daemons[0]; d++) {
		struct rpc_target to = ctl_target(a, (enum ctl_daemon)d);
		struct rpc_answer answer;
		/* -p or --rpc says where nodemanager is: the others may be on that host too. */
		if (d != CTL_MANAGER && !a->gate.given)
			to.port = daemons[d].port;
		if (!to.timeout_us)
			to.timeout_us = c->timeout_us;
		rpc_client_sync(&to, "status", NULL, &answer);
		if (answer.outcome != RPC_OUTCOME_DOWN) {
			answered++;
			if (a->json)
				rpc_set(all, daemons[d].name, json_object_get(answer.result));
			else
				show_status(daemons[d].name, &to, &answer, out);
		}
		rpc_answer_free(&answer);
	}
	if (answered && a->json)
		show_json(all, out);
	json_object_put(all);
	if (!answered)
		fprintf(err,
			"meshctl: no daemon answers here; start one with `meshnet-nodemanager`, "
			"`meshnet-gatewayd` or `meshnet-subscriberd`\n");
	return answered ? CTL_OK : CTL_UNREACHABLE;
}

enum ctl_exit ctl_run_help(const struct ctl_args *a, const struct ctl_command *self, FILE *out,
			   FILE *err)
{
	const struct ctl_command *c = a->count > 1 ? ctl_command_find(a->words[1]) : NULL;

	(void)self;
	if (a->count > 1 && !c) {
		fprintf(err, "meshctl: no command '%.60s'\n", a->words[1]);
		return CTL_USAGE;
	}
	if (c)
		ctl_command_describe(c, out);
	else
		ctl_command_help(out);
	return CTL_OK;
}

static enum ctl_exit unknown(const char *word, FILE *err)
{
	const struct ctl_command *near = ctl_command_closest(word);
	char safe[64];

	bytes_to_cstr(bytes_str(word), safe, sizeof safe);
	if (near)
		fprintf(err, "meshctl: unknown command '%s', did you mean '%s'? (help lists all)\n",
			safe, near->name);
	else
		fprintf(err, "meshctl: unknown command '%s', try help\n", safe);
	return CTL_USAGE;
}

enum ctl_exit ctl_run(const struct ctl_args *a, FILE *out, FILE *err)
{
	const struct ctl_command *c;

	if (a->count == 0)
		return CTL_OK;
	c = ctl_command_find(a->words[0]);
	if (!c)
		return unknown(a->words[0], err);
	if (a->help) {
		ctl_command_describe(c, out);
		return CTL_OK;
	}
	if (a->count - 1 < c->min || a->count - 1 > c->max) {
		fprintf(err, "meshctl: usage: %s %s\n", c->name, c->usage);
		return CTL_USAGE;
	}
	if (!a->watch_us)
		return ctl_run_once(a, c, out, err);
	if (!c->view && !c->watch) {
		fprintf(err, "meshctl: %s: --watch is for what lists or shows\n", c->name);
		return CTL_USAGE;
	}
	return ctl_watch(a, c, out, err);
}

enum ctl_exit ctl_run_once(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			   FILE *err)
{
	if (c->run)
		return c->run(a, c, out, err);
	return c->method ? run_call(a, c, out, err) : CTL_OK;
}
