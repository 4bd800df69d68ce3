#include "meshctl/scan.h"

#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "io/jsonrpc.h"
#include "meshctl/command.h"

#define POLL_US 200000u
#define PAGES_MAX 1000

const struct ctl_option ctl_graph_options[] = {
	{"--since", NULL, "TIMESTAMP", "only what has changed since the `timestamp` of an answer"},
	{"--dot", NULL, NULL, "for graphviz: meshctl graph --dot | dot -Tsvg"},
	{0},
};

static const struct view view_networks = {
	"networks", "no networks were asked (subscriber.Networks)",
	(const struct view_column[]){{"NETWORK", "name", VIEW_TEXT},
				     {"STATE", "state", VIEW_TEXT},
				     {"WHY", "why", VIEW_TEXT},
				     {0}}};

static const struct view view_found = {
	"found", "no gateways found",
	(const struct view_column[]){{"GATEWAY", "address", VIEW_TEXT},
				     {"NAME", "name", VIEW_TEXT},
				     {"NETWORKS", "networks", VIEW_TEXT},
				     {"FROM", "from", VIEW_TEXT},
				     {"HOPS", "depth", VIEW_NUMBER},
				     {"OWN", "own", VIEW_YES_NO},
				     {0}}};

static const struct view view_hosts = {
	"hosts", "no hosts known (try: scan)",
	(const struct view_column[]){{"HOST", "key", VIEW_TEXT},
				     {"NETWORKS", "networks", VIEW_TEXT},
				     {"HOW", "how", VIEW_TEXT},
				     {"HOPS", "depth", VIEW_NUMBER},
				     {"ANSWER", "answer", VIEW_TEXT},
				     {"GONE", "gone", VIEW_YES_NO},
				     {"SEEN", "lastSeen", VIEW_TIME},
				     {0}}};

static const struct view view_links = {
	"links", "no links known",
	(const struct view_column[]){{"A", "a", VIEW_TEXT},
				     {"B", "b", VIEW_TEXT},
				     {"NETWORK", "network", VIEW_TEXT},
				     {"COST", "cost", VIEW_NONZERO},
				     {"GONE", "gone", VIEW_YES_NO},
				     {0}}};

static uint64_t number(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_uint64(v) : 0;
}

static bool truth(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) && json_object_get_boolean(v);
}

static const char *text(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_string)
		       ? json_object_get_string(v)
		       : "";
}

/* ---- scan ---- */

static void progress_line(struct json_object *s, FILE *err)
{
	fprintf(err, "\rscan: %llu hosts known, %llu asked, %llu waiting, %llu gateways\033[K",
		(unsigned long long)number(s, "hosts"), (unsigned long long)number(s, "asked"),
		(unsigned long long)number(s, "waiting"),
		(unsigned long long)number(s, "gateways"));
	fflush(err);
}

/* Until it is done, somebody interrupts, or the daemon no longer answers. */
static void follow(const struct ctl_args *a, const struct rpc_target *to, struct rpc_answer *answer,
		   FILE *err)
{
	bool shown = isatty(fileno(err)) && !a->json;
	struct json_object *params = json_object_new_object();

	rpc_set_str(params, "callId", text(answer->result, "callId"));
	for (bool done = false; !done && ctl_sleep_us(POLL_US);) {
		rpc_answer_free(answer);
		rpc_client_sync(to, "pollCallStatus", params, answer);
		done = answer->outcome != RPC_OUTCOME_RESULT || truth(answer->result, "done");
		if (shown && !done)
			progress_line(answer->result, err);
	}
	if (shown)
		fprintf(err, "\r\033[K");
	json_object_put(params);
}

static void show_scan(struct json_object *s, FILE *out)
{
	view_list(s, &view_networks, out);
	fputc('\n', out);
	view_list(s, &view_found, out);
	fprintf(out,
		"\n%llu hosts and %llu links are known; %llu hosts were asked, %llu answered%s\n",
		(unsigned long long)number(s, "hosts"), (unsigned long long)number(s, "links"),
		(unsigned long long)number(s, "asked"), (unsigned long long)number(s, "answered"),
		!truth(s, "done")    ? " so far; the scan goes on"
		: truth(s, "enough") ? "; enough gateways are found"
				     : "");
}

enum ctl_exit ctl_run_scan(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			   FILE *err)
{
	struct rpc_target to = ctl_target(a, CTL_SUBSCRIBER);
	struct json_object *params = json_object_new_object();
	struct rpc_answer answer;
	enum ctl_exit status;

	(void)c;
	if (a->count > 1)
		rpc_set_str(params, "networks", a->words[1]);
	ctl_interrupt_begin();
	rpc_client_sync(&to, "startScan", params, &answer);
	if (answer.outcome == RPC_OUTCOME_RESULT && *text(answer.result, "callId"))
		follow(a, &to, &answer, err);
	ctl_interrupt_end();
	status = ctl_answer_check(&to, CTL_SUBSCRIBER, &answer, err);
	if (status == CTL_OK && a->json)
		fprintf(out, "%s\n",
			json_object_to_json_string_ext(answer.result,
						       JSON_C_TO_STRING_PLAIN |
							       JSON_C_TO_STRING_NOSLASHESCAPE));
	else if (status == CTL_OK)
		show_scan(answer.result, out);
	rpc_answer_free(&answer);
	json_object_put(params);
	return status;
}

/* ---- graph ---- */

static void take_list(struct json_object *from, const char *key, struct json_object *to)
{
	struct json_object *list = NULL;

	json_object_object_get_ex(from, key, &list);
	if (!json_object_is_type(list, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		json_object_array_add(to, json_object_get(json_object_array_get_idx(list, i)));
}

/* All pages in one object. */
static enum ctl_exit graph_get(const struct rpc_target *to, uint64_t since, struct json_object *all,
			       FILE *err)
{
	struct json_object *hosts = json_object_new_array(), *links = json_object_new_array();
	enum ctl_exit status = CTL_OK;
	bool more = true;

	for (int page = 0; status == CTL_OK && more && page < PAGES_MAX; page++) {
		struct json_object *params = json_object_new_object();
		struct rpc_answer answer;
		rpc_set_u64(params, "timestamp", since);
		rpc_client_sync(to, "getGraphSince", params, &answer);
		json_object_put(params);
		status = ctl_answer_check(to, CTL_SUBSCRIBER, &answer, err);
		if (status == CTL_OK) {
			take_list(answer.result, "hosts", hosts);
			take_list(answer.result, "links", links);
			more = truth(answer.result, "more") &&
			       number(answer.result, "timestamp") > since;
			since = number(answer.result, "timestamp");
		}
		rpc_answer_free(&answer);
	}
	rpc_set_u64(all, "timestamp", since);
	rpc_set(all, "hosts", hosts);
	rpc_set(all, "links", links);
	return status;
}

/* Quoted for graphviz. */
static void dot_text(const char *s, FILE *out)
{
	char safe[256];

	bytes_to_cstr(bytes_str(s), safe, sizeof safe);
	fputc('"', out);
	for (const char *p = safe; *p; p++) {
		if (*p == '"' || *p == '\\')
			fputc('\\', out);
		fputc(*p, out);
	}
	fputc('"', out);
}

static void dot_hosts(struct json_object *hosts, FILE *out)
{
	for (size_t i = 0; i < json_object_array_length(hosts); i++) {
		struct json_object *h = json_object_array_get_idx(hosts, i);
		if (truth(h, "gone"))
			continue;
		fputs("  ", out);
		dot_text(text(h, "key"), out);
		fputs(strcmp(text(h, "answer"), "gateway") == 0
			      ? " [shape=box, style=filled, fillcolor=lightgreen];\n"
			      : ";\n",
		      out);
	}
}

static void show_dot(struct json_object *all, FILE *out)
{
	struct json_object *hosts = NULL, *links = NULL;

	json_object_object_get_ex(all, "hosts", &hosts);
	json_object_object_get_ex(all, "links", &links);
	fputs("digraph mesh {\n  node [shape=ellipse];\n", out);
	dot_hosts(hosts, out);
	for (size_t i = 0; i < json_object_array_length(links); i++) {
		struct json_object *l = json_object_array_get_idx(links, i);
		if (truth(l, "gone"))
			continue;
		fputs("  ", out);
		dot_text(text(l, "a"), out);
		fputs(" -> ", out);
		dot_text(text(l, "b"), out);
		fputs(" [label=", out);
		dot_text(text(l, "network"), out);
		fputs("];\n", out);
	}
	fputs("}\n", out);
}

enum ctl_exit ctl_run_graph(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			    FILE *err)
{
	struct rpc_target to = ctl_target(a, CTL_SUBSCRIBER);
	struct json_object *all = json_object_new_object();
	const char *since_text = ctl_args_option(a, "--since");
	enum ctl_exit status;
	uint64_t since = 0;

	if (since_text && !ctl_number(since_text, &since)) {
		fprintf(err, "meshctl: %s: --since '%.60s' is no timestamp\n", c->name, since_text);
		json_object_put(all);
		return CTL_USAGE;
	}
	status = graph_get(&to, since, all, err);
	if (status == CTL_OK && a->json) {
		fprintf(out, "%s\n",
			json_object_to_json_string_ext(
				all, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	} else if (status == CTL_OK && ctl_args_option(a, "--dot")) {
		show_dot(all, out);
	} else if (status == CTL_OK) {
		view_list(all, &view_hosts, out);
		fputc('\n', out);
		view_list(all, &view_links, out);
	}
	json_object_put(all);
	return status;
}
