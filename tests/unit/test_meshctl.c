/* meshctl: arguments, words, tables, views, the prompt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "meshctl/admin.h"
#include "meshctl/command.h"
#include "meshctl/complete.h"
#include "meshctl/events.h"
#include "meshctl/run.h"
#include "meshctl/table.h"

static int parse(struct ctl_args *a, const char *line, char error[CTL_ERROR_MAX])
{
	static char copy[1024];
	char *words[64];
	int n;

	snprintf(copy, sizeof copy, "%s", line);
	n = ctl_split(copy, words, 64);
	assert_true(n >= 0);
	assert_int_equal(ctl_args_init(a, NULL, error), 0);
	return ctl_args_parse(a, n, words, error);
}

static void test_options(void **state)
{
	struct ctl_args a;
	char e[CTL_ERROR_MAX];

	(void)state;
	assert_int_equal(parse(&a, "-p 1500 --json list-nodes", e), 0);
	assert_int_equal(a.rpc.port, 1500);
	assert_true(a.json && a.count == 1);
	assert_int_equal(parse(&a, "list-nodes -p1501 --rpc=[::1]:7", e), 0);
	assert_int_equal(a.rpc.port, 7);
	assert_string_equal(a.rpc.host, "::1");
	assert_int_equal(parse(&a, "connect_gateway 10.0.0.1 -p 80 -m mesh --timeout 1.5", e), 0);
	assert_string_equal(ctl_args_option(&a, "--port"), "80");
	assert_int_equal(a.rpc.port, 0);
	assert_string_equal(ctl_args_option(&a, "--method"), "mesh");
	assert_null(ctl_args_option(&a, "--paths"));
	assert_in_range(a.timeout_us, 1500000, 1500001);
	assert_int_equal(parse(&a, "-p 1500 connect-gateway 10.0.0.1 -g gw:5 --token t", e), 0);
	assert_null(ctl_args_option(&a, "--port"));
	assert_int_equal(a.rpc.port, 1500);
	assert_int_equal(a.gate.port, 5);
	assert_string_equal(a.token, "t");
	assert_int_equal(parse(&a, "-- apps --json", e), 0);
	assert_true(!a.json && a.count == 2);
}

static void test_bad_options(void **state)
{
	static const char *const bad[][2] = {
		{"-p 0 x", "--port '0': expected a port"},
		{"-p 65536 x", "--port '65536'"},
		{"-p -1 x", "--port '-1'"},
		{"-p 12x x", "--port '12x'"},
		{"x -p", "--port ''"},
		{"--rpc host:99999 x", "expected HOST"},
		{"--rpc [::1 x", "expected HOST"},
		{"--rpc= x", "expected HOST"},
		{"--timeout 0 x", "expected seconds"},
		{"--timeout nan x", "expected seconds"},
		{"--timeout 1e9 x", "expected seconds"},
		{"list-nodes -m mesh", "unknown option '-m'"},
		{"connect-gateway gw -m", "--method '': expected METHOD"},
		{"-m mesh connect-gateway gw", "unknown option '-m'"},
		{"list-nodes --watch=0", "expected seconds"},
		{"--jsonx", "unknown option"},
		{"-x", "unknown option"},
	};
	struct ctl_args a;
	char e[CTL_ERROR_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_int_equal(parse(&a, bad[i][0], e), -EINVAL);
		if (!strstr(e, bad[i][1]))
			fail_msg("%s: %s", bad[i][0], e);
	}
	assert_int_equal(ctl_args_init(&a, "77", e), 0);
	assert_int_equal(a.rpc.port, 77);
	assert_int_equal(ctl_args_init(&a, "", e), 0);
	assert_int_equal(ctl_args_init(&a, "many", e), -EINVAL);
	assert_non_null(strstr(e, "MESH_RPC_PORT"));
}

static void test_too_many_words(void **state)
{
	char *words[CTL_WORDS_MAX + 1], e[CTL_ERROR_MAX], word[] = "x";
	struct ctl_args a;

	(void)state;
	for (int i = 0; i <= CTL_WORDS_MAX; i++)
		words[i] = word;
	assert_int_equal(ctl_args_init(&a, NULL, e), 0);
	assert_int_equal(ctl_args_parse(&a, CTL_WORDS_MAX, words, e), 0);
	assert_int_equal(ctl_args_init(&a, NULL, e), 0);
	assert_int_equal(ctl_args_parse(&a, CTL_WORDS_MAX + 1, words, e), -EINVAL);
}

static void test_endpoints(void **state)
{
	static const struct {
		const char *text, *host;
		uint16_t port;
	} good[] = {
		{"host", "host", 0},	       {"host:5", "host", 5},	  {":5", "127.0.0.1", 5},
		{"[fd00::1]:5", "fd00::1", 5}, {"fd00::1", "fd00::1", 0}, {"[::1]", "::1", 0},
	};
	struct ctl_endpoint e;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_int_equal(ctl_endpoint_parse(&e, good[i].text), 0);
		assert_string_equal(e.host, good[i].host);
		assert_int_equal(e.port, good[i].port);
	}
	assert_int_equal(ctl_endpoint_parse(&e, ""), -EINVAL);
	assert_int_equal(ctl_endpoint_parse(&e, "host:"), -EINVAL);
	assert_int_equal(ctl_endpoint_parse(&e, "[::1]x5"), -EINVAL);
}

static void test_split(void **state)
{
	char line[] = "  a \"b c\"  d\"\"e\t\n", empty[] = " \n", open[] = "a \"b",
	     many[] = "a b c";
	char *w[3];

	(void)state;
	assert_int_equal(ctl_split(line, w, 3), 3);
	assert_string_equal(w[0], "a");
	assert_string_equal(w[1], "b c");
	assert_string_equal(w[2], "de");
	assert_int_equal(ctl_split(empty, w, 3), 0);
	assert_int_equal(ctl_split(open, w, 3), -EINVAL);
	assert_int_equal(ctl_split(many, w, 2), -E2BIG);
}

static void test_commands(void **state)
{
	(void)state;
	assert_string_equal(ctl_command_find("list_all_transports")->name, "list-all-transports");
	assert_string_equal(ctl_command_find("quit")->name, "exit");
	assert_null(ctl_command_find("list"));
	assert_null(ctl_command_find("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"));
	assert_string_equal(ctl_command_closest("lst_nodes")->name, "list-nodes");
	assert_string_equal(ctl_command_closest("disc")->name, "disconnect");
	assert_string_equal(ctl_command_closest("hlep")->name, "help");
	assert_null(ctl_command_closest("qwertyuiop"));
	assert_null(ctl_command_closest("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"));
	for (size_t i = 0; ctl_command_at(i); i++) {
		const struct ctl_command *c = ctl_command_at(i);
		assert_ptr_equal(ctl_command_find(c->name), c);
		assert_true(!c->method || (c->params && (c->view || c->show)));
	}
}

static void check_params(const char *line, const char *wanted)
{
	struct ctl_args a;
	char e[CTL_ERROR_MAX] = "";
	const struct ctl_command *c;
	struct json_object *p;

	assert_int_equal(parse(&a, line, e), 0);
	c = ctl_command_find(a.words[0]);
	p = c->params(&a, e);
	if (wanted[0] != '{') {
		assert_null(p);
		assert_non_null(strstr(e, wanted));
		return;
	}
	assert_string_equal(json_object_to_json_string_ext(p, JSON_C_TO_STRING_PLAIN), wanted);
	json_object_put(p);
}

static void test_params(void **state)
{
	(void)state;
	check_params("list-nodes", "{}");
	check_params("add-node n1 connect", "{\"name\":\"n1\",\"connect\":true}");
	check_params("add-node", "{\"connect\":false}");
	check_params("add-nodes 12", "{\"count\":12}");
	check_params("add-nodes 0", "no number of nodes");
	check_params("add-nodes 1x", "no number of nodes");
	check_params("add-nodes 1 please", "only 'connect'");
	check_params("connect 1 r2", "{\"a\":\"1\",\"b\":\"r2\"}");
	check_params("build-route a b c", "{\"nodes\":[\"a\",\"b\",\"c\"]}");
	check_params("apps", "{\"kind\":\"all\",\"value\":\"\"}");
	check_params("apps echo", "{\"kind\":\"by_type\",\"value\":\"echo\"}");
	check_params("apps name e1", "{\"kind\":\"by_name\",\"value\":\"e1\"}");
	check_params("apps foo e1", "expected 'type' or 'name'");
	check_params("connect-gateway gw1 -p 5 -m mesh",
		     "{\"gateway\":\"gw1\",\"port\":5,\"method\":\"mesh\"}");
	check_params("connect-gateway", "{}");
	check_params("connect-gateway gw1 -p 0", "expected a port");
	check_params("disconnect-nodes 1 2", "{\"a\":\"1\",\"b\":\"2\"}");
	check_params("find-route a b", "{\"a\":\"a\",\"b\":\"b\"}");
	check_params("find-route a b --paths 3", "{\"a\":\"a\",\"b\":\"b\",\"k\":3}");
	check_params("find-route a b --paths 9", "expected a number (1 to 8)");
	check_params("set-cost a b 70", "{\"a\":\"a\",\"b\":\"b\",\"cost\":70}");
	check_params("set_cost a b auto", "{\"a\":\"a\",\"b\":\"b\",\"cost\":null}");
	check_params("set-cost a b 0", "is no cost");
	check_params("set-cost a b 7x", "is no cost");
	check_params("set-transit a maybe", "expected yes or no");
	check_params("set-transit a no", "{\"node\":\"a\",\"transit\":false}");
}

static void test_admission_params(void **state)
{
	(void)state;
	check_params("invite", "{}");
	check_params("invite --uses 3 --expires=2d --role relay",
		     "{\"uses\":3,\"expiresSeconds\":172800,\"role\":\"relay\"}");
	check_params("invite --uses 0", "--uses '0': expected a number");
	check_params("invite --uses 12345678", "expected a number");
	check_params("invite --expires soon", "--expires 'soon': expected a duration");
	check_params("remove-invite 7", "{\"invite\":\"7\"}");
	check_params("set-role r1 member", "{\"node\":\"r1\",\"role\":\"member\"}");
	check_params("revoke r1", "{\"node\":\"r1\"}");
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		uint64_t seconds;
	} good[] = {{"90s", 90},    {"30m", 1800},  {"12h", 43200},
		    {"2d", 172800}, {"1w", 604800}, {"7", 7}};
	static const char *const bad[] = {"",  "0",  "0d",  "-1d", "1.5d",
					  "d", "2x", "2dd", "1 d", "99999999999d"};
	uint64_t seconds = 0;

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(ctl_duration_parse(&seconds, good[i].text), 0);
		assert_int_equal(seconds, good[i].seconds);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(ctl_duration_parse(&seconds, bad[i]), -EINVAL);
}

static void show_any(FILE *out, void *arg)
{
	const struct view any = {"list", "none", NULL};

	view_list(arg, &any, out);
}

/* What `show` printed; valid until the next call. */
static const char *printed(void (*show)(FILE *out, void *arg), void *arg)
{
	static char text[8192];
	FILE *out = fmemopen(text, sizeof text, "w");

	assert_non_null(out);
	memset(text, 0, sizeof text);
	show(out, arg);
	fclose(out);
	return text;
}

static void show_table(FILE *out, void *arg)
{
	table_print(arg, out);
}

static void test_table(void **state)
{
	struct table t;
	char name[64];

	(void)state;
	table_init(&t);
	table_column(&t, "NAME", false);
	table_column(&t, "COUNT", true);
	table_column(&t, "LAST", false);
	table_row(&t);
	table_cell(&t, 0, "gr\xc3\xbc\xc3\x9f");
	table_cell(&t, 1, "7");
	/* A column that says nothing goes, whatever stands behind it. */
	assert_string_equal(printed(show_table, &t), "NAME  COUNT\n"
						     "gr\xc3\xbc\xc3\x9f      7\n");
	table_row(&t);
	table_cell(&t, 0, "evil\x1b[31m");
	table_cell(&t, 1, "1234567");
	table_cell(&t, 2, "x");
	table_cell(&t, 3, "no such column");
	assert_string_equal(printed(show_table, &t), "NAME         COUNT  LAST\n"
						     "gr\xc3\xbc\xc3\x9f             7  -\n"
						     "evil?[31m  1234567  x\n");
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof name, "row %d", i);
		table_row(&t);
		table_cell(&t, 0, name);
	}
	assert_int_equal(t.rows, 503);
	assert_string_equal(t.cells[502 * 3], "row 499");
	table_free(&t);
}

struct shown {
	const char *command, *json;
};

static void show_result(FILE *out, void *arg)
{
	const struct shown *s = arg;
	const struct ctl_command *c = ctl_command_find(s->command);
	struct json_object *o = json_tokener_parse(s->json);

	if (c->view)
		view_list(o, c->view, out);
	else
		c->show(o, out);
	json_object_put(o);
}

static void check_shown(const char *command, const char *json, const char *wanted)
{
	struct shown s = {command, json};

	assert_string_equal(printed(show_result, &s), wanted);
}

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_wide_table(void **state)
{
	struct table t;

	(void)state;
	assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
	table_init(&t);
	table_column(&t, "NAME", false);
	table_column(&t, "N", true);
	table_row(&t);
	table_cell(&t, 0, "\u6771\u4eac\u5c4b"); /* two columns each */
	table_cell(&t, 1, "1");
	table_row(&t);
	table_cell(&t, 0, "e\u0301t\u00e9"); /* the accent takes none */
	table_cell(&t, 1, "22");
	assert_string_equal(printed(show_table, &t), "NAME     N\n"
						     "\u6771\u4eac\u5c4b   1\n"
						     "e\u0301t\u00e9     22\n");
	table_free(&t);
}

static void test_views(void **state)
{
	(void)state;
	check_shown("list-nodes",
		    "{\"nodes\":[{\"number\":1,\"id\":\"" ID
		    "\",\"name\":\"a\",\"addr\":\"1.2.3.4:5\","
		    "\"connected\":true,\"role\":\"relay\",\"transit\":false,\"transports\":2,"
		    "\"apps\":0},"
		    "{\"number\":12,\"short\":\"89abcdef\",\"connected\":false},"
		    "{\"state\":\"revoked\",\"connected\":false},7,null]}",
		    " #  ID        NAME  ADDRESS    STATE      ROLE   TRANSIT  TRANSPORTS  APPS\n"
		    " 1  01234567  a     1.2.3.4:5  connected  relay  no                2     0\n"
		    "12  89abcdef  -     -          away       -      -                 -     -\n"
		    " -  -         -     -          revoked    -      -                 -     -\n"
		    " -  -         -     -          -          -      -                 -     -\n"
		    " -  -         -     -          -          -      -                 -     -\n");
	check_shown(
		"list-all-transports",
		"{\"transports\":[{\"id\":3,\"a_name\":\"x\",\"a\":\"" ID "\",\"b\":\"" ID
		"\",\"b_name\":\"\",\"status\":\"CONNECTED\",\"rtt_us\":1234,\"loss_ppm\":25000,"
		"\"rate_bps\":2500000,\"cost\":350,\"set_cost\":null,\"tx_bytes\":1536,\"rx_"
		"bytes\":12,\"retransmits\":4}]}",
		"ID  A  B         STATUS         RTT    LOSS        RATE  COST    A->B  "
		"B->A  RETRANSMITS\n"
		" 3  x  01234567  CONNECTED  1.23 ms  2.50 %  2.5 Mbit/s   350  1.5 kB  "
		"12 B            4\n");
	check_shown(
		"find-route",
		"{\"nodes\":[\"a\",\"c\"],\"disjoint\":\"nodes\",\"paths\":[{\"nodes\":[\"a\","
		"\"c\"],"
		"\"cost\":7},{\"nodes\":[\"a\",\"b\",\"c\"],\"cost\":9},3]}",
		"a -> c\ndisjoint: nodes\npath 1 (cost 7): a -> c\npath 2 (cost 9): a -> b -> c\n"
		"path 3 (cost -): \n");
	check_shown("list-nodes", "{\"nodes\":[]}", "no nodes\n");
	check_shown("list-nodes", "{\"other\":1}", "other: 1\n");
	check_shown("list-nodes", "[]", "no nodes\n");
	check_shown("list-nodes", "\"text\"", "result: text\n");
	check_shown("find-route",
		    "{\"nodes\":[\"a\",{\"name\":\"b\"},\"" ID "\",null],\"hops\":2,\"cost\":1.5}",
		    "a -> b -> 01234567 -> -\nhops: 2\ncost: 1.50\n");
	check_shown("status", "{\"a\":{\"b\":1,\"c\":{\"d\":true}},\"e\":[1,2]}",
		    "a.b: 1\na.c.d: yes\ne: 1, 2\n");
	check_shown("invite",
		    "{\"token\":\"abc\",\"role\":\"relay\",\"uses\":2,\"expires\":0,"
		    "\"number\":7,\"admission\":\"token\"}",
		    "token: abc\nrole: relay\nuses: 2\nexpires: -\nnumber: 7\n");
	check_shown("invite", "{\"token\":\"a\\u001b\",\"admission\":\"open\"}",
		    "token: a?\nrole: -\nuses: -\nexpires: -\nnumber: -\n"
		    "note: nodes are not asked for tokens now; admission is: open\n");
	check_shown("disconnect", "null", "done\n");
	check_shown("disconnect", "{}", "done\n");
	check_shown("sessions", "{\"sessions\":[{\"sid\":\"s\",\"timeoutTimestamp\":0}]}",
		    "SID\ns\n");
	check_shown("sessions",
		    "{\"sessions\":[{\"sid\":\"s\",\"usedBytes\":2048,\"rateKbps\":8000},"
		    "{\"sid\":\"long\",\"method\":\"mesh\",\"timeoutTimestamp\":0}]}",
		    "SID   METHOD    USED  KBIT/S\n"
		    "s     -       2.0 kB    8000\n"
		    "long  mesh         -       -\n");
	check_shown("sessions",
		    "{\"sessions\":[{\"sid\":\"s\",\"usedBytes\":0,\"quotaBytes\":0},"
		    "{\"sid\":\"t\",\"usedBytes\":5,\"quotaBytes\":4096}]}",
		    "SID  USED      OF\n"
		    "s     0 B       -\n"
		    "t     5 B  4.1 kB\n");
}

static void test_view_of_anything(void **state)
{
	struct json_object *o = json_tokener_parse(
		"{\"list\":[{\"id\":5,\"name\":\"n\"},{\"name\":\"mm\",\"x\":1},3]}");
	struct json_object *plain = json_tokener_parse("[1,\"two\",null]");

	(void)state;
	assert_string_equal(printed(show_any, o), "id  name\n 5  n\n -  mm\n -  -\n");
	assert_string_equal(printed(show_any, plain), "value\n1\ntwo\n-\n");
	json_object_put(o);
	json_object_put(plain);
}

struct prompted {
	const char *input;
	enum ctl_exit status;
	bool interactive, errors;
};

static void run_prompt(FILE *out, void *arg)
{
	struct prompted *p = arg;
	char copy[8192], error[CTL_ERROR_MAX];
	struct ctl_args a;
	FILE *in, *none = fopen("/dev/null", "w");

	snprintf(copy, sizeof copy, "%s", p->input);
	in = fmemopen(copy, strlen(copy), "r");
	assert_int_equal(ctl_args_init(&a, NULL, error), 0);
	p->status =
		ctl_prompt(&a, in, p->errors ? none : out, p->errors ? out : none, p->interactive);
	fclose(in);
	fclose(none);
}

static const char *prompt(const char *input, enum ctl_exit status, bool interactive, bool errors)
{
	struct prompted p = {input, CTL_OK, interactive, errors};
	const char *text = printed(run_prompt, &p);

	assert_int_equal(p.status, status);
	return text;
}

/* ---- completion ---- */

static void candidate(const char *word, void *arg)
{
	char *all = arg;

	strcat(all, word);
	strcat(all, " ");
}

static const struct {
	const char *line; /* the last word is typed; '_' stands for an empty one */
	const char *found;
} completions[] = {
	{"list-", "list-nodes list-transports list-all-transports list-routes "},
	{"sc", "scan "},
	{"compl", "completion "}, /* the hidden one is not told */
	{"xyz", ""},
	{"add-node name _", "connect "},
	{"add-nodes 5 c", "connect "},
	{"add-nodes _", ""},
	{"completion _", "bash zsh "},
	{"events g", "gatewayd "},
	{"help disc", "disconnect-nodes disconnect "},
	{"--json li", "list-nodes list-transports list-all-transports list-routes "},
	{"list-nodes --j", "--json "},
	{"connect-gateway --m", "--method "},
	{"list-nodes --m", ""},
	{"--rpc _", ""},
	{"-p 1 --timeout", "--timeout "},
	{"list-nodes _", ""},
	/* Nobody answers there: nothing, and no noise. */
	{"--rpc 127.0.0.1:1 connect r", ""},
	{"--rpc 127.0.0.1:1 build-route a b c d e f g r", ""},
};

static void test_complete(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof completions / sizeof completions[0]; i++) {
		char line[256], all[4096] = "", *words[16], empty[] = "", e[CTL_ERROR_MAX];
		struct ctl_args a;
		int n;
		snprintf(line, sizeof line, "%s", completions[i].line);
		n = ctl_split(line, words, 16);
		assert_true(n > 0);
		if (strcmp(words[n - 1], "_") == 0)
			words[n - 1] = empty;
		assert_int_equal(ctl_args_init(&a, NULL, e), 0);
		ctl_complete(&a, words, (size_t)n, candidate, all);
		if (strcmp(all, completions[i].found) != 0)
			fail_msg("%s: %s", completions[i].line, all);
	}
}

/* ---- events ---- */

static void event_add(struct sse *s, void *arg)
{
	char *all = arg;
	size_t len = strlen(all);

	snprintf(all + len, 1024 - len, "[%s|%s|%s]", s->id, s->event, s->data);
}

static void test_sse(void **state)
{
	static const char text[] = ": hello\nretry: 5\n\nid: 7\r\nevent: a.b\r\ndata: {1}\r\n\r\n"
				   "event: no.data\n\ndata:x\n\nid\ndata: y\n\n"
				   "id: 123456789012345678901234567890\ndata: z\n\n";
	static const char wanted[] = "[7|a.b|{1}][7||x][||y][12345678901234567890123||z]";
	char all[1024], *long_line = malloc(2 * SSE_LINE_MAX);
	struct sse *s = malloc(sizeof *s);

	(void)state;
	/* In one piece, and byte by byte. */
	for (size_t step = 1; step <= sizeof text; step += sizeof text - 1) {
		all[0] = '\0';
		*s = (struct sse){.on_event = event_add, .arg = all};
		for (size_t i = 0; i < sizeof text - 1; i += step)
			sse_feed(s, text + i, i + step < sizeof text ? step : sizeof text - 1 - i);
		assert_string_equal(all, wanted);
	}
	/* A line without end is dropped, what follows it is not. */
	all[0] = '\0';
	*s = (struct sse){.on_event = event_add, .arg = all};
	memset(long_line, 'd', 2 * SSE_LINE_MAX);
	memcpy(long_line, "data: ", 6);
	sse_feed(s, long_line, 2 * SSE_LINE_MAX);
	sse_feed(s, "\n\ndata: after\n\n", 16);
	assert_string_equal(all, "[||after]");
	free(long_line);
	free(s);
}

static void test_prompt(void **state)
{
	char longer[6000];

	(void)state;
	assert_string_equal(prompt("\n  \nexit\nhelp\n", CTL_OK, true, false),
			    "mesh> mesh> mesh> ");
	assert_string_equal(prompt("help exit", CTL_OK, true, false),
			    "mesh> exit\n    end the prompt\nmesh> \n");
	assert_string_equal(
		prompt("conect a b\n", CTL_USAGE, false, true),
		"meshctl: unknown command 'conect', did you mean 'connect'? (help lists "
		"all)\n");
	assert_string_equal(prompt("\x1b[31mzz\n", CTL_USAGE, false, true),
			    "meshctl: unknown command '?[31mzz', try help\n");
	assert_string_equal(prompt("connect a\nhelp\n", CTL_OK, false, true),
			    "meshctl: usage: connect A B\n");
	assert_string_equal(prompt("connect \"a\n", CTL_USAGE, false, true),
			    "meshctl: too many words, or a quote that does not end\n");
	memset(longer, 'x', sizeof longer);
	memcpy(longer + sizeof longer - 6, "\nhelp", 6);
	assert_string_equal(prompt(longer, CTL_OK, false, true), "meshctl: the line is too long\n");
	assert_string_equal(
		prompt("list-nodes -p 1 --timeout 2\n", CTL_UNREACHABLE, false, true),
		"meshctl: cannot reach nodemanager at 127.0.0.1:1: Connection refused "
		"(start it with `meshnet-nodemanager`, or say with -p or --rpc where it runs)\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_too_many_words),
		cmocka_unit_test(test_endpoints),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_params),
		cmocka_unit_test(test_admission_params),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_wide_table),
		cmocka_unit_test(test_complete),
		cmocka_unit_test(test_sse),
		cmocka_unit_test(test_views),
		cmocka_unit_test(test_view_of_anything),
		cmocka_unit_test(test_prompt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
