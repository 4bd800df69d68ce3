#include "io/chan_int.h"

#include <dlfcn.h>
#include <errno.h>
#include <event2/dns.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/sockaddr.h"

#define HOST_MAX 256

struct chan_client {
	struct chan_group group; /* first: on_gone and on_ready get this */
	struct chan *ch;	 /* the attempt under way, or the channel */
	struct event *retry;
	struct evdns_base *dns; /* only when the address is a name */
	void (*dns_free)(struct evdns_base *, int);
	bool dns_sought; /* once is enough, found or not */
	uint64_t backoff_us;
	bool local;
	socklen_t sa_len; /* 0: `host` is to be resolved */
	struct sockaddr_storage sa;
	struct net_addr remote;
	uint16_t port;
	char host[HOST_MAX], text[CHAN_TEXT_BYTES];
};

/* --- address ------------------------------------------------------------------------------ */

static int parse_name(struct chan_client *c, const char *address)
{
	const char *colon = strrchr(address, ':');
	char *end;

	if (!colon || colon == address || (size_t)(colon - address) >= sizeof c->host)
		return -EINVAL;
	unsigned long port = strtoul(colon + 1, &end, 10);
	if (colon[1] < '0' || colon[1] > '9' || *end || port == 0 || port > UINT16_MAX)
		return -EINVAL;
	memcpy(c->host, address, (size_t)(colon - address));
	if (strpbrk(c->host, " \t/[]"))
		return -EINVAL;
	c->port = (uint16_t)port;
	c->local = strcmp(c->host, "localhost") == 0;
	return 0;
}

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
	return parse_name(c, address);
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

/*
 * libevent's resolver is loaded when a name is first asked for: it would cost every node that is
 * given a number 0.1 MB.  Where it is missing, libevent_core asks getaddrinfo(3), which waits.
 */
static void dns_open(struct chan_client *c)
{
	struct evdns_base *(*dns_new)(struct event_base *, int);
	void *library = dlopen("libevent_extra-2.1.so.7", RTLD_NOW | RTLD_GLOBAL);
	void *new = library ? dlsym(library, "evdns_base_new") : NULL;
	void *gone = new ? dlsym(library, "evdns_base_free") : NULL;

	c->dns_sought = true;
	if (!gone) {
		const char *why = dlerror();
		log_warn("names are resolved without libevent_extra: %s", why ? why : "unusable");
		return;
	}
	/* ISO C has no cast from one kind of pointer to the other; dlsym(3) wants one. */
	memcpy(&dns_new, &new, sizeof dns_new);
	memcpy(&c->dns_free, &gone, sizeof c->dns_free);
	c->dns = dns_new(c->group.base,
			 EVDNS_BASE_INITIALIZE_NAMESERVERS | EVDNS_BASE_DISABLE_WHEN_INACTIVE);
}

static int start_connect(struct chan_client *c, struct bufferevent *bev)
{
	if (c->sa_len)
		return bufferevent_socket_connect(bev, (struct sockaddr *)&c->sa, (int)c->sa_len);
	if (!c->dns_sought)
		dns_open(c);
	return bufferevent_socket_connect_hostname(bev, c->dns, AF_UNSPEC, c->host, c->port);
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

	if (!mark || !c->sa_len || c->sa.ss_family == AF_UNIX)
		return -1;
	fd = socket(c->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark);
	return fd;
}

static void attempt(struct chan_client *c)
{
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
	else if (start_connect(c, bev) && ch->phase != CHAN_DEAD)
		chan_end(ch, CODE_LOST, "cannot connect");
	chan_put(ch);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	attempt(arg);
}

static void client_on_gone(struct chan_group *g, struct chan *ch)
{
	struct chan_client *c = (struct chan_client *)g;

	if (c->ch != ch)
		return;
	c->ch = NULL;
	arm_retry(c);
}

static void client_on_ready(struct chan_group *g, struct chan *ch)
{
	struct chan_client *c = (struct chan_client *)g;
	(void)ch;
	c->backoff_us = CHAN_BACKOFF_MIN_US;
	g->limit_failed.logged = 0;
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
	if (c->dns)
		c->dns_free(c->dns, 1);
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
