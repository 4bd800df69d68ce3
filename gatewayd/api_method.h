/*
 * The methods of this gateway: what stands between leases and common/tunnel.  A file of the API
 * because a method's options and answers are JSON.
 */
#ifndef GATEWAYD_API_METHOD_H
#define GATEWAYD_API_METHOD_H

#include <stdbool.h>

#include "gatewayd/engine.h"
#include "tunnel/tunnel.h"

struct gw_methods;

/*
 * Starts the methods of a comma separated list (those that can work here; the others are kept with
 * the reason and named in the log) and offers them to the engine; those of the mesh are not ready
 * before gw_methods_node_state.  Interface and Mtu are of each method's own section in env->cfg.
 * The environment is copied.  -EINVAL when none is left, -ENOMEM.
 */
int gw_methods_start(struct gw_methods **out, const struct tunnel_env *env,
		     struct gw_engine *engine, const char *names);
/* The list is this one now.  Tries those of it that do not run: what was missing may have been
 * installed.  Ends those that run and are not in it, with their leases; the others notice nothing.
 * How many were started or ended: so many interfaces of the host's table have changed. */
size_t gw_methods_list(struct gw_methods *m, const char *names);
/* Ends all tunnels; before the engine is freed.  NULL is fine. */
void gw_methods_stop(struct gw_methods *m);

/* The interfaces of the methods that run, as nft_gateway wants them (the borrowed ones, or the
 * others); how many.  Valid as long as `m`. */
size_t gw_methods_interfaces(const struct gw_methods *m, bool borrowed,
			     const char *out[GW_METHODS_MAX]);

/* Completes the options of a request: `host` called us at `server` (family 0: over the mesh). */
void gw_methods_learn(struct gw_methods *m, const char *method, const struct net_addr *host,
		      const struct net_addr *server, struct json_object *options);

/* For gw_ops: sets l->interface and l->source... ("" for a method without one); see there. */
int gw_methods_open(struct gw_methods *m, struct lease *l, char why[GW_WHY_MAX]);
void gw_methods_close(struct gw_methods *m, const struct lease *l);
/* A new object: what the subscriber must know.  NULL when the tunnel is gone. */
struct json_object *gw_methods_answer(struct gw_methods *m, const struct lease *l);
/* The entries of nodeInfo. */
struct json_object *gw_methods_info(struct gw_methods *m);
/* [{name, reason}]: listed in the configuration, and not offered. */
struct json_object *gw_methods_absent(const struct gw_methods *m);
bool gw_methods_counters(struct gw_methods *m, const struct lease *l, struct tunnel_counters *out);
/* A datagram connection of another app; false: nobody wants it. */
bool gw_methods_accept(struct gw_methods *m, struct meshconn *conn);
/* Tells the engine which methods can take leases: those of the mesh need our node. */
void gw_methods_node_state(struct gw_methods *m, bool up);
#endif
