/* The UDP of one association at the server: a socket a family, bound when it is first needed. */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/sockaddr.h"
#include "io/timer.h"
#include "libmeshapp/meshapp.h"
#include "socks/server.h"

#define DATAGRAM_MAX 65535u
#define READS_MAX 32		/* in a row */
#define PENDING_MAX 8u		/* datagrams that wait for a name, */
#define PENDING_BYTES_MAX 4096u /* each of this size at most */
#define NAME_KEPT_US 30000000u

struct pending {
	LIST_ENTRY(pending) link;
	struct relay *relay;
	struct lookup *lookup;
	char name[SOCKS_NAME_MAX + 1];
	size_t len;
	uint8_t payload[];
};

struct relay {
	LIST_ENTRY(relay) link;
	struct session *session;
	struct mux_stream *stream;
	struct {
		int fd;
		struct event *readable;
	} sockets[2]; /* IPv4, IPv6 */
	LIST_HEAD(, pending) pending;
	unsigned pending_count;
	/* The name that was used last; clients talk to one server mostly. */
	char name[SOCKS_NAME_MAX + 1];
	struct net_addr addrs[RESOLVER_ADDRS_MAX];
	unsigned addr_count;
	uint64_t name_us;
	uint64_t last_us;
};

static void dropped(struct relay *r, const char *why)
{
	if (log_limit_due(&r->session->server->limits.datagrams, daemon_now_us()))
		log_info("socks-server: a datagram is dropped: %s (%llu so far)", why,
			 (unsigned long long)r->session->server->limits.datagrams.count);
}

/* --- to the client ---------------------------------------------------------------------------- */

static void to_client(struct relay *r, const struct net_addr *from, uint8_t *payload, size_t len)
{
	size_t header = from->family == 4 ? MUX_RECORD_HEADER_IPV4 : MUX_RECORD_HEADER_IPV6;
	struct wbuf w = wbuf_init(payload - header, header);
	const struct socks_addr a = {.ip = *from};

	mux_record_write_header(&w, mux_stream_number(r->stream), &a);
	if (!r->session->datagrams)
		dropped(r, "the client has no datagram connection");
	else if (meshconn_send(r->session->datagrams, payload - header, header + len))
		dropped(r, "too large, or the mesh takes no more now");
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	static uint8_t buffer[MUX_RECORD_HEADER_IPV6 + DATAGRAM_MAX];
	struct relay *r = arg;
	struct sockaddr_storage ss;
	struct net_addr from;

	(void)what;
	for (unsigned i = 0; i < READS_MAX; i++) {
		socklen_t ss_len = sizeof ss;
		ssize_t n = recvfrom(fd, buffer + MUX_RECORD_HEADER_IPV6, DATAGRAM_MAX, 0,
				     (struct sockaddr *)&ss, &ss_len);
		/* An ICMP error of an earlier datagram is no reason to stop. */
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0)
			continue;
		r->last_us = daemon_now_us();
		sockaddr_to_net(&from, (struct sockaddr *)&ss);
		if (server_allows(r->session->server, &from))
			to_client(r, &from, buffer + MUX_RECORD_HEADER_IPV6, (size_t)n);
	}
}

/* --- from the client -------------------------------------------------------------------------- */

static int open_socket(struct relay *r, uint8_t family)
{
	unsigned i = family == 6;
	struct sockaddr_storage ss;
	const struct net_addr any = {.family = family};
	const int on = 1;
	socklen_t len = sockaddr_from_net(&ss, &any);

	if (r->sockets[i].fd >= 0)
		return r->sockets[i].fd;
	int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (family == 6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	struct event *ev =
		event_new(r->session->server->base, fd, EV_READ | EV_PERSIST, on_readable, r);
	if (!ev || bind(fd, (struct sockaddr *)&ss, len) || event_add(ev, NULL)) {
		event_drop(ev);
		close(fd);
		return -1;
	}
	r->sockets[i].fd = fd;
	r->sockets[i].readable = ev;
	return fd;
}

static bool send_to(struct relay *r, const struct net_addr *to, struct bytes payload)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_from_net(&ss, to);
	int fd = open_socket(r, to->family);

	return fd >= 0 &&
	       sendto(fd, payload.data, payload.len, 0, (struct sockaddr *)&ss, len) >= 0;
}

static void send_to_any(struct relay *r, const struct net_addr *addrs, unsigned count,
			uint16_t port, struct bytes payload)
{
	r->last_us = daemon_now_us();
	for (unsigned i = 0; i < count; i++) {
		struct net_addr to = addrs[i];
		to.port = port;
		if (server_allows(r->session->server, &to) && send_to(r, &to, payload))
			return;
	}
	dropped(r, "its address is denied, unknown or unreachable");
}

static void pending_free(struct pending *p)
{
	if (p->lookup)
		resolver_cancel(p->lookup);
	LIST_REMOVE(p, link);
	p->relay->pending_count--;
	free(p);
}

static void on_resolved(void *arg, const struct net_addr *addrs, unsigned count)
{
	struct pending *p = arg;
	struct relay *r = p->relay;

	p->lookup = NULL;
	if (count) {
		memcpy(r->name, p->name, sizeof r->name);
		memcpy(r->addrs, addrs, count * sizeof *addrs);
		r->addr_count = count;
		r->name_us = daemon_now_us();
	}
	send_to_any(r, addrs, count, count ? addrs[0].port : 0, bytes_of(p->payload, p->len));
	pending_free(p);
}

static void resolve_and_send(struct relay *r, const struct socks_addr *to, struct bytes payload)
{
	bool room = r->pending_count < PENDING_MAX && payload.len <= PENDING_BYTES_MAX;
	struct pending *p = room ? calloc(1, sizeof *p + payload.len) : NULL;

	if (!p) {
		dropped(r, "too much waits for a name");
		return;
	}
	p->relay = r;
	memcpy(p->name, to->name, sizeof p->name);
	p->len = payload.len;
	if (payload.len)
		memcpy(p->payload, payload.data, payload.len);
	LIST_INSERT_HEAD(&r->pending, p, link);
	r->pending_count++;
	p->lookup = resolver_ask(r->session->server->resolver, r->session->number, to->name,
				 to->ip.port, on_resolved, p);
	if (!p->lookup) {
		server_too_many_names(r->session->server);
		pending_free(p);
	}
}

void relay_send(struct relay *r, const struct socks_addr *to, struct bytes payload)
{
	if (to->ip.family)
		send_to_any(r, &to->ip, 1, to->ip.port, payload);
	else if (r->addr_count && strcmp(r->name, to->name) == 0 &&
		 daemon_now_us() < r->name_us + NAME_KEPT_US)
		send_to_any(r, r->addrs, r->addr_count, to->ip.port, payload);
	else
		resolve_and_send(r, to, payload);
}

/* --- life ------------------------------------------------------------------------------------- */

void relay_new(struct session *s, struct mux_stream *stream)
{
	struct relay *r = session_has_room(s) ? calloc(1, sizeof *r) : NULL;

	if (!r) {
		mux_refuse(stream, SOCKS5_FAILURE);
		return;
	}
	r->session = s;
	r->stream = stream;
	r->sockets[0].fd = r->sockets[1].fd = -1;
	r->last_us = daemon_now_us();
	LIST_INIT(&r->pending);
	LIST_INSERT_HEAD(&s->relays, r, link);
	s->count++;
	mux_stream_set_user(stream, r);
	/* There is no one address: the client's own socks-client says where to send. */
	mux_accept(stream, &(struct net_addr){0});
}

void relay_free(struct relay *r)
{
	while (!LIST_EMPTY(&r->pending))
		pending_free(LIST_FIRST(&r->pending));
	for (unsigned i = 0; i < 2; i++) {
		event_drop(r->sockets[i].readable);
		if (r->sockets[i].fd >= 0)
			close(r->sockets[i].fd);
	}
	LIST_REMOVE(r, link);
	r->session->count--;
	free(r);
}

void relays_sweep(struct session *s, uint64_t now)
{
	struct relay *r, *next;

	for (r = LIST_FIRST(&s->relays); r; r = next) {
		next = LIST_NEXT(r, link);
		if (now < r->last_us + s->server->opt->idle_us)
			continue;
		mux_reset(r->stream, SOCKS5_FAILURE);
		relay_free(r);
	}
}
