#include "tunnel/sockstun.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/tunflow.h"
#include "io/clock.h"
#include "io/netlink.h"
#include "io/sockaddr.h"
#include "io/tcppair.h"
#include "io/timer.h"
#include "io/tun.h"
#include "tunnel/socksudp.h"
#include "tunnel/tunopt.h"

#define DIAL_US 30000000u
#define CHECK_US 2000000u
#define ACCEPT_US 10000000u /* from the server's answer to the application's */
#define LINGER_US 60000000u /* the kernel's last segments of a connection */
#define SYN_MAX 120u
#define ECHOES_MAX 4u
#define ECHO_MAX 1500u
#define ACCEPTS_MAX 32
#define BACKLOG 512

/* The owner of a flow that is not over. */
struct conn {
	struct sockstun *tun;
	struct tunflow *flow;
	struct socksdial *dial;
	int upstream; /* connected; -1: not yet, or the pair's */
	uint64_t connected_us;
	struct tcppair *pair;
	size_t syn_len;
	uint8_t syn[SYN_MAX];
};

/* One of each family. */
struct side {
	struct net_addr own, made; /* the lease's, and who we pretend to be; port 0 */
	int fd;
	uint16_t port; /* of the listener */
	struct event *acceptable;
};

struct echo {
	size_t len;
	uint8_t packet[ECHO_MAX];
};

struct sockstun {
	struct sockstun_config config;
	struct tun *tun;
	struct side sides[2]; /* IPv4, IPv6 */
	struct tunflow_table table;
	struct socksudp *udp;
	struct event *tick;
	struct socksdial *check;
	struct echo echoes[ECHOES_MAX];
	unsigned echo_count;
	struct tunnel_counters counters;
	bool server_ok;
};

static void put(struct sockstun *t, const uint8_t *packet, size_t len)
{
	if (tun_write(t->tun, packet, len)) {
		t->counters.dropped++;
		return;
	}
	t->counters.down_packets++;
}

static struct side *side_of(struct sockstun *t, uint8_t family)
{
	return &t->sides[family == 6];
}

/* ---- TCP ---- */

static void conn_free(struct conn *c)
{
	socksdial_cancel(c->dial);
	tcppair_free(c->pair);
	if (c->upstream >= 0)
		tcppair_reset_socket(c->upstream);
	tunflow_end(&c->tun->table, c->flow, daemon_now_us());
	free(c);
}

static void refuse(struct sockstun *t, const uint8_t *packet, const struct tunflow_packet *p)
{
	uint8_t out[TUNFLOW_HEADERS_MAX];

	if (!(p->tcp_flags & TUNFLOW_RST))
		put(t, out, tunflow_refuse(out, packet, p));
}

/* As if it came from our made-up address, to the listener. */
static void turn_in(struct sockstun *t, const struct tunflow *f, uint8_t *packet,
		    const struct tunflow_packet *p)
{
	const struct side *s = side_of(t, f->app.family);
	struct net_addr from = s->made, to = s->own;

	from.port = f->port;
	to.port = s->port;
	tunflow_readdress(packet, p, &from, &to);
	put(t, packet, p->end);
}

static void on_dialled(const struct socksdial_result *r, void *arg)
{
	struct conn *c = arg;
	struct tunflow_packet p;

	c->dial = NULL;
	if (tunflow_parse(c->syn, c->syn_len, &p))
		return;
	if (r->err) {
		/* One that was not answered is not answered either. */
		if (r->err != -ETIMEDOUT)
			refuse(c->tun, c->syn, &p);
		conn_free(c);
		return;
	}
	c->upstream = r->fd;
	c->connected_us = daemon_now_us();
	turn_in(c->tun, c->flow, c->syn, &p);
}

static void conn_new(struct sockstun *t, const uint8_t *packet, const struct tunflow_packet *p)
{
	struct tunflow *f = p->end <= SYN_MAX
				    ? tunflow_open(&t->table, &p->src, &p->dst, daemon_now_us())
				    : NULL;
	struct conn *c = f ? calloc(1, sizeof *c) : NULL;

	if (!c) {
		if (f)
			tunflow_close(&t->table, f);
		t->counters.dropped++;
		return;
	}
	*c = (struct conn){.tun = t, .flow = f, .upstream = -1, .syn_len = p->end};
	memcpy(c->syn, packet, p->end);
	f->owner = c;
	if (socksdial_start(&c->dial, t->config.base, t->config.server, SOCKSDIAL_CONNECT, &p->dst,
			    DIAL_US, on_dialled, c)) {
		refuse(t, packet, p);
		conn_free(c);
	}
}

static void on_moved(enum tcppair_end from, size_t count, void *arg)
{
	struct conn *c = arg;

	if (from == TCPPAIR_A)
		c->tun->counters.up_bytes += count;
	else
		c->tun->counters.down_bytes += count;
}

static void on_over(void *arg)
{
	conn_free(arg);
}

static void join(struct sockstun *t, int fd, uint16_t port)
{
	struct tunflow *f = tunflow_by_port(&t->table, port);
	struct conn *c = f ? f->owner : NULL;

	if (!c || c->upstream < 0 ||
	    tcppair_new(&c->pair, t->config.base, fd, c->upstream, (struct bytes){0}, on_moved,
			on_over, c)) {
		tcppair_reset_socket(fd);
		return;
	}
	tcppair_prepare(fd);
	c->upstream = -1;
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
	struct sockstun *t = arg;
	struct sockaddr_storage ss;
	struct net_addr peer;

	(void)what;
	for (int i = 0; i < ACCEPTS_MAX; i++) {
		socklen_t len = sizeof ss;
		int client =
			accept4(fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (client < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
			for (int k = 0; k < 2; k++) /* until the next tick */
				if (t->sides[k].fd == fd)
					event_del(t->sides[k].acceptable);
		if (client < 0)
			return;
		sockaddr_to_net(&peer, (struct sockaddr *)&ss);
		join(t, client, peer.port);
	}
}

/* A segment of an application, for elsewhere. */
static void from_app(struct sockstun *t, uint8_t *packet, const struct tunflow_packet *p)
{
	struct tunflow *f = tunflow_find(&t->table, &p->src, &p->dst);
	bool opens = (p->tcp_flags & (TUNFLOW_SYN | TUNFLOW_ACK)) == TUNFLOW_SYN;
	const struct conn *c = f ? f->owner : NULL;

	if (opens && (!f || f->over)) {
		conn_new(t, packet, p);
	} else if (!f) {
		refuse(t, packet, p);
	} else if (!c || !c->dial) { /* else it waits for the server */
		tunflow_touch(&t->table, f, daemon_now_us());
		turn_in(t, f, packet, p);
	}
}

/* A segment of the listener, for the application that it means. */
static void from_listener(struct sockstun *t, uint8_t *packet, const struct tunflow_packet *p)
{
	struct tunflow *f = tunflow_by_port(&t->table, p->dst.port);

	if (!f || f->app.family != p->src.family) {
		t->counters.dropped++;
		return;
	}
	tunflow_touch(&t->table, f, daemon_now_us());
	tunflow_readdress(packet, p, &f->remote, &f->app);
	put(t, packet, p->end);
}

/* ---- UDP ---- */

static void on_datagram(const struct net_addr *from, const struct net_addr *to,
			struct bytes payload, void *arg)
{
	static uint8_t packet[TUN_PACKET_MAX];
	struct sockstun *t = arg;
	size_t len = tunflow_datagram(packet, sizeof packet, from, to, payload);

	if (len == 0) {
		t->counters.dropped++;
		return;
	}
	t->counters.down_bytes += payload.len;
	put(t, packet, len);
}

static void udp_out(struct sockstun *t, const uint8_t *packet, const struct tunflow_packet *p)
{
	struct bytes payload = bytes_of(packet + p->payload, p->end - p->payload);

	if (!p->dst.port || socksudp_send(t->udp, &p->src, &p->dst, payload))
		t->counters.dropped++;
	else
		t->counters.up_bytes += payload.len;
}

/* ---- echo ---- */

static void on_checked(const struct socksdial_result *r, void *arg)
{
	struct sockstun *t = arg;

	t->check = NULL;
	t->server_ok = r->err == 0;
	if (r->fd >= 0)
		close(r->fd);
	for (unsigned i = 0; i < t->echo_count && t->server_ok; i++) {
		struct tunflow_packet p;
		struct echo *e = &t->echoes[i];

		if (tunflow_parse(e->packet, e->len, &p) == 0 && tunflow_echo(e->packet, &p))
			put(t, e->packet, e->len);
	}
	t->echo_count = 0;
}

static void echo_in(struct sockstun *t, const uint8_t *packet, const struct tunflow_packet *p)
{
	struct net_addr made = side_of(t, p->dst.family)->made;
	struct echo *e;

	if (!net_addr_same_ip(&p->dst, &made) || p->end > ECHO_MAX || t->echo_count == ECHOES_MAX) {
		t->counters.dropped++;
		return;
	}
	e = &t->echoes[t->echo_count++];
	memcpy(e->packet, packet, p->end);
	e->len = p->end;
	if (!t->check && socksdial_start(&t->check, t->config.base, t->config.server,
					 SOCKSDIAL_CHECK, NULL, CHECK_US, on_checked, t))
		t->echo_count = 0;
}

/* ---- packets ---- */

static bool is_group(const struct net_addr *a)
{
	return a->family == 4 ? a->ip[0] >= 224 : a->ip[0] == 0xff;
}

static void tcp_out(struct sockstun *t, uint8_t *packet, const struct tunflow_packet *p)
{
	const struct side *s = side_of(t, p->src.family);

	if (p->src.port == s->port && net_addr_same_ip(&p->dst, &s->made))
		from_listener(t, packet, p);
	else
		from_app(t, packet, p);
}

static void on_packet(uint8_t *packet, size_t len, void *arg)
{
	struct sockstun *t = arg;
	struct tunflow_packet p;

	t->counters.up_packets++;
	if (tunflow_parse(packet, len, &p)) {
		t->counters.dropped++;
		return;
	}
	const struct side *s = side_of(t, p.src.family);
	if (!s->own.family || !net_addr_same_ip(&p.src, &s->own))
		t->counters.spoofed++;
	else if (is_group(&p.dst) || net_addr_same_ip(&p.dst, &t->config.server->addr))
		t->counters.dropped++; /* the way to the server leads not into itself */
	else if (p.protocol == TUNFLOW_TCP)
		tcp_out(t, packet, &p);
	else if (p.protocol == TUNFLOW_UDP)
		udp_out(t, packet, &p);
	else
		echo_in(t, packet, &p);
}

static void on_lost(int err, void *arg)
{
	struct sockstun *t = arg;

	(void)err;
	t->config.lost(t->config.arg);
}

/* ---- time ---- */

static bool is_late(const struct conn *c, uint64_t now)
{
	if (c->pair)
		return tcppair_is_silent(c->pair, c->tun->config.idle_us, now);
	return c->upstream >= 0 && now - c->connected_us > ACCEPT_US;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct sockstun *t = arg;
	struct tunflow *f = TAILQ_FIRST(&t->table.live), *next;
	uint64_t now = daemon_now_us();

	(void)fd, (void)what;
	for (; f; f = next) {
		next = TAILQ_NEXT(f, link);
		if (is_late(f->owner, now))
			conn_free(f->owner);
	}
	if (now > LINGER_US)
		tunflow_sweep(&t->table, now - LINGER_US);
	for (int i = 0; i < 2; i++)
		if (t->sides[i].acceptable)
			event_add(t->sides[i].acceptable, NULL);
}

/* ---- begin and end ---- */

static int side_listen(struct sockstun *t, struct side *s)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_from_net(&ss, &s->own);
	const char *name = tun_name(t->tun);
	const int on = 1;
	struct net_addr bound;

	s->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return -errno;
	/* Nobody but packets of the interface reaches it, and its answers leave by it; the address
	 * may not be usable for a moment yet. */
	setsockopt(s->fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof on);
	if (setsockopt(s->fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)strlen(name)) ||
	    bind(s->fd, (struct sockaddr *)&ss, len) || listen(s->fd, BACKLOG) ||
	    getsockname(s->fd, (struct sockaddr *)&ss, &len))
		return -errno;
	sockaddr_to_net(&bound, (struct sockaddr *)&ss);
	s->port = bound.port;
	s->acceptable = event_new(t->config.base, s->fd, EV_READ | EV_PERSIST, on_acceptable, t);
	return s->acceptable && event_add(s->acceptable, NULL) == 0 ? 0 : -ENOMEM;
}

static int side_open(struct sockstun *t, struct side *s, const struct net_prefix *own,
		     const struct net_addr *made)
{
	struct nl_addr a = tunopt_client_addr(own, made);
	int rc;

	if (!own->addr.family || made->family != own->addr.family)
		return 0;
	s->own = own->addr;
	s->made = *made;
	s->own.port = s->made.port = 0;
	a.link = tun_index(t->tun);
	rc = nl_addr_add(t->config.nl, &a);
	return rc ? rc : side_listen(t, s);
}

static int interface_open(struct sockstun *t)
{
	const struct sockstun_config *c = &t->config;
	int rc = tun_open(&t->tun, c->base, c->interface, TUN_PLAIN);

	if (!rc)
		rc = nl_link_set_mtu(c->nl, tun_index(t->tun), c->mtu);
	if (!rc)
		rc = nl_link_set_up(c->nl, tun_index(t->tun), true);
	if (!rc)
		rc = side_open(t, &t->sides[0], &c->ip4, &c->gateway4);
	if (!rc)
		rc = side_open(t, &t->sides[1], &c->ip6, &c->gateway6);
	return rc;
}

static int tables_open(struct sockstun *t)
{
	const struct timeval second = {.tv_sec = 1};
	uint32_t half = t->config.flows_max / 2 ? t->config.flows_max / 2 : 1;
	struct socksudp_config udp = {
		.server = t->config.server, .max = half, .deliver = on_datagram, .arg = t};
	uint64_t seed;

	randombytes_buf(&seed, sizeof seed);
	int rc = tunflow_table_init(&t->table, half, seed);
	if (!rc)
		rc = socksudp_new(&t->udp, t->config.base, &udp);
	t->tick = rc ? NULL : event_new(t->config.base, -1, EV_PERSIST, on_tick, t);
	if (!rc && (!t->tick || event_add(t->tick, &second)))
		rc = -ENOMEM;
	return rc;
}

int sockstun_new(struct sockstun **out, const struct sockstun_config *config)
{
	struct sockstun *t = calloc(1, sizeof *t);
	int rc;

	if (!t)
		return -ENOMEM;
	t->config = *config;
	t->sides[0].fd = t->sides[1].fd = -1;
	t->server_ok = true;
	rc = tables_open(t);
	if (!rc)
		rc = interface_open(t);
	if (!rc) {
		tun_set_callbacks(t->tun, on_packet, on_lost, t);
		rc = tun_set_reading(t->tun, true);
	}
	if (rc) {
		sockstun_free(t);
		return rc;
	}
	*out = t;
	return 0;
}

void sockstun_free(struct sockstun *t)
{
	struct tunflow *f;

	if (!t)
		return;
	while (t->table.by_port && (f = TAILQ_FIRST(&t->table.live)))
		conn_free(f->owner);
	socksdial_cancel(t->check);
	socksudp_free(t->udp);
	for (int i = 0; i < 2; i++) {
		event_drop(t->sides[i].acceptable);
		if (t->sides[i].fd >= 0)
			close(t->sides[i].fd);
	}
	event_drop(t->tick);
	tun_free(t->tun);
	tunflow_table_free(&t->table);
	free(t);
}

const char *sockstun_interface(const struct sockstun *t)
{
	return tun_name(t->tun);
}

void sockstun_counters(const struct sockstun *t, struct tunnel_counters *out)
{
	*out = t->counters;
	out->connected = t->server_ok;
}
