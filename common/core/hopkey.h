/*
 * Authentication of packets between the two nodes of a transport: keyed SipHash-2-4 (PROTOCOL.md
 * section 3.2).  The keys come from the transport's handshake, one for each direction.
 */
#ifndef CORE_HOPKEY_H
#define CORE_HOPKEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/packet.h"

#define HOPKEY_BYTES 16

struct hopkey {
	uint8_t k[HOPKEY_BYTES];
};

/* Derives from a 32-byte secret; `purpose` (at most 8 characters) keeps uses apart. */
void hopkey_derive(struct hopkey *key, const uint8_t secret[32], const char *purpose);
/* Writes the header with its mac into packet[0..]; the rest of the packet is in place. */
void hopkey_seal(const struct hopkey *key, uint8_t *packet, size_t len, struct hop_header *h);
/* True when the mac of `h`, read from this packet, is right. */
bool hopkey_verify(const struct hopkey *key, const uint8_t *packet, size_t len,
		   const struct hop_header *h);

/*
 * The same for `count` DATA packets of `each` bytes in a row (the last may be shorter, but for its
 * headers), of which `h` is the header of the first: two macs at a time.
 */
void hopkey_seal_run(const struct hopkey *key, uint8_t *packets, size_t each, size_t count,
		     const struct hop_header *h);
/* How many at the front are authentic and belong together: they differ in sequence, by one each,
 * and in the mac only, and are fragments of one record. */
size_t hopkey_verify_run(const struct hopkey *key, const uint8_t *packets, size_t each,
			 size_t count, const struct hop_header *h);
#endif
