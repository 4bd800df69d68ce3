/*
 * The engine's tables, shared by its parts (engine.h lists them) and by nobody else.
 *
 * Lifetimes.  A node record lives until it is forgotten.  It is `present` from its registration
 * until its channel has been gone for the grace period or a new process takes its place; only a
 * present node has transports, connections, rules, apps and requests, and node_reset ends them all.
 * A transport belongs to the link that wants it.  A path belongs to its connection or built route
 * and hangs in the lists of the transports that it crosses, until one of them breaks it.  A request
 * belongs to what waits for it: freeing the waiter drops the request, and a late answer is a stray.
 * A claim is what one node has reported and the other end has not yet confirmed; it hangs in both
 * nodes and goes with either.  A trace belongs to the connection or route whose path it looks for,
 * and hangs in the node without whose report it cannot go on.
 */
#ifndef NODEMANAGER_STATE_H
#define NODEMANAGER_STATE_H

#include <sys/queue.h>

#include "base/log.h"
#include "base/map.h"
#include "base/timerq.h"
#include "nodemanager/cost.h"
#include "nodemanager/engine.h"
#include "nodemanager/graph.h"

#define PROTOCOL_VERSION_STR_(v) #v
#define PROTOCOL_VERSION_STR(v) PROTOCOL_VERSION_STR_(v)
#define PROTOCOL_VERSION_TEXT PROTOCOL_VERSION_STR(PROTOCOL_VERSION)

#define NM_TEXT_KEY_BYTES 32
#define NM_HOPS_MAX 64 /* transports of one path */
#define NM_TRANSPORTS_MAX 1000000
#define NM_CONNECTIONS_MAX 1000000
#define NM_REQUESTS_MAX 1000000
#define NM_RULES_LOST_MAX 1024 /* in one report, to be told again */
#define NM_QUERIES_MAX 4096    /* open questions to the apptracker */
#define NM_ROUTES_MAX 4096     /* built by hand */
#define NM_RULES_MAX 16000000
#define NM_REPORT_RULES_MAX 131072 /* in the report of one node */
#define NM_HELD_RULES_MAX 4000000  /* reported by any node and not placed yet */
#define NM_CLAIMS_MAX 1000000
#define NM_PORT_TRIES 20
#define NM_PATH_TRIES 3
#define NM_PATIENCE_TIMEOUTS 2 /* connection timeouts: so long a connection waits for a path */
#define NM_CONN_RETRY_US 1000000u
#define NM_CONNS_AT_ONCE 64	   /* that look for a path in one go */
#define NM_COST_SUSPECT (1u << 30) /* more than any path of sound links */
#define NM_COST_ANY UINT64_MAX
#define NM_STANDBY_DELAY_US 500000u /* short connections do without */
#define NM_STANDBY_SPREAD_US 500000u
#define NM_STANDBY_RETRY_US 30000000u
#define NM_STANDBYS_PER_SECOND 200
/* A new link may be the way that some lacked: so many of them are looked at in a second, the rest
 * of the searches is left to new connections; and not again for a while after that. */
#define NM_STANDBY_LOOKS 100
#define NM_STANDBY_CALM_US 3000000u
#define NM_SWITCH_US 1000000u /* an end that complains more often is not heard */
#define NM_REVIEWS_AT_ONCE 4  /* connections that are looked at for a better path, */
#define NM_REVIEW_US 50000u   /* so often */
#define NM_REVIEW_AGAIN_US 5000000u
#define NM_TEND_LINKS 5000 /* with fewer the whole graph is looked at in no time */
#define NM_TEND_STEPS 2000 /* about 2 ms, */
#define NM_TEND_US 10000u  /* so often while there is something to do */
#define NM_TEND_IDLE_US 1000000u
#define NM_BETTER_US                                                                               \
	10000000u /* so long a better path must have been better; doubles with moves               \
		   */
#define NM_BETTER_DOUBLINGS 5
#define NM_CALM_US 600000000u /* without a move, and it halves again */
#define NM_DOUBTS_BURST 16    /* neighbours that a node may call dead at once */
#define NM_DOUBT_S 10	      /* and one more each so many seconds */
#define NM_SHUN_US 30000000u
#define NM_REVOKED_TEXT "this key has been revoked"
#define NM_APP_CANDIDATES 16 /* "any node that has the app" looks at so many */

struct nm_node;
struct nm_transport;
struct nm_link;
struct nm_path;
struct nm_conn;
struct nm_report;
struct nm_claim;
struct nm_trace;

/* --- requests (request.c) ------------------------------------------------------------------- */

struct nm_reply {
	uint16_t code;
	uint64_t value;
	const char *text;
};
typedef void nm_request_done(struct nm *nm, void *owner, uint32_t arg, const struct nm_reply *reply,
			     uint64_t now);
struct nm_request {
	LIST_ENTRY(nm_request) of_node, of_owner;
	struct nm *nm;
	struct nm_node *node;
	struct timer timer;
	uint32_t seq, arg;
	uint16_t type;
	bool lost; /* it could not even be sent */
	nm_request_done *done;
	void *owner;
};
LIST_HEAD(nm_request_list, nm_request);

/* Sends `m` with a new sequence.  `done` is called later, once, never from inside this call: with
 * the answer, CODE_TIMEOUT, or CODE_LOST when the channel is gone.  0, -ENOSPC, -ENOMEM (no
 * `done`). */
int nm_request_send(struct nm *nm, struct nm_node *node, struct msg *m,
		    struct nm_request_list *list, nm_request_done *done, void *owner, uint32_t arg,
		    uint64_t now);
/* No `done` any more for everything in the list. */
void nm_request_drop(struct nm *nm, struct nm_request_list *list);
void nm_request_answer(struct nm *nm, struct nm_node *node, const struct msg *m, uint64_t now);
/* The channel of the node is gone: everything asked of it is lost. */
void nm_request_fail_node(struct nm_node *node, uint64_t now);

/* --- nodes and sessions (registry.c) -------------------------------------------------------- */

struct nm_session {
	uint64_t channel;
	struct nm *nm;
	struct mesh_id id;
	struct net_addr remote;
	struct nm_node *node;	  /* NULL until registered */
	struct nm_report *report; /* not NULL: its pages are still coming in */
	struct timer hello;
};

struct nm_bucket {
	uint64_t at_us;
	uint32_t level;
};

struct nm_app {
	LIST_ENTRY(nm_app) of_node, of_name;
	struct nm_node *node;
	char name[NAME_MAX_BYTES + 1], type[NAME_MAX_BYTES + 1];
	bool barred; /* not listed: the role of its node does not allow it */
	uint16_t info_len;
	uint8_t info[APP_INFO_MAX_BYTES];
};
LIST_HEAD(nm_app_list, nm_app);

struct nm_end {
	LIST_ENTRY(nm_end) of_node;
	struct nm_transport *transport;
	struct nm_node *node;
	struct nm_host *host;	 /* that `reserved` is taken from */
	uint16_t reserved, port; /* taken from the host; what the node has bound */
	unsigned port_tries;
	bool told, created, connected, suspect;
};

struct nm_link_end {
	LIST_ENTRY(nm_link_end) of_node;
	struct nm_link *link;
	struct nm_node *node;
};

struct nm_conn_end {
	LIST_ENTRY(nm_conn_end) of_node;
	struct nm_conn *conn;
	struct nm_node *node;
	bool assigned; /* it has been told, so it must be told of the end */
	bool acked;
};

struct nm_rule {
	LIST_ENTRY(nm_rule) of_node;
	struct nm_node *node;
	struct nm_path *path;
	uint32_t in_transport, in_route, out_transport, out_route;
	bool missing; /* in the report that is being looked at */
};

struct nm_node {
	TAILQ_ENTRY(nm_node) all;
	struct nm *nm;
	struct mesh_id id;
	char name[NAME_MAX_BYTES + 1];
	uint32_t number, vertex;
	struct nm_session *session;   /* NULL: no registered channel now */
	struct nm_session *reporting; /* registered, and its report is not complete */
	size_t online_at;	      /* index in nm->online + 1 */
	bool present, must_reset;
	bool recover; /* from before our start, not heard of since */
	bool doubted; /* a neighbour does not hear it, and neither did we since then */
	bool connect; /* it asked for a link to somebody */
	bool admitted, limited;
	bool transit;	 /* may be in the middle of paths: its role allows it, and */
	bool no_transit; /* no operator has forbidden it */
	bool shunned;	 /* it did not take a rule as a relay, a moment ago */
	uint8_t role;
	uint64_t instance;
	struct net_addr remote, addrs[ADDRS_MAX];
	uint16_t addr_count;
	struct timer grace, shun;
	LIST_HEAD(, nm_end) ends;
	LIST_HEAD(, nm_link_end) links;
	LIST_HEAD(, nm_conn_end) conns;
	LIST_HEAD(, nm_rule) rules;
	struct nm_app_list apps;
	struct nm_request_list requests;
	size_t end_count, conn_count, app_count, connecting;
	LIST_HEAD(, nm_claim) claims, claims_about;
	LIST_HEAD(, nm_trace) traces;
	struct nm_report *loose; /* rules of it that no path has claimed yet */
	uint64_t gone_us;	 /* since when it is not present */
	uint64_t surplus_since;	 /* it has more links than it should; 0: it has not */
	struct nm_bucket messages, connects, app_changes, doubts;
	size_t queries; /* to the apptracker */
	struct log_limit over_limit, strays;
};

struct nm_node *nm_node_by_id(const struct nm *nm, const struct mesh_id *id);
/* Name, or the short id when it has none. */
const char *nm_node_text(const struct nm_node *node, char out[NAME_MAX_BYTES + 1]);
void nm_register(struct nm *nm, struct nm_session *s, const struct msg *m, uint64_t now);
/* The registered channel of the node ended; grace begins. */
void nm_node_lost(struct nm *nm, struct nm_node *node, uint64_t now);
/* Ends everything the node's last process had. */
void nm_node_reset(struct nm *nm, struct nm_node *node, const char *why, uint64_t now);
/* Its process ends, or may not go on: there is no grace to wait for. */
void nm_node_end(struct nm *nm, struct nm_node *node, const char *why, uint64_t now);
struct nm_node_record nm_node_record_of(const struct nm_node *node);
void nm_node_said_shutdown(struct nm *nm, struct nm_node *node, uint64_t now);
/* The channel serves now; nm_node_ready follows when the report (if any) has been looked at. */
void nm_node_online(struct nm *nm, struct nm_session *s, uint64_t now);
void nm_node_ready(struct nm *nm, struct nm_node *node, uint64_t now);
/* Its report breaks the rules: it begins anew. */
void nm_node_reject(struct nm *nm, struct nm_session *s, const char *why, uint64_t now);
/* Sends if the node is connected: 0 or < 0. */
int nm_node_send(struct nm *nm, struct nm_node *node, const struct msg *m);
/* Tells a connected node.  Another one reports what it holds when it is back, and hears it then. */
void nm_tell_transport_shutdown(struct nm *nm, struct nm_node *node, uint32_t transport,
				uint16_t code);
void nm_tell_route_removed(struct nm *nm, struct nm_node *node, uint32_t in_transport,
			   uint32_t in_route);
void nm_tell_connection_shutdown(struct nm *nm, struct nm_node *node, uint64_t connection,
				 uint16_t code, const char *text);
void nm_session_free(struct nm *nm, struct nm_session *s);
void nm_registry_free(struct nm *nm);
/* Counted, and logged at most once a minute for each node. */
void nm_stray(struct nm *nm, struct nm_node *node, const char *what, uint64_t now);
void nm_over_limit(struct nm *nm, struct nm_node *node, const char *what, uint64_t now);

void nm_node_save(struct nm *nm, const struct nm_node *node);
/* Text of a peer as a name: 1..NAME_MAX_BYTES bytes without blanks and control characters. */
bool nm_name_copy(char out[NAME_MAX_BYTES + 1], struct bytes text);
void nm_text_key(uint8_t out[NM_TEXT_KEY_BYTES], const char *text);

/* --- admission.c, invite.c, revoke.c -------------------------------------------------------- */

struct nm_invite;
/* NULL: welcome; otherwise why not.  `node` is NULL for a new key.  *invite: a use of it is due
 * (nm_invite_use), else NULL. */
const char *nm_admission_refusal(struct nm *nm, const struct nm_node *node,
				 const struct mesh_id *id, struct bytes token,
				 struct nm_invite **invite);
void nm_allowed_free(struct nm *nm);
/* NULL with *why: no such invite, or it is spent. */
struct nm_invite *nm_invite_find(struct nm *nm, struct bytes token, const char **why);
/* The node is in, with the invite's role.  0 or -EIO. */
int nm_invite_use(struct nm *nm, struct nm_invite *invite, struct nm_node *node);
void nm_invites_free(struct nm *nm);
uint64_t nm_wall_s(const struct nm *nm);
/* Ends every channel of the key, and all that it had. */
void nm_cut(struct nm *nm, const struct mesh_id *id, const char *why, uint64_t now);
/* True: the key is revoked; it has been told so. */
bool nm_revoked_refuse(struct nm *nm, const struct mesh_id *id, const struct net_addr *remote,
		       uint64_t channel, uint64_t now);
void nm_revoked_free(struct nm *nm);

/* --- role.c --------------------------------------------------------------------------------- */

void nm_roles_init(struct nm *nm);
void nm_roles_changed(struct nm *nm);
uint8_t nm_role_of(const struct nm *nm, const struct nm_node *node);
bool nm_role_may_offer(const struct nm *nm, const struct nm_node *node, const char *type);
/* Brings apps and transit to what the node may do now. */
void nm_role_apply(struct nm *nm, struct nm_node *node, uint64_t now);
void nm_node_transit_update(struct nm *nm, struct nm_node *node, uint64_t now);

/* --- limit.c -------------------------------------------------------------------------------- */

void nm_bucket_fill(struct nm_bucket *b, uint32_t burst, uint64_t now);
/* One less, if there is one; `rate` more come in a second, up to `burst`. */
bool nm_bucket_take(struct nm_bucket *b, uint32_t rate, uint32_t burst, uint64_t now);
/* At registration. */
void nm_limits_begin(struct nm *nm, struct nm_node *node, uint64_t now);
bool nm_may_send(struct nm *nm, struct nm_node *node, uint64_t now);
bool nm_may_connect(struct nm *nm, struct nm_node *node, uint64_t now);
bool nm_may_change_app(struct nm *nm, struct nm_node *node, uint64_t now);
bool nm_may_doubt(struct nm_node *node, uint64_t now);

/* --- ports.c, candidates.c ------------------------------------------------------------------ */

struct nm_host;
/* A free port at the host of this address, or 0.  *host then holds a reference. */
uint16_t nm_port_take(struct nm *nm, const struct net_addr *addr, struct nm_host **host);
void nm_port_release(struct nm *nm, struct nm_host *host, uint16_t port);
/* This very port, which is in use already; NULL when it is not one of ours. */
struct nm_host *nm_port_keep(struct nm *nm, const struct net_addr *addr, uint16_t port);
/* The host said that somebody else has this port: the next search begins behind it. */
void nm_port_foreign_mark(struct nm_host *host, uint16_t port);
void nm_ports_free(struct nm *nm);

/* Fills addresses of `peer` for `node` to try, best first; the number of them. */
uint16_t nm_candidates(const struct nm_node *node, const struct nm_node *peer, uint16_t port,
		       struct addr_item out[ADDRS_MAX]);

/* --- transport.c, link.c -------------------------------------------------------------------- */

struct nm_hop {
	LIST_ENTRY(nm_hop) of_transport;
	struct nm_path *path;
	struct nm_transport *transport; /* NULL once the path is broken */
};

struct nm_transport {
	TAILQ_ENTRY(nm_transport) all;
	struct nm *nm;
	struct nm_link *link;
	uint32_t id, edge;
	enum nm_transport_status status;
	struct nm_end end[2]; /* the first is the initiator */
	uint8_t secret[MESH_SECRET_BYTES];
	struct timer timer;
	struct nm_request_list requests;
	LIST_HEAD(, nm_hop) hops;
	struct cost_meter meter;
	uint64_t rate_bps, tx_bytes, rx_bytes, retransmits;
};

/* Begins to make it; nm_link_up or nm_link_failed follows later.  NULL when it cannot even begin
 * (*why says it). */
struct nm_transport *nm_transport_new(struct nm *nm, struct nm_link *link, const char **why,
				      uint64_t now);
/* Ends it: tells the ends (but `except`, who knows), breaks the paths over it, frees it. */
void nm_transport_end(struct nm *nm, struct nm_transport *t, const struct nm_node *except,
		      uint16_t code, const char *text, uint64_t now);
/* The same without a word to the link. */
void nm_transport_drop(struct nm *nm, struct nm_transport *t, const struct nm_node *except,
		       uint16_t code, uint64_t now);
struct nm_transport *nm_transport_by_id(const struct nm *nm, uint32_t id);
void nm_transport_connected(struct nm *nm, struct nm_node *node,
			    const struct msg_transport_connected *m, uint64_t now);
void nm_transport_shutdown(struct nm *nm, struct nm_node *node,
			   const struct msg_transport_shutdown *m, uint64_t now);
void nm_transport_stats(struct nm *nm, struct nm_node *node, const struct msg_transport_stats *m,
			uint64_t now);
/* Takes over the transport of a link, which has none, as its ends report it; the initiator first.
 * False: out of memory or limits. */
bool nm_transport_adopt(struct nm *nm, struct nm_link *link, struct nm_node *const node[2],
			const struct report_transport *const item[2], uint64_t now);
/* The node reports this end of it. */
void nm_transport_confirm(struct nm *nm, struct nm_transport *t, const struct nm_node *node,
			  const struct report_transport *item, uint64_t now);
struct nm_end *nm_end_of(struct nm_transport *t, const struct nm_node *node);
/* What it depends on may have changed: the edge follows, and paths are looked at again. */
void nm_transport_cost_update(struct nm *nm, struct nm_transport *t);

/* --- suspect.c ------------------------------------------------------------------------------ */

void nm_transport_suspect(struct nm *nm, struct nm_node *node,
			  const struct msg_transport_suspect *m, uint64_t now);
void nm_end_suspect(struct nm *nm, struct nm_end *e, bool suspect, uint64_t now);
/* The far end of it may be dead: paths through that node are the last choice until we hear it. */
void nm_transport_doubt_far(struct nm *nm, struct nm_transport *t, struct nm_node *near,
			    uint64_t now);
void nm_node_heard(struct nm *nm, struct nm_node *node);
/* As a relay it would not take a rule: the last choice for a while, whatever it says. */
void nm_node_shun(struct nm *nm, struct nm_node *node, uint64_t now);
void nm_shun_over(struct timer *timer, uint64_t now);

struct nm_waiter {
	LIST_ENTRY(nm_waiter) all;
	nm_done *done;
	void *arg;
};

struct nm_link {
	TAILQ_ENTRY(nm_link) all;
	struct nm *nm;
	struct nm_link_end end[2];
	struct nm_transport *transport;
	uint32_t last_transport; /* the number that it has or had */
	struct timer retry;
	uint64_t backoff_us;
	struct nm_link_options options;
	uint64_t down_since, retire_us; /* degree.c; 0: is up or need not be; is to stay */
	bool forgotten;
	LIST_HEAD(, nm_waiter) waiters;
};

/* Finds or makes the link.  NULL: out of memory or limits. */
struct nm_link *nm_link_want(struct nm *nm, struct nm_node *a, struct nm_node *b, bool save);
struct nm_link *nm_link_find(const struct nm_node *a, const struct nm_node *b);
void nm_link_try(struct nm *nm, struct nm_link *link, uint64_t now);
void nm_link_up(struct nm *nm, struct nm_link *link, uint64_t now);
/* The transport is gone (freed by its caller). */
void nm_link_failed(struct nm *nm, struct nm_link *link, uint16_t code, const char *text,
		    uint64_t now);
/* A node is there (again): its links are tried without delay. */
void nm_links_of_node_try(struct nm *nm, struct nm_node *node, uint64_t now);
void nm_links_free(struct nm *nm);
void nm_link_forget(struct nm *nm, struct nm_link *link, uint64_t now);
/* `connect = true`: a first link to a random other node. */
void nm_link_random(struct nm *nm, struct nm_node *node, uint64_t now);
void nm_connect_directly(struct nm *nm, struct nm_node *node, const struct msg *m, uint64_t now);

/* --- degree.c: links that keep the mesh together -------------------------------------------- */

void nm_degree_init(struct nm *nm);
/* The degree may have changed. */
void nm_degree_start(struct nm *nm);

/* --- path.c --------------------------------------------------------------------------------- */

struct nm_path_owner {
	void (*installed)(struct nm *nm, struct nm_path *path, uint64_t now);
	/* A rule was refused or lost; the path may be removed from inside. */
	void (*failed)(struct nm *nm, struct nm_path *path, const struct nm_reply *why,
		       uint64_t now);
	/* A transport of it died; the path may be removed from inside. */
	void (*broken)(struct nm *nm, struct nm_path *path, uint64_t now);
	/* A transport of it is suspect: time for a detour, if there is one.  May be NULL. */
	void (*suspect)(struct nm *nm, struct nm_path *path, uint64_t now);
	/* It costs more than it did, or may not go on as it is: time to look at it again.  Must not
	 * change the path from inside.  May be NULL. */
	void (*dearer)(struct nm *nm, struct nm_path *path);
	/* A node in the middle of it may not forward any more; the path may be removed from inside.
	 */
	void (*leave)(struct nm *nm, struct nm_path *path, uint64_t now);
	/* The trace has ended (the owner frees it): here is the path, or NULL, it is not whole any
	 * more. */
	void (*traced)(struct nm *nm, void *owner, struct nm_path *path, uint64_t now);
};

struct nm_path {
	const struct nm_path_owner *ops;
	void *owner;
	uint64_t number; /* of the connection or built route */
	struct nm_request_list requests;
	size_t pending, hop_count, rule_count;
	bool broken;
	struct nm_node *ends[2];
	/* What the ends need: [0] the first node, [1] the last. */
	uint32_t out_transport[2], out_route[2], in_transport[2], in_route[2];
	struct nm_rule *rules; /* 2 * (hop_count + 1) */
	struct nm_hop hops[];
};

/* Sends AddRoute for both ways along nodes[0..hop_count] over the transports between them, at least
 * one.  `installed` or `failed` comes later.  NULL: out of memory or limits; nothing is left
 * behind. */
struct nm_path *nm_path_install(struct nm *nm, uint64_t number, struct nm_node *const *nodes,
				struct nm_transport *const *transports, size_t hop_count,
				const struct nm_path_owner *ops, void *owner, uint64_t now);
/* Shortest path and nm_path_install.  0, -ENETUNREACH (none, or over `cost_max`), -ENOMEM, -ENOSPC.
 */
int nm_path_find(struct nm *nm, uint64_t number, struct nm_node *from, struct nm_node *to,
		 uint64_t cost_max, const struct nm_path_owner *ops, void *owner,
		 struct nm_path **path, uint64_t now);
/* A path that the nodes know already; rules are added with nm_path_rule, at most 2 a node. */
struct nm_path *nm_path_adopt(uint64_t number, struct nm_transport *const *transports,
			      size_t hop_count, const struct nm_path_owner *ops, void *owner);
void nm_path_rule(struct nm *nm, struct nm_path *path, struct nm_node *node, struct nm_rule rule);
/* Takes the rules back and frees it. */
void nm_path_remove(struct nm *nm, struct nm_path *path);
/* Its node does not have it any more: it is told once more. */
void nm_path_rule_again(struct nm *nm, struct nm_rule *rule, uint64_t now);
/* A transport dies: every path over it is broken. */
void nm_path_break(struct nm *nm, struct nm_transport *t, uint64_t now);
/* A transport is suspect: the owners of the paths over it look for a detour. */
void nm_path_avoid(struct nm *nm, struct nm_transport *t, uint64_t now);
/* The node does not forward any more: the owners of the paths through it leave them. */
void nm_paths_leave(struct nm *nm, struct nm_node *node, uint64_t now);
bool nm_path_is_suspect(const struct nm_path *path);
/* A node without transit is in the middle of it. */
bool nm_path_is_banned(const struct nm_path *path);
/* What it costs now (not for a broken one). */
uint64_t nm_path_cost(const struct nm *nm, const struct nm_path *path);
/* What nm_path_find would find: its cost, or NM_COST_ANY when there is none. */
uint64_t nm_path_best(struct nm *nm, uint64_t number, const struct nm_node *from,
		      const struct nm_node *to);
/* The node has forgotten the rule by itself. */
void nm_rule_forget(struct nm *nm, struct nm_rule *rule);
void nm_routes_free(struct nm *nm);
/* The node is forgotten: nothing waits for it. */
void nm_routes_forget(struct nm *nm, const struct nm_node *node);
/* Nobody comes back any more: routes that were not found again end. */
void nm_routes_give_up(struct nm *nm);
uint64_t nm_number_next(struct nm *nm);
uint32_t nm_counter_next(struct nm *nm, enum nm_counter which);

/* --- report.c ------------------------------------------------------------------------------- */

struct nm_loose_rule {
	uint32_t in_transport, in_route, out_transport, out_route;
	bool taken;
};
struct nm_reported_conn {
	uint64_t id;
	uint32_t path, out_transport, out_route;
	struct mesh_id peer;
	uint8_t class;
	bool initiator, started, known;
	char app[NAME_MAX_BYTES + 1], from_app[NAME_MAX_BYTES + 1];
};

/* 0 or -ENOMEM: pages may come. */
int nm_report_begin(struct nm_session *s);
/* A message of a node whose report is not complete; may end the session. */
void nm_report_msg(struct nm *nm, struct nm_session *s, const struct msg *m, uint64_t now);
void nm_report_free(struct nm *nm, struct nm_report *report);
/* A reported rule of the node that no path has yet, by where it comes in, or, when the route begins
 * there, by where it goes out.  NULL: none. */
struct nm_loose_rule *nm_loose_in(const struct nm_node *node, uint32_t transport, uint32_t route);
struct nm_loose_rule *nm_loose_origin(const struct nm_node *node, uint32_t transport,
				      uint32_t route);
/* The node drops what is left. */
void nm_loose_remove(struct nm *nm, struct nm_node *node);

/* --- claim.c -------------------------------------------------------------------------------- */

/* What the node reports and we do not know: taken over when the other end says the same, held while
 * that may still come, and otherwise refused (the node is told to end it). */
void nm_claim_transport(struct nm *nm, struct nm_node *node, const struct report_transport *item,
			uint64_t now);
void nm_claim_conn(struct nm *nm, struct nm_node *node, const struct nm_reported_conn *item,
		   uint64_t now);
/* The node's former claims are void, a new report begins. */
void nm_claims_drop(struct nm *nm, struct nm_node *node);
/* The node has said all that it had to say, or is gone: what others claim about it is refused, and
 * paths are looked for again. */
void nm_claims_settle(struct nm *nm, struct nm_node *node, uint64_t now);
/* It has ended or come up meanwhile.  False: there is no such claim of the node. */
bool nm_claim_transport_end(struct nm *nm, struct nm_node *node, uint32_t id, uint64_t now);
bool nm_claim_transport_up(struct nm_node *node, uint32_t id);
bool nm_claim_transport_suspect(struct nm *nm, struct nm_node *node, uint32_t id, bool suspect,
				uint64_t now);
bool nm_claim_conn_end(struct nm *nm, struct nm_node *node, uint64_t id);
/* Whose report is worth waiting for to know the transport; NULL: nobody's. */
struct nm_node *nm_claim_waits_for(const struct nm_node *node, uint32_t transport);
void nm_recover_init(struct nm *nm);

/* --- trace.c -------------------------------------------------------------------------------- */

/* How a path begins at its two ends, the first node first. */
struct nm_trace_ends {
	struct nm_node *node[2];
	uint32_t out_transport[2], out_route[2];
};
/* Looks for the path; ops->traced is called when that is decided, never from inside.  NULL: out of
 * memory. */
struct nm_trace *nm_trace_new(uint64_t number, const struct nm_trace_ends *ends,
			      const struct nm_path_owner *ops, void *owner);
void nm_trace_free(struct nm_trace *trace); /* NULL is fine */
/* Is the node an end of it, or what it waits for? */
bool nm_trace_needs(const struct nm_trace *trace, const struct nm_node *node);
/* Goes on with it, perhaps to its end. */
void nm_trace_go(struct nm *nm, struct nm_trace *trace, uint64_t now);
/* The same for all that wait for this node. */
void nm_traces_go(struct nm *nm, struct nm_node *node, uint64_t now);

/* --- broker.c ------------------------------------------------------------------------------- */

enum nm_conn_state {
	NM_CONN_ROUTING,   /* rules are being installed */
	NM_CONN_ASSIGNING, /* the ends are being told */
	NM_CONN_ON,
	NM_CONN_WAITING, /* needs a path; there is none, or an end's control channel is away */
	NM_CONN_TRACING, /* taken over; which way it goes is still being found out */
};

struct nm_conn {
	TAILQ_ENTRY(nm_conn) all, wait, urgent;
	struct nm *nm;
	uint64_t id;
	struct nm_conn_end end[2]; /* the first asked; for a local one there is only the first */
	bool local, established;
	enum nm_conn_state state;
	uint8_t class;
	char app[NAME_MAX_BYTES + 1], from_app[NAME_MAX_BYTES + 1];
	uint32_t path_number;
	unsigned tries;
	struct nm_path *path, *next; /* in use; being installed */
	struct nm_trace *trace;	     /* when TRACING */
	struct nm_request_list requests;
	struct timer deadline; /* runs while it has no path */
	uint64_t ask_channel;
	uint32_t ask_seq;
	/* standby.c */
	struct {
		struct nm_path *path;
		bool ready;	       /* the ends know it */
	} standby[STANDBY_ROUTES_MAX]; /* in the order in which they are taken */
	size_t standby_count;
	const struct nm_path *standby_used; /* an end has gone over to it; only compared */
	bool left_path;		    /* an end has gone over, and the other could not be told yet */
	bool standbys_stay;	    /* `next` was one of them: the others are none of it */
	struct timer standby_timer; /* to make one, or to see about those there are */
	bool standby_lacks;	    /* there was no way for one: among nm.lacking */
	TAILQ_ENTRY(nm_conn) lack;
	uint64_t switched_us;
	/* review.c */
	bool is_urgent;
	uint64_t better_since; /* there is a better path; 0: there is none */
	uint64_t moved_at;
	unsigned moves; /* for a better path, not long ago */
};

void nm_connect_with_route(struct nm *nm, struct nm_node *node, const struct msg *m, uint64_t now);
void nm_connection_shutdown(struct nm *nm, struct nm_node *node,
			    const struct msg_connection_shutdown *m, uint64_t now);
/* Its channel is back and nothing was lost: connections that waited for it go on. */
void nm_conns_resume(struct nm *nm, struct nm_node *node, uint64_t now);
/* There may be a path now for those that wait for one: they look at that time. */
void nm_conns_retry(struct nm *nm, uint64_t at);
void nm_conns_init(struct nm *nm);
/* Both ends report it (twice the same for a local one), who asked for it first.  False: limits or
 * out of memory. */
bool nm_conn_adopt(struct nm *nm, struct nm_node *const node[2],
		   const struct nm_reported_conn *const end[2], uint64_t now);
/* The node reports this end of it; false when it does not fit. */
bool nm_conn_confirm(struct nm *nm, struct nm_conn *c, const struct nm_node *node,
		     const struct nm_reported_conn *item, uint64_t now);
/* The node has it no more. */
void nm_conn_lost(struct nm *nm, struct nm_conn *c, const struct nm_node *node);
/* Those that look for their old path try again. */
void nm_conns_trace(struct nm *nm, uint64_t now);
/* No path will be found again. */
void nm_conns_give_up(struct nm *nm, uint64_t now);
/* The node is gone: its connections end. */
void nm_conns_end(struct nm *nm, struct nm_node *node, uint64_t now);
void nm_conns_free(struct nm *nm);
/* It is on a path and nothing is in the way of another one. */
bool nm_conn_can_move(const struct nm_conn *c);
/* Make before break, to the best path if that costs at most this.  False: there is none. */
bool nm_conn_move(struct nm *nm, struct nm_conn *c, uint64_t cost_max, uint64_t now);
/* It may not stay where it is: a standby that is sound is used at once, otherwise the best path; if
 * there is none it waits for one, and perhaps ends. */
void nm_conn_reroute(struct nm *nm, struct nm_conn *c, uint64_t now);

/* --- standby.c: other paths for each connection, ready to be used ---------------------------- */

void nm_standby_init(struct nm_conn *c);
/* The first of its standbys that could carry (the one that an end uses already, if it could) is the
 * caller's now; NULL: there is none. */
struct nm_path *nm_standby_take(struct nm *nm, struct nm_conn *c);
/* It is on another path: standbys of that go on, those of another end; one is made soon. */
void nm_standby_moved(struct nm *nm, struct nm_conn *c, uint64_t now);
/* Takes the rules of all back; nobody is told. */
void nm_standby_drop(struct nm *nm, struct nm_conn *c);
/* The ends may know what we do not: they forget it, and new ones are made. */
void nm_standby_renew(struct nm *nm, struct nm_conn *c, uint64_t now);
/* An end of it reports where it begins: perhaps it has gone over while nobody heard it. */
void nm_standby_reported(struct nm *nm, struct nm_conn *c, unsigned side, uint32_t out_transport,
			 uint32_t out_route, uint64_t now);
void nm_route_switched(struct nm *nm, struct nm_node *node, const struct msg_route_switched *m,
		       uint64_t now);
bool nm_path_is_standby(const struct nm_path *path);
/* The number that each connection should have is another now. */
void nm_standby_number_changed(struct nm *nm);
/* There are more ways than before: those that found none look again soon. */
void nm_standbys_retry(struct nm *nm, uint64_t now);
void nm_standbys_init(struct nm *nm);
void nm_standbys_free(struct nm *nm);
/* The connection ends. */
void nm_standby_free(struct nm *nm, struct nm_conn *c);

/* --- review.c: connections move to better paths --------------------------------------------- */

void nm_review_init(struct nm *nm);
void nm_review_free(struct nm *nm);
/* Something has become better: all connections are looked at, a few at a time. */
void nm_review_all(struct nm *nm);
/* What it runs over has become worse: it is looked at as soon as possible. */
void nm_review_soon(struct nm *nm, struct nm_conn *c);
/* It ends. */
void nm_review_forget(struct nm *nm, struct nm_conn *c);
/* The cost of the transport has changed. */
void nm_review_transport(struct nm *nm, struct nm_transport *t, bool worse);

/* --- tend.c ---------------------------------------------------------------------------------- */

void nm_tend_init(struct nm *nm);
void nm_tend_free(struct nm *nm);
/* There is one link more. */
void nm_tend_grown(struct nm *nm);

/* --- apps.c --------------------------------------------------------------------------------- */

void nm_register_app(struct nm *nm, struct nm_node *node, const struct msg *m, uint64_t now);
void nm_unregister_app(struct nm *nm, struct nm_node *node, const struct msg *m, uint64_t now);
void nm_app_list_request(struct nm *nm, struct nm_node *node, const struct msg *m, uint64_t now);
void nm_apps_gone(struct nm *nm, struct nm_node *node);
/* The node has only those that `has` knows. */
void nm_apps_keep(struct nm *nm, struct nm_node *node,
		  bool (*has)(const void *arg, const char *name), const void *arg);
/* Withdraws and lists again what the node's role forbids and allows now. */
void nm_apps_review(struct nm *nm, struct nm_node *node);
/* The node has it, and may not offer it. */
bool nm_app_is_barred(const struct nm_node *node, const char *name);
/* The nearest connected node that has the app; NULL: none. */
struct nm_node *nm_app_nearest(struct nm *nm, struct nm_node *from, const char *text);
void nm_apps_free(struct nm *nm);

/* --- the engine (engine.c) ------------------------------------------------------------------ */

struct nm {
	struct nm_config config;
	const struct nm_ops *ops;
	void *ctx;
	struct timerq timers;
	struct graph *graph;
	struct graph_path found;
	uint64_t seed;

	struct map sessions; /* channel -> nm_session */
	struct map nodes;    /* id -> nm_node */
	struct map names;    /* text key -> nm_node */
	TAILQ_HEAD(, nm_node) node_list;
	struct nm_node **online;
	size_t online_count, online_capacity;
	uint32_t next_number;

	struct map hosts;      /* address -> nm_host */
	struct map transports; /* id -> nm_transport */
	TAILQ_HEAD(, nm_transport) transport_list;
	TAILQ_HEAD(, nm_link) link_list;
	size_t link_count, transports_up;
	struct {
		uint32_t next, left; /* until more have to be reserved */
	} counters[NM_COUNTERS];
	struct map labels; /* in transport, in route -> nm_rule */

	struct map requests; /* seq -> nm_request */
	uint32_t next_seq;

	struct map conns; /* number -> nm_conn */
	TAILQ_HEAD(, nm_conn) conn_list, waiting;
	struct timer waiting_timer;
	size_t waiting_count, waiting_due;
	TAILQ_HEAD(, nm_conn) urgent;
	struct timer review_timer;
	size_t review_left; /* connections, from the head of conn_list */
	uint64_t review_next_us;
	bool review_again; /* one of them waits until what is better has stayed so */
	TAILQ_HEAD(, nm_route) route_list;
	size_t route_count;

	uint64_t standby_second; /* that standby_count counts in */
	unsigned standby_count;
	TAILQ_HEAD(, nm_conn) lacking; /* a standby; who has waited longest first */
	size_t lacking_count, lacking_due;
	struct timer lacking_timer;
	uint64_t lacking_calm_us; /* not looked at again before */

	struct timer tend_timer, degree_timer;
	size_t degree_at; /* who is looked at next, among `online` */
	TAILQ_HEAD(, nm_invite) invites;
	size_t invite_count;
	uint64_t last_invite;
	struct map revoked; /* id -> nm_revoked_record */
	struct map allowed; /* id -> mesh_id */
	struct timer roles;

	bool recovering;
	struct timer recover; /* its end, and later the end of loose rules */
	struct timer retry;   /* while recovering: paths that are looked for */
	struct map claims;    /* id, kind, both nodes -> nm_claim */
	size_t held_rules;

	bool tracker;
	struct map apps;    /* text key -> nm_app_name */
	struct map queries; /* seq -> nm_query */
	size_t app_count;

	uint64_t refused, dropped, refused_revoked, over_limit;
	uint64_t told[NM_EVENTS]; /* counts events */
	struct log_limit refused_log, revoked_log;
};

/* --- event.c -------------------------------------------------------------------------------- */

/* `text` (why) may be NULL. */
void nm_event_node(struct nm *nm, enum nm_event_kind kind, const struct nm_node *node,
		   const char *text);
void nm_event_transport(struct nm *nm, enum nm_event_kind kind, const struct nm_transport *t,
			const char *text);
void nm_event_conn(struct nm *nm, enum nm_event_kind kind, const struct nm_conn *c,
		   const char *text);
void nm_event_app(struct nm *nm, enum nm_event_kind kind, const struct nm_app *app);
void nm_event_refused(struct nm *nm, const struct nm_session *s, const char *text);

uint32_t nm_seq_next(struct nm *nm);
uint64_t nm_random_u64(struct nm *nm);
struct nm_session *nm_session_by_channel(const struct nm *nm, uint64_t channel);
/* Answers whoever asked on this channel, if it is still there. */
void nm_answer(struct nm *nm, uint64_t channel, const struct msg *m);
#endif
