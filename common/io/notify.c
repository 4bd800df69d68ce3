#include "io/notify.h"

#include <errno.h>
#include <event2/event.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "io/timer.h"

int notify_to(const char *path, const char *text)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	ssize_t sent;
	int fd, rc = 0;

	if ((path[0] != '/' && path[0] != '@') || len >= sizeof sun.sun_path)
		return -EINVAL;
	memcpy(sun.sun_path, path, len);
	if (path[0] == '@')
		sun.sun_path[0] = '\0';
	else
		len++;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	sent = sendto(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&sun,
		      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	if (sent < 0)
		rc = -errno;
	close(fd);
	return rc;
}

const char *notify_take(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	unsetenv("NOTIFY_SOCKET"); /* what it said stays where it is */
	return path;
}

void notify(const char *path, const char *text)
{
	int rc;

	if (!path || !*path)
		return;
	rc = notify_to(path, text);
	if (rc)
		log_warn("service manager: %s", strerror(-rc));
}

static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	notify(arg, "WATCHDOG=1");
}

struct event *notify_watchdog(struct event_base *base, const char *path)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	unsigned long long each = usec ? strtoull(usec, NULL, 10) / 2 : 0;
	struct event *e;

	if (!each || (pid && strtol(pid, NULL, 10) != getpid()))
		return NULL;
	e = event_new(base, -1, EV_PERSIST, on_watchdog, (void *)(uintptr_t)path);
	if (e && timer_in(e, each)) {
		event_free(e);
		return NULL;
	}
	return e;
}
