/* The transport factory: from TransportCreate at both ends to a usable edge of the graph. */
#include "nodemanager/state.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

const char *nm_transport_status_name(enum nm_transport_status status)
{
	switch (status) {
	case NM_TRANSPORT_CREATING:
		return "creating";
	case NM_TRANSPORT_OPENING:
		return "opening";
	case NM_TRANSPORT_CONNECTED:
		return "connected";
	}
	return "?";
}

struct nm_transport *nm_transport_by_id(const struct nm *nm, uint32_t id)
{
	return map_get(&nm->transports, &id);
}

struct nm_end *nm_end_of(struct nm_transport *t, const struct nm_node *node)
{
	if (t && t->end[0].node == node)
		return &t->end[0];
	return t && t->end[1].node == node ? &t->end[1] : NULL;
}

static const char *pair_text(const struct nm_transport *t, char out[2 * NAME_MAX_BYTES + 8])
{
	char a[NAME_MAX_BYTES + 1], b[NAME_MAX_BYTES + 1];
	snprintf(out, 2 * NAME_MAX_BYTES + 8, "%s - %s", nm_node_text(t->end[0].node, a),
		 nm_node_text(t->end[1].node, b));
	return out;
}

static void fail(struct nm_transport *t, uint16_t code, const char *text, uint64_t now)
{
	nm_transport_end(t->nm, t, NULL, code, text, now);
}

static void late(struct timer *timer, uint64_t now)
{
	struct nm_transport *t = timer->owner;
	char text[TEXT_MAX_BYTES], a[NAME_MAX_BYTES + 1], b[NAME_MAX_BYTES + 1];
	snprintf(text, sizeof text, "no packets pass between %s and %s",
		 nm_node_text(t->end[0].node, a), nm_node_text(t->end[1].node, b));
	fail(t, CODE_TIMEOUT, text, now);
}

/* --- OpenUDP: both know their port, each learns where the other may be found ------------------ */

static void opened(struct nm *nm, void *owner, uint32_t side, const struct nm_reply *reply,
		   uint64_t now)
{
	(void)nm, (void)side;
	if (reply->code != CODE_OK)
		fail(owner, reply->code, reply->text, now);
}

static int open_send(struct nm_transport *t, uint32_t side, uint64_t now)
{
	struct nm_node *node = t->end[side].node, *peer = t->end[!side].node;
	struct msg m = {.type = MSG_OpenUDP};
	m.open_udp.transport = t->id;
	m.open_udp.addrs_count = nm_candidates(node, peer, t->end[!side].port, m.open_udp.addrs);
	return nm_request_send(t->nm, node, &m, &t->requests, opened, t, side, now);
}

static void open_both(struct nm_transport *t, uint64_t now)
{
	t->status = NM_TRANSPORT_OPENING;
	int err = timerq_set(&t->nm->timers, &t->timer, now + t->nm->config.transport_timeout_us);
	if (!err)
		err = open_send(t, 1, now); /* who waits first, then who calls */
	if (!err)
		err = open_send(t, 0, now);
	if (err)
		fail(t, CODE_BUSY, "out of memory", now);
}

/* --- TransportCreate: a socket and a port at each end ----------------------------------------- */

static void port_free(struct nm *nm, struct nm_end *e)
{
	if (e->host)
		nm_port_release(nm, e->host, e->reserved);
	e->host = NULL;
	e->reserved = 0;
}

static bool port_reserve(struct nm *nm, struct nm_end *e)
{
	if (!nm->config.start_port)
		return true;
	e->reserved = e->port = nm_port_take(nm, &e->node->remote, &e->host);
	return e->port != 0;
}

static void created(struct nm *nm, void *owner, uint32_t side, const struct nm_reply *reply,
		    uint64_t now);

static int create_send(struct nm_transport *t, uint32_t side, uint64_t now)
{
	struct nm_end *e = &t->end[side];
	struct msg m = {.type = MSG_TransportCreate};
	struct msg_transport_create *c = &m.transport_create;
	c->transport = t->id;
	c->peer = t->end[!side].node->id;
	c->initiator = side == 0;
	c->port = e->port;
	for (size_t i = 0; i < sizeof t->secret; i++)
		c->secret[i] = t->secret[i];
	e->told = true;
	int err = nm_request_send(t->nm, e->node, &m, &t->requests, created, t, side, now);
	sodium_memzero(&m, sizeof m);
	return err;
}

/* Somebody else on that host has the port: the next one, for a while. */
static void port_next(struct nm_transport *t, uint32_t side, uint64_t now)
{
	struct nm_end *e = &t->end[side];
	e->told = false;
	if (++e->port_tries > NM_PORT_TRIES || !e->host) {
		fail(t, CODE_PORT_IN_USE, "no free UDP port", now);
		return;
	}
	struct nm_host *host = e->host;
	uint16_t port = e->reserved;
	/* The new one first: a host record without ports would forget where to go on. */
	nm_port_foreign_mark(host, port);
	bool ok = port_reserve(t->nm, e);
	nm_port_release(t->nm, host, port);
	if (!ok)
		e->host = NULL;
	if (!ok || create_send(t, side, now))
		fail(t, CODE_PORT_IN_USE, "no free UDP port", now);
}

static void created(struct nm *nm, void *owner, uint32_t side, const struct nm_reply *reply,
		    uint64_t now)
{
	struct nm_transport *t = owner;
	struct nm_end *e = &t->end[side];
	(void)nm;
	if (reply->code == CODE_PORT_IN_USE) {
		port_next(t, side, now);
		return;
	}
	if (reply->code != CODE_OK) {
		fail(t, reply->code, reply->text, now);
		return;
	}
	if (reply->value > 0 && reply->value <= UINT16_MAX)
		e->port = (uint16_t)reply->value;
	if (!e->port) {
		fail(t, CODE_PROTOCOL, "a node did not say its UDP port", now);
		return;
	}
	e->created = true;
	if (t->end[!side].created)
		open_both(t, now);
}

/* The number is in the store before any node hears it: it is how the next manager knows which
 * transport belongs to the link. */
static void id_assign(struct nm *nm, struct nm_link *link)
{
	do
		link->last_transport = nm_counter_next(nm, NM_COUNTER_TRANSPORT);
	while (nm_transport_by_id(nm, link->last_transport));
	if (nm->ops->link_transport)
		nm->ops->link_transport(nm->ctx, &link->end[0].node->id, &link->end[1].node->id,
					link->last_transport);
}

/* With the link's number; the initiator first. */
static struct nm_transport *transport_make(struct nm *nm, struct nm_link *link, struct nm_node *a,
					   struct nm_node *b)
{
	struct nm_transport *t = calloc(1, sizeof *t);
	if (!t || map_put(&nm->transports, &link->last_transport, t)) {
		free(t);
		return NULL;
	}
	t->nm = nm;
	t->id = link->last_transport;
	t->link = link;
	t->edge = GRAPH_NONE;
	t->end[0].node = a;
	t->end[1].node = b;
	timer_init(&t->timer, late, t);
	TAILQ_INSERT_TAIL(&nm->transport_list, t, all);
	for (unsigned i = 0; i < 2; i++) {
		t->end[i].transport = t;
		LIST_INSERT_HEAD(&t->end[i].node->ends, &t->end[i], of_node);
		t->end[i].node->end_count++;
	}
	return t;
}

static const char *unfit(const struct nm *nm, const struct nm_node *node)
{
	if (!node->session)
		return "a node is not connected";
	return node->end_count >= nm->config.transports_per_node_max
		       ? "a node has all the transports that it may have"
		       : NULL;
}

struct nm_transport *nm_transport_new(struct nm *nm, struct nm_link *link, const char **why,
				      uint64_t now)
{
	*why = unfit(nm, link->end[0].node);
	if (!*why)
		*why = unfit(nm, link->end[1].node);
	if (*why)
		return NULL;
	*why = "out of memory";
	id_assign(nm, link);
	struct nm_transport *t = transport_make(nm, link, link->end[0].node, link->end[1].node);
	if (!t)
		return NULL;
	nm->ops->random(nm->ctx, t->secret, sizeof t->secret);
	if (port_reserve(nm, &t->end[0]) && port_reserve(nm, &t->end[1]) &&
	    create_send(t, 0, now) == 0 && create_send(t, 1, now) == 0)
		return t;
	*why = "no UDP port is free, or out of memory";
	nm_transport_drop(nm, t, NULL, CODE_BUSY, now);
	return NULL;
}

/* --- the end ---------------------------------------------------------------------------------- */

void nm_transport_drop(struct nm *nm, struct nm_transport *t, const struct nm_node *except,
		       uint16_t code, uint64_t now)
{
	timerq_cancel(&nm->timers, &t->timer);
	nm_request_drop(nm, &t->requests);
	if (t->edge != GRAPH_NONE) {
		graph_edge_remove(nm->graph, t->edge);
		t->edge = GRAPH_NONE;
		nm->transports_up--;
	}
	map_del(&nm->transports, &t->id);
	TAILQ_REMOVE(&nm->transport_list, t, all);
	for (unsigned i = 0; i < 2; i++) {
		struct nm_end *e = &t->end[i];
		assert(e->node);
		if (e->told && e->node != except)
			nm_tell_transport_shutdown(nm, e->node, t->id, code);
		port_free(nm, e);
		LIST_REMOVE(e, of_node);
		e->node->end_count--;
	}
	nm_path_break(nm, t, now);
	sodium_memzero(t->secret, sizeof t->secret);
	free(t);
}

void nm_transport_end(struct nm *nm, struct nm_transport *t, const struct nm_node *except,
		      uint16_t code, const char *text, uint64_t now)
{
	char pair[2 * NAME_MAX_BYTES + 8];
	struct nm_link *link = t->link;
	if (t->status == NM_TRANSPORT_CONNECTED)
		log_info("transport %u (%s) ended: %s", t->id, pair_text(t, pair), text);
	else
		log_debug("transport %u (%s) failed: %s", t->id, pair_text(t, pair), text);
	if (t->status == NM_TRANSPORT_CONNECTED)
		nm_event_transport(nm, NM_EVENT_TRANSPORT_DOWN, t, text);
	link->transport = NULL;
	nm_transport_drop(nm, t, except, code, now);
	nm_link_failed(nm, link, code, text, now);
}

/* --- what the ends report --------------------------------------------------------------------- */

/* One that is about to go counts as suspect. */
static bool is_suspect(const struct nm_transport *t)
{
	return t->link->retire_us || t->end[0].suspect || t->end[1].suspect ||
	       t->end[0].node->doubted || t->end[1].node->doubted || t->end[0].node->shunned ||
	       t->end[1].node->shunned;
}

static uint32_t cost_of(const struct nm_transport *t)
{
	if (is_suspect(t))
		return NM_COST_SUSPECT;
	return t->link->options.cost ? t->link->options.cost : cost_meter_get(&t->meter);
}

void nm_transport_cost_update(struct nm *nm, struct nm_transport *t)
{
	if (t->edge == GRAPH_NONE)
		return;
	uint32_t old = graph_edge_cost(nm->graph, t->edge), cost = cost_of(t);
	if (cost == old)
		return;
	graph_edge_set_cost(nm->graph, t->edge, cost);
	/* What is suspect has its own way (suspect.c), and paths stay where they hope. */
	if (cost < NM_COST_SUSPECT)
		nm_review_transport(nm, t, cost > old);
}

static void transport_up(struct nm *nm, struct nm_transport *t, uint64_t now)
{
	char pair[2 * NAME_MAX_BYTES + 8];
	t->edge = graph_edge_add(nm->graph, t->end[0].node->vertex, t->end[1].node->vertex,
				 cost_of(t), t->id);
	if (t->edge == GRAPH_NONE) {
		fail(t, CODE_BUSY, "out of memory", now);
		return;
	}
	nm_tend_grown(nm);
	timerq_cancel(&nm->timers, &t->timer);
	t->status = NM_TRANSPORT_CONNECTED;
	nm->transports_up++;
	log_info("transport %u (%s) is up", t->id, pair_text(t, pair));
	nm_event_transport(nm, NM_EVENT_TRANSPORT_UP, t, NULL);
	nm_conns_retry(nm, now);
	nm_standbys_retry(nm, now);
	nm_review_all(nm);
	nm_link_up(nm, t->link, now);
}

static void end_connected(struct nm *nm, struct nm_transport *t, struct nm_end *e, uint32_t rtt_us,
			  uint64_t now)
{
	e->connected = true;
	cost_meter_sample(&t->meter, &(struct cost_sample){.rtt_us = rtt_us}, now);
	if (t->status == NM_TRANSPORT_OPENING && t->end[0].connected && t->end[1].connected)
		transport_up(nm, t, now);
}

void nm_transport_connected(struct nm *nm, struct nm_node *node,
			    const struct msg_transport_connected *m, uint64_t now)
{
	struct nm_transport *t = nm_transport_by_id(nm, m->transport);
	struct nm_end *e = nm_end_of(t, node);
	if (!e || t->status == NM_TRANSPORT_CREATING) {
		if (!nm_claim_transport_up(node, m->transport))
			nm_stray(nm, node, "TransportConnected for no transport of it", now);
		return;
	}
	end_connected(nm, t, e, m->rtt_us, now);
}

/* --- taken over from an earlier manager --------------------------------------------------------
 */

void nm_transport_confirm(struct nm *nm, struct nm_transport *t, const struct nm_node *node,
			  const struct report_transport *item, uint64_t now)
{
	struct nm_end *e = nm_end_of(t, node);
	nm_end_suspect(nm, e, item->suspect, now);
	if (item->up && t->status != NM_TRANSPORT_CREATING)
		end_connected(nm, t, e, item->rtt_us, now);
}

bool nm_transport_adopt(struct nm *nm, struct nm_link *link, struct nm_node *const node[2],
			const struct report_transport *const item[2], uint64_t now)
{
	if (node[0]->end_count >= nm->config.transports_per_node_max ||
	    node[1]->end_count >= nm->config.transports_per_node_max)
		return false;
	struct nm_transport *t = transport_make(nm, link, node[0], node[1]);
	if (!t)
		return false;
	link->transport = t;
	t->status = NM_TRANSPORT_OPENING;
	for (unsigned i = 0; i < 2; i++) {
		struct nm_end *e = &t->end[i];
		e->told = e->created = true;
		e->port = e->reserved = item[i]->port;
		e->host = nm_port_keep(nm, &e->node->remote, e->port);
	}
	timerq_cancel(&nm->timers, &link->retry);
	if (timerq_set(&nm->timers, &t->timer, now + nm->config.transport_timeout_us)) {
		fail(t, CODE_BUSY, "out of memory", now);
		return true;
	}
	nm_transport_confirm(nm, t, node[1], item[1], now);
	nm_transport_confirm(nm, t, node[0], item[0], now);
	return true;
}

/* --- the ends report trouble ------------------------------------------------------------------ */

void nm_transport_shutdown(struct nm *nm, struct nm_node *node,
			   const struct msg_transport_shutdown *m, uint64_t now)
{
	char text[TEXT_MAX_BYTES + 1];
	struct nm_transport *t = nm_transport_by_id(nm, m->transport);
	if (!nm_end_of(t, node)) { /* usual when both ends notice at once */
		if (!nm_claim_transport_end(nm, node, m->transport, now))
			log_debug("TransportShutdown for unknown transport %u", m->transport);
		return;
	}
	if (m->code == CODE_LOST)
		nm_transport_doubt_far(nm, t, node, now);
	bytes_to_cstr(m->text, text, sizeof text);
	nm_transport_end(nm, t, node, m->code, text[0] ? text : msg_code_name(m->code), now);
}

static void stats_take(struct nm *nm, struct nm_transport *t, const struct nm_end *e,
		       const struct stats_item *s, uint64_t now)
{
	if (!s->up) {
		if (t->status == NM_TRANSPORT_CONNECTED)
			fail(t, CODE_LOST, "a node reports it as down", now);
		return;
	}
	cost_meter_sample(&t->meter,
			  &(struct cost_sample){.rtt_us = s->rtt_us,
						.loss_ppm = s->loss_ppm,
						.queue_bytes = s->queue_bytes,
						.rate_bps = s->rate_bps},
			  now);
	if (e == &t->end[0]) { /* one end's view, so that sent and received belong together */
		t->rate_bps = s->rate_bps;
		t->tx_bytes = s->tx_bytes;
		t->rx_bytes = s->rx_bytes;
		t->retransmits = s->retransmits;
	}
	nm_transport_cost_update(nm, t);
}

void nm_transport_stats(struct nm *nm, struct nm_node *node, const struct msg_transport_stats *m,
			uint64_t now)
{
	for (uint16_t i = 0; i < m->stats_count; i++) {
		struct nm_transport *t = nm_transport_by_id(nm, m->stats[i].transport);
		const struct nm_end *e = nm_end_of(t, node);
		if (e)
			stats_take(nm, t, e, &m->stats[i], now);
		else
			log_debug("stats of unknown transport %u", m->stats[i].transport);
	}
}
