/* Interfaces that SoftEther's programs have made, at both ends: they get our names and addresses,
 * and go with the programs. */
#ifndef TUNNEL_SEIFACE_H
#define TUNNEL_SEIFACE_H

#include "io/netlink.h"
#include "tunnel/tunnel.h"

struct se_ends {
	struct net_addr own4, own6, peer4, peer6; /* family 0: none */
	uint8_t own_mac[6], peer_mac[6];
};

/* Of the gateway's or the subscriber's end. */
void se_mac_of(const char *password, enum tunnel_end end, uint8_t mac[6]);

/* -ENODEV: it is not there yet; -EEXIST: an earlier one of that name is there still. */
int se_furnish(struct nl *nl, const char *made, const char *name, uint32_t mtu,
	       const struct se_ends *e, uint32_t *index);
#endif
