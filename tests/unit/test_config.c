/* The configuration: the example file, precedence, every fault named, and reloads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "io/config.h"
#include "io/config_doc.h"
#include "io/config_value.h"
#include "io/daemon.h"

struct reports {
	unsigned count;
	char text[20000];
};

static void collect(void *ctx, const char *line)
{
	struct reports *r = ctx;
	size_t at = strlen(r->text);

	r->count++;
	snprintf(r->text + at, sizeof r->text - at, "%s\n", line);
}

static int parse(struct config *cfg, const char *text, struct reports *r)
{
	memset(r, 0, sizeof *r);
	return config_parse(cfg, "file", text, strlen(text), collect, r);
}

static void quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

static const char *source_path(char *out, size_t size, const char *file)
{
	const char *dir = getenv("MESHNET_SRC");

	snprintf(out, size, "%s/%s", dir ? dir : ".", file);
	return out;
}

/* --- the table and the example ------------------------------------------------------------ */

static void test_table_is_sound(void **state)
{
	static const char *const fields[] = {
#define STR(s, f, key, def, doc) #f,
#define CHOICE(s, f, key, def, words, doc) #f,
#define ADDR(s, f, key, def, doc) #f,
#define HOST(s, f, key, def, doc) #f,
#define ADDRS(s, f, key, def, doc) #f,
#define NETS(s, f, key, def, doc) #f,
#define PUBKEY(s, f, key, def, doc) #f,
#define U64(s, f, key, def, min, max, doc) #f,
#define BOOL(s, f, key, def, doc) #f,
#include "io/config_keys.def"
	};
	const struct config_key *k = config_keys();
	struct config_value v;

	(void)state;
	for (size_t i = 0; i < config_key_count(); i++, k++) {
		if (!config_value_parse(k, k->def, &v))
			fail_msg("%s.%s: its own default '%s' is refused", k->section, k->key,
				 k->def);
		if (!config_name_equal(fields[i], k->key))
			fail_msg("%s.%s: field %s", k->section, k->key, fields[i]);
		assert_ptr_equal(config_key_find(k->section, k->key), k);
		if (k->kind == CONFIG_U64)
			assert_true(k->min < k->max);
	}
}

/* Every key has its sentence, in the order of the keys. */
static void test_docs_are_whole(void **state)
{
	const struct config_key *k = config_keys(), *end = k + config_key_count();

	(void)state;
	for (const char *const *doc = daemon_docs; *doc; doc++) {
		const char *text = *doc;

		assert_true(k < end);
		assert_string_equal(text, k->section);
		for (; k < end && !strcmp(k->section, *doc); k++) {
			text = config_doc_next(text);
			assert_true(strlen(text) > 3);
		}
		assert_string_equal(config_doc_next(text), "");
	}
	assert_ptr_equal(k, end);
}

/* True when "key =" begins a line of the section (whether or not commented out). */
static bool example_has(const char *text, const struct config_key *k)
{
	char section[64] = "", line[512];

	while (*text) {
		size_t len = strcspn(text, "\n");
		char *name = line;

		snprintf(line, sizeof line, "%.*s", (int)len, text);
		text += len + (text[len] == '\n');
		if (line[0] == '[' && strchr(line, ']')) {
			*strchr(line, ']') = '\0';
			snprintf(section, sizeof section, "%.63s", line + 1);
			continue;
		}
		name += strspn(name, "#; ");
		name[strcspn(name, " =")] = '\0';
		if (!strcmp(section, k->section) && !strcmp(name, k->key))
			return true;
	}
	return false;
}

static char *file_text(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = calloc(1, CONFIG_FILE_MAX_BYTES);

	assert_non_null(text);
	if (!f)
		fail_msg("%s: %s (run in the root of the tree or set MESHNET_SRC)", path,
			 strerror(errno));
	assert_true(fread(text, 1, CONFIG_FILE_MAX_BYTES - 1, f) > 0);
	fclose(f);
	return text;
}

static void test_example_has_every_key(void **state)
{
	char path[4096], *text;
	unsigned missing = 0;

	(void)state;
	text = file_text(source_path(path, sizeof path, "etc/meshnet-example.cfg"));
	for (size_t i = 0; i < config_key_count(); i++)
		if (!example_has(text, &config_keys()[i])) {
			print_error("etc/meshnet-example.cfg lacks %s.%s\n",
				    config_keys()[i].section, config_keys()[i].key);
			missing++;
		}
	free(text);
	assert_int_equal(missing, 0);
}

/* The example shows the defaults, so reading it changes nothing. */
static void test_example_is_the_defaults(void **state)
{
	struct config *cfg = config_new(), *plain = config_new();
	struct reports r = {0};
	char path[4096];
	int rc;

	(void)state;
	rc = config_read(cfg, source_path(path, sizeof path, "etc/meshnet-example.cfg"), collect,
			 &r);
	if (rc)
		fail_msg("%s", r.text);
	assert_int_equal(config_replace(plain, cfg), 0);
	config_free(plain);
}

/* --- what is read ------------------------------------------------------------------------- */

static void test_values_are_read(void **state)
{
	struct config *cfg = config_new();
	struct reports r;

	(void)state;
	assert_int_equal(parse(cfg,
			       "\xef\xbb\xbf# comment\r\n; another\n\n"
			       "[Node]\r\n"
			       "  app_talk_ADDR = 127.0.0.1:1 ; why not\r\n"
			       "NAME=a b=c;d \n"
			       "connect: ON\n"
			       "[msg_srv]\nStart_Port = 2000\n"
			       "[congestion]\nalgorithm = CUBIC\n"
			       "[gateway]\nUplinkTargets = 192.0.2.1:80 , [2001:db8::1]:443",
			       &r),
			 0);
	assert_int_equal(r.count, 0);
	assert_string_equal(cfg->node_app_talk_addr, "127.0.0.1:1");
	assert_string_equal(cfg->node_name, "a b=c;d");
	assert_true(cfg->node_connect);
	assert_int_equal(cfg->msgsrv_start_port, 2000);
	assert_string_equal(cfg->congestion_algorithm, "cubic");
	assert_string_equal(cfg->gateway_uplink_targets, "192.0.2.1:80 , [2001:db8::1]:443");
	config_free(cfg);
}

/* Another word for a key is the same key. */
static void test_hostname_is_name(void **state)
{
	struct config *cfg = config_new();
	struct reports r;

	(void)state;
	assert_int_equal(parse(cfg, "[node]\nhost_name = roof", &r), 0);
	assert_string_equal(cfg->node_name, "roof");
	assert_int_equal(parse(cfg, "[node]\nhostname = roof\nName = cellar", &r), -EINVAL);
	assert_non_null(strstr(r.text, "set twice"));
	assert_int_equal(parse(cfg, "[gateway]\nhostname = roof", &r), -EINVAL);
	config_free(cfg);
}

static void test_every_fault_is_named(void **state)
{
	struct config *cfg = config_new();
	struct reports r;

	(void)state;
	assert_int_equal(parse(cfg,
			       "early = 1\n"				  /* 1 */
			       "[nowhere]\nx = 1\ny = 2\n"		  /* 2: one report */
			       "[gateway]\n"				  /* 5 */
			       "LeaseSeconds = 3\n"			  /* 6 */
			       "Colour = blue\n"			  /* 7 */
			       "no equals sign\n"			  /* 8 */
			       "Nat = perhaps\nNat = yes\n"		  /* 9, 10 */
			       "SessionsPerHost = 18446744073709551616\n" /* 11 */
			       "Pool4 = 10.0.0.0/33\n"			  /* 12 */
			       "[node\n"				  /* 13 */
			       "MaxSubscribers = -1\n"			  /* 14 */
			       "RpcListen = 0.0.0.0,example\n"		  /* 15 */
			       "[node]\nManagerKey = 12\n"		  /* 17 */
			       "ManagerAddr =\n"			  /* 18 */
			       "Name = a\x01"
			       "b\n" /* 19 */
			       "[congestion]\nAlgorithm = vegas",
			       &r),
			 -EINVAL);
	static const char *const want[] = {
		"file:1: a key before the first [section]",
		"file:2: unknown section [nowhere]; known: general ",
		"file:6: gateway.LeaseSeconds: '3' is not accepted; expected 5..86400",
		"file:7: gateway.Colour: unknown key; known: Name ",
		"file:8: neither 'Key = value' nor '[section]'",
		"file:9: gateway.Nat: 'perhaps' is not accepted; expected yes|no",
		"file:10: gateway.Nat: set twice; the first is in line 9",
		("file:11: gateway.SessionsPerHost: '18446744073709551616' is not accepted; "
		 "expected 0.."),
		"file:12: gateway.Pool4: '10.0.0.0/33' is not accepted",
		"file:13: a section without its ']'",
		"file:14: gateway.MaxSubscribers: '-1' is not accepted; expected 1..",
		"file:15: gateway.RpcListen: '0.0.0.0,example' is not accepted",
		"file:17: node.ManagerKey: '12' is not accepted; expected 64 hexadecimal",
		"file:18: node.ManagerAddr: '' is not accepted; expected NAME:PORT or IP:PORT",
		"file:19: node.Name: 'a?b' is not accepted; expected printable text",
		"file:21: congestion.Algorithm: 'vegas' is not accepted; expected bbr|cubic",
	};
	const char *at = r.text;
	for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
		if (strncmp(at, want[i], strlen(want[i])) != 0)
			fail_msg("wanted '%s', got:\n%s", want[i], at);
		at += strcspn(at, "\n") + 1;
	}
	assert_int_equal(r.count, sizeof want / sizeof want[0]);
	config_free(cfg);
}

static void test_range_edges(void **state)
{
	static const struct {
		const char *option;
		int rc;
	} cases[] = {
		{"gateway.LeaseSeconds=5", 0},
		{"gateway.LeaseSeconds=86400", 0},
		{"gateway.LeaseSeconds=4", -EINVAL},
		{"gateway.LeaseSeconds=86401", -EINVAL},
		{"gateway.LeaseSeconds=", -EINVAL},
		{"gateway.LeaseSeconds=0x10", -EINVAL},
		{"gateway.LeaseSeconds=10 ", 0},
		{"gateway.LeaseSeconds=10s", -EINVAL},
		{"subscriber.RouteTable=4294967295", 0},
		{"subscriber.RouteTable=4294967296", -EINVAL},
		{"nodemanager.ListenAddr=[::]:5999", 0},
		{"nodemanager.ListenAddr=::", 0},
		{"nodemanager.ListenAddr=host:1", -EINVAL},
		{"nodemanager.ListenAddr=1.2.3.4:65536", -EINVAL},
		{"subscriber.ProbeTarget=", 0},
		{"gateway.Pool6=fd00::/64", 0},
		{"gateway.Pool6=fd00::/129", -EINVAL},
		{"gateway.Pool6=fd00::/", -EINVAL},
		{"node.Connect=1", 0},
		{"node.Connect=2", -EINVAL},
		{"node.connect", -EINVAL},
		{"connect=1", -EINVAL},
		{"=", -EINVAL},
		{"", -EINVAL},
		{".=", -EINVAL},
		{"node.=", -EINVAL},
	};
	struct config *cfg = config_new();
	struct reports r;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		memset(&r, 0, sizeof r);
		if (config_set(cfg, cases[i].option, collect, &r) != cases[i].rc)
			fail_msg("'%s' should give %d: %s", cases[i].option, cases[i].rc, r.text);
		assert_int_equal(r.count, cases[i].rc ? 1 : 0);
	}
	config_free(cfg);
}

static void test_long_lines_and_nul(void **state)
{
	static char text[CONFIG_LINE_MAX_BYTES * 3];
	struct config *cfg = config_new();
	struct reports r = {0};
	size_t len;

	(void)state;
	/* As long as a line may be ... */
	len = (size_t)sprintf(text, "[node]\nName = ");
	memset(text + len, 'x', CONFIG_LINE_MAX_BYTES - 7);
	len += CONFIG_LINE_MAX_BYTES - 7;
	assert_int_equal(config_parse(cfg, "file", text, len, collect, &r), 0);
	assert_int_equal(strlen(cfg->node_name), CONFIG_LINE_MAX_BYTES - 7);
	/* ... one more ... */
	text[len++] = 'x';
	len += (size_t)sprintf(text + len, "\nConnect = yes\nToken = a");
	text[len++] = '\0';
	len += (size_t)sprintf(text + len, "b\nMaxApps = 7\n");
	assert_int_equal(config_parse(cfg, "file", text, len, collect, &r), -EINVAL);
	assert_string_equal(r.text, "file:2: a line of more than 2000 characters\n"
				    "file:4: a NUL byte\n");
	/* ... and what follows is read. */
	assert_true(cfg->node_connect);
	assert_int_equal(cfg->node_max_apps, 7);
	config_free(cfg);
}

static void test_long_comments_are_fine(void **state)
{
	static char text[100000];
	struct config *cfg = config_new();
	struct reports r = {0};

	(void)state;
	memset(text, '#', sizeof text);
	memcpy(text + sizeof text - 17, "\n[node]\nName = x\n", 17);
	assert_int_equal(config_parse(cfg, "file", text, sizeof text, collect, &r), 0);
	assert_string_equal(cfg->node_name, "x");
	config_free(cfg);
}

static void test_reports_are_bounded(void **state)
{
	static char text[400000];
	struct config *cfg = config_new();
	struct reports *r = calloc(1, sizeof *r);
	size_t at = 0;

	(void)state;
	while (at + 8 < sizeof text)
		at += (size_t)sprintf(text + at, "[a]\nb\n");
	assert_int_equal(config_parse(cfg, "file", text, at, collect, r), -EINVAL);
	assert_int_equal(r->count, CONFIG_REPORTS_MAX + 1);
	free(r);
	config_free(cfg);
}

/* --- precedence and reload ---------------------------------------------------------------- */

static void file_write(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_precedence(void **state)
{
	static const char *const options[] = {"nodemanager.rpc_port=3", "node.Name=o1",
					      "node.Name=o2"};
	char path[] = "/tmp/meshnet-config-XXXXXX";
	struct config_source src = {.path = path};
	struct config *cfg;
	struct reports r = {0};
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	file_write(path, "[nodemanager]\nRpcPort = 1\n[node]\nName = file\nToken = t\n");
	assert_int_equal(config_load(&cfg, &src, collect, &r), 0);
	assert_int_equal(cfg->nodemanager_rpc_port, 1);
	config_free(cfg);
	src.rpc_port = "2";
	assert_int_equal(config_load(&cfg, &src, collect, &r), 0);
	assert_int_equal(cfg->nodemanager_rpc_port, 2);
	assert_string_equal(cfg->node_name, "file");
	config_free(cfg);
	src.options = options;
	src.n_options = 3;
	assert_int_equal(config_load(&cfg, &src, collect, &r), 0);
	assert_int_equal(cfg->nodemanager_rpc_port, 3);
	assert_string_equal(cfg->node_name, "o2");
	assert_string_equal(cfg->node_token, "t");
	config_free(cfg);
	src.rpc_port = "99999";
	assert_int_equal(config_load(&cfg, &src, collect, &r), -EINVAL);
	assert_null(cfg);
	assert_string_equal(r.text, "MESH_RPC_PORT: nodemanager.RpcPort: '99999' is not accepted; "
				    "expected 1..65535\n");
	unlink(path);
}

static void test_unreadable_files(void **state)
{
	struct config_source src = {.path = "/nonexistent/meshnet.cfg"};
	struct config *cfg;
	struct reports r = {0};

	(void)state;
	assert_int_equal(config_load(&cfg, &src, collect, &r), -ENOENT);
	assert_null(cfg);
	src.path = "/";
	assert_int_equal(config_load(&cfg, &src, collect, &r), -EISDIR);
	src.path = "/dev/zero";
	assert_int_equal(config_load(&cfg, &src, collect, &r), -EFBIG);
	assert_string_equal(
		r.text,
		"/nonexistent/meshnet.cfg: cannot be read: No such file or directory\n"
		"/: cannot be read: Is a directory\n/dev/zero: cannot be read: File too large\n");
}

static void test_reload_keeps_old_strings(void **state)
{
	struct config *cfg = config_new();
	const char *first, *methods = cfg->gateway_methods;
	struct reports r;

	(void)state;
	log_set_sink(quiet);
	assert_int_equal(parse(cfg, "[node]\nName = one\n", &r), 0);
	first = cfg->node_name;
	for (int i = 0; i < 10; i++) {
		struct config *fresh = config_new();

		assert_int_equal(parse(fresh,
				       i % 2 ? "[node]\nName = one\n"
					     : "[node]\nName = two\nToken = two\nConnect = yes",
				       &r),
				 0);
		assert_int_equal(config_replace(cfg, fresh), 3);
		assert_string_equal(cfg->node_name, i % 2 ? "one" : "two");
		assert_string_equal(cfg->node_token, i % 2 ? "" : "two");
		assert_int_equal(cfg->node_connect, !(i % 2));
		assert_string_equal(first, "one");
		assert_ptr_equal(cfg->gateway_methods, methods);
	}
	/* The same value twice is the same string: ten reloads kept two strings. */
	assert_ptr_equal(cfg->node_name, first);
	config_free(cfg);
	log_set_sink(NULL);
}

/* --- lists and networks ------------------------------------------------------------------- */

static void test_lists(void **state)
{
	const char *at = " a,, bb\t,c c ,";
	char item[4];

	(void)state;
	assert_true(config_list_next(&at, item, sizeof item));
	assert_string_equal(item, "a");
	assert_true(config_list_next(&at, item, sizeof item));
	assert_string_equal(item, "bb");
	assert_true(config_list_next(&at, item, sizeof item));
	assert_string_equal(item, "c c");
	assert_false(config_list_next(&at, item, sizeof item));
	at = "abcdef";
	assert_true(config_list_next(&at, item, sizeof item));
	assert_string_equal(item, "abc");
	at = " , ,\t";
	assert_false(config_list_next(&at, item, sizeof item));
	assert_true(config_list_contains("mesh, wireguard", "wireguard"));
	assert_false(config_list_contains("mesh, wireguard", "wire"));
	assert_false(config_list_contains("", "mesh"));
}

static void test_networks(void **state)
{
	static const struct {
		const char *nets, *addr;
		bool in;
	} cases[] = {
		{"127.0.0.0/8,::1/128", "127.9.9.9", true},
		{"127.0.0.0/8,::1/128", "::1", true},
		{"127.0.0.0/8,::1/128", "::2", false},
		{"127.0.0.0/8,::1/128", "::ffff:127.0.0.1", true},
		{"127.0.0.0/8,::1/128", "128.0.0.1", false},
		{"10.1.2.3", "10.1.2.3", true},
		{"10.1.2.3", "10.1.2.4", false},
		{"10.1.2.0/25", "10.1.2.127", true},
		{"10.1.2.0/25", "10.1.2.128", false},
		{"0.0.0.0/0", "::1", false},
		{"0.0.0.0/0", "1.1.1.1", true},
		{"", "1.1.1.1", false},
	};
	struct net_addr a;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(net_addr_parse(&a, cases[i].addr, 1), 0);
		if (config_nets_contain(cases[i].nets, &a) != cases[i].in)
			fail_msg("'%s' in '%s'", cases[i].addr, cases[i].nets);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_is_sound),
		cmocka_unit_test(test_docs_are_whole),
		cmocka_unit_test(test_example_has_every_key),
		cmocka_unit_test(test_example_is_the_defaults),
		cmocka_unit_test(test_values_are_read),
		cmocka_unit_test(test_hostname_is_name),
		cmocka_unit_test(test_every_fault_is_named),
		cmocka_unit_test(test_range_edges),
		cmocka_unit_test(test_long_lines_and_nul),
		cmocka_unit_test(test_long_comments_are_fine),
		cmocka_unit_test(test_reports_are_bounded),
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_unreadable_files),
		cmocka_unit_test(test_reload_keeps_old_strings),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_networks),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
