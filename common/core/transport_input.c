/* What a transport does with received packets. */
#include <errno.h>
#include <string.h>

#include "core/transport_internal.h"
#include "wire/msg.h"

static void bad_packet(struct transport *t, const struct net_addr *from, uint64_t now)
{
	char text[NET_ADDR_TEXT];

	t->stats.bad_packets++;
	/* Before we have keys the peer may go on with those of our earlier process. */
	if (t->config.resumed && !t->cur.valid)
		return;
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

	if (t->config.initiator) {
		bad_packet(t, from, now);
		return;
	}
	t->ops->random(t->ctx, ephemeral, sizeof ephemeral);
	int err = handshake_respond(&t->handshake, bytes_of(p->data, p->len), ephemeral, &keys);
	if (err == 0) {
		t->stats.handshakes++;
		t->next = keys;
		/* The peer heard of us sooner than we of its addresses. */
		if (t->state == TRANSPORT_NEW)
			transport_open(t, NULL, 0, now);
	}
	if (err == 0 || err == -EALREADY)
		transport_send_handshake(t, from, now);
	else
		bad_packet(t, from, now);
}

static void use_keys(struct transport *t, const struct hop_keys *keys, uint64_t now)
{
	bool anew = t->peer_known && t->peer_life != keys->life;

	t->prev = t->cur;
	t->cur = *keys;
	t->peer_life = keys->life;
	t->peer_known = true;
	if (anew)
		transport_begin_anew(t, now);
}

static void confirm_keys(struct transport *t, uint64_t now)
{
	transport_send_probe(t, &t->remote, PROBE_ANSWER, 0, now, now);
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
	use_keys(t, &keys, now);
	t->handshake_at_us = TIMER_NEVER;
	t->rekey_at_us = now + t->config.rekey_us;
	t->last_rx_us = now;
	if (t->state == TRANSPORT_HANDSHAKE) {
		t->remote = *from;
		transport_set_state(t, TRANSPORT_CONNECTED, 0, now);
	}
	confirm_keys(t, now);
}

/* A replayed one costs a change of keys, once a second at most. */
static void on_wanted(struct transport *t, const struct pkt *p, const struct net_addr *from,
		      uint64_t now)
{
	if (!t->config.initiator ||
	    !handshake_is_wanted(&t->handshake, bytes_of(p->data, p->len))) {
		bad_packet(t, from, now);
		return;
	}
	transport_seek_now(t, now);
	if (t->state == TRANSPORT_CONNECTED && t->handshake_at_us == TIMER_NEVER &&
	    now + t->config.rekey_us >= t->rekey_at_us + HANDSHAKE_WANTED_US)
		transport_initiate(t, now);
}

/* --- after authentication ----------------------------------------------------------------- */

/* How many packets at the front of p are authentic with this key and can be treated as one. */
static size_t authentic(const struct hopkey *key, const struct pkt *p, const struct hop_header *h)
{
	const size_t headers = HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES;
	size_t whole = pkt_payload(p, p->count - 1).len >= headers ? p->count : p->count - 1;

	if (h->type == PACKET_DATA && p->each >= headers && whole > 1)
		return hopkey_verify_run(key, p->data, p->each, whole, h);
	return hopkey_verify(key, p->data, p->each, h);
}

/* The keys that the first packet was made with and how many follow it with the same header; NULL
 * when it is not authentic. */
static const struct hop_keys *authenticate(const struct transport *t, const struct pkt *p,
					   const struct hop_header *h, size_t *count)
{
	const struct hop_keys *const candidates[] = {&t->cur, &t->prev, &t->next};
	for (size_t i = 0; i < 3; i++) {
		const struct hop_keys *k = candidates[i];
		if (k->valid && k->epoch == h->epoch && (*count = authentic(&k->rx, p, h)) > 0)
			return k;
	}
	return NULL;
}

/* The initiator has the new keys: from here on we send with them too. */
static void promote_next(struct transport *t, const struct net_addr *from, uint64_t now)
{
	struct hop_keys keys = t->next;
	t->next.valid = false;
	use_keys(t, &keys, now);
	t->handshake_at_us = TIMER_NEVER;
	if (t->state == TRANSPORT_HANDSHAKE) {
		t->remote = *from;
		transport_set_state(t, TRANSPORT_CONNECTED, 0, now);
		confirm_keys(t, now);
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

static void model_path(struct transport *t, const struct sendstate_acked *acked, uint64_t now)
{
	congestion_sample(&t->congestion,
			  &(struct bbr_sample){
				  .rate_bps = acked->rate_bps,
				  .app_limited = acked->app_limited,
				  .rtt_us = acked->rtt_us,
				  .jitter_us = t->rtt.variance_us,
				  .reorders = t->snd.reordering,
				  .delivered_bytes = t->snd.delivered_bytes,
				  .sent_delivered_bytes = acked->sent_delivered,
				  .inflight_bytes = t->snd.inflight_bytes,
				  .packets = acked->packets,
				  .lost = t->model_lost,
			  },
			  now);
	t->model_lost = 0;
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
	if (acked.packets)
		model_path(t, &acked, now);
	sample_stats(t, acked.bytes, now);
	return 0;
}

static void check_path(struct transport *t, const struct net_addr *from, uint64_t now);

static void on_sequenced(struct transport *t, struct pkt *p, const struct hop_header *h,
			 const struct net_addr *from, uint64_t now);

/* Some of these packets have come before, or fill a gap. */
static void one_by_one(struct transport *t, struct pkt *p, const struct hop_header *h,
		       const struct net_addr *from, uint64_t now)
{
	struct hop_header header = *h;

	while (p) {
		struct pkt *rest = p->count > 1 ? pkt_split(t->config.pool, p, 1) : NULL;
		if (!rest && p->count > 1) { /* out of memory: it will come again */
			pkt_free(t->config.pool, p);
			return;
		}
		on_sequenced(t, p, &header, from, now);
		header.seq++;
		p = rest;
	}
}

/* DATA and the hop's reliable signals, one or a run; consumes p. */
static void on_sequenced(struct transport *t, struct pkt *p, const struct hop_header *h,
			 const struct net_addr *from, uint64_t now)
{
	switch (recvstate_add_run(&t->rcv, h, p->count, now)) {
	case RECV_APART:
		one_by_one(t, p, h, from, now);
		return;
	case RECV_NEW:
		check_path(t, from, now);
		p->label = h->label;
		p->flags = h->flags & PACKET_FLAGS_KEPT;
		t->stats.delivered_packets += p->count;
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

/* --- probes and a peer that moves --------------------------------------------------------- */

struct probe {
	uint8_t kind;
	uint16_t size;
	uint64_t nonce;
};

static int read_probe(struct probe *q, struct bytes body)
{
	struct rbuf r = rbuf_init(body.data, body.len);
	q->kind = rbuf_u8(&r);
	q->size = rbuf_u16(&r);
	q->nonce = rbuf_u64(&r);
	return r.bad ? -EBADMSG : 0;
}

/* The answer goes where the question came from: a path check asks about that very path. */
static int on_probe(struct transport *t, struct bytes body, const struct net_addr *from,
		    uint64_t now)
{
	struct probe q;

	if (read_probe(&q, body) != 0)
		return -EBADMSG;
	/* Only a probe that arrived whole confirms its size. */
	if (q.kind == PROBE_MTU && body.len + HOP_HEADER_BYTES != q.size)
		return -EBADMSG;
	if (q.kind != PROBE_KEEPALIVE)
		transport_send_control_to(t, from, PACKET_PROBE_REPLY,
					  bytes_of(body.data, PROBE_BODY_BYTES), 0, now);
	return 0;
}

static void follow_peer(struct transport *t, const struct net_addr *to, uint64_t now)
{
	char old[NET_ADDR_TEXT], new[NET_ADDR_TEXT];
	log_info("transport %u: the peer moved from %s to %s", t->config.id,
		 net_addr_text(&t->remote, old), net_addr_text(to, new));
	t->remote = *to;
	t->candidate.family = 0;
	t->stats.moves++;
	/* What was under way to the old address is sent again soon; the new way may be narrower. */
	t->pto_count = 0;
	pathmtu_init(&t->mtu, t->mtu.base, t->mtu.limit, now);
}

static int on_probe_reply(struct transport *t, struct bytes body, const struct net_addr *from,
			  uint64_t now)
{
	struct probe q;

	if (read_probe(&q, body) != 0)
		return -EBADMSG;
	if (q.kind == PROBE_ANSWER && q.nonce <= now && now - q.nonce < t->config.liveness_us) {
		rtt_sample(&t->rtt, now - q.nonce, 0); /* our own clock, echoed */
		/* There is a way (again): what waits for its turn need not wait so long. */
		if (t->pto_count > PTO_COLLAPSE)
			t->pto_count = PTO_COLLAPSE;
	} else if (q.kind == PROBE_MTU) {
		pathmtu_confirm(&t->mtu, q.size, now);
	} else if (q.kind == PROBE_PATH && t->candidate.family && q.nonce == t->challenge &&
		   net_addr_equal(from, &t->candidate)) {
		follow_peer(t, from, now);
	}
	return 0;
}

/* An authentic packet from elsewhere may have been carried there by somebody else: the peer must
 * answer at that address before we follow (RFC 9000 section 9.3). */
static void check_path(struct transport *t, const struct net_addr *from, uint64_t now)
{
	if (t->state != TRANSPORT_CONNECTED || net_addr_equal(from, &t->remote) ||
	    (t->candidate.family && now < t->challenge_at_us + PATH_CHECK_US))
		return;
	t->candidate = *from;
	t->challenge_at_us = now;
	t->ops->random(t->ctx, &t->challenge, sizeof t->challenge);
	transport_send_probe(t, from, PROBE_PATH, 0, t->challenge, now);
}

static int on_control(struct transport *t, const struct pkt *p, const struct hop_header *h,
		      const struct net_addr *from, uint64_t now)
{
	const uint8_t *body = p->data + HOP_HEADER_BYTES;
	size_t len = p->len - HOP_HEADER_BYTES;

	if (!replay_accept(&t->control_replay, h->seq)) {
		t->stats.duplicates++;
		return 0;
	}
	check_path(t, from, now);
	switch (h->type) {
	case PACKET_ACK:
		return on_ack(t, p, now);
	case PACKET_PROBE:
		return on_probe(t, bytes_of(body, len), from, now);
	case PACKET_PROBE_REPLY:
		return on_probe_reply(t, bytes_of(body, len), from, now);
	case PACKET_CLOSE:
		transport_set_state(t, TRANSPORT_DISCONNECTED, CODE_CLOSED, now);
		return 0;
	default:
		return -EBADMSG;
	}
}

static bool is_sequenced(uint8_t type)
{
	return type == PACKET_DATA || type == PACKET_ROUTE_ERROR;
}

static bool is_handshake(uint8_t type)
{
	return type == PACKET_HANDSHAKE_INIT || type == PACKET_HANDSHAKE_RESPONSE ||
	       type == PACKET_HANDSHAKE_WANTED;
}

static void on_handshake(struct transport *t, const struct pkt *p, uint8_t type,
			 const struct net_addr *from, uint64_t now)
{
	if (type == PACKET_HANDSHAKE_INIT)
		on_init(t, p, from, now);
	else if (type == PACKET_HANDSHAKE_RESPONSE)
		on_response(t, p, from, now);
	else
		on_wanted(t, p, from, now);
}

/* Cuts p after the first `n` packets; what follows, or NULL.  Without memory that is lost, as it
 * may be on the way. */
static struct pkt *cut(struct transport *t, struct pkt *p, size_t n)
{
	struct pkt *rest;

	if (n >= p->count)
		return NULL;
	rest = pkt_split(t->config.pool, p, n);
	if (!rest) {
		p->count = (uint32_t)n;
		p->len = (uint32_t)n * p->each;
	}
	return rest;
}

/* What the front of p is: one packet, or several of DATA that can be treated as one.  Consumes it
 * and returns what is left of p. */
static struct pkt *input_front(struct transport *t, struct pkt *p, const struct net_addr *from,
			       uint64_t now)
{
	struct hop_header h = {0};
	const struct hop_keys *keys = NULL;
	struct pkt *rest = NULL;
	size_t n = 1;

	if (t->state == TRANSPORT_DISCONNECTED)
		goto drop;
	bool header = hop_header_read(&h, pkt_payload(p, 0)) == 0;
	bool handshake = header && is_handshake(h.type);
	if (header && !handshake)
		keys = authenticate(t, p, &h, &n);
	rest = cut(t, p, keys ? n : 1);
	if (handshake) {
		on_handshake(t, p, h.type, from, now);
		goto drop;
	}
	if (!keys)
		goto bad;
	if (keys == &t->next)
		promote_next(t, from, now);
	transport_heard(t, now);
	if (h.type == PACKET_DATA && p->each < HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES)
		goto bad;
	if (is_sequenced(h.type)) {
		on_sequenced(t, p, &h, from, now);
		return rest;
	}
	if (on_control(t, p, &h, from, now) == 0)
		goto drop;
bad:
	bad_packet(t, from, now);
drop:
	pkt_free(t->config.pool, p);
	return rest;
}

void transport_input(struct transport *t, struct pkt *p, const struct net_addr *from, uint64_t now)
{
	t->stats.rx_packets += p->count;
	t->stats.rx_bytes += p->len;
	while (p)
		p = input_front(t, p, from, now);
}
