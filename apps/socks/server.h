/* What the parts of socks-server share: server.c (sessions), target.c (TCP), relay.c (UDP). */
#ifndef SOCKS_SERVER_H
#define SOCKS_SERVER_H

#include <sys/queue.h>

#include "base/log.h"
#include "socks/carrier.h"
#include "socks/resolver.h"
#include "socks/socks.h"

struct target;
struct relay;
LIST_HEAD(target_list, target);
LIST_HEAD(relay_list, relay);
LIST_HEAD(session_list, session);

/* A limit that was reached: how often, and when it was logged. */
struct server_limits {
	struct log_limit denied, streams, clients, datagrams, lookups;
};

struct server {
	struct socks_options *opt;
	struct event_base *base;
	struct meshapp *app;
	struct resolver *resolver;
	struct policy policy;
	uint64_t policy_us; /* when the host's own networks were read last */
	struct session_list sessions;
	unsigned session_count;
	uint64_t last_number;
	uint64_t silences; /* clients that went away without a word */
	struct event *sweep;
	struct server_limits limits;
};

/* A client of the mesh: its stream connection, and the datagram one if it has come. */
struct session {
	LIST_ENTRY(session) link;
	struct server *server;
	struct mesh_id node; /* authenticated */
	char app[NAME_MAX_BYTES + 1];
	struct carrier *carrier;
	struct meshconn *datagrams;
	struct target_list targets;
	struct relay_list relays;
	uint64_t number; /* which session it is, for the resolver */
	unsigned count;	 /* of both; more than streams where sockets are still being drained */
	uint64_t since_us;
};

/* False: denied, counted and logged. */
bool server_allows(struct server *v, const struct net_addr *a);
/* A lookup was refused: counted and logged. */
void server_too_many_names(struct server *v);
/* Room for one more target or relay; if not, counted and logged. */
bool session_has_room(struct session *s);

/* --- target.c --- */
/* Answers the stream now or later. */
void target_new(struct session *s, struct mux_stream *stream, const struct socks_addr *to);
struct pipe *target_pipe(struct target *t);
/* The stream is over at the other end. */
void target_closed(struct target *t, enum mux_end how);
/* Without a word to the stream, whose connection is gone. */
void targets_drop_all(struct session *s);
void targets_sweep(struct session *s, uint64_t now);

/* --- relay.c --- */
void relay_new(struct session *s, struct mux_stream *stream);
/* The stream is gone. */
void relay_free(struct relay *r);
void relay_send(struct relay *r, const struct socks_addr *to, struct bytes payload);
void relays_sweep(struct session *s, uint64_t now);
#endif
