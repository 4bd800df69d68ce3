/* The filter of system calls: what goes on, what is refused, what ends the process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/sandbox.h"

static int first; /* not 0: there is no filter here */

/* The wait status of a child that runs `act` in the sandbox and ends with what it returns. */
static int in_sandbox(int (*act)(void))
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0)
		_exit(sandbox_enter() ? 99 : act());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void *nothing(void *arg)
{
	return arg;
}

static int act_usual(void)
{
	pthread_t thread;
	char byte;
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC), ends[2];

	if (fd < 0 || write(fd, "x", 1) != 1 || read(fd, &byte, 1) != 0 || pipe(ends))
		return 1;
	if (pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL))
		return 2;
	return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) < 0 ||
			       socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0) < 0 ||
			       socket(AF_UNIX, SOCK_DGRAM, 0) < 0 ||
			       socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE) < 0
		       ? 3
		       : 0;
}

/* EPERM from the filter even where root might. */
static int refused(int family, int type)
{
	errno = 0;
	return socket(family, type, 0) < 0 && errno == EPERM ? 0 : 1;
}

/* What a TUN interface is read and written by: without these each packet costs three calls.  (libc
 * has an answer of its own where the kernel has none.) */
static int act_nowait(void)
{
	char byte = 0;
	struct iovec v = {&byte, 1};
	int ends[2];

	if (pipe(ends))
		return 1;
	errno = 0;
	if (syscall(SYS_preadv2, ends[0], &v, 1, -1L, -1L, RWF_NOWAIT) < 0 && errno == ENOSYS)
		return 2;
	errno = 0;
	return syscall(SYS_pwritev2, ends[1], &v, 1, -1L, -1L, RWF_NOWAIT) < 0 && errno == ENOSYS
		       ? 3
		       : 0;
}

static int act_sockets(void)
{
	return refused(AF_PACKET, SOCK_DGRAM) || refused(AF_INET, SOCK_RAW | SOCK_CLOEXEC) ||
	       refused(AF_INET6, SOCK_RAW) || refused(AF_INET, SOCK_SEQPACKET) ||
	       refused(AF_VSOCK, SOCK_STREAM);
}

static int act_unknown(void)
{
	errno = 0;
	return syscall(SYS_quotactl, 0, 0, 0, 0) < 0 && errno == ENOSYS ? 0 : 1;
}

static int act_no_such(void)
{
	errno = 0;
	return syscall(4999) < 0 && errno == ENOSYS ? 0 : 1;
}

static int act_exec(void)
{
	char *const argv[] = {"true", NULL};

	return execve("/bin/true", argv, NULL);
}

static int act_ptrace(void)
{
	return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static void *exec_thread(void *arg)
{
	act_exec();
	return arg;
}

static int act_exec_in_thread(void)
{
	pthread_t thread;

	if (!pthread_create(&thread, NULL, exec_thread, NULL))
		pthread_join(thread, NULL);
	return 0;
}

static void need_filter(void)
{
	if (first)
		skip();
}

static void test_goes_on(void **state)
{
	(void)state;
	need_filter();
	assert_int_equal(in_sandbox(act_usual), 0);
	assert_int_equal(in_sandbox(act_nowait), 0);
}

static void test_refused(void **state)
{
	(void)state;
	need_filter();
	assert_int_equal(in_sandbox(act_sockets), 0);
	assert_int_equal(in_sandbox(act_unknown), 0);
	assert_int_equal(in_sandbox(act_no_such), 0);
}

static void ends(int status)
{
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void test_ends_the_process(void **state)
{
	(void)state;
	need_filter();
	ends(in_sandbox(act_exec));
	ends(in_sandbox(act_ptrace));
	ends(in_sandbox(act_exec_in_thread));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_goes_on),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_ends_the_process),
	};
	pid_t pid = fork();
	int status = 0;

	/* Sanitized, or a machine without a list. */
	if (pid == 0)
		_exit(sandbox_enter() == -EOPNOTSUPP ? 1 : 0);
	waitpid(pid, &status, 0);
	first = status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
