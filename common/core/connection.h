/*
 * A connection: end to end between two nodes over a route (DESIGN.md section 7, PROTOCOL.md section
 * 4).  Messages are cut into records of up to 64 KB, each sealed once, cut into packets for the
 * first hop, put together and opened at the other end; relays see labels and sizes.
 *
 * stream:   messages in order, exactly once while the connection lives, any size to
 *           MAX_MESSAGE_BYTES, flow-controlled;
 * datagram: one record each, unordered, delivered at most once, not retransmitted end to end.
 *
 * A pure state machine like transport.h.  Call connection_flush after each batch of inputs.
 */
#ifndef CORE_CONNECTION_H
#define CORE_CONNECTION_H

#include <stdbool.h>

#include "base/id.h"
#include "base/limits.h"
#include "base/timerq.h"
#include "core/pkt.h"
#include "core/seal.h"

/* Largest datagram-class message: with its tag the largest record. */
#define DATAGRAM_MAX_BYTES 65519u

enum connection_state { CONNECTION_CONNECTING, CONNECTION_CONNECTED, CONNECTION_DISCONNECTED };
const char *connection_state_name(enum connection_state s);

struct connection;

struct connection_ops {
	/* Packets for the first hop, label and flags set; consumes every pkt.  What the hop does
	 * not take is dropped. */
	void (*output)(void *ctx, struct connection *c, struct pkt *const *v, size_t n,
		       uint64_t now);
	/* Bytes that the first hop takes now of packets with these flags (transport_room); 0 while
	 * there is no route. */
	size_t (*room)(void *ctx, struct connection *c, uint8_t flags);
	/* A whole message, or (after connection_take_parts) the next part of a long one, of which
	 * `left` bytes follow; the bytes are valid during the call.  False: not now, keep it and
	 * offer it again after connection_resume (only for stream; a refused datagram is dropped).
	 */
	bool (*message)(void *ctx, struct connection *c, struct bytes data, size_t left,
			uint64_t now);
	/* After the state has changed; `code` says why when DISCONNECTED.  Must not free it. */
	void (*state)(void *ctx, struct connection *c, enum connection_state old, uint16_t code,
		      uint64_t now);
	/* Stream bytes have left the send buffer (acknowledged): `bytes` more may be taken from
	 * the app. */
	void (*sent)(void *ctx, struct connection *c, size_t bytes, uint64_t now);
	void (*random)(void *ctx, void *out, size_t len);
	/* Largest UDP payload of the first hop now; NULL: what connection_set_route said. */
	size_t (*packet_bytes)(void *ctx, struct connection *c);
	/* Whether this datagram, ours or the peer's, is TCP's data, or the like: goes out in order
	 * and evenly, not as it comes (playout.h), and again on a new route (recent.h).  NULL: none
	 * is. */
	bool (*in_order)(void *ctx, struct connection *c, struct bytes data);
};

struct connection_config {
	uint64_t id; /* the manager's number, the same at both ends */
	bool initiator;
	uint8_t cls; /* enum connection_class */
	struct mesh_id local, remote;
	uint8_t local_secret[32];
	unsigned ciphers;	  /* enum seal_cipher, as bits: what we want; 1 is always there */
	uint64_t timeout_us;	  /* no progress for this long: DISCONNECTED, CODE_TIMEOUT */
	size_t send_buffer_bytes; /* stream bytes held until acknowledged, soft limit */
	struct pkt_pool *pool;
	struct timerq *timers;
};

struct connection *connection_new(const struct connection_config *config,
				  const struct connection_ops *ops, void *ctx, uint64_t now);
void connection_free(struct connection *c);

/*
 * Which label to put on packets and how large a UDP payload may be.  The first call makes the
 * connection usable; a later one moves a live connection to another route: what was in flight is
 * sent again on the new one, nothing is lost.  Of datagrams the last few go again that in_order
 * holds for.
 */
void connection_set_route(struct connection *c, uint32_t out_label, size_t packet_bytes,
			  uint64_t now);
/* The initiator begins the end-to-end handshake (ConnectionOn from the manager). */
void connection_start(struct connection *c, uint64_t now);
/* Tells the other end and becomes DISCONNECTED; stream data still unacknowledged is given up. */
void connection_close(struct connection *c, uint16_t code, uint64_t now);

/* A packet that the route delivered to us (hop header already checked); consumes p. */
void connection_input(struct connection *c, struct pkt *p, uint64_t now);
/*
 * One message.  0; -ENOTCONN; -EMSGSIZE; -EAGAIN when the send buffer is over its limit or, for a
 * datagram, when the first hop has no room (it is dropped).  The bytes are copied or sealed.
 */
int connection_send(struct connection *c, struct bytes data, uint64_t now);
/* The next part of a message of a stream, of which `left` bytes follow with other calls and nothing
 * in between.  The same errors (-EAGAIN with a first part only), and -EINVAL when it is not what
 * the parts before said. */
int connection_send_part(struct connection *c, struct bytes data, size_t left, uint64_t now);
/* Messages longer than STREAM_WHOLE_BYTES come in parts from now on, as they arrive. */
void connection_take_parts(struct connection *c);
/* A datagram of a flow that sends little (flowmeter.h): it need not wait behind those of others. */
int connection_send_sparse(struct connection *c, struct bytes data, uint64_t now);
/* The receiver of messages can take more after it had refused one. */
void connection_resume(struct connection *c, uint64_t now);
/* The first hop has room again. */
void connection_flush(struct connection *c, uint64_t now);

struct connection_stats {
	uint64_t tx_messages, rx_messages, tx_bytes, rx_bytes; /* of the app */
	uint64_t tx_records, rx_records, record_retransmits, bad_records, replayed_records;
	uint64_t dropped; /* datagrams without room, reassemblies given up */
	uint32_t srtt_us;
	size_t send_buffered, receive_buffered;
	uint64_t cwnd_bytes, inflight_bytes;
	enum seal_cipher cipher; /* 0 before the handshake */
};
void connection_get_stats(const struct connection *c, struct connection_stats *out);
enum connection_state connection_get_state(const struct connection *c);
uint64_t connection_get_id(const struct connection *c);
uint8_t connection_get_class(const struct connection *c);
void connection_set_user(struct connection *c, void *user);
void *connection_get_user(const struct connection *c);
#endif
