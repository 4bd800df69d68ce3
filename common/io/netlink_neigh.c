/* Neighbours. */
#include <errno.h>
#include <linux/neighbour.h>
#include <string.h>

#include "io/netlink.h"
#include "io/netlink_msg.h"

struct neigh_visit {
	nl_neigh_visit *visit;
	void *ctx;
};

static int neigh_visit(const struct nlmsghdr *h, void *ctx)
{
	const struct neigh_visit *v = ctx;
	const struct nlattr *tb[NDA_MAX + 1], *ll;
	const struct ndmsg *m = mnl_nlmsg_get_payload(h);

	if (h->nlmsg_type != RTM_NEWNEIGH || !nl_attrs(h, sizeof *m, tb, NDA_MAX))
		return 0;
	uint8_t family = nl_family_of(m->ndm_family);
	struct nl_neigh n = {.link = (uint32_t)m->ndm_ifindex,
			     .addr = nl_attr_addr(tb[NDA_DST], family),
			     .failed = m->ndm_state & (NUD_FAILED | NUD_INCOMPLETE),
			     .noarp = m->ndm_state & NUD_NOARP};
	ll = tb[NDA_LLADDR];
	if (ll && mnl_attr_get_payload_len(ll) == sizeof n.lladdr) {
		memcpy(n.lladdr, mnl_attr_get_payload(ll), sizeof n.lladdr);
		n.has_lladdr = true;
	}
	return n.addr.family ? v->visit(&n, v->ctx) : 0;
}

int nl_neigh_list(struct nl *nl, uint8_t family, nl_neigh_visit *visit, void *ctx)
{
	return nl_list(nl, RTM_GETNEIGH, family, neigh_visit, &(struct neigh_visit){visit, ctx});
}
