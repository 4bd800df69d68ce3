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

	if (!linktun_number(grant->object, "key", 1, UINT32_MAX, &key))
		return tunnel_why(why, -EPROTO, "the gateway's answer has no GRE key");
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

LINKTUN_METHOD(gre);
