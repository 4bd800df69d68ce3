/*
 * Links that are wanted to stay.  A link is in the store, has at most one transport, and makes a
 * new one with growing pauses whenever both nodes are there.
 */
#include "base/cstr.h"
#include "nodemanager/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define RANDOM_TRIES 16

static void retry(struct timer *t, uint64_t now)
{
	struct nm_link *link = t->owner;
	nm_link_try(link->nm, link, now);
}

struct nm_link *nm_link_find(const struct nm_node *a, const struct nm_node *b)
{
	struct nm_link_end *e;
	LIST_FOREACH(e, &a->links, of_node) {
		if (e->link->end[0].node == b || e->link->end[1].node == b)
			return e->link;
	}
	return NULL;
}

static size_t links_of(const struct nm_node *node)
{
	size_t count = 0;
	struct nm_link_end *e;
	LIST_FOREACH(e, &node->links, of_node)
		count++;
	return count;
}

struct nm_link *nm_link_want(struct nm *nm, struct nm_node *a, struct nm_node *b, bool save)
{
	struct nm_link *link = nm_link_find(a, b);
	if (link)
		return link;
	if (links_of(a) >= nm->config.transports_per_node_max ||
	    links_of(b) >= nm->config.transports_per_node_max)
		return NULL;
	link = calloc(1, sizeof *link);
	if (!link)
		return NULL;
	link->nm = nm;
	link->backoff_us = nm->config.link_retry_min_us;
	link->end[0].node = a;
	link->end[1].node = b;
	timer_init(&link->retry, retry, link);
	for (unsigned i = 0; i < 2; i++) {
		link->end[i].link = link;
		LIST_INSERT_HEAD(&link->end[i].node->links, &link->end[i], of_node);
	}
	TAILQ_INSERT_TAIL(&nm->link_list, link, all);
	nm->link_count++;
	if (save && nm->ops->link_save)
		nm->ops->link_save(nm->ctx, &a->id, &b->id);
	return link;
}

static void waiters_done(struct nm_link *link, uint16_t code, const char *text, uint64_t value)
{
	while (!LIST_EMPTY(&link->waiters)) {
		struct nm_waiter *w = LIST_FIRST(&link->waiters);
		LIST_REMOVE(w, all);
		w->done(w->arg, code, text, value);
		free(w);
	}
}

void nm_link_try(struct nm *nm, struct nm_link *link, uint64_t now)
{
	const char *why;
	if (link->transport || !link->end[0].node->session || !link->end[1].node->session)
		return;
	timerq_cancel(&nm->timers, &link->retry);
	link->transport = nm_transport_new(nm, link, &why, now);
	if (!link->transport)
		nm_link_failed(nm, link, CODE_BUSY, why, now);
}

void nm_link_up(struct nm *nm, struct nm_link *link, uint64_t now)
{
	(void)now;
	link->backoff_us = nm->config.link_retry_min_us;
	waiters_done(link, CODE_OK, "", link->transport->id);
}

void nm_link_failed(struct nm *nm, struct nm_link *link, uint16_t code, const char *text,
		    uint64_t now)
{
	char reason[TEXT_MAX_BYTES + 1]; /* waiters may free what `text` belongs to */
	cstr_copy(reason, sizeof reason, text);
	if (!link->forgotten) {
		/* Half of the pause is random: links that died together must not come together. */
		uint64_t pause = link->backoff_us / 2;
		pause += nm_random_u64(nm) % (pause + 1);
		if (timerq_set(&nm->timers, &link->retry, now + pause))
			log_warn("out of memory: a link is not retried before its nodes reconnect");
		link->backoff_us *= 2;
		if (link->backoff_us > nm->config.link_retry_max_us)
			link->backoff_us = nm->config.link_retry_max_us;
	}
	waiters_done(link, code, reason, 0);
}

void nm_links_of_node_try(struct nm *nm, struct nm_node *node, uint64_t now)
{
	struct nm_link_end *e;
	LIST_FOREACH(e, &node->links, of_node) {
		e->link->backoff_us = nm->config.link_retry_min_us;
		nm_link_try(nm, e->link, now);
	}
}

static void link_free(struct nm *nm, struct nm_link *link)
{
	timerq_cancel(&nm->timers, &link->retry);
	for (unsigned i = 0; i < 2; i++)
		LIST_REMOVE(&link->end[i], of_node);
	TAILQ_REMOVE(&nm->link_list, link, all);
	nm->link_count--;
	free(link);
}

void nm_link_forget(struct nm *nm, struct nm_link *link, uint64_t now)
{
	if (nm->ops->link_remove)
		nm->ops->link_remove(nm->ctx, &link->end[0].node->id, &link->end[1].node->id);
	link->forgotten = true;
	if (link->transport)
		nm_transport_end(nm, link->transport, NULL, CODE_CLOSED, "the link is not wanted",
				 now);
	waiters_done(link, CODE_CLOSED, "the link is not wanted", 0);
	link_free(nm, link);
}

void nm_links_free(struct nm *nm)
{
	while (!TAILQ_EMPTY(&nm->link_list)) {
		struct nm_link *link = TAILQ_FIRST(&nm->link_list);
		link->forgotten = true;
		waiters_done(link, CODE_UNAVAILABLE, "the nodemanager ends", 0);
		if (link->transport)
			nm_transport_drop(nm, link->transport, NULL, CODE_CLOSED, 0);
		link_free(nm, link);
	}
}

void nm_link_random(struct nm *nm, struct nm_node *node, uint64_t now)
{
	if (nm->online_count < 2)
		return;
	struct nm_node *other = NULL;
	/* Behind one that does not forward there is nothing: a relay, if one is easily found. */
	for (unsigned n = 0; n < RANDOM_TRIES && !(other && other->transit); n++) {
		size_t i = (size_t)(nm_random_u64(nm) % (nm->online_count - 1));
		/* The last one stands in for the node itself. */
		other = nm->online[i] == node ? nm->online[nm->online_count - 1] : nm->online[i];
	}
	struct nm_link *link = nm_link_want(nm, node, other, true);
	if (link)
		nm_link_try(nm, link, now);
}

/* --- asked for -------------------------------------------------------------------------------- */

/* Whoever made it, now it has been asked for. */
static void keep_for_good(struct nm *nm, struct nm_link *link)
{
	if (!link->options.upkeep)
		return;
	link->options.upkeep = NM_UPKEEP_NONE;
	link->retire_us = 0;
	if (nm->ops->link_options)
		nm->ops->link_options(nm->ctx, &link->end[0].node->id, &link->end[1].node->id,
				      &link->options);
	if (link->transport)
		nm_transport_cost_update(nm, link->transport);
}

static void want(struct nm *nm, struct nm_node *a, struct nm_node *b, nm_done *done, void *arg,
		 uint64_t now)
{
	struct nm_link *link = nm_link_want(nm, a, b, true);
	if (link)
		keep_for_good(nm, link);
	if (link && link->transport && link->transport->status == NM_TRANSPORT_CONNECTED) {
		done(arg, CODE_OK, "", link->transport->id);
		return;
	}
	struct nm_waiter *w = link ? calloc(1, sizeof *w) : NULL;
	if (!w) {
		done(arg, CODE_BUSY, "a node has all the links that it may have", 0);
		return;
	}
	w->done = done;
	w->arg = arg;
	LIST_INSERT_HEAD(&link->waiters, w, all);
	nm_link_try(nm, link, now);
}

void nm_connect_nodes(struct nm *nm, const struct mesh_id *a, const struct mesh_id *b,
		      nm_done *done, void *arg, uint64_t now)
{
	char text[TEXT_MAX_BYTES + 1], name[NAME_MAX_BYTES + 1];
	struct nm_node *node[2] = {nm_node_by_id(nm, a), nm_node_by_id(nm, b)};
	if (!node[0] || !node[1]) {
		done(arg, CODE_NOT_FOUND, "no such node", 0);
		return;
	}
	if (node[0] == node[1]) {
		done(arg, CODE_INVALID, "a node has no link to itself", 0);
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (node[i]->session)
			continue;
		snprintf(text, sizeof text, "node %s is %s", nm_node_text(node[i], name),
			 nm_is_revoked(nm, &node[i]->id) ? "revoked" : "not connected");
		done(arg, CODE_NOT_FOUND, text, 0);
		return;
	}
	want(nm, node[0], node[1], done, arg, now);
}

int nm_disconnect_nodes(struct nm *nm, const struct mesh_id *a, const struct mesh_id *b,
			uint64_t now)
{
	struct nm_node *na = nm_node_by_id(nm, a), *nb = nm_node_by_id(nm, b);
	struct nm_link *link = na && nb ? nm_link_find(na, nb) : NULL;
	if (!link)
		return -ENOENT;
	nm_link_forget(nm, link, now);
	return 0;
}

/* A node that asked for a link, and may be gone when there is an answer. */
struct asker {
	struct nm *nm;
	uint64_t channel;
	uint32_t seq;
};

static void answer_asker(void *arg, uint16_t code, const char *text, uint64_t value)
{
	struct asker *asker = arg;
	struct msg m = {.type = MSG_ConnectDirectlyAck, .seq = asker->seq};
	m.connect_directly_ack.code = code;
	m.connect_directly_ack.text = bytes_str(text);
	m.connect_directly_ack.transport = (uint32_t)value;
	nm_answer(asker->nm, asker->channel, &m);
	free(asker);
}

void nm_connect_directly(struct nm *nm, struct nm_node *node, const struct msg *m, uint64_t now)
{
	struct mesh_id peer = m->connect_directly.peer;
	char name[NAME_MAX_BYTES + 1];
	struct asker *asker = malloc(sizeof *asker);
	if (!asker)
		return;
	*asker = (struct asker){.nm = nm, .channel = node->session->channel, .seq = m->seq};
	if (mesh_id_is_zero(&peer) &&
	    (!nm_name_copy(name, m->connect_directly.name) || nm_node_find(nm, name, &peer))) {
		answer_asker(asker, CODE_NOT_FOUND, "no node has this name", 0);
		return;
	}
	/* Each new link is written down. */
	if (!nm_may_connect(nm, node, now)) {
		nm_over_limit(nm, node, "links asked for per second", now);
		answer_asker(asker, CODE_BUSY, "too many links are asked for per second", 0);
		return;
	}
	nm_connect_nodes(nm, &node->id, &peer, answer_asker, asker, now);
}
