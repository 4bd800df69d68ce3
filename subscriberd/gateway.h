/*
 * What is known of one gateway: how it is reached, what it offers, how good it was.  Plain values;
 * the engine owns the table.
 */
#ifndef SUBSCRIBERD_GATEWAY_H
#define SUBSCRIBERD_GATEWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/sid.h"

#define SUB_METHODS_MAX 16
#define SUB_METHOD_NAME_MAX 15
#define SUB_WHY_MAX 200
#define SUB_KEY_MAX 160
#define SUB_SILENT_US 35000000u /* a gateway not heard for this long is not tried */

/* How a gateway is reached: an app in the mesh, or HTTP at an address. */
enum sub_via { SUB_VIA_MESH, SUB_VIA_HTTP };

struct sub_contact {
	enum sub_via via;
	struct mesh_id node;	      /* mesh */
	char app[NAME_MAX_BYTES + 1]; /* mesh */
	struct net_addr addr;	      /* http */
};

/* "mesh:ID/app" or "http:ADDR:PORT": names a gateway in logs, the store and RPC.  Returns out. */
const char *sub_contact_key(const struct sub_contact *c, char out[SUB_KEY_MAX]);
bool sub_contact_equal(const struct sub_contact *a, const struct sub_contact *b);

/* Decaying averages, 1/8 per sample (RFC 6298's weight). */
struct sub_quality {
	double rtt_ms, jitter_ms; /* 0 before the first sample */
	double loss;		  /* share of unanswered questions, 0..1 */
	uint64_t samples;
	uint64_t at_us; /* monotonic, of the last sample; 0: none in this run */
};
void sub_quality_answer(struct sub_quality *q, double rtt_ms, uint64_t now);
void sub_quality_silence(struct sub_quality *q, uint64_t now);

/* From nodeInfo. */
struct sub_info {
	char name[NAME_MAX_BYTES + 1];
	char id[MESH_ID_TEXT]; /* the key that it says is its own; "" none */
	bool asked, proven;    /* for a proof of that; it has given it */
	char methods[SUB_METHODS_MAX][SUB_METHOD_NAME_MAX + 1];
	size_t method_count;
	bool online; /* its uplink is proven */
	double uplink_rtt_ms;
	uint64_t free_slots, max_subscribers, lease_seconds, rate_kbps;
	char price[32], currency[16], text[TEXT_MAX_BYTES + 1];
};

/* A method that failed there, while the gateway itself may be fine. */
struct sub_method_fault {
	char name[SUB_METHOD_NAME_MAX + 1];
	unsigned failures;
	uint64_t until_us; /* not tried before this */
};

/* One way to a gateway.  Those of the same gateway (sub_gateway_same) are one entry for people, and
 * what was found out about its tunnels is kept the same in all of them (engine_ways.c). */
struct sub_gateway {
	struct sub_contact contact;
	char id[MESH_ID_TEXT]; /* proven: who answers here holds this key; "" not (yet) */
	uint64_t proven_us;    /* monotonic, when it last was; 0: it has to be again */
	struct sub_info info;
	struct sub_quality quality; /* of nodeInfo */
	struct sub_quality tunnel;  /* of probes through a tunnel of ours there */
	double uplink_fault;	    /* share of proofs of its uplink that failed, 0..1 */
	double goodput_bps;	    /* what its tunnel carried when it was full; 0: unknown */
	uint64_t first_seen_s, last_seen_s; /* wall clock, for people and the store */
	uint64_t heard_us;		    /* monotonic, when it last gave a sign; 0: never */
	uint64_t answered_us;		    /* monotonic, when its RPC last answered; 0: never */
	uint64_t saved_us;
	uint64_t
		forget_at_us; /* monotonic: if it has never answered by then, and nobody names it */
	unsigned failures;    /* in a row */
	uint64_t cooldown_until_us; /* not tried before this, after a failure */
	struct sub_method_fault faults[SUB_METHODS_MAX];
	bool own;	       /* on our own host: what is sent there comes back here */
	bool asking;	       /* a nodeInfo is under way */
	char sid[SID_MAX + 1]; /* the session we had or have there; "" none */
	char sid_method[SUB_METHOD_NAME_MAX + 1];
	char error[SUB_WHY_MAX]; /* the last refusal or failure; "" none */
	char silence[64];	 /* why its nodeInfo was not answered the last time; "" it was */
};

/* Two ways to one gateway.  What it only says of itself is no reason: anybody could say it. */
bool sub_gateway_same(const struct sub_gateway *a, const struct sub_gateway *b);

/* Should it be asked for a proof of its key? */
bool sub_gateway_unproven(const struct sub_gateway *g, uint64_t now);

void sub_gateway_proof(struct sub_gateway *g, bool online);
/* A second in which the tunnel carried `bps`; `full`: with packets waiting, so it was all that it
 * could. */
void sub_gateway_carried(struct sub_gateway *g, double bps, bool full);
/* The fault of that method; with `make` a new one when there was none (the oldest gives way). */
struct sub_method_fault *sub_gateway_fault(struct sub_gateway *g, const char *method, bool make);
#endif
