/*
 * Detours around what has fallen silent.  An end that gets no answer under traffic says so long
 * before it gives its transport up.  From then on the transport is the last choice for new paths,
 * and what uses it moves at once if there is a way without it; if there is none it stays, because
 * a busy or lossy link may well speak again.
 *
 * The far end may be dead as a whole, and then would not answer AddRoute either: it is doubted, its
 * other transports are the last choice too, until it says anything to us.
 */
#include "nodemanager/state.h"

static void costs_update(struct nm *nm, struct nm_node *node)
{
	const struct nm_end *e;
	LIST_FOREACH(e, &node->ends, of_node) {
		nm_transport_cost_update(nm, e->transport);
	}
}

static void doubt_set(struct nm *nm, struct nm_node *node, bool doubted)
{
	if (node->doubted == doubted)
		return;
	node->doubted = doubted;
	costs_update(nm, node);
}

void nm_shun_over(struct timer *timer, uint64_t now)
{
	struct nm_node *node = timer->owner;
	(void)now;
	node->shunned = false;
	costs_update(node->nm, node);
}

/* Otherwise every try for a path would go through it again. */
void nm_node_shun(struct nm *nm, struct nm_node *node, uint64_t now)
{
	char name[NAME_MAX_BYTES + 1];
	if (timerq_set(&nm->timers, &node->shun, now + NM_SHUN_US) || node->shunned)
		return;
	node->shunned = true;
	log_warn("node %s does not take rules: it is the last choice as a relay for %u s",
		 nm_node_text(node, name), NM_SHUN_US / 1000000);
	costs_update(nm, node);
}

void nm_node_heard(struct nm *nm, struct nm_node *node)
{
	doubt_set(nm, node, false);
}

/* An end that complains of the other one itself is not dead. */
void nm_transport_doubt_far(struct nm *nm, struct nm_transport *t, struct nm_node *near,
			    uint64_t now)
{
	struct nm_end *far = &t->end[t->end[0].node == near];
	if (far->suspect || far->node->doubted)
		return;
	/* Only its own links suffer from who cries wolf. */
	if (nm_may_doubt(near, now))
		doubt_set(nm, far->node, true);
	else
		nm_over_limit(nm, near, "neighbours that it calls dead", now);
}

void nm_end_suspect(struct nm *nm, struct nm_end *e, bool suspect, uint64_t now)
{
	char name[NAME_MAX_BYTES + 1];
	struct nm_transport *t = e->transport;
	if (e->suspect == suspect)
		return;
	e->suspect = suspect;
	nm_transport_cost_update(nm, t);
	nm_event_transport(nm, NM_EVENT_TRANSPORT_SUSPECT, t, suspect ? "suspect" : "heard");
	if (!suspect) {
		nm_standbys_retry(nm, now);
		return;
	}
	log_info("transport %u: node %s hears nothing under traffic", t->id,
		 nm_node_text(e->node, name));
	nm_transport_doubt_far(nm, t, e->node, now);
	nm_path_avoid(nm, t, now);
}

void nm_transport_suspect(struct nm *nm, struct nm_node *node,
			  const struct msg_transport_suspect *m, uint64_t now)
{
	struct nm_end *e = nm_end_of(nm_transport_by_id(nm, m->transport), node);
	if (e)
		nm_end_suspect(nm, e, m->suspect, now);
	else if (!nm_claim_transport_suspect(nm, node, m->transport, m->suspect, now))
		log_debug("TransportSuspect for unknown transport %u", m->transport);
}
