#include <errno.h>
#include <string.h>

#include "sim/sim.h"

#define CONTROL_DELAY_US 2000u

/* --- control channels: in order, nothing is lost while they are up --------------------------- */

static uint64_t in_order(struct sim *s, uint64_t *last)
{
	uint64_t at = s->now + CONTROL_DELAY_US + sim_between(s, 0, 1000);

	return *last = at > *last ? at : *last + 1;
}

static void at_manager(struct sim_letter *l, const struct msg *m)
{
	if (l->host->channel == l->channel && l->sim->nm)
		nm_node_msg(l->sim->nm, l->channel, m, l->sim->now);
}

static void at_node(struct sim_letter *l, const struct msg *m)
{
	if (l->host->channel == l->channel && l->host->engine)
		node_engine_manager_message(l->host->engine, m, host_now(l->host));
}

int manager_letter(struct sim_host *h, const struct msg *m)
{
	if (!h->channel)
		return -ENOTCONN;
	sim_post(h->sim, m, in_order(h->sim, &h->to_manager_us),
		 (struct sim_letter){.host = h, .channel = h->channel, .land = at_manager});
	return 0;
}

void manager_connect(struct sim_host *h)
{
	struct sim *s = h->sim;
	struct net_addr from = network_address(h, 9999);

	h->channel = ++s->next_channel;
	sim_log(s, "host %u: control channel up", h->index);
	if (nm_node_up(s->nm, &h->id, &from, h->channel, s->now))
		sim_fail(s, "the manager refuses host %u", h->index);
	node_engine_manager_up(h->engine, host_now(h));
}

void manager_disconnect(struct sim_host *h)
{
	uint64_t channel = h->channel;

	if (!channel)
		return;
	h->channel = 0;
	sim_log(h->sim, "host %u: control channel down", h->index);
	nm_node_down(h->sim->nm, channel, h->sim->now);
	if (h->engine)
		node_engine_manager_down(h->engine, host_now(h));
}

/* --- links ----------------------------------------------------------------------------------- */

static void linked(void *arg, uint16_t code, const char *text, uint64_t value)
{
	struct sim *s = arg;

	(void)value;
	if (code && !s->faults)
		sim_fail(s, "a link does not come up: %s", text);
	s->links_pending--;
}

void manager_link(struct sim *s, unsigned a, unsigned b)
{
	s->links_pending++;
	nm_connect_nodes(s->nm, &s->hosts[a].id, &s->hosts[b].id, linked, s, s->now);
}

void manager_unlink(struct sim *s, unsigned a, unsigned b)
{
	nm_disconnect_nodes(s->nm, &s->hosts[a].id, &s->hosts[b].id, s->now);
}

/* --- ops ------------------------------------------------------------------------------------- */

static struct sim_host *host_of(struct sim *s, uint64_t channel)
{
	for (unsigned i = 0; i < s->host_count; i++)
		if (s->hosts[i].channel == channel)
			return &s->hosts[i];
	return NULL;
}

static int op_node_send(void *ctx, uint64_t channel, const struct msg *m)
{
	struct sim *s = ctx;
	struct sim_host *h = host_of(s, channel);

	if (!h)
		return -ENOTCONN;
	sim_post(s, m, in_order(s, &h->to_node_us),
		 (struct sim_letter){.host = h, .channel = channel, .land = at_node});
	return 0;
}

static void op_node_close(void *ctx, uint64_t channel, const char *reason)
{
	struct sim *s = ctx;
	struct sim_host *h = host_of(s, channel);

	if (h)
		sim_fail(s, "the manager closes the channel of host %u: %s", h->index, reason);
}

static void from_tracker(struct sim_letter *l, const struct msg *m)
{
	if (l->sim->nm)
		nm_tracker_msg(l->sim->nm, m, l->sim->now);
}

/* The tracker says yes to everything. */
static int op_tracker_send(void *ctx, const struct msg *m)
{
	struct sim *s = ctx;
	struct msg reply = {.type = MSG_AppRegistrationResponse, .seq = m->seq};

	if (m->type == MSG_AppListRequest)
		reply.type = MSG_AppListResponse;
	else if (m->type != MSG_AppRegistrationRequest)
		return 0;
	sim_post(s, &reply, s->now + CONTROL_DELAY_US, (struct sim_letter){.land = from_tracker});
	return 0;
}

static void op_random(void *ctx, void *out, size_t len)
{
	sim_fill(ctx, out, len);
}

static void op_node_save(void *ctx, const struct nm_node_record *node)
{
	struct sim_store *store = &((struct sim *)ctx)->store;
	unsigned i = 0;

	while (i < store->node_count && !mesh_id_equal(&store->nodes[i].id, &node->id))
		i++;
	store->node_count += i == store->node_count;
	store->nodes[i] = *node;
}

static void op_link_save(void *ctx, const struct mesh_id *a, const struct mesh_id *b)
{
	struct sim_store *store = &((struct sim *)ctx)->store;

	store->links[store->link_count].a = *a;
	store->links[store->link_count].transport = 0;
	store->links[store->link_count++].b = *b;
}

static void op_link_remove(void *ctx, const struct mesh_id *a, const struct mesh_id *b)
{
	struct sim_store *store = &((struct sim *)ctx)->store;

	for (unsigned i = 0; i < store->link_count; i++)
		if ((mesh_id_equal(&store->links[i].a, a) &&
		     mesh_id_equal(&store->links[i].b, b)) ||
		    (mesh_id_equal(&store->links[i].a, b) && mesh_id_equal(&store->links[i].b, a)))
			store->links[i] = store->links[--store->link_count];
}

static void op_link_transport(void *ctx, const struct mesh_id *a, const struct mesh_id *b,
			      uint32_t transport)
{
	struct sim_store *store = &((struct sim *)ctx)->store;

	for (unsigned i = 0; i < store->link_count; i++)
		if (mesh_id_equal(&store->links[i].a, a) && mesh_id_equal(&store->links[i].b, b))
			store->links[i].transport = transport;
}

static void op_counter_save(void *ctx, enum nm_counter which, uint32_t value)
{
	((struct sim *)ctx)->store.counters[which] = value;
}

static const struct nm_ops ops = {
	.node_send = op_node_send,
	.node_close = op_node_close,
	.tracker_send = op_tracker_send,
	.random = op_random,
	.node_save = op_node_save,
	.link_save = op_link_save,
	.link_remove = op_link_remove,
	.link_transport = op_link_transport,
	.counter_save = op_counter_save,
};

void manager_open(struct sim *s)
{
	struct nm_config c;

	nm_config_default(&c);
	c.standby_paths = 1;
	s->nm = nm_new(&c, &ops, s);
	for (unsigned i = 0; i < s->store.node_count; i++)
		nm_load_node(s->nm, &s->store.nodes[i]);
	for (unsigned i = 0; i < s->store.link_count; i++)
		nm_load_link(s->nm, &s->store.links[i].a, &s->store.links[i].b,
			     s->store.links[i].transport);
	for (unsigned i = 0; i < NM_COUNTERS; i++)
		if (s->store.counters[i])
			nm_load_counter(s->nm, i, s->store.counters[i]);
	nm_recover(s->nm, s->now);
	nm_tracker_up(s->nm, s->now);
}

void manager_crash(struct sim *s)
{
	sim_log(s, "the manager crashes");
	manager_close(s);
	for (unsigned i = 0; i < s->host_count; i++) {
		if (!s->hosts[i].channel)
			continue;
		s->hosts[i].channel = 0;
		if (s->hosts[i].engine)
			node_engine_manager_down(s->hosts[i].engine, host_now(&s->hosts[i]));
	}
}

static void back(struct sim *s, void *arg)
{
	struct sim_host *h = arg;
	(void)s;
	if (h->engine && !h->channel && h->sim->nm)
		manager_connect(h);
}

void manager_reopen(struct sim *s)
{
	sim_log(s, "the manager is back");
	manager_open(s);
	for (unsigned i = 0; i < s->host_count; i++)
		sim_at(s, s->now + sim_between(s, 10 * MS, 3 * SEC), back, &s->hosts[i]);
}

void manager_close(struct sim *s)
{
	nm_free(s->nm);
	s->nm = NULL;
}
