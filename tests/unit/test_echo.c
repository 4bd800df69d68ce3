/* The echo programs against a fake node that gives back, changes, drops or keeps what it gets. */
#include <event2/event.h>
#include <setjmp.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/log.h"
#include "echo/echo.h"
#include "io/chan.h"

static struct event_base *base;
static struct chan_listener *node;
static char node_addr[64];

enum mode {
	MODE_ECHO,
	MODE_CORRUPT,
	MODE_DROP_THIRD,
	MODE_DROP_ALL,
	MODE_REFUSE,
	MODE_SERVER,
	MODE_INTERRUPT
};
static enum mode mode;
static unsigned data_count, refusals, returned;

static void quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

/* --- fake node ---------------------------------------------------------------------------- */

static void give(struct chan *ch, struct bytes data)
{
	struct msg credit = {.type = MSG_AppCredit}, back = {.type = MSG_AppMessage};
	static uint8_t copy[1u << 16];
	credit.app_credit.connection = back.app_message.connection = 1;
	credit.app_credit.bytes = (uint32_t)data.len;
	chan_send(ch, &credit);
	data_count++;
	if (mode == MODE_INTERRUPT && data_count == 4)
		raise(SIGINT);
	if (mode == MODE_DROP_ALL || (mode == MODE_DROP_THIRD && data_count % 3 == 0))
		return;
	back.app_message.data = data;
	if (mode == MODE_CORRUPT && data_count == 5) {
		memcpy(copy, data.data, data.len);
		copy[data.len - 1] ^= 1;
		back.app_message.data = bytes_of(copy, data.len);
	}
	chan_send(ch, &back);
}

static void on_data(struct chan *ch, struct bytes data)
{
	if (mode != MODE_SERVER) {
		give(ch, data);
	} else if (echo_check(data.data, data.len, returned)) {
		if (++returned == 20)
			raise(SIGTERM);
	}
}

static void ask_server(struct chan *ch)
{
	struct msg on = {.type = MSG_ConnectionOn}, m = {.type = MSG_AppMessage};
	static uint8_t data[30000];
	on.connection_on.connection = m.app_message.connection = 1;
	on.connection_on.app = bytes_str("asker");
	chan_send(ch, &on);
	for (uint64_t i = 0; i < 20; i++) {
		echo_fill(data, sizeof data, i);
		m.app_message.data = bytes_of(data, sizeof data);
		chan_send(ch, &m);
	}
}

static void on_register(struct chan *ch, const struct msg *m)
{
	struct msg ack = {.type = MSG_RegisterAppAck, .seq = m->seq};
	ack.register_app_ack.max_message = MAX_MESSAGE_BYTES;
	chan_send(ch, &ack);
	chan_ready(ch);
	if (mode == MODE_SERVER)
		ask_server(ch);
}

static void on_connect(struct chan *ch, const struct msg *m)
{
	struct msg on = {.type = MSG_ConnectionOn};
	if (mode == MODE_REFUSE && refusals++ < 2) {
		chan_send_ack(ch, m->seq, CODE_NOT_FOUND, 0, "no such app");
		return;
	}
	chan_send_ack(ch, m->seq, CODE_OK, 1, "");
	on.connection_on.connection = 1;
	on.connection_on.handle = m->connect_to_app.handle;
	chan_send(ch, &on);
}

static void on_msg(struct chan *ch, const struct msg *m)
{
	if (m->type == MSG_RegisterApp)
		on_register(ch, m);
	else if (m->type == MSG_ConnectToApp)
		on_connect(ch, m);
	else if (m->type == MSG_SendFromApp)
		on_data(ch, m->send_from_app.data);
}

static void begin(enum mode how)
{
	struct chan_options o = {.name = "app", .peer_role = FROM_APP, .cb = {.on_msg = on_msg}};
	o.max_body_bytes = FRAME_MAX_BYTES;
	mode = how;
	data_count = refusals = returned = 0;
	assert_int_equal(chan_listen(&node, base, "127.0.0.1:0", &o), 0);
	snprintf(node_addr, sizeof node_addr, "127.0.0.1:%u", chan_listener_port(node));
}

static int run_client(enum mode how, struct echo_options o)
{
	begin(how);
	o.node_addr = node_addr;
	o.to = (struct appline_peer){.app = "echo"};
	o.json = true;
	o.window = o.window ? o.window : 1;
	o.timeout_us = o.timeout_us ? o.timeout_us : 5000000u;
	fflush(stdout);
	int code = echo_client_run(base, &o);
	chan_listener_free(node);
	return code;
}

/* --- tests -------------------------------------------------------------------------------- */

static void test_content(void **state)
{
	(void)state;
	uint8_t a[100], b[100];
	for (size_t len = 0; len < sizeof a; len++) {
		echo_fill(a, len, 7);
		assert_true(echo_check(a, len, 7));
		for (size_t i = 0; i < len; i++) {
			a[i] ^= 0x10;
			assert_false(echo_check(a, len, 7));
			a[i] ^= 0x10;
		}
	}
	echo_fill(a, sizeof a, 1);
	echo_fill(b, sizeof b, 2);
	assert_memory_not_equal(a + 8, b + 8, 8);
	assert_memory_not_equal(a + 8, a + 16, 8);
}

static void test_percentile(void **state)
{
	(void)state;
	const uint64_t v[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
	assert_int_equal(echo_percentile(v, 0, 50), 0);
	assert_int_equal(echo_percentile(v, 10, 0), 1);
	assert_int_equal(echo_percentile(v, 10, 50), 5);
	assert_int_equal(echo_percentile(v, 10, 90), 9);
	assert_int_equal(echo_percentile(v, 10, 100), 10);
	assert_int_equal(echo_percentile(v, 1, 90), 1);
}

static void test_stream(void **state)
{
	(void)state;
	static const size_t sizes[] = {0, 1, 9, 1000, 60000};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct echo_options o = {
			.size_bytes = sizes[i], .count = 50, .window = 1 + (unsigned)i};
		assert_int_equal(run_client(MODE_ECHO, o), 0);
		assert_int_equal(data_count, 50);
	}
}

static void test_beyond_credit(void **state)
{
	(void)state;
	struct echo_options o = {.size_bytes = 60000, .count = 200, .window = 100};
	assert_int_equal(run_client(MODE_ECHO, o), 0);
}

static void test_corruption_is_noticed(void **state)
{
	(void)state;
	struct echo_options o = {.size_bytes = 100, .count = 10};
	assert_int_equal(run_client(MODE_CORRUPT, o), 1);
	assert_int_equal(data_count, 5);
}

static void test_datagram_loss(void **state)
{
	(void)state;
	struct echo_options o = {.size_bytes = 100, .count = 12, .window = 12, .datagram = true};
	assert_int_equal(run_client(MODE_DROP_THIRD, o), 0);
	assert_int_equal(run_client(MODE_DROP_ALL, o), 1);
}

static void test_timeout(void **state)
{
	(void)state;
	struct echo_options o = {.size_bytes = 100, .count = 3, .timeout_us = 200000};
	assert_int_equal(run_client(MODE_DROP_ALL, o), 1);
}

static void test_interrupt(void **state)
{
	(void)state;
	struct echo_options o = {.size_bytes = 100, .count = 100};
	assert_int_equal(run_client(MODE_INTERRUPT, o), 130);
}

static void test_histogram(void **state)
{
	(void)state;
	for (unsigned b = 0; b + 1 < ECHO_BUCKETS; b++) {
		uint64_t end = echo_bucket_end_us(b);
		assert_int_equal(echo_bucket(end - 1), b);
		assert_int_equal(echo_bucket(end), b + 1);
	}
	assert_int_equal(echo_bucket(0), 0);
	assert_int_equal(echo_bucket(UINT64_MAX), ECHO_BUCKETS - 1);
}

static void test_wait(void **state)
{
	(void)state;
	struct echo_options o = {.size_bytes = 100, .count = 3};
	assert_int_equal(run_client(MODE_REFUSE, o), 1);
	o.wait = true;
	assert_int_equal(run_client(MODE_REFUSE, o), 0);
	assert_int_equal(refusals, 3);
}

static void test_server(void **state)
{
	(void)state;
	begin(MODE_SERVER); /* asks for more than half the credit, and ends it when all is back */
	struct echo_options o = {.node_addr = node_addr};
	assert_int_equal(echo_server_run(base, &o), 0);
	assert_int_equal(returned, 20);
	chan_listener_free(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_content),
		cmocka_unit_test(test_percentile),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_beyond_credit),
		cmocka_unit_test(test_corruption_is_noticed),
		cmocka_unit_test(test_datagram_loss),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_interrupt),
		cmocka_unit_test(test_histogram),
		cmocka_unit_test(test_wait),
		cmocka_unit_test(test_server),
	};
	if (sodium_init() < 0)
		return 1;
	log_set_sink(quiet);
	base = event_base_new();
	int failed = cmocka_run_group_tests_name("echo", tests, NULL, NULL);
	event_base_free(base);
	return failed;
}
