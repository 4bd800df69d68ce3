#include "tunnel/seiface.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "tunnel/tunopt.h"

void se_mac_of(const char *password, enum tunnel_end end, uint8_t mac[6])
{
	uint8_t hash[32], side = end == TUNNEL_GATEWAY ? 1 : 2;

	crypto_generichash(hash, sizeof hash, (const uint8_t *)password, strlen(password), &side,
			   1);
	memcpy(mac, hash, 6);
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 2); /* locally administered, of one */
}

static int put_address(struct nl *nl, uint32_t index, const struct net_addr *own,
		       const struct net_addr *peer, const uint8_t peer_mac[6])
{
	int rc;
	struct net_prefix p = {.addr = *own};
	struct nl_addr a;

	if (!own->family)
		return 0;
	a = tunopt_client_addr(&p, peer);
	a.link = index;
	rc = nl_addr_add(nl, &a);
	return rc || !peer->family ? rc : nl_neigh_add(nl, index, peer, peer_mac);
}

int se_furnish(struct nl *nl, const char *made, const char *name, uint32_t mtu,
	       const struct se_ends *e, uint32_t *index)
{
	int rc = nl_link_index(nl, made);

	if (rc < 0)
		return rc;
	*index = (uint32_t)rc;
	rc = nl_link_index(nl, name) >= 0 ? -EEXIST : nl_link_set_up(nl, *index, false);
	if (!rc)
		rc = nl_link_rename(nl, *index, name);
	if (!rc)
		rc = nl_link_set_mac(nl, *index, e->own_mac);
	if (!rc)
		rc = nl_link_set_quiet(nl, *index);
	if (!rc)
		rc = nl_link_set_mtu(nl, *index, mtu);
	if (!rc)
		rc = nl_link_set_up(nl, *index, true);
	if (!rc)
		rc = put_address(nl, *index, &e->own4, &e->peer4, e->peer_mac);
	return rc ? rc : put_address(nl, *index, &e->own6, &e->peer6, e->peer_mac);
}
