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
	if (p[0] < PACKET_HANDSHAKE_INIT || p[0] > PACKET_HANDSHAKE_WANTED)
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
	be64_put(out, (uint64_t)f->kind << 56 | (uint64_t)f->time << 40 | f->record);
	be32_put(out + 8, (uint32_t)f->offset << 16 | f->total);
}

int fragment_header_read(struct fragment_header *f, const uint8_t in[FRAGMENT_HEADER_BYTES],
			 size_t body_len)
{
	uint64_t id = be64_get(in);
	f->kind = (uint8_t)(id >> 56);
	f->time = (uint16_t)(id >> 40);
	f->record = id & (RECORD_NUMBERS - 1);
	uint32_t v = be32_get(in + 8);
	f->offset = (uint16_t)(v >> 16);
	f->total = (uint16_t)v;
	if (f->kind > RECORD_DATAGRAM || body_len == 0 || body_len > f->total ||
	    f->offset > f->total - body_len)
		return -EBADMSG;
	return 0;
}

/* 7 bits a byte, the low ones first, at most three bytes (the receive window is far smaller) and no
 * more than needed: there is one way to write a number. */
static void small_write(struct wbuf *w, uint64_t v)
{
	if (v >> 21)
		w->bad = true;
	for (; v > 127; v >>= 7)
		wbuf_u8(w, (uint8_t)(v | 128));
	wbuf_u8(w, (uint8_t)v);
}

static uint64_t small_read(struct rbuf *r)
{
	uint64_t v = 0;
	for (unsigned shift = 0; shift < 21; shift += 7) {
		uint8_t b = rbuf_u8(r);
		v |= (uint64_t)(b & 127) << shift;
		if (b < 128 && (b || !shift))
			return v;
		if (b < 128)
			break;
	}
	r->bad = true;
	return 0;
}

/*
 * `largest` travels as a 32-bit distance from `cumulative`, each range as its distance from the end
 * of the one before and its length.
 */
void ack_write(struct wbuf *w, const struct ack *a)
{
	uint64_t floor = a->cumulative;

	wbuf_u64(w, a->cumulative);
	wbuf_u32(w, (uint32_t)(a->largest - a->cumulative + 1));
	wbuf_u32(w, (uint32_t)(a->largest - a->latest));
	wbuf_u8(w, a->latest_tries);
	wbuf_u32(w, a->delay_us);
	wbuf_u8(w, a->range_count);
	for (unsigned i = 0; i < a->range_count; i++) {
		small_write(w, a->ranges[i].start - floor);
		small_write(w, a->ranges[i].end - a->ranges[i].start);
		floor = a->ranges[i].end;
	}
}

int ack_read(struct ack *a, struct bytes body)
{
	struct rbuf r = rbuf_init(body.data, body.len);

	a->cumulative = rbuf_u64(&r);
	uint32_t ahead = rbuf_u32(&r), behind = rbuf_u32(&r);
	a->latest_tries = rbuf_u8(&r);
	a->delay_us = rbuf_u32(&r);
	a->range_count = rbuf_u8(&r);
	a->largest = a->cumulative + ahead - 1;
	a->latest = a->largest - behind;
	if (r.bad || a->range_count > ACK_RANGES_MAX || a->cumulative > UINT64_MAX / 2 ||
	    a->cumulative + ahead == 0 || behind > a->largest)
		return -EBADMSG;
	uint64_t floor = a->cumulative;
	for (unsigned i = 0; i < a->range_count; i++) {
		uint64_t gap = small_read(&r), len = small_read(&r);
		a->ranges[i].start = floor + gap;
		a->ranges[i].end = floor = floor + gap + len;
		if (r.bad || gap == 0 || len == 0 || floor > a->cumulative + ahead)
			return -EBADMSG;
	}
	return rbuf_done(&r) ? 0 : -EBADMSG;
}
