#include "gatewayd/shape.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/log.h"
#include "io/hostjournal.h"
#include "io/netlink_tc.h"

#define ROOT_CLASS 1u /* the index of our own address: no lease has it */
#define UNLIMITED (uint64_t) NL_TC_RATE_MAX
#define KBPS_BYTES 125u
#define SURE_MIN_BYTES 1000u /* a second, at least, is every lease's own */
#define QUEUE_US 100000u     /* of a plain queue */
#define QUEUE_MIN_BYTES 20000u

/* A tunnel's interface that is led through our links. */
struct attached {
	LIST_ENTRY(attached) link;
	char name[LEASE_INTERFACE_MAX + 1];
	uint32_t index;
	unsigned leases;
	bool hooked; /* else somebody else's hooks are there */
};

struct gw_shape {
	struct hostjournal *journal;
	struct nl *nl;
	const struct pool *pool4, *pool6;
	struct gw_shape_config config;
	uint32_t up, down; /* links; 0: not made */
	const char *queue;
	char why[SHAPE_WHY_MAX];
	LIST_HEAD(, attached) interfaces;
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
	*out = s;
	return 0;
}

void gw_shape_free(struct gw_shape *s)
{
	struct attached *a;

	if (!s)
		return;
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

static void complain(struct gw_shape *s, const char *what, int rc)
{
	snprintf(s->why, sizeof(s->why), "%s: %s", what, strerror(-rc));
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

/* The best queue that the kernel has, tried out on the class that needs none. */
static const char *queue_find(struct gw_shape *s)
{
	static const char *const kinds[] = {"fq_codel", "cake"};

	if (nl_htb_class(s->nl, s->down, 2, ROOT_CLASS, SURE_MIN_BYTES, UNLIMITED))
		return "bfifo";
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (nl_leaf_set(s->nl, s->down, 2, kinds[i], 0) == 0) {
			nl_htb_class_del(s->nl, s->down, 2);
			return kinds[i];
		}
	nl_htb_class_del(s->nl, s->down, 2);
	return "bfifo";
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
	s->queue = queue_find(s);
	log_info("rates of leases are kept to by htb with %s", s->queue);
	return true;
}

bool gw_shape_set(struct gw_shape *s, const struct gw_shape_config *config)
{
	s->config = *config;
	if (!s->up)
		return config->wanted && begin(s);
	root_class(s, s->up, true);
	root_class(s, s->down, false);
	return false;
}

/* ---- tunnels ---- */

static int hook(struct gw_shape *s, const struct attached *a)
{
	struct sock_filter program[NL_BPF_MAX];
	uint16_t length = nl_bpf_leases(program, &s->pool4->net, &s->pool6->net, true, true);
	int rc = host_clsact_add(s->journal, a->name, a->index);

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

static void attach(struct gw_shape *s, const char *name)
{
	struct attached *a = attached_find(s, name);
	int index = nl_link_index(s->nl, name), rc;

	if (index < 0)
		return;
	if (!a) {
		a = calloc(1, sizeof(*a));
		if (!a)
			return;
		snprintf(a->name, sizeof(a->name), "%s", name);
		LIST_INSERT_HEAD(&s->interfaces, a, link);
	}
	a->leases++;
	if (a->index == (uint32_t)index)
		return;
	a->index = (uint32_t)index; /* new, or made anew under its name */
	rc = hook(s, a);
	a->hooked = rc == 0;
	if (rc) {
		char what[64];

		snprintf(what, sizeof(what), "traffic control of %s%s", name,
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
	return *l->interface && net_addr_same_ip(&l->source4, &l->ip4) &&
	       net_addr_same_ip(&l->source6, &l->ip6);
}

bool gw_shape_covers(const struct gw_shape *s, const struct lease *l)
{
	return s->up && !*s->why && comes_from_pool(l);
}

static uint16_t class_of(const struct gw_shape *s, const struct lease *l)
{
	return (uint16_t)(l->ip4.family ? pool_index(s->pool4, &l->ip4)
					: pool_index(s->pool6, &l->ip6));
}

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

	if (!s->up || !comes_from_pool(l))
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
	if (!s->up || !comes_from_pool(l))
		return;
	attach(s, l->interface);
	gw_shape_lease_rate(s, l);
}

void gw_shape_lease_del(struct gw_shape *s, const struct lease *l)
{
	if (!s->up || !comes_from_pool(l))
		return;
	nl_htb_class_del(s->nl, s->up, class_of(s, l));
	nl_htb_class_del(s->nl, s->down, class_of(s, l));
	detach(s, l->interface);
}
