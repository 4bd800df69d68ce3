/*
 * UDP packets between two nodes: the hop header and the fragment header, drawn bit by bit in
 * common/PROTOCOL.md section 3.  Encoding and decoding only; keys and meaning live in core/.
 */
#ifndef WIRE_PACKET_H
#define WIRE_PACKET_H

#include "base/buf.h"
#include "base/limits.h"

enum packet_type {
	PACKET_HANDSHAKE_INIT = 1,
	PACKET_HANDSHAKE_RESPONSE = 2,
	PACKET_DATA = 3, /* sequenced, acknowledged, retransmitted; carries one fragment */
	PACKET_ACK = 4,
	PACKET_PROBE = 5, /* liveness, key confirmation, padded MTU probe, path check */
	PACKET_PROBE_REPLY = 6,
	PACKET_CLOSE = 7,
	PACKET_ROUTE_ERROR = 8, /* sequenced like data: the label of this packet is unknown here */
	PACKET_HANDSHAKE_WANTED = 9, /* the responder has begun anew; under the outer key */
};

enum packet_flags {
	PACKET_FLAG_MARKED = 1,	   /* some queue on the way was above its target delay */
	PACKET_FLAG_DROPPABLE = 2, /* datagram class: a full queue may drop it */
	PACKET_FLAG_SPARSE = 4,	   /* of a flow that sends little: has a queue of its own */
	PACKET_FLAGS_KEPT = 7,	   /* by a relay */
};

/*
 * Every packet begins with this.  `mac` is keyed SipHash-2-4: over the first 16 bytes and the
 * fragment header for DATA, whose body the ends authenticate; over the first 16 bytes and all that
 * follows the mac for every other type.  In a handshake `label` is the transport's id and `seq` the
 * attempt.
 */
struct hop_header {
	uint8_t type, flags;
	uint8_t epoch; /* which keys: counts handshakes of this transport, modulo 256 */
	uint8_t tries; /* how many times this sequence was sent before, saturating */
	uint32_t label;
	uint64_t seq;
	uint64_t mac;
};

/* What a record is; the first byte of its number on the wire. */
enum record_kind {
	RECORD_HANDSHAKE = 0,
	RECORD_DATA = 1,     /* sealed; its first byte says what it is */
	RECORD_DATAGRAM = 2, /* sealed; one message of class datagram, nothing else in it */
};

#define RECORD_TIME_US 32u
#define RECORD_NUMBERS (UINT64_C(1) << 40)

/* End to end: which part of which record this is. */
struct fragment_header {
	uint8_t kind;	 /* enum record_kind */
	uint16_t time;	 /* when it was sealed, by the sender's clock: RECORD_TIME_US, any origin */
	uint64_t record; /* below RECORD_NUMBERS: its number within the connection's direction */
	uint16_t offset; /* of this fragment's first byte within the record's ciphertext */
	uint16_t total;	 /* bytes of the whole record's ciphertext */
};

void hop_header_write(uint8_t out[HOP_HEADER_BYTES], const struct hop_header *h);
/* 0 or -EBADMSG (short, or a type that has no hop header). */
int hop_header_read(struct hop_header *h, struct bytes packet);
void fragment_header_write(uint8_t out[FRAGMENT_HEADER_BYTES], const struct fragment_header *f);
/* Checks that offset and total agree with `body_len` bytes of fragment.  0 or -EBADMSG. */
int fragment_header_read(struct fragment_header *f, const uint8_t in[FRAGMENT_HEADER_BYTES],
			 size_t body_len);

/* The ack packet's fields after the hop header. */
#define ACK_RANGES_MAX 128
struct ack {
	uint64_t cumulative;  /* every sequence below this has arrived */
	uint64_t largest;     /* the highest sequence seen */
	uint64_t latest;      /* sequence of the packet that arrived last: for the round trip */
	uint8_t latest_tries; /* its `tries`, so that a retransmission gives no false round trip */
	uint32_t delay_us;    /* since `latest` arrived */
	uint8_t range_count;  /* arrived ranges above cumulative, ascending; not all of them when
				 there  are more than fit */
	struct {
		uint64_t start, end;
	} ranges[ACK_RANGES_MAX];
};
#define ACK_RANGE_MAX_BYTES 6 /* two numbers of at most 21 bits, 7 bits a byte */
#define ACK_MAX_BYTES (8 + 4 + 4 + 1 + 4 + 1 + ACK_RANGES_MAX * ACK_RANGE_MAX_BYTES)
void ack_write(struct wbuf *w, const struct ack *a);
/* 0 or -EBADMSG: ranges must ascend, not touch, and lie within (cumulative, largest]. */
int ack_read(struct ack *a, struct bytes body);
#endif
