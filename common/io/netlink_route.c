/* Routes and rules. */
#include "io/netlink.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "io/netlink_msg.h"

static uint32_t route_table(const struct nl_route *r)
{
	return r->table ? r->table : NL_TABLE_MAIN;
}

static unsigned char route_scope(const struct nl_route *r)
{
	if (r->type && r->type != NL_ROUTE_UNICAST)
		return RT_SCOPE_UNIVERSE;
	return r->via.family || r->family == 6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
}

static bool route_valid(const struct nl_route *r)
{
	return (r->family == 4 || r->family == 6) &&
	       (!r->dst.addr.family || r->dst.addr.family == r->family) &&
	       (!r->via.family || r->via.family == r->family) &&
	       (!r->source.family || r->source.family == r->family);
}

static int route_request(struct nl *nl, uint16_t type, uint16_t flags, const struct nl_route *r)
{
	struct nl_request q;
	struct rtmsg *m = nl_request_init(&q, type, flags, sizeof *m);

	if (!route_valid(r))
		return -EINVAL;
	m->rtm_family = nl_af(r->family);
	m->rtm_type = r->type ? r->type : NL_ROUTE_UNICAST;
	m->rtm_protocol = NL_PROTO_MESHNET;
	m->rtm_scope = type == RTM_NEWROUTE ? route_scope(r) : RT_SCOPE_NOWHERE;
	if (r->onlink)
		m->rtm_flags = RTNH_F_ONLINK;
	mnl_attr_put_u32(q.h, RTA_TABLE, route_table(r));
	if (r->dst.addr.family) {
		struct net_prefix dst = net_prefix_network(&r->dst);
		m->rtm_dst_len = dst.bits;
		nl_put_addr(&q, RTA_DST, &dst.addr);
	}
	if (r->via.family)
		nl_put_addr(&q, RTA_GATEWAY, &r->via);
	if (r->source.family)
		nl_put_addr(&q, RTA_PREFSRC, &r->source);
	if (r->dev)
		mnl_attr_put_u32(q.h, RTA_OIF, r->dev);
	if (r->metric)
		mnl_attr_put_u32(q.h, RTA_PRIORITY, r->metric);
	return nl_ask(nl, &q, NULL, NULL);
}

int nl_route_add(struct nl *nl, const struct nl_route *r)
{
	return route_request(nl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, r);
}

int nl_route_del(struct nl *nl, const struct nl_route *r)
{
	return route_request(nl, RTM_DELROUTE, 0, r);
}

static bool route_parse(const struct nlmsghdr *h, struct nl_route *r, const struct nlattr **hops)
{
	const struct nlattr *tb[RTA_MAX + 1];
	const struct rtmsg *m = mnl_nlmsg_get_payload(h);

	if (h->nlmsg_type != RTM_NEWROUTE || !nl_attrs(h, sizeof *m, tb, RTA_MAX))
		return false;
	uint8_t family = nl_family_of(m->rtm_family);
	if (!family)
		return false;
	*r = (struct nl_route){.family = family,
			       .via = nl_attr_addr(tb[RTA_GATEWAY], family),
			       .source = nl_attr_addr(tb[RTA_PREFSRC], family),
			       .dev = nl_attr_u32(tb[RTA_OIF]),
			       .table = tb[RTA_TABLE] ? nl_attr_u32(tb[RTA_TABLE]) : m->rtm_table,
			       .metric = nl_attr_u32(tb[RTA_PRIORITY]),
			       .type = m->rtm_type,
			       .proto = m->rtm_protocol};
	if (m->rtm_dst_len) {
		r->dst.addr = nl_attr_addr(tb[RTA_DST], family);
		r->dst.bits = m->rtm_dst_len;
	}
	*hops = tb[RTA_MULTIPATH];
	return true;
}

struct route_visit {
	nl_route_visit *visit;
	void *ctx;
};

static int route_visit_hop(const struct route_visit *v, struct nl_route *r,
			   const struct rtnexthop *hop)
{
	const char *end = (const char *)hop + hop->rtnh_len;

	r->dev = (uint32_t)hop->rtnh_ifindex;
	r->via.family = 0;
	for (const struct nlattr *a = (const void *)(hop + 1); nl_attr_in(a, end);
	     a = mnl_attr_next(a))
		if (mnl_attr_get_type(a) == RTA_GATEWAY)
			r->via = nl_attr_addr(a, r->family);
	return v->visit(r, v->ctx);
}

static int route_visit_hops(const struct route_visit *v, struct nl_route *r,
			    const struct nlattr *hops)
{
	const char *p = mnl_attr_get_payload(hops), *end = nl_attr_end(hops);
	int rc = 0;

	while (!rc && end - p >= (ptrdiff_t)sizeof(struct rtnexthop)) {
		const struct rtnexthop *hop = (const void *)p;
		if (hop->rtnh_len < sizeof *hop || hop->rtnh_len > end - p)
			return -EBADMSG;
		rc = route_visit_hop(v, r, hop);
		p += (hop->rtnh_len + 3u) & ~3u;
	}
	return rc;
}

static int route_visit(const struct nlmsghdr *h, void *ctx)
{
	const struct route_visit *v = ctx;
	const struct nlattr *hops;
	struct nl_route r;

	if (!route_parse(h, &r, &hops))
		return 0;
	/* What the kernel has learned about a path is no route of anybody. */
	if (((const struct rtmsg *)mnl_nlmsg_get_payload(h))->rtm_flags & RTM_F_CLONED)
		return 0;
	return hops ? route_visit_hops(v, &r, hops) : v->visit(&r, v->ctx);
}

int nl_route_list(struct nl *nl, uint8_t family, nl_route_visit *visit, void *ctx)
{
	return nl_list(nl, RTM_GETROUTE, family, route_visit, &(struct route_visit){visit, ctx});
}

struct route_take {
	struct nl_route *out;
	bool found;
};

static int route_take(const struct nlmsghdr *h, void *ctx)
{
	struct route_take *t = ctx;
	const struct nlattr *hops;

	t->found |= route_parse(h, t->out, &hops);
	return 0;
}

int nl_route_get(struct nl *nl, const struct net_addr *dst, uint32_t mark, struct nl_route *out)
{
	struct nl_request q;
	struct rtmsg *m = nl_request_init(&q, RTM_GETROUTE, 0, sizeof *m);
	struct route_take t = {.out = out};

	if (dst->family != 4 && dst->family != 6)
		return -EINVAL;
	m->rtm_family = nl_af(dst->family);
	m->rtm_dst_len = dst->family == 4 ? 32 : 128;
	nl_put_addr(&q, RTA_DST, dst);
	if (mark)
		mnl_attr_put_u32(q.h, RTA_MARK, mark);
	int rc = nl_ask(nl, &q, route_take, &t);
	return rc ? rc : t.found ? 0 : -EBADMSG;
}

/* ---- rules ---- */

static void rule_put(struct nl_request *q, struct fib_rule_hdr *m, const struct nl_rule *r)
{
	m->family = nl_af(r->family);
	m->action = FR_ACT_TO_TBL;
	m->flags = r->invert ? FIB_RULE_INVERT : 0;
	mnl_attr_put_u8(q->h, FRA_PROTOCOL, NL_PROTO_MESHNET);
	mnl_attr_put_u32(q->h, FRA_PRIORITY, r->priority);
	mnl_attr_put_u32(q->h, FRA_TABLE, r->table ? r->table : NL_TABLE_MAIN);
	if (r->from.addr.family) {
		m->src_len = r->from.bits;
		nl_put_addr(q, FRA_SRC, &r->from.addr);
	}
	if (r->to.addr.family) {
		m->dst_len = r->to.bits;
		nl_put_addr(q, FRA_DST, &r->to.addr);
	}
	if (r->fwmask) {
		mnl_attr_put_u32(q->h, FRA_FWMARK, r->fwmark);
		mnl_attr_put_u32(q->h, FRA_FWMASK, r->fwmask);
	}
	if (r->iif[0])
		mnl_attr_put_strz(q->h, FRA_IIFNAME, r->iif);
	if (r->suppress)
		mnl_attr_put_u32(q->h, FRA_SUPPRESS_PREFIXLEN, r->suppress_prefixlength);
}

static bool rule_valid(const struct nl_rule *r)
{
	return (r->family == 4 || r->family == 6) &&
	       (!r->from.addr.family || r->from.addr.family == r->family) &&
	       (!r->to.addr.family || r->to.addr.family == r->family) &&
	       memchr(r->iif, 0, sizeof r->iif);
}

static int rule_request(struct nl *nl, uint16_t type, uint16_t flags, const struct nl_rule *r)
{
	struct nl_request q;
	struct fib_rule_hdr *m = nl_request_init(&q, type, flags, sizeof *m);

	if (!rule_valid(r))
		return -EINVAL;
	rule_put(&q, m, r);
	return nl_ask(nl, &q, NULL, NULL);
}

int nl_rule_add(struct nl *nl, const struct nl_rule *r)
{
	return rule_request(nl, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, r);
}

int nl_rule_del(struct nl *nl, const struct nl_rule *r)
{
	return rule_request(nl, RTM_DELRULE, 0, r);
}

struct rule_visit {
	nl_rule_visit *visit;
	void *ctx;
};

static int rule_visit(const struct nlmsghdr *h, void *ctx)
{
	const struct rule_visit *v = ctx;
	const struct nlattr *tb[FRA_MAX + 1];
	const struct fib_rule_hdr *m = mnl_nlmsg_get_payload(h);
	struct nl_rule r;

	if (h->nlmsg_type != RTM_NEWRULE || !nl_attrs(h, sizeof *m, tb, FRA_MAX))
		return 0;
	uint8_t family = nl_family_of(m->family);
	if (!family)
		return 0;
	r = (struct nl_rule){.family = family,
			     .priority = nl_attr_u32(tb[FRA_PRIORITY]),
			     .table = tb[FRA_TABLE] ? nl_attr_u32(tb[FRA_TABLE]) : m->table,
			     .fwmark = nl_attr_u32(tb[FRA_FWMARK]),
			     .fwmask = nl_attr_u32(tb[FRA_FWMASK]),
			     .from = {nl_attr_addr(tb[FRA_SRC], family), m->src_len},
			     .to = {nl_attr_addr(tb[FRA_DST], family), m->dst_len},
			     .invert = m->flags & FIB_RULE_INVERT,
			     .proto = nl_attr_u8(tb[FRA_PROTOCOL])};
	nl_attr_str(tb[FRA_IIFNAME], r.iif, sizeof r.iif);
	if (tb[FRA_SUPPRESS_PREFIXLEN] && nl_attr_u32(tb[FRA_SUPPRESS_PREFIXLEN]) <= 128) {
		r.suppress = true;
		r.suppress_prefixlength = (uint8_t)nl_attr_u32(tb[FRA_SUPPRESS_PREFIXLEN]);
	}
	return v->visit(&r, v->ctx);
}

int nl_rule_list(struct nl *nl, uint8_t family, nl_rule_visit *visit, void *ctx)
{
	return nl_list(nl, RTM_GETRULE, family, rule_visit, &(struct rule_visit){visit, ctx});
}
