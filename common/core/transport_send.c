/* How a transport sends: what may go out now, in which order, in which size. */
#include <errno.h>
#include <string.h>

#include "core/transport_internal.h"
#include "wire/msg.h"

static void transmit(struct transport *t, const struct net_addr *to, struct pkt *const *v, size_t n,
		     uint64_t now)
{
	for (size_t i = 0; i < n; i++) {
		t->stats.tx_bytes += v[i]->len;
		t->stats.tx_packets += v[i]->count;
	}
	t->last_tx_us = now;
	t->ops->send(t->ctx, t, to, v, n);
}

static void transmit_bytes(struct transport *t, const struct net_addr *to, struct block *b,
			   size_t len, uint64_t now)
{
	struct pkt *p = pkt_new(t->config.pool, b, b->data, len);
	if (!p)
		return;
	transmit(t, to, &p, 1, now);
	pkt_free(t->config.pool, p);
}

void transport_send_handshake(struct transport *t, const struct net_addr *to, uint64_t now)
{
	struct block *b = block_new(t->handshake.packet_len);
	if (!b)
		return;
	memcpy(b->data, t->handshake.packet, t->handshake.packet_len);
	transmit_bytes(t, to, b, t->handshake.packet_len, now);
	block_put(b);
}

void transport_send_handshake_wanted(struct transport *t, const struct net_addr *to, uint64_t now)
{
	struct block *b = block_new(HOP_HEADER_BYTES);
	if (!b)
		return;
	handshake_want(&t->handshake, b->data);
	transmit_bytes(t, to, b, HOP_HEADER_BYTES, now);
	block_put(b);
}

void transport_send_control_to(struct transport *t, const struct net_addr *to, uint8_t type,
			       struct bytes body, size_t pad, uint64_t now)
{
	size_t len = HOP_HEADER_BYTES + body.len + pad;
	struct block *b = t->cur.valid ? block_new(len) : NULL;

	if (!b)
		return;
	struct hop_header h = {.type = type, .epoch = t->cur.epoch, .seq = t->control_seq++};
	if (body.len)
		memcpy(b->data + HOP_HEADER_BYTES, body.data, body.len);
	memset(b->data + HOP_HEADER_BYTES + body.len, 0, pad);
	hopkey_seal(&t->cur.tx, b->data, len, &h);
	transmit_bytes(t, to, b, len, now);
	block_put(b);
}

void transport_send_control(struct transport *t, uint8_t type, struct bytes body, uint64_t now)
{
	transport_send_control_to(t, &t->remote, type, body, 0, now);
}

void transport_send_probe(struct transport *t, const struct net_addr *to, enum probe_kind kind,
			  size_t size, uint64_t nonce, uint64_t now)
{
	uint8_t body[PROBE_BODY_BYTES];
	struct wbuf w = wbuf_init(body, sizeof body);
	size_t least = HOP_HEADER_BYTES + sizeof body;

	wbuf_u8(&w, (uint8_t)kind);
	wbuf_u16(&w, (uint16_t)size);
	wbuf_u64(&w, nonce);
	transport_send_control_to(t, to, PACKET_PROBE, bytes_of(body, sizeof body),
				  size > least ? size - least : 0, now);
}

void transport_send_ack(struct transport *t, uint64_t now)
{
	uint8_t body[ACK_MAX_BYTES];
	struct wbuf w = wbuf_init(body, sizeof body);
	struct ack a;

	recvstate_ack(&t->rcv, &a, now);
	ack_write(&w, &a);
	t->ack_at_us = TIMER_NEVER;
	transport_send_control(t, PACKET_ACK, bytes_of(body, wbuf_len(&w)), now);
}

/* What our own connections may queue here: enough to keep the hop busy.  More would only wait, and
 * a source can wait as well before it seals. */
static uint64_t source_limit(const struct transport *t)
{
	uint64_t queue = t->congestion.pacing_bps / 8 * SOURCE_QUEUE_US / 1000000;
	uint64_t limit = t->congestion.cwnd_bytes +
			 (queue > SOURCE_QUEUE_BYTES ? queue : SOURCE_QUEUE_BYTES);
	return limit < t->config.egress_bytes ? limit : t->config.egress_bytes;
}

size_t transport_room(const struct transport *t, uint8_t flags)
{
	uint64_t limit = source_limit(t);

	if (flags & PACKET_FLAG_SPARSE)
		limit += SPARSE_ROOM_BYTES;
	if (t->state != TRANSPORT_CONNECTED || t->egress.bytes >= limit)
		return 0;
	return (size_t)(limit - t->egress.bytes);
}

int transport_send(struct transport *t, struct pkt *p, uint64_t now)
{
	if (t->state != TRANSPORT_CONNECTED) {
		t->stats.egress_drops++;
		pkt_free(t->config.pool, p);
		return -ENOTCONN;
	}
	int err = egress_push(&t->egress, p, now);
	if (t->egress.bytes > source_limit(t) / 2)
		t->egress_was_full = true;
	return err;
}

int transport_send_signal(struct transport *t, uint8_t type, uint32_t label, uint64_t now)
{
	struct block *b = block_new(HOP_HEADER_BYTES);
	struct pkt *p = b ? pkt_new(t->config.pool, b, b->data, HOP_HEADER_BYTES) : NULL;

	block_put(b);
	if (!p)
		return -ENOMEM;
	p->data[0] = type;
	p->label = label;
	return transport_send(t, p, now);
}

/* --- what goes out next ------------------------------------------------------------------- */

/* The path takes less than this packet was cut for: its fragment becomes two.  The receiver puts
 * fragments of any size together, so a relay may do this as well. */
static bool split(struct transport *t, struct pkt *p)
{
	size_t headers = HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES, body = t->mtu.good - headers;
	size_t rest = p->len - headers - body;
	struct fragment_header f;

	if (p->data[0] != PACKET_DATA ||
	    fragment_header_read(&f, p->data + HOP_HEADER_BYTES, p->len - headers) != 0)
		return false;
	struct block *b = block_new(headers + rest);
	struct pkt *second = b ? pkt_new(t->config.pool, b, b->data, headers + rest) : NULL;
	block_put(b);
	if (!second)
		return false;
	f.offset = (uint16_t)(f.offset + body);
	second->data[0] = PACKET_DATA;
	fragment_header_write(second->data + HOP_HEADER_BYTES, &f);
	memcpy(second->data + headers, p->data + headers + body, rest);
	second->label = p->label;
	second->flags = p->flags;
	p->len = p->each = (uint32_t)(headers + body);
	TAILQ_INSERT_HEAD(&t->rest, second, queue);
	return true;
}

/* What is left of split packets comes before the queue. */
static struct pkt *pop(struct transport *t, const struct pkt_room *room, uint64_t now)
{
	struct pkt *p = TAILQ_FIRST(&t->rest), *rest;

	if (p)
		TAILQ_REMOVE(&t->rest, p, queue);
	else if (!(p = egress_pop(&t->egress, room, now)))
		return NULL;
	/* Packets that are too large for the path are split one by one. */
	size_t n = p->each > t->mtu.good ? 1 : pkt_fit(p, room);
	if (n < p->count && (rest = pkt_split(t->config.pool, p, n)))
		TAILQ_INSERT_HEAD(&t->rest, rest, queue);
	return p;
}

/* Packets that were never sent before. */
static struct pkt *next_new(struct transport *t, struct pkt_room room, uint64_t now)
{
	bool first = t->snd.base == t->snd.next;
	struct pkt *p;

	room.packets = sendstate_window(&t->snd);
	if (!room.packets || !(p = pop(t, &room, now)))
		return NULL;
	if (sendstate_enter(&t->snd, p) != 0) {
		TAILQ_INSERT_HEAD(&t->rest, p, queue);
		return NULL;
	}
	if (first) {
		t->waiting_us = now;
		t->asks = 0;
	}
	return p;
}

static void set_pace(struct transport *t, uint64_t now)
{
	uint64_t most = t->pace_late ? PACE_LATE_US : PACE_BURST_US;

	if (t->pace_at_us + most < now)
		t->pace_at_us = now - most;
	if (t->pace_bps != t->congestion.pacing_bps) {
		t->pace_bps = t->congestion.pacing_bps;
		t->pace_cost = (UINT64_C(8000000) << PACE_SHIFT) / t->pace_bps;
	}
}

/* How many bytes the rate model lets go now: what is under its time, and one more. */
static uint64_t pace(struct transport *t, uint64_t now)
{
	if (!t->congestion.pacing_bps)
		return UINT64_MAX;
	if (t->pace_at_us > now) {
		t->pace_blocked = true;
		return 0;
	}
	set_pace(t, now);
	return ((now - t->pace_at_us) << PACE_SHIFT) / (t->pace_cost + 1) + 1;
}

static void pace_sent(struct transport *t, size_t len, uint64_t now)
{
	if (!t->congestion.pacing_bps)
		return;
	set_pace(t, now);
	t->pace_fraction += len * t->pace_cost;
	t->pace_at_us += t->pace_fraction >> PACE_SHIFT;
	t->pace_fraction &= (UINT64_C(1) << PACE_SHIFT) - 1;
}

static struct pkt *next_lost(struct transport *t, struct pkt_room room)
{
	struct pkt *p = TAILQ_FIRST(&t->snd.lost);

	if (p && p->each > t->mtu.good)
		room.packets = 1;
	if (p && (p = sendstate_take_lost(&t->snd, &room)))
		t->stats.retransmits += p->count;
	return p;
}

/* The next packets that may go out now: repairs first, then new ones while the window is open. */
static struct pkt *next_packets(struct transport *t, uint64_t now)
{
	uint64_t used = t->snd.inflight_bytes, window = t->congestion.cwnd_bytes, paced;
	struct pkt_room room = {.bytes = 1, .packets = UINT64_MAX};
	bool open = used < window;
	struct pkt *p;

	if (!t->probe_credit) {
		if (!open)
			t->window_limited = true;
		if (!open || !(paced = pace(t, now)))
			return NULL;
		room.bytes = window - used < paced ? window - used : paced;
	}
	p = next_lost(t, room);
	if (!p && open)
		p = next_new(t, room, now);
	if (p && t->probe_credit)
		t->probe_credit--;
	return p;
}

static void prepare(struct transport *t, struct pkt *p, uint64_t now)
{
	if (p->tries == TRIES_BLACKHOLE && p->each > t->mtu.base)
		pathmtu_blackhole(&t->mtu, now);
	if (p->count == 1 && p->len > t->mtu.good)
		split(t, p);
	struct hop_header h = {
		.type = p->data[0],
		.flags = p->flags,
		.epoch = t->cur.epoch,
		.tries = (uint8_t)(p->tries < 255 ? p->tries : 255),
		.label = p->label,
		.seq = p->seq,
	};
	if (p->count > 1)
		hopkey_seal_run(&t->cur.tx, p->data, p->each, p->count, &h);
	else
		hopkey_seal(&t->cur.tx, p->data, p->len, &h);
	sendstate_transmitted(&t->snd, p, now);
	pace_sent(t, p->len, now);
	t->sample_sent += p->count;
}

/* Packets were due, and only now this process runs: what it sends less for that is not the path's
 * rate. */
static void note_lateness(struct transport *t, uint64_t now)
{
	t->pace_late = t->pace_blocked && t->pace_at_us + PACE_BURST_US < now;
	if (t->pace_late)
		sendstate_starved(&t->snd);
}

static void flush_data(struct transport *t, uint64_t now)
{
	struct pkt *batch[FLUSH_BATCH], *p;
	size_t n = 0, packets = 0;

	note_lateness(t, now);
	t->window_limited = t->pace_blocked = false;
	while ((p = next_packets(t, now))) {
		if (p->tries >= t->config.retransmit_limit) {
			/* p stays in the send state, which frees it. */
			transport_set_state(t, TRANSPORT_DISCONNECTED, CODE_LOST, now);
			return;
		}
		prepare(t, p, now);
		batch[n++] = p;
		packets += p->count;
		if (packets >= FLUSH_BATCH) {
			transmit(t, &t->remote, batch, n, now);
			n = packets = 0;
		}
		t->last_data_tx_us = now;
	}
	t->probe_credit = 0;
	if (!t->window_limited && !t->pace_blocked && egress_empty(&t->egress))
		sendstate_starved(&t->snd);
	if (n)
		transmit(t, &t->remote, batch, n, now);
}

void transport_flush(struct transport *t, uint64_t now)
{
	if (t->state != TRANSPORT_CONNECTED)
		return;
	flush_data(t, now);
	if (t->state != TRANSPORT_CONNECTED)
		return;
	if (t->rcv.pending >= ACK_EVERY_PACKETS || t->rcv.urgent)
		transport_send_ack(t, now);
	else if (t->rcv.pending && t->ack_at_us == TIMER_NEVER)
		t->ack_at_us = now + t->config.ack_delay_us;
	transport_arm(t, now);
	if (t->egress_was_full && t->egress.bytes <= source_limit(t) / 2) {
		t->egress_was_full = false;
		t->ops->writable(t->ctx, t, now);
	}
}
