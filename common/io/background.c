#include "io/background.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int pid_write(const char *path, pid_t pid)
{
	char text[24];
	int n = snprintf(text, sizeof text, "%d\n", (int)pid);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	int rc = fd < 0 ? -errno : 0;

	if (!rc && write(fd, text, (size_t)n) != n)
		rc = -EIO;
	if (fd >= 0)
		close(fd);
	if (rc)
		fprintf(stderr, "%s: %s\n", path, strerror(-rc));
	return rc;
}

/* The exit code of one that ended, or was ended, before it was ready. */
static int end_code(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1;
}

static int wait_ready(pid_t pid, int fd, const char *pid_file)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char byte;
	int n;

	do
		n = poll(&p, 1, BACKGROUND_SECONDS_MAX * 1000);
	while (n < 0 && errno == EINTR);
	if (n > 0 && read(fd, &byte, 1) == 1) {
		if (!pid_write(pid_file, pid))
			return 0;
		kill(pid, SIGTERM);
	} else if (n <= 0) {
		fprintf(stderr, "not ready after %d s, ended\n", BACKGROUND_SECONDS_MAX);
		kill(pid, SIGKILL);
	}
	return end_code(pid);
}

int background_enter(const char *pid_file, int *fd)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		int rc = -errno;

		close(ends[0]);
		close(ends[1]);
		return rc;
	}
	if (pid > 0) {
		close(ends[1]);
		_exit(wait_ready(pid, ends[0], pid_file));
	}
	close(ends[0]);
	*fd = ends[1];
	return setsid() < 0 ? -errno : 0;
}

void background_ready(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	ssize_t n;

	for (int i = 0; null >= 0 && i < 3; i++)
		dup2(null, i);
	if (null > 2)
		close(null);
	/* Who waited may have been ended: then nobody has to know. */
	n = write(fd, "", 1);
	(void)n;
	close(fd);
}
