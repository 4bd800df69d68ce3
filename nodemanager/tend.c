/* The marks of a large graph (graph.h) are made and kept in the background, a little at a time. */
#include "nodemanager/state.h"

static void tend(struct timer *t, uint64_t now)
{
	struct nm *nm = t->owner;
	bool more = graph_tend(nm->graph, NM_TEND_STEPS);
	if (more || graph_edge_count(nm->graph) >= NM_TEND_LINKS)
		timerq_set(&nm->timers, t, now + (more ? NM_TEND_US : NM_TEND_IDLE_US));
}

void nm_tend_init(struct nm *nm)
{
	timer_init(&nm->tend_timer, tend, nm);
}

void nm_tend_grown(struct nm *nm)
{
	if (!nm->tend_timer.index && graph_edge_count(nm->graph) >= NM_TEND_LINKS)
		timerq_set(&nm->timers, &nm->tend_timer, 0);
}

void nm_tend_free(struct nm *nm)
{
	timerq_cancel(&nm->timers, &nm->tend_timer);
}
