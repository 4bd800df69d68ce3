#include "subscriberd/walk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/log.h"
#include "subscriberd/walk_table.h"

#define DEPTH_UNKNOWN 255

struct list {
	void **at;
	size_t count, capacity;
};

/* What waits for its turn, oldest first. */
struct fifo {
	struct list hosts;
	size_t head;
};

/* Told ones come first, those of a slow network have a pace of their own. */
enum { Q_TOLD, Q_PLAIN, Q_SLOW, QUEUES };

struct question {
	uint64_t serial; /* 0: free */
	struct walk_host *host;
	uint8_t network;
	bool is_ask;
	struct net_addr addr;
};

struct walk {
	struct walk_policy policy;
	const struct walk_ops *ops;
	void *ctx;
	struct walk_table table;
	struct fifo queues[QUEUES];
	struct question questions[WALK_PARALLEL_MAX];
	unsigned open;
	uint64_t counter;

	/* The host at hand: what is still to be asked of it. */
	struct walk_host *current;
	uint32_t current_networks;
	size_t current_port;
	bool current_told;

	uint32_t networks, incomplete; /* of this scan; those that failed or were left */
	uint32_t told;
	uint64_t next_us, last_us, slow_at_us;
	struct walk_progress p;

	/* Of the answer that is being taken. */
	struct list fresh, seen; /* hosts, links */
};

const char *walk_answer_name(enum walk_answer a)
{
	static const char names[][11] = {"not asked", "silent", "no gateway", "gateway"};
	return (unsigned)a < 4 ? names[a] : "?";
}

/* ---- queues ---- */

static bool push(struct list *l, void *value)
{
	if (l->count == l->capacity) {
		size_t more = l->capacity ? 2 * l->capacity : 64;
		void **moved = realloc(l->at, more * sizeof *moved);
		if (!moved)
			return false;
		l->at = moved;
		l->capacity = more;
	}
	l->at[l->count++] = value;
	return true;
}

static void fifo_push(struct fifo *f, struct walk_host *h)
{
	if (f->head == f->hosts.count)
		f->head = f->hosts.count = 0;
	if (push(&f->hosts, h))
		h->queued = true;
}

static struct walk_host *fifo_pop(struct fifo *f)
{
	return f->head < f->hosts.count ? f->hosts.at[f->head++] : NULL;
}

static size_t fifo_length(const struct fifo *f)
{
	return f->hosts.count - f->head;
}

static bool is_allowed(const struct walk *w, const struct net_addr *a)
{
	for (size_t i = 0; i < w->policy.allowed_count; i++)
		if (net_prefix_contains(&w->policy.allowed[i], a))
			return true;
	return false;
}

/* The only network that knows it, if that one has a pace of its own; else -1. */
static int slow_network(const struct walk *w, const struct walk_host *h)
{
	for (int n = 0; n < WALK_NETWORKS_MAX; n++)
		if (h->networks == UINT32_C(1) << n)
			return w->policy.network_delay_us[n] ? n : -1;
	return -1;
}

/* Puts a host where its turn will come, once a scan. */
static void enqueue(struct walk *w, struct walk_host *h, bool told)
{
	if (h->queued || h->asked_scan == w->p.scan || h->depth > w->policy.depth_max)
		return;
	fifo_push(&w->queues[told ? Q_TOLD : slow_network(w, h) >= 0 ? Q_SLOW : Q_PLAIN], h);
}

/* ---- begin and end ---- */

struct walk *walk_new(const struct walk_policy *policy, const struct walk_ops *ops, void *ctx,
		      uint64_t seed)
{
	struct walk *w = calloc(1, sizeof *w);

	if (!w)
		return NULL;
	w->policy = *policy;
	w->ops = ops;
	w->ctx = ctx;
	w->next_us = TIMER_NEVER;
	if (walk_table_init(&w->table, policy->hosts_max, seed)) {
		walk_free(w);
		return NULL;
	}
	return w;
}

void walk_free(struct walk *w)
{
	if (!w)
		return;
	walk_table_free(&w->table);
	for (int i = 0; i < QUEUES; i++)
		free(w->queues[i].hosts.at);
	free(w->fresh.at);
	free(w->seen.at);
	free(w);
}

void walk_set_policy(struct walk *w, const struct walk_policy *policy)
{
	size_t hosts_max = w->policy.hosts_max; /* the table has its size */

	w->policy = *policy;
	w->policy.hosts_max = hosts_max;
}

void walk_set_own(struct walk *w, const struct net_addr *addrs, size_t count)
{
	w->table.own_count = count < WALK_OWN_MAX ? count : WALK_OWN_MAX;
	for (size_t i = 0; i < w->table.own_count; i++) {
		w->table.own[i] = addrs[i];
		w->table.own[i].port = 0;
	}
}

static void on_forget(void *ctx, const struct walk_host *h)
{
	struct walk *w = ctx;

	w->ops->forget(w->ctx, h);
}

static void clear_queues(struct walk *w)
{
	for (int i = 0; i < QUEUES; i++)
		w->queues[i].head = w->queues[i].hosts.count = 0;
	for (size_t i = 0; i < w->table.host_count; i++) {
		struct walk_host *h = w->table.hosts[i];
		h->queued = h->heard = false;
		h->queried = 0;
		h->open = 0;
	}
	memset(w->questions, 0, sizeof w->questions);
	w->open = 0;
	w->current = NULL;
}

bool walk_start(struct walk *w, uint32_t networks, uint32_t scan, uint64_t now_s, uint64_t now)
{
	if (w->p.running)
		return false;
	clear_queues(w);
	if (w->table.host_count * 4 > w->policy.hosts_max * 3)
		walk_table_compact(&w->table, on_forget, w);
	w->p = (struct walk_progress){
		.running = true, .scan = scan, .started_s = now_s, .ignored = w->p.ignored};
	w->networks = networks & ~WALK_TOLD;
	w->incomplete = 0;
	w->told = 0;
	for (int n = 0; n < WALK_NETWORKS_MAX; n++)
		if (networks >> n & 1)
			w->p.network[n] = WALK_WAITING;
	/* Our own host first; then what an interrupted scan has left. */
	fifo_push(&w->queues[Q_TOLD], w->table.hosts[0]);
	for (size_t i = 1; i < w->table.host_count; i++)
		if (w->table.hosts[i]->seen_scan == scan)
			enqueue(w, w->table.hosts[i], false);
	w->next_us = w->slow_at_us = now;
	return true;
}

/* What this scan should have seen and has not. */
static void mark_gone(struct walk *w)
{
	uint32_t sure = w->networks & ~w->incomplete;

	for (size_t i = 1; i < w->table.host_count; i++) {
		struct walk_host *h = w->table.hosts[i];
		uint32_t of = h->networks & ~WALK_TOLD;
		bool unheard = of ? (of & ~sure) == 0 : h->asked_scan == w->p.scan;
		if (h->gone || (h->seen_scan == w->p.scan && of) || !unheard ||
		    (h->asked_scan == w->p.scan && h->answer > WALK_SILENT))
			continue;
		h->gone = true;
		w->ops->host(w->ctx, h, true);
	}
	for (size_t i = 0; i < w->table.link_count; i++) {
		struct walk_link *l = w->table.links[i];
		if (l->gone || l->seen_scan == w->p.scan || !(sure >> l->network & 1))
			continue;
		l->gone = true;
		w->ops->link(w->ctx, l, true);
	}
}

static void finish(struct walk *w, uint64_t now_s)
{
	if (!w->p.enough)
		mark_gone(w);
	w->p.running = false;
	w->p.finished_s = now_s;
	w->next_us = TIMER_NEVER;
	w->ops->finished(w->ctx);
}

void walk_stop(struct walk *w, uint64_t now_s)
{
	if (!w->p.running)
		return;
	clear_queues(w);
	w->p.running = false;
	w->p.finished_s = now_s;
	w->next_us = TIMER_NEVER;
}

/* ---- questions ---- */

static struct question *question_new(struct walk *w, struct walk_host *h)
{
	for (unsigned i = 0; i < w->policy.parallel && i < WALK_PARALLEL_MAX; i++) {
		struct question *q = &w->questions[i];
		if (q->serial)
			continue;
		*q = (struct question){.serial = ++w->counter, .host = h};
		w->open++;
		h->open++;
		return q;
	}
	return NULL;
}

static struct question *question_of(struct walk *w, uint64_t serial)
{
	for (unsigned i = 0; serial && i < WALK_PARALLEL_MAX; i++)
		if (w->questions[i].serial == serial)
			return &w->questions[i];
	return NULL;
}

/* The networks that this host is still to be asked about. */
static uint32_t networks_about(const struct walk *w, const struct walk_host *h)
{
	bool own = net_host_is_own(&h->host);

	return (own ? w->networks : h->networks & w->networks & w->policy.walkers) & ~h->queried;
}

static bool may_ask(const struct walk *w, const struct walk_host *h)
{
	if (net_host_is_own(&h->host))
		return w->table.own_count > 0;
	return h->host.addr.family && is_allowed(w, &h->host.addr);
}

static void take_up(struct walk *w, struct walk_host *h)
{
	w->current = h;
	w->current_networks = networks_about(w, h);
	w->current_told = may_ask(w, h) && h->told_port;
	w->current_port = may_ask(w, h) ? 0 : w->policy.port_count;
	for (size_t i = 0; i < w->policy.port_count; i++)
		if (w->policy.ports[i] == h->told_port)
			w->current_told = false;
	/* One of whom only a gateway told is asked on the port that it told. */
	if (h->networks == WALK_TOLD && h->told_port && w->current_told)
		w->current_port = w->policy.port_count;
}

static bool current_done(const struct walk *w)
{
	return !w->current || (!w->current_networks && !w->current_told &&
			       w->current_port >= w->policy.port_count);
}

static void host_settled(struct walk *w, struct walk_host *h, uint64_t now_s)
{
	if (h->open || (w->current == h && !current_done(w)) || h->asked_scan == w->p.scan)
		return;
	h->asked_scan = w->p.scan;
	h->asked_s = now_s;
	w->p.asked++;
	if (!h->heard && may_ask(w, h)) {
		bool news = h->answer != WALK_SILENT;
		h->answer = WALK_SILENT;
		w->ops->host(w->ctx, h, news);
	} else {
		w->ops->host(w->ctx, h, false);
	}
}

/* The next host whose turn it is; NULL when none, then *at is when one may be. */
static struct walk_host *next_host(struct walk *w, uint64_t now, uint64_t *at)
{
	struct walk_host *h = fifo_pop(&w->queues[Q_TOLD]);

	if (!h)
		h = fifo_pop(&w->queues[Q_PLAIN]);
	*at = TIMER_NEVER;
	if (h)
		return h;
	if (fifo_length(&w->queues[Q_SLOW]) == 0)
		return NULL;
	if (now < w->slow_at_us) {
		*at = w->slow_at_us;
		return NULL;
	}
	h = fifo_pop(&w->queues[Q_SLOW]);
	int n = slow_network(w, h);
	w->slow_at_us = now + (n >= 0 ? w->policy.network_delay_us[n] : 0);
	return h;
}

static void ask_port(struct walk *w, struct question *q, uint16_t port)
{
	q->is_ask = true;
	q->addr = net_host_is_own(&q->host->host) ? w->table.own[0] : q->host->host.addr;
	q->addr.port = port;
	w->ops->ask(w->ctx, &q->addr, q->serial);
}

/* One question of the host at hand. */
static void ask_one(struct walk *w)
{
	struct walk_host *h = w->current;
	struct question *q = question_new(w, h);
	unsigned n = 0;

	if (!q)
		return;
	if (w->current_told) {
		w->current_told = false;
		ask_port(w, q, h->told_port);
	} else if (w->current_networks) {
		while (!(w->current_networks >> n & 1))
			n++;
		w->current_networks &= ~(UINT32_C(1) << n);
		h->queried |= UINT32_C(1) << n;
		q->network = (uint8_t)n;
		w->ops->query(w->ctx, n, net_host_is_own(&h->host) ? NULL : &h->host, q->serial);
	} else {
		ask_port(w, q, w->policy.ports[w->current_port++]);
	}
}

static uint32_t waiting(const struct walk *w)
{
	size_t n = w->open;

	for (int i = 0; i < QUEUES; i++)
		n += fifo_length(&w->queues[i]);
	return (uint32_t)n;
}

uint64_t walk_next(const struct walk *w)
{
	return w->next_us;
}

void walk_run(struct walk *w, uint64_t now_s, uint64_t now)
{
	while (w->p.running && now >= w->next_us) {
		uint64_t at = TIMER_NEVER;
		if (w->open >= w->policy.parallel) {
			w->next_us = TIMER_NEVER; /* an answer goes on */
			return;
		}
		if (current_done(w)) {
			struct walk_host *h = next_host(w, now, &at);
			w->current = NULL;
			if (!h) {
				w->next_us = at;
				if (at == TIMER_NEVER && !w->open)
					finish(w, now_s);
				return;
			}
			take_up(w, h);
			if (current_done(w)) {
				w->current = NULL;
				host_settled(w, h, now_s);
				continue;
			}
		}
		ask_one(w);
		w->last_us = now;
		w->next_us = now + w->policy.delay_us;
	}
}

/* After an answer: goes on, or is at its end. */
static void go_on(struct walk *w, uint64_t now_s, uint64_t now)
{
	if (!w->p.running)
		return;
	if (w->policy.gateways_max && w->p.gateways >= w->policy.gateways_max) {
		clear_queues(w);
		w->p.enough = true;
	}
	if (current_done(w) && waiting(w) == 0)
		finish(w, now_s);
	else if (w->next_us > now)
		w->next_us = w->last_us + w->policy.delay_us > now ? w->last_us + w->policy.delay_us
								   : now;
}

/* ---- what networks tell ---- */

static void seen_now(struct walk *w, struct walk_host *h, bool fresh, uint32_t network,
		     uint64_t now_s)
{
	bool news = fresh || h->gone || !(h->networks & network);
	bool first = h->seen_scan != w->p.scan;

	h->networks |= network;
	h->gone = false;
	/* What a gateway tells does not stand for the networks that knew it. */
	if (network != WALK_TOLD || h->networks == WALK_TOLD) {
		h->seen_scan = w->p.scan;
		h->seen_s = now_s;
	}
	if (fresh)
		h->first_s = now_s;
	if (first)
		push(&w->fresh, h);
	if (news || first)
		w->ops->host(w->ctx, h, news);
}

static struct walk_host *saw(struct walk *w, const struct question *q, const struct net_host *h,
			     uint64_t now_s)
{
	bool fresh = false;
	struct walk_host *host = walk_table_add_host(&w->table, h, &fresh);

	if (!host) {
		if (w->p.ignored++ == 0)
			log_warn("more hosts than subscriber.ScanHosts: the rest is ignored");
		return NULL;
	}
	if (host == w->table.hosts[0])
		return host;
	/* Where it is may have changed since the last scan. */
	if (fresh || host->seen_scan != w->p.scan) {
		host->depth = DEPTH_UNKNOWN;
		host->from = q->host;
	}
	/* An address or a name that another network did not know. */
	if (!host->host.name[0] && h->name[0])
		memcpy(host->host.name, h->name, sizeof host->host.name);
	if (!host->host.how[0] && h->how[0])
		memcpy(host->host.how, h->how, sizeof host->host.how);
	seen_now(w, host, fresh, UINT32_C(1) << q->network, now_s);
	return host;
}

int walk_saw_host(struct walk *w, uint64_t serial, const struct net_host *h, uint64_t now_s)
{
	const struct question *q = question_of(w, serial);

	if (q && !net_host_is_own(h))
		saw(w, q, h, now_s);
	return 0;
}

int walk_saw_link(struct walk *w, uint64_t serial, const struct net_link *l, uint64_t now_s)
{
	const struct question *q = question_of(w, serial);
	bool fresh = false;

	if (!q)
		return 0;
	struct walk_host *a = saw(w, q, &l->a, now_s), *b = saw(w, q, &l->b, now_s);
	if (!a || !b || a == b)
		return 0;
	struct walk_link *link = walk_table_add_link(&w->table, a, b, q->network, &fresh);
	if (!link) {
		w->p.ignored++;
		return 0;
	}
	bool news = fresh || link->gone || (l->cost && link->cost != l->cost),
	     first = link->seen_scan != w->p.scan;
	if (fresh)
		link->first_s = now_s;
	if (l->cost)
		link->cost = l->cost;
	link->gone = false;
	link->seen_scan = w->p.scan;
	link->seen_s = now_s;
	push(&w->seen, link);
	if (news || first)
		w->ops->link(w->ctx, link, news);
	return 0;
}

static bool nearer(struct walk_host *h, const struct walk_host *than)
{
	if (than->depth + 1 >= h->depth)
		return false;
	h->depth = (uint8_t)(than->depth + 1);
	h->from = than;
	return true;
}

/* Depths along the links of this answer; what no link reaches is one behind whom we asked. */
static void settle_depths(struct walk *w, struct walk_host *asked)
{
	bool changed = true;

	for (unsigned round = 0; changed && round < DEPTH_UNKNOWN; round++) {
		changed = false;
		for (size_t i = 0; i < w->seen.count; i++) {
			struct walk_link *l = w->seen.at[i];
			changed |= nearer(l->b, l->a) || nearer(l->a, l->b);
		}
	}
	for (size_t i = 0; i < w->fresh.count; i++) {
		struct walk_host *h = w->fresh.at[i];
		if (h->depth == DEPTH_UNKNOWN)
			nearer(h, asked);
	}
}

static int by_depth(const void *a, const void *b)
{
	const struct walk_host *x = *(void *const *)a, *y = *(void *const *)b;

	if (x->depth != y->depth)
		return x->depth < y->depth ? -1 : 1;
	if (x->host.addr.family != y->host.addr.family)
		return x->host.addr.family < y->host.addr.family ? -1 : 1;
	return memcmp(x->host.addr.ip, y->host.addr.ip, 16);
}

static void question_end(struct walk *w, struct question *q, uint64_t now_s)
{
	struct walk_host *h = q->host;

	q->serial = 0;
	w->open--;
	h->open--;
	host_settled(w, h, now_s);
}

void walk_on_query(struct walk *w, uint64_t serial, const char *error, uint64_t now_s, uint64_t now)
{
	struct question *q = question_of(w, serial);

	if (!q || q->is_ask)
		return;
	if (error)
		w->incomplete |= UINT32_C(1) << q->network;
	if (net_host_is_own(&q->host->host)) {
		w->p.network[q->network] = error ? WALK_FAILED : WALK_ANSWERED;
		cstr_copy(w->p.why[q->network], WALK_WHY_MAX, error ? error : "");
	}
	settle_depths(w, q->host);
	if (w->fresh.count)
		qsort(w->fresh.at, w->fresh.count, sizeof *w->fresh.at, by_depth);
	for (size_t i = 0; i < w->fresh.count; i++) {
		w->ops->host(w->ctx, w->fresh.at[i], false);
		enqueue(w, w->fresh.at[i], false);
	}
	w->fresh.count = w->seen.count = 0;
	question_end(w, q, now_s);
	go_on(w, now_s, now);
}

/* ---- what hosts answer ---- */

static bool same_gateway(const struct walk_gateway *a, const struct walk_gateway *b)
{
	return net_addr_equal(&a->addr, &b->addr) && strcmp(a->name, b->name) == 0 &&
	       strcmp(a->id, b->id) == 0;
}

static void take_gateway(struct walk *w, struct walk_host *h, const struct walk_gateway *gateway,
			 const struct net_addr *addr)
{
	struct walk_gateway now = *gateway;
	bool news = h->answer != WALK_GATEWAY;

	now.addr = *addr;
	if (!h->gateway && !(h->gateway = calloc(1, sizeof *h->gateway)))
		return;
	news |= !same_gateway(h->gateway, &now);
	*h->gateway = now;
	if (!h->heard || h->answer != WALK_GATEWAY)
		w->p.gateways++;
	h->answer = WALK_GATEWAY;
	h->heard = true;
	w->ops->host(w->ctx, h, news);
	w->ops->gateway(w->ctx, h);
}

/* A stranger's word: its own networks only, and not without end. */
static void take_told(struct walk *w, struct walk_host *by, const struct net_addr *told,
		      size_t count, uint64_t now_s)
{
	for (size_t i = 0; i < count && i < WALK_TOLD_MAX; i++) {
		struct net_host h = {.addr = told[i], .how = "told"};
		bool fresh = false;
		if (!told[i].port || !is_allowed(w, &told[i]) || w->told >= WALK_TOLD_ALL)
			continue;
		h.addr.port = 0;
		struct walk_host *host = walk_table_add_host(&w->table, &h, &fresh);
		if (!host || host == w->table.hosts[0])
			continue;
		w->told++;
		if (fresh) {
			host->depth = by->depth < DEPTH_UNKNOWN - 1 ? (uint8_t)(by->depth + 1)
								    : by->depth;
			host->from = by;
		}
		host->told_port = told[i].port;
		seen_now(w, host, fresh, WALK_TOLD, now_s);
		enqueue(w, host, true);
	}
	w->fresh.count = 0;
}

void walk_on_ask(struct walk *w, uint64_t serial, enum walk_answer answer,
		 const struct walk_gateway *gateway, const struct net_addr *told, size_t told_count,
		 uint64_t now_s, uint64_t now)
{
	struct question *q = question_of(w, serial);
	struct walk_host *h;

	if (!q || !q->is_ask)
		return;
	h = q->host;
	if (answer >= WALK_NO_GATEWAY && !h->heard)
		w->p.answered++;
	if (answer == WALK_GATEWAY) {
		take_gateway(w, h, gateway, &q->addr);
		take_told(w, h, told, told_count, now_s);
	} else if (answer == WALK_NO_GATEWAY && !h->heard) {
		bool news = h->answer != WALK_NO_GATEWAY;
		h->answer = WALK_NO_GATEWAY;
		h->heard = true;
		w->ops->host(w->ctx, h, news);
	}
	question_end(w, q, now_s);
	go_on(w, now_s, now);
}

/* ---- the store, and looking at it ---- */

int walk_restore_host(struct walk *w, const struct walk_host *saved, const struct net_host *from)
{
	bool fresh = false;
	struct walk_host *h = walk_table_add_host(&w->table, &saved->host, &fresh);
	struct walk_gateway *gateway = NULL;

	if (!h)
		return -ENOSPC;
	if (h == w->table.hosts[0] && !net_host_is_own(&saved->host))
		return 0;
	if (saved->gateway) {
		gateway = malloc(sizeof *gateway);
		if (!gateway)
			return -ENOMEM;
		*gateway = *saved->gateway;
	}
	free(h->gateway);
	struct net_host named = h->host;
	*h = *saved;
	h->host = named;
	h->gateway = gateway;
	h->queried = 0;
	h->open = 0;
	h->queued = h->heard = false;
	h->from = from ? walk_table_host(&w->table, from) : NULL;
	if (!h->from && h != w->table.hosts[0])
		h->from = w->table.hosts[0];
	return 0;
}

int walk_restore_link(struct walk *w, const struct net_host *a, const struct net_host *b,
		      const struct walk_link *saved)
{
	struct walk_host *x = walk_table_host(&w->table, a), *y = walk_table_host(&w->table, b);
	bool fresh = false;
	struct walk_link *l;

	if (!x || !y || x == y || saved->network >= WALK_NETWORKS_MAX)
		return 0;
	l = walk_table_add_link(&w->table, x, y, saved->network, &fresh);
	if (!l)
		return -ENOSPC;
	*l = *saved;
	l->a = x;
	l->b = y;
	return 0;
}

void walk_progress(const struct walk *w, struct walk_progress *out)
{
	*out = w->p;
	out->hosts = out->links = 0;
	for (size_t i = 1; i < w->table.host_count; i++)
		out->hosts += !w->table.hosts[i]->gone;
	for (size_t i = 0; i < w->table.link_count; i++)
		out->links += !w->table.links[i]->gone;
	out->waiting = waiting(w);
}

const struct walk_host *walk_find(const struct walk *w, const struct net_host *h)
{
	return walk_table_host(&w->table, h);
}

const struct walk_host *walk_next_host(const struct walk *w, size_t *it)
{
	return *it < w->table.host_count ? w->table.hosts[(*it)++] : NULL;
}
