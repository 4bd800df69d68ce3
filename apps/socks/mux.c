#include "socks/mux.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/map.h"

/* What a turn of a stream may need besides data: an answer, a WINDOW, a FIN or RESET. */
#define TURN_BYTES_MAX (MUX_CONTROL_BYTES_MAX + 9 + 6)

enum state {
	OPENING, /* client: not answered; server: we have not answered */
	OPEN,
	DYING /* the owner has let go; what is due is still sent, then it is freed */
};

struct mux_stream {
	TAILQ_ENTRY(mux_stream) link;
	TAILQ_ENTRY(mux_stream) turn; /* in mux->turns while it has something to send */
	struct mux *mux;
	void *user;
	uint32_t number;
	enum state state;
	bool udp, has_turn;
	uint8_t due;  /* enum mux_type of a frame that opens, answers or ends; 0: none */
	uint8_t code; /* of that frame */
	bool sent;    /* the client's OPEN is out, so that a RESET means something */
	struct socks_addr addr;
	/* to the other end */
	bool readable, finishing, fin_sent;
	uint32_t credit;
	/* from the other end */
	bool fin_received;
	uint32_t window;  /* how much may be under way or unconsumed */
	uint32_t allowed; /* what the other end may still send */
	uint32_t grant;	  /* consumed, not told yet */
	uint32_t since;	  /* consumed since the window last grew */
};

TAILQ_HEAD(stream_list, mux_stream);

struct mux {
	struct mux_config config;
	const struct mux_ops *ops;
	void *ctx;
	struct stream_list streams, turns;
	struct map by_number;
	uint32_t last_number; /* client: given out; server: seen */
	uint32_t count;
	bool hello_sent, up, outputting;
	uint32_t peer_window, peer_streams;
	uint64_t grown;
	struct alive alive;
	struct mux_counters counters;
	char fault[96];
};

/* --- streams -------------------------------------------------------------------------------- */

static void take_turn(struct mux_stream *s)
{
	struct mux *m = s->mux;
	bool idle = TAILQ_EMPTY(&m->turns);

	if (s->has_turn)
		return;
	s->has_turn = true;
	TAILQ_INSERT_TAIL(&m->turns, s, turn);
	if (idle && !m->outputting)
		m->ops->ready(m->ctx);
}

static struct mux_stream *stream_new(struct mux *m, uint32_t number, bool udp)
{
	struct mux_stream *s = calloc(1, sizeof *s);

	if (!s || map_put(&m->by_number, &number, s)) {
		free(s);
		return NULL;
	}
	s->mux = m;
	s->number = number;
	s->udp = udp;
	s->credit = m->peer_window;
	s->window = s->allowed = MUX_WINDOW_FIRST;
	TAILQ_INSERT_TAIL(&m->streams, s, link);
	m->last_number = number;
	m->count++;
	return s;
}

static void stream_free(struct mux_stream *s)
{
	struct mux *m = s->mux;

	if (s->has_turn)
		TAILQ_REMOVE(&m->turns, s, turn);
	TAILQ_REMOVE(&m->streams, s, link);
	map_del(&m->by_number, &s->number);
	m->grown -= s->window - MUX_WINDOW_FIRST;
	m->count--;
	free(s);
}

static void stream_end(struct mux_stream *s, enum mux_end how, uint8_t code)
{
	struct mux *m = s->mux;

	if (s->state != DYING)
		m->ops->closed(m->ctx, s, how, code);
	stream_free(s);
}

static void end_if_finished(struct mux_stream *s)
{
	if (s->fin_sent && s->fin_received)
		stream_end(s, MUX_END_FINISHED, 0);
}

/* --- life ----------------------------------------------------------------------------------- */

struct mux *mux_new(const struct mux_config *config, const struct mux_ops *ops, void *ctx)
{
	struct mux *m = calloc(1, sizeof *m);

	if (!m)
		return NULL;
	m->config = *config;
	m->ops = ops;
	m->ctx = ctx;
	TAILQ_INIT(&m->streams);
	TAILQ_INIT(&m->turns);
	alive_init(&m->alive, config->patience_us);
	map_init(&m->by_number, sizeof(uint32_t), config->streams_max, config->seed);
	m->ops->ready(ctx);
	return m;
}

void mux_free(struct mux *m)
{
	if (!m)
		return;
	while (!TAILQ_EMPTY(&m->streams))
		stream_free(TAILQ_FIRST(&m->streams));
	map_free(&m->by_number);
	free(m);
}

const char *mux_fault(const struct mux *m)
{
	return m->fault;
}

bool mux_is_up(const struct mux *m)
{
	return m->up;
}

uint32_t mux_stream_count(const struct mux *m)
{
	return m->count;
}

const struct mux_counters *mux_counters(const struct mux *m)
{
	return &m->counters;
}

struct mux_stream *mux_find(const struct mux *m, uint32_t number)
{
	struct mux_stream *s = map_get(&m->by_number, &number);

	return s && s->state != DYING ? s : NULL;
}

void mux_stream_set_user(struct mux_stream *s, void *user)
{
	s->user = user;
}

void *mux_stream_user(const struct mux_stream *s)
{
	return s->user;
}

uint32_t mux_stream_number(const struct mux_stream *s)
{
	return s->number;
}

bool mux_stream_is_udp(const struct mux_stream *s)
{
	return s->udp;
}

/* --- what the owner says -------------------------------------------------------------------- */

static void set_due(struct mux_stream *s, enum mux_type type, uint8_t code)
{
	s->due = (uint8_t)type;
	s->code = code;
	take_turn(s);
}

struct mux_stream *mux_open(struct mux *m, const struct socks_addr *to, void *user)
{
	struct mux_stream *s;

	if (!m->up || !m->config.client) {
		errno = ENOTCONN;
		return NULL;
	}
	if (m->count >= m->config.streams_max || m->count >= m->peer_streams) {
		m->counters.full++;
		errno = ENOSPC;
		return NULL;
	}
	if (m->last_number == UINT32_MAX) {
		errno = EOVERFLOW;
		return NULL;
	}
	s = stream_new(m, m->last_number + 1, !to);
	if (!s) {
		errno = ENOMEM;
		return NULL;
	}
	s->user = user;
	if (to)
		s->addr = *to;
	set_due(s, to ? MUX_OPEN : MUX_ASSOCIATE, 0);
	return s;
}

void mux_accept(struct mux_stream *s, const struct net_addr *bound)
{
	assert(s->state == OPENING && !s->mux->config.client);
	s->state = OPEN;
	s->addr = (struct socks_addr){.ip = *bound};
	s->mux->counters.opened++;
	set_due(s, MUX_OPENED, 0);
}

void mux_refuse(struct mux_stream *s, uint8_t code)
{
	assert(s->state == OPENING && !s->mux->config.client);
	s->state = DYING;
	s->mux->counters.refused++;
	set_due(s, MUX_REFUSED, code);
}

/* The other end's opinion of a stream matters no more: an answer that is not out yet, or data, are
 * overtaken. */
void mux_reset(struct mux_stream *s, uint8_t code)
{
	assert(s->state != DYING);
	s->state = DYING;
	s->mux->counters.resets++;
	set_due(s, MUX_RESET, code);
}

/* A client's OPEN goes first, and data only when it has been answered. */
static bool may_send(const struct mux_stream *s)
{
	return s->state == OPEN && !s->udp;
}

static bool wants_turn(const struct mux_stream *s)
{
	return may_send(s) &&
	       ((s->readable && s->credit) || (s->finishing && !s->readable && !s->fin_sent));
}

void mux_readable(struct mux_stream *s)
{
	s->readable = true;
	if (wants_turn(s))
		take_turn(s);
}

void mux_finish(struct mux_stream *s)
{
	s->finishing = true;
	if (wants_turn(s))
		take_turn(s);
}

/* The window doubles each time that as much as it is has been consumed: who reads gets more, who
 * does not stays small. */
static void grow(struct mux_stream *s)
{
	struct mux *m = s->mux;
	uint32_t more = s->window;

	if (s->since < s->window)
		return;
	s->since = 0;
	if (more > m->config.window_max || s->window > m->config.window_max - more ||
	    m->grown + more > m->config.growth_max)
		return;
	m->grown += more;
	s->window += more;
	s->grant += more;
}

void mux_consumed(struct mux_stream *s, size_t bytes)
{
	assert(bytes <= s->window - s->allowed - s->grant);
	s->grant += (uint32_t)bytes;
	s->since += (uint32_t)bytes;
	grow(s);
	if (s->state == OPEN && !s->fin_received && s->grant >= s->window / 2)
		take_turn(s);
}

/* --- output --------------------------------------------------------------------------------- */

static void put(struct wbuf *w, struct mux_stream *s, enum mux_type type)
{
	struct mux_frame f = {.type = (uint8_t)type, .stream = s->number, .code = s->code};

	if (type == MUX_OPEN || type == MUX_OPENED)
		f.addr = s->addr;
	f.window = s->grant;
	mux_frame_write(w, &f);
	alive_said(&s->mux->alive, f.type);
}

static void put_hello(struct mux *m, struct wbuf *w)
{
	mux_frame_write(w, &(struct mux_frame){
				   .type = MUX_HELLO,
				   .version = MUX_VERSION,
				   .window = MUX_WINDOW_FIRST,
				   .streams = m->config.client ? 0 : m->config.streams_max,
			   });
	m->hello_sent = true;
	alive_said(&m->alive, MUX_HELLO);
}

static void put_data(struct mux *m, struct wbuf *w, struct mux_stream *s)
{
	size_t room = (size_t)(w->end - w->p) - MUX_DATA_HEADER_BYTES - TURN_BYTES_MAX;
	size_t want = TAILQ_EMPTY(&m->turns) ? MUX_DATA_MAX : MUX_TURN_BYTES, got;
	uint8_t *frame = w->p;
	struct wbuf header;

	if (want > s->credit)
		want = s->credit;
	if (want > room)
		want = room;
	got = m->ops->pull(m->ctx, s, frame + MUX_DATA_HEADER_BYTES, want);
	assert(got <= want);
	if (got < want)
		s->readable = false;
	if (got == 0)
		return;
	header = wbuf_init(frame, MUX_DATA_HEADER_BYTES);
	wbuf_u8(&header, MUX_DATA);
	wbuf_u32(&header, s->number);
	wbuf_u16(&header, (uint16_t)got);
	wbuf_space(w, MUX_DATA_HEADER_BYTES + got);
	s->credit -= (uint32_t)got;
	m->counters.bytes_out += got;
	alive_said(&m->alive, MUX_DATA);
}

static void put_opening(struct wbuf *w, struct mux_stream *s)
{
	/* What never was said need not be taken back. */
	if (s->due == MUX_RESET && s->mux->config.client && !s->sent)
		s->due = 0;
	if (s->due)
		put(w, s, (enum mux_type)s->due);
	s->sent = true;
	s->due = 0;
}

static void turn(struct mux *m, struct wbuf *w, struct mux_stream *s)
{
	TAILQ_REMOVE(&m->turns, s, turn);
	s->has_turn = false;
	put_opening(w, s);
	if (s->state == DYING) {
		stream_free(s);
		return;
	}
	if (s->state == OPEN && !s->fin_received && s->grant >= s->window / 2) {
		put(w, s, MUX_WINDOW);
		s->allowed += s->grant;
		s->grant = 0;
	}
	if (may_send(s) && s->readable && s->credit)
		put_data(m, w, s);
	if (may_send(s) && s->finishing && !s->readable && !s->fin_sent) {
		put(w, s, MUX_FIN);
		s->fin_sent = true;
		end_if_finished(s);
		return;
	}
	if (wants_turn(s))
		take_turn(s);
}

/* Before all else, so that they do not wait for data. */
static void put_liveness(struct mux *m, struct wbuf *w)
{
	struct alive *a = &m->alive;

	if (a->pong_due) {
		mux_frame_write(w, &(struct mux_frame){.type = MUX_PONG, .token = a->their_token});
		alive_said(a, MUX_PONG);
		a->their_token = 0;
	}
	if (a->ping_due) {
		mux_frame_write(w, &(struct mux_frame){.type = MUX_PING, .token = a->token});
		alive_said(a, MUX_PING);
	}
	m->counters.pings = a->pings;
}

size_t mux_output(struct mux *m, uint8_t *out)
{
	struct wbuf w = wbuf_init(out, MUX_MESSAGE_BYTES);

	assert(!m->outputting);
	m->outputting = true;
	if (!m->hello_sent)
		put_hello(m, &w);
	put_liveness(m, &w);
	/* At least 1 KiB of data at a time, or the end of a message is cut into crumbs. */
	while (!TAILQ_EMPTY(&m->turns) &&
	       (size_t)(w.end - w.p) > TURN_BYTES_MAX + MUX_DATA_HEADER_BYTES + 1024)
		turn(m, &w, TAILQ_FIRST(&m->turns));
	m->outputting = false;
	assert(!w.bad);
	if (wbuf_len(&w))
		m->counters.messages_out++;
	return wbuf_len(&w);
}

/* --- input ---------------------------------------------------------------------------------- */

static bool fault(struct mux *m, const struct mux_frame *f, const char *what)
{
	snprintf(m->fault, sizeof m->fault, "%s %u: %s", mux_type_name(f->type), f->stream, what);
	return false;
}

static bool hello(struct mux *m, const struct mux_frame *f)
{
	if (m->up)
		return fault(m, f, "a second time");
	if (f->version != MUX_VERSION)
		return fault(m, f, "a version that is not ours");
	if (f->window > MUX_WINDOW_MAX)
		return fault(m, f, "window too large");
	m->up = true;
	m->peer_window = f->window;
	m->peer_streams = f->streams;
	m->ops->up(m->ctx);
	return true;
}

static bool open_wanted(struct mux *m, const struct mux_frame *f)
{
	struct mux_stream *s;

	if (m->config.client)
		return fault(m, f, "from a server");
	if (f->stream <= m->last_number)
		return fault(m, f, "number used before");
	if (m->count >= m->config.streams_max)
		return fault(m, f, "more streams than allowed");
	s = stream_new(m, f->stream, f->type == MUX_ASSOCIATE);
	if (!s)
		return fault(m, f, "out of memory");
	s->sent = true;
	m->ops->open(m->ctx, s, s->udp ? NULL : &f->addr);
	return true;
}

static bool answered(struct mux *m, const struct mux_frame *f, struct mux_stream *s)
{
	if (!m->config.client)
		return fault(m, f, "from a client");
	if (s->state == DYING) {
		/* A RESET of ours is on its way; a stream that was refused needs none. */
		if (f->type == MUX_REFUSED)
			stream_free(s);
		return true;
	}
	if (s->state != OPENING || !s->sent)
		return fault(m, f, "not asked for");
	if (f->type == MUX_REFUSED) {
		m->counters.refused++;
		stream_end(s, MUX_END_REFUSED, f->code);
		return true;
	}
	s->state = OPEN;
	m->counters.opened++;
	m->ops->opened(m->ctx, s, &f->addr.ip);
	if (s->state == OPEN && wants_turn(s))
		take_turn(s);
	return true;
}

static bool data(struct mux *m, const struct mux_frame *f, struct mux_stream *s)
{
	if (s->udp || s->fin_received)
		return fault(m, f, s->udp ? "for an association" : "after its FIN");
	if (f->data.len > s->allowed)
		return fault(m, f, "more than its window");
	s->allowed -= (uint32_t)f->data.len;
	m->counters.bytes_in += f->data.len;
	if (s->state == OPEN && f->data.len)
		m->ops->data(m->ctx, s, f->data);
	return true;
}

static bool window(struct mux *m, const struct mux_frame *f, struct mux_stream *s)
{
	if (f->window > MUX_WINDOW_MAX || s->credit > MUX_WINDOW_MAX - f->window)
		return fault(m, f, "window too large");
	s->credit += f->window;
	if (wants_turn(s))
		take_turn(s);
	return true;
}

static bool fin(struct mux *m, const struct mux_frame *f, struct mux_stream *s)
{
	if (s->udp || s->fin_received)
		return fault(m, f, s->udp ? "for an association" : "a second time");
	s->fin_received = true;
	if (s->state != OPEN)
		return true;
	m->ops->fin(m->ctx, s);
	if (s->state == OPEN)
		end_if_finished(s);
	return true;
}

static bool to_stream(struct mux *m, const struct mux_frame *f)
{
	struct mux_stream *s = map_get(&m->by_number, &f->stream);

	if (!s) {
		if (f->stream == 0 || f->stream > m->last_number)
			return fault(m, f, "no such stream");
		m->counters.late++;
		return true;
	}
	if (f->type == MUX_OPENED || f->type == MUX_REFUSED)
		return answered(m, f, s);
	if (f->type == MUX_RESET) {
		stream_end(s, s->state == OPENING ? MUX_END_REFUSED : MUX_END_RESET,
			   f->code ? f->code : 1);
		return true;
	}
	if (s->state == OPENING)
		return fault(m, f, "before it is open");
	if (f->type == MUX_DATA)
		return data(m, f, s);
	return f->type == MUX_WINDOW ? window(m, f, s) : fin(m, f, s);
}

static bool take(struct mux *m, const struct mux_frame *f)
{
	if (f->type == MUX_HELLO)
		return hello(m, f);
	if (!m->up)
		return fault(m, f, "before HELLO");
	if (f->type == MUX_PING) {
		if (!m->outputting)
			m->ops->ready(m->ctx);
		return true;
	}
	if (f->type == MUX_PONG)
		return true;
	if (f->type == MUX_OPEN || f->type == MUX_ASSOCIATE)
		return open_wanted(m, f);
	return to_stream(m, f);
}

int mux_input(struct mux *m, const uint8_t *input, size_t len)
{
	struct rbuf r = rbuf_init(input, len);
	struct mux_frame f;

	m->counters.messages_in++;
	while (rbuf_left(&r) > 0) {
		if (!mux_frame_read(&r, &f)) {
			fault(m, &f, "malformed");
			return -EPROTO;
		}
		if (!take(m, &f))
			return -EPROTO;
		alive_heard(&m->alive, &f);
	}
	m->counters.pongs = m->alive.pongs;
	return 0;
}

int mux_tick(struct mux *m, uint64_t now_us)
{
	struct alive *a = &m->alive;

	/* Before that a time limit of the owner's counts. */
	if (!m->up)
		return 0;
	if (!alive_tick(a, now_us, m->count)) {
		snprintf(m->fault, sizeof m->fault, "nothing heard for %.1f s",
			 (double)(now_us - a->heard_us) / 1e6);
		return -ETIMEDOUT;
	}
	if (a->ping_due || a->pong_due)
		m->ops->ready(m->ctx);
	return 0;
}
