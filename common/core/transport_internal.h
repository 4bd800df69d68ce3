/* What transport.c, transport_input.c and transport_timer.c share; nobody else includes it. */
#ifndef CORE_TRANSPORT_INTERNAL_H
#define CORE_TRANSPORT_INTERNAL_H

#include "base/log.h"
#include "core/congestion.h"
#include "core/egress.h"
#include "core/handshake.h"
#include "core/pathmtu.h"
#include "core/recvstate.h"
#include "core/replay.h"
#include "core/rtt.h"
#include "core/sendstate.h"
#include "core/transport.h"

#define ACK_EVERY_PACKETS 4u	       /* at the end of a batch, this many are acked at once */
#define HANDSHAKE_RETRY_US 250000u     /* the same INIT again */
#define HANDSHAKE_WANTED_US 1000000u   /* one is begun on demand this rarely */
#define HANDSHAKE_REPEATS 4u	       /* then a new attempt with a new ephemeral */
#define HANDSHAKE_TIMEOUT_US 15000000u /* then the transport is DISCONNECTED */
#define SEEK_QUICK 4u		       /* a lost peer is asked so often at that pace; */
#define SEEK_DOUBLINGS 5u	       /* then ever more seldom, down to every 4 to 8 s */
#define SEEK_ANSWER_US 3000000u	       /* and waited for its answer so long at least */
#define PROBE_ASK_INTERVAL_US 100000u  /* a silent peer is asked this often: 16 times in all */

/*
 * Silence while data is under way.  Asked this often, a peer behind a link that loses 30 % each way
 * answers one of the questions of SUSPECT_US with all but one in a million; to be suspected by
 * mistake costs no more than a detour.
 */
#define SUSPECT_US 600000u
#define SUSPECT_ASK_US 50000u
#define SUSPECT_ASKS 8u /* unanswered at least, however long the round trip */

/* What the owner leaves at 0. */
#define DEFAULT_IDLE_US 1000000u
#define IDLE_SLOTS 4u /* that is late by up to a quarter, to go with others */
#define DEFAULT_LIVENESS_US 3000000u
#define DEFAULT_REKEY_US 120000000u
#define DEFAULT_ACK_DELAY_US 2000u

#define PTO_MAX_US 1000000u
#define PTO_BACKOFF_MAX 6u
#define PTO_BLACKHOLE 2u   /* timeouts in a row before full packets are suspected to vanish */
#define PTO_COLLAPSE 3u	   /* timeouts in a row before the window collapses */
#define TRIES_BLACKHOLE 8u /* of one packet while others get through: the same suspicion */
#define FLUSH_BATCH                                                                                \
	256u /* several of the largest records, each of which is one run for the kernel */
/* What our own connections may queue beyond the window: at least so much, and what goes out in so
 * long, so that the end of the queue is not what a fast flow meets first. */
#define SOURCE_QUEUE_BYTES (256u << 10)
#define SOURCE_QUEUE_US 1500u
#define PACE_SHIFT 28u		      /* fast links must not round to nothing, nor packets divide */
#define SPARSE_ROOM_BYTES (32u << 10) /* and this much more of flows that send little */
#define PACE_BURST_US 1000u	      /* how much of missed time may be made up for at once */
#define PACE_LATE_US 8000u	      /* when we are late ourselves */
#define PACE_QUANTUM_US 200u  /* paced sending wakes up this rarely, for the sake of batches */
#define PATH_CHECK_US 250000u /* a new address of the peer is challenged this often */
#define PROBE_BODY_BYTES 11u
#define CODEL_TARGET_US 5000u /* when the owner gives none (RFC 8289) */
#define CODEL_INTERVAL_US 100000u
#define STATS_SAMPLE_PACKETS 64u
#define RATE_SAMPLE_US 250000u

struct transport {
	struct transport_config config;
	const struct transport_ops *ops;
	void *ctx, *user;
	enum transport_state state;

	struct net_addr remote;
	struct net_addr addrs[ADDRS_MAX];
	size_t addr_count;

	struct handshake handshake;
	struct hop_keys cur, prev, next; /* next: responder, until the initiator confirms it */
	unsigned handshake_sends;
	struct transport_seek seek; /* of a resumed one that is not CONNECTED */
	uint64_t seek_sent_us;
	uint64_t peer_life; /* of the keys in use */
	bool peer_known;
	uint64_t handshake_at_us, handshake_deadline_us, rekey_at_us;

	struct sendstate snd;
	struct recvstate rcv;
	struct rtt rtt;
	struct congestion congestion;
	struct egress egress;
	struct pkt_queue rest; /* second halves of packets that had to be split */
	struct pathmtu mtu;
	/* The cost of a byte at pace_bps, and what is left over, in 2^-PACE_SHIFT microseconds. */
	uint64_t pace_at_us, pace_fraction, pace_cost, pace_bps;
	bool pace_blocked, pace_late;
	bool egress_was_full, window_limited;

	uint64_t control_seq; /* of ACK, PROBE, CLOSE: a counter of their own */
	struct replay control_replay;

	struct timer timer;
	uint64_t ack_at_us, loss_at_us;
	uint64_t last_rx_us, last_tx_us, last_data_tx_us, asked_us;
	unsigned pto_count, probe_credit;
	uint64_t waiting_us; /* since when something is unacknowledged */
	unsigned asks;	     /* questions since the peer was heard last */
	bool suspect;

	/* A new address of the peer, until it has answered our challenge there. */
	struct net_addr candidate;
	uint64_t challenge, challenge_at_us;

	struct transport_stats stats;
	uint64_t model_lost; /* packets found lost since the rate model was told */
	uint64_t sample_sent, sample_lost, rate_from_us, rate_bytes;
	struct log_limit bad_log;
};

/* What a PROBE asks for (PROTOCOL.md section 3.5); the reply carries the same body. */
enum probe_kind { PROBE_KEEPALIVE, PROBE_ANSWER, PROBE_MTU, PROBE_PATH };

/* The only place where the state changes: logs, resets timers, tells the owner. */
void transport_set_state(struct transport *t, enum transport_state to, uint16_t code, uint64_t now);
/* A packet of our own (ACK, PROBE, ...): header, `body`, mac over everything; sent at once. */
void transport_send_control(struct transport *t, uint8_t type, struct bytes body, uint64_t now);
/* To another address than the one in use, padded by `pad` bytes. */
void transport_send_control_to(struct transport *t, const struct net_addr *to, uint8_t type,
			       struct bytes body, size_t pad, uint64_t now);
/* `size`: of the whole UDP payload (0: as small as can be). */
void transport_send_probe(struct transport *t, const struct net_addr *to, enum probe_kind kind,
			  size_t size, uint64_t nonce, uint64_t now);
void transport_send_handshake(struct transport *t, const struct net_addr *to, uint64_t now);
void transport_send_handshake_wanted(struct transport *t, const struct net_addr *to, uint64_t now);
/* The peer counts from zero: what was under way is lost, and so do we. */
void transport_begin_anew(struct transport *t, uint64_t now);
/* (Re)starts the initiator's handshake with new keys of the next epoch. */
void transport_initiate(struct transport *t, uint64_t now);
void transport_send_ack(struct transport *t, uint64_t now);
/* The peer has been heard. */
void transport_heard(struct transport *t, uint64_t now);
/* Marks lost what the thresholds say, and adjusts the window. */
void transport_detect_losses(struct transport *t, uint64_t now);
void transport_timer_fire(struct timer *timer, uint64_t now);
void transport_arm(struct transport *t, uint64_t now);
#endif
