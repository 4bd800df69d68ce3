#include "vpn/hosts.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CLIENT 2u

/* Host numbers that a prefix has, broadcast address not counted. */
static uint32_t room(const struct net_prefix *p)
{
	unsigned host_bits = (p->addr.family == 4 ? 32u : 128u) - p->bits;

	if (!p->addr.family || host_bits > 16)
		return VPN_HOSTS_MAX;
	return (1u << host_bits) - (p->addr.family == 4 && host_bits ? 1u : 0u);
}

int vpn_hosts_init(struct vpn_hosts *h, const struct net_prefix *subnet4,
		   const struct net_prefix *subnet6)
{
	memset(h, 0, sizeof *h);
	h->subnet4 = subnet4->addr.family ? net_prefix_network(subnet4) : *subnet4;
	h->subnet6 = subnet6->addr.family ? net_prefix_network(subnet6) : *subnet6;
	h->end = room(subnet4) < room(subnet6) ? room(subnet4) : room(subnet6);
	h->next = FIRST_CLIENT;
	if ((!subnet4->addr.family && !subnet6->addr.family) || h->end <= FIRST_CLIENT)
		return -EINVAL;
	h->used = calloc((h->end + 31) / 32, sizeof *h->used);
	return h->used ? 0 : -ENOMEM;
}

void vpn_hosts_free(struct vpn_hosts *h)
{
	free(h->used);
	memset(h, 0, sizeof *h);
}

uint32_t vpn_hosts_take(struct vpn_hosts *h)
{
	for (uint32_t n = FIRST_CLIENT; n < h->end; n++) {
		uint32_t host = h->next;
		h->next = host + 1 < h->end ? host + 1 : FIRST_CLIENT;
		if (h->used[host / 32] & 1u << host % 32)
			continue;
		h->used[host / 32] |= 1u << host % 32;
		return host;
	}
	return 0;
}

bool vpn_hosts_claim(struct vpn_hosts *h, uint32_t host)
{
	if (host < FIRST_CLIENT || host >= h->end || h->used[host / 32] & 1u << host % 32)
		return false;
	h->used[host / 32] |= 1u << host % 32;
	return true;
}

void vpn_hosts_give_back(struct vpn_hosts *h, uint32_t host)
{
	h->used[host / 32] &= ~(1u << host % 32);
}

/* Hosts are fewer than 2^16: they are in the last two bytes. */
static struct net_addr with_host(const struct net_prefix *subnet, uint32_t host)
{
	struct net_addr a = subnet->addr;
	size_t last = a.family == 4 ? 3 : 15;

	if (!a.family)
		return a;
	a.ip[last] = (uint8_t)(a.ip[last] | host);
	a.ip[last - 1] = (uint8_t)(a.ip[last - 1] | host >> 8);
	return a;
}

struct net_addr vpn_hosts_addr4(const struct vpn_hosts *h, uint32_t host)
{
	return with_host(&h->subnet4, host);
}

struct net_addr vpn_hosts_addr6(const struct vpn_hosts *h, uint32_t host)
{
	return with_host(&h->subnet6, host);
}
