/*
 * The gateways that this one knows, told in nodeInfo so that a subscriber's scan need not reach
 * everybody.  They come from the configuration, from whoever asks for our nodeInfo, and from what
 * other gateways tell; each is asked itself before it is told on, one at a time, and again and
 * again after that.  So lists spread from gateway to gateway, and what nobody answers for does not.
 */
#ifndef GATEWAYD_PEERS_H
#define GATEWAYD_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/limits.h"

#define GW_PEERS_MAX 64
#define GW_PEERS_TOLD_MAX 32 /* in one nodeInfo, ours or another's */
#define GW_PEER_ID_MAX 64
#define GW_PEER_NETWORKS_MAX 64

struct config;
struct event_base;
struct gw_peers;

struct gw_peer {
	struct net_addr addr; /* with port */
	char name[NAME_MAX_BYTES + 1], id[GW_PEER_ID_MAX + 1];
	bool configured;
	uint64_t proven_s; /* wall clock of its last answer; 0: none yet */
	/* Its own. */
	uint64_t asked_us;
	unsigned failures;
};

/* `cfg` is stable, `id` is ours and outlives it.  0 or -ENOMEM. */
int gw_peers_new(struct gw_peers **out, struct event_base *base, const struct config *cfg,
		 const char *id);
void gw_peers_free(struct gw_peers *p); /* NULL is fine */
/* The configuration has changed. */
void gw_peers_reload(struct gw_peers *p);
/* A stranger's word: it will be asked, if it is in gateway.PeerNetworks and there is room. */
void gw_peers_learn(struct gw_peers *p, const struct net_addr *addr);
/* Grows whenever those that gw_peers_next finds may have changed; 0 for NULL. */
uint64_t gw_peers_changes(const struct gw_peers *p);
/* Those that may be told on: proven, or configured.  Walks: *it = 0 first; NULL ends. */
const struct gw_peer *gw_peers_next(const struct gw_peers *p, size_t *it);
#endif
