#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "sim/sim.h"

#define APP_DELAY_US 30u
#define APP_LOW_WATER (256u << 10)

static int op_manager_send(void *ctx, const struct msg *m)
{
	return manager_letter(ctx, m);
}

static void op_manager_close(void *ctx, const char *why)
{
	struct sim_host *h = ctx;
	sim_fail(h->sim, "host %u leaves its manager: %s", h->index, why);
}

static void op_quit(void *ctx, const char *why)
{
	struct sim_host *h = ctx;
	sim_fail(h->sim, "host %u was told to end: %s", h->index, why);
}

static void app_lands(struct sim_letter *l, const struct msg *m)
{
	struct sim_app *a = l->app;

	a->pending -= l->len;
	if (!a->handle)
		return;
	traffic_heard(a, m);
	if (a->full && a->pending < APP_LOW_WATER && a->handle) {
		a->full = false;
		node_engine_app_drained(a->host->engine, a->handle, host_now(a->host));
	}
}

static int op_app_send(void *ctx, void *channel, const struct msg *m)
{
	struct sim_host *h = ctx;
	struct sim *s = h->sim;
	struct sim_app *a = channel;

	s->app_us = s->now + APP_DELAY_US > s->app_us ? s->now + APP_DELAY_US : s->app_us + 1;
	a->pending += msg_encoded_size(m);
	a->full |= a->pending >= APP_LOW_WATER;
	sim_post(s, m, s->app_us, (struct sim_letter){.host = h, .app = a, .land = app_lands});
	return 0;
}

static size_t op_app_pending(void *ctx, void *channel)
{
	(void)ctx;
	return ((struct sim_app *)channel)->pending;
}

static int op_udp_open(void *ctx, uint32_t transport, uint16_t port, void **socket)
{
	struct sim_host *h = ctx;
	struct sim_socket *unused = NULL;

	for (unsigned i = 0; i < SIM_SOCKETS; i++) {
		if (!h->sockets[i].open)
			unused = &h->sockets[i];
		else if (port && h->sockets[i].port == port)
			return -EADDRINUSE;
	}
	if (!unused)
		return -EMFILE;
	/* Somebody else on the host has it, now and then. */
	if (port && sim_chance(h->sim, 50000))
		return -EADDRINUSE;
	if (!port)
		port = (uint16_t)sim_between(h->sim, 40000, 60000);
	*unused = (struct sim_socket){true, transport, port, h};
	*socket = unused;
	return port;
}

static void op_udp_close(void *ctx, void *socket)
{
	(void)ctx;
	((struct sim_socket *)socket)->open = false;
}

static void op_udp_send(void *ctx, void *socket, const struct net_addr *to, struct pkt *const *v,
			size_t n)
{
	(void)ctx;
	network_send(socket, to, v, n);
}

static void op_random(void *ctx, void *out, size_t len)
{
	sim_fill(((struct sim_host *)ctx)->sim, out, len);
}

static const struct node_engine_ops ops = {
	.manager_send = op_manager_send,
	.manager_close = op_manager_close,
	.quit = op_quit,
	.app_send = op_app_send,
	.app_pending = op_app_pending,
	.udp_open = op_udp_open,
	.udp_close = op_udp_close,
	.udp_send = op_udp_send,
	.random = op_random,
};

uint64_t host_now(const struct sim_host *h)
{
	int64_t now = (int64_t)h->sim->now;

	return h->clock_us + (uint64_t)(now + now * h->drift_ppm / 1000000);
}

/* May be some microseconds early: then nothing is due and it is asked again. */
uint64_t host_next_timeout(const struct sim_host *h)
{
	uint64_t at = h->engine ? node_engine_next_timeout(h->engine) : TIMER_NEVER;

	if (at == TIMER_NEVER || at <= h->clock_us)
		return at == TIMER_NEVER ? at : 0;
	return (at - h->clock_us) * 1000000 / (uint64_t)(1000000 + h->drift_ppm);
}

void host_open(struct sim *s, unsigned index)
{
	struct sim_host *h = &s->hosts[index];
	struct node_engine_config c;
	struct net_addr addr;

	h->sim = s;
	h->index = index;
	if (mesh_id_is_zero(&h->id))
		sim_fill(s, h->secret, sizeof h->secret);
	crypto_scalarmult_base(h->id.b, h->secret);
	node_engine_config_init(&c);
	c.id = h->id;
	memcpy(c.secret, h->secret, sizeof c.secret);
	snprintf(c.name, sizeof c.name, "n%u", index);
	c.rekey_us = h->rekey_us;
	h->engine = node_engine_new(&c, &ops, h, host_now(h));
	addr = network_address(h, 0);
	node_engine_set_addrs(h->engine, &addr, 1);
	if (h->kept.settings.max_packet_size) {
		node_engine_restore(h->engine, &h->kept, host_now(h));
		keep_free(&h->kept);
	}
}

void host_move(struct sim_host *h)
{
	struct net_addr addr;

	h->moves++;
	addr = network_address(h, 0);
	if (h->engine)
		node_engine_set_addrs(h->engine, &addr, 1);
	sim_log(h->sim, "host %u moves to another address", h->index);
}

void host_register_apps(struct sim_host *h)
{
	for (unsigned i = 0; i < SIM_APPS; i++) {
		struct sim_app *a = &h->apps[i];
		struct msg m = {.type = MSG_RegisterApp, .seq = 1};
		a->host = h;
		snprintf(a->name, sizeof a->name, "app%u%c", h->index, 'a' + (int)i);
		a->handle = node_engine_app_up(h->engine, a, host_now(h));
		m.register_app.app = bytes_str(a->name);
		m.register_app.type = bytes_str("sim");
		host_say(a, &m);
		m = (struct msg){.type = MSG_TakeParts, .take_parts = {.parts = 1}};
		if ((h->index + i) % 2)
			host_say(a, &m);
	}
}

void host_say(struct sim_app *a, const struct msg *m)
{
	if (a->handle && node_engine_app_message(a->host->engine, a->handle, m, host_now(a->host)))
		sim_fail(a->host->sim, "%s: the node refuses %s", a->name, msg_type_name(m->type));
}

void host_crash(struct sim_host *h)
{
	for (unsigned i = 0; i < SIM_APPS; i++)
		h->apps[i].handle = NULL;
	/* Some disks do not outlive it. */
	if (sim_chance(h->sim, 750000) && node_engine_keep(h->engine, &h->kept))
		sim_log(h->sim, "host %u has nothing to keep", h->index);
	node_engine_free(h->engine);
	h->engine = NULL;
}

void host_close(struct sim_host *h)
{
	for (unsigned i = 0; i < SIM_APPS; i++) {
		if (h->apps[i].handle)
			node_engine_app_down(h->engine, h->apps[i].handle, host_now(h));
		h->apps[i].handle = NULL;
	}
	keep_free(&h->kept);
	node_engine_free(h->engine);
	h->engine = NULL;
}
