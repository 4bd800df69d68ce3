/* The streams of the SOCKS apps: two ends in one process, a seeded run against what was sent, and a
 * peer that breaks each rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "socks/mux.h"

#define SLOTS 64

/* A stream as its owner sees it.  Bytes are a counter that starts at the stream's number, so that
 * the receiver knows each of them. */
struct owner {
	struct mux_stream *s;
	unsigned index;
	uint64_t to_send, sent, received, consumed;
	bool finish, fin, opened;
	unsigned closed;
	enum mux_end how;
	uint8_t code;
};

struct end {
	struct mux *mux;
	unsigned ready, ups, opens;
	struct owner owners[SLOTS];
	unsigned count;
	bool refuse, udp;
	uint8_t refuse_code;
	char wanted[SOCKS_ADDR_TEXT];
};

static struct end client, server;
/* A hostile peer says what it likes. */
static bool honest = true;

/* --- the owner ----------------------------------------------------------------------------------
 */

static void on_ready(void *ctx)
{
	((struct end *)ctx)->ready++;
}

static void on_up(void *ctx)
{
	((struct end *)ctx)->ups++;
}

static struct owner *own(struct end *e)
{
	assert_true(e->count < SLOTS);
	struct owner *o = &e->owners[e->count];

	*o = (struct owner){.index = e->count++};
	return o;
}

static void on_open(void *ctx, struct mux_stream *s, const struct socks_addr *to)
{
	struct end *e = ctx;
	struct owner *o;

	e->opens++;
	e->udp = !to;
	if (to)
		socks_addr_text(to, e->wanted);
	if (e->refuse) {
		mux_refuse(s, e->refuse_code);
		return;
	}
	o = own(e);
	o->s = s;
	o->opened = true;
	mux_stream_set_user(s, o);
	mux_accept(s, &(struct net_addr){.family = 4, .ip = {1, 2, 3, 4}, .port = 5});
}

static void on_opened(void *ctx, struct mux_stream *s, const struct net_addr *bound)
{
	struct owner *o = mux_stream_user(s);

	(void)ctx;
	assert_true(!honest || bound->port == 5);
	o->opened = true;
}

static uint8_t byte_of(const struct mux_stream *s, uint64_t at)
{
	return (uint8_t)(mux_stream_number(s) * 31 + at * 7 + (at >> 8));
}

static size_t on_pull(void *ctx, struct mux_stream *s, uint8_t *out, size_t max)
{
	struct owner *o = mux_stream_user(s);
	size_t n = 0;

	(void)ctx;
	for (; n < max && o->sent < o->to_send; n++)
		out[n] = byte_of(s, o->sent++);
	return n;
}

static void on_data(void *ctx, struct mux_stream *s, struct bytes data)
{
	struct owner *o = mux_stream_user(s);

	(void)ctx;
	assert_false(o->fin);
	for (size_t i = 0; i < data.len; i++)
		assert_true(data.data[i] == byte_of(s, o->received++) || !honest);
}

static void on_fin(void *ctx, struct mux_stream *s)
{
	struct owner *o = mux_stream_user(s);

	(void)ctx;
	assert_false(o->fin);
	o->fin = true;
}

static void on_closed(void *ctx, struct mux_stream *s, enum mux_end how, uint8_t code)
{
	struct owner *o = mux_stream_user(s);

	(void)ctx;
	o->closed++;
	o->how = how;
	o->code = code;
	o->s = NULL;
}

static const struct mux_ops ops = {.ready = on_ready,
				   .up = on_up,
				   .open = on_open,
				   .opened = on_opened,
				   .pull = on_pull,
				   .data = on_data,
				   .fin = on_fin,
				   .closed = on_closed};

/* --- the connection ------------------------------------------------------------------------------
 */

static const struct mux_config defaults = {
	.streams_max = SLOTS, .window_max = 1u << 20, .growth_max = 4u << 20, .seed = 7};

static void begin_with(struct mux_config config)
{
	memset(&client, 0, sizeof client);
	memset(&server, 0, sizeof server);
	config.client = true;
	client.mux = mux_new(&config, &ops, &client);
	config.client = false;
	server.mux = mux_new(&config, &ops, &server);
	assert_true(client.mux && server.mux && client.ready == 1 && server.ready == 1);
}

static void done(void)
{
	mux_free(client.mux);
	mux_free(server.mux);
}

/* One message; false when there was none. */
static bool carry(struct end *from, struct end *to)
{
	static uint8_t out[MUX_MESSAGE_BYTES];
	size_t len = mux_output(from->mux, out);

	if (len == 0)
		return false;
	/* Exactly its bytes, so that a sanitizer sees what is read beyond. */
	uint8_t *copy = malloc(len);
	assert_non_null(copy);
	memcpy(copy, out, len);
	if (mux_input(to->mux, copy, len))
		fail_msg("%s", mux_fault(to->mux));
	free(copy);
	return true;
}

static unsigned settle(void)
{
	unsigned messages = 0;
	bool more = true;

	while (more) {
		more = carry(&client, &server);
		more = carry(&server, &client) || more;
		messages++;
		assert_true(messages < 10000);
	}
	return messages;
}

static struct owner *open_stream(const char *to)
{
	struct owner *o = own(&client);
	struct socks_addr a = {0};

	if (to)
		assert_int_equal(net_addr_parse(&a.ip, to, 0), 0);
	o->s = mux_open(client.mux, to ? &a : NULL, o);
	assert_non_null(o->s);
	return o;
}

static void consume(struct owner *o, uint64_t bytes)
{
	if (o->s)
		mux_consumed(o->s, (size_t)bytes);
	o->consumed += bytes;
}

/* --- tests ----------------------------------------------------------------------------------- */

static void test_open_and_refuse(void **state)
{
	struct socks_addr name = {.name = "web.test", .ip.port = 80};
	struct owner *o;

	(void)state;
	begin_with(defaults);
	errno = 0;
	assert_null(mux_open(client.mux, &name, NULL));
	assert_int_equal(errno, ENOTCONN);
	settle();
	assert_true(client.ups == 1 && server.ups == 1);
	assert_null(mux_open(server.mux, &name, NULL));
	o = open_stream("[2001:db8::1]:443");
	settle();
	assert_true(o->opened && server.count == 1 && !server.udp);
	assert_string_equal(server.wanted, "[2001:db8::1]:443");
	server.refuse = true;
	server.refuse_code = 2;
	o = own(&client);
	o->s = mux_open(client.mux, &name, o);
	settle();
	assert_string_equal(server.wanted, "web.test:80");
	assert_true(o->closed == 1 && o->how == MUX_END_REFUSED && o->code == 2);
	assert_int_equal(mux_stream_count(client.mux), 1);
	assert_int_equal(mux_stream_count(server.mux), 1);
	assert_int_equal(mux_counters(server.mux)->refused, 1);
	done();
}

static void test_half_close_each_way(void **state)
{
	struct owner *c, *s;

	(void)state;
	begin_with(defaults);
	settle();
	c = open_stream("1.2.3.4:5");
	/* Said before it is open: waits. */
	c->to_send = 1000;
	mux_readable(c->s);
	mux_finish(c->s);
	settle();
	s = &server.owners[0];
	assert_true(s->received == 1000 && s->fin && !s->closed && !c->closed);
	s->to_send = 40000;
	mux_readable(s->s);
	settle();
	assert_true(c->received == 40000 && !c->fin);
	mux_finish(s->s);
	settle();
	assert_true(c->fin && c->closed == 1 && s->closed == 1);
	assert_true(c->how == MUX_END_FINISHED && s->how == MUX_END_FINISHED);
	assert_int_equal(mux_stream_count(client.mux) + mux_stream_count(server.mux), 0);
	done();
}

/* The one that is not consumed stops at its first window; the others go on and their windows grow.
 */
static void test_a_stalled_stream_stops_alone(void **state)
{
	struct owner *stalled, *flowing;

	(void)state;
	begin_with(defaults);
	settle();
	stalled = open_stream("1.2.3.4:5");
	flowing = open_stream("1.2.3.4:5");
	settle();
	stalled->to_send = flowing->to_send = 20u << 20;
	mux_readable(stalled->s);
	mux_readable(flowing->s);
	struct owner *in = &server.owners[1];
	unsigned rounds = 0;
	uint64_t most = 0;
	while (in->received < flowing->to_send) {
		settle();
		assert_true(in->received > in->consumed);
		if (in->received - in->consumed > most)
			most = in->received - in->consumed;
		consume(in, in->received - in->consumed);
		assert_true(++rounds < 1000);
	}
	assert_int_equal(server.owners[0].received, MUX_WINDOW_FIRST);
	assert_int_equal(most, defaults.window_max);
	/* And when it is consumed at last, it goes on. */
	consume(&server.owners[0], MUX_WINDOW_FIRST);
	settle();
	assert_true(server.owners[0].received > MUX_WINDOW_FIRST);
	done();
}

static void test_growth_is_bounded(void **state)
{
	struct mux_config config = defaults;

	(void)state;
	config.growth_max = 3 * MUX_WINDOW_FIRST;
	begin_with(config);
	settle();
	for (unsigned i = 0; i < 8; i++) {
		struct owner *o = open_stream("1.2.3.4:5");
		o->to_send = 4u << 20;
		mux_readable(o->s);
	}
	for (unsigned round = 0; round < 20; round++) {
		settle();
		for (unsigned i = 0; i < 8; i++)
			consume(&server.owners[i],
				server.owners[i].received - server.owners[i].consumed);
	}
	settle();
	uint64_t held = 0;
	for (unsigned i = 0; i < 8; i++)
		held += server.owners[i].received - server.owners[i].consumed;
	assert_int_equal(held, (8 + 3) * MUX_WINDOW_FIRST);
	/* What a stream has grown is there again when it ends. */
	for (unsigned i = 0; i < 8; i++)
		mux_reset(client.owners[i].s, 1);
	settle();
	struct owner *o = open_stream("1.2.3.4:5");
	o->to_send = 4u << 20;
	mux_readable(o->s);
	struct owner *in = &server.owners[8];
	for (unsigned round = 0; round < 3; round++) {
		settle();
		consume(in, in->received - in->consumed);
	}
	settle();
	assert_true(in->received - in->consumed > MUX_WINDOW_FIRST);
	done();
}

static void test_turns_are_fair(void **state)
{
	static uint8_t out[MUX_MESSAGE_BYTES];
	uint64_t low = UINT64_MAX, high = 0;

	(void)state;
	begin_with(defaults);
	settle();
	for (unsigned i = 0; i < 10; i++) {
		struct owner *o = open_stream("1.2.3.4:5");
		o->to_send = MUX_WINDOW_FIRST;
	}
	settle();
	for (unsigned i = 0; i < 10; i++)
		mux_readable(client.owners[i].s);
	for (unsigned i = 0; i < 4; i++)
		assert_true(mux_output(client.mux, out) > MUX_MESSAGE_BYTES - 2000);
	for (unsigned i = 0; i < 10; i++) {
		uint64_t sent = client.owners[i].sent;
		low = sent < low ? sent : low;
		high = sent > high ? sent : high;
	}
	assert_true(low > 0 && high - low <= 2 * MUX_TURN_BYTES);
	done();
}

static void test_resets(void **state)
{
	struct owner *o;

	(void)state;
	begin_with(defaults);
	settle();
	/* Taken back before it was said: the server never hears of it. */
	o = open_stream("1.2.3.4:5");
	mux_reset(o->s, 1);
	settle();
	assert_true(server.opens == 0 && mux_stream_count(client.mux) == 0);
	/* Taken back before the answer. */
	o = open_stream("1.2.3.4:5");
	carry(&client, &server);
	mux_reset(o->s, 1);
	settle();
	assert_true(server.owners[0].closed == 1 && server.owners[0].how == MUX_END_RESET);
	/* By the server, with data under way to it. */
	o = open_stream("1.2.3.4:5");
	settle();
	o->to_send = 50000;
	mux_readable(o->s);
	mux_reset(server.owners[1].s, 4);
	settle();
	assert_true(o->closed == 1 && o->how == MUX_END_RESET && o->code == 4);
	assert_int_equal(server.owners[1].received, 0);
	/* By both at once. */
	o = open_stream("1.2.3.4:5");
	settle();
	mux_reset(o->s, 1);
	mux_reset(server.owners[2].s, 1);
	settle();
	assert_int_equal(mux_stream_count(client.mux) + mux_stream_count(server.mux), 0);
	assert_true(o->closed == 0 && server.owners[2].closed == 0);
	done();
}

static void test_associations(void **state)
{
	struct owner *o;
	uint32_t number;

	(void)state;
	begin_with(defaults);
	settle();
	o = open_stream(NULL);
	settle();
	assert_true(o->opened && server.udp && mux_stream_is_udp(o->s));
	number = mux_stream_number(o->s);
	assert_ptr_equal(mux_find(server.mux, number), server.owners[0].s);
	assert_null(mux_find(server.mux, number + 1));
	mux_reset(o->s, 1);
	assert_null(mux_find(client.mux, number));
	settle();
	assert_int_equal(server.owners[0].closed, 1);
	assert_null(mux_find(server.mux, number));
	done();
}

static void test_limit_of_streams(void **state)
{
	struct mux_config config = defaults;
	struct socks_addr a = {.name = "x"};

	(void)state;
	config.streams_max = 3;
	begin_with(config);
	settle();
	for (unsigned i = 0; i < 3; i++)
		open_stream("1.2.3.4:5");
	assert_null(mux_open(client.mux, &a, NULL));
	assert_int_equal(errno, ENOSPC);
	assert_int_equal(mux_counters(client.mux)->full, 1);
	settle();
	/* Refused, reset and finished ones make room at once, at both ends. */
	for (unsigned i = 0; i < 20; i++) {
		mux_reset(client.owners[i].s, 1);
		if (i % 2)
			settle();
		else
			carry(&client, &server);
		open_stream("1.2.3.4:5");
		settle();
	}
	done();
}

static uint32_t rng;

static unsigned dice(unsigned n)
{
	rng = rng * 1664525u + 1013904223u;
	return (rng >> 8) % n;
}

static void random_step(struct end *e)
{
	struct owner *o = e->count ? &e->owners[dice(e->count)] : NULL;

	if (!o || !o->s)
		return;
	switch (dice(12)) {
	case 0:
		o->finish = true;
		mux_finish(o->s);
		break;
	case 1:
		if (dice(4) == 0) {
			mux_reset(o->s, 1);
			o->s = NULL;
		}
		break;
	case 2:
	case 3:
	case 4:
		if (o->finish)
			break;
		o->to_send += dice(100000);
		mux_readable(o->s);
		break;
	default:
		consume(o, dice((unsigned)(o->received - o->consumed) + 1));
	}
}

/* Whatever happens in whatever order, bytes come in order, windows hold, and nothing is left. */
static void test_random_runs(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 60; seed++) {
		rng = seed;
		begin_with(defaults);
		settle();
		for (unsigned step = 0; step < 1500; step++) {
			if (client.count < SLOTS && dice(20) == 0)
				open_stream(dice(5) ? "1.2.3.4:5" : NULL);
			server.refuse = dice(10) == 0;
			random_step(&client);
			random_step(&server);
			if (dice(3) == 0)
				carry(&client, &server);
			if (dice(3) == 0)
				carry(&server, &client);
		}
		for (unsigned i = 0; i < client.count; i++)
			if (client.owners[i].s)
				mux_reset(client.owners[i].s, 1);
		settle();
		assert_int_equal(mux_stream_count(client.mux), 0);
		assert_int_equal(mux_stream_count(server.mux), 0);
		done();
	}
}

/* --- a peer that breaks the rules ----------------------------------------------------------------
 */

#define HELLO "\1\2\0\1\0\0\0\0\0\0"
#define OPEN1 "\2\0\0\0\1\1\1\2\3\4\0\120"
#define UDP1 "\3\0\0\0\1"
#define OPENED1 "\4\0\0\0\1\1\1\2\3\4\0\120"
#define DATA1 "\6\0\0\0\1\0\1x"
#define FIN1 "\10\0\0\0\1"
#define CASE(s) s, sizeof(s) - 1

struct hostile {
	const char *data;
	size_t len;
	bool fault;
};

static void try_all(const struct hostile *v, size_t count, bool to_client, bool refuse)
{
	honest = false;
	for (size_t i = 0; i < count; i++) {
		static uint8_t out[MUX_MESSAGE_BYTES];
		begin_with(defaults);
		struct end *e = to_client ? &client : &server;
		server.refuse = refuse;
		if (to_client) {
			settle();
			open_stream("1.2.3.4:5");
			mux_output(client.mux, out);
		}
		uint8_t *copy = malloc(v[i].len ? v[i].len : 1);
		assert_non_null(copy);
		memcpy(copy, v[i].data, v[i].len);
		int rc = mux_input(e->mux, copy, v[i].len);
		free(copy);
		if (rc != (v[i].fault ? -EPROTO : 0))
			fail_msg("case %zu: %d %s", i, rc, mux_fault(e->mux));
		assert_true(!v[i].fault || mux_fault(e->mux)[0]);
		while (mux_output(e->mux, out))
			;
		done();
	}
	honest = true;
}

static void test_hostile_client(void **state)
{
	static const struct hostile cases[] = {
		{CASE(""), false},
		{CASE(HELLO), false},
		{CASE("\0"), true},
		{CASE("\14\0\0\0\1"), true},
		{CASE("\377"), true},
		{CASE(OPEN1), true}, /* before HELLO */
		{CASE(HELLO HELLO), true},
		{CASE("\1\1\0\1\0\0\0\0\0\0"), true},	      /* another version */
		{CASE("\1\2\377\377\377\377\0\0\0\0"), true}, /* a huge window */
		{CASE("\1\2\0\1\0\0\0\0\0"), true},	      /* cut */
		{CASE(HELLO OPEN1), false},
		{CASE(HELLO OPEN1 "\2"), true},				/* cut */
		{CASE(HELLO OPEN1 OPEN1), true},			/* twice */
		{CASE(HELLO "\2\0\0\0\0\1\1\2\3\4\0\120"), true},	/* number 0 */
		{CASE(HELLO "\2\0\0\0\5\1\1\2\3\4\0\120" OPEN1), true}, /* backwards */
		{CASE(HELLO "\2\0\0\0\1\3\0\0\120"), true},		/* no name */
		{CASE(HELLO "\2\0\0\0\1\7\0\0\120"), true},		/* no such kind */
		{CASE(HELLO OPEN1 OPENED1), true},			/* a server's word */
		{CASE(HELLO OPEN1 "\5\0\0\0\1\1"), true},
		{CASE(HELLO OPEN1 DATA1 DATA1 FIN1), false},
		{CASE(HELLO OPEN1 FIN1 DATA1), true},
		{CASE(HELLO OPEN1 FIN1 FIN1), true},
		{CASE(HELLO DATA1), true}, /* no such stream */
		{CASE(HELLO UDP1), false},
		{CASE(HELLO UDP1 DATA1), true},
		{CASE(HELLO UDP1 FIN1), true},
		{CASE(HELLO OPEN1 "\11\0\0\0\1\1" DATA1 FIN1), false}, /* late */
		{CASE(HELLO OPEN1 "\11\0\0\0\1\1" OPEN1), true},       /* the number again */
		{CASE(HELLO OPEN1 "\7\0\0\0\1\0\377\0\0"), false},
		{CASE(HELLO OPEN1 "\7\0\0\0\1\1\0\0\0"), true}, /* over the largest */
		{CASE(HELLO OPEN1 "\7\0\0\0\1\377\377\377\377"), true},
		{CASE(HELLO OPEN1 "\7\0\0\0\1\0\377\0\0\7\0\0\0\1\0\2\0\0"), true},
		{CASE(HELLO OPEN1 "\6\0\0\0\1\352\141"), true}, /* over MUX_DATA_MAX */
	};
	static const struct hostile refused[] = {
		{CASE(HELLO OPEN1), false},
		/* It has not heard yet that it was refused, but it may not send before it has. */
		{CASE(HELLO OPEN1 "\11\0\0\0\1\1"), false},
	};

	(void)state;
	try_all(cases, sizeof cases / sizeof *cases, false, false);
	try_all(refused, sizeof refused / sizeof *refused, false, true);
}

static void test_hostile_server(void **state)
{
	static const struct hostile cases[] = {
		{CASE(OPENED1), false},
		{CASE(OPENED1 OPENED1), true},
		{CASE("\5\0\0\0\1\7"), false},
		{CASE("\5\0\0\0\1\7" OPENED1), false}, /* late */
		{CASE(OPENED1 "\5\0\0\0\1\7"), true},
		{CASE("\4\0\0\0\2\1\1\2\3\4\0\120"), true}, /* never opened */
		{CASE(DATA1), true},			    /* before the answer */
		{CASE(FIN1), true},
		{CASE("\7\0\0\0\1\0\0\0\1"), true},
		{CASE("\11\0\0\0\1\0"), false},
		{CASE("\2\0\0\0\2\1\1\2\3\4\0\120"), true}, /* a client's word */
		{CASE("\3\0\0\0\2"), true},
		{CASE(HELLO), true},
		{CASE(OPENED1 DATA1 FIN1), false},
	};

	(void)state;
	try_all(cases, sizeof cases / sizeof *cases, true, false);
}

static void test_window_is_enforced(void **state)
{
	static uint8_t message[7 + MUX_TURN_BYTES];
	struct wbuf w = wbuf_init(message, sizeof message);
	uint8_t *zeroes;

	(void)state;
	begin_with(defaults);
	assert_int_equal(mux_input(server.mux, (const uint8_t *)HELLO OPEN1, 10 + 12), 0);
	wbuf_u8(&w, MUX_DATA);
	wbuf_u32(&w, 1);
	wbuf_u16(&w, MUX_TURN_BYTES);
	zeroes = wbuf_space(&w, MUX_TURN_BYTES);
	struct owner *o = &server.owners[0];
	for (unsigned i = 0; i < MUX_WINDOW_FIRST / MUX_TURN_BYTES; i++) {
		for (unsigned j = 0; j < MUX_TURN_BYTES; j++)
			zeroes[j] = byte_of(o->s, o->received + j);
		assert_int_equal(mux_input(server.mux, message, sizeof message), 0);
	}
	assert_int_equal(mux_input(server.mux, message, sizeof message), -EPROTO);
	assert_string_equal(mux_fault(server.mux), "DATA 1: more than its window");
	done();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_and_refuse),
		cmocka_unit_test(test_half_close_each_way),
		cmocka_unit_test(test_a_stalled_stream_stops_alone),
		cmocka_unit_test(test_growth_is_bounded),
		cmocka_unit_test(test_turns_are_fair),
		cmocka_unit_test(test_resets),
		cmocka_unit_test(test_associations),
		cmocka_unit_test(test_limit_of_streams),
		cmocka_unit_test(test_random_runs),
		cmocka_unit_test(test_hostile_client),
		cmocka_unit_test(test_hostile_server),
		cmocka_unit_test(test_window_is_enforced),
	};
	return cmocka_run_group_tests_name("mux", tests, NULL, NULL);
}
