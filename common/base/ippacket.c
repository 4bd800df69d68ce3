#include "base/ippacket.h"

#include <errno.h>
#include <string.h>

#define IP4_HEADER_BYTES 20
#define IP6_HEADER_BYTES 40
#define TCP_HEADER_BYTES 20
#define TCP_FIN 1u
#define PROTOCOL_TCP 6

static size_t be16(const uint8_t *p)
{
	return (size_t)p[0] << 8 | p[1];
}

static void take(struct net_addr *a, uint8_t family, const uint8_t *p)
{
	*a = (struct net_addr){.family = family};
	memcpy(a->ip, p, family == 4 ? 4 : 16);
}

int ippacket_ends(const uint8_t *p, size_t len, struct net_addr *src, struct net_addr *dst)
{
	if (len >= IP4_HEADER_BYTES && p[0] >> 4 == 4) {
		size_t header = (p[0] & 15u) * 4;
		if (header < IP4_HEADER_BYTES || header > len || be16(p + 2) != len)
			return -EINVAL;
		take(src, 4, p + 12);
		take(dst, 4, p + 16);
		return 0;
	}
	if (len >= IP6_HEADER_BYTES && p[0] >> 4 == 6) {
		if (be16(p + 4) + IP6_HEADER_BYTES != len)
			return -EINVAL;
		take(src, 6, p + 8);
		take(dst, 6, p + 24);
		return 0;
	}
	return -EINVAL;
}

/* Where the header of the layer above begins, if that is TCP; else 0. */
static size_t tcp_header(const uint8_t *p, size_t len)
{
	if (len >= IP4_HEADER_BYTES && p[0] >> 4 == 4)
		return p[9] == PROTOCOL_TCP ? (p[0] & 15u) * 4 : 0;
	if (len >= IP6_HEADER_BYTES && p[0] >> 4 == 6)
		return p[6] == PROTOCOL_TCP ? IP6_HEADER_BYTES : 0;
	return 0;
}

bool ippacket_has_tcp_data(const uint8_t *packet, size_t len)
{
	size_t at = tcp_header(packet, len);

	if (!at || len < at + TCP_HEADER_BYTES)
		return false;
	const uint8_t *tcp = packet + at;
	return len > at + (size_t)(tcp[12] >> 4) * 4 || (tcp[13] & TCP_FIN);
}
