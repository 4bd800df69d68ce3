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

static int ipip_probe(const struct tunnel_env *env, enum tunnel_end end, char *why)
{
	(void)end;
	return linktun_probe(&kind, env, why);
}

static int ipip_gateway_start(void **gw, const struct tunnel_env *env,
			      const struct tunnel_gateway_config *config, char *why)
{
	return linktun_gateway_start(&kind, gw, env, config, why);
}

static int ipip_client_open(void **client, const struct tunnel_env *env,
			    const struct tunnel_grant *grant, tunnel_client_state *state, void *arg,
			    char *why)
{
	return linktun_client_open(&kind, client, env, grant, state, arg, why);
}

TUNNEL_METHOD(ipip, (.name = "ipip", .probe = ipip_probe),
	      (.gateway_start = ipip_gateway_start, .gateway_info = linktun_gateway_info,
	       .gateway_open = linktun_gateway_open, .gateway_source = linktun_gateway_source,
	       .gateway_close = linktun_gateway_close, .gateway_counters = linktun_gateway_counters,
	       .gateway_stop = linktun_gateway_stop),
	      (.client_open = ipip_client_open, .client_interface = linktun_client_interface,
	       .client_path = linktun_client_path, .client_counters = linktun_client_counters,
	       .client_close = linktun_client_close));
