/* Hooks: words without a shell, one at a time in order, bounded in time and number. */
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
	return hooks_new(&hooks, base);
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

static void run_until_idle(double seconds)
{
	uint64_t end = daemon_now_us() + (uint64_t)(seconds * 1e6);
	struct timeval step = {0, 10000};

	while (!hooks_idle(hooks) && daemon_now_us() < end) {
		event_base_loopexit(base, &step);
		event_base_dispatch(base);
	}
	assert_true(hooks_idle(hooks));
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
	char many[300] = "";

	(void)state;
	assert_int_equal(hook_check(""), 0);
	assert_int_equal(hook_check("/bin/true 'a b'"), 0);
	assert_int_equal(hook_check("/bin/true 'a b"), -EINVAL);
	for (unsigned i = 0; i < HOOK_ARGS_MAX; i++)
		strcat(many, "x ");
	assert_int_equal(hook_check(many), 0);
	strcat(many, "x");
	assert_int_equal(hook_check(many), -EINVAL);
}

static void test_order_and_failures(void **state)
{
	const char *first[] = {"1", NULL}, *third[] = {"3", NULL};

	(void)state;
	hooks_run(hooks, "test", script, first, NULL);
	hooks_run(hooks, "test", "/nonexistent/program", first, NULL);
	hooks_run(hooks, "test", "/bin/false", first, NULL);
	hooks_run(hooks, "test", script, third, NULL);
	run_until_idle(5);
	assert_string_equal(said(), "[1] \n[3] \n");
}

static void test_limit(void **state)
{
	const char *args[] = {"x", NULL};
	unsigned lines = 0;

	(void)state;
	for (unsigned i = 0; i < HOOK_WAITING_MAX + 20; i++)
		hooks_run(hooks, "test", script, args, NULL);
	run_until_idle(20);
	for (const char *p = said(); (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, HOOK_WAITING_MAX + 1); /* one ran already */
}

static void test_too_long(void **state)
{
	const char *args[] = {"after", NULL};

	(void)state;
	uint64_t began = daemon_now_us();
	hooks_run(hooks, "test", "/bin/sleep 60", (const char *[]){NULL}, NULL);
	hooks_run(hooks, "test", script, args, NULL);
	run_until_idle(HOOK_SECONDS_MAX + 4);
	assert_in_range(daemon_now_us() - began, HOOK_SECONDS_MAX * 1000000, 13000000);
	assert_string_equal(said(), "[after] \n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_order_and_failures),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_too_long),
	};
	return cmocka_run_group_tests_name("hook", tests, setup, teardown);
}
