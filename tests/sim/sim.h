/*
 * The overlay in one process on a virtual clock: node engines and the nodemanager's engine over a
 * network that loses, delays, reorders, duplicates, shrinks and parts, all from one seed.
 *
 *   main.c      seeds, command line
 *   clock.c     events, random numbers, failure
 *   network.c   UDP between hosts, and what it cost
 *   host.c      a node engine with its clock, sockets, channels and apps' pipes
 *   manager.c   the nodemanager's engine, control channels, a tracker that always says yes
 *   topology.c  random meshes
 *   faults.c    what goes wrong under way
 *   traffic.c   apps that send what the receiver can check
 *   scenario.c  what happens for a seed, and what must hold
 *   bulk.c      bytes on the wire under heavy loss
 */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/timerq.h"
#include "node/engine.h"
#include "nodemanager/engine.h"

#define SIM_HOSTS 20
#define SIM_LINKS (2 * SIM_HOSTS)
#define SIM_SOCKETS 64
#define SIM_APPS 2 /* of each host */
#define SIM_CONNS 12
#define MS 1000u
#define SEC 1000000u
#define BATCH_US 20u /* what arrives within this is one wake-up */

struct sim;

/* One direction between two hosts. */
struct sim_path {
	uint64_t delay_us, jitter_us, rate_bps, free_at_us, last_us;
	uint32_t loss_ppm, duplicate_ppm, reorder_ppm;
	uint64_t reorder_us;	       /* at most so much later than the others */
	size_t queue_bytes, mtu_bytes; /* larger IP packets vanish; 0: none is too large */
	unsigned cuts;		       /* faults that hold it cut now */
	/* What was put on it: DATA for the first time and again, DATA that it lost, and packets of
	 * other types; DATA that came out. */
	uint64_t first_bytes, again_bytes, lost_bytes, control_packets, arrived_packets;
};

struct sim_socket {
	bool open;
	uint32_t transport;
	uint16_t port;
	struct sim_host *host;
};

struct sim_app {
	struct sim_host *host;
	struct node_app *handle;
	char name[16];
	size_t pending;
	bool full;
};

struct sim_host {
	struct sim *sim;
	unsigned index;
	struct node_engine *engine;
	struct mesh_id id;
	uint8_t secret[32];
	/* Its clock began at another time and does not run at quite the same speed. */
	uint64_t clock_us;
	int64_t drift_ppm;
	uint64_t rekey_us;
	uint8_t moves; /* how often its address has changed */
	struct sim_socket sockets[SIM_SOCKETS];
	uint64_t channel; /* number of the control channel; 0: down */
	uint64_t to_manager_us, to_node_us;
	struct sim_app apps[SIM_APPS];
	struct keep_state kept; /* on its disk when it crashed */
	size_t most_queued, may_queue;
};

struct sim_topology {
	unsigned links[SIM_LINKS][2];
	unsigned count;
};

enum reader { READER_FAST, READER_SLOW, READER_LATE };

/* One direction of a connection, as its sender and its receiver see it. */
struct sim_flow {
	struct sim_conn *conn;
	unsigned side; /* of the sender: 0 asked for the connection */
	uint64_t seed;
	unsigned total, sent, received;
	uint64_t bytes, received_bytes;
	int64_t credit;
	enum reader reader;
	uint32_t owed; /* credit that a slow reader has not given back */
	uint64_t interval_us, moved_us;
	struct timer send_timer, read_timer;
	uint8_t *seen;	  /* datagrams */
	uint8_t *joining; /* of the parts that have come of a message */
	size_t join_have, join_len;
};

struct sim_conn {
	struct sim *sim;
	unsigned index;
	struct sim_app *app[2];
	uint64_t id;
	uint8_t cls;
	bool up[2], ended[2], refused, close_early, may_die;
	bool late; /* asked for while something may be wrong: it may be refused */
	uint16_t code;
	struct sim_flow flow[2]; /* by side of the sender */
};

/* What the manager has in its store. */
struct sim_store {
	struct nm_node_record nodes[SIM_HOSTS];
	struct {
		struct mesh_id a, b;
		uint32_t transport;
	} links[SIM_LINKS];
	unsigned node_count, link_count;
	uint32_t counters[NM_COUNTERS];
};

struct sim {
	uint64_t seed, now, random;
	bool verbose;
	struct timerq events;
	struct nm *nm;
	struct sim_store store;
	uint64_t next_channel;
	struct sim_host hosts[SIM_HOSTS];
	unsigned host_count;
	struct sim_path paths[SIM_HOSTS][SIM_HOSTS];
	struct sim_topology topology;
	struct sim_conn conns[SIM_CONNS];
	unsigned conn_count, conns_due;
	unsigned faults; /* planned and not over */
	bool closing;
	uint64_t app_us; /* time of the last event to an app */
	uint64_t packets, packets_lost, wire_bytes;
	unsigned links_pending;
	char failure[256];
};

/* clock.c */
uint64_t sim_random(struct sim *s);
/* Uniform in [lo, hi]. */
uint64_t sim_between(struct sim *s, uint64_t lo, uint64_t hi);
bool sim_chance(struct sim *s, uint32_t ppm);
void sim_fill(struct sim *s, void *out, size_t len);
/* The first failure counts. */
void sim_fail(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sim_log(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Runs `what(arg)` at a time; the event is gone afterwards. */
void sim_at(struct sim *s, uint64_t at, void (*what)(struct sim *s, void *arg), void *arg);
/* Goes on until `done` says so (true) or the time is over or something failed (false). */
bool sim_run(struct sim *s, uint64_t until, bool (*done)(struct sim *s));
/* Runs all that is left; the engines must be gone. */
void sim_clear_events(struct sim *s);
/* An encoded message on its way; `land` frees it with sim_letter_free. */
struct sim_letter {
	struct timer timer;
	struct sim *sim;
	struct sim_host *host;
	struct sim_app *app;
	uint64_t channel;
	void (*land)(struct sim_letter *l, const struct msg *m);
	size_t len;
	uint8_t bytes[];
};
void sim_post(struct sim *s, const struct msg *m, uint64_t at, struct sim_letter envelope);

/* network.c */
void network_path(struct sim *s, unsigned a, unsigned b, const struct sim_path *both_ways);
/* Cuts both directions (1), or takes one such cut back (-1). */
void network_cut(struct sim *s, unsigned a, unsigned b, int change);
/* Fails when somebody sent again much more than was lost, or said much more than it had to. */
void network_check(struct sim *s);
void network_send(struct sim_socket *from, const struct net_addr *to, struct pkt *const *v,
		  size_t n);
struct net_addr network_address(const struct sim_host *h, uint16_t port);

/* host.c */
void host_open(struct sim *s, unsigned index);
void host_close(struct sim_host *h);
/* Its own clock at this moment. */
uint64_t host_now(const struct sim_host *h);
/* When it wants to be woken, by the simulator's clock. */
uint64_t host_next_timeout(const struct sim_host *h);
/* From now on its packets come from another address, and nothing reaches the old one. */
void host_move(struct sim_host *h);
/* As kill -9: nobody is told.  The key stays for host_open. */
void host_crash(struct sim_host *h);
void host_register_apps(struct sim_host *h);
void host_say(struct sim_app *a, const struct msg *m);

/* manager.c */
void manager_open(struct sim *s);
void manager_close(struct sim *s);
/* As kill -9; manager_reopen starts the next one from the store, and the nodes come back to it. */
void manager_crash(struct sim *s);
void manager_reopen(struct sim *s);
void manager_connect(struct sim_host *h);
void manager_disconnect(struct sim_host *h);
void manager_link(struct sim *s, unsigned a, unsigned b);
void manager_unlink(struct sim *s, unsigned a, unsigned b);
int manager_letter(struct sim_host *h, const struct msg *m);

/* topology.c */
/* Picks hosts, links and paths. */
void topology_random(struct sim *s);

/* faults.c */
/* Some things go wrong, one after the other: s->faults is 0 when all is well again.  Connections
 * that cannot outlive one of them are marked. */
void faults_plan(struct sim *s);

/* traffic.c */
void traffic_begin(struct sim *s, struct sim_app *from, struct sim_app *to, uint8_t cls,
		   unsigned messages_each_way);
void traffic_heard(struct sim_app *a, const struct msg *m);
/* Between random hosts, of random kinds. */
void traffic_random(struct sim *s);
bool traffic_flow_done(const struct sim_flow *f);
void traffic_close_all(struct sim *s);
/* The apps of this host are gone. */
void traffic_crashed(struct sim *s, const struct sim_host *h);
void traffic_free(struct sim *s);

/* scenario.c, bulk.c: true when all went well; s->failure says what did not. */
bool scenario_run(struct sim *s);
bool bulk_run(struct sim *s);
/* Both: hosts, manager, registration and the links of the topology, until all are up. */
bool scenario_open(struct sim *s);
/* Everybody leaves; checks that nothing is left over. */
void scenario_close(struct sim *s);
#endif
