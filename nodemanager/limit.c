/* What one node may ask of us in a second.  Whoever is over a limit loses messages or gets "busy";
 * the others notice nothing. */
#include "nodemanager/state.h"

#define SECOND_US 1000000u

void nm_bucket_fill(struct nm_bucket *b, uint32_t burst, uint64_t now)
{
	*b = (struct nm_bucket){.at_us = now, .level = burst};
}

bool nm_bucket_take(struct nm_bucket *b, uint32_t rate, uint32_t burst, uint64_t now)
{
	uint64_t earned = (now - b->at_us) * rate / SECOND_US;
	if (earned) {
		uint64_t level = b->level + earned;
		b->level = level > burst ? burst : (uint32_t)level;
		b->at_us = now;
	}
	if (!b->level)
		return false;
	b->level--;
	return true;
}

/* Once for each record: a new channel must not buy anything. */
void nm_limits_begin(struct nm *nm, struct nm_node *node, uint64_t now)
{
	const struct nm_config *c = &nm->config;
	if (node->limited)
		return;
	node->limited = true;
	nm_bucket_fill(&node->messages, c->message_burst, now);
	nm_bucket_fill(&node->connects, c->connect_burst, now);
	nm_bucket_fill(&node->app_changes, c->app_burst, now);
	nm_bucket_fill(&node->doubts, NM_DOUBTS_BURST, now / NM_DOUBT_S);
}

bool nm_may_send(struct nm *nm, struct nm_node *node, uint64_t now)
{
	return nm_bucket_take(&node->messages, nm->config.message_rate, nm->config.message_burst,
			      now);
}

bool nm_may_connect(struct nm *nm, struct nm_node *node, uint64_t now)
{
	return nm_bucket_take(&node->connects, nm->config.connect_rate, nm->config.connect_burst,
			      now);
}

bool nm_may_change_app(struct nm *nm, struct nm_node *node, uint64_t now)
{
	return nm_bucket_take(&node->app_changes, nm->config.app_rate, nm->config.app_burst, now);
}

/* Neighbours die by the dozen when a storm takes the power, but not again and again. */
bool nm_may_doubt(struct nm_node *node, uint64_t now)
{
	return nm_bucket_take(&node->doubts, 1, NM_DOUBTS_BURST, now / NM_DOUBT_S);
}
