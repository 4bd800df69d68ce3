/*
 * Which addresses a node shall try to reach its peer, best first.  A wrong candidate costs a few
 * packets and nothing else: the handshake proves who answers.
 */
#include "nodemanager/state.h"

struct candidates {
	struct addr_item *out;
	uint16_t count, port;
};

static bool usable(const struct net_addr *a)
{
	static const struct net_addr any4 = {.family = 4}, any6 = {.family = 6};
	return (a->family == 4 || a->family == 6) && !net_addr_same_ip(a, &any4) &&
	       !net_addr_same_ip(a, &any6);
}

static void offer(struct candidates *c, const struct net_addr *addr)
{
	if (!usable(addr) || c->count == ADDRS_MAX)
		return;
	for (uint16_t i = 0; i < c->count; i++)
		if (net_addr_same_ip(&c->out[i].addr, addr))
			return;
	c->out[c->count].addr = *addr;
	c->out[c->count++].addr.port = c->port;
}

static bool neighbours(const struct net_addr *a, const struct net_addr *b)
{
	return net_addr_same_prefix(a, b, a->family == 4 ? 24 : 64);
}

/* On a network that the node is on too. */
static bool near_node(const struct nm_node *node, const struct net_addr *addr)
{
	for (uint16_t i = 0; i < node->addr_count; i++)
		if (neighbours(&node->addrs[i], addr))
			return true;
	return usable(&node->remote) && neighbours(&node->remote, addr);
}

uint16_t nm_candidates(const struct nm_node *node, const struct nm_node *peer, uint16_t port,
		       struct addr_item out[ADDRS_MAX])
{
	struct candidates c = {.out = out, .port = port};
	bool both_local =
		net_addr_is_loopback(&node->remote) && net_addr_is_loopback(&peer->remote);
	bool same_host = both_local || net_addr_same_ip(&node->remote, &peer->remote);

	if (both_local)
		offer(&c, &peer->remote);
	for (uint16_t i = 0; i < peer->addr_count; i++)
		if (!net_addr_is_loopback(&peer->addrs[i]) && near_node(node, &peer->addrs[i]))
			offer(&c, &peer->addrs[i]);
	if (!net_addr_is_loopback(&peer->remote))
		offer(&c, &peer->remote);
	for (uint16_t i = 0; i < peer->addr_count; i++)
		if (!net_addr_is_loopback(&peer->addrs[i]) || same_host)
			offer(&c, &peer->addrs[i]);
	return c.count;
}
