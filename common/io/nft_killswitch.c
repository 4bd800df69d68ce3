/* The subscriber's table: nothing leaves but through the tunnel. */
#include "io/nft.h"

#include <errno.h>
#include <string.h>

#include "io/nft_script.h"

static bool tunnel_name_ok(const char *name)
{
	char base[IFNAMSIZ];
	size_t len = strlen(name);

	if (len == 0 || len >= sizeof base)
		return false;
	memcpy(base, name, len + 1);
	if (base[len - 1] == '*')
		base[len - 1] = '\0';
	return nft_interface_ok(base);
}

static void put_tunnel(struct nft_script *s, const struct nft_killswitch *ks, size_t i)
{
	uint8_t family = ks->families ? ks->families[i] : 0;

	nft_script_add(s, "add rule inet %s pass oifname \"%s\" %saccept", ks->table,
		       ks->tunnels[i],
		       family == 4   ? "meta nfproto ipv4 "
		       : family == 6 ? "meta nfproto ipv6 "
				     : "");
}

static void put_pass(struct nft_script *s, const struct nft_killswitch *ks)
{
	const char *t = ks->table;

	nft_script_add(s, "add chain inet %s pass", t);
	nft_script_add(s, "add rule inet %s pass oifname \"lo\" accept", t);
	for (size_t i = 0; i < ks->tunnel_count; i++)
		put_tunnel(s, ks, i);
	if (ks->mark)
		nft_script_add(s, "add rule inet %s pass meta mark %u accept", t, ks->mark);
	nft_script_add(s, "add rule inet %s pass ip daddr @allowed4 accept", t);
	nft_script_add(s, "add rule inet %s pass ip6 daddr @allowed6 accept", t);
	nft_script_add(s, "add rule inet %s pass udp sport 68 udp dport 67 accept", t);
	nft_script_add(s, "add rule inet %s pass udp sport 546 udp dport 547 accept", t);
	nft_script_add(
		s,
		"add rule inet %s pass icmpv6 type { nd-router-solicit, nd-neighbor-solicit, "
		"nd-neighbor-advert, mld-listener-report, mld2-listener-report } accept",
		t);
	/* Told at once, programs do not wait for a timeout. */
	nft_script_add(s,
		       "add rule inet %s pass counter name blocked reject with icmpx type "
		       "admin-prohibited",
		       t);
}

int nft_killswitch_create(struct nft *nft, const struct nft_killswitch *ks, bool replace)
{
	static const char *const hooks[] = {"output", "forward"};
	struct nft_script s;

	if (!nft_name_ok(ks->table, NFT_TABLE_NAME_MAX) || ks->tunnel_count > NFT_TUNNELS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < ks->tunnel_count; i++)
		if (!tunnel_name_ok(ks->tunnels[i]))
			return -EINVAL;
	nft_script_init(&s);
	nft_script_table(&s, ks->table, replace);
	nft_script_add(&s, "add counter inet %s blocked", ks->table);
	nft_script_prefix_sets(&s, ks->table, "allowed", ks->allowed, ks->allowed_count);
	put_pass(&s, ks);
	/* The policy drops too: whoever empties the chains does not open the gate. */
	for (int i = 0; i < 2; i++) {
		nft_script_add(&s,
			       "add chain inet %s %s { type filter hook %s priority filter; policy "
			       "drop; }",
			       ks->table, hooks[i], hooks[i]);
		nft_script_add(&s, "add rule inet %s %s jump pass", ks->table, hooks[i]);
	}
	return nft_script_run(nft, &s, EEXIST);
}
