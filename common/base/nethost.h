/* Hosts and links of any network, as those who look at networks tell of them: plain values. */
#ifndef BASE_NETHOST_H
#define BASE_NETHOST_H

#include <stdbool.h>
#include <string.h>

#include "base/addr.h"

#define NET_HOST_NAME_MAX 127
#define NET_HOW_MAX 15

/* A host by its address, or (address family 0) by a name that only its network understands; a name
 * may come with an address.  All zero: our own host. */
struct net_host {
	struct net_addr addr; /* port 0 */
	char name[NET_HOST_NAME_MAX + 1];
	char how[NET_HOW_MAX + 1]; /* where its network knows it from: "ospf", "neighbour"; or "" */
};

struct net_link {
	struct net_host a, b;
	uint32_t cost; /* as the network counts; 0: unknown, or the same machine */
};

static inline bool net_host_is_own(const struct net_host *h)
{
	return h->addr.family == 0 && h->name[0] == '\0';
}

static inline bool net_host_equal(const struct net_host *a, const struct net_host *b)
{
	if (a->addr.family || b->addr.family)
		return net_addr_same_ip(&a->addr, &b->addr);
	return strcmp(a->name, b->name) == 0;
}
#endif
