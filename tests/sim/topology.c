#include "sim/sim.h"

#define MTU_LEAST_BYTES 1124u

/* Most links are fair, some are bad, a few are what a radio in the rain makes of them. */
static uint32_t random_loss(struct sim *s)
{
	uint64_t kind = sim_between(s, 0, 9);

	if (kind < 4)
		return 0;
	return (uint32_t)sim_between(s, 0, kind < 7 ? 30000 : kind < 9 ? 100000 : 300000);
}

static struct sim_path random_path(struct sim *s)
{
	struct sim_path p = {
		.delay_us = sim_between(s, 100, 20000),
		.rate_bps = sim_between(s, 4, 200) * 1000000,
		.queue_bytes = 256u << 10,
		.loss_ppm = random_loss(s),
	};

	p.jitter_us = sim_chance(s, 300000) ? sim_between(s, 100, 5000) : 0;
	p.duplicate_ppm = (uint32_t)(sim_chance(s, 300000) ? sim_between(s, 0, 50000) : 0);
	p.reorder_ppm = (uint32_t)(sim_chance(s, 300000) ? sim_between(s, 0, 100000) : 0);
	p.reorder_us = sim_between(s, 100, 20000);
	p.mtu_bytes = sim_chance(s, 300000) ? sim_between(s, MTU_LEAST_BYTES, 1500) : 1500;
	return p;
}

static bool has_link(const struct sim_topology *t, unsigned a, unsigned b)
{
	for (unsigned i = 0; i < t->count; i++)
		if ((t->links[i][0] == a && t->links[i][1] == b) ||
		    (t->links[i][0] == b && t->links[i][1] == a))
			return true;
	return false;
}

static void add_link(struct sim_topology *t, unsigned a, unsigned b)
{
	if (a == b || has_link(t, a, b) || t->count == SIM_LINKS)
		return;
	t->links[t->count][0] = a;
	t->links[t->count++][1] = b;
}

/* Bush, chain or star at its heart, and some links more. */
void topology_random(struct sim *s)
{
	struct sim_topology *t = &s->topology;
	uint64_t shape = sim_between(s, 0, 4);

	s->host_count = (unsigned)sim_between(s, 2, SIM_HOSTS);
	t->count = 0;
	for (unsigned i = 1; i < s->host_count; i++)
		add_link(t, i,
			 shape == 0   ? i - 1
			 : shape == 1 ? 0
				      : (unsigned)sim_between(s, 0, i - 1));
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
