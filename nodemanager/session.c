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
	nm->ops->node_close(nm->ctx, channel, "no registration in time");
}

int nm_node_up(struct nm *nm, const struct mesh_id *id, const struct net_addr *remote,
	       uint64_t channel, uint64_t now)
{
	if (nm_session_by_channel(nm, channel))
		return -EEXIST;
	if (nm_revoked_refuse(nm, id, remote, channel, now))
		return -EACCES;
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
	nm_report_free(nm, s->report);
	if (s->node && s->node->reporting == s)
		s->node->reporting = NULL;
	if (nm_session_by_channel(nm, s->channel) == s)
		map_del(&nm->sessions, &s->channel);
	free(s);
}

void nm_node_down(struct nm *nm, uint64_t channel, uint64_t now)
{
	struct nm_session *s = nm_session_by_channel(nm, channel);
	if (!s)
		return;
	if (s->node && s->node->session == s)
		nm_node_lost(nm, s->node, now);
	nm_session_free(nm, s);
}

int nm_node_send(struct nm *nm, struct nm_node *node, const struct msg *m)
{
	return node->session ? nm->ops->node_send(nm->ctx, node->session->channel, m) : -ENOTCONN;
}

/* --- what a connected node is told ------------------------------------------------------------ */

void nm_tell_transport_shutdown(struct nm *nm, struct nm_node *node, uint32_t transport,
				uint16_t code)
{
	struct msg m = {.type = MSG_TransportShutdown};
	m.transport_shutdown.transport = transport;
	m.transport_shutdown.code = code;
	m.transport_shutdown.text = bytes_str(msg_code_name(code));
	nm_node_send(nm, node, &m);
}

void nm_tell_route_removed(struct nm *nm, struct nm_node *node, uint32_t in_transport,
			   uint32_t in_route)
{
	struct msg m = {.type = MSG_RemoveRoute};
	m.remove_route.in_transport = in_transport;
	m.remove_route.in_route = in_route;
	nm_node_send(nm, node, &m);
}

void nm_tell_connection_shutdown(struct nm *nm, struct nm_node *node, uint64_t connection,
				 uint16_t code, const char *text)
{
	struct msg m = {.type = MSG_ConnectionShutdown};
	m.connection_shutdown.connection = connection;
	m.connection_shutdown.code = code;
	m.connection_shutdown.text = bytes_str(text);
	nm_node_send(nm, node, &m);
}
