/*
 * Looks for gateways: those that apptracker lists, those that the configuration names, and those
 * that a walk through networks finds (walk.h decides, common/scan/ knows the networks).  What is
 * found goes to the engine; the graph is kept in SQLite (store_graph.h).
 */
#ifndef SUBSCRIBERD_DISCOVER_H
#define SUBSCRIBERD_DISCOVER_H

#include "io/daemon.h"
#include "subscriberd/engine.h"
#include "subscriberd/store_graph.h"
#include "subscriberd/walk.h"

#define DISCOVER_CALLS_MAX 8 /* scans whose end is remembered for pollCallStatus */
#define DISCOVER_CALL_ID_MAX 24

struct discover;
struct json_object;
struct meshapp;

struct discover_spec {
	struct daemon *daemon;
	struct sub_engine *engine;
	struct meshapp *app; /* NULL: no mesh */
	/* The engine has heard something: its next timer may have changed. */
	void (*changed)(void *ctx);
	/* For whoever watches: "scan.started", ...; consumes `data`.  May be NULL. */
	void (*event)(void *ctx, const char *name, struct json_object *data);
	void *ctx;
};

/* What of the configuration ranges cannot say.  0 or -EINVAL (reported). */
int discover_check(const struct config *cfg, config_report *report, void *ctx);
/* Copies the spec; what it names outlives this.  Takes up what is kept, and a scan that was
 * interrupted.  0 or -errno (logged). */
int discover_new(struct discover **out, const struct discover_spec *spec);
void discover_free(struct discover *d); /* NULL is fine */
/* Reads the list of apps and the configured addresses again. */
void discover_run(struct discover *d);
/* The configuration has changed. */
void discover_reload(struct discover *d);

struct discover_status {
	char call_id[DISCOVER_CALL_ID_MAX];
	struct walk_progress progress;
	uint32_t absent; /* networks that were wanted and are not here; why: progress.why */
};
/* Starts a scan of these networks (NULL: the configured), or joins the one that runs.  -EINVAL and
 * a sentence for a network that there is not (WALK_WHY_MAX). */
int discover_scan(struct discover *d, const char *networks, char call_id[DISCOVER_CALL_ID_MAX],
		  char *why);
/* NULL: the last one.  -ENOENT. */
int discover_status(const struct discover *d, const char *call_id, struct discover_status *out);
const struct walk *discover_walk(const struct discover *d);
struct graph_store *discover_graph(struct discover *d);
/* Is the gateway on our own host: at an address of ours, at our own node? */
bool discover_is_own(const struct discover *d, const struct sub_gateway *g);
/* "apptracker", "babel,kernel", "told by NAME", "configured", ...: how a gateway was found.
 * Returns out. */
const char *discover_found_by(const struct discover *d, const struct sub_contact *c,
			      char out[GRAPH_NETWORKS_MAX]);
/* "babel,bird,told". Returns out. */
const char *discover_networks_text(uint32_t networks, char out[GRAPH_NETWORKS_MAX]);
#endif
