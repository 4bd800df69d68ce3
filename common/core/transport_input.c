/* What a transport does with received packets. */
#include <errno.h>
#include <string.h>

#include "core/transport_internal.h"
#include "wire/msg.h"

static void bad_packet(struct transport *t, const struct net_addr *from, uint64_t now)
{
	char text[NET_ADDR_TEXT];

	t->stats.bad_packets++;
	if (log_limit_due(&t->bad_log, now))
		log_warn("transport %u: dropped a packet from %s that is malformed or not "
			 "authentic (%llu so far)",
			 t->config.id, net_addr_text(from, text),
			 (unsigned long long)t->stats.bad_packets);
}

/* --- handshake ---------------------------------------------------------------------------- */

static void on_init(struct transport *t, const struct pkt *p, const struct net_addr *from,
		    uint64_t now)
{
	uint8_t ephemeral[32];
	struct hop_keys keys;

	if (t->config.initiator || t->state == TRANSPORT_NEW) {
		bad_packet(t, from, now);
		return;
	}
	t->ops->random(t->ctx, ephemeral, sizeof ephemeral);
	int err = handshake_respond(&t->handshake, bytes_of(p->data, p->len), ephemeral, &keys);
	if (err == 0) {
		t->stats.handshakes++;
		t->next = keys;
	}
	if (err == 0 || err == -EALREADY)
		transport_send_handshake(t, from, now);
	else
		bad_packet(t, from, now);
}

static void use_keys(struct transport *t, const struct hop_keys *keys)
{
	t->prev = t->cur;
	t->cur = *keys;
}

static void confirm_keys(struct transport *t, uint64_t now)
{
	uint8_t wants_reply = 1;
	transport_send_control(t, PACKET_PROBE, bytes_of(&wants_reply, 1), now);
}

static void on_response(struct transport *t, const struct pkt *p, const struct net_addr *from,
			uint64_t now)
{
	struct hop_keys keys;

	if (!t->config.initiator ||
	    handshake_finish(&t->handshake, bytes_of(p->data, p->len), &keys) != 0) {
		/* A second answer, over another candidate address, is no offence. */
		if (!t->config.initiator || t->handshake.active)
			bad_packet(t, from, now);
		return;
	}
	use_keys(t, &keys);
	t->handshake_at_us = TIMER_NEVER;
	t->rekey_at_us = now + REKEY_INTERVAL_US;
	t->last_rx_us = now;
	if (t->state == TRANSPORT_HANDSHAKE) {
		t->remote = *from;
		transport_set_state(t, TRANSPORT_CONNECTED, 0, now);
	}
	confirm_keys(t, now);
}

/* --- after authentication ----------------------------------------------------------------- */

/* The keys that this packet was made with, or NULL when it is not authentic. */
static const struct hop_keys *authenticate(const struct transport *t, const struct pkt *p,
					   const struct hop_header *h)
{
	const struct hop_keys *const candidates[] = {&t->cur, &t->prev, &t->next};
	for (size_t i = 0; i < 3; i++) {
		const struct hop_keys *k = candidates[i];
		if (k->valid && k->epoch == h->epoch && hopkey_verify(&k->rx, p->data, p->len, h))
			return k;
	}
	return NULL;
}

/* The initiator has the new keys: from here on we send with them too. */
static void promote_next(struct transport *t, const struct net_addr *from, uint64_t now)
{
	struct hop_keys keys = t->next;
	t->next.valid = false;
	use_keys(t, &keys);
	if (t->state == TRANSPORT_HANDSHAKE) {
		t->remote = *from;
		transport_set_state(t, TRANSPORT_CONNECTED, 0, now);
	}
}

static void sample_stats(struct transport *t, uint64_t acked_bytes, uint64_t now)
{
	if (t->sample_sent >= STATS_SAMPLE_PACKETS) {
		uint64_t ppm = t->sample_lost * 1000000 / t->sample_sent;
		t->stats.loss_ppm = (uint32_t)((3 * (uint64_t)t->stats.loss_ppm + ppm) / 4);
		t->sample_sent = t->sample_lost = 0;
	}
	t->rate_bytes += acked_bytes;
	uint64_t elapsed = now - t->rate_from_us;
	if (elapsed >= RATE_SAMPLE_US) {
		t->stats.rate_bps =
			(3 * t->stats.rate_bps + t->rate_bytes * 8 * 1000000 / elapsed) / 4;
		t->rate_bytes = 0;
		t->rate_from_us = now;
	}
}

static int on_ack(struct transport *t, const struct pkt *p, uint64_t now)
{
	struct ack a;
	struct sendstate_acked acked;
	bool limited = t->window_limited;

	if (ack_read(&a, bytes_of(p->data + HOP_HEADER_BYTES, p->len - HOP_HEADER_BYTES)) != 0 ||
	    sendstate_ack(&t->snd, &a, &t->rtt, now, &acked) != 0)
		return -EBADMSG;
	t->stats.spurious += acked.spurious;
	if (acked.rtt_us)
		rtt_sample(&t->rtt, acked.rtt_us, a.delay_us);
	if (acked.packets) {
		t->pto_count = 0;
		congestion_acked(&t->congestion, acked.bytes, rtt_smoothed(&t->rtt), limited, now);
	}
	transport_detect_losses(t, now);
	sample_stats(t, acked.bytes, now);
	return 0;
}

/* DATA and the hop's reliable signals; consumes p. */
static void on_sequenced(struct transport *t, struct pkt *p, const struct hop_header *h,
			 uint64_t now)
{
	switch (recvstate_add(&t->rcv, h, now)) {
	case RECV_NEW:
		p->label = h->label;
		p->flags = h->flags & (PACKET_FLAG_MARKED | PACKET_FLAG_DROPPABLE);
		t->stats.delivered_packets++;
		t->stats.delivered_bytes += p->len;
		t->ops->deliver(t->ctx, t, p, now);
		return;
	case RECV_DUPLICATE:
		t->stats.duplicates++;
		break;
	case RECV_OUT_OF_WINDOW:
		t->stats.window_drops++;
		break;
	}
	pkt_free(t->config.pool, p);
}

static int on_control(struct transport *t, const struct pkt *p, const struct hop_header *h,
		      uint64_t now)
{
	const uint8_t *body = p->data + HOP_HEADER_BYTES;
	size_t len = p->len - HOP_HEADER_BYTES;

	if (!replay_accept(&t->control_replay, h->seq)) {
		t->stats.duplicates++;
		return 0;
	}
	switch (h->type) {
	case PACKET_ACK:
		return on_ack(t, p, now);
	case PACKET_PROBE:
		if (len >= 1 && body[0])
			transport_send_control(t, PACKET_PROBE_REPLY, bytes_of(NULL, 0), now);
		return 0;
	case PACKET_PROBE_REPLY:
		return 0;
	case PACKET_CLOSE:
		transport_set_state(t, TRANSPORT_DISCONNECTED, CODE_CLOSED, now);
		return 0;
	default:
		return -EBADMSG;
	}
}

static bool is_sequenced(uint8_t type)
{
	return type == PACKET_DATA || type == PACKET_ROUTE_ERROR || type == PACKET_CONGESTION;
}

void transport_input(struct transport *t, struct pkt *p, const struct net_addr *from, uint64_t now)
{
	struct hop_header h;
	const struct hop_keys *keys = NULL;

	t->stats.rx_packets++;
	t->stats.rx_bytes += p->len;
	if (t->state == TRANSPORT_DISCONNECTED)
		goto drop;
	if (hop_header_read(&h, bytes_of(p->data, p->len)) != 0)
		goto bad;
	if (h.type == PACKET_HANDSHAKE_INIT || h.type == PACKET_HANDSHAKE_RESPONSE) {
		if (h.type == PACKET_HANDSHAKE_INIT)
			on_init(t, p, from, now);
		else
			on_response(t, p, from, now);
		goto drop;
	}
	keys = authenticate(t, p, &h);
	if (!keys)
		goto bad;
	if (keys == &t->next)
		promote_next(t, from, now);
	t->last_rx_us = now;
	if (h.type == PACKET_DATA && p->len < HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES)
		goto bad;
	if (is_sequenced(h.type)) {
		on_sequenced(t, p, &h, now);
		return;
	}
	if (on_control(t, p, &h, now) == 0)
		goto drop;
bad:
	bad_packet(t, from, now);
drop:
	pkt_free(t->config.pool, p);
}
