/*
 * A transport: the link between one pair of nodes over UDP (DESIGN.md section 6, PROTOCOL.md
 * section 3).  Reliable and unordered: a packet is sent up to `retransmit_limit` times, delivered
 * once at the other end, and if that fails the transport is DISCONNECTED with a reason.
 *
 * A pure state machine: bytes and `now` come in, effects go out through transport_ops.  Call
 * transport_flush after each batch of inputs and sends: it transmits what the window allows and
 * sends the one ack of the batch.
 */
#ifndef CORE_TRANSPORT_H
#define CORE_TRANSPORT_H

#include <stdbool.h>

#include "base/addr.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/timerq.h"
#include "core/congestion.h"
#include "core/pkt.h"

enum transport_state {
	TRANSPORT_NEW, /* made, its peer's addresses not known yet */
	TRANSPORT_HANDSHAKE,
	TRANSPORT_CONNECTED,
	TRANSPORT_DISCONNECTED, /* final */
};
const char *transport_state_name(enum transport_state s);

struct transport;

struct transport_ops {
	/* Send these UDP payloads, single ones and runs, in order, to `to`.  Nothing may keep a
	 * pointer to them. */
	void (*send)(void *ctx, struct transport *t, const struct net_addr *to,
		     struct pkt *const *v, size_t n);
	/* A new, authenticated packet of the far node's DATA (or ROUTE_ERROR: see
	 * pkt->data[0]), or a run of fragments of one record; consumes p.  p->label and p->flags
	 * are set. */
	void (*deliver)(void *ctx, struct transport *t, struct pkt *p, uint64_t now);
	/* After the state has changed.  `code` (enum msg_code) says why when DISCONNECTED.  The
	 * transport must not be freed inside this call. */
	void (*state)(void *ctx, struct transport *t, enum transport_state old, uint16_t code,
		      uint64_t now);
	/* There is room in the egress queue again after transport_room was 0. */
	void (*writable)(void *ctx, struct transport *t, uint64_t now);
	void (*random)(void *ctx, void *out, size_t len);
	/* Data is under way, and the peer has not said anything for several round trips and many
	 * questions (true); it has been heard again (false).  Only a warning: the transport goes
	 * on until liveness_us ends it.  May be NULL. */
	void (*suspect)(void *ctx, struct transport *t, bool suspect, uint64_t now);
};

/* How far a resumed transport is with asking for its silent peer: less and less often, from four
 * times a second to once in 4 to 8 s (PROTOCOL.md section 3.3).  Zero: it begins. */
struct transport_seek {
	unsigned asked;
	uint64_t next_us;
};

struct transport_config {
	uint32_t id; /* the manager's number for it, never 0 */
	bool initiator;
	/* This transport goes on from an earlier one of the same number and secret, whose peer may
	 * still have it: a responder then asks for a handshake. */
	bool resumed;
	uint64_t attempts; /* initiator: handshakes of the earlier one at most, so that none of
			    * ours can be an old one */
	struct transport_seek seek;	/* where the earlier one had got to */
	struct mesh_id local, remote;	/* static public keys */
	uint8_t local_secret[32];	/* our static private key */
	uint8_t psk[MESH_SECRET_BYTES]; /* the pair secret from the manager */
	unsigned retransmit_limit;	/* tries per packet */
	/* Times; 0 stands for the default of transport_internal.h. */
	uint64_t idle_us;      /* nothing sent for this long: one small packet */
	uint64_t liveness_us;  /* nothing heard for this long: the peer is lost */
	uint64_t rekey_us;     /* age of keys that are replaced */
	uint64_t ack_delay_us; /* longest wait for a second packet before an ack */
	size_t packet_bytes;   /* largest UDP payload to send, from MaxPacketSize */
	uint64_t codel_target_us, codel_interval_us; /* of the egress queue; 0: RFC 8289's */
	size_t egress_bytes;			     /* limit of the egress queue */
	enum congestion_algorithm congestion;
	struct pkt_pool *pool; /* outlives the transport */
	struct timerq *timers; /* outlives the transport */
};

/* Copies the config; NULL when out of memory. */
struct transport *transport_new(const struct transport_config *config,
				const struct transport_ops *ops, void *ctx, uint64_t now);
/* Frees at once and silently; packets still held are dropped. */
void transport_free(struct transport *t);

/* Gives back what bursts have made it allocate; it is there again with the next packet. */
void transport_trim(struct transport *t);

/* Candidate addresses of the peer, best first (OpenUDP).  Starts the handshake. */
void transport_open(struct transport *t, const struct net_addr *addrs, size_t n, uint64_t now);
/* Tells the peer (one authenticated packet) and becomes DISCONNECTED with `code`. */
void transport_close(struct transport *t, uint16_t code, uint64_t now);

/* Received UDP payloads: one, or a run of equal length as the kernel hands them out; consumes p.
 * Anything malformed or forged is counted and dropped. */
void transport_input(struct transport *t, struct pkt *p, const struct net_addr *from, uint64_t now);
/*
 * Queues one packet or a run of fragments of one record (hop header space, fragment header and body
 * in place; p->label and p->flags set); consumes p.  0; -ENOBUFS when the egress queue is full and
 * -ENOTCONN when not CONNECTED (the packet is dropped and counted).
 */
int transport_send(struct transport *t, struct pkt *p, uint64_t now);
/* As transport_send for our own small hop messages: packet type (PACKET_ROUTE_ERROR) and
 * label, no body. */
int transport_send_signal(struct transport *t, uint8_t type, uint32_t label, uint64_t now);
void transport_flush(struct transport *t, uint64_t now);

/* Bytes that our own connections should queue now, of packets with these flags (packet.h): a sparse
 * one finds room when others have filled the queue. */
size_t transport_room(const struct transport *t, uint8_t flags);
/* Largest UDP payload that reaches the peer in one piece. */
size_t transport_packet_bytes(const struct transport *t);

struct transport_stats {
	uint64_t tx_packets, rx_packets, tx_bytes, rx_bytes; /* UDP payload, everything */
	uint64_t delivered_packets, delivered_bytes;	     /* DATA handed up */
	uint64_t retransmits, spurious, duplicates;
	uint64_t bad_packets; /* malformed or not authentic */
	uint64_t egress_drops, window_drops, marks;
	uint64_t handshakes, probes_sent;
	uint32_t srtt_us, rttvar_us, min_rtt_us; /* 0 before the first sample */
	uint32_t loss_ppm;			 /* decaying share of transmissions lost */
	uint64_t rate_bps;			 /* decaying goodput, bits per second */
	uint64_t cwnd_bytes, inflight_bytes, queue_bytes;
	uint32_t packet_bytes; /* largest UDP payload that is known to arrive */
	uint32_t moves;	       /* changes of the peer's address that were followed */
	uint32_t restarts;     /* of the peer, which then counted from zero again */
};
void transport_get_stats(const struct transport *t, struct transport_stats *out);

enum transport_state transport_get_state(const struct transport *t);
/* What the suspect op said last. */
bool transport_is_suspect(const struct transport *t);
uint32_t transport_get_id(const struct transport *t);
/* Handshakes begun so far, those of `attempts` included. */
uint64_t transport_get_attempts(const struct transport *t);
struct transport_seek transport_get_seek(const struct transport *t);
/* There is new hope that the peer answers: a resumed transport asks now, and often again. */
void transport_seek_now(struct transport *t, uint64_t now);
const struct mesh_id *transport_get_peer(const struct transport *t);
const struct net_addr *transport_get_remote(const struct transport *t);
/* The owner's pointer (socket, edge). */
void transport_set_user(struct transport *t, void *user);
void *transport_get_user(const struct transport *t);
#endif
