/* Processes of helpers (io/helper.h) that outlived their daemon: found by the mark, ended. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/clock.h"
#include "io/hostjournal_int.h"

#define MARK "MESHNET_HELPER="
#define ENVIRON_MAX (1u << 20)
#define POLL_NS 5000000L
#define GENTLE_US 500000u /* from SIGTERM to SIGKILL */
#define GIVE_UP_US 3000000u
#define FOUND_MAX 64

/* Has this process (a directory of /proc) the variable in its environment? */
static bool environ_has(const char *pid, const char *variable)
{
	char path[48], buf[4096];
	size_t want = strlen(variable), seen = 0;
	bool found = false, begins = true;
	ssize_t n;

	cstr_print(path, sizeof path, "/proc/%.20s/environ", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	/* One byte at a time through a matcher: variables may lie across two reads. */
	for (size_t total = 0, hit = 0; !found && total < ENVIRON_MAX; total += seen) {
		n = read(fd, buf, sizeof buf);
		if (n <= 0)
			break;
		seen = (size_t)n;
		for (const char *at = buf; at < buf + n && !found; at++) {
			if (*at == '\0') {
				found = begins && hit == want;
				begins = true;
				hit = 0;
			} else if (begins && hit < want && *at == variable[hit]) {
				hit++;
			} else {
				begins = false;
			}
		}
	}
	close(fd);
	return found;
}

/* Descriptors of what was found at first.  A process that ends loses its environment before its
 * sockets and interfaces: only the descriptor says when it is gone. */
struct found {
	int fds[FOUND_MAX];
	int count;
};

/* The descriptor is taken first: after that the number cannot become somebody else's unseen. */
static bool signal_if_marked(const char *pid, const char *variable, int number, struct found *keep)
{
	if (!environ_has(pid, variable))
		return false;
	int fd = pidfd_open((pid_t)strtol(pid, NULL, 10), 0);
	if (fd < 0)
		return false;
	bool marked = environ_has(pid, variable);
	if (marked)
		pidfd_send_signal(fd, number, NULL, 0);
	if (marked && keep && keep->count < FOUND_MAX)
		keep->fds[keep->count++] = fd;
	else
		close(fd);
	return marked;
}

/* How many there were; a zombie has no environment and counts as gone. */
static int signal_marked(const char *variable, int number, struct found *keep)
{
	DIR *proc = opendir("/proc");
	struct dirent *d;
	int count = 0;

	if (!proc)
		return -errno;
	while ((d = readdir(proc)))
		if (isdigit((unsigned char)d->d_name[0]))
			count += signal_if_marked(d->d_name, variable, number, keep);
	closedir(proc);
	return count;
}

static void remove_socket(const char *path)
{
	struct stat st;

	if (*path && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path);
}

/* Waits for those that have lost their environment already; closes the descriptors. */
static void await_found(struct found *f, uint64_t until_us)
{
	for (int i = 0; i < f->count; i++) {
		struct pollfd p = {.fd = f->fds[i], .events = POLLIN};
		uint64_t now = daemon_now_us();
		if (now < until_us)
			poll(&p, 1, (int)((until_us - now) / 1000) + 1);
		close(f->fds[i]);
	}
}

int host_process_end(const struct host_process *p)
{
	static const struct timespec pause = {.tv_nsec = POLL_NS};
	char variable[sizeof MARK + HOST_PROCESS_MARK_MAX];
	uint64_t begun = daemon_now_us(), waited;
	struct found found = {.count = 0};
	int left;

	if (strlen(p->mark) != HOST_PROCESS_MARK_MAX)
		return 0; /* no journal of ours says so */
	cstr_print(variable, sizeof variable, "%s%s", MARK, p->mark);
	left = signal_marked(variable, SIGTERM, &found);
	if (left > 0)
		log_info("host: %s of an earlier run is ended", p->name);
	while (left > 0 && (waited = daemon_now_us() - begun) < GIVE_UP_US) {
		nanosleep(&pause, NULL);
		left = signal_marked(variable, waited < GENTLE_US ? 0 : SIGKILL, NULL);
	}
	await_found(&found, begun + GIVE_UP_US);
	if (left)
		return left < 0 ? left : -EBUSY;
	remove_socket(p->socket);
	return 0;
}
