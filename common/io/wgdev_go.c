/*
 * wireguard-go: a process that owns a TUN interface and listens on a socket named after it.  All
 * network namespaces share the folder of these sockets, so it gets a random name; then we give the
 * interface the name that is wanted, and keep the first one as an alternative, by which the process
 * asks for the MTU.
 */
#include "io/wgdev_int.h"

#include <errno.h>
#include <sodium.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/clock.h"
#include "io/privileges.h"
#include "io/timer.h"
#include "io/wguapi.h"

#define SOCKET_PATH "/var/run/wireguard/%s.sock"
#define ANSWER_TIMEOUT_US 500000
#define STEP_US 5000
#define NAME_TRIES 64

/* ---- questions ---- */

static int dial(const struct wgdev *d)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct timeval tv = {.tv_usec = ANSWER_TIMEOUT_US};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	memcpy(a.sun_path, d->socket, strlen(d->socket) + 1);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) ||
	    connect(fd, (struct sockaddr *)&a, sizeof a)) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

static int answer(int fd, struct wguapi *p)
{
	char buf[8192];

	while (!p->done) {
		ssize_t n = recv(fd, buf, sizeof buf, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 ? -ECONNRESET : errno == EAGAIN ? -ETIMEDOUT : -errno;
		wguapi_feed(p, buf, (size_t)n);
		sodium_memzero(buf, (size_t)n); /* it tells the private key, too */
	}
	return p->result;
}

static int ask(const struct wgdev *d, const char *request, size_t len, wgdev_visit *visit,
	       void *ctx)
{
	struct wguapi p;
	int fd, rc;

	if (!len)
		return -EINVAL;
	fd = dial(d);
	if (fd < 0)
		return fd;
	wguapi_init(&p, visit, ctx);
	ssize_t n = send(fd, request, len, MSG_NOSIGNAL);
	rc = n < 0 ? -errno : (size_t)n == len ? answer(fd, &p) : -EIO;
	close(fd);
	sodium_memzero(&p, sizeof p);
	return rc;
}

static int go_set_peer(struct wgdev *d, const struct wgdev_peer *peer)
{
	char request[WGUAPI_REQUEST_MAX];
	int rc = ask(d, request, wguapi_peer(request, peer), NULL, NULL);

	sodium_memzero(request, sizeof request);
	return rc;
}

static int go_set_endpoint(struct wgdev *d, const uint8_t key[WG_KEY_BYTES],
			   const struct net_addr *endpoint)
{
	char request[WGUAPI_REQUEST_MAX];

	return ask(d, request, wguapi_endpoint(request, key, endpoint), NULL, NULL);
}

static int go_remove_peer(struct wgdev *d, const uint8_t key[WG_KEY_BYTES])
{
	char request[WGUAPI_REQUEST_MAX];

	return ask(d, request, wguapi_remove(request, key), NULL, NULL);
}

static int go_list(struct wgdev *d, wgdev_visit *visit, void *ctx)
{
	return ask(d, "get=1\n\n", 7, visit, ctx);
}

/* ---- starting ---- */

static int device_configure(struct wgdev *d)
{
	char request[WGUAPI_REQUEST_MAX];
	int rc = ask(d, request, wguapi_device(request, d->secret, d->port), NULL, NULL);

	sodium_memzero(request, sizeof request);
	return rc;
}

static int take_name(struct wgdev *d)
{
	int rc = -EEXIST, index = nl_link_index(d->nl, d->made);

	if (index < 0)
		return index;
	d->index = (uint32_t)index;
	/* Somebody may take a free name before us. */
	for (int i = 0; rc == -EEXIST && i < NAME_TRIES; i++) {
		rc = nl_link_free_name(d->nl, d->wanted, d->interface);
		if (!rc)
			rc = nl_link_rename(d->nl, d->index, d->interface);
	}
	if (rc)
		d->interface[0] = '\0';
	else if (nl_link_add_altname(d->nl, d->index, d->made))
		log_debug("wireguard-go: %s has no alternative name", d->interface);
	return rc;
}

static void start_failed(struct wgdev *d, const char *what, int rc)
{
	cstr_print(d->lost, sizeof d->lost, "%s: %.30s", what, strerror(-rc));
	event_active(d->timer, EV_TIMEOUT, 0);
}

static void go_step(struct wgdev *d)
{
	int fd = *d->lost || d->ready ? -EALREADY : dial(d), rc;

	if (fd < 0) {
		if (!*d->lost && !d->ready && daemon_now_us() >= d->deadline_us)
			start_failed(d, "wireguard-go does not answer", fd);
		return;
	}
	close(fd);
	rc = device_configure(d);
	if (rc) {
		start_failed(d, rc == -EADDRINUSE ? "its port is in use" : "wireguard-go", rc);
		return;
	}
	rc = take_name(d);
	if (!rc)
		rc = wgdev_up(d);
	if (rc)
		start_failed(d, "its interface", rc);
}

static void go_timer(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval again = {.tv_usec = STEP_US};
	struct wgdev *d = arg;

	(void)fd, (void)what;
	if (!*d->lost && !d->ready)
		go_step(d);
	if (*d->lost)
		wgdev_fail(d, d->lost); /* it may be closed in there */
	else if (!d->ready)
		event_add(d->timer, &again);
}

static void go_exited(struct child *c, int status, void *arg)
{
	struct wgdev *d = arg;
	char text[48];

	(void)c;
	if (*d->lost)
		return;
	cstr_print(d->lost, sizeof d->lost, "wireguard-go ended: %s",
		   child_status_text(status, text));
	event_active(d->timer, EV_TIMEOUT, 0);
}

static int port_try(int family, const void *sa, socklen_t len)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = 0, on = 1;

	if (fd < 0)
		return 0; /* a host without this family */
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	if (bind(fd, sa, len) && errno == EADDRINUSE)
		rc = -EADDRINUSE;
	close(fd);
	return rc;
}

/* wireguard-go opens its port when its interface is up, and would only write into its log. */
static int port_check(uint16_t port)
{
	const struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	const struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	int rc = port ? port_try(AF_INET, &any4, sizeof any4) : 0;

	return rc || !port ? rc : port_try(AF_INET6, &any6, sizeof any6);
}

static int go_open(struct wgdev *d, char why[WGDEV_WHY_MAX])
{
	static const char *const env[] = {"LOG_LEVEL=error", NULL};
	static const struct timeval soon = {.tv_usec = STEP_US};
	const char *const argv[] = {"wireguard-go", "-f", d->made, NULL};
	const struct helper_spec spec = {.name = "wireguard-go",
					 .argv = argv,
					 .env = env,
					 .privileges = PRIVILEGES_NETWORK,
					 .socket = d->socket,
					 .on_exit = go_exited,
					 .arg = d};
	int rc = port_check(d->port);

	if (rc) {
		cstr_print(why, WGDEV_WHY_MAX, "its port is in use: %s", strerror(-rc));
		return rc;
	}
	cstr_print(d->made, sizeof d->made, "mnw%08x", (unsigned)randombytes_random());
	cstr_print(d->socket, sizeof d->socket, SOCKET_PATH, d->made);
	d->deadline_us = daemon_now_us() + WGDEV_START_US;
	d->timer = timer_new(d->base, go_timer, d);
	rc = d->timer && event_add(d->timer, &soon) == 0 ? 0 : -ENOMEM;
	if (!rc)
		rc = helper_start(&d->process, d->base, d->journal, &spec);
	if (rc)
		cstr_print(why, WGDEV_WHY_MAX, "wireguard-go: %s", strerror(-rc));
	return rc;
}

static void go_close(struct wgdev *d)
{
	event_drop(d->timer);
	helper_free(d->process); /* its interface goes with it */
}

const struct wgdev_ops wgdev_go_ops = {
	.open = go_open,
	.close = go_close,
	.step = go_step,
	.set_peer = go_set_peer,
	.set_endpoint = go_set_endpoint,
	.remove_peer = go_remove_peer,
	.list = go_list,
};
