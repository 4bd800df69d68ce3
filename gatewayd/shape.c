#include "gatewayd/shape.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/hostjournal.h"
#include "io/netlink_tc.h"

#define ROOT_CLASS 1u /* the index of our own address: no lease has it */
#define SPARE_CLASS 0xffffu
#define UNLIMITED (uint64_t) NL_TC_RATE_MAX
#define KBPS_BYTES 125u
#define SURE_MIN_BYTES 1000u /* a second, at least, is every lease's own */
#define QUEUE_US 100000u     /* of a plain queue */
#define QUEUE_MIN_BYTES 20000u
#define SHAPE_QUEUE_MAX 12

/* A tunnel's interface that is led through our links. */
struct attached {
	LIST_ENTRY(attached) link;
	char name[LEASE_INTERFACE_MAX + 1];
	uint32_t index;
	unsigned leases;
	bool own;    /* of leases with addresses of their own */
	bool hooked; /* else somebody else's hooks are there */
};

/* A lease that keeps addresses of its own, one of them. */
struct guest {
	TAILQ_ENTRY(guest) link;
	char sid[SID_MAX + 1];
	struct nl_bpf_host host;
	bool fits;
};

struct gw_shape {
	struct hostjournal *journal;
	struct nl *nl;
	const struct pool *pool4, *pool6;
	struct gw_shape_config config;
	uint32_t up, down; /* links; 0: not made */
	const char *queue;
	char wanted_queue[SHAPE_QUEUE_MAX];
	char why[SHAPE_WHY_MAX], queue_why[SHAPE_WHY_MAX];
	LIST_HEAD(, attached) interfaces;
	TAILQ_HEAD(, guest) guests; /* oldest first */
	bool changed;		    /* about guests, or the links that they are on */
};

int gw_shape_new(struct gw_shape **out, struct hostjournal *journal, const struct pool *pool4,
		 const struct pool *pool6)
{
	struct gw_shape *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->journal = journal;
	s->nl = hostjournal_nl(journal);
	s->pool4 = pool4;
	s->pool6 = pool6;
	s->queue = "";
	LIST_INIT(&s->interfaces);
	TAILQ_INIT(&s->guests);
	*out = s;
	return 0;
}

void gw_shape_free(struct gw_shape *s)
{
	struct attached *a;
	struct guest *g;

	if (!s)
		return;
	while ((g = TAILQ_FIRST(&s->guests))) {
		TAILQ_REMOVE(&s->guests, g, link);
		free(g);
	}
	while ((a = LIST_FIRST(&s->interfaces))) {
		LIST_REMOVE(a, link);
		free(a);
	}
	free(s);
}

const char *gw_shape_why(const struct gw_shape *s)
{
	return s->why;
}

const char *gw_shape_queue(const struct gw_shape *s)
{
	return s->queue;
}

const char *gw_shape_queue_why(const struct gw_shape *s)
{
	return s->queue_why;
}

static void complain(struct gw_shape *s, const char *what, int rc)
{
	cstr_print(s->why, sizeof(s->why), "%s: %s", what, strerror(-rc));
	log_warn("rates of leases are not kept to: %s", s->why);
}

/* ---- our links ---- */

static uint64_t bytes_of_kbps(uint64_t kbps)
{
	return kbps ? kbps * KBPS_BYTES : UNLIMITED;
}

static uint64_t root_rate(const struct gw_shape *s, bool up)
{
	return bytes_of_kbps(up ? s->config.up_kbps : s->config.down_kbps);
}

static int root_class(struct gw_shape *s, uint32_t dev, bool up)
{
	uint64_t rate = root_rate(s, up);

	return nl_htb_class(s->nl, dev, ROOT_CLASS, 0, rate, rate);
}

static int link_make(struct gw_shape *s, const char *name, bool up, uint32_t *out)
{
	struct sock_filter program[NL_BPF_MAX];
	uint16_t length = nl_bpf_leases(program, &s->pool4->net, &s->pool6->net, up, false);
	int rc = host_link_add(s->journal, name, "ifb"), index = 0;

	if (!rc) {
		index = nl_link_index(s->nl, name);
		rc = index < 0 ? index : nl_link_set_up(s->nl, (uint32_t)index, true);
	}
	if (!rc)
		rc = nl_htb_add(s->nl, (uint32_t)index);
	if (!rc)
		rc = root_class(s, (uint32_t)index, up);
	if (!rc)
		rc = nl_bpf_add(s->nl, (uint32_t)index, NL_TC_CLASS, program, length, 0);
	if (!rc)
		*out = (uint32_t)index;
	return rc;
}

/* Tried out on a class that no lease has. */
static bool queue_works(struct gw_shape *s, const char *kind)
{
	bool works = nl_htb_class(s->nl, s->down, SPARE_CLASS, ROOT_CLASS, SURE_MIN_BYTES,
				  UNLIMITED) == 0 &&
		     nl_leaf_set(s->nl, s->down, SPARE_CLASS, kind, 0) == 0;

	nl_htb_class_del(s->nl, s->down, SPARE_CLASS);
	return works;
}

/* The one that is wanted, else the best that the kernel has. */
static void queue_choose(struct gw_shape *s)
{
	const char *wanted = s->config.queue;
	const char *const kinds[] = {strcmp(wanted, "cake") == 0 ? "cake" : "fq_codel", "fq_codel",
				     "cake"};

	cstr_copy(s->wanted_queue, sizeof(s->wanted_queue), wanted);
	s->queue = "bfifo";
	s->queue_why[0] = '\0';
	if (strcmp(wanted, "fifo") == 0)
		return;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (queue_works(s, kinds[i])) {
			s->queue = kinds[i];
			break;
		}
	if (strcmp(s->queue, "bfifo") == 0)
		cstr_print(s->queue_why, sizeof(s->queue_why),
			   "the kernel has neither fq_codel nor cake");
	else if (strcmp(s->queue, kinds[0]) != 0)
		cstr_print(s->queue_why, sizeof(s->queue_why), "the kernel has no %s", kinds[0]);
}

static bool begin(struct gw_shape *s)
{
	int rc = link_make(s, SHAPE_UP_LINK, true, &s->up);

	if (!rc)
		rc = link_make(s, SHAPE_DOWN_LINK, false, &s->down);
	if (rc) {
		host_link_remove(s->journal, SHAPE_UP_LINK);
		host_link_remove(s->journal, SHAPE_DOWN_LINK);
		s->up = s->down = 0;
		complain(s, "no ifb with htb and cls_bpf", rc);
		return false;
	}
	s->why[0] = '\0';
	queue_choose(s);
	log_info("rates of leases are kept to by htb with %s", s->queue);
	return true;
}

bool gw_shape_set(struct gw_shape *s, const struct gw_shape_config *config)
{
	bool begun;

	s->config = *config;
	if (!s->up) {
		begun = config->wanted && begin(s);
		s->config.queue = "";
		return begun;
	}
	root_class(s, s->up, true);
	root_class(s, s->down, false);
	if (strcmp(s->wanted_queue, s->config.queue) != 0)
		queue_choose(s);
	s->config.queue = "";
	return false;
}

/* ---- tunnels ---- */

static int hook(struct gw_shape *s, const struct attached *a)
{
	struct sock_filter program[NL_BPF_MAX];
	uint16_t length = nl_bpf_leases(program, &s->pool4->net, &s->pool6->net, true, true);
	int rc = host_clsact_add(s->journal, a->name, a->index);

	if (!rc && a->own) {
		s->changed = true;
		return 0;
	}
	if (!rc)
		rc = nl_bpf_add(s->nl, a->index, NL_TC_INGRESS, program, length, s->up);
	if (rc)
		return rc;
	length = nl_bpf_leases(program, &s->pool4->net, &s->pool6->net, false, true);
	return nl_bpf_add(s->nl, a->index, NL_TC_EGRESS, program, length, s->down);
}

static struct attached *attached_find(struct gw_shape *s, const char *name)
{
	struct attached *a;

	LIST_FOREACH(a, &s->interfaces, link)
		if (strcmp(a->name, name) == 0)
			return a;
	return NULL;
}

static void attach(struct gw_shape *s, const char *name, bool own)
{
	struct attached *a = attached_find(s, name);
	int index = nl_link_index(s->nl, name), rc;

	if (index < 0)
		return;
	if (!a) {
		a = calloc(1, sizeof(*a));
		if (!a)
			return;
		cstr_copy(a->name, sizeof(a->name), name);
		LIST_INSERT_HEAD(&s->interfaces, a, link);
	}
	a->leases++;
	a->own = own;
	if (a->index == (uint32_t)index)
		return;
	a->index = (uint32_t)index; /* new, or made anew under its name */
	rc = hook(s, a);
	a->hooked = rc == 0;
	if (rc) {
		char what[64];

		cstr_print(what, sizeof(what), "traffic control of %s%s", name,
			   rc == -EEXIST ? " is somebody else's" : "");
		complain(s, what, rc);
	}
}

static void detach(struct gw_shape *s, const char *name)
{
	struct attached *a = attached_find(s, name);

	if (!a || --a->leases)
		return;
	if (a->hooked)
		host_clsact_remove(s->journal, a->name, a->index);
	LIST_REMOVE(a, link);
	free(a);
}

/* ---- leases ---- */

static bool comes_from_pool(const struct lease *l)
{
	return net_addr_same_ip(&l->source4, &l->ip4) && net_addr_same_ip(&l->source6, &l->ip6);
}

static uint16_t class_of(const struct gw_shape *s, const struct lease *l)
{
	return (uint16_t)(l->ip4.family ? pool_index(s->pool4, &l->ip4)
					: pool_index(s->pool6, &l->ip6));
}

bool gw_shape_covers(const struct gw_shape *s, const struct lease *l)
{
	const struct attached *a;
	const struct guest *g;

	if (!s->up)
		return false;
	LIST_FOREACH(a, &s->interfaces, link)
		if (strcmp(a->name, l->interface) == 0)
			break;
	if (!a || !a->hooked || comes_from_pool(l))
		return a && a->hooked;
	TAILQ_FOREACH(g, &s->guests, link)
		if (strcmp(g->sid, l->sid) == 0)
			return g->fits;
	return false;
}

/* ---- leases with addresses of their own ---- */

static void guest_add(struct gw_shape *s, const struct lease *l, const struct net_addr *source,
		      const struct net_addr *near)
{
	struct guest *g = source->family ? calloc(1, sizeof(*g)) : NULL;

	if (!g)
		return;
	memcpy(g->sid, l->sid, sizeof(g->sid));
	g->host = (struct nl_bpf_host){.host = *source, .server = *near, .minor = class_of(s, l)};
	TAILQ_INSERT_TAIL(&s->guests, g, link);
	s->changed = true;
}

static void guests_del(struct gw_shape *s, const struct lease *l)
{
	struct guest *g = TAILQ_FIRST(&s->guests), *next;

	for (; g; g = next) {
		next = TAILQ_NEXT(g, link);
		if (strcmp(g->sid, l->sid) != 0)
			continue;
		TAILQ_REMOVE(&s->guests, g, link);
		free(g);
		s->changed = true;
	}
}

/* One direction of all guests: which of their packets pass our link, and in which class. */
static int guests_lead(struct gw_shape *s, struct sock_filter *program,
		       const struct nl_bpf_host *hosts, size_t count, bool up)
{
	uint32_t link = up ? s->up : s->down;
	struct attached *a;
	size_t fit;
	uint16_t length = nl_bpf_hosts(program, hosts, count, &fit, up, false);
	int rc = nl_bpf_replace(s->nl, link, NL_TC_CLASS, program, length, 0);

	length = nl_bpf_hosts(program, hosts, count, &fit, up, true);
	LIST_FOREACH(a, &s->interfaces, link)
		if (!rc && a->own && a->hooked)
			rc = nl_bpf_replace(s->nl, a->index, up ? NL_TC_INGRESS : NL_TC_EGRESS,
					    program, length, link);
	return rc;
}

static int guests_set(struct gw_shape *s, struct nl_bpf_host *hosts, struct sock_filter *program)
{
	struct guest *g;
	size_t count = 0, fit, i = 0;
	int rc;

	TAILQ_FOREACH(g, &s->guests, link)
		hosts[count++] = g->host;
	nl_bpf_hosts(program, hosts, count, &fit, true, false);
	rc = guests_lead(s, program, hosts, count, true);
	if (!rc)
		rc = guests_lead(s, program, hosts, count, false);
	TAILQ_FOREACH(g, &s->guests, link)
		g->fits = i++ < fit && !rc;
	if (!rc && fit < count)
		log_warn("%zu leases with addresses of their own are too many to keep their rates",
			 count);
	return rc;
}

void gw_shape_flush(struct gw_shape *s)
{
	struct guest *g;
	struct nl_bpf_host *hosts;
	struct sock_filter *program;
	size_t count = 1;
	int rc = -ENOMEM;

	if (!s || !s->changed || !s->up)
		return;
	s->changed = false;
	TAILQ_FOREACH(g, &s->guests, link)
		count++;
	hosts = calloc(count, sizeof(*hosts));
	program = calloc(NL_BPF_HOSTS_MAX, sizeof(*program));
	if (hosts && program)
		rc = guests_set(s, hosts, program);
	if (rc)
		log_warn("rates of leases with addresses of their own: %s", strerror(-rc));
	free(hosts);
	free(program);
}

/* ---- all leases ---- */

/* Half of the uplink is everybody's own; the rest goes, in equal parts, to who wants more. */
static int class_set(struct gw_shape *s, const struct lease *l, bool up)
{
	uint64_t ceil = bytes_of_kbps(l->rate_now_kbps), root = root_rate(s, up);
	uint64_t sure = root / 2 / (s->config.leases ? s->config.leases : 1);

	if (ceil > root)
		ceil = root;
	if (sure < SURE_MIN_BYTES)
		sure = SURE_MIN_BYTES;
	if (sure > ceil)
		sure = ceil;
	return nl_htb_class(s->nl, up ? s->up : s->down, class_of(s, l), ROOT_CLASS, sure, ceil);
}

static int queue_set(struct gw_shape *s, const struct lease *l, bool up)
{
	uint64_t ceil = bytes_of_kbps(l->rate_now_kbps), root = root_rate(s, up);
	uint64_t limit = (ceil < root ? ceil : root) * QUEUE_US / 1000000u;

	if (limit < QUEUE_MIN_BYTES)
		limit = QUEUE_MIN_BYTES;
	if (limit > UINT32_MAX / 2)
		limit = UINT32_MAX / 2;
	return nl_leaf_set(s->nl, up ? s->up : s->down, class_of(s, l), s->queue, (uint32_t)limit);
}

void gw_shape_lease_rate(struct gw_shape *s, const struct lease *l)
{
	int rc = 0;

	if (!s->up || !*l->interface)
		return;
	for (int up = 0; !rc && up < 2; up++) {
		rc = class_set(s, l, up);
		if (!rc)
			rc = queue_set(s, l, up);
	}
	if (rc)
		log_warn("rate of lease %.8s...: %s", l->sid, strerror(-rc));
}

void gw_shape_lease_add(struct gw_shape *s, const struct lease *l)
{
	bool own = !comes_from_pool(l);

	if (!s->up || !*l->interface)
		return;
	attach(s, l->interface, own);
	if (own) {
		guest_add(s, l, &l->source4, &l->near4);
		guest_add(s, l, &l->source6, &l->near6);
	}
	gw_shape_lease_rate(s, l);
}

void gw_shape_lease_del(struct gw_shape *s, const struct lease *l)
{
	if (!s->up || !*l->interface)
		return;
	guests_del(s, l);
	nl_htb_class_del(s->nl, s->up, class_of(s, l));
	nl_htb_class_del(s->nl, s->down, class_of(s, l));
	detach(s, l->interface);
}
