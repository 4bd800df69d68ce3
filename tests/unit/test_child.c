/* io/child: output by lines, exit, killing the whole group, limits. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "io/child.h"
#include "io/clock.h"

static struct event_base *base;

struct told {
	unsigned lines, exits;
	char first[CHILD_LINE_MAX + 2], last[CHILD_LINE_MAX + 2];
	int status;
	bool free_on_exit;
};

static void quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

static void on_line(struct child *c, const char *line, void *arg)
{
	struct told *t = arg;

	assert_non_null(c);
	assert_true(strlen(line) <= CHILD_LINE_MAX);
	snprintf(t->lines++ ? t->last : t->first, sizeof t->last, "%s", line);
}

static void on_exit_cb(struct child *c, int status, void *arg)
{
	struct told *t = arg;

	t->exits++;
	t->status = status;
	assert_int_equal(child_pid(c), 0);
	if (t->free_on_exit)
		child_free(c);
}

static struct child *start(struct told *t, const char *script)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	struct child_spec spec = {
		.name = "test", .argv = argv, .on_exit = on_exit_cb, .on_line = on_line, .arg = t};
	struct child *c;

	assert_int_equal(child_start(&c, base, &spec), 0);
	assert_int_equal(getpgid(child_pid(c)), child_pid(c));
	return c;
}

static void run_until_exit(const struct told *t, uint64_t timeout_us)
{
	uint64_t end = daemon_now_us() + timeout_us;

	while (!t->exits && daemon_now_us() < end) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
	assert_int_equal(t->exits, 1);
}

static void test_output_and_exit(void **state)
{
	struct told t = {0};

	(void)state;
	struct child *c =
		start(&t, "echo one; echo two >&2; printf 'last\\033without newline'; exit 3");
	run_until_exit(&t, 5000000);
	assert_true(WIFEXITED(t.status) && WEXITSTATUS(t.status) == 3);
	assert_int_equal(t.lines, 3);
	assert_string_equal(t.first, "one");
	assert_string_equal(t.last, "last?without newline");
	char text[48];
	assert_string_equal(child_status_text(t.status, text), "exit 3");
	child_free(c);
}

static void test_limits(void **state)
{
	struct told t = {.free_on_exit = true};

	(void)state;
	start(&t,
	      "head -c 3000 /dev/zero | tr '\\0' x; echo; i=0; while [ $i -lt 2000 ]; do echo $i;"
	      " i=$((i+1)); done");
	run_until_exit(&t, 10000000);
	assert_int_equal(strlen(t.first), CHILD_LINE_MAX);
	assert_int_equal(t.lines, CHILD_LINES_PER_MINUTE_MAX);
}

static bool alive(pid_t pid)
{
	return kill(pid, 0) == 0;
}

/* TERM is ignored: killed at the deadline, with the grandchild. */
static void test_input(void **state)
{
	static char much[CHILD_INPUT_MAX + 2];
	const char *const argv[] = {"sh", "-c", "read a; read b; echo $b $a; cat", NULL};
	struct told t = {0};
	struct child_spec spec = {.name = "test",
				  .argv = argv,
				  .input = "one\ntwo\n",
				  .on_exit = on_exit_cb,
				  .on_line = on_line,
				  .arg = &t};
	struct child *c;

	(void)state;
	assert_int_equal(child_start(&c, base, &spec), 0);
	run_until_exit(&t, 5000000);
	assert_int_equal(t.lines, 1);
	assert_string_equal(t.first, "two one");
	child_free(c);
	memset(much, 'x', sizeof much - 1);
	spec.input = much;
	assert_int_equal(child_start(&c, base, &spec), -EMSGSIZE);
}

static void test_deadline(void **state)
{
	struct told t = {0};

	(void)state;
	struct child *c =
		start(&t, "trap '' TERM; (trap '' TERM; echo $$; sleep 60) & echo $!; wait");
	pid_t pid = child_pid(c);
	for (int i = 0; i < 2000 && t.lines < 2; i++) {
		event_base_loop(base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
	assert_int_equal(t.lines, 2);
	pid_t grandchild = (pid_t)atoi(atoi(t.first) == pid ? t.last : t.first);
	assert_true(grandchild > 0 && grandchild != pid && alive(grandchild));
	uint64_t before = daemon_now_us();
	child_stop(c, 150000);
	run_until_exit(&t, 5000000);
	assert_true(daemon_now_us() - before >= 140000);
	assert_true(WIFSIGNALED(t.status) && WTERMSIG(t.status) == SIGKILL);
	child_stop(c, 1);
	child_free(c);
	for (int i = 0; i < 1000 && alive(grandchild); i++)
		usleep(1000);
	/* Reparented and perhaps not reaped by this machine's init: then a zombie, never running.
	 */
	char path[64], text[256] = "";
	snprintf(path, sizeof path, "/proc/%d/stat", (int)grandchild);
	FILE *f = fopen(path, "r");
	if (f) {
		assert_true(fgets(text, sizeof text, f) != NULL);
		assert_non_null(strstr(text, ") Z"));
		fclose(f);
	}
}

static void test_stop_in_time(void **state)
{
	struct told t = {.free_on_exit = true};

	(void)state;
	struct child *c = start(&t, "exec sleep 60");
	usleep(50000); /* the shell has become sleep */
	child_stop(c, 5000000);
	run_until_exit(&t, 3000000);
	assert_true(WIFSIGNALED(t.status) && WTERMSIG(t.status) == SIGTERM);
}

static void test_free_kills(void **state)
{
	struct told t = {0};

	(void)state;
	struct child *c = start(&t, "sleep 60");
	pid_t pid = child_pid(c);
	child_free(c);
	assert_int_equal(t.exits, 0);
	assert_false(alive(pid));
	child_free(NULL);
}

static void test_no_such_program(void **state)
{
	const char *const argv[] = {"/no/such/program", NULL};
	struct child_spec spec = {.name = "none", .argv = argv};
	struct child *c = NULL;

	(void)state;
	assert_int_equal(child_start(&c, base, &spec), -ENOENT);
	assert_null(c);
}

/* Nothing of ours but the three standard descriptors. */
static void test_descriptors(void **state)
{
	struct told t = {0};
	int leak = dup(2);

	(void)state;
	struct child *c = start(&t, "for i in 3 4 5 6 7 8 9 10 11 12 13 14 15; do [ -e "
				    "/proc/$$/fd/$i ] && echo $i; done; echo none");
	run_until_exit(&t, 5000000);
	assert_string_equal(t.first, "none");
	child_free(c);
	close(leak);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output_and_exit), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_input),		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_stop_in_time),	cmocka_unit_test(test_free_kills),
		cmocka_unit_test(test_no_such_program), cmocka_unit_test(test_descriptors),
	};
	log_set_sink(quiet);
	base = event_base_new();
	int failed = base ? cmocka_run_group_tests_name("child", tests, NULL, NULL) : 1;
	if (base)
		event_base_free(base);
	return failed;
}
