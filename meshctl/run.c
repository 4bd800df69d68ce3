#include "meshctl/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
static struct rpc_target target_of(const struct ctl_args *a, enum ctl_daemon d)
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

static enum ctl_exit answer_check(const struct rpc_target *to, const char *daemon,
				  const struct rpc_answer *answer, FILE *err)
{
	char text[TEXT_MAX_BYTES + 1];

	switch (answer->outcome) {
	case RPC_OUTCOME_DOWN:
		fprintf(err,
			strchr(to->host, ':') ? "meshctl: cannot reach %s at [%s]:%u: %s\n"
					      : "meshctl: cannot reach %s at %s:%u: %s\n",
			daemon, to->host, to->port, answer->text);
		return CTL_UNREACHABLE;
	case RPC_OUTCOME_ERROR:
		return refused(daemon, answer->text, err);
	case RPC_OUTCOME_RESULT:
		break;
	}
	return says_no(answer->result, text) ? refused(daemon, text, err) : CTL_OK;
}

static void show_json(struct json_object *result, FILE *out)
{
	fprintf(out, "%s\n",
		json_object_to_json_string_ext(result, JSON_C_TO_STRING_PLAIN |
							       JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void show(const struct ctl_args *a, const struct ctl_command *c, struct json_object *result,
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

static enum ctl_exit run_call(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			      FILE *err)
{
	char error[CTL_ERROR_MAX] = "out of memory";
	struct json_object *params = c->params(a, error);
	struct rpc_target to = target_of(a, c->daemon);
	enum ctl_daemon daemon = c->daemon;
	struct rpc_answer answer;
	enum ctl_exit status;

	if (!params) {
		fprintf(err, "meshctl: %s: %s\n", c->name, error);
		return CTL_USAGE;
	}
	if (!to.timeout_us)
		to.timeout_us = c->timeout_us ? c->timeout_us : TIMEOUT_DEFAULT_US;
	rpc_client_sync(&to, c->method, params, &answer);
	/* `sessions` on a host without gatewayd means the subscriber's own. */
	if (daemon == CTL_GATEWAY && answer.outcome == RPC_OUTCOME_DOWN && !a->gate.given &&
	    !a->rpc.given) {
		rpc_answer_free(&answer);
		daemon = CTL_SUBSCRIBER;
		to.port = daemons[daemon].port;
		rpc_client_sync(&to, c->method, params, &answer);
	}
	follow(&to, &answer);
	status = answer_check(&to, daemons[daemon].name, &answer, err);
	if (status == CTL_OK)
		show(a, c, answer.result, out);
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

static enum ctl_exit run_status(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
				FILE *err)
{
	struct json_object *all = json_object_new_object();
	size_t answered = 0;

	for (size_t d = 0; d < sizeof daemons / sizeof daemons[0]; d++) {
		struct rpc_target to = target_of(a, (enum ctl_daemon)d);
		struct rpc_answer answer;
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
			"meshctl: no daemon answers here (nodemanager, gatewayd, subscriberd)\n");
	return answered ? CTL_OK : CTL_UNREACHABLE;
}

static enum ctl_exit run_help(const struct ctl_args *a, FILE *out, FILE *err)
{
	const struct ctl_command *c = a->count > 1 ? ctl_command_find(a->words[1]) : NULL;

	if (a->count > 1 && !c) {
		fprintf(err, "meshctl: no command '%.60s'\n", a->words[1]);
		return CTL_USAGE;
	}
	if (c)
		fprintf(out, "%s %s\n    %s\n", c->name, c->usage, c->help);
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
		fprintf(out, "%s %s\n    %s\n", c->name, c->usage, c->help);
		return CTL_OK;
	}
	if (a->count - 1 < c->min || a->count - 1 > c->max) {
		fprintf(err, "meshctl: usage: %s %s\n", c->name, c->usage);
		return CTL_USAGE;
	}
	if (c->method)
		return run_call(a, c, out, err);
	if (strcmp(c->name, "status") == 0)
		return run_status(a, c, out, err);
	return strcmp(c->name, "help") == 0 ? run_help(a, out, err) : CTL_OK;
}
