/* UDP of one association: a socket towards the client, and one of each family to the rest, made
 * when it is first needed.  Anybody may answer, as behind address translation that is kind. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/sockaddr.h"
#include "io/timer.h"
#include "tunnel/socksserver_int.h"

#define DATAGRAM_MAX 65535u
#define HEADER_MAX (3u + 1u + 16u + 2u)
#define READS_MAX 32
#define ALLOWED_US 1000000u /* a destination is asked about again after this long */

struct socksrelay {
	struct socks_session *session;
	int fds[3]; /* to the client; IPv4, IPv6 */
	struct event *events[3];
	struct net_addr client; /* port 0: has not sent yet */
	struct net_addr allowed;
	uint64_t allowed_us, last_us;
};

enum { CLIENT, OUT4, OUT6 };

static struct tunnel_counters *counters(struct socksrelay *r)
{
	return &r->session->lease->counters;
}

static int open_socket(struct socksrelay *r, int which, const struct net_addr *at,
		       event_callback_fn cb)
{
	struct sockaddr_storage ss;
	const int on = 1;
	socklen_t len = sockaddr_from_net(&ss, at);
	int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (at->family == 6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	r->events[which] = event_new(r->session->server->base, fd, EV_READ | EV_PERSIST, cb, r);
	if (r->events[which] && bind(fd, (struct sockaddr *)&ss, len) == 0 &&
	    event_add(r->events[which], NULL) == 0) {
		r->fds[which] = fd;
		return 0;
	}
	event_drop(r->events[which]);
	r->events[which] = NULL;
	close(fd);
	return -EADDRNOTAVAIL;
}

/* -1: nothing there, or an ICMP error of an earlier datagram (errno says which). */
static ssize_t receive(int fd, uint8_t *buffer, struct net_addr *from)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	ssize_t n = recvfrom(fd, buffer, DATAGRAM_MAX, 0, (struct sockaddr *)&ss, &len);

	if (n >= 0)
		sockaddr_to_net(from, (struct sockaddr *)&ss);
	return n;
}

/* ---- to the client ---- */

static void to_client(struct socksrelay *r, const struct net_addr *from, uint8_t *payload,
		      size_t len)
{
	size_t header = from->family == 4 ? 10 : 22;
	struct wbuf w = wbuf_init(payload - header, header);
	const struct socks_addr a = {.ip = *from};
	struct sockaddr_storage ss;
	socklen_t ss_len = sockaddr_from_net(&ss, &r->client);

	socks5_write_datagram_header(&w, &a);
	if (sendto(r->fds[CLIENT], payload - header, header + len, 0, (struct sockaddr *)&ss,
		   ss_len) < 0) {
		counters(r)->dropped++;
		return;
	}
	counters(r)->down_packets++;
	counters(r)->down_bytes += len;
	r->last_us = daemon_now_us();
}

static void on_answer(evutil_socket_t fd, short what, void *arg)
{
	static uint8_t buffer[HEADER_MAX + DATAGRAM_MAX];
	struct socksrelay *r = arg;
	struct net_addr from;

	(void)what;
	for (int i = 0; i < READS_MAX; i++) {
		ssize_t n = receive(fd, buffer + HEADER_MAX, &from);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n >= 0 && policy_allows(&r->session->server->config.denied, &from))
			to_client(r, &from, buffer + HEADER_MAX, (size_t)n);
	}
}

/* ---- from the client ---- */

static bool may_go(struct socksrelay *r, const struct net_addr *to)
{
	uint64_t now = daemon_now_us();

	if (net_addr_equal(to, &r->allowed) && now - r->allowed_us < ALLOWED_US)
		return true;
	if (socksserver_judge(r->session->server, to) != SOCKS5_OK)
		return false;
	r->allowed = *to;
	r->allowed_us = now;
	return true;
}

static bool send_out(struct socksrelay *r, const struct net_addr *to, struct bytes payload)
{
	const struct net_addr any = {.family = to->family};
	int which = to->family == 4 ? OUT4 : OUT6;
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_from_net(&ss, to);

	if (r->fds[which] < 0 && open_socket(r, which, &any, on_answer))
		return false;
	return sendto(r->fds[which], payload.data, payload.len, 0, (struct sockaddr *)&ss, len) >=
	       0;
}

static void from_client(struct socksrelay *r, const uint8_t *data, size_t len)
{
	struct tunnel_counters *c = counters(r);
	struct socks_addr to;
	struct bytes payload;

	if (socks5_read_datagram(data, len, &to, &payload) || !to.ip.family || !may_go(r, &to.ip) ||
	    !send_out(r, &to.ip, payload)) {
		c->dropped++;
		return;
	}
	c->up_packets++;
	c->up_bytes += payload.len;
	r->last_us = daemon_now_us();
}

static void on_client(evutil_socket_t fd, short what, void *arg)
{
	static uint8_t buffer[DATAGRAM_MAX];
	struct socksrelay *r = arg;
	struct net_addr from;

	(void)what;
	for (int i = 0; i < READS_MAX; i++) {
		ssize_t n = receive(fd, buffer, &from);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			continue;
		if (!r->client.port && net_addr_same_ip(&from, &r->client))
			r->client.port = from.port;
		if (net_addr_equal(&from, &r->client))
			from_client(r, buffer, (size_t)n);
		else
			counters(r)->spoofed++;
	}
}

/* ---- begin and end ---- */

int socksrelay_new(struct socksrelay **out, struct socks_session *session, struct net_addr *bound)
{
	struct socksrelay *r = calloc(1, sizeof *r);
	struct sockaddr_storage ss;
	struct net_addr at = {0};
	socklen_t len = sizeof ss;

	if (!r)
		return -ENOMEM;
	*r = (struct socksrelay){.session = session,
				 .fds = {-1, -1, -1},
				 .client = session->peer,
				 .last_us = daemon_now_us()};
	r->client.port = 0;
	/* Where the client has reached us. */
	if (getsockname(session->fd, (struct sockaddr *)&ss, &len) == 0)
		sockaddr_to_net(&at, (struct sockaddr *)&ss);
	at.port = 0;
	int rc = at.family ? open_socket(r, CLIENT, &at, on_client) : -EADDRNOTAVAIL;
	len = sizeof ss;
	if (!rc && getsockname(r->fds[CLIENT], (struct sockaddr *)&ss, &len))
		rc = -errno;
	if (rc) {
		socksrelay_free(r);
		return rc;
	}
	sockaddr_to_net(bound, (struct sockaddr *)&ss);
	*out = r;
	return 0;
}

void socksrelay_free(struct socksrelay *r)
{
	if (!r)
		return;
	for (int i = 0; i < 3; i++) {
		event_drop(r->events[i]);
		if (r->fds[i] >= 0)
			close(r->fds[i]);
	}
	free(r);
}

uint64_t socksrelay_last_us(const struct socksrelay *r)
{
	return r->last_us;
}
