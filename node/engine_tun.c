#include "node/engine_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/vnethdr.h"

static struct node_tun *tun_find(const struct node_app *a, uint32_t number)
{
	struct node_tun *t;

	TAILQ_FOREACH(t, &a->tuns, of_app)
		if (t->number == number)
			return t;
	return NULL;
}

/* --- counters ------------------------------------------------------------------------------- */

void tun_tell(struct node_conn *c)
{
	const struct tunroute_counters *n = &c->route.counters;
	struct msg m = {.type = MSG_TunStats};

	if (!c->tun || !c->app || memcmp(n, &c->told_counters, sizeof *n) == 0)
		return;
	c->told_counters = *n;
	m.tun_stats.connection = c->id;
	m.tun_stats.in_packets = n->in_packets;
	m.tun_stats.in_bytes = n->in_bytes;
	m.tun_stats.out_packets = n->out_packets;
	m.tun_stats.out_bytes = n->out_bytes;
	m.tun_stats.foreign = n->foreign;
	m.tun_stats.dropped = n->dropped;
	app_send(c->app, &m);
}

static void fire_stats(struct timer *timer, uint64_t now)
{
	struct node_tun *t = timer->owner;
	struct node_conn *c;

	(void)now;
	TAILQ_FOREACH(c, &t->app->conns, of_app)
		if (c->tun == t)
			tun_tell(c);
}

static void counted(struct node_tun *t, uint64_t now)
{
	if (t->stats_timer.at_us == TIMER_NEVER)
		timerq_set(&t->engine->timers, &t->stats_timer, now + TUN_STATS_US);
}

/* --- life ----------------------------------------------------------------------------------- */

void tun_leave(struct node_conn *c)
{
	struct node_tun *t = c->tun;

	if (!t)
		return;
	tunroute_remove(&t->table, &c->route);
	c->tun = NULL;
	if (t->table.count == 0)
		t->engine->ops.tun_read(t->engine->ctx, t->handle, false);
}

static void drop(struct node_tun *t)
{
	struct node_engine *e = t->engine;
	struct node_conn *c;

	TAILQ_FOREACH(c, &t->app->conns, of_app)
		if (c->tun == t)
			tun_leave(c);
	timerq_cancel(&e->timers, &t->stats_timer);
	tunroute_table_free(&t->table);
	TAILQ_REMOVE(&t->app->tuns, t, of_app);
	t->app->tun_count--;
	e->ops.tun_close(e->ctx, t->handle);
	free(t);
}

void tun_drop_all(struct node_app *a)
{
	while (!TAILQ_EMPTY(&a->tuns))
		drop(TAILQ_FIRST(&a->tuns));
}

void node_engine_tun_lost(struct node_engine *e, struct node_tun *t)
{
	struct msg m = {.type = MSG_DetachTun};
	struct node_app *a = t->app;

	(void)e;
	m.detach_tun.tun = t->number;
	m.detach_tun.code = CODE_LOST;
	drop(t);
	app_send(a, &m);
}

static uint16_t attach(struct node_app *a, const struct msg_attach_tun *m)
{
	struct node_engine *e = a->engine;
	struct node_tun *t;
	uint64_t seed;
	uint8_t key[FLOWMETER_KEY_BYTES];

	if (!m->tun || tun_find(a, m->tun))
		return CODE_INVALID;
	if (!e->ops.tun_open || a->tun_count >= TUNS_PER_APP_MAX)
		return e->ops.tun_open ? CODE_BUSY : CODE_UNAVAILABLE;
	if (!(t = calloc(1, sizeof *t)))
		return CODE_BUSY;
	if (e->ops.tun_open(e->ctx, a->channel, m->vnet != 0, t, &t->handle)) {
		free(t);
		return CODE_INVALID;
	}
	t->engine = e;
	t->app = a;
	t->number = m->tun;
	e->ops.random(e->ctx, &seed, sizeof seed);
	tunroute_table_init(&t->table, m->vnet != 0, seed);
	e->ops.random(e->ctx, key, sizeof key);
	flowmeter_init(&t->flows, key);
	timer_init(&t->stats_timer, fire_stats, t);
	TAILQ_INSERT_TAIL(&a->tuns, t, of_app);
	a->tun_count++;
	return CODE_OK;
}

static uint16_t route(struct node_app *a, const struct msg_tun_route *m)
{
	struct node_conn *c = conn_of_app(a->engine, a, m->connection);
	struct node_tun *t = tun_find(a, m->tun);

	if (!c || c->app != a || c->dead || !c->up || (m->tun && !t))
		return CODE_NOT_FOUND;
	if (c->cls != CLASS_DATAGRAM || (t && m->vnet && !t->table.vnet))
		return CODE_INVALID;
	tun_leave(c);
	if (!t)
		return CODE_OK;
	memset(&c->told_counters, 0, sizeof c->told_counters);
	c->route = (struct tunroute){
		.filter = {.v4 = m->families & 1,
			   .v6 = (m->families & 2) != 0,
			   .local4 = m->local4,
			   .remote4 = m->remote4,
			   .local6 = m->local6,
			   .remote6 = m->remote6},
		.vnet = m->vnet != 0,
		.owner = c,
	};
	int err = tunroute_add(&t->table, &c->route);
	if (err)
		return err == -EEXIST || err == -EINVAL ? CODE_INVALID : CODE_BUSY;
	c->tun = t;
	t->engine->ops.tun_read(t->engine->ctx, t->handle, true);
	return CODE_OK;
}

void tun_message(struct node_app *a, const struct msg *m, uint64_t now)
{
	struct node_tun *t;
	uint16_t code;

	(void)now;
	if (m->type == MSG_DetachTun) {
		if ((t = tun_find(a, m->detach_tun.tun)))
			drop(t);
		return;
	}
	code = m->type == MSG_AttachTun ? attach(a, &m->attach_tun) : route(a, &m->tun_route);
	app_ack(a, m->seq, code, 0, code ? msg_code_name(code) : NULL);
}

/* --- packets -------------------------------------------------------------------------------- */

_Static_assert(VNETHDR_BYTES <= ACKFILTER_HEADER_BYTES, "held with its header");

static size_t header_bytes(const struct node_tun *t)
{
	return t->table.vnet ? VNETHDR_BYTES : 0;
}

static void to_peer(struct node_tun *t, uint8_t *record, size_t len, uint64_t now)
{
	struct bytes out;
	size_t header = header_bytes(t);
	struct tunroute *r = tunroute_out(&t->table, record, len, &out);

	counted(t, now);
	if (!r)
		return;
	struct node_conn *c = r->owner;
	bool sparse = flowmeter_sparse(&t->flows, record + header, len - header, now);
	tunroute_sent(r, out.len, c->up && !c->dead && conn_send_datagram(c, out, sparse, now));
	conn_touch(c);
}

void node_engine_tun_batch_end(struct node_engine *e, struct node_tun *t, uint64_t now)
{
	struct ackfilter *f = &t->acks;

	(void)e;
	for (size_t i = 0; i < f->count; i++)
		to_peer(t, f->held[i].record, f->held[i].len, now);
	f->count = 0;
}

bool node_engine_tun_packet(struct node_engine *e, struct node_tun *t, uint8_t *record, size_t len,
			    uint64_t now)
{
	if (ackfilter_hold(&t->acks, record, len, header_bytes(t)))
		return true;
	node_engine_tun_batch_end(e, t, now);
	to_peer(t, record, len, now);
	return false;
}

static void foreign(struct node_conn *c, const struct net_addr *src, uint64_t now)
{
	char text[NET_ADDR_TEXT], peer[MESH_ID_SHORT];

	if (log_limit_due(&c->tun->log_foreign, now))
		log_warn("%s/%s sends packets from %s, which is not its address (%llu dropped)",
			 mesh_id_short(&c->peer, peer), c->peer_app, net_addr_ip_text(src, text),
			 (unsigned long long)c->route.counters.foreign);
}

void tun_from_peer(struct node_conn *c, struct bytes record, uint64_t now)
{
	struct node_tun *t = c->tun;
	struct node_engine *e = t->engine;
	struct net_addr src;
	int err = tunroute_in(&c->route, record.data, record.len, &src);

	counted(t, now);
	if (err == -EPERM)
		foreign(c, &src, now);
	else if (!err &&
		 e->ops.tun_write(e->ctx, t->handle, c->route.vnet, record.data, record.len))
		c->route.counters.dropped++;
}
