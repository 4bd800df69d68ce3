#include "core/transport.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "core/transport_internal.h"
#include "wire/msg.h"

const char *transport_state_name(enum transport_state s)
{
	static const char *const names[] = {"NEW", "HANDSHAKE", "CONNECTED", "DISCONNECTED"};
	return (unsigned)s < 4 ? names[s] : "?";
}

struct transport *transport_new(const struct transport_config *config,
				const struct transport_ops *ops, void *ctx, uint64_t now)
{
	struct transport *t = calloc(1, sizeof *t);

	if (!t)
		return NULL;
	t->config = *config;
	t->ops = ops;
	t->ctx = ctx;
	handshake_init(&t->handshake, config->id, config->local_secret, &config->remote,
		       config->psk);
	sodium_memzero(t->config.local_secret, sizeof t->config.local_secret);
	sodium_memzero(t->config.psk, sizeof t->config.psk);
	sendstate_init(&t->snd, config->pool);
	recvstate_init(&t->rcv);
	congestion_init(&t->congestion, (uint32_t)config->packet_bytes);
	TAILQ_INIT(&t->egress);
	timer_init(&t->timer, transport_timer_fire, t);
	t->ack_at_us = t->loss_at_us = TIMER_NEVER;
	t->last_rx_us = t->last_tx_us = t->rate_from_us = now;
	t->handshake_at_us = t->handshake_deadline_us = t->rekey_at_us = TIMER_NEVER;
	return t;
}

static void drop_egress(struct transport *t)
{
	struct pkt *p;
	while ((p = TAILQ_FIRST(&t->egress))) {
		TAILQ_REMOVE(&t->egress, p, queue);
		pkt_free(t->config.pool, p);
	}
	t->egress_bytes = 0;
}

void transport_free(struct transport *t)
{
	if (!t)
		return;
	timerq_cancel(t->config.timers, &t->timer);
	drop_egress(t);
	sendstate_free(&t->snd);
	recvstate_free(&t->rcv);
	handshake_wipe(&t->handshake);
	sodium_memzero(t, sizeof *t);
	free(t);
}

void transport_set_state(struct transport *t, enum transport_state to, uint16_t code, uint64_t now)
{
	enum transport_state old = t->state;
	char peer[MESH_ID_SHORT];

	if (old == to || old == TRANSPORT_DISCONNECTED)
		return;
	t->state = to;
	log_debug("transport %u to %s: %s -> %s (%s)", t->config.id,
		  mesh_id_short(&t->config.remote, peer), transport_state_name(old),
		  transport_state_name(to), msg_code_name(code));
	if (to == TRANSPORT_CONNECTED) {
		t->handshake_deadline_us = TIMER_NEVER;
		t->last_rx_us = t->last_tx_us = t->asked_us = t->rate_from_us = now;
	}
	if (to == TRANSPORT_DISCONNECTED)
		drop_egress(t);
	transport_arm(t, now);
	t->ops->state(t->ctx, t, old, code, now);
}

void transport_open(struct transport *t, const struct net_addr *addrs, size_t n, uint64_t now)
{
	if (t->state == TRANSPORT_DISCONNECTED)
		return;
	t->addr_count = n < ADDRS_MAX ? n : ADDRS_MAX;
	memcpy(t->addrs, addrs, t->addr_count * sizeof *addrs);
	if (t->state != TRANSPORT_NEW)
		return;
	t->handshake_deadline_us = now + HANDSHAKE_TIMEOUT_US;
	transport_set_state(t, TRANSPORT_HANDSHAKE, 0, now);
	if (t->config.initiator)
		transport_initiate(t, now);
	transport_arm(t, now);
}

void transport_close(struct transport *t, uint16_t code, uint64_t now)
{
	uint8_t body[2] = {(uint8_t)(code >> 8), (uint8_t)code};

	if (t->state == TRANSPORT_CONNECTED)
		transport_send_control(t, PACKET_CLOSE, bytes_of(body, sizeof body), now);
	transport_set_state(t, TRANSPORT_DISCONNECTED, code, now);
}

/* --- sending ------------------------------------------------------------------------------ */

static void transmit(struct transport *t, const struct net_addr *to, struct pkt *const *v, size_t n,
		     uint64_t now)
{
	for (size_t i = 0; i < n; i++)
		t->stats.tx_bytes += v[i]->len;
	t->stats.tx_packets += n;
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

void transport_send_control(struct transport *t, uint8_t type, struct bytes body, uint64_t now)
{
	if (!t->cur.valid)
		return;
	struct block *b = block_new(HOP_HEADER_BYTES + body.len);
	if (!b)
		return;
	struct hop_header h = {.type = type, .epoch = t->cur.epoch, .seq = t->control_seq++};
	if (body.len)
		memcpy(b->data + HOP_HEADER_BYTES, body.data, body.len);
	hopkey_seal(&t->cur.tx, b->data, HOP_HEADER_BYTES + body.len, &h);
	transmit_bytes(t, &t->remote, b, HOP_HEADER_BYTES + body.len, now);
	block_put(b);
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

size_t transport_room(const struct transport *t)
{
	if (t->state != TRANSPORT_CONNECTED || t->egress_bytes >= t->config.egress_bytes)
		return 0;
	return t->config.egress_bytes - t->egress_bytes;
}

int transport_send(struct transport *t, struct pkt *p, uint64_t now)
{
	int err = 0;

	if (t->state != TRANSPORT_CONNECTED)
		err = -ENOTCONN;
	else if (t->egress_bytes + p->len > t->config.egress_bytes)
		err = -ENOBUFS;
	if (err) {
		t->stats.egress_drops++;
		t->egress_was_full = true;
		pkt_free(t->config.pool, p);
		return err;
	}
	p->queued_us = now;
	TAILQ_INSERT_TAIL(&t->egress, p, queue);
	t->egress_bytes += p->len;
	if (t->egress_bytes > t->config.egress_bytes / 2)
		t->egress_was_full = true;
	return 0;
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

/* The next packet that may go out now: repairs first, then new ones while the window is open. */
static struct pkt *next_packet(struct transport *t)
{
	bool open = t->snd.inflight_bytes < t->congestion.cwnd_bytes;
	struct pkt *p;

	if (!open && !t->probe_credit) {
		t->window_limited = true;
		return NULL;
	}
	if ((p = sendstate_take_lost(&t->snd))) {
		t->stats.retransmits++;
	} else if (open && sendstate_window_open(&t->snd) && (p = TAILQ_FIRST(&t->egress))) {
		if (sendstate_enter(&t->snd, p) != 0)
			return NULL;
		TAILQ_REMOVE(&t->egress, p, queue);
		t->egress_bytes -= p->len;
	}
	if (p && t->probe_credit)
		t->probe_credit--;
	return p;
}

static void prepare(struct transport *t, struct pkt *p, uint64_t now)
{
	struct hop_header h = {
		.type = p->data[0],
		.flags = p->flags,
		.epoch = t->cur.epoch,
		.tries = (uint8_t)(p->tries < 255 ? p->tries : 255),
		.label = p->label,
		.seq = p->seq,
	};
	hopkey_seal(&t->cur.tx, p->data, p->len, &h);
	sendstate_transmitted(&t->snd, p, now);
	t->sample_sent++;
}

static void flush_data(struct transport *t, uint64_t now)
{
	struct pkt *batch[FLUSH_BATCH], *p;
	size_t n = 0;

	t->window_limited = false;
	while ((p = next_packet(t))) {
		if (p->tries >= t->config.retransmit_limit) {
			/* p stays in the send state, which frees it. */
			transport_set_state(t, TRANSPORT_DISCONNECTED, CODE_LOST, now);
			return;
		}
		prepare(t, p, now);
		batch[n++] = p;
		if (n == FLUSH_BATCH) {
			transmit(t, &t->remote, batch, n, now);
			n = 0;
		}
		t->last_data_tx_us = now;
	}
	t->probe_credit = 0;
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
		t->ack_at_us = now + ACK_DELAY_US;
	transport_arm(t, now);
	if (t->egress_was_full && t->egress_bytes <= t->config.egress_bytes / 2) {
		t->egress_was_full = false;
		t->ops->writable(t->ctx, t, now);
	}
}

/* --- looking at it ------------------------------------------------------------------------ */

size_t transport_packet_bytes(const struct transport *t)
{
	return t->config.packet_bytes;
}

void transport_get_stats(const struct transport *t, struct transport_stats *out)
{
	*out = t->stats;
	out->srtt_us = (uint32_t)t->rtt.smoothed_us;
	out->rttvar_us = (uint32_t)t->rtt.variance_us;
	out->min_rtt_us = (uint32_t)t->rtt.min_us;
	out->cwnd_bytes = t->congestion.cwnd_bytes;
	out->inflight_bytes = t->snd.inflight_bytes;
	out->queue_bytes = t->egress_bytes;
}

enum transport_state transport_get_state(const struct transport *t)
{
	return t->state;
}

uint32_t transport_get_id(const struct transport *t)
{
	return t->config.id;
}

const struct mesh_id *transport_get_peer(const struct transport *t)
{
	return &t->config.remote;
}

const struct net_addr *transport_get_remote(const struct transport *t)
{
	return &t->remote;
}

void transport_set_user(struct transport *t, void *user)
{
	t->user = user;
}

void *transport_get_user(const struct transport *t)
{
	return t->user;
}
