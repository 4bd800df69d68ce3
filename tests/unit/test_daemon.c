/* daemon_main() as a process: arguments, readiness, reload, the end within 2 s, the lock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "io/daemon.h"
#include "io/notify.h"

static char dir[64], config_file[128], state_option[128], output[20000];
static int notify_fd = -1;
static bool term_after; /* another SIGTERM when everything is closed, just before the end */

/* --- a daemon that tells what happens to it ----------------------------------------------- */

static int spec_check(const struct config *cfg, config_report *report, void *ctx)
{
	if (strcmp(cfg->node_name, "forbidden") != 0)
		return 0;
	report(ctx, "node.Name: 'forbidden' is forbidden");
	return -EINVAL;
}

static void want_files(struct daemon *d)
{
	struct rlimit lim = {.rlim_cur = 300,
			     .rlim_max = strcmp(d->cfg->node_name, "files") ? 400 : 500};

	setrlimit(RLIMIT_NOFILE, &lim);
	daemon_want_files(200);
	getrlimit(RLIMIT_NOFILE, &lim);
	log_info("limit %u", (unsigned)lim.rlim_cur);
	daemon_exit(d, 0);
}

static int spec_start(struct daemon *d)
{
	char path[256];

	if (daemon_state_path(d, "db", path, sizeof path))
		return -1;
	log_info("start %s %s", d->cfg->node_name, path);
	if (!strcmp(d->cfg->node_name, "fails"))
		return -EADDRINUSE;
	if (getenv("NOTIFY_SOCKET"))
		log_info("programs may notify");
	if (!strncmp(d->cfg->node_name, "files", 5))
		want_files(d);
	if (!strcmp(d->cfg->node_name, "exits"))
		daemon_exit(d, 7);
	return 0;
}

static void spec_stop(struct daemon *d)
{
	log_info("stop");
	if (!strcmp(d->cfg->node_name, "lingers"))
		daemon_hold(d);
}

static void spec_reload(struct daemon *d)
{
	log_info("reload %s", d->cfg->node_name);
	daemon_status(d, d->cfg->node_name);
}

static void spec_free(struct daemon *d)
{
	log_info("free %s", d->cfg->node_name);
	if (!strcmp(d->cfg->node_name, "hangs"))
		sleep(20);
}

static int spec_cleanup(struct daemon *d)
{
	log_info("cleanup %s", d->state_dir);
	return 0;
}

static const struct daemon_spec spec = {
	.name = "testd",
	.summary = "a daemon for tests",
	.sections = "general,node",
	.check = spec_check,
	.start = spec_start,
	.stop = spec_stop,
	.reload = spec_reload,
	.free = spec_free,
	.cleanup = spec_cleanup,
};

/* --- running it --------------------------------------------------------------------------- */

struct child {
	pid_t pid;
	int out;
};

static struct child spawn(const char *const *args, size_t n)
{
	struct child c;
	char *argv[24] = {(char *)(uintptr_t) "testd"};
	int fds[2];

	assert_true(n < 20);
	for (size_t i = 0; i < n; i++)
		argv[i + 1] = (char *)(uintptr_t)args[i];
	assert_int_equal(pipe(fds), 0);
	fflush(NULL);
	c.pid = fork();
	assert_true(c.pid >= 0);
	if (!c.pid) {
		dup2(fds[1], STDOUT_FILENO);
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		n = (size_t)daemon_main(&spec, (int)n + 1, argv);
		if (term_after)
			raise(SIGTERM);
		fflush(NULL);
		_exit((int)n);
	}
	close(fds[1]);
	c.out = fds[0];
	return c;
}

/* The exit code (or 256 + signal); everything it printed is in `output`. */
static int reap(struct child c)
{
	size_t at = 0;
	ssize_t n;
	int status = 0;

	while (at < sizeof output - 1 && (n = read(c.out, output + at, sizeof output - 1 - at)) > 0)
		at += (size_t)n;
	output[at] = '\0';
	close(c.out);
	assert_int_equal(waitpid(c.pid, &status, 0), c.pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

#define SPAWN(...)                                                                                 \
	spawn((const char *const[]){__VA_ARGS__},                                                  \
	      sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))
#define RUN(...) reap(SPAWN(__VA_ARGS__))
#define START(...) SPAWN("-f", config_file, "-o", state_option, "-o", __VA_ARGS__)

static void wants(const char *text)
{
	if (!strstr(output, text))
		fail_msg("wanted '%s' in:\n%s", text, output);
}

static void wants_not(const char *text)
{
	if (strstr(output, text))
		fail_msg("did not want '%s' in:\n%s", text, output);
}

/* The next datagram to NOTIFY_SOCKET, within 5 s, begins with `text`. */
static void wants_notify(const char *text)
{
	struct pollfd p = {.fd = notify_fd, .events = POLLIN};
	char got[512] = "";

	if (poll(&p, 1, 5000) == 1)
		assert_true(recv(notify_fd, got, sizeof got - 1, 0) > 0);
	if (strncmp(got, text, strlen(text)) != 0)
		fail_msg("wanted notification '%s', got '%s'", text, got);
}

static void config_write(const char *text)
{
	FILE *f = fopen(config_file, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int notify_open(const char *name)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	size_t len = strlen(name) + (name[0] != '@');

	notify_fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	memcpy(sun.sun_path, name, strlen(name));
	if (name[0] == '@')
		sun.sun_path[0] = '\0';
	setenv("NOTIFY_SOCKET", name, 1);
	return bind(notify_fd, (struct sockaddr *)&sun,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}

static int setup(void **state)
{
	char name[100];

	(void)state;
	strcpy(dir, "/tmp/meshnet-daemon-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(config_file, sizeof config_file, "%s/cfg", dir);
	snprintf(state_option, sizeof state_option, "general.StateDir=%s/state", dir);
	snprintf(name, sizeof name, "@%s", dir);
	config_write("");
	return notify_open(name);
}

static int teardown(void **state)
{
	char path[128];

	(void)state;
	close(notify_fd);
	unsetenv("NOTIFY_SOCKET");
	unlink(config_file);
	snprintf(path, sizeof path, "%s/state/testd.lock", dir);
	unlink(path);
	snprintf(path, sizeof path, "%s/state", dir);
	rmdir(path);
	return rmdir(dir);
}

/* --- the tests ---------------------------------------------------------------------------- */

static void test_arguments(void **state)
{
	(void)state;
	assert_int_equal(RUN("--version"), 0);
	assert_string_equal(output, "testd " MESHNET_VERSION "\n");
	assert_int_equal(RUN("--help"), 0);
	wants("usage: testd ");
	wants("--cleanup");
	wants("  AppTalkAddr = 127.0.0.1:17000\n");
	wants_not("[gateway]");
	assert_int_equal(RUN("--nonsense"), 2);
	assert_string_equal(output, "testd: unknown argument '--nonsense' (see testd --help)\n");
	assert_int_equal(RUN("-x"), 2);
	wants("unknown argument '-x'");
	assert_int_equal(RUN("-f"), 2);
	wants("a value is missing after '-f'");
	assert_int_equal(RUN("--check", "surplus"), 2);
	wants("unexpected argument 'surplus'");
}

static void test_check(void **state)
{
	(void)state;
	config_write("[node]\nName = fine\n");
	assert_int_equal(RUN("-f", config_file, "--check"), 0);
	assert_string_equal(output, "configuration ok\n");
	config_write("[node]\nNam = fine\n[gateway]\nLeaseSeconds = 0\n");
	assert_int_equal(RUN("-f", config_file, "--check"), 1);
	wants("cfg:2: node.Nam: unknown key");
	wants("cfg:4: gateway.LeaseSeconds: '0' is not accepted; expected 5..86400");
	assert_int_equal(RUN("-f", "/nonexistent", "--check"), 1);
	wants("/nonexistent: cannot be read: No such file");
	config_write("");
	assert_int_equal(RUN("-f", config_file, "-o", "node.name=forbidden", "--check"), 1);
	assert_string_equal(output, "testd: node.Name: 'forbidden' is forbidden\n");
}

static void test_life(void **state)
{
	struct child c;
	uint64_t before;

	(void)state;
	config_write("[node]\nName = one\n[daemon]\nLogFormat = journal\n");
	c = SPAWN("-f", config_file, "-o", state_option);
	wants_notify("READY=1");
	config_write("[node]\nName = forbidden\n");
	kill(c.pid, SIGHUP);
	wants_notify("RELOADING=1\nMONOTONIC_USEC=");
	wants_notify("READY=1");
	config_write("[node]\nName = two\nMaxApps = 0\n");
	kill(c.pid, SIGHUP);
	wants_notify("RELOADING=1");
	wants_notify("READY=1");
	config_write("[node]\nName = three\n");
	kill(c.pid, SIGHUP);
	wants_notify("RELOADING=1");
	wants_notify("STATUS=three");
	wants_notify("READY=1");
	before = daemon_now_us();
	kill(c.pid, SIGTERM);
	wants_notify("STOPPING=1");
	assert_int_equal(reap(c), 0);
	assert_true(daemon_now_us() - before < 1000000);
	wants("<6>start one ");
	wants("state/testd.db\n");
	wants("<3>node.Name: 'forbidden' is forbidden\n");
	wants("cfg:3: node.MaxApps: '0' is not accepted");
	wants("<3>configuration not reloaded: the old one stays in use");
	wants_not("reload two");
	wants("configuration: node.Name changed");
	wants("reload three\n");
	/* The new file has no LogFormat: plain lines with a time now. */
	wants("info  stop\n");
	wants("info  free three\n");
	wants_not("programs may notify");
}

static void test_end_within_two_seconds(void **state)
{
	struct child c;
	uint64_t before;

	(void)state;
	c = START("node.name=lingers");
	wants_notify("READY=1");
	before = daemon_now_us();
	kill(c.pid, SIGTERM);
	assert_int_equal(reap(c), 0);
	assert_true(daemon_now_us() - before >= DAEMON_STOP_US);
	assert_true(daemon_now_us() - before < 2000000);
	wants("ending before everything was closed in order");
	wants("free lingers");
	wants_notify("STOPPING=1");

	/* A second signal does not wait. */
	c = START("node.name=lingers");
	wants_notify("READY=1");
	before = daemon_now_us();
	kill(c.pid, SIGINT);
	wants_notify("STOPPING=1");
	kill(c.pid, SIGINT);
	assert_int_equal(reap(c), 0);
	assert_true(daemon_now_us() - before < 1000000);

	/* Nor does one that comes last of all change how it ended. */
	term_after = true;
	c = START("node.name=once");
	term_after = false;
	wants_notify("READY=1");
	kill(c.pid, SIGTERM);
	assert_int_equal(reap(c), 0);
	wants_notify("STOPPING=1");

	/* Not even a hanging close holds it up. */
	c = START("node.name=hangs");
	wants_notify("READY=1");
	before = daemon_now_us();
	kill(c.pid, SIGTERM);
	assert_int_equal(reap(c), 1);
	assert_true(daemon_now_us() - before < 2500000);
	wants("the end took too long, giving up");
}

static void test_start_that_ends(void **state)
{
	(void)state;
	assert_int_equal(reap(START("node.name=fails")), 1);
	wants("free fails");
	assert_int_equal(reap(START("node.name=exits")), 7);
	wants("free exits");
}

static void test_lock_and_cleanup(void **state)
{
	struct child c;

	(void)state;
	c = START("node.name=holder");
	wants_notify("READY=1");
	assert_int_equal(reap(START("node.name=second")), 1);
	wants("another testd runs with general.StateDir = ");
	assert_int_equal(reap(START("node.name=x", "--cleanup")), 1);
	wants_not("cleanup /");
	/* The lock of a killed daemon is free at once. */
	kill(c.pid, SIGKILL);
	assert_int_equal(reap(c), 256 + SIGKILL);
	assert_int_equal(reap(START("node.name=x", "--cleanup")), 0);
	wants("cleanup /tmp/meshnet-daemon-");
	wants_not("start x");
}

static void test_files(void **state)
{
	(void)state;
	assert_int_equal(reap(START("node.name=files few")), 0);
	wants("400 files may be open (ulimit -n), the configuration allows for 456");
	wants("limit 400");
	assert_int_equal(reap(START("node.name=files")), 0);
	wants_not("files may be open");
	wants("limit 456");
}

static void test_broken_pipe_is_survived(void **state)
{
	struct child c = START("node.name=x", "-d");

	(void)state;
	wants_notify("READY=1");
	close(c.out);
	c.out = open("/dev/null", O_RDONLY);
	kill(c.pid, SIGHUP);
	wants_notify("RELOADING=1");
	wants_notify("STATUS=x");
	wants_notify("READY=1");
	kill(c.pid, SIGTERM);
	assert_int_equal(reap(c), 0);
}

static void test_notify_paths(void **state)
{
	char path[100], got[32] = "";

	(void)state;
	close(notify_fd);
	snprintf(path, sizeof path, "%s/n.sock", dir);
	assert_int_equal(notify_open(path), 0);
	assert_int_equal(notify_to(path, "READY=1"), 0);
	assert_int_equal(recv(notify_fd, got, sizeof got - 1, 0), 7);
	assert_string_equal(got, "READY=1");
	unlink(path);
	assert_int_equal(notify_to(path, "READY=1"), -ENOENT);
	assert_int_equal(notify_to("relative", "READY=1"), -EINVAL);
	assert_int_equal(notify_to("", "READY=1"), -EINVAL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_arguments),
		T(test_check),
		T(test_life),
		T(test_end_within_two_seconds),
		T(test_start_that_ends),
		T(test_lock_and_cleanup),
		T(test_files),
		T(test_broken_pipe_is_survived),
		T(test_notify_paths),
	};

	return cmocka_run_group_tests_name("daemon", tests, NULL, NULL);
}
