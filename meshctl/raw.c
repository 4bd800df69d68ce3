#include "meshctl/raw.h"

#include <stdio.h>
#include <string.h>

#include "io/jsonrpc.h"

#define SIGNATURE_MAX 200

static bool daemon_find(const char *name, enum ctl_daemon *out, FILE *err)
{
	for (enum ctl_daemon d = CTL_MANAGER; d < CTL_DAEMONS; d++) {
		if (strcmp(name, ctl_daemon_name(d)) == 0) {
			*out = d;
			return true;
		}
	}
	fprintf(err, "meshctl: '%.60s' is none of " CTL_DAEMON_WORDS "\n", name);
	return false;
}

enum ctl_exit ctl_run_rpc(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			  FILE *err)
{
	const char *text = a->count > 3 ? a->words[3] : "{}";
	struct json_object *params;
	struct rpc_answer answer;
	struct rpc_target to;
	enum ctl_daemon d;
	enum ctl_exit e;

	if (!daemon_find(a->words[1], &d, err))
		return CTL_USAGE;
	params = rpc_parse(text, strlen(text), NULL);
	if (!json_object_is_type(params, json_type_object) &&
	    !json_object_is_type(params, json_type_array)) {
		fprintf(err, "meshctl: '%.60s' is no JSON object or array of parameters\n", text);
		json_object_put(params);
		return CTL_USAGE;
	}
	to = ctl_target(a, d);
	if (!to.timeout_us)
		to.timeout_us = c->timeout_us;
	rpc_client_sync(&to, a->words[2], params, &answer);
	json_object_put(params);
	if (answer.outcome == RPC_OUTCOME_RESULT)
		fprintf(out, "%s\n",
			json_object_to_json_string_ext(answer.result,
						       JSON_C_TO_STRING_PLAIN |
							       JSON_C_TO_STRING_NOSLASHESCAPE));
	e = ctl_answer_check(&to, d, &answer, err);
	rpc_answer_free(&answer);
	return e;
}

static const char *member_text(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(o, key, &v);
	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

/* "addNodes(count, connect?)" */
static void signature(struct json_object *method, char *out, size_t size)
{
	struct json_object *params = NULL, *required;
	size_t n, len;

	json_object_object_get_ex(method, "params", &params);
	n = json_object_is_type(params, json_type_array) ? json_object_array_length(params) : 0;
	len = (size_t)snprintf(out, size, "%s(", member_text(method, "name"));
	for (size_t i = 0; i < n && len < size; i++) {
		struct json_object *p = json_object_array_get_idx(params, i);
		required = NULL;
		json_object_object_get_ex(p, "required", &required);
		len += (size_t)snprintf(out + len, size - len, "%s%s%s", i ? ", " : "",
					member_text(p, "name"),
					json_object_get_boolean(required) ? "" : "?");
	}
	if (len < size)
		snprintf(out + len, size - len, ")");
}

/* The document with what the table shows beside each method. */
static void add_signatures(struct json_object *document)
{
	struct json_object *list = NULL;
	char text[SIGNATURE_MAX];

	json_object_object_get_ex(document, "methods", &list);
	for (size_t i = 0;
	     json_object_is_type(list, json_type_array) && i < json_object_array_length(list);
	     i++) {
		struct json_object *m = json_object_array_get_idx(list, i);
		if (!json_object_is_type(m, json_type_object))
			continue;
		signature(m, text, sizeof text);
		rpc_set_str(m, "signature", text);
	}
}

enum ctl_exit ctl_run_methods(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			      FILE *err)
{
	static const struct view_column columns[] = {{"METHOD", "signature", VIEW_TEXT},
						     {"FOR", "x-access", VIEW_TEXT},
						     {"WHAT", "summary", VIEW_TEXT},
						     {0}};
	static const struct view view = {"methods", "no methods", columns};
	struct ctl_command shown = *c;
	enum ctl_daemon d = CTL_MANAGER;
	struct rpc_answer answer;
	struct rpc_target to;
	enum ctl_exit e;

	if (a->count > 1 && !daemon_find(a->words[1], &d, err))
		return CTL_USAGE;
	to = ctl_target(a, d);
	rpc_client_sync(&to, "rpc.discover", NULL, &answer);
	e = ctl_answer_check(&to, d, &answer, err);
	if (e == CTL_OK) {
		shown.view = &view;
		if (!a->json)
			add_signatures(answer.result);
		ctl_show(a, &shown, answer.result, out);
	}
	rpc_answer_free(&answer);
	return e;
}
