#include "node/delay.h"

#include <stdlib.h>
#include <string.h>

#include "base/timerq.h"
#include "io/clock.h"
#include "io/ticker.h"

#define HELD_BYTES_MAX (64u << 20)

struct held {
	TAILQ_ENTRY(held) all;
	struct timer timer;
	struct delay *delay;
	struct udp_socket *socket;
	struct net_addr to;
	struct block *block;
};
TAILQ_HEAD(held_list, held);

struct delay {
	struct delay_config config;
	struct ticker *tick;
	struct timerq timers;
	struct held_list all;
	struct pkt_pool pool;
	size_t bytes;
	uint64_t random;
};

static uint64_t next_random(struct delay *d)
{
	d->random ^= d->random << 13;
	d->random ^= d->random >> 7;
	d->random ^= d->random << 17;
	return d->random;
}

static void arm(struct delay *d, uint64_t now)
{
	uint64_t next = timerq_next(&d->timers);

	if (next == TIMER_NEVER)
		ticker_set(d->tick, TICKER_NEVER);
	else
		ticker_set(d->tick, next > now ? next - now : 0);
}

static void drop(struct held *h)
{
	struct delay *d = h->delay;

	timerq_cancel(&d->timers, &h->timer);
	TAILQ_REMOVE(&d->all, h, all);
	d->bytes -= h->block->size;
	block_put(h->block);
	free(h);
}

static void fire(struct timer *t, uint64_t now)
{
	struct held *h = t->owner;
	struct pkt *p = pkt_new(&h->delay->pool, h->block, h->block->data, h->block->size);

	(void)now;
	if (p) {
		udp_send(h->socket, &h->to, &p, 1);
		pkt_free(&h->delay->pool, p);
	}
	drop(h);
}

static void on_due(void *arg)
{
	struct delay *d = arg;

	timerq_run(&d->timers, daemon_now_us());
	arm(d, daemon_now_us());
}

struct delay *delay_new(struct event_base *base, const struct delay_config *config)
{
	struct delay *d = calloc(1, sizeof *d);

	if (!d)
		return NULL;
	d->config = *config;
	d->random = daemon_now_us() | 1;
	TAILQ_INIT(&d->all);
	timerq_init(&d->timers);
	pkt_pool_init(&d->pool, 64);
	if (ticker_new(&d->tick, base, on_due, d)) {
		free(d);
		return NULL;
	}
	return d;
}

void delay_free(struct delay *d)
{
	if (!d)
		return;
	while (!TAILQ_EMPTY(&d->all))
		drop(TAILQ_FIRST(&d->all));
	timerq_free(&d->timers);
	pkt_pool_free(&d->pool);
	ticker_free(d->tick);
	free(d);
}

static void hold(struct delay *d, struct udp_socket *s, const struct net_addr *to,
		 struct bytes payload, uint64_t now)
{
	struct held *h = calloc(1, sizeof *h);
	uint64_t span =
		d->config.max_us > d->config.min_us ? d->config.max_us - d->config.min_us : 0;

	if (!h || !(h->block = block_new(payload.len))) {
		free(h);
		return;
	}
	memcpy(h->block->data, payload.data, payload.len);
	h->delay = d;
	h->socket = s;
	h->to = *to;
	timer_init(&h->timer, fire, h);
	TAILQ_INSERT_TAIL(&d->all, h, all);
	d->bytes += payload.len;
	if (timerq_set(&d->timers, &h->timer, now + d->config.min_us + next_random(d) % (span + 1)))
		drop(h);
}

static void delay_one(struct delay *d, struct udp_socket *s, const struct net_addr *to,
		      struct bytes payload, uint64_t now)
{
	if (next_random(d) % 1000000 >= d->config.loss_ppm &&
	    d->bytes + payload.len <= HELD_BYTES_MAX)
		hold(d, s, to, payload, now);
}

void delay_send(struct delay *d, struct udp_socket *s, const struct net_addr *to,
		struct pkt *const *v, size_t n)
{
	uint64_t now = daemon_now_us();

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < v[i]->count; k++)
			delay_one(d, s, to, pkt_payload(v[i], k), now);
	arm(d, now);
}

void delay_forget(struct delay *d, const struct udp_socket *s)
{
	struct held *h, *next;

	for (h = TAILQ_FIRST(&d->all); h; h = next) {
		next = TAILQ_NEXT(h, all);
		if (h->socket == s)
			drop(h);
	}
}
