#include "subscriberd/host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/config_value.h"

#define TUNNEL_METRIC 100u	       /* of slot 0; the next one's is one more */
#define UNREACHABLE_METRIC 4278198272u /* behind every other route of our table */
#define KILLSWITCH_TABLE "meshnet_sub"
#define NETWORKS_MAX 256
#define GATEWAY_PORT 65533
#define RULES_MAX (NETWORKS_MAX + 6)

/* Routes as short as these are somebody's default route in pieces, no networks.  Yggdrasil's
 * 200::/7 and fc00::/7 are longer. */
#define DEFAULT_BITS4 7u
#define DEFAULT_BITS6 3u

struct networks {
	struct net_prefix v[NETWORKS_MAX];
	size_t count;
};

struct slot {
	char interface[IFNAMSIZ]; /* "": no tunnel */
	struct tunnel_path path;
	uint32_t dev;
	struct nl_rule server;
	bool has_server;
	struct nl_rule rules[2]; /* from our addresses */
	struct nl_route own[2];	 /* of the slot's own table */
	size_t own_count;
	struct nl_route defaults[2]; /* while it is in use */
	size_t default_count;
};

struct sub_host {
	struct hostjournal *journal;
	const struct config *cfg;
	struct slot slots[SUB_SLOTS];
	/* What everybody shares, while it stands. */
	struct nl_rule rules[RULES_MAX];
	size_t rule_count;
	struct nl_route unreachable[2];
	size_t unreachable_count;
	bool standing;
	bool closed;		 /* the kill switch is up */
	uint64_t mark;		 /* of its table as we made it */
	struct networks allowed; /* as it has them */
	struct net_addr ordered; /* family 0: none */
};

static int fault(const char *what, int err)
{
	log_error("cannot set %s: %s", what, strerror(-err));
	return err;
}

static int tolerate(int err)
{
	return err == -EEXIST ? 0 : err;
}

/* --- kill switch -------------------------------------------------------------------------- */

static void add_network(struct networks *n, const struct net_prefix *p)
{
	struct net_prefix net = net_prefix_network(p);

	for (size_t i = 0; i < n->count; i++)
		if (n->v[i].bits == net.bits && net_addr_equal(&n->v[i].addr, &net.addr))
			return;
	if (n->count < NETWORKS_MAX)
		n->v[n->count++] = net;
}

static void add_host(struct networks *n, const struct net_addr *a)
{
	struct net_prefix p = {.addr = *a, .bits = a->family == 4 ? 32 : 128};

	p.addr.port = 0;
	if (a->family)
		add_network(n, &p);
}

static bool is_default(const struct net_prefix *p)
{
	return p->bits <= (p->addr.family == 4 ? DEFAULT_BITS4 : DEFAULT_BITS6);
}

/* Connected networks and whatever the main table knows a way to, but the default. */
static int collect_route(const struct nl_route *r, void *ctx)
{
	bool specific = r->dst.addr.family && !is_default(&r->dst);

	if (specific && r->table == NL_TABLE_MAIN && r->proto != NL_PROTO_MESHNET)
		add_network(ctx, &r->dst);
	return 0;
}

/* Where packets may go beside the tunnels. */
static int collect(struct sub_host *h, struct networks *nets)
{
	struct net_prefix direct[NETWORKS_MAX];
	const char *at = h->cfg->subscriber_gateways;
	char item[NET_ADDR_TEXT];
	struct net_addr a;
	int n = net_prefix_parse_list(direct, NETWORKS_MAX, h->cfg->subscriber_direct_networks);

	nets->count = 0;
	for (int i = 0; i < n; i++)
		add_network(nets, &direct[i]);
	for (unsigned i = 0; i < SUB_SLOTS; i++)
		if (h->slots[i].has_server)
			add_network(nets, &h->slots[i].server.to);
	add_host(nets, &h->ordered);
	while (config_list_next(&at, item, sizeof item))
		if (net_addr_parse(&a, item, GATEWAY_PORT) == 0)
			add_host(nets, &a);
	return nl_route_list(hostjournal_nl(h->journal), 0, collect_route, nets);
}

static bool same_networks(const struct networks *a, const struct networks *b)
{
	bool same = a->count == b->count;

	for (size_t i = 0; same && i < a->count; i++)
		same = a->v[i].bits == b->v[i].bits && net_addr_equal(&a->v[i].addr, &b->v[i].addr);
	return same;
}

/* The table with the tunnels as they are now, in one transaction. */
static int set_killswitch(struct sub_host *h, const struct networks *nets)
{
	const char *tunnels[SUB_SLOTS];
	uint8_t families[SUB_SLOTS];
	struct nft_killswitch ks = {
		.table = KILLSWITCH_TABLE,
		.tunnels = tunnels,
		.families = families,
		.allowed = nets->v,
		.allowed_count = nets->count,
		.mark = (uint32_t)h->cfg->node_firewall_mark,
	};

	for (unsigned i = 0; i < SUB_SLOTS; i++) {
		const struct slot *s = &h->slots[i];
		if (!s->interface[0])
			continue;
		/* It may be the host's own, where the other family knows another way out. */
		families[ks.tunnel_count] = !s->path.source6.family   ? 4
					    : !s->path.source4.family ? 6
								      : 0;
		tunnels[ks.tunnel_count++] = s->interface;
	}
	int err = host_nft_killswitch(h->journal, &ks);
	if (!err)
		err = nft_table_mark(hostjournal_nft(h->journal), KILLSWITCH_TABLE, &h->mark);
	if (err)
		return fault("the kill switch", err);
	h->closed = true;
	h->allowed = *nets;
	return 0;
}

static int follow_killswitch(struct sub_host *h)
{
	struct networks nets;

	if (!h->cfg->subscriber_kill_switch)
		return 0;
	/* A list that was interrupted is short: what it leaves out is blocked for a moment. */
	(void)collect(h, &nets);
	return set_killswitch(h, &nets);
}

void sub_host_refresh(struct sub_host *h)
{
	struct networks nets;

	if (!h->cfg->subscriber_kill_switch) {
		if (h->closed && host_nft_remove(h->journal, KILLSWITCH_TABLE) == 0)
			h->closed = false;
		return;
	}
	if (collect(h, &nets) != 0)
		return; /* interrupted: next time */
	int intact =
		h->closed ? nft_table_intact(hostjournal_nft(h->journal), KILLSWITCH_TABLE, h->mark)
			  : 0;
	if (h->closed && intact == 0)
		log_warn("somebody has changed or taken away the kill switch: it is put back");
	if (intact != 1 || !same_networks(&nets, &h->allowed))
		(void)set_killswitch(h, &nets);
}

void sub_host_ordered(struct sub_host *h, const struct net_addr *gateway)
{
	h->ordered = *gateway;
	sub_host_refresh(h);
}

void sub_host_forget(struct sub_host *h, const struct net_addr *gateway)
{
	static const struct net_addr none = {0};

	if (h->ordered.family && net_addr_same_ip(&h->ordered, gateway))
		sub_host_ordered(h, &none);
}

/* --- opening and closing ------------------------------------------------------------------ */

int sub_host_open(struct sub_host **out, const char *journal_path, const struct config *cfg)
{
	struct sub_host *h = calloc(1, sizeof *h);
	int err;

	if (!h)
		return -ENOMEM;
	h->cfg = cfg;
	err = hostjournal_open(&h->journal, journal_path);
	if (err) {
		free(h);
		return err;
	}
	/* A kill switch that is up knows of the earlier run's tunnels, one of which may be an
	 * interface of the host's own: it has to know of none before the routes go. */
	err = follow_killswitch(h);
	if (hostjournal_undo(h->journal, cfg->subscriber_kill_switch ? HOST_NFT : 0) != 0)
		log_warn("some of what an earlier run changed could not be taken back");
	if (err) {
		hostjournal_close(h->journal);
		free(h);
		return err;
	}
	*out = h;
	return 0;
}

struct hostjournal *sub_host_journal(struct sub_host *h)
{
	return h->journal;
}

void sub_host_close(struct sub_host *h)
{
	if (!h)
		return;
	if (hostjournal_undo(h->journal, h->closed ? HOST_NFT : 0) != 0)
		log_error("some changes could not be taken back; --cleanup tries again");
	if (h->closed)
		log_warn("the kill switch stays: nothing leaves this host until subscriberd runs "
			 "again, or `subscriberd --cleanup` takes it away");
	hostjournal_close(h->journal);
	free(h);
}

int sub_host_cleanup(const char *journal_path)
{
	struct hostjournal *j;
	int err = hostjournal_open(&j, journal_path);

	if (err)
		return err;
	err = hostjournal_undo(j, 0);
	hostjournal_close(j);
	return err > 0 ? -EIO : err;
}

/* --- rules for everything ----------------------------------------------------------------- */

static uint32_t priority(const struct sub_host *h, unsigned step)
{
	return (uint32_t)h->cfg->subscriber_rule_priority + step;
}

/* One that is there already is somebody else's, and serves as well. */
static int share_rule(struct sub_host *h, const struct nl_rule *r)
{
	int err = h->rule_count < RULES_MAX ? host_rule_add(h->journal, r) : -E2BIG;

	if (!err)
		h->rules[h->rule_count++] = *r;
	return tolerate(err);
}

static int add_rules(struct sub_host *h, uint8_t family)
{
	const struct nl_rule specific = {
		.family = family,
		.priority = priority(h, 1),
		.table = NL_TABLE_MAIN,
		.suppress = true,
		.suppress_prefixlength = family == 4 ? DEFAULT_BITS4 : DEFAULT_BITS6,
	};
	const struct nl_rule ours = {
		.family = family,
		.priority = priority(h, 3),
		.table = (uint32_t)h->cfg->subscriber_route_table,
	};
	const struct nl_rule marked = {
		.family = family,
		.priority = priority(h, 0),
		.table = NL_TABLE_MAIN,
		.fwmark = (uint32_t)h->cfg->node_firewall_mark,
		.fwmask = UINT32_MAX,
	};
	const struct nl_route unreachable = {
		.family = family,
		.table = (uint32_t)h->cfg->subscriber_route_table,
		.metric = UNREACHABLE_METRIC,
		.type = NL_ROUTE_UNREACHABLE,
	};
	int err = host_route_add(h->journal, &unreachable);

	if (!err)
		h->unreachable[h->unreachable_count++] = unreachable;
	err = tolerate(err);
	if (!err && marked.fwmark)
		err = share_rule(h, &marked);
	if (!err)
		err = share_rule(h, &specific);
	return err ? err : share_rule(h, &ours);
}

static int add_direct_rules(struct sub_host *h)
{
	struct net_prefix nets[NETWORKS_MAX];
	int n = net_prefix_parse_list(nets, NETWORKS_MAX, h->cfg->subscriber_direct_networks);

	for (int i = 0; i < n; i++) {
		struct nl_rule r = {
			.family = nets[i].addr.family,
			.priority = priority(h, 0),
			.table = NL_TABLE_MAIN,
			.to = nets[i],
		};
		int err = share_rule(h, &r);
		if (err)
			return err;
	}
	return n < 0 ? n : 0;
}

/* The rules go before the routes that they need. */
static void stand_down(struct sub_host *h)
{
	while (h->rule_count)
		host_rule_remove(h->journal, &h->rules[--h->rule_count]);
	while (h->unreachable_count)
		host_route_remove(h->journal, &h->unreachable[--h->unreachable_count]);
	h->standing = false;
}

static int stand_up(struct sub_host *h, const struct tunnel_path *path)
{
	int err, err6;

	if (h->standing)
		return 0;
	h->standing = true;
	err = add_rules(h, 4);
	err6 = add_rules(h, 6);
	if (err6 && path->source6.family)
		return err6;
	if (err6)
		log_debug("no rules for IPv6, which this host may not have: %s", strerror(-err6));
	return err ? err : add_direct_rules(h);
}

/* --- sessions ----------------------------------------------------------------------------- */

int sub_host_reach(struct sub_host *h, unsigned slot, const struct net_addr *server)
{
	struct slot *s = &h->slots[slot];

	if (s->has_server)
		host_rule_remove(h->journal, &s->server);
	s->has_server = false;
	if (!server->family)
		return 0;
	s->server = (struct nl_rule){
		.family = server->family,
		.priority = priority(h, 0),
		.table = NL_TABLE_MAIN,
		.to = {.addr = *server, .bits = server->family == 4 ? 32 : 128},
	};
	s->server.to.addr.port = 0;
	int err = host_rule_add(h->journal, &s->server);
	s->has_server = err == 0;
	if (!tolerate(err))
		err = follow_killswitch(h);
	return err ? fault("the way to the gateway", err) : 0;
}

static struct nl_route tunnel_route(const struct slot *s, uint8_t family, uint32_t table,
				    uint32_t metric)
{
	return (struct nl_route){
		.family = family,
		.dev = s->dev,
		.via = family == 4 ? s->path.via4 : s->path.via6,
		.onlink = (family == 4 ? s->path.via4 : s->path.via6).family != 0,
		.source = family == 4 ? s->path.source4 : s->path.source6,
		.table = table,
		.metric = metric,
	};
}

static int add_own(struct sub_host *h, unsigned slot, uint8_t family)
{
	struct slot *s = &h->slots[slot];
	uint32_t table = (uint32_t)h->cfg->subscriber_route_table + 1 + slot;
	struct nl_route route = tunnel_route(s, family, table, TUNNEL_METRIC);
	struct nl_rule rule = {
		.family = family,
		.priority = priority(h, 2),
		.table = table,
		.from = {.addr = route.source, .bits = family == 4 ? 32 : 128},
	};
	int err = host_route_add(h->journal, &route);

	if (!err)
		err = host_rule_add(h->journal, &rule);
	if (err)
		return err;
	s->own[s->own_count] = route;
	s->rules[s->own_count++] = rule;
	return 0;
}

int sub_host_stand_by(struct sub_host *h, unsigned slot, const char *interface,
		      const struct tunnel_path *path)
{
	struct slot *s = &h->slots[slot];
	int dev = nl_link_index(hostjournal_nl(h->journal), interface), err = 0;

	if (dev < 0)
		return fault("routes through the tunnel", dev);
	s->dev = (uint32_t)dev;
	s->path = *path;
	cstr_copy(s->interface, sizeof s->interface, interface);
	if (path->source4.family)
		err = add_own(h, slot, 4);
	if (!err && path->source6.family)
		err = add_own(h, slot, 6);
	if (!err)
		err = follow_killswitch(h);
	return err ? fault("rules of the tunnel", err) : 0;
}

static void drop_defaults(struct sub_host *h, struct slot *s)
{
	while (s->default_count)
		host_route_remove(h->journal, &s->defaults[--s->default_count]);
}

static int add_default(struct sub_host *h, unsigned slot, uint8_t family)
{
	struct slot *s = &h->slots[slot];
	struct nl_route r = tunnel_route(s, family, (uint32_t)h->cfg->subscriber_route_table,
					 TUNNEL_METRIC + slot);
	int err = host_route_add(h->journal, &r);

	if (!err)
		s->defaults[s->default_count++] = r;
	return err;
}

int sub_host_online(struct sub_host *h, unsigned slot)
{
	struct slot *s = &h->slots[slot];
	int err = stand_up(h, &s->path);

	drop_defaults(h, s);
	if (!err && s->path.source4.family)
		err = add_default(h, slot, 4);
	if (!err && s->path.source6.family)
		err = add_default(h, slot, 6);
	if (err)
		return fault("routes or rules", err);
	for (unsigned i = 0; i < SUB_SLOTS; i++)
		if (i != slot)
			drop_defaults(h, &h->slots[i]);
	return 0;
}

void sub_host_leave(struct sub_host *h, unsigned slot)
{
	struct slot *s = &h->slots[slot];
	static const struct net_addr none = {0};

	drop_defaults(h, s);
	while (s->own_count) {
		host_rule_remove(h->journal, &s->rules[--s->own_count]);
		host_route_remove(h->journal, &s->own[s->own_count]);
	}
	s->interface[0] = '\0';
	(void)sub_host_reach(h, slot, &none);
	(void)follow_killswitch(h);
}

void sub_host_offline(struct sub_host *h, bool hold)
{
	for (unsigned i = 0; i < SUB_SLOTS; i++)
		drop_defaults(h, &h->slots[i]);
	/* A kill switch means: offline is better than elsewhere. */
	if (!hold && h->standing)
		stand_down(h);
}
