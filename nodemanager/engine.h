/*
 * What the nodemanager decides, without I/O: it is driven by nm_node_*, nm_tracker_*, nm_tick and
 * the operations below, and acts through struct nm_ops.  Time is an argument everywhere.
 *
 * The parts (all behind this header): registry.c nodes and sessions, admission.c, invite.c and
 * revoke.c who may join, role.c what a node may do, limit.c how much it may ask for, request.c what
 * nodes still owe us an answer for, transport.c and link.c transports and the links that are wanted
 * to stay, suspect.c detours around what has fallen silent, ports.c UDP ports per host,
 * candidates.c addresses for OpenUDP, path.c rules along a path, route.c paths by hand, broker.c
 * connections, standby.c their other ways, review.c and cost.c when they move to better paths,
 * policy.c what operators say about links and nodes, degree.c links that keep the mesh together,
 * apps.c apps and the apptracker, view.c what RPC shows, graph.c shortest paths and tend.c what
 * keeps them short to find, disjoint.c several that share nothing; and for what outlives a channel
 * or a manager: event.c what watchers are told, report.c what a node holds against what we know,
 * claim.c what two nodes must agree on, trace.c paths found again.
 *
 * What is alive is known by the nodes that keep it alive, so a manager that was killed learns it
 * from them; the store has only what people and the manager have decided (names, wanted links and
 * routes, which numbers are used up).  That needs no write for each connection, cannot be older
 * than the truth, and is the very same comparison that mends a control channel that was lost with
 * messages in it.
 *
 * An ops function must not call back into the engine; a shell that learns of a closed channel while
 * it sends reports it later with nm_node_down.
 */
#ifndef NODEMANAGER_ENGINE_H
#define NODEMANAGER_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/id.h"
#include "nodemanager/admission.h"
#include "wire/msg.h"

struct nm;

/* What the store keeps of a node; text is NUL-terminated. */
struct nm_node_record {
	struct mesh_id id;
	char name[NAME_MAX_BYTES + 1];
	bool no_transit; /* begins and ends paths only */
	uint8_t role;	 /* enum node_role */
	bool admitted;	 /* an invite or an operator has let it in */
};

/* What there is to say of a wanted link; all zero is the usual. */
enum nm_upkeep { NM_UPKEEP_NONE, NM_UPKEEP_NEAR, NM_UPKEEP_FAR };
struct nm_link_options {
	uint32_t cost;	       /* set by an operator; 0: as measured */
	enum nm_upkeep upkeep; /* made by us to keep the mesh together, and ours to remove */
};
#define NM_LINK_COST_MAX 1000000

/* A route that was built by hand.  `out`: first hop of its two ends, the first node first. */
struct nm_route_record {
	uint64_t number;
	struct mesh_id node[2];
	uint32_t out_transport[2], out_route[2];
};

/* Numbers that must not be given out twice, not by the next manager either. */
enum nm_counter { NM_COUNTER_TRANSPORT, NM_COUNTER_LABEL, NM_COUNTER_CONNECTION, NM_COUNTERS };

enum nm_event_kind {
	NM_EVENT_NODE_UP,
	NM_EVENT_NODE_DOWN,
	NM_EVENT_TRANSPORT_UP,
	NM_EVENT_TRANSPORT_DOWN,
	NM_EVENT_TRANSPORT_SUSPECT, /* `text`: "suspect", or "heard" again */
	NM_EVENT_CONNECTION_UP,
	NM_EVENT_CONNECTION_DOWN,
	NM_EVENT_CONNECTION_MOVED, /* to another path */
	NM_EVENT_APP_REGISTERED,
	NM_EVENT_APP_GONE,
	NM_EVENT_ADMISSION_REFUSED,
	NM_EVENTS
};
/* "node.up" and so on. */
const char *nm_event_name(enum nm_event_kind kind);

/* What does not apply is NULL or 0; everything is borrowed for the time of the call. */
struct nm_event {
	enum nm_event_kind kind;
	const struct mesh_id *a, *b; /* the node; both ends */
	const char *a_name, *b_name; /* may be "" */
	const struct net_addr *addr; /* where the node comes from */
	uint32_t transport;
	uint64_t connection;
	const char *app, *type; /* of an app; app: also what a connection is to */
	const char *text;	/* why */
};

/*
 * Effects.  `channel` is the number that the shell gave to nm_node_up.  The store functions may be
 * NULL.  A send that fails (< 0) means that the channel is as good as gone: the engine goes on as
 * if the message were lost, and the shell follows with nm_node_down.
 */
struct nm_ops {
	int (*node_send)(void *ctx, uint64_t channel, const struct msg *m);
	/* The engine has forgotten the channel already; a later nm_node_down for it is harmless.
	 * What was sent before must still be delivered if it can be. */
	void (*node_close)(void *ctx, uint64_t channel, const char *reason);
	int (*tracker_send)(void *ctx, const struct msg *m);
	void (*random)(void *ctx, void *out, size_t len);
	void (*node_save)(void *ctx, const struct nm_node_record *node);
	void (*node_remove)(void *ctx, const struct mesh_id *id);
	void (*link_save)(void *ctx, const struct mesh_id *a, const struct mesh_id *b);
	void (*link_remove)(void *ctx, const struct mesh_id *a, const struct mesh_id *b);
	/* The number of the transport that the link gets now. */
	void (*link_transport)(void *ctx, const struct mesh_id *a, const struct mesh_id *b,
			       uint32_t transport);
	void (*link_options)(void *ctx, const struct mesh_id *a, const struct mesh_id *b,
			     const struct nm_link_options *options);
	void (*route_save)(void *ctx, const struct nm_route_record *route);
	void (*route_remove)(void *ctx, uint64_t number);
	/* Everything up to `value` (modulo 2^32) may have been given out.  Rare. */
	void (*counter_save)(void *ctx, enum nm_counter which, uint32_t value);
	/* Something that people may want to watch has happened.  May be NULL. */
	void (*event)(void *ctx, const struct nm_event *event);
	/* Wall clock, seconds since 1970: for what expires on a day, and what people read. */
	uint64_t (*wall_s)(void *ctx);
	/* What admission decides is durable before it is true.  0 or -errno: then it is not. */
	int (*node_admit)(void *ctx, const struct nm_node_record *node,
			  const struct nm_invite_record *used /* may be NULL */);
	int (*invite_save)(void *ctx, const struct nm_invite_record *invite);
	int (*invite_remove)(void *ctx, uint64_t number);
	int (*revoked_save)(void *ctx, const struct nm_revoked_record *revoked);
	int (*revoked_remove)(void *ctx, const struct mesh_id *id);
	int (*allowed_save)(void *ctx, const struct mesh_id *id);
	int (*allowed_remove)(void *ctx, const struct mesh_id *id);
};

enum nm_admission_mode { NM_ADMISSION_OPEN, NM_ADMISSION_TOKEN, NM_ADMISSION_ALLOWLIST };

struct nm_config {
	uint16_t start_port; /* first UDP port for transports on every host; 0: nodes choose */
	/* Common to the whole mesh, sent in RegisterNodeAck. */
	uint32_t max_buffer, time_unit_us, send_interval_us, connection_timeout_us;
	uint16_t max_packet_size, retransmit_limit;
	/* Limits. */
	size_t nodes_max, transports_per_node_max, connections_per_node_max, apps_per_node_max;
	size_t standby_paths; /* of each connection: 0 to STANDBY_ROUTES_MAX */
	size_t degree;	      /* links that each node is given; 0: only those that are asked for */
	size_t connections_per_pair_max; /* that one node has asked another for */
	size_t connecting_per_node_max;	 /* connections of a node that are being made */
	/* Of one node, a second and at once: messages; links and connections it asks for; apps that
	 * it registers or withdraws. */
	uint32_t message_rate, message_burst, connect_rate, connect_burst, app_rate, app_burst;
	size_t queries_per_node_max; /* questions to the apptracker that wait for an answer */
	/* Times. */
	uint64_t request_timeout_us;   /* a node's answer to one request */
	uint64_t transport_timeout_us; /* from OpenUDP to connected at both ends */
	uint64_t grace_us;	       /* a lost control channel may come back without any harm */
	uint64_t hello_timeout_us;     /* from channel to RegisterNode, from there to its report */
	uint64_t recover_us;	       /* a new manager waits so long for nodes to come back */
	uint64_t link_retry_min_us, link_retry_max_us;
	/* Admission.  Borrowed lists, separated by commas: tokens, and ids in hex. */
	enum nm_admission_mode admission;
	const char *tokens, *allowed;
	uint8_t default_role; /* enum node_role, but not ROLE_DEFAULT */
};
void nm_config_default(struct nm_config *c);

/* --- life and events ------------------------------------------------------------------------ */

/* `ops` and `ctx` stay the caller's and must outlive the engine.  NULL: out of memory. */
struct nm *nm_new(const struct nm_config *config, const struct nm_ops *ops, void *ctx);
void nm_free(struct nm *nm);
/* Admission and limits may change while running (SIGHUP). */
void nm_set_config(struct nm *nm, const struct nm_config *config);

/* What the store had; before any event.  0, -EINVAL (unknown node, name taken), -ENOSPC, -ENOMEM.
 */
int nm_load_node(struct nm *nm, const struct nm_node_record *record);
/* `transport`: the number that the link had last, or 0. */
int nm_load_link(struct nm *nm, const struct mesh_id *a, const struct mesh_id *b,
		 uint32_t transport);
/* After nm_load_link; 0 or -EINVAL. */
int nm_load_link_options(struct nm *nm, const struct mesh_id *a, const struct mesh_id *b,
			 const struct nm_link_options *options);
int nm_load_route(struct nm *nm, const struct nm_route_record *record);
void nm_load_counter(struct nm *nm, enum nm_counter which, uint32_t value);
/* All is loaded, and the nodes that were loaded may still hold what an earlier manager gave them:
 * for recover_us they are asked, and what two ends agree on is taken over. */
void nm_recover(struct nm *nm, uint64_t now);

/* A channel whose peer has proved to be `id`.  `channel` is unique for ever.  0, or -errno:
 * refused, close it; after -EACCES (a revoked key) when what was sent on it has been written. */
int nm_node_up(struct nm *nm, const struct mesh_id *id, const struct net_addr *remote,
	       uint64_t channel, uint64_t now);
void nm_node_msg(struct nm *nm, uint64_t channel, const struct msg *m, uint64_t now);
void nm_node_down(struct nm *nm, uint64_t channel, uint64_t now);

void nm_tracker_up(struct nm *nm, uint64_t now);
void nm_tracker_msg(struct nm *nm, const struct msg *m, uint64_t now);
void nm_tracker_down(struct nm *nm, uint64_t now);

/* TIMER_NEVER when nothing is due. */
uint64_t nm_next_timeout(const struct nm *nm);
void nm_tick(struct nm *nm, uint64_t now);

/* --- operations (RPC) ----------------------------------------------------------------------- */

/* Called exactly once, perhaps before the operation returns.  code: enum msg_code; `text` says in
 * words what went wrong; `value` is the transport, or the route.  nm_free calls what is pending
 * with CODE_UNAVAILABLE. */
typedef void nm_done(void *arg, uint16_t code, const char *text, uint64_t value);

/* Wants a link between two nodes, for ever; done when it is up (value: transport).  Asked for again
 * it gives the same transport.  After a failure the link is still wanted and tried again later. */
void nm_connect_nodes(struct nm *nm, const struct mesh_id *a, const struct mesh_id *b,
		      nm_done *done, void *arg, uint64_t now);
/* The link is not wanted any more and its transport ends.  0 or -ENOENT. */
int nm_disconnect_nodes(struct nm *nm, const struct mesh_id *a, const struct mesh_id *b,
			uint64_t now);
/* The link costs this much from now on, whatever is measured: 1 to NM_LINK_COST_MAX, or 0 for what
 * is measured.  Durable.  0, -ENOENT (no such link), -EINVAL. */
int nm_set_link_cost(struct nm *nm, const struct mesh_id *a, const struct mesh_id *b, uint32_t cost,
		     uint64_t now);
/* Without transit a node may begin or end paths but is never in the middle; those that lead through
 * it move, or end after a while where there is no other way (routes built by hand stay).  Durable.
 * 0 or -ENOENT. */
int nm_set_transit(struct nm *nm, const struct mesh_id *id, bool transit, uint64_t now);
/* Installs rules both ways along exactly these nodes, which must be linked in a chain; done with
 * value: the route's number (low 32 bits: the label of its ends). */
void nm_build_route(struct nm *nm, const struct mesh_id *nodes, size_t count, nm_done *done,
		    void *arg, uint64_t now);
/* A node that will register soon takes its number and name now, and is let in.  As nm_load_node,
 * and saved. */
int nm_expect_node(struct nm *nm, const struct nm_node_record *record);
/* Tells the node to end and forgets its links: it is not expected back.  0 or -ENOENT. */
int nm_shutdown_node(struct nm *nm, const struct mesh_id *id, uint64_t now);
/* Forgets a node that is away, so that its name is free.  0, -ENOENT, -EBUSY: it is connected. */
int nm_forget_node(struct nm *nm, const struct mesh_id *id, uint64_t now);

/* `response` is NULL unless code is CODE_OK, and valid during the call only. */
typedef void nm_apps_done(void *arg, uint16_t code, const char *text,
			  const struct msg_app_list_response *response);
void nm_list_apps(struct nm *nm, uint8_t kind, const char *value, uint32_t after,
		  nm_apps_done *done, void *arg, uint64_t now);

/* --- views (RPC) ---------------------------------------------------------------------------- */

/* So many of a list from there on. */
struct nm_window {
	size_t offset, limit;
};
#define NM_ALL ((struct nm_window){0, SIZE_MAX})

struct nm_node_info {
	uint32_t number; /* stable while the manager runs */
	struct mesh_id id;
	const char *name;
	struct net_addr addr; /* where the control channel comes from; family 0: never seen */
	bool connected, transit, revoked, admitted;
	uint8_t role; /* what it may do: never ROLE_DEFAULT */
	bool role_given;
	size_t transports, apps, connections;
	uint64_t over_limit, strays; /* messages over a limit; messages that fitted nothing */
};
enum nm_transport_status { NM_TRANSPORT_CREATING, NM_TRANSPORT_OPENING, NM_TRANSPORT_CONNECTED };
const char *nm_transport_status_name(enum nm_transport_status status);
struct nm_transport_info {
	uint32_t id;
	enum nm_transport_status status;
	bool suspect; /* an end hears nothing under traffic */
	struct mesh_id a, b;
	const char *a_name, *b_name;
	uint16_t a_port, b_port;
	uint32_t rtt_us, loss_ppm, queue_bytes;
	bool upkeep;		 /* made to keep the mesh together */
	uint32_t cost, set_cost; /* in use; by an operator, or 0 */
	uint64_t capacity_bps;	 /* what it can carry; 0: not known */
	uint64_t rate_bps, tx_bytes, rx_bytes, retransmits;
};
struct nm_rule_info {
	uint32_t in_transport, in_route, out_transport, out_route;
	uint64_t connection; /* or the number of a built route */
	bool standby;	     /* carries nothing unless the connection's path fails */
};
struct nm_status {
	size_t nodes, nodes_connected, links, transports, transports_connected, connections, routes,
		apps, requests;
	size_t invites, revoked, allowed;
	enum nm_admission_mode admission;
	bool tracker, recovering;
	uint64_t events[NM_EVENTS]; /* how many of each kind there were */
	uint64_t refused, dropped;  /* registrations; messages over a limit or out of order */
	uint64_t refused_revoked, over_limit; /* of these, revoked keys; over a limit */
};
/* Text is the number in the list, the id, its first 8 digits, or the name.  0, -ENOENT, -EEXIST:
 * more than one node has these 8 digits. */
int nm_node_find(const struct nm *nm, const char *text, struct mesh_id *id);
int nm_node_get(const struct nm *nm, const struct mesh_id *id, struct nm_node_info *info);
/* Each walk calls `each` in order of number and must not change the engine meanwhile. */
/* `each` gets those in the window; how many there are in all. */
size_t nm_nodes_each(const struct nm *nm, struct nm_window window,
		     void (*each)(void *arg, const struct nm_node_info *), void *arg);
/* `id` NULL: all transports; otherwise those of one node. */
size_t nm_transports_each(const struct nm *nm, const struct mesh_id *id, struct nm_window window,
			  void (*each)(void *arg, const struct nm_transport_info *), void *arg);
size_t nm_rules_each(const struct nm *nm, const struct mesh_id *id, struct nm_window window,
		     void (*each)(void *arg, const struct nm_rule_info *), void *arg);
void nm_status_get(const struct nm *nm, struct nm_status *status);
/* The path that a connection would take now: fills up to `max` ids, ends included, and says how
 * many there are.  -ENOENT, -ENETUNREACH, -ENOSPC, -ENOMEM. */
long nm_find_route(struct nm *nm, const struct mesh_id *a, const struct mesh_id *b,
		   struct mesh_id *nodes, size_t max, uint64_t *cost);
#define NM_ROUTES_ASKED_MAX 8
#define NM_ROUTES_WORK_MAX 30000 /* nodes looked at for one such question */
/* Up to `count` paths (1 to NM_ROUTES_ASKED_MAX) that share no node but the ends, with the least
 * cost in all, cheapest first; where there are more that share no link only, those (*by_links).
 * Not *complete: it took too long, and there may be more.  `each` gets the ids, ends included.  How
 * many, -ENOENT, -EINVAL (a == b), -ENETUNREACH, -ENOMEM.
 */
long nm_find_routes(struct nm *nm, const struct mesh_id *a, const struct mesh_id *b, size_t count,
		    void (*each)(void *arg, const struct mesh_id *nodes, size_t node_count,
				 uint64_t cost),
		    void *arg, bool *by_links, bool *complete);
#endif
