/*
 * Paths that an earlier manager installed, found again: from each end the labels are followed over
 * transports that both of their ends have confirmed, through the rules that the nodes report, until
 * the other end is reached.  Only a path that leads both ways over the same transports counts, and
 * only then its rules are taken, so that what a node makes up spoils nothing but paths through
 * itself.
 */
#include "nodemanager/state.h"

#include <stdlib.h>

struct nm_trace {
	LIST_ENTRY(nm_trace) of_node;
	struct nm_node *waits_for; /* in whose list it hangs; NULL: in none */
	uint64_t number;
	struct nm_trace_ends ends;
	const struct nm_path_owner *ops;
	void *owner;
};

/* One direction of it. */
struct walk {
	struct nm_node *node; /* where it is now */
	struct nm_transport *transports[NM_HOPS_MAX];
	struct nm_loose_rule *rules[NM_HOPS_MAX]; /* [i]: behind transports[i] */
	size_t count;
};

enum outcome { FOLLOWED, WAITS, BROKEN };

static void wait_for(struct nm_trace *trace, struct nm_node *node)
{
	if (trace->waits_for)
		LIST_REMOVE(trace, of_node);
	trace->waits_for = node;
	if (node)
		LIST_INSERT_HEAD(&node->traces, trace, of_node);
}

struct nm_trace *nm_trace_new(uint64_t number, const struct nm_trace_ends *ends,
			      const struct nm_path_owner *ops, void *owner)
{
	struct nm_trace *trace = calloc(1, sizeof *trace);
	if (!trace)
		return NULL;
	trace->number = number;
	trace->ends = *ends;
	trace->ops = ops;
	trace->owner = owner;
	wait_for(trace, ends->node[0]);
	return trace;
}

void nm_trace_free(struct nm_trace *trace)
{
	if (trace)
		wait_for(trace, NULL);
	free(trace);
}

bool nm_trace_needs(const struct nm_trace *trace, const struct nm_node *node)
{
	return trace->waits_for == node || trace->ends.node[0] == node ||
	       trace->ends.node[1] == node;
}

/* Over the transport with the label, and what is done there with it. */
static enum outcome step(struct nm *nm, struct nm_trace *trace, struct walk *w, uint32_t transport,
			 uint32_t label)
{
	struct nm_transport *t = nm_transport_by_id(nm, transport);
	if (!nm_end_of(t, w->node)) {
		struct nm_node *far = nm_claim_waits_for(w->node, transport);
		wait_for(trace, far);
		return far ? WAITS : BROKEN;
	}
	if (t->status != NM_TRANSPORT_CONNECTED)
		return BROKEN;
	w->node = t->end[t->end[0].node == w->node].node;
	w->transports[w->count] = t;
	w->rules[w->count] = nm_loose_in(w->node, transport, label);
	return w->rules[w->count++] ? FOLLOWED : BROKEN;
}

static enum outcome follow(struct nm *nm, struct nm_trace *trace, unsigned from, struct walk *w)
{
	uint32_t transport = trace->ends.out_transport[from], label = trace->ends.out_route[from];
	w->node = trace->ends.node[from];
	w->count = 0;
	while (w->count < NM_HOPS_MAX) {
		enum outcome outcome = step(nm, trace, w, transport, label);
		if (outcome != FOLLOWED)
			return outcome;
		transport = w->rules[w->count - 1]->out_transport;
		label = w->rules[w->count - 1]->out_route;
		if (transport)
			continue;
		bool there = w->node == trace->ends.node[!from] && label == (uint32_t)trace->number;
		return there ? FOLLOWED : BROKEN;
	}
	return BROKEN;
}

static bool mirrored(const struct walk *there, const struct walk *back)
{
	if (there->count != back->count)
		return false;
	for (size_t i = 0; i < there->count; i++)
		if (there->transports[i] != back->transports[there->count - 1 - i])
			return false;
	return true;
}

/* A node whose role has changed meanwhile is in no path any more. */
static bool relayed(const struct nm_trace *trace, const struct walk *w)
{
	const struct nm_node *node = trace->ends.node[0];
	for (size_t i = 0; i + 1 < w->count; i++) {
		const struct nm_transport *t = w->transports[i];
		node = t->end[t->end[0].node == node].node;
		if (!node->transit)
			return false;
	}
	return true;
}

static void take(struct nm *nm, struct nm_path *path, struct nm_node *node,
		 struct nm_loose_rule *loose)
{
	if (!loose) /* where a route begins nothing depends on the rule */
		return;
	loose->taken = true;
	nm_path_rule(nm, path, node,
		     (struct nm_rule){.in_transport = loose->in_transport,
				      .in_route = loose->in_route,
				      .out_transport = loose->out_transport,
				      .out_route = loose->out_route});
}

static struct nm_path *path_of(struct nm *nm, const struct nm_trace *trace,
			       const struct walk walks[2])
{
	const struct nm_trace_ends *ends = &trace->ends;
	size_t last = walks[0].count - 1;
	struct nm_path *path = nm_path_adopt(trace->number, walks[0].transports, walks[0].count,
					     trace->ops, trace->owner);
	if (!path)
		return NULL;
	for (unsigned i = 0; i < 2; i++) {
		struct nm_node *node = ends->node[i];
		path->ends[i] = node;
		path->out_transport[i] = ends->out_transport[i];
		path->out_route[i] = ends->out_route[i];
		path->in_transport[i] = walks[!i].rules[last]->in_transport;
		path->in_route[i] = walks[!i].rules[last]->in_route;
		take(nm, path, node,
		     nm_loose_origin(node, ends->out_transport[i], ends->out_route[i]));
		for (size_t k = 0; k <= last; k++) {
			const struct nm_transport *t = walks[i].transports[k];
			node = t->end[t->end[0].node == node].node;
			take(nm, path, node, walks[i].rules[k]);
		}
	}
	return path;
}

void nm_trace_go(struct nm *nm, struct nm_trace *trace, uint64_t now)
{
	struct walk walks[2];
	struct nm_path *path = NULL;
	enum outcome outcome = follow(nm, trace, 0, &walks[0]);
	if (outcome == FOLLOWED)
		outcome = follow(nm, trace, 1, &walks[1]);
	if (outcome == WAITS)
		return;
	wait_for(trace, NULL);
	if (outcome == FOLLOWED && mirrored(&walks[0], &walks[1]) && relayed(trace, &walks[0]))
		path = path_of(nm, trace, walks);
	trace->ops->traced(nm, trace->owner, path, now);
}

/* Each at most once: those that wait for it still, wait in the same list. */
void nm_traces_go(struct nm *nm, struct nm_node *node, uint64_t now)
{
	LIST_HEAD(, nm_trace) due = LIST_HEAD_INITIALIZER(due);
	struct nm_trace *trace;
	while ((trace = LIST_FIRST(&node->traces))) {
		LIST_REMOVE(trace, of_node);
		LIST_INSERT_HEAD(&due, trace, of_node);
	}
	while ((trace = LIST_FIRST(&due))) {
		LIST_REMOVE(trace, of_node);
		trace->waits_for = NULL;
		nm_trace_go(nm, trace, now);
	}
}
