#include "io/chan_int.h"

#include <errno.h>
#include <event2/buffer.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/limits.h"
#include "io/clock.h"
#include "wire/frame.h"

#define FINISH_TIMEOUT_US 2000000u
#define PAUSED_TICKS_MAX 2u
/* A message whose end is at least so long is not copied, if it can be written at once; of those
 * messages so much at most stands before the end. */
#define TAIL_BYTES_MIN 16384u
#define HEAD_BYTES_MAX 64u

/* --- group -------------------------------------------------------------------------------- */

static void fill_defaults(struct chan_options *o)
{
#define DEFAULT(field, value) o->field = o->field ? o->field : (value)
	DEFAULT(max_body_bytes, FRAME_CONTROL_MAX_BYTES);
	DEFAULT(output_max_bytes, CHANNEL_OUTPUT_MAX_BYTES);
	DEFAULT(handshake_timeout_us, CHANNEL_HANDSHAKE_TIMEOUT_US);
	DEFAULT(ping_interval_us, CHAN_PING_INTERVAL_US);
	DEFAULT(silence_max_us, CHAN_SILENCE_MAX_US);
	DEFAULT(max_channels, 1024);
	DEFAULT(max_unauthenticated, 64);
	DEFAULT(unix_mode, 0660);
#undef DEFAULT
}

/* A peer that goes away while we write is an error code, not the end of the process. */
static void ignore_sigpipe(void)
{
	struct sigaction now;
	if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
}

void chan_group_init(struct chan_group *g, struct event_base *base, const struct chan_options *opt)
{
	ignore_sigpipe();
	memset(g, 0, sizeof *g);
	g->base = base;
	g->opt = *opt;
	fill_defaults(&g->opt);
	snprintf(g->name, sizeof g->name, "%s", opt->name ? opt->name : "peer");
	g->opt.name = g->name;
	if (opt->key) {
		g->key = *opt->key;
		g->opt.key = &g->key;
	}
	if (opt->expected) {
		g->expected = *opt->expected;
		g->opt.expected = &g->expected;
	}
	TAILQ_INIT(&g->unready);
	TAILQ_INIT(&g->ready);
}

bool chan_is_local(const struct net_addr *a)
{
	return a->family == 0 || net_addr_is_loopback(a);
}

/* --- birth and death ---------------------------------------------------------------------- */

void chan_hold(struct chan *ch)
{
	ch->holds++;
}

static void chan_destroy(struct chan *ch)
{
	chan_io_free(ch);
	if (ch->later)
		event_free(ch->later);
	if (ch->tick)
		event_free(ch->tick);
	channel_wipe(&ch->noise);
	free(ch);
}

void chan_put(struct chan *ch)
{
	if (--ch->holds == 0 && ch->phase == CHAN_DEAD)
		chan_destroy(ch);
}

static void unlink_from_group(struct chan *ch)
{
	struct chan_group *g = ch->group;
	if (ch->phase == CHAN_READY) {
		TAILQ_REMOVE(&g->ready, ch, link);
		g->ready_count--;
	} else {
		TAILQ_REMOVE(&g->unready, ch, link);
		g->unready_count--;
	}
}

/* Takes the channel from its owner: no callback follows.  The caller holds a reference.  The socket
 * itself stays until the last reference, because a message being looked at lies in its buffer. */
static void chan_detach(struct chan *ch)
{
	struct chan_group *g = ch->group;
	bool told = ch->phase == CHAN_FINISHING;

	if (ch->phase == CHAN_DEAD)
		return;
	unlink_from_group(ch);
	ch->phase = CHAN_DEAD;
	chan_io_stop(ch);
	event_del(ch->later);
	event_del(ch->tick);
	if (!told && g->on_gone)
		g->on_gone(g, ch);
}

bool chan_is_up(const struct chan *ch)
{
	return ch->phase == CHAN_HELLO || ch->phase == CHAN_READY;
}

void chan_end(struct chan *ch, uint16_t code, const char *reason)
{
	struct chan_callbacks cb = ch->group->opt.cb;
	bool up = chan_is_up(ch);
	char text[CHAN_REASON_BYTES];

	/* The reason may lie in a message of this very channel. */
	snprintf(text, sizeof text, "%s", reason);
	chan_hold(ch);
	log_debug("%s: channel ends: %s", ch->text, text);
	chan_detach(ch);
	if (up && cb.on_down)
		cb.on_down(ch, code, text);
	chan_put(ch);
}

void chan_close(struct chan *ch, const char *reason)
{
	chan_hold(ch);
	if (ch->phase != CHAN_DEAD)
		log_debug("%s: closed: %s", ch->text, reason);
	chan_detach(ch);
	chan_put(ch);
}

void chan_group_clear(struct chan_group *g)
{
	struct chan *ch;

	g->on_gone = NULL;
	while ((ch = TAILQ_FIRST(&g->unready)) || (ch = TAILQ_FIRST(&g->ready)))
		chan_close(ch, "shutting down");
	block_put(g->scratch);
	g->scratch = NULL;
	sodium_memzero(&g->key, sizeof g->key);
}

void chan_fail(struct chan *ch, uint16_t code, const char *reason)
{
	if (ch->doom_reason)
		return;
	ch->doom_code = code;
	ch->doom_reason = reason;
	event_active(ch->later, EV_TIMEOUT, 0);
}

void chan_protocol_error(struct chan *ch, const char *what)
{
	struct chan_group *g = ch->group;

	g->counters.protocol_errors++;
	if (log_limit_due(&g->limit_protocol, daemon_now_us()))
		log_warn("%s: %s; closing the channel (%llu such so far)", ch->text, what,
			 (unsigned long long)g->limit_protocol.count);
	chan_end(ch, CODE_PROTOCOL, what);
}

void chan_handshake_error(struct chan *ch, const char *what)
{
	struct chan_group *g = ch->group;

	g->counters.handshake_failed++;
	if (log_limit_due(&g->limit_failed, daemon_now_us()))
		log_warn("%s: %s (%llu failed handshakes so far)", ch->text, what,
			 (unsigned long long)g->limit_failed.count);
	chan_end(ch, CODE_REFUSED, what);
}

static void set_tick(struct chan *ch, uint64_t us)
{
	struct timeval tv = {(time_t)(us / 1000000u), (suseconds_t)(us % 1000000u)};
	ch->tick_due_us = daemon_now_us() + us;
	event_add(ch->tick, &tv);
}

/* --- output ------------------------------------------------------------------------------- */

static int encode_into(struct chan *ch, const struct msg *m, uint8_t *out, size_t body)
{
	size_t tag = ch->encrypted ? CHANNEL_TAG_BYTES : 0;
	struct wbuf w = wbuf_init(out + FRAME_HEADER_BYTES, body);

	msg_encode(m, &w);
	if (w.bad || wbuf_len(&w) != body) {
		log_error("%s: cannot encode %s: a field is over its limit", ch->text,
			  msg_type_name(m->type));
		return -EINVAL;
	}
	frame_header_put(out, body + tag);
	if (ch->encrypted)
		return channel_seal(&ch->noise, bytes_of(out + FRAME_HEADER_BYTES, body),
				    out + FRAME_HEADER_BYTES);
	return 0;
}

/* A long end of a message goes to the socket from where it lies. */
static int write_message(struct chan *ch, const struct msg *m, size_t body)
{
	uint8_t head[FRAME_HEADER_BYTES + HEAD_BYTES_MAX];
	struct wbuf w = wbuf_init(head + FRAME_HEADER_BYTES, HEAD_BYTES_MAX);
	const struct bytes *tail = msg_tail(m);

	if (!tail || tail->len < TAIL_BYTES_MIN || ch->encrypted)
		return -EAGAIN;
	msg_encode(m, &w); /* all but the tail, for which there is no room */
	if (wbuf_len(&w) + tail->len != body)
		return -EAGAIN;
	frame_header_put(head, body);
	int err = chan_write_frame(ch, bytes_of(head, FRAME_HEADER_BYTES + wbuf_len(&w)), *tail);
	if (err == -ENOMEM)
		chan_fail(ch, CODE_BUSY, "out of memory");
	return err;
}

/* Encodes straight into the output buffer: a large payload is copied once. */
static int append_message(struct chan *ch, const struct msg *m)
{
	struct evbuffer *output = ch->out;
	size_t body = msg_encoded_size(m);
	size_t total = FRAME_HEADER_BYTES + body + (ch->encrypted ? CHANNEL_TAG_BYTES : 0);
	struct evbuffer_iovec vec;

	if (body > ch->group->opt.max_body_bytes)
		return -EMSGSIZE;
	int err = write_message(ch, m, body);
	if (err != -EAGAIN)
		return err;
	if (evbuffer_reserve_space(output, (ev_ssize_t)total, &vec, 1) < 1)
		return -ENOMEM;
	err = encode_into(ch, m, vec.iov_base, body);
	if (err)
		return err;
	vec.iov_len = total;
	if (evbuffer_commit_space(output, &vec, 1))
		return -ENOMEM;
	chan_output_added(ch);
	return 0;
}

int chan_send(struct chan *ch, const struct msg *m)
{
	if (!chan_is_up(ch) || ch->doom_reason)
		return -ENOTCONN;
	if (chan_output_pending(ch) >= ch->group->opt.output_max_bytes) {
		ch->group->counters.refused++;
		if (log_limit_due(&ch->group->limit_refused, daemon_now_us()))
			log_warn("%s: does not read what we send; closing the channel", ch->text);
		chan_fail(ch, CODE_BUSY, "the peer does not read");
		return -ENOBUFS;
	}
	int err = append_message(ch, m);
	if (!err && chan_output_pending(ch) > CHAN_LOW_WATER_BYTES)
		ch->above_low_water = true;
	return err;
}

int chan_send_ack(struct chan *ch, uint32_t seq, uint16_t code, uint64_t value, const char *text)
{
	struct msg m = {.type = MSG_CommonAck, .seq = seq};
	m.common_ack.code = code;
	m.common_ack.value = value;
	m.common_ack.text = bytes_str(text);
	if (m.common_ack.text.len > TEXT_MAX_BYTES)
		m.common_ack.text.len = TEXT_MAX_BYTES;
	return chan_send(ch, &m);
}

static void send_ping(struct chan *ch)
{
	struct msg m = {.type = MSG_Ping};
	m.seq = CHAN_PING_SEQ_BIT | (ch->ping_seq++ & ~CHAN_PING_SEQ_BIT);
	m.ping.nonce = ch->ping_seq;
	(void)chan_send(ch, &m);
}

/* All is written: say so, and wait for the peer to end, so that closing with unread input does not
 * turn into a reset that overtakes our last words. */
static void finish_written(struct chan *ch)
{
	if (chan_output_pending(ch) == 0)
		shutdown(ch->fd, SHUT_WR);
}

void chan_written(struct chan *ch)
{
	if (ch->phase == CHAN_FINISHING) {
		finish_written(ch);
	} else if (chan_is_up(ch) && ch->above_low_water &&
		   chan_output_pending(ch) <= CHAN_LOW_WATER_BYTES) {
		ch->above_low_water = false;
		if (ch->group->opt.cb.on_drain)
			ch->group->opt.cb.on_drain(ch);
	}
}

/* --- events ------------------------------------------------------------------------------- */

static void on_later(evutil_socket_t fd, short what, void *arg)
{
	struct chan *ch = arg;
	(void)fd;
	(void)what;
	chan_hold(ch);
	if (ch->doom_reason)
		chan_end(ch, ch->doom_code, ch->doom_reason);
	else if (ch->phase == CHAN_SHAKING && !ch->encrypted)
		chan_come_up(ch);
	if (ch->phase != CHAN_DEAD)
		chan_process_input(ch);
	chan_put(ch);
}

/* While we do not read, the peer's kernel still acknowledges what we send: our pings, if nothing
 * else.  A full window is no silence: nothing is under way then. */
static bool kernel_is_silent(struct chan *ch)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof info;

	if (getsockopt(ch->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_unacked &&
	    info.tcpi_last_ack_recv >= ch->group->opt.ping_interval_us / 1000)
		ch->unacked_ticks++;
	else
		ch->unacked_ticks = 0;
	return ch->unacked_ticks >= PAUSED_TICKS_MAX;
}

/* The next ping, or the end of our patience. */
static uint64_t next_look(const struct chan *ch, uint64_t idle_us)
{
	const struct chan_options *o = &ch->group->opt;
	uint64_t wait = o->ping_interval_us;

	if (ch->paused)
		return wait;
	if (idle_us < o->ping_interval_us)
		return wait - idle_us;
	return o->silence_max_us - idle_us < wait ? o->silence_max_us - idle_us : wait;
}

static void check_liveness(struct chan *ch)
{
	const struct chan_options *o = &ch->group->opt;
	uint64_t now = daemon_now_us();

	/* When we ourselves were away (stopped, suspended), silence says nothing about the peer:
	 * what it sent lies unread in the socket. */
	if (now > ch->tick_due_us + o->ping_interval_us)
		ch->heard_us = now;
	uint64_t idle_us = now > ch->heard_us ? now - ch->heard_us : 0;
	if (ch->paused ? kernel_is_silent(ch) : idle_us >= o->silence_max_us) {
		ch->group->counters.timeouts++;
		chan_end(ch, CODE_LOST, "silence");
		return;
	}
	/* While paused we cannot hear, but the peer must still hear us. */
	if (ch->paused || idle_us >= o->ping_interval_us)
		send_ping(ch);
	set_tick(ch, next_look(ch, idle_us));
}

static void note_attempt_failed(struct chan *ch, const char *text)
{
	struct chan_group *g = ch->group;

	if (ch->phase == CHAN_SHAKING)
		g->counters.handshake_failed++;
	if (ch->initiator && log_limit_due(&g->limit_failed, daemon_now_us()))
		log_warn("%s: cannot connect: %s; trying again", ch->text, text);
}

void chan_lost(struct chan *ch, uint16_t code, const char *text)
{
	if (ch->phase == CHAN_FINISHING) {
		chan_detach(ch);
		return;
	}
	if (!chan_is_up(ch))
		note_attempt_failed(ch, text);
	chan_end(ch, code, text);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct chan *ch = arg;
	(void)fd;
	(void)what;
	chan_hold(ch);
	if (ch->phase == CHAN_READY) {
		check_liveness(ch);
	} else if (ch->phase == CHAN_FINISHING) {
		chan_detach(ch);
	} else {
		const char *text = "handshake or registration took too long";
		ch->group->counters.timeouts++;
		note_attempt_failed(ch, text);
		chan_end(ch, CODE_TIMEOUT, text);
	}
	chan_put(ch);
}

static const char *failure_text(struct chan *ch, short what, int err)
{
	int dns = bufferevent_socket_get_dns_error(ch->bev);
	if (what & BEV_EVENT_EOF)
		return "the peer closed it";
	if (dns)
		return evutil_gai_strerror(dns);
	return evutil_socket_error_to_string(err);
}

/* Of connecting; afterwards the bufferevent is silent. */
static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct chan *ch = arg;
	int err = EVUTIL_SOCKET_ERROR();
	(void)bev;
	chan_hold(ch);
	if (what & BEV_EVENT_CONNECTED) {
		chan_begin(ch);
	} else {
		chan_lost(ch, CODE_LOST, failure_text(ch, what, err));
	}
	chan_put(ch);
}

/* --- construction ------------------------------------------------------------------------- */

static int start_noise(struct chan *ch)
{
	struct chan_group *g = ch->group;
	uint8_t ephemeral[NOISE_KEY_BYTES];
	struct channel_params p = {
		.initiator = ch->initiator,
		.local = &g->key,
		.ephemeral = ephemeral,
		.expected = g->opt.expected,
		.max_body = g->opt.max_body_bytes,
	};
	randombytes_buf(ephemeral, sizeof ephemeral);
	int err = channel_init(&ch->noise, &p);
	sodium_memzero(ephemeral, sizeof ephemeral);
	return err;
}

static struct chan *chan_alloc(struct chan_group *g, struct bufferevent *bev)
{
	struct chan *ch = calloc(1, sizeof *ch);

	if (!ch) {
		bufferevent_free(bev);
		return NULL;
	}
	ch->group = g;
	ch->bev = bev;
	ch->fd = -1;
	ch->out = evbuffer_new();
	ch->later = event_new(g->base, -1, 0, on_later, ch);
	ch->tick = event_new(g->base, -1, 0, on_tick, ch);
	if (!ch->out || !ch->later || !ch->tick) {
		chan_destroy(ch);
		return NULL;
	}
	return ch;
}

struct chan *chan_new(struct chan_group *g, struct bufferevent *bev, bool initiator, bool encrypted)
{
	struct chan *ch = chan_alloc(g, bev);

	if (!ch)
		return NULL;
	ch->initiator = initiator;
	ch->encrypted = encrypted;
	ch->arg = g->opt.arg;
	ch->heard_us = daemon_now_us();
	if (encrypted && start_noise(ch)) {
		chan_destroy(ch);
		return NULL;
	}
	bufferevent_setcb(bev, NULL, NULL, on_event, ch);
	TAILQ_INSERT_TAIL(&g->unready, ch, link);
	g->unready_count++;
	set_tick(ch, g->opt.handshake_timeout_us);
	return ch;
}

void chan_begin(struct chan *ch)
{
	ch->phase = CHAN_SHAKING;
	/* Small replies must not wait for acks; fails harmlessly on a Unix socket. */
	setsockopt(bufferevent_getfd(ch->bev), IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	if (chan_io_open(ch))
		chan_end(ch, CODE_BUSY, "out of memory");
	else if (!ch->encrypted)
		event_active(ch->later, EV_TIMEOUT, 0);
	else if (chan_send_handshake(ch))
		chan_handshake_error(ch, "handshake failed");
}

void chan_ready(struct chan *ch)
{
	struct chan_group *g = ch->group;

	if (ch->phase != CHAN_HELLO)
		return;
	unlink_from_group(ch);
	ch->phase = CHAN_READY;
	TAILQ_INSERT_TAIL(&g->ready, ch, link);
	g->ready_count++;
	set_tick(ch, g->opt.ping_interval_us);
	if (g->on_ready)
		g->on_ready(g, ch);
}

void chan_finish(struct chan *ch, const char *reason)
{
	struct chan_group *g = ch->group;

	if (!chan_is_up(ch)) {
		chan_close(ch, reason);
		return;
	}
	log_debug("%s: finishing: %s", ch->text, reason);
	chan_hold(ch);
	unlink_from_group(ch);
	ch->phase = CHAN_FINISHING;
	TAILQ_INSERT_TAIL(&g->unready, ch, link);
	g->unready_count++;
	ch->paused = false;
	chan_set_reading(ch, true);
	set_tick(ch, FINISH_TIMEOUT_US);
	finish_written(ch);
	if (g->on_gone)
		g->on_gone(g, ch);
	chan_put(ch);
}

/* --- what an owner may ask ---------------------------------------------------------------- */

uint32_t chan_next_seq(struct chan *ch)
{
	ch->next_seq = (ch->next_seq + 1) & ~CHAN_PING_SEQ_BIT;
	if (ch->next_seq == 0)
		ch->next_seq = 1;
	return ch->next_seq;
}

bool chan_is_ready(const struct chan *ch)
{
	return ch->phase == CHAN_READY;
}

void chan_set_arg(struct chan *ch, void *arg)
{
	ch->arg = arg;
}

void *chan_arg(const struct chan *ch)
{
	return ch->arg;
}

void *chan_owner(const struct chan *ch)
{
	return ch->group->opt.arg;
}

const struct mesh_id *chan_peer(const struct chan *ch)
{
	return ch->encrypted && ch->phase >= CHAN_HELLO ? &ch->peer : NULL;
}

const struct net_addr *chan_remote(const struct chan *ch)
{
	return &ch->remote;
}

const char *chan_text(const struct chan *ch)
{
	return ch->text;
}
