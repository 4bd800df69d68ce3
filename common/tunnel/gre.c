/*
 * The method "gre": IP packets in GRE (RFC 2784) with a key (RFC 2890), over IPv4 or IPv6.
 *
 *   answer   {..., "key": n} of both directions
 *
 * The key comes from the sid, so one host may have several leases, and a stranger must guess it.
 * Not encrypted.
 */
#include <errno.h>
#include <stdio.h>

#include "tunnel/linktun.h"

static const struct linktun_choice choices[] = {
	{4, true, NL_TUNNEL_GRE},
	{6, true, NL_TUNNEL_IP6GRE},
};

static void gateway_fill(const struct tunnel_env *env, const struct tunnel_lease *lease,
			 struct linktun_params *p, struct json_object *answer)
{
	(void)env;
	linktun_secret(lease->sid, "gre key", &p->tunnel.key, sizeof p->tunnel.key);
	if (!p->tunnel.key) /* 0 would be no key */
		p->tunnel.key = 1;
	json_object_object_add(answer, "key", json_object_new_int64(p->tunnel.key));
}

static int client_fill(const struct tunnel_grant *grant, struct linktun_params *p, char *why)
{
	int64_t key;

	if (!linktun_number(grant->object, "key", 1, UINT32_MAX, &key)) {
		snprintf(why, TUNNEL_WHY_MAX, "the gateway's answer has no GRE key");
		return -EPROTO;
	}
	p->tunnel.key = (uint32_t)key;
	return 0;
}

static const struct linktun_kind kind = {
	.name = "gre",
	.choices = choices,
	.choice_count = sizeof choices / sizeof *choices,
	.gateway_fill = gateway_fill,
	.client_fill = client_fill,
};

static int gre_probe(const struct tunnel_env *env, enum tunnel_end end, char *why)
{
	(void)end;
	return linktun_probe(&kind, env, why);
}

static int gre_gateway_start(void **gw, const struct tunnel_env *env,
			     const struct tunnel_gateway_config *config, char *why)
{
	return linktun_gateway_start(&kind, gw, env, config, why);
}

static int gre_client_open(void **client, const struct tunnel_env *env,
			   const struct tunnel_grant *grant, tunnel_client_state *state, void *arg,
			   char *why)
{
	return linktun_client_open(&kind, client, env, grant, state, arg, why);
}

TUNNEL_METHOD(gre, (.name = "gre", .probe = gre_probe),
	      (.gateway_start = gre_gateway_start, .gateway_info = linktun_gateway_info,
	       .gateway_open = linktun_gateway_open, .gateway_source = linktun_gateway_source,
	       .gateway_close = linktun_gateway_close, .gateway_counters = linktun_gateway_counters,
	       .gateway_stop = linktun_gateway_stop),
	      (.client_open = gre_client_open, .client_interface = linktun_client_interface,
	       .client_path = linktun_client_path, .client_counters = linktun_client_counters,
	       .client_close = linktun_client_close));
