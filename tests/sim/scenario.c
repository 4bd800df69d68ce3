#include <string.h>

#include "sim/sim.h"

#define SETUP_US (30u * SEC)
#define TRAFFIC_US (600u * SEC)
#define RECOVERY_US (60u * SEC)

/* --- setting up ------------------------------------------------------------------------------ */

static bool registered(struct sim *s)
{
	for (unsigned i = 0; i < s->host_count; i++)
		if (!node_engine_registered(s->hosts[i].engine))
			return false;
	return true;
}

static bool links_up(struct sim *s)
{
	struct nm_status st;

	nm_status_get(s->nm, &st);
	return s->links_pending == 0 && st.transports_connected == st.links;
}

/* A link holds its queue and its window; some packets are on the way within the host.  Each
 * connection adds to this. */
static void bound_queues(struct sim *s)
{
	for (unsigned i = 0; i < s->host_count; i++)
		s->hosts[i].may_queue = 2u << 20;
	for (unsigned i = 0; i < s->topology.count; i++)
		for (unsigned side = 0; side < 2; side++)
			s->hosts[s->topology.links[i][side]].may_queue += 2u << 20;
}

bool scenario_open(struct sim *s)
{
	const struct sim_topology *t = &s->topology;

	timerq_init(&s->events);
	s->now = SEC;
	bound_queues(s);
	manager_open(s);
	for (unsigned i = 0; i < s->host_count; i++)
		host_open(s, i);
	for (unsigned i = 0; i < s->host_count; i++)
		manager_connect(&s->hosts[i]);
	if (!sim_run(s, s->now + SETUP_US, registered))
		sim_fail(s, "the nodes do not register");
	for (unsigned i = 0; !s->failure[0] && i < s->host_count; i++)
		host_register_apps(&s->hosts[i]);
	for (unsigned i = 0; !s->failure[0] && i < t->count; i++)
		manager_link(s, t->links[i][0], t->links[i][1]);
	if (!sim_run(s, s->now + SETUP_US, links_up))
		sim_fail(s, "the links do not come up");
	sim_log(s, "%u hosts, %u links are up", s->host_count, t->count);
	return !s->failure[0];
}

static bool nothing_left(struct sim *s)
{
	struct node_status st;

	for (unsigned i = 0; i < s->host_count; i++) {
		node_engine_get_status(s->hosts[i].engine, &st);
		if (st.connections || st.routes)
			return false;
	}
	return true;
}

static void check_empty(struct sim *s, const struct sim_host *h)
{
	struct node_status st;

	node_engine_get_status(h->engine, &st);
	sim_log(s,
		"host %u: forwarded %llu, delivered %llu, unknown labels %llu, at most %zu queued",
		h->index, (unsigned long long)st.forwarded_packets,
		(unsigned long long)st.delivered_packets, (unsigned long long)st.unknown_labels,
		h->most_queued);
	if (st.live_packets || st.transports || st.connections || st.requests)
		sim_fail(s,
			 "host %u ends with %zu packets, %zu transports, %zu connections, %zu "
			 "requests",
			 h->index, st.live_packets, st.transports, st.connections, st.requests);
}

void scenario_close(struct sim *s)
{
	if (!s->failure[0]) {
		traffic_close_all(s);
		if (!sim_run(s, s->now + 40 * SEC, nothing_left))
			sim_fail(s, "closed connections, or their rules, do not go away");
	}
	s->closing = true;
	for (unsigned i = 0; i < s->host_count; i++) {
		if (!s->hosts[i].engine)
			continue;
		node_engine_shutdown(s->hosts[i].engine, host_now(&s->hosts[i]));
		check_empty(s, &s->hosts[i]);
		host_close(&s->hosts[i]);
	}
	manager_close(s);
	traffic_free(s);
	sim_clear_events(s);
}

/* --- a random mesh --------------------------------------------------------------------------- */

static void random_hosts(struct sim *s)
{
	bool rekey = sim_chance(s, 500000);

	for (unsigned i = 0; i < s->host_count; i++) {
		struct sim_host *h = &s->hosts[i];
		h->clock_us = sim_between(s, 0, 1000000 * (uint64_t)SEC);
		h->drift_ppm = (int64_t)sim_between(s, 0, 200) - 100;
		h->rekey_us = rekey ? sim_between(s, 500 * MS, 5 * SEC) : 0;
	}
}

/* --- what must hold -------------------------------------------------------------------------- */

/* Over for both, one of which may never have known of it; or everything has arrived. */
static bool conn_done(const struct sim_conn *c)
{
	if (c->ended[0] && (c->ended[1] || !c->up[1]))
		return c->ended[1] || c->code || c->may_die;
	return !c->close_early && c->up[0] && c->up[1] && traffic_flow_done(&c->flow[0]) &&
	       traffic_flow_done(&c->flow[1]);
}

static bool all_done(struct sim *s)
{
	for (unsigned i = 0; i < s->conn_count; i++)
		if (!conn_done(&s->conns[i]))
			return false;
	return s->conns_due == 0;
}

static void log_conn(struct sim *s, const struct sim_conn *c)
{
	for (unsigned side = 0; side < 2; side++) {
		const struct sim_flow *f = &c->flow[side];
		sim_log(s, "connection %u %s %s -> %s: %u of %u sent, %u received (%llu bytes)%s%s",
			c->index, c->cls == CLASS_STREAM ? "stream" : "datagram",
			c->app[side]->name, c->app[!side]->name, f->sent, f->total, f->received,
			(unsigned long long)f->received_bytes, c->ended[side] ? " ended" : "",
			c->close_early ? " closes early" : "");
	}
}

static void check_conn(struct sim *s, const struct sim_conn *c)
{
	bool whole = traffic_flow_done(&c->flow[0]) && traffic_flow_done(&c->flow[1]);

	log_conn(s, c);
	if (c->may_die || (c->late && (c->refused || !c->up[0])))
		return;
	if (c->refused)
		sim_fail(s, "connection %u is refused: %s", c->index, msg_code_name(c->code));
	else if (!whole)
		sim_fail(s, "connection %u ends too early: %s", c->index, msg_code_name(c->code));
}

static bool all_up(struct sim *s)
{
	for (unsigned i = 0; i < s->conn_count; i++)
		if (!s->conns[i].up[0] && !s->conns[i].ended[0])
			return false;
	return true;
}

static bool all_healed(struct sim *s)
{
	return s->faults == 0 && links_up(s);
}

bool scenario_run(struct sim *s)
{
	topology_random(s);
	random_hosts(s);
	if (scenario_open(s)) {
		/* A connection that is asked for while a fault lasts may be refused. */
		traffic_random(s);
		sim_run(s, s->now + 20 * SEC, all_up);
		faults_plan(s);
		if (!sim_run(s, s->now + TRAFFIC_US, all_done))
			sim_fail(s, "messages do not arrive");
		for (unsigned i = 0; i < s->conn_count; i++)
			check_conn(s, &s->conns[i]);
		if (!sim_run(s, s->now + RECOVERY_US, all_healed))
			sim_fail(s, "the links do not come back");
		sim_run(s, s->now + SEC, NULL); /* what was asked at the last moment is answered */
		network_check(s);
	}
	scenario_close(s);
	return !s->failure[0];
}
