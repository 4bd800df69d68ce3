/* The addresses of a VPN's subnets: host number 1 is the server, the clients have the others. */
#ifndef VPN_HOSTS_H
#define VPN_HOSTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/prefix.h"

#define VPN_HOSTS_MAX 65536u /* one more than the clients that there may be */

struct vpn_hosts {
	struct net_prefix subnet4, subnet6; /* family 0: none */
	uint32_t end;			    /* host numbers are below this */
	uint32_t next;			    /* where to look for a free one first */
	uint32_t *used;			    /* a bit each */
};

/* 0; -EINVAL (no subnet, or none with room for a client), -ENOMEM. */
int vpn_hosts_init(struct vpn_hosts *h, const struct net_prefix *subnet4,
		   const struct net_prefix *subnet6);
void vpn_hosts_free(struct vpn_hosts *h);
/* A free host number; 0 when there is none.  Not the one that was given back last, so that late
 * packets of its former owner find nobody. */
uint32_t vpn_hosts_take(struct vpn_hosts *h);
/* False: it is no client's number, or taken. */
bool vpn_hosts_claim(struct vpn_hosts *h, uint32_t host);
void vpn_hosts_give_back(struct vpn_hosts *h, uint32_t host);
/* Family 0 without such a subnet. */
struct net_addr vpn_hosts_addr4(const struct vpn_hosts *h, uint32_t host);
struct net_addr vpn_hosts_addr6(const struct vpn_hosts *h, uint32_t host);
#endif
