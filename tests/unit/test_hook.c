/* Hooks: words without a shell, in order, bounded in time and number, counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "io/clock.h"
#include "io/hook.h"

#define WAITING_MAX 64

static struct event_base *base;
static struct hooks *hooks;
static char folder[] = "/tmp/meshnet-hook-XXXXXX";
static char script[80], output[80];

static void put(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

static int setup(void **state)
{
	char text[400];

	(void)state;
	log_set_level(LOG_LEVEL_ERROR);
	base = event_base_new();
	assert_non_null(base);
	assert_non_null(mkdtemp(folder));
	snprintf(script, sizeof script, "%s/hook", folder);
	snprintf(output, sizeof output, "%s/out", folder);
	snprintf(text, sizeof text,
		 "#!/bin/sh\nfor a in \"$@\"; do printf '[%%s]' \"$a\" >> %s; done\n"
		 "echo \" $HOOK_TEST\" >> %s\n",
		 output, output);
	put(script, text, 0755);
	return hooks_new(&hooks, base, 1, WAITING_MAX);
}

static int teardown(void **state)
{
	(void)state;
	hooks_free(hooks);
	event_base_free(base);
	unlink(script);
	unlink(output);
	return rmdir(folder);
}

static void run_these_until_idle(struct hooks *h, double seconds)
{
	uint64_t end = daemon_now_us() + (uint64_t)(seconds * 1e6);
	struct timeval step = {0, 10000};

	while (!hooks_idle(h) && daemon_now_us() < end) {
		event_base_loopexit(base, &step);
		event_base_dispatch(base);
	}
	assert_true(hooks_idle(h));
}

static void run_until_idle(double seconds)
{
	run_these_until_idle(hooks, seconds);
}

static const char *said(void)
{
	static char text[8192];
	FILE *f = fopen(output, "r");
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;

	text[n] = '\0';
	if (f)
		fclose(f);
	unlink(output);
	return text;
}

static void test_words(void **state)
{
	const char *args[] = {"onConnect", "", "a b;$(id)", NULL};
	const char *env[] = {"HOOK_TEST=yes", NULL};
	char line[300];

	(void)state;
	snprintf(line, sizeof line, "  %s one 'two words' \"it's\" a'b c'd '' $HOME `id` ", script);
	hooks_run(hooks, "test", line, args, env);
	run_until_idle(5);
	assert_string_equal(said(), "[one][two words][it's][ab cd][][$HOME][`id`][onConnect][]"
				    "[a b;$(id)] yes\n");
	hooks_run(hooks, "test", "", args, env);
	assert_true(hooks_idle(hooks));
}

static void test_check(void **state)
{
	char program[HOOK_LINE_MAX], many[300] = "", long_line[HOOK_LINE_MAX + 1] = "";

	(void)state;
	assert_int_equal(hook_check("", program), 0);
	assert_string_equal(program, "");
	assert_int_equal(hook_check(" '/bin/a b' 'a b'", program), 0);
	assert_string_equal(program, "/bin/a b");
	assert_int_equal(hook_check("/bin/true 'a b", NULL), -EINVAL);
	for (unsigned i = 0; i < HOOK_WORDS_MAX; i++)
		strcat(many, "x ");
	assert_int_equal(hook_check(many, NULL), 0);
	strcat(many, "x");
	assert_int_equal(hook_check(many, NULL), -EINVAL);
	memset(long_line, 'x', HOOK_LINE_MAX);
	assert_int_equal(hook_check(long_line, NULL), -EINVAL);
	long_line[HOOK_LINE_MAX - 1] = '\0';
	assert_int_equal(hook_check(long_line, NULL), 0);
}

/* The longest line that is accepted leaves room for all that an event says. */
static void test_all_values(void **state)
{
	const char *args[HOOK_VALUES_MAX + 1] = {NULL}, *env[HOOK_VALUES_MAX + 1] = {NULL};
	char line[300], expected[300] = "";

	(void)state;
	snprintf(line, sizeof line, "%s", script);
	for (unsigned i = 1; i < HOOK_WORDS_MAX; i++) {
		strcat(line, " w");
		strcat(expected, "[w]");
	}
	for (unsigned i = 0; i < HOOK_VALUES_MAX; i++) {
		args[i] = "v";
		env[i] = "HOOK_OTHER=x";
		strcat(expected, "[v]");
	}
	env[HOOK_VALUES_MAX - 1] = "HOOK_TEST=last";
	assert_int_equal(hook_check(line, NULL), 0);
	hooks_run(hooks, "test", line, args, env);
	run_until_idle(5);
	assert_string_equal(said(), strcat(expected, " last\n"));
}

static void test_order_and_failures(void **state)
{
	const char *first[] = {"1", NULL}, *third[] = {"3", NULL};
	struct hook_counters before = *hooks_counters(hooks);

	(void)state;
	hooks_run(hooks, "test", script, first, NULL);
	hooks_run(hooks, "test", "/nonexistent/program", first, NULL);
	hooks_run(hooks, "test", "/bin/false", first, NULL);
	hooks_run(hooks, "test", script, third, NULL);
	run_until_idle(5);
	assert_string_equal(said(), "[1] \n[3] \n");
	assert_int_equal(hooks_counters(hooks)->run - before.run, 3);
	assert_int_equal(hooks_counters(hooks)->failed - before.failed, 2);
}

static void test_limit(void **state)
{
	const char *args[] = {"x", NULL};
	unsigned lines = 0;

	(void)state;
	for (unsigned i = 0; i < WAITING_MAX + 20; i++)
		hooks_run(hooks, "test", script, args, NULL);
	run_until_idle(20);
	for (const char *p = said(); (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, WAITING_MAX);
	assert_int_equal(hooks_counters(hooks)->dropped, 20);
}

static void test_too_long(void **state)
{
	const char *args[] = {"after", NULL};

	uint64_t failed = hooks_counters(hooks)->failed;

	(void)state;
	uint64_t began = daemon_now_us();
	hooks_run(hooks, "test", "/bin/sleep 60", (const char *[]){NULL}, NULL);
	hooks_run(hooks, "test", script, args, NULL);
	run_until_idle(HOOK_SECONDS_MAX + 4);
	assert_in_range(daemon_now_us() - began, HOOK_SECONDS_MAX * 1000000, 13000000);
	assert_string_equal(said(), "[after] \n");
	assert_int_equal(hooks_counters(hooks)->failed, failed + 1);
}

/* Three at once, the fourth after one of them. */
static void test_several_at_once(void **state)
{
	const char *args[] = {output, NULL};
	struct hooks *many;

	(void)state;
	assert_int_equal(hooks_new(&many, base, 3, 8), 0);
	for (unsigned i = 0; i < 4; i++)
		hooks_run(many, "test", "/bin/sleep 0.5", (const char *[]){NULL}, NULL);
	assert_int_equal(hooks_counters(many)->run, 0);
	event_base_loop(base, EVLOOP_NONBLOCK);
	assert_int_equal(hooks_counters(many)->run, 3);
	run_these_until_idle(many, 5);
	assert_int_equal(hooks_counters(many)->run, 4);
	/* What still runs ends with them. */
	hooks_run(many, "test", "/bin/sh -c 'sleep 1; echo x > \"$0\"'", args, NULL);
	event_base_loop(base, EVLOOP_NONBLOCK);
	assert_int_equal(hooks_counters(many)->run, 5);
	hooks_free(many);
	usleep(1200000);
	assert_int_not_equal(access(output, F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),		cmocka_unit_test(test_check),
		cmocka_unit_test(test_all_values),	cmocka_unit_test(test_order_and_failures),
		cmocka_unit_test(test_limit),		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_several_at_once),
	};
	return cmocka_run_group_tests_name("hook", tests, setup, teardown);
}
