#include "gatewayd/host.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/clock.h"
#include "io/config.h"
#include "io/hostjournal.h"
#include "io/sysctl.h"

#define TAG_BYTES (NFT_LEASE_TAG_MAX / 2)
#define COUNTERS_AGE_US 500000u /* a list of all sessions reads the table once */

struct gw_host {
	struct hostjournal *journal;
	struct nft *nft;
	uint64_t mark; /* of the table as we made it */
	uint64_t repairs;
	bool ready; /* the table is there */
	const char *tunnels[NFT_TUNNELS_MAX], *borrowed[NFT_TUNNELS_MAX];
	size_t tunnel_count, borrowed_count;
	struct nft_lease_counters *counts; /* by tag; of a moment ago */
	size_t count, count_max;
	uint64_t counted_us;
};

int gw_host_open(struct gw_host **out, const char *journal_path)
{
	struct gw_host *h = calloc(1, sizeof(*h));
	int rc;

	if (!h)
		return -ENOMEM;
	rc = hostjournal_open(&h->journal, journal_path);
	if (rc) {
		log_error("%s: %s", journal_path, strerror(-rc));
		free(h);
		return rc;
	}
	h->nft = hostjournal_nft(h->journal);
	rc = hostjournal_undo(h->journal, 0);
	if (rc > 0)
		log_warn("%d changes of an earlier run could not be taken back", rc);
	if (rc < 0) {
		hostjournal_close(h->journal);
		free(h);
		return rc;
	}
	*out = h;
	return 0;
}

struct hostjournal *gw_host_journal(struct gw_host *h)
{
	return h->journal;
}

/* ---- the table ---- */

int gw_host_tunnels(struct gw_host *h, const char *const *patterns, size_t count)
{
	if (count > NFT_TUNNELS_MAX)
		return -E2BIG;
	h->tunnel_count = count;
	for (size_t i = 0; i < count; i++)
		h->tunnels[i] = patterns[i];
	return 0;
}

int gw_host_borrowed(struct gw_host *h, const char *const *names, size_t count)
{
	if (count > NFT_TUNNELS_MAX)
		return -E2BIG;
	h->borrowed_count = count;
	for (size_t i = 0; i < count; i++)
		h->borrowed[i] = names[i];
	return 0;
}

struct table_nets {
	struct net_prefix denied[GW_HOST_NETS_MAX], allowed[GW_HOST_NETS_MAX];
	uint16_t port;
};

static int table_fill(const struct gw_host *h, struct nft_gateway *gw, struct table_nets *nets,
		      const struct config *cfg, const struct gw_engine *engine)
{
	int denied =
		net_prefix_parse_list(nets->denied, GW_HOST_NETS_MAX, cfg->gateway_denied_networks);
	int allowed = net_prefix_parse_list(nets->allowed, GW_HOST_NETS_MAX,
					    cfg->gateway_allowed_networks);

	if (denied < 0 || allowed < 0) {
		log_error("gateway.DeniedNetworks and AllowedNetworks: at most %d networks each",
			  GW_HOST_NETS_MAX);
		return -EINVAL;
	}
	nets->port = (uint16_t)cfg->gateway_rpc_port;
	*gw = (struct nft_gateway){
		.table = GW_NFT_TABLE,
		.tunnels = h->tunnels,
		.tunnel_count = h->tunnel_count,
		.borrowed = h->borrowed,
		.borrowed_count = h->borrowed_count,
		.masquerade_borrowed = cfg->gateway_nat,
		.uplink = cfg->gateway_uplink_interface,
		.routed6 = !cfg->gateway_nat,
		.denied = nets->denied,
		.denied_count = (size_t)denied,
		.allowed = nets->allowed,
		.allowed_count = (size_t)allowed,
		.open_ports = &nets->port,
		.open_port_count = 1,
	};
	if (cfg->gateway_nat) {
		gw->pool4 = gw_engine_pool4(engine)->net;
		gw->pool6 = gw_engine_pool6(engine)->net;
	}
	return 0;
}

static int table_make(struct gw_host *h, const struct config *cfg, const struct gw_engine *engine)
{
	struct table_nets nets;
	struct nft_gateway gw;
	int rc = table_fill(h, &gw, &nets, cfg, engine);

	if (!rc)
		rc = host_nft_gateway(h->journal, &gw);
	if (!rc)
		rc = nft_table_mark(h->nft, GW_NFT_TABLE, &h->mark);
	if (rc == -EEXIST)
		log_error("there is a foreign nftables table inet %s; remove it or stop its owner",
			  GW_NFT_TABLE);
	else if (rc)
		log_error("nftables table inet %s: %s", GW_NFT_TABLE, strerror(-rc));
	return rc;
}

/* ---- forwarding ---- */

/* A host that forwards IPv6 no longer takes its own default route from router advertisements,
 * unless told so: the uplink would lose its IPv6. */
static void keep_advertised_route(struct gw_host *h, uint32_t dev)
{
	char name[IFNAMSIZ], key[64], value[SYSCTL_VALUE_MAX];
	char *dot;

	if (!if_indextoname(dev, name))
		return;
	while ((dot = strchr(name, '.')))
		*dot = '/';
	snprintf(key, sizeof(key), "net.ipv6.conf.%s.accept_ra", name);
	if (sysctl_read(key, value, sizeof(value)) == 0 && strcmp(value, "1") == 0)
		host_sysctl_set(h->journal, key, "2");
}

static int on_route(const struct nl_route *r, void *ctx)
{
	if (r->dst.addr.family == 0 && r->dev)
		keep_advertised_route(ctx, r->dev);
	return 0;
}

static int forwarding6(struct gw_host *h)
{
	int rc;

	nl_route_list(hostjournal_nl(h->journal), 6, on_route, h);
	rc = host_sysctl_set(h->journal, "net.ipv6.conf.all.forwarding", "1");
	if (rc == -ENOENT) {
		log_warn("this host has no IPv6; subscribers get IPv6 addresses that lead nowhere");
		return 0;
	}
	return rc;
}

int gw_host_setup(struct gw_host *h, const struct config *cfg, const struct gw_engine *engine)
{
	int rc = 0;

	if (pool_in_use(gw_engine_pool4(engine)))
		rc = host_sysctl_set(h->journal, "net.ipv4.ip_forward", "1");
	if (!rc && pool_in_use(gw_engine_pool6(engine)))
		rc = forwarding6(h);
	if (rc) {
		log_error("cannot switch forwarding on: %s", strerror(-rc));
		return rc;
	}
	rc = table_make(h, cfg, engine);
	h->ready = rc == 0;
	return rc;
}

/* ---- leases ---- */

/* Not the sid itself: a subscriber may have chosen it, and the ruleset is no place for secrets. */
static void lease_rules(const struct lease *l, char tag[NFT_LEASE_TAG_MAX + 1],
			struct nft_lease *out)
{
	uint8_t hash[32];

	crypto_generichash(hash, sizeof(hash), (const uint8_t *)l->sid, strlen(l->sid), NULL, 0);
	hex_encode(hash, TAG_BYTES, tag);
	*out = (struct nft_lease){.tag = tag,
				  .interface = l->interface,
				  .ip4 = l->source4,
				  .ip6 = l->source6,
				  .has_mac = l->has_mac};
	memcpy(out->mac, l->source_mac, sizeof(out->mac));
}

int gw_host_lease_add(struct gw_host *h, const struct lease *l)
{
	char tag[NFT_LEASE_TAG_MAX + 1];
	struct nft_lease rules;
	int rc;

	if (!*l->interface)
		return 0;
	lease_rules(l, tag, &rules);
	rc = nft_lease_add(h->nft, GW_NFT_TABLE, &rules);
	if (rc)
		log_error("rules of lease %.8s...: %s", l->sid, strerror(-rc));
	return rc;
}

void gw_host_lease_del(struct gw_host *h, const struct lease *l)
{
	char tag[NFT_LEASE_TAG_MAX + 1];
	struct nft_lease rules;
	int rc;

	if (!*l->interface)
		return;
	lease_rules(l, tag, &rules);
	rc = nft_lease_del(h->nft, GW_NFT_TABLE, &rules);
	if (rc && rc != -ENOENT) /* gone with a flushed table: the guard puts the others back */
		log_error("rules of lease %.8s... stay: %s", l->sid, strerror(-rc));
}

/* ---- watching ---- */

int gw_host_renew(struct gw_host *h, const struct config *cfg, const struct gw_engine *engine)
{
	int rc = table_make(h, cfg, engine);

	for (const struct lease *l = NULL; !rc && (l = gw_engine_lease_after(engine, l));)
		gw_host_lease_add(h, l);
	return rc;
}

void gw_host_guard(struct gw_host *h, const struct config *cfg, const struct gw_engine *engine)
{
	if (!h->ready || nft_table_intact(h->nft, GW_NFT_TABLE, h->mark) != 0)
		return;
	h->repairs++;
	if (gw_host_renew(h, cfg, engine) == 0)
		log_warn("somebody changed nftables table inet %s; it is back with %zu leases",
			 GW_NFT_TABLE, gw_engine_lease_count(engine));
}

uint64_t gw_host_repairs(const struct gw_host *h)
{
	return h->repairs;
}

int gw_host_counters(struct gw_host *h, struct nft_gateway_counters *out)
{
	return nft_gateway_counters(h->nft, GW_NFT_TABLE, out, NULL, NULL);
}

static int tag_order(const void *a, const void *b)
{
	return strcmp(((const struct nft_lease_counters *)a)->tag,
		      ((const struct nft_lease_counters *)b)->tag);
}

static void keep_count(const struct nft_lease_counters *c, void *ctx)
{
	struct gw_host *h = ctx;

	if (h->count == h->count_max) {
		size_t max = h->count_max ? h->count_max * 2 : 64;
		void *grown = realloc(h->counts, max * sizeof(*h->counts));
		if (!grown)
			return;
		h->counts = grown;
		h->count_max = max;
	}
	h->counts[h->count++] = *c;
}

static void count_all(struct gw_host *h)
{
	struct nft_gateway_counters fixed;

	h->count = 0;
	h->counted_us = daemon_now_us();
	nft_gateway_counters(h->nft, GW_NFT_TABLE, &fixed, keep_count, h);
	if (h->count)
		qsort(h->counts, h->count, sizeof(*h->counts), tag_order);
}

bool gw_host_lease_counters(struct gw_host *h, const struct lease *l,
			    struct nft_lease_counters *out)
{
	struct nft_lease_counters key = {0}, *found = NULL;
	struct nft_lease rules;

	lease_rules(l, key.tag, &rules);
	if (!h->counted_us || daemon_now_us() - h->counted_us > COUNTERS_AGE_US)
		count_all(h);
	if (h->count)
		found = bsearch(&key, h->counts, h->count, sizeof(key), tag_order);
	if (found)
		*out = *found;
	return found;
}

int gw_host_close(struct gw_host *h)
{
	int left;

	if (!h)
		return 0;
	left = hostjournal_undo(h->journal, 0);
	if (left)
		log_warn("not everything could be taken back from the host; --cleanup tries again");
	hostjournal_close(h->journal);
	free(h->counts);
	free(h);
	return left;
}
