#include "subscriberd/probe.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cstr.h"
#include "io/clock.h"
#include "io/sockaddr.h"
#include "io/timer.h"

#define PAYLOAD_BYTES 16 /* serial and a number of ours */

struct probe {
	struct event_base *base;
	probe_cb *cb;
	void *arg;
	char interface[32];
	struct net_addr source, target;
	int fd; /* ICMP socket, or the TCP connect under way; -1 */
	struct event *io, *timer;
	uint64_t serial, sent_us, nonce;
	bool outstanding;
};

static void on_timer(evutil_socket_t fd, short what, void *arg);

struct probe *probe_new(struct event_base *base, probe_cb *cb, void *arg)
{
	struct probe *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	*p = (struct probe){.base = base, .cb = cb, .arg = arg, .fd = -1};
	p->timer = timer_new(base, on_timer, p);
	if (!p->timer) {
		free(p);
		return NULL;
	}
	return p;
}

static void close_socket(struct probe *p)
{
	event_drop(p->io);
	p->io = NULL;
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

void probe_close(struct probe *p)
{
	close_socket(p);
	event_del(p->timer);
	p->outstanding = false;
	p->target.family = 0;
}

void probe_free(struct probe *p)
{
	if (!p)
		return;
	probe_close(p);
	event_free(p->timer);
	free(p);
}

static void finish(struct probe *p, bool answered)
{
	double rtt_ms = (double)(daemon_now_us() - p->sent_us) / 1000.0;

	if (!p->outstanding)
		return;
	p->outstanding = false;
	event_del(p->timer);
	if (p->target.port)
		close_socket(p);
	p->cb(p->serial, answered, rtt_ms, p->arg);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	finish(arg, false);
}

/* So that the rule for this address leads it to its own tunnel, whichever is in use. */
static int bind_source(struct probe *p)
{
	struct sockaddr_storage from;
	struct net_addr source = p->source;

	if (source.family != p->target.family)
		return 0;
	source.port = 0;
	socklen_t len = sockaddr_from_net(&from, &source);
	return bind(p->fd, (struct sockaddr *)&from, len);
}

static int open_socket(struct probe *p, int type, int protocol)
{
	int family = p->target.family == 4 ? AF_INET : AF_INET6;

	p->fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
	if (p->fd < 0)
		return -errno;
	if (setsockopt(p->fd, SOL_SOCKET, SO_BINDTODEVICE, p->interface,
		       (socklen_t)strlen(p->interface)) < 0 ||
	    bind_source(p) < 0) {
		int err = -errno;
		close_socket(p);
		return err;
	}
	return 0;
}

/* --- ICMP echo ---------------------------------------------------------------------------- */

/* RFC 1071; the kernel does ICMPv6's. */
static uint16_t checksum(const uint8_t *data, size_t len)
{
	uint32_t sum = 0;
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)data[i] << 8 | data[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static int send_echo(struct probe *p)
{
	uint8_t m[8 + PAYLOAD_BYTES] = {p->target.family == 4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST};
	struct sockaddr_storage to;
	socklen_t len = sockaddr_from_net(&to, &p->target);

	be64_put(m + 8, p->nonce);
	be64_put(m + 16, p->serial);
	if (p->target.family == 4) {
		uint16_t sum = checksum(m, sizeof m);
		m[2] = (uint8_t)(sum >> 8);
		m[3] = (uint8_t)sum;
	}
	return sendto(p->fd, m, sizeof m, 0, (struct sockaddr *)&to, len) < 0 ? -errno : 0;
}

static void on_icmp(evutil_socket_t fd, short what, void *arg)
{
	struct probe *p = arg;
	uint8_t m[512];
	ssize_t n;

	(void)what;
	while ((n = recv(fd, m, sizeof m, 0)) > 0) {
		struct bytes b = {m, (size_t)n};
		if (p->target.family == 4) {
			size_t header = (size_t)(m[0] & 15) * 4;
			if (header < 20 || header > b.len)
				continue;
			b = bytes_of(m + header, b.len - header);
		}
		uint8_t reply = p->target.family == 4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY;
		if (b.len < 8 + PAYLOAD_BYTES || b.data[0] != reply ||
		    be64_get(b.data + 8) != p->nonce || be64_get(b.data + 16) != p->serial)
			continue;
		finish(p, true);
		return;
	}
}

static int open_icmp(struct probe *p)
{
	int protocol = p->target.family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	int err = open_socket(p, SOCK_RAW, protocol);

	if (err)
		return err;
	p->io = event_new(p->base, p->fd, EV_READ | EV_PERSIST, on_icmp, p);
	if (!p->io || event_add(p->io, NULL) < 0) {
		close_socket(p);
		return -ENOMEM;
	}
	return 0;
}

/* --- TCP connect -------------------------------------------------------------------------- */

static void on_tcp(evutil_socket_t fd, short what, void *arg)
{
	int err = 0;
	socklen_t len = sizeof err;

	(void)what;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
	/* A refusal came from the target as well: the way there and back works. */
	finish(arg, err == 0 || err == ECONNREFUSED);
}

static int send_tcp(struct probe *p)
{
	struct sockaddr_storage to;
	socklen_t len = sockaddr_from_net(&to, &p->target);
	int err;

	close_socket(p);
	err = open_socket(p, SOCK_STREAM, 0);
	if (err)
		return err;
	if (connect(p->fd, (struct sockaddr *)&to, len) < 0 && errno != EINPROGRESS)
		return -errno;
	p->io = event_new(p->base, p->fd, EV_WRITE, on_tcp, p);
	return p->io && event_add(p->io, NULL) == 0 ? 0 : -ENOMEM;
}

int probe_open(struct probe *p, const char *interface, const struct net_addr *source,
	       const struct net_addr *target)
{
	probe_close(p);
	cstr_copy(p->interface, sizeof p->interface, interface);
	p->source = *source;
	p->target = *target;
	p->nonce = daemon_wall_us() ^ (uint64_t)getpid() << 40;
	return target->port ? 0 : open_icmp(p);
}

void probe_send(struct probe *p, uint64_t serial, uint64_t timeout_us)
{
	p->serial = serial;
	p->sent_us = daemon_now_us();
	p->outstanding = true;
	if (p->target.port)
		(void)send_tcp(p);
	else if (p->fd >= 0)
		(void)send_echo(p);
	/* What could not be sent is a probe lost: the timer says so. */
	timer_in(p->timer, timeout_us);
}
