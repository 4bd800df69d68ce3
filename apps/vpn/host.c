#include "vpn/host.h"

#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/hostjournal.h"
#include "io/keyfile.h"
#include "io/resolv.h"
#include "io/sysctl.h"

#define RESOLV_OWNER "vpn-client"
#define SLOTS 8u /* vpn-clients of one host */
#define RULES_PER_SLOT 3u
#define TUNNEL_METRIC 100u
#define UNREACHABLE_METRIC 4278198272u /* behind every other route of our table */
#define NETWORKS_MAX 64
#define ROUTES_MAX (2 * VPN_ROUTES_MAX + 4)

struct vpn_host {
	const struct vpn_options *opt;
	struct hostjournal *journal;
	uint32_t table, priority; /* of our slot; table 0: no rules yet */
	struct resolv *resolv;	  /* a client's; a server sets no name server */
	struct nl_route routes[ROUTES_MAX];
	unsigned route_count;
};

/* --- open, close ---------------------------------------------------------------------------- */

static int open_journal(struct hostjournal **out, bool server, const struct config *cfg)
{
	char path[PATH_MAX];
	int rc = keyfile_make_dir(cfg->general_state_dir);

	if (rc)
		return rc;
	snprintf(path, sizeof path, "%s/vpn-%s.journal", cfg->general_state_dir,
		 server ? "server" : "client");
	rc = hostjournal_open(out, path);
	if (rc == -EBUSY)
		log_error("another one runs with %s; give each a StateDir of its own "
			  "(-o general.StateDir=DIR)",
			  cfg->general_state_dir);
	return rc;
}

static int take_back(struct hostjournal *j)
{
	int left = hostjournal_undo(j, 0);

	if (left > 0)
		log_error("%d changes could not be taken back; --cleanup tries again", left);
	return left > 0 ? -EIO : left;
}

int vpn_host_open(struct vpn_host **out, struct event_base *base, bool server,
		  const struct vpn_options *opt)
{
	struct vpn_host *h = calloc(1, sizeof *h);
	int rc = h ? open_journal(&h->journal, server, opt->cfg) : -ENOMEM;

	if (!rc)
		(void)take_back(h->journal);
	if (!rc && !server)
		rc = resolv_open(&h->resolv, base, opt->cfg->general_state_dir, RESOLV_OWNER);
	if (rc) {
		hostjournal_close(h ? h->journal : NULL);
		free(h);
		return rc;
	}
	h->opt = opt;
	*out = h;
	return 0;
}

void vpn_host_close(struct vpn_host *h)
{
	if (!h)
		return;
	(void)take_back(h->journal);
	resolv_close(h->resolv);
	hostjournal_close(h->journal);
	free(h);
}

int vpn_host_cleanup(bool server, const struct vpn_options *opt)
{
	struct hostjournal *j;
	int rc = open_journal(&j, server, opt->cfg), resolv = 0;

	if (rc)
		return rc;
	rc = take_back(j);
	if (!server)
		resolv = resolv_cleanup(opt->cfg->general_state_dir, RESOLV_OWNER);
	hostjournal_close(j);
	return rc ? rc : resolv;
}

/* --- client: rules -------------------------------------------------------------------------- */

static bool uses(const struct vpn_host *h, const struct vpn_offer *offer, uint8_t family)
{
	return h->opt->full || (family == 4 ? offer->ip4 : offer->ip6).addr.family;
}

/* A host without IPv6 leaks none. */
static int tolerated(int rc, uint8_t family)
{
	if (rc == -EEXIST || (family == 6 && (rc == -EAFNOSUPPORT || rc == -EOPNOTSUPP)))
		return 0;
	return rc;
}

static int add_rules(struct vpn_host *h, uint8_t family)
{
	struct nl_rule marked = {.family = family,
				 .priority = h->priority,
				 .table = NL_TABLE_MAIN,
				 .fwmark = (uint32_t)h->opt->cfg->node_firewall_mark,
				 .fwmask = UINT32_MAX};
	struct nl_rule specific = {.family = family,
				   .priority = h->priority + 1,
				   .table = NL_TABLE_MAIN,
				   .suppress = true,
				   .suppress_prefixlength = 0};
	struct nl_rule ours = {.family = family, .priority = h->priority + 2, .table = h->table};
	struct nl_route unreachable = {.family = family,
				       .table = h->table,
				       .metric = UNREACHABLE_METRIC,
				       .type = NL_ROUTE_UNREACHABLE};
	int rc = 0;

	if (h->opt->full)
		rc = tolerated(host_route_add(h->journal, &unreachable), family);
	if (!rc && marked.fwmark)
		rc = tolerated(host_rule_add(h->journal, &marked), family);
	if (!rc)
		rc = tolerated(host_rule_add(h->journal, &specific), family);
	if (!rc)
		rc = tolerated(host_rule_add(h->journal, &ours), family);
	return rc;
}

static int add_direct_rules(struct vpn_host *h)
{
	struct net_prefix nets[NETWORKS_MAX];
	int n = net_prefix_parse_list(nets, NETWORKS_MAX, h->opt->cfg->vpn_direct_networks);
	int rc = n < 0 ? n : 0;

	for (int i = 0; i < n && !rc; i++) {
		struct nl_rule r = {.family = nets[i].addr.family,
				    .priority = h->priority,
				    .table = NL_TABLE_MAIN,
				    .to = nets[i]};
		rc = tolerated(host_rule_add(h->journal, &r), r.family);
	}
	return rc;
}

struct taken {
	uint32_t table, first, last;
};

static int rule_in_slot(const struct nl_rule *r, void *ctx)
{
	const struct taken *t = ctx;

	return r->table == t->table || (r->priority >= t->first && r->priority <= t->last);
}

/* Another vpn-client, or somebody else, may have the table or the priorities already. */
static int choose_slot(struct vpn_host *h)
{
	const struct config *cfg = h->opt->cfg;

	for (uint32_t i = 0; i < SLOTS; i++) {
		uint32_t first = (uint32_t)cfg->vpn_rule_priority + i * RULES_PER_SLOT;
		struct taken t = {(uint32_t)cfg->vpn_route_table + i, first,
				  first + RULES_PER_SLOT - 1};
		int rc = nl_rule_list(hostjournal_nl(h->journal), 0, rule_in_slot, &t);
		if (rc < 0)
			return rc;
		if (rc == 0) {
			h->table = t.table;
			h->priority = first;
			return 0;
		}
	}
	return -EBUSY;
}

static int stand_up(struct vpn_host *h, const struct vpn_offer *offer)
{
	int rc = choose_slot(h);

	for (uint8_t family = 4; family <= 6 && !rc; family += 2)
		if (uses(h, offer, family))
			rc = add_rules(h, family);
	return rc ? rc : add_direct_rules(h);
}

/* --- client: routes ------------------------------------------------------------------------- */

static void drop_routes(struct vpn_host *h)
{
	while (h->route_count)
		(void)host_route_remove(h->journal, &h->routes[--h->route_count]);
}

/* What a server names is taken on its word only where it can mean another host. */
static bool is_acceptable(const struct vpn_host *h, const struct net_prefix *p)
{
	const uint8_t *ip = p->addr.ip;

	if (p->bits == 0)
		return h->opt->full;
	if (p->addr.family == 4)
		return ip[0] != 127 && ip[0] < 224 && !(ip[0] == 169 && ip[1] == 254);
	return ip[0] != 0xff && !(ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80);
}

/* `to` NULL: the default route. */
static int add_route(struct vpn_host *h, uint32_t dev, const struct net_prefix *to,
		     const struct net_prefix *own)
{
	struct nl_route r = {.family = own->addr.family,
			     .dev = dev,
			     .source = own->addr,
			     .table = h->table,
			     .metric = TUNNEL_METRIC};
	int rc;

	if (to && to->bits)
		r.dst = net_prefix_network(to);
	rc = h->route_count < ROUTES_MAX ? host_route_add(h->journal, &r) : -ENOSPC;
	if (!rc)
		h->routes[h->route_count++] = r;
	return rc == -EEXIST ? 0 : rc;
}

static int add_named(struct vpn_host *h, uint32_t dev, const struct vpn_offer *offer,
		     const struct net_prefix *list, unsigned count, bool ours)
{
	char text[NET_PREFIX_TEXT];
	int rc = 0;

	for (unsigned i = 0; i < count && !rc; i++) {
		const struct net_prefix *own = list[i].addr.family == 4 ? &offer->ip4 : &offer->ip6;
		if (!own->addr.family || (!ours && !is_acceptable(h, &list[i])))
			log_info("vpn: no route to %s: %s", net_prefix_text(&list[i], text),
				 own->addr.family ? "not taken from a server"
						  : "no address of that family");
		else
			rc = add_route(h, dev, &list[i], own);
	}
	return rc;
}

static int add_routes(struct vpn_host *h, uint32_t dev, const struct vpn_offer *offer)
{
	const struct net_prefix *own[] = {&offer->ip4, &offer->ip6};
	int rc = 0;

	for (unsigned i = 0; i < 2 && !rc; i++)
		if (own[i]->addr.family) {
			rc = add_route(h, dev, own[i], own[i]);
			if (!rc && h->opt->full)
				rc = add_route(h, dev, NULL, own[i]);
		}
	if (!rc)
		rc = add_named(h, dev, offer, h->opt->routes, h->opt->route_count, true);
	if (!rc)
		rc = add_named(h, dev, offer, offer->advice.routes, offer->advice.route_count,
			       false);
	return rc;
}

int vpn_host_online(struct vpn_host *h, const char *interface, const struct vpn_offer *offer)
{
	const struct vpn_advice *a = &offer->advice;
	int dev = nl_link_index(hostjournal_nl(h->journal), interface), rc = dev < 0 ? dev : 0;

	drop_routes(h);
	if (!rc && !h->table)
		rc = stand_up(h, offer);
	if (!rc)
		rc = add_routes(h, (uint32_t)dev, offer);
	if (rc)
		log_error("vpn: cannot set routes and rules: %s", strerror(-rc));
	if (rc || !h->opt->cfg->vpn_use_dns || !a->dns_count)
		return rc;
	return resolv_set(h->resolv, interface, a->dns, a->dns_count);
}

void vpn_host_offline(struct vpn_host *h)
{
	drop_routes(h);
	if (!h->opt->full)
		(void)resolv_restore(h->resolv);
}

/* --- server --------------------------------------------------------------------------------- */

/* A host that forwards IPv6 no longer takes its own default route from router advertisements,
 * unless told so. */
static int keep_advertised_route(const struct nl_route *r, void *ctx)
{
	struct vpn_host *h = ctx;
	char name[IFNAMSIZ], key[64], value[8], *dot;

	if (r->dst.addr.family || !r->dev || !if_indextoname(r->dev, name))
		return 0;
	while ((dot = strchr(name, '.')))
		*dot = '/';
	snprintf(key, sizeof key, "net.ipv6.conf.%s.accept_ra", name);
	if (sysctl_read(key, value, sizeof value) == 0 && strcmp(value, "1") == 0)
		(void)host_sysctl_set(h->journal, key, "2");
	return 0;
}

static int forwarding6(struct vpn_host *h)
{
	int rc;

	(void)nl_route_list(hostjournal_nl(h->journal), 6, keep_advertised_route, h);
	rc = host_sysctl_set(h->journal, "net.ipv6.conf.all.forwarding", "1");
	return rc == -ENOENT ? 0 : rc;
}

/* One table a server: several may run on one host. */
static void table_name(char out[NFT_TABLE_NAME_MAX], const struct vpn_options *opt)
{
	uint32_t hash = 2166136261u;

	for (const char *p = opt->app_id; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 16777619u;
	snprintf(out, NFT_TABLE_NAME_MAX, "meshnet_vpn_%08x", hash);
}

static int forward(struct vpn_host *h, const struct vpn_hosts *hosts)
{
	int rc = 0;

	if (hosts->subnet4.addr.family)
		rc = host_sysctl_set(h->journal, "net.ipv4.ip_forward", "1");
	if (!rc && hosts->subnet6.addr.family)
		rc = forwarding6(h);
	return rc;
}

void vpn_host_keep_serving(struct vpn_host *h, const struct vpn_hosts *hosts)
{
	/* The journal has logged what went wrong. */
	if (h->opt->cfg->vpn_forward)
		(void)forward(h, hosts);
}

int vpn_host_serve(struct vpn_host *h, const struct vpn_hosts *hosts)
{
	const struct config *cfg = h->opt->cfg;
	char table[NFT_TABLE_NAME_MAX];
	const struct nft_masquerade m = {
		.table = table, .net4 = hosts->subnet4, .net6 = hosts->subnet6};
	int rc;

	if (!cfg->vpn_forward)
		return 0;
	table_name(table, h->opt);
	rc = forward(h, hosts);
	if (!rc && cfg->vpn_nat)
		rc = host_nft_masquerade(h->journal, &m);
	if (rc)
		log_error("vpn: cannot forward for the clients: %s", strerror(-rc));
	return rc;
}
