#include <stdlib.h>
#include <string.h>

#include "sim/sim.h"

#define SMALL_MAX 400u
#define MIDDLE_MAX 20000u
#define LARGE_MAX 300000u
#define PARTS_ABOVE 150000u	    /* such a message is said in parts */
#define HUGE_BYTES 1500000u	    /* more than the whole credit */
#define CONN_QUEUE_BYTES (5u << 20) /* what either app may send and the window of the stream */
#define SLOW_US 40000u
#define LATE_US 1500000u

/* Everything about message `index` of a flow follows from its number. */
static uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t z = a ^ (b + 1) * 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 31) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 29) * 0x94d049bb133111ebu;
	return z ^ z >> 32;
}

static size_t length_of(const struct sim_flow *f, unsigned index)
{
	uint64_t r = mix(f->seed, index), kind = r % 100, v = r >> 8;

	if (f->conn->cls == CLASS_DATAGRAM)
		return 4 + v % (kind < 80 ? 1500 : kind < 95 ? 9000 : 60000);
	if (kind < 50)
		return v % SMALL_MAX;
	if (kind < 85)
		return v % MIDDLE_MAX;
	return kind < 98 ? v % LARGE_MAX : HUGE_BYTES;
}

static void content_of(const struct sim_flow *f, unsigned index, uint8_t *out, size_t len)
{
	uint64_t state = mix(f->seed, index) | 1;

	for (size_t i = 0; i < len; i++) {
		if (i % 8 == 0)
			state = mix(state, i);
		out[i] = (uint8_t)(state >> 8 * (i % 8));
	}
	if (f->conn->cls == CLASS_DATAGRAM)
		be32_put(out, index);
}

/* --- sending --------------------------------------------------------------------------------- */

static void say_parts(struct sim_flow *f, const uint8_t *data, size_t len)
{
	struct msg m = {.type = MSG_SendPart};

	for (size_t at = 0, n; at < len; at += n) {
		n = 1 + mix(f->seed, at) % PART_MAX_BYTES;
		n = n < len - at ? n : len - at;
		m.send_part.connection = f->conn->id;
		m.send_part.data = bytes_of(data + at, n);
		m.send_part.left = (uint32_t)(len - at - n);
		host_say(f->conn->app[f->side], &m);
	}
}

static void send_one(struct sim_flow *f)
{
	struct sim_conn *c = f->conn;
	size_t len = length_of(f, f->sent);
	uint8_t *data = malloc(len + 1);
	struct msg m = {.type = MSG_SendFromApp};

	content_of(f, f->sent, data, len);
	m.send_from_app.connection = c->id;
	m.send_from_app.data = bytes_of(data, len);
	f->sent++;
	f->bytes += len;
	f->credit -= (int64_t)len;
	if (c->cls == CLASS_STREAM && len > PARTS_ABOVE)
		say_parts(f, data, len);
	else
		host_say(c->app[f->side], &m);
	free(data);
}

static void close_end(struct sim_conn *c, unsigned side)
{
	struct msg m = {.type = MSG_ConnectionShutdown};

	m.connection_shutdown.connection = c->id;
	m.connection_shutdown.code = CODE_CLOSED;
	c->ended[side] = true;
	host_say(c->app[side], &m);
}

static void pump(struct sim_flow *f)
{
	struct sim *s = f->conn->sim;

	while (f->conn->up[f->side] && !f->conn->ended[f->side] && f->sent < f->total &&
	       f->credit > 0) {
		send_one(f);
		if (f->interval_us) {
			timerq_set(&s->events, &f->send_timer, s->now + f->interval_us);
			break;
		}
	}
	if (f->conn->close_early && f->side == 0 && f->sent == f->total && !f->conn->ended[0])
		close_end(f->conn, 0);
}

static void fire_send(struct timer *t, uint64_t now)
{
	(void)now;
	pump(t->owner);
}

/* --- receiving ------------------------------------------------------------------------------- */

static void give_credit(struct sim_flow *f, uint32_t bytes)
{
	struct sim_conn *c = f->conn;
	struct msg m = {.type = MSG_AppCredit, .app_credit = {c->id, bytes}};

	if (!c->ended[!f->side] && bytes)
		host_say(c->app[!f->side], &m);
}

static void fire_read(struct timer *t, uint64_t now)
{
	struct sim_flow *f = t->owner;
	uint32_t bytes = f->owed;

	(void)now;
	f->owed = 0;
	if (f->reader == READER_LATE)
		f->reader = READER_FAST;
	give_credit(f, bytes);
}

static void consumed(struct sim_flow *f, size_t bytes)
{
	struct sim *s = f->conn->sim;

	if (f->reader == READER_FAST) {
		give_credit(f, (uint32_t)bytes);
		return;
	}
	f->owed += (uint32_t)bytes;
	if (!f->read_timer.index)
		timerq_set(&s->events, &f->read_timer,
			   s->now + (f->reader == READER_SLOW ? SLOW_US : LATE_US));
}

static bool content_is(const struct sim_flow *f, unsigned index, struct bytes data)
{
	size_t len = length_of(f, index);
	uint8_t *want = malloc(len + 1);

	content_of(f, index, want, len);
	bool same = data.len == len && (len == 0 || memcmp(want, data.data, len) == 0);
	free(want);
	return same;
}

static void receive_datagram(struct sim_flow *f, struct bytes data)
{
	struct sim *s = f->conn->sim;
	unsigned index = data.len >= 4 ? be32_get(data.data) : UINT32_MAX;

	if (index >= f->sent || !content_is(f, index, data))
		sim_fail(s, "connection %u: a datagram that nobody sent", f->conn->index);
	else if (f->seen[index])
		sim_fail(s, "connection %u: datagram %u came twice", f->conn->index, index);
	else
		f->seen[index] = 1;
}

static void receive(struct sim_flow *f, struct bytes data)
{
	struct sim *s = f->conn->sim;

	if (f->conn->cls == CLASS_DATAGRAM)
		receive_datagram(f, data);
	else if (f->received >= f->sent || !content_is(f, f->received, data))
		sim_fail(s, "connection %u side %u: message %u is not what was sent (%zu bytes)",
			 f->conn->index, f->side, f->received, data.len);
	f->received++;
	f->received_bytes += data.len;
	f->moved_us = s->now;
	consumed(f, data.len);
}

static void receive_part(struct sim_flow *f, const struct msg_app_part *p)
{
	if (!f->joining) {
		f->join_have = 0;
		f->join_len = p->data.len + p->left;
		f->joining = malloc(f->join_len);
	}
	if (p->data.len + p->left != f->join_len - f->join_have) {
		sim_fail(f->conn->sim, "connection %u side %u: a part that does not fit",
			 f->conn->index, f->side);
		return;
	}
	memcpy(f->joining + f->join_have, p->data.data, p->data.len);
	f->join_have += p->data.len;
	if (p->left)
		return;
	receive(f, bytes_of(f->joining, f->join_len));
	free(f->joining);
	f->joining = NULL;
}

/* --- connections ----------------------------------------------------------------------------- */

static struct sim_conn *conn_by_id(struct sim *s, uint64_t id)
{
	for (unsigned i = 0; i < s->conn_count; i++)
		if (s->conns[i].id == id)
			return &s->conns[i];
	return NULL;
}

static void heard_ack(struct sim *s, const struct msg *m)
{
	struct sim_conn *c = m->seq >= 100 ? &s->conns[m->seq - 100] : NULL;

	if (!c || c >= s->conns + s->conn_count)
		return;
	c->id = m->common_ack.value;
	if (m->common_ack.code == CODE_OK)
		return;
	c->refused = c->ended[0] = c->ended[1] = true;
	c->code = m->common_ack.code;
	sim_log(s, "connection %u is refused: %s", c->index, msg_code_name(c->code));
}

static void heard_end(struct sim_conn *c, unsigned side, const struct msg *m)
{
	c->ended[side] = true;
	if (!c->code)
		c->code = m->connection_shutdown.code;
	sim_log(c->sim, "connection %u side %u ends: %s", c->index, side,
		msg_code_name(m->connection_shutdown.code));
}

static void heard_connection(struct sim_app *a, const struct msg *m, uint64_t id)
{
	struct sim *s = a->host->sim;
	struct sim_conn *c = conn_by_id(s, id);

	if (!c || (c->app[0] != a && c->app[1] != a)) {
		sim_fail(s, "%s hears %s of an unknown connection", a->name,
			 msg_type_name(m->type));
		return;
	}
	unsigned side = c->app[1] == a;
	if (m->type == MSG_ConnectionOn) {
		c->up[side] = true;
		pump(&c->flow[side]);
	} else if (m->type == MSG_AppMessage) {
		receive(&c->flow[!side], m->app_message.data);
	} else if (m->type == MSG_AppPart) {
		receive_part(&c->flow[!side], &m->app_part);
	} else if (m->type == MSG_AppCredit) {
		c->flow[side].credit += m->app_credit.bytes;
		if (!c->flow[side].send_timer.index)
			pump(&c->flow[side]);
	} else {
		heard_end(c, side, m);
	}
}

void traffic_heard(struct sim_app *a, const struct msg *m)
{
	switch (m->type) {
	case MSG_CommonAck:
		heard_ack(a->host->sim, m);
		break;
	case MSG_ConnectionOn:
		heard_connection(a, m, m->connection_on.connection);
		break;
	case MSG_AppMessage:
		heard_connection(a, m, m->app_message.connection);
		break;
	case MSG_AppPart:
		heard_connection(a, m, m->app_part.connection);
		break;
	case MSG_AppCredit:
		heard_connection(a, m, m->app_credit.connection);
		break;
	case MSG_ConnectionShutdown:
		heard_connection(a, m, m->connection_shutdown.connection);
		break;
	default:
		break;
	}
}

static void flow_init(struct sim_conn *c, unsigned side, unsigned messages)
{
	struct sim *s = c->sim;
	struct sim_flow *f = &c->flow[side];
	uint64_t kind = sim_between(s, 0, 9);

	*f = (struct sim_flow){.conn = c, .side = side, .seed = sim_random(s), .total = messages};
	f->credit = APP_CREDIT_BYTES;
	f->reader = kind < 6 ? READER_FAST : kind < 9 ? READER_SLOW : READER_LATE;
	f->interval_us = sim_chance(s, 300000) ? sim_between(s, 100, 20000) : 0;
	if (c->cls == CLASS_DATAGRAM) {
		f->interval_us = sim_between(s, 300, 5000);
		f->seen = calloc(messages + 1, 1);
	}
	timer_init(&f->send_timer, fire_send, f);
	timer_init(&f->read_timer, fire_read, f);
}

void traffic_begin(struct sim *s, struct sim_app *from, struct sim_app *to, uint8_t cls,
		   unsigned messages_each_way)
{
	struct sim_conn *c = &s->conns[s->conn_count];
	struct msg m = {.type = MSG_ConnectToApp, .seq = 100 + s->conn_count};

	*c = (struct sim_conn){.sim = s, .index = s->conn_count++, .app = {from, to}, .cls = cls};
	flow_init(c, 0, messages_each_way);
	flow_init(c, 1, messages_each_way);
	from->host->may_queue += CONN_QUEUE_BYTES;
	to->host->may_queue += CONN_QUEUE_BYTES;
	m.connect_to_app.handle = c->index + 1;
	m.connect_to_app.node = to->host->id;
	m.connect_to_app.app = bytes_str(to->name);
	m.connect_to_app.class = cls;
	host_say(from, &m);
}

/* Half of the flows take their time, so that what goes wrong meets them. */
static void spread(struct sim *s, struct sim_flow *f)
{
	if (f->total && sim_chance(s, 500000))
		f->interval_us = sim_between(s, 2 * SEC, 30 * SEC) / f->total;
}

static void begin_random(struct sim *s)
{
	unsigned a = (unsigned)sim_between(s, 0, s->host_count - 1);
	unsigned b = (unsigned)sim_between(s, 0, s->host_count - 1);
	uint8_t cls = sim_chance(s, 250000) ? CLASS_DATAGRAM : CLASS_STREAM;
	struct sim_conn *c = &s->conns[s->conn_count];

	/* The two apps differ, so that a == b is a connection within one node. */
	traffic_begin(s, &s->hosts[a].apps[0], &s->hosts[b].apps[1], cls,
		      (unsigned)sim_between(s, 1, cls == CLASS_STREAM ? 40 : 200));
	spread(s, &c->flow[0]);
	spread(s, &c->flow[1]);
	c->close_early = cls == CLASS_STREAM && sim_chance(s, 250000);
	if (c->close_early)
		c->flow[1].total = 0;
}

static void begin_late(struct sim *s, void *arg)
{
	struct sim_conn *c = &s->conns[s->conn_count];

	(void)arg;
	s->conns_due--;
	if (s->closing)
		return;
	begin_random(s);
	c->late = true;
	if (!c->app[0]->handle) /* the host that would ask is away */
		c->ended[0] = c->ended[1] = c->may_die = true;
}

void traffic_random(struct sim *s)
{
	for (uint64_t n = sim_between(s, 1, SIM_CONNS * 2 / 3); n; n--)
		begin_random(s);
	for (uint64_t n = sim_between(s, 0, SIM_CONNS / 3); n; n--) {
		s->conns_due++;
		sim_at(s, s->now + sim_between(s, SEC, 30 * SEC), begin_late, NULL);
	}
}

bool traffic_flow_done(const struct sim_flow *f)
{
	if (f->sent < f->total)
		return false;
	return f->conn->cls == CLASS_DATAGRAM || f->received == f->total;
}

void traffic_close_all(struct sim *s)
{
	for (unsigned i = 0; i < s->conn_count; i++)
		if (!s->conns[i].ended[0])
			close_end(&s->conns[i], 0);
}

void traffic_crashed(struct sim *s, const struct sim_host *h)
{
	for (unsigned i = 0; i < s->conn_count; i++) {
		struct sim_conn *c = &s->conns[i];
		if (c->app[0]->host == h)
			c->ended[0] = true;
		/* What was asked for and has not come yet may reach the host when it is back. */
		if (c->app[1]->host == h && c->up[1])
			c->ended[1] = true;
	}
}

void traffic_free(struct sim *s)
{
	for (unsigned i = 0; i < s->conn_count; i++) {
		for (unsigned side = 0; side < 2; side++) {
			struct sim_flow *f = &s->conns[i].flow[side];
			timerq_cancel(&s->events, &f->send_timer);
			timerq_cancel(&s->events, &f->read_timer);
			free(f->seen);
			free(f->joining);
		}
	}
}
