/* io/helper: a program that is written down; what a killed daemon leaves is ended, nobody else. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <sodium.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/log.h"
#include "io/helper.h"
#include "netns.h"

static char dir[] = "/tmp/helper-XXXXXX";
static char path[64], socket_path[64];
static struct event_base *base;

static void quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

static int setup(void **state)
{
	(void)state;
	log_set_sink(quiet);
	base = event_base_new();
	if (sodium_init() < 0 || !base || !mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/host.db", dir);
	snprintf(socket_path, sizeof socket_path, "%s/sock", dir);
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof command, "rm -r %s", dir);
	free(netns_output(command));
	event_base_free(base);
	return 0;
}

static struct hostjournal *open_journal(void)
{
	struct hostjournal *j = NULL;

	if (!netns_enter())
		skip();
	assert_int_equal(hostjournal_open(&j, path), 0);
	return j;
}

static bool runs(pid_t pid)
{
	return kill(pid, 0) == 0;
}

static void make_socket(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(a.sun_path, socket_path, strlen(socket_path) + 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	close(fd);
}

static struct helper *sleeper(struct hostjournal *j, const char *const *env)
{
	/* It ignores SIGTERM and has a child of its own. */
	static const char *const argv[] = {"sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60",
					   NULL};
	const struct helper_spec spec = {
		.name = "sleeper", .argv = argv, .env = env, .socket = socket_path};
	struct helper *h = NULL;

	assert_int_equal(helper_start(&h, base, j, &spec), 0);
	assert_true(runs(helper_pid(h)));
	return h;
}

static void freeing_ends_it(void **state)
{
	struct hostjournal *j = open_journal();
	struct helper *h = sleeper(j, NULL);
	pid_t pid = helper_pid(h);

	(void)state;
	make_socket();
	assert_int_equal(hostjournal_count(j), 1);
	helper_free(h);
	assert_false(runs(pid));
	assert_int_equal(access(socket_path, F_OK), -1);
	assert_int_equal(hostjournal_count(j), 0);
	hostjournal_close(j);
}

/* Starts the program as a daemon does and is killed; tells the program's number. */
static pid_t killed_daemon(void)
{
	int ends[2];
	pid_t pid = 0, daemon;

	assert_int_equal(pipe(ends), 0);
	daemon = fork();
	if (daemon == 0) {
		struct hostjournal *j = NULL;
		if (hostjournal_open(&j, path) == 0)
			pid = helper_pid(sleeper(j, NULL));
		usleep(50000); /* until the grandchild is there */
		_exit(write(ends[1], &pid, sizeof pid) == sizeof pid ? 0 : 1);
	}
	assert_int_equal(read(ends[0], &pid, sizeof pid), sizeof pid);
	assert_int_equal(waitpid(daemon, NULL, 0), daemon);
	close(ends[0]);
	close(ends[1]);
	return pid;
}

static void what_was_left_is_ended(void **state)
{
	struct hostjournal *j;

	(void)state;
	if (!netns_enter())
		skip();
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* what is ended is seen to be gone */
	pid_t pid = killed_daemon(), stranger = fork();
	if (stranger == 0) {
		/* The same program and variable, with another word. */
		execle("/bin/sh", "sh", "-c", "trap '' TERM; exec sleep 60", NULL,
		       (char *const[]){"MESHNET_HELPER=0123456789abcdef0123456789abcdef", NULL});
		_exit(1);
	}
	assert_true(runs(pid));
	make_socket();
	j = open_journal();
	assert_int_equal(hostjournal_count(j), 1);
	assert_int_equal(hostjournal_undo(j, 0), 0);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), pid);
	assert_int_equal(access(socket_path, F_OK), -1);
	assert_int_equal(hostjournal_count(j), 0);
	assert_int_equal(waitpid(stranger, NULL, WNOHANG), 0); /* it runs on */
	kill(stranger, SIGKILL);
	assert_int_equal(waitpid(stranger, NULL, 0), stranger);
	hostjournal_close(j);
}

static void one_that_cannot_start(void **state)
{
	static const char *const argv[] = {"/nonexistent", NULL};
	struct hostjournal *j = open_journal();
	struct helper *h = NULL;

	(void)state;
	assert_int_equal(
		helper_start(&h, base, j, &(struct helper_spec){.name = "no", .argv = argv}),
		-ENOENT);
	assert_int_equal(hostjournal_count(j), 0);
	hostjournal_close(j);
}

static void its_environment(void **state)
{
	static const char *const argv[] = {"sh", "-c",
					   "test \"$A\" = 1 && test \"$MESHNET_HELPER\"", NULL};
	static const char *const env[] = {"A=1", NULL};
	struct helper *h = NULL;
	int status = -1;

	(void)state;
	assert_int_equal(helper_start(&h, base, NULL,
				      &(struct helper_spec){.name = "e", .argv = argv, .env = env}),
			 0);
	assert_int_equal(waitpid(helper_pid(h), &status, 0), helper_pid(h));
	assert_int_equal(status, 0);
	helper_free(h);
}

static void output(void **state)
{
	char out[16];

	(void)state;
	assert_int_equal(helper_output((const char *const[]){"cat", NULL}, "hello \n", out,
				       sizeof out, 1000000),
			 0);
	assert_string_equal(out, "hello");
	assert_int_equal(
		helper_output((const char *const[]){"false", NULL}, NULL, out, sizeof out, 1000000),
		-EIO);
	assert_int_equal(helper_output((const char *const[]){"/nonexistent", NULL}, NULL, out,
				       sizeof out, 1000000),
			 -ENOENT);
	assert_int_equal(helper_output((const char *const[]){"cat", NULL}, "0123456789abcdef", out,
				       sizeof out, 1000000),
			 -EMSGSIZE);
	assert_int_equal(helper_output((const char *const[]){"sleep", "60", NULL}, NULL, out,
				       sizeof out, 50000),
			 -ETIMEDOUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(freeing_ends_it),
		cmocka_unit_test(what_was_left_is_ended),
		cmocka_unit_test(one_that_cannot_start),
		cmocka_unit_test(its_environment),
		cmocka_unit_test(output),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
