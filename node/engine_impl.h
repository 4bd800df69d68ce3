/* What the files of the node's engine share; see engine.h for who does what. */
#ifndef NODE_ENGINE_IMPL_H
#define NODE_ENGINE_IMPL_H

#include <sys/queue.h>

#include "base/log.h"
#include "base/map.h"
#include "base/timerq.h"
#include "core/ackfilter.h"
#include "core/connection.h"
#include "core/flowmeter.h"
#include "core/route_table.h"
#include "core/tunroute.h"
#include "node/engine.h"

#define REQUESTS_PER_APP_MAX 64u
#define REQUESTS_MAX 65536u
#define REQUEST_TIMEOUT_US 20000000u
/* So many ConnectToApp of all apps wait so long for the manager to be there (again). */
#define HELD_MAX 1024u
#define HOLD_US 5000000u
/* Then other nodes are coming back as well: for so long "not there" is no answer, and asked again.
 */
#define PATIENCE_US 5000000u
#define ASK_AGAIN_US 250000u
#define SIGNALS_PER_SECOND_MAX 100u
#define LOCAL_MESSAGES_MAX 65536u
#define LINGER_US 30000000u /* without progress */
#define STATS_SLOTS 8u	    /* reports go together with other timers */
/* So many reports in a row with less than so many bytes each: memory for bursts is given back. */
#define QUIET_REPORTS 5u
#define QUIET_BYTES 16384u
#define STATS_SOON_US 500000u
#define FLUSH_ROUNDS_MAX 64u
#define PKT_POOL_KEEP 16384u
#define CREDIT_STEP_BYTES (APP_CREDIT_BYTES / 4) /* what is given back at once */
#define TUNS_PER_APP_MAX 8u
#define TUN_STATS_US 200000u

struct node_conn;
TAILQ_HEAD(node_conn_list, node_conn);
TAILQ_HEAD(node_tun_list, node_tun);

struct node_tun {
	struct node_engine *engine;
	struct node_app *app;
	uint32_t number;
	void *handle;
	struct tunroute_table table;
	struct flowmeter flows;	  /* of what the kernel sends */
	struct ackfilter acks;	  /* of this batch */
	struct timer stats_timer; /* armed when there is something to tell */
	struct log_limit log_foreign;
	TAILQ_ENTRY(node_tun) of_app;
};

/* Where packets with this label go, as it was when `paths_changed` of the engine had this value. */
struct next_hop {
	uint64_t as_of;
	uint32_t label;
	struct route_rule *rule;
	struct node_link *out;	/* NULL: it ends here, */
	struct node_conn *conn; /* at this connection */
};

struct node_link {
	struct node_engine *engine;
	struct transport *transport;
	void *socket;
	uint32_t id;
	uint16_t port, code; /* code: why it is dead */
	bool initiator, dirty, dead;
	bool told;		     /* the manager knows already that it is dead */
	bool resumed;		     /* goes on from an earlier process or transport */
	bool lost;		     /* its peer fell silent while the manager was away */
	struct keep_transport kept;  /* what it takes to make it again */
	unsigned quiet;		     /* reports in a row without traffic worth the name; */
	uint64_t quiet_bytes;	     /* bytes of the transport at the last of them */
	struct next_hop last;	     /* of what came in: packets come in runs */
	struct node_conn_list conns; /* those whose first hop this is */
	TAILQ_ENTRY(node_link) all, work;
};
TAILQ_HEAD(node_link_list, node_link);

struct local_message {
	TAILQ_ENTRY(local_message) queue;
	size_t len;
	uint8_t data[];
};
TAILQ_HEAD(local_queue, local_message);

/* One end of a connection.  Both ends of a connection within this node are twins of each other and
 * have no `connection`; the initiator's end is the one in the map. */
struct node_conn {
	struct node_engine *engine;
	uint64_t id;
	uint32_t path, handle, out_route;
	struct mesh_id peer;
	char peer_app[NAME_MAX_BYTES + 1];
	uint8_t cls;
	bool initiator, dirty, dead;
	bool up;       /* its app has been told ConnectionOn */
	bool bound;    /* the app knows its number: `handle` is valid, or the other side asked */
	bool stalled;  /* a message waits for the app's credit or socket */
	bool leaving;  /* its app has closed it; what was sent before is still delivered */
	bool started;  /* ConnectionOn of the manager has come */
	bool told;     /* the manager knows already that it is dead */
	bool app_told; /* and the app */
	uint16_t code;
	uint16_t far_code; /* the far end has ended it; messages still wait for our app */
	char text[64];
	struct node_app *app; /* NULL when leaving */
	struct connection *connection;
	struct node_link *link; /* NULL while there is no path */
	struct standby_route {
		uint32_t out_transport, out_route, in_transport, in_route;
	} standby[STANDBY_ROUTES_MAX]; /* the first that lives is the next */
	uint8_t standby_count;
	uint8_t standby_heard; /* the place of the one that the other end uses + 1 */
	bool route_is_bad;     /* the next flush goes over to a standby route */
	struct node_conn *twin;
	struct local_queue local; /* messages from the twin that wait for our app */
	size_t local_count;
	struct {
		uint8_t *data; /* NULL: no message is being put together for the twin */
		size_t have, len;
	} joining;
	size_t part_left;      /* bytes of a message that our app gives us in parts */
	bool in_part;	       /* our app has got a part of a message and not the last */
	int64_t app_credit;    /* bytes that our app takes; below zero by at most one message */
	size_t outstanding;    /* bytes from our app that have not been credited back */
	size_t lingering;      /* bytes that were left when `deadline` was set */
	size_t credit_due;     /* of those, what the next flush gives back */
	struct timer deadline; /* to come up; later, to deliver what is left when leaving */
	/* Its records are packets of this interface; NULL: messages for the app. */
	struct node_tun *tun;
	struct tunroute route;
	struct tunroute_counters told_counters;
	TAILQ_ENTRY(node_conn) of_app, of_link, work;
};

struct node_app {
	struct node_engine *engine;
	void *channel;
	bool registered, takes_parts;
	char name[NAME_MAX_BYTES + 1], type[NAME_MAX_BYTES + 1], info[APP_INFO_MAX_BYTES + 1];
	size_t conn_count, request_count;
	struct node_conn_list conns;
	struct node_tun_list tuns;
	size_t tun_count;
	TAILQ_ENTRY(node_app) all;
};
TAILQ_HEAD(node_app_list, node_app);

enum request_kind { REQUEST_CONNECT, REQUEST_APP_LIST, REQUEST_REGISTER_APP };

/* A question to the manager that an app waits for; dropped when the app leaves. */
struct node_request {
	enum request_kind kind;
	bool was_held;
	uint64_t patience_us; /* until then it is asked again; 0: never */
	uint32_t seq, app_seq, handle;
	struct node_app *app;
	uint64_t deadline_us;
	TAILQ_ENTRY(node_request) order;
	/* REQUEST_CONNECT: what is asked, should it have to wait for the manager */
	struct mesh_id node;
	uint8_t cls;
	char peer_app[NAME_MAX_BYTES + 1];
};
TAILQ_HEAD(node_request_list, node_request);

struct node_engine {
	struct node_engine_config config;
	struct node_engine_ops ops;
	void *ctx;
	struct timerq timers;
	struct timer stats_timer, request_timer, held_timer;
	struct pkt_pool pool;
	uint64_t instance;
	uint64_t kept_version;
	uint32_t starts; /* earlier processes with this instance */
	struct net_addr addrs[ADDRS_MAX];
	size_t addr_count;
	bool manager_up, registered;
	uint32_t next_seq, register_seq;
	/* From RegisterNodeAck: as it came, and within what we take. */
	struct keep_settings settings;
	size_t packet_bytes, egress_bytes;
	uint64_t connection_timeout_us, send_interval_us;
	uint32_t time_unit_us;
	unsigned retransmit_limit;

	struct map links, conns, conns_by_low, requests;
	struct route_table routes;
	uint64_t paths_changed; /* counts what a next_hop depends on: rules, links, connections */
	struct node_link_list all_links, dirty_links, dead_links;
	struct node_conn_list dirty_conns, dead_conns;
	struct node_app_list all_apps;
	struct node_request_list request_order;
	struct node_request_list held; /* not with the manager now, in order of deadline */
	size_t held_count;
	size_t app_count;

	unsigned quiet; /* reports in a row during which all links were quiet */
	uint64_t signal_second;
	unsigned signals;
	struct node_status past; /* counters; bytes of transports that are gone */
	struct log_limit log_refused, log_label, log_protocol, log_memory;
};

/* engine.c */
uint32_t engine_next_seq(struct node_engine *e);
/* Dropped while not registered. */
void engine_manager_send(struct node_engine *e, const struct msg *m);
/* CommonAck to the manager. */
void engine_manager_ack(struct node_engine *e, uint32_t seq, uint16_t code, uint64_t value,
			const char *text);
/* TransportShutdown or ConnectionShutdown.  While the manager is away nothing is said: it will see
 * what is missing in the report. */
void engine_ended(struct node_engine *e, uint16_t type, uint64_t id, uint16_t code);
void engine_take_settings(struct node_engine *e, const struct keep_settings *a);
/* Counts and logs that a limit was reached. */
void engine_refused(struct node_engine *e, const char *what, uint64_t now);

/* engine_transport.c */
void link_count(struct transport_stats *sum, const struct transport_stats *s);
void link_message(struct node_engine *e, const struct msg *m, uint64_t now);
struct node_link *link_find(const struct node_engine *e, uint32_t id);
void link_touch(struct node_link *l);
void link_close_all(struct node_engine *e, uint16_t code, uint64_t now);
void link_reap(struct node_engine *e, uint64_t now);
/* Those that fell silent while the manager was away, and still are: it is told by their absence. */
void link_give_up_lost(struct node_engine *e, uint64_t now);
/* The manager is there: peers that have not been found yet may be there as well. */
void link_seek_all(struct node_engine *e, uint64_t now);
void link_restore(struct node_engine *e, const struct keep_transport *k, uint64_t now);
/* Notes where its peer is now; true when that is news. */
bool link_remember_remote(struct node_link *l);
void link_free_all(struct node_engine *e);
void link_stats_fire(struct timer *t, uint64_t now);

/* engine_route.c */
void route_message(struct node_engine *e, const struct msg *m);
/* The link is silent: those whose packets leave by it are told, so that they may take another way.
 */
void route_link_is_bad(struct node_link *l, uint64_t now);
/* Consumes p. */
void route_deliver(struct node_link *l, struct pkt *p, uint64_t now);
void route_drop_all(struct node_engine *e);
/* A rule, a link or a connection has come or gone. */
void route_changed(struct node_engine *e);

/* engine_connection.c */
void conn_message(struct node_engine *e, const struct msg *m, uint64_t now);
struct node_conn *conn_find(const struct node_engine *e, uint64_t id);
/* The end that belongs to this app, or NULL. */
struct node_conn *conn_of_app(const struct node_engine *e, const struct node_app *a, uint64_t id);
struct node_conn *conn_by_low(const struct node_engine *e, uint32_t low);
/* May this app have one more?  CODE_OK or why not. */
uint16_t conn_allowed(struct node_engine *e, const struct node_app *app, uint64_t now);
/* One end, joined to its app but in no map yet; NULL: out of memory. */
struct node_conn *conn_new(struct node_engine *e, const struct msg_assign_connection *a,
			   struct node_app *app, bool initiator, uint64_t now);
/* For an end that is in no map and that nobody was told of. */
void conn_discard(struct node_conn *c);
/* 0, or -errno. */
int conn_map(struct node_conn *c);
void conn_touch(struct node_conn *c);
/* What its app sent and the far end (its twin's app) does not have yet. */
size_t conn_bytes_left(const struct node_conn *c);
/* Gives a leaving connection time to deliver, again and again while it makes progress.  0/-errno.
 */
int conn_linger(struct node_conn *c, uint64_t now);
/* It ends (both ends when local); freed by the next conn_reap. */
void conn_kill(struct node_conn *c, uint16_t code, const char *text, uint64_t now);
/* The manager's answer to a REQUEST_CONNECT. */
void conn_bind(struct node_engine *e, const struct node_request *r, uint64_t id);
void conn_tell_up(struct node_conn *c);
void conn_flush(struct node_conn *c, uint64_t now);
void conn_close_all(struct node_engine *e, uint16_t code, uint64_t now);
/* The manager is away: what is being set up for our apps will not come to be. */
void conn_close_unbound(struct node_engine *e, uint64_t now);
void conn_reap(struct node_engine *e);
void conn_free_all(struct node_engine *e);
void conn_link_lost(struct node_link *l);
/* Its packets leave by this link with this label from now on. */
void conn_set_route(struct node_conn *c, struct node_link *l, uint32_t out_route, uint64_t now);

/* engine_standby.c: other routes, taken without asking */
void standby_message(struct node_engine *e, const struct msg *m);
void standby_forget(struct node_conn *c);
/* The link is silent or lost: connections that begin there look at their standby routes. */
void standby_link_is_bad(struct node_link *l);
/* ROUTE_ERROR for a label that one of our connections puts on. */
void standby_route_error(struct node_link *l, uint32_t label);
/* A packet of the connection came in there. */
void standby_heard(struct node_conn *c, const struct node_link *l, uint32_t label);
/* Goes over, if it must and can. */
void standby_flush(struct node_conn *c, uint64_t now);

/* engine_stream.c: between a connection and its app */
/* One message for the app, or a part of one of which `left` bytes follow; false: not now (`stalled`
 * is set). */
bool conn_to_app(struct node_conn *c, struct bytes data, size_t left, uint64_t now);
void conn_from_app(struct node_conn *c, struct bytes data, uint64_t now);
void conn_part_from_app(struct node_conn *c, struct bytes data, size_t left, uint64_t now);
/* These bytes of our app have left: the next flush gives them back. */
void conn_credit_back(struct node_conn *c, size_t bytes);
/* A record for the far end, `sparse`: of a flow that sends little.  False: there was no room, it is
 * lost. */
bool conn_send_datagram(struct node_conn *c, struct bytes data, bool sparse, uint64_t now);
void conn_flush_credit(struct node_conn *c);
void conn_app_credit(struct node_conn *c, uint32_t bytes, uint64_t now);
/* The app's socket has drained. */
void conn_app_ready(struct node_conn *c, uint64_t now);
/* The app has closed it; what it sent before is still delivered, for a while. */
void conn_app_close(struct node_conn *c, uint16_t code, struct bytes text, uint64_t now);
/* The app is gone, nobody is left to deliver to. */
void conn_app_gone(struct node_conn *c, uint64_t now);

/* engine_tun.c */
/* AttachTun, DetachTun, TunRoute of an app. */
void tun_message(struct node_app *a, const struct msg *m, uint64_t now);
/* A record of the peer of `c`, whose `tun` is set. */
void tun_from_peer(struct node_conn *c, struct bytes record, uint64_t now);
/* Its records are messages again. */
void tun_leave(struct node_conn *c);
/* Tells the app the counters as they are now. */
void tun_tell(struct node_conn *c);
void tun_drop_all(struct node_app *a);

/* engine_local.c */
/* CODE_OK, or why not. */
uint16_t local_assign(struct node_engine *e, const struct msg_assign_connection *a, uint64_t now);
void local_start(struct node_conn *c);
void local_send(struct node_conn *from, struct bytes data, uint64_t now);
void local_send_part(struct node_conn *from, struct bytes data, size_t left, uint64_t now);
/* For a record; false: lost. */
bool local_send_datagram(struct node_conn *from, struct bytes data, uint64_t now);
/* Our app takes messages again. */
void local_resume(struct node_conn *c, uint64_t now);
void local_drop_queue(struct node_conn *c);

/* engine_app.c */
struct node_app *app_find(const struct node_engine *e, struct bytes name);
void app_announce_all(struct node_engine *e, uint64_t now);
void app_send(struct node_app *a, const struct msg *m);
void app_ack(struct node_app *a, uint32_t seq, uint16_t code, uint64_t value, const char *text);
void app_free_all(struct node_engine *e);

/* engine_keep.c */
void engine_kept_changed(struct node_engine *e);

/* engine_report.c */
/* All that we hold, for a manager that lets us keep it. */
void report_send_all(struct node_engine *e);

/* engine_request.c */
/* NULL when there are too many; the app's sequence and handle are remembered. */
struct node_request *request_new(struct node_engine *e, struct node_app *app,
				 enum request_kind kind, uint32_t app_seq, uint32_t handle,
				 uint64_t now);
/* Asks the manager for the connection; without one it waits for a while.  CODE_OK, or why not. */
uint16_t request_connect(struct node_app *a, const struct msg *m, uint64_t now);
/* The manager is there: asks what was held. */
void request_release_held(struct node_engine *e, uint64_t now);
void request_answer(struct node_engine *e, const struct msg *m, uint64_t now);
/* The manager is away: what it was asked fails, but for connections, which are asked for again
 * (once) when it is back soon. */
void request_manager_lost(struct node_engine *e, uint64_t now);
/* Frees them all and says nothing. */
void request_free_all(struct node_engine *e);
void request_drop_app(struct node_engine *e, struct node_app *app);
void request_fire(struct timer *t, uint64_t now);
void request_held_fire(struct timer *t, uint64_t now);
#endif
