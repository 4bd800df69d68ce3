/* Meshes that several tests begin with, and what is done to them. */
#ifndef TESTS_UNIT_NM_MESH_H
#define TESTS_UNIT_NM_MESH_H

#include "nm_recorder.h"

/* One round trip of a transport, as its end says it. */
static inline void mesh_report(struct rec *r, uint64_t channel, uint32_t transport, uint32_t rtt_us)
{
	struct msg m = {.type = MSG_TransportStats};
	m.transport_stats.stats_count = 1;
	m.transport_stats.stats[0] =
		(struct stats_item){.transport = transport, .up = 1, .rtt_us = rtt_us};
	node_say(r, channel, &m);
}

/* Starts `r`, with whatever configuration it has been given: 1 - 2 - 4 and 1 - 3 - 4, nothing
 * measured. */
static inline void mesh_square(struct rec *r, uint32_t links[4])
{
	rec_start(r);
	for (unsigned n = 1; n <= 4; n++)
		node_join(r, n, n, 1);
	links[0] = rec_link(r, 1, 2);
	links[1] = rec_link(r, 2, 4);
	links[2] = rec_link(r, 1, 3);
	links[3] = rec_link(r, 3, 4);
}

/* The same, and the way over 2 is the better one. */
static inline struct rec *mesh_diamond(uint32_t links[4])
{
	struct rec *r = rec_new();
	mesh_square(r, links);
	mesh_report(r, 2, links[0], 1000);
	mesh_report(r, 2, links[1], 1000);
	rec_clear(r);
	return r;
}

/* The end says that the transport is lost. */
static inline void mesh_lose(struct rec *r, uint64_t channel, uint32_t transport)
{
	struct msg m = {.type = MSG_TransportShutdown};
	m.transport_shutdown.transport = transport;
	m.transport_shutdown.code = CODE_LOST;
	node_say(r, channel, &m);
}

/* A connection to the app "echo"; its number. */
static inline uint64_t mesh_connect(struct rec *r, unsigned from, unsigned to)
{
	struct msg m = ask_connect(to, "echo", 7);
	size_t before = rec_count(r, from, MSG_ConnectionOn);
	node_say(r, from, &m);
	rec_pump(r);
	struct sent *on = rec_find(r, from, MSG_ConnectionOn, before);
	assert_non_null(on);
	return on->m.connection_on.connection;
}
#endif
