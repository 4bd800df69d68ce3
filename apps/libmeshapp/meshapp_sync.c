/* Calls that wait: an app with a loop of its own, which runs while one of these calls does. */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/clock.h"
#include "libmeshapp/meshapp_int.h"

#define ACCEPT_MAX 16u
#define LINGER_US 1000000u

struct message {
	TAILQ_ENTRY(message) link;
	size_t len;
	uint8_t data[];
};

/* Messages that have come and were not asked for yet are bounded by credit: they are consumed when
 * they are received. */
struct meshconn_sync {
	TAILQ_ENTRY(meshconn_sync) link; /* in all or incoming */
	struct meshapp_sync *owner;
	struct meshconn *conn; /* NULL: ended */
	TAILQ_HEAD(message_list, message) messages;
	bool up, waiting; /* waiting: nobody has accepted it yet */
	uint16_t code;	  /* why it ended */
	char reason[TEXT_MAX_BYTES + 1];
};
TAILQ_HEAD(sync_list, meshconn_sync);

/* What became of one list; with its caller gone, the owner's until it is there. */
struct answer {
	LIST_ENTRY(answer) link;
	bool there, abandoned;
	uint16_t code;
	struct meshapp_entry *entries;
	size_t count;
};

struct meshapp_sync {
	struct event_base *base;
	struct meshapp *app;
	struct event *alarm;
	struct sync_list all, incoming;
	LIST_HEAD(, answer) abandoned;
	unsigned waiting, registrations;
	bool refused;
};

static int errno_of(uint16_t code)
{
	static const int of[] = {
		[CODE_OK] = ECONNRESET,	       [CODE_REFUSED] = ECONNREFUSED,
		[CODE_NOT_FOUND] = ENOENT,     [CODE_NO_ROUTE] = EHOSTUNREACH,
		[CODE_BUSY] = EBUSY,	       [CODE_INVALID] = EINVAL,
		[CODE_UNAVAILABLE] = ENETDOWN, [CODE_TIMEOUT] = ETIMEDOUT,
		[CODE_CLOSED] = ECONNRESET,    [CODE_PROTOCOL] = EPROTO,
	};
	int err = code < sizeof of / sizeof *of ? of[code] : 0;

	return err ? -err : -ECONNABORTED;
}

/* --- waiting -------------------------------------------------------------------------------- */

/* Only to end a round of the loop. */
static void on_alarm(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

static uint64_t deadline_after(uint64_t timeout_us)
{
	uint64_t now = daemon_now_us();

	return timeout_us > UINT64_MAX - now ? UINT64_MAX : now + timeout_us;
}

/* Runs the loop once, until something happens or the time is over.  False: it is over. */
static bool step(struct meshapp_sync *s, uint64_t deadline_us)
{
	uint64_t now = daemon_now_us(), left;

	if (now >= deadline_us)
		return false;
	/* An hour at most: it need not be exact, the caller asks again. */
	left = deadline_us - now < 3600000000u ? deadline_us - now : 3600000000u;
	struct timeval tv = {(time_t)(left / 1000000u), (suseconds_t)(left % 1000000u)};
	event_add(s->alarm, &tv);
	event_base_loop(s->base, EVLOOP_ONCE);
	event_del(s->alarm);
	return true;
}

/* What has come already is taken in before anybody looks. */
static void poll_once(struct meshapp_sync *s)
{
	event_base_loop(s->base, EVLOOP_NONBLOCK);
}

/* --- connections ---------------------------------------------------------------------------- */

static struct meshconn_sync *conn_new(struct meshapp_sync *s, struct sync_list *list)
{
	struct meshconn_sync *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->owner = s;
	TAILQ_INIT(&c->messages);
	TAILQ_INSERT_TAIL(list, c, link);
	return c;
}

static void conn_free(struct meshconn_sync *c)
{
	struct meshapp_sync *s = c->owner;
	struct message *m;

	while ((m = TAILQ_FIRST(&c->messages))) {
		TAILQ_REMOVE(&c->messages, m, link);
		free(m);
	}
	TAILQ_REMOVE(c->waiting ? &s->incoming : &s->all, c, link);
	if (c->waiting)
		s->waiting--;
	free(c);
}

static void on_up(struct meshconn *conn)
{
	struct meshconn_sync *c = meshconn_arg(conn);

	c->up = true;
	meshconn_set_manual_credit(conn, true);
}

static void ended(struct meshconn_sync *c, uint16_t code, const char *reason)
{
	c->conn = NULL;
	c->code = code;
	snprintf(c->reason, sizeof c->reason, "%s", reason);
}

static void consume(struct meshconn *conn, const uint8_t *data, size_t len)
{
	struct meshconn_sync *c = meshconn_arg(conn);
	struct message *m = malloc(sizeof *m + len);

	if (!m) {
		meshconn_close(conn, CODE_BUSY, "the app is out of memory");
		ended(c, CODE_BUSY, "out of memory");
		return;
	}
	m->len = len;
	if (len)
		memcpy(m->data, data, len);
	TAILQ_INSERT_TAIL(&c->messages, m, link);
}

static void on_closed(struct meshconn *conn, uint16_t code, const char *reason)
{
	ended(meshconn_arg(conn), code, reason);
}

static const struct meshconn_callbacks callbacks = {
	.on_up = on_up, .consume = consume, .on_closed = on_closed};

static bool on_incoming(struct meshapp *app, struct meshconn *conn)
{
	struct meshapp_sync *s = meshapp_arg(app);
	struct meshconn_sync *c = s->waiting < ACCEPT_MAX ? conn_new(s, &s->incoming) : NULL;

	if (!c)
		return false;
	s->waiting++;
	c->waiting = true;
	c->conn = conn;
	meshconn_set_callbacks(conn, &callbacks, c);
	on_up(conn);
	return true;
}

static void on_state(struct meshapp *app, bool up, const char *text)
{
	struct meshapp_sync *s = meshapp_arg(app);

	(void)text;
	s->registrations += up;
	/* Down without having been up: the node does not want us. */
	s->refused = !up && !s->registrations;
}

/* --- the app -------------------------------------------------------------------------------- */

static int sync_init(struct meshapp_sync *s, const struct meshapp_options *opt)
{
	struct meshapp_options o = *opt;

	TAILQ_INIT(&s->all);
	TAILQ_INIT(&s->incoming);
	s->base = event_base_new();
	s->alarm = s->base ? evtimer_new(s->base, on_alarm, s) : NULL;
	if (!s->alarm)
		return -ENOMEM;
	o.cb = (struct meshapp_callbacks){on_state, on_incoming};
	o.arg = s;
	s->app = meshapp_open(s->base, &o);
	return s->app ? 0 : -errno;
}

int meshapp_open_sync(struct meshapp_sync **out, const struct meshapp_options *opt,
		      uint64_t timeout_us)
{
	struct meshapp_sync *s = calloc(1, sizeof *s);
	uint64_t deadline = deadline_after(timeout_us);
	int err = s ? sync_init(s, opt) : -ENOMEM;

	/* A refusal is tried again: the node may not have noticed yet that our last run is over. */
	while (!err && !meshapp_is_up(s->app))
		if (!step(s, deadline))
			err = s->refused ? -EACCES : -ETIMEDOUT;
	if (err)
		meshapp_close_sync(s);
	else
		*out = s;
	return err;
}

void meshapp_close_sync(struct meshapp_sync *s)
{
	struct meshconn_sync *c;
	struct answer *a;
	uint64_t deadline = deadline_after(LINGER_US);

	if (!s)
		return;
	while ((c = TAILQ_FIRST(&s->all)) || (c = TAILQ_FIRST(&s->incoming)))
		meshconn_close_sync(c);
	while (s->app && s->app->ch && chan_output_pending(s->app->ch) && step(s, deadline))
		;
	meshapp_close(s->app);
	while ((a = LIST_FIRST(&s->abandoned))) {
		LIST_REMOVE(a, link);
		free(a);
	}
	if (s->alarm)
		event_free(s->alarm);
	if (s->base)
		event_base_free(s->base);
	free(s);
}

void meshapp_run_sync(struct meshapp_sync *s, uint64_t time_us)
{
	uint64_t deadline = deadline_after(time_us);

	poll_once(s);
	while (step(s, deadline))
		;
}

struct meshapp *meshapp_of_sync(struct meshapp_sync *s)
{
	return s->app;
}

unsigned meshapp_registrations_sync(const struct meshapp_sync *s)
{
	return s->registrations;
}

/* --- lists ---------------------------------------------------------------------------------- */

static void on_list(void *arg, uint16_t code, const struct meshapp_entry *entries, size_t count)
{
	struct answer *a = arg;

	if (a->abandoned) {
		LIST_REMOVE(a, link);
		free(a);
		return;
	}
	a->there = true;
	a->code = code;
	if (code || !count)
		return;
	a->entries = malloc(count * sizeof *entries);
	if (a->entries)
		memcpy(a->entries, entries, count * sizeof *entries);
	a->count = a->entries ? count : 0;
	a->code = a->entries ? CODE_OK : CODE_BUSY;
}

int meshapp_list_sync(struct meshapp_sync *s, uint8_t kind, const char *value,
		      struct meshapp_entry **out, size_t *count, uint64_t timeout_us)
{
	uint64_t deadline = deadline_after(timeout_us);
	struct answer *a = calloc(1, sizeof *a);
	int err = a ? meshapp_list(s->app, kind, value, on_list, a) : -ENOMEM;

	if (err) {
		free(a);
		return err;
	}
	while (!a->there)
		if (!step(s, deadline)) {
			a->abandoned = true;
			LIST_INSERT_HEAD(&s->abandoned, a, link);
			return -ETIMEDOUT;
		}
	err = a->code ? errno_of(a->code) : 0;
	*out = a->entries;
	*count = a->count;
	free(a);
	return err;
}

/* --- connect, accept ------------------------------------------------------------------------ */

int meshapp_connect_sync(struct meshconn_sync **out, struct meshapp_sync *s,
			 const struct mesh_id *node, const char *app_id, uint8_t connection_class,
			 uint64_t timeout_us)
{
	uint64_t deadline = deadline_after(timeout_us);
	struct meshconn_sync *c;
	int err = 0;

	while (!meshapp_is_up(s->app))
		if (!step(s, deadline))
			return -ETIMEDOUT;
	c = conn_new(s, &s->all);
	if (!c)
		return -ENOMEM;
	c->conn = meshapp_connect(s->app, node, app_id, connection_class, &callbacks, c);
	if (!c->conn)
		err = -errno;
	while (!err && !c->up) {
		if (!c->conn)
			err = errno_of(c->code);
		else if (!step(s, deadline))
			err = -ETIMEDOUT;
	}
	if (err)
		meshconn_close_sync(c);
	else
		*out = c;
	return err;
}

int meshapp_accept_sync(struct meshconn_sync **out, struct meshapp_sync *s, uint64_t timeout_us)
{
	uint64_t deadline = deadline_after(timeout_us);
	struct meshconn_sync *c;

	poll_once(s);
	while (!(c = TAILQ_FIRST(&s->incoming)))
		if (!step(s, deadline))
			return -ETIMEDOUT;
	TAILQ_REMOVE(&s->incoming, c, link);
	TAILQ_INSERT_TAIL(&s->all, c, link);
	s->waiting--;
	c->waiting = false;
	*out = c;
	return 0;
}

/* --- data ----------------------------------------------------------------------------------- */

int meshconn_send_sync(struct meshconn_sync *c, const void *data, size_t len, uint64_t timeout_us)
{
	uint64_t deadline = deadline_after(timeout_us);

	for (;;) {
		int err = c->conn ? meshconn_send(c->conn, data, len) : errno_of(c->code);
		if (err == -ENOTCONN)
			err = -ECONNABORTED;
		if (err != -EAGAIN)
			return err;
		if (!step(c->owner, deadline))
			return -ETIMEDOUT;
	}
}

ssize_t meshconn_recv_sync(struct meshconn_sync *c, void *data, size_t size, uint64_t timeout_us)
{
	uint64_t deadline = deadline_after(timeout_us);
	struct message *m;

	if (TAILQ_EMPTY(&c->messages))
		poll_once(c->owner);
	while (!(m = TAILQ_FIRST(&c->messages))) {
		if (!c->conn)
			return errno_of(c->code);
		if (!step(c->owner, deadline))
			return -ETIMEDOUT;
	}
	if (m->len > size)
		return -EMSGSIZE;
	size_t len = m->len;
	if (len)
		memcpy(data, m->data, len);
	TAILQ_REMOVE(&c->messages, m, link);
	free(m);
	if (c->conn)
		meshconn_consume(c->conn, len);
	return (ssize_t)len;
}

const char *meshconn_reason_sync(const struct meshconn_sync *c)
{
	return c->reason;
}

struct meshconn *meshconn_of_sync(struct meshconn_sync *c)
{
	return c->conn;
}

void meshconn_close_sync(struct meshconn_sync *c)
{
	if (!c)
		return;
	if (c->conn)
		meshconn_close(c->conn, CODE_CLOSED, "closed");
	conn_free(c);
}
