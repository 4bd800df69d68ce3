#include "tunnel/socksserver.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/netlink.h"
#include "io/sockaddr.h"
#include "io/timer.h"
#include "tunnel/socksserver_int.h"

#define STRANGERS_MAX 512u
#define STRANGERS_PER_HOST 64u
#define LOGIN_US 10000000u
#define CONNECT_US 20000000u
#define ACCEPTS_MAX 32
#define BACKLOG 512

static void session_free(struct socks_session *s)
{
	struct socksserver *server = s->server;

	if (s->lease) {
		TAILQ_REMOVE(&s->lease->sessions, s, link);
		s->lease->count--;
	} else {
		TAILQ_REMOVE(&server->strangers, s, link);
		server->stranger_count--;
	}
	server->count--;
	event_drop(s->event);
	event_drop(s->target_event);
	tcppair_free(s->pair);
	socksrelay_free(s->relay);
	if (s->fd >= 0)
		close(s->fd);
	if (s->target >= 0)
		close(s->target);
	sodium_memzero(s, sizeof *s);
	free(s);
}

/* ---- where one may go ---- */

enum socks5_code socksserver_judge(struct socksserver *s, const struct net_addr *to)
{
	struct nl_route way = {0};
	int uplink = *s->config.uplink ? nl_link_index(s->config.nl, s->config.uplink) : 0;

	if (!to->port || !policy_allows(&s->config.denied, to))
		return SOCKS5_NOT_ALLOWED;
	if (nl_route_get(s->config.nl, to, 0, &way))
		return SOCKS5_NETWORK_UNREACHABLE;
	/* Not to this host itself, nor to all of a network. */
	if (way.type && way.type != NL_ROUTE_UNICAST)
		return SOCKS5_NOT_ALLOWED;
	return uplink && (int)way.dev != uplink ? SOCKS5_NETWORK_UNREACHABLE : SOCKS5_OK;
}

/* ---- the conversation ---- */

/* What is said before bytes flow fits any socket buffer. */
static bool say(struct socks_session *s, const uint8_t *data, size_t len)
{
	return send(s->fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool reply(struct socks_session *s, enum socks5_code code, const struct net_addr *bound)
{
	uint8_t out[SOCKS5_REPLY_BYTES_MAX];
	const struct net_addr none = {.family = 4};

	return say(s, out, socks5_write_reply(out, (uint8_t)code, bound ? bound : &none));
}

static void step(struct socks_session *s, enum socks_step to)
{
	s->step = to;
	s->since_us = daemon_now_us();
}

/* Always false: the session is gone. */
static bool refuse(struct socks_session *s, enum socks5_code code)
{
	s->lease->counters.dropped++;
	reply(s, code, NULL);
	session_free(s);
	return false;
}

static bool on_greeting(struct socks_session *s)
{
	enum socks5_method method;
	int n = socks5_read_greeting(s->heard, s->heard_len, SOCKS5_PASSWORD, &method);

	if (n == 0)
		return false;
	const uint8_t answer[] = {5, (uint8_t)method};
	if (n < 0 || !say(s, answer, sizeof answer) || method == SOCKS5_NO_METHOD) {
		session_free(s);
		return false;
	}
	s->heard_len -= (size_t)n;
	memmove(s->heard, s->heard + n, s->heard_len);
	s->step = SOCKS_LOGIN;
	return true;
}

static struct socks_lease *lease_find(struct socksserver *s, const char *sid)
{
	return tunopt_by_sid(&s->by_sid, sid);
}

static bool adopt(struct socks_session *s, struct socks_lease *l)
{
	struct socksserver *server = s->server;

	if (l->count >= server->config.flows_max) {
		l->counters.dropped++;
		return false;
	}
	TAILQ_REMOVE(&server->strangers, s, link);
	server->stranger_count--;
	s->lease = l;
	TAILQ_INSERT_TAIL(&l->sessions, s, link);
	l->count++;
	step(s, SOCKS_REQUEST);
	return true;
}

static bool on_login(struct socks_session *s)
{
	struct socks5_login login;
	int n = socks5_read_login(s->heard, s->heard_len, &login);
	struct socks_lease *l;
	bool right = false;

	if (n == 0)
		return false;
	l = n > 0 ? lease_find(s->server, login.user) : NULL;
	if (l)
		right = sodium_memcmp(&l->login, &login, sizeof login) == 0;
	sodium_memzero(&login, sizeof login);
	if (n > 0)
		sodium_memzero(s->heard, (size_t)n);
	right = right && adopt(s, l);
	const uint8_t answer[] = {1, right ? 0 : 1};
	if (n < 0 || !say(s, answer, sizeof answer) || !right) {
		session_free(s);
		return false;
	}
	s->heard_len -= (size_t)n;
	memmove(s->heard, s->heard + n, s->heard_len);
	return true;
}

/* ---- CONNECT ---- */

static void on_moved(enum tcppair_end from, size_t count, void *arg)
{
	struct socks_session *s = arg;
	struct tunnel_counters *c = &s->lease->counters;

	if (from == TCPPAIR_A) {
		c->up_bytes += count;
		c->up_packets++;
	} else {
		c->down_bytes += count;
		c->down_packets++;
	}
}

static void on_pair_over(void *arg)
{
	session_free(arg);
}

static void join(struct socks_session *s)
{
	int rc = tcppair_new(&s->pair, s->server->base, s->fd, s->target,
			     bytes_of(s->heard, s->heard_len), on_moved, on_pair_over, s);

	if (rc) {
		session_free(s);
		return;
	}
	if (s->heard_len)
		on_moved(TCPPAIR_A, s->heard_len, s);
	s->fd = s->target = -1;
	step(s, SOCKS_JOINED);
}

static enum socks5_code code_of(int err)
{
	switch (err) {
	case ECONNREFUSED:
		return SOCKS5_CONNECTION_REFUSED;
	case ENETUNREACH:
		return SOCKS5_NETWORK_UNREACHABLE;
	case EHOSTUNREACH:
	case ETIMEDOUT:
		return SOCKS5_HOST_UNREACHABLE;
	default:
		return SOCKS5_FAILURE;
	}
}

static void on_target(evutil_socket_t fd, short what, void *arg)
{
	struct socks_session *s = arg;
	struct sockaddr_storage ss;
	struct net_addr bound = {0};
	socklen_t len = sizeof ss;
	int err = 0;
	socklen_t err_len = sizeof err;

	if (what & EV_TIMEOUT)
		err = ETIMEDOUT;
	else
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &err_len);
	if (err) {
		refuse(s, code_of(err));
		return;
	}
	event_free(s->target_event);
	s->target_event = NULL;
	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		sockaddr_to_net(&bound, (struct sockaddr *)&ss);
	if (!reply(s, SOCKS5_OK, &bound)) {
		session_free(s);
		return;
	}
	join(s);
}

static int target_open(struct socks_session *s, const struct net_addr *to)
{
	const struct timeval limit = {.tv_sec = CONNECT_US / 1000000u};
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_from_net(&ss, to);

	s->target = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->target < 0)
		return errno;
	tcppair_prepare(s->target);
	if (connect(s->target, (struct sockaddr *)&ss, len) && errno != EINPROGRESS)
		return errno;
	s->target_event = event_new(s->server->base, s->target, EV_WRITE, on_target, s);
	return s->target_event && event_add(s->target_event, &limit) == 0 ? 0 : ENOMEM;
}

static bool on_connect(struct socks_session *s, const struct net_addr *to)
{
	enum socks5_code code = socksserver_judge(s->server, to);
	int err = code ? 0 : target_open(s, to);

	if (code || err)
		return refuse(s, code ? code : code_of(err));
	/* Nothing more is read until the target is there; what came already waits. */
	event_del(s->event);
	step(s, SOCKS_CONNECTING);
	return false;
}

/* ---- UDP ASSOCIATE ---- */

static bool on_associate(struct socks_session *s)
{
	struct net_addr bound;

	if (socksrelay_new(&s->relay, s, &bound))
		return refuse(s, SOCKS5_FAILURE);
	step(s, SOCKS_JOINED);
	if (reply(s, SOCKS5_OK, &bound))
		return true;
	session_free(s);
	return false;
}

/* It lives as long as its connection, on which nothing more is said. */
static void on_associated(struct socks_session *s)
{
	char ignored[64];
	ssize_t n = recv(s->fd, ignored, sizeof ignored, 0);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		session_free(s);
}

/* ---- what comes ---- */

static bool on_request(struct socks_session *s)
{
	struct socks5_request r;
	int n = socks5_read_request(s->heard, s->heard_len, &r);

	if (n == 0)
		return false;
	if (n == -EAFNOSUPPORT)
		return refuse(s, SOCKS5_BAD_ADDRESS);
	if (n < 0) {
		session_free(s);
		return false;
	}
	s->heard_len -= (size_t)n;
	memmove(s->heard, s->heard + n, s->heard_len);
	if (r.command == SOCKS5_ASSOCIATE)
		return on_associate(s);
	if (r.command != SOCKS5_CONNECT)
		return refuse(s, SOCKS5_BAD_COMMAND);
	return r.to.ip.family ? on_connect(s, &r.to.ip) : refuse(s, SOCKS5_BAD_ADDRESS);
}

/* True: go on with what has come; the session is there. */
static bool advance(struct socks_session *s)
{
	switch (s->step) {
	case SOCKS_GREETING:
		return on_greeting(s);
	case SOCKS_LOGIN:
		return on_login(s);
	case SOCKS_REQUEST:
		return on_request(s);
	default:
		return false;
	}
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct socks_session *s = arg;

	(void)what;
	if (s->step == SOCKS_JOINED) {
		on_associated(s);
		return;
	}
	/* Full, and still no message: each is shorter than the buffer. */
	ssize_t n = recv(fd, s->heard + s->heard_len, sizeof s->heard - s->heard_len, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		session_free(s);
		return;
	}
	s->heard_len += (size_t)n;
	while (advance(s))
		;
}

/* ---- who comes ---- */

static bool has_room(struct socksserver *s, const struct net_addr *peer)
{
	const struct socks_session *x;
	size_t same = 0;

	TAILQ_FOREACH(x, &s->strangers, link)
		same += net_addr_same_ip(&x->peer, peer);
	return s->count < SOCKSSERVER_FLOWS_TOTAL && s->stranger_count < STRANGERS_MAX &&
	       same < STRANGERS_PER_HOST;
}

static void session_new(struct socksserver *server, int fd, const struct net_addr *peer)
{
	struct socks_session *s = has_room(server, peer) ? calloc(1, sizeof *s) : NULL;

	if (!s) {
		close(fd);
		if (log_limit_due(&server->limit, daemon_now_us()))
			log_warn("socks: no room for another connection (%llu so far)",
				 (unsigned long long)server->limit.count);
		return;
	}
	tcppair_prepare(fd);
	s->server = server;
	s->peer = *peer;
	s->fd = fd;
	s->target = -1;
	TAILQ_INSERT_TAIL(&server->strangers, s, link);
	server->stranger_count++;
	server->count++;
	step(s, SOCKS_GREETING);
	s->event = event_new(server->base, fd, EV_READ | EV_PERSIST, on_readable, s);
	if (!s->event || event_add(s->event, NULL))
		session_free(s);
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
	struct socksserver *s = arg;
	struct sockaddr_storage ss;
	struct net_addr peer;

	(void)what;
	for (int i = 0; i < ACCEPTS_MAX; i++) {
		socklen_t len = sizeof ss;
		int client =
			accept4(fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (client < 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
			event_del(s->acceptable); /* no descriptor left: until the next tick */
			return;
		}
		if (client < 0)
			return;
		sockaddr_to_net(&peer, (struct sockaddr *)&ss);
		session_new(s, client, &peer);
	}
}

static bool is_late(const struct socks_session *s, uint64_t now)
{
	uint64_t idle = s->server->config.idle_us;

	if (s->step != SOCKS_JOINED)
		return now - s->since_us >
		       (s->step == SOCKS_CONNECTING ? 2 * CONNECT_US : LOGIN_US);
	/* An association costs little, and its other end keeps one ready. */
	return s->pair ? tcppair_is_silent(s->pair, idle, now)
		       : now - socksrelay_last_us(s->relay) > idle;
}

static void drop_late(struct socks_sessions *list, uint64_t now)
{
	struct socks_session *x = TAILQ_FIRST(list), *next;

	for (; x; x = next) {
		next = TAILQ_NEXT(x, link);
		if (is_late(x, now))
			session_free(x);
	}
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct socksserver *s = arg;
	struct socks_lease *l;
	uint64_t now = daemon_now_us();

	(void)fd, (void)what;
	drop_late(&s->strangers, now);
	LIST_FOREACH(l, &s->leases, link)
		drop_late(&l->sessions, now);
	event_add(s->acceptable, NULL);
}

/* ---- leases ---- */

int socksserver_add(struct socksserver *s, const char *sid,
		    const char password[SOCKSSERVER_PASSWORD_TEXT])
{
	struct socks_lease *l;
	int rc;

	if (lease_find(s, sid))
		return 0;
	l = calloc(1, sizeof *l);
	if (!l)
		return -ENOMEM;
	tunopt_sid_key(l->key, sid);
	memcpy(l->login.user, sid, strnlen(sid, SOCKS_NAME_MAX));
	memcpy(l->login.password, password, SOCKSSERVER_PASSWORD_TEXT - 1);
	TAILQ_INIT(&l->sessions);
	rc = map_put(&s->by_sid, l->key, l);
	if (rc) {
		free(l);
		return rc;
	}
	LIST_INSERT_HEAD(&s->leases, l, link);
	return 0;
}

static void lease_free(struct socksserver *s, struct socks_lease *l)
{
	while (!TAILQ_EMPTY(&l->sessions))
		session_free(TAILQ_FIRST(&l->sessions));
	map_del(&s->by_sid, l->key);
	LIST_REMOVE(l, link);
	sodium_memzero(l, sizeof *l);
	free(l);
}

void socksserver_remove(struct socksserver *s, const char *sid)
{
	struct socks_lease *l = lease_find(s, sid);

	if (l)
		lease_free(s, l);
}

int socksserver_counters(struct socksserver *s, const char *sid, struct tunnel_counters *out)
{
	const struct socks_lease *l = lease_find(s, sid);

	if (!l)
		return -ENOENT;
	*out = l->counters;
	out->connected = l->count > 0;
	return 0;
}

/* ---- start and stop ---- */

static int listen_on(struct socksserver *s, uint8_t family)
{
	const struct net_addr any = {.family = family, .port = s->config.port};
	const int on = 1, off = 0;
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_from_net(&ss, &any);

	s->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		return -errno;
	setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (family == 6)
		setsockopt(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	if (bind(s->fd, (struct sockaddr *)&ss, len) == 0 && listen(s->fd, BACKLOG) == 0)
		return 0;
	int err = -errno;
	close(s->fd);
	s->fd = -1;
	return err;
}

int socksserver_new(struct socksserver **out, struct event_base *base,
		    const struct socksserver_config *config)
{
	const struct timeval second = {.tv_sec = 1};
	struct socksserver *s = calloc(1, sizeof *s);
	uint64_t seed;
	int rc;

	if (!s)
		return -ENOMEM;
	s->config = *config;
	s->base = base;
	s->fd = -1;
	LIST_INIT(&s->leases);
	TAILQ_INIT(&s->strangers);
	randombytes_buf(&seed, sizeof seed);
	map_init(&s->by_sid, TUNOPT_SID_KEY, TUNNEL_LEASES_MAX, seed);
	rc = listen_on(s, 6);
	if (rc && rc != -EADDRINUSE)
		rc = listen_on(s, 4); /* a host without IPv6 */
	if (!rc) {
		s->acceptable = event_new(base, s->fd, EV_READ | EV_PERSIST, on_acceptable, s);
		s->tick = event_new(base, -1, EV_PERSIST, on_tick, s);
		if (!s->acceptable || !s->tick || event_add(s->acceptable, NULL) ||
		    event_add(s->tick, &second))
			rc = -ENOMEM;
	}
	if (rc) {
		socksserver_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void socksserver_free(struct socksserver *s)
{
	if (!s)
		return;
	while (!LIST_EMPTY(&s->leases))
		lease_free(s, LIST_FIRST(&s->leases));
	while (!TAILQ_EMPTY(&s->strangers))
		session_free(TAILQ_FIRST(&s->strangers));
	map_free(&s->by_sid);
	event_drop(s->acceptable);
	event_drop(s->tick);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}
