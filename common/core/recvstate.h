/* What has arrived on a transport, and the ack that says so. */
#ifndef CORE_RECVSTATE_H
#define CORE_RECVSTATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/ranges.h"
#include "wire/packet.h"

#define RECV_WINDOW_PACKETS 16384u /* a sender never runs further ahead of the cumulative ack */
#define RECV_RANGES_MAX 1024u

struct recvstate {
	uint64_t cumulative; /* everything below has arrived */
	struct ranges above; /* what has arrived beyond */
	uint64_t largest;    /* highest sequence + 1; 0 before the first */
	uint64_t latest, latest_us;
	uint8_t latest_tries;
	uint32_t pending; /* arrivals since the last ack was built */
	bool urgent;	  /* a new gap or a duplicate: the sender should hear at once */
	size_t turn;	  /* which of the middle ranges the next ack names */
};

enum recv_result { RECV_NEW, RECV_DUPLICATE, RECV_OUT_OF_WINDOW, RECV_APART };

void recvstate_init(struct recvstate *s);
void recvstate_free(struct recvstate *s);
enum recv_result recvstate_add(struct recvstate *s, const struct hop_header *h, uint64_t now);
/*
 * `count` packets in a row of which `h` is the first: RECV_NEW when all are.  RECV_APART when they
 * may not all have the same answer: nothing is noted, and they are to be added one by one.
 */
enum recv_result recvstate_add_run(struct recvstate *s, const struct hop_header *h, size_t count,
				   uint64_t now);
/* Fills the ack and starts counting `pending` anew. */
void recvstate_ack(struct recvstate *s, struct ack *a, uint64_t now);
#endif
