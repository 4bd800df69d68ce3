#include "socks/hostnets.h"

#include <errno.h>
#include <ifaddrs.h>
#include <sys/socket.h>

#include "base/log.h"
#include "io/sockaddr.h"

static uint8_t mask_bits(const struct net_addr *mask)
{
	uint8_t bits = 0;

	for (unsigned i = 0; i < sizeof mask->ip; i++)
		bits = (uint8_t)(bits + __builtin_popcount(mask->ip[i]));
	return bits;
}

static bool prefix_of(const struct ifaddrs *a, struct net_prefix *out)
{
	struct net_addr mask = {0};

	if (!a->ifa_addr)
		return false;
	sockaddr_to_net(&out->addr, a->ifa_addr);
	out->addr.port = 0;
	out->bits = out->addr.family == 4 ? 32 : 128;
	if (a->ifa_netmask)
		sockaddr_to_net(&mask, a->ifa_netmask);
	if (mask.family == out->addr.family)
		out->bits = mask_bits(&mask);
	return out->addr.family != 0;
}

int hostnets_read(struct policy *p)
{
	struct net_prefix own;
	struct ifaddrs *list;
	bool room = true;

	if (getifaddrs(&list))
		return -errno;
	p->local_count = 0;
	for (const struct ifaddrs *a = list; a; a = a->ifa_next)
		if (prefix_of(a, &own))
			room = policy_add_local(p, &own) && room;
	freeifaddrs(list);
	if (!room)
		log_warn("socks-server: more than %u addresses of this host: not all networks are "
			 "denied",
			 POLICY_LOCAL_MAX);
	return 0;
}
