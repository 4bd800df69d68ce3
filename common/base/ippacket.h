/* What a tunnel must know of an IP packet: its ends. */
#ifndef BASE_IPPACKET_H
#define BASE_IPPACKET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/addr.h"

/* 0, or -EINVAL: not one whole IPv4 or IPv6 packet of exactly `len` bytes. */
int ippacket_ends(const uint8_t *packet, size_t len, struct net_addr *src, struct net_addr *dst);
/* True for a TCP segment that carries data or ends a direction: of what TCP sends, its order tells
 * the receiver of losses, and its delay the sender of queues.  Of an extension header of IPv6
 * nothing is known. */
bool ippacket_has_tcp_data(const uint8_t *packet, size_t len);
#endif
