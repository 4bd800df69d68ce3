#include "libmeshapp/meshtun.h"

#include <errno.h>
#include <stdlib.h>

#include "libmeshapp/meshapp_int.h"

struct meshtun {
	TAILQ_ENTRY(meshtun) link;
	struct meshapp *app; /* NULL: its channel is gone */
	uint32_t number;
	uint32_t attach_seq, route_seq; /* of the newest request of each kind */
	meshtun_state_cb *state;
	void *arg;
};

static void detach(struct meshtun *t)
{
	if (t->app)
		TAILQ_REMOVE(&t->app->tuns, t, link);
	t->app = NULL;
}

/* The owner closes it. */
static void fail(struct meshtun *t, uint16_t code)
{
	detach(t);
	t->state(t, code, t->arg);
}

static uint32_t free_number(const struct meshapp *app)
{
	const struct meshtun *t;
	uint32_t used = 1; /* 0 is none */

	TAILQ_FOREACH(t, &app->tuns, link)
		used |= 1u << t->number;
	for (uint32_t n = 1; n <= MESHTUNS_MAX; n++)
		if (!(used & 1u << n))
			return n;
	return 0;
}

int meshtun_open(struct meshtun **out, struct meshapp *app, int fd, bool vnet,
		 meshtun_state_cb *state, void *arg)
{
	struct msg m = {.type = MSG_AttachTun};
	struct meshtun *t;
	int err;

	if (!app->up)
		return -ENOTCONN;
	m.attach_tun.tun = free_number(app);
	m.attach_tun.vnet = vnet;
	if (!m.attach_tun.tun)
		return -ENOBUFS;
	t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	m.seq = t->attach_seq = chan_next_seq(app->ch);
	err = chan_send_fd(app->ch, &m, fd);
	if (err) {
		free(t);
		return err;
	}
	t->app = app;
	t->number = m.attach_tun.tun;
	t->state = state;
	t->arg = arg;
	TAILQ_INSERT_TAIL(&app->tuns, t, link);
	*out = t;
	return 0;
}

void meshtun_close(struct meshtun *t)
{
	struct msg m = {.type = MSG_DetachTun};

	if (!t)
		return;
	if (t->app && t->app->ch) {
		m.detach_tun.tun = t->number;
		m.detach_tun.code = CODE_CLOSED;
		(void)chan_send(t->app->ch, &m);
	}
	detach(t);
	free(t);
}

int meshtun_route(struct meshtun *t, struct meshconn *conn, const struct tunroute_filter *f,
		  bool vnet)
{
	struct msg m = {.type = MSG_TunRoute};
	struct msg_tun_route *r = &m.tun_route;

	if (!t->app || !t->app->ch || !conn->up || conn->dead)
		return -ENOTCONN;
	m.seq = t->route_seq = chan_next_seq(t->app->ch);
	r->connection = conn->id;
	r->tun = t->number;
	r->vnet = vnet;
	r->families = (uint8_t)((f->v4 ? 1 : 0) | (f->v6 ? 2 : 0));
	r->local4 = f->local4;
	r->remote4 = f->remote4;
	r->local6 = f->local6;
	r->remote6 = f->remote6;
	return chan_send(t->app->ch, &m);
}

const struct tunroute_counters *meshconn_tun_counters(const struct meshconn *conn)
{
	return &conn->tun_counters;
}

/* --- from the node -------------------------------------------------------------------------- */

bool meshtun_ack(struct meshapp *app, const struct msg *m)
{
	struct meshtun *t;

	TAILQ_FOREACH(t, &app->tuns, link)
		if (m->seq == t->attach_seq || m->seq == t->route_seq)
			break;
	if (!t)
		return false;
	if (m->common_ack.code)
		fail(t, m->common_ack.code);
	else if (m->seq == t->attach_seq)
		t->state(t, CODE_OK, t->arg);
	return true;
}

void meshtun_detached(struct meshapp *app, const struct msg_detach_tun *d)
{
	struct meshtun *t;

	TAILQ_FOREACH(t, &app->tuns, link)
		if (t->number == d->tun)
			break;
	if (t)
		fail(t, d->code ? d->code : CODE_CLOSED);
}

void meshtun_stats(struct meshconn *c, const struct msg_tun_stats *s)
{
	c->tun_counters = (struct tunroute_counters){
		.in_packets = s->in_packets,
		.in_bytes = s->in_bytes,
		.out_packets = s->out_packets,
		.out_bytes = s->out_bytes,
		.foreign = s->foreign,
		.dropped = s->dropped,
	};
}

void meshtun_fail_all(struct meshapp *app)
{
	struct meshtun *t;

	while ((t = TAILQ_FIRST(&app->tuns)))
		fail(t, CODE_LOST);
}

void meshtun_drop_all(struct meshapp *app)
{
	while (!TAILQ_EMPTY(&app->tuns))
		detach(TAILQ_FIRST(&app->tuns));
}
