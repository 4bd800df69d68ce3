/* When a transport acts by itself: handshake retries, losses, probes, liveness, new keys. */
#include "core/transport_internal.h"
#include "wire/msg.h"

void transport_initiate(struct transport *t, uint64_t now)
{
	uint8_t ephemeral[32];
	uint8_t epoch = (uint8_t)(t->cur.valid ? t->cur.epoch + 1 : 0);

	t->ops->random(t->ctx, ephemeral, sizeof ephemeral);
	if (handshake_initiate(&t->handshake, epoch, ephemeral) != 0)
		return;
	t->stats.handshakes++;
	t->handshake_sends = 0;
	t->handshake_at_us = now; /* the timer sends it */
	transport_arm(t, now);
}

/* --- handshakes ------------------------------------------------------------------------------ */

/* The manager makes a transport for two nodes that are there, and tries something else when it does
 * not come up.  A resumed one may have to wait for days: in step with nobody. */
static uint64_t ask_again_at(struct transport *t, uint64_t now)
{
	uint32_t random;

	if (!t->config.resumed || t->state == TRANSPORT_CONNECTED)
		return now + HANDSHAKE_RETRY_US;
	t->seek_sent_us = now;
	t->seek.asked++;
	if (t->handshake_deadline_us < now + SEEK_ANSWER_US)
		t->handshake_deadline_us = now + SEEK_ANSWER_US;
	unsigned over = t->seek.asked > SEEK_QUICK ? t->seek.asked - SEEK_QUICK : 0;
	uint64_t wait = (uint64_t)HANDSHAKE_RETRY_US
			<< (over < SEEK_DOUBLINGS ? over : SEEK_DOUBLINGS);
	t->ops->random(t->ctx, &random, sizeof random);
	if (over)
		wait = wait / 2 + random % wait / 2;
	return t->seek.next_us = now + wait;
}

void transport_seek_now(struct transport *t, uint64_t now)
{
	if (t->state != TRANSPORT_HANDSHAKE || !t->config.resumed ||
	    t->handshake_at_us == TIMER_NEVER)
		return;
	/* Not even a replayed packet makes it ask more often than at first. */
	uint64_t at = t->seek_sent_us ? t->seek_sent_us + HANDSHAKE_RETRY_US : now;
	t->seek.asked = 0;
	if (at < now)
		at = now;
	if (at < t->handshake_at_us)
		t->handshake_at_us = t->seek.next_us = at;
	transport_arm(t, now);
}

/* The first handshake tries every candidate; a later one only the address in use. */
static void send_init(struct transport *t, uint64_t now)
{
	if (t->state == TRANSPORT_CONNECTED)
		transport_send_handshake(t, &t->remote, now);
	else
		for (size_t i = 0; i < t->addr_count; i++)
			transport_send_handshake(t, &t->addrs[i], now);
	t->handshake_sends++;
	t->handshake_at_us = ask_again_at(t, now);
}

static void ask_for_handshake(struct transport *t, uint64_t now)
{
	for (size_t i = 0; i < t->addr_count; i++)
		transport_send_handshake_wanted(t, &t->addrs[i], now);
	t->handshake_at_us = ask_again_at(t, now);
}

static void on_handshake_timer(struct transport *t, uint64_t now)
{
	if (!t->config.initiator) {
		ask_for_handshake(t, now);
		return;
	}
	/* Longer with each attempt: an answer counts only for the attempt that it answers, and the
	 * way may be long. */
	unsigned doublings = t->stats.handshakes < 4 ? (unsigned)t->stats.handshakes : 4;
	if (t->handshake_sends >= HANDSHAKE_REPEATS << doublings >> 1)
		transport_initiate(t, now);
	send_init(t, now);
}

void transport_detect_losses(struct transport *t, uint64_t now)
{
	uint64_t before = t->snd.lost_packets;

	if (sendstate_detect(&t->snd, &t->rtt, now, &t->loss_at_us) == 0)
		return;
	t->sample_lost += t->snd.lost_packets - before;
	t->model_lost += t->snd.lost_packets - before;
	struct pkt *newest = TAILQ_LAST(&t->snd.lost, pkt_queue);
	congestion_lost(&t->congestion, newest->sent_us, now);
}

static uint64_t pto_at(const struct transport *t)
{
	if (t->snd.inflight_packets == 0)
		return TIMER_NEVER;
	unsigned shift = t->pto_count < PTO_BACKOFF_MAX ? t->pto_count : PTO_BACKOFF_MAX;
	uint64_t wait = rtt_pto(&t->rtt, t->config.ack_delay_us) << shift;
	return t->last_data_tx_us + (wait < PTO_MAX_US ? wait : PTO_MAX_US);
}

/* RFC 9002 section 6.2: two packets, whatever the window says; the timeout doubles. */
static void on_probe_timeout(struct transport *t, uint64_t now)
{
	sendstate_probe(&t->snd, 2);
	t->probe_credit = 2;
	t->stats.probes_sent++;
	if (++t->pto_count == PTO_COLLAPSE)
		congestion_collapse(&t->congestion);
	if (t->pto_count == PTO_BLACKHOLE)
		pathmtu_blackhole(&t->mtu, now);
}

/* The initiator asks on an idle link, which also measures the round trip; the responder speaks up
 * only if nobody asked it.  All transports of a node in one go: many idle ones are few wake-ups. */
static uint64_t idle_at(const struct transport *t)
{
	uint64_t idle = t->config.idle_us;
	return timer_coalesce(t->last_tx_us + (t->config.initiator ? idle : idle + idle / 2),
			      idle / IDLE_SLOTS);
}

/* --- silence -------------------------------------------------------------------------------- */

/* Our peer owes us an ack. */
static bool waiting(const struct transport *t)
{
	return t->snd.base != t->snd.next;
}

static uint64_t waiting_since(const struct transport *t)
{
	return t->last_rx_us > t->waiting_us ? t->last_rx_us : t->waiting_us;
}

/* Two probe timeouts: those of the data itself have had their chance. */
static uint64_t ask_after(const struct transport *t)
{
	uint64_t after = 2 * rtt_pto(&t->rtt, t->config.ack_delay_us);
	return after > SUSPECT_ASK_US ? after : SUSPECT_ASK_US;
}

/* Long enough for the answer to the last of SUSPECT_ASKS questions to come. */
static uint64_t suspect_after(const struct transport *t)
{
	uint64_t after = ask_after(t) + (uint64_t)SUSPECT_ASKS * SUSPECT_ASK_US +
			 rtt_pto(&t->rtt, t->config.ack_delay_us);
	return after > SUSPECT_US ? after : SUSPECT_US;
}

/* A process that was held up itself must ask before it suspects: what the peer said may still be in
 * the socket. */
static uint64_t suspect_at(const struct transport *t)
{
	if (t->suspect || !waiting(t) || t->asks < SUSPECT_ASKS)
		return TIMER_NEVER;
	return waiting_since(t) + suspect_after(t);
}

static void suspect_set(struct transport *t, bool suspect, uint64_t now)
{
	if (t->suspect == suspect)
		return;
	t->suspect = suspect;
	if (t->ops->suspect)
		t->ops->suspect(t->ctx, t, suspect, now);
}

void transport_heard(struct transport *t, uint64_t now)
{
	t->last_rx_us = now;
	t->asks = 0;
	suspect_set(t, false, now);
}

/* On an idle link half of the patience is for waiting, half for asking. */
static uint64_t ask_at(const struct transport *t)
{
	uint64_t at = t->last_rx_us + t->config.liveness_us / 2;
	if (waiting(t) && waiting_since(t) + ask_after(t) < at)
		at = waiting_since(t) + ask_after(t);
	uint64_t again =
		t->asked_us + (waiting(t) && !t->suspect ? SUSPECT_ASK_US : PROBE_ASK_INTERVAL_US);
	return at > again ? at : again;
}

static uint64_t liveness_next(const struct transport *t)
{
	uint64_t next = idle_at(t);
	if (ask_at(t) < next)
		next = ask_at(t);
	if (suspect_at(t) < next)
		next = suspect_at(t);
	if (t->last_rx_us + t->config.liveness_us < next)
		next = t->last_rx_us + t->config.liveness_us;
	return next;
}

static void on_liveness(struct transport *t, uint64_t now)
{
	if (now >= t->last_rx_us + t->config.liveness_us) {
		transport_set_state(t, TRANSPORT_DISCONNECTED, CODE_LOST, now);
		return;
	}
	if (now >= suspect_at(t))
		suspect_set(t, true, now);
	bool ask = now >= ask_at(t);
	if (ask) {
		t->asked_us = now;
		t->asks++;
	}
	if (ask || now >= idle_at(t)) {
		transport_send_probe(t, &t->remote,
				     ask || t->config.initiator ? PROBE_ANSWER : PROBE_KEEPALIVE, 0,
				     now, now);
	}
}

static void min_of(uint64_t *a, uint64_t b)
{
	if (b < *a)
		*a = b;
}

void transport_arm(struct transport *t, uint64_t now)
{
	uint64_t at = t->handshake_at_us;

	(void)now;
	if (t->state == TRANSPORT_DISCONNECTED) {
		timerq_cancel(t->config.timers, &t->timer);
		return;
	}
	min_of(&at, t->handshake_deadline_us);
	if (t->state == TRANSPORT_CONNECTED) {
		min_of(&at, t->ack_at_us);
		min_of(&at, t->loss_at_us);
		min_of(&at, pto_at(t));
		min_of(&at, t->rekey_at_us);
		min_of(&at, liveness_next(t));
		min_of(&at, t->mtu.at_us);
		if (t->pace_blocked)
			min_of(&at, t->pace_at_us + PACE_QUANTUM_US);
	}
	if (at != t->timer.at_us)
		timerq_set(t->config.timers, &t->timer, at);
}

static void run_connected(struct transport *t, uint64_t now)
{
	if (now >= t->loss_at_us)
		transport_detect_losses(t, now);
	if (now >= pto_at(t))
		on_probe_timeout(t, now);
	if (now >= t->ack_at_us)
		transport_send_ack(t, now);
	if (now >= t->rekey_at_us) {
		t->rekey_at_us = TIMER_NEVER;
		transport_initiate(t, now);
	}
	uint32_t size = pathmtu_due(&t->mtu, now);
	if (size)
		transport_send_probe(t, &t->remote, PROBE_MTU, size, 0, now);
	on_liveness(t, now);
}

void transport_timer_fire(struct timer *timer, uint64_t now)
{
	struct transport *t = timer->owner;

	if (now >= t->handshake_deadline_us) {
		transport_set_state(t, TRANSPORT_DISCONNECTED, CODE_TIMEOUT, now);
		return;
	}
	if (now >= t->handshake_at_us)
		on_handshake_timer(t, now);
	if (t->state == TRANSPORT_CONNECTED)
		run_connected(t, now);
	transport_flush(t, now);
	transport_arm(t, now);
}
