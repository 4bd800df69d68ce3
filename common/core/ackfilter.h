/*
 * Acknowledgements of TCP that the host sends in a burst: where one follows another of the same
 * connection before either has left, and says all that the first one said, the first is not sent
 * ("ACK filtering", RFC 3449 section 5.2.1).  A receiver behind a tunnel answers each super-packet
 * at once, and some come per wake-up; each answer spared is a record less to seal, to carry and to
 * open, and a segment less for the sender's TCP.
 *
 * Only what carries nothing else is held: no data, no flag but ACK (so no sign of congestion, RFC
 * 3168), no option but timestamps.  A number that is acknowledged twice is a sign of loss (RFC
 * 5681) and is never taken for the same.  Order is kept.  Pure.
 */
#ifndef CORE_ACKFILTER_H
#define CORE_ACKFILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ACKFILTER_FLOWS 16u
#define ACKFILTER_BYTES 72u	   /* IPv6, TCP with timestamps */
#define ACKFILTER_HEADER_BYTES 10u /* of a tunnel, before the packet */

struct ackfilter {
	size_t count;
	struct {
		size_t len;
		uint8_t record[ACKFILTER_HEADER_BYTES + ACKFILTER_BYTES];
	} held[ACKFILTER_FLOWS]; /* the oldest first */
};

/*
 * `record` is an IP packet behind `header` bytes (ACKFILTER_HEADER_BYTES at most) that are taken
 * along.  True: it is copied, and to be sent with what is held; an earlier one may be gone for it.
 * False: what is held must be sent, and then `record`.
 */
bool ackfilter_hold(struct ackfilter *f, const uint8_t *record, size_t len, size_t header);
#endif
