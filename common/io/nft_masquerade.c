/* A VPN server's table: its clients' addresses on the way to other networks. */
#include <errno.h>

#include "io/nft_script.h"

static void put_network(struct nft_script *s, const char *table, const struct net_prefix *p)
{
	struct net_prefix net = net_prefix_network(p);
	const char *ip = net.addr.family == 6 ? "ip6" : "ip";
	char text[NET_PREFIX_TEXT];

	if (!net.addr.family)
		return;
	net_prefix_text(&net, text);
	nft_script_add(s, "add rule inet %s nat %s saddr %s %s daddr != %s masquerade", table, ip,
		       text, ip, text);
	nft_script_add(s,
		       "add rule inet %s forward %s saddr %s tcp flags syn / syn,rst tcp option "
		       "maxseg size set rt mtu",
		       table, ip, text);
	nft_script_add(s,
		       "add rule inet %s forward %s daddr %s tcp flags syn / syn,rst tcp option "
		       "maxseg size set rt mtu",
		       table, ip, text);
}

int nft_masquerade_create(struct nft *nft, const struct nft_masquerade *m, bool replace)
{
	struct nft_script s;

	if (!nft_name_ok(m->table, NFT_TABLE_NAME_MAX))
		return -EINVAL;
	nft_script_init(&s);
	nft_script_table(&s, m->table, replace);
	nft_script_add(&s, "add chain inet %s nat { type nat hook postrouting priority srcnat; }",
		       m->table);
	nft_script_add(&s,
		       "add chain inet %s forward { type filter hook forward priority filter; }",
		       m->table);
	put_network(&s, m->table, &m->net4);
	put_network(&s, m->table, &m->net6);
	return nft_script_run(nft, &s, EEXIST);
}
