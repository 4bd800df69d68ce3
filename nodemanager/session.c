/* Channels of nodes, and what is told over them. */
#include "nodemanager/state.h"

#include <errno.h>
#include <stdlib.h>

static void hello_late(struct timer *t, uint64_t now)
{
	struct nm_session *s = t->owner;
	struct nm *nm = s->nm;
	uint64_t channel = s->channel;
	(void)now;
	nm->dropped++;
	nm_session_free(nm, s);
	nm->ops->node_close(nm->ctx, channel, "no RegisterNode in time");
}

int nm_node_up(struct nm *nm, const struct mesh_id *id, const struct net_addr *remote,
	       uint64_t channel, uint64_t now)
{
	if (nm_session_by_channel(nm, channel))
		return -EEXIST;
	struct nm_session *s = calloc(1, sizeof *s);
	if (!s)
		return -ENOMEM;
	*s = (struct nm_session){.channel = channel, .nm = nm, .id = *id, .remote = *remote};
	timer_init(&s->hello, hello_late, s);
	int err = map_put(&nm->sessions, &channel, s);
	if (!err)
		err = timerq_set(&nm->timers, &s->hello, now + nm->config.hello_timeout_us);
	if (err)
		nm_session_free(nm, s);
	return err;
}

void nm_session_free(struct nm *nm, struct nm_session *s)
{
	timerq_cancel(&nm->timers, &s->hello);
	if (nm_session_by_channel(nm, s->channel) == s)
		map_del(&nm->sessions, &s->channel);
	free(s);
}

void nm_node_down(struct nm *nm, uint64_t channel, uint64_t now)
{
	struct nm_session *s = nm_session_by_channel(nm, channel);
	if (!s)
		return;
	if (s->node)
		nm_node_lost(nm, s->node, now);
	nm_session_free(nm, s);
}

int nm_node_send(struct nm *nm, struct nm_node *node, const struct msg *m)
{
	return node->session ? nm->ops->node_send(nm->ctx, node->session->channel, m) : -ENOTCONN;
}

/* --- what a node must not miss ---------------------------------------------------------------- */

/* Past the limit nothing is remembered and the node is made to begin anew when it is back. */
static void debt_add(struct nm_node *node, struct nm_debt debt)
{
	if (node->must_reset)
		return;
	if (node->debt_count == node->debt_capacity) {
		size_t capacity = node->debt_capacity ? node->debt_capacity * 2 : 8;
		struct nm_debt *debts = NULL;
		if (capacity <= NM_DEBTS_MAX)
			debts = realloc(node->debts, capacity * sizeof *debts);
		if (!debts) {
			nm_debts_clear(node);
			node->must_reset = true;
			return;
		}
		node->debts = debts;
		node->debt_capacity = capacity;
	}
	node->debts[node->debt_count++] = debt;
}

static void debt_send(struct nm *nm, struct nm_node *node, const struct nm_debt *debt,
		      const char *text)
{
	struct msg m = {.type = debt->type};
	switch (debt->type) {
	case MSG_TransportShutdown:
		m.transport_shutdown.transport = debt->a;
		m.transport_shutdown.code = debt->code;
		m.transport_shutdown.text = bytes_str(text);
		break;
	case MSG_RemoveRoute:
		m.remove_route.in_transport = debt->a;
		m.remove_route.in_route = debt->b;
		break;
	default:
		m.connection_shutdown.connection = debt->connection;
		m.connection_shutdown.code = debt->code;
		m.connection_shutdown.text = bytes_str(text);
	}
	nm_node_send(nm, node, &m);
}

static void tell(struct nm *nm, struct nm_node *node, struct nm_debt debt, const char *text)
{
	if (node->session)
		debt_send(nm, node, &debt, text);
	else if (node->present)
		debt_add(node, debt);
}

void nm_tell_transport_shutdown(struct nm *nm, struct nm_node *node, uint32_t transport,
				uint16_t code)
{
	tell(nm, node,
	     (struct nm_debt){.type = MSG_TransportShutdown, .code = code, .a = transport},
	     msg_code_name(code));
}

void nm_tell_route_removed(struct nm *nm, struct nm_node *node, uint32_t in_transport,
			   uint32_t in_route)
{
	tell(nm, node, (struct nm_debt){.type = MSG_RemoveRoute, .a = in_transport, .b = in_route},
	     "");
}

void nm_tell_connection_shutdown(struct nm *nm, struct nm_node *node, uint64_t connection,
				 uint16_t code, const char *text)
{
	tell(nm, node,
	     (struct nm_debt){
		     .type = MSG_ConnectionShutdown, .code = code, .connection = connection},
	     text);
}

void nm_debts_pay(struct nm *nm, struct nm_node *node)
{
	for (size_t i = 0; i < node->debt_count; i++)
		debt_send(nm, node, &node->debts[i], msg_code_name(node->debts[i].code));
	nm_debts_clear(node);
}

void nm_debts_clear(struct nm_node *node)
{
	free(node->debts);
	node->debts = NULL;
	node->debt_count = node->debt_capacity = 0;
}
