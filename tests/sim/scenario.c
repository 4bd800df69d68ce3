#include <string.h>

#include "sim/sim.h"

#define SETUP_US (30u * SEC)
#define TRAFFIC_US (180u * SEC)

enum fault { FAULT_NONE, FAULT_BLINK, FAULT_LINK, FAULT_CHANNEL, FAULT_CRASH, FAULT_KINDS };

struct topology {
	unsigned links[SIM_HOSTS * 2][2];
	unsigned count;
};

/* --- setting up ------------------------------------------------------------------------------ */

static void linked(void *arg, uint16_t code, const char *text, uint64_t value)
{
	struct sim *s = arg;

	(void)value;
	if (code)
		sim_fail(s, "a link does not come up: %s", text);
	s->links_pending--;
}

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

bool scenario_open(struct sim *s, const unsigned (*links)[2], unsigned link_count)
{
	timerq_init(&s->events);
	s->now = SEC;
	manager_open(s);
	for (unsigned i = 0; i < s->host_count; i++)
		host_open(s, i);
	for (unsigned i = 0; i < s->host_count; i++)
		manager_connect(&s->hosts[i]);
	if (!sim_run(s, s->now + SETUP_US, registered))
		sim_fail(s, "the nodes do not register");
	for (unsigned i = 0; !s->failure[0] && i < s->host_count; i++)
		host_register_apps(&s->hosts[i]);
	for (unsigned i = 0; !s->failure[0] && i < link_count; i++) {
		s->links_pending++;
		nm_connect_nodes(s->nm, &s->hosts[links[i][0]].id, &s->hosts[links[i][1]].id,
				 linked, s, s->now);
	}
	if (!sim_run(s, s->now + SETUP_US, links_up))
		sim_fail(s, "the links do not come up");
	sim_log(s, "%u hosts, %u links are up", s->host_count, link_count);
	return !s->failure[0];
}

static bool nothing_left(struct sim *s)
{
	struct node_status st;

	for (unsigned i = 0; i < s->host_count; i++) {
		node_engine_get_status(s->hosts[i].engine, &st);
		if (st.connections)
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
		sim_fail(s, "host %u ends with %zu packets, %zu transports, %zu connections",
			 h->index, st.live_packets, st.transports, st.connections);
}

void scenario_close(struct sim *s)
{
	if (!s->failure[0]) {
		traffic_close_all(s);
		if (!sim_run(s, s->now + 20 * SEC, nothing_left))
			sim_fail(s, "closed connections do not go away");
	}
	for (unsigned i = 0; i < s->host_count; i++) {
		if (!s->hosts[i].engine)
			continue;
		node_engine_shutdown(s->hosts[i].engine, s->now);
		check_empty(s, &s->hosts[i]);
		host_close(&s->hosts[i]);
	}
	manager_close(s);
	traffic_free(s);
	sim_clear_events(s);
}

/* --- a random mesh --------------------------------------------------------------------------- */

static struct sim_path random_path(struct sim *s)
{
	struct sim_path p = {
		.delay_us = sim_between(s, 100, 20000),
		.rate_bps = sim_between(s, 4, 200) * 1000000,
		.queue_bytes = 256u << 10,
	};

	p.loss_ppm = (uint32_t)(sim_chance(s, 500000) ? sim_between(s, 0, 100000) : 0);
	p.jitter_us = sim_chance(s, 300000) ? sim_between(s, 100, 5000) : 0;
	p.duplicate_ppm = (uint32_t)(sim_chance(s, 300000) ? sim_between(s, 0, 50000) : 0);
	return p;
}

static bool has_link(const struct topology *t, unsigned a, unsigned b)
{
	for (unsigned i = 0; i < t->count; i++)
		if ((t->links[i][0] == a && t->links[i][1] == b) ||
		    (t->links[i][0] == b && t->links[i][1] == a))
			return true;
	return false;
}

static void add_link(struct topology *t, unsigned a, unsigned b)
{
	if (a == b || has_link(t, a, b) || t->count == SIM_HOSTS * 2)
		return;
	t->links[t->count][0] = a;
	t->links[t->count++][1] = b;
}

/* A tree, and a few links more. */
static void random_topology(struct sim *s, struct topology *t)
{
	s->host_count = (unsigned)sim_between(s, 2, SIM_HOSTS);
	t->count = 0;
	for (unsigned i = 1; i < s->host_count; i++)
		add_link(t, i, (unsigned)sim_between(s, 0, i - 1));
	for (uint64_t extra = sim_between(s, 0, s->host_count); extra; extra--)
		add_link(t, (unsigned)sim_between(s, 0, s->host_count - 1),
			 (unsigned)sim_between(s, 0, s->host_count - 1));
	for (unsigned a = 0; a < s->host_count; a++) {
		for (unsigned b = a + 1; b < s->host_count; b++) {
			struct sim_path p = random_path(s);
			network_path(s, a, b, &p);
		}
	}
}

static void random_traffic(struct sim *s)
{
	unsigned n = (unsigned)sim_between(s, 1, 6);

	for (unsigned i = 0; i < n; i++) {
		unsigned a = (unsigned)sim_between(s, 0, s->host_count - 1);
		unsigned b = (unsigned)sim_between(s, 0, s->host_count - 1);
		uint8_t cls = sim_chance(s, 250000) ? CLASS_DATAGRAM : CLASS_STREAM;
		/* The two apps differ, so that a == b is a connection within one node. */
		traffic_begin(s, &s->hosts[a].apps[0], &s->hosts[b].apps[1], cls,
			      (unsigned)sim_between(s, 1, cls == CLASS_STREAM ? 40 : 200));
		s->conns[i].close_early = cls == CLASS_STREAM && sim_chance(s, 250000);
		if (s->conns[i].close_early)
			s->conns[i].flow[1].total = 0;
	}
}

/* --- faults ---------------------------------------------------------------------------------- */

#define NOTHING UINT32_MAX

/* Do all hosts reach each other without this link, or without this host? */
static bool reaches_all(const struct topology *t, unsigned hosts, unsigned without_link,
			unsigned without_host)
{
	unsigned all = ((1u << hosts) - 1) & ~(without_host < hosts ? 1u << without_host : 0u);
	unsigned seen = all & -all, before = 0;

	while (seen != before) {
		before = seen;
		for (unsigned i = 0; i < t->count; i++) {
			unsigned pair = 1u << t->links[i][0] | 1u << t->links[i][1];
			if (i != without_link && (pair & ~all) == 0 && (pair & seen))
				seen |= pair;
		}
	}
	return seen == all;
}

struct cut {
	unsigned a, b;
};
static struct cut the_cut; /* one at a time */

static void heal(struct sim *s, void *arg)
{
	(void)arg;
	s->paths[the_cut.a][the_cut.b].cut = s->paths[the_cut.b][the_cut.a].cut = false;
	sim_log(s, "hosts %u and %u hear each other again", the_cut.a, the_cut.b);
}

static void cut(struct sim *s, void *arg)
{
	(void)arg;
	s->paths[the_cut.a][the_cut.b].cut = s->paths[the_cut.b][the_cut.a].cut = true;
	sim_log(s, "hosts %u and %u are parted", the_cut.a, the_cut.b);
}

static void rejoin(struct sim *s, void *arg)
{
	(void)s;
	manager_connect(arg);
}

static void lose_channel(struct sim *s, void *arg)
{
	manager_disconnect(arg);
	sim_at(s, s->now + sim_between(s, 100 * MS, 3 * SEC), rejoin, arg);
}

static void reborn(struct sim *s, void *arg)
{
	struct sim_host *h = arg;

	sim_log(s, "host %u is back", h->index);
	host_open(s, h->index);
	manager_connect(h);
	host_register_apps(h);
}

static void crash(struct sim *s, void *arg)
{
	struct sim_host *h = arg;

	sim_log(s, "host %u crashes", h->index);
	host_crash(h);
	traffic_crashed(s, h);
	manager_disconnect(h);
	sim_at(s, s->now + sim_between(s, 200 * MS, 3 * SEC), reborn, h);
}

/* Those of the host itself die with it. */
static bool plan_crash(struct sim *s, const struct topology *t, uint64_t at)
{
	struct sim_host *h = &s->hosts[sim_between(s, 0, s->host_count - 1)];

	for (unsigned i = 0; i < s->conn_count; i++)
		s->conns[i].may_die =
			s->conns[i].app[0]->host == h || s->conns[i].app[1]->host == h;
	sim_at(s, at, crash, h);
	return reaches_all(t, s->host_count, NOTHING, h->index);
}

/* True when every connection (but those that may_die) must survive what is going to happen. */
static bool plan_fault(struct sim *s, const struct topology *t)
{
	enum fault f = (enum fault)sim_between(s, 0, FAULT_KINDS - 1);
	unsigned link = (unsigned)sim_between(s, 0, t->count - 1);
	uint64_t at = s->now + sim_between(s, 10 * MS, 2 * SEC);
	/* Far below the liveness timeout, or far above. */
	uint64_t until = at + (f == FAULT_BLINK ? sim_between(s, 50 * MS, 1 * SEC)
						: sim_between(s, 5 * SEC, 8 * SEC));

	if (f == FAULT_NONE)
		return true;
	if (f == FAULT_CHANNEL) {
		sim_at(s, at, lose_channel, &s->hosts[sim_between(s, 0, s->host_count - 1)]);
		return true;
	}
	if (f == FAULT_CRASH)
		return plan_crash(s, t, at);
	the_cut = (struct cut){t->links[link][0], t->links[link][1]};
	sim_at(s, at, cut, NULL);
	sim_at(s, until, heal, NULL);
	return f == FAULT_BLINK || reaches_all(t, s->host_count, link, NOTHING);
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
	return true;
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

static void check_conn(struct sim *s, const struct sim_conn *c, bool must_survive)
{
	bool whole = traffic_flow_done(&c->flow[0]) && traffic_flow_done(&c->flow[1]);

	log_conn(s, c);
	if (!must_survive || c->may_die)
		return;
	if (c->refused)
		sim_fail(s, "connection %u is refused: %s", c->index, msg_code_name(c->code));
	else if (!whole)
		sim_fail(s, "connection %u ends too early: %s", c->index, msg_code_name(c->code));
}

bool scenario_run(struct sim *s)
{
	struct topology t;

	random_topology(s, &t);
	if (scenario_open(s, t.links, t.count)) {
		/* A connection that is asked for while a fault lasts may be refused. */
		random_traffic(s);
		sim_run(s, s->now + 500 * MS, NULL);
		bool must_survive = plan_fault(s, &t);
		if (!sim_run(s, s->now + TRAFFIC_US, all_done))
			sim_fail(s, "messages do not arrive");
		for (unsigned i = 0; i < s->conn_count; i++)
			check_conn(s, &s->conns[i], must_survive);
		sim_run(s, s->now + 9 * SEC, NULL); /* planned faults are over */
	}
	scenario_close(s);
	return !s->failure[0];
}
