#include <stdlib.h>
#include <string.h>

#include "sim/sim.h"

struct packet {
	struct timer timer;
	struct sim *sim;
	unsigned from_host, to_host;
	struct net_addr from, to;
	struct block *block;
};

struct net_addr network_address(const struct sim_host *h, uint16_t port)
{
	return (struct net_addr){4, {10, 0, 0, (uint8_t)(h->index + 1)}, port};
}

void network_path(struct sim *s, unsigned a, unsigned b, const struct sim_path *both_ways)
{
	s->paths[a][b] = s->paths[b][a] = *both_ways;
}

static struct sim_socket *socket_at(struct sim_host *h, uint16_t port)
{
	for (unsigned i = 0; i < SIM_SOCKETS; i++)
		if (h->sockets[i].open && h->sockets[i].port == port)
			return &h->sockets[i];
	return NULL;
}

static void arrive(struct timer *t, uint64_t now)
{
	struct packet *p = t->owner;
	struct sim_host *h = &p->sim->hosts[p->to_host];
	struct sim_socket *socket = socket_at(h, p->to.port);
	struct udp_slice slice = {p->block->data, p->block->size};

	if (socket && h->engine)
		node_engine_udp_input(h->engine, socket->transport, p->block, &slice, 1, &p->from,
				      now);
	block_put(p->block);
	free(p);
}

/* When a packet that enters the path now comes out; 0 when its queue is full. */
static uint64_t transit(struct sim *s, struct sim_path *path, size_t len)
{
	uint64_t start = path->free_at_us > s->now ? path->free_at_us : s->now;
	uint64_t at;

	if (path->rate_bps) {
		if ((start - s->now) * path->rate_bps / 8 / SEC > path->queue_bytes)
			return 0;
		path->free_at_us = start + (len + 28) * 8 * SEC / path->rate_bps;
		start = path->free_at_us;
	}
	at = start + path->delay_us;
	if (path->jitter_us)
		return at + sim_between(s, 0, path->jitter_us);
	if (at <= path->last_us)
		at = path->last_us + 1;
	return path->last_us = at;
}

static void send_copy(struct sim_socket *from, const struct net_addr *to, unsigned to_host,
		      const struct pkt *v)
{
	struct sim *s = from->host->sim;
	uint64_t at = transit(s, &s->paths[from->host->index][to_host], v->len);
	struct packet *p = at ? malloc(sizeof *p) : NULL;

	if (!p) {
		s->packets_lost++;
		return;
	}
	*p = (struct packet){.sim = s, .to_host = to_host, .to = *to};
	p->from = network_address(from->host, from->port);
	p->block = block_new(v->len);
	memcpy(p->block->data, v->data, v->len);
	timer_init(&p->timer, arrive, p);
	timerq_set(&s->events, &p->timer, at);
}

void network_send(struct sim_socket *from, const struct net_addr *to, struct pkt *const *v,
		  size_t n)
{
	struct sim *s = from->host->sim;
	unsigned to_host = to->ip[3] - 1u;

	for (size_t i = 0; i < n; i++) {
		s->packets++;
		s->wire_bytes += v[i]->len;
		if (to->family != 4 || to_host >= s->host_count)
			continue;
		struct sim_path *path = &s->paths[from->host->index][to_host];
		if (path->cut || sim_chance(s, path->loss_ppm)) {
			s->packets_lost++;
			continue;
		}
		send_copy(from, to, to_host, v[i]);
		if (sim_chance(s, path->duplicate_ppm))
			send_copy(from, to, to_host, v[i]);
	}
}
