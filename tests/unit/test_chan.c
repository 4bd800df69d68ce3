/* Channels over real loopback sockets: both modes, hostile peers, closing from every callback. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "io/chan.h"
#include "io/clock.h"
#include "wire/frame.h"

#define BIG_BYTES MAX_MESSAGE_BYTES

/* What a callback of an end does besides counting. */
enum act { ACT_NONE, ACT_CLOSE, ACT_FINISH, ACT_FREE_OWNER, ACT_PAUSE };

struct end {
	struct chan *ch;
	struct mesh_id peer;
	unsigned ups, msgs, downs, drains;
	uint16_t last_type, down_code;
	uint32_t last_seq;
	size_t last_len;
	bool ready_at_once, ready_on_hello, answer, had_peer;
	enum act on_up, on_msg, on_down;
	struct chan_listener *listener;
	struct chan_client *client;
	struct mesh_id pin;
	bool has_pin;
	unsigned pin_asked;
	uint8_t last_bytes[16];
};

struct world {
	struct event_base *base;
	struct end server, client;
	struct chan_options server_opt, client_opt;
	struct noise_keypair server_key, client_key;
	char addr[64];
};

static struct event_base *base;

static void quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

/* --- callbacks ---------------------------------------------------------------------------- */

static void act(struct end *e, struct chan *ch, enum act a)
{
	if (a == ACT_CLOSE)
		chan_close(ch, "test");
	else if (a == ACT_FINISH)
		chan_finish(ch, "test");
	else if (a == ACT_PAUSE)
		chan_pause_input(ch);
	if (a == ACT_CLOSE || a == ACT_FINISH)
		e->ch = NULL;
	if (a == ACT_FREE_OWNER) {
		e->ch = NULL;
		chan_listener_free(e->listener);
		chan_client_free(e->client);
		e->listener = NULL;
		e->client = NULL;
	}
}

static void on_up(struct chan *ch, const struct mesh_id *peer)
{
	struct end *e = chan_arg(ch);
	e->ups++;
	e->ch = ch;
	e->had_peer = peer != NULL;
	if (peer)
		e->peer = *peer;
	if (e->ready_at_once)
		chan_ready(ch);
	act(e, ch, e->on_up);
}

static void on_msg(struct chan *ch, const struct msg *m)
{
	struct end *e = chan_arg(ch);
	e->msgs++;
	e->last_type = m->type;
	e->last_seq = m->seq;
	if (m->type == MSG_SendFromApp || m->type == MSG_AppMessage) {
		e->last_len = m->send_from_app.data.len;
		if (e->last_len)
			assert_int_equal(m->send_from_app.data.data[e->last_len - 1], 0x5a);
	}
	if (e->ready_on_hello)
		chan_ready(ch);
	if (e->answer && m->seq)
		chan_send_ack(ch, m->seq, CODE_OK, 7, "fine");
	act(e, ch, e->on_msg);
	/* The message stays readable whatever the callback did to the channel. */
	assert_int_equal(m->type, e->last_type);
	if (e->last_len && m->type == MSG_SendFromApp)
		assert_int_equal(m->send_from_app.data.data[e->last_len - 1], 0x5a);
}

static void on_down(struct chan *ch, uint16_t code, const char *reason)
{
	struct end *e = chan_arg(ch);
	assert_non_null(reason);
	e->downs++;
	e->down_code = code;
	e->ch = NULL;
	act(e, ch, e->on_down);
}

static void on_drain(struct chan *ch)
{
	struct end *e = chan_arg(ch);
	e->drains++;
}

static bool pin(void *arg, const struct mesh_id *peer)
{
	struct end *e = arg;
	e->pin_asked++;
	return !e->has_pin || mesh_id_equal(&e->pin, peer);
}

/* --- world -------------------------------------------------------------------------------- */

static struct chan_options options(struct end *e, const struct noise_keypair *key, unsigned role)
{
	return (struct chan_options){
		.name = "test",
		.key = key,
		.peer_role = role,
		.max_body_bytes = FRAME_MAX_BYTES,
		.cb = {on_up, on_msg, on_down, on_drain},
		.arg = e,
	};
}

static void world_init(struct world *w, bool encrypted)
{
	uint8_t secret[32];
	memset(w, 0, sizeof *w);
	randombytes_buf(secret, sizeof secret);
	noise_keypair_from_secret(&w->server_key, secret);
	randombytes_buf(secret, sizeof secret);
	noise_keypair_from_secret(&w->client_key, secret);
	w->base = base;
	w->server.ready_on_hello = w->client.ready_on_hello = true;
	w->server.answer = true;
	w->server_opt = options(&w->server, encrypted ? &w->server_key : NULL, FROM_APP);
	w->client_opt = options(&w->client, encrypted ? &w->client_key : NULL, FROM_NODE);
}

static void start_server(struct world *w, const char *address)
{
	assert_int_equal(chan_listen(&w->server.listener, base, address, &w->server_opt), 0);
	snprintf(w->addr, sizeof w->addr, "127.0.0.1:%u", chan_listener_port(w->server.listener));
}

static void start_client(struct world *w, const char *address)
{
	assert_int_equal(chan_client_new(&w->client.client, base, address, &w->client_opt), 0);
}

static void world_free(struct world *w)
{
	chan_client_free(w->client.client);
	chan_listener_free(w->server.listener);
}

static bool spin(const unsigned *what, unsigned at_least, unsigned ms)
{
	uint64_t end = daemon_now_us() + ms * 1000u;
	struct timeval step = {0, 2000};
	do {
		event_base_loopexit(base, &step);
		event_base_loop(base, EVLOOP_ONCE);
		event_base_loop(base, EVLOOP_NONBLOCK);
	} while ((!what || *what < at_least) && daemon_now_us() < end);
	return what && *what >= at_least;
}

static void hello(struct world *w)
{
	struct msg m = {.type = MSG_RegisterApp, .seq = chan_next_seq(w->client.ch)};
	m.register_app.app = bytes_str("a");
	assert_int_equal(chan_send(w->client.ch, &m), 0);
}

/* Both ends up and ready. */
static void connect_at(struct world *w, const char *listen, const char *address)
{
	start_server(w, listen);
	start_client(w, address);
	assert_true(spin(&w->client.ups, 1, 2000));
	hello(w);
	assert_true(spin(&w->client.msgs, 1, 2000));
	assert_int_equal(w->client.last_type, MSG_CommonAck);
	assert_true(chan_is_ready(w->client.ch));
	assert_true(chan_is_ready(w->server.ch));
}

static void connect_world(struct world *w)
{
	connect_at(w, "127.0.0.1:0", w->addr);
}

static int send_blob(struct chan *ch, uint8_t *data, size_t len)
{
	struct msg m = {.type = MSG_SendFromApp};
	data[len - 1] = 0x5a;
	m.send_from_app.connection = 1;
	m.send_from_app.data = bytes_of(data, len);
	return chan_send(ch, &m);
}

static int raw_connect(const struct world *w)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	in.sin_port = htons(chan_listener_port(w->server.listener));
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

/* True when the other side has closed. */
static bool raw_closed(int fd, unsigned ms)
{
	uint64_t end = daemon_now_us() + ms * 1000u;
	char buf[4096];
	do {
		spin(NULL, 0, 5);
		ssize_t n = read(fd, buf, sizeof buf);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return true;
	} while (daemon_now_us() < end);
	return false;
}

static size_t raw_message(uint8_t *out, size_t size, const struct msg *m)
{
	struct wbuf w = wbuf_init(out + FRAME_HEADER_BYTES, size - FRAME_HEADER_BYTES);
	msg_encode(m, &w);
	assert_false(w.bad);
	frame_header_put(out, wbuf_len(&w));
	return FRAME_HEADER_BYTES + wbuf_len(&w);
}

static size_t raw_hello(uint8_t *out, size_t size)
{
	struct msg m = {.type = MSG_RegisterApp, .seq = 1};
	m.register_app.app = bytes_str("raw");
	return raw_message(out, size, &m);
}

/* --- tests -------------------------------------------------------------------------------- */

static void run_exchange(bool encrypted)
{
	struct world w;
	uint8_t *big = calloc(1, BIG_BYTES);
	world_init(&w, encrypted);
	connect_world(&w);
	assert_int_equal(w.server.had_peer, encrypted);
	if (encrypted) {
		assert_memory_equal(w.server.peer.b, w.client_key.public, 32);
		assert_memory_equal(w.client.peer.b, w.server_key.public, 32);
		assert_memory_equal(chan_peer(w.server.ch)->b, w.client_key.public, 32);
	} else {
		assert_null(chan_peer(w.server.ch));
	}
	for (size_t len = 1; len <= BIG_BYTES; len *= 64) {
		unsigned before = w.server.msgs;
		assert_int_equal(send_blob(w.client.ch, big, len), 0);
		assert_true(spin(&w.server.msgs, before + 1, 10000));
		assert_int_equal(w.server.last_len, len);
	}
	unsigned before = w.server.msgs;
	for (int i = 0; i < 1000; i++)
		assert_int_equal(send_blob(w.client.ch, big, (size_t)(i % 300) + 1), 0);
	assert_true(spin(&w.server.msgs, before + 1000, 5000));
	assert_int_equal(w.server.downs + w.client.downs, 0);
	world_free(&w);
	free(big);
}

static void test_exchange_plain(void **state)
{
	(void)state;
	run_exchange(false);
}

static void test_exchange_noise(void **state)
{
	(void)state;
	run_exchange(true);
}

static void test_largest_message(void **state)
{
	(void)state;
	struct world w;
	uint8_t *big = calloc(1, BIG_BYTES + 1);
	world_init(&w, false);
	connect_world(&w);
	assert_int_equal(send_blob(w.client.ch, big, BIG_BYTES), 0);
	assert_true(spin(&w.server.msgs, 2, 10000));
	assert_int_equal(w.server.last_len, BIG_BYTES);
	assert_int_equal(send_blob(w.client.ch, big, BIG_BYTES + 1), -EINVAL);
	assert_int_equal(w.client.drains, 1);
	world_free(&w);
	free(big);
}

static void test_limits_of_sender(void **state)
{
	(void)state;
	struct world w;
	uint8_t data[200] = {0};
	world_init(&w, false);
	w.client_opt.max_body_bytes = 100;
	connect_world(&w);
	assert_int_equal(send_blob(w.client.ch, data, 200), -EMSGSIZE);
	assert_int_equal(send_blob(w.client.ch, data, 50), 0);
	assert_true(spin(&w.server.msgs, 2, 1000));
	world_free(&w);
}

static void test_expected_key(void **state)
{
	(void)state;
	for (int wrong = 0; wrong < 2; wrong++) {
		struct world w;
		struct mesh_id id;
		world_init(&w, true);
		memcpy(id.b, wrong ? w.client_key.public : w.server_key.public, 32);
		w.client_opt.expected = &id;
		start_server(&w, "127.0.0.1:0");
		start_client(&w, w.addr);
		assert_int_equal(spin(&w.client.ups, 1, wrong ? 150 : 2000), !wrong);
		assert_int_equal(spin(&w.server.ups, 1, wrong ? 0 : 2000), !wrong);
		if (wrong)
			assert_true(chan_client_counters(w.client.client)->handshake_failed >= 1);
		world_free(&w);
	}
}

static void test_pin(void **state)
{
	(void)state;
	for (int wrong = 0; wrong < 2; wrong++) {
		struct world w;
		world_init(&w, true);
		w.client.has_pin = true;
		memcpy(w.client.pin.b, wrong ? w.client_key.public : w.server_key.public, 32);
		w.client_opt.pin = pin;
		start_server(&w, "127.0.0.1:0");
		start_client(&w, w.addr);
		assert_int_equal(spin(&w.client.ups, 1, wrong ? 150 : 2000), !wrong);
		assert_true(w.client.pin_asked >= 1);
		assert_int_equal(spin(&w.server.ups, 1, wrong ? 0 : 2000), !wrong);
		world_free(&w);
	}
}

static void test_garbage(void **state)
{
	(void)state;
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		struct world w;
		uint8_t junk[512];
		world_init(&w, encrypted);
		connect_world(&w);
		for (int i = 0; i < 20; i++) {
			int fd = raw_connect(&w);
			randombytes_buf(junk, sizeof junk);
			if (i % 2) /* a credible length, then junk */
				frame_header_put(junk, 96);
			assert_int_equal(write(fd, junk, sizeof junk), sizeof junk);
			assert_true(raw_closed(fd, 1000));
			close(fd);
		}
		const struct chan_counters *c = chan_listener_counters(w.server.listener);
		assert_int_equal(encrypted ? c->handshake_failed : c->protocol_errors, 20);
		hello(&w); /* the true peer noticed nothing */
		assert_true(spin(&w.client.msgs, 2, 1000));
		world_free(&w);
	}
}

static void test_damaged_ciphertext(void **state)
{
	(void)state;
	/* A frame of the right shape on an encrypted channel, not made with its keys: replayed
	 * bytes of the plain protocol do not get in. */
	struct world w;
	uint8_t buf[256];
	world_init(&w, true);
	start_server(&w, "127.0.0.1:0");
	int fd = raw_connect(&w);
	size_t len = raw_hello(buf, sizeof buf);
	assert_int_equal(write(fd, buf, len), (ssize_t)len);
	assert_true(raw_closed(fd, 1000));
	assert_int_equal(w.server.ups, 0);
	close(fd);
	world_free(&w);
}

static void test_oversize_length(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		static const uint64_t lengths[] = {UINT64_MAX, FRAME_CONTROL_MAX_BYTES + 1, 0};
		struct world w;
		uint8_t header[8];
		world_init(&w, false);
		start_server(&w, "127.0.0.1:0");
		int fd = raw_connect(&w);
		be64_put(header, lengths[i]);
		assert_int_equal(write(fd, header, 8), 8);
		assert_true(raw_closed(fd, 1000));
		assert_int_equal(w.server.downs, 1);
		assert_int_equal(w.server.down_code, CODE_PROTOCOL);
		close(fd);
		world_free(&w);
	}
}

static void test_slow_handshake(void **state)
{
	(void)state;
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		struct world w;
		world_init(&w, encrypted);
		w.server_opt.handshake_timeout_us = 400000;
		start_server(&w, "127.0.0.1:0");
		int fd = raw_connect(&w);
		assert_false(raw_closed(fd, 50));
		assert_true(raw_closed(fd, 2000));
		assert_int_equal(chan_listener_counters(w.server.listener)->timeouts, 1);
		assert_int_equal(w.server.downs, w.server.ups);
		close(fd);
		world_free(&w);
	}
}

static void test_byte_by_byte(void **state)
{
	(void)state;
	struct world w;
	uint8_t buf[256];
	world_init(&w, false);
	start_server(&w, "127.0.0.1:0");
	int fd = raw_connect(&w);
	size_t len = raw_hello(buf, sizeof buf);
	for (size_t i = 0; i < len; i++) {
		assert_int_equal(w.server.msgs, 0);
		assert_int_equal(write(fd, buf + i, 1), 1);
		spin(NULL, 0, 2);
	}
	assert_true(spin(&w.server.msgs, 1, 1000));
	/* Two and a half frames in one write. */
	memcpy(buf + len, buf, len);
	assert_int_equal(write(fd, buf, 2 * len), (ssize_t)(2 * len));
	assert_int_equal(write(fd, buf, len / 2), (ssize_t)(len / 2));
	assert_true(spin(&w.server.msgs, 3, 1000));
	assert_int_equal(write(fd, buf + len / 2, len - len / 2), (ssize_t)(len - len / 2));
	assert_true(spin(&w.server.msgs, 4, 1000));
	close(fd);
	assert_true(spin(&w.server.downs, 1, 1000));
	assert_int_equal(w.server.down_code, CODE_CLOSED);
	world_free(&w);
}

static void test_reconnect(void **state)
{
	(void)state;
	struct world w;
	char path[64]; /* a port might be somebody else's meanwhile, a path is not */
	snprintf(path, sizeof path, "/tmp/meshnet-test-reconnect-%d", (int)getpid());
	world_init(&w, true);
	connect_at(&w, path, path);
	for (unsigned round = 1; round <= 2; round++) {
		chan_listener_free(w.server.listener);
		assert_true(spin(&w.client.downs, round, 1000));
		assert_null(chan_client_chan(w.client.client));
		spin(NULL, 0, 300);
		assert_int_equal(chan_listen(&w.server.listener, base, path, &w.server_opt), 0);
		assert_true(spin(&w.client.ups, round + 1, 3000));
		assert_ptr_equal(chan_client_chan(w.client.client), w.client.ch);
		hello(&w);
		assert_true(spin(&w.client.msgs, round + 1, 1000));
	}
	world_free(&w);
}

static void test_name(void **state)
{
	(void)state;
	struct world w;
	char address[64];
	world_init(&w, false);
	start_server(&w, "127.0.0.1:0");
	snprintf(address, sizeof address, "localhost:%u", chan_listener_port(w.server.listener));
	start_client(&w, address);
	assert_true(spin(&w.client.ups, 1, 4000));
	world_free(&w);
}

static void test_roles_and_states(void **state)
{
	(void)state;
	static const uint16_t types[] = {
		MSG_AddRoute,	  /* never from an app */
		MSG_ConnectToApp, /* from an app, but not before registration */
		MSG_RegisterApp,
	};
	for (size_t i = 0; i < 3; i++) {
		struct world w;
		world_init(&w, false);
		start_server(&w, "127.0.0.1:0");
		start_client(&w, w.addr);
		assert_true(spin(&w.client.ups, 1, 1000));
		struct msg m = {.type = types[i], .seq = 1};
		assert_int_equal(chan_send(w.client.ch, &m), 0);
		spin(&w.client.downs, 1, 100);
		assert_int_equal(w.client.downs, i < 2);
		assert_int_equal(w.server.msgs, i == 2);
		if (i < 2)
			assert_int_equal(w.server.down_code, CODE_PROTOCOL);
		world_free(&w);
	}
}

static void test_liveness(void **state)
{
	(void)state;
	struct world w;
	uint8_t buf[256];
	world_init(&w, false);
	w.server_opt.ping_interval_us = 30000;
	w.server_opt.silence_max_us = 150000;
	start_server(&w, "127.0.0.1:0");
	start_client(&w, w.addr);
	assert_true(spin(&w.client.ups, 1, 1000));
	hello(&w);
	spin(NULL, 0, 400); /* pings are answered: alive, and nobody sees them */
	assert_int_equal(w.server.downs, 0);
	assert_int_equal(w.server.msgs, 1);
	assert_int_equal(w.client.msgs, 1);
	int fd = raw_connect(&w); /* registers, then never answers */
	size_t len = raw_hello(buf, sizeof buf);
	assert_int_equal(write(fd, buf, len), (ssize_t)len);
	assert_true(spin(&w.server.downs, 1, 1000));
	assert_int_equal(w.server.down_code, CODE_LOST);
	ssize_t got = read(fd, buf, sizeof buf);
	assert_true(got > 2 * 22); /* the ack and more than one ping */
	close(fd);
	world_free(&w);
}

static void test_own_absence_is_not_silence(void **state)
{
	(void)state;
	struct world w;
	world_init(&w, false);
	w.server_opt.ping_interval_us = w.client_opt.ping_interval_us = 30000;
	w.server_opt.silence_max_us = w.client_opt.silence_max_us = 150000;
	connect_world(&w);
	usleep(400000); /* as a stopped process */
	spin(NULL, 0, 100);
	assert_int_equal(w.server.downs + w.client.downs, 0);
	world_free(&w);
}

static void test_pause_is_not_death(void **state)
{
	(void)state;
	struct world w;
	uint8_t data[64];
	world_init(&w, false);
	w.server_opt.ping_interval_us = w.client_opt.ping_interval_us = 30000;
	w.server_opt.silence_max_us = w.client_opt.silence_max_us = 150000;
	connect_world(&w);
	chan_pause_input(w.server.ch);
	for (int i = 0; i < 5; i++)
		assert_int_equal(send_blob(w.client.ch, data, 50), 0);
	spin(NULL, 0, 500);
	assert_int_equal(w.server.downs + w.client.downs, 0);
	assert_int_equal(w.server.msgs, 1);
	chan_resume_input(w.server.ch);
	assert_true(spin(&w.server.msgs, 6, 1000));
	assert_int_equal(w.server.downs + w.client.downs, 0);
	world_free(&w);
}

static void test_pause_within_callback(void **state)
{
	(void)state;
	struct world w;
	uint8_t data[64];
	world_init(&w, false);
	connect_world(&w);
	w.server.on_msg = ACT_PAUSE;
	for (int i = 0; i < 3; i++)
		assert_int_equal(send_blob(w.client.ch, data, 50), 0);
	for (unsigned i = 2; i <= 4; i++) {
		spin(NULL, 0, 30);
		assert_int_equal(w.server.msgs, i);
		chan_resume_input(w.server.ch);
	}
	world_free(&w);
}

/* Each way of ending a channel, in each callback, by each end, in both modes. */
static void end_within(bool encrypted, int which, enum act a, bool by_server)
{
	struct world w;
	uint8_t data[4096];
	world_init(&w, encrypted);
	struct end *e = by_server ? &w.server : &w.client;
	struct end *other = by_server ? &w.client : &w.server;
	start_server(&w, "127.0.0.1:0");
	start_client(&w, w.addr);
	*(which == 0 ? &e->on_up : which == 1 ? &e->on_msg : &e->on_down) = a;
	if (spin(&w.client.ups, 1, 1000) && w.client.ch)
		hello(&w);
	for (int i = 0; i < 3 && w.client.ch; i++)
		send_blob(w.client.ch, data, sizeof data);
	spin(NULL, 0, 30);
	if (which == 2 && other->ch) {
		chan_close(other->ch, "make it notice");
		other->ch = NULL;
		assert_true(spin(&e->downs, 1, 1000));
	}
	spin(NULL, 0, 20);
	if (which == 1 && (a == ACT_CLOSE || a == ACT_FREE_OWNER))
		assert_int_equal(e->downs, 0);
	world_free(&w);
}

static void test_end_within_callbacks(void **state)
{
	(void)state;
	static const enum act acts[] = {ACT_CLOSE, ACT_FINISH, ACT_FREE_OWNER};
	for (int encrypted = 0; encrypted < 2; encrypted++)
		for (int which = 0; which < 3; which++)
			for (int a = 0; a < 3; a++)
				for (int by_server = 0; by_server < 2; by_server++) {
					if (which == 2 && acts[a] == ACT_FINISH)
						continue;
					end_within(encrypted, which, acts[a], by_server);
				}
}

static void test_finish_delivers(void **state)
{
	(void)state;
	struct world w;
	uint8_t *big = calloc(1, 4u << 20);
	world_init(&w, true);
	connect_world(&w);
	/* The server has unread input of ours on its way while it says its last words. */
	assert_int_equal(send_blob(w.client.ch, big, 4u << 20), 0);
	chan_send_ack(w.server.ch, 99, CODE_OK, 0, "last words");
	chan_finish(w.server.ch, "test");
	assert_true(spin(&w.client.downs, 1, 3000));
	assert_int_equal(w.client.last_seq, 99);
	assert_int_equal(w.client.down_code, CODE_CLOSED);
	world_free(&w);
	free(big);
}

static void test_channel_limits(void **state)
{
	(void)state;
	struct world w;
	int fd[8];
	world_init(&w, true);
	w.server_opt.max_unauthenticated = 3;
	start_server(&w, "127.0.0.1:0");
	for (int i = 0; i < 8; i++) {
		fd[i] = raw_connect(&w);
		spin(NULL, 0, 5);
	}
	for (int i = 0; i < 8; i++)
		assert_int_equal(raw_closed(fd[i], 20), i < 5); /* the oldest had to go */
	start_client(&w, w.addr);				/* and who finishes gets in */
	assert_true(spin(&w.client.ups, 1, 1000));
	for (int i = 0; i < 8; i++)
		close(fd[i]);
	world_free(&w);
}

static void test_max_channels(void **state)
{
	(void)state;
	struct world w;
	world_init(&w, false);
	w.server_opt.max_channels = 1;
	connect_world(&w);
	int fd = raw_connect(&w);
	assert_true(raw_closed(fd, 500));
	assert_int_equal(chan_listener_counters(w.server.listener)->refused, 1);
	assert_int_equal(w.server.downs, 0);
	close(fd);
	world_free(&w);
}

static void test_peer_that_does_not_read(void **state)
{
	(void)state;
	struct world w;
	uint8_t buf[256], *big = calloc(1, 1u << 20);
	int err = 0, sent = 0;
	world_init(&w, false);
	w.server_opt.output_max_bytes = 4u << 20;
	start_server(&w, "127.0.0.1:0");
	int fd = raw_connect(&w);
	size_t len = raw_hello(buf, sizeof buf);
	assert_int_equal(write(fd, buf, len), (ssize_t)len);
	assert_true(spin(&w.server.msgs, 1, 1000));
	while (!err && sent++ < 100) {
		err = send_blob(w.server.ch, big, 1u << 20);
		if (!err)
			assert_true(chan_output_pending(w.server.ch) <= (6u << 20));
	}
	assert_int_equal(err, -ENOBUFS);
	assert_int_equal(w.server.downs, 0); /* not from within chan_send */
	assert_int_equal(send_blob(w.server.ch, big, 10), -ENOTCONN);
	assert_true(spin(&w.server.downs, 1, 1000));
	assert_int_equal(w.server.down_code, CODE_BUSY);
	close(fd);
	world_free(&w);
	free(big);
}

static void test_unix_socket(void **state)
{
	(void)state;
	struct world w;
	char path[64], address[96];
	struct stat st;
	snprintf(path, sizeof path, "/tmp/meshnet-test-chan-%d", (int)getpid());
	snprintf(address, sizeof address, "127.0.0.1:0, unix:%s", path);
	world_init(&w, true);
	w.server_opt.plain_local = w.client_opt.plain_local = true;
	w.server_opt.unix_mode = 0600;
	start_server(&w, address);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	start_client(&w, path);
	assert_true(spin(&w.client.ups, 1, 1000));
	assert_false(w.client.had_peer);
	struct chan_listener *second;
	assert_int_equal(chan_listen(&second, base, path, &w.server_opt), -EADDRINUSE);
	world_free(&w);
	assert_int_not_equal(stat(path, &st), 0);
}

static void test_stale_unix_socket(void **state)
{
	(void)state;
	struct world w;
	char path[64];
	snprintf(path, sizeof path, "/tmp/meshnet-test-stale-%d", (int)getpid());
	world_init(&w, false);
	start_server(&w, path);
	struct chan_listener *old = w.server.listener;
	char hidden[80];
	snprintf(hidden, sizeof hidden, "%s.old", path);
	assert_int_equal(rename(path, hidden), 0); /* survives the end of its listener */
	chan_listener_free(old);
	assert_int_equal(rename(hidden, path), 0);
	start_server(&w, path);
	world_free(&w);
}

static void test_addresses(void **state)
{
	(void)state;
	struct world w;
	struct chan_listener *l;
	struct chan_client *c;
	world_init(&w, false);
	assert_int_equal(chan_listen(&l, base, "nonsense", &w.server_opt), -EINVAL);
	assert_int_equal(chan_listen(&l, base, "", &w.server_opt), -EINVAL);
	assert_int_equal(chan_listen(&l, base, "127.0.0.1:0,bad", &w.server_opt), -EINVAL);
	assert_int_equal(chan_listen(&l, base, "0.0.0.0:0", &w.server_opt), -EPERM);
	assert_int_equal(chan_client_new(&c, base, "nonsense", &w.client_opt), -EINVAL);
	assert_int_equal(chan_client_new(&c, base, "a b:1", &w.client_opt), -EINVAL);
	assert_int_equal(chan_client_new(&c, base, "host:0", &w.client_opt), -EINVAL);
	assert_int_equal(chan_client_new(&c, base, "192.0.2.1:1", &w.client_opt), -EPERM);
	w.client_opt.key = &w.client_key;
	assert_int_equal(chan_client_new(&c, base, "192.0.2.1:1", &w.client_opt), 0);
	chan_client_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchange_plain),
		cmocka_unit_test(test_exchange_noise),
		cmocka_unit_test(test_largest_message),
		cmocka_unit_test(test_limits_of_sender),
		cmocka_unit_test(test_expected_key),
		cmocka_unit_test(test_pin),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_damaged_ciphertext),
		cmocka_unit_test(test_oversize_length),
		cmocka_unit_test(test_slow_handshake),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_reconnect),
		cmocka_unit_test(test_name),
		cmocka_unit_test(test_roles_and_states),
		cmocka_unit_test(test_liveness),
		cmocka_unit_test(test_own_absence_is_not_silence),
		cmocka_unit_test(test_pause_is_not_death),
		cmocka_unit_test(test_pause_within_callback),
		cmocka_unit_test(test_end_within_callbacks),
		cmocka_unit_test(test_finish_delivers),
		cmocka_unit_test(test_channel_limits),
		cmocka_unit_test(test_max_channels),
		cmocka_unit_test(test_peer_that_does_not_read),
		cmocka_unit_test(test_unix_socket),
		cmocka_unit_test(test_stale_unix_socket),
		cmocka_unit_test(test_addresses),
	};
	if (sodium_init() < 0)
		return 1;
	log_set_sink(quiet);
	base = event_base_new();
	int failed = cmocka_run_group_tests_name("chan", tests, NULL, NULL);
	event_base_free(base);
	return failed;
}
