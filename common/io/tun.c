#include "io/tun.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "io/netlink.h"
#include "io/sysctl.h"
#include "io/timer.h"

#define TUN_DEVICE "/dev/net/tun"

/* Linux 6.2 */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

struct tun {
	int fd;
	enum tun_kind kind;
	uint32_t index;
	char name[IFNAMSIZ];
	struct event *ev;
	tun_packet_cb *packet;
	tun_error_cb *error;
	tun_batch_end_cb *batch_end;
	void *arg;
	bool reading, freed; /* within a batch, whose end then gives the memory back */
	uint8_t buf[TUN_HEADER_MAX + TUN_PACKET_MAX];
};

/* The header is little-endian on the wire, so also here, whatever the host is. */
static int tun_little_endian(struct tun *t)
{
	int one = 1, bytes = TUN_HEADER_MAX;

	return ioctl(t->fd, TUNSETVNETHDRSZ, &bytes) < 0 || ioctl(t->fd, TUNSETVNETLE, &one) < 0
		       ? -errno
		       : 0;
}

static int tun_attach(struct tun *t, const char *name)
{
	struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	int rc = 0;

	if (!*name || strlen(name) >= IFNAMSIZ)
		return -EINVAL;
	if (t->kind == TUN_VNET)
		ifr.ifr_flags |= IFF_VNET_HDR;
	memcpy(ifr.ifr_name, name, strlen(name) + 1);
	t->fd = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (t->fd < 0)
		return -errno;
	if (ioctl(t->fd, TUNSETIFF, &ifr) < 0)
		return -errno;
	if (t->kind == TUN_VNET)
		rc = tun_little_endian(t);
	if (rc)
		return rc;
	memcpy(t->name, ifr.ifr_name, IFNAMSIZ - 1);
	t->index = if_nametoindex(t->name);
	if (!t->index)
		return -errno;
	sysctl_quiet_ipv6(t->name);
	return 0;
}

/* Kernels before 4.14 (and emulators) know no RWF_NOWAIT. */
static bool must_ask_first(int err)
{
	return err == EOPNOTSUPP || err == ENOSYS;
}

/* errno is EAGAIN when `events` are not there; a fault is left to the call that follows. */
static bool ready_now(struct tun *t, short events)
{
	struct pollfd p = {t->fd, events, 0};
	int n = poll(&p, 1, 0);

	if (!n)
		errno = EAGAIN;
	return n > 0;
}

/* Never waits, even when somebody who shares the interface has made it blocking. */
static ssize_t read_now(struct tun *t)
{
	const struct iovec v = {t->buf, sizeof t->buf};
	ssize_t n = preadv2(t->fd, &v, 1, -1, RWF_NOWAIT);

	if (n >= 0 || !must_ask_first(errno))
		return n;
	return ready_now(t, POLLIN) ? read(t->fd, t->buf, sizeof t->buf) : -1;
}

static ssize_t write_now(struct tun *t, const struct iovec *v, int count)
{
	ssize_t n = pwritev2(t->fd, v, count, -1, RWF_NOWAIT);

	if (n >= 0 || !must_ask_first(errno))
		return n;
	return ready_now(t, POLLOUT) ? writev(t->fd, v, count) : -1;
}

/* False when the batch must end: nothing left, an error, or the owner freed us. */
static bool tun_read_one(struct tun *t, size_t *bytes)
{
	ssize_t n = read_now(t);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	*bytes += n > 0 ? (size_t)n : 0;
	if (n >= 0) {
		t->packet(t->buf, (size_t)n, t->arg);
	} else {
		event_del(t->ev);
		if (t->error)
			t->error(-errno, t->arg);
	}
	return !t->freed && n >= 0 && event_pending(t->ev, EV_READ, NULL);
}

static void tun_readable(evutil_socket_t fd, short what, void *arg)
{
	struct tun *t = arg;
	size_t bytes = 0;

	(void)fd;
	(void)what;
	t->reading = true;
	for (int i = 0; i < TUN_READ_BATCH && bytes < TUN_READ_BYTES && t->packet; i++)
		if (!tun_read_one(t, &bytes))
			break;
	if (!t->freed && bytes && t->batch_end)
		t->batch_end(t->arg);
	t->reading = false;
	if (t->freed)
		free(t);
}

static struct tun *tun_new(enum tun_kind kind, int fd)
{
	struct tun *t = calloc(1, sizeof *t);

	if (!t)
		return NULL;
	t->fd = fd;
	t->kind = kind;
	return t;
}

static int make_event(struct tun *t, struct event_base *base)
{
	t->ev = event_new(base, t->fd, EV_READ | EV_PERSIST, tun_readable, t);
	return t->ev ? 0 : -ENOMEM;
}

static int check_adopted(struct tun *t)
{
	const short looked_at = IFF_TUN | IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	short want = IFF_TUN | IFF_NO_PI;
	struct ifreq ifr = {0};
	int flags, bytes = TUN_HEADER_MAX;

	if (t->kind == TUN_VNET)
		want |= IFF_VNET_HDR;
	if (ioctl(t->fd, TUNGETIFF, &ifr) < 0 || (ifr.ifr_flags & looked_at) != want ||
	    (t->kind == TUN_VNET && ioctl(t->fd, TUNGETVNETHDRSZ, &bytes) < 0) ||
	    bytes != TUN_HEADER_MAX)
		return -EINVAL;
	memcpy(t->name, ifr.ifr_name, IFNAMSIZ - 1);
	flags = fcntl(t->fd, F_GETFL);
	return flags < 0 || fcntl(t->fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int tun_adopt(struct tun **out, struct event_base *base, int fd, enum tun_kind kind)
{
	struct tun *t = tun_new(kind, fd);
	int rc;

	if (!t) {
		close(fd);
		return -ENOMEM;
	}
	rc = check_adopted(t);
	if (!rc)
		rc = make_event(t, base);
	if (rc) {
		tun_free(t);
		return rc;
	}
	*out = t;
	return 0;
}

int tun_fd(const struct tun *t)
{
	return t->fd;
}

int tun_open(struct tun **out, struct event_base *base, const char *name, enum tun_kind kind)
{
	struct tun *t = tun_new(kind, -1);
	int rc;

	if (!t)
		return -ENOMEM;
	rc = tun_attach(t, name);
	if (!rc)
		rc = make_event(t, base);
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
	event_drop(t->ev);
	if (t->fd >= 0)
		close(t->fd);
	t->freed = true;
	if (!t->reading)
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

void tun_set_batch_end(struct tun *t, tun_batch_end_cb *batch_end)
{
	t->batch_end = batch_end;
}

int tun_set_reading(struct tun *t, bool on)
{
	int rc = on ? event_add(t->ev, NULL) : event_del(t->ev);

	return rc ? -ENOMEM : 0;
}

int tun_set_offload(struct tun *t, bool on)
{
	const unsigned long tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

	if (t->kind != TUN_VNET)
		return on ? -EOPNOTSUPP : 0;
	if (on && (ioctl(t->fd, TUNSETOFFLOAD, tcp | TUN_F_USO4 | TUN_F_USO6) == 0 ||
		   ioctl(t->fd, TUNSETOFFLOAD, tcp) == 0))
		return 0;
	int rc = on ? -errno : 0;
	if (ioctl(t->fd, TUNSETOFFLOAD, 0ul) < 0 && !rc)
		rc = -errno;
	return rc;
}

static int written(ssize_t n)
{
	if (n < 0)
		return errno == ENOBUFS ? -EAGAIN : -errno;
	return 0;
}

int tun_write(struct tun *t, const uint8_t *packet, size_t len)
{
	const struct iovec v = {(void *)(uintptr_t)packet, len};

	return written(write_now(t, &v, 1));
}

int tun_write_plain(struct tun *t, const uint8_t *packet, size_t len)
{
	static const uint8_t none[TUN_HEADER_MAX];
	const struct iovec v[] = {{(void *)(uintptr_t)none, sizeof none},
				  {(void *)(uintptr_t)packet, len}};

	return t->kind == TUN_VNET ? written(write_now(t, v, 2)) : tun_write(t, packet, len);
}

static int tun_features(unsigned *features)
{
	int fd = open(TUN_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return errno == EACCES ? -EPERM : -errno;
	int rc = ioctl(fd, TUNGETFEATURES, features) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

bool tun_probe_vnet(void)
{
	unsigned features = 0;

	return tun_features(&features) == 0 && (features & IFF_VNET_HDR);
}

int tun_probe(void)
{
	unsigned features;
	int rc = tun_features(&features);

	/* The device node opens for everybody; making an interface needs the capability. */
	return rc ? rc : geteuid() ? -EPERM : 0;
}

/* It stays only once it carries our mark: a crash in between leaves nothing. */
int tun_make(struct nl *nl, const char *name)
{
	struct ifreq ifr = {.ifr_flags = (short)(IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL)};
	int fd, rc = nl_link_index(nl, name);

	if (rc != -ENODEV)
		return rc > 0 ? -EEXIST : rc;
	if (!*name || strlen(name) >= IFNAMSIZ)
		return -EINVAL;
	memcpy(ifr.ifr_name, name, strlen(name) + 1);
	fd = open(TUN_DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : nl_link_index(nl, name);
	if (rc == -EBUSY)
		rc = -EEXIST;
	if (rc > 0)
		rc = nl_link_claim(nl, (uint32_t)rc);
	if (!rc && ioctl(fd, TUNSETPERSIST, 1) < 0)
		rc = -errno;
	if (!rc)
		sysctl_quiet_ipv6(name);
	close(fd);
	return rc;
}
