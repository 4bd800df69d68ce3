/*
 * The graph that walks have found: hosts, links, how and when, and the scans themselves, so that
 * one that was interrupted goes on.  Writes are gathered (io/store.h).
 *
 * Each change that is worth telling gets a stamp: microseconds since 1970, each larger than the one
 * before.
 */
#ifndef SUBSCRIBERD_STORE_GRAPH_H
#define SUBSCRIBERD_STORE_GRAPH_H

#include "io/config.h"
#include "subscriberd/walk.h"

#define GRAPH_KEY_MAX (NET_HOST_NAME_MAX + 8)
#define GRAPH_NETWORKS_MAX 160 /* "babel,bird,..." */

struct graph_store;

struct graph_host {
	struct walk_host h; /* `networks` and `from` are not set: see below */
	struct walk_gateway gateway;
	char networks[GRAPH_NETWORKS_MAX];
	struct net_host from; /* own when it is our own host, or none */
	uint64_t stamp;
};

struct graph_link {
	struct net_host a, b;
	char network[NET_HOW_MAX + 1];
	struct walk_link l; /* without ends and network */
	uint64_t stamp;
};

struct graph_scan {
	uint32_t number;		/* 0: none yet */
	uint64_t started_s, finished_s; /* finished 0: it was interrupted */
	char networks[GRAPH_NETWORKS_MAX];
};

/* "own", an address, or "name:NAME".  Returns out. */
const char *graph_key(const struct net_host *h, char out[GRAPH_KEY_MAX]);

/* `pending` is called when something waits to be written: then graph_store_flush soon. */
int graph_store_open(struct graph_store **out, const char *path, const struct config *cfg,
		     void (*pending)(void *arg), void *arg);
void graph_store_close(struct graph_store *g); /* NULL is fine; flushes */
int graph_store_flush(struct graph_store *g);

/* `news` gives it a new stamp. */
int graph_store_host(struct graph_store *g, const struct walk_host *h, const char *networks,
		     bool news);
int graph_store_link(struct graph_store *g, const struct walk_link *l, const char *network,
		     bool news);
int graph_store_forget(struct graph_store *g, const struct walk_host *h);
int graph_store_scan(struct graph_store *g, const struct graph_scan *scan);
int graph_store_last_scan(struct graph_store *g, struct graph_scan *out);

typedef void graph_host_visit(const struct graph_host *host, void *ctx);
typedef void graph_link_visit(const struct graph_link *link, void *ctx);
/* What has a stamp above `since`, in the order of stamps, at most `max`. */
int graph_store_hosts(struct graph_store *g, uint64_t since, size_t max, graph_host_visit *visit,
		      void *ctx);
int graph_store_links(struct graph_store *g, uint64_t since, size_t max, graph_link_visit *visit,
		      void *ctx);
#endif
