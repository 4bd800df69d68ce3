#include "socks/resolver.h"

#include <event2/dns.h>
#include <event2/event.h>
#include <event2/util.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "base/log.h"
#include "io/sockaddr.h"
#include "io/timer.h"

/* Name servers, and their sockets' buffers, are small beside a browser's hunger. */
#define INFLIGHT "512"
/* Clients choose the names: that many of them without an answer say nothing of the name server. */
#define TIMEOUTS "64"
#define BUCKETS 256u
#define HOSTS "/etc/hosts"
#define RESOLV_CONF "/etc/resolv.conf"

/* One question to evdns.  Whoever asks for the same name meanwhile gets the same answer. */
struct question {
	LIST_ENTRY(question) link;
	struct resolver *resolver;
	struct event *later; /* tells them */
	bool asking;	     /* evdns works on it */
	uint64_t asker;	     /* the first */
	LIST_HEAD(, lookup) lookups;
	struct net_addr addrs[RESOLVER_ADDRS_MAX];
	unsigned count;
	char name[];
};

struct lookup {
	LIST_ENTRY(lookup) link;
	struct question *question;
	resolver_cb *cb;
	void *arg;
	uint16_t port;
};

struct resolver {
	struct event_base *base;
	struct evdns_base *dns;
	struct stat hosts, resolv_conf; /* as they were when they were read; zero: not there */
	bool configured;		/* resolv.conf does not count */
	LIST_HEAD(, question) buckets[BUCKETS];
	unsigned lookup_count, asking_count;
};

/* --- what the host says of names: a network that comes up changes it while we run --- */

static bool changed(const char *path, struct stat *known)
{
	struct stat now = {0};

	if (stat(path, &now))
		now = (struct stat){0};
	if (now.st_ino == known->st_ino && now.st_dev == known->st_dev &&
	    now.st_size == known->st_size && now.st_mtim.tv_sec == known->st_mtim.tv_sec &&
	    now.st_mtim.tv_nsec == known->st_mtim.tv_nsec)
		return false;
	*known = now;
	return true;
}

/* Over those of resolv.conf. */
static void options_set(struct resolver *r)
{
	evdns_base_set_option(r->dns, "timeout", "3");
	evdns_base_set_option(r->dns, "max-inflight", INFLIGHT);
	evdns_base_set_option(r->dns, "max-timeouts", TIMEOUTS);
}

static int servers_read(struct resolver *r)
{
	return evdns_base_resolv_conf_parse(r->dns, DNS_OPTION_NAMESERVERS | DNS_OPTION_MISC,
					    RESOLV_CONF);
}

/* Questions that wait for an old server's answer go to the new ones. */
static void files_look(struct resolver *r)
{
	if (changed(HOSTS, &r->hosts)) {
		evdns_base_clear_host_addresses(r->dns);
		evdns_base_load_hosts(r->dns, HOSTS);
	}
	if (r->configured || !changed(RESOLV_CONF, &r->resolv_conf))
		return;
	evdns_base_clear_nameservers_and_suspend(r->dns);
	if (servers_read(r))
		log_warn("socks: no name servers in " RESOLV_CONF ": names will not be resolved");
	options_set(r);
	evdns_base_resume(r->dns);
}

static int add_servers(struct resolver *r, const struct net_addr *servers, unsigned count)
{
	char text[NET_ADDR_TEXT];

	r->configured = count > 0;
	changed(HOSTS, &r->hosts);
	evdns_base_load_hosts(r->dns, HOSTS);
	if (count == 0) {
		changed(RESOLV_CONF, &r->resolv_conf);
		return servers_read(r);
	}
	for (unsigned i = 0; i < count; i++)
		if (evdns_base_nameserver_ip_add(r->dns, net_addr_text(&servers[i], text)))
			return -1;
	return 0;
}

/* --- questions --- */

/* FNV-1a; what a client gains from collisions is a slow list of at most RESOLVER_LOOKUPS_MAX. */
static unsigned bucket_of(const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	return (h ^ h >> 16) % BUCKETS;
}

static void question_free(struct question *q)
{
	LIST_REMOVE(q, link);
	event_free(q->later);
	free(q);
}

void resolver_cancel(struct lookup *l)
{
	LIST_REMOVE(l, link);
	l->question->resolver->lookup_count--;
	free(l);
}

/* A callback may ask for the same name, or cancel another lookup: the question is out of the table
 * before it, and its lookups leave the list one by one. */
static void on_later(evutil_socket_t fd, short what, void *arg)
{
	struct question *q = arg;
	struct lookup *l;

	(void)fd;
	(void)what;
	while ((l = LIST_FIRST(&q->lookups))) {
		struct lookup copy = *l;
		struct net_addr addrs[RESOLVER_ADDRS_MAX];
		memcpy(addrs, q->addrs, sizeof addrs);
		for (unsigned i = 0; i < q->count; i++)
			addrs[i].port = copy.port;
		resolver_cancel(l);
		copy.cb(copy.arg, addrs, q->count);
	}
	question_free(q);
}

/* evdns has answered, perhaps while it was still being asked. */
static void on_answer(int error, struct evutil_addrinfo *res, void *arg)
{
	struct question *q = arg;

	q->asking = false;
	q->resolver->asking_count--;
	for (struct evutil_addrinfo *a = res; a && q->count < RESOLVER_ADDRS_MAX; a = a->ai_next) {
		sockaddr_to_net(&q->addrs[q->count], a->ai_addr);
		if (q->addrs[q->count].family)
			q->count++;
	}
	if (error)
		log_debug("socks: %s: %s", q->name, evutil_gai_strerror(error));
	if (res)
		evutil_freeaddrinfo(res);
	event_active(q->later, EV_TIMEOUT, 0);
}

/* Who asks for names that nobody answers keeps a share of the questions busy, not all. */
static unsigned questions_of(const struct resolver *r, uint64_t asker)
{
	const struct question *q;
	unsigned count = 0;

	for (unsigned i = 0; i < BUCKETS; i++)
		LIST_FOREACH(q, &r->buckets[i], link)
			count += q->asking && q->asker == asker;
	return count;
}

/* NULL: too many, or out of memory. */
static struct question *question_get(struct resolver *r, uint64_t asker, const char *name)
{
	const struct evutil_addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	unsigned bucket = bucket_of(name);
	size_t len = strlen(name);
	struct question *q;

	LIST_FOREACH(q, &r->buckets[bucket], link)
		if (q->asking && strcmp(q->name, name) == 0)
			return q;
	if (questions_of(r, asker) >= RESOLVER_QUESTIONS_MAX)
		return NULL;
	q = calloc(1, sizeof *q + len + 1);
	if (!q)
		return NULL;
	q->resolver = r;
	q->asker = asker;
	memcpy(q->name, name, len);
	LIST_INIT(&q->lookups);
	LIST_INSERT_HEAD(&r->buckets[bucket], q, link);
	q->later = timer_new(r->base, on_later, q);
	if (!q->later) {
		LIST_REMOVE(q, link);
		free(q);
		return NULL;
	}
	q->asking = true;
	r->asking_count++;
	files_look(r);
	/* Never cancelled: its answer is as good for the next who asks. */
	evdns_getaddrinfo(r->dns, name, NULL, &hints, on_answer, q);
	return q;
}

struct lookup *resolver_ask(struct resolver *r, uint64_t asker, const char *name, uint16_t port,
			    resolver_cb *cb, void *arg)
{
	struct question *q = NULL;
	struct lookup *l;

	if (r->lookup_count >= RESOLVER_LOOKUPS_MAX)
		return NULL;
	l = calloc(1, sizeof *l);
	if (l)
		q = question_get(r, asker, name);
	if (!q) {
		free(l);
		return NULL;
	}
	l->question = q;
	l->cb = cb;
	l->arg = arg;
	l->port = port;
	LIST_INSERT_HEAD(&q->lookups, l, link);
	r->lookup_count++;
	return l;
}

static void on_evdns(int is_warning, const char *text)
{
	if (is_warning)
		log_debug("socks: evdns: %s", text);
}

struct resolver *resolver_new(struct event_base *base, const struct net_addr *servers,
			      unsigned count)
{
	struct resolver *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	evdns_set_log_fn(on_evdns);
	r->base = base;
	for (unsigned i = 0; i < BUCKETS; i++)
		LIST_INIT(&r->buckets[i]);
	r->dns = evdns_base_new(base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (!r->dns) {
		free(r);
		return NULL;
	}
	if (add_servers(r, servers, count))
		log_warn("socks: no name servers: names will not be resolved");
	options_set(r);
	return r;
}

void resolver_free(struct resolver *r)
{
	struct question *q;

	if (!r)
		return;
	for (unsigned i = 0; i < BUCKETS; i++)
		LIST_FOREACH(q, &r->buckets[i], link)
			while (!LIST_EMPTY(&q->lookups))
				resolver_cancel(LIST_FIRST(&q->lookups));
	/* evdns tells its failed requests from the loop, and frees them there. */
	evdns_base_free(r->dns, 1);
	for (unsigned i = 0; i < 8 && r->asking_count; i++)
		event_base_loop(r->base, EVLOOP_NONBLOCK);
	for (unsigned i = 0; i < BUCKETS; i++)
		while (!LIST_EMPTY(&r->buckets[i]))
			question_free(LIST_FIRST(&r->buckets[i]));
	free(r);
}
