/*
 * Records: the unit that is sealed once, end to end, and travels as one or more packets
 * (PROTOCOL.md section 4).  Here: cutting a sealed record into packets, and putting fragments
 * together again.
 */
#ifndef CORE_RECORD_H
#define CORE_RECORD_H

#include "core/pkt.h"
#include "wire/packet.h"

#define RECORD_PLAIN_MAX (RECORD_MAX_BYTES - AEAD_TAG_BYTES)
#define RECORD_PACKETS_MAX 80 /* of the largest record at the smallest MTU */
#define RECORD_RUNS_MAX 3     /* of these packets: each is more than half of what a run may be */
#define REASSEMBLY_SLOTS 128u /* records that may be incomplete at a time */
#define REASSEMBLY_STALE_US                                                                        \
	1000000u		      /* an incomplete record may hold its slot this long against  \
					 an older one: a relay could forge numbers */
#define REASSEMBLY_FRAGMENTS_MAX 128u /* gaps within one record */

_Static_assert(RECORD_MAX_BYTES / (PACKET_MIN_MTU_BYTES - IP_UDP_OVERHEAD_BYTES - HOP_HEADER_BYTES -
				   FRAGMENT_HEADER_BYTES) +
			       1 <=
		       RECORD_PACKETS_MAX,
	       "the largest record has so many packets at the smallest MTU");
_Static_assert(RECORD_PACKETS_MAX <= PKT_RUN_PACKETS * RECORD_RUNS_MAX &&
		       RECORD_MAX_BYTES + RECORD_RUNS_MAX *
						  (HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES) <=
			       PKT_RUN_BYTES / 2 * RECORD_RUNS_MAX,
	       "and so many runs");

/* Of the AEAD: the first 8 bytes of the fragment header.  So a record that a relay has given
 * another kind, time or number does not open. */
static inline uint64_t record_nonce(const struct fragment_header *f)
{
	return (uint64_t)f->kind << 56 | (uint64_t)f->time << 40 | f->record;
}

static inline uint16_t record_time(uint64_t now)
{
	return (uint16_t)(now / RECORD_TIME_US);
}

/*
 * Lays `cipher` out as packets of at most `packet_bytes`, adjacent in one block, headers' fragment
 * part filled in (kind, time and number from `id`), type DATA, with `label` and `flags`.  Returns
 * how many runs of packets are in v (RECORD_RUNS_MAX at most), 0 when out of memory.
 */
size_t record_cut(struct pkt_pool *pool, const struct fragment_header *id, struct bytes cipher,
		  size_t packet_bytes, uint32_t label, uint8_t flags,
		  struct pkt *v[RECORD_RUNS_MAX]);

struct partial;
struct reassembly {
	struct partial *slots[REASSEMBLY_SLOTS]; /* by record number modulo the count */
	uint64_t given_up; /* records pushed out incomplete by newer ones, or inconsistent */
};
void reassembly_init(struct reassembly *r);
void reassembly_free(struct reassembly *r);
/* Adds one fragment.  When it completes its record: 1, and *out (ownership moves) holds `total`
 * bytes.  0 when more is needed; -EBADMSG when it contradicts what came before; -ENOMEM. */
int reassembly_add(struct reassembly *r, const struct fragment_header *f, const uint8_t *body,
		   size_t len, uint64_t now, struct block **out);
#endif
