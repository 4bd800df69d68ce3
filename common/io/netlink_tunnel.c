/* Tunnel links with their parameters, and the neighbours of links that have link-layer addresses.
 */
#include "io/netlink_msg.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_tunnel.h>
#include <linux/ip6_tunnel.h>
#include <linux/neighbour.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#define TUNNEL_TTL 64
#define ADDR_GEN_NONE 1 /* IN6_ADDR_GEN_MODE_NONE; its header and the C library's do not mix */

/* ---- tunnels ---- */

static const struct tunnel_traits {
	char name[7];
	uint8_t outer; /* 4, 6, or 0 for either */
	uint32_t header;
} traits[] = {
	[NL_TUNNEL_IPIP] = {"ipip", 4, 0},     [NL_TUNNEL_SIT] = {"sit", 4, 0},
	[NL_TUNNEL_IP6TNL] = {"ip6tnl", 6, 0}, [NL_TUNNEL_GRE] = {"gre", 4, 4},
	[NL_TUNNEL_IP6GRE] = {"ip6gre", 6, 4}, [NL_TUNNEL_VXLAN] = {"vxlan", 0, 8 + 8 + 14},
};

const char *nl_tunnel_kind_name(enum nl_tunnel_kind kind)
{
	return traits[kind].name;
}

uint32_t nl_tunnel_overhead(const struct nl_tunnel *t)
{
	uint32_t n = traits[t->kind].header + (t->remote.family == 6 ? 40 : 20);
	bool keyed = t->kind == NL_TUNNEL_GRE || t->kind == NL_TUNNEL_IP6GRE;

	return keyed && t->key ? n + 4 : n;
}

static bool tunnel_valid(const struct nl_tunnel *t)
{
	uint8_t outer = traits[t->kind].outer;

	return (t->local.family == 4 || t->local.family == 6) &&
	       t->local.family == t->remote.family && (!outer || t->local.family == outer);
}

/* Of ipip and sit (PROTO 0: both families), and of ip6tnl. */
static void put_ip(struct nl_request *q, const struct nl_tunnel *t)
{
	nl_put_addr(q, IFLA_IPTUN_LOCAL, &t->local);
	nl_put_addr(q, IFLA_IPTUN_REMOTE, &t->remote);
	mnl_attr_put_u8(q->h, IFLA_IPTUN_TTL, TUNNEL_TTL);
	if (t->kind == NL_TUNNEL_IPIP)
		return;
	mnl_attr_put_u8(q->h, IFLA_IPTUN_PROTO, 0);
	if (t->kind == NL_TUNNEL_IP6TNL)
		mnl_attr_put_u32(q->h, IFLA_IPTUN_FLAGS, IP6_TNL_F_IGN_ENCAP_LIMIT);
}

static void put_gre(struct nl_request *q, const struct nl_tunnel *t)
{
	nl_put_addr(q, IFLA_GRE_LOCAL, &t->local);
	nl_put_addr(q, IFLA_GRE_REMOTE, &t->remote);
	mnl_attr_put_u8(q->h, IFLA_GRE_TTL, TUNNEL_TTL);
	if (t->key) {
		mnl_attr_put_u16(q->h, IFLA_GRE_IFLAGS, GRE_KEY);
		mnl_attr_put_u16(q->h, IFLA_GRE_OFLAGS, GRE_KEY);
		mnl_attr_put_u32(q->h, IFLA_GRE_IKEY, htonl(t->key));
		mnl_attr_put_u32(q->h, IFLA_GRE_OKEY, htonl(t->key));
	}
	if (t->kind == NL_TUNNEL_IP6GRE)
		mnl_attr_put_u32(q->h, IFLA_GRE_FLAGS, IP6_TNL_F_IGN_ENCAP_LIMIT);
}

/* Learning is what makes the kernel look where a frame with a known address comes from. */
static void put_vxlan(struct nl_request *q, const struct nl_tunnel *t)
{
	bool v6 = t->remote.family == 6;

	mnl_attr_put_u32(q->h, IFLA_VXLAN_ID, t->key);
	nl_put_addr(q, v6 ? IFLA_VXLAN_LOCAL6 : IFLA_VXLAN_LOCAL, &t->local);
	nl_put_addr(q, v6 ? IFLA_VXLAN_GROUP6 : IFLA_VXLAN_GROUP, &t->remote);
	mnl_attr_put_u16(q->h, IFLA_VXLAN_PORT, htons(t->port));
	mnl_attr_put_u8(q->h, IFLA_VXLAN_TTL, TUNNEL_TTL);
	mnl_attr_put_u8(q->h, IFLA_VXLAN_LEARNING, 1);
}

int nl_tunnel_add(struct nl *nl, const char *name, const struct nl_tunnel *t)
{
	struct nl_request q;
	struct nlattr *info, *data;

	if (!*name || strlen(name) >= IFNAMSIZ || !tunnel_valid(t) ||
	    (t->kind == NL_TUNNEL_VXLAN && t->key > NL_VNI_MAX))
		return -EINVAL;
	nl_request_init(&q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(q.h, IFLA_IFNAME, name);
	mnl_attr_put_u32(q.h, IFLA_GROUP, NL_GROUP_MESHNET);
	if (t->kind == NL_TUNNEL_VXLAN)
		mnl_attr_put(q.h, IFLA_ADDRESS, sizeof t->mac, t->mac);
	info = mnl_attr_nest_start(q.h, IFLA_LINKINFO);
	mnl_attr_put_strz(q.h, IFLA_INFO_KIND, traits[t->kind].name);
	data = mnl_attr_nest_start(q.h, IFLA_INFO_DATA);
	if (t->kind == NL_TUNNEL_VXLAN)
		put_vxlan(&q, t);
	else if (t->kind == NL_TUNNEL_GRE || t->kind == NL_TUNNEL_IP6GRE)
		put_gre(&q, t);
	else
		put_ip(&q, t);
	mnl_attr_nest_end(q.h, data);
	mnl_attr_nest_end(q.h, info);
	return nl_ask(nl, &q, NULL, NULL);
}

/* The kernel looks for the kind before it looks at the name, and "." is no name. */
int nl_link_probe(struct nl *nl, const char *kind)
{
	struct nl_request q;
	struct nlattr *info;
	int rc;

	if (strlen(kind) >= 16)
		return -EINVAL;
	nl_request_init(&q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(q.h, IFLA_IFNAME, ".");
	info = mnl_attr_nest_start(q.h, IFLA_LINKINFO);
	mnl_attr_put_strz(q.h, IFLA_INFO_KIND, kind);
	mnl_attr_nest_end(q.h, info);
	rc = nl_ask(nl, &q, NULL, NULL);
	return rc == -EOPNOTSUPP || rc == -EPERM ? rc : 0;
}

/* ---- more about links ---- */

int nl_link_set_quiet(struct nl *nl, uint32_t index)
{
	struct nl_request q;
	struct ifinfomsg *m = nl_request_init(&q, RTM_NEWLINK, 0, sizeof *m);
	struct nlattr *spec, *inet6;
	int rc;

	m->ifi_index = (int)index;
	spec = mnl_attr_nest_start(q.h, IFLA_AF_SPEC);
	inet6 = mnl_attr_nest_start(q.h, AF_INET6);
	mnl_attr_put_u8(q.h, IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_NONE);
	mnl_attr_nest_end(q.h, inet6);
	mnl_attr_nest_end(q.h, spec);
	rc = nl_ask(nl, &q, NULL, NULL);
	return rc == -EAFNOSUPPORT ? 0 : rc; /* a host without IPv6 is quiet */
}

int nl_link_leave(struct nl *nl, uint32_t index)
{
	struct nl_request q;
	struct ifinfomsg *m = nl_request_init(&q, RTM_NEWLINK, 0, sizeof *m);

	m->ifi_index = (int)index;
	mnl_attr_put_u32(q.h, IFLA_GROUP, NL_GROUP_LEAVING);
	return nl_ask(nl, &q, NULL, NULL);
}

int nl_leaving_del(struct nl *nl)
{
	struct nl_request q;
	int rc;

	nl_request_init(&q, RTM_DELLINK, 0, sizeof(struct ifinfomsg));
	mnl_attr_put_u32(q.h, IFLA_GROUP, NL_GROUP_LEAVING);
	rc = nl_ask(nl, &q, NULL, NULL);
	return rc == -ENODEV ? 0 : rc; /* there was none */
}

static int stats_take(const struct nlmsghdr *h, void *ctx)
{
	const struct nlattr *tb[IFLA_MAX + 1];
	struct nl_link_stats *out = ctx;
	struct rtnl_link_stats64 s;

	if (h->nlmsg_type != RTM_NEWLINK || !nl_attrs(h, sizeof(struct ifinfomsg), tb, IFLA_MAX) ||
	    !tb[IFLA_STATS64] ||
	    mnl_attr_get_payload_len(tb[IFLA_STATS64]) <
		    offsetof(struct rtnl_link_stats64, multicast))
		return -EBADMSG;
	memset(&s, 0, sizeof s);
	memcpy(&s, mnl_attr_get_payload(tb[IFLA_STATS64]),
	       offsetof(struct rtnl_link_stats64, multicast));
	*out = (struct nl_link_stats){.rx_packets = s.rx_packets,
				      .rx_bytes = s.rx_bytes,
				      .tx_packets = s.tx_packets,
				      .tx_bytes = s.tx_bytes,
				      .dropped = s.rx_dropped + s.tx_dropped + s.rx_errors +
						 s.tx_errors};
	return 0;
}

int nl_link_get_stats(struct nl *nl, uint32_t index, struct nl_link_stats *out)
{
	struct nl_request q;
	struct ifinfomsg *m = nl_request_init(&q, RTM_GETLINK, 0, sizeof *m);

	m->ifi_index = (int)index;
	return nl_ask(nl, &q, stats_take, out);
}

/* ---- neighbours ---- */

struct neigh_ask {
	uint8_t *mac;
	bool found;
};

static int neigh_take(const struct nlmsghdr *h, void *ctx)
{
	static const uint16_t usable =
		NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT;
	const struct nlattr *tb[NDA_MAX + 1];
	const struct ndmsg *m = mnl_nlmsg_get_payload(h);
	struct neigh_ask *ask = ctx;

	if (h->nlmsg_type == RTM_NEWNEIGH && nl_attrs(h, sizeof *m, tb, NDA_MAX) &&
	    (m->ndm_state & usable) && tb[NDA_LLADDR] &&
	    mnl_attr_get_payload_len(tb[NDA_LLADDR]) == 6) {
		memcpy(ask->mac, mnl_attr_get_payload(tb[NDA_LLADDR]), 6);
		ask->found = true;
	}
	return 0;
}

int nl_neigh_get(struct nl *nl, uint32_t link, const struct net_addr *addr, uint8_t mac[6])
{
	struct neigh_ask ask = {.mac = mac};
	struct nl_request q;
	struct ndmsg *m = nl_request_init(&q, RTM_GETNEIGH, 0, sizeof *m);
	int rc;

	m->ndm_family = nl_af(addr->family);
	m->ndm_ifindex = (int)link;
	nl_put_addr(&q, NDA_DST, addr);
	rc = nl_ask(nl, &q, neigh_take, &ask);
	return rc ? rc : ask.found ? 0 : -ENOENT;
}

int nl_neigh_add(struct nl *nl, uint32_t link, const struct net_addr *addr, const uint8_t mac[6])
{
	struct nl_request q;
	struct ndmsg *m =
		nl_request_init(&q, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof *m);

	m->ndm_family = nl_af(addr->family);
	m->ndm_ifindex = (int)link;
	m->ndm_state = NUD_PERMANENT;
	nl_put_addr(&q, NDA_DST, addr);
	mnl_attr_put(q.h, NDA_LLADDR, 6, mac);
	return nl_ask(nl, &q, NULL, NULL);
}

int nl_fdb_add(struct nl *nl, uint32_t link, const uint8_t mac[6], const struct net_addr *remote)
{
	struct nl_request q;
	struct ndmsg *m =
		nl_request_init(&q, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof *m);

	m->ndm_family = AF_BRIDGE;
	m->ndm_ifindex = (int)link;
	m->ndm_state = NUD_PERMANENT | NUD_NOARP;
	m->ndm_flags = NTF_SELF;
	mnl_attr_put(q.h, NDA_LLADDR, 6, mac);
	nl_put_addr(&q, NDA_DST, remote);
	return nl_ask(nl, &q, NULL, NULL);
}
