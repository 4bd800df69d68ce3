/* What a good node would hold after what the manager told it, for its report. */
#ifndef TESTS_NM_HELD_H
#define TESTS_NM_HELD_H

#include <string.h>

#include "wire/msg.h"

#define HELD_NODES 16
#define HELD_MAX 2048

struct held {
	uint64_t channel;
	struct report_transport transports[HELD_MAX];
	struct report_rule rules[HELD_MAX];
	struct report_connection conns[HELD_MAX];
	char apps[64][NAME_MAX_BYTES + 1];
	size_t transport_count, rule_count, conn_count, app_count;
};

#define HELD_DROP(list, count, i) (list)[i] = (list)[--(count)]

static inline void held_transport_end(struct held *h, uint32_t id)
{
	for (size_t i = 0; i < h->transport_count; i++)
		if (h->transports[i].transport == id)
			HELD_DROP(h->transports, h->transport_count, i--);
	for (size_t i = 0; i < h->rule_count; i++)
		if (h->rules[i].in_transport == id || h->rules[i].out_transport == id)
			HELD_DROP(h->rules, h->rule_count, i--);
}

static inline void held_conn_end(struct held *h, uint64_t id)
{
	for (size_t i = 0; i < h->conn_count; i++)
		if (h->conns[i].connection == id)
			HELD_DROP(h->conns, h->conn_count, i--);
}

static inline void held_route_end(struct held *h, uint32_t in_transport, uint32_t in_route)
{
	for (size_t i = 0; i < h->rule_count; i++)
		if (h->rules[i].in_transport == in_transport && h->rules[i].in_route == in_route)
			HELD_DROP(h->rules, h->rule_count, i--);
}

static inline struct report_transport *held_transport(struct held *h, uint32_t id)
{
	for (size_t i = 0; i < h->transport_count; i++)
		if (h->transports[i].transport == id)
			return &h->transports[i];
	return NULL;
}

static inline struct report_connection *held_conn(struct held *h, uint64_t id)
{
	for (size_t i = 0; i < h->conn_count; i++)
		if (h->conns[i].connection == id)
			return &h->conns[i];
	return NULL;
}

static inline void held_assign(struct held *h, const struct msg_assign_connection *a)
{
	held_conn_end(h, a->connection);
	if (h->conn_count == HELD_MAX)
		return;
	h->conns[h->conn_count++] = (struct report_connection){
		.connection = a->connection,
		.path = a->path,
		.peer = a->peer,
		.initiator = a->initiator,
		.class = a->class,
		.started = 1,
		.app = bytes_str("echo"),
		.from_app = bytes_str("asker"),
		.out_transport = a->out_transport,
		.out_route = a->out_route,
	};
}

/* The node does what it is told (and answers that it did). */
static inline void held_obey(struct held *h, const struct msg *m)
{
	if (m->type == MSG_TransportCreate && h->transport_count < HELD_MAX)
		h->transports[h->transport_count++] = (struct report_transport){
			.transport = m->transport_create.transport,
			.peer = m->transport_create.peer,
			.initiator = m->transport_create.initiator,
			.port = m->transport_create.port,
			.rtt_us = 1000,
		};
	if (m->type == MSG_AddRoute)
		held_route_end(h, m->add_route.in_transport, m->add_route.in_route);
	if (m->type == MSG_AddRoute && h->rule_count < HELD_MAX)
		h->rules[h->rule_count++] =
			(struct report_rule){m->add_route.in_transport, m->add_route.in_route,
					     m->add_route.out_transport, m->add_route.out_route};
	if (m->type == MSG_AssignConnection)
		held_assign(h, &m->assign_connection);
}

/* One way or the other it is over. */
static inline void held_end(struct held *h, const struct msg *m)
{
	if (m->type == MSG_TransportShutdown)
		held_transport_end(h, m->transport_shutdown.transport);
	if (m->type == MSG_ConnectionShutdown)
		held_conn_end(h, m->connection_shutdown.connection);
	if (m->type == MSG_RemoveRoute)
		held_route_end(h, m->remove_route.in_transport, m->remove_route.in_route);
}

static inline void held_app(struct held *h, struct bytes app, bool has)
{
	for (size_t i = 0; i < h->app_count; i++)
		if (bytes_equal(bytes_str(h->apps[i]), app)) {
			memmove(h->apps[i], h->apps[--h->app_count], sizeof h->apps[i]);
			i--;
		}
	if (has && h->app_count < 64)
		bytes_to_cstr(app, h->apps[h->app_count++], NAME_MAX_BYTES + 1);
}
#endif
