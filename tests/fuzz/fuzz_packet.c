/* Any bytes as a packet: what decodes encodes to the same bytes again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"
#include "wire/packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static void try_hop_header(struct bytes in)
{
	struct hop_header h;
	uint8_t out[HOP_HEADER_BYTES];

	if (hop_header_read(&h, in) != 0)
		return;
	hop_header_write(out, &h);
	require(memcmp(out, in.data, sizeof out) == 0);
}

static void try_fragment_header(struct bytes in)
{
	struct fragment_header f;
	uint8_t out[FRAGMENT_HEADER_BYTES];

	if (in.len < FRAGMENT_HEADER_BYTES ||
	    fragment_header_read(&f, in.data, in.len - FRAGMENT_HEADER_BYTES) != 0)
		return;
	require(f.offset + (in.len - FRAGMENT_HEADER_BYTES) <= f.total);
	require(f.kind <= RECORD_DATAGRAM);
	fragment_header_write(out, &f);
	require(memcmp(out, in.data, sizeof out) == 0);
}

static void try_ack(struct bytes in)
{
	struct ack a;
	uint8_t out[ACK_MAX_BYTES];
	struct wbuf w = wbuf_init(out, sizeof out);
	uint64_t above = 0;

	if (ack_read(&a, in) != 0)
		return;
	require(a.latest <= a.largest && a.largest + 1 >= a.cumulative);
	for (unsigned i = 0; i < a.range_count; i++) {
		require(a.ranges[i].start > (i ? above : a.cumulative));
		require(a.ranges[i].start < a.ranges[i].end);
		above = a.ranges[i].end;
	}
	require(above <= a.largest + 1);
	ack_write(&w, &a);
	require(!w.bad && wbuf_len(&w) == in.len && memcmp(out, in.data, in.len) == 0);
}

static void try_frame(struct bytes in)
{
	struct bytes body = {NULL, 0};
	size_t need = 0;
	long used = frame_parse(in, 1000, &body, &need);

	if (used > 0) {
		require((size_t)used == need && need <= in.len && body.len <= 1000);
		require(body.data + body.len == in.data + used);
	} else if (used == 0) {
		require(need > in.len && need <= FRAME_HEADER_BYTES + 1000);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = {data, size};

	try_hop_header(in);
	try_fragment_header(in);
	try_ack(in);
	try_frame(in);
	return 0;
}
