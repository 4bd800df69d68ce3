#include "io/chan_int.h"

#include <errno.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/metrics.h"
#include "io/sockaddr.h"

#define BACKLOG 256
#define ACCEPT_PAUSE_US 200000
#define ADDRESSES_MAX 16
#define ADDRESS_TEXT_MAX 128

struct listen_socket {
	struct chan_listener *owner;
	struct evconnlistener *lev;
	struct event *retry; /* accepting again after an error such as EMFILE */
	bool local;
	char path[ADDRESS_TEXT_MAX]; /* of a Unix socket, to be removed at the end */
	struct net_addr addr;
};

struct chan_listener {
	struct chan_group group; /* first: on_gone and on_ready get this */
	struct listen_socket sockets[ADDRESSES_MAX];
	size_t count;
};

/* --- accept ------------------------------------------------------------------------------- */

static void note_refused(struct chan_listener *l, const char *who, const char *why)
{
	struct chan_group *g = &l->group;

	g->counters.refused++;
	if (log_limit_due(&g->limit_refused, daemon_now_us()))
		log_warn("%s %s: refused: %s (%llu so far)", g->name, who, why,
			 (unsigned long long)g->limit_refused.count);
}

/* The newest is let in at the cost of the oldest that has not registered: so somebody who only
 * opens sockets cannot keep those out who finish in a few round trips. */
static void make_room(struct chan_listener *l)
{
	struct chan_group *g = &l->group;
	struct chan *oldest = TAILQ_FIRST(&g->unready);

	bool full = g->ready_count + g->unready_count > g->opt.max_channels;

	if ((g->unready_count <= g->opt.max_unauthenticated && !full) || !oldest)
		return;
	note_refused(l, oldest->text, "too many at once that have not registered");
	chan_end(oldest, CODE_BUSY, "too many channels");
}

static void set_text(struct chan *ch, const char *name)
{
	char addr[NET_ADDR_TEXT];

	if (ch->remote.family)
		snprintf(ch->text, sizeof ch->text, "%s %s", name,
			 net_addr_text(&ch->remote, addr));
	else
		snprintf(ch->text, sizeof ch->text, "%s on a local socket", name);
}

static void start_channel(struct listen_socket *s, evutil_socket_t fd,
			  const struct net_addr *remote)
{
	struct chan_group *g = &s->owner->group;
	bool encrypted = g->opt.key && !(g->opt.plain_local && s->local);
	struct bufferevent *bev = bufferevent_socket_new(g->base, fd, BEV_OPT_CLOSE_ON_FREE);
	struct chan *ch;

	if (!bev) {
		close(fd);
		return;
	}
	ch = chan_new(g, bev, false, encrypted);
	if (!ch)
		return;
	ch->remote = *remote;
	set_text(ch, g->name);
	chan_begin(ch);
}

static void on_accept(struct evconnlistener *lev, evutil_socket_t fd, struct sockaddr *sa, int len,
		      void *arg)
{
	struct listen_socket *s = arg;
	struct chan_group *g = &s->owner->group;
	struct net_addr remote;
	char text[NET_ADDR_TEXT];
	(void)lev;
	(void)len;

	sockaddr_to_net(&remote, sa);
	g->counters.accepted++;
	/* make_room may run the owner's on_down, which may free us: no channel is made then. */
	if (g->ready_count >= g->opt.max_channels) {
		note_refused(s->owner, net_addr_text(&remote, text), "too many channels");
		close(fd);
		return;
	}
	start_channel(s, fd, &remote);
	make_room(s->owner);
}

static void on_accept_error(struct evconnlistener *lev, void *arg)
{
	struct listen_socket *s = arg;
	int err = EVUTIL_SOCKET_ERROR();
	struct timeval tv = {0, ACCEPT_PAUSE_US};

	note_refused(s->owner, "accept", evutil_socket_error_to_string(err));
	/* Out of descriptors: without a pause the loop would spin on the same error. */
	evconnlistener_disable(lev);
	event_add(s->retry, &tv);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct listen_socket *s = arg;
	(void)fd;
	(void)what;
	evconnlistener_enable(s->lev);
}

/* --- listen ------------------------------------------------------------------------------- */

/* A socket file that nobody listens on is left from a process that was killed. */
static void remove_stale(const struct sockaddr_storage *ss, socklen_t len, const char *path)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) || !S_ISSOCK(st.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)ss, len) && errno == ECONNREFUSED)
		unlink(path);
	close(fd);
}

static int bind_socket(const struct sockaddr_storage *ss, socklen_t len)
{
	int fd = socket(ss->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err;

	if (fd < 0)
		return -errno;
	if (ss->ss_family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
	if (ss->ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, sizeof(int));
	if (bind(fd, (const struct sockaddr *)ss, len) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static int adopt_socket(struct chan_listener *l, struct listen_socket *s, int fd)
{
	unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC;

	s->retry = event_new(l->group.base, -1, 0, on_retry, s);
	s->lev = s->retry ? evconnlistener_new(l->group.base, on_accept, s, flags, BACKLOG, fd)
			  : NULL;
	if (!s->lev) {
		int err = errno ? -errno : -ENOMEM;
		close(fd);
		return err;
	}
	evconnlistener_set_error_cb(s->lev, on_accept_error);
	return 0;
}

static int listen_unix(struct chan_listener *l, struct listen_socket *s, const char *path)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_from_path(&ss, path);

	if (!len || strlen(path) >= sizeof s->path)
		return -EINVAL;
	remove_stale(&ss, len, path);
	int fd = bind_socket(&ss, len);
	if (fd < 0)
		return fd;
	snprintf(s->path, sizeof s->path, "%s", path);
	s->local = true;
	if (chmod(path, (mode_t)l->group.opt.unix_mode)) {
		int err = -errno;
		close(fd);
		return err;
	}
	return adopt_socket(l, s, fd);
}

static int listen_tcp(struct chan_listener *l, struct listen_socket *s, const char *text)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;

	if (net_addr_parse(&s->addr, text, 0))
		return -EINVAL;
	s->local = chan_is_local(&s->addr);
	if (!l->group.opt.key && !s->local)
		return -EPERM;
	int fd = bind_socket(&ss, sockaddr_from_net(&ss, &s->addr));
	if (fd < 0)
		return fd;
	if (getsockname(fd, (struct sockaddr *)&ss, &len) == 0)
		sockaddr_to_net(&s->addr, (struct sockaddr *)&ss);
	return adopt_socket(l, s, fd);
}

/* A wish: without it the port serves as well. */
static void listen_twin(struct chan_listener *l, uint16_t port)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_local_twin(&ss, port);
	int fd = l->count < ADDRESSES_MAX ? bind_socket(&ss, len) : -1;

	if (fd < 0)
		return;
	struct listen_socket *s = &l->sockets[l->count++];
	s->owner = l;
	s->local = true;
	(void)adopt_socket(l, s, fd);
}

static int listen_one(struct chan_listener *l, const char *text)
{
	if (l->count == ADDRESSES_MAX)
		return -EINVAL;
	struct listen_socket *s = &l->sockets[l->count++];
	const char *path = sockaddr_unix_path(text);

	s->owner = l;
	int err = path ? listen_unix(l, s, path) : listen_tcp(l, s, text);
	if (err)
		log_error("cannot listen for %s on %s: %s", l->group.name, text,
			  err == -EINVAL  ? "not an address (host:port, [v6]:port or unix:/path)"
			  : err == -EPERM ? "unencrypted only on a loopback address"
					  : strerror(-err));
	else if (!path && l->group.opt.local_twin && net_addr_is_loopback(&s->addr))
		listen_twin(l, s->addr.port);
	return err;
}

static int listen_all(struct chan_listener *l, const char *addresses)
{
	for (const char *p = addresses; *p;) {
		char text[ADDRESS_TEXT_MAX];
		p += strspn(p, " ,");
		size_t len = strcspn(p, " ,");
		if (len >= sizeof text)
			return -EINVAL;
		memcpy(text, p, len);
		text[len] = '\0';
		int err = len ? listen_one(l, text) : 0;
		if (err)
			return err;
		p += len;
	}
	return l->count ? 0 : -EINVAL;
}

int chan_listen(struct chan_listener **out, struct event_base *base, const char *addresses,
		const struct chan_options *opt)
{
	struct chan_listener *l = calloc(1, sizeof *l);

	if (!l)
		return -ENOMEM;
	chan_group_init(&l->group, base, opt);
	int err = listen_all(l, addresses);
	if (err) {
		chan_listener_free(l);
		return err;
	}
	*out = l;
	return 0;
}

void chan_listener_free(struct chan_listener *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->count; i++) {
		struct listen_socket *s = &l->sockets[i];
		if (s->lev)
			evconnlistener_free(s->lev);
		if (s->retry)
			event_free(s->retry);
		if (s->path[0])
			unlink(s->path);
	}
	chan_group_clear(&l->group);
	free(l);
}

uint16_t chan_listener_port(const struct chan_listener *l)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->sockets[i].addr.family)
			return l->sockets[i].addr.port;
	return 0;
}

void chan_listener_metrics(const struct chan_listener *l, struct metrics *m)
{
	const struct chan_counters *c = &l->group.counters;
	const struct {
		const char *event;
		uint64_t count;
	} rows[] = {
		{"accepted", c->accepted},
		{"refused", c->refused},
		{"handshake_failed", c->handshake_failed},
		{"timeout", c->timeouts},
		{"protocol_error", c->protocol_errors},
	};

	metrics_family(m, "meshnet_channels", METRIC_GAUGE,
		       "Channels of those whom this daemon listens to, registered and not yet.");
	metrics_sample(m, "state", "ready", l->group.ready_count);
	metrics_sample(m, "state", "unready", l->group.unready_count);
	metrics_family(m, "meshnet_channel_events_total", METRIC_COUNTER,
		       "What has become of connections to this daemon.");
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		metrics_sample(m, "event", rows[i].event, rows[i].count);
}

const struct chan_counters *chan_listener_counters(const struct chan_listener *l)
{
	return &l->group.counters;
}
