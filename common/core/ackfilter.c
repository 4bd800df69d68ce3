#include "core/ackfilter.h"

#include <string.h>

#include "base/buf.h"

#define IP4_HEADER_BYTES 20u
#define IP6_HEADER_BYTES 40u
#define TCP_HEADER_BYTES 20u
#define TCP_STAMPED_BYTES 32u
#define PROTOCOL_TCP 6
#define FLAGS_ACK 0x10

/* Of a TCP header. */
#define AT_SEQ 4u
#define AT_ACK 8u
#define AT_LENGTH 12u
#define AT_FLAGS 13u
#define AT_STAMP 24u

_Static_assert(ACKFILTER_BYTES == IP6_HEADER_BYTES + TCP_STAMPED_BYTES, "the longest that is held");

/* Where the TCP header of a whole packet begins; 0: there is none that is looked at here. */
static size_t find_tcp(const uint8_t *p, size_t len)
{
	if (len >= IP4_HEADER_BYTES + TCP_HEADER_BYTES && p[0] == 0x45) {
		bool whole = !(p[6] & 0x3f) && !p[7] && (size_t)(p[2] << 8 | p[3]) == len;
		return whole && p[9] == PROTOCOL_TCP ? IP4_HEADER_BYTES : 0;
	}
	if (len >= IP6_HEADER_BYTES + TCP_HEADER_BYTES && p[0] >> 4 == 6) {
		bool whole = (size_t)(p[4] << 8 | p[5]) + IP6_HEADER_BYTES == len;
		return whole && p[6] == PROTOCOL_TCP ? IP6_HEADER_BYTES : 0;
	}
	return 0;
}

/* Nothing but an acknowledgement, with timestamps as all the world lays them out (RFC 7323 appendix
 * A) or without. */
static bool is_pure(const uint8_t *tcp, size_t len)
{
	static const uint8_t stamps[] = {1, 1, 8, 10};

	if (tcp[AT_FLAGS] != FLAGS_ACK || len != (size_t)(tcp[AT_LENGTH] >> 4) * 4 ||
	    (tcp[AT_LENGTH] & 0x0f))
		return false;
	return len == TCP_HEADER_BYTES ||
	       (len == TCP_STAMPED_BYTES &&
		memcmp(tcp + TCP_HEADER_BYTES, stamps, sizeof stamps) == 0);
}

/* Between the same ends, which for IPv6 have the same flow label as well. */
static bool same_flow(const uint8_t *a, const uint8_t *b, size_t tcp)
{
	size_t addrs = tcp == IP4_HEADER_BYTES ? 12 : 8;

	return a[0] == b[0] && memcmp(a + addrs, b + addrs, tcp - addrs + AT_SEQ) == 0;
}

static int32_t since(const uint8_t *later, const uint8_t *earlier)
{
	return (int32_t)(be32_get(later) - be32_get(earlier));
}

/* Whether `b` says all that `a`, an earlier one of the same flow, says. */
static bool covers(const uint8_t *b, const uint8_t *a, size_t at)
{
	const uint8_t *tb = b + at, *ta = a + at;

	if (at == IP4_HEADER_BYTES ? a[1] != b[1] : memcmp(a, b, 4) != 0)
		return false; /* another class, or a sign of congestion */
	return tb[AT_LENGTH] == ta[AT_LENGTH] && since(tb + AT_SEQ, ta + AT_SEQ) == 0 &&
	       since(tb + AT_ACK, ta + AT_ACK) > 0 &&
	       (tb[AT_LENGTH] >> 4 == TCP_HEADER_BYTES / 4 ||
		since(tb + AT_STAMP, ta + AT_STAMP) >= 0);
}

bool ackfilter_hold(struct ackfilter *f, const uint8_t *record, size_t len, size_t header)
{
	size_t at, i;

	if (len <= header || header > ACKFILTER_HEADER_BYTES || len - header > ACKFILTER_BYTES)
		return false;
	const uint8_t *p = record + header;
	at = find_tcp(p, len - header);
	if (!at || !is_pure(p + at, len - header - at))
		return false;
	for (i = 0; i < f->count; i++)
		if (f->held[i].len == len && same_flow(f->held[i].record + header, p, at))
			break;
	if (i == ACKFILTER_FLOWS)
		return false;
	if (i < f->count && !covers(p, f->held[i].record + header, at))
		return false;
	if (i == f->count)
		f->count++;
	memcpy(f->held[i].record, record, len);
	f->held[i].len = len;
	return true;
}
