/*
 * What two nodes must agree on before a manager that has been started anew takes it over: the
 * transport of a wanted link, and connections.  The first end to report makes a claim about the
 * second; it is confirmed by the very same from there, and refused when the second has spoken
 * without it, or when recovery is over.  A claim is found by its maker and the one it is about, so
 * nobody stands in the way of others by claiming what is theirs.
 */
#include "nodemanager/state.h"

#include <stdlib.h>
#include <string.h>

#define RETRY_US 500000u

enum claim_kind { CLAIM_TRANSPORT, CLAIM_CONN };

struct nm_claim {
	LIST_ENTRY(nm_claim) of_node, of_peer;
	struct nm_node *node, *peer; /* who says it, about whom */
	enum claim_kind kind;
	union {
		struct report_transport transport;
		struct nm_reported_conn conn;
	};
};

struct claim_key {
	uint64_t id;
	uint32_t kind, node, peer, zero;
};

static struct claim_key key_of(enum claim_kind kind, uint64_t id, const struct nm_node *node,
			       const struct nm_node *peer)
{
	return (struct claim_key){id, kind, node->number, peer->number, 0};
}

static struct claim_key key_of_claim(const struct nm_claim *c)
{
	uint64_t id = c->kind == CLAIM_CONN ? c->conn.id : c->transport.transport;
	return key_of(c->kind, id, c->node, c->peer);
}

static struct nm_claim *find(const struct nm *nm, enum claim_kind kind, uint64_t id,
			     const struct nm_node *node, const struct nm_node *peer)
{
	struct claim_key key = key_of(kind, id, node, peer);
	return map_get(&nm->claims, &key);
}

static void claim_free(struct nm *nm, struct nm_claim *c)
{
	struct claim_key key = key_of_claim(c);
	map_del(&nm->claims, &key);
	LIST_REMOVE(c, of_node);
	LIST_REMOVE(c, of_peer);
	free(c);
}

static void refuse(struct nm *nm, struct nm_node *node, enum claim_kind kind, uint64_t id)
{
	if (kind == CLAIM_TRANSPORT)
		nm_tell_transport_shutdown(nm, node, (uint32_t)id, CODE_LOST);
	else
		nm_tell_connection_shutdown(nm, node, id, CODE_LOST,
					    "the other end does not have it any more");
}

static void claim_refuse(struct nm *nm, struct nm_claim *c)
{
	struct claim_key key = key_of_claim(c);
	refuse(nm, c->node, c->kind, key.id);
	claim_free(nm, c);
}

/* Holds `c` (copied) until its peer has spoken. */
static void hold(struct nm *nm, const struct nm_claim *from)
{
	struct claim_key key = key_of_claim(from);
	struct nm_claim *c = map_get(&nm->claims, &key) ? NULL : malloc(sizeof *c);
	if (c)
		*c = *from;
	if (!c || map_put(&nm->claims, &key, c)) {
		free(c);
		refuse(nm, from->node, from->kind, key.id);
		return;
	}
	LIST_INSERT_HEAD(&c->node->claims, c, of_node);
	LIST_INSERT_HEAD(&c->peer->claims_about, c, of_peer);
}

/* --- transports ------------------------------------------------------------------------------- */

/* The link as the store has it says which number its transport has. */
static struct nm_link *link_of(const struct nm *nm, const struct nm_node *node,
			       const struct nm_node *peer, uint32_t transport)
{
	struct nm_link *link = peer && peer != node ? nm_link_find(node, peer) : NULL;
	bool fits = link && !link->transport && link->last_transport == transport &&
		    !nm_transport_by_id(nm, transport);
	return fits ? link : NULL;
}

void nm_claim_transport(struct nm *nm, struct nm_node *node, const struct report_transport *item,
			uint64_t now)
{
	struct nm_node *peer = nm_node_by_id(nm, &item->peer);
	struct nm_link *link = link_of(nm, node, peer, item->transport);
	struct nm_claim *other =
		link ? find(nm, CLAIM_TRANSPORT, item->transport, peer, node) : NULL;
	bool adopted = false;

	if (link && !other && nm->recovering && peer->recover) {
		hold(nm, &(struct nm_claim){.node = node,
					    .peer = peer,
					    .kind = CLAIM_TRANSPORT,
					    .transport = *item});
		return;
	}
	if (other && !other->transport.initiator == !!item->initiator) {
		bool first = item->initiator;
		struct nm_node *const nodes[2] = {first ? node : peer, first ? peer : node};
		const struct report_transport *const items[2] = {first ? item : &other->transport,
								 first ? &other->transport : item};
		adopted = nm_transport_adopt(nm, link, nodes, items, now);
	}
	if (other && adopted)
		claim_free(nm, other);
	else if (other)
		claim_refuse(nm, other);
	if (!adopted)
		refuse(nm, node, CLAIM_TRANSPORT, item->transport);
}

static struct nm_claim *transport_claim(const struct nm_node *node, uint32_t id)
{
	struct nm_claim *c;
	LIST_FOREACH(c, &node->claims, of_node) {
		if (c->kind == CLAIM_TRANSPORT && c->transport.transport == id)
			return c;
	}
	return NULL;
}

bool nm_claim_transport_end(struct nm *nm, struct nm_node *node, uint32_t id, uint64_t now)
{
	struct nm_claim *c = transport_claim(node, id);
	if (!c)
		return false;
	struct nm_node *peer = c->peer;
	claim_free(nm, c);
	nm_traces_go(nm, peer, now);
	return true;
}

bool nm_claim_transport_up(struct nm_node *node, uint32_t id)
{
	struct nm_claim *c = transport_claim(node, id);
	if (c)
		c->transport.up = 1;
	return c;
}

bool nm_claim_transport_suspect(struct nm *nm, struct nm_node *node, uint32_t id, bool suspect,
				uint64_t now)
{
	struct nm_claim *c = transport_claim(node, id);
	if (!c)
		return false;
	c->transport.suspect = suspect;
	if (suspect)
		nm_traces_go(nm, c->peer, now);
	return true;
}

/* A suspect one is not worth waiting for: if it lives after all, it will serve a new path. */
struct nm_node *nm_claim_waits_for(const struct nm_node *node, uint32_t transport)
{
	const struct nm_claim *c = transport_claim(node, transport);
	return c && !c->transport.suspect ? c->peer : NULL;
}

/* --- connections ------------------------------------------------------------------------------ */

static bool conn_adopt(struct nm *nm, struct nm_node *node, const struct nm_reported_conn *item,
		       struct nm_node *peer, const struct nm_reported_conn *other, uint64_t now)
{
	bool first = item->initiator;
	struct nm_node *const nodes[2] = {first ? node : peer, first ? peer : node};
	const struct nm_reported_conn *const ends[2] = {first ? item : other, first ? other : item};
	bool opposite = node == peer ? item->initiator : item->initiator != other->initiator;

	return opposite && item->class == other->class && item->class <= CLASS_DATAGRAM &&
	       nm_conn_adopt(nm, nodes, ends, now);
}

void nm_claim_conn(struct nm *nm, struct nm_node *node, const struct nm_reported_conn *item,
		   uint64_t now)
{
	struct nm_node *peer =
		map_get(&nm->conns, &item->id) ? NULL : nm_node_by_id(nm, &item->peer);
	struct nm_claim *other = peer ? find(nm, CLAIM_CONN, item->id, peer, node) : NULL;
	bool adopted = false;

	if (peer && nm->recovering && peer != node && !other && peer->recover) {
		hold(nm, &(struct nm_claim){
				 .node = node, .peer = peer, .kind = CLAIM_CONN, .conn = *item});
		return;
	}
	if (peer && nm->recovering && peer == node)
		adopted = conn_adopt(nm, node, item, peer, item, now);
	else if (other)
		adopted = conn_adopt(nm, node, item, peer, &other->conn, now);
	if (other && adopted)
		claim_free(nm, other);
	else if (other)
		claim_refuse(nm, other);
	if (!adopted)
		refuse(nm, node, CLAIM_CONN, item->id);
}

bool nm_claim_conn_end(struct nm *nm, struct nm_node *node, uint64_t id)
{
	struct nm_claim *c;
	LIST_FOREACH(c, &node->claims, of_node) {
		if (c->kind != CLAIM_CONN || c->conn.id != id)
			continue;
		claim_free(nm, c);
		return true;
	}
	return false;
}

/* --- both ------------------------------------------------------------------------------------- */

void nm_claims_drop(struct nm *nm, struct nm_node *node)
{
	while (!LIST_EMPTY(&node->claims))
		claim_free(nm, LIST_FIRST(&node->claims));
}

void nm_claims_settle(struct nm *nm, struct nm_node *node, uint64_t now)
{
	while (!LIST_EMPTY(&node->claims_about))
		claim_refuse(nm, LIST_FIRST(&node->claims_about));
	nm_traces_go(nm, node, now);
}

/* --- recovery --------------------------------------------------------------------------------- */

/* Rules outlive the end of recovery for as long as connections need to move to new ones. */
static void loose_over(struct timer *timer, uint64_t now)
{
	struct nm *nm = timer->owner;
	struct nm_node *node;
	(void)now;
	TAILQ_FOREACH(node, &nm->node_list, all) {
		nm_loose_remove(nm, node);
	}
}

static void recover_over(struct timer *timer, uint64_t now)
{
	struct nm *nm = timer->owner;
	struct nm_node *node;
	size_t missing = 0;

	nm->recovering = false;
	timerq_cancel(&nm->timers, &nm->retry);
	TAILQ_FOREACH(node, &nm->node_list, all) {
		missing += node->recover;
		node->recover = false;
		nm_claims_settle(nm, node, now);
	}
	nm_conns_give_up(nm, now);
	nm_routes_give_up(nm);
	log_info("recovery is over: %zu connections go on, %zu nodes have not come back",
		 nm->conns.count, missing);
	timer_init(&nm->recover, loose_over, nm);
	if (timerq_set(&nm->timers, &nm->recover, now + 2 * nm->config.request_timeout_us))
		loose_over(&nm->recover, now);
}

static void retry(struct timer *timer, uint64_t now)
{
	struct nm *nm = timer->owner;
	nm_conns_trace(nm, now);
	timerq_set(&nm->timers, &nm->retry, now + RETRY_US); /* at worst: only at the end */
}

void nm_recover_init(struct nm *nm)
{
	map_init(&nm->claims, sizeof(struct claim_key), NM_CLAIMS_MAX, nm->seed);
	timer_init(&nm->recover, recover_over, nm);
	timer_init(&nm->retry, retry, nm);
}

void nm_recover(struct nm *nm, uint64_t now)
{
	struct nm_node *node;
	if (nm->nodes.count == 0 ||
	    timerq_set(&nm->timers, &nm->recover, now + nm->config.recover_us)) {
		nm_routes_give_up(nm);
		return;
	}
	timerq_set(&nm->timers, &nm->retry, now + RETRY_US);
	nm->recovering = true;
	TAILQ_FOREACH(node, &nm->node_list, all) {
		node->recover = !nm_is_revoked(nm, &node->id);
	}
	log_info("%zu nodes are known; what they still hold is taken over", nm->nodes.count);
}
