#include "subscriberd/host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define TUNNEL_METRIC 100u
#define UNREACHABLE_METRIC 4278198272u /* behind every other route of our table */
#define KILLSWITCH_TABLE "meshnet_sub"
#define NETWORKS_MAX 64

struct sub_host {
	struct hostjournal *journal;
	const struct config *cfg;
	struct nl_route routes[2]; /* through the tunnel, while online */
	size_t route_count;
	bool standing; /* rules and unreachable routes are in place */
	struct nl_rule server_rule;
	bool has_server_rule;
};

static int fault(const char *what, int err)
{
	log_error("cannot set %s: %s", what, strerror(-err));
	return err;
}

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
	/* A kill switch that outlived a crash holds until we know better. */
	if (hostjournal_undo(h->journal, cfg->subscriber_kill_switch ? HOST_NFT : 0) != 0)
		log_warn("some of what an earlier run changed could not be taken back");
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
	if (hostjournal_undo(h->journal, 0) != 0)
		log_error("some changes could not be taken back; --cleanup tries again");
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

/* --- rules -------------------------------------------------------------------------------- */

static int add_rules(struct sub_host *h, uint8_t family)
{
	struct nl_rule specific = {
		.family = family,
		.priority = (uint32_t)h->cfg->subscriber_rule_priority + 1,
		.table = NL_TABLE_MAIN,
		.suppress = true,
		.suppress_prefixlength = 0,
	};
	struct nl_rule ours = {
		.family = family,
		.priority = (uint32_t)h->cfg->subscriber_rule_priority + 2,
		.table = (uint32_t)h->cfg->subscriber_route_table,
	};
	struct nl_route unreachable = {
		.family = family,
		.table = (uint32_t)h->cfg->subscriber_route_table,
		.metric = UNREACHABLE_METRIC,
		.type = NL_ROUTE_UNREACHABLE,
	};
	int err = host_route_add(h->journal, &unreachable);
	if (!err || err == -EEXIST)
		err = host_rule_add(h->journal, &specific);
	if (!err || err == -EEXIST)
		err = host_rule_add(h->journal, &ours);
	return err == -EEXIST ? 0 : err;
}

static int add_direct_rules(struct sub_host *h)
{
	struct net_prefix nets[NETWORKS_MAX];
	int n = net_prefix_parse_list(nets, NETWORKS_MAX, h->cfg->subscriber_direct_networks);

	for (int i = 0; i < n; i++) {
		struct nl_rule r = {
			.family = nets[i].addr.family,
			.priority = (uint32_t)h->cfg->subscriber_rule_priority,
			.table = NL_TABLE_MAIN,
			.to = nets[i],
		};
		int err = host_rule_add(h->journal, &r);
		if (err && err != -EEXIST)
			return err;
	}
	return n < 0 ? n : 0;
}

/* The way to the gateway itself must not lead into its own tunnel. */
static int add_server_rule(struct sub_host *h, const struct net_addr *server)
{
	if (h->has_server_rule) {
		host_rule_remove(h->journal, &h->server_rule);
		h->has_server_rule = false;
	}
	if (!server->family)
		return 0;
	h->server_rule = (struct nl_rule){
		.family = server->family,
		.priority = (uint32_t)h->cfg->subscriber_rule_priority,
		.table = NL_TABLE_MAIN,
		.to = {.addr = *server, .bits = server->family == 4 ? 32 : 128},
	};
	h->server_rule.to.addr.port = 0;
	int err = host_rule_add(h->journal, &h->server_rule);
	h->has_server_rule = err == 0;
	return err == -EEXIST ? 0 : err;
}

/* --- kill switch -------------------------------------------------------------------------- */

struct networks {
	struct net_prefix v[NETWORKS_MAX];
	size_t count;
};

static void add_network(struct networks *n, const struct net_prefix *p)
{
	if (n->count < NETWORKS_MAX)
		n->v[n->count++] = *p;
}

/* Connected networks and whatever the main table knows a way to, but the default. */
static int collect_route(const struct nl_route *r, void *ctx)
{
	bool specific = r->dst.addr.family && r->dst.bits > 0;
	if (specific && r->table == NL_TABLE_MAIN && r->proto != NL_PROTO_MESHNET)
		add_network(ctx, &r->dst);
	return 0;
}

static int set_killswitch(struct sub_host *h, const char *interface)
{
	struct networks nets = {.count = 0};
	struct net_prefix direct[NETWORKS_MAX];
	int n = net_prefix_parse_list(direct, NETWORKS_MAX, h->cfg->subscriber_direct_networks);

	for (int i = 0; i < n; i++)
		add_network(&nets, &direct[i]);
	nl_route_list(hostjournal_nl(h->journal), 0, collect_route, &nets);
	if (h->has_server_rule)
		add_network(&nets, &h->server_rule.to);
	return host_nft_killswitch(h->journal, &(struct nft_killswitch){
						       .table = KILLSWITCH_TABLE,
						       .tunnel = interface,
						       .allowed = nets.v,
						       .allowed_count = nets.count,
					       });
}

/* --- online and offline ------------------------------------------------------------------- */

static void drop_tunnel_routes(struct sub_host *h)
{
	while (h->route_count)
		host_route_remove(h->journal, &h->routes[--h->route_count]);
}

static int add_tunnel_route(struct sub_host *h, uint8_t family, uint32_t dev,
			    const struct net_addr *source, const struct net_addr *via)
{
	struct nl_route r = {
		.family = family,
		.dev = dev,
		.via = *via,
		.onlink = via->family != 0,
		.source = *source,
		.table = (uint32_t)h->cfg->subscriber_route_table,
		.metric = TUNNEL_METRIC,
	};
	int err = host_route_add(h->journal, &r);
	if (!err)
		h->routes[h->route_count++] = r;
	return err;
}

/* Undoing in the order of the journal takes back the rules before the routes that they need. */
static int stand_up(struct sub_host *h, const struct tunnel_path *path)
{
	int err = 0;

	if (path->source4.family)
		err = add_rules(h, 4);
	/* Without IPv6 from the gateway the kill switch, if wanted, closes it. */
	if (!err && path->source6.family)
		err = add_rules(h, 6);
	if (!err)
		err = add_direct_rules(h);
	h->standing = true;
	return err;
}

int sub_host_online(struct sub_host *h, const char *interface, const struct tunnel_path *path,
		    const struct net_addr *server)
{
	int dev = nl_link_index(hostjournal_nl(h->journal), interface), err;

	if (dev < 0)
		return fault("routes through the tunnel", dev);
	drop_tunnel_routes(h);
	err = add_server_rule(h, server);
	if (!err)
		err = stand_up(h, path);
	if (!err && path->source4.family)
		err = add_tunnel_route(h, 4, (uint32_t)dev, &path->source4, &path->via4);
	if (!err && path->source6.family)
		err = add_tunnel_route(h, 6, (uint32_t)dev, &path->source6, &path->via6);
	if (!err && h->cfg->subscriber_kill_switch)
		err = set_killswitch(h, interface);
	if (err)
		return fault("routes, rules or the kill switch", err);
	return 0;
}

void sub_host_offline(struct sub_host *h, bool hold)
{
	drop_tunnel_routes(h);
	if (hold || !h->standing)
		return;
	h->standing = h->has_server_rule = false;
	/* A kill switch means: offline is better than elsewhere.  It goes when we end.  Links and
	 * processes are the methods', which close them themselves. */
	unsigned keep = HOST_LINK | HOST_PROCESS;
	if (h->cfg->subscriber_kill_switch)
		keep |= HOST_NFT;
	if (hostjournal_undo(h->journal, keep) != 0)
		log_warn("some changes could not be taken back yet");
}
