#include "meshctl/complete.h"

#include <ctype.h>
#include <string.h>

#include "base/buf.h"
#include "io/clock.h"
#include "io/jsonrpc.h"
#include "meshctl/command.h"

#define LIVE_TIMEOUT_US 500000u /* nobody waits longer for a Tab */
#define TOKEN_MAX 64

struct search {
	struct ctl_args args; /* of the words before */
	const char *typed;
	ctl_candidate *each;
	void *arg;
};

static void offer(const struct search *s, const char *word)
{
	if (*word && strncmp(word, s->typed, strlen(s->typed)) == 0)
		s->each(word, s->arg);
}

static void offer_commands(const struct search *s)
{
	for (size_t i = 0; ctl_command_at(i); i++) {
		if (!ctl_command_at(i)->hidden)
			offer(s, ctl_command_at(i)->name);
	}
}

static void offer_options(const struct search *s, const struct ctl_command *c)
{
	bool takes;
	const char *name;

	for (const struct ctl_option *o = c ? c->options : NULL; o && o->name; o++)
		offer(s, o->name);
	for (size_t i = 0; (name = ctl_args_global(i, &takes)); i++)
		offer(s, name);
}

/* A name goes through the shell and our own splitting unhurt, or is not offered. */
static bool is_plain(const char *word)
{
	for (; *word; word++) {
		if ((unsigned char)*word <= ' ' || strchr("\"'`\\$&|;<>()*?[]{}!#~", *word))
			return false;
	}
	return true;
}

static void offer_member(const struct search *s, struct json_object *o, const char *key,
			 const char *instead)
{
	struct json_object *v = NULL;
	const char *text = "";
	char safe[256];

	if (json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_string))
		text = json_object_get_string(v);
	if (!*text && json_object_object_get_ex(o, instead, &v) &&
	    json_object_is_type(v, json_type_string))
		text = json_object_get_string(v);
	bytes_to_cstr(bytes_str(text), safe, sizeof safe);
	if (strcmp(safe, text) == 0 && is_plain(safe))
		offer(s, safe);
}

/* How many there are in the answer. */
static size_t offer_list(const struct search *s, struct json_object *result, const char *list_key,
			 const char *instead)
{
	struct json_object *list = NULL;

	if (!json_object_object_get_ex(result, list_key, &list) ||
	    !json_object_is_type(list, json_type_array))
		return 0;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		offer_member(s, json_object_array_get_idx(list, i), "name", instead);
	return json_object_array_length(list);
}

static void offer_gateways(const struct search *s)
{
	struct rpc_target to = ctl_target(&s->args, CTL_SUBSCRIBER);
	struct rpc_answer answer;

	to.timeout_us = LIVE_TIMEOUT_US;
	rpc_client_sync(&to, "listGateways", NULL, &answer);
	if (answer.outcome == RPC_OUTCOME_RESULT)
		offer_list(s, answer.result, "gateways", "key");
	rpc_answer_free(&answer);
}

/* Page by page, since thousands do not fit into one answer; what is not there in time is not
 * waited for. */
static void offer_nodes(const struct search *s)
{
	struct rpc_target to = ctl_target(&s->args, CTL_MANAGER);
	uint64_t end = daemon_now_us() + LIVE_TIMEOUT_US;
	size_t offset = 0, count = 1;

	to.timeout_us = LIVE_TIMEOUT_US;
	while (count > 0 && daemon_now_us() < end) {
		struct json_object *params = json_object_new_object();
		struct rpc_answer answer;
		rpc_set_u64(params, "offset", offset);
		rpc_set_u64(params, "limit", CTL_PAGE);
		rpc_client_sync(&to, "listNodes", params, &answer);
		count = answer.outcome == RPC_OUTCOME_RESULT
				? offer_list(s, answer.result, "nodes", "short")
				: 0;
		offset += count;
		if (count < CTL_PAGE)
			count = 0;
		rpc_answer_free(&answer);
		json_object_put(params);
	}
}

/* The n-th word of a usage without its brackets; the last one again when it ends with "...". */
static bool usage_token(const char *usage, size_t n, char out[TOKEN_MAX])
{
	char last[TOKEN_MAX] = "";

	for (;;) {
		size_t len;
		usage += strspn(usage, " []");
		len = strcspn(usage, " []");
		if (!len || len >= TOKEN_MAX)
			return false;
		memcpy(out, usage, len);
		out[len] = '\0';
		usage += len;
		if (strcmp(out, "...") == 0) {
			memcpy(out, last, sizeof last);
			return *out;
		}
		if (n-- == 0)
			return true;
		memcpy(last, out, sizeof last);
	}
}

static void offer_words(const struct search *s, char *alternatives)
{
	char *rest = NULL;

	for (char *w = strtok_r(alternatives, "|", &rest); w; w = strtok_r(NULL, "|", &rest))
		offer(s, w);
}

static void offer_for(const struct search *s, char token[TOKEN_MAX])
{
	bool letter = isupper((unsigned char)token[0]) && !token[1] && token[0] != 'N';

	if (letter || strcmp(token, "NODE") == 0)
		offer_nodes(s);
	else if (strcmp(token, "GATEWAY") == 0)
		offer_gateways(s);
	else if (strcmp(token, "COMMAND") == 0)
		offer_commands(s);
	else if (islower((unsigned char)token[0]))
		offer_words(s, token);
}

void ctl_complete(const struct ctl_args *base, char *const *words, size_t count,
		  ctl_candidate *each, void *arg)
{
	struct search s = {.args = *base, .each = each, .arg = arg};
	const struct ctl_command *c;
	char error[CTL_ERROR_MAX], token[TOKEN_MAX];

	if (!count)
		return;
	s.typed = words[count - 1];
	s.args.count = s.args.option_count = 0;
	/* An option whose value is being typed: there is nothing to say about that. */
	if (ctl_args_parse(&s.args, (int)count - 1, words, error))
		return;
	c = s.args.count ? ctl_command_find(s.args.words[0]) : NULL;
	if (s.typed[0] == '-')
		offer_options(&s, c);
	else if (!s.args.count)
		offer_commands(&s);
	else if (c && usage_token(c->usage, s.args.count - 1, token))
		offer_for(&s, token);
}

static void print_word(const char *word, void *arg)
{
	fprintf(arg, "%s\n", word);
}

enum ctl_exit ctl_run_complete(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
			       FILE *err)
{
	char *words[CTL_WORDS_MAX] = {0};
	size_t count = 0;

	(void)c, (void)err;
	for (size_t i = 1; i < a->count; i++)
		words[count++] = (char *)(uintptr_t)a->words[i];
	ctl_complete(a, words, count, print_word, out);
	return CTL_OK;
}

/* The same texts are in etc/completion/, for packagers; a test compares them. */
static const char bash_script[] =
	"# Completion of meshctl for bash: eval \"$(meshctl completion bash)\", or put this file\n"
	"# into /usr/share/bash-completion/completions/meshctl.\n"
	"_meshctl()\n"
	"{\n"
	"\tlocal IFS=$'\\n'\n"
	"\tCOMPREPLY=($(\"${COMP_WORDS[0]}\" complete -- \"${COMP_WORDS[@]:1:COMP_CWORD}\" "
	"2>/dev/null))\n"
	"}\n"
	"complete -F _meshctl meshctl\n";

static const char zsh_script[] =
	"#compdef meshctl\n"
	"# Completion of meshctl for zsh: eval \"$(meshctl completion zsh)\", or put this file as\n"
	"# _meshctl into a folder of $fpath.\n"
	"_meshctl()\n"
	"{\n"
	"\tlocal -a found\n"
	"\tfound=(${(f)\"$(\"${words[1]}\" complete -- \"${(@)words[2,CURRENT]}\" "
	"2>/dev/null)\"})\n"
	"\tcompadd -a found\n"
	"}\n"
	"if [[ \"${funcstack[1]}\" == _meshctl ]]; then\n"
	"\t_meshctl \"$@\"\n"
	"else\n"
	"\tcompdef _meshctl meshctl\n"
	"fi\n";

enum ctl_exit ctl_run_completion(const struct ctl_args *a, const struct ctl_command *c, FILE *out,
				 FILE *err)
{
	bool bash = strcmp(a->words[1], "bash") == 0;

	if (!bash && strcmp(a->words[1], "zsh") != 0) {
		fprintf(err, "meshctl: usage: %s %s\n", c->name, c->usage);
		return CTL_USAGE;
	}
	fputs(bash ? bash_script : zsh_script, out);
	return CTL_OK;
}
