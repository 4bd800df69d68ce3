#include "nodemanager/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void forget(struct nm *nm, struct nm_request *r)
{
	timerq_cancel(&nm->timers, &r->timer);
	map_del(&nm->requests, &r->seq);
	LIST_REMOVE(r, of_node);
	LIST_REMOVE(r, of_owner);
	free(r);
}

/* The request is gone before its owner hears of it: the owner may free itself and its other
 * requests. */
static void finish(struct nm_request *r, const struct nm_reply *reply, uint64_t now)
{
	struct nm_request done = *r;
	forget(r->nm, r);
	done.done(done.nm, done.owner, done.arg, reply, now);
}

static void expired(struct timer *t, uint64_t now)
{
	struct nm_request *r = t->owner;
	char text[TEXT_MAX_BYTES], name[NAME_MAX_BYTES + 1];
	snprintf(text, sizeof text, "node %s %s %s", nm_node_text(r->node, name),
		 r->lost ? "is not connected for" : "did not answer", msg_type_name(r->type));
	struct nm_reply reply = {.code = r->lost ? CODE_LOST : CODE_TIMEOUT, .text = text};
	finish(r, &reply, now);
}

int nm_request_send(struct nm *nm, struct nm_node *node, struct msg *m,
		    struct nm_request_list *list, nm_request_done *done, void *owner, uint32_t arg,
		    uint64_t now)
{
	struct nm_request *r = calloc(1, sizeof *r);
	if (!r)
		return -ENOMEM;
	*r = (struct nm_request){.nm = nm,
				 .node = node,
				 .seq = nm_seq_next(nm),
				 .arg = arg,
				 .type = m->type,
				 .done = done,
				 .owner = owner};
	timer_init(&r->timer, expired, r);
	m->seq = r->seq;
	r->lost = nm_node_send(nm, node, m) < 0;
	int err = map_put(&nm->requests, &r->seq, r);
	if (!err)
		err = timerq_set(&nm->timers, &r->timer,
				 r->lost ? now : now + nm->config.request_timeout_us);
	if (err) {
		map_del(&nm->requests, &r->seq);
		free(r);
		return err;
	}
	LIST_INSERT_HEAD(&node->requests, r, of_node);
	LIST_INSERT_HEAD(list, r, of_owner);
	return 0;
}

void nm_request_drop(struct nm *nm, struct nm_request_list *list)
{
	while (!LIST_EMPTY(list))
		forget(nm, LIST_FIRST(list));
}

void nm_request_answer(struct nm *nm, struct nm_node *node, const struct msg *m, uint64_t now)
{
	struct nm_request *r = map_get(&nm->requests, &m->seq);
	if (!r || r->node != node) {
		nm->dropped++; /* usual when what asked has ended meanwhile */
		return;
	}
	char text[TEXT_MAX_BYTES + 1];
	bytes_to_cstr(m->common_ack.text, text, sizeof text);
	struct nm_reply reply = {.code = m->common_ack.code,
				 .value = m->common_ack.value,
				 .text = text[0] ? text : msg_code_name(m->common_ack.code)};
	finish(r, &reply, now);
}

/* What the failures ask for anew must not be failed in the same round: hence the list of its own.
 */
void nm_request_fail_node(struct nm_node *node, uint64_t now)
{
	struct nm_request_list lost = node->requests;
	char text[TEXT_MAX_BYTES], name[NAME_MAX_BYTES + 1];

	LIST_INIT(&node->requests);
	if (lost.lh_first)
		lost.lh_first->of_node.le_prev = &lost.lh_first;
	snprintf(text, sizeof text, "node %s lost its control channel", nm_node_text(node, name));
	struct nm_reply reply = {.code = CODE_LOST, .text = text};
	while (!LIST_EMPTY(&lost))
		finish(LIST_FIRST(&lost), &reply, now);
}
