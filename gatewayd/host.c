#include "gatewayd/host.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/config.h"
#include "io/config_value.h"
#include "io/hostjournal.h"
#include "io/netlink_watch.h"
#include "io/sysctl.h"

#define NAMES_PORT 53

/* A lease as it stands in the table, or shall. */
struct entry {
	char sid[SID_MAX + 1];
	char interface[LEASE_INTERFACE_MAX + 1];
	struct net_addr ip4, ip6;
	uint8_t mac[6];
	bool has_mac;
};

/* What the next flush does. */
struct queue {
	struct entry *list;
	size_t count, size;
};

struct gw_host {
	struct hostjournal *journal;
	struct nft *nft;
	uint64_t mark; /* of the table as we made it */
	uint64_t nets; /* what DeniedNetworks and AllowedNetworks were then */
	uint64_t repairs;
	bool ready; /* the table is there */
	struct queue adds, dels;
	const char *tunnels[NFT_TUNNELS_MAX], *borrowed[NFT_TUNNELS_MAX];
	size_t tunnel_count, borrowed_count;
	struct gw_shape *shape;
	struct nl_watch *watch; /* NULL: the guard's own rounds have to do */
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
	uint16_t ports[2];
};

/* Do we tell subscribers to ask us for names? */
static bool serves_names(const struct config *cfg, const struct gw_engine *engine)
{
	const struct net_addr ours[] = {pool_gateway(gw_engine_pool4(engine)),
					pool_gateway(gw_engine_pool6(engine))};
	const char *at = cfg->gateway_dns;
	char item[NET_ADDR_TEXT];
	struct net_addr a;

	while (config_list_next(&at, item, sizeof(item))) {
		if (net_addr_parse(&a, item, 0) != 0)
			continue;
		a.port = 0;
		if (net_addr_equal(&a, &ours[0]) || net_addr_equal(&a, &ours[1]))
			return true;
	}
	return false;
}

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
	nets->ports[0] = (uint16_t)cfg->gateway_rpc_port;
	nets->ports[1] = NAMES_PORT;
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
		.open_ports = nets->ports,
		.open_port_count = serves_names(cfg, engine) ? 2 : 1,
	};
	if (cfg->gateway_nat) {
		gw->pool4 = gw_engine_pool4(engine)->net;
		gw->pool6 = gw_engine_pool6(engine)->net;
	}
	return 0;
}

/* Methods without an interface here need no table. */
static bool has_interfaces(const struct gw_host *h)
{
	return h->tunnel_count + h->borrowed_count > 0;
}

/* FNV-1a. */
static uint64_t nets_hash(const struct config *cfg)
{
	const char *const texts[] = {cfg->gateway_denied_networks, cfg->gateway_allowed_networks};
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < 2; i++) {
		for (const char *c = texts[i]; *c; c++)
			h = (h ^ (uint8_t)*c) * 0x100000001b3u;
		h = (h ^ '\n') * 0x100000001b3u;
	}
	return h;
}

static int table_make(struct gw_host *h, const struct config *cfg, const struct gw_engine *engine,
		      const struct nft_lease *leases, size_t count)
{
	struct table_nets nets;
	struct nft_gateway gw;
	int rc = table_fill(h, &gw, &nets, cfg, engine);

	if (!rc && !has_interfaces(h))
		return 0;
	gw.leases = leases;
	gw.lease_count = count;
	if (!rc)
		rc = host_nft_gateway(h->journal, &gw);
	h->nets = nets_hash(cfg);
	if (!rc)
		rc = nft_table_mark(h->nft, GW_NFT_TABLE, &h->mark);
	if (!rc && h->watch)
		nl_watch_made(h->watch);
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
	cstr_print(key, sizeof(key), "net.ipv6.conf.%s.accept_ra", name);
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

/* For who has subscribers' packets to forward; a SOCKS server of ours makes connections of its own.
 */
static int forwarding(struct gw_host *h, const struct gw_engine *engine)
{
	int rc = 0;

	if (has_interfaces(h) && pool_in_use(gw_engine_pool4(engine)))
		rc = host_sysctl_set(h->journal, "net.ipv4.ip_forward", "1");
	if (!rc && has_interfaces(h) && pool_in_use(gw_engine_pool6(engine)))
		rc = forwarding6(h);
	if (rc)
		log_error("cannot switch forwarding on: %s", strerror(-rc));
	return rc;
}

int gw_host_setup(struct gw_host *h, const struct config *cfg, const struct gw_engine *engine)
{
	int rc = forwarding(h, engine);

	if (!rc)
		rc = table_make(h, cfg, engine, NULL, 0);
	h->ready = rc == 0 && has_interfaces(h);
	if (!rc)
		rc = gw_shape_new(&h->shape, h->journal, gw_engine_pool4(engine),
				  gw_engine_pool6(engine));
	if (!rc)
		gw_host_shape(h, cfg, engine);
	return rc;
}

void gw_host_shape(struct gw_host *h, const struct config *cfg, const struct gw_engine *engine)
{
	const struct gw_shape_config sc = {
		.up_kbps = cfg->gateway_uplink_up_kbps,
		.down_kbps = cfg->gateway_uplink_down_kbps,
		.leases = cfg->gateway_max_subscribers,
		.queue = cfg->gateway_uplink_queue,
		.wanted = cfg->gateway_uplink_up_kbps || cfg->gateway_uplink_down_kbps ||
			  cfg->gateway_rate_kbps || cfg->gateway_step_down_kbps,
	};

	bool begun = gw_shape_set(h->shape, &sc);

	for (const struct lease *l = NULL; (l = gw_engine_lease_after(engine, l));)
		if (begun)
			gw_shape_lease_add(h->shape, l);
		else /* the uplink or the queue may be another */
			gw_shape_lease_rate(h->shape, l);
	gw_shape_flush(h->shape);
}

const struct gw_shape *gw_host_shaping(const struct gw_host *h)
{
	return h->shape;
}

/* ---- leases ---- */

static struct entry entry_of(const struct lease *l)
{
	struct entry e = {.ip4 = l->source4, .ip6 = l->source6, .has_mac = l->has_mac};

	memcpy(e.sid, l->sid, sizeof(e.sid));
	memcpy(e.interface, l->interface, sizeof(e.interface));
	memcpy(e.mac, l->source_mac, sizeof(e.mac));
	return e;
}

static int queue_put(struct queue *q, const struct lease *l)
{
	struct entry *e;

	if (q->count == q->size) {
		size_t size = q->size ? q->size * 2 : 64;

		e = reallocarray(q->list, size, sizeof(*e));
		if (!e)
			return -ENOMEM;
		q->list = e;
		q->size = size;
	}
	e = &q->list[q->count++];
	*e = entry_of(l);
	return 0;
}

/* True when it was there: what was not yet made need not be taken back. */
static bool queue_drop(struct queue *q, const char *sid)
{
	for (size_t i = 0; i < q->count; i++)
		if (strcmp(q->list[i].sid, sid) == 0) {
			q->list[i] = q->list[--q->count];
			return true;
		}
	return false;
}

int gw_host_lease_add(struct gw_host *h, const struct lease *l)
{
	int rc = *l->interface ? queue_put(&h->adds, l) : 0;

	if (!rc)
		gw_shape_lease_add(h->shape, l);
	return rc;
}

void gw_host_lease_del(struct gw_host *h, const struct lease *l)
{
	gw_shape_lease_del(h->shape, l);
	if (!*l->interface || queue_drop(&h->adds, l->sid))
		return;
	if (queue_put(&h->dels, l))
		log_error("rules of lease %.8s... stay: out of memory", l->sid);
}

void gw_host_rate(struct gw_host *h, const struct lease *l)
{
	gw_shape_lease_rate(h->shape, l);
}

static struct nft_lease rules_of(const struct entry *e)
{
	struct nft_lease rules = {
		.interface = e->interface, .ip4 = e->ip4, .ip6 = e->ip6, .has_mac = e->has_mac};

	memcpy(rules.mac, e->mac, sizeof(rules.mac));
	return rules;
}

/* NULL without memory. */
static struct nft_lease *rules_all(const struct queue *q)
{
	struct nft_lease *rules = calloc(q->count + 1, sizeof(*rules));

	for (size_t i = 0; rules && i < q->count; i++)
		rules[i] = rules_of(&q->list[i]);
	return rules;
}

static void count_one(const char *interface, const struct net_addr *addr, bool up,
		      struct nft_counter c, void *ctx)
{
	(void)interface;
	gw_engine_count(ctx, addr, up, c.bytes);
}

void gw_host_count(struct gw_host *h, struct gw_engine *engine)
{
	if (!h->ready)
		return;
	gw_engine_count_begin(engine);
	/* Half of the counters would look like counters that began again. */
	if (nft_leases_count(h->nft, GW_NFT_TABLE, count_one, engine) == 0)
		gw_engine_count_end(engine);
}

typedef int rules_run(struct nft *nft, const char *table, const struct nft_lease *leases,
		      size_t count);

/* All in one transaction; when one of them spoils that, each by itself. */
static void queue_run(struct gw_host *h, const struct queue *q, rules_run *run,
		      gw_host_failed *failed, void *ctx)
{
	struct nft_lease *rules = rules_all(q);
	int rc = rules ? 0 : -ENOMEM;

	if (!rc)
		rc = run(h->nft, GW_NFT_TABLE, rules, q->count);
	for (size_t i = 0; rc && i < q->count; i++) {
		struct nft_lease one = rules_of(&q->list[i]);
		int err = run(h->nft, GW_NFT_TABLE, &one, 1);

		if (err)
			failed(q->list[i].sid, err, ctx);
	}
	free(rules);
}

static void del_failed(const char *sid, int rc, void *ctx)
{
	(void)ctx;
	if (rc != -ENOENT) /* gone with a flushed table: the guard puts the others back */
		log_error("rules of lease %.8s... stay: %s", sid, strerror(-rc));
}

void gw_host_flush(struct gw_host *h, gw_host_failed *failed, void *ctx)
{
	struct queue adds = h->adds, dels = h->dels;

	/* `failed` may end leases, which is for the next flush. */
	h->adds = h->dels = (struct queue){0};
	queue_run(h, &dels, nft_leases_del, del_failed, NULL);
	queue_run(h, &adds, nft_leases_add, failed, ctx);
	free(adds.list);
	free(dels.list);
	gw_shape_flush(h->shape);
}

bool gw_host_pending(const struct gw_host *h)
{
	return h->adds.count || h->dels.count;
}

/* ---- watching ---- */

static void put_back_failed(const char *sid, int rc, void *ctx)
{
	(void)ctx;
	log_error("rules of lease %.8s...: %s", sid, strerror(-rc));
}

/* A table with all leases in it takes the place of the old one.  When one of them spoils that, each
 * by itself. */
static int renew(struct gw_host *h, const struct config *cfg, struct gw_engine *engine)
{
	struct queue all = {0};
	struct nft_lease *rules = NULL;
	int rc = forwarding(h, engine); /* a method with an interface may be new */

	if (rc)
		return rc;
	for (const struct lease *l = NULL; !rc && (l = gw_engine_lease_after(engine, l));)
		rc = *l->interface ? queue_put(&all, l) : 0;
	if (!rc)
		rules = rules_all(&all);
	h->dels.count = h->adds.count = 0; /* of the table that is replaced */
	if (rules)
		rc = table_make(h, cfg, engine, rules, all.count);
	if (!rules || (rc && all.count)) {
		rc = table_make(h, cfg, engine, NULL, 0);
		if (!rc)
			queue_run(h, &all, nft_leases_add, put_back_failed, NULL);
	}
	free(rules);
	free(all.list);
	h->ready = h->ready || (rc == 0 && has_interfaces(h));
	gw_engine_counters_reset(engine);
	return rc;
}

/* Only the rules are new, when that is enough. */
static bool refresh(struct gw_host *h, const struct config *cfg, const struct gw_engine *engine)
{
	struct table_nets nets;
	struct nft_gateway gw;

	return h->ready && has_interfaces(h) && nets_hash(cfg) == h->nets &&
	       nft_table_intact(h->nft, GW_NFT_TABLE, h->mark) == 1 && forwarding(h, engine) == 0 &&
	       table_fill(h, &gw, &nets, cfg, engine) == 0 &&
	       nft_gateway_refresh(h->nft, &gw) == 0 &&
	       nft_table_mark(h->nft, GW_NFT_TABLE, &h->mark) == 0;
}

void gw_host_settings(struct gw_host *h, const struct config *cfg, struct gw_engine *engine)
{
	if (!refresh(h, cfg, engine))
		renew(h, cfg, engine);
}

int gw_host_watch(struct gw_host *h, struct event_base *base, nl_watch_cb *touched, void *arg)
{
	int rc = nl_watch_table(&h->watch, base, GW_NFT_TABLE, touched, arg);

	if (rc)
		log_warn("changes of nftables are not told to us (%s); they are looked for every "
			 "%d s",
			 strerror(-rc), GW_GUARD_S);
	return 0;
}

void gw_host_guard(struct gw_host *h, bool touched, const struct config *cfg,
		   struct gw_engine *engine)
{
	/* Whoever touched the table may have taken leases out, which its fixed part does not show.
	 */
	if (!h->ready || (!touched && nft_table_intact(h->nft, GW_NFT_TABLE, h->mark) != 0))
		return;
	h->repairs++;
	if (renew(h, cfg, engine) == 0)
		log_warn("somebody changed nftables table inet %s; it is back with %zu leases",
			 GW_NFT_TABLE, gw_engine_lease_count(engine));
}

uint64_t gw_host_repairs(const struct gw_host *h)
{
	return h->repairs;
}

int gw_host_counters(struct gw_host *h, struct nft_gateway_counters *out)
{
	return nft_gateway_counters(h->nft, GW_NFT_TABLE, out);
}

bool gw_host_lease_counters(struct gw_host *h, const struct lease *l,
			    struct nft_lease_counters *out)
{
	struct entry e = entry_of(l);
	struct nft_lease rules = rules_of(&e);

	return *l->interface && nft_lease_counters(h->nft, GW_NFT_TABLE, &rules, out) == 0;
}

int gw_host_close(struct gw_host *h)
{
	int left;

	if (!h)
		return 0;
	h->ready = false; /* nobody puts back what goes now */
	left = hostjournal_undo(h->journal, 0);
	if (left)
		log_warn("not everything could be taken back from the host; --cleanup tries again");
	nl_watch_free(h->watch);
	gw_shape_free(h->shape);
	free(h->adds.list);
	free(h->dels.list);
	hostjournal_close(h->journal);
	free(h);
	return left;
}
