#include "wire/packet.h"

#include <errno.h>

void hop_header_write(uint8_t out[HOP_HEADER_BYTES], const struct hop_header *h)
{
	out[0] = h->type;
	out[1] = h->flags;
	out[2] = h->epoch;
	out[3] = h->tries;
	be32_put(out + 4, h->label);
	be64_put(out + 8, h->seq);
	be64_put(out + 16, h->mac);
}

int hop_header_read(struct hop_header *h, struct bytes packet)
{
	if (packet.len < HOP_HEADER_BYTES)
		return -EBADMSG;
	const uint8_t *p = packet.data;
	if (p[0] < PACKET_HANDSHAKE_INIT || p[0] > PACKET_CONGESTION)
		return -EBADMSG;
	h->type = p[0];
	h->flags = p[1];
	h->epoch = p[2];
	h->tries = p[3];
	h->label = be32_get(p + 4);
	h->seq = be64_get(p + 8);
	h->mac = be64_get(p + 16);
	return 0;
}

void fragment_header_write(uint8_t out[FRAGMENT_HEADER_BYTES], const struct fragment_header *f)
{
	be64_put(out, f->record);
	out[0] = f->kind;
	be32_put(out + 8, (uint32_t)f->offset << 16 | f->total);
}

int fragment_header_read(struct fragment_header *f, const uint8_t in[FRAGMENT_HEADER_BYTES],
			 size_t body_len)
{
	f->kind = in[0];
	f->record = be64_get(in) & 0x00ffffffffffffffu;
	uint32_t v = be32_get(in + 8);
	f->offset = (uint16_t)(v >> 16);
	f->total = (uint16_t)v;
	if (f->kind > RECORD_DATA || body_len == 0 || f->offset + body_len > f->total)
		return -EBADMSG;
	return 0;
}

/*
 * `largest` and the ranges travel as 32-bit distances from `cumulative`: the receive window is far
 * below 2^32 packets.
 */
void ack_write(struct wbuf *w, const struct ack *a)
{
	wbuf_u64(w, a->cumulative);
	wbuf_u32(w, (uint32_t)(a->largest - a->cumulative + 1));
	wbuf_u32(w, (uint32_t)(a->largest - a->latest));
	wbuf_u8(w, a->latest_tries);
	wbuf_u32(w, a->delay_us);
	wbuf_u32(w, a->marked);
	wbuf_u8(w, a->range_count);
	for (unsigned i = 0; i < a->range_count; i++) {
		wbuf_u32(w, (uint32_t)(a->ranges[i].start - a->cumulative));
		wbuf_u32(w, (uint32_t)(a->ranges[i].end - a->cumulative));
	}
}

int ack_read(struct ack *a, struct bytes body)
{
	struct rbuf r = rbuf_init(body.data, body.len);

	a->cumulative = rbuf_u64(&r);
	uint32_t ahead = rbuf_u32(&r), behind = rbuf_u32(&r);
	a->latest_tries = rbuf_u8(&r);
	a->delay_us = rbuf_u32(&r);
	a->marked = rbuf_u32(&r);
	a->range_count = rbuf_u8(&r);
	a->largest = a->cumulative + ahead - 1;
	a->latest = a->largest - behind;
	if (r.bad || a->range_count > ACK_RANGES_MAX || a->cumulative > UINT64_MAX / 2 ||
	    a->cumulative + ahead == 0 || behind > a->largest)
		return -EBADMSG;
	uint64_t floor = a->cumulative;
	for (unsigned i = 0; i < a->range_count; i++) {
		a->ranges[i].start = a->cumulative + rbuf_u32(&r);
		a->ranges[i].end = a->cumulative + rbuf_u32(&r);
		if (r.bad || a->ranges[i].start <= floor ||
		    a->ranges[i].end <= a->ranges[i].start ||
		    a->ranges[i].end > a->cumulative + ahead)
			return -EBADMSG;
		floor = a->ranges[i].end;
	}
	return rbuf_done(&r) ? 0 : -EBADMSG;
}
