#include "core/connection.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/noise.h"
#include "core/playout.h"
#include "core/recent.h"
#include "core/record.h"
#include "core/replay.h"
#include "core/seal.h"
#include "core/stream_recv.h"
#include "core/stream_send.h"
#include "wire/msg.h"

#define PROLOGUE_TEXT "meshnet connection 1"
#define HANDSHAKE_RETRY_US 200000u
#define HANDSHAKE_RETRY_MAX_US 2000000u
#define HANDSHAKE_MESSAGE_MAX 96
#define ACK_DELAY_US 5000u
#define ACK_EVERY_RECORDS 2u
#define PROGRESS_TIMEOUTS 3u	   /* a way that is cut is found again, or another one: patience */
#define WINDOW_PROBE_US 500000u	   /* how often a sender without window asks for it */
#define STREAM_RECORD_BYTES 60000u /* of stream data in one record */
#define RECORD_ROOM_BYTES 68000u   /* the first hop must take a whole record */

/* The first byte of an opened record of kind DATA (PROTOCOL.md section 4.3). */
enum inner_type { INNER_STREAM = 2, INNER_ACK = 3, INNER_CLOSE = 4, INNER_PING = 5 };
#define STREAM_INNER_HEADER 9u

_Static_assert(DATAGRAM_MAX_BYTES == RECORD_PLAIN_MAX, "a datagram fills a record");

struct connection {
	struct connection_config config;
	const struct connection_ops *ops;
	void *ctx, *user;
	enum connection_state state;

	uint32_t out_label;
	size_t packet_bytes; /* 0: no route yet */

	struct noise noise;
	const struct seal_suite *suite;
	struct seal *seal_out, *seal_in; /* there when `keyed` */
	enum seal_cipher cipher;	 /* agreed in the handshake */
	bool keyed;
	uint8_t hello[HANDSHAKE_MESSAGE_MAX]; /* our handshake message, to repeat */
	size_t hello_len;
	uint8_t hello_hash[32]; /* responder: of the initiator's message */
	uint64_t hello_at_us, hello_wait_us, hello_sent_us;
	unsigned hello_sends;

	uint64_t next_record;
	struct replay replay;
	struct reassembly reassembly;
	struct stream_send out;
	struct stream_recv in;
	struct playout playout; /* class datagram */
	struct recent recent;	/* class datagram */
	uint64_t ack_at_us, tick_at_us, deadline_us;
	bool flushing;
	bool peer_closed; /* the far end is gone; a refused message still waits for our owner */
	struct timer timer;
	struct connection_stats stats;
};

static void timer_fire(struct timer *timer, uint64_t now);
static void arm(struct connection *c, uint64_t now);

const char *connection_state_name(enum connection_state s)
{
	static const char *const names[] = {"CONNECTING", "CONNECTED", "DISCONNECTED"};
	return (unsigned)s < 3 ? names[s] : "?";
}

/* Both ends bind the handshake to this connection: its number and class. */
static int start_noise(struct connection *c, uint64_t now)
{
	uint8_t prologue[sizeof PROLOGUE_TEXT - 1 + 9], ephemeral[32];
	struct wbuf w = wbuf_init(prologue, sizeof prologue);
	struct noise_keypair local;

	(void)now;
	wbuf_copy(&w, PROLOGUE_TEXT, sizeof PROLOGUE_TEXT - 1);
	wbuf_u64(&w, c->config.id);
	wbuf_u8(&w, c->config.cls);
	noise_keypair_from_secret(&local, c->config.local_secret);
	c->ops->random(c->ctx, ephemeral, sizeof ephemeral);
	int err = noise_init(&c->noise, &(struct noise_params){
						.pattern = NOISE_KK,
						.initiator = c->config.initiator,
						.prologue = bytes_of(prologue, sizeof prologue),
						.local = &local,
						.remote = c->config.remote.b,
						.ephemeral = ephemeral,
					});
	sodium_memzero(&local, sizeof local);
	sodium_memzero(ephemeral, sizeof ephemeral);
	return err;
}

struct connection *connection_new(const struct connection_config *config,
				  const struct connection_ops *ops, void *ctx, uint64_t now)
{
	struct connection *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->config = *config;
	c->suite = seal_suite();
	c->ops = ops;
	c->ctx = ctx;
	if (start_noise(c, now) != 0) {
		free(c);
		return NULL;
	}
	sodium_memzero(c->config.local_secret, sizeof c->config.local_secret);
	reassembly_init(&c->reassembly);
	stream_send_init(&c->out, PACKET_MIN_MTU_BYTES);
	c->out.peer_limit = STREAM_WINDOW_BYTES;
	stream_recv_init(&c->in);
	playout_init(&c->playout);
	recent_init(&c->recent);
	c->in.limit_told = STREAM_WINDOW_BYTES;
	timer_init(&c->timer, timer_fire, c);
	c->hello_at_us = c->ack_at_us = c->tick_at_us = TIMER_NEVER;
	c->deadline_us = now + config->timeout_us;
	arm(c, now);
	return c;
}

void connection_free(struct connection *c)
{
	if (!c)
		return;
	timerq_cancel(c->config.timers, &c->timer);
	noise_wipe(&c->noise);
	c->suite->drop(c->seal_out);
	c->suite->drop(c->seal_in);
	reassembly_free(&c->reassembly);
	stream_send_free(&c->out);
	stream_recv_free(&c->in);
	playout_free(&c->playout);
	recent_free(&c->recent);
	sodium_memzero(c, sizeof *c);
	free(c);
}

static void set_state(struct connection *c, enum connection_state to, uint16_t code, uint64_t now)
{
	enum connection_state old = c->state;
	char peer[MESH_ID_SHORT];

	if (old == to || old == CONNECTION_DISCONNECTED)
		return;
	c->state = to;
	log_debug("connection %llx to %s: %s -> %s (%s)", (unsigned long long)c->config.id,
		  mesh_id_short(&c->config.remote, peer), connection_state_name(old),
		  connection_state_name(to),
		  to == CONNECTION_CONNECTED ? seal_cipher_name(c->cipher) : msg_code_name(code));
	if (to == CONNECTION_CONNECTED)
		c->deadline_us = TIMER_NEVER;
	arm(c, now);
	c->ops->state(c->ctx, c, old, code, now);
}

/* --- records out -------------------------------------------------------------------------- */

static void send_cipher(struct connection *c, const struct fragment_header *f, struct bytes cipher,
			uint8_t flags, uint64_t now)
{
	struct pkt *v[RECORD_RUNS_MAX];
	size_t packet_bytes =
		c->ops->packet_bytes ? c->ops->packet_bytes(c->ctx, c) : c->packet_bytes;

	if (c->config.cls == CLASS_DATAGRAM)
		flags |= PACKET_FLAG_DROPPABLE;
	size_t n = record_cut(c->config.pool, f, cipher, packet_bytes, c->out_label, flags, v);
	if (!n)
		return;
	c->stats.tx_records++;
	c->ops->output(c->ctx, c, v, n, now);
}

/* Seals `plain`, which may lie in `room` already, into `room` and sends it.  No number is used
 * twice: a connection that has used them all up ends. */
static uint64_t send_sealed(struct connection *c, uint8_t kind, struct bytes plain, uint8_t *room,
			    uint8_t flags, uint64_t now)
{
	struct fragment_header f = {
		.kind = kind, .time = record_time(now), .record = c->next_record};

	if (c->next_record >= RECORD_NUMBERS) {
		set_state(c, CONNECTION_DISCONNECTED, CODE_LOST, now);
		return c->next_record;
	}
	c->next_record++;
	if (c->suite->seal(c->seal_out, record_nonce(&f), plain, bytes_of(NULL, 0), room) == 0)
		send_cipher(c, &f, bytes_of(room, plain.len + AEAD_TAG_BYTES), flags, now);
	return f.record;
}

/* In place: `plain` has room for the tag. */
static uint64_t send_record(struct connection *c, uint8_t *plain, size_t len, uint64_t now)
{
	return send_sealed(c, RECORD_DATA, bytes_of(plain, len), plain, 0, now);
}

static void send_hello(struct connection *c, uint64_t now)
{
	c->hello_sent_us = now;
	c->hello_sends++;
	struct fragment_header f = {.kind = RECORD_HANDSHAKE,
				    .time = record_time(now),
				    .record = c->config.initiator ? 0 : 1};
	send_cipher(c, &f, bytes_of(c->hello, c->hello_len), 0, now);
}

static void send_ack(struct connection *c, uint64_t now)
{
	uint8_t buf[512];
	struct wbuf w = wbuf_init(buf, sizeof buf - AEAD_TAG_BYTES);
	struct stream_ack a;

	c->ack_at_us = TIMER_NEVER;
	stream_recv_ack(&c->in, &a, now);
	wbuf_u8(&w, INNER_ACK);
	stream_ack_write(&w, &a);
	send_record(c, buf, wbuf_len(&w), now);
}

/* Asks for an ack: confirms the keys, or probes a closed window. */
static void send_ping(struct connection *c, uint64_t now)
{
	uint8_t buf[1 + AEAD_TAG_BYTES] = {INNER_PING};
	send_record(c, buf, 1, now);
}

static bool first_hop_ready(struct connection *c)
{
	return c->packet_bytes && c->ops->room(c->ctx, c, 0) >= RECORD_ROOM_BYTES;
}

static void send_stream(struct connection *c, uint64_t now)
{
	uint8_t buf[STREAM_INNER_HEADER + STREAM_RECORD_BYTES + AEAD_TAG_BYTES];
	uint64_t offset;
	size_t len;

	while (c->state == CONNECTION_CONNECTED && first_hop_ready(c) &&
	       (len = stream_send_next(&c->out, buf + STREAM_INNER_HEADER, STREAM_RECORD_BYTES,
				       &offset)) > 0) {
		buf[0] = INNER_STREAM;
		be64_put(buf + 1, offset);
		uint64_t number = send_record(c, buf, STREAM_INNER_HEADER + len, now);
		stream_send_sent(&c->out, number, offset, len, now);
	}
}

static bool in_order(struct connection *c, struct bytes message)
{
	return c->ops->in_order && c->ops->in_order(c->ctx, c, message);
}

static int send_datagram(struct connection *c, struct bytes data, uint8_t flags, uint64_t now)
{
	uint8_t buf[DATAGRAM_MAX_BYTES + AEAD_TAG_BYTES];

	if (data.len > DATAGRAM_MAX_BYTES)
		return -EMSGSIZE;
	if (!c->packet_bytes || c->ops->room(c->ctx, c, flags) < data.len + data.len / 8 + 200) {
		c->stats.dropped++;
		return -EAGAIN;
	}
	send_sealed(c, RECORD_DATAGRAM, data, buf, flags, now);
	return 0;
}

static int queue_message(struct connection *c, struct bytes data, size_t left)
{
	if (data.len > MAX_MESSAGE_BYTES || left > MAX_MESSAGE_BYTES - data.len)
		return -EMSGSIZE;
	if (!c->out.part_left && stream_send_buffered(&c->out) >= c->config.send_buffer_bytes)
		return -EAGAIN;
	return stream_send_append(&c->out, data, left);
}

int connection_send_part(struct connection *c, struct bytes data, size_t left, uint64_t now)
{
	(void)now;
	if (c->state != CONNECTION_CONNECTED)
		return -ENOTCONN;
	int err = c->config.cls == CLASS_STREAM ? queue_message(c, data, left) : -EINVAL;
	if (!err) {
		c->stats.tx_messages += left == 0;
		c->stats.tx_bytes += data.len;
	}
	return err;
}

void connection_take_parts(struct connection *c)
{
	c->in.parts = true;
}

static int send_message(struct connection *c, struct bytes data, uint8_t flags, uint64_t now)
{
	if (c->state != CONNECTION_CONNECTED)
		return -ENOTCONN;
	int err;
	if (c->config.cls == CLASS_DATAGRAM) {
		if (in_order(c, data))
			recent_keep(&c->recent, data, now);
		err = send_datagram(c, data, flags, now);
	} else {
		err = c->out.part_left ? -EINVAL : queue_message(c, data, 0);
	}
	if (!err) {
		c->stats.tx_messages++;
		c->stats.tx_bytes += data.len;
	}
	return err;
}

int connection_send(struct connection *c, struct bytes data, uint64_t now)
{
	return send_message(c, data, 0, now);
}

int connection_send_sparse(struct connection *c, struct bytes data, uint64_t now)
{
	return send_message(c, data, PACKET_FLAG_SPARSE, now);
}

void connection_flush(struct connection *c, uint64_t now)
{
	/* output may report room at once and call us again: the outer call goes on anyway. */
	if (c->flushing || c->peer_closed || c->state != CONNECTION_CONNECTED)
		return;
	c->flushing = true;
	send_stream(c, now);
	if (c->in.pending >= ACK_EVERY_RECORDS || c->in.urgent || stream_recv_window_grew(&c->in))
		send_ack(c, now);
	else if (c->in.pending && c->ack_at_us == TIMER_NEVER)
		c->ack_at_us = now + ACK_DELAY_US;
	c->flushing = false;
	if (c->tick_at_us == TIMER_NEVER) {
		c->tick_at_us = stream_send_tick(&c->out, now);
		if (stream_send_blocked(&c->out))
			c->tick_at_us = now + WINDOW_PROBE_US;
	}
	arm(c, now);
}

/* --- handshake ---------------------------------------------------------------------------- */

/* Keeps nothing of them: they are not what their sender says now. */
static void send_recent(struct connection *c, uint64_t now)
{
	struct bytes data;

	while (c->state == CONNECTION_CONNECTED && recent_take(&c->recent, &data, now))
		if (send_datagram(c, data, 0, now))
			return;
}

void connection_set_route(struct connection *c, uint32_t out_label, size_t packet_bytes,
			  uint64_t now)
{
	bool moved = c->packet_bytes != 0;

	c->out_label = out_label;
	c->packet_bytes = packet_bytes;
	if (!moved)
		return;
	stream_send_reroute(&c->out, now);
	send_recent(c, now);
	if (c->state == CONNECTION_CONNECTING && c->hello_len)
		send_hello(c, now);
	connection_flush(c, now);
}

/* What we offer or accept, as bits. */
static uint8_t ciphers(const struct connection *c)
{
	return (uint8_t)(SEAL_CHACHA20_POLY1305 | (c->config.ciphers & seal_ciphers()));
}

void connection_start(struct connection *c, uint64_t now)
{
	struct wbuf w = wbuf_init(c->hello, sizeof c->hello);
	uint8_t offer = ciphers(c);

	if (!c->config.initiator || c->hello_len || c->state != CONNECTION_CONNECTING)
		return;
	if (noise_write(&c->noise, bytes_of(&offer, 1), &w) != 0) {
		set_state(c, CONNECTION_DISCONNECTED, CODE_PROTOCOL, now);
		return;
	}
	c->hello_len = wbuf_len(&w);
	c->hello_wait_us = HANDSHAKE_RETRY_US;
	c->hello_at_us = now + c->hello_wait_us;
	send_hello(c, now);
	arm(c, now);
}

/* The handshake is the first that is known of the round trip, if its messages went once. */
static void sample_hello(struct connection *c, uint64_t now)
{
	if (c->hello_sends == 1)
		rtt_sample(&c->out.rtt, now - c->hello_sent_us, 0);
}

/* 0 or -ENOMEM. */
static int take_keys(struct connection *c)
{
	struct noise_keys keys;

	noise_split(&c->noise, &keys);
	noise_wipe(&c->noise);
	c->seal_out = c->suite->make(SEAL_OUT, c->cipher, keys.send);
	c->seal_in = c->suite->make(SEAL_IN, c->cipher, keys.receive);
	sodium_memzero(&keys, sizeof keys);
	c->keyed = c->seal_out && c->seal_in;
	return c->keyed ? 0 : -ENOMEM;
}

/* The responder chooses: the faster one that both can do. */
static int choose_cipher(struct connection *c, uint8_t offer)
{
	if (!(offer & SEAL_CHACHA20_POLY1305))
		return -EBADMSG;
	c->cipher = offer & ciphers(c) & SEAL_AES256_GCM ? SEAL_AES256_GCM : SEAL_CHACHA20_POLY1305;
	return 0;
}

/* Responder.  The same message again gets the same answer; another one is not believed. */
static int on_hello(struct connection *c, struct bytes message, uint64_t now)
{
	uint8_t hash[32], offer, choice;
	size_t len;
	struct wbuf w = wbuf_init(c->hello, sizeof c->hello);

	crypto_generichash(hash, sizeof hash, message.data, message.len, NULL, 0);
	if (c->hello_len) {
		if (memcmp(hash, c->hello_hash, sizeof hash) != 0)
			return -EBADMSG;
		send_hello(c, now);
		return 0;
	}
	if (noise_read(&c->noise, message, &offer, sizeof offer, &len) != 0 || len != 1 ||
	    choose_cipher(c, offer) != 0)
		return -EBADMSG;
	choice = (uint8_t)c->cipher;
	if (noise_write(&c->noise, bytes_of(&choice, 1), &w) != 0)
		return -EBADMSG;
	c->hello_len = wbuf_len(&w);
	memcpy(c->hello_hash, hash, sizeof hash);
	int err = take_keys(c);
	if (!err)
		send_hello(c, now);
	return err;
}

static int on_handshake(struct connection *c, uint64_t number, struct bytes message, uint64_t now)
{
	uint8_t choice;
	size_t len;

	if (number != (c->config.initiator ? 1u : 0u))
		return -EBADMSG;
	if (!c->config.initiator)
		return on_hello(c, message, now);
	if (c->keyed)
		return 0; /* our repeated hello was answered twice */
	if (!c->hello_len || noise_read(&c->noise, message, &choice, sizeof choice, &len) != 0 ||
	    len != 1 || (choice != SEAL_CHACHA20_POLY1305 && choice != SEAL_AES256_GCM) ||
	    !(choice & ciphers(c)))
		return -EBADMSG;
	c->cipher = choice;
	int err = take_keys(c);
	if (err)
		return err;
	sample_hello(c, now);
	c->hello_at_us = now + c->hello_wait_us;
	set_state(c, CONNECTION_CONNECTED, 0, now);
	if (c->state == CONNECTION_CONNECTED)
		send_ping(c, now); /* shows the responder that we have the keys */
	return 0;
}

/* --- records in --------------------------------------------------------------------------- */

static bool deliver(void *ctx, struct bytes part, size_t left, uint64_t now)
{
	struct connection *c = ctx;
	if (c->state != CONNECTION_CONNECTED || !c->ops->message(c->ctx, c, part, left, now))
		return false;
	c->stats.rx_messages += left == 0;
	c->stats.rx_bytes += part.len;
	return true;
}

static void deliver_datagram(void *ctx, struct bytes message, uint64_t now)
{
	struct connection *c = ctx;
	if (!deliver(c, message, 0, now))
		c->stats.dropped++;
}

/* Every number counts, also that of a record without a message. */
static void play(struct connection *c, const struct fragment_header *f, struct bytes message,
		 uint8_t flags, struct block *block, uint64_t now)
{
	struct playout_record r = {.number = f->record,
				   .time = f->time,
				   .empty = !message.data,
				   .eager = message.data && !in_order(c, message),
				   .overtakes = (flags & PACKET_FLAG_SPARSE) != 0,
				   .data = message,
				   .block = block};
	if (c->config.cls == CLASS_DATAGRAM)
		playout_add(&c->playout, &r, deliver_datagram, c, now);
}

static int on_datagram(struct connection *c, const struct fragment_header *f, struct bytes plain,
		       uint8_t flags, struct block *block, uint64_t now)
{
	if (c->config.cls != CLASS_DATAGRAM)
		return -EBADMSG;
	play(c, f, plain, flags, block, now);
	return 0;
}

static int on_stream_ack(struct connection *c, struct bytes body, uint64_t now)
{
	struct rbuf r = rbuf_init(body.data, body.len);
	struct stream_ack a;
	size_t freed;

	if (stream_ack_read(&r, &a) != 0 || stream_send_ack(&c->out, &a, now, &freed) != 0)
		return -EBADMSG;
	c->tick_at_us = stream_send_tick(&c->out, now);
	if (freed)
		c->ops->sent(c->ctx, c, freed, now);
	return 0;
}

static int on_inner(struct connection *c, const struct fragment_header *f, struct bytes plain,
		    struct block *block, uint64_t now)
{
	if (!plain.len)
		return -EBADMSG;
	struct bytes body = bytes_of(plain.data + 1, plain.len - 1);

	play(c, f, bytes_of(NULL, 0), 0, block, now);
	switch (plain.data[0]) {
	case INNER_STREAM:
		if (c->config.cls != CLASS_STREAM || body.len <= 8)
			return -EBADMSG;
		return stream_recv_add(&c->in, f->record, be64_get(body.data),
				       bytes_of(body.data + 8, body.len - 8), block, deliver, c,
				       now);
	case INNER_ACK:
		return on_stream_ack(c, body, now);
	case INNER_PING:
		c->in.pending++;
		c->in.urgent = true;
		return 0;
	case INNER_CLOSE:
		if (body.len != 2)
			return -EBADMSG;
		playout_flush(&c->playout, deliver_datagram, c, now);
		c->peer_closed = true;
		if (!c->in.held)
			set_state(c, CONNECTION_DISCONNECTED, CODE_CLOSED, now);
		return 0;
	default:
		return -EBADMSG;
	}
}

/* `cipher` is writable memory of `block`: it is opened in place. */
static void on_record(struct connection *c, const struct fragment_header *f, uint8_t *cipher,
		      uint8_t flags, struct block *block, uint64_t now)
{
	uint64_t nonce = record_nonce(f);

	if (!c->keyed || f->total < AEAD_TAG_BYTES ||
	    c->suite->open(c->seal_in, nonce, bytes_of(cipher, f->total), cipher)) {
		c->stats.bad_records++;
		return;
	}
	if (!replay_accept(&c->replay, f->record)) {
		c->stats.replayed_records++;
		return;
	}
	c->stats.rx_records++;
	if (c->state == CONNECTION_CONNECTING) {
		sample_hello(c, now);
		set_state(c, CONNECTION_CONNECTED, 0, now);
	}
	if (c->state != CONNECTION_CONNECTED)
		return;
	struct bytes plain = bytes_of(cipher, f->total - AEAD_TAG_BYTES);
	int err = f->kind == RECORD_DATAGRAM ? on_datagram(c, f, plain, flags, block, now)
					     : on_inner(c, f, plain, block, now);
	if (err) {
		c->stats.bad_records++;
		connection_close(c, CODE_PROTOCOL, now);
	}
}

static void on_whole(struct connection *c, const struct fragment_header *f, uint8_t *cipher,
		     uint8_t flags, struct block *block, uint64_t now)
{
	if (f->kind != RECORD_HANDSHAKE)
		on_record(c, f, cipher, flags, block, now);
	else if (on_handshake(c, f->record, bytes_of(cipher, f->total), now) != 0)
		c->stats.bad_records++;
}

static void on_fragment(struct connection *c, const struct pkt *p, uint8_t *packet, size_t len,
			uint64_t now)
{
	const size_t headers = HOP_HEADER_BYTES + FRAGMENT_HEADER_BYTES;
	struct fragment_header f;
	struct block *whole;

	if (c->state == CONNECTION_DISCONNECTED || len <= headers ||
	    fragment_header_read(&f, packet + HOP_HEADER_BYTES, len - headers) != 0) {
		c->stats.bad_records++;
	} else if (f.offset == 0 && f.total == len - headers) {
		on_whole(c, &f, packet + headers, p->flags, p->block, now);
	} else {
		int done = reassembly_add(&c->reassembly, &f, packet + headers, len - headers, now,
					  &whole);
		if (done == 1) {
			on_whole(c, &f, whole->data, p->flags, whole, now);
			block_put(whole);
		} else if (done < 0) {
			c->stats.bad_records++;
		}
	}
}

void connection_input(struct connection *c, struct pkt *p, uint64_t now)
{
	if (p->flags & PACKET_FLAG_MARKED)
		c->in.marked += p->count;
	for (size_t i = 0; i < p->count; i++)
		on_fragment(c, p, p->data + i * p->each, pkt_payload(p, i).len, now);
	pkt_free(c->config.pool, p);
}

void connection_resume(struct connection *c, uint64_t now)
{
	if (c->state != CONNECTION_CONNECTED)
		return;
	if (stream_recv_resume(&c->in, deliver, c, now) != 0)
		connection_close(c, CODE_PROTOCOL, now);
	if (c->peer_closed && !c->in.held)
		set_state(c, CONNECTION_DISCONNECTED, CODE_CLOSED, now);
	connection_flush(c, now);
}

void connection_close(struct connection *c, uint16_t code, uint64_t now)
{
	uint8_t buf[3 + AEAD_TAG_BYTES] = {INNER_CLOSE, (uint8_t)(code >> 8), (uint8_t)code};

	if (c->state == CONNECTION_CONNECTED && c->packet_bytes)
		send_record(c, buf, 3, now);
	set_state(c, CONNECTION_DISCONNECTED, code, now);
}

/* --- time --------------------------------------------------------------------------------- */

static uint64_t earliest(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A stream with bytes in flight must make progress; an idle one has nothing to prove. */
static uint64_t progress_deadline(const struct connection *c)
{
	if (c->state != CONNECTION_CONNECTED || c->peer_closed || c->out.una == c->out.next)
		return TIMER_NEVER;
	return c->out.progress_us + PROGRESS_TIMEOUTS * c->config.timeout_us;
}

static void arm(struct connection *c, uint64_t now)
{
	uint64_t at = earliest(c->hello_at_us, c->deadline_us);

	(void)now;
	if (c->state == CONNECTION_DISCONNECTED) {
		timerq_cancel(c->config.timers, &c->timer);
		return;
	}
	at = earliest(at, earliest(c->ack_at_us, c->tick_at_us));
	at = earliest(at, progress_deadline(c));
	at = earliest(at, playout_next(&c->playout));
	if (at != c->timer.at_us)
		timerq_set(c->config.timers, &c->timer, at);
}

/* Until the other end has shown that it has the keys, our part of the handshake is repeated. */
static void on_hello_timer(struct connection *c, uint64_t now)
{
	c->hello_wait_us = earliest(2 * c->hello_wait_us, HANDSHAKE_RETRY_MAX_US);
	c->hello_at_us = now + c->hello_wait_us;
	if (!c->keyed)
		send_hello(c, now);
	else if (c->stats.rx_records == 0)
		send_ping(c, now);
	else
		c->hello_at_us = TIMER_NEVER;
}

static void timer_fire(struct timer *timer, uint64_t now)
{
	struct connection *c = timer->owner;

	if (now >= c->deadline_us || now >= progress_deadline(c)) {
		connection_close(c, CODE_TIMEOUT, now);
		return;
	}
	if (now >= c->hello_at_us)
		on_hello_timer(c, now);
	if (now >= playout_next(&c->playout))
		playout_expire(&c->playout, deliver_datagram, c, now);
	if (now >= c->ack_at_us)
		send_ack(c, now);
	if (now >= c->tick_at_us) {
		c->tick_at_us = stream_send_tick(&c->out, now);
		if (stream_send_blocked(&c->out))
			send_ping(c, now);
	}
	connection_flush(c, now);
	arm(c, now);
}

/* --- looking at it ------------------------------------------------------------------------ */

void connection_get_stats(const struct connection *c, struct connection_stats *out)
{
	*out = c->stats;
	out->dropped += c->reassembly.given_up;
	out->record_retransmits = c->out.retransmits;
	out->srtt_us = (uint32_t)c->out.rtt.smoothed_us;
	out->send_buffered = stream_send_buffered(&c->out);
	out->receive_buffered = stream_recv_buffered(&c->in) + c->playout.held_bytes;
	out->cwnd_bytes = c->out.congestion.cwnd_bytes;
	out->inflight_bytes = c->out.inflight_bytes;
	out->cipher = c->cipher;
}

enum connection_state connection_get_state(const struct connection *c)
{
	return c->state;
}

uint64_t connection_get_id(const struct connection *c)
{
	return c->config.id;
}

uint8_t connection_get_class(const struct connection *c)
{
	return c->config.cls;
}

void connection_set_user(struct connection *c, void *user)
{
	c->user = user;
}

void *connection_get_user(const struct connection *c)
{
	return c->user;
}
