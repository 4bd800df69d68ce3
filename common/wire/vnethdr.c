#include "wire/vnethdr.h"

#include <errno.h>

#include "base/ippacket.h"

#define IP_TCP 6u
#define IP_UDP 17u
#define IP6_HOP_BY_HOP 0u
#define IP6_ROUTING 43u
#define IP6_DESTINATION 60u
#define IP6_EXTENSIONS_MAX 8u
#define IP4_FRAGMENT_BITS 0x3fffu /* more fragments, and the offset */
#define TCP_HEADER_MIN 20u
#define TCP_CSUM_OFFSET 16u
#define UDP_HEADER_BYTES 8u
#define UDP_CSUM_OFFSET 6u

static uint16_t le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

struct vnethdr vnethdr_read(const uint8_t in[VNETHDR_BYTES])
{
	return (struct vnethdr){
		.flags = in[0],
		.gso_type = in[1],
		.hdr_len = le16(in + 2),
		.gso_size = le16(in + 4),
		.csum_start = le16(in + 6),
		.csum_offset = le16(in + 8),
	};
}

void vnethdr_write(uint8_t out[VNETHDR_BYTES], const struct vnethdr *h)
{
	out[0] = h->flags;
	out[1] = h->gso_type;
	put16(out + 2, h->hdr_len);
	put16(out + 4, h->gso_size);
	put16(out + 6, h->csum_start);
	put16(out + 8, h->csum_offset);
}

bool vnethdr_is_plain(const struct vnethdr *h)
{
	return !(h->flags & VNETHDR_NEEDS_CSUM) && h->gso_type == VNETHDR_GSO_NONE;
}

/* --- what the packet itself says ------------------------------------------------------------ */

/* A packet that ippacket_ends has found whole. */
struct layout {
	uint8_t family, protocol; /* protocol 0: a fragment, or headers we do not walk */
	size_t ip_bytes;	  /* least offset that is not the fixed IP header */
	size_t transport;	  /* offset of the transport header */
};

static void layout6(struct layout *l, const uint8_t *p, size_t len)
{
	uint8_t next = p[6];
	size_t at = l->ip_bytes;

	for (unsigned n = 0;
	     next == IP6_HOP_BY_HOP || next == IP6_ROUTING || next == IP6_DESTINATION; n++) {
		if (n == IP6_EXTENSIONS_MAX || len - at < 8)
			return;
		next = p[at];
		at += 8u * (p[at + 1] + 1u);
		if (at > len)
			return;
	}
	l->protocol = next;
	l->transport = at;
}

static struct layout layout_of(const uint8_t *p, size_t len)
{
	struct layout l = {.family = p[0] >> 4};

	l.ip_bytes = l.family == 4 ? (p[0] & 15u) * 4u : 40;
	if (l.family == 6) {
		layout6(&l, p, len);
	} else if ((be16(p + 6) & IP4_FRAGMENT_BITS) == 0) {
		l.protocol = p[9];
		l.transport = l.ip_bytes;
	}
	return l;
}

/* Bytes of all headers of a packet that may be cut into segments of that type; 0: it may not. */
static size_t tcp_headers(const struct layout *l, const uint8_t *p, size_t len)
{
	if (l->protocol != IP_TCP || len - l->transport < TCP_HEADER_MIN)
		return 0;
	size_t bytes = (size_t)(p[l->transport + 12] >> 4) * 4;
	return bytes < TCP_HEADER_MIN || bytes > len - l->transport ? 0 : l->transport + bytes;
}

static size_t udp_headers(const struct layout *l, const uint8_t *p, size_t len)
{
	if (l->protocol != IP_UDP || len - l->transport < UDP_HEADER_BYTES ||
	    be16(p + l->transport + 4) != len - l->transport)
		return 0;
	return l->transport + UDP_HEADER_BYTES;
}

/* --- the header ----------------------------------------------------------------------------- */

static bool segments_ok(const struct vnethdr *h, uint8_t type, size_t payload)
{
	if (!payload || !h->gso_size)
		return false;
	if (type == VNETHDR_GSO_UDP)
		return payload <= (size_t)h->gso_size * VNETHDR_UDP_SEGMENTS_MAX;
	return h->gso_size >= VNETHDR_TCP_SEGMENT_MIN;
}

/* The segments' headers are copies of this one: it must be where the kernel will look for it, and
 * its checksum the one to compute.  0: no; else the bytes of all headers. */
static size_t gso_headers(const struct vnethdr *h, const struct layout *l, const uint8_t *p,
			  size_t len)
{
	uint8_t type = h->gso_type & (uint8_t)~VNETHDR_GSO_ECN;
	size_t headers = 0;

	if (type == VNETHDR_GSO_UDP && h->gso_type == type)
		headers = udp_headers(l, p, len);
	else if ((type == VNETHDR_GSO_TCP4 && l->family == 4) ||
		 (type == VNETHDR_GSO_TCP6 && l->family == 6))
		headers = tcp_headers(l, p, len);
	if (!headers || h->flags != VNETHDR_NEEDS_CSUM || h->csum_start != l->transport ||
	    h->csum_offset != (type == VNETHDR_GSO_UDP ? UDP_CSUM_OFFSET : TCP_CSUM_OFFSET) ||
	    !segments_ok(h, type, len - headers))
		return 0;
	return headers;
}

/* The sum goes into two bytes behind the IP header, whose addresses others have checked. */
static bool csum_ok(const struct vnethdr *h, const struct layout *l, size_t len)
{
	return h->csum_start >= l->ip_bytes && (size_t)h->csum_start + h->csum_offset + 2 <= len;
}

/* Fills in what the packet decides.  False: the header cannot be of this packet. */
static bool settle(struct vnethdr *h, const uint8_t *packet, size_t len)
{
	struct layout l = layout_of(packet, len);

	if (h->gso_type != VNETHDR_GSO_NONE) {
		h->hdr_len = (uint16_t)gso_headers(h, &l, packet, len);
		return h->hdr_len != 0;
	}
	h->hdr_len = h->gso_size = 0;
	if (h->flags & VNETHDR_NEEDS_CSUM)
		return h->flags == VNETHDR_NEEDS_CSUM && csum_ok(h, &l, len);
	h->csum_start = h->csum_offset = 0;
	return (h->flags & ~VNETHDR_DATA_VALID) == 0;
}

int vnethdr_normalise(uint8_t *record, size_t len)
{
	struct net_addr src, dst;
	struct vnethdr h;

	if (len <= VNETHDR_BYTES ||
	    ippacket_ends(record + VNETHDR_BYTES, len - VNETHDR_BYTES, &src, &dst))
		return -EINVAL;
	h = vnethdr_read(record);
	h.flags &= VNETHDR_NEEDS_CSUM | VNETHDR_DATA_VALID;
	if (!settle(&h, record + VNETHDR_BYTES, len - VNETHDR_BYTES))
		return -EINVAL;
	vnethdr_write(record, &h);
	return 0;
}

int vnethdr_check(const uint8_t *record, size_t len, struct net_addr *src, struct net_addr *dst)
{
	struct vnethdr told, right;

	if (len <= VNETHDR_BYTES ||
	    ippacket_ends(record + VNETHDR_BYTES, len - VNETHDR_BYTES, src, dst))
		return -EINVAL;
	told = right = vnethdr_read(record);
	if (!settle(&right, record + VNETHDR_BYTES, len - VNETHDR_BYTES) ||
	    told.hdr_len != right.hdr_len || told.gso_size != right.gso_size ||
	    told.csum_start != right.csum_start || told.csum_offset != right.csum_offset)
		return -EINVAL;
	return 0;
}
