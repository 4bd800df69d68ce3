#include "io/tun.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/sysctl.h"

#define TUN_DEVICE "/dev/net/tun"

struct tun {
	int fd;
	uint32_t index;
	char name[IFNAMSIZ];
	struct event *ev;
	tun_packet_cb *packet;
	tun_error_cb *error;
	void *arg;
	bool *freed; /* set while a callback runs: tun_free answers through it */
	uint8_t buf[TUN_PACKET_MAX];
};

/* The kernel's own router solicitations on a new interface would look like spoofing at the other
 * end.  A host without IPv6 has no such key. */
static void quiet_ipv6(const char *name)
{
	char key[64];

	snprintf(key, sizeof key, "net.ipv6.conf.%s.addr_gen_mode", name);
	for (char *p = key + strlen("net.ipv6.conf."); *p && p < strrchr(key, '.'); p++)
		if (*p == '.')
			*p = '/';
	sysctl_write(key, "1");
}

static int tun_attach(struct tun *t, const char *name)
{
	struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};

	if (!*name || strlen(name) >= IFNAMSIZ)
		return -EINVAL;
	memcpy(ifr.ifr_name, name, strlen(name) + 1);
	t->fd = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (t->fd < 0)
		return -errno;
	if (ioctl(t->fd, TUNSETIFF, &ifr) < 0)
		return -errno;
	memcpy(t->name, ifr.ifr_name, IFNAMSIZ - 1);
	t->index = if_nametoindex(t->name);
	if (!t->index)
		return -errno;
	quiet_ipv6(t->name);
	return 0;
}

/* False when the batch must end: nothing left, an error, or the owner freed us. */
static bool tun_read_one(struct tun *t)
{
	bool freed = false;
	ssize_t n = read(t->fd, t->buf, sizeof t->buf);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	t->freed = &freed;
	if (n >= 0) {
		t->packet(t->buf, (size_t)n, t->arg);
	} else {
		event_del(t->ev);
		if (t->error)
			t->error(-errno, t->arg);
	}
	if (!freed)
		t->freed = NULL;
	return !freed && n >= 0 && event_pending(t->ev, EV_READ, NULL);
}

static void tun_readable(evutil_socket_t fd, short what, void *arg)
{
	struct tun *t = arg;

	(void)fd;
	(void)what;
	for (int i = 0; i < TUN_READ_BATCH && t->packet; i++)
		if (!tun_read_one(t))
			return;
}

int tun_open(struct tun **out, struct event_base *base, const char *name)
{
	struct tun *t = calloc(1, sizeof *t);
	int rc;

	if (!t)
		return -ENOMEM;
	t->fd = -1;
	rc = tun_attach(t, name);
	if (!rc) {
		t->ev = event_new(base, t->fd, EV_READ | EV_PERSIST, tun_readable, t);
		rc = t->ev ? 0 : -ENOMEM;
	}
	if (rc) {
		tun_free(t);
		return rc;
	}
	*out = t;
	return 0;
}

void tun_free(struct tun *t)
{
	if (!t)
		return;
	if (t->freed)
		*t->freed = true;
	if (t->ev)
		event_free(t->ev);
	if (t->fd >= 0)
		close(t->fd);
	free(t);
}

const char *tun_name(const struct tun *t)
{
	return t->name;
}

uint32_t tun_index(const struct tun *t)
{
	return t->index;
}

void tun_set_callbacks(struct tun *t, tun_packet_cb *packet, tun_error_cb *error, void *arg)
{
	t->packet = packet;
	t->error = error;
	t->arg = arg;
}

int tun_set_reading(struct tun *t, bool on)
{
	int rc = on ? event_add(t->ev, NULL) : event_del(t->ev);

	return rc ? -ENOMEM : 0;
}

int tun_write(struct tun *t, const uint8_t *packet, size_t len)
{
	ssize_t n = write(t->fd, packet, len);

	if (n < 0)
		return errno == ENOBUFS ? -EAGAIN : -errno;
	return 0;
}

int tun_probe(void)
{
	int fd = open(TUN_DEVICE, O_RDWR | O_CLOEXEC);
	unsigned features;

	if (fd < 0)
		return errno == EACCES ? -EPERM : -errno;
	int rc = ioctl(fd, TUNGETFEATURES, &features) < 0 ? -errno : 0;
	close(fd);
	/* The device node opens for everybody; making an interface needs the capability. */
	return rc ? rc : geteuid() ? -EPERM : 0;
}
