/*
 * Which flows send little: those whose packets (a ping, a name, a key stroke, a voice) should not
 * wait behind a bulk flow's, and do not make anybody else wait either.
 *
 * A flow is the addresses, protocol and ports of an IP packet.  Each has a decaying count of bytes
 * in two slots of a small fixed table, by two hashes: it sends much when both say so, so one bulk
 * flow in the same slot is no harm.  The hashes are seeded; memory is constant, whoever sends what.
 */
#ifndef CORE_FLOWMETER_H
#define CORE_FLOWMETER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLOWMETER_SLOTS 256u	      /* of each hash */
#define FLOWMETER_HALF_LIFE_US 65536u /* counts halve in this time */
#define FLOWMETER_BULK_BYTES 8192u    /* more is much: about 500 kbit/s for a while */
#define FLOWMETER_CALM_BYTES 2048u    /* less is little again: its queued packets have left */
#define FLOWMETER_PACKET_BYTES 3000u  /* a longer packet is not for the short queue */

#define FLOWMETER_KEY_BYTES 16u

struct flowmeter_slot {
	uint32_t tick; /* in half-lives: when `bytes` was true */
	uint32_t bytes : 31;
	uint32_t bulk : 1;
};

struct flowmeter {
	uint8_t key[FLOWMETER_KEY_BYTES];
	struct flowmeter_slot slots[2][FLOWMETER_SLOTS];
};

/* `key`: random. */
void flowmeter_init(struct flowmeter *m, const uint8_t key[FLOWMETER_KEY_BYTES]);
/* Counts a packet, a whole IPv4 or IPv6 packet (ippacket_ends).  True: its flow sends little. */
bool flowmeter_sparse(struct flowmeter *m, const uint8_t *packet, size_t len, uint64_t now);
#endif
