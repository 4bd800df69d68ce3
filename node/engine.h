/*
 * What a node decides: it registers with the manager, keeps transports, forwards by route rules,
 * carries connections, and serves apps (DESIGN.md sections 5 to 7).  Sans-I/O: bytes, messages and
 * `now` come in, effects go out through node_engine_ops.  The shell fills those with sockets, the
 * simulator with a virtual network.
 *
 *   engine.c             life, timers, the manager channel
 *   engine_transport.c   transports and their reports
 *   engine_route.c       rules and forwarding
 *   engine_connection.c  connections of apps over routes
 *   engine_stream.c      between a connection and its app: credit
 *   engine_local.c       connections between two apps of this node
 *   engine_app.c         app channels
 *   engine_request.c     questions to the manager on behalf of apps
 *   engine_report.c      what the manager learns when its channel is back
 *   engine_keep.c        what goes on after a restart of this process
 *   engine_tun.c         TUN interfaces that apps have handed to us
 *
 * Input functions only queue work; call node_engine_flush once after each batch of them.
 */
#ifndef NODE_ENGINE_H
#define NODE_ENGINE_H

#include "core/pkt.h"
#include "core/transport.h"
#include "node/keep.h"
#include "wire/msg.h"

struct node_engine;
struct node_app; /* one app channel */
struct node_tun; /* a TUN interface of an app */

struct node_engine_ops {
	/* 0; negative when the channel cannot take it (the channel will then go down). */
	int (*manager_send)(void *ctx, const struct msg *m);
	/* The manager refuses us or breaks the protocol: close the channel and try again later. The
	 * engine has taken note: no node_engine_manager_down follows. */
	void (*manager_close)(void *ctx, const char *why);
	/* The manager tells this node to end. */
	void (*quit)(void *ctx, const char *why);
	int (*app_send)(void *ctx, void *channel, const struct msg *m);
	/* Bytes given to app_send that the app's socket has not taken yet. */
	size_t (*app_pending)(void *ctx, void *channel);
	/* A UDP socket for a transport; `port` 0: any.  The bound port and *socket, or -errno. */
	int (*udp_open)(void *ctx, uint32_t transport, uint16_t port, void **socket);
	void (*udp_close)(void *ctx, void *socket);
	/* Sends now or loses it; keeps no pointer into the packets. */
	void (*udp_send)(void *ctx, void *socket, const struct net_addr *to, struct pkt *const *v,
			 size_t n);
	void (*random)(void *ctx, void *out, size_t len);
	/* No link has had traffic for a while: give back memory that is held for bursts.  NULL:
	 * there is none. */
	void (*trim)(void *ctx);
	/* The TUN interface whose descriptor has just come over `channel`; not reading yet.  0 and
	 * *handle, or -errno.  NULL: interfaces are not taken. */
	int (*tun_open)(void *ctx, void *channel, bool vnet, struct node_tun *t, void **handle);
	void (*tun_close)(void *ctx, void *handle);
	void (*tun_read)(void *ctx, void *handle, bool on);
	/* With a header or without.  0 or -errno: the packet is lost. */
	int (*tun_write)(void *ctx, void *handle, bool vnet, const uint8_t *record, size_t len);
};

struct node_engine_config {
	struct mesh_id id;
	uint8_t secret[32];
	char name[NAME_MAX_BYTES + 1];
	char token[TOKEN_MAX_BYTES + 1];
	bool connect; /* ask the manager for a link to some other node */
	size_t max_transports, max_routes, max_connections, max_apps, max_connections_per_app;
	enum congestion_algorithm congestion;
	unsigned ciphers; /* enum seal_cipher, as bits: what connections may use */
	/* Of transports; 0: the default. */
	uint64_t codel_target_us, codel_interval_us, liveness_us, rekey_us;
	size_t app_pending_max_bytes;	/* above this, messages wait in their connection */
	size_t connection_buffer_bytes; /* stream bytes held until the far end has them */
	size_t message_max_bytes;
	uint64_t stats_interval_us;
};
/* Everything but id, secret and name set to what a real node uses. */
void node_engine_config_init(struct node_engine_config *c);

/* Copies the config; NULL when out of memory. */
struct node_engine *node_engine_new(const struct node_engine_config *config,
				    const struct node_engine_ops *ops, void *ctx, uint64_t now);
/* Closes every socket of udp_open; says nothing to anybody. */
void node_engine_free(struct node_engine *e);
/* Tells peers, apps and the manager that this node leaves; free it soon after.  While the manager
 * is away peers are not told: they wait, and this node goes on from what it has kept. */
void node_engine_shutdown(struct node_engine *e, uint64_t now);

/*
 * What goes on after a restart.  The version changes whenever that might have; keep fills in all of
 * *out but the manager (keep_free it): 0, -ENODATA before the first registration, -ENOMEM.  restore
 * comes before anything else: transports are made again on their old ports (one whose port is taken
 * is left out, with its rules) and seek their peers.
 */
uint64_t node_engine_kept_version(const struct node_engine *e);
int node_engine_keep(struct node_engine *e, struct keep_state *out);
void node_engine_restore(struct node_engine *e, const struct keep_state *k, uint64_t now);

/* Host addresses of this node, best first (port 0): told at the next registration. */
void node_engine_set_addrs(struct node_engine *e, const struct net_addr *addrs, size_t n);

void node_engine_manager_up(struct node_engine *e, uint64_t now);
void node_engine_manager_message(struct node_engine *e, const struct msg *m, uint64_t now);
void node_engine_manager_down(struct node_engine *e, uint64_t now);
bool node_engine_registered(const struct node_engine *e);

/* `channel` comes back in app_send.  NULL: too many apps, or out of memory; close the channel. */
struct node_app *node_engine_app_up(struct node_engine *e, void *channel, uint64_t now);
/* 0, or -EPROTO: the app broke the protocol; close the channel and call node_engine_app_down. */
int node_engine_app_message(struct node_engine *e, struct node_app *app, const struct msg *m,
			    uint64_t now);
/* True once RegisterApp has been accepted. */
bool node_engine_app_registered(const struct node_app *app);
/* app_pending has fallen to (nearly) nothing. */
void node_engine_app_drained(struct node_engine *e, struct node_app *app, uint64_t now);
/* The channel is closed; frees `app`. */
void node_engine_app_down(struct node_engine *e, struct node_app *app, uint64_t now);

/* A packet of the interface; `record`, with its header if it has them, is put in order in place.
 * True: it may wait for the end of the batch, and so for what makes it superfluous. */
bool node_engine_tun_packet(struct node_engine *e, struct node_tun *t, uint8_t *record, size_t len,
			    uint64_t now);
/* No more for now: what waited is sent. */
void node_engine_tun_batch_end(struct node_engine *e, struct node_tun *t, uint64_t now);
/* The interface is gone; frees `t` and closes its handle. */
void node_engine_tun_lost(struct node_engine *e, struct node_tun *t);

/* One received UDP payload; takes a reference of `b` while it needs the bytes. */
struct udp_slice {
	uint8_t *data;
	size_t len;
};
void node_engine_udp_input(struct node_engine *e, uint32_t transport, struct block *b,
			   const struct udp_slice *v, size_t n, const struct net_addr *from,
			   uint64_t now);

void node_engine_flush(struct node_engine *e, uint64_t now);
/* When node_engine_tick wants to be called, or TIMER_NEVER. */
uint64_t node_engine_next_timeout(const struct node_engine *e);
void node_engine_tick(struct node_engine *e, uint64_t now);

struct node_status {
	size_t transports, transports_up, routes, connections, apps, requests;
	size_t live_packets; /* pkts in use */
	size_t queued_bytes; /* egress queues, in-flight data and messages for apps */
	uint64_t forwarded_packets, delivered_packets;
	uint64_t unknown_labels, route_errors;
	uint64_t refused; /* over a limit */
	uint64_t held;	  /* connections that apps asked for and that had to wait for the manager */
	uint64_t tx_bytes, rx_bytes; /* UDP payload of all transports, also of past ones */
	size_t by_state[TRANSPORT_DISCONNECTED + 1]; /* transports */
	size_t suspect;				     /* of those connected */
	size_t egress_bytes;			     /* of queued_bytes: in egress queues */
	struct transport_stats sum; /* counters of all transports, also of past ones */
	bool registered;
};
void node_engine_get_status(const struct node_engine *e, struct node_status *out);
#endif
