/* JSON of discovery: what is asked of hosts, what gateways tell, and startScan, pollCallStatus and
 * getGraphSince. */
#ifndef SUBSCRIBERD_API_SCAN_H
#define SUBSCRIBERD_API_SCAN_H

#include "io/jsonrpc.h"
#include "subscriberd/api.h"
#include "subscriberd/discover.h"

#define API_GRAPH_ROWS_MAX 1000 /* hosts, and links, of one answer; `more` is true then */
#define API_SCAN_KNOWN_MAX 8	/* gateways that we tell whom we ask */

#define API_NETWORKS_MAX 159
_Static_assert(API_NETWORKS_MAX == GRAPH_NETWORKS_MAX - 1, "a list's text");

/* For the sinks of network modules. */
struct api_scan_sink {
	struct walk *walk;
	uint64_t serial, now_s;
};
int api_scan_saw_host(const struct net_host *h, void *ctx);
int api_scan_saw_link(const struct net_link *l, void *ctx);

/* Parameters of nodeInfo: gateways that we know, for the gateway to look at. */
struct json_object *api_scan_ask(const struct walk *w);
/* True when it is a gateway's nodeInfo; everything in it comes from a stranger. */
bool api_scan_read_info(struct json_object *answer, struct walk_gateway *gateway,
			struct net_addr told[WALK_TOLD_MAX], size_t *count);
struct json_object *api_scan_gateway_json(const struct walk_host *h);
/* `walk` adds the gateways that are known; may be NULL. */
struct json_object *api_scan_status_json(const struct discover_status *s, const struct walk *walk);

struct api_scan_hooks {
	struct discover *discover;
	/* The list of apps should be read again, too. */
	void (*scan)(void *ctx);
	const struct sub_api_hooks *orders; /* pollCallStatus follows them too */
	void *ctx;
};
/* 0 or -ENOMEM. */
int api_scan_register(struct rpc_server *rpc, struct api_scan_hooks *hooks);
#endif
