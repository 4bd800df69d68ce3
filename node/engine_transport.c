#include "node/engine_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node_link *link_find(const struct node_engine *e, uint32_t id)
{
	return map_get(&e->links, &id);
}

void link_touch(struct node_link *l)
{
	if (l->dirty || l->dead)
		return;
	l->dirty = true;
	TAILQ_INSERT_TAIL(&l->engine->dirty_links, l, work);
}

static void link_bury(struct node_link *l, uint16_t code)
{
	struct node_engine *e = l->engine;

	if (l->dead)
		return;
	if (l->dirty)
		TAILQ_REMOVE(&e->dirty_links, l, work);
	l->dirty = false;
	l->dead = true;
	l->code = code;
	TAILQ_INSERT_TAIL(&e->dead_links, l, work);
}

static void report_connected(struct node_link *l)
{
	struct msg m = {.type = MSG_TransportConnected};
	struct transport_stats s;

	transport_get_stats(l->transport, &s);
	m.transport_connected.transport = l->id;
	m.transport_connected.remote = *transport_get_remote(l->transport);
	m.transport_connected.rtt_us = s.srtt_us;
	engine_manager_send(l->engine, &m);
}

/* --- transport_ops --------------------------------------------------------------------------- */

static void op_send(void *ctx, struct transport *t, const struct net_addr *to, struct pkt *const *v,
		    size_t n)
{
	struct node_link *l = ctx;

	(void)t;
	l->engine->ops.udp_send(l->engine->ctx, l->socket, to, v, n);
}

static void op_deliver(void *ctx, struct transport *t, struct pkt *p, uint64_t now)
{
	(void)t;
	route_deliver(ctx, p, now);
}

static void touch_conns(struct node_link *l)
{
	struct node_conn *c;

	TAILQ_FOREACH(c, &l->conns, of_link) {
		conn_touch(c);
	}
	/* Who was first comes last next time, so that no connection starves behind another. */
	c = TAILQ_FIRST(&l->conns);
	if (c && TAILQ_NEXT(c, of_link)) {
		TAILQ_REMOVE(&l->conns, c, of_link);
		TAILQ_INSERT_TAIL(&l->conns, c, of_link);
	}
}

static void op_state(void *ctx, struct transport *t, enum transport_state old, uint16_t code,
		     uint64_t now)
{
	struct node_link *l = ctx;
	struct node_engine *e = l->engine;
	enum transport_state s = transport_get_state(t);
	char peer[MESH_ID_SHORT];

	log_info("transport %u to %s: %s -> %s%s%s", l->id,
		 mesh_id_short(transport_get_peer(t), peer), transport_state_name(old),
		 transport_state_name(s), s == TRANSPORT_DISCONNECTED ? ": " : "",
		 s == TRANSPORT_DISCONNECTED ? msg_code_name(code) : "");
	if (s == TRANSPORT_CONNECTED && old != TRANSPORT_CONNECTED) {
		l->lost = false;
		if (link_remember_remote(l))
			engine_kept_changed(e);
		report_connected(l);
		touch_conns(l);
		if (timerq_next(&e->timers) == TIMER_NEVER ||
		    e->stats_timer.at_us > now + STATS_SOON_US)
			timerq_set(&e->timers, &e->stats_timer, now + STATS_SOON_US);
	} else if (s == TRANSPORT_DISCONNECTED) {
		link_bury(l, code);
	}
}

static void op_writable(void *ctx, struct transport *t, uint64_t now)
{
	(void)t;
	(void)now;
	touch_conns(ctx);
}

static void op_random(void *ctx, void *out, size_t len)
{
	struct node_link *l = ctx;

	l->engine->ops.random(l->engine->ctx, out, len);
}

static void op_suspect(void *ctx, struct transport *t, bool suspect, uint64_t now)
{
	struct node_link *l = ctx;
	struct msg m = {.type = MSG_TransportSuspect};

	(void)t;
	log_info("transport %u: %s", l->id,
		 suspect ? "the peer is silent under traffic" : "the peer is heard again");
	m.transport_suspect.transport = l->id;
	m.transport_suspect.suspect = suspect;
	engine_manager_send(l->engine, &m);
	if (!suspect)
		return;
	standby_link_is_bad(l);
	route_link_is_bad(l, now);
}

static const struct transport_ops link_ops = {
	.send = op_send,
	.deliver = op_deliver,
	.state = op_state,
	.writable = op_writable,
	.random = op_random,
	.suspect = op_suspect,
};

/* --- life ------------------------------------------------------------------------------------ */

/* `attempts`: handshakes of its earlier transports at most. */
static struct transport *make_transport(struct node_link *l, uint64_t attempts,
					struct transport_seek seek, uint64_t now)
{
	struct node_engine *e = l->engine;
	struct transport_config c = {
		.id = l->id,
		.initiator = l->initiator,
		.resumed = l->resumed,
		.attempts = attempts,
		.seek = seek,
		.local = e->config.id,
		.remote = l->kept.peer,
		.retransmit_limit = e->retransmit_limit,
		.idle_us = e->send_interval_us,
		.liveness_us = e->config.liveness_us,
		.rekey_us = e->config.rekey_us,
		.ack_delay_us = 2 * (uint64_t)e->time_unit_us,
		.packet_bytes = e->packet_bytes,
		.egress_bytes = e->egress_bytes,
		.congestion = e->config.congestion,
		.codel_target_us = e->config.codel_target_us,
		.codel_interval_us = e->config.codel_interval_us,
		.pool = &e->pool,
		.timers = &e->timers,
	};

	memcpy(c.local_secret, e->config.secret, sizeof c.local_secret);
	memcpy(c.psk, l->kept.secret, sizeof c.psk);
	struct transport *t = transport_new(&c, &link_ops, l, now);
	explicit_bzero(&c, sizeof c);
	return t;
}

static void link_free(struct node_link *l)
{
	struct node_engine *e = l->engine;

	if (l->transport)
		transport_free(l->transport);
	if (l->socket)
		e->ops.udp_close(e->ctx, l->socket);
	explicit_bzero(&l->kept, sizeof l->kept);
	free(l);
}

/* 0 or -errno of the socket. */
static int link_new(struct node_engine *e, const struct keep_transport *k, bool resumed,
		    uint64_t now, struct node_link **out)
{
	struct node_link *l = calloc(1, sizeof *l);

	if (!l)
		return -ENOMEM;
	l->engine = e;
	l->id = k->id;
	l->initiator = k->initiator;
	l->resumed = resumed;
	l->kept = *k;
	TAILQ_INIT(&l->conns);
	int port = e->ops.udp_open(e->ctx, l->id, k->port, &l->socket);
	if (port < 0) {
		link_free(l);
		return port;
	}
	l->port = l->kept.port = (uint16_t)port;
	l->transport =
		make_transport(l, (uint64_t)e->starts << 32, (struct transport_seek){0}, now);
	int err = l->transport ? map_put(&e->links, &l->id, l) : -ENOMEM;
	route_changed(e);
	engine_kept_changed(e);
	if (err) {
		link_free(l);
		return err;
	}
	TAILQ_INSERT_TAIL(&e->all_links, l, all);
	*out = l;
	return 0;
}

/* Only what counts up. */
void link_count(struct transport_stats *sum, const struct transport_stats *s)
{
	sum->tx_packets += s->tx_packets;
	sum->rx_packets += s->rx_packets;
	sum->tx_bytes += s->tx_bytes;
	sum->rx_bytes += s->rx_bytes;
	sum->delivered_packets += s->delivered_packets;
	sum->delivered_bytes += s->delivered_bytes;
	sum->retransmits += s->retransmits;
	sum->spurious += s->spurious;
	sum->duplicates += s->duplicates;
	sum->bad_packets += s->bad_packets;
	sum->egress_drops += s->egress_drops;
	sum->window_drops += s->window_drops;
	sum->marks += s->marks;
	sum->handshakes += s->handshakes;
	sum->probes_sent += s->probes_sent;
	sum->moves += s->moves;
}

static void link_bank_counters(struct node_link *l)
{
	struct transport_stats s;

	transport_get_stats(l->transport, &s);
	l->engine->past.tx_bytes += s.tx_bytes;
	l->engine->past.rx_bytes += s.rx_bytes;
	link_count(&l->engine->past.sum, &s);
}

bool link_remember_remote(struct node_link *l)
{
	const struct net_addr *remote = transport_get_remote(l->transport);

	if (!remote->family || net_addr_equal(remote, &l->kept.remote))
		return false;
	l->kept.remote = *remote;
	return true;
}

void link_seek_all(struct node_engine *e, uint64_t now)
{
	struct node_link *l;

	TAILQ_FOREACH(l, &e->all_links, all)
		if (!l->dead)
			transport_seek_now(l->transport, now);
}

/* Where the peer was last comes first. */
static void seek_peer(struct node_link *l, uint64_t now)
{
	const struct keep_transport *k = &l->kept;
	struct net_addr addrs[ADDRS_MAX + 1];
	size_t n = 0;

	if (k->remote.family)
		addrs[n++] = k->remote;
	for (uint8_t i = 0; i < k->addr_count; i++)
		if (!net_addr_equal(&k->addrs[i], &k->remote))
			addrs[n++] = k->addrs[i];
	transport_open(l->transport, addrs, n, now);
	link_touch(l);
}

/*
 * Without the manager nobody can give another path, and nothing would make this transport again: it
 * stays, with its rules, and goes on when its peer does, as after the peer's restart.
 */
static bool may_wait(const struct node_link *l)
{
	const struct node_engine *e = l->engine;

	return !e->registered && !l->told && e->settings.max_packet_size &&
	       (l->code == CODE_LOST || l->code == CODE_TIMEOUT) &&
	       (l->kept.addr_count || l->kept.remote.family);
}

static bool link_begin_anew(struct node_link *l, uint64_t now)
{
	uint64_t attempts = transport_get_attempts(l->transport);

	link_remember_remote(l);
	l->resumed = true;
	struct transport *t = make_transport(l, attempts, transport_get_seek(l->transport), now);
	if (!t)
		return false;
	link_bank_counters(l);
	transport_free(l->transport);
	l->transport = t;
	l->dead = false;
	l->lost = true;
	l->quiet_bytes = 0;
	standby_link_is_bad(l);
	route_link_is_bad(l, now);
	seek_peer(l, now);
	return true;
}

void link_restore(struct node_engine *e, const struct keep_transport *k, uint64_t now)
{
	struct node_link *l;

	if (e->links.count >= e->config.max_transports || mesh_id_equal(&k->peer, &e->config.id)) {
		log_warn("transport %u is not taken up again: too many", k->id);
		return;
	}
	int err = link_new(e, k, true, now, &l);
	if (err) {
		log_warn("transport %u is not taken up again on UDP port %u: %s", k->id, k->port,
			 strerror(-err));
		return;
	}
	seek_peer(l, now);
}

void link_give_up_lost(struct node_engine *e, uint64_t now)
{
	struct node_link *l;

	TAILQ_FOREACH(l, &e->all_links, all) {
		if (!l->lost || l->dead)
			continue;
		l->told = true;
		transport_close(l->transport, CODE_LOST, now);
		link_bury(l, CODE_LOST);
	}
	link_reap(e, now);
}

void link_reap(struct node_engine *e, uint64_t now)
{
	struct node_link *l;

	while ((l = TAILQ_FIRST(&e->dead_links))) {
		TAILQ_REMOVE(&e->dead_links, l, work);
		if (may_wait(l) && link_begin_anew(l, now))
			continue;
		TAILQ_REMOVE(&e->all_links, l, all);
		map_del(&e->links, &l->id);
		route_changed(e);
		engine_kept_changed(e);
		conn_link_lost(l);
		route_table_drop_transport(&e->routes, l->id);
		link_bank_counters(l);
		if (!l->told)
			engine_ended(e, MSG_TransportShutdown, l->id, l->code);
		link_free(l);
	}
}

void link_close_all(struct node_engine *e, uint16_t code, uint64_t now)
{
	struct node_link *l;

	TAILQ_FOREACH(l, &e->all_links, all) {
		l->told = true;
		transport_close(l->transport, code, now);
		link_bury(l, code);
	}
}

void link_free_all(struct node_engine *e)
{
	struct node_link *l;

	while ((l = TAILQ_FIRST(&e->all_links))) {
		TAILQ_REMOVE(&e->all_links, l, all);
		link_free(l);
	}
}

/* --- messages of the manager ----------------------------------------------------------------- */

static uint16_t code_of_error(int err)
{
	switch (err) {
	case -EADDRINUSE:
		return CODE_PORT_IN_USE;
	case -ENOSPC:
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
		return CODE_BUSY;
	default:
		return CODE_REFUSED;
	}
}

static void transport_create(struct node_engine *e, const struct msg *m, uint64_t now)
{
	const struct msg_transport_create *c = &m->transport_create;
	struct node_link *l = link_find(e, c->transport);

	if (!c->transport || mesh_id_equal(&c->peer, &e->config.id)) {
		engine_manager_ack(e, m->seq, CODE_INVALID, 0, "no such peer or number");
		return;
	}
	if (l) { /* Asked twice, after an answer that got lost. */
		bool same = mesh_id_equal(transport_get_peer(l->transport), &c->peer);
		engine_manager_ack(e, m->seq, same ? CODE_OK : CODE_INVALID, l->port, NULL);
		return;
	}
	if (e->links.count >= e->config.max_transports) {
		engine_refused(e, "transports", now);
		engine_manager_ack(e, m->seq, CODE_BUSY, 0, "too many transports");
		return;
	}
	struct keep_transport k = {.id = c->transport,
				   .peer = c->peer,
				   .initiator = c->initiator != 0,
				   .port = c->port};
	memcpy(k.secret, c->secret, sizeof k.secret);
	int err = link_new(e, &k, false, now, &l);
	explicit_bzero(&k, sizeof k);
	if (err)
		engine_manager_ack(e, m->seq, code_of_error(err), 0, strerror(-err));
	else
		engine_manager_ack(e, m->seq, CODE_OK, l->port, NULL);
}

static void open_udp(struct node_engine *e, const struct msg *m, uint64_t now)
{
	const struct msg_open_udp *o = &m->open_udp;
	struct node_link *l = link_find(e, o->transport);
	struct net_addr addrs[ADDRS_MAX];

	if (!l || l->dead) {
		engine_manager_ack(e, m->seq, CODE_NOT_FOUND, 0, "no such transport");
		return;
	}
	for (size_t i = 0; i < o->addrs_count; i++)
		addrs[i] = l->kept.addrs[i] = o->addrs[i].addr;
	l->kept.addr_count = (uint8_t)o->addrs_count;
	engine_kept_changed(e);
	engine_manager_ack(e, m->seq, CODE_OK, 0, NULL);
	transport_open(l->transport, addrs, o->addrs_count, now);
	link_touch(l);
}

static void transport_end(struct node_engine *e, const struct msg *m, uint64_t now)
{
	struct node_link *l = link_find(e, m->transport_shutdown.transport);

	if (l && !l->dead) {
		l->told = true;
		transport_close(l->transport, m->transport_shutdown.code, now);
		link_bury(l, m->transport_shutdown.code);
	}
	engine_manager_ack(e, m->seq, CODE_OK, 0, NULL);
}

void link_message(struct node_engine *e, const struct msg *m, uint64_t now)
{
	if (m->type == MSG_TransportCreate)
		transport_create(e, m, now);
	else if (m->type == MSG_OpenUDP)
		open_udp(e, m, now);
	else
		transport_end(e, m, now);
}

/* --- packets and reports --------------------------------------------------------------------- */

/* How many slices from the first on lie one behind the other and are equally long, but the last may
 * be shorter: what one GRO datagram brings. */
static size_t run_of(const struct udp_slice *v, size_t n)
{
	size_t count = 1, bytes = v->len;

	for (; count < n && count < PKT_RUN_PACKETS; count++) {
		const struct udp_slice *s = &v[count];
		if (v[count - 1].len != v->len || s->len > v->len || s->data != v->data + bytes ||
		    bytes + s->len > PKT_RUN_BYTES)
			break;
		bytes += s->len;
	}
	return count;
}

void node_engine_udp_input(struct node_engine *e, uint32_t transport, struct block *b,
			   const struct udp_slice *v, size_t n, const struct net_addr *from,
			   uint64_t now)
{
	struct node_link *l = link_find(e, transport);

	for (size_t i = 0, count; l && !l->dead && i < n; i += count) {
		count = run_of(v + i, n - i);
		const struct udp_slice *last = &v[i + count - 1];
		struct pkt *p = pkt_new_run(&e->pool, b, v[i].data,
					    (size_t)(last->data - v[i].data) + last->len, v[i].len);
		if (!p)
			break;
		transport_input(l->transport, p, from, now);
	}
	if (l)
		link_touch(l);
}

static uint64_t saturate32(uint64_t v)
{
	return v < UINT32_MAX ? v : UINT32_MAX;
}

static void stats_put(struct stats_item *out, const struct node_link *l)
{
	struct transport_stats s;

	transport_get_stats(l->transport, &s);
	*out = (struct stats_item){
		.transport = l->id,
		.up = transport_get_state(l->transport) == TRANSPORT_CONNECTED,
		.rtt_us = s.srtt_us,
		.loss_ppm = s.loss_ppm,
		.rate_bps = s.rate_bps,
		.queue_bytes = (uint32_t)saturate32(s.queue_bytes),
		.tx_bytes = s.tx_bytes,
		.rx_bytes = s.rx_bytes,
		.retransmits = s.retransmits,
	};
}

/* --- memory ---------------------------------------------------------------------------------- */

/* True while there is traffic. */
static bool link_rest(struct node_link *l)
{
	struct transport_stats s;

	transport_get_stats(l->transport, &s);
	bool busy = s.tx_bytes + s.rx_bytes - l->quiet_bytes > QUIET_BYTES;
	l->quiet_bytes = s.tx_bytes + s.rx_bytes;
	l->quiet = busy ? 0 : l->quiet + 1;
	if (l->quiet == QUIET_REPORTS)
		transport_trim(l->transport);
	return busy;
}

/* A node that carried much once and has little to do now is as small as one that has just
 * started. */
static void rest(struct node_engine *e)
{
	struct node_link *l;
	bool busy = false;

	TAILQ_FOREACH(l, &e->all_links, all) {
		if (link_remember_remote(l))
			engine_kept_changed(e);
		busy = link_rest(l) || busy;
	}
	e->quiet = busy ? 0 : e->quiet + 1;
	if (e->quiet != QUIET_REPORTS)
		return;
	pkt_pool_free(&e->pool);
	if (e->ops.trim)
		e->ops.trim(e->ctx);
}

void link_stats_fire(struct timer *t, uint64_t now)
{
	struct node_engine *e = t->owner;
	struct msg m = {.type = MSG_TransportStats};
	struct msg_transport_stats *s = &m.transport_stats;
	struct node_link *l;

	TAILQ_FOREACH(l, &e->all_links, all) {
		if (transport_get_state(l->transport) != TRANSPORT_CONNECTED)
			continue;
		stats_put(&s->stats[s->stats_count++], l);
		if (s->stats_count == STATS_PER_MESSAGE_MAX) {
			engine_manager_send(e, &m);
			s->stats_count = 0;
		}
	}
	if (s->stats_count)
		engine_manager_send(e, &m);
	rest(e);
	timerq_set(&e->timers, t,
		   timer_coalesce(now + e->config.stats_interval_us,
				  e->config.stats_interval_us / STATS_SLOTS));
}
