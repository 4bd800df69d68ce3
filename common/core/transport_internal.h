/* What transport.c, transport_input.c and transport_timer.c share; nobody else includes it. */
#ifndef CORE_TRANSPORT_INTERNAL_H
#define CORE_TRANSPORT_INTERNAL_H

#include "base/log.h"
#include "core/congestion.h"
#include "core/handshake.h"
#include "core/recvstate.h"
#include "core/replay.h"
#include "core/rtt.h"
#include "core/sendstate.h"
#include "core/transport.h"

#define ACK_DELAY_US 2000u	       /* longest wait for a second packet before an ack */
#define ACK_EVERY_PACKETS 2u	       /* at the end of a batch, this many are acked at once */
#define HANDSHAKE_RETRY_US 250000u     /* the same INIT again */
#define HANDSHAKE_REPEATS 4u	       /* then a new attempt with a new ephemeral */
#define HANDSHAKE_TIMEOUT_US 15000000u /* then the transport is DISCONNECTED */
#define REKEY_INTERVAL_US 120000000u
#define PROBE_IDLE_US 1000000u	      /* nothing sent for this long: one small packet */
#define PROBE_ASK_US 1500000u	      /* nothing heard for this long: ask for an answer, */
#define PROBE_ASK_INTERVAL_US 250000u /* this often, */
#define LIVENESS_US 3000000u	      /* until the peer is given up */
#define PTO_MAX_US 1000000u
#define PTO_BACKOFF_MAX 6u
#define PTO_COLLAPSE 3u /* timeouts in a row before the window collapses */
#define FLUSH_BATCH 64u
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
	uint64_t handshake_at_us, handshake_deadline_us, rekey_at_us;

	struct sendstate snd;
	struct recvstate rcv;
	struct rtt rtt;
	struct congestion congestion;
	struct pkt_queue egress;
	uint64_t egress_bytes;
	bool egress_was_full, window_limited;

	uint64_t control_seq; /* of ACK, PROBE, CLOSE: a counter of their own */
	struct replay control_replay;

	struct timer timer;
	uint64_t ack_at_us, loss_at_us;
	uint64_t last_rx_us, last_tx_us, last_data_tx_us, asked_us;
	unsigned pto_count, probe_credit;

	struct transport_stats stats;
	uint64_t sample_sent, sample_lost, rate_from_us, rate_bytes;
	struct log_limit bad_log;
};

/* The only place where the state changes: logs, resets timers, tells the owner. */
void transport_set_state(struct transport *t, enum transport_state to, uint16_t code, uint64_t now);
/* A packet of our own (ACK, PROBE, ...): header, `body`, mac over everything; sent at once. */
void transport_send_control(struct transport *t, uint8_t type, struct bytes body, uint64_t now);
void transport_send_handshake(struct transport *t, const struct net_addr *to, uint64_t now);
/* (Re)starts the initiator's handshake with new keys of the next epoch. */
void transport_initiate(struct transport *t, uint64_t now);
void transport_send_ack(struct transport *t, uint64_t now);
/* Marks lost what the thresholds say, and adjusts the window. */
void transport_detect_losses(struct transport *t, uint64_t now);
void transport_timer_fire(struct timer *timer, uint64_t now);
void transport_arm(struct transport *t, uint64_t now);
#endif
