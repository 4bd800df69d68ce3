#include "tunnel/socksudp.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/map.h"
#include "io/clock.h"
#include "io/sockaddr.h"
#include "io/timer.h"

#define DIAL_US 10000000u
#define IDLE_US 120000000u /* RFC 4787 wants two minutes */
#define DNS_IDLE_US 10000000u
#define DNS_DONE_US 2000000u /* every question has its answer */
#define DNS_PORT 53
#define QUEUE_MAX 16u /* while the association is made */
#define QUEUE_BYTES_MAX 65536u
#define HEADER_MAX (3u + 1u + 16u + 2u)
#define DATAGRAM_MAX 65535u
#define READS_MAX 32
#define SPARE_RETRY_US 2000000u
#define ENDPOINT_KEY 19

struct waiting {
	STAILQ_ENTRY(waiting) link;
	size_t len;
	uint8_t data[]; /* with its SOCKS5 header */
};

/* A sender of ours, or (local.family 0) the one kept ready. */
struct assoc {
	TAILQ_ENTRY(assoc) link;
	struct socksudp *udp;
	struct net_addr local;
	struct socksdial *dial;
	int control, fd; /* -1: not yet */
	struct event *control_event, *readable;
	STAILQ_HEAD(, waiting) waiting;
	size_t waiting_count, waiting_bytes;
	bool only_dns;
	unsigned questions; /* without an answer */
	uint64_t last_us;
};

struct socksudp {
	struct socksudp_config config;
	struct event_base *base;
	struct map by_local;
	TAILQ_HEAD(assocs, assoc) list; /* the longest silent first; without the spare */
	size_t count;
	struct assoc *spare;
	uint64_t spare_at_us; /* not before */
	struct event *tick;
};

static void local_key(uint8_t key[ENDPOINT_KEY], const struct net_addr *a)
{
	struct wbuf w = wbuf_init(key, ENDPOINT_KEY);

	wbuf_u8(&w, a->family);
	wbuf_copy(&w, a->ip, 16);
	wbuf_u16(&w, a->port);
}

static void assoc_free(struct assoc *a)
{
	struct socksudp *u = a->udp;
	uint8_t key[ENDPOINT_KEY];
	struct waiting *w;

	if (a == u->spare) {
		u->spare = NULL;
	} else {
		local_key(key, &a->local);
		map_del(&u->by_local, key);
		TAILQ_REMOVE(&u->list, a, link);
		u->count--;
	}
	socksdial_cancel(a->dial);
	event_drop(a->control_event);
	event_drop(a->readable);
	if (a->control >= 0)
		close(a->control);
	if (a->fd >= 0)
		close(a->fd);
	while ((w = STAILQ_FIRST(&a->waiting))) {
		STAILQ_REMOVE_HEAD(&a->waiting, link);
		free(w);
	}
	free(a);
}

/* ---- from the server ---- */

static void take(struct assoc *a, const uint8_t *data, size_t len)
{
	const struct socksudp_config *c = &a->udp->config;
	struct socks_addr from;
	struct bytes payload;

	if (!a->local.family || socks5_read_datagram(data, len, &from, &payload) ||
	    from.ip.family != a->local.family)
		return;
	a->last_us = daemon_now_us();
	if (a->questions)
		a->questions--;
	c->deliver(&from.ip, &a->local, payload, c->arg);
}

static void on_datagram(evutil_socket_t fd, short what, void *arg)
{
	static uint8_t buffer[HEADER_MAX + DATAGRAM_MAX];
	struct assoc *a = arg;

	(void)what;
	for (int i = 0; i < READS_MAX; i++) {
		ssize_t n = recv(fd, buffer, sizeof buffer, 0);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n >= 0)
			take(a, buffer, (size_t)n);
	}
}

/* The association ends with its connection; the sender's next datagram makes another. */
static void on_control(evutil_socket_t fd, short what, void *arg)
{
	char ignored[64];
	ssize_t n = recv(fd, ignored, sizeof ignored, 0);

	(void)what;
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		assoc_free(arg);
}

/* ---- an association is made ---- */

static int open_datagrams(struct assoc *a, uint16_t port)
{
	struct net_addr to = a->udp->config.server->addr;
	struct sockaddr_storage ss;

	/* At the server's own address, whatever it says: only that lies outside of the tunnel. */
	to.port = port;
	socklen_t len = sockaddr_from_net(&ss, &to);
	a->fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (a->fd < 0 || connect(a->fd, (struct sockaddr *)&ss, len))
		return -errno;
	a->readable = event_new(a->udp->base, a->fd, EV_READ | EV_PERSIST, on_datagram, a);
	a->control_event = event_new(a->udp->base, a->control, EV_READ | EV_PERSIST, on_control, a);
	return a->readable && a->control_event && event_add(a->readable, NULL) == 0 &&
			       event_add(a->control_event, NULL) == 0
		       ? 0
		       : -ENOMEM;
}

static void on_dialled(const struct socksdial_result *r, void *arg)
{
	struct assoc *a = arg;
	struct waiting *w;

	a->dial = NULL;
	a->control = r->fd;
	if (r->err || !r->bound.port || open_datagrams(a, r->bound.port)) {
		a->udp->spare_at_us = daemon_now_us() + SPARE_RETRY_US;
		assoc_free(a);
		return;
	}
	while ((w = STAILQ_FIRST(&a->waiting))) {
		STAILQ_REMOVE_HEAD(&a->waiting, link);
		(void)send(a->fd, w->data, w->len, 0);
		free(w);
	}
	a->waiting_count = a->waiting_bytes = 0;
}

static struct assoc *assoc_dial(struct socksudp *u)
{
	const struct net_addr any = {.family = u->config.server->addr.family};
	struct assoc *a = calloc(1, sizeof *a);

	if (!a)
		return NULL;
	*a = (struct assoc){.udp = u, .control = -1, .fd = -1, .only_dns = true};
	STAILQ_INIT(&a->waiting);
	a->last_us = daemon_now_us();
	if (socksdial_start(&a->dial, u->base, u->config.server, SOCKSDIAL_ASSOCIATE, &any, DIAL_US,
			    on_dialled, a)) {
		free(a);
		return NULL;
	}
	return a;
}

static void want_spare(struct socksudp *u)
{
	uint64_t now = daemon_now_us();

	if (u->spare || now < u->spare_at_us || u->count >= u->config.max)
		return;
	u->spare = assoc_dial(u);
	if (!u->spare)
		u->spare_at_us = now + SPARE_RETRY_US;
}

static struct assoc *assoc_for(struct socksudp *u, const struct net_addr *local)
{
	uint8_t key[ENDPOINT_KEY];
	struct assoc *a;

	local_key(key, local);
	a = map_get(&u->by_local, key);
	if (a)
		return a;
	if (u->count >= u->config.max)
		assoc_free(TAILQ_FIRST(&u->list));
	a = u->spare ? u->spare : assoc_dial(u);
	u->spare = NULL;
	if (!a)
		return NULL;
	a->local = *local;
	a->last_us = daemon_now_us();
	TAILQ_INSERT_TAIL(&u->list, a, link);
	u->count++;
	if (map_put(&u->by_local, key, a)) {
		assoc_free(a);
		return NULL;
	}
	want_spare(u);
	return a;
}

/* ---- from applications ---- */

static int keep(struct assoc *a, const uint8_t *data, size_t len)
{
	struct waiting *w;

	if (a->waiting_count >= QUEUE_MAX || a->waiting_bytes + len > QUEUE_BYTES_MAX)
		return -ENOSPC;
	w = malloc(sizeof *w + len);
	if (!w)
		return -ENOMEM;
	w->len = len;
	memcpy(w->data, data, len);
	STAILQ_INSERT_TAIL(&a->waiting, w, link);
	a->waiting_count++;
	a->waiting_bytes += len;
	return 0;
}

int socksudp_send(struct socksudp *u, const struct net_addr *from, const struct net_addr *to,
		  struct bytes payload)
{
	static uint8_t buffer[HEADER_MAX + DATAGRAM_MAX];
	struct wbuf w = wbuf_init(buffer, sizeof buffer);
	const struct socks_addr a = {.ip = *to};
	struct assoc *x = assoc_for(u, from);

	if (!x)
		return -ENOSPC;
	socks5_write_datagram_header(&w, &a);
	wbuf_copy(&w, payload.data, payload.len);
	if (w.bad)
		return -EMSGSIZE;
	x->only_dns = x->only_dns && to->port == DNS_PORT;
	x->questions++;
	x->last_us = daemon_now_us();
	TAILQ_REMOVE(&u->list, x, link);
	TAILQ_INSERT_TAIL(&u->list, x, link);
	if (x->fd < 0)
		return keep(x, buffer, wbuf_len(&w));
	return send(x->fd, buffer, wbuf_len(&w), 0) < 0 ? -errno : 0;
}

/* ---- time ---- */

static bool is_late(const struct assoc *a, uint64_t now)
{
	uint64_t limit = !a->only_dns ? IDLE_US : a->questions ? DNS_IDLE_US : DNS_DONE_US;

	return now - a->last_us > limit;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct socksudp *u = arg;
	struct assoc *a = TAILQ_FIRST(&u->list), *next;
	uint64_t now = daemon_now_us();

	(void)fd, (void)what;
	for (; a; a = next) {
		next = TAILQ_NEXT(a, link);
		if (is_late(a, now))
			assoc_free(a);
	}
	want_spare(u);
}

int socksudp_new(struct socksudp **out, struct event_base *base,
		 const struct socksudp_config *config)
{
	const struct timeval second = {.tv_sec = 1};
	struct socksudp *u = calloc(1, sizeof *u);
	uint64_t seed;

	if (!u)
		return -ENOMEM;
	u->config = *config;
	u->base = base;
	TAILQ_INIT(&u->list);
	randombytes_buf(&seed, sizeof seed);
	map_init(&u->by_local, ENDPOINT_KEY, config->max + 1, seed);
	u->tick = event_new(base, -1, EV_PERSIST, on_tick, u);
	if (!u->tick || event_add(u->tick, &second)) {
		socksudp_free(u);
		return -ENOMEM;
	}
	want_spare(u);
	*out = u;
	return 0;
}

void socksudp_free(struct socksudp *u)
{
	if (!u)
		return;
	while (!TAILQ_EMPTY(&u->list))
		assoc_free(TAILQ_FIRST(&u->list));
	if (u->spare)
		assoc_free(u->spare);
	event_drop(u->tick);
	map_free(&u->by_local);
	free(u);
}
