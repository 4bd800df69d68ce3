/*
 * The method "ipip": IP packets in IP packets, nothing between the headers.  The kernel calls such
 * links ipip (IPv4 in IPv4), sit (either in IPv4) and ip6tnl (either in IPv6); on the wire they are
 * the same, so each end takes what its kernel has.
 *
 * One lease for each outer address of a subscriber: nothing else tells tunnels apart.  Not
 * encrypted; the subscriber is who can send from its outer address.
 */
#include "tunnel/linktun.h"

static const struct linktun_choice choices[] = {
	{4, false, NL_TUNNEL_IPIP},
	{4, true, NL_TUNNEL_SIT},
	{6, true, NL_TUNNEL_IP6TNL},
};

static const struct linktun_kind kind = {
	.name = "ipip",
	.choices = choices,
	.choice_count = sizeof choices / sizeof *choices,
};

LINKTUN_METHOD(ipip);
