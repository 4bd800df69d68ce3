#include <stdlib.h>
#include <string.h>

#include "sim/sim.h"
#include "wire/packet.h"

#define TRIES_AT 3 /* in the hop header */
#define IP_UDP_BYTES 28

struct packet {
	struct timer timer;
	struct sim *sim;
	struct sim_path *path;
	unsigned to_host;
	struct net_addr from, to;
	struct block *block;
};

struct net_addr network_address(const struct sim_host *h, uint16_t port)
{
	return (struct net_addr){4, {10, 0, h->moves, (uint8_t)(h->index + 1)}, port};
}

void network_path(struct sim *s, unsigned a, unsigned b, const struct sim_path *both_ways)
{
	s->paths[a][b] = s->paths[b][a] = *both_ways;
}

void network_cut(struct sim *s, unsigned a, unsigned b, int change)
{
	s->paths[a][b].cuts += (unsigned)change;
	s->paths[b][a].cuts += (unsigned)change;
}

static struct sim_socket *socket_at(struct sim_host *h, const struct net_addr *addr)
{
	if (addr->ip[2] != h->moves)
		return NULL; /* nobody lives there any more */
	for (unsigned i = 0; i < SIM_SOCKETS; i++)
		if (h->sockets[i].open && h->sockets[i].port == addr->port)
			return &h->sockets[i];
	return NULL;
}

static bool is_data(const uint8_t *packet)
{
	return packet[0] == PACKET_DATA || packet[0] == PACKET_ROUTE_ERROR;
}

static void arrive(struct timer *t, uint64_t now)
{
	struct packet *p = t->owner;
	struct sim_host *h = &p->sim->hosts[p->to_host];
	struct sim_socket *socket = socket_at(h, &p->to);
	struct udp_slice slice = {p->block->data, p->block->size};

	(void)now;
	if (!socket && is_data(p->block->data))
		p->path->lost_bytes += p->block->size;
	p->path->arrived_packets += is_data(p->block->data);
	if (socket && h->engine)
		node_engine_udp_input(h->engine, socket->transport, p->block, &slice, 1, &p->from,
				      host_now(h));
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
		path->free_at_us =
			start + (uint64_t)(len + IP_UDP_BYTES) * 8 * SEC / path->rate_bps;
		start = path->free_at_us;
	}
	at = start + path->delay_us;
	if (sim_chance(s, path->reorder_ppm))
		return at + sim_between(s, 0, path->reorder_us);
	if (path->jitter_us)
		return at + sim_between(s, 0, path->jitter_us);
	if (at <= path->last_us)
		at = path->last_us + 1;
	return path->last_us = at;
}

/* False: the queue of the path was full. */
static bool send_copy(struct sim_socket *from, const struct net_addr *to, unsigned to_host,
		      struct bytes v)
{
	struct sim *s = from->host->sim;
	struct sim_path *path = &s->paths[from->host->index][to_host];
	uint64_t at = transit(s, path, v.len);
	struct packet *p = at ? malloc(sizeof *p) : NULL;

	if (!p)
		return false;
	*p = (struct packet){.sim = s, .path = path, .to_host = to_host, .to = *to};
	p->from = network_address(from->host, from->port);
	p->block = block_new(v.len);
	memcpy(p->block->data, v.data, v.len);
	timer_init(&p->timer, arrive, p);
	timerq_set(&s->events, &p->timer, at);
	return true;
}

static void count_sent(struct sim_path *path, struct bytes v)
{
	if (!is_data(v.data))
		path->control_packets++;
	else if (v.data[TRIES_AT])
		path->again_bytes += v.len;
	else
		path->first_bytes += v.len;
}

static bool gets_through(struct sim *s, const struct sim_path *path, struct bytes v)
{
	return !path->cuts && (!path->mtu_bytes || v.len + IP_UDP_BYTES <= path->mtu_bytes) &&
	       !sim_chance(s, path->loss_ppm);
}

static void send_one(struct sim_socket *from, const struct net_addr *to, struct bytes v)
{
	struct sim *s = from->host->sim;
	unsigned to_host = to->ip[3] - 1u;

	s->packets++;
	s->wire_bytes += v.len;
	if (to->family != 4 || to_host >= s->host_count)
		return;
	struct sim_path *path = &s->paths[from->host->index][to_host];
	count_sent(path, v);
	if (!gets_through(s, path, v) || !send_copy(from, to, to_host, v)) {
		s->packets_lost++;
		path->lost_bytes += is_data(v.data) ? v.len : 0;
	} else if (sim_chance(s, path->duplicate_ppm)) {
		send_copy(from, to, to_host, v);
	}
}

void network_send(struct sim_socket *from, const struct net_addr *to, struct pkt *const *v,
		  size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < v[i]->count; k++)
			send_one(from, to, pkt_payload(v[i], k));
}

/* --- no storms ------------------------------------------------------------------------------- */

#define AGAIN_PERCENT 15u	      /* of what was sent: reordering misleads now and then */
#define AGAIN_ALLOWANCE_BYTES 200000u /* windows that were in flight when something broke */
#define CONTROL_PER_SECOND 40u
#define CONTROL_ALLOWANCE 1000u

static void check_path(struct sim *s, unsigned a, unsigned b)
{
	const struct sim_path *there = &s->paths[a][b], *back = &s->paths[b][a];
	uint64_t again_max = there->lost_bytes * 5 / 4 + there->first_bytes * AGAIN_PERCENT / 100 +
			     AGAIN_ALLOWANCE_BYTES;
	uint64_t control_max = back->arrived_packets * 3 / 2 + s->now / SEC * CONTROL_PER_SECOND +
			       CONTROL_ALLOWANCE;

	if (there->first_bytes)
		sim_log(s, "%u -> %u: %llu bytes, %llu of them lost, %llu again, %llu control", a,
			b, (unsigned long long)there->first_bytes,
			(unsigned long long)there->lost_bytes,
			(unsigned long long)there->again_bytes,
			(unsigned long long)there->control_packets);
	if (there->again_bytes > again_max)
		sim_fail(s, "host %u sends %llu bytes again to %u: %llu were lost of %llu", a,
			 (unsigned long long)there->again_bytes, b,
			 (unsigned long long)there->lost_bytes,
			 (unsigned long long)there->first_bytes);
	if (there->control_packets > control_max)
		sim_fail(s, "host %u sends %llu control packets to %u for %llu data packets", a,
			 (unsigned long long)there->control_packets, b,
			 (unsigned long long)back->arrived_packets);
}

void network_check(struct sim *s)
{
	for (unsigned a = 0; a < s->host_count; a++)
		for (unsigned b = 0; b < s->host_count; b++)
			if (a != b)
				check_path(s, a, b);
}
