#include "io/chan_int.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/hostlookup.h"
#include "io/sockaddr.h"

struct chan_client {
	struct chan_group group; /* first: on_gone and on_ready get this */
	struct chan *ch;	 /* the attempt under way, or the channel */
	struct event *retry;
	uint64_t backoff_us;
	bool local;
	socklen_t sa_len; /* 0: `host` is to be resolved */
	struct sockaddr_storage sa;
	struct net_addr remote;
	/* Of a name: its addresses are tried one after the other, then it is resolved anew. */
	struct host_lookup *lookup; /* under way */
	struct net_addr addrs[HOST_LOOKUP_ADDRS_MAX];
	unsigned addrs_next, addrs_count;
	uint16_t port;
	char host[NET_NAME_TEXT], text[CHAN_TEXT_BYTES];
};

/* --- address ------------------------------------------------------------------------------ */

static int parse_address(struct chan_client *c, const char *address)
{
	const char *path = sockaddr_unix_path(address);

	if (path) {
		c->local = true;
		c->sa_len = sockaddr_from_path(&c->sa, path);
		return c->sa_len ? 0 : -EINVAL;
	}
	if (net_addr_parse(&c->remote, address, 0) == 0) {
		c->local = chan_is_local(&c->remote);
		c->sa_len = sockaddr_from_net(&c->sa, &c->remote);
		return c->remote.port ? 0 : -EINVAL;
	}
	int err = net_name_parse(c->host, &c->port, address);
	c->local = !err && strcmp(c->host, "localhost") == 0;
	return err;
}

/* --- connect ------------------------------------------------------------------------------ */

static void arm_retry(struct chan_client *c)
{
	/* Three quarters to five quarters of the step: many clients of one restarted server spread.
	 */
	uint64_t us = c->backoff_us * 3 / 4 + randombytes_uniform((uint32_t)c->backoff_us / 2);
	struct timeval tv = {(time_t)(us / 1000000u), (suseconds_t)(us % 1000000u)};

	c->backoff_us *= 2;
	if (c->backoff_us > CHAN_BACKOFF_MAX_US)
		c->backoff_us = CHAN_BACKOFF_MAX_US;
	event_add(c->retry, &tv);
}

/* The socket beside a loopback port, connected; -1 when there is none. */
static int connect_twin(const struct chan_client *c)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_local_twin(&ss, c->remote.port);
	int fd = -1;

	if (c->group.opt.local_twin && net_addr_is_loopback(&c->remote))
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&ss, len) == 0)
		return fd;
	close(fd);
	return -1;
}

/* -1: libevent makes one. */
static int marked_socket(const struct chan_client *c)
{
	int mark = (int)c->group.opt.mark, fd;

	if (!mark || c->sa.ss_family == AF_UNIX)
		return -1;
	fd = socket(c->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark);
	return fd;
}

static void attempt(struct chan_client *c)
{
	struct sockaddr *sa = (struct sockaddr *)&c->sa;
	struct chan_group *g = &c->group;
	bool encrypted = g->opt.key && !(g->opt.plain_local && c->local);
	int twin = connect_twin(c);
	int fd = twin >= 0 ? twin : marked_socket(c);
	struct bufferevent *bev = bufferevent_socket_new(g->base, fd, BEV_OPT_CLOSE_ON_FREE);
	struct chan *ch = bev ? chan_new(g, bev, true, encrypted) : NULL;

	if (!bev && fd >= 0)
		close(fd);
	if (!ch) {
		arm_retry(c);
		return;
	}
	c->ch = ch;
	if (twin < 0)
		ch->remote = c->remote;
	memcpy(ch->text, c->text, sizeof ch->text);
	chan_hold(ch);
	/* A failure at once (no such socket file) may have ended it through its event already. */
	if (twin >= 0)
		chan_begin(ch);
	else if (bufferevent_socket_connect(bev, sa, (int)c->sa_len) && ch->phase != CHAN_DEAD)
		chan_end(ch, CODE_LOST, "cannot connect");
	chan_put(ch);
}

static void attempt_next(struct chan_client *c)
{
	c->remote = c->addrs[c->addrs_next++];
	c->sa_len = sockaddr_from_net(&c->sa, &c->remote);
	attempt(c);
}

static void no_address(struct chan_client *c, const char *why)
{
	if (log_limit_due(&c->group.limit_failed, daemon_now_us()))
		log_warn("%s: the name cannot be resolved: %s", c->text, why);
	arm_retry(c);
}

static void on_lookup(void *arg, const struct net_addr *addrs, unsigned count, const char *why)
{
	struct chan_client *c = arg;

	c->lookup = NULL;
	memcpy(c->addrs, addrs, count * sizeof *addrs);
	c->addrs_next = 0;
	c->addrs_count = count;
	if (count)
		attempt_next(c);
	else
		no_address(c, why);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct chan_client *c = arg;
	int err;

	(void)fd;
	(void)what;
	if (!c->host[0]) {
		attempt(c);
	} else if (c->addrs_next < c->addrs_count) {
		attempt_next(c);
	} else {
		err = host_lookup_new(&c->lookup, c->group.base, c->host, c->port, on_lookup, c);
		if (err)
			no_address(c, strerror(-err));
	}
}

static void client_on_gone(struct chan_group *g, struct chan *ch)
{
	struct chan_client *c = (struct chan_client *)g;

	if (c->ch != ch)
		return;
	c->ch = NULL;
	if (c->addrs_next < c->addrs_count)
		event_active(c->retry, EV_TIMEOUT, 0);
	else
		arm_retry(c);
}

static void client_on_ready(struct chan_group *g, struct chan *ch)
{
	struct chan_client *c = (struct chan_client *)g;
	(void)ch;
	c->backoff_us = CHAN_BACKOFF_MIN_US;
	g->limit_failed.logged = 0;
	c->addrs_count = 0; /* where the name leads may be elsewhere when it ends */
}

/* --- public ------------------------------------------------------------------------------- */

static int client_init(struct chan_client *c, const char *address)
{
	int err = parse_address(c, address);

	if (err)
		return err;
	if (!c->group.opt.key && !c->local)
		return -EPERM;
	snprintf(c->text, sizeof c->text, "%s %s", c->group.name, address);
	c->backoff_us = CHAN_BACKOFF_MIN_US;
	c->group.on_gone = client_on_gone;
	c->group.on_ready = client_on_ready;
	c->retry = event_new(c->group.base, -1, 0, on_retry, c);
	return c->retry ? 0 : -ENOMEM;
}

int chan_client_new(struct chan_client **out, struct event_base *base, const char *address,
		    const struct chan_options *opt)
{
	struct chan_client *c = calloc(1, sizeof *c);

	if (!c)
		return -ENOMEM;
	chan_group_init(&c->group, base, opt);
	int err = client_init(c, address);
	if (err) {
		chan_client_free(c);
		return err;
	}
	*out = c;
	/* From the loop, so that no callback comes before the owner has the pointer. */
	event_active(c->retry, EV_TIMEOUT, 0);
	return 0;
}

void chan_client_free(struct chan_client *c)
{
	if (!c)
		return;
	c->ch = NULL;
	chan_group_clear(&c->group);
	if (c->retry)
		event_free(c->retry);
	host_lookup_cancel(c->lookup);
	free(c);
}

struct chan *chan_client_chan(const struct chan_client *c)
{
	struct chan *ch = c->ch;
	return ch && (ch->phase == CHAN_HELLO || ch->phase == CHAN_READY) ? ch : NULL;
}

const struct chan_counters *chan_client_counters(const struct chan_client *c)
{
	return &c->group.counters;
}
