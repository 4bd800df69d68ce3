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

static void gateway_fill(const struct tunnel_env *env, const struct tunnel_lease *lease,
			 struct linktun_params *p, struct json_object *answer)
{
	(void)env;
	(void)lease;
	(void)p;
	(void)answer;
}

static int client_fill(const struct tunnel_grant *grant, struct linktun_params *p, char *why)
{
	(void)grant;
	(void)p;
	(void)why;
	return 0;
}

static const struct linktun_kind kind = {
	.name = "ipip",
	.choices = choices,
	.choice_count = sizeof choices / sizeof *choices,
	.gateway_fill = gateway_fill,
	.client_fill = client_fill,
};

LINKTUN_METHOD(ipip);
