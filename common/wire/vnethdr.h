/*
 * The header in front of an IP packet in a record of a tunnel that carries super-packets: the
 * virtio 1.0 network header of 10 bytes, little-endian, as a TUN interface with IFF_VNET_HDR gives
 * and takes it.  It says which checksum is still to be computed and into which segments the packet
 * is to be cut, so that up to 64 KB cross the mesh as one record and meet the kernel's offloads at
 * both ends (PROTOCOL.md section 5).
 *
 * What arrives from a peer is hostile: the kernel must not see a header that vnethdr_check refused.
 */
#ifndef WIRE_VNETHDR_H
#define WIRE_VNETHDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

#define VNETHDR_BYTES 10u
/* Fewer bytes a segment would make a small record into thousands of packets (Linux'
 * TCP_MIN_SND_MSS); UDP segments may be shorter, but not many. */
#define VNETHDR_TCP_SEGMENT_MIN 48u
#define VNETHDR_UDP_SEGMENTS_MAX 128u

enum vnethdr_flags { VNETHDR_NEEDS_CSUM = 1, VNETHDR_DATA_VALID = 2 };
enum vnethdr_gso {
	VNETHDR_GSO_NONE = 0,
	VNETHDR_GSO_TCP4 = 1,
	VNETHDR_GSO_TCP6 = 4,
	VNETHDR_GSO_UDP = 5, /* of either family: each segment a datagram of its own */
	VNETHDR_GSO_ECN = 0x80,
};

struct vnethdr {
	uint8_t flags;	  /* enum vnethdr_flags */
	uint8_t gso_type; /* enum vnethdr_gso */
	uint16_t hdr_len; /* with GSO: of all headers of the packet; else 0 */
	uint16_t gso_size;
	uint16_t csum_start, csum_offset; /* from the packet's first byte, from csum_start */
};

struct vnethdr vnethdr_read(const uint8_t in[VNETHDR_BYTES]);
void vnethdr_write(uint8_t out[VNETHDR_BYTES], const struct vnethdr *h);
/* No segments to cut and no checksum to compute: the packet may travel without its header. */
bool vnethdr_is_plain(const struct vnethdr *h);

/*
 * The kernel's own header, which leaves hints and unused fields to chance, in the one form that
 * vnethdr_check accepts; in place, `record` is header and packet.  0, or -EINVAL when it has none.
 */
int vnethdr_normalise(uint8_t *record, size_t len);
/*
 * A record of a peer: is it one whole IP packet, does the header agree with it in every field, and
 * does nothing that it orders reach outside the transport part?  0 with the packet's ends, or
 * -EINVAL.
 */
int vnethdr_check(const uint8_t *record, size_t len, struct net_addr *src, struct net_addr *dst);
#endif
