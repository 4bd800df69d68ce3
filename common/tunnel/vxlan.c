/*
 * The method "vxlan": Ethernet frames in UDP (RFC 7348), unicast, over IPv4 or IPv6; one network
 * (VNI) and one link for each lease, with two members.
 *
 *   answer   {..., "vni": n, "port": n, "mac": the subscriber's, "gatewayMac": ours}
 *
 * VXLAN takes frames from any outer address.  Both ends know each other's link-layer address for
 * good, so the kernel drops frames from it that come from elsewhere, and the gateway's firewall
 * lets a lease's packets pass from that address only.  The addresses come from the sid.  Nobody is
 * asked for addresses inside (ARP, neighbour discovery).  Not encrypted.
 */
#include <errno.h>
#include <stdio.h>

#include "io/config.h"
#include "tunnel/linktun.h"

#define PORT_DEFAULT 4789u

static const struct linktun_choice choices[] = {
	{4, true, NL_TUNNEL_VXLAN},
	{6, true, NL_TUNNEL_VXLAN},
};

/* Locally administered, unicast. */
static void mac_make(const char *sid, const char *what, uint8_t mac[6])
{
	linktun_secret(sid, what, mac, 6);
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 0x02);
}

/* The pools have at most 65,536 addresses, so their last 16 bits tell leases apart; the rest makes
 * it likely that two gateways of one subscriber take different ones. */
static uint32_t vni_of(const struct tunnel_lease *lease)
{
	const uint8_t *end = lease->ip4.family ? &lease->ip4.ip[2] : &lease->ip6.ip[14];
	uint8_t gateway = 0;

	for (size_t i = 0; i < sizeof lease->server.ip; i++)
		gateway = (uint8_t)(gateway * 31 + lease->server.ip[i]);
	return (uint32_t)gateway << 16 | (uint32_t)end[0] << 8 | end[1];
}

static void gateway_fill(const struct tunnel_env *env, const struct tunnel_lease *lease,
			 struct linktun_params *p, struct json_object *answer)
{
	p->tunnel.key = vni_of(lease);
	p->tunnel.port = env->cfg ? (uint16_t)env->cfg->vxlan_port : PORT_DEFAULT;
	mac_make(lease->sid, "vxlan gateway", p->tunnel.mac);
	mac_make(lease->sid, "vxlan subscriber", p->peer_mac);
	json_object_object_add(answer, "vni", json_object_new_int64(p->tunnel.key));
	json_object_object_add(answer, "port", json_object_new_int64(p->tunnel.port));
	linktun_put_mac(answer, "mac", p->peer_mac);
	linktun_put_mac(answer, "gatewayMac", p->tunnel.mac);
}

static int client_fill(const struct tunnel_grant *grant, struct linktun_params *p, char *why)
{
	int64_t vni, port;

	if (!linktun_number(grant->object, "vni", 0, NL_VNI_MAX, &vni) ||
	    !linktun_number(grant->object, "port", 1, UINT16_MAX, &port) ||
	    !linktun_get_mac(grant->object, "mac", p->tunnel.mac) ||
	    !linktun_get_mac(grant->object, "gatewayMac", p->peer_mac)) {
		return tunnel_why(why, -EPROTO,
				  "the gateway's answer lacks vni, port, mac or gatewayMac");
	}
	p->tunnel.key = (uint32_t)vni;
	p->tunnel.port = (uint16_t)port;
	return 0;
}

static const struct linktun_kind kind = {
	.name = "vxlan",
	.choices = choices,
	.choice_count = sizeof choices / sizeof *choices,
	.ethernet = true,
	.gateway_fill = gateway_fill,
	.client_fill = client_fill,
};

LINKTUN_METHOD(vxlan);
