/*
 * The host's network as the gateway needs it: forwarding, and one nftables table with the leases in
 * it.  Everything goes through the journal, so that it can be taken back exactly.
 */
#ifndef GATEWAYD_HOST_H
#define GATEWAYD_HOST_H

#include <stdbool.h>

#include "gatewayd/engine.h"
#include "gatewayd/shape.h"
#include "io/netlink_watch.h"
#include "io/nft.h"

#define GW_NFT_TABLE "meshnet_gw"
#define GW_HOST_NETS_MAX 64
#define GW_GUARD_S 10 /* is our table still there?  Besides what the kernel tells */

struct config;
struct gw_host;
struct hostjournal;

/* Opens the journal and takes back what a crash has left.  0 or -errno (logged). */
int gw_host_open(struct gw_host **out, const char *journal_path);
/* The tunnels' interfaces, as nft_gateway wants them, before gw_host_setup; the strings stay the
 * caller's.  -E2BIG. */
int gw_host_tunnels(struct gw_host *h, const char *const *patterns, size_t count);
/* The same for interfaces that are the operator's own: only what leaves them by the uplink needs a
 * lease. */
int gw_host_borrowed(struct gw_host *h, const char *const *names, size_t count);
struct hostjournal *gw_host_journal(struct gw_host *h);
/* Forwarding and the table, for the pools of `engine`. */
int gw_host_setup(struct gw_host *h, const struct config *cfg, const struct gw_engine *engine);
/* The next flush lets the lease's packets through, or no more.  A lease without an interface needs
 * nothing.  -ENOMEM. */
int gw_host_lease_add(struct gw_host *h, const struct lease *l);
void gw_host_lease_del(struct gw_host *h, const struct lease *l);
/* All of them, into the engine. */
void gw_host_count(struct gw_host *h, struct gw_engine *engine);
/* l->rate_now_kbps holds from now on. */
void gw_host_rate(struct gw_host *h, const struct lease *l);
/* The configuration's rates hold from now on. */
void gw_host_shape(struct gw_host *h, const struct config *cfg, const struct gw_engine *engine);
const struct gw_shape *gw_host_shaping(const struct gw_host *h);
/* In one transaction; `failed` for each lease that could not be added. */
typedef void gw_host_failed(const char *sid, int rc, void *ctx);
void gw_host_flush(struct gw_host *h, gw_host_failed *failed, void *ctx);
bool gw_host_pending(const struct gw_host *h);
/* Methods and settings are others now: the table gets new rules, or is made anew with the leases of
 * `engine`. */
void gw_host_settings(struct gw_host *h, const struct config *cfg, struct gw_engine *engine);
/* `touched` when somebody else changes our table; before gw_host_setup.  0. */
int gw_host_watch(struct gw_host *h, struct event_base *base, nl_watch_cb *touched, void *arg);
/* Has somebody flushed our table, or certainly `touched` it?  Then it is put back. */
void gw_host_guard(struct gw_host *h, bool touched, const struct config *cfg,
		   struct gw_engine *engine);
/* How often that happened. */
uint64_t gw_host_repairs(const struct gw_host *h);
int gw_host_counters(struct gw_host *h, struct nft_gateway_counters *out);
/* What the table has counted for the lease; false when it is not there. */
bool gw_host_lease_counters(struct gw_host *h, const struct lease *l,
			    struct nft_lease_counters *out);
/* Takes everything back and closes.  NULL is fine.  The number of changes that are left. */
int gw_host_close(struct gw_host *h);
#endif
