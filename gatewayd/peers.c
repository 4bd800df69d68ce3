#include "gatewayd/peers.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "gatewayd/api_peers.h"
#include "io/clock.h"
#include "io/config_value.h"
#include "io/timer.h"

#define GATEWAY_PORT 65533
#define TICK_US 1000000u	  /* one question a second at most */
#define AGAIN_US (300 * 1000000u) /* a known one is asked again after this */
#define FAILURES_MAX 3		  /* then it is forgotten */
#define ASK_TIMEOUT_US 3000000u

struct gw_peers {
	struct event_base *base;
	const struct config *cfg;
	const char *id;
	struct gw_peer peers[GW_PEERS_MAX];
	size_t count;
	uint64_t changes;
	struct event *tick;
	struct rpc_client *call;
	struct net_addr asked; /* whom the call asks */
};

static struct gw_peer *find(struct gw_peers *p, const struct net_addr *addr)
{
	for (size_t i = 0; i < p->count; i++)
		if (net_addr_equal(&p->peers[i].addr, addr))
			return &p->peers[i];
	return NULL;
}

static void forget(struct gw_peers *p, struct gw_peer *peer)
{
	*peer = p->peers[--p->count];
}

/* The one that has been silent for longest makes room, if it never answered. */
static struct gw_peer *add(struct gw_peers *p, const struct net_addr *addr)
{
	struct gw_peer *peer = NULL;

	if (p->count < GW_PEERS_MAX)
		peer = &p->peers[p->count++];
	for (size_t i = 0; !peer && i < p->count; i++)
		if (!p->peers[i].configured && !p->peers[i].proven_s && p->peers[i].asked_us)
			peer = &p->peers[i];
	if (peer)
		*peer = (struct gw_peer){.addr = *addr};
	return peer;
}

void gw_peers_learn(struct gw_peers *p, const struct net_addr *addr)
{
	if (addr->port && !net_addr_is_loopback(addr) && !find(p, addr) &&
	    config_nets_contain(p->cfg->gateway_peer_networks, addr))
		add(p, addr);
}

static void read_configured(struct gw_peers *p)
{
	const char *at = p->cfg->gateway_known_gateways;
	char item[NET_ADDR_TEXT];
	struct net_addr addr;

	p->changes++;
	for (size_t i = 0; i < p->count; i++)
		p->peers[i].configured = false;
	while (config_list_next(&at, item, sizeof item)) {
		struct gw_peer *peer;
		if (net_addr_parse(&addr, item, GATEWAY_PORT) != 0)
			continue;
		peer = find(p, &addr);
		if (!peer)
			peer = add(p, &addr);
		if (peer)
			peer->configured = true;
	}
}

static void on_info(const struct rpc_answer *answer, void *arg)
{
	struct gw_peers *p = arg;
	struct gw_peer *peer = find(p, &p->asked), said = {0};
	struct net_addr told[GW_PEERS_TOLD_MAX];
	size_t count = 0;

	p->call = NULL;
	p->changes++;
	if (!peer)
		return;
	if (answer->outcome != RPC_OUTCOME_RESULT ||
	    !gw_api_peers_read(answer->result, &said, told, &count)) {
		peer->proven_s = ++peer->failures >= FAILURES_MAX ? 0 : peer->proven_s;
		if (peer->failures >= FAILURES_MAX && !peer->configured)
			forget(p, peer);
		return;
	}
	if (strcmp(said.id, p->id) == 0) { /* that is us */
		forget(p, peer);
		return;
	}
	memcpy(peer->name, said.name, sizeof peer->name);
	memcpy(peer->id, said.id, sizeof peer->id);
	peer->proven_s = daemon_wall_s();
	peer->failures = 0;
	for (size_t i = 0; i < count; i++)
		gw_peers_learn(p, &told[i]);
}

/* The one that has waited for longest. */
static struct gw_peer *next_to_ask(struct gw_peers *p, uint64_t now)
{
	struct gw_peer *best = NULL;

	for (size_t i = 0; i < p->count; i++) {
		struct gw_peer *peer = &p->peers[i];
		bool due = !peer->asked_us || now > peer->asked_us + AGAIN_US ||
			   (!peer->proven_s && now > peer->asked_us + AGAIN_US / 30);
		if (due && (!best || peer->asked_us < best->asked_us))
			best = peer;
	}
	return best;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct gw_peers *p = arg;
	uint64_t now = daemon_now_us();
	struct gw_peer *peer = p->call ? NULL : next_to_ask(p, now);
	char ip[NET_ADDR_TEXT];

	(void)fd, (void)what;
	if (!peer)
		return;
	peer->asked_us = now;
	p->asked = peer->addr;
	p->call = rpc_client_call(p->base,
				  &(struct rpc_target){.host = net_addr_ip_text(&peer->addr, ip),
						       .port = peer->addr.port,
						       .timeout_us = ASK_TIMEOUT_US},
				  "nodeInfo", NULL, on_info, p);
}

int gw_peers_new(struct gw_peers **out, struct event_base *base, const struct config *cfg,
		 const char *id)
{
	static const struct timeval every = {TICK_US / 1000000, TICK_US % 1000000};
	struct gw_peers *p = calloc(1, sizeof *p);

	if (!p)
		return -ENOMEM;
	*p = (struct gw_peers){.base = base, .cfg = cfg, .id = id};
	p->tick = event_new(base, -1, EV_PERSIST, on_tick, p);
	if (!p->tick || event_add(p->tick, &every)) {
		gw_peers_free(p);
		return -ENOMEM;
	}
	read_configured(p);
	*out = p;
	return 0;
}

void gw_peers_free(struct gw_peers *p)
{
	if (!p)
		return;
	if (p->call)
		rpc_client_cancel(p->call);
	event_drop(p->tick);
	free(p);
}

void gw_peers_reload(struct gw_peers *p)
{
	read_configured(p);
}

uint64_t gw_peers_changes(const struct gw_peers *p)
{
	return p ? p->changes : 0;
}

const struct gw_peer *gw_peers_next(const struct gw_peers *p, size_t *it)
{
	while (p && *it < p->count) {
		const struct gw_peer *peer = &p->peers[(*it)++];
		if (peer->proven_s || peer->configured)
			return peer;
	}
	return NULL;
}
