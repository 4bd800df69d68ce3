/*
 * Every size, window and timeout that is fixed in the code.  What an operator may change is in
 * common/io/config_keys.def; what is here is part of the protocol or protects us from a peer.
 */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#define MESH_ID_BYTES 32     /* an X25519 public key */
#define MESH_SECRET_BYTES 32 /* the pair secret of a transport (Noise psk) */
#define PROTOCOL_VERSION 1

/* Control and app channels (PROTOCOL.md section 1). */
#define FRAME_HEADER_BYTES 8
#define FRAME_MAX_BYTES ((16u << 20) + 1024u) /* one message of MAX_MESSAGE with its fields */
#define FRAME_CONTROL_MAX_BYTES 65536u	      /* between daemons: no bulk data there */
#define FRAME_HANDSHAKE_MAX_BYTES 512u	      /* before the peer is authenticated */
#define MAX_MESSAGE_BYTES (16u << 20)
#define PART_MAX_BYTES 65536u /* of a message that an app and its node pass on as it arrives */
#define CHANNEL_HANDSHAKE_TIMEOUT_US 10000000u
#define CHANNEL_OUTPUT_MAX_BYTES (64u << 20) /* a peer that does not read is cut off */

/* Names in messages. */
#define NAME_MAX_BYTES 63
#define TEXT_MAX_BYTES 255
#define APP_INFO_MAX_BYTES 512
#define TOKEN_MAX_BYTES 128
#define ADDRS_MAX 16
#define APPS_PER_RESPONSE_MAX 64
#define STATS_PER_MESSAGE_MAX 64
#define REPORT_ITEMS_MAX 16 /* of each kind in one page of a node's report */
#define REPORT_RULES_MAX 128
#define STANDBY_ROUTES_MAX 3 /* of one connection */

/* UDP packets (PROTOCOL.md section 3). */
#define HOP_HEADER_BYTES 24
#define FRAGMENT_HEADER_BYTES 12
#define AEAD_TAG_BYTES 16
#define IP_UDP_OVERHEAD_BYTES 48 /* IPv6 + UDP, the larger of the two */
#define PACKET_MAX_BYTES 9000
#define PACKET_MIN_MTU_BYTES 1124 /* smallest link MTU the overlay promises to work on */
#define RECORD_MAX_BYTES 65535	  /* ciphertext of one record, tag included */

_Static_assert(HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES + AEAD_TAG_BYTES + 28 <= 80,
	       "a 1,500-byte IPv4 packet carries at most 80 bytes of overhead");
#endif
