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

static void set_default(uint64_t *value, uint64_t otherwise)
{
	if (*value == 0)
		*value = otherwise;
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
	t->handshake.attempt = config->initiator ? config->attempts : 0;
	t->seek = config->seek;
	ops->random(ctx, &t->handshake.life, sizeof t->handshake.life);
	sodium_memzero(t->config.local_secret, sizeof t->config.local_secret);
	sodium_memzero(t->config.psk, sizeof t->config.psk);
	set_default(&t->config.idle_us, DEFAULT_IDLE_US);
	set_default(&t->config.liveness_us, DEFAULT_LIVENESS_US);
	set_default(&t->config.rekey_us, DEFAULT_REKEY_US);
	set_default(&t->config.ack_delay_us, DEFAULT_ACK_DELAY_US);
	set_default(&t->config.codel_target_us, CODEL_TARGET_US);
	set_default(&t->config.codel_interval_us, CODEL_INTERVAL_US);
	sendstate_init(&t->snd, config->pool);
	recvstate_init(&t->rcv);
	congestion_init(&t->congestion, config->congestion, (uint32_t)config->packet_bytes, now);
	egress_init(&t->egress, config->pool, config->egress_bytes, t->config.codel_target_us,
		    t->config.codel_interval_us);
	TAILQ_INIT(&t->rest);
	pathmtu_init(&t->mtu, PACKET_MIN_MTU_BYTES - IP_UDP_OVERHEAD_BYTES,
		     (uint32_t)config->packet_bytes, now);
	timer_init(&t->timer, transport_timer_fire, t);
	t->ack_at_us = t->loss_at_us = TIMER_NEVER;
	t->last_rx_us = t->last_tx_us = t->rate_from_us = now;
	t->handshake_at_us = t->handshake_deadline_us = t->rekey_at_us = TIMER_NEVER;
	return t;
}

static void drop_egress(struct transport *t)
{
	struct pkt *p;

	egress_free(&t->egress);
	while ((p = TAILQ_FIRST(&t->rest))) {
		TAILQ_REMOVE(&t->rest, p, queue);
		pkt_free(t->config.pool, p);
	}
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

void transport_trim(struct transport *t)
{
	egress_trim(&t->egress);
	sendstate_trim(&t->snd);
	if (t->rcv.above.count == 0)
		ranges_free(&t->rcv.above);
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
		t->mtu.at_us = now;
		t->handshake_deadline_us = TIMER_NEVER;
		t->seek = (struct transport_seek){0};
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
	if (t->addr_count)
		memcpy(t->addrs, addrs, t->addr_count * sizeof *addrs);
	if (t->state != TRANSPORT_NEW)
		return;
	t->handshake_deadline_us = now + HANDSHAKE_TIMEOUT_US;
	transport_set_state(t, TRANSPORT_HANDSHAKE, 0, now);
	if (t->config.initiator)
		transport_initiate(t, now);
	else if (t->config.resumed)
		t->handshake_at_us = now;
	if (t->config.resumed && t->seek.next_us > now)
		t->handshake_at_us = t->seek.next_us;
	transport_arm(t, now);
}

void transport_begin_anew(struct transport *t, uint64_t now)
{
	log_info("transport %u: the peer has begun anew", t->config.id);
	t->stats.restarts++;
	t->prev.valid = false; /* its numbers are not to be taken for new ones */
	sendstate_free(&t->snd);
	recvstate_free(&t->rcv);
	recvstate_init(&t->rcv);
	t->control_replay = (struct replay){0};
	congestion_init(&t->congestion, t->config.congestion, (uint32_t)t->config.packet_bytes,
			now);
	t->ack_at_us = t->loss_at_us = TIMER_NEVER;
	t->pto_count = t->probe_credit = 0;
	t->window_limited = false;
	t->model_lost = 0;
}

void transport_close(struct transport *t, uint16_t code, uint64_t now)
{
	uint8_t body[2] = {(uint8_t)(code >> 8), (uint8_t)code};

	if (t->state == TRANSPORT_CONNECTED)
		transport_send_control(t, PACKET_CLOSE, bytes_of(body, sizeof body), now);
	transport_set_state(t, TRANSPORT_DISCONNECTED, code, now);
}

/* --- looking at it ------------------------------------------------------------------------ */

size_t transport_packet_bytes(const struct transport *t)
{
	return t->mtu.good;
}

void transport_get_stats(const struct transport *t, struct transport_stats *out)
{
	*out = t->stats;
	out->srtt_us = (uint32_t)t->rtt.smoothed_us;
	out->rttvar_us = (uint32_t)t->rtt.variance_us;
	out->min_rtt_us = (uint32_t)t->rtt.min_us;
	out->cwnd_bytes = t->congestion.cwnd_bytes;
	out->inflight_bytes = t->snd.inflight_bytes;
	out->queue_bytes = t->egress.bytes;
	out->egress_drops += t->egress.dropped;
	out->marks = t->egress.marked;
	out->packet_bytes = t->mtu.good;
}

enum transport_state transport_get_state(const struct transport *t)
{
	return t->state;
}

bool transport_is_suspect(const struct transport *t)
{
	return t->suspect;
}

uint32_t transport_get_id(const struct transport *t)
{
	return t->config.id;
}

uint64_t transport_get_attempts(const struct transport *t)
{
	return t->handshake.attempt;
}

struct transport_seek transport_get_seek(const struct transport *t)
{
	return t->seek;
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
