#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/sockaddr.h"
#include "io/timer.h"
#include "socks/client.h"

#define DATAGRAM_MAX 65535u
#define READS_MAX 32 /* in a row */

struct association {
	struct client *client;
	struct net_addr peer; /* port 0: not known yet */
	uint32_t stream;
	int fd;
	struct event *readable;
	uint64_t last_us;
};

static void dropped(struct association *a, const char *why)
{
	if (log_limit_due(&a->client->limits.datagrams, daemon_now_us()))
		log_info("socks-client: a datagram is dropped: %s (%llu so far)", why,
			 (unsigned long long)a->client->limits.datagrams.count);
}

/* Others on the host, or in the network, have no business here. */
static bool is_from_peer(struct association *a, const struct net_addr *from)
{
	if (!net_addr_same_ip(&a->peer, from))
		return false;
	if (a->peer.port == 0)
		a->peer.port = from->port;
	return a->peer.port == from->port;
}

static void to_mesh(struct association *a, const uint8_t *data, size_t len)
{
	static uint8_t record[MUX_RECORD_HEADER_MAX + DATAGRAM_MAX];
	struct wbuf w = wbuf_init(record, sizeof record);
	struct socks_addr to;
	struct bytes payload;
	int rc = socks5_read_datagram(data, len, &to, &payload);

	if (rc) {
		dropped(a, rc == -EOPNOTSUPP ? "a fragment" : "malformed");
		return;
	}
	mux_record_write_header(&w, a->stream, &to);
	wbuf_copy(&w, payload.data, payload.len);
	rc = uplink_send_record(a->client->uplink, record, wbuf_len(&w));
	if (rc)
		dropped(a, strerror(-rc));
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	static uint8_t buffer[DATAGRAM_MAX];
	struct association *a = arg;
	struct sockaddr_storage ss;
	struct net_addr from;

	(void)what;
	for (unsigned i = 0; i < READS_MAX; i++) {
		socklen_t ss_len = sizeof ss;
		ssize_t n = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&ss, &ss_len);
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0)
			continue;
		sockaddr_to_net(&from, (struct sockaddr *)&ss);
		if (!is_from_peer(a, &from)) {
			dropped(a, "from somebody else");
			continue;
		}
		a->last_us = daemon_now_us();
		to_mesh(a, buffer, (size_t)n);
	}
}

void association_record(struct association *a, const struct mux_record *record)
{
	static uint8_t datagram[3 + SOCKS_ADDR_BYTES_MAX + DATAGRAM_MAX];
	struct wbuf w = wbuf_init(datagram, sizeof datagram);
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_from_net(&ss, &a->peer);

	if (a->peer.port == 0) {
		dropped(a, "its owner has not sent any yet");
		return;
	}
	socks5_write_datagram_header(&w, &record->addr);
	wbuf_copy(&w, record->payload.data, record->payload.len);
	a->last_us = daemon_now_us();
	if (w.bad || sendto(a->fd, datagram, wbuf_len(&w), 0, (struct sockaddr *)&ss, len) < 0)
		dropped(a, w.bad ? "too large" : strerror(errno));
}

static int open_socket(struct association *a, const struct net_addr *own)
{
	struct sockaddr_storage ss;
	struct net_addr any_port = *own;

	any_port.port = 0;
	socklen_t len = sockaddr_from_net(&ss, &any_port);
	a->fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (a->fd < 0 || bind(a->fd, (struct sockaddr *)&ss, len))
		return errno;
	a->readable = event_new(a->client->base, a->fd, EV_READ | EV_PERSIST, on_readable, a);
	return a->readable && event_add(a->readable, NULL) == 0 ? 0 : ENOMEM;
}

struct association *association_new(struct client *c, const struct net_addr *own,
				    const struct net_addr *peer, uint32_t stream)
{
	struct association *a = calloc(1, sizeof *a);
	int error;

	if (!a)
		return NULL;
	a->client = c;
	a->peer = *peer;
	a->stream = stream;
	a->fd = -1;
	a->last_us = daemon_now_us();
	error = open_socket(a, own);
	if (!error)
		return a;
	association_free(a);
	errno = error;
	return NULL;
}

void association_free(struct association *a)
{
	if (!a)
		return;
	event_drop(a->readable);
	if (a->fd >= 0)
		close(a->fd);
	free(a);
}

struct net_addr association_address(const struct association *a)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	struct net_addr out = {0};

	if (getsockname(a->fd, (struct sockaddr *)&ss, &len) == 0)
		sockaddr_to_net(&out, (struct sockaddr *)&ss);
	return out;
}

uint64_t association_last_us(const struct association *a)
{
	return a->last_us;
}
